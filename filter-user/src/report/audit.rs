//! The record of control actions as text. The JSON form is that of the records themselves.

use std::fmt::Write as _;

use super::printable;
use super::table::{RED, YELLOW, paint};
use crate::access::{Actor, Via};
use crate::audit::{Outcome, Record, Verified};

/// A record on one line.
#[must_use]
pub fn record(record: &Record, colour: bool) -> String {
    let event = &record.event;
    let outcome = match event.outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Refused => paint("refused", YELLOW, colour),
        Outcome::Failed => paint("failed", RED, colour),
    };
    let mut text = format!(
        "{} #{} {} {} {outcome}: {}",
        printable(&record.time),
        record.seq,
        actor(&event.actor),
        printable(&event.action),
        printable(&event.subject)
    );
    let mut add = |before: &str, what: &str| {
        // Writing into a String cannot fail.
        let _ = write!(text, "; {before}{}", printable(what));
    };
    if let Some(why) = &event.why {
        add("", why);
    }
    if let Some(generation) = event.generation {
        add("generation ", &generation.to_string());
    }
    if !event.approvals.is_empty() {
        add("signed by ", &event.approvals.join(", "));
    }
    if let Some(message) = &event.message {
        add("said: ", message);
    }
    if let Some(repeated) = record.repeated {
        add("", &format!("{repeated} times more"));
    }
    text
}

fn actor(actor: &Actor) -> String {
    let name = printable(&actor.name);
    match &actor.via {
        Via::Socket { uid, .. } => format!("{name} (uid {uid})"),
        Via::Remote { address } => format!("{name} ({address})"),
        Via::Daemon { cause } => format!("{name} ({})", printable(cause)),
    }
}

/// What checking the record found.
#[must_use]
pub fn verified(verified: &Verified, colour: bool) -> String {
    let mut text = String::new();
    for problem in &verified.problems {
        let place = match problem.line {
            0 => printable(&problem.file),
            line => format!("{}:{line}", printable(&problem.file)),
        };
        let problem = printable(&problem.what);
        // Writing into a String cannot fail, hence the ignored results.
        let _ = writeln!(text, "{place}: {}", paint(&problem, RED, colour));
    }
    if verified.omitted > 0 {
        let _ = writeln!(text, "... and {} more", verified.omitted);
    }
    let files = verified.files;
    let records = match verified.first {
        Some(first) => format!(
            "{} records from #{first} on in {files} files",
            verified.records
        ),
        None => "no records".to_owned(),
    };
    let state = if verified.ok {
        "the record is whole"
    } else {
        "the record is NOT whole"
    };
    let _ = writeln!(text, "{state}: {records}");
    if let Some(head) = &verified.head {
        let _ = writeln!(text, "head {head}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;
    use crate::audit::{Event, GENESIS, Problem};

    #[test]
    fn lines_for_people() {
        let mut shown = Record {
            seq: 7,
            time: "2026-01-02T00:00:00.000Z".to_owned(),
            event: Event {
                actor: Actor {
                    name: "alice".to_owned(),
                    role: Some(Role::Admin),
                    via: Via::Socket {
                        uid: 1000,
                        gid: 1000,
                        pid: 1,
                    },
                },
                action: "policy.apply".to_owned(),
                subject: "edge.toml".to_owned(),
                message: Some("web\u{1b}[2J".to_owned()),
                before: None,
                after: None,
                generation: Some(3),
                approvals: vec!["bob".to_owned(), "carol".to_owned()],
                outcome: Outcome::Done,
                why: None,
            },
            repeated: None,
            previous: GENESIS.to_owned(),
            hash: GENESIS.to_owned(),
        };
        assert_eq!(
            record(&shown, false),
            "2026-01-02T00:00:00.000Z #7 alice (uid 1000) policy.apply done: edge.toml; generation 3; signed by bob, \
             carol; said: web\u{fffd}[2J"
        );
        shown.event = Event {
            actor: Actor::daemon("watch"),
            message: None,
            generation: None,
            approvals: Vec::new(),
            outcome: Outcome::Refused,
            why: Some("it is not signed".to_owned()),
            ..shown.event
        };
        shown.repeated = Some(4);
        assert_eq!(
            record(&shown, true),
            "2026-01-02T00:00:00.000Z #7 edgefilter (watch) policy.apply \u{1b}[33mrefused\u{1b}[0m: edge.toml; it is \
             not signed; 4 times more"
        );
    }

    #[test]
    fn what_checking_found() {
        let mut found = Verified {
            ok: true,
            files: 2,
            records: 9,
            first: Some(3),
            head: Some("11:ab".to_owned()),
            problems: Vec::new(),
            omitted: 0,
        };
        assert_eq!(
            verified(&found, false),
            "the record is whole: 9 records from #3 on in 2 files\nhead 11:ab\n"
        );
        found.ok = false;
        found.omitted = 2;
        found.problems = [("audit.jsonl", 4), ("head", 0)]
            .map(|(file, line)| Problem {
                file: file.to_owned(),
                line,
                what: "wrong".to_owned(),
            })
            .into();
        assert_eq!(
            verified(&found, false),
            "audit.jsonl:4: wrong\nhead: wrong\n... and 2 more\nthe record is NOT whole: 9 records from #3 on in 2 files\n\
             head 11:ab\n"
        );
    }
}
