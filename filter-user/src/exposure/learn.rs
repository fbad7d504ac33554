//! A first policy, from what listens and what was refused, or would have been. It is written for a person to read: each
//! rule stands below its evidence, and what there is no evidence for is written as a comment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Kind, Listener};
use crate::report::event::EventRecord;
use crate::report::printable;

/// Most ports, and most sources of one, that are told apart.
const PORTS: usize = 4096;
const SOURCES: usize = 64;
/// Most refused ports without a listener that are listed.
const REFUSED: usize = 32;

/// What is known beside the listeners.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Protocol and port: who came.
    seen: BTreeMap<(String, u16), Callers>,
    icmp: BTreeSet<u8>,
    icmp6: BTreeSet<u8>,
    /// Packets looked at.
    pub samples: u64,
}

#[derive(Clone, Debug, Default)]
struct Callers {
    packets: u64,
    sources: BTreeSet<IpAddr>,
    /// More came than are told apart.
    more: bool,
}

/// What is to be written.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The interface that the policy is for.
    pub interface: &'a str,
    /// Write it as to be enforced.
    pub enforce: bool,
    /// When, RFC 3339.
    pub now: &'a str,
    /// How long traffic was looked at; `None`: no daemon was there to ask.
    pub watched: Option<std::time::Duration>,
}

impl Evidence {
    /// Takes a sampled drop of this interface into account: somebody tried to open something.
    pub fn note(&mut self, event: &EventRecord, interface: &str) {
        let headers = &event.headers;
        let (Some(source), Some(protocol)) = (headers.source, headers.protocol) else {
            return;
        };
        let wanted = ["drop_port", "drop_source", "drop_icmp", "drop_protocol"];
        if event.interface != interface || !wanted.contains(&event.reason.as_ref()) {
            return;
        }
        self.samples += 1;
        let word = match protocol {
            1 => return self.icmp.extend(headers.icmp_type),
            58 => return self.icmp6.extend(headers.icmp_type),
            // only its first packet opens a connection
            6 if !headers
                .tcp_flags
                .as_ref()
                .is_some_and(|flags| flags.contains('S') && !flags.contains('A')) =>
            {
                return;
            }
            6 => "tcp",
            17 => "udp",
            132 => "sctp",
            _ => return,
        };
        let Some(port) = headers.destination_port else {
            return;
        };
        let key = (word.to_owned(), port);
        if self.seen.len() >= PORTS && !self.seen.contains_key(&key) {
            return;
        }
        let callers = self.seen.entry(key).or_default();
        callers.packets += 1;
        if callers.sources.len() < SOURCES {
            callers.sources.insert(source);
        } else {
            callers.more |= !callers.sources.contains(&source);
        }
    }
}

/// The policy's text. `open`: what the policy in force says of each listener, if there is one.
#[must_use]
pub fn write(
    order: &Order<'_>,
    listeners: &[Listener],
    open: impl Fn(&Listener) -> Option<(Kind, String)>,
    evidence: &Evidence,
) -> String {
    let mut text = head(order, evidence);
    let outside = listeners
        .iter()
        .filter(|listener| !listener.address.is_loopback());
    let mut services: BTreeMap<(String, u16), Vec<&Listener>> = BTreeMap::new();
    for listener in outside {
        services
            .entry((listener.protocol.clone(), listener.port))
            .or_default()
            .push(listener);
    }
    for ((protocol, port), list) in &services {
        let callers = evidence.seen.get(&(protocol.clone(), *port));
        let known = list.iter().find_map(|listener| open(listener));
        rule(&mut text, (protocol, *port), list, callers, known);
    }
    let refused = evidence
        .seen
        .iter()
        .filter(|(key, _)| !services.contains_key(*key));
    let refused: Vec<_> = refused.take(REFUSED).collect();
    if !refused.is_empty() {
        text.push_str("\n# Asked for, and nothing listens there:\n");
        for ((protocol, port), callers) in refused {
            line(
                &mut text,
                &format!("#   {protocol} {port}: {}", came(callers)),
            );
        }
    }
    text
}

fn head(order: &Order<'_>, evidence: &Evidence) -> String {
    let mut text = String::new();
    let watched = match order.watched {
        Some(time) => format!(
            "the sockets that listen, and {} of traffic ({} samples of what the policy in force refuses)",
            humantime::format_duration(time),
            evidence.samples
        ),
        None => {
            "the sockets that listen; no traffic was looked at, since no daemon runs".to_owned()
        }
    };
    line(
        &mut text,
        &format!(
            "# A first policy, written by `edgefilter learn` at {}. Evidence: {watched}.",
            order.now
        ),
    );
    line(
        &mut text,
        "# Read every rule before it is enforced: who came today is not who should come, and who did not come today is",
    );
    line(&mut text, "# missing. Then: edgefilter check FILE");
    line(&mut text, "\nversion = 1\n\n[profiles.edge]");
    line(
        &mut text,
        &format!("interfaces = [{}]", quoted(order.interface)),
    );
    line(
        &mut text,
        if order.enforce {
            "enforce = true"
        } else {
            "enforce = false # set it to true once `edgefilter counters` has nothing under would_drop that is missed"
        },
    );
    for (version, kinds) in [("v4", &evidence.icmp), ("v6", &evidence.icmp6)] {
        let kinds: Vec<String> = kinds.iter().map(u8::to_string).collect();
        if !kinds.is_empty() {
            line(
                &mut text,
                &format!(
                    "icmp.{version} = [{}] # types that came unasked: review this",
                    kinds.join(", ")
                ),
            );
        }
    }
    text
}

fn rule(
    text: &mut String,
    (protocol, port): (&str, u16),
    listeners: &[&Listener],
    callers: Option<&Callers>,
    known: Option<(Kind, String)>,
) {
    text.push('\n');
    for listener in listeners {
        let who = match (&listener.process, &listener.container) {
            (_, Some(container)) => format!("published for container {container}"),
            (Some(name), _) => format!(
                "{name}, process {}, user {}",
                listener.pid.unwrap_or_default(),
                listener.uid
            ),
            _ => format!(
                "a process that could not be looked at, user {}",
                listener.uid
            ),
        };
        line(
            text,
            &format!(
                "# {protocol} {} port {port}: {}",
                listener.address,
                printable(&who)
            ),
        );
    }
    let everybody = matches!(known, Some((Kind::OpenToWorld, _)));
    match &known {
        Some((Kind::OpenToWorld, rules)) => line(
            text,
            &format!("# The policy in force opens it to everybody ({rules}): review this."),
        ),
        Some((Kind::OpenToSome, rules)) => line(
            text,
            &format!(
                "# The policy in force opens it to some ({rules}), whom nothing is known of here: copy its `from`."
            ),
        ),
        _ => {}
    }
    if let Some(callers) = callers {
        line(
            text,
            &format!(
                "# Came, and was refused or would be: {}. Review this.",
                came(callers)
            ),
        );
    }
    let from = match callers {
        _ if everybody => Some("\"any\"".to_owned()),
        Some(callers) if callers.more => Some("\"any\"".to_owned()),
        Some(callers) => {
            let sources: Vec<String> = callers
                .sources
                .iter()
                .map(|source| quoted(&source.to_string()))
                .collect();
            Some(sources.join(", "))
        }
        None => None,
    };
    // without anybody who came there is nobody to name
    let mark = if from.is_some() { "" } else { "# " };
    if from.is_none() {
        line(
            text,
            "# Nobody was seen to come. To open it, say to whom and take the marks away:",
        );
    }
    let name = listeners
        .iter()
        .find_map(|listener| listener.process.as_deref())
        .unwrap_or("service");
    line(text, &format!("{mark}[[profiles.edge.allow]]"));
    line(
        text,
        &format!("{mark}id = {}", quoted(&id(name, protocol, port))),
    );
    line(text, &format!("{mark}protocol = {}", quoted(protocol)));
    line(text, &format!("{mark}ports = [{port}]"));
    line(
        text,
        &format!("{mark}from = [{}]", from.unwrap_or_default()),
    );
    line(text, &format!("{mark}to = \"self\""));
}

/// `12 packets from 192.0.2.7, 192.0.2.9`
fn came(callers: &Callers) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = callers
        .sources
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect();
    let rest = callers.sources.len().saturating_sub(SHOWN);
    let rest = match (callers.more, rest) {
        (true, rest) => format!(" and more than {rest} others"),
        (false, 0) => String::new(),
        (false, rest) => format!(" and {rest} others"),
    };
    format!(
        "{} packets from {}{rest}",
        callers.packets,
        shown.join(", ")
    )
}

/// Letters, digits and `-`. There is one rule a port.
fn id(name: &str, protocol: &str, port: u16) -> String {
    const NAME: usize = 40;
    let clean: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(NAME)
        .collect();
    let clean = clean.trim_start_matches('-');
    let clean = if clean.is_empty() { "service" } else { clean };
    format!("{clean}-{protocol}-{port}")
}

/// As TOML writes it. Names of interfaces may hold any byte but a blank and `/`.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn line(text: &mut String, line: &str) {
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{line}");
}
