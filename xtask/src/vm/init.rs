//! The guest's first process: a shell script that mounts, loads modules, runs the command and
//! reports. It owns the protocol of the control port and must never touch the kernel console,
//! which belongs to the kernel's messages alone.
//!
//! Serial ports: 0 kernel console, 1 the command's stdout, 2 its stderr, 3 control. The control
//! port carries lines: `ready` when the command starts, `exit N` when it has ended and its output
//! is out, `fault TEXT` when the guest itself cannot go on.

/// Loaded in the order of their file, one path a line.
pub const MODULE_LIST: &str = "/vm/modules";
/// The command as a shell script, so that its quoting is done on the host.
pub const COMMAND: &str = "/vm/command";
/// Where busybox' applets lie, last on PATH so that real programs go before them.
pub const APPLETS: &str = "/vm/applets";

/// The script. Pipes stand between the command and the serial ports, so that it does not take
/// its output for a terminal.
pub const SCRIPT: &str = r#"#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/vm/applets
export HOME=/root TERM=dumb LANG=C.UTF-8 RUST_BACKTRACE=1

fault() {
    printf 'fault %s\n' "$*" | tr -d '\r' | tr '\n' ' ' >&5
    echo >&5
    poweroff -f
}
needs() {
    "$@" >/vm/log 2>&1 || fault "$*: $(cat /vm/log)"
}

mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
exec 3>/dev/ttyS1 4>/dev/ttyS2 5>/dev/ttyS3 </dev/null
for port in 1 2 3; do
    stty -F /dev/ttyS$port raw -echo 115200
done
mkdir -p /dev/pts /dev/shm
needs mount -t sysfs sysfs /sys
needs mount -t devpts devpts /dev/pts
needs mount -t tmpfs tmpfs /dev/shm
needs mount -t tmpfs tmpfs /run
needs mount -t bpf bpf /sys/fs/bpf
needs mount -t cgroup2 cgroup2 /sys/fs/cgroup
needs mount -t tracefs tracefs /sys/kernel/tracing
ln -s /proc/self/fd /dev/fd
while read -r module; do
    needs insmod "$module"
done </vm/modules
needs ip link set lo up

mkfifo /vm/stdout /vm/stderr
cat /vm/stdout >&3 & out=$!
cat /vm/stderr >&4 & err=$!
echo ready >&5
cd /root
sh /vm/command >/vm/stdout 2>/vm/stderr 3>&- 4>&- 5>&-
code=$?

# What the command left behind would hold its output open.
for entry in /proc/[0-9]*; do
    case ${entry#/proc/} in
        1 | $out | $err) ;;
        *) kill -9 "${entry#/proc/}" 2>/dev/null ;;
    esac
done
wait $out $err
# Setting a port waits until everything written to it is out.
stty -F /dev/ttyS1 raw
stty -F /dev/ttyS2 raw
echo "exit $code" >&5
stty -F /dev/ttyS3 raw
poweroff -f
"#;

/// The command script: environment, then the command in place of the shell.
pub fn command_script(env: &[String], command: &[String]) -> String {
    let mut lines: Vec<String> = env.iter().map(|e| format!("export {}", quote(e))).collect();
    let words: Vec<String> = command.iter().map(|word| quote(word)).collect();
    lines.push(format!("exec {}\n", words.join(" ")));
    lines.join("\n")
}

/// One shell word, whatever it holds.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::command_script;

    #[test]
    fn words_reach_the_command_as_they_are() {
        let script = command_script(
            &["A=b c".to_owned()],
            &["echo".to_owned(), "it's $HOME".to_owned()],
        );
        assert_eq!(script, "export 'A=b c'\nexec 'echo' 'it'\\''s $HOME'\n");
    }
}
