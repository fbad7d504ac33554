//! What is open to whom, as text.

use std::fmt::Write as _;

use super::printable;
use super::table::{self, RED, YELLOW, paint};
use crate::exposure::{Exposure, Finding, Kind, Listener};

impl Exposure {
    /// For people.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut text = String::new();
        let header = [
            "finding", "protocol", "ports", "address", "process", "profile", "to", "rules",
        ];
        if !self.findings.is_empty() {
            let rows = self.findings.iter().map(|finding| row(finding, colour));
            text.push_str(&table::render(&header, rows, header.len()));
        }
        // Writing into a String cannot fail.
        if !self.loopback.is_empty() {
            let _ = writeln!(text, "\nthis host only:");
            for listener in &self.loopback {
                let _ = writeln!(
                    text,
                    "  {} {} port {}: {}",
                    printable(&listener.protocol),
                    listener.address,
                    listener.port,
                    who(listener)
                );
            }
        }
        for remark in &self.remarks {
            let _ = writeln!(
                text,
                "{}: {}",
                paint("note", YELLOW, colour),
                printable(remark)
            );
        }
        text
    }
}

fn row(finding: &Finding, colour: bool) -> Vec<String> {
    let kind = match finding.kind {
        Kind::OpenToWorld => paint(finding.kind.name(), RED, colour),
        kind => kind.name().to_owned(),
    };
    let listener = finding.listener.as_ref();
    let to = match finding.kind {
        Kind::Closed => "nobody".to_owned(),
        _ if finding.prefixes == 0 => "everybody".to_owned(),
        _ if finding.prefixes == 1 => "1 prefix".to_owned(),
        _ => format!("{} prefixes", finding.prefixes),
    };
    vec![
        kind,
        printable(&finding.protocol),
        finding.ports.clone(),
        listener.map_or_else(|| "-".to_owned(), |listener| listener.address.to_string()),
        listener.map_or_else(|| "-".to_owned(), who),
        printable(&finding.profile),
        to,
        if finding.rules.is_empty() {
            "-".to_owned()
        } else {
            printable(&finding.rules.join(","))
        },
    ]
}

/// `nginx (813)`
fn who(listener: &Listener) -> String {
    match (&listener.container, &listener.process) {
        (Some(container), _) => printable(&format!("container {container}")),
        (None, Some(process)) => {
            printable(&format!("{process} ({})", listener.pid.unwrap_or_default()))
        }
        (None, None) => format!("user {}", listener.uid),
    }
}
