//! The failsafe list: absent, empty and filled, and what is wrong with one.

use super::super::*;
use super::{load_text, policy};

const EDGE: &str = "[profiles.edge]\ninterfaces = \"eth0\"\n";

#[test]
fn absent_empty_and_filled_are_three_things() {
    assert_eq!(policy(EDGE).failsafe, Failsafe::Absent);
    assert_eq!(
        policy(&format!("failsafe = []\n{EDGE}")).failsafe,
        Failsafe::None
    );
    let filled = policy(&format!(
        "{EDGE}[groups.admins]\ncidrs = [\"192.0.2.7\"]\n\
         [[failsafe]]\nid = \"admins\"\nfrom = [\"@admins\"]\nprotocol = \"tcp\"\nports = [22]\n\
         [[failsafe]]\nid = \"console\"\ncomment = \"the serial console's host\"\nfrom = \"192.0.2.8\"\n"
    ));
    let Failsafe::Rules(rules) = &filled.failsafe else {
        panic!("{:?}", filled.failsafe);
    };
    assert_eq!(rules.len(), 2);
    assert_eq!(
        rules[0].from,
        AddressSet::Prefixes(match &rules[0].from {
            AddressSet::Prefixes(set) => set.clone(),
            AddressSet::Any => panic!("not everybody"),
        })
    );
    assert_eq!(rules[1].services, [Service::Any]);
    assert_eq!(
        (rules[1].rate, &rules[1].schedule, &rules[1].to),
        (None, &None, &Destination::Any)
    );
    assert_eq!(
        filled
            .rules()
            .map(|rule| rule.id.as_str())
            .collect::<Vec<_>>(),
        ["admins", "console"]
    );
    assert_eq!(rules[1].line, 11);
}

#[test]
fn everybody_and_nobody_are_warned_about() {
    for (from, code) in [
        ("\"any\"", "failsafe-any"),
        ("[\"0.0.0.0/0\", \"::/0\"]", "failsafe-any"),
        ("[\"@none\"]", "empty-rule"),
    ] {
        let text = format!(
            "version = 1\n{EDGE}[groups.none]\ncidrs = []\n[[failsafe]]\nid = \"a\"\nfrom = {from}\n\
             [[profiles.edge.allow]]\nid = \"b\"\nprotocol = \"tcp\"\nports = [80]\nfrom = [\"@none\", \"192.0.2.1\"]\n"
        );
        let warnings = load_text(text.as_bytes()).unwrap().warnings;
        assert!(
            warnings.iter().any(|d| d.code == code),
            "{from}: {warnings}"
        );
    }
}

#[test]
fn mistakes_are_refused() {
    for (keys, expected) in [
        ("id = \"a\"", "has no `from`"),
        ("from = \"192.0.2.1\"", "has no `id`"),
        ("id = \"web\"\nfrom = \"192.0.2.1\"", "used twice"),
        (
            "id = \"a\"\nfrom = \"192.0.2.1\"\nrate = { packets = 1 }",
            "unknown key `rate`",
        ),
        (
            "id = \"a\"\nfrom = \"192.0.2.1\"\nports = [22]",
            "need a `protocol`",
        ),
        ("id = \"a\"\nfrom = \"self\"", "is a destination"),
    ] {
        let text = format!(
            "version = 1\n[[failsafe]]\n{keys}\n{EDGE}\
             [[profiles.edge.allow]]\nid = \"web\"\nprotocol = \"tcp\"\n"
        );
        let errors = load_text(text.as_bytes()).unwrap_err().to_string();
        assert!(errors.contains(expected), "{keys}: {errors}");
    }
}
