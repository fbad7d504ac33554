//! Requests that nobody should send, a small campaign: `cargo run --release -p tests --bin fuzz-control` is the large one.

use anyhow::{Result, ensure};
use edgefilter_tests::control::fuzz::{self, Campaign, Holdings};
use edgefilter_tests::control::{operations, socket};
use edgefilter_tests::netns::Edge;
use edgefilter_tests::programs::Edgefilter;

use crate::roles::SETTINGS;
use crate::support::{STRICT, beside, can_run};

#[test]
fn no_request_harms_the_daemon() -> Result<()> {
    if !can_run(&[]) {
        return Ok(());
    }
    let _turn = beside();
    let edge = Edge::standard()?;
    let mut daemon = Edgefilter::prepare(&edge.host, &edge.scratch, STRICT)?;
    daemon.settings(&edge.scratch, SETTINGS)?;
    daemon.start()?;
    if !daemon.filtering() {
        return Ok(());
    }
    let report = fuzz::judge(
        &daemon,
        &Campaign {
            socket: socket(daemon.run_dir()?),
            operations: operations::all(&filter_user::control::openapi())?,
            seed: 1,
            requests: 20_000,
            workers: 4,
        },
        |_| {},
    )?;
    println!("{}", report.line());
    let Holdings { memory, .. } = report.after;
    ensure!(memory > 0, "{}", report.line());
    Ok(())
}
