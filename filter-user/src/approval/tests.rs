//! Signatures are made by the real ssh-keygen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::policy;

const POLICY: &str = r#"
version = 1
[groups.admins]
files = ["lists/admins.txt"]
[profiles.edge]
interfaces = ["eth0"]
[[profiles.edge.allow]]
id = "ssh"
protocol = "tcp"
ports = [22]
from = ["@admins"]
"#;

/// A checkout with a policy, keys of people and a list of them.
struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self {
            directory: TempDir::new().unwrap(),
        };
        desk.write("policy.toml", POLICY);
        fs::create_dir(desk.path("lists")).unwrap();
        desk.write("lists/admins.txt", "192.0.2.0/24\n");
        for person in ["alice", "bob", "mallory"] {
            desk.key(person, &["-t", "ed25519"]);
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn key(&self, person: &str, kind: &[&str]) {
        ssh_keygen(|command| {
            command
                .args(kind)
                .args(["-q", "-N", "", "-C", person, "-f"])
                .arg(self.path(person))
        });
    }

    fn public(&self, person: &str) -> String {
        let text = fs::read_to_string(self.path(&format!("{person}.pub"))).unwrap();
        text.trim().to_owned()
    }

    fn allowed(&self, lines: &[(&str, &str)]) -> AllowedSigners {
        let line = |(begin, person): &(&str, &str)| format!("{begin} {}\n", self.public(person));
        let text: String = lines.iter().map(line).collect();
        AllowedSigners::parse(&text).unwrap()
    }

    fn two(&self) -> AllowedSigners {
        self.allowed(&[("alice@example.org", "alice"), ("bob@example.org", "bob")])
    }

    fn bundle(&self) -> Bundle {
        policy::gather(&self.path("policy.toml")).unwrap().1
    }

    fn manifest(&self, serial: u64) {
        let manifest = Manifest::new(&self.bundle(), serial).unwrap();
        self.write("policy.toml.manifest", &manifest.text());
    }

    fn sign(&self, person: &str) {
        self.sign_for(person, NAMESPACE);
    }

    fn sign_for(&self, person: &str, namespace: &str) {
        let manifest = self.path("policy.toml.manifest");
        ssh_keygen(|command| {
            command
                .args(["-Y", "sign", "-n", namespace, "-f"])
                .arg(self.path(person))
                .arg(&manifest)
        });
        let made = self.path("policy.toml.manifest.sig");
        fs::rename(
            made,
            self.path(&format!("policy.toml.manifest.{person}.sig")),
        )
        .unwrap();
    }

    fn verify(
        &self,
        allowed: &AllowedSigners,
        required: u32,
        last: Option<&Accepted>,
    ) -> Result<Approved, String> {
        let approval = read(&self.path("policy.toml")).unwrap();
        let now = SystemTime::now();
        verify(
            &self.bundle(),
            approval.as_ref(),
            allowed,
            required,
            last,
            now,
        )
        .map_err(|error| error.to_string())
    }

    fn refused(&self, allowed: &AllowedSigners, required: u32) -> String {
        self.verify(allowed, required, None).unwrap_err()
    }
}

fn ssh_keygen(arguments: impl FnOnce(&mut Command) -> &mut Command) {
    let output = arguments(&mut Command::new("ssh-keygen")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ssh-keygen: {said}");
}

#[test]
fn two_of_two_are_accepted() {
    let desk = Desk::new();
    desk.manifest(7);
    desk.sign("alice");
    desk.sign("bob");
    let approved = desk.verify(&desk.two(), 2, None).unwrap();
    assert_eq!(approved.signers, ["alice@example.org", "bob@example.org"]);
    assert_eq!(approved.serial, 7);
    // the real ssh-keygen says the same of the same files
    desk.write(
        "signers",
        &format!("alice@example.org {}\n", desk.public("alice")),
    );
    let verified = Command::new("ssh-keygen")
        .args([
            "-Y",
            "verify",
            "-n",
            NAMESPACE,
            "-I",
            "alice@example.org",
            "-f",
        ])
        .arg(desk.path("signers"))
        .arg("-s")
        .arg(desk.path("policy.toml.manifest.alice.sig"))
        .stdin(fs::File::open(desk.path("policy.toml.manifest")).unwrap())
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
    // the same files elsewhere
    let other = TempDir::new().unwrap();
    fs::create_dir(other.path().join("lists")).unwrap();
    for name in ["policy.toml", "lists/admins.txt"] {
        fs::copy(desk.path(name), other.path().join(name)).unwrap();
    }
    let bundle = policy::gather(&other.path().join("policy.toml")).unwrap().1;
    let approval = read(&desk.path("policy.toml")).unwrap();
    let now = SystemTime::now();
    verify(&bundle, approval.as_ref(), &desk.two(), 2, None, now).unwrap();
}

#[test]
fn unsigned_is_refused() {
    let desk = Desk::new();
    assert!(
        desk.refused(&desk.two(), 2)
            .starts_with("the policy is not signed, and 2 must have signed it")
    );
    desk.manifest(1);
    assert_eq!(
        desk.refused(&desk.two(), 2),
        "the policy is signed by nobody who counts, and 2 must have signed it"
    );
}

#[test]
fn one_of_two_and_a_wrong_key_are_refused() {
    let desk = Desk::new();
    desk.manifest(1);
    desk.sign("alice");
    assert_eq!(
        desk.refused(&desk.two(), 2),
        "the policy is signed by 1 of the 2 who must have signed it: alice@example.org"
    );
    desk.sign("mallory");
    let refused = desk.refused(&desk.two(), 2);
    assert!(
        refused.contains("alice@example.org; signature 2: the key SHA256:"),
        "{refused}"
    );
    assert!(
        refused.ends_with("is not among the allowed signers"),
        "{refused}"
    );
    // and is no harm beside enough others
    desk.sign("bob");
    desk.verify(&desk.two(), 2, None).unwrap();
}

#[test]
fn edited_after_signing_is_refused() {
    let desk = Desk::new();
    desk.manifest(1);
    desk.sign("alice");
    desk.sign("bob");
    let allowed = desk.two();
    desk.write("policy.toml", &POLICY.replace("22", "23"));
    assert!(
        desk.refused(&allowed, 2)
            .starts_with("policy.toml is not as it was signed")
    );
    desk.write("policy.toml", POLICY);
    desk.write("lists/admins.txt", "192.0.2.0/24\n198.51.100.0/24\n");
    assert!(
        desk.refused(&allowed, 2)
            .starts_with("lists/admins.txt is not as it was signed")
    );
    // the manifest made anew, the signatures not
    desk.manifest(1);
    let refused = desk.refused(&allowed, 2);
    assert!(refused.contains("nobody who counts"), "{refused}");
    assert!(
        refused.contains("alice@example.org signed something else"),
        "{refused}"
    );
    // the serial number raised by hand
    desk.write("lists/admins.txt", "192.0.2.0/24\n");
    desk.manifest(2);
    assert!(desk.refused(&allowed, 2).contains("signed something else"));
    // files added and left out
    desk.manifest(1);
    let more = POLICY.replace(
        "[\"lists/admins.txt\"]",
        "[\"lists/admins.txt\", \"lists/more.txt\"]",
    );
    desk.write("lists/more.txt", "203.0.113.0/24\n");
    desk.write("policy.toml", &more);
    assert!(
        desk.refused(&allowed, 2)
            .starts_with("lists/more.txt is part of the policy and not of the manifest")
    );
    desk.manifest(1);
    desk.write("policy.toml", POLICY);
    assert!(
        desk.refused(&allowed, 2)
            .starts_with("policy.toml is not as it was signed")
    );
}

#[test]
fn another_namespace_is_refused() {
    let desk = Desk::new();
    desk.manifest(1);
    desk.sign("alice");
    desk.sign_for("bob", "git");
    let refused = desk.refused(&desk.two(), 2);
    assert!(
        refused.contains("signature 2: it was made with `-n git`"),
        "{refused}"
    );
}

#[test]
fn replayed_is_refused() {
    let desk = Desk::new();
    let allowed = desk.two();
    desk.manifest(7);
    desk.sign("alice");
    desk.sign("bob");
    let serial = desk.verify(&allowed, 2, None).unwrap().serial;
    let digest = desk.bundle().digest();
    let seven = Accepted { serial, digest };
    // the same once more is no replay: the daemon starts again
    desk.verify(&allowed, 2, Some(&seven)).unwrap();
    let eight = Accepted {
        serial: 8,
        digest: seven.digest.clone(),
    };
    let refused = desk.verify(&allowed, 2, Some(&eight)).unwrap_err();
    assert!(
        refused.starts_with("the manifest's serial number is 7, and 8 was accepted before"),
        "{refused}"
    );
    // another policy under a number that was used
    desk.write("lists/admins.txt", "198.51.100.0/24\n");
    desk.manifest(7);
    desk.sign("alice");
    desk.sign("bob");
    assert!(
        desk.verify(&allowed, 2, Some(&seven))
            .unwrap_err()
            .contains("and 7 was accepted before")
    );
}

#[test]
fn a_person_counts_once() {
    let desk = Desk::new();
    desk.key("second", &["-t", "ed25519"]);
    desk.manifest(1);
    desk.sign("alice");
    desk.sign("second");
    let same = desk.allowed(&[("alice", "alice"), ("alice", "second")]);
    assert!(
        desk.refused(&same, 2)
            .ends_with("alice has signed already, and counts once")
    );
    let named_twice = desk.allowed(&[("alice,al", "alice"), ("al@home,al", "second")]);
    assert_eq!(named_twice.people(), 1);
    assert!(desk.refused(&named_twice, 2).contains("counts once"));
    // the third line says that the first two are one person
    let joined = desk.allowed(&[("alice", "alice"), ("bob", "second"), ("bob,alice", "bob")]);
    assert_eq!(joined.people(), 1);
    let one_key = desk.allowed(&[("alice", "alice"), ("bob", "alice"), ("bob", "second")]);
    assert_eq!(one_key.people(), 1);
    let different = desk.allowed(&[("alice", "alice"), ("bob", "second")]);
    desk.verify(&different, 2, None).unwrap();
    // one signature copied
    fs::remove_file(desk.path("policy.toml.manifest.second.sig")).unwrap();
    let copy = desk.path("policy.toml.manifest.copy.sig");
    fs::copy(desk.path("policy.toml.manifest.alice.sig"), copy).unwrap();
    assert!(desk.refused(&different, 2).contains("counts once"));
}

#[test]
fn every_kind_of_key() {
    let desk = Desk::new();
    let kinds: [(&str, &[&str]); 5] = [
        ("p256", &["-t", "ecdsa", "-b", "256"]),
        ("p384", &["-t", "ecdsa", "-b", "384"]),
        ("p521", &["-t", "ecdsa", "-b", "521"]),
        ("rsa2048", &["-t", "rsa", "-b", "2048"]),
        ("rsa3072", &["-t", "rsa", "-b", "3072"]),
    ];
    for (name, kind) in kinds {
        desk.key(name, kind);
    }
    let lines: Vec<(&str, &str)> = kinds.iter().map(|(name, _)| (*name, *name)).collect();
    let allowed = desk.allowed(&lines);
    desk.manifest(1);
    for (name, _) in kinds {
        desk.sign(name);
    }
    let approved = desk.verify(&allowed, 5, None).unwrap();
    assert_eq!(approved.signers.len(), 5);
    // none of them signed this
    desk.manifest(2);
    let refused = desk.refused(&allowed, 5);
    assert_eq!(
        refused.matches("signed something else").count(),
        5,
        "{refused}"
    );
}

#[test]
fn keys_have_their_time_and_their_use() {
    let desk = Desk::new();
    desk.manifest(1);
    desk.sign("alice");
    let approval = read(&desk.path("policy.toml")).unwrap();
    let at = |options: &str, seconds: u64| {
        let allowed = desk.allowed(&[(&format!("alice {options}"), "alice")]);
        let now = UNIX_EPOCH + Duration::from_secs(seconds);
        verify(&desk.bundle(), approval.as_ref(), &allowed, 1, None, now)
            .map(|approved| approved.signers.len())
            .map_err(|error| error.to_string())
    };
    // 2026-01-02T00:00:00Z
    const MOMENT: u64 = 1_767_312_000;
    let after = "valid-after=\"20260102Z\"";
    assert_eq!(at(after, MOMENT), Ok(1));
    assert!(
        at(after, MOMENT - 1)
            .unwrap_err()
            .contains("is valid only from 2026-01-02T00:00:00.000Z on")
    );
    let before = "valid-before=\"202601020000Z\"";
    assert_eq!(at(before, MOMENT), Ok(1));
    assert!(
        at(before, MOMENT + 1)
            .unwrap_err()
            .contains("was valid only until 2026-01-02T00:00:00.000Z")
    );
    let both = "namespaces=\"git,edgefilter\",valid-before=\"20260102000000Z\"";
    assert_eq!(at(both, MOMENT), Ok(1));
    assert_eq!(at("NAMESPACES=\"edge*\"", MOMENT), Ok(1));
    for namespaces in ["git", "*,!edgefilter", "edgefilter2"] {
        let refused = at(&format!("namespaces=\"{namespaces}\""), MOMENT).unwrap_err();
        assert!(
            refused.contains("is not allowed for the namespace edgefilter"),
            "{refused}"
        );
    }
}

#[test]
fn lists_that_cannot_be_trusted() {
    let desk = Desk::new();
    let key = desk.public("alice");
    let refused = |text: String| AllowedSigners::parse(&text).unwrap_err().to_string();
    for (line, part) in [
        (
            format!("*@example.org {key}"),
            "`*@example.org` is a pattern",
        ),
        (
            format!("alice cert-authority {key}"),
            "certificates are not supported",
        ),
        (
            format!("alice valid-after=\"tomorrow\" {key}"),
            "`tomorrow` is no time",
        ),
        (
            format!("alice valid-after=\"20261301\" {key}"),
            "`20261301` is no time",
        ),
        (
            format!("alice valid-after=20260101 {key}"),
            "needs a value in quotes",
        ),
        (
            format!("alice verify-required {key}"),
            "option `verify-required` is unknown",
        ),
        (
            format!("alice namespaces=\"x {key}"),
            "a quote is not closed",
        ),
        (
            "alice ssh-ed25519 AAAA".to_owned(),
            "there is no public key",
        ),
        ("alice".to_owned(), "there is no key"),
        (format!("alice,,bob {key}"), "a name is missing"),
    ] {
        let text = refused(format!("# people\n\n{line}\n"));
        assert!(
            text.starts_with("line 3 of the allowed signers: "),
            "{line}: {text}"
        );
        assert!(text.contains(part), "{line}: {text}");
    }
    assert_eq!(
        AllowedSigners::parse(&format!("\"alice,bob\" {key}"))
            .unwrap()
            .people(),
        1
    );
    assert_eq!(AllowedSigners::parse("# nobody\n").unwrap().people(), 0);
}

#[test]
fn who_can_write_the_list_can_approve() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let desk = Desk::new();
    desk.write("signers", &format!("alice {}\n", desk.public("alice")));
    let path = desk.path("signers");
    let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    assert_eq!(AllowedSigners::read(&path).unwrap().people(), 1);
    for open in [0o664, 0o646] {
        mode(open);
        let refused = AllowedSigners::read(&path).unwrap_err().to_string();
        assert!(
            refused.contains("can be written by others than root"),
            "{refused}"
        );
    }
    mode(0o644);
    chown(&path, Some(12345), None).unwrap();
    assert!(
        AllowedSigners::read(&path)
            .unwrap_err()
            .to_string()
            .contains("is not owned by root")
    );
    let missing = AllowedSigners::read(Path::new("/nonexistent/signers")).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/signers"));
}

#[test]
fn what_stands_beside_the_policy() {
    let desk = Desk::new();
    let policy = desk.path("policy.toml");
    assert_eq!(read(&policy).unwrap(), None);
    desk.write("policy.toml.manifest", "text");
    desk.write("policy.toml.manifest.sig", "one");
    desk.write("policy.toml.manifest.bob.sig", "two");
    desk.write("policy.toml.manifest2.sig", "not ours");
    desk.write("other.toml.manifest.sig", "not ours");
    let approval = read(&policy).unwrap().unwrap();
    assert_eq!(approval.manifest, "text");
    assert_eq!(approval.signatures, ["two", "one"]);
    desk.write("policy.toml.manifest.large.sig", &"x".repeat(20_000));
    assert!(
        read(&policy)
            .unwrap_err()
            .to_string()
            .ends_with("it is larger than 16 KiB")
    );
    fs::remove_file(desk.path("policy.toml.manifest.large.sig")).unwrap();
    for number in 0..SIGNATURES {
        desk.write(&format!("policy.toml.manifest.{number}.sig"), "x");
    }
    assert!(
        read(&policy)
            .unwrap_err()
            .to_string()
            .contains("more than 64 signatures")
    );
}

#[test]
fn manifests_are_written_in_one_way() {
    let desk = Desk::new();
    let manifest = Manifest::new(&desk.bundle(), 7).unwrap();
    let text = manifest.text();
    assert_eq!(Manifest::parse(&text), Ok(manifest));
    let list = "lists/admins.txt";
    for (other, line) in [
        (text.replace("manifest 1", "manifest 2"), 1),
        (text.replace("serial 7", "serial 07"), 2),
        (text.replace("serial 7", "serial +7"), 2),
        (text.replace("serial 7", "serial x"), 2),
        (text.replace("main ", "Main "), 3),
        (text.replace(" 13 lists", " 013 lists"), 4),
        (text.replace(" 13 lists", " lists"), 4),
        (text.replace(list, "zlists/admins.txt"), 4),
        (text.replace('\n', "\r\n"), 1),
        (format!("{text}\n"), 6),
        (text.trim_end().to_owned(), 5),
        (format!("{text}{}\n", text.lines().last().unwrap()), 6),
        (String::new(), 1),
    ] {
        let error = Manifest::parse(&other).unwrap_err();
        assert!(
            matches!(error, ManifestError::Malformed { line: at, .. } if at == line),
            "{other}: {error}"
        );
    }
}

#[test]
fn names_that_do_not_fit_on_a_line_are_refused() {
    let manifest = |name: &str| {
        let files =
            [("p.toml", ""), (name, "")].map(|(name, text)| (name.to_owned(), text.to_owned()));
        let bundle = Bundle {
            main: "p.toml".to_owned(),
            files: files.into(),
        };
        Manifest::new(&bundle, 1).map_err(|error| error.to_string())
    };
    assert!(
        manifest("a\nb")
            .unwrap_err()
            .contains("without control characters")
    );
    assert!(manifest("").is_err());
    for name in ["../a", "/b", "sub/a b"] {
        manifest(name).unwrap();
    }
}

/// A sound signature and list, to be damaged.
fn sound() -> (String, String, AllowedSigners) {
    let desk = Desk::new();
    desk.manifest(1);
    desk.sign("alice");
    let approval = read(&desk.path("policy.toml")).unwrap().unwrap();
    (
        approval.manifest,
        approval.signatures[0].clone(),
        desk.two(),
    )
}

/// Whatever is changed in a signature, it is not for this text any more, or still exactly the same signature.
#[test]
fn a_damaged_signature_never_counts() {
    let (manifest, armored, allowed) = sound();
    let signer = |text: &str| {
        signature::signer(&manifest, text, &allowed, SystemTime::now()).map(str::to_owned)
    };
    assert_eq!(signer(&armored).unwrap(), "alice@example.org");
    let original = ssh_key::SshSig::from_pem(&armored).unwrap();
    for at in 0..armored.len() {
        for with in ["A", "z", "\n", "=", ""] {
            let mut text = armored.clone();
            text.replace_range(at..=at, with);
            if signer(&text).is_ok() {
                assert_eq!(ssh_key::SshSig::from_pem(text.trim()).unwrap(), original);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_text_is_too_odd(text in "\\PC{0,400}|[a-z,=\"!* \t\n]{0,300}") {
        let _ = AllowedSigners::parse(&text);
        if let Ok(manifest) = Manifest::parse(&text) {
            prop_assert_eq!(manifest.text(), text);
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written(
        serial in any::<u64>(), names in proptest::collection::btree_map("[a-z /.]{1,12}x", "\\PC{0,20}", 0..8),
    ) {
        let mut files = names;
        files.insert("policy.toml".to_owned(), "version = 1".to_owned());
        let bundle = Bundle { main: "policy.toml".to_owned(), files };
        if let Ok(manifest) = Manifest::new(&bundle, serial) {
            prop_assert_eq!(Manifest::parse(&manifest.text()), Ok(manifest.clone()));
            prop_assert_eq!(manifest.check(&bundle), Ok(()));
        }
    }

    /// Of a sound file a piece is replaced.
    #[test]
    fn a_damaged_list_is_refused_or_read(at in 0..80_usize, piece in "[\\PC]{0,6}") {
        let text = "alice,al namespaces=\"edgefilter\",valid-before=\"20300101Z\" ssh-ed25519 \
                    AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl x\n";
        let mut text = text.to_owned();
        let at = at.min(text.len() - 1);
        text.replace_range(at..=at, &piece);
        let _ = AllowedSigners::parse(&text);
    }
}
