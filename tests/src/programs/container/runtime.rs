//! One process in namespaces and a root file system of its own, by runc.
//!
//! Owns the bundle (OCI runtime specification 1.0): busybox and a page to serve. The container has the capabilities that
//! runtimes give by default, and CAP_NET_ADMIN beside: whoever rules in it must not be able to do more with it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::program;
use crate::netns::{Finished, Namespace, Scratch, finish};
use crate::programs::http;

const LIMIT: Duration = Duration::from_secs(20);

const CAPABILITIES: [&str; 8] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_KILL",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
];

/// A container of runc's; deleted when dropped.
#[derive(Debug)]
pub(super) struct Runtime {
    runc: PathBuf,
    state: PathBuf,
    log: PathBuf,
    id: String,
    running: bool,
}

impl Runtime {
    /// Starts `words`, a program of busybox', in `namespace` and fresh other namespaces.
    pub(super) fn start(
        namespace: &Namespace,
        scratch: &Scratch,
        words: &[String],
    ) -> Result<Self> {
        let id = namespace.name().to_owned();
        let bundle = scratch.directory(&format!("bundle-{id}"))?;
        root_file_system(&bundle.join("rootfs"))?;
        let configuration = configuration(&id, namespace, words);
        std::fs::write(bundle.join("config.json"), configuration.to_string())?;
        let mut runtime = Self {
            runc: program("runc")?,
            state: scratch.directory("runc")?,
            log: bundle.join("log"),
            id,
            running: true,
        };
        // The container's process keeps the outputs it was started with: a pipe would never end.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$@\" > \"$0\" 2>&1 < /dev/null"])
            .arg(&runtime.log);
        command.arg(&runtime.runc).arg("--root").arg(&runtime.state);
        command.args(["run", "--detach", "--bundle"]).arg(&bundle);
        command.arg(&runtime.id);
        let started = finish(command, LIMIT)?;
        if !started.ok() {
            let log = runtime.log();
            runtime.running = false;
            return Err(started.require().err().context("runc failed")?.context(log));
        }
        Ok(runtime)
    }

    /// What the process said.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Runs another program of busybox' inside.
    pub(super) fn exec(&self, words: &[&str], limit: Duration) -> Result<Finished> {
        let mut command = self.command();
        command.args(["exec", &self.id, "/bin/busybox"]).args(words);
        finish(command, limit)
    }

    /// Kills the process and forgets the container.
    pub(super) fn stop(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.running) {
            return Ok(());
        }
        let mut command = self.command();
        command.args(["delete", "--force", &self.id]);
        finish(command, LIMIT)?.require().map(drop)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.runc);
        command.arg("--root").arg(&self.state);
        command
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("the container {} is left behind: {error:#}", self.id);
        }
    }
}

fn root_file_system(root: &Path) -> Result<()> {
    for directory in ["bin", "dev", "etc", "proc", "sys", "tmp", "www"] {
        std::fs::create_dir_all(root.join(directory))?;
    }
    std::fs::copy(program("busybox")?, root.join("bin/busybox"))
        .context("cannot copy busybox, which has to be the static one")?;
    std::fs::write(root.join("www/index.html"), http::BODY)?;
    Ok(())
}

fn configuration(id: &str, namespace: &Namespace, words: &[String]) -> serde_json::Value {
    let arguments: Vec<&str> = std::iter::once("/bin/busybox")
        .chain(words.iter().map(String::as_str))
        .collect();
    let tmpfs = ["nosuid", "strictatime", "mode=755", "size=1024k"];
    json!({
        "ociVersion": "1.0.2",
        "hostname": "container",
        "root": {"path": "rootfs"},
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": arguments,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": tmpfs},
        ],
        "linux": {
            // Named like everything of ours, so that what a killed run leaves can be told.
            "cgroupsPath": format!("/{id}"),
            "namespaces": [
                {"type": "pid"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "mount"},
                {"type": "network", "path": namespace.path()},
            ],
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sysrq-trigger"],
        },
    })
}
