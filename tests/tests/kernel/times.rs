//! Rules with times: what does not count at this time matches nothing, and keeps its counter.

use anyhow::{Result, ensure};
use edgefilter_tests::packets::{Ipv4, Tcp, link};
use edgefilter_tests::random::world;
use edgefilter_tests::test_run::can_run;

use crate::{CLOSED, OWN, filter};

/// A deny rule over an allow rule, with the times of each.
fn policy(deny: &str, allow: &str) -> String {
    format!(
        "{CLOSED}[[profiles.edge.deny]]\nid = \"bad\"\nprotocol = \"tcp\"\nports = [443]\n{deny}\n\
         [[profiles.edge.allow]]\nid = \"web\"\nprotocol = \"tcp\"\nports = [443]\n{allow}\n"
    )
}

#[test]
fn rules_match_at_their_times_only() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    const ONCE: &str = "valid_until = \"2020-02-29\"";
    const NEVER_YET: &str = "valid_from = \"9000-01-01\"";
    const NOW: &str = "valid_from = \"2020-01-01\"\nvalid_until = \"9000-01-01\"";
    const ALWAYS: &str = "windows = [{ days = \"mon-sun\" }]";
    let syn = link().ipv4(&Ipv4::new("203.0.113.9", OWN).with(&Tcp::syn(40_000, 443)));
    let mut filter = filter(&policy(NOW, NOW))?;
    for (deny, allow, reason, counted) in [
        (NOW, NOW, "drop_denied", 1),
        (ONCE, NOW, "pass_rule", 1),
        (NEVER_YET, ALWAYS, "pass_rule", 2),
        (ONCE, NEVER_YET, "drop_port", 2),
        (ALWAYS, ONCE, "drop_denied", 2),
        (ONCE, ALWAYS, "pass_rule", 3),
    ] {
        filter.push(&policy(deny, allow), &world())?;
        let verdict = filter.ingress(&syn)?;
        let case = format!("deny {deny}, allow {allow}");
        ensure!(verdict.reason.name() == reason, "{case}: {verdict:?}");
        if reason.starts_with("pass") {
            let web = filter.rule_packets("web")?;
            ensure!(web == counted, "{case}: {web} packets");
        }
    }
    Ok(())
}
