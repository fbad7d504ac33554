//! What becomes of a packet, as text.

use std::fmt::Write as _;

use super::printable;
use super::table::{GREEN, RED, YELLOW, paint};
use crate::explain::{Explanation, Flow, Verdict};

/// All about it.
#[must_use]
pub fn explanation(explained: &Explanation, colour: bool) -> String {
    let (word, shade) = match explained.verdict {
        Verdict::Pass => ("passes", GREEN),
        Verdict::Drop => ("dropped", RED),
        Verdict::WouldDrop => ("passes, for the profile does not enforce", YELLOW),
    };
    let mut text = format!(
        "{}: {}\n{}\n",
        paint(word, shade, colour),
        explained.reason,
        explained.meaning
    );
    let mut line = |name: &str, value: String| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "  {name:<10}{value}");
    };
    let way = if explained.out { "out by" } else { "in by" };
    let judge = match &explained.profile {
        Some(profile) if explained.enforce => format!("profile {}", printable(profile)),
        Some(profile) => format!("profile {}, monitor mode", printable(profile)),
        None => "no profile".to_owned(),
    };
    line(
        "interface",
        format!("{way} {}, {judge}", printable(&explained.interface)),
    );
    if let Some(rule) = &explained.rule {
        let mut value = printable(&rule.id);
        if let (Some(file), Some(at)) = (&rule.file, rule.line) {
            let _ = write!(value, " ({}:{at})", printable(file));
        }
        if !rule.text.is_empty() {
            let _ = write!(value, ": {}", printable(&rule.text));
        }
        line("rule", value);
    }
    if let Some(source) = &explained.source {
        let mut value = source.address.to_string();
        if !source.listed.is_empty() {
            let _ = write!(value, ", in {}", printable(&source.listed.join(", ")));
        }
        if let Some(until) = &source.blocked_until {
            let _ = write!(value, ", blocked until {}", printable(until));
        }
        line("source", value);
    }
    if let Some(flow) = &explained.flow {
        line("flow", self::flow(flow));
    }
    line("policy", format!("generation {}", explained.generation));
    text
}

/// `of 192.0.2.1 port 40000 with 198.51.100.7 port 53 (protocol 17)`
fn flow(flow: &Flow) -> String {
    let remote = if flow.remote.is_unspecified() {
        "whoever answers first".to_owned()
    } else {
        format!("{} port {}", flow.remote, flow.remote_port)
    };
    format!(
        "of {} port {} with {remote} (protocol {})",
        flow.local, flow.local_port, flow.protocol
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::{DecidedBy, Source};

    #[test]
    fn everything_that_decided_is_named() {
        let explained = Explanation {
            verdict: Verdict::Drop,
            reason: "drop_denied".to_owned(),
            meaning: "A deny rule matched.".to_owned(),
            rule: Some(DecidedBy {
                id: "bad".to_owned(),
                text: "abuse of 2026".to_owned(),
                file: Some("edge.toml".to_owned()),
                line: Some(7),
            }),
            interface: "eth0".to_owned(),
            out: false,
            profile: Some("edge".to_owned()),
            enforce: true,
            source: Some(Source {
                address: "198.51.100.7".parse().unwrap(),
                listed: vec!["@bad".to_owned()],
                blocked_until: None,
            }),
            flow: None,
            generation: 3,
            frame: String::new(),
        };
        assert_eq!(
            explanation(&explained, false),
            "dropped: drop_denied\nA deny rule matched.\n  interface in by eth0, profile edge\n  \
             rule      bad (edge.toml:7): abuse of 2026\n  source    198.51.100.7, in @bad\n  policy    generation 3\n"
        );
    }
}
