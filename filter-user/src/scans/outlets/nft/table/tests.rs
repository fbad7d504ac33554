use serde_json::json;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn document(nftables: &Nftables<'_>) -> Value {
    serde_json::to_value(nftables).unwrap()["nftables"].clone()
}

fn change(source: &str, held: bool, seconds: Option<u64>) -> Change {
    Change {
        source: net(source),
        held,
        left: seconds.map(Duration::from_secs),
    }
}

fn element(verb: &str, set: &str, element: Value) -> Value {
    let element = json!({"family": "inet", "table": "edgefilter", "name": set, "elem": [element]});
    json!({ verb: {"element": element} })
}

fn timed(address: &str, seconds: u64) -> Value {
    json!({"elem": {"val": address, "timeout": seconds, "expires": null, "comment": null, "counter": null}})
}

#[test]
fn each_source_has_its_set() {
    for (source, expected) in [
        ("192.0.2.1/32", Some(Place::Blocked4)),
        ("2001:db8::1/128", Some(Place::Blocked6)),
        ("2001:db8::/64", Some(Place::Blocked6Prefixes)),
        ("192.0.2.0/24", None),
        ("2001:db8::/48", None),
        ("0.0.0.0/0", None),
    ] {
        assert_eq!(Place::of(net(source)), expected, "{source}");
    }
    for place in Place::ALL {
        let address = match place {
            Place::Blocked4 => "192.0.2.1",
            Place::Blocked6 | Place::Blocked6Prefixes => "2001:db8::1",
        };
        let source = place.source(address.parse().unwrap()).unwrap();
        assert_eq!(Place::of(source), Some(place), "there and back");
    }
}

#[test]
fn a_change_is_one_transaction_that_cannot_fail_by_what_is_there() {
    let fresh = changed(&[change("192.0.2.1/32", false, Some(600))]);
    assert_eq!(
        document(&fresh),
        json!([element("add", "blocked4", timed("192.0.2.1", 600))])
    );
    let longer = changed(&[change("2001:db8:7::/64", true, Some(1200))]);
    assert_eq!(
        document(&longer),
        json!([
            element("add", "blocked6_64", timed("2001:db8:7::", 1)),
            element("delete", "blocked6_64", json!("2001:db8:7::")),
            element("add", "blocked6_64", timed("2001:db8:7::", 1200)),
        ])
    );
    let gone = changed(&[change("2001:db8::1/128", true, None)]);
    assert_eq!(
        document(&gone),
        json!([
            element("add", "blocked6", timed("2001:db8::1", 1)),
            element("delete", "blocked6", json!("2001:db8::1")),
        ])
    );
    assert_eq!(
        document(&changed(&[change("192.0.2.1/32", false, None)])),
        json!([])
    );
}

#[test]
fn a_table_is_replaced_in_one_transaction() {
    let block = (net("192.0.2.1/32"), Duration::from_millis(1500));
    let document = document(&made(policy::Nftables { drop: false }, [block].into_iter()));
    let table = json!({"table": {"family": "inet", "name": "edgefilter"}});
    let commands = document.as_array().unwrap();
    assert_eq!(commands[0], json!({ "add": table }));
    assert_eq!(commands[1], json!({ "delete": table }));
    assert_eq!(commands[2], json!({ "add": table }));
    assert_eq!(
        commands.len(),
        3 + Place::ALL.len() + 1,
        "without `drop` no chain"
    );
    assert_eq!(
        commands.last().unwrap(),
        &element("add", "blocked4", timed("192.0.2.1", 2))
    );
}

/// As `nft -j list ruleset` of this ruleset, written by hand, would show it.
#[test]
fn rules_drop_only_what_begins_something() {
    let document = document(&made(policy::Nftables { drop: true }, std::iter::empty()));
    let commands = document.as_array().unwrap();
    let rules: Vec<&Value> = commands
        .iter()
        .filter_map(|c| c["add"].get("rule"))
        .collect();
    let drops: Vec<&Value> = rules
        .iter()
        .filter(|rule| {
            rule["expr"]
                .as_array()
                .unwrap()
                .contains(&json!({"drop": null}))
        })
        .map(|rule| &rule["chain"])
        .collect();
    assert_eq!(drops, ["requests", "requests", "requests", "beginnings"]);
    let hooks: Vec<(&Value, &Value)> = commands
        .iter()
        .filter_map(|c| c["add"].get("chain"))
        .filter(|chain| chain.get("hook").is_some())
        .map(|chain| (&chain["hook"], &chain["prio"]))
        .collect();
    assert_eq!(
        hooks,
        [
            (&json!("prerouting"), &json!(-300)),
            (&json!("prerouting"), &json!(-150))
        ]
    );
    for name in ["before_tracking", "after_tracking"] {
        let first = rules.iter().find(|rule| rule["chain"] == name).unwrap();
        assert_eq!(first["expr"][0]["match"]["right"], "lo");
        assert_eq!(first["expr"][1], json!({"accept": null}));
    }
}

#[test]
fn every_element_has_a_time() {
    for (millis, expected) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (u64::MAX, u32::MAX)] {
        assert_eq!(seconds(Duration::from_millis(millis)), expected);
    }
}

#[test]
fn a_look_tells_changes_from_what_changes_by_itself() {
    let shown = |packets: u64, elements: Value, rule: u64| {
        json!({"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"set": {"name": "blocked4", "table": "edgefilter", "handle": 1, "elem": elements}},
            {"rule": {"handle": rule, "expr": [{"counter": {"packets": packets, "bytes": 7}}, {"drop": null}]}},
        ]})
    };
    let made = Look::of(&shown(0, json!([]), 9));
    assert_eq!(made, Look::of(&shown(7, json!(["192.0.2.1"]), 9)));
    assert_ne!(
        made,
        Look::of(&shown(0, json!([]), 10)),
        "another rule with the same words"
    );
    assert_ne!(made, Look::default(), "nothing");
}

#[test]
fn elements_are_read_as_nft_shows_them() {
    let shown = json!({"nftables": [
        {"set": {"name": "blocked4", "elem": [{"elem": {"val": "192.0.2.1", "timeout": 600, "expires": 599}}]}},
        {"set": {"name": "blocked6_64", "elem": [{"elem": {"val": "2001:db8::", "timeout": 60, "expires": 7}}]}},
        {"set": {"name": "others", "elem": [{"elem": {"val": "192.0.2.2", "expires": 7}}]}},
        {"set": {"name": "blocked6"}},
    ]});
    let expected = [("192.0.2.1/32", 599), ("2001:db8::/64", 7)];
    let expected = expected.map(|(source, seconds)| (net(source), Duration::from_secs(seconds)));
    assert_eq!(elements(&shown), HashMap::from(expected));
}
