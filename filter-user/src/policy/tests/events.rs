//! What streams tell: the table `events`, and `kinds` of `report`.

use super::*;

fn parts(text: &str) -> Policy {
    let text = format!("version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\n{text}");
    let loaded = load_text(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    loaded.policy
}

fn codes(text: &str) -> Vec<&'static str> {
    let text = format!("version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\n{text}");
    let errors = load_text(text.as_bytes()).unwrap_err();
    errors.errors().map(|error| error.code).collect()
}

#[test]
fn all_is_told_unless_the_policy_says_otherwise() {
    let policy = parts("");
    assert_eq!(policy.events, Events::default());
    assert!(policy.events.wants("drop_port", "eth0"));
    assert!(policy.report.wants("alert"));
    assert!(
        !parts("[events]\nenabled = false")
            .events
            .wants("drop_port", "eth0")
    );
}

#[test]
fn drops_are_chosen_by_reason_and_interface() {
    let events =
        parts("[events]\nreasons = [\"drop_denied\"]\ninterfaces = [\"eth*\", \"lo\"]").events;
    assert!(events.wants("drop_denied", "eth7"));
    assert!(events.wants("drop_denied", "lo"));
    assert!(!events.wants("drop_denied", "veth0"));
    assert!(!events.wants("drop_port", "eth0"));
    let none = parts("[events]\nreasons = []").events;
    assert!(
        !none.wants("drop_port", "eth0"),
        "an empty list names no reason"
    );
}

#[test]
fn reports_are_chosen_by_kind() {
    let report = parts("[report]\nkinds = [\"alert\", \"scan_closed\"]").report;
    assert!(report.wants("alert") && report.wants("scan_closed"));
    assert!(!report.wants("scan_updated"));
    let none = parts("[report]\nkinds = []").report;
    assert!(Reporting::KINDS.iter().all(|kind| !none.wants(kind)));
}

#[test]
fn samples_go_to_a_file_of_their_own() {
    let events = parts("[events.file]\npath = \"/var/log/drops.jsonl\"\nkeep = 2").events;
    let file = events.file.unwrap();
    assert_eq!(file.path, Path::new("/var/log/drops.jsonl"));
    assert_eq!(file.keep, 2);
}

#[test]
fn what_cannot_be_is_refused() {
    for (text, code) in [
        ("[events]\nreasons = [\"drop_prot\"]", "value"),
        ("[events]\nreasons = [\"pass_rule\"]", "value"),
        ("[events]\ninterfaces = [\"a b\"]", "interface"),
        ("[events]\nreason = []", "unknown-key"),
        ("[events.file]\npath = \"drops\"", "path"),
        ("[events.file]\nkeep = 2", "missing-key"),
        ("[report]\nkinds = [\"scans\"]", "value"),
        ("[events]\nenabled = 1", "wrong-type"),
    ] {
        assert_eq!(codes(text), [code], "{text}");
    }
}
