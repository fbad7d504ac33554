//! Policies of several files: what is joined, whose mistake is whose, and files that are meant to do harm.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::super::*;

/// A directory with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// The only error, as `file:line:column: code`.
fn refusal(path: &Path) -> String {
    let errors = load(path).unwrap_err();
    let mut places = errors.errors().map(|d| {
        let file = d.file.file_name().unwrap().to_string_lossy().into_owned();
        match &d.location {
            Some(at) => format!("{file}:{}:{}: {}", at.line, at.column, d.code),
            None => format!("{file}: {}", d.code),
        }
    });
    let first = places.next().unwrap();
    assert_eq!(places.next(), None, "{errors}");
    first
}

/// What was loaded, wherever it was: without the directory.
fn meaning(mut loaded: Loaded) -> Loaded {
    let local = |path: &Path| path.file_name().unwrap_or_default().to_owned();
    loaded.policy.path = PathBuf::new();
    for profile in &mut loaded.policy.profiles {
        for rule in &mut profile.allow {
            rule.file = Path::new(&local(&rule.file)).into();
        }
    }
    loaded
}

const MAIN: &str = "version = 1\ninclude = [\"conf.d/*.toml\", \"groups.toml\"]\n\
                    [profiles.edge]\ninterfaces = [\"eth0\"]\n\
                    [[profiles.edge.allow]]\nid = \"first\"\nprotocol = \"tcp\"\nports = [1]\n";

#[test]
fn fragments_add_rules_groups_and_profiles_in_the_order_of_their_names() {
    let folder = folder(&[
        ("policy.toml", MAIN),
        (
            "conf.d/20-web.toml",
            "version = 1\n\n[[profiles.edge.allow]]\nid = \"web\"\nprotocol = \"tcp\"\nports = [443]\nfrom = \"@office\"\n",
        ),
        (
            "conf.d/10-ssh.toml",
            "[[profiles.edge.allow]]\nid = \"ssh\"\nprotocol = \"tcp\"\nports = [22]\nfrom = \"@office\"\n\
             [profiles.lan]\ninterfaces = [\"eth1\"]\n",
        ),
        ("conf.d/.hidden.toml", "rubbish"),
        ("conf.d/notes.txt", "rubbish"),
        (
            "groups.toml",
            "[groups.office]\ncidrs = [\"192.0.2.0/24\"]\nfiles = [\"lists/office.txt\"]\n",
        ),
        ("lists/office.txt", "198.51.100.7\n"),
    ]);
    let path = folder.path().join("policy.toml");
    let (loaded, bundle) = gather(&path).unwrap_or_else(|errors| panic!("{errors}"));
    let rules: Vec<_> = loaded.policy.profiles[0]
        .allow
        .iter()
        .map(|rule| {
            let file = rule
                .file
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned();
            (rule.id.as_str(), file, rule.line)
        })
        .collect();
    assert_eq!(
        rules,
        [
            ("first", "policy.toml".to_owned(), 5),
            ("ssh", "10-ssh.toml".to_owned(), 1),
            ("web", "20-web.toml".to_owned(), 3)
        ]
    );
    assert_eq!(loaded.policy.profiles[1].name, "lan");
    let AddressSet::Prefixes(office) = &loaded.policy.profiles[0].allow[1].from else {
        panic!("everybody");
    };
    assert_eq!(office.v4.len(), 2);
    // the bundle holds just these files, and means the same anywhere
    assert_eq!(bundle.files.len(), 5);
    let sent: Bundle = serde_json::from_str(&serde_json::to_string(&bundle).unwrap()).unwrap();
    fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(meaning(load_bundle(&sent).unwrap()), meaning(loaded));
    let mut short = sent;
    short.files.retain(|name, _| !name.ends_with("office.txt"));
    let errors = load_bundle(&short).unwrap_err().to_string();
    assert!(errors.contains("was not sent"), "{errors}");
}

#[test]
fn a_bundle_has_names_as_they_are_written() {
    let elsewhere = folder(&[
        (
            "shared.toml",
            "include = [\"more.toml\"]\n[groups.s]\nfiles = [\"./s.txt\"]\n",
        ),
        ("more.toml", ""),
        ("s.txt", "192.0.2.1\n"),
    ]);
    let folder = folder(&[
        (
            "conf.d/a.toml",
            "[groups.a]\nfiles = [\"../lists/./a.txt\"]\n",
        ),
        ("lists/a.txt", "192.0.2.2\n"),
        ("own.toml", ""),
    ]);
    let (own, shared) = (
        folder.path().join("own.toml"),
        elsewhere.path().join("shared.toml"),
    );
    let text = format!(
        "version = 1\ninclude = [\"./conf.d/*.toml\", {own:?}, {shared:?}]\n[profiles.edge]\ninterfaces = [\"eth0\"]\n\
         deny = [{{ id = \"d\", from = [\"@a\", \"@s\"] }}]\n"
    );
    let path = folder.path().join("policy.toml");
    fs::write(&path, text).unwrap();
    let (loaded, bundle) = gather(&path).unwrap_or_else(|errors| panic!("{errors}"));
    let outside = |name: &str| elsewhere.path().join(name).display().to_string();
    let mut names = vec![
        "policy.toml".to_owned(),
        "conf.d/a.toml".to_owned(),
        "conf.d/../lists/a.txt".to_owned(),
        own.display().to_string(),
        outside("shared.toml"),
        outside("more.toml"),
        outside("s.txt"),
    ];
    names.sort_unstable();
    assert_eq!(bundle.files.keys().cloned().collect::<Vec<_>>(), names);
    let again = load_bundle(&bundle).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(again.fingerprint, loaded.fingerprint);
    assert_eq!(
        again.policy.profiles[0].deny[0].from,
        loaded.policy.profiles[0].deny[0].from
    );
}

#[test]
fn a_directory_is_a_policy() {
    let folder = folder(&[
        (
            "10-groups.json",
            "{ \"groups\": { \"a\": { \"cidrs\": [\"192.0.2.1\"] } } }",
        ),
        (
            "20-edge.toml",
            "version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\n",
        ),
        (
            "30-rules.toml",
            "[[profiles.edge.allow]]\nid = \"a\"\nprotocol = \"tcp\"\nports = [22]\nfrom = \"@a\"\n",
        ),
        ("readme.md", "# nothing"),
    ]);
    let (loaded, bundle) = gather(folder.path()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.policy.profiles[0].allow.len(), 1);
    assert_eq!(loaded.policy.path, folder.path());
    assert_eq!(bundle.files.len(), 3);
    assert_eq!(bundle.main, "");
    assert_eq!(meaning(load_bundle(&bundle).unwrap()), meaning(loaded));
    fs::write(
        folder.path().join("30-rules.toml"),
        "[profiles.edge]\nvlan = 1\n",
    )
    .unwrap();
    assert_eq!(refusal(folder.path()), "30-rules.toml:2:1: unknown-key");
    let empty = tempfile::tempdir().unwrap();
    let errors = load(empty.path()).unwrap_err().to_string();
    assert!(errors.contains("holds no policy"), "{errors}");
}

#[test]
fn a_key_in_two_files_names_both_places() {
    let folder = folder(&[
        ("policy.toml", MAIN),
        ("conf.d/a.toml", ""),
        (
            "groups.toml",
            "[profiles.edge]\n\ninterfaces = [\"eth1\"]\n",
        ),
    ]);
    let path = folder.path().join("policy.toml");
    assert_eq!(refusal(&path), "groups.toml:3:1: duplicate-key");
    let message = load(&path).unwrap_err().to_string();
    assert!(message.contains("the first is in line 4 of "), "{message}");
    for (text, code) in [
        ("failsafe = []\n", "duplicate-key"),
        (
            "[[failsafe]]\nid = \"first\"\nfrom = \"192.0.2.1\"\n",
            "duplicate-id",
        ),
        ("version = 2\n", "duplicate-key"),
        (
            "[[profiles.edge.allow]]\nid = \"a\nprotocol = 6\n",
            "syntax",
        ),
    ] {
        fs::write(folder.path().join("groups.toml"), text).unwrap();
        fs::write(
            &path,
            format!("{MAIN}[[failsafe]]\nid = \"f\"\nfrom = \"192.0.2.1\"\n"),
        )
        .unwrap();
        let errors = load(&path).unwrap_err();
        assert!(errors.errors().all(|d| d.code == code), "{text}: {errors}");
    }
}

#[test]
fn syntax_errors_of_one_file_leave_the_others_checked() {
    let folder = folder(&[
        (
            "policy.toml",
            &MAIN.replace("ports = [1]", "ports = [99999]"),
        ),
        (
            "groups.toml",
            "[groups.a]\ncidrs = [\"300.1.1.1\"]\n[groups.b\n",
        ),
        ("conf.d/a.toml", "[profiles.lan]\nfragments = \"keep\"\n"),
    ]);
    let errors = load(&folder.path().join("policy.toml")).unwrap_err();
    let codes: Vec<_> = errors.errors().map(|d| d.code).collect();
    assert_eq!(codes, ["ports", "value", "cidr", "syntax"], "{errors}");
}

#[test]
fn loops_depth_and_numbers_are_bounded() {
    let head = "version = 1\n[profiles.edge]\ninterfaces = [\"eth0\"]\n";
    let looping = folder(&[
        ("a.toml", &format!("include = [\"b.toml\"]\n{head}")),
        ("b.toml", "include = [\"./c.toml\"]\n"),
        ("c.toml", "include = [\"../x/../a.toml\", \"a.toml\"]\n"),
    ]);
    fs::create_dir(looping.path().join("x")).unwrap();
    fs::write(
        looping.path().join("c.toml"),
        "include = [\"x/../a.toml\"]\n",
    )
    .unwrap();
    let path = looping.path().join("a.toml");
    assert_eq!(refusal(&path), "c.toml:1:12: include-loop");
    let message = load(&path).unwrap_err().to_string();
    assert!(message.contains("b.toml -> "), "{message}");

    // a diamond is none
    let diamond = folder(&[
        (
            "a.toml",
            &format!("include = [\"b.toml\", \"c.toml\"]\n{head}"),
        ),
        ("b.toml", "include = [\"d.toml\"]\n"),
        ("c.toml", "include = [\"d.toml\"]\n"),
        ("d.toml", "[profiles.lan]\ninterfaces = [\"eth1\"]\n"),
    ]);
    assert_eq!(
        load(&diamond.path().join("a.toml"))
            .unwrap()
            .policy
            .profiles
            .len(),
        2
    );

    let deep = folder(&[("0.toml", &format!("include = [\"1.toml\"]\n{head}"))]);
    for level in 1..20 {
        let text = format!("include = [\"{}.toml\"]\n", level + 1);
        fs::write(deep.path().join(format!("{level}.toml")), text).unwrap();
    }
    assert_eq!(
        refusal(&deep.path().join("0.toml")),
        "8.toml:1:12: include-depth"
    );

    let many = folder(&[("a.toml", &format!("include = [\"d/*.toml\"]\n{head}"))]);
    fs::create_dir(many.path().join("d")).unwrap();
    for number in 0..=MAX_FILES {
        fs::write(many.path().join(format!("d/{number}.toml")), "").unwrap();
    }
    assert_eq!(
        refusal(&many.path().join("a.toml")),
        "a.toml:1:12: too-many-files"
    );
    for number in 0..3 {
        fs::remove_file(many.path().join(format!("d/{number}.toml"))).unwrap();
    }
    load(&many.path().join("a.toml")).unwrap_or_else(|errors| panic!("{errors}"));

    // one name after the other
    let names: Vec<String> = (0..100_000).map(|n| format!("\"d/{n}.toml\"")).collect();
    let text = format!("include = [{}]\n{head}", names.join(","));
    fs::write(many.path().join("a.toml"), text).unwrap();
    let errors = load(&many.path().join("a.toml")).unwrap_err();
    assert!(errors.has_code("file-missing") && errors.len() <= 1000);
}

#[test]
fn only_regular_files_within_the_directory_are_read() {
    let outside = folder(&[
        ("secret.toml", "[profiles.lan]\ninterfaces = [\"eth1\"]\n"),
        ("list.txt", "192.0.2.1\n"),
    ]);
    let head = "[profiles.edge]\ninterfaces = [\"eth0\"]\n";
    let folder = folder(&[("policy.toml", ""), ("in.toml", "")]);
    let (path, inside) = (folder.path().join("policy.toml"), folder.path());
    symlink(outside.path().join("secret.toml"), inside.join("out.toml")).unwrap();
    symlink(outside.path().join("list.txt"), inside.join("out.txt")).unwrap();
    symlink("in.toml", inside.join("link.toml")).unwrap();
    symlink(outside.path(), inside.join("dir")).unwrap();
    mkfifo(&inside.join("pipe.toml"), Mode::S_IRWXU).unwrap();
    symlink("/dev/zero", inside.join("zero.toml")).unwrap();
    let secret = outside.path().join("secret.toml").display().to_string();
    let list = outside.path().join("list.txt").display().to_string();
    for (keys, code) in [
        ("include = [\"link.toml\"]".to_owned(), None),
        (format!("include = [\"{secret}\"]"), None),
        (format!("groups.a.files = [\"{list}\"]"), None),
        ("include = [\"out.toml\"]".to_owned(), Some("file-outside")),
        (
            "include = [\"dir/secret.toml\"]".to_owned(),
            Some("file-outside"),
        ),
        (
            "groups.a.files = [\"out.txt\"]".to_owned(),
            Some("file-outside"),
        ),
        (
            "groups.a.files = [\"dir/list.txt\"]".to_owned(),
            Some("file-outside"),
        ),
        ("include = [\"pipe.toml\"]".to_owned(), Some("file-kind")),
        ("include = [\"zero.toml\"]".to_owned(), Some("file-kind")),
        (
            "groups.a.files = [\"/dev/zero\"]".to_owned(),
            Some("file-kind"),
        ),
        ("include = [\"dir\"]".to_owned(), Some("file-kind")),
        ("include = [\"none.toml\"]".to_owned(), Some("file-missing")),
        ("include = [\"\"]".to_owned(), Some("file-missing")),
        ("include = [\"*/a.toml\"]".to_owned(), Some("pattern")),
        ("include = [\"[a.toml\"]".to_owned(), Some("pattern")),
        ("include = 5".to_owned(), Some("wrong-type")),
    ] {
        fs::write(&path, format!("version = 1\n{keys}\n{head}")).unwrap();
        match (load(&path), code) {
            (Ok(_), None) => {}
            (Ok(_), Some(code)) => panic!("{keys}: accepted, not {code}"),
            (Err(errors), None) => panic!("{keys}: {errors}"),
            (Err(errors), Some(code)) => {
                let found = errors.errors().next().unwrap();
                assert_eq!(
                    (found.code, found.location.as_ref().map(|at| at.line)),
                    (code, Some(2)),
                    "{keys}: {errors}"
                );
            }
        }
    }
    // the policy itself may be a link, and its neighbours there belong to it
    fs::write(inside.join("in.toml"), "groups.a.files = [\"list.txt\"]").unwrap();
    fs::write(
        outside.path().join("policy.toml"),
        format!("version = 1\n{head}[groups.a]\nfiles = [\"list.txt\"]\n"),
    )
    .unwrap();
    fs::remove_file(&path).unwrap();
    symlink(outside.path().join("policy.toml"), &path).unwrap();
    symlink(outside.path().join("list.txt"), inside.join("list.txt")).unwrap();
    load(&path).unwrap_or_else(|errors| panic!("{errors}"));
}

#[test]
fn all_files_together_are_bounded() {
    let folder = folder(&[(
        "policy.toml",
        "version = 1\n[groups.a]\nfiles = [\"1\", \"2\"]\n[profiles.edge]\ninterfaces = [\"eth0\"]\n",
    )]);
    for name in ["1", "2"] {
        // comments only, and holes in the file: nothing is parsed
        let text = format!("#{}\n", " ".repeat(50 << 20));
        fs::write(folder.path().join(name), text).unwrap();
    }
    let path = folder.path().join("policy.toml");
    assert_eq!(refusal(&path), "policy.toml:3:15: file-too-large");
    let mut bundle = Bundle {
        main: "policy.toml".to_owned(),
        files: ["policy.toml", "1", "2"]
            .map(|name| {
                (
                    name.to_owned(),
                    fs::read_to_string(folder.path().join(name)).unwrap(),
                )
            })
            .into(),
    };
    let errors = load_bundle(&bundle).unwrap_err().to_string();
    assert!(errors.contains("96 MiB together"), "{errors}");
    bundle.files.insert("2".to_owned(), "192.0.2.1".to_owned());
    load_bundle(&bundle).unwrap();
    // policy files are bounded together, too
    let long = format!("#{}\n", " ".repeat(3 << 20));
    fs::write(&path, format!("{long}version = 1\ninclude = [\"more.toml\"]\n[profiles.edge]\ninterfaces = [\"eth0\"]\n")).unwrap();
    fs::write(folder.path().join("more.toml"), long).unwrap();
    assert_eq!(refusal(&path), "policy.toml:3:12: file-too-large");
}

#[test]
fn the_fingerprint_follows_included_files() {
    let folder = folder(&[
        ("policy.toml", MAIN),
        ("groups.toml", ""),
        ("conf.d/a.toml", ""),
    ]);
    let path = folder.path().join("policy.toml");
    let first = load(&path).unwrap().fingerprint;
    fs::write(folder.path().join("groups.toml"), "# changed\n").unwrap();
    assert_ne!(first, load(&path).unwrap().fingerprint);
}

#[test]
fn json_says_the_same_as_toml() {
    let toml = "version = 1\nzone = \"UTC\"\n[groups.a]\ncidrs = [\"192.0.2.0/24\"]\n[profiles.edge]\ninterfaces = [\"eth0\"]\nenforce = false\n\
                [[profiles.edge.allow]]\nid = \"a\"\nprotocol = [\"tcp\", 17]\nports = [443, \"8000-8100\"]\nfrom = \"@a\"\nrate = { packets = 5 }\n\
                [report.alerts]\nfactor = 2.5\n";
    let json = r#"{
        "version": 1, "zone": "UTC",
        "groups": { "a": { "cidrs": ["192.0.2.0/24"] } },
        "profiles": { "edge": { "interfaces": ["eth0"], "enforce": false, "allow": [
            { "id": "a", "protocol": ["tcp", 17], "ports": [443, "8000-8100"], "from": "@a", "rate": { "packets": 5 } } ] } },
        "report": { "alerts": { "factor": 2.5 } }
    }"#;
    let folder = folder(&[("a.toml", toml), ("a.json", json)]);
    let load = |name: &str| {
        let loaded = load(&folder.path().join(name)).unwrap_or_else(|errors| panic!("{errors}"));
        let mut policy = loaded.policy;
        policy.path = "".into();
        for rule in &mut policy.profiles[0].allow {
            (rule.file, rule.line) = (Path::new("").into(), 0);
        }
        policy
    };
    assert_eq!(load("a.json"), load("a.toml"));
}

#[test]
fn mistakes_in_json_have_places() {
    for (json, expected) in [
        (
            "{ \"version\": 1,\n  \"profiles\": { \"e\": { \"interface\": [\"eth0\"], \"interfaces\": \"eth0\" } } }",
            "p.json:2:24: unknown-key",
        ),
        (
            "{ \"version\": 1,\n  \"profiles\": { \"e\": { \"interfaces\": \"eth0\", } } }",
            "p.json:2:44: syntax",
        ),
        ("{ \"version\": 1, // one\n }", "p.json:1:17: syntax"),
        (
            "{ \"version\": 1, \"version\": 1,\n  \"profiles\": { \"e\": { \"interfaces\": \"eth0\" } } }",
            "p.json:1:17: syntax",
        ),
        ("[1]", "p.json:1:1: syntax"),
        (
            "{ \"version\": null,\n  \"profiles\": { \"e\": { \"interfaces\": \"eth0\" } } }",
            "p.json:1:14: wrong-type",
        ),
        (
            "{ \"version\": 1e400,\n  \"profiles\": { \"e\": { \"interfaces\": \"eth0\" } } }",
            "p.json:1:14: wrong-type",
        ),
        (
            "{ \"version\": 123456789012345678901234567890,\n  \"profiles\": { \"e\": { \"interfaces\": \"eth0\" } } }",
            "p.json:1:14: out-of-range",
        ),
    ] {
        let folder = folder(&[("p.json", json)]);
        assert_eq!(refusal(&folder.path().join("p.json")), expected, "{json}");
    }
    for text in ["[".repeat(100_000), "{\"a\":".repeat(100_000)] {
        let folder = folder(&[("p.json", &text)]);
        assert_eq!(
            load(&folder.path().join("p.json"))
                .unwrap_err()
                .errors()
                .next()
                .unwrap()
                .code,
            "syntax"
        );
    }
}
