//! nmap scans, bounded in ports and time, read from its grepable output.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};

use super::checks::Seen;
use crate::netns::{Namespace, Running};

/// The kinds of scan used here, each nmap's flag of the same letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// -sS
    Syn,
    /// -sA
    Ack,
    /// -sF
    Fin,
    /// -sN
    Null,
    /// -sX
    Xmas,
    /// -sU
    Udp,
}

impl Scan {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Syn,
        Self::Ack,
        Self::Fin,
        Self::Null,
        Self::Xmas,
        Self::Udp,
    ];

    /// The name people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Syn => "SYN",
            Self::Ack => "ACK",
            Self::Fin => "FIN",
            Self::Null => "NULL",
            Self::Xmas => "XMAS",
            Self::Udp => "UDP",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Syn => "-sS",
            Self::Ack => "-sA",
            Self::Fin => "-sF",
            Self::Null => "-sN",
            Self::Xmas => "-sX",
            Self::Udp => "-sU",
        }
    }
}

/// What nmap says about a port, in its words: open, closed, filtered, unfiltered, open|filtered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The word as it stands in nmap's output.
    pub state: String,
}

impl Port {
    /// Open needs an answer of the service; closed and unfiltered one of the host; filtered and
    /// open|filtered are nmap's words for silence.
    pub fn seen(&self) -> Seen {
        match self.state.as_str() {
            "open" => Seen::Works,
            "closed" | "unfiltered" => Seen::Reached,
            _ => Seen::Nothing,
        }
    }
}

/// Scans `ports` of one address and returns the state of each.
pub fn nmap(
    namespace: &Namespace,
    address: &str,
    scan: Scan,
    ports: &[u16],
) -> Result<BTreeMap<u16, Port>> {
    let list: Vec<String> = ports.iter().map(u16::to_string).collect();
    let list = list.join(",");
    let mut words = vec![
        "nmap",
        "-n",
        "-Pn",
        "--disable-arp-ping",
        scan.flag(),
        "-p",
        &list,
    ];
    words.extend([
        "-T4",
        "--max-retries",
        "1",
        "--initial-rtt-timeout",
        "250ms",
        "--max-rtt-timeout",
        "400ms",
    ]);
    // Closed UDP ports answer by ICMP; without this nmap slows down to one probe a second.
    words.extend(["--min-rate", "100", "--host-timeout", "20s", "-oG", "-"]);
    if address.contains(':') {
        words.push("-6");
    }
    words.push(address);
    let done = namespace
        .try_run(&words, Duration::from_secs(30))?
        .require()?;
    let found = parse(&done.stdout);
    anyhow::ensure!(
        ports.iter().all(|port| found.contains_key(port)),
        "nmap left ports out: {}{}",
        done.stdout.trim(),
        done.stderr.trim()
    );
    Ok(found)
}

/// Starts nmap as somebody types it, without name look-ups: only what arrives of it counts.
pub fn nmap_as_typed(namespace: &Namespace, arguments: &str) -> Result<Running> {
    let mut words = vec!["nmap", "-n", "--host-timeout", "40s"];
    words.extend(arguments.split_whitespace());
    namespace.start(&words)
}

/// `Ports: 22/filtered/tcp//ssh///, 443/open/tcp//https///` and, for ports left out of the list
/// because many share one state, `Ignored State: closed (3)` is turned off by listing few ports.
fn parse(text: &str) -> BTreeMap<u16, Port> {
    let ports = text
        .lines()
        .find_map(|line| line.split("Ports: ").nth(1))
        .unwrap_or_default();
    let ports = ports.split('\t').next().unwrap_or_default();
    ports
        .split(", ")
        .filter_map(|entry| parse_port(entry).ok())
        .collect()
}

fn parse_port(entry: &str) -> Result<(u16, Port)> {
    let mut fields = entry.trim().split('/');
    let number = fields.next().context("no port")?.parse()?;
    let state = fields.next().context("no state")?.to_owned();
    Ok((number, Port { state }))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn grepable_output_is_read() {
        let text = "# Nmap\nHost: 10.0.0.1 ()\tStatus: Up\nHost: 10.0.0.1 ()\tPorts: \
                    22/filtered/tcp//ssh///, 443/open/tcp//https///\tIgnored State: closed (1)\n";
        let found = parse(text);
        assert_eq!(found[&22].state, "filtered");
        assert_eq!(found[&443].state, "open");
        assert_eq!(found.len(), 2);
    }
}
