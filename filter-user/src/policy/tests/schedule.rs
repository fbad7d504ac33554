//! Times of rules: windows over midnight, summer time, leap days, clocks that are set.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::super::*;
use super::{load_text, policy};

/// A policy with one rule that has these keys.
fn rule(keys: &str) -> Policy {
    policy(&format!(
        "zone = \"Europe/Berlin\"\n[profiles.edge]\ninterfaces = \"eth0\"\n\
         [[profiles.edge.allow]]\nid = \"web\"\nprotocol = \"tcp\"\n{keys}"
    ))
}

fn at(text: &str) -> SystemTime {
    SystemTime::from(text.parse::<Timestamp>().unwrap())
}

/// Whether the rule counts at each of these times.
fn counts(policy: &Policy, times: &[(&str, bool)]) {
    for (time, expected) in times {
        let active = policy.active(at(time));
        assert_eq!(
            active.has(&policy.profiles[0].allow[0]),
            *expected,
            "{time}"
        );
        assert_eq!(active.resting().count(), usize::from(!expected), "{time}");
    }
}

/// All changes from one time to another.
fn changes(policy: &Policy, from: &str, to: &str) -> Vec<String> {
    let (mut now, end) = (at(from), at(to));
    let mut list = Vec::new();
    while let Some(next) = policy.next_change(now) {
        assert!(next > now);
        if next > end {
            break;
        }
        list.push(Timestamp::try_from(next).unwrap().to_string());
        now = next;
    }
    list
}

#[test]
fn office_hours_follow_the_zone_and_its_summer_time() {
    let policy = rule("windows = [{ days = \"weekdays\", from = \"09:00\", to = \"18:00\" }]");
    counts(
        &policy,
        &[
            // Thursday in winter: one hour ahead
            ("2026-01-15T07:59:59Z", false),
            ("2026-01-15T08:00:00Z", true),
            ("2026-01-15T16:59:59Z", true),
            ("2026-01-15T17:00:00Z", false),
            // in summer: two
            ("2026-07-16T06:59:59Z", false),
            ("2026-07-16T07:00:00Z", true),
            // Saturday
            ("2026-01-17T10:00:00Z", false),
        ],
    );
    assert_eq!(
        changes(&policy, "2026-03-27T12:00:00Z", "2026-03-31T00:00:00Z"),
        // the clock was set forward on Sunday, the 29th
        [
            "2026-03-27T17:00:00Z",
            "2026-03-30T07:00:00Z",
            "2026-03-30T16:00:00Z"
        ]
    );
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
    let policy = rule("windows = [{ days = [\"fri\"], from = \"22:00\", to = \"06:00\" }]");
    counts(
        &policy,
        &[
            ("2026-01-16T20:59:59Z", false),
            ("2026-01-16T21:00:00Z", true),
            ("2026-01-16T23:30:00Z", true),
            ("2026-01-17T04:59:59Z", true),
            ("2026-01-17T05:00:00Z", false),
            // the morning of Friday belongs to Thursday
            ("2026-01-16T03:00:00Z", false),
        ],
    );
    // until midnight, and until the end of the day, are the same
    for end in ["00:00", "24:00"] {
        let policy = rule(&format!(
            "windows = [{{ days = \"sun\", from = \"12:00\", to = \"{end}\" }}]"
        ));
        assert_eq!(
            changes(&policy, "2026-01-18T00:00:00Z", "2026-01-20T00:00:00Z"),
            ["2026-01-18T11:00:00Z", "2026-01-18T23:00:00Z"]
        );
    }
}

#[test]
fn hours_that_are_skipped_or_come_twice() {
    // 02:00 to 03:00 does not exist on 2026-03-29
    let skipped = rule("windows = [{ from = \"02:15\", to = \"02:45\" }]");
    assert_eq!(
        changes(&skipped, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z"),
        ["2026-03-30T00:15:00Z", "2026-03-30T00:45:00Z"]
    );
    let cut = rule("windows = [{ from = \"02:30\", to = \"03:30\" }]");
    assert_eq!(
        changes(&cut, "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"),
        ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]
    );
    // and comes twice on 2026-10-25
    let twice = rule("windows = [{ from = \"02:15\", to = \"02:45\" }]");
    assert_eq!(
        changes(&twice, "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"),
        [
            "2026-10-25T00:15:00Z",
            "2026-10-25T00:45:00Z",
            "2026-10-25T01:15:00Z",
            "2026-10-25T01:45:00Z"
        ]
    );
    let over = rule("windows = [{ from = \"01:30\", to = \"02:30\" }]");
    assert_eq!(
        changes(&over, "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"),
        [
            "2026-10-24T23:30:00Z",
            "2026-10-25T00:30:00Z",
            // the clock goes back to 02:00
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z"
        ]
    );
}

#[test]
fn validity_has_days_local_times_and_offsets() {
    let days = rule("valid_from = 2028-02-29\nvalid_until = \"2028-02-29\"");
    counts(
        &days,
        &[
            ("2028-02-28T22:59:59Z", false),
            ("2028-02-28T23:00:00Z", true),
            ("2028-02-29T22:59:59Z", true),
            ("2028-02-29T23:00:00Z", false),
        ],
    );
    let local = rule("valid_until = \"2026-07-01T12:00:00\"");
    assert_eq!(
        changes(&local, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ["2026-07-01T10:00:00Z"]
    );
    let offset = rule("valid_from = 2026-07-01T12:00:00-05:00\nzone = \"Asia/Tokyo\"");
    assert_eq!(
        changes(&offset, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ["2026-07-01T17:00:00Z"]
    );
    // far away, and cut short by its end
    let both = rule(
        "valid_from = \"2030-01-07\"\nvalid_until = \"2030-01-08T10:00:00\"\nzone = \"UTC\"\n\
         windows = [{ days = [\"mon\", \"tue\"], from = \"09:00\", to = \"17:00\" }]",
    );
    assert_eq!(
        changes(&both, "2026-01-01T00:00:00Z", "2031-01-01T00:00:00Z"),
        [
            "2030-01-07T09:00:00Z",
            "2030-01-07T17:00:00Z",
            "2030-01-08T09:00:00Z",
            "2030-01-08T10:00:00Z"
        ]
    );
}

#[test]
fn a_clock_that_is_set_asks_again() {
    let policy = rule(
        "windows = [{ days = \"sat-mon\", from = \"10:00\", to = \"11:00\" }]\nzone = \"UTC\"",
    );
    let (inside, outside) = (at("2026-01-18T10:30:00Z"), at("2026-01-18T09:30:00Z"));
    assert_ne!(policy.active(inside), policy.active(outside));
    assert_eq!(
        policy.next_change(outside),
        Some(at("2026-01-18T10:00:00Z"))
    );
    assert_eq!(policy.next_change(inside), Some(at("2026-01-18T11:00:00Z")));
    // clocks that are far off do no harm
    let epoch = SystemTime::UNIX_EPOCH;
    for wild in [
        epoch,
        epoch - Duration::from_secs(1 << 36),
        epoch + Duration::from_secs(1 << 45),
    ] {
        let _ = (policy.active(wild), policy.next_change(wild));
    }
}

#[test]
fn rules_without_times_never_change() {
    let policy = rule("");
    assert_eq!(policy.next_change(SystemTime::now()), None);
    assert_eq!(policy.active(SystemTime::now()), Active::default());
    let whole = rule("windows = [{ days = \"mon-sun\" }]");
    assert_eq!(whole.next_change(SystemTime::now()), None);
    assert_eq!(whole.active(SystemTime::now()), Active::default());
}

#[test]
fn every_change_is_found_and_none_invented() {
    // minute by minute over the end of summer time, and over a week
    let policy = rule(
        "windows = [{ days = \"sat-sun\", from = \"23:45\", to = \"02:10\" }, { days = \"sun\", from = \"02:50\", to = \"03:05\" }]",
    );
    let start = at("2026-10-23T00:00:00Z");
    let rule = policy.profiles[0].allow[0].schedule.as_ref().unwrap();
    let mut next = rule.next_change(start).unwrap();
    let mut before = rule.is_active(start);
    for minute in 1..=4 * 24 * 60 {
        let now = start + Duration::from_secs(60 * minute);
        let active = rule.is_active(now);
        assert_eq!(active != before, now == next, "minute {minute}");
        if now == next {
            next = rule.next_change(now).unwrap();
        }
        before = active;
    }
}

#[test]
fn mistakes_have_places_and_cures() {
    for (keys, expected) in [
        (
            "zone = \"Europe/Berln\"\nvalid_until = 2026-01-01",
            "did you mean `Europe/Berlin`?",
        ),
        ("valid_from = \"tomorrow\"", "`tomorrow` is no time"),
        ("valid_from = 2026-02-29", "not TOML"),
        ("valid_from = \"2026-02-29\"", "is no time"),
        (
            "valid_from = 2026-01-02\nvalid_until = 2026-01-01",
            "not after `valid_from`",
        ),
        ("windows = []", "list of windows is empty"),
        ("windows = [{ days = \"funday\" }]", "`funday` is no day"),
        ("windows = [{ days = [] }]", "list of days is empty"),
        ("windows = [{ from = \"9:00\" }]", "no time of day"),
        ("windows = [{ from = \"24:00\" }]", "no time of day"),
        (
            "windows = [{ from = \"09:00\", to = \"09:00\" }]",
            "same minute",
        ),
        ("windows = [{ start = \"09:00\" }]", "unknown key `start`"),
    ] {
        let text = format!(
            "version = 1\n[profiles.edge]\ninterfaces = \"eth0\"\n\
             [[profiles.edge.allow]]\nid = \"web\"\nprotocol = \"tcp\"\n{keys}\n"
        );
        let errors = load_text(text.as_bytes()).unwrap_err().to_string();
        assert!(errors.contains(expected), "{keys}: {errors}");
    }
}
