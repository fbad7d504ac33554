//! How long an entry lasts, by which clock. A length of time counts on the clock that nobody sets; a date and time
//! follows the wall clock, however that is set.

use std::time::{Duration, SystemTime};

use crate::scans::Moment;

/// How long an entry lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// From when it was made, for a length of time.
    For {
        /// How long that was to be.
        lasting: Duration,
        /// Its end by `CLOCK_MONOTONIC` of this boot.
        until: Duration,
    },
    /// Between two dates.
    Between {
        /// Its begin; `None`: when it was made.
        from: Option<SystemTime>,
        /// Its end.
        until: SystemTime,
    },
}

impl Life {
    /// A length of time from now on.
    #[must_use]
    pub fn lasting(lasting: Duration, now: Moment) -> Self {
        Self::For {
            lasting,
            until: now.since_boot.saturating_add(lasting),
        }
    }

    /// Begin and end on the clock of the kernel's table, as the clocks stand now.
    #[must_use]
    pub fn window(&self, now: Moment) -> (Duration, Duration) {
        match *self {
            Self::For { until, .. } => (Duration::ZERO, until),
            Self::Between { from, until } => (
                from.map_or(Duration::ZERO, |from| since_boot_at(from, now)),
                since_boot_at(until, now),
            ),
        }
    }

    /// Begin and end by the wall clock, as the clocks stand now.
    #[must_use]
    pub fn dates(&self, now: Moment) -> (Option<SystemTime>, SystemTime) {
        match *self {
            Self::For { until, .. } => (None, now.at(until).wall),
            Self::Between { from, until } => (from, until),
        }
    }

    /// The life after another boot, whose clock began anew: what was left by the wall clock, and never more than it
    /// was to last.
    #[must_use]
    pub fn after_boot(self, ended_at: SystemTime, now: Moment) -> Self {
        match self {
            Self::For { lasting, .. } => {
                let left = ended_at.duration_since(now.wall).unwrap_or_default();
                Self::For {
                    lasting,
                    until: now.since_boot.saturating_add(left.min(lasting)),
                }
            }
            dates @ Self::Between { .. } => dates,
        }
    }
}

/// When the clock that nobody sets will be at this date, as the clocks stand now. The past is 0.
fn since_boot_at(date: SystemTime, now: Moment) -> Duration {
    match date.duration_since(now.wall) {
        Ok(ahead) => now.since_boot.saturating_add(ahead),
        Err(behind) => now.since_boot.saturating_sub(behind.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn clocks(since_boot: u64, wall: u64) -> Moment {
        Moment {
            since_boot: Duration::from_secs(since_boot),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(wall),
        }
    }

    #[test]
    fn a_length_of_time_is_not_moved_by_the_wall_clock() {
        let life = Life::lasting(HOUR, clocks(100, 1_000_000));
        for wall in [1_000_000, 5_000_000, 0] {
            let window = life.window(clocks(200, wall));
            assert_eq!(window, (Duration::ZERO, Duration::from_secs(3700)));
        }
        // what is shown follows
        let (_, shown) = life.dates(clocks(200, 5_000_000));
        assert_eq!(shown, clocks(0, 5_003_500).wall);
    }

    #[test]
    fn dates_follow_the_wall_clock() {
        let life = Life::Between {
            from: Some(clocks(0, 1_000_010).wall),
            until: clocks(0, 1_000_020).wall,
        };
        let seconds = |now: Moment| {
            let (from, until) = life.window(now);
            (from.as_secs(), until.as_secs())
        };
        assert_eq!(seconds(clocks(100, 1_000_000)), (110, 120));
        // set an hour forward: over; and back again
        assert_eq!(seconds(clocks(101, 1_003_601)), (0, 0));
        assert_eq!(seconds(clocks(4000, 1_003_601)), (409, 419));
        assert_eq!(seconds(clocks(102, 1_000_002)), (110, 120));
    }

    #[test]
    fn over_a_boot_the_wall_clock_decides() {
        let before = clocks(5000, 1_000_000);
        let life = Life::lasting(HOUR, before);
        let (_, ends) = life.dates(before);
        let left = |now: Moment| {
            life.after_boot(ends, now)
                .window(now)
                .1
                .checked_sub(now.since_boot)
                .unwrap()
        };
        assert_eq!(left(clocks(10, 1_000_600)), Duration::from_mins(50));
        assert_eq!(left(clocks(10, 2_000_000)), Duration::ZERO);
        // a machine that woke up in 1970
        assert_eq!(left(clocks(10, 0)), HOUR);
    }
}
