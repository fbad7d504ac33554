//! The programs as the kernel's verifier sees them.

use anyhow::{Context, Result, ensure};
use aya::programs::ProgramInfo;
use edgefilter_tests::test_run::{Filter, can_run};
use filter_user::dataplane::{TcProgram, XdpProgram};

/// The verifier gives up after a million instructions (`BPF_COMPLEXITY_LIMIT_INSNS`). Linux 6.1 needs up to 222,000;
/// this leaves room for other kernels.
const BOUND: u32 = 240_000;

#[test]
fn verification_stays_far_below_the_limit() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = Filter::load()?;
    let dataplane = filter.dataplane();
    let mut over = Vec::new();
    for which in XdpProgram::ALL {
        over.extend(check(&dataplane.xdp(which)?.info()?)?);
    }
    for which in TcProgram::ALL {
        over.extend(check(&dataplane.tc(which)?.info()?)?);
    }
    ensure!(over.is_empty(), "over the bound of {BOUND}: {over:?}");
    Ok(())
}

/// Says what the verifier did; the program's name if that is too much.
fn check(info: &ProgramInfo) -> Result<Option<String>> {
    let name = info.name_as_str().unwrap_or("?");
    let verified = info
        .verified_instruction_count()
        .context("this kernel does not say")?;
    eprintln!(
        "{name}: {verified} instructions verified, {} bytes translated, {} bytes of machine code",
        info.size_translated().unwrap_or(0),
        info.size_jitted()
    );
    Ok((verified >= BOUND).then(|| name.to_owned()))
}
