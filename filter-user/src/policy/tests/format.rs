//! `fmt`: what is formatted means the same, keeps its comments, and stays as it is.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::super::*;
use super::{good_texts, load_text, repository};

fn toml(text: &str) -> String {
    format(text, Language::Toml).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A policy without places.
fn placeless(text: &str) -> Option<Policy> {
    let mut policy = load_text(text.as_bytes()).ok()?.policy;
    policy.path = "".into();
    let Failsafe::Rules(failsafe) = &mut policy.failsafe else {
        return Some(strip(policy));
    };
    failsafe.iter_mut().for_each(strip_rule);
    Some(strip(policy))
}

fn strip_rule(rule: &mut Rule) {
    (rule.file, rule.line) = (Path::new("").into(), 0);
}

fn strip(mut policy: Policy) -> Policy {
    for profile in &mut policy.profiles {
        profile
            .allow
            .iter_mut()
            .chain(&mut profile.deny)
            .for_each(strip_rule);
        if let Some(containers) = &mut profile.containers {
            containers
                .bindings
                .iter_mut()
                .for_each(|binding| binding.line = 0);
            containers.send.iter_mut().flatten().for_each(strip_rule);
        }
    }
    policy
}

#[test]
fn keys_tables_and_comments_have_their_places() {
    let text = "# About this file.

# Who we are.
[groups.b] # second
files=['x.txt',\"y.txt\"]
cidrs = [ \"192.0.2.1\",# one
  \"192.0.2.2\", # the other


  # a third
  \"192.0.2.3\" ]
[profiles.edge]
# deny nothing else
deny = [{from=\"@b\",id=\"x\"}]
enforce =   false # for now
interfaces = \"eth0\"    # outside
[[profiles.edge.allow]]
# why
protocol='tcp'
rate.packets = 5
id=\"a\"
rate.burst = 6
  [profiles.edge.control]
  ra=false
[report.syslog]
[groups.a]
version_of_nothing = 1
cidrs=[]
# the end
";
    let text = format!("version=1\n\n{text}");
    let expected = "version = 1

# About this file.

# Who we are.
[groups.b] # second
cidrs = [
    \"192.0.2.1\", # one
    \"192.0.2.2\", # the other

    # a third
    \"192.0.2.3\",
]
files = ['x.txt', \"y.txt\"]

[groups.a]
cidrs = []
version_of_nothing = 1

[profiles.edge]
interfaces = \"eth0\" # outside
enforce = false     # for now
# deny nothing else
deny = [{ id = \"x\", from = \"@b\" }]

[profiles.edge.control]
ra = false

[[profiles.edge.allow]]
id = \"a\"
# why
protocol = 'tcp'
rate.packets = 5
rate.burst = 6

[report.syslog]
# the end
";
    assert_eq!(toml(&text), expected);
    assert_eq!(toml(expected), expected);
}

#[test]
fn the_head_of_a_file_stays_its_head() {
    let text = "# Licence.\n\n# about the zone\nzone = \"UTC\"\n# the format\nversion = 1\n";
    let expected = "# Licence.\n\n# the format\nversion = 1\n# about the zone\nzone = \"UTC\"\n";
    assert_eq!(toml(text), expected);
    let text = "# Head.\n\n[report.syslog]\n[groups.a]\n";
    assert_eq!(toml(text), "# Head.\n\n[groups.a]\n\n[report.syslog]\n");
    // what follows a key without an empty line stays with it, wherever the table goes
    let text =
        "[report.syslog]\n# none\n\n# about a\n[groups.a]\ncidrs = []\n# b = 1\n\n[groups.b]\n";
    let expected =
        "# about a\n[groups.a]\ncidrs = []\n# b = 1\n\n[groups.b]\n\n[report.syslog]\n# none\n";
    assert_eq!(toml(text), expected);
    assert_eq!(toml(""), "");
    assert_eq!(toml("# only this"), "# only this\n");
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let text = "a = { b = 1, # why\n c = 2 }\n";
    assert_eq!(
        format(text, Language::Toml),
        Err(FormatError::Comment("# why".to_owned()))
    );
    let broken = format("version = 1\na = [\n", Language::Toml);
    assert!(
        matches!(broken, Err(FormatError::Syntax { line: 2.., .. })),
        "{broken:?}"
    );
    let broken = format("{ \"a\": 1,\n }", Language::Json);
    assert!(
        matches!(broken, Err(FormatError::Syntax { line: 1, .. })),
        "{broken:?}"
    );
}

#[test]
fn long_lists_are_broken_and_short_ones_stay() {
    let long = format!(
        "a = [{}]\n",
        "\"192.0.2.1\", ".repeat(9).trim_end_matches(", ")
    );
    assert_eq!(toml(&long).lines().count(), 11);
    assert_eq!(toml("a = [1,\n2]\n"), "a = [\n    1,\n    2,\n]\n");
    assert_eq!(toml("a = [ [1,2],[ ] ]\n"), "a = [[1, 2], []]\n");
    // comments before the comma
    let text = "a = [1 # one\n\n# of two\n, # two\n2]\n";
    let expected = "a = [\n    1, # one\n\n    # of two\n    # two\n    2,\n]\n";
    assert_eq!(toml(text), expected);
    assert_eq!(toml(expected), expected);
}

#[test]
fn a_number_that_is_none_stays_one() {
    assert_eq!(
        toml("b=[ nan,{c=-nan}]\na=nan\n"),
        "b = [nan, { c = -nan }]\na = nan\n"
    );
}

#[test]
fn the_examples_are_formatted() {
    let folder = repository().join("configs");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "toml") {
            let text = fs::read_to_string(&path).unwrap();
            assert_eq!(toml(&text), text, "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 4);
}

#[test]
fn json_is_laid_out_in_the_order_of_the_reference() {
    let text = r#"{"profiles":{"edge":{"allow":[{"from":"@a","id":"web","protocol":"tcp","ports":[443,"8000-8100"],"rate":{"burst":2,"packets":1}}],"interfaces":["eth0"],"control":{}}},
        "version":1,"$schema":"policy.schema.json","groups":{"z":{"cidrs":[]},"a":{"cidrs":["192.0.2.0\/24","é\n"]}}}"#;
    let expected = r#"{
  "$schema": "policy.schema.json",
  "version": 1,
  "groups": {
    "z": { "cidrs": [] },
    "a": {
      "cidrs": ["192.0.2.0/24", "é\n"]
    }
  },
  "profiles": {
    "edge": {
      "interfaces": ["eth0"],
      "control": {},
      "allow": [
        {
          "id": "web",
          "protocol": "tcp",
          "ports": [443, "8000-8100"],
          "from": "@a",
          "rate": { "packets": 1, "burst": 2 }
        }
      ]
    }
  }
}
"#;
    let json = |text: &str| format(text, Language::Json).unwrap();
    assert_eq!(json(text), expected);
    assert_eq!(json(expected), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Real policies with comments, spaces and rubbish strewn in.
    #[test]
    fn formatting_twice_changes_nothing(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..3, prop_oneof![
            Just("\n".to_owned()),
            Just("\n\n\n".to_owned()),
            Just(" # why\n".to_owned()),
            Just("\n# paragraph\n\n# of two\n".to_owned()),
            Just("   ".to_owned()),
            Just("\r\n".to_owned()),
            "[\\[\\]{}=\"'#,.\n 0-9a-z@é*-]{1,6}",
        ]), 1..8),
    ) {
        let texts = good_texts();
        let mut text = String::from_utf8_lossy(&texts[which.index(texts.len())]).into_owned();
        for (at, cut, new) in edits {
            let at = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.ceil_char_boundary((at + cut.saturating_sub(1)).min(text.len()));
            text.replace_range(at..end, &new);
        }
        match format(&text, Language::Toml) {
            Ok(formatted) => {
                prop_assert_eq!(format(&formatted, Language::Toml), Ok(formatted.clone()));
                prop_assert_eq!(placeless(&formatted), placeless(&text));
            }
            Err(error) => prop_assert_ne!(error, FormatError::Meaning),
        }
    }

    #[test]
    fn json_formatted_twice_is_the_same(text in "[\\[\\]{}:, \n\"a-c0-9]{0,60}") {
        if let Ok(formatted) = format(&text, Language::Json) {
            prop_assert_eq!(format(&formatted, Language::Json), Ok(formatted));
        }
    }
}
