//! Every operation of the control API as every role, on a running daemon: who may do what, and that every answer is what
//! docs/openapi.json says.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::control::{Answer, ask_as, operations, socket};
use edgefilter_tests::netns::Edge;
use edgefilter_tests::programs::Edgefilter;
use serde_json::{Value, json};

use crate::support::{STRICT, beside, can_run};

/// Nobody with a role, then a member of each, by user and by group. No user has to have these numbers.
const USERS: [(u32, &str); 4] = [
    (61_000, "nobody"),
    (61_001, "viewer"),
    (61_002, "operator"),
    (61_003, "admin"),
];
pub const SETTINGS: &str = "\
[roles.viewer]
users = [\"#61001\"]
[roles.operator]
groups = [\"#61002\"]
[roles.admin]
users = [\"#61003\"]
";

fn started(edge: &Edge) -> Result<Edgefilter> {
    let mut daemon = Edgefilter::prepare(&edge.host, &edge.scratch, STRICT)?;
    daemon.settings(&edge.scratch, SETTINGS)?;
    daemon.start()?;
    Ok(daemon)
}

#[test]
fn every_operation_as_every_role() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let daemon = started(&edge)?;
    if !daemon.filtering() {
        return Ok(());
    }
    let socket = socket(daemon.run_dir()?);
    let document: Value = serde_json::from_str(include_str!("../../../docs/openapi.json"))?;
    let before = daemon.status()?["policy"]["fingerprint"].clone();
    let mut wrong = Vec::new();
    println!(
        "{:<18} {:<9} {:>7} {:>7} {:>9} {:>6} {:>5}",
        "operation", "least", "nobody", "viewer", "operator", "admin", "root"
    );
    let all = operations::all(&document)?;
    for operation in &all {
        let rank = |role: &str| USERS.iter().position(|(_, known)| *known == role);
        let needed = rank(&operation.role).with_context(|| format!("role {}", operation.role))?;
        let mut codes = Vec::new();
        for (held, (uid, role)) in USERS.into_iter().chain([(0, "root")]).enumerate() {
            let answer = ask_as(
                &socket,
                uid,
                &operation.method,
                &operation.path,
                &operation.body,
            )?;
            codes.push(answer.code.to_string());
            let refused = answer.code == 403;
            if refused != (held < needed) {
                wrong.push(format!(
                    "{} as {role}: {} {}",
                    operation.name, answer.code, answer.body
                ));
            }
            if let Err(error) = is_described(&document, &operation.answers, &answer) {
                wrong.push(format!(
                    "{} as {role}: {error:#}: {}",
                    operation.name, answer.body
                ));
            }
        }
        println!(
            "{:<18} {:<9} {:>7} {:>7} {:>9} {:>6} {:>5}",
            operation.name, operation.role, codes[0], codes[1], codes[2], codes[3], codes[4]
        );
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(all.len() >= 9, "only {} operations", all.len());
    ensure!(
        daemon.status()?["policy"]["fingerprint"] == before,
        "the policy was changed"
    );
    let records = daemon
        .cli(&["audit", "show", "--json", "--last", "1000"])?
        .require()?;
    let records: Value = serde_json::from_str(&records.stdout)?;
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for record in records["records"].as_array().context("no records")? {
        if record["outcome"] == "refused" && record["actor"]["role"].is_null() {
            *refused.entry(record["action"].to_string()).or_default() += 1;
        }
    }
    ensure!(
        refused.len() == all.len(),
        "of {} operations, {} refused to nobody are recorded: {refused:?}",
        all.len(),
        refused.len()
    );
    Ok(())
}

/// Whether the document says that this may be the answer.
fn is_described(
    document: &Value,
    answers: &[(String, Value, bool)],
    answer: &Answer,
) -> Result<()> {
    if answer.code != 200 {
        let refused = &document["components"]["responses"]["Refused"]["content"];
        let body = serde_json::from_str(&answer.body).context("a refusal is a document")?;
        return fits(document, &refused["application/json"]["schema"], &body);
    }
    let (_, schema, lines) = answers
        .iter()
        .find(|(media, _, _)| *media == answer.media_type)
        .with_context(|| format!("{} is not described", answer.media_type))?;
    if *lines {
        for line in answer.body.lines() {
            fits(document, schema, &serde_json::from_str(line)?)?;
        }
        Ok(())
    } else if answer.media_type == "application/json" {
        fits(document, schema, &serde_json::from_str(&answer.body)?)
    } else {
        ensure!(answer.body.len() > 100, "there is nothing in it");
        Ok(())
    }
}

fn fits(document: &Value, schema: &Value, value: &Value) -> Result<()> {
    let whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "components": document["components"],
        "allOf": [schema],
    });
    let validator = jsonschema::draft202012::new(&whole).context("the schema is no schema")?;
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    ensure!(errors.is_empty(), "{}", errors.join("; "));
    Ok(())
}

#[test]
fn commands_say_what_a_role_may_not() -> Result<()> {
    if !can_run(&["setpriv"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let mut daemon = started(&edge)?;
    if !daemon.filtering() {
        return Ok(());
    }
    let run = |daemon: &Edgefilter, uid: u32, words: &[&str]| {
        let uid = uid.to_string();
        let program = [
            "setpriv",
            "--reuid",
            &uid,
            "--regid",
            &uid,
            "--clear-groups",
            "--",
        ];
        daemon.cli_under(&program, words)
    };
    let add = [
        "block",
        "add",
        "198.51.100.7",
        "--ttl",
        "1m",
        "--comment",
        "incident 7",
    ];
    for (uid, words, code, says) in [
        (61_000, &["status"][..], 4, "#61000 has no role here"),
        (61_001, &["status"], 0, "policy:"),
        (61_001, &["metrics"], 0, "edgefilter_policy_load_ok 1"),
        (
            61_001,
            &add,
            4,
            "this takes the role operator, and #61001 is viewer",
        ),
        (61_002, &add, 0, "198.51.100.7"),
        (
            61_002,
            &["block", "remove", "198.51.100.7"],
            0,
            "198.51.100.7",
        ),
        (61_003, &add, 0, "198.51.100.7"),
    ] {
        let ended = run(&daemon, uid, words)?;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(
            ended.code() == code && said.contains(says),
            "user {uid} {words:?}: {} {said}",
            ended.code()
        );
    }
    let why = daemon
        .cli(&["audit", "show", "--action", "block.add", "--json"])?
        .require()?;
    let why: Value = serde_json::from_str(&why.stdout)?;
    let records = why["records"].as_array().context("no records")?;
    let done = records.iter().filter(|record| record["outcome"] == "done");
    ensure!(
        done.map(|record| &record["message"])
            .eq(["incident 7", "incident 7"]),
        "the comment is not on record: {why}"
    );
    // roles that are taken away count at once, a broken file changes nothing, and without roles nobody comes in
    for (settings, code, error) in [
        ("[roles.operator]\nusers = [\"#61001\"]\n", 0, false),
        ("[roles.operator]\nuser = [\"#61001\"]\n", 0, true),
        ("", 4, false),
    ] {
        daemon.settings(&edge.scratch, settings)?;
        daemon.hang_up()?;
        let mut last = (Value::Null, -1);
        let reached = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            let status = daemon.status().unwrap_or_default();
            let broken = status["settings"]["last_error"].is_string();
            let ended = run(&daemon, 61_001, &add).map_or(-1, |ended| ended.code());
            last = (status["settings"].clone(), ended);
            broken == error && ended == code
        });
        ensure!(reached, "{settings:?}: {last:?}");
    }
    Ok(())
}
