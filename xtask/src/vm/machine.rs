//! One run of the emulated machine, from power-on to the command's exit code. It owns the qemu
//! process, which must never outlive it, and never gives the guest a network device or a disk.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, anyhow};

use super::Progress;
use super::kernel::Kernel;

const EMULATOR: &str = "qemu-system-x86_64";
/// How often the guest's output is looked at.
const POLL: Duration = Duration::from_millis(20);
/// Lines of the console that an error shows.
const LAST_LINES: usize = 30;
/// The serial ports' files, in the order of the guest's ttyS0 to ttyS3.
const PORTS: [&str; 4] = ["console", "stdout", "stderr", "control"];

pub struct Machine<'a> {
    pub kernel: &'a Kernel,
    pub initrd: &'a Path,
    /// Where the ports' files go.
    pub scratch: &'a Path,
    pub memory_mib: u32,
    pub cpus: u32,
    /// For the whole run, boot included.
    pub timeout: Duration,
    pub kernel_log: bool,
}

/// What the control port has said so far.
#[derive(Debug, PartialEq, Eq)]
enum Report {
    Booting,
    Ready,
    Exit(i32),
    Fault(String),
}

impl Machine<'_> {
    /// Runs the guest to the end of its command, passing its output on as it comes.
    pub fn run(
        &self,
        stdout: &mut dyn Write,
        stderr: &mut dyn Write,
        say: &Progress,
    ) -> Result<i32> {
        let started = Instant::now();
        let mut qemu = self.start()?;
        let mut out = Tail::new(self.port("stdout"));
        let mut err = Tail::new(self.port("stderr"));
        let mut announced = false;
        let mut was_ready = false;
        let result = loop {
            // The order matters: a machine seen stopped, or an exit seen reported, before the
            // ports are read has nothing more to write to them.
            let stopped = qemu.stopped()?;
            let report = self.report();
            out.pass_on(stdout)
                .context("cannot pass on the guest's stdout")?;
            err.pass_on(stderr)
                .context("cannot pass on the guest's stderr")?;
            if report != Report::Booting && !was_ready {
                was_ready = true;
                if announced {
                    say.say(&format!(
                        "guest up after {:.1} s",
                        started.elapsed().as_secs_f32()
                    ));
                }
            }
            match report {
                Report::Exit(code) => break Ok(code),
                Report::Fault(text) => break Err(self.failure("cannot be set up", &text)),
                Report::Booting | Report::Ready => {}
            }
            if let Some(status) = stopped {
                break Err(self.failure(&self.why_stopped(status), &qemu.complaint()));
            }
            if started.elapsed() >= self.timeout {
                let what = if was_ready {
                    "running the command"
                } else {
                    "booting"
                };
                let limit = self.timeout.as_secs();
                let text = format!("was still {what} after {limit} s (--timeout)");
                break Err(self.failure(&text, &qemu.complaint()));
            }
            if !was_ready && !announced && started.elapsed() > super::SLOW_STEP {
                announced = true;
                say.say(&format!("booting Linux {} ...", self.kernel.release));
            }
            thread::sleep(POLL);
        };
        drop(qemu);
        if self.kernel_log {
            let console = self.console();
            stderr.write_all(console.as_bytes())?;
        }
        if let (Ok(_), Some(line)) = (&result, warning(&self.console())) {
            say.say(&format!("the guest's kernel complained: {line}"));
        }
        result
    }

    fn port(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    fn start(&self) -> Result<Qemu> {
        let cpus = self.cpus.to_string();
        let memory = format!("{}M", self.memory_mib);
        // panic=-1 turns a panic into a reboot, and -no-reboot turns that into qemu's end.
        let kernel_line = "console=ttyS0,115200 rdinit=/init loglevel=5 panic=-1 oops=panic \
                           mitigations=off random.trust_cpu=on";
        // setpriv has the kernel end qemu with this process, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", EMULATOR])
            .args([
                "-accel",
                "tcg,thread=multi",
                "-machine",
                "q35",
                "-cpu",
                "max",
            ])
            .args(["-smp", &cpus, "-m", &memory])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-nic",
                "none",
            ])
            .args(["-no-reboot", "-append", kernel_line])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(self.initrd);
        for name in PORTS {
            // Plain files never make the guest wait, nor lose what a slow reader leaves.
            let file = self.port(name);
            File::create(&file).with_context(|| format!("cannot create {}", file.display()))?;
            // A comma would end the option's value, and is doubled.
            let path = file.display().to_string().replace(',', ",,");
            command
                .args(["-chardev", &format!("file,id={name},path={path}")])
                .args(["-serial", &format!("chardev:{name}")]);
        }
        let complaints = self.port("qemu");
        let log = File::create(&complaints)
            .with_context(|| format!("cannot create {}", complaints.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot run setpriv (package util-linux)")?;
        Ok(Qemu { child, complaints })
    }

    fn report(&self) -> Report {
        let lines = fs::read(self.port("control")).unwrap_or_default();
        parse_report(&String::from_utf8_lossy(&lines))
    }

    fn console(&self) -> String {
        let bytes = fs::read(self.port("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    fn why_stopped(&self, status: ExitStatus) -> String {
        let console = self.console();
        if let Some(panic) = console.lines().find(|line| line.contains("Kernel panic")) {
            format!("stopped: {}", panic.trim())
        } else if !status.success() {
            format!("was ended by its emulator ({status})")
        } else if console.is_empty() {
            let memory = self.memory_mib;
            format!("did not start; {memory} MiB may be too little for its files (--memory)")
        } else {
            "stopped before the command had ended".to_owned()
        }
    }

    fn failure(&self, what: &str, detail: &str) -> Error {
        let mut text = format!("the guest (Linux {}) {what}", self.kernel.release);
        if !detail.is_empty() {
            text.push_str(": ");
            text.push_str(detail);
        }
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        let skipped = lines.len().saturating_sub(LAST_LINES);
        let last: Vec<&str> = lines.into_iter().skip(skipped).collect();
        if last.is_empty() {
            text.push_str("\nits console stayed empty");
        } else {
            text.push_str("\nthe last lines of its console:\n");
            text.push_str(&last.join("\n"));
        }
        anyhow!(text)
    }
}

/// The emulator's process, killed and reaped when dropped.
struct Qemu {
    child: Child,
    complaints: PathBuf,
}

impl Qemu {
    fn stopped(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot wait for qemu")
    }

    fn complaint(&self) -> String {
        let text = fs::read_to_string(&self.complaints).unwrap_or_default();
        text.trim().to_owned()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Follows a growing file.
struct Tail {
    path: PathBuf,
    passed: u64,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self { path, passed: 0 }
    }

    fn pass_on(&mut self, to: &mut dyn Write) -> Result<()> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.passed))?;
        let mut fresh = Vec::new();
        file.read_to_end(&mut fresh)?;
        if fresh.is_empty() {
            return Ok(());
        }
        self.passed += fresh.len() as u64;
        to.write_all(&fresh)?;
        to.flush()?;
        Ok(())
    }
}

/// The last whole line counts: an unfinished one is still on its way.
fn parse_report(control: &str) -> Report {
    let Some((whole, _)) = control.rsplit_once('\n') else {
        return Report::Booting;
    };
    let line = whole.lines().last().unwrap_or_default().trim();
    if line == "ready" {
        return Report::Ready;
    }
    match line.split_once(' ') {
        Some(("exit", code)) => code
            .parse()
            .map_or_else(|_| Report::Fault(line.to_owned()), Report::Exit),
        Some(("fault", text)) => Report::Fault(text.to_owned()),
        _ => Report::Fault(format!("unknown report {line:?}")),
    }
}

/// The headline of a kernel warning or bug report, which the command's exit code does not show.
fn warning(console: &str) -> Option<&str> {
    let signs = [
        "WARNING: CPU",
        "BUG:",
        "general protection fault",
        "rcu: INFO:",
    ];
    console
        .lines()
        .find(|line| signs.iter().any(|sign| line.contains(sign)))
}

#[cfg(test)]
mod tests {
    use super::{Report, parse_report};

    #[test]
    fn reports_are_whole_lines() {
        assert_eq!(parse_report(""), Report::Booting);
        assert_eq!(parse_report("rea"), Report::Booting);
        assert_eq!(parse_report("ready\n"), Report::Ready);
        assert_eq!(parse_report("ready\nexit 1"), Report::Ready);
        assert_eq!(parse_report("ready\nexit 137\n"), Report::Exit(137));
        assert_eq!(
            parse_report("fault no bpffs\n"),
            Report::Fault("no bpffs".to_owned())
        );
    }
}
