//! What another policy would make of a capture's packets, as text.

use std::fmt::Write as _;

use super::plan::protocol;
use super::printable;
use super::table::{GREEN, RED, YELLOW, paint};
use crate::explain::Verdict;
use crate::replay::{ChangedFlow, Judgement, Replayed};

/// All about it.
#[must_use]
pub fn replayed(found: &Replayed, colour: bool) -> String {
    let mut text = format!(
        "{} packets at {}: {} would be dropped that pass, {} would pass that are dropped",
        found.packets,
        printable(&found.interface),
        found.packets_closed,
        found.packets_opened
    );
    // Writing into a String cannot fail.
    if found.packets_monitored > 0 {
        let _ = write!(
            text,
            ", {} pass for another reason (monitor mode)",
            found.packets_monitored
        );
    }
    let _ = writeln!(text, "; flows: {}", found.flows);
    for flow in &found.first {
        let (sign, shade) = match (flow.before.verdict, flow.after.verdict) {
            (_, Verdict::Drop) => ("-", RED),
            (Verdict::Drop, _) => ("+", GREEN),
            _ => ("~", YELLOW),
        };
        let line = format!("{sign} {}", self::flow(flow));
        let _ = writeln!(text, "  {}", paint(&line, shade, colour));
    }
    let more = found.flows - (found.first.len() as u64).min(found.flows);
    if more > 0 {
        let _ = writeln!(text, "  and {more} more");
    }
    if found.unjudged > 0 {
        let _ = writeln!(text, "{} packets could not be judged", found.unjudged);
    }
    if found.incomplete {
        text += "there was no time for all packets: cut the capture (editcap -c)\n";
    }
    text
}

/// `tcp 192.0.2.1:8443 with 198.51.100.7:50000, 3 packets from packet 1: pass_rule (https) -> drop_port`
fn flow(flow: &ChangedFlow) -> String {
    let end = |address: Option<std::net::IpAddr>, port| match address {
        Some(address) => std::net::SocketAddr::new(address, port).to_string(),
        None => "?".to_owned(),
    };
    let what = if flow.local.is_some() {
        format!(
            "{} {} with {}",
            protocol(flow.protocol),
            end(flow.local, flow.local_port),
            end(flow.remote, flow.remote_port)
        )
    } else {
        "other packets".to_owned()
    };
    let plural = if flow.packets == 1 {
        "packet"
    } else {
        "packets"
    };
    printable(&format!(
        "{what}, {} {plural} from packet {}: {} -> {}",
        flow.packets,
        flow.packet,
        judgement(&flow.before),
        judgement(&flow.after)
    ))
}

fn judgement(judgement: &Judgement) -> String {
    match &judgement.rule {
        Some(rule) => format!("{} ({rule})", judgement.reason),
        None => judgement.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_have_both_verdicts() {
        let judgement = |verdict, reason: &str, rule: Option<&str>| Judgement {
            verdict,
            reason: reason.to_owned(),
            rule: rule.map(str::to_owned),
        };
        let found = Replayed {
            interface: "eth0".to_owned(),
            packets: 9,
            packets_closed: 3,
            flows: 2,
            first: vec![ChangedFlow {
                local: Some("192.0.2.1".parse().unwrap()),
                local_port: 8443,
                remote: Some("198.51.100.7".parse().unwrap()),
                remote_port: 50000,
                protocol: 6,
                packets: 3,
                packet: 1,
                out: false,
                before: judgement(Verdict::Pass, "pass_rule", Some("https")),
                after: judgement(Verdict::Drop, "drop_port", None),
            }],
            ..Replayed::default()
        };
        assert_eq!(
            replayed(&found, false),
            "9 packets at eth0: 3 would be dropped that pass, 0 would pass that are dropped; flows: 2\n  \
             - tcp 192.0.2.1:8443 with 198.51.100.7:50000, 3 packets from packet 1: pass_rule (https) -> drop_port\n  \
             and 1 more\n"
        );
    }
}
