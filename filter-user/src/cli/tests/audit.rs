//! `edgefilter audit` and `edgefilter manifest` on files.

use std::fs;

use super::*;
use crate::approval;
use crate::audit::Log;
use crate::audit::tests::event;
use crate::settings::AuditSettings;

fn run(words: &str, json: bool, globals: &Globals) -> (Outcome, String) {
    match parse(words).unwrap().command {
        Command::Audit(action) => {
            output(json, |out| crate::cli::audit::audit(globals, &action, out))
        }
        Command::Manifest(arguments) => output(json, |out| manifest::manifest(&arguments, out)),
        _ => panic!("another command"),
    }
}

#[test]
fn the_record_is_shown_and_checked_without_a_daemon() {
    let scratch = tempfile::tempdir().unwrap();
    let mut globals = globals(scratch.path());
    globals.state_dir = scratch.path().to_owned();
    let directory = scratch.path().join("audit");
    let log = Log::open(&directory, &AuditSettings::default()).unwrap();
    for number in 0..3 {
        log.append(event(&format!("edge{number}.toml"))).unwrap();
    }
    let (outcome, text) = run("edgefilter audit verify", false, &globals);
    assert_eq!(outcome, Outcome::Done);
    assert!(
        text.starts_with("the record is whole: 3 records from #1 on in 1 files\nhead 3:"),
        "{text}"
    );
    let head = text
        .lines()
        .last()
        .unwrap()
        .strip_prefix("head ")
        .unwrap()
        .to_owned();
    let with_head = format!("edgefilter audit verify --head {head}");
    assert_eq!(run(&with_head, false, &globals).0, Outcome::Done);
    let show = format!(
        "edgefilter audit show --dir {} --last 2",
        directory.display()
    );
    let (_, text) = run(&show, false, &globals);
    assert_eq!(text.lines().count(), 2);
    assert!(
        text.contains("#3 alice (uid 1000) policy.apply done: edge2.toml; generation 7"),
        "{text}"
    );
    let (_, text) = run(&show, true, &globals);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["records"][0]["subject"], "edge1.toml");
    assert_eq!(
        run("edgefilter audit show", false, &globals).0,
        Outcome::Unreachable
    );
    // edited
    let file = directory.join("audit.jsonl");
    let text = fs::read_to_string(&file).unwrap().replace("edge1", "edge9");
    fs::write(&file, text).unwrap();
    let (outcome, text) = run("edgefilter audit verify", false, &globals);
    assert_eq!(outcome, Outcome::Refused);
    assert!(
        text.starts_with("audit.jsonl:2: this record was changed"),
        "{text}"
    );
    let (_, text) = run(&with_head, true, &globals);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["ok"], false);
    assert_eq!(
        document["problems"].as_array().unwrap().len(),
        1,
        "the head that was noted is still there"
    );
}

#[test]
fn a_manifest_is_made_of_a_sound_policy_only() {
    let scratch = tempfile::tempdir().unwrap();
    let globals = globals(scratch.path());
    let file = scratch.path().join("edge.toml");
    fs::write(
        &file,
        "version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\n",
    )
    .unwrap();
    let words = format!("edgefilter manifest {} --serial 7", file.display());
    let (_, text) = run(&words, false, &globals);
    assert!(
        text.starts_with("edgefilter-manifest 1\nserial 7\nmain edge.toml\n"),
        "{text}"
    );
    approval::Manifest::parse(&text).unwrap();
    let (_, document) = run(&words, true, &globals);
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["manifest"], text);
    fs::write(&file, "version = 2\n").unwrap();
    let arguments = parse(&words).unwrap().command;
    let Command::Manifest(arguments) = arguments else {
        panic!("another command");
    };
    let mut written = Vec::new();
    manifest::manifest(&arguments, &mut Output::plain(&mut written, false)).unwrap_err();
    assert!(written.is_empty());
    assert!(
        parse("edgefilter manifest edge.toml").is_err(),
        "a serial number must be given"
    );
    assert!(parse("edgefilter manifest edge.toml --serial 0").is_err());
}
