//! Policies are pushed, gone back to and left to undo themselves, the daemon is killed in the middle of it, and all the
//! while packets come: what is open in every policy is never refused, what is open in none never passes, and the kernel
//! always holds one policy that is kept.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use edgefilter_tests::netns::topology::{CLIENT_V4, HOST_V4};
use edgefilter_tests::netns::{Edge, PacketSocket, Running};
use edgefilter_tests::programs::{Edgefilter, Sink};
use fastrand::Rng;
use serde_json::Value;

use crate::forgeries::{Link, datagram};
use crate::support::{alone, can_run};

/// Applies; rollbacks are a quarter of them, policies that nobody confirms a tenth.
const APPLIES_VARIABLE: &str = "EDGEFILTER_PUSHES";
const APPLIES: u64 = 8;

/// Open in every policy, by a rule with another name each time; open in none; open in every other one.
const ALWAYS: u16 = 8000;
const NEVER: u16 = 9000;
const EVEN: u16 = 8002;

/// Packets of each of the first two kinds a second, more or less.
const PAUSE: Duration = Duration::from_micros(300);

/// Packets of one probe.
const COUNT: u64 = 5;

/// What packets stand for in the sink.
const ALWAYS_MARK: u32 = 1;
const NEVER_MARK: u32 = 2;
/// Probes after a step; each step has a mark of its own from here on.
const PROBES: u32 = 3;

/// The policies: number `n` opens [`EVEN`] if it is even.
fn policy(number: u64) -> String {
    let mut text = format!(
        "version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\n\
         [[profiles.edge.allow]]\nid = \"always-{}\"\nprotocol = \"udp\"\nports = {ALWAYS}\ncomment = \"policy {number}\"\n",
        number % 2,
    );
    if number.is_multiple_of(2) {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "[[profiles.edge.allow]]\nid = \"even\"\nprotocol = \"udp\"\nports = {EVEN}\n"
        );
    }
    text
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Apply,
    Rollback,
    Unconfirmed,
}

struct Drill {
    edge: Edge,
    daemon: Edgefilter,
    sink: Sink,
    probe: PacketSocket,
    random: Rng,
    next_policy: u64,
    next_mark: u32,
    killed: u64,
    done: u64,
    undone: u64,
}

/// What the kernel or a list says is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
struct InForce {
    generation: u64,
    digest: String,
}

impl Drill {
    fn frame(edge: &Edge, port: u16, mark: u32) -> Result<Vec<u8>> {
        let (client, host) = (CLIENT_V4.parse()?, HOST_V4.parse()?);
        Ok(datagram(
            &Link::outside(edge)?,
            client,
            host,
            port,
            (mark, 0),
        ))
    }

    /// What the tables themselves say, with the daemon or without.
    fn kernel(&self) -> Result<InForce> {
        let shown = self.daemon.cli(&["status", "--json"])?;
        let status: Value = serde_json::from_str(&shown.stdout)
            .with_context(|| format!("status gave no JSON: {}", shown.stderr))?;
        let kernel = &status["kernel"];
        Ok(InForce {
            generation: kernel["generation"].as_u64().context("no generation")?,
            digest: kernel["digest"].as_str().context("no digest")?.to_owned(),
        })
    }

    /// The generation in force as the daemon keeps it, and whether it waits to be confirmed.
    fn kept(&self) -> Result<(InForce, bool)> {
        let shown = self.daemon.cli(&["generations", "--json"])?.require()?;
        let list: Value = serde_json::from_str(&shown.stdout)?;
        let current = list["current"].as_u64().context("no current generation")?;
        let generations = list["generations"].as_array().context("no list")?;
        let record = generations
            .iter()
            .find(|record| record["number"] == current)
            .with_context(|| format!("generation {current} is not kept"))?;
        let digest = record["digest"].as_str().context("no digest")?;
        let in_force = InForce {
            generation: current,
            digest: digest.get(..16).context("a short digest")?.to_owned(),
        };
        Ok((in_force, !list["pending"].is_null()))
    }

    /// The policy's number, by its own text.
    fn number(&self, generation: u64) -> Result<u64> {
        let number = generation.to_string();
        let shown = self.daemon.cli(&["generations", &number])?.require()?;
        let (_, rest) = shown.stdout.split_once("policy ").context("no comment")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse()?)
    }

    fn start(&self, words: &[&str]) -> Result<Running> {
        Running::start(self.daemon.command(words)?)
    }

    /// One step, with the daemon killed somewhere in it.
    fn step(&mut self, step: Step) -> Result<()> {
        let before = self.kernel()?;
        let file = self
            .edge
            .scratch
            .file("pushed.toml", policy(self.next_policy))?;
        self.next_policy += 1;
        let file = file.to_string_lossy().into_owned();
        let words: Vec<&str> = match step {
            Step::Apply => vec!["apply", &file],
            Step::Rollback => vec!["rollback"],
            Step::Unconfirmed => vec!["apply", &file, "--confirm", "1s"],
        };
        let command = self.start(&words)?;
        std::thread::sleep(Duration::from_millis(self.random.u64(0..120)));
        self.daemon.sigkill()?;
        self.killed += 1;
        let ended = command.wait(Duration::from_secs(30))?;
        let after = self.kernel()?;
        // one that was killed before the kernel had its policy has used up a number
        ensure!(
            after == before || after.generation > before.generation,
            "{step:?}: the kernel went from {before:?} to {after:?}"
        );
        ensure!(
            after != before || !ended.ok(),
            "{step:?} says it is done, and the kernel holds what it held: {}",
            ended.stdout
        );
        self.done += u64::from(after != before);
        self.daemon.start()?;
        if matches!(step, Step::Unconfirmed) {
            self.wait_undone(&before, &after)?;
        }
        let (kept, pending) = self.kept()?;
        ensure!(!pending, "{step:?}: something still waits");
        let kernel = self.kernel()?;
        ensure!(
            kept == kernel,
            "kept is {kept:?}, the kernel holds {kernel:?}"
        );
        if !matches!(step, Step::Unconfirmed) {
            ensure!(
                kernel == after,
                "{step:?}: {after:?} became {kernel:?} by a start"
            );
        }
        self.probe(kernel.generation)
    }

    fn wait_undone(&mut self, before: &InForce, after: &InForce) -> Result<()> {
        if before == after {
            return Ok(());
        }
        let begin = Instant::now();
        loop {
            let (kept, pending) = self.kept()?;
            if !pending {
                ensure!(
                    kept.digest == before.digest && kept.generation > after.generation,
                    "{after:?} was not confirmed and became {kept:?}, not {before:?} again"
                );
                self.undone += 1;
                return Ok(());
            }
            ensure!(
                begin.elapsed() < Duration::from_secs(20),
                "not undone after {:?}",
                begin.elapsed()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The port that only every other policy opens is open if, and only if, it is one of those.
    fn probe(&mut self, generation: u64) -> Result<()> {
        let open = self.number(generation)?.is_multiple_of(2);
        let mark = self.next_mark;
        self.next_mark += 1;
        let frame = Self::frame(&self.edge, EVEN, mark)?;
        for _ in 0..COUNT {
            self.probe.send(&frame)?;
        }
        let expected = if open { COUNT } else { 0 };
        let begin = Instant::now();
        while open && self.sink.count(mark)? < expected && begin.elapsed() < Duration::from_secs(5)
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        let passed = self.sink.count(mark)?;
        ensure!(
            passed == expected,
            "generation {generation}: {passed} of {COUNT} passed, {expected} should"
        );
        Ok(())
    }
}

fn applies() -> Result<u64> {
    match std::env::var(APPLIES_VARIABLE) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{APPLIES_VARIABLE} is no number: {text:?}")),
        Err(_) => Ok(APPLIES),
    }
}

#[test]
fn pushes_survive_kills_and_no_packet_notices() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = alone();
    let edge = Edge::standard()?;
    let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &policy(0))?;
    if !daemon.filtering() {
        return Ok(());
    }
    let seed = fastrand::u64(..);
    let applies = applies()?;
    let mut drill = Drill {
        sink: Sink::on_link(&edge.host, "eth0")?,
        probe: PacketSocket::open(&edge.client, "eth0")?,
        daemon,
        random: Rng::with_seed(seed),
        next_policy: 1,
        next_mark: PROBES,
        killed: 0,
        done: 0,
        undone: 0,
        edge,
    };
    let mut steps: Vec<Step> = [
        (Step::Apply, applies),
        (Step::Rollback, applies / 4),
        (Step::Unconfirmed, (applies / 10).max(1)),
    ]
    .into_iter()
    .flat_map(|(step, count)| (0..count).map(move |_| step))
    .collect();
    drill.random.shuffle(&mut steps);
    // something to go back to
    let file = drill.edge.scratch.file("first.toml", policy(1))?;
    drill.next_policy = 2;
    drill
        .daemon
        .cli(&["apply", &file.to_string_lossy()])?
        .require()?;

    let stream = PacketSocket::open(&drill.edge.client, "eth0")?;
    let always = Drill::frame(&drill.edge, ALWAYS, ALWAYS_MARK)?;
    let never = Drill::frame(&drill.edge, NEVER, NEVER_MARK)?;
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let begin = Instant::now();
    let outcome = std::thread::scope(|scope| {
        let sender = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                stream.send(&always)?;
                stream.send(&never)?;
                sent.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
            Ok(())
        });
        let worked = steps.iter().enumerate().try_for_each(|(number, step)| {
            drill.step(*step).with_context(|| {
                format!(
                    "step {number}, {step:?}, seed {seed}: {}",
                    drill.daemon.log()
                )
            })
        });
        stop.store(true, Ordering::Relaxed);
        match sender.join() {
            Ok(sending) => worked.and(sending),
            Err(_) => bail!("the sender panicked"),
        }
    });
    outcome?;
    drill.sink.settle()?;
    drill.sink.sound()?;
    let sent = sent.load(Ordering::Relaxed);
    let (passed, leaked) = (
        drill.sink.count(ALWAYS_MARK)?,
        drill.sink.count(NEVER_MARK)?,
    );
    let counters = drill.daemon.counters()?;
    let by_rule = [counters.rule("always-0"), counters.rule("always-1")];
    let verified = drill.daemon.cli(&["audit", "verify"])?;
    eprintln!(
        "{} steps, {} kills, {} in force before the kill, {} undone, {:?}; {sent} packets of each kind: {passed} of what is \
         always open passed ({by_rule:?} by rule), {leaked} of what never is; {}",
        steps.len(),
        drill.killed,
        drill.done,
        drill.undone,
        begin.elapsed(),
        verified.stdout.trim()
    );
    ensure!(verified.ok(), "{}{}", verified.stdout, verified.stderr);
    ensure!(passed == sent, "{passed} of {sent} allowed packets passed");
    ensure!(leaked == 0, "{leaked} packets passed that no policy opens");
    ensure!(
        by_rule.iter().sum::<u64>() == sent && by_rule.iter().all(|count| *count > 0),
        "by rule {by_rule:?}, sent {sent}"
    );
    ensure!(drill.done > 0, "no step was over before its kill");
    Ok(())
}
