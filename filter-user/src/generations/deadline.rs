//! A moment that a clock step does not move and that a restart of the daemon or of the host does not lose.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One reading of the clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Which run of the kernel this is.
    pub boot_id: String,
    /// Since boot, time in suspend included (`CLOCK_BOOTTIME`).
    pub since_boot: Duration,
    /// The time of day.
    pub wall: SystemTime,
}

impl Clocks {
    /// Reads them.
    pub fn now() -> io::Result<Self> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(Self {
            boot_id: boot_id.trim().to_owned(),
            since_boot: clock_gettime(ClockId::CLOCK_BOOTTIME)?.into(),
            wall: SystemTime::now(),
        })
    }
}

/// A moment to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    boot_id: String,
    /// Milliseconds since that boot.
    since_boot: u64,
    /// Seconds since 1970: for another boot only.
    wall: u64,
}

impl Deadline {
    /// In `time` from `now`.
    #[must_use]
    pub fn after(time: Duration, now: &Clocks) -> Self {
        let since_boot = now.since_boot.saturating_add(time).as_millis();
        let wall = now.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            boot_id: now.boot_id.clone(),
            since_boot: u64::try_from(since_boot).unwrap_or(u64::MAX),
            wall: wall.saturating_add(time).as_secs(),
        }
    }

    /// How long until then; zero if it is over.
    #[must_use]
    pub fn left(&self, now: &Clocks) -> Duration {
        if self.boot_id == now.boot_id {
            return Duration::from_millis(self.since_boot).saturating_sub(now.since_boot);
        }
        let wall = now.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_secs(self.wall).saturating_sub(wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(boot_id: &str, since_boot: u64, wall: u64) -> Clocks {
        Clocks {
            boot_id: boot_id.to_owned(),
            since_boot: Duration::from_secs(since_boot),
            wall: UNIX_EPOCH + Duration::from_secs(wall),
        }
    }

    #[test]
    fn a_clock_step_moves_nothing() {
        let deadline = Deadline::after(Duration::from_mins(1), &clocks("a", 100, 1_000_000));
        let left = |since_boot, wall| deadline.left(&clocks("a", since_boot, wall)).as_secs();
        assert_eq!(left(110, 1_000_010), 50);
        assert_eq!(left(110, 5_000_000), 50, "forward");
        assert_eq!(left(110, 5), 50, "back");
        assert_eq!(left(160, 5), 0);
    }

    #[test]
    fn after_another_boot_the_time_of_day_counts() {
        let deadline = Deadline::after(Duration::from_mins(1), &clocks("a", 100, 1_000_000));
        let left = |wall| deadline.left(&clocks("b", 3, wall)).as_secs();
        assert_eq!(left(1_000_020), 40);
        assert_eq!(left(1_000_060), 0);
        assert_eq!(left(2_000_000), 0);
    }

    #[test]
    fn the_clocks_can_be_read() {
        let now = Clocks::now().unwrap();
        assert_eq!(now.boot_id.len(), 36, "{}", now.boot_id);
        assert!(now.since_boot > Duration::ZERO);
    }
}
