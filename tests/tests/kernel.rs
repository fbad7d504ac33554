//! The real programs on single frames (`BPF_PROG_TEST_RUN`): a table of behaviour, the independent
//! oracle, and what only a running kernel can show (swaps, rates, time, events, pins).
//!
//! Needs root; without it each test prints why it is skipped, and with CI=true that is a failure.
//! EDGEFILTER_SEED and EDGEFILTER_PACKETS change what the oracle is compared on.

#[path = "kernel/blocks.rs"]
mod blocks;
#[path = "kernel/bypass.rs"]
mod bypass;
#[path = "kernel/entries.rs"]
mod entries;
#[path = "kernel/events.rs"]
mod events;
#[path = "kernel/martians.rs"]
mod martians;
#[path = "kernel/opinion.rs"]
mod opinion;
#[path = "kernel/oracle.rs"]
mod oracle;
#[path = "kernel/outgoing.rs"]
mod outgoing;
#[path = "kernel/pins.rs"]
mod pins;
#[path = "kernel/program.rs"]
mod program;
#[path = "kernel/rates.rs"]
mod rates;
#[path = "kernel/scans.rs"]
mod scans;
#[path = "kernel/shadow.rs"]
mod shadow;
#[path = "kernel/sources.rs"]
mod sources;
#[path = "kernel/swaps.rs"]
mod swaps;
#[path = "kernel/table.rs"]
mod table;
#[path = "kernel/time.rs"]
mod time;
#[path = "kernel/times.rs"]
mod times;
#[path = "kernel/traffic.rs"]
mod traffic;

/// tcp/443 from anywhere to lo, nothing else.
const WEB: &str = "version = 1\n[profiles.edge]\ninterfaces = [\"lo\"]\n\
    [[profiles.edge.allow]]\nid = \"https\"\nprotocol = \"tcp\"\nports = [443]\n";

/// Nothing is open.
const CLOSED: &str = "version = 1\n[profiles.edge]\ninterfaces = [\"lo\"]\n";

const OWN: &str = "192.0.2.10";
const OWN6: &str = "2001:db8:1::10";
const REMOTE: &str = "203.0.113.9";
const REMOTE6: &str = "2001:db8:9::9";

/// A filter with a policy in force.
fn filter(policy: &str) -> anyhow::Result<edgefilter_tests::test_run::Filter> {
    let mut filter = edgefilter_tests::test_run::Filter::load()?;
    filter.push(policy, &edgefilter_tests::random::world())?;
    Ok(filter)
}
