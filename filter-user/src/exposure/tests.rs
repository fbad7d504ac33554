use super::*;
use crate::policy::{self, Bundle, Loaded};
use crate::report::event::EventRecord;

const POLICY: &str = r#"
version = 1
[profiles.edge]
interfaces = ["eth0"]
[[profiles.edge.allow]]
id = "web"
protocol = "tcp"
ports = [80, "8000-8100"]
[[profiles.edge.allow]]
id = "ssh"
protocol = "tcp"
ports = [22]
from = ["192.0.2.0/24", "2001:db8::/32"]
[[profiles.edge.allow]]
id = "other"
protocol = "tcp"
ports = [90]
to = ["198.51.100.1"]
[[profiles.edge.deny]]
id = "never"
protocol = "tcp"
ports = [8080]
"#;

fn load(text: &str) -> Loaded {
    let bundle = Bundle {
        main: "policy.toml".to_owned(),
        files: [("policy.toml".to_owned(), text.to_owned())].into(),
    };
    policy::load_bundle(&bundle).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"))
}

fn listener(protocol: &str, address: &str, port: u16) -> Listener {
    Listener {
        protocol: protocol.to_owned(),
        port,
        address: address.parse().unwrap(),
        inode: 7,
        uid: 0,
        pid: Some(42),
        process: Some("ngi\"nx".to_owned()),
        container: None,
    }
}

#[test]
fn what_is_open_to_whom() {
    let openings = Openings::of(&load(POLICY).policy);
    let listeners = vec![
        listener("tcp", "0.0.0.0", 80),
        listener("tcp", "::", 22),
        listener("tcp", "203.0.113.1", 90),
        listener("tcp", "0.0.0.0", 8080),
        listener("udp", "0.0.0.0", 80),
        listener("tcp", "127.0.0.1", 5432),
    ];
    let exposure = compare(listeners, &openings, 3);
    let found: Vec<_> = exposure
        .findings
        .iter()
        .map(|finding| {
            (
                finding.kind,
                finding.protocol.as_str(),
                finding.ports.as_str(),
                finding.prefixes,
                finding.rules.join(","),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (Kind::OpenToWorld, "tcp", "80", 0, "web".to_owned()),
            (Kind::OpenToSome, "tcp", "22", 2, "ssh".to_owned()),
            (Kind::Closed, "tcp", "90", 0, String::new()),
            (Kind::Closed, "tcp", "8080", 0, "never".to_owned()),
            (Kind::Closed, "udp", "80", 0, String::new()),
            (Kind::Unused, "tcp", "90", 0, "other".to_owned()),
        ]
    );
    assert_eq!(exposure.loopback.len(), 1);
    let text = exposure.render(false);
    assert!(text.contains("open-to-some   tcp       22"), "{text}");
    assert!(text.contains("3 UDP sockets"), "{text}");
}

#[test]
fn nothing_guards_the_host() {
    let exposure = compare(vec![listener("tcp", "::", 1)], &Openings::default(), 0);
    assert!(exposure.findings.is_empty());
    assert_eq!(exposure.remarks.len(), 1);
}

#[test]
fn published_ports() {
    let text = br#"{"kind":"cniCacheV1","containerId":"c1","capabilityArgs":{"portMappings":[
        {"hostPort":8080,"containerPort":80,"protocol":"TCP","hostIP":""},{"hostPort":53,"containerPort":53,"protocol":"udp","hostIP":"192.0.2.1"}]}}"#;
    let found = published::parse(text);
    assert_eq!(
        (
            found[0].port,
            found[0].protocol.as_str(),
            found[0].address.to_string()
        ),
        (8080, "tcp", "0.0.0.0".to_owned())
    );
    assert_eq!(found[1].address.to_string(), "192.0.2.1");
    assert_eq!(found[0].container.as_deref(), Some("c1 port 80"));
    for broken in [
        &b""[..],
        b"{}",
        b"[",
        br#"{"kind":"cniCacheV1","capabilityArgs":{"portMappings":[{"hostPort":70000}]}}"#,
    ] {
        assert!(published::parse(broken).is_empty());
    }
}

#[test]
fn lines_of_proc() {
    assert_eq!(processes::socket("socket:[4711]"), Some(4711));
    assert_eq!(processes::socket("/dev/null"), None);
    let line = " ffff8800 ffff8801 2   10  12   36412     0 12345 10.0.0.1";
    let endpoint = sockets::endpoint(line).unwrap();
    assert_eq!(
        (endpoint.port, endpoint.inode, endpoint.address.to_string()),
        (36412, 12345, "10.0.0.1".to_owned())
    );
    assert_eq!(
        sockets::endpoint(" ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS"),
        None
    );
}

fn event(port: u16, source: &str, flags: &str) -> EventRecord {
    serde_json::from_value(serde_json::json!({
        "time": "2026-01-01T00:00:00Z", "interface": "eth0", "ifindex": 2, "reason": "drop_port", "monitored": true,
        "rule": null, "frame_length": 60,
        "headers": { "source": source, "protocol": 6, "destination_port": port, "tcp_flags": flags },
    }))
    .unwrap()
}

#[test]
fn a_first_policy() {
    let mut evidence = learn::Evidence::default();
    for (port, source, flags) in [
        (80, "192.0.2.7", "S"),
        (80, "2001:db8::7", "S"),
        (23, "192.0.2.9", "S"),
        (22, "192.0.2.8", "A"),
    ] {
        evidence.note(&event(port, source, flags), "eth0");
    }
    evidence.note(&event(81, "192.0.2.7", "S"), "eth1");
    let order = learn::Order {
        interface: "eth0",
        enforce: true,
        now: "2026-01-01T00:00:00Z",
        watched: Some(std::time::Duration::from_mins(1)),
    };
    let listeners = [
        listener("tcp", "0.0.0.0", 80),
        listener("tcp", "::", 80),
        listener("tcp", "0.0.0.0", 22),
        listener("udp", "0.0.0.0", 53),
        listener("tcp", "127.0.0.1", 5432),
    ];
    let open =
        |listener: &Listener| (listener.port == 53).then(|| (Kind::OpenToWorld, "dns".to_owned()));
    let text = learn::write(&order, &listeners, open, &evidence);
    let policy = load(&text).policy;
    let profile = &policy.profiles[0];
    assert!(profile.enforce);
    let ids: Vec<&str> = profile.allow.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids, ["nginx-tcp-80", "nginx-udp-53"], "{text}");
    assert!(
        text.contains("from = [\"192.0.2.7\", \"2001:db8::7\"]"),
        "{text}"
    );
    assert!(text.contains("# ports = [22]"), "{text}");
    assert!(
        text.contains("#   tcp 23: 1 packets from 192.0.2.9"),
        "{text}"
    );
    assert!(!text.contains("5432") && !text.contains("81"), "{text}");
}
