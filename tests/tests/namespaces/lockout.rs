//! The lock-out drill: a policy is pushed through a real ssh connection that it would cut. It is refused, or undone by
//! itself; the connection lives either way.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use edgefilter_tests::netns::topology::{CLIENT_V4, CLIENT_V6, HOST_V4, HOST_V6};
use edgefilter_tests::netns::{Edge, Finished, wait_until};
use edgefilter_tests::programs::{Edgefilter, Seen, Sshd, probes};
use serde_json::Value;

use crate::privileges;
use crate::support::{STRICT, allow, alone, beside, can_run};

const PORT: u16 = 22;
/// The host's address on the container's link, which no profile names.
const GATEWAY: &str = "10.77.2.1";
/// How long what was never cut, and what was, may take to work again: TCP asks again after twice the time of its
/// silence.
const AGAIN: Duration = Duration::from_mins(1);
const NEEDS: [&str; 3] = ["ssh", "ssh-keygen", "sshd"];

struct Drill {
    edge: Edge,
    daemon: Edgefilter,
    sshd: Sshd,
}

impl Drill {
    /// ssh is open, and nothing else. `None`: it cannot run here, or the tests run without the filter.
    fn start() -> Result<Option<Self>> {
        if !can_run(&NEEDS) {
            return Ok(None);
        }
        let edge = Edge::standard()?;
        let sshd = Sshd::start(&edge.host, &edge.scratch, PORT)?;
        let daemon = Edgefilter::enable(&edge.host, &edge.scratch, &allow("tcp", &[PORT]))?;
        Ok(daemon.filtering().then_some(Self { edge, daemon, sshd }))
    }

    fn policy(&self, text: &str) -> Result<String> {
        let file = self.edge.scratch.file("pushed.toml", text)?;
        Ok(file.to_string_lossy().into_owned())
    }

    /// Runs a command of `edgefilter` as somebody from outside does: by ssh.
    fn through_ssh(&self, address: &str, words: &[&str]) -> Result<Finished> {
        let line = self.daemon.line(words)?;
        self.sshd.run(&self.edge.client, address, &line)
    }

    /// A policy that is refused, and the words of the refusal.
    fn refused(&self, done: &Finished) -> Result<String> {
        ensure!(done.code() == 1, "exit code {}: {done:?}", done.code());
        ensure!(
            self.generation()? == 1,
            "it is in force all the same: {done:?}"
        );
        Ok(done.stderr.clone())
    }

    fn generation(&self) -> Result<u64> {
        let status = self.daemon.status()?;
        status["policy"]["generation"]
            .as_u64()
            .context("no generation")
    }

    fn is_pending(&self) -> Result<bool> {
        Ok(!self.daemon.status()?["policy"]["pending"].is_null())
    }

    /// Whether a new connection is let in.
    fn connects(&self) -> Result<bool> {
        let (seen, _) = probes::tcp(&self.edge.client, HOST_V4, PORT, Duration::from_secs(1))?;
        Ok(seen == Seen::Works)
    }
}

/// Every word of it stands in the text.
fn says(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "it does not say {word:?}: {text}");
    }
    Ok(())
}

#[test]
fn a_policy_that_locks_out_whoever_pushes_it_is_refused() -> Result<()> {
    let _turn = beside();
    let Some(drill) = Drill::start()? else {
        return Ok(());
    };
    let other = drill.policy(&allow("tcp", &[443]))?;
    let apply = ["apply", other.as_str()];
    for (host, client, name) in [
        (HOST_V4, CLIENT_V4, "10.77.1.1:22"),
        (HOST_V6, CLIENT_V6, "[fd77:1::1]:22"),
    ] {
        let said = drill.refused(&drill.through_ssh(host, &apply)?)?;
        print!("{said}");
        let cure = format!("add an allow rule for tcp/22 from {client}");
        says(&said, &[&format!("to {name} by eth0 (drop_port)"), &cure])?;
        says(&said, &["cuts your connection", "--force --confirm"])?;
    }

    // nothing that the client says is needed to find its connection
    let line = drill.daemon.line(&apply)?;
    let silent = format!("env -u SSH_CONNECTION -u SSH_CLIENT {line}");
    let done = drill.sshd.run(&drill.edge.client, HOST_V4, &silent)?;
    says(&drill.refused(&done)?, &["cuts your connection"])?;

    let denied = format!(
        "{}[[profiles.edge.deny]]\nid = \"bad\"\nfrom = [\"{CLIENT_V4}\"]\n",
        allow("tcp", &[PORT])
    );
    let denied = drill.policy(&denied)?;
    let said = drill.refused(&drill.through_ssh(HOST_V4, &["apply", &denied])?)?;
    let cure = format!("(drop_denied, bad): take {CLIENT_V4} out of the deny rule bad");
    says(&said, &[&cure])?;
    // plan says the same beforehand
    let planned = drill.through_ssh(HOST_V4, &["plan", &denied])?;
    ensure!(planned.code() == 1, "{planned:?}");
    says(&planned.stdout, &[&cure])?;
    // by IPv6 they are somebody else
    let done = drill.through_ssh(HOST_V6, &["apply", &denied])?;
    ensure!(done.ok() && drill.generation()? == 2, "{done:?}");
    Ok(())
}

#[test]
fn with_the_capabilities_of_the_unit_the_client_finds_its_connection() -> Result<()> {
    let mut needs = NEEDS.to_vec();
    needs.push("setpriv");
    if !can_run(&needs) {
        return Ok(());
    }
    let _turn = beside();
    let Some(mut drill) = Drill::start()? else {
        return Ok(());
    };
    drill.daemon.terminate()?;
    privileges::with(&mut drill.daemon, &privileges::UNIT);
    drill.daemon.start()?;
    let other = drill.policy(&allow("tcp", &[443]))?;
    let line = drill.daemon.line(&["apply", &other])?;
    // what sudo does: the variable is gone, and a parent has it
    for command in [
        line.clone(),
        format!("env -u SSH_CONNECTION {line}; exit $?"),
    ] {
        let done = drill.sshd.run(&drill.edge.client, HOST_V4, &command)?;
        says(&drill.refused(&done)?, &["cuts your connection"])?;
    }
    Ok(())
}

#[test]
fn a_policy_that_closes_every_way_in_is_refused() -> Result<()> {
    let _turn = beside();
    let Some(drill) = Drill::start()? else {
        return Ok(());
    };
    let closed = drill.policy(STRICT)?;
    // through ssh, and by root on the machine itself, who is cut off from nothing
    let said = drill.refused(&drill.through_ssh(HOST_V4, &["apply", &closed])?)?;
    says(&said, &["cuts your connection", "lets nobody in"])?;
    let said = drill.refused(&drill.daemon.cli(&["apply", &closed])?)?;
    print!("{said}");
    says(&said, &["lets nobody in", "failsafe = []", "--force"])?;
    ensure!(!said.contains("your connection"), "{said}");

    // who says that nobody shall get in is believed, unless it cuts them
    let meant = drill.policy(&STRICT.replace("version = 1\n", "version = 1\nfailsafe = []\n"))?;
    let said = drill.refused(&drill.through_ssh(HOST_V4, &["apply", &meant])?)?;
    ensure!(!said.contains("lets nobody in"), "{said}");
    drill.daemon.cli(&["apply", &meant])?.require()?;
    ensure!(drill.generation()? == 2);
    ensure!(!drill.connects()?, "ssh is open still");
    Ok(())
}

#[test]
fn a_push_that_cuts_nobody_off_is_not_refused() -> Result<()> {
    let _turn = beside();
    let Some(drill) = Drill::start()? else {
        return Ok(());
    };
    let other = drill.policy(&allow("tcp", &[443]))?;
    let late = ["apply", &other, "--if-generation", "7"];
    let said = drill.refused(&drill.through_ssh(HOST_V4, &late)?)?;
    says(&said, &["generation 1 is in force, not 7"])?;

    // from the container's side, which the policy does not judge
    let line = drill
        .daemon
        .line(&["apply", &other, "--if-generation", "1"])?;
    let done = drill.sshd.run(&drill.edge.inner, GATEWAY, &line)?;
    done.require()?;
    ensure!(drill.generation()? == 2);
    // by root on the machine, who has no connection
    let open = drill.policy(&allow("tcp", &[PORT]))?;
    drill.daemon.cli(&["apply", &open])?.require()?;
    let other = drill.policy(&allow("tcp", &[443]))?;
    drill.daemon.cli(&["apply", &other])?.require()?;
    ensure!(drill.generation()? == 4);
    Ok(())
}

#[test]
fn a_forced_policy_that_nobody_confirms_is_undone_and_the_session_lives() -> Result<()> {
    let _turn = alone();
    let Some(drill) = Drill::start()? else {
        return Ok(());
    };
    let before = drill.daemon.status()?["policy"]["record"]["digest"].clone();
    let mut session = drill.sshd.session(&drill.edge.client, HOST_V4)?;
    session.send("before")?;
    ensure!(session.receive(AGAIN)?.as_deref() == Some("before"));

    let other = drill.policy(&allow("tcp", &[443]))?;
    let words = ["apply", &other, "--force", "--confirm", "5s", "--json"];
    let line = drill.daemon.line(&words)?;
    let begin = Instant::now();
    // its own connection hangs as well, so it says that it is done when everything is over
    let push = drill
        .sshd
        .start_command(&drill.edge.client, HOST_V4, &line)?;
    let in_force = wait_until(AGAIN, || drill.is_pending().unwrap_or(false));
    let Some(in_force) = in_force else {
        bail!("not in force: {:?}", push.wait(AGAIN)?);
    };
    session.send("meanwhile")?;
    let mut looks = 0;
    loop {
        let came = session.receive(Duration::from_millis(100))?;
        let connected = drill.connects()?;
        // what is seen counts if it was before the end
        if !drill.is_pending()? {
            break;
        }
        ensure!(came.is_none(), "the session goes on: {came:?}");
        ensure!(!connected, "a new connection is let in");
        looks += 1;
        ensure!(begin.elapsed() < AGAIN, "not undone");
    }
    let undone = begin.elapsed();
    ensure!(looks > 0, "it was over before it was looked at");
    ensure!(
        undone >= Duration::from_secs(5),
        "undone after {undone:?} already"
    );
    let came = session.receive(AGAIN)?;
    ensure!(came.as_deref() == Some("meanwhile"), "{came:?}");
    let lives = begin.elapsed();
    session.send("after")?;
    ensure!(session.receive(AGAIN)?.as_deref() == Some("after"));
    ensure!(drill.connects()?, "a new connection is still refused");

    let done = push.wait(AGAIN)?.require()?;
    let applied: Value = serde_json::from_str(&done.stdout)?;
    ensure!(
        applied["generation"]["number"] == 2 && applied["confirm_seconds"] == 5,
        "{applied}"
    );
    let overruled = applied["overruled"].to_string();
    says(&overruled, &["cuts your connection"])?;
    let record = drill.daemon.status()?["policy"]["record"].clone();
    ensure!(
        record["number"] == 3 && record["digest"] == before,
        "{record}"
    );
    println!(
        "in force after {in_force:?}, undone after {undone:?} ({looks} looks: no line came back, no new connection was \
         let in), the same session works after {lives:?}"
    );
    Ok(())
}

#[test]
fn what_cannot_be_kept_is_undone_all_the_same() -> Result<()> {
    let _turn = beside();
    let Some(drill) = Drill::start()? else {
        return Ok(());
    };
    let before = drill.daemon.status()?["policy"]["record"].clone();
    let closed = drill.policy(STRICT)?;
    let apply = ["apply", &closed, "--force", "--confirm", "3s"];
    drill.daemon.cli(&apply)?.require()?;
    // no new generation can be written where this stands in the way
    let policies = drill.edge.scratch.path().join("state/policy");
    std::fs::write(policies.join(".new"), "in the way")?;
    wait_until(AGAIN, || drill.connects().unwrap_or(false))
        .with_context(|| format!("still locked out: {}", drill.daemon.log()))?;
    // packets are let in a moment before the daemon has written down why
    wait_until(AGAIN, || !drill.is_pending().unwrap_or(true))
        .context("undone, and still pending")?;
    let status = drill.daemon.status()?;
    ensure!(
        status["policy"]["record"] == before && status["policy"]["pending"].is_null(),
        "{status}"
    );
    ensure!(status["kernel"]["generation"] == 1, "{status}");
    let log = drill.daemon.log();
    says(&log, &["cannot be a new generation", ".new"])?;
    // what stands in the way is gone: the next push is a new generation
    std::fs::remove_file(policies.join(".new"))?;
    let other = drill.policy(&allow("tcp", &[PORT, 443]))?;
    drill.daemon.cli(&["apply", &other])?.require()?;
    ensure!(drill.generation()? == 3);
    Ok(())
}
