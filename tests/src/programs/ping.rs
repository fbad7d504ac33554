//! The ping program, IPv4 and IPv6.

use std::time::Duration;

use anyhow::Result;

use super::checks::Seen;
use crate::netns::Namespace;

/// Sends `count` echo requests 100 ms apart, waits a second for the last answer. Works only when
/// each was answered; an error message by a router counts as reached.
pub fn ping(namespace: &Namespace, address: &str, count: u32) -> Result<(Seen, String)> {
    ping_with(namespace, address, count, &[])
}

/// `ping` with further arguments, such as `-s 8000 -M do`.
pub fn ping_with(
    namespace: &Namespace,
    address: &str,
    count: u32,
    extra: &[&str],
) -> Result<(Seen, String)> {
    let text = count.to_string();
    let mut words = vec!["ping", "-n", "-c", &text, "-i", "0.1", "-W", "1"];
    words.extend(extra);
    words.push(address);
    let done = namespace.try_run(&words, Duration::from_secs(10 + u64::from(count)))?;
    let summary = done
        .stdout
        .lines()
        .find(|line| line.contains("packets transmitted"))
        .unwrap_or_else(|| done.stderr.trim())
        .to_owned();
    let received: u32 = summary
        .split(", ")
        .find_map(|part| part.strip_suffix(" received")?.parse().ok())
        .unwrap_or(0);
    let seen = if received == count {
        Seen::Works
    } else if received > 0 || done.stdout.contains("nreachable") {
        Seen::Reached
    } else {
        Seen::Nothing
    };
    Ok((seen, summary))
}
