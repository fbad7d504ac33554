//! The clock that the programs read, and time passing for what they noted.
//! Must never wait: state is made older instead.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use filter_user::scans::Moment;
use nix::time::{ClockId, clock_gettime};

use super::map::Map;

/// Now, as `bpf_ktime_get_coarse_ns` says it (ns since the machine started).
///
/// # Errors
/// When the clock cannot be read.
pub fn now() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// Now, on both clocks.
///
/// # Errors
/// When the clock cannot be read.
pub fn moment() -> Result<Moment> {
    Ok(Moment {
        since_boot: Duration::from_nanos(now()?),
        wall: SystemTime::now(),
    })
}

/// Whether the machine has been up for that long: stamps from before its start cannot be written.
///
/// # Errors
/// When the clock cannot be read.
pub fn reaches_back(milliseconds: u64) -> Result<bool> {
    Ok(now()? > milliseconds * 1_000_000 + 60_000_000_000)
}

/// Makes stamps in the first word of a hash's values older.
pub(super) fn age_hash(map: &Map, by: u64) -> Result<()> {
    for (key, mut value) in map.all()? {
        value[0] = value[0]
            .checked_sub(by)
            .context("a stamp would lie before the machine's start")?;
        map.write(&key, &value)?;
    }
    Ok(())
}

/// Makes stamps of an array older; 0 stays "never".
pub(super) fn age_array(map: &Map, by: u64) -> Result<()> {
    ensure!(by < now()?, "the machine has not been up for {by} ns");
    Ok(map.change_words(|stamp| stamp.saturating_sub(by))?)
}
