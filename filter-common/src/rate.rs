//! Rate limits by virtual scheduling (GCRA, ITU-T I.371): one 64-bit "theoretical arrival time" is the whole state.

/// The next theoretical arrival time if a packet at `now` conforms, else `None`.
///
/// `interval`: nanoseconds a packet. `tolerance`: nanoseconds the arrivals may run ahead: `(burst - 1) * interval`.
#[inline(always)]
pub fn conform(arrival: u64, now: u64, interval: u64, tolerance: u64) -> Option<u64> {
    let start = if arrival > now { arrival } else { now };
    if start - now > tolerance {
        return None;
    }
    Some(start + interval)
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
        assert_eq!(conform(u64::MAX / 2, 0, 1, 5), None);
    }
}
