//! Where two signatures are required, a policy comes in by no way without them. Signatures are made by the real
//! ssh-keygen; what is refused is refused with its reason, stays out of force, and stands in the audit record.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::{Edge, EdgeOptions, wait_until};
use edgefilter_tests::programs::Edgefilter;

use crate::support::{allow, beside, can_run};

/// Patience with a daemon that reads a file again.
const SOON: Duration = Duration::from_secs(30);

/// What may be wrong with a policy, and what is said then.
const WRONG: [(&str, &str); 7] = [
    (
        "unsigned",
        "the policy is not signed, and 2 must have signed it",
    ),
    (
        "one of two",
        "signed by 1 of the 2 who must have signed it: alice@example.org",
    ),
    ("wrong key", "is not among the allowed signers"),
    ("wrong namespace", "it was made with `-n git`"),
    ("policy edited", "policy.toml is not as it was signed"),
    ("list edited", "list.txt is not as it was signed"),
    ("manifest edited", "signed something else"),
];

/// A policy file with its list, manifest and signatures, in the directory of a daemon.
struct Desk<'a> {
    daemon: &'a Edgefilter,
    directory: PathBuf,
}

impl Desk<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes a policy that opens a port, and nothing that approves it.
    fn policy(&self, port: u16) -> Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.to_string_lossy().contains(".manifest") {
                fs::remove_file(path)?;
            }
        }
        fs::write(self.path("list.txt"), "192.0.2.0/24\n")?;
        let policy =
            allow("tcp", &[port]) + "from = [\"@list\"]\n[groups.list]\nfiles = [\"list.txt\"]\n";
        Ok(fs::write(self.path("policy.toml"), policy)?)
    }

    fn manifest(&self, serial: u64) -> Result<()> {
        let policy = self.path("policy.toml");
        let words = [
            "manifest",
            &policy.to_string_lossy(),
            "--serial",
            &serial.to_string(),
        ];
        let manifest = self.daemon.cli(&words)?.require()?;
        Ok(fs::write(
            self.path("policy.toml.manifest"),
            manifest.stdout,
        )?)
    }

    fn sign(&self, person: &str, namespace: &str) -> Result<()> {
        let manifest = self.path("policy.toml.manifest");
        ssh_keygen(
            Command::new("ssh-keygen")
                .args(["-Y", "sign", "-n", namespace, "-f"])
                .arg(self.path(person))
                .arg(&manifest),
        )?;
        let signature = self.path(&format!("policy.toml.manifest.{person}.sig"));
        Ok(fs::rename(
            self.path("policy.toml.manifest.sig"),
            signature,
        )?)
    }

    /// A policy as two people approve it.
    fn signed(&self, port: u16, serial: u64) -> Result<()> {
        self.policy(port)?;
        self.manifest(serial)?;
        self.sign("alice", "edgefilter")?;
        self.sign("bob", "edgefilter")
    }

    /// A policy that must not come in.
    fn wrong(&self, what: &str, port: u16, serial: u64) -> Result<()> {
        let edit = |name: &str, from: &str, to: &str| -> Result<()> {
            let text = fs::read_to_string(self.path(name))?;
            ensure!(text.contains(from), "{name} holds no {from}");
            Ok(fs::write(self.path(name), text.replace(from, to))?)
        };
        match what {
            "unsigned" => self.policy(port),
            "policy edited" => {
                self.signed(port, serial)?;
                edit("policy.toml", &port.to_string(), "1024")
            }
            "list edited" => {
                self.signed(port, serial)?;
                edit("list.txt", "192.0.2.0/24", "0.0.0.0/0")
            }
            "manifest edited" => {
                self.signed(port, serial)?;
                edit(
                    "policy.toml.manifest",
                    &format!("serial {serial}"),
                    "serial 1000",
                )
            }
            other => {
                self.policy(port)?;
                self.manifest(serial)?;
                self.sign("alice", "edgefilter")?;
                match other {
                    "wrong key" => self.sign("mallory", "edgefilter"),
                    "wrong namespace" => self.sign("bob", "git"),
                    _ => Ok(()),
                }
            }
        }
    }
}

fn ssh_keygen(command: &mut Command) -> Result<()> {
    let output = command.output().context("cannot run ssh-keygen")?;
    ensure!(
        output.status.success(),
        "ssh-keygen: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// A host whose daemon wants two signatures, and the keys of three people, two of whom it knows.
fn prepare(edge: &Edge) -> Result<Edgefilter> {
    let path = |name: &str| edge.scratch.path().join(name);
    let mut signers = String::new();
    for person in ["alice", "bob", "mallory"] {
        ssh_keygen(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(path(person)),
        )?;
        if person != "mallory" {
            let key = fs::read_to_string(path(&format!("{person}.pub")))?;
            signers.extend([person, "@example.org namespaces=\"edgefilter\" ", &key]);
        }
    }
    edge.scratch.file("signers", signers)?;
    let mut daemon = Edgefilter::prepare(&edge.host, &edge.scratch, "")?;
    let signers = path("signers");
    daemon.settings(
        &edge.scratch,
        &format!(
            "require_signatures = 2\nallowed_signers = \"{}\"\n",
            signers.display()
        ),
    )?;
    Ok(daemon)
}

fn desk<'a>(daemon: &'a Edgefilter, edge: &Edge) -> Desk<'a> {
    Desk {
        daemon,
        directory: edge.scratch.path().to_owned(),
    }
}

fn generation(daemon: &Edgefilter) -> Result<u64> {
    let status = daemon.status()?;
    status["policy"]["generation"]
        .as_u64()
        .context("no generation in the status")
}

/// The error of the policy file in the status.
fn last_error(daemon: &Edgefilter) -> String {
    let status = daemon.status().unwrap_or_default();
    status["policy"]["last_error"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Fails unless the status soon says this of the policy file, with the generation in force unchanged.
fn stays_out(daemon: &Edgefilter, way: &str, what: &str, why: &str) -> Result<()> {
    let before = generation(daemon)?;
    let told = wait_until(SOON, || last_error(daemon).contains(why));
    ensure!(
        told.is_some(),
        "{way}, {what}: instead of {why:?} the status says {:?}",
        last_error(daemon)
    );
    ensure!(
        generation(daemon)? == before,
        "{way}, {what}: another generation is in force"
    );
    println!("{way:<8} {what:<16} refused: {}", last_error(daemon));
    Ok(())
}

#[test]
fn no_policy_comes_in_without_two_signatures() -> Result<()> {
    if !can_run(&["ssh-keygen"]) || edgefilter_tests::programs::daemon::without_filter() {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::build(&EdgeOptions::default())?;
    let mut daemon = prepare(&edge)?;

    // the first start
    for (what, why) in WRONG {
        desk(&daemon, &edge).wrong(what, 22, 1)?;
        let ended = daemon.run_to_end()?;
        ensure!(
            !ended.ok() && ended.stderr.contains(why),
            "start, {what}: {}",
            ended.stderr
        );
        println!("{:<8} {what:<16} refused", "start");
    }
    desk(&daemon, &edge).signed(22, 1)?;
    daemon.start()?;
    ensure!(generation(&daemon)? == 1);
    let status = daemon.status()?;
    let signers = &status["policy"]["record"]["approvals"];
    ensure!(
        *signers == serde_json::json!(["alice@example.org", "bob@example.org"]),
        "{signers}"
    );
    println!("{:<8} {:<16} accepted", "start", "two of two");

    // pushed
    let policy = daemon.policy().to_string_lossy().into_owned();
    let apply = |words: &[&str]| daemon.cli(&[&["apply", &policy, "--force"], words].concat());
    for (what, why) in WRONG {
        desk(&daemon, &edge).wrong(what, 23, 2)?;
        let ended = apply(&[])?;
        ensure!(
            ended.code() == 1 && ended.stderr.contains(why),
            "apply, {what}: {}",
            ended.stderr
        );
        ensure!(generation(&daemon)? == 1, "apply, {what}: it is in force");
        println!("{:<8} {what:<16} refused", "apply");
    }
    desk(&daemon, &edge).signed(23, 2)?;
    apply(&[])?.require()?;
    ensure!(generation(&daemon)? == 2);
    desk(&daemon, &edge).signed(22, 1)?;
    let replayed = apply(&[])?;
    let why = "the manifest's serial number is 1, and 2 was accepted before";
    ensure!(
        replayed.code() == 1 && replayed.stderr.contains(why),
        "{}",
        replayed.stderr
    );
    println!("{:<8} {:<16} refused", "apply", "replayed");

    // read again
    for (what, why) in WRONG {
        desk(&daemon, &edge).wrong(what, 24, 3)?;
        daemon.hang_up()?;
        stays_out(&daemon, "SIGHUP", what, why)?;
    }
    desk(&daemon, &edge).signed(22, 1)?;
    daemon.hang_up()?;
    stays_out(&daemon, "SIGHUP", "replayed", why)?;
    desk(&daemon, &edge).signed(24, 3)?;
    daemon.hang_up()?;
    let taken = wait_until(SOON, || {
        generation(&daemon).is_ok_and(|generation| generation == 3)
    });
    ensure!(
        taken.is_some(),
        "SIGHUP, two of two: {}",
        last_error(&daemon)
    );

    // going back is no replay, and asks for the signatures of then
    daemon.cli(&["rollback", "2", "--force"])?.require()?;
    ensure!(generation(&daemon)? == 4);
    let signers = edge.scratch.path().join("signers");
    let both = fs::read_to_string(&signers)?;
    let alone: String = both.split_inclusive('\n').take(1).collect();
    fs::write(&signers, alone)?;
    let ended = daemon.cli(&["rollback", "1", "--force"])?;
    ensure!(
        ended.code() == 1 && ended.stderr.contains("is not among the allowed signers"),
        "{}",
        ended.stderr
    );
    ensure!(generation(&daemon)? == 4);
    println!("{:<8} {:<16} refused", "rollback", "withdrawn key");
    fs::write(&signers, both)?;

    // watched
    daemon.terminate()?;
    daemon.watch();
    daemon.start()?;
    for (index, (what, why)) in WRONG.into_iter().enumerate() {
        desk(&daemon, &edge).wrong(what, 30 + index as u16, 4)?;
        stays_out(&daemon, "watch", what, why)?;
    }
    let before = generation(&daemon)?;
    desk(&daemon, &edge).signed(40, 4)?;
    let taken = wait_until(SOON, || {
        generation(&daemon).is_ok_and(|generation| generation > before)
    });
    ensure!(
        taken.is_some(),
        "watch, two of two: {}",
        last_error(&daemon)
    );
    println!("{:<8} {:<16} accepted", "watch", "two of two");

    // a later start with something unsigned: the last good policy
    let before = generation(&daemon)?;
    daemon.terminate()?;
    desk(&daemon, &edge).wrong("unsigned", 50, 5)?;
    daemon.start()?;
    stays_out(&daemon, "restart", "unsigned", WRONG[0].1)?;
    ensure!(generation(&daemon)? == before);

    // and all of it is on record
    let verified = daemon.cli(&["audit", "verify"])?;
    ensure!(verified.ok(), "{}{}", verified.stdout, verified.stderr);
    print!("{}", verified.stdout);
    let shown = daemon
        .cli(&["audit", "show", "--action", "policy", "--last", "1000"])?
        .require()?;
    for (what, why) in WRONG {
        ensure!(
            shown.stdout.contains(why),
            "{what} is not on record:\n{}",
            shown.stdout
        );
    }
    Ok(())
}
