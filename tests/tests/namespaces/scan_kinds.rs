//! Every kind of scan, by the tools people use, each from an address of its own: the right pattern, the right source, one
//! record, a block within the stated number of probes, an element with a timeout in nftables, and all of it gone when its
//! time is over.
//!
//! EDGEFILTER_SCANS="-6" leaves out all but those whose command line has that in it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use edgefilter_tests::netns::topology::{HOST_V4, HOST_V6};
use edgefilter_tests::netns::{Capture, Peer, Running, wait_until};
use edgefilter_tests::programs::blocks::{blocks, nft_sets, scans};
use edgefilter_tests::programs::scan::nmap_as_typed;
use edgefilter_tests::programs::{Edgefilter, Nginx, Seen, probes};
use filter_user::scans::record::{Kind, Origin, ScanRecord, State, Verdict};
use ipnet::IpNet;

use crate::scan_arena::{Arena, WEB, about, address, all_gone, involved, policy, summary};
use crate::support::{SILENCE, WORKS, alone, can_run};

/// How long blocks last here, in seconds.
const BLOCK_SECONDS: u64 = 12;
/// After so many distinct targets a source has to be blocked at `medium`: the preset's fast window, where UDP and ICMP count half.
const FULL: u64 = 10;
const HALF: u64 = 20;
/// The same of the second window.
const MEDIUM: u64 = 15;
/// A host discovery sends up to four kinds of probes to each host, in an order of its own.
const DISCOVERY: u64 = 4 * HALF;
/// From one scan's start to the next's.
const STAGGER: Duration = Duration::from_millis(250);
/// From a scan's start to its block: the slow one sends a probe a second.
const PATIENCE: Duration = Duration::from_secs(30);
const DECOYS: [&str; 3] = ["10.77.50.11", "10.77.50.12", "10.77.50.13"];

/// One run of a tool.
struct Case {
    /// What somebody would type; the ports are added where there are any.
    name: &'static str,
    how: How,
    /// Of the targets recorded, at least four fifths (host discovery: three) have one of these patterns, and each is there.
    patterns: &'static [&'static str],
    kind: Kind,
    most: u64,
}

enum How {
    /// nmap at this many ports of the host.
    Nmap(u16),
    /// nmap at a prefix.
    Sweep(&'static str),
    /// nmap at so many ports from each of two addresses of one /64.
    Pair(u16),
    /// hping3 at hosts at random.
    Hping,
}

/// Each has ports of its own: who sends the same probes at the same time is a decoy.
#[rustfmt::skip]
fn cases() -> Vec<Case> {
    use How::{Hping, Nmap, Pair, Sweep};
    let ports = |name, ports, pattern, most| Case { name, how: Nmap(ports), patterns: pattern, kind: Kind::PortScan, most };
    let sweep = |name, prefix, patterns, most| Case { name, how: Sweep(prefix), patterns, kind: Kind::Sweep, most };
    vec![
        // By itself: which of its sources a probe is reported of is up to what others leave of the program's budget.
        ports("-sS -Pn -T4 -D 10.77.50.11,10.77.50.12,10.77.50.13,ME", 40, &["syn"], FULL),
        // With host discovery, as most people type it: that is part of the same scan. By itself too: it is one packet.
        ports("-sS", 30, &["syn", "icmp_echo"], FULL + 3),
        ports("-sS -Pn -T4", 40, &["syn"], FULL),
        // One probe a second when nobody answers: too slow for the fast window, not for the next.
        ports("-sS -Pn -T2 --max-retries 0", 22, &["syn"], MEDIUM),
        ports("-sS -Pn -T3", 30, &["syn"], FULL),
        ports("-sS -Pn -T5", 40, &["syn"], FULL),
        ports("-sT -Pn -T4", 40, &["connect"], FULL),
        ports("-sF -Pn -T4", 40, &["fin"], FULL),
        ports("-sN -Pn -T4", 40, &["null"], FULL),
        ports("-sX -Pn -T4", 40, &["xmas"], FULL),
        ports("-sM -Pn -T4", 40, &["maimon"], FULL),
        ports("-sA -Pn -T4", 40, &["ack"], FULL),
        ports("-sW -Pn -T4", 40, &["ack"], FULL),
        ports("-sS --scanflags SYNFIN -Pn -T4", 40, &["illegal_flags"], FULL),
        ports("-sU -Pn -T4", 40, &["udp"], HALF),
        ports("-sY -Pn -T4", 40, &["sctp_init"], FULL),
        ports("-sZ -Pn -T4", 40, &["sctp_cookie"], FULL),
        ports("-sO -Pn -T4", 50, &["protocol"], FULL + 3),
        ports("-6 -sS -Pn -T4", 40, &["syn"], FULL),
        ports("-6 -sT -Pn -T4", 40, &["connect"], FULL),
        ports("-6 -sU -Pn -T4", 40, &["udp"], HALF),
        Case { name: "-6 -sS -Pn -T4, two addresses", how: Pair(8), patterns: &["syn"], kind: Kind::PortScan, most: FULL },
        sweep("-sn --max-retries 0", "10.77.40.0/27", &["icmp_echo", "syn", "ack"], DISCOVERY),
        sweep("-sn -PP", "10.77.40.32/27", &["icmp_timestamp"], HALF),
        sweep("-sn -PM", "10.77.40.64/27", &["icmp_mask"], HALF),
        sweep("-6 -sn --max-retries 0", "fd77:2::/123", &["icmp_echo", "syn", "ack"], DISCOVERY),
        Case { name: "hping3 -S -p 1022 --rand-dest", how: Hping, patterns: &["syn"], kind: Kind::Sweep, most: FULL },
    ]
}

/// A case with who runs it.
struct Attack {
    case: Case,
    peer: Peer,
    /// The other address of a pair.
    second: Option<String>,
    first_port: u16,
}

impl Attack {
    fn six(&self) -> bool {
        self.case.name.starts_with("-6")
    }

    fn source(&self) -> Result<IpAddr> {
        address(if self.six() {
            &self.peer.v6
        } else {
            &self.peer.v4
        })
    }

    /// Whom its record has to be about.
    fn involved(&self) -> Result<BTreeSet<IpNet>> {
        let source = self.source()?;
        let mut all = BTreeSet::new();
        if self.second.is_some() {
            all.insert(IpNet::new(source, 64)?.trunc());
            return Ok(all);
        }
        all.insert(IpNet::from(source));
        if self.case.name.contains("-D ") {
            for decoy in DECOYS {
                all.insert(IpNet::from(address(decoy)?));
            }
        }
        Ok(all)
    }

    fn start(&self) -> Result<Vec<Running>> {
        let from = &self.peer.namespace;
        let host = if self.six() { HOST_V6 } else { HOST_V4 };
        let range = |first: u16, count: u16| format!("-p {first}-{}", first + count - 1);
        let name = self.case.name;
        let first = self.first_port;
        let arguments = match self.case.how {
            // The ports are protocols.
            How::Nmap(count) if name.contains("-sO") => {
                format!("{name} {} {host}", range(1, count))
            }
            How::Nmap(count) => format!("{name} {} {host}", range(first, count)),
            How::Sweep(prefix) => format!("{name} {prefix}"),
            How::Pair(count) => {
                let second = self.second.as_ref().context("no second address")?;
                let name = name.trim_end_matches(", two addresses");
                return [(&self.peer.v6, first), (second, first + count)]
                    .into_iter()
                    .map(|(source, port)| {
                        let ports = range(port, count);
                        nmap_as_typed(from, &format!("{name} -e eth0 -S {source} {ports} {host}"))
                    })
                    .collect();
            }
            How::Hping => {
                let words =
                    "hping3 -n -q -c 60 -i u20000 -S -p 1022 -I eth0 --rand-dest 10.77.40.x";
                let words: Vec<&str> = words.split(' ').collect();
                return Ok(vec![from.start(&words)?]);
            }
        };
        Ok(vec![nmap_as_typed(from, &arguments)?])
    }

    /// Runs it. With a filter, sees to it that its source is blocked, in both places; returns how long that took.
    fn run(&self, arena: &Arena, daemon: &Edgefilter) -> Result<Duration> {
        let begin = Instant::now();
        let running = self.start()?;
        let mut took = Duration::ZERO;
        if daemon.filtering() {
            let wanted = self.involved()?;
            took = wait_until(PATIENCE, || {
                let list = blocks(daemon).unwrap_or_default();
                wanted
                    .iter()
                    .all(|net| list.iter().any(|block| block.source == *net))
            })
            .with_context(|| {
                let list = blocks(daemon).unwrap_or_default();
                format!("not blocked: {wanted:?}; blocked are {list:?}")
            })?;
            self.in_force(arena, daemon, &wanted)?;
        }
        for one in running {
            let done = one.wait(Duration::from_secs(45))?;
            // hping3 ends with 1 when nobody answered.
            ensure!(
                done.ok() || matches!(self.case.how, How::Hping),
                "{} ended with {}: {}",
                done.what,
                done.code(),
                done.stderr
            );
        }
        let whole = begin.elapsed();
        eprintln!(
            "{}: blocked after {} ms, done after {} ms",
            self.case.name,
            took.as_millis(),
            whole.as_millis()
        );
        Ok(took)
    }

    /// The block holds back what a rule allows, has an end, and is in nftables with a timeout.
    fn in_force(&self, arena: &Arena, daemon: &Edgefilter, wanted: &BTreeSet<IpNet>) -> Result<()> {
        let (seen, words) = self.visit(SILENCE)?;
        ensure!(seen == Seen::Nothing, "blocked, but {seen}: {words}");
        for block in blocks(daemon)? {
            if wanted.contains(&block.source) {
                ensure!(
                    block.origin == Origin::Scan && block.seconds_left <= BLOCK_SECONDS,
                    "{block:?}"
                );
                ensure!(block.scan.is_some(), "a block without its scan: {block:?}");
            }
        }
        let mut sets = None;
        wait_until(Duration::from_secs(2), || {
            sets = nft_sets(&arena.edge.host).ok().flatten();
            let sets = sets.iter().flatten();
            let found: BTreeSet<IpNet> = sets.map(|(net, _)| *net).collect();
            found.is_superset(wanted)
        })
        .with_context(|| format!("{wanted:?} not in nftables: {sets:?}"))?;
        for (net, timed) in sets.iter().flatten() {
            let right = timed.timeout.is_some_and(|all| all <= BLOCK_SECONDS);
            ensure!(right || !wanted.contains(net), "{net}: {timed:?}");
        }
        Ok(())
    }

    /// Tries the port that everybody may use.
    fn visit(&self, limit: Duration) -> Result<(Seen, String)> {
        let host = if self.six() { HOST_V6 } else { HOST_V4 };
        probes::tcp(&self.peer.namespace, host, WEB, limit)
    }

    /// Its one record.
    fn judge(&self, records: &[ScanRecord]) -> Result<()> {
        let found = about(records, self.source()?);
        let [record] = found[..] else {
            bail!("{} records instead of one: {found:?}", found.len());
        };
        eprintln!(
            "{}: {} probes until it was blocked (at most {}); {}",
            self.case.name,
            record.targets_to_open,
            self.case.most,
            summary(record)
        );
        let wanted = self.involved()?;
        ensure!(
            involved(record) == wanted,
            "not about {wanted:?}: {record:?}"
        );
        let all: u64 = record.patterns.values().sum();
        let of = |pattern: &&str| record.patterns.get(*pattern).copied().unwrap_or(0);
        let right: u64 = self.case.patterns.iter().map(of).sum();
        // host discovery is four kinds of probe, and which of them is shed is chance
        let share = if self.case.name.contains("-sn") { 3 } else { 4 };
        ensure!(
            self.case.patterns.iter().all(|pattern| of(pattern) > 0) && right * 5 >= all * share,
            "patterns other than {:?}: {:?}",
            self.case.patterns,
            record.patterns
        );
        ensure!(
            record.kind == self.case.kind
                && record.verdict == Verdict::Blocked
                && record.state == State::Open,
            "{record:?}"
        );
        ensure!(
            (1..=self.case.most).contains(&record.targets_to_open),
            "{} probes instead of {}",
            record.targets_to_open,
            self.case.most
        );
        Ok(())
    }
}

#[test]
fn every_kind_of_scan_is_one_record_and_a_block_that_ends() -> Result<()> {
    if !can_run(&["nmap", "hping3", "nginx"]) {
        return Ok(());
    }
    let _turn = alone();
    let begin = Instant::now();
    let mut arena = Arena::build()?;
    let mut attacks = Vec::new();
    let only = std::env::var("EDGEFILTER_SCANS").unwrap_or_default();
    let chosen = cases().into_iter().zip(0..);
    for (case, number) in chosen.filter(|(case, _)| case.name.contains(&only)) {
        let peer = arena.peer("scanner")?;
        let second = matches!(case.how, How::Pair(_))
            .then(|| peer.second_v6())
            .transpose()?;
        attacks.push(Attack {
            case,
            peer,
            second,
            first_port: 1100 + 60 * number,
        });
    }
    let _web = Nginx::start(&arena.edge.host, &arena.edge.scratch, &[WEB])?;
    let lines = format!("block_for = \"{BLOCK_SECONDS}s\"");
    let daemon = Edgefilter::enable(&arena.edge.host, &arena.edge.scratch, &policy("", &lines))?;
    eprintln!("ready after {:.1} s", begin.elapsed().as_secs_f64());
    let capture = Capture::start(&arena.edge.host, "eth0")?;

    let mut wrong = run_all(&attacks, &arena, &daemon);
    if daemon.filtering() {
        let records = scans(&daemon)?;
        for attack in &attacks {
            let judged = attack.judge(&records);
            wrong.extend(
                judged
                    .err()
                    .map(|error| format!("{}: {error:#}", attack.case.name)),
            );
        }
        if records.len() != attacks.len() {
            wrong.push(format!(
                "{} records of {} scans",
                records.len(),
                attacks.len()
            ));
        }
        let limit = Duration::from_secs(3 * BLOCK_SECONDS);
        match all_gone(&daemon, &arena, limit) {
            Ok(took) => eprintln!("all blocks gone {:.1} s later", took.as_secs_f64()),
            Err(error) => wrong.push(format!("{error:#}")),
        }
    } else {
        let frames = capture.finish();
        for attack in &attacks {
            let probes = frames
                .iter()
                .filter(|frame| from(frame, attack).unwrap_or(false));
            let probes = probes.count() as u64;
            eprintln!("{}: {probes} probes", attack.case.name);
            if probes < attack.case.most.min(FULL) {
                wrong.push(format!("{}: only {probes} probes", attack.case.name));
            }
        }
    }
    for attack in &attacks {
        let (seen, words) = attack.visit(WORKS)?;
        if seen != Seen::Works {
            wrong.push(format!("{}: afterwards {seen}: {words}", attack.case.name));
        }
    }
    eprintln!("{:.1} s in all", begin.elapsed().as_secs_f64());
    ensure!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), daemon.log());
    Ok(())
}

/// Starts one after the other, and waits for all.
fn run_all(attacks: &[Attack], arena: &Arena, daemon: &Edgefilter) -> Vec<String> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = attacks
            .iter()
            .map(|attack| {
                let thread = scope.spawn(|| attack.run(arena, daemon).context(attack.case.name));
                let by_itself = attack.case.name.contains("-D ") || attack.case.name == "-sS";
                std::thread::sleep(if by_itself { 8 * STAGGER } else { STAGGER });
                thread
            })
            .collect();
        threads
            .into_iter()
            .filter_map(|thread| {
                let done = thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                done.err().map(|error| format!("{error:#}"))
            })
            .collect()
    })
}

/// Whether a frame is of an attack.
fn from(frame: &[u8], attack: &Attack) -> Option<bool> {
    let source: IpAddr = if attack.six() {
        let octets: [u8; 16] = frame.get(22..38)?.try_into().ok()?;
        octets.into()
    } else {
        let octets: [u8; 4] = frame.get(26..30)?.try_into().ok()?;
        octets.into()
    };
    let wanted = attack.involved().ok()?;
    Some(wanted.iter().any(|net| net.contains(&source)))
}
