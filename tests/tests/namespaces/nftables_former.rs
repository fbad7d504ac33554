//! What a former run left in the host's firewall.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edgefilter_tests::netns::{Edge, wait_until};
use edgefilter_tests::programs::{Edgefilter, blocks};

use crate::scan_arena::policy;
use crate::support::{beside, can_run};

/// Otherwise the source would be dropped there for an hour, and `edgefilter block remove` could not help it.
#[test]
fn a_table_that_policy_no_longer_asks_for_goes_at_the_next_start() -> Result<()> {
    if !can_run(&["nft"]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let with = policy("", "");
    let (without, _) = with.split_once("[report.nftables]").context("policy")?;
    let mut daemon = Edgefilter::enable(&edge.host, &edge.scratch, &with)?;
    if !daemon.filtering() {
        return Ok(());
    }
    let added = daemon.cli(&["block", "add", "45.33.1.6", "--ttl", "1h"])?;
    ensure!(added.ok(), "{added:?}");
    let held = || matches!(blocks::nft_sets(&edge.host), Ok(Some(sets)) if !sets.is_empty());
    wait_until(Duration::from_secs(5), held).context("the block is not in nftables")?;
    daemon.sigkill()?;
    daemon.replace_policy(without)?;
    daemon.start()?;
    let gone = || matches!(blocks::nft_sets(&edge.host), Ok(None));
    wait_until(Duration::from_secs(5), gone).context("the table is still there")?;
    let listed = blocks::blocks(&daemon)?;
    ensure!(
        listed.len() == 1,
        "the block goes on in the filter: {listed:?}"
    );
    Ok(())
}
