//! The policy front end as a whole: fixtures, the reference's examples, and rubbish.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::keys::{
    ANTISPOOF_KEYS, BINDING_KEYS, CONTAINERS_KEYS, CONTROL_KEYS, FAILSAFE_KEYS, GROUP_KEYS,
    ICMP_KEYS, POLICY_KEYS, PROFILE_KEYS, RATE_KEYS, RULE_KEYS, WINDOW_KEYS,
};
use super::names::{ETHERTYPES, ICMP_V4, ICMP_V6, PROTOCOLS};
use super::*;

mod events;
mod failsafe;
mod files;
mod format;
mod scans;
mod schedule;
mod schema;
mod spoofing;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let folder = repository().join("tests/policies").join(kind);
    let entries = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut list: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    list.sort();
    list
}

/// `line:column: message`, with the file before it if it is another file, `-` for a whole file.
fn place(diagnostic: &Diagnostic, policy: &Path) -> String {
    let file = diagnostic
        .file
        .strip_prefix(policy.parent().unwrap())
        .unwrap()
        .display()
        .to_string();
    let file = if diagnostic.file == policy {
        String::new()
    } else {
        format!("{file}:")
    };
    match &diagnostic.location {
        Some(at) => format!("{file}{}:{}: {}", at.line, at.column, diagnostic.message),
        None => format!("{file}-: {}", diagnostic.message),
    }
}

fn compare(path: &Path, found: &[String]) {
    let expected = fs::read_to_string(path.with_extension("expected")).unwrap();
    let expected: Vec<_> = expected.lines().collect();
    let agrees = found.len() == expected.len()
        && found.iter().zip(&expected).all(|(f, e)| f.starts_with(*e));
    assert!(
        agrees,
        "{}\nfound:\n{}\nexpected:\n{}",
        path.display(),
        found.join("\n"),
        expected.join("\n")
    );
}

#[test]
fn broken_policies_report_every_error_with_place_and_cure() {
    let list = fixtures("broken");
    assert!(list.len() >= 24);
    for path in list {
        let errors = load(&path).expect_err(&path.display().to_string());
        compare(
            &path,
            &errors.errors().map(|d| place(d, &path)).collect::<Vec<_>>(),
        );
        for diagnostic in &errors {
            assert!(!diagnostic.cure.is_empty());
        }
        let json = errors.to_json();
        assert_eq!(
            json["errors"].as_array().unwrap().len(),
            errors.errors().count()
        );
        let picture = errors.render(false, 100);
        assert!(!picture.contains('\u{1b}'), "colours without being told");
        assert!(errors.render(true, 100).contains('\u{1b}'));
    }
}

#[test]
fn good_policies_load_with_the_expected_warnings() {
    for path in fixtures("good") {
        let loaded = load(&path).unwrap_or_else(|errors| panic!("{errors}"));
        compare(
            &path,
            &loaded
                .warnings
                .iter()
                .map(|d| place(d, &path))
                .collect::<Vec<_>>(),
        );
        assert_eq!(loaded.fingerprint.len(), 64);
        assert_eq!(loaded, load(&path).unwrap());
    }
}

#[test]
fn the_picture_shows_the_line_at_its_place() {
    let path = repository().join("tests/policies/broken/protocols.toml");
    let picture = load(&path).unwrap_err().render(false, 100);
    assert!(picture.contains("protocols.toml:8:12]"), "{picture}");
    assert!(picture.contains("8 │ protocol = \"tpc\""), "{picture}");
}

/// The policy of one file, which begins behind its version.
pub(crate) fn behind_version(text: &str) -> Policy {
    let file = "edge.toml".to_owned();
    let bundle = Bundle {
        main: file.clone(),
        files: BTreeMap::from([(file, format!("version = 1\n{text}"))]),
    };
    let loaded = load_bundle(&bundle).unwrap_or_else(|errors| panic!("{errors}"));
    loaded.policy
}

/// Writes a policy and loads it.
fn load_text(text: &[u8]) -> Result<Loaded, Diagnostics> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    fs::write(&path, text).unwrap();
    load(&path)
}

fn policy(text: &str) -> Policy {
    load_text(format!("version = 1\n{text}").as_bytes())
        .unwrap_or_else(|errors| panic!("{errors}"))
        .policy
}

#[test]
fn defaults_are_closed_and_control_is_open() {
    let policy = policy("[profiles.edge]\ninterfaces = \"eth0\"");
    let profile = &policy.profiles[0];
    assert_eq!(profile.default_verdict, DefaultVerdict::Drop);
    assert_eq!(profile.fragments, FragmentPolicy::Track);
    assert_eq!(
        profile.control,
        Control {
            arp: true,
            nd: true,
            ra: true,
            dhcp: true,
            pmtu: true
        }
    );
    assert!(
        profile.enforce
            && !profile.generic_xdp
            && profile.allow.is_empty()
            && profile.icmp_v4.is_empty()
    );
}

#[test]
fn services_and_sets_are_normalised_and_shared() {
    let policy = policy(
        r#"
        [groups.a]
        cidrs = ["192.0.2.0/25", "192.0.2.128/25", "2001:db8::/32"]
        [profiles.edge]
        interfaces = ["eth0"]
        allow = [
            { id = "1", protocol = ["udp", "tcp"], ports = [80, "443", 81, "8000-8100"], from = "@a", to = "self" },
            { id = "2", protocol = 6, ports = ["0-65535"], from = ["@a"], to = "forwarded", rate = { packets = 5 } },
            { id = "3", protocol = "gre", from = ["198.51.100.7", "@a"], to = "192.0.2.1" },
            { id = "4", protocol = "esp", from = ["@a", "198.51.100.7"] },
        ]
        deny = [{ id = "5" }]
        "#,
    );
    let profile = &policy.profiles[0];
    let tcp = |first, last| Service::Ports {
        protocol: PortProtocol::Tcp,
        first,
        last,
    };
    assert_eq!(
        &profile.allow[0].services[..3],
        [tcp(80, 81), tcp(443, 443), tcp(8000, 8100)]
    );
    assert_eq!(profile.allow[0].services.len(), 6);
    assert_eq!(profile.allow[1].services, [Service::Protocol(6)]);
    assert_eq!(
        profile.allow[1].rate,
        Some(Rate {
            packets: 5,
            burst: 5
        })
    );
    assert_eq!(profile.deny[0].services, [Service::Any]);
    assert_eq!(profile.allow[0].line, 8);
    let sets: Vec<_> = profile
        .allow
        .iter()
        .map(|rule| match &rule.from {
            AddressSet::Prefixes(set) => set,
            AddressSet::Any => panic!("{}", rule.id),
        })
        .collect();
    assert!(Arc::ptr_eq(sets[0], sets[1]) && Arc::ptr_eq(sets[2], sets[3]));
    assert_eq!(
        (sets[0].name.as_str(), sets[2].name.as_str()),
        ("@a", "rule 3")
    );
    assert_eq!(sets[0].v4, ["192.0.2.0/24".parse().unwrap()]);
    assert_eq!(profile.allow[0].to, Destination::SelfAddresses);
    assert_eq!(profile.allow[1].to, Destination::Forwarded);
}

#[test]
fn the_closest_profile_wins() {
    let profile = |name: &str, interfaces: &str, vlans: &str| {
        format!("[profiles.{name}]\ninterfaces = [{interfaces}]\n{vlans}\n")
    };
    let text = [
        profile("all", "\"*\"", ""),
        profile("eth", "\"eth*\"", ""),
        profile("one", "\"eth0\"", ""),
        profile("tagged", "\"eth*\"", "vlans = [100, 200]"),
        profile("narrow", "\"eth0\"", "vlans = [100]"),
        profile("late", "\"e*\"", "vlans = [100, 200]"),
    ]
    .concat();
    let policy = policy(&text);
    let names = |interface| {
        policy
            .profile_for(interface, None)
            .iter()
            .map(|(_, p)| p.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("lo"), ["all"]);
    assert_eq!(names("eth1"), ["eth", "tagged"]);
    assert_eq!(names("eth0"), ["one", "narrow", "tagged"]);
    assert_eq!(names("ens5"), ["all", "late"]);
}

#[test]
fn a_million_prefixes_load_in_reasonable_time() {
    let folder = tempfile::tempdir().unwrap();
    let lines = (0..1_000_000u32).map(|i| i.wrapping_mul(2_654_435_761));
    let lines: Vec<_> = lines
        .map(|address| std::net::Ipv4Addr::from(address).to_string())
        .collect();
    fs::write(folder.path().join("list.txt"), lines.join("\n")).unwrap();
    let path = folder.path().join("policy.toml");
    let text = "version = 1\n[groups.big]\nfiles = [\"list.txt\"]\n[profiles.edge]\ninterfaces = [\"eth0\"]\n[[profiles.edge.deny]]\nid = \"big\"\nfrom = [\"@big\"]\n";
    fs::write(&path, text).unwrap();
    let begin = std::time::Instant::now();
    let loaded = load(&path).unwrap();
    let AddressSet::Prefixes(set) = &loaded.policy.profiles[0].deny[0].from else {
        panic!("any")
    };
    assert!(set.len() > 990_000 && set.v4.is_sorted());
    // A second on an idle machine with optimisation; the bound only catches a quadratic step.
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

#[test]
fn files_that_are_none_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let code = |path: &Path| load(path).unwrap_err().iter().next().unwrap().code;
    assert_eq!(code(folder.path()), "file-missing");
    assert_eq!(code(Path::new("/dev/zero")), "file-kind");
    assert_eq!(code(&folder.path().join("none")), "file-missing");
    assert_eq!(code(Path::new("")), "file-missing");
    let large = folder.path().join("large.toml");
    fs::File::create(&large)
        .unwrap()
        .set_len(MAX_POLICY_BYTES + 1)
        .unwrap();
    assert_eq!(code(&large), "file-too-large");
}

#[test]
fn the_fingerprint_follows_prefix_files() {
    let folder = tempfile::tempdir().unwrap();
    let (path, list) = (folder.path().join("p.toml"), folder.path().join("list.txt"));
    let text = "version = 1\n[groups.g]\nfiles = [\"list.txt\"]\n[profiles.e]\ninterfaces = [\"eth0\"]\ndeny = [{ id = \"d\", from = \"@g\" }]\n";
    fs::write(&path, text).unwrap();
    let fingerprint = |content| {
        fs::write(&list, content).unwrap();
        load(&path).unwrap().fingerprint
    };
    let first = fingerprint("192.0.2.1\n");
    assert_ne!(first, fingerprint("192.0.2.2\n"));
    assert_eq!(first, fingerprint("192.0.2.1\n"));
}

#[test]
fn floods_of_errors_stay_bounded() {
    let many = "\"x\",".repeat(100_000);
    let text =
        format!("version = 1\n[groups.g]\ncidrs = [{many}]\n[profiles.e]\ninterfaces = [{many}]\n");
    let errors = load_text(text.as_bytes()).unwrap_err();
    assert!(errors.len() <= 1000 && errors.omitted() > 90_000);
    let many = format!("version = 1\nx = [{}]\n", "1,".repeat(MAX_VALUES));
    assert!(
        load_text(many.as_bytes())
            .unwrap_err()
            .has_code("too-many-values")
    );
    assert!(load_text("a = [1\n[x]\n".repeat(20_000).as_bytes()).is_err());
    assert!(load_text("[".repeat(1 << 20).as_bytes()).is_err());
    assert!(load_text("a.".repeat(1 << 18).as_bytes()).is_err());
}

#[test]
fn every_example_of_the_reference_loads() {
    let reference = fs::read_to_string(repository().join("docs/policy.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("office.txt"), "192.0.2.0/24\n").unwrap();
    fs::write(folder.path().join("blocklist.txt"), "203.0.113.0/24\n").unwrap();
    let blocks: Vec<_> = reference
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(blocks.len() >= 8);
    for block in blocks {
        let path = folder.path().join("policy.toml");
        fs::write(&path, block).unwrap();
        load(&path).unwrap_or_else(|errors| panic!("{block}\n{errors}"));
    }
}

#[test]
fn the_reference_names_every_key_and_word() {
    let reference = fs::read_to_string(repository().join("docs/policy.md")).unwrap();
    let keys = [
        POLICY_KEYS,
        GROUP_KEYS,
        PROFILE_KEYS,
        CONTROL_KEYS,
        ICMP_KEYS,
        ANTISPOOF_KEYS,
        CONTAINERS_KEYS,
        BINDING_KEYS,
        FAILSAFE_KEYS,
        RULE_KEYS,
        RATE_KEYS,
        WINDOW_KEYS,
    ];
    let keys = keys.into_iter().flatten().map(|key| key.name.to_owned());
    let bytes = [PROTOCOLS, ICMP_V4, ICMP_V6]
        .into_iter()
        .flatten()
        .map(|(name, number)| format!("{name}` {number}"));
    let types = ETHERTYPES
        .iter()
        .skip(1)
        .map(|(name, number)| format!("{name}` 0x{number:04x}"));
    for word in keys.chain(bytes).chain(types).chain(["llc".to_owned()]) {
        assert!(
            reference.contains(&format!("`{word}")),
            "docs/policy.md does not name `{word}"
        );
    }
    for limit in [
        MAX_PROFILES,
        MAX_RULES,
        MAX_WINDOWS,
        MAX_FILES,
        MAX_VALUES,
        MAX_INCLUDE_DEPTH,
        MAX_INTERFACES,
        MAX_BOUND_ADDRESSES,
        MOST_TARGETS as usize,
        filter_common::limits::BLOCKS,
    ] {
        assert!(
            reference.contains(&format!("| {limit} |")),
            "docs/policy.md does not name the limit {limit}"
        );
    }
}

fn good_texts() -> Vec<Vec<u8>> {
    fixtures("good")
        .iter()
        .chain(&fixtures("broken"))
        .map(|path| fs::read(path).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,200}") {
        for input in [&bytes, text.as_bytes()] {
            if let Err(errors) = load_text(input) {
                prop_assert!(errors.has_errors());
                errors.render(true, 60);
            }
        }
    }

    /// Real policies with pieces cut out, doubled, or overwritten.
    #[test]
    fn mutated_policies_never_panic(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, prop_oneof![
            Just(Vec::new()),
            prop::collection::vec(any::<u8>(), 1..4),
            "[\\[\\]{}=\"'#,.\n 0-9a-z@é*-]{1,12}".prop_map(String::into_bytes),
        ]), 1..6),
    ) {
        let texts = good_texts();
        let mut text = texts[which.index(texts.len())].clone();
        for (at, length, new) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + length).min(text.len());
            text.splice(at..end, new);
        }
        if let Err(errors) = load_text(&text) {
            prop_assert!(errors.has_errors());
            errors.render(false, 200);
            errors.to_json();
        }
    }

    #[test]
    fn prefix_files_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[0-9a-f:./# \n,-]{0,200}") {
        for input in [&bytes, text.as_bytes()] {
            let mut report = Diagnostics::default();
            cidr::parse_file(Path::new("f"), input, &mut report);
            report.render(false, 80);
        }
    }
}
