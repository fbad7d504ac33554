//! Source checks and container profiles: what the keys mean in the finished policy.

use super::*;

#[test]
fn sources_are_checked_unless_the_profile_names_loopback() {
    let policy = policy(
        r#"
        [profiles.edge]
        interfaces = ["eth0", "lo*"]
        [profiles.loopback]
        interfaces = ["dummy0", "lo"]
        [profiles.asked]
        interfaces = ["tun0"]
        antispoof = { martians = false, internet = true, reverse_path = "loose", legitimate = "10.0.0.0/8" }
        [profiles.pods]
        bridges = "cni0"
        containers = {}
        "#,
    );
    let checked = AntiSpoof {
        martians: true,
        own_addresses: true,
        egress: true,
        ..AntiSpoof::default()
    };
    assert_eq!(policy.profiles[0].antispoof, checked);
    assert_eq!(policy.profiles[1].antispoof, AntiSpoof::default());
    let asked = &policy.profiles[2].antispoof;
    assert_eq!(asked.reverse_path, ReversePath::Loose);
    assert!(!asked.martians && asked.internet && asked.own_addresses && asked.egress);
    let legitimate = asked.legitimate.as_ref().unwrap();
    assert_eq!(legitimate.name, "legitimate of profile asked");
    assert_eq!(legitimate.v4, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(policy.profiles[3].antispoof, AntiSpoof::default());
    assert_eq!(
        policy.profiles[3].containers,
        Some(Containers {
            hook: Hook::Tc,
            auto: true,
            unbound_open: false,
            bindings: Vec::new(),
            send: None
        })
    );
}

#[test]
fn bindings_and_send_rules_are_read() {
    let path = repository().join("tests/policies/good/spoofing.toml");
    let policy = load(&path).unwrap().policy;
    let profile = |name: &str| policy.profiles.iter().find(|p| p.name == name).unwrap();
    let edge = &profile("edge").antispoof;
    assert_eq!(edge.reverse_path, ReversePath::Strict);
    let inside = profile("inside").antispoof.legitimate.as_ref().unwrap();
    assert_eq!(inside.name, "@vpc");
    assert_eq!(
        edge.legitimate.as_ref().unwrap().name,
        "legitimate of profile edge"
    );
    let loopback = &profile("loopback").antispoof;
    assert!(loopback.martians && !loopback.own_addresses && !loopback.egress);

    let pods = profile("pods");
    let containers = pods.containers.as_ref().unwrap();
    assert!(containers.auto && containers.unbound_open);
    assert_eq!(
        containers.bindings[0],
        StaticBinding {
            interface: "veth-web".into(),
            mac: Some([2, 0, 0, 0, 0, 5]),
            v4: vec![
                "10.22.0.5/32".parse().unwrap(),
                "10.22.0.16/28".parse().unwrap()
            ],
            v6: vec!["fd00::5/128".parse().unwrap()],
            line: 47,
        }
    );
    assert_eq!(containers.bindings[1].mac, None);
    let ids: Vec<_> = pods.rules().map(|rule| rule.id.as_str()).collect();
    assert_eq!(
        ids,
        ["bad-guys", "web", "dns", "https-out", "anything-there"]
    );
    let send = containers.send.as_ref().unwrap();
    assert!(matches!(&send[0].from, AddressSet::Prefixes(set) if set.v4.len() == 2));
    assert_eq!(
        (&send[0].to, send[0].rate.map(|r| r.burst)),
        (&Destination::Any, Some(2000))
    );
    assert_eq!(send[1].from, AddressSet::Any);
    let quiet = profile("quiet").containers.as_ref().unwrap();
    assert_eq!(quiet.send, Some(Vec::new()));
    assert!(!profile("fixed").containers.as_ref().unwrap().auto);
}

#[test]
fn a_bridge_is_less_close_than_any_name() {
    let policy = policy(
        r#"
        [profiles.wide]
        bridges = ["*"]
        containers = {}
        [profiles.cni]
        interfaces = ["veth*"]
        bridges = ["cni*"]
        containers = {}
        [profiles.outer]
        interfaces = ["e*"]
        [profiles.tagged]
        interfaces = ["veth1", "eth0"]
        vlans = [7]
        "#,
    );
    let names = |interface, bridge| {
        policy
            .profile_for(interface, bridge)
            .iter()
            .map(|(_, p)| p.name.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("tap0", None), Vec::<&str>::new());
    assert_eq!(names("tap0", Some("br0")), ["wide"]);
    assert_eq!(names("tap0", Some("cni0")), ["cni"]);
    assert_eq!(names("veth0", Some("br0")), ["cni"]);
    assert_eq!(names("eth0", Some("cni0")), ["outer", "tagged"]);
    // No tag takes a container's frames to another profile.
    assert_eq!(names("veth1", None), ["cni"]);
}

#[test]
fn there_are_as_many_bindings_as_interfaces() {
    let text = |count: usize| {
        let bindings = (0..count).map(|i| {
            format!("[[profiles.p.containers.binding]]\ninterface = \"veth{i}\"\naddresses = \"10.0.0.1\"\n")
        });
        let bindings: String = bindings.collect();
        format!("version = 1\n[profiles.p]\ninterfaces = \"veth*\"\n{bindings}")
    };
    assert!(load_text(text(MAX_INTERFACES).as_bytes()).is_ok());
    let errors = load_text(text(MAX_INTERFACES + 2).as_bytes()).unwrap_err();
    let codes: Vec<_> = errors.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["too-many-bindings"]);
}

#[test]
fn what_kind_a_profile_is_waits_for_sound_syntax() {
    let text = "version = 1\n[profiles.p]\ninterfaces = \"veth*\"\nsend = []\nx = = 1\n[profiles.p.containers]\n";
    let errors = load_text(text.as_bytes()).unwrap_err();
    let codes: Vec<_> = errors.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["syntax"]);
}
