//! The `edgefilter` daemon as a test drives it: start, wait, kill, ask, detach.
//!
//! Owns one daemon in one namespace with directories of its own. Knows only the command line, never
//! the daemon's files or maps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::container;
use crate::netns::{Finished, Namespace, Running, Scratch};

/// Names the binary to test.
pub const BINARY_VARIABLE: &str = "EDGEFILTER_BIN";
/// Set to 1: every start of the daemon is left out, and every probe that should be refused has to
/// reach the host. A test of the tests.
pub const NO_FILTER_VARIABLE: &str = "EDGEFILTER_TEST_NO_FILTER";

/// Runs the program it is given, with arguments; `$0` is the resolv.conf it sees. The process id stays what it was.
const WITH_RESOLV_CONF: &str =
    "mount --bind \"$0\" \"$(readlink -f /etc/resolv.conf)\" && exec \"$@\"";

/// Seconds until a daemon has to be ready, where a machine is so slow that it takes longer than [`READY_LIMIT`].
const READY_VARIABLE: &str = "EDGEFILTER_READY_SECONDS";
const READY_LIMIT: Duration = Duration::from_secs(15);
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

fn ready_limit() -> Result<Duration> {
    match std::env::var(READY_VARIABLE) {
        Ok(text) => {
            let seconds = text.parse();
            Ok(Duration::from_secs(seconds.with_context(|| {
                format!("{READY_VARIABLE} is no number: {text:?}")
            })?))
        }
        Err(_) => Ok(READY_LIMIT),
    }
}

/// One daemon. Dropping it kills the daemon; the filter goes with the namespace and the bpffs.
#[derive(Debug)]
pub struct Edgefilter {
    binary: Option<PathBuf>,
    namespace: Namespace,
    globals: Vec<String>,
    policy: PathBuf,
    cni_cache: PathBuf,
    resolv_conf: Option<PathBuf>,
    settings: Option<PathBuf>,
    /// The program that starts the daemon, and its arguments.
    starter: Vec<String>,
    /// Further options of `run`.
    options: Vec<String>,
    watch: bool,
    running: Option<Running>,
}

impl Edgefilter {
    /// Gets everything ready in `namespace`; `start` starts it.
    pub fn prepare(namespace: &Namespace, scratch: &Scratch, policy: &str) -> Result<Self> {
        let binary = if without_filter() {
            None
        } else {
            Some(locate()?)
        };
        let policy = scratch.file("policy.toml", policy)?;
        let bpffs = scratch.mount_bpffs()?;
        let mut globals = Vec::new();
        for (option, directory) in [
            ("--state-dir", scratch.directory("state")?),
            ("--run-dir", scratch.directory("run")?),
            ("--bpffs", bpffs),
        ] {
            globals.push(option.to_owned());
            globals.push(directory.to_string_lossy().into_owned());
        }
        Ok(Self {
            binary,
            namespace: namespace.clone(),
            globals,
            policy,
            cni_cache: scratch.directory(container::CACHE)?,
            resolv_conf: None,
            settings: None,
            starter: Vec::new(),
            options: Vec::new(),
            watch: false,
            running: None,
        })
    }

    /// `prepare` and `start`.
    pub fn enable(namespace: &Namespace, scratch: &Scratch, policy: &str) -> Result<Self> {
        let mut daemon = Self::prepare(namespace, scratch, policy)?;
        daemon.start()?;
        Ok(daemon)
    }

    /// Another daemon for the same policy and pins, in `namespace` and with a run directory of its own.
    #[must_use]
    pub fn rival(&self, namespace: &Namespace, run_dir: &Path) -> Self {
        let mut globals = self.globals.clone();
        if let Some(at) = globals.iter().position(|word| word == "--run-dir") {
            globals[at + 1] = run_dir.to_string_lossy().into_owned();
        }
        Self {
            binary: self.binary.clone(),
            namespace: namespace.clone(),
            globals,
            policy: self.policy.clone(),
            cni_cache: self.cni_cache.clone(),
            resolv_conf: self.resolv_conf.clone(),
            settings: self.settings.clone(),
            starter: self.starter.clone(),
            options: self.options.clone(),
            watch: self.watch,
            running: None,
        }
    }

    /// False when no filter is to be started (see `NO_FILTER_VARIABLE`).
    pub fn filtering(&self) -> bool {
        self.binary.is_some()
    }

    /// Uses another binary from the next start on: an upgrade.
    pub fn replace_binary(&mut self, binary: PathBuf) {
        if self.binary.is_some() {
            self.binary = Some(binary);
        }
    }

    /// Writes a new policy file, read at the next start.
    pub fn replace_policy(&self, policy: &str) -> Result<()> {
        std::fs::write(&self.policy, policy)
            .with_context(|| format!("cannot write {}", self.policy.display()))
    }

    /// Starts the daemon and waits until `status` answers; returns how long that took.
    pub fn start(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        if self.binary.is_none() {
            return Ok(begin.elapsed());
        }
        let limit = ready_limit()?;
        if self.running.as_mut().is_some_and(Running::is_running) {
            bail!("the daemon of {} runs already", self.namespace.name());
        }
        let mut running = Running::start(self.run()?)?;
        loop {
            if self.cli(&["status", "--json"])?.ok() {
                self.running = Some(running);
                return Ok(begin.elapsed());
            }
            if !running.is_running() {
                bail!(
                    "the daemon ended instead of getting ready; it said:\n{}",
                    running.stderr()
                );
            }
            if begin.elapsed() > limit {
                bail!(
                    "the daemon is not ready after {limit:?}; it said:\n{}",
                    running.stderr()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs the daemon where it is expected to end by itself, as it does when it refuses.
    pub fn run_to_end(&self) -> Result<Finished> {
        crate::netns::finish(self.run()?, ready_limit()?)
    }

    /// The daemon's process id, while it was started and not ended.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Running::pid)
    }

    /// Has the daemon read its policy there, from its next start on: another file, or a directory.
    pub fn policy_at(&mut self, path: PathBuf) {
        self.policy = path;
    }

    /// Has the daemon see these resolvers in its resolv.conf, from its next start on.
    pub fn resolvers(&mut self, scratch: &Scratch, addresses: &[&str]) -> Result<()> {
        let lines: Vec<String> = addresses
            .iter()
            .map(|address| format!("nameserver {address}"))
            .collect();
        self.resolv_conf = Some(scratch.file("resolv.conf", lines.join("\n"))?);
        Ok(())
    }

    /// Has the daemon read these settings, from its next start on.
    pub fn settings(&mut self, scratch: &Scratch, settings: &str) -> Result<()> {
        self.settings = Some(scratch.file("daemon.toml", settings)?);
        Ok(())
    }

    /// Has the daemon read its policy again whenever it changes, from its next start on.
    pub fn watch(&mut self) {
        self.watch = true;
    }

    /// The policy file.
    pub fn policy(&self) -> &Path {
        &self.policy
    }

    /// Where the control socket is.
    pub fn run_dir(&self) -> Result<&Path> {
        let at = self.globals.iter().position(|word| word == "--run-dir");
        at.and_then(|at| self.globals.get(at + 1))
            .map(Path::new)
            .context("no run directory")
    }

    /// A command line of another program that runs a subcommand of the same binary: `setpriv`, for example.
    pub fn cli_under(&self, program: &[&str], words: &[&str]) -> Result<Finished> {
        let inner = self.command(words)?;
        let mut command = self
            .namespace
            .command(program.first().context("no program")?);
        command.args(&program[1..]);
        // what stands behind `nsenter --net=... --`
        command.args(inner.get_args().skip(2));
        crate::netns::finish(command, COMMAND_LIMIT)
    }

    /// Starts the daemon by this program, from its next start on: `setpriv`, `env` and the like.
    pub fn started_by(&mut self, words: &[&str]) {
        self.starter = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Gives `run` these options as well, from the next start on.
    pub fn options(&mut self, words: &[&str]) {
        self.options = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// What the daemon wrote to standard error so far.
    pub fn log(&self) -> String {
        self.running
            .as_ref()
            .map(Running::stderr)
            .unwrap_or_default()
    }

    /// Ends the daemon without a chance to clean up. The filter has to stay.
    pub fn sigkill(&mut self) -> Result<()> {
        self.end(Signal::SIGKILL)
    }

    /// Ends the daemon in good order. The filter has to stay.
    pub fn terminate(&mut self) -> Result<()> {
        self.end(Signal::SIGTERM)
    }

    /// Asks the daemon to read its policy again.
    pub fn hang_up(&mut self) -> Result<()> {
        let running = self.running.as_mut().context("no daemon is running")?;
        running.signal(Signal::SIGHUP)
    }

    /// Takes the filter off, with the daemon running or not.
    pub fn detach(&mut self) -> Result<()> {
        if self.filtering() {
            self.cli(&["detach"])?.require()?;
        }
        Ok(())
    }

    /// Runs another subcommand of the same binary on the same directories.
    pub fn cli(&self, words: &[&str]) -> Result<Finished> {
        crate::netns::finish(self.command(words)?, COMMAND_LIMIT)
    }

    /// What `status --json` says.
    pub fn status(&self) -> Result<Value> {
        let shown = self.cli(&["status", "--json"])?.require()?;
        serde_json::from_str(&shown.stdout).context("`edgefilter status --json` gave no JSON")
    }

    /// All counters; empty without a filter.
    pub fn counters(&self) -> Result<Counters> {
        if !self.filtering() {
            return Ok(Counters::default());
        }
        let shown = self.cli(&["counters", "--json"])?.require()?;
        let value: Value = serde_json::from_str(&shown.stdout)
            .context("`edgefilter counters --json` gave no JSON")?;
        Counters::read(&value).with_context(|| format!("unexpected counters: {}", shown.stdout))
    }

    /// The machine's own containers are nobody's business here: the CNI cache is one of the test's own.
    fn run(&self) -> Result<std::process::Command> {
        let mut command = self.prepared(
            self.resolv_conf.as_deref(),
            &self.starter,
            &["run", "--policy"],
        )?;
        command
            .arg(&self.policy)
            .arg("--cni-cache")
            .arg(&self.cni_cache)
            .args(&self.options);
        if let Some(settings) = &self.settings {
            command.arg("--settings").arg(settings);
        }
        if self.watch {
            command.arg("--watch");
        }
        Ok(command)
    }

    /// The same as a line for a shell that is in the namespace already.
    pub fn line(&self, words: &[&str]) -> Result<String> {
        let command = self.command(words)?;
        // what stands behind `nsenter --net=... --`
        let words = command.get_args().skip(2);
        let quoted =
            words.map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")));
        Ok(quoted.collect::<Vec<_>>().join(" "))
    }

    /// The same, not started.
    pub fn command(&self, words: &[&str]) -> Result<std::process::Command> {
        self.prepared(None, &[], words)
    }

    /// With a resolv.conf of its own the program runs in a mount namespace of its own; what is mounted elsewhere is there too.
    fn prepared(
        &self,
        resolv_conf: Option<&Path>,
        starter: &[String],
        words: &[&str],
    ) -> Result<std::process::Command> {
        let binary = self
            .binary
            .as_ref()
            .context("there is no daemon in a run without a filter")?;
        let mut command = if let Some(file) = resolv_conf {
            let mut command = self.namespace.command("unshare");
            command.args([
                "--mount",
                "--propagation",
                "slave",
                "sh",
                "-c",
                WITH_RESOLV_CONF,
            ]);
            command.arg(file).arg(binary);
            command
        } else if let Some((program, arguments)) = starter.split_first() {
            let mut command = self.namespace.command(program);
            command.args(arguments).arg(binary);
            command
        } else {
            self.namespace.command(binary)
        };
        command.args(&self.globals).args(words);
        // A colour code or a translated message must not decide a test.
        command
            .env("NO_COLOR", "1")
            .env("LC_ALL", "C")
            .env_remove("NOTIFY_SOCKET");
        Ok(command)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        if !self.filtering() {
            return Ok(());
        }
        let running = self.running.take().context("no daemon is running")?;
        running.end(signal, COMMAND_LIMIT).map(drop)
    }
}

/// Whether this run leaves the filter out.
pub fn without_filter() -> bool {
    std::env::var_os(NO_FILTER_VARIABLE).is_some_and(|value| value == "1")
}

/// The binary under test: `EDGEFILTER_BIN`, or the newest of the workspace's builds.
pub fn locate() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(BINARY_VARIABLE) {
        let named = PathBuf::from(named);
        let full = named
            .canonicalize()
            .with_context(|| format!("{BINARY_VARIABLE} names {}", named.display()))?;
        return Ok(full);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    ["debug", "release"]
        .map(|profile| target.join(profile).join("edgefilter"))
        .into_iter()
        .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file)))
        .max()
        .map(|(_, file)| file)
        .with_context(|| {
            format!(
                "no edgefilter binary under {}: run `cargo build`, or set {BINARY_VARIABLE}",
                target.display()
            )
        })
}

/// One counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The counters of one interface.
#[derive(Clone, Debug, Default)]
pub struct InterfaceCounters {
    /// The interface's index.
    pub ifindex: u64,
    /// The profile that judges it.
    pub profile: String,
    /// By reason, each packet under exactly one.
    pub reasons: BTreeMap<String, Count>,
    /// What monitor mode let in although it would be dropped, by reason.
    pub would_drop: BTreeMap<String, Count>,
}

/// What `edgefilter counters --json` says.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// By the interface's name.
    pub interfaces: BTreeMap<String, InterfaceCounters>,
    /// By the rule's id.
    pub rules: BTreeMap<String, Count>,
}

impl Counters {
    /// Reads the JSON document; says which part is missing.
    pub fn read(value: &Value) -> Result<Self> {
        let mut counters = Self::default();
        for entry in list(value, "interfaces")? {
            let read = InterfaceCounters {
                ifindex: entry
                    .get("ifindex")
                    .and_then(Value::as_u64)
                    .context("no ifindex")?,
                profile: entry
                    .get("profile")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
                reasons: counts(entry.get("reasons"))?,
                would_drop: counts(entry.get("would_drop"))?,
            };
            counters.interfaces.insert(text(entry, "name")?, read);
        }
        for entry in list(value, "rules")? {
            counters.rules.insert(text(entry, "id")?, count(entry)?);
        }
        Ok(counters)
    }

    /// Packets under a reason, all interfaces together.
    pub fn packets(&self, reason: &str) -> u64 {
        self.interfaces
            .values()
            .filter_map(|one| one.reasons.get(reason))
            .map(|count| count.packets)
            .sum()
    }

    /// Packets a rule let in or denied; 0 for a rule never hit.
    pub fn rule(&self, id: &str) -> u64 {
        self.rules.get(id).map_or(0, |count| count.packets)
    }

    /// Packets and bytes by reason, all interfaces together; reasons never seen are left out.
    pub fn by_reason(&self) -> BTreeMap<String, Count> {
        let mut sums: BTreeMap<String, Count> = BTreeMap::new();
        for (reason, count) in self.interfaces.values().flat_map(|one| &one.reasons) {
            let sum = sums.entry(reason.clone()).or_default();
            sum.packets += count.packets;
            sum.bytes += count.bytes;
        }
        sums.retain(|_, count| count.packets > 0);
        sums
    }

    /// Reasons that count less than they did in `earlier`: there must be none.
    pub fn went_back(&self, earlier: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, before) in &earlier.interfaces {
            for (reason, count) in &before.reasons {
                let now = self
                    .interfaces
                    .get(name)
                    .and_then(|one| one.reasons.get(reason))
                    .copied()
                    .unwrap_or_default();
                if now.packets < count.packets {
                    found.push(format!(
                        "{name} {reason}: {} after {}",
                        now.packets, count.packets
                    ));
                }
            }
        }
        for (id, count) in &earlier.rules {
            if self.rule(id) < count.packets {
                found.push(format!(
                    "rule {id}: {} after {}",
                    self.rule(id),
                    count.packets
                ));
            }
        }
        found
    }
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value
        .get(key)
        .and_then(Value::as_array)
        .with_context(|| format!("no list {key:?}"))
}

fn text(value: &Value, key: &str) -> Result<String> {
    Ok(value
        .get(key)
        .and_then(Value::as_str)
        .with_context(|| format!("no text {key:?}"))?
        .to_owned())
}

fn counts(value: Option<&Value>) -> Result<BTreeMap<String, Count>> {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    entries
        .map(|(name, entry)| Ok((name.clone(), count(entry)?)))
        .collect()
}

fn count(value: &Value) -> Result<Count> {
    let number = |key: &str| {
        value
            .get(key)
            .and_then(Value::as_u64)
            .with_context(|| format!("no number {key:?}"))
    };
    Ok(Count {
        packets: number("packets")?,
        bytes: number("bytes")?,
    })
}
