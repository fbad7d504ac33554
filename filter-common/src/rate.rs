//! Rate limits by virtual scheduling (GCRA, ITU-T I.371): one 64-bit "theoretical arrival time" is the whole state.

use crate::layout::Address;
use crate::limits::RATE_BUCKETS;

/// What a clock that is read coarsely, on another CPU, may be ahead by (ns): two ticks of the slowest kernel.
const CLOCK_SLACK: u64 = 20_000_000;

/// The next theoretical arrival time if a packet at `now` conforms, else `None`.
///
/// `interval`: nanoseconds a packet. `tolerance`: nanoseconds the arrivals may run ahead: `(burst - 1) * interval`.
///
/// These limits never put an arrival further ahead than both together. One that is, other limits left there (a new
/// policy raised them): it counts as a burst that was just used up, or the rule would stay shut for the old limits' time.
#[inline(always)]
pub fn conform(arrival: u64, now: u64, interval: u64, tolerance: u64) -> Option<u64> {
    let ahead = arrival.saturating_sub(now);
    if ahead <= tolerance {
        Some(now + ahead + interval)
    } else if ahead > tolerance + interval + CLOCK_SLACK {
        Some(now + tolerance + interval)
    } else {
        None
    }
}

/// Where the arrival times of a source under a rule stand: a bucket in each of the two rows.
#[inline(always)]
pub const fn source_buckets(rule: u32, source: &Address) -> [u32; 2] {
    let hash = (source.hi ^ source.lo.rotate_left(23) ^ ((rule as u64) << 48))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    [
        (hash >> 48) as u32,
        RATE_BUCKETS as u32 + (hash >> 16 & 0xffff) as u32,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let (interval, burst) = (1000, 5);
        let mut arrival = 0;
        let mut passed = std::vec::Vec::new();
        for now in (10_000_u64..30_000).step_by(100) {
            if let Some(next) = conform(arrival, now, interval, (burst - 1) * interval) {
                arrival = next;
                passed.push(now);
            }
        }
        // 20 us at one a microsecond, plus what the burst allows ahead
        assert_eq!(passed.len(), 24);
        assert_eq!(&passed[..5], [10_000, 10_100, 10_200, 10_300, 10_400]);
    }

    #[test]
    fn no_overflow_at_the_ends() {
        assert_eq!(conform(0, 0, 1, 0), Some(1));
        assert_eq!(conform(6, 0, 1, 5), None);
        assert_eq!(conform(u64::MAX, 0, 1, 5), Some(6));
    }

    #[test]
    fn raised_limits_hold_at_once() {
        // one packet a second, a burst of 100, all used up; then 1000 a second, a burst of 10
        let (second, millisecond) = (1_000_000_000_u64, 1_000_000);
        let mut now = 5 * second;
        let mut arrival = now;
        while let Some(next) = conform(arrival, now, second, 99 * second) {
            arrival = next;
        }
        assert_eq!(arrival, now + 100 * second);
        let mut passed = 0;
        for _ in 0..1000 {
            now += millisecond / 2;
            if let Some(next) = conform(arrival, now, millisecond, 9 * millisecond) {
                arrival = next;
                passed += 1;
            }
        }
        assert_eq!(passed, 500, "the new rate, without a new burst");
    }

    #[test]
    fn a_clock_that_is_behind_opens_nothing() {
        let (interval, tolerance) = (1_000_000, 9_000_000);
        let used_up = 100_000_000 + tolerance + interval;
        for behind in [0, 1_000_000, 10_000_000, CLOCK_SLACK] {
            assert_eq!(
                conform(used_up, 100_000_000 - behind, interval, tolerance),
                None,
                "{behind} ns"
            );
        }
    }
}
