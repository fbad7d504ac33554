//! `edgefilter fmt` and `edgefilter schema`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;

use super::super::*;
use super::output;

const UGLY: &str = "version=1\n[profiles.edge] # outside\ninterfaces=\"eth0\"\n";
const FINE: &str = "version = 1\n\n[profiles.edge] # outside\ninterfaces = \"eth0\"\n";

fn arguments(files: &[&std::path::Path]) -> Fmt {
    Fmt {
        files: files.iter().map(|file| (*file).to_owned()).collect(),
        check: false,
        diff: false,
    }
}

#[test]
fn fmt_looks_before_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (
        folder.path().join("a.toml"),
        folder.path().join("link.toml"),
    );
    fs::write(&file, UGLY).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&file, &link).unwrap();
    let check = Fmt {
        check: true,
        ..arguments(&[&file])
    };
    let (outcome, text) = output(false, |out| fmt::fmt(&check, out));
    assert_eq!(
        (outcome, text),
        (Outcome::Refused, format!("{}\n", file.display()))
    );
    let diff = Fmt {
        diff: true,
        ..arguments(&[&file])
    };
    let (outcome, text) = output(false, |out| fmt::fmt(&diff, out));
    assert_eq!(outcome, Outcome::Refused);
    assert!(text.contains("\n-version=1\n+version = 1\n"), "{text}");
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        UGLY,
        "nothing is written"
    );

    let (outcome, text) = output(false, |out| fmt::fmt(&arguments(&[&link]), out));
    assert_eq!((outcome, text.as_str()), (Outcome::Done, ""));
    assert_eq!(fs::read_to_string(&file).unwrap(), FINE);
    assert!(link.is_symlink());
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o640
    );
    let (outcome, text) = output(false, |out| fmt::fmt(&check, out));
    assert_eq!((outcome, text.as_str()), (Outcome::Done, ""));
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "nothing is left behind"
    );
}

#[test]
fn fmt_says_of_each_file_what_became_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let names =
        ["good.toml", "broken.toml", "none.toml", "p.json"].map(|name| folder.path().join(name));
    fs::write(&names[0], FINE).unwrap();
    fs::write(&names[1], "version = [\n").unwrap();
    fs::write(&names[3], "{\"version\":1}").unwrap();
    let files: Vec<_> = names.iter().map(std::path::PathBuf::as_path).collect();
    let (outcome, text) = output(true, |out| fmt::fmt(&arguments(&files), out));
    assert_eq!(outcome, Outcome::Refused);
    let document: Value = serde_json::from_str(&text).unwrap();
    let files = document["files"].as_array().unwrap();
    let changed: Vec<_> = files.iter().map(|file| file["changed"] == true).collect();
    assert_eq!(changed, [false, false, false, true]);
    let error = |at: usize| files[at]["error"].as_str().unwrap_or_default();
    assert!(
        error(1).contains("line") && error(2).contains("no such file"),
        "{text}"
    );
    assert_eq!(fs::read_to_string(&names[1]).unwrap(), "version = [\n");
    assert_eq!(
        fs::read_to_string(&names[3]).unwrap(),
        "{ \"version\": 1 }\n"
    );
}

#[test]
fn schema_is_one_document() {
    let (outcome, text) = output(false, documents::schema);
    assert_eq!(outcome, Outcome::Done);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["additionalProperties"], false);
    assert!(document["properties"]["profiles"].is_object());
}
