//! The clocks as entries see them. Reading two clocks one after the other never gives the same distance twice; without
//! this every entry with a date would move a little at each look.

use std::time::Duration;

use crate::scans::Moment;

/// How far the wall clock may drift before it is believed.
const DRIFT: Duration = Duration::from_millis(50);

/// Two clocks at a distance that changes only when somebody sets one of them.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    distance: Moment,
}

impl Steady {
    /// As they were read.
    #[must_use]
    pub fn new(read: Moment) -> Self {
        Self { distance: read }
    }

    /// The moment of a reading, and whether the wall clock was set since the last.
    pub fn at(&mut self, read: Moment) -> (Moment, bool) {
        let expected = self.distance.at(read.since_boot);
        let apart = match read.wall.duration_since(expected.wall) {
            Ok(apart) => apart,
            Err(error) => error.duration(),
        };
        if apart <= DRIFT {
            return (expected, false);
        }
        self.distance = read;
        (read, true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_clock_that_is_set_is_believed_and_one_that_trembles_is_not() {
        let read = |since_boot, wall| Moment {
            since_boot: Duration::from_millis(since_boot),
            wall: SystemTime::UNIX_EPOCH + Duration::from_millis(wall),
        };
        let mut steady = Steady::new(read(1000, 50_000));
        assert_eq!(steady.at(read(2000, 51_004)), (read(2000, 51_000), false));
        assert_eq!(steady.at(read(3000, 51_990)), (read(3000, 52_000), false));
        for set in [3_652_000, 20_000] {
            assert_eq!(steady.at(read(4000, set)), (read(4000, set), true));
            assert_eq!(
                steady.at(read(5000, set + 1001)),
                (read(5000, set + 1000), false)
            );
        }
    }
}
