//! Requests that nobody should send: random bytes, requests with mistakes in them, random documents for every operation,
//! clients that are slow or break off. What they do to the daemon is measured from outside.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::operations::Operation;
use super::{Answer, connect_as, parse};
use crate::programs::Edgefilter;
use crate::random::dice::Dice;

/// Users beside root: one with a role for each that may do something, and one without.
const USERS: [u32; 4] = [61_000, 61_001, 61_002, 61_003];
/// One request in so many is sent by another user than root.
const OTHERS: usize = 50;
/// One request in so many is sent slowly.
const SLOW: usize = 1000;
const PAUSE: Duration = Duration::from_millis(3);
/// Longest an answer may take: far longer than any operation may.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is fuzzed, with what.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The control socket.
    pub socket: PathBuf,
    /// What there is to ask.
    pub operations: Vec<Operation>,
    /// The same numbers make the same requests.
    pub seed: u64,
    /// How many.
    pub requests: u64,
    /// Threads that send.
    pub workers: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Requests sent.
    pub sent: AtomicU64,
    /// Answers by their first digit; 0: closed without one.
    pub answers: [AtomicU64; 6],
}

impl Outcome {
    /// For people.
    pub fn line(&self) -> String {
        let count = |index: usize| self.answers[index].load(Ordering::Relaxed);
        format!(
            "{} requests: {} answered 2xx, {} 4xx, {} 5xx, {} closed without an answer",
            self.sent.load(Ordering::Relaxed),
            count(2),
            count(4),
            count(5),
            count(0)
        )
    }
}

impl Campaign {
    /// Sends everything. An error is a request that got something else than an answer or an end.
    pub fn run(&self, progress: impl Fn(&Outcome) + Sync) -> Result<Outcome> {
        let outcome = Outcome::default();
        std::thread::scope(|scope| {
            let (outcome, progress) = (&outcome, &progress);
            let threads: Vec<_> = (0..self.workers)
                .map(|number| scope.spawn(move || self.work(number, outcome, progress)))
                .collect();
            for thread in threads {
                match thread.join() {
                    Ok(done) => done?,
                    Err(_) => bail!("a worker panicked"),
                }
            }
            Ok(())
        })?;
        Ok(outcome)
    }

    /// One worker's share.
    fn work(&self, number: u64, outcome: &Outcome, progress: &impl Fn(&Outcome)) -> Result<()> {
        let share = self.requests / self.workers + u64::from(number < self.requests % self.workers);
        for index in 0..share {
            let seed = self.seed ^ (number << 48) ^ (index << 8);
            let mut dice = Dice::new(seed);
            let answer = self
                .one(&mut dice)
                .with_context(|| format!("seed {seed:#x}"))?;
            let class = usize::from(answer.code / 100).min(5);
            outcome.answers[class].fetch_add(1, Ordering::Relaxed);
            outcome.sent.fetch_add(1, Ordering::Relaxed);
            if number == 0 && index % 1024 == 0 {
                progress(outcome);
            }
        }
        Ok(())
    }

    fn one(&self, dice: &mut Dice) -> Result<Answer> {
        let (request, whole) = self.request(dice);
        let uid = if dice.below(OTHERS) == 0 {
            dice.pick(&USERS)
        } else {
            0
        };
        let slow = dice.below(SLOW) == 0;
        let broken_off = dice.percent(10);
        let end = if broken_off {
            End::Gone
        } else if whole {
            End::Waits
        } else {
            End::Shut
        };
        send(&self.socket, uid, &request, slow, end)
    }

    /// The bytes of one request, and whether it is a whole one.
    fn request(&self, dice: &mut Dice) -> (Vec<u8>, bool) {
        let kind = dice.weighted(&[10, 30, 40, 10, 10]);
        let bytes = match kind {
            0 => bytes(dice, 2048),
            1 => {
                let mut request = self.sound(dice);
                mutate(dice, &mut request);
                request
            }
            2 => {
                let operation = dice.pick(&self.operations);
                let body = document(dice, &operation.fields, 4).to_string();
                text(&operation.method, &operation.path, &body).into_bytes()
            }
            3 => self.odd_head(dice),
            _ => self.sound(dice),
        };
        (bytes, matches!(kind, 2 | 4))
    }

    /// A request as it should be, with a query now and then.
    fn sound(&self, dice: &mut Dice) -> Vec<u8> {
        let operation = dice.pick(&self.operations);
        let mut path = operation.path.clone();
        // whoever follows is not let go, so that is not asked
        let query: Vec<_> = operation
            .query
            .iter()
            .filter(|name| *name != "follow")
            .collect();
        if !query.is_empty() && dice.percent(50) {
            let value = document(dice, &[], 0).to_string().replace(['"', ' '], "");
            path = format!("{path}?{}={value}", dice.pick(&query));
        }
        text(&operation.method, &path, &operation.body).into_bytes()
    }

    /// Heads that contradict themselves, or go on and on.
    fn odd_head(&self, dice: &mut Dice) -> Vec<u8> {
        let operation = dice.pick(&self.operations);
        let method = dice.pick(&[
            "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "CONNECT", "PRI", "get",
        ]);
        let path = match dice.below(4) {
            0 => format!("{}/{}", operation.path, "../".repeat(dice.below(100))),
            1 => format!("/{}", "%2e%00%ff/".repeat(dice.below(200))),
            2 => "*".to_owned(),
            _ => operation.path,
        };
        let length = dice.pick(&[
            "0",
            "-1",
            "18446744073709551616",
            "99999999999",
            "3",
            "+3",
            "3, 3",
            "x",
            "",
        ]);
        let more = match dice.below(7) {
            0 => "transfer-encoding: chunked\r\n".to_owned(),
            1 => "transfer-encoding: chunked, gzip\r\n".to_owned(),
            2 => "x: y\r\n".repeat(dice.below(300)),
            3 => format!("x: {}\r\n", "y".repeat(dice.below(40_000))),
            4 => "expect: 100-continue\r\n".to_owned(),
            5 => "connection: upgrade\r\nupgrade: websocket\r\n".to_owned(),
            _ => format!("content-length: {length}\r\n"),
        };
        let body = match dice.below(4) {
            0 => "3\r\nabc\r\n0\r\n\r\n".to_owned(),
            1 => "ffffffffffffffff\r\n".to_owned(),
            2 => "{}".repeat(dice.below(20_000)),
            _ => String::new(),
        };
        format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{more}\r\n{body}"
        )
        .into_bytes()
    }
}

/// What a client does once it has sent its request.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Waits for the answer.
    Waits,
    /// Says that no more comes, since the daemon would wait for the rest of it.
    Shut,
    /// Goes away.
    Gone,
}

fn text(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn send(socket: &Path, uid: u32, request: &[u8], slow: bool, end: End) -> Result<Answer> {
    let mut stream = connect_as(socket, uid)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // the daemon may answer and close at any time
    if slow {
        for piece in request.chunks(request.len().div_ceil(5).max(1)) {
            if stream.write_all(piece).is_err() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
    } else {
        let _ = stream.write_all(request);
    }
    match end {
        End::Gone => return Ok(Answer::default()),
        End::Shut => drop(stream.shutdown(Shutdown::Write)),
        End::Waits => {}
    }
    let mut bytes = Vec::new();
    match stream.take(1 << 20).read_to_end(&mut bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            bail!(
                "no answer and no end within {PATIENCE:?} to {:?}",
                String::from_utf8_lossy(request)
            )
        }
        _ => Ok(parse(&bytes)),
    }
}

fn bytes(dice: &mut Dice, most: usize) -> Vec<u8> {
    (0..dice.below(most)).map(|_| dice.u64() as u8).collect()
}

fn mutate(dice: &mut Dice, request: &mut Vec<u8>) {
    for _ in 0..dice.within(1..=8) {
        let at = dice.below(request.len());
        match dice.below(6) {
            _ if request.is_empty() => return,
            0 => request[at] ^= 1 << dice.below(8),
            1 => request[at] = dice.u64() as u8,
            2 => drop(request.remove(at)),
            3 => request.insert(at, dice.pick(b"\r\n\0 :/?{}[]\",")),
            4 => request.truncate(at),
            _ => {
                let piece = request[at..].to_vec();
                request.extend(piece);
            }
        }
    }
}

/// Any document, with known names of fields in it.
fn document(dice: &mut Dice, fields: &[String], depth: usize) -> Value {
    match dice.below(if depth == 0 { 6 } else { 9 }) {
        0 => Value::Null,
        1 => json!(dice.percent(50)),
        2 => json!(dice.pick(&[0_i64, 1, -1, 60, i64::MAX, i64::MIN, 1 << 32])),
        3 => json!(dice.pick(&[0.5, -0.0, 1e308, 1e-308])),
        4 => json!(dice.pick(&[
            "",
            "198.51.100.9",
            "2001:db8::/64",
            "0.0.0.0/0",
            "\u{0}",
            "\u{202e}",
            "tcp/443",
            "1h",
            "2030-01-01T00:00:00Z",
            "../../etc/passwd",
            "a",
        ])),
        5 => json!("x".repeat(dice.below(5000))),
        6 => (0..dice.below(8))
            .map(|_| document(dice, fields, depth - 1))
            .collect(),
        _ => {
            let mut object = Map::new();
            for _ in 0..dice.below(6) {
                let name = if fields.is_empty() || dice.percent(10) {
                    "x".repeat(dice.below(20))
                } else {
                    dice.pick(fields)
                };
                object.insert(name, document(dice, fields, depth - 1));
            }
            object.into()
        }
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Resident memory, in KiB.
    pub memory: u64,
    /// Open files.
    pub files: usize,
    /// Threads.
    pub threads: u64,
}

/// Looks at a process.
pub fn holdings(pid: u32) -> Result<Holdings> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let number = |key: &str| {
        status
            .lines()
            .find_map(|line| {
                line.strip_prefix(key)?
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            })
            .with_context(|| format!("no {key}"))
    };
    Ok(Holdings {
        memory: number("VmRSS:")?,
        files: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        threads: number("Threads:")?,
    })
}

/// What a campaign did to a daemon.
#[derive(Debug)]
pub struct Judged {
    /// The answers.
    pub outcome: Outcome,
    /// What the daemon held once it had answered some.
    pub before: Holdings,
    /// And in the end.
    pub after: Holdings,
}

impl Judged {
    /// For people.
    pub fn line(&self) -> String {
        let (before, after) = (self.before, self.after);
        format!(
            "{}; daemon before and after: {} and {} KiB, {} and {} open files, {} and {} threads; policy unchanged",
            self.outcome.line(),
            before.memory,
            after.memory,
            before.files,
            after.files,
            before.threads,
            after.threads
        )
    }
}

/// Share of the requests after which memory is looked at first: caches and tables are filled by then.
const WARM: u64 = 20;
/// Growth of memory from then on that is no leak: stacks of threads that come and go, what the allocator keeps of long
/// answers (lists of up to 4096 audit records are made for several at a time, and the record grows meanwhile). With a
/// million requests a leak of 17 bytes each is seen.
const GROWTH: u64 = 16 << 10;

/// Runs the campaign; an error if the daemon crashed, leaks, holds files or has another policy than before.
pub fn judge(
    daemon: &Edgefilter,
    campaign: &Campaign,
    progress: impl Fn(&Outcome) + Sync,
) -> Result<Judged> {
    let pid = daemon.pid().context("no daemon runs")?;
    let policy = |daemon: &Edgefilter| {
        Ok::<_, anyhow::Error>(daemon.status()?["policy"]["fingerprint"].clone())
    };
    let known = policy(daemon)?;
    let warm = Campaign {
        requests: campaign.requests / WARM,
        seed: !campaign.seed,
        ..campaign.clone()
    };
    warm.run(|_| {})?;
    let before = settled(pid, None)?;
    let outcome = campaign.run(progress)?;
    let after = settled(pid, Some(before.files))?;
    let judged = Judged {
        outcome,
        before,
        after,
    };
    ensure!(daemon.pid() == Some(pid), "another daemon runs");
    ensure!(
        policy(daemon)? == known,
        "the policy was changed: {}",
        judged.line()
    );
    ensure!(
        after.files == before.files,
        "files are left open: {}",
        judged.line()
    );
    ensure!(
        after.memory < before.memory + GROWTH,
        "memory grows: {}",
        judged.line()
    );
    ensure!(
        !daemon.log().contains("panicked"),
        "something panicked: {}",
        daemon.log()
    );
    Ok(judged)
}

/// Connections end a moment after their clients: waits for the number of files, or for one that stays.
fn settled(pid: u32, files: Option<usize>) -> Result<Holdings> {
    let mut last = holdings(pid)?;
    for _ in 0..150 {
        std::thread::sleep(Duration::from_millis(200));
        let now = holdings(pid)?;
        if now.files == files.unwrap_or(last.files) {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}
