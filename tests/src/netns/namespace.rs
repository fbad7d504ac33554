//! One network namespace: made, entered, removed.
//!
//! Owns the mount under /run/netns and every process left inside it. Must never change the
//! namespace of a thread that it did not start for that purpose.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use super::leftovers;
use super::process::{Finished, Running, finish};

/// Where iproute2 keeps named namespaces.
pub const DIRECTORY: &str = "/run/netns";

/// Bound on a set-up command such as `ip` or `nft`.
const SETUP_LIMIT: Duration = Duration::from_secs(20);

/// A handle; the namespace goes away with the last clone.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    path: PathBuf,
}

impl Namespace {
    /// Makes `ef-<pid>-<n>-<label>` with loopback up and duplicate address detection off, so that
    /// an IPv6 address can be used at once.
    pub fn create(label: &str) -> Result<Self> {
        leftovers::sweep_once();
        let name = super::fresh_name(label);
        add(&name)?;
        let namespace = Self(Arc::new(Inner {
            path: Path::new(DIRECTORY).join(&name),
            name,
        }));
        namespace.sysctls(&[
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/router_solicitations", "0"),
            // Probes of closed ports must all be answered while no filter is there.
            ("net/ipv4/icmp_ratelimit", "0"),
            ("net/ipv6/icmp/ratelimit", "0"),
        ])?;
        namespace.run(&["ip", "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// `ef-<pid>-<n>-<label>`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its mount below /run/netns, which other programs join it by.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// A command that will run inside. `nsenter --net` and not `ip netns exec`: the latter mounts a
    /// fresh /sys, and the bpffs under it would be gone.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.0.path.display()))
            .arg("--")
            .arg(program);
        command
    }

    fn words(&self, words: &[&str]) -> Result<Command> {
        let (program, arguments) = words.split_first().context("an empty command")?;
        let mut command = self.command(program);
        command.args(arguments);
        Ok(command)
    }

    /// Runs a set-up command that must succeed.
    pub fn run(&self, words: &[&str]) -> Result<Finished> {
        self.try_run(words, SETUP_LIMIT)?
            .require()
            .with_context(|| format!("in namespace {}", self.name()))
    }

    /// Runs a command whose exit code is the caller's business.
    pub fn try_run(&self, words: &[&str], limit: Duration) -> Result<Finished> {
        finish(self.words(words)?, limit)
    }

    /// Starts a program that goes on until it is dropped.
    pub fn start(&self, words: &[&str]) -> Result<Running> {
        Running::start(self.words(words)?)
    }

    /// Loads an nftables ruleset given as text.
    pub fn nft(&self, scratch: &super::Scratch, ruleset: &str) -> Result<()> {
        let file = scratch.file(&format!("{}.nft", self.name()), ruleset)?;
        self.run(&["nft", "-f", &file.to_string_lossy()])?;
        Ok(())
    }

    /// Runs `work` on a thread of its own that has joined the namespace; sockets made there belong
    /// to it for good.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.join().map(|()| work()));
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Like `inside`, for work that goes on.
    pub fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<Result<T>> {
        let namespace = self.clone();
        std::thread::spawn(move || namespace.join().map(|()| work()))
    }

    /// Writes values below /proc/sys; those of `net/` are the namespace's own.
    pub fn sysctls(&self, values: &[(&str, &str)]) -> Result<()> {
        self.inside(|| {
            for (key, value) in values {
                let path = Path::new("/proc/sys").join(key);
                std::fs::write(&path, value)
                    .with_context(|| format!("cannot write {value} to {}", path.display()))?;
            }
            Ok(())
        })?
    }

    fn join(&self) -> Result<()> {
        let file = File::open(&self.0.path)
            .with_context(|| format!("cannot open {}", self.0.path.display()))?;
        setns(&file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot join namespace {}", self.name()))
    }
}

fn add(name: &str) -> Result<()> {
    // Two `ip netns add` at once can race on the first mount of /run/netns.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new("ip");
    command.args(["netns", "add", name]);
    finish(command, SETUP_LIMIT)?
        .require()
        .context("cannot make a network namespace: run as root, with iproute2 installed")?;
    Ok(())
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = leftovers::remove_namespace(&self.name) {
            eprintln!("namespace {} is left behind: {error:#}", self.name);
        }
    }
}
