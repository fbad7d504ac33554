//! What the documents say is what the program does.

use std::fs;
use std::path::{Path, PathBuf};

use filter_common::reason::Reason;
use filter_user::policy;

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
