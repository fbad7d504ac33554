//! Child processes with a bound on everything: run time, captured output, and life.
//!
//! Owns the children it started, each in a process group of its own, and ends them by that group's
//! id only. Must never signal a process by name, nor one it did not start.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Bytes kept of each output stream; what comes after is read and thrown away, so that a noisy
/// child never blocks on a full pipe.
const OUTPUT_LIMIT: usize = 4 << 20;

/// A child that ended by itself.
#[derive(Debug)]
pub struct Finished {
    /// The command line.
    pub what: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// How long it ran.
    pub elapsed: Duration,
}

impl Finished {
    /// Whether it ended with exit code 0.
    pub fn ok(&self) -> bool {
        self.status.success()
    }

    /// The exit code; -1 when a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Turns any exit code but 0 into an error that carries the child's own words.
    pub fn require(self) -> Result<Self> {
        if self.ok() {
            return Ok(self);
        }
        bail!(
            "`{}` ended with {}: {}{}",
            self.what,
            self.status,
            self.stderr.trim(),
            self.stdout.trim()
        )
    }
}

type Buffer = Arc<Mutex<Vec<u8>>>;

/// A child at work. Dropping it kills its process group.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    started: Instant,
    stdout: Buffer,
    stderr: Buffer,
    readers: Vec<JoinHandle<()>>,
    status: Option<ExitStatus>,
}

impl Running {
    /// Starts `command` in its own process group, standard input closed, both outputs captured.
    pub fn start(mut command: Command) -> Result<Self> {
        let what = describe(&command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start `{what}`"))?;
        let (stdout, stderr) = (Buffer::default(), Buffer::default());
        let mut readers = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            readers.push(collect(pipe, Arc::clone(&stdout)));
        }
        if let Some(pipe) = child.stderr.take() {
            readers.push(collect(pipe, Arc::clone(&stderr)));
        }
        Ok(Self {
            what,
            child,
            started: Instant::now(),
            stdout,
            stderr,
            readers,
            status: None,
        })
    }

    /// Its process id, which is its process group's as well.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status.is_none()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// Sends `signal` to the child alone; nothing happens when it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.is_running() {
            kill(self.nix_pid(), signal)
                .with_context(|| format!("cannot send {signal} to `{}`", self.what))?;
        }
        Ok(())
    }

    /// Waits for the end; past `limit` the group is killed and an error tells what was said so far.
    pub fn wait(mut self, limit: Duration) -> Result<Finished> {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() >= deadline {
                bail!(
                    "`{}` was not done after {limit:?}; it said: {}{}",
                    self.what,
                    self.stderr().trim(),
                    self.stdout().trim()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let elapsed = self.started.elapsed();
        self.end_group();
        for reader in self.readers.drain(..) {
            // A reader cannot fail in a way that matters here: what it read is in the buffer.
            let _ = reader.join();
        }
        let status = self.status.context("a child ended without a status")?;
        Ok(Finished {
            what: self.what.clone(),
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
            elapsed,
        })
    }

    /// Asks it to end with `signal`, then waits as `wait` does.
    pub fn end(mut self, signal: Signal, limit: Duration) -> Result<Finished> {
        self.signal(signal)?;
        self.wait(limit)
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Kills what is left of the process group, so that no grandchild keeps the pipes open.
    fn end_group(&self) {
        // ESRCH, the usual answer, means that nobody is left.
        let _ = killpg(self.nix_pid(), Signal::SIGKILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end_group();
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end, at most `limit`.
pub fn finish(command: Command, limit: Duration) -> Result<Finished> {
    Running::start(command)?.wait(limit)
}

/// The command line as a person would type it, without the `nsenter` in front of it.
fn describe(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let skip = if words.first().is_some_and(|word| word == "nsenter") {
        3
    } else {
        0
    };
    words.get(skip..).unwrap_or_default().join(" ")
}

fn collect(mut pipe: impl Read + Send + 'static, into: Buffer) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut chunk = [0_u8; 4096];
        while let Ok(read @ 1..) = pipe.read(&mut chunk) {
            let mut buffer = into.lock().unwrap_or_else(PoisonError::into_inner);
            let room = OUTPUT_LIMIT.saturating_sub(buffer.len());
            buffer.extend_from_slice(&chunk[..read.min(room)]);
        }
    })
}

fn text(buffer: &Buffer) -> String {
    String::from_utf8_lossy(&buffer.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}
