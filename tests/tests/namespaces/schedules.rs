//! Rules that count for a time only, in a daemon that runs.

use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::topology::HOST_V4;
use edgefilter_tests::netns::{Edge, wait_until};
use edgefilter_tests::programs::Edgefilter;
use edgefilter_tests::programs::echo::Echo;
use filter_user::report::time::rfc3339;

use crate::support::{WORKS, allow, alone, can_run};

const ALWAYS: u16 = 7001;
const TIMED: u16 = 7002;
const PAUSE: Duration = Duration::from_millis(10);
/// How late a rule may begin, and end.
const LATE: Duration = Duration::from_secs(1);

#[test]
fn a_rule_counts_from_its_first_second_to_its_last() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = alone();
    let edge = Edge::standard()?;
    let _echoes = (
        Echo::udp(&edge.host, ALWAYS)?,
        Echo::udp(&edge.host, TIMED)?,
    );
    let always = allow("udp", &[ALWAYS]);
    let mut daemon = Edgefilter::enable(&edge.host, &edge.scratch, &always)?;
    if !daemon.filtering() {
        return Ok(());
    }
    let now = SystemTime::now();
    let (from, until) = (now + Duration::from_secs(3), now + Duration::from_secs(6));
    daemon.replace_policy(&format!(
        "{always}[[profiles.edge.allow]]\nid = \"timed\"\nprotocol = \"udp\"\nports = {TIMED}\n\
         valid_from = \"{}\"\nvalid_until = \"{}\"\n",
        rfc3339(from),
        rfc3339(until)
    ))?;
    daemon.hang_up()?;
    wait_until(WORKS, || {
        daemon
            .status()
            .is_ok_and(|status| status["policy"]["rules"] == 2)
    })
    .with_context(|| format!("not reloaded: {}", daemon.log()))?;
    ensure!(SystemTime::now() < from, "this machine is too slow for it");

    let before = daemon.counters()?;
    let answered = edge.client.inside(|| ask(until + 2 * LATE))??;
    let (Some(first), Some(last)) = (answered.first(), answered.last()) else {
        anyhow::bail!("the rule never counted: {}", daemon.log());
    };
    ensure!(
        *first >= from,
        "open {:?} before its time",
        from.duration_since(*first)
    );
    let (late, over) = (first.duration_since(from)?, last.duration_since(until));
    ensure!(late < LATE, "open {late:?} after its time");
    let over = over.unwrap_or_default();
    ensure!(over < LATE, "open {over:?} after its end");
    let open = last.duration_since(*first)?;
    ensure!(
        open > Duration::from_secs(2),
        "open for {open:?} of 3 s only"
    );
    let counters = daemon.counters()?;
    ensure!(counters.went_back(&before).is_empty());
    ensure!(
        counters.rule("timed") >= answered.len() as u64,
        "{} were answered, {} counted",
        answered.len(),
        counters.rule("timed")
    );
    println!(
        "open {late:?} after its first moment, for {open:?}; closed at most {:?} after its last",
        over + PAUSE
    );
    Ok(())
}

/// Asks both services again and again; returns when those questions were asked that the timed one answered. The other
/// one has to answer all the time.
fn ask(end: SystemTime) -> Result<Vec<SystemTime>> {
    let socket = |port| -> Result<UdpSocket> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((HOST_V4, port))?;
        Ok(socket)
    };
    let (always, timed) = (socket(ALWAYS)?, socket(TIMED)?);
    always.set_read_timeout(Some(WORKS))?;
    timed.set_nonblocking(true)?;
    let mut asked = Vec::new();
    let mut answered = Vec::new();
    let mut buffer = [0; 64];
    while SystemTime::now() < end {
        let number = u32::try_from(asked.len())?;
        asked.push(SystemTime::now());
        // the first byte says how long to wait with the answer
        timed.send(&[&[0], &number.to_be_bytes()[..]].concat())?;
        always.send(&[0])?;
        always
            .recv(&mut buffer)
            .context("the rule without times does not count")?;
        std::thread::sleep(PAUSE);
        while let Ok(5) = timed.recv(&mut buffer) {
            let number = u32::from_be_bytes(buffer[1..5].try_into()?);
            answered.extend(asked.get(number as usize));
        }
    }
    Ok(answered)
}
