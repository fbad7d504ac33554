//! Wall-clock times as RFC 3339 text, UTC, in milliseconds; and the kernel's monotonic times as wall-clock times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

const DAY: u64 = 86_400;

/// `2026-08-05T10:00:00.123Z`. A time before 1970 is shown as 1970 began.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil(since.as_secs() / DAY);
    let second = since.as_secs() % DAY;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

/// The wall-clock time of a moment given as `CLOCK_MONOTONIC` nanoseconds, by the distance of both clocks now: after
/// the wall clock was set, older moments are shown by the new time.
#[must_use]
pub fn from_monotonic(nanoseconds: u64) -> SystemTime {
    let now = SystemTime::now();
    let Ok(monotonic) = clock_gettime(ClockId::CLOCK_MONOTONIC) else {
        return now;
    };
    // the kernel's moment may be a tick ahead of what was just read
    let age = Duration::from(monotonic).saturating_sub(Duration::from_nanos(nanoseconds));
    now.checked_sub(age).unwrap_or(UNIX_EPOCH)
}

/// Days since 1970-01-01 as year, month, day (Gregorian). A year is counted from March, so that the leap day is its
/// last; 400 years have 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    /// From 0000-03-01 to 1970-01-01.
    const TO_1970: u64 = 719_468;
    let days = days + TO_1970;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
        assert_eq!(
            rfc3339(UNIX_EPOCH + Duration::from_millis(1_234)),
            "1970-01-01T00:00:01.234Z"
        );
    }

    #[test]
    fn monotonic_moments_are_near_now() {
        let monotonic = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
        let shown = from_monotonic(monotonic.as_nanos() as u64);
        assert!(shown.elapsed().unwrap() < Duration::from_secs(1));
        let earlier = from_monotonic((monotonic.as_nanos() as u64).saturating_sub(5_000_000_000));
        assert!(earlier.elapsed().unwrap() > Duration::from_secs(4));
        assert!(
            from_monotonic(u64::MAX) <= SystemTime::now(),
            "the future is now"
        );
    }
}
