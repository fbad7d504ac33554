//! Scans and where they are reported to: what the keys mean in the finished policy.

use std::time::Duration;

use super::*;

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
            "thresholds.slow.within = \"1h\"",
            "thresholds.slow.within = \"1h 1s\"",
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
    let block = "[scans]\naction = \"block\"\n";
    let rule = "[[profiles.edge.allow]]\nid = \"a\"\nprotocol = \"gre\"\n";
    let codes = |rest: &str| warnings(&format!("{rule}{rest}"));
    assert_eq!(codes(block), ["nobody-spared"]);
    assert_eq!(
        codes(&format!("from = \"any\"\n{block}")),
        ["nobody-spared"]
    );
    assert_eq!(
        codes(&format!("from = \"192.0.2.0/24\"\n{block}")),
        Vec::<&str>::new()
    );
    assert_eq!(
        codes(&format!("{block}never_block = \"192.0.2.7\"")),
        Vec::<&str>::new()
    );
    assert_eq!(
        codes(&format!("{block}exempt = \"192.0.2.7\"")),
        ["nobody-spared"]
    );
    assert_eq!(codes("[scans]\naction = \"observe\""), Vec::<&str>::new());
}

#[test]
fn what_another_key_decides_waits_for_sound_syntax() {
    let text = "[scans]\nblock_for = \"2d\"\nthresholds.fast.within = \"6m\"\nx = = 1\nblock_at_most = \"3d\"\n";
    assert_eq!(codes(text), ["syntax"]);
}
