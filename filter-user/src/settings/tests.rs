//! Settings files, good and bad.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

fn from(text: &str) -> Result<Settings, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("daemon.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    read(&path).map_err(|errors| {
        let folder = directory.path().to_string_lossy().into_owned() + "/";
        errors.to_string().replace(&folder, "")
    })
}

#[test]
fn nothing_is_everything_by_default() {
    assert_eq!(from("").unwrap(), Settings::default());
    assert_eq!(Settings::default().generations.keep, 20);
    assert_eq!(Settings::default().require_signatures, 0);
    assert!(Settings::default().remote.is_none());
}

#[test]
fn the_shipped_example_is_read() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/daemon.toml");
    let settings = from(&fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(settings.roles.viewer.groups, ["adm"]);
    assert_eq!(settings.roles.operator.groups, ["netops"]);
    assert_eq!(settings.audit.files, 8);
    assert_eq!(settings.generations.keep, 20);
}

#[test]
fn every_mistake_has_its_place_and_cure() {
    for (text, expected) in [
        (
            "require_signature = 2\n",
            "daemon.toml:1:1: error: `require_signature` is no setting here (did you mean `require_signatures`?)",
        ),
        (
            "[roles.viewr]\nusers = []\n",
            "daemon.toml:1:8: error: `viewr` is no setting here (did you mean `viewer`?)",
        ),
        (
            "[generations]\nkeep = 1\n",
            "daemon.toml:2:8: error: 1 is not between 2 and 1000 (docs/operations.md has all settings with their values)",
        ),
        (
            "allowed_signers = \"signers\"\n",
            "daemon.toml:1:19: error: not an absolute path: begin it with `/` (docs/operations.md has all settings with their values)",
        ),
        (
            "# approvals\nrequire_signatures = 2\n",
            "daemon.toml:2:1: error: signatures are required, and nobody may sign (name a file of signers: allowed_signers = \"/etc/edgefilter/allowed_signers\")",
        ),
    ] {
        assert_eq!(from(text).unwrap_err(), expected);
    }
    for text in [
        "[roles",
        "[remote]\nlisten = \"0.0.0.0:8443\"\n",
        "[remote]\nlisten = \"somewhere\"\n",
        "[roles.viewer]\nusers = \"carol\"\n",
        "\u{0}",
    ] {
        let error = from(text).unwrap_err();
        assert!(error.starts_with("daemon.toml:"), "{text:?}: {error}");
    }
}

#[test]
fn a_file_that_others_can_write_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("daemon.toml");
    fs::write(&path, "").unwrap();
    for (mode, trusted) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let outcome = read(&path);
        assert_eq!(outcome.is_ok(), trusted, "{mode:o}");
        if let Err(error) = outcome {
            assert!(error.to_string().contains("chmod go-w"), "{error}");
        }
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let link = directory.path().join("link.toml");
    symlink(&path, &link).unwrap();
    read(&link).unwrap_err();
    read(directory.path()).unwrap_err();
    let pipe = directory.path().join("pipe.toml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let error = read(&pipe).unwrap_err().to_string();
    assert!(error.contains("not in a regular file"), "{error}");
    read(&directory.path().join("none.toml")).unwrap_err();
    if geteuid_is_root() {
        std::os::unix::fs::chown(&path, Some(61_000), None).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("belong to user 61000"), "{error}");
    }
}

fn geteuid_is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(\\[?(roles|audit|remote|generations)(\\.(viewer|admin))?\\]?|[a-z_]+ = [0-9\"\\[\\]{},a-z]*|\\PC{0,20}|\n){0,20}") {
        let _ = from(&text);
    }
}
