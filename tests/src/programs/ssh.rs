//! A real sshd, and clients that come in by it.
//!
//! Owns keys and configuration in a directory of their own: nothing of the machine's sshd or of anybody's keys is read.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{find, http};
use crate::netns::{Finished, Namespace, Running, Scratch, finish};

/// Where sshd puts itself while it looks at a new client; part of the program.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// sshd in the foreground, as root, for one key.
#[derive(Debug)]
pub struct Sshd {
    port: u16,
    key: PathBuf,
    _running: Running,
}

impl Sshd {
    /// Starts it, and waits until it listens on `port`, IPv4 and IPv6.
    pub fn start(namespace: &Namespace, scratch: &Scratch, port: u16) -> Result<Self> {
        let root = scratch.directory("sshd")?;
        fs::create_dir_all(PRIVILEGE_SEPARATION)?;
        let (host_key, key) = (root.join("host_key"), root.join("key"));
        for file in [&host_key, &key] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            command.arg(file);
            finish(command, Duration::from_secs(20))?.require()?;
        }
        let configuration = format!(
            "Port {port}\nHostKey {}\nAuthorizedKeysFile {}.pub\nPidFile none\nPermitRootLogin prohibit-password\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nUseDNS no\nStrictModes no\n",
            host_key.display(),
            key.display()
        );
        let file = scratch.file("sshd/sshd_config", configuration)?;
        // it starts itself again for every client, and wants to know where it is
        let program = find("sshd").context("no sshd")?;
        let words = [program, "-D".into(), "-e".into(), "-f".into(), file];
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        let words: Vec<&str> = words.iter().map(|word| &**word).collect();
        let mut running = namespace.start(&words)?;
        http::wait_listening(namespace, &mut running, &[port])?;
        Ok(Self {
            port,
            key,
            _running: running,
        })
    }

    /// The command line of a client that runs `command` on the host with `address`.
    fn client(&self, namespace: &Namespace, address: &str, command: &str) -> Command {
        let mut client = namespace.command("ssh");
        client.args(["-F", "none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]);
        client.args(["-o", "StrictHostKeyChecking=no", "-o", "ConnectTimeout=10"]);
        client.args(["-o", "UserKnownHostsFile=/dev/null", "-i"]);
        client.arg(&self.key).arg("-p").arg(self.port.to_string());
        client.arg(format!("root@{address}")).arg("--").arg(command);
        client
    }

    /// Runs a command through a connection of its own.
    pub fn run(&self, from: &Namespace, address: &str, command: &str) -> Result<Finished> {
        finish(self.client(from, address, command), Duration::from_secs(30))
    }

    /// Starts one.
    pub fn start_command(&self, from: &Namespace, address: &str, command: &str) -> Result<Running> {
        Running::start(self.client(from, address, command))
    }

    /// Opens a session in which every line comes back.
    pub fn session(&self, from: &Namespace, address: &str) -> Result<Session> {
        let mut child = self
            .client(from, address, "cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start ssh")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (sender, lines) = mpsc::channel();
        let output = output.context("no output")?;
        // ends with the session
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Session {
            child,
            input: input.context("no input")?,
            lines,
        })
    }
}

/// An ssh connection that is kept. Dropping it ends it.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Session {
    /// Sends a line; it comes back once it has got through.
    pub fn send(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}").context("the ssh session has ended")
    }

    /// The next line that has come back within `limit`, if one has.
    pub fn receive(&mut self, limit: Duration) -> Result<Option<String>> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the ssh session has ended"),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
