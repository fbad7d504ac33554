//! When a rule counts: validity and weekly windows in a time zone. Pure: the time is passed in, so that clock steps
//! and summer time can be tested.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::{Policy, Rule};

/// Days in which a weekly window must change, if it ever does: a week, and a day for summer time at either end.
const HORIZON_DAYS: i32 = 9;

/// When a rule counts. In windows local time decides: one over an hour that summer time skips is shorter that day, and
/// one in the hour that comes twice counts both times.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Of the windows.
    pub zone: TimeZone,
    /// First instant; `None`: since ever.
    pub from: Option<Timestamp>,
    /// The instant after the last; `None`: for ever.
    pub until: Option<Timestamp>,
    /// Hours of the week, any of which is enough; empty: always.
    pub windows: Vec<Window>,
}

/// Hours of some days of the week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Days on which it begins, Monday first.
    pub days: [bool; 7],
    /// First minute of the day, below 1440.
    pub from: u16,
    /// The minute after the last, 1 to 1440, never equal to `from`. Below `from`: on the next day.
    pub to: u16,
}

/// Which rules do not count at some time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Active {
    resting: BTreeSet<String>,
}

impl Active {
    /// Whether the rule counts.
    #[must_use]
    pub fn has(&self, rule: &Rule) -> bool {
        rule.schedule.is_none() || !self.resting.contains(&rule.id)
    }

    /// Ids of the rules that do not count, in alphabetical order.
    pub fn resting(&self) -> impl Iterator<Item = &str> {
        self.resting.iter().map(String::as_str)
    }
}

impl Policy {
    /// The rules that count at this time, by their schedules.
    #[must_use]
    pub fn active(&self, now: SystemTime) -> Active {
        let resting = self
            .rules()
            .filter(|rule| rule.schedule.as_ref().is_some_and(|s| !s.is_active(now)))
            .map(|rule| rule.id.clone())
            .collect();
        Active { resting }
    }

    /// When the next rule begins or ceases to count, if ever.
    #[must_use]
    pub fn next_change(&self, now: SystemTime) -> Option<SystemTime> {
        let schedules = self.rules().filter_map(|rule| rule.schedule.as_ref());
        schedules.filter_map(|s| s.next_change(now)).min()
    }
}

impl Schedule {
    /// Whether the rule counts at this time.
    #[must_use]
    pub fn is_active(&self, at: SystemTime) -> bool {
        self.counts(instant(at))
    }

    /// The first time after `now` at which the answer of [`Schedule::is_active`] is another one.
    #[must_use]
    pub fn next_change(&self, now: SystemTime) -> Option<SystemTime> {
        let now = instant(now);
        let active = self.counts(now);
        // before the validity nothing can change
        let start = self.from.map_or(now, |from| from.max(now));
        let mut times: Vec<Timestamp> = self.from.into_iter().chain(self.until).collect();
        self.edges(start, &mut times);
        times.sort_unstable();
        let next = times
            .into_iter()
            .find(|time| *time > now && self.counts(*time) != active)?;
        let since = Duration::try_from(next.duration_since(Timestamp::UNIX_EPOCH)).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(since)
    }

    fn counts(&self, at: Timestamp) -> bool {
        if self.from.is_some_and(|from| at < from) || self.until.is_some_and(|until| at >= until) {
            return false;
        }
        if self.windows.is_empty() {
            return true;
        }
        let local = self.zone.to_datetime(at);
        let minute = minute_of(local.time());
        let today = local.weekday();
        let mut windows = self.windows.iter();
        windows.any(|window| window.holds(today, minute))
    }

    /// Every time near `start` at which a window may begin or end.
    fn edges(&self, start: Timestamp, times: &mut Vec<Timestamp>) {
        if self.windows.is_empty() {
            return;
        }
        let first = self.zone.to_datetime(start).date();
        let minutes: BTreeSet<u16> = self.windows.iter().flat_map(|w| [w.from, w.to]).collect();
        for day in -1..HORIZON_DAYS {
            let Ok(date) = first.checked_add(day.days()) else {
                continue;
            };
            for minute in &minutes {
                self.instants(date, *minute, times);
            }
        }
        // where the clock is set, a window may begin or end between its own edges
        let end = start.checked_add((24 * i64::from(HORIZON_DAYS)).hours());
        let end = end.unwrap_or(Timestamp::MAX);
        let steps = self.zone.following(start).map(|step| step.timestamp());
        times.extend(steps.take_while(|step| *step <= end));
    }

    /// When the clock shows this minute of the day: twice, where it is set back.
    fn instants(&self, date: Date, minute: u16, times: &mut Vec<Timestamp>) {
        let midnight = date.to_datetime(Time::midnight());
        let Ok(local) = midnight.checked_add(i64::from(minute).minutes()) else {
            return;
        };
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        times.extend(ambiguous.earlier());
        times.extend(ambiguous.later());
    }
}

impl Window {
    fn holds(&self, today: Weekday, minute: u16) -> bool {
        let on = |day: Weekday| {
            let place = usize::try_from(day.to_monday_zero_offset()).unwrap_or_default();
            self.days.get(place).copied().unwrap_or_default()
        };
        if self.from < self.to {
            on(today) && (self.from..self.to).contains(&minute)
        } else {
            on(today) && minute >= self.from || on(today.previous()) && minute < self.to
        }
    }
}

fn minute_of(time: Time) -> u16 {
    u16::from(time.hour().unsigned_abs()) * 60 + u16::from(time.minute().unsigned_abs())
}

/// A clock beyond the years that calendars know counts as their end.
fn instant(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(if time < SystemTime::UNIX_EPOCH {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}
