//! Scans and where they are reported to: what the keys mean in the finished policy.

use std::time::Duration;

use super::*;
use crate::policy::keys::Key;
use crate::policy::keys::{
    ALERTS_KEYS, EVENTS_KEYS, FILE_KEYS, NFTABLES_KEYS, REPORT_KEYS, SCANS_KEYS, SYSLOG_KEYS,
    THRESHOLD_KEYS, THRESHOLDS_KEYS, WEBHOOK_KEYS,
};
use crate::policy::quantity::shown;

const EDGE: &str = "[profiles.edge]\ninterfaces = \"eth0\"\n";

fn with(text: &str) -> Policy {
    policy(&format!("{EDGE}{text}"))
}

/// The codes of what is wrong with a policy.
fn codes(text: &str) -> Vec<&'static str> {
    let text = format!("version = 1\n{EDGE}{text}");
    let errors = load_text(text.as_bytes()).expect_err(&text);
    errors.iter().map(|d| d.code).collect()
}

#[test]
fn without_a_word_scans_are_observed_and_nothing_is_reported() {
    for text in ["", "[scans]\n[report]\n", "[scans.thresholds]\nfast = {}\n"] {
        let policy = with(text);
        assert_eq!(policy.scans, Scans::default(), "{text}");
        assert_eq!(policy.report, Reporting::default(), "{text}");
    }
    let scans = Scans::default();
    assert_eq!(scans.sensitivity(), "medium");
    assert_eq!(scans.action, ScanAction::Observe);
    assert_eq!(scans.verified, ScanAction::Observe);
}

#[test]
fn everything_that_is_written_arrives() {
    let path = repository().join("tests/policies/good/scans.toml");
    let policy = load(&path).unwrap().policy;
    let set = |name: &str, v4: &str, v6: &str| {
        Some(Arc::new(PrefixSet {
            name: name.into(),
            v4: vec![v4.parse().unwrap()],
            v6: vec![v6.parse().unwrap()],
        }))
    };
    let mut thresholds = Scans::HIGH;
    thresholds[0].ports = 7;
    thresholds[2].within = Duration::from_mins(50);
    thresholds[2].hosts = 128;
    assert_eq!(
        policy.scans,
        Scans {
            enabled: true,
            thresholds,
            action: ScanAction::Block,
            verified: ScanAction::Block,
            block_for: Duration::from_secs(90),
            block_at_most: Duration::from_mins(150),
            blocks_per_minute: 5,
            exempt: set("@monitoring", "192.0.2.7/32", "2001:db8::7/128"),
            never_block: set("never_block of scans", "203.0.113.5/32", "2001:db8:5::/64"),
        }
    );
    assert_eq!(policy.scans.sensitivity(), "own");
    assert_eq!(
        policy.report,
        Reporting {
            kinds: None,
            nftables: Some(Nftables { drop: true }),
            file: Some(ReportFile {
                path: "/var/log/edgefilter/scans.jsonl".into(),
                max_bytes: 2 << 20,
                keep: 9,
            }),
            syslog: true,
            webhook: Some(Webhook {
                url: "https://soc.example:8443/scans?from=edge".into(),
                secret_file: Some("/etc/edgefilter/webhook.key".into()),
                queue: 50,
            }),
            alerts: Some(Alerts {
                factor: 3.0,
                drops_per_second: 20_000,
                scans_per_minute: 4,
                source_per_second: 500,
                quiet: Duration::from_hours(1),
            }),
        }
    );
}

#[test]
fn a_table_that_is_there_is_on_with_its_defaults() {
    let report = with(
        "[report.nftables]\n[report.syslog]\n[report.alerts]\n\
         [report.file]\npath = \"/a\"\n[report.webhook]\nurl = \"http://localhost\"\n",
    )
    .report;
    assert_eq!(report.nftables, Some(Nftables { drop: false }));
    assert!(report.syslog);
    assert_eq!(report.alerts, Some(Alerts::default()));
    let file = report.file.unwrap();
    assert_eq!((file.max_bytes, file.keep), (10 << 20, 5));
    let webhook = report.webhook.unwrap();
    assert_eq!((webhook.queue, webhook.secret_file), (1000, None));
}

#[test]
fn presets_have_names_and_each_asks_for_more_in_a_longer_time() {
    for (name, thresholds) in Scans::PRESETS {
        let scans = with(&format!("[scans]\nsensitivity = \"{name}\"")).scans;
        assert_eq!((scans.sensitivity(), scans.thresholds), (name, thresholds));
        for pair in thresholds.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            assert!(
                a.within < b.within && a.ports < b.ports && a.hosts < b.hosts,
                "{name}"
            );
        }
    }
    let off = with("[scans]\nsensitivity = \"off\"").scans;
    assert!(!off.enabled);
    assert_eq!(off.sensitivity(), "off");
}

#[test]
fn bounds_are_where_the_reference_says() {
    for (good, bad) in [
        ("block_for = \"1s\"", "block_for = \"999ms\""),
        ("block_at_most = \"30d\"", "block_at_most = \"30d 1s\""),
        ("blocks_per_minute = 10000", "blocks_per_minute = 10001"),
        (
            "thresholds.slow.within = \"3h\"",
            "thresholds.slow.within = \"3h 1s\"",
        ),
        (
            "thresholds.fast.within = \"1s\"",
            "thresholds.fast.within = \"999ms\"",
        ),
        ("thresholds.fast.ports = 2", "thresholds.fast.ports = 1"),
        ("thresholds.slow.hosts = 128", "thresholds.slow.hosts = 129"),
        ("block_for = \"24h\"", "block_for = \"24h 1s\""),
        ("block_at_most = \"10m\"", "block_at_most = \"9m 59s\""),
        (
            "thresholds.fast.within = \"299s\"",
            "thresholds.fast.within = \"300s\"",
        ),
    ] {
        with(&format!("[scans]\n{good}"));
        assert_eq!(codes(&format!("[scans]\n{bad}")).len(), 1, "{bad}");
    }
}

#[test]
fn what_is_out_of_bounds_is_told_the_nearest_bound() {
    for (text, cure) in [
        ("[scans]\nblock_for = \"31d\"", "`\"30days\"` or less"),
        ("[scans]\nblock_for = \"500ms\"", "`\"1s\"` or more"),
        ("[scans]\nblock_for = \"90\"", "`\"90s\"` or `\"90m\"`"),
        ("[scans]\nthresholds.fast.ports = 200", "from 2 to 128"),
        (
            "[scans]\nblock_for = \"2d\"",
            "`block_at_most = \"2days\"` or more",
        ),
        ("[report.file]\npath = \"x.jsonl\"", "begin it with `/`"),
        (
            "[report.webhook]\nurl = \"https://me:word@x/\"",
            "`secret_file`",
        ),
        ("[report.syslog]\nfacility = 1", "no keys"),
    ] {
        let errors = load_text(format!("version = 1\n{EDGE}{text}\n").as_bytes()).unwrap_err();
        let cures: Vec<_> = errors.iter().map(|d| d.cure.as_str()).collect();
        assert!(
            matches!(cures[..], [only] if only.contains(cure)),
            "{text}: {cures:?}"
        );
    }
}

#[test]
fn only_what_can_be_posted_to_is_a_webhook() {
    let text = |url: &str| format!("[report.webhook]\nurl = \"{url}\"\n");
    for url in [
        "http://localhost",
        "HTTPS://soc.example/",
        "https://soc.example:443/a/b?c=d&e=%20",
        "http://127.0.0.1:8080/",
        "http://[::1]:8080/scans",
        "https://xn--bcher-kva.example/",
    ] {
        assert!(with(&text(url)).report.webhook.is_some(), "{url}");
    }
    for url in [
        "",
        "soc.example",
        "/scans",
        "//soc.example/",
        "https:///scans",
        "https://",
        "https://:443/",
        "https://soc.example:0/",
        "https://soc.example:65536/",
        "https://soc.example:/",
        "https://soc.example:x/",
        "https://user:word@soc.example/",
        "https://@soc.example/",
        "https://soc.example/#top",
        "https://soc example/",
        "https://bücher.example/",
        "file:///etc/passwd",
        "unix:/run/x.sock",
    ] {
        assert_eq!(codes(&text(url)), ["url"], "{url}");
    }
}

/// What `edgefilter check` warns about.
fn warnings(text: &str) -> Vec<&'static str> {
    let text = format!("version = 1\n{EDGE}{text}");
    let loaded = load_text(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
    loaded.warnings.iter().map(|d| d.code).collect()
}

#[test]
fn plain_http_is_warned_about_unless_it_stays_here() {
    for (url, expected) in [
        ("http://soc.example/", vec!["plain-http"]),
        ("http://192.0.2.1:9000/", vec!["plain-http"]),
        ("http://localhost.example/", vec!["plain-http"]),
        ("http://[2001:db8::1]/", vec!["plain-http"]),
        ("http://LOCALHOST:9000/", vec![]),
        ("http://127.1.2.3/", vec![]),
        ("http://[::1]/", vec![]),
        ("https://soc.example/", vec![]),
    ] {
        assert_eq!(
            warnings(&format!("[report.webhook]\nurl = \"{url}\"")),
            expected,
            "{url}"
        );
    }
}

#[test]
fn somebody_must_be_spared_where_scans_are_blocked() {
    let rule = "[[profiles.edge.allow]]\nid = \"a\"\nprotocol = \"gre\"\n";
    for (from, scans, expected) in [
        ("", "action = \"block\"", vec!["nobody-spared"]),
        (
            "from = \"any\"",
            "action = \"block\"",
            vec!["nobody-spared"],
        ),
        // Whole versions name nobody.
        (
            "from = [\"0.0.0.0/0\", \"::/0\"]",
            "action = \"block\"",
            vec!["nobody-spared"],
        ),
        (
            "",
            "action = \"block\"\nexempt = \"192.0.2.7\"",
            vec!["nobody-spared"],
        ),
        ("from = \"192.0.2.0/24\"", "action = \"block\"", vec![]),
        (
            "from = [\"0.0.0.0/0\", \"2001:db8::/32\"]",
            "action = \"block\"",
            vec![],
        ),
        (
            "",
            "action = \"block\"\nnever_block = \"192.0.2.7\"",
            vec![],
        ),
        ("", "action = \"observe\"", vec![]),
        ("", "", vec![]),
    ] {
        let text = format!("{rule}{from}\n[scans]\n{scans}\n");
        assert_eq!(warnings(&text), expected, "{from} {scans}");
    }
}

#[test]
fn what_another_key_decides_waits_for_sound_syntax() {
    let text = "[scans]\nblock_for = \"2d\"\nthresholds.fast.within = \"6m\"\nx = = 1\nblock_at_most = \"3d\"\n";
    assert_eq!(codes(text), ["syntax"]);
}

/// What stands in the reference under a header, down to the next one.
fn section(header: &str) -> String {
    let reference = fs::read_to_string(repository().join("docs/policy.md")).unwrap();
    let begin = reference.find(&format!("\n{header}\n"));
    let rest = &reference[begin.unwrap_or_else(|| panic!("no header {header}")) + 1..];
    let end = rest[1..].find("\n#").map_or(rest.len(), |end| end + 1);
    rest[..end].to_owned()
}

#[test]
fn each_table_of_the_reference_has_its_keys_and_no_others() {
    let tables: [(&str, &[&[Key]]); 8] = [
        ("## Scans: `[scans]`", &[SCANS_KEYS]),
        (
            "### Thresholds: `[scans.thresholds]`",
            &[THRESHOLDS_KEYS, THRESHOLD_KEYS],
        ),
        ("## Reports: `[report]`", &[REPORT_KEYS]),
        ("## Sampled drops: `[events]`", &[EVENTS_KEYS]),
        (
            "### The host firewall: `[report.nftables]`",
            &[NFTABLES_KEYS],
        ),
        (
            "### Files and the system log: `[report.file]` and `[report.syslog]`",
            &[FILE_KEYS, SYSLOG_KEYS],
        ),
        ("### Webhooks: `[report.webhook]`", &[WEBHOOK_KEYS]),
        ("### Alerts: `[report.alerts]`", &[ALERTS_KEYS]),
    ];
    for (header, keys) in tables {
        let text = section(header);
        let rows = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let keys = keys.iter().copied().flatten().map(|key| key.name);
        assert_eq!(
            rows.collect::<Vec<_>>(),
            keys.collect::<Vec<_>>(),
            "{header}"
        );
    }
}

#[test]
fn the_reference_has_the_figures_of_the_presets() {
    let text = section("### What makes a scan");
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let expected = Scans::PRESETS.map(|(name, thresholds)| {
        let cells = thresholds.map(|t| {
            format!(
                "{} ports or {} hosts within {}",
                t.ports,
                t.hosts,
                shown(t.within)
            )
        });
        format!("| `{name}` | {} |", cells.join(" | "))
    });
    assert_eq!(rows, expected);
    let (default, alerts) = (Scans::default(), Alerts::default());
    for (header, word) in [
        (
            "## Scans: `[scans]`",
            format!(
                "| `blocks_per_minute` | number, 1-10000 | {} |",
                default.blocks_per_minute
            ),
        ),
        (
            "## Scans: `[scans]`",
            format!(
                "| `block_for` | time | `\"{}\"` |",
                shown(default.block_for)
            ),
        ),
        (
            "### Alerts: `[report.alerts]`",
            format!("| `factor` | number, 1.1-1000 | {} |", alerts.factor),
        ),
        (
            "### Alerts: `[report.alerts]`",
            format!(
                "| `drops_per_second` | number | {} |",
                alerts.drops_per_second
            ),
        ),
        (
            "### Alerts: `[report.alerts]`",
            format!(
                "| `scans_per_minute` | number | {} |",
                alerts.scans_per_minute
            ),
        ),
        (
            "### Alerts: `[report.alerts]`",
            format!(
                "| `source_per_second` | number | {} |",
                alerts.source_per_second
            ),
        ),
        (
            "### Alerts: `[report.alerts]`",
            format!(
                "| `quiet` | time, 1 s to 30 days | `\"{}\"` |",
                shown(alerts.quiet)
            ),
        ),
    ] {
        assert!(section(header).contains(&word), "{header}: {word}");
    }
}
