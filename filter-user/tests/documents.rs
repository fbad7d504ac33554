//! What the documents say is what the program does.

#![expect(clippy::unwrap_used, reason = "a test ends at what is wrong")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use filter_common::reason::Reason;
use filter_common::scan::Pattern;
use filter_user::cli::Cli;
use filter_user::control::{self, BlockList, BlockOrder, ScanList};
use filter_user::entries::record::{EntryList, EntryOrder};
use filter_user::explain::{Explanation, Question};
use filter_user::policy;
use filter_user::report::scans::ScanStatus;
use filter_user::scans::record::Report;
use schemars::{Schema, schema_for};
use serde::Serialize;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

#[test]
fn the_table_of_reasons_is_the_programs_list() {
    let page = read("docs/operations.md");
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `pass_") || line.starts_with("| `drop_"))
        .collect();
    let expected: Vec<String> = Reason::ALL
        .iter()
        .map(|reason| format!("| `{}` | {} |", reason.name(), reason.text()))
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn the_table_of_patterns_is_the_programs_list() {
    let page = read("docs/operations.md");
    let rows: Vec<&str> = page
        .lines()
        .skip_while(|line| !line.starts_with("| pattern |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let expected: Vec<String> = Pattern::ALL
        .iter()
        .map(|pattern| format!("| `{}` | {} |", pattern.name(), pattern.text()))
        .collect();
    assert_eq!(rows, expected);
}

/// With `WRITE_SCHEMAS` in the environment the files are written instead of compared.
#[test]
fn the_schemas_are_those_of_the_program() {
    let schemas: [(&str, Schema); 10] = [
        ("policy", Schema::try_from(policy::schema()).unwrap()),
        ("scans", schema_for!(ScanList)),
        ("blocks", schema_for!(BlockList)),
        ("block-order", schema_for!(BlockOrder)),
        ("entries", schema_for!(EntryList)),
        ("entry-order", schema_for!(EntryOrder)),
        ("report", schema_for!(Report)),
        ("scan-status", schema_for!(ScanStatus)),
        ("explain-question", schema_for!(Question)),
        ("explanation", schema_for!(Explanation)),
    ];
    for (name, schema) in schemas {
        is_written(&format!("docs/schemas/{name}.json"), &schema);
    }
}

/// With `WRITE_SCHEMAS` in the environment the file is written instead of compared.
#[test]
fn the_openapi_document_is_that_of_the_program() {
    is_written("docs/openapi.json", &control::openapi());
}

/// With `WRITE_SCHEMAS` in the environment the table is written instead of compared.
#[test]
fn the_table_of_operations_is_that_of_the_program() {
    const BEGIN: &str = "<!-- operations -->\n";
    const END: &str = "<!-- end of operations -->";
    let document = control::openapi();
    let mut table = "| operation | role | what |\n|---|---|---|\n".to_owned();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_uppercase();
            let text = |key: &str| operation[key].as_str().unwrap().to_owned();
            let bytes = operation["x-body-bytes"].as_u64().unwrap_or(0);
            let body = match bytes >> 20 {
                0 => String::new(),
                mib => format!("; body at most {mib} MiB"),
            };
            let seconds = operation["x-answer-seconds"].as_u64().unwrap();
            let time = match seconds {
                4 => String::new(),
                seconds => format!("; within {seconds} s"),
            };
            let (role, summary) = (text("x-role"), text("summary"));
            table.extend(["| `", &method, " ", path, "` | ", &role, " | "]);
            table.extend([summary, body, time, " |\n".to_owned()]);
        }
    }
    let page = read("docs/api.md");
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let written = format!("{before}{BEGIN}{table}{END}{after}");
    if std::env::var_os("WRITE_SCHEMAS").is_some() {
        fs::write(root().join("docs/api.md"), written).unwrap();
    } else {
        assert_eq!(page, written, "run this test with WRITE_SCHEMAS=1");
    }
}

fn is_written(path: &str, document: &impl Serialize) {
    let text = serde_json::to_string_pretty(document).unwrap() + "\n";
    if std::env::var_os("WRITE_SCHEMAS").is_some() {
        fs::write(root().join(path), text).unwrap();
    } else {
        assert_eq!(
            read(path),
            text,
            "{path} is not what the program writes; run this test with WRITE_SCHEMAS=1"
        );
    }
}

/// Every `edgefilter` command in the pages can be typed like that.
#[test]
fn the_commands_in_the_pages_parse() {
    let mut seen = 0;
    for page in [
        "README.md",
        "docs/api.md",
        "docs/operations.md",
        "docs/policy.md",
    ] {
        for line in read(page).lines() {
            let Some(command) = line
                .trim_start_matches(['$', '#', ' '])
                .strip_prefix("edgefilter ")
            else {
                continue;
            };
            if !line.trim_start().starts_with(['$', '#']) {
                continue;
            }
            let words = command
                .split(['|', '>', ';', '&'])
                .next()
                .unwrap_or_default()
                .split("  ")
                .next()
                .unwrap_or_default();
            let words = std::iter::once("edgefilter").chain(words.split_whitespace());
            let parsed = Cli::try_parse_from(words);
            assert!(parsed.is_ok(), "{page}: {line}: {}", parsed.unwrap_err());
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn the_policy_in_the_readme_loads() {
    let readme = read("README.md");
    let lines: Vec<&str> = readme
        .lines()
        .skip_while(|line| !line.trim_start().starts_with("```toml"))
        .skip(1)
        .take_while(|line| !line.trim_start().starts_with("```"))
        .map(|line| line.strip_prefix("   ").unwrap_or(line))
        .collect();
    let block = lines.join("\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    fs::write(&file, block).unwrap();
    let loaded = policy::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.policy.profiles.len(), 1);
    assert_eq!(loaded.policy.profiles[0].allow.len(), 2);
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    for page in [
        "README.md",
        "docs/api.md",
        "docs/architecture.md",
        "docs/operations.md",
        "docs/policy.md",
        "docs/performance.md",
    ] {
        let folder = root().join(page).parent().unwrap().to_owned();
        for target in read(page)
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            assert!(folder.join(file).exists(), "{page}: {target} leads nowhere");
        }
    }
}
