//! The doctor on a real veth pair, in a network namespace of its own.

use std::path::Path;
use std::process::Command;

use super::tests::assert_check;
use super::{Options, Status, examine};

/// Runs a command to its end; its output when it failed.
fn run(command: &[&str]) -> Result<(), String> {
    let [program, arguments @ ..] = command else {
        return Err("no command".to_owned());
    };
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// The real thing: a veth pair in a network namespace that ends with this test's thread.
#[test]
fn real_veth_with_a_foreign_program() {
    let body = || -> Result<Option<String>, String> {
        if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            return Ok(Some(format!(
                "cannot make a network namespace (root needed): {error}"
            )));
        }
        run(&[
            "ip", "link", "add", "doc0", "type", "veth", "peer", "name", "doc1",
        ])?;
        run(&["ip", "link", "set", "doc0", "up"])?;
        run(&["ip", "link", "set", "doc1", "up"])?;

        let clean = examine("doc0", &Options::default()).map_err(|error| format!("{error:#}"))?;
        assert_check(&clean, "interface", Status::Ok, &["veth", "up"]);
        assert_check(&clean, "driver", Status::Ok, &["veth"]);
        assert_check(&clean, "native-xdp", Status::Ok, &["veth"]);
        assert_check(&clean, "xdp-program", Status::Ok, &["none"]);
        assert_check(&clean, "lro", Status::Ok, &["large-receive-offload off"]);
        assert_check(&clean, "egress-programs", Status::Ok, &["none"]);

        let missing = examine("doc", &Options::default()).map_err(|error| format!("{error:#}"))?;
        assert_check(
            &missing,
            "interface",
            Status::Fail,
            &["did you mean doc", "doc0", "lo"],
        );

        // A classic BPF program of one instruction: match everything.
        const PASS: &str = "1,6 0 0 4294967295";
        run(&["tc", "qdisc", "add", "dev", "doc0", "clsact"])?;
        run(&[
            "tc", "filter", "add", "dev", "doc0", "egress", "prio", "7", "bpf", "bytecode", PASS,
        ])?;
        let filtered =
            examine("doc0", &Options::default()).map_err(|error| format!("{error:#}"))?;
        assert_check(
            &filtered,
            "egress-programs",
            Status::Warn,
            &["bpf", "clsact", "priority 7"],
        );

        // Debian's xdp-tools has objects that `ip` can attach.
        let Some(object) = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
            .map(|arch| format!("/usr/lib/{arch}/bpf/xdpfilt_alw_tcp.o"))
            .into_iter()
            .find(|path| Path::new(path).exists())
        else {
            return Ok(Some(
                "no foreign program to attach (xdp-tools is not installed)".to_owned(),
            ));
        };
        run(&[
            "ip", "link", "set", "dev", "doc0", "xdpdrv", "obj", &object, "sec", "xdp",
        ])?;
        let taken = examine("doc0", &Options::default()).map_err(|error| format!("{error:#}"))?;
        assert_check(
            &taken,
            "xdp-program",
            Status::Fail,
            &[
                "xdpfilt_alw_tcp",
                "native",
                "ip link set dev doc0 xdpdrv off",
            ],
        );
        Ok(None)
    };
    match std::thread::spawn(body).join() {
        Ok(Ok(None)) => {}
        Ok(Ok(Some(reason))) => println!("SKIPPED: {reason}"),
        Ok(Err(error)) => panic!("{error}"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
