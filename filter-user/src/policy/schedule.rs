//! From `valid_from`, `valid_until`, `windows` and `zone` to a schedule. Never looks at the clock.

use jiff::civil::{Date, DateTime};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan as _};
use toml::Spanned;

use super::diagnostic::clean;
use super::model::{MAX_WINDOWS, Schedule, Window};
use super::raw::{RawRule, RawWindow, Texts};
use super::source::Report;
use super::suggest;

/// Days as they are written, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Names for several days: first and last, from 0.
const SPANS: [(&str, usize, usize); 2] = [("weekdays", 0, 4), ("weekends", 5, 6)];

/// The zone that a key names.
pub(super) fn zone(raw: Option<&Spanned<String>>, report: &mut Report) -> Option<TimeZone> {
    let raw = raw?;
    let database = TimeZoneDatabase::bundled();
    let name = raw.get_ref();
    if let Ok(zone) = database.get(name) {
        return Some(zone);
    }
    let known: Vec<String> = database.available().map(|name| name.to_string()).collect();
    let cure = match suggest::nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write a name of the IANA time zone database, such as `Europe/Berlin` or `UTC`"
            .to_owned(),
    };
    let message = format!("there is no time zone `{}`", clean(name));
    report.error("zone", raw.span(), message, cure);
    None
}

/// The schedule of a rule; `zone` is the one around it.
pub(super) fn validate(
    raw: &RawRule,
    outer: Option<&TimeZone>,
    report: &mut Report,
) -> Option<Schedule> {
    let own = zone(raw.zone.as_ref(), report);
    let zone = own.or_else(|| outer.cloned()).unwrap_or(TimeZone::UTC);
    let mut moment = |key: &str, raw: Option<&Spanned<String>>, last: bool| {
        let raw = raw?;
        let parsed = moment(raw.get_ref(), &zone, last);
        if parsed.is_none() {
            let message = format!("`{}` is no time for `{key}`", clean(raw.get_ref()));
            let cure = format!(
                "write a day, `{key} = \"2026-12-31\"`, or a time, `{key} = \"2026-12-31T18:00:00+01:00\"`"
            );
            report.error("time", raw.span(), message, cure);
        }
        parsed
    };
    let from = moment("valid_from", raw.valid_from.as_ref(), false);
    let until = moment("valid_until", raw.valid_until.as_ref(), true);
    if let (Some(first), Some(end), Some(key)) = (from, until, &raw.valid_until)
        && end <= first
    {
        report.error(
            "time",
            key.span(),
            "`valid_until` is not after `valid_from`: the rule would never count",
            "exchange the two, or take one out",
        );
    }
    let windows = windows(raw, report);
    if raw.valid_from.is_none() && raw.valid_until.is_none() && raw.windows.is_none() {
        if let Some(zone) = &raw.zone {
            report.warning(
                "no-effect",
                zone.span(),
                "`zone` changes nothing in a rule without times",
                "add `windows`, `valid_from` or `valid_until`, or take it out",
            );
        }
        return None;
    }
    Some(Schedule {
        zone,
        from,
        until,
        windows,
    })
}

/// A day, a local time or a time with its offset. The last day counts whole.
fn moment(text: &str, zone: &TimeZone, last: bool) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    // a date-time parser would take a day for its midnight
    let local = if text.contains(['T', 't', ' ']) {
        text.parse::<DateTime>().ok()?
    } else {
        let day = text.parse::<Date>().ok()?;
        let day = if last {
            day.checked_add(1.day()).ok()?
        } else {
            day
        };
        day.at(0, 0, 0, 0)
    };
    let at = zone.to_ambiguous_timestamp(local);
    at.compatible().ok()
}

fn windows(raw: &RawRule, report: &mut Report) -> Vec<Window> {
    let Some((list, span)) = &raw.windows else {
        return Vec::new();
    };
    if list.is_empty() && !report.list.has_errors() {
        report.error(
            "empty-list",
            span.clone(),
            "the list of windows is empty",
            "add a window, such as `{ days = \"weekdays\", from = \"09:00\", to = \"18:00\" }`, or take `windows` out",
        );
    }
    if let Some(extra) = list.get(MAX_WINDOWS) {
        report.error(
            "too-many-windows",
            extra.span.clone(),
            format!("a rule has at most {MAX_WINDOWS} windows"),
            "join days with the same hours",
        );
    }
    list.iter()
        .take(MAX_WINDOWS)
        .filter_map(|raw| window(raw, report))
        .collect()
}

fn window(raw: &RawWindow, report: &mut Report) -> Option<Window> {
    let days = match &raw.days {
        Some(list) => days(list, report)?,
        None => [true; 7],
    };
    let mut time = |key: &str, raw: Option<&Spanned<String>>, absent: u16, most: u16| {
        let Some(raw) = raw else { return Some(absent) };
        let minute = minute(raw.get_ref()).filter(|minute| *minute <= most);
        if minute.is_none() {
            report.error(
                "time",
                raw.span(),
                format!("`{}` is no time of day for `{key}`", clean(raw.get_ref())),
                format!("write hours and minutes, `{key} = \"09:00\"`, up to `23:59` (`24:00` is the end of the day)"),
            );
        }
        minute
    };
    let from = time("from", raw.from.as_ref(), 0, 1439);
    let to = time("to", raw.to.as_ref(), 1440, 1440);
    let (from, to) = (from?, to?);
    // until midnight is until the end of the day
    let to = if to == 0 { 1440 } else { to };
    if from == to {
        report.error(
            "time",
            raw.span.clone(),
            "this window begins and ends at the same minute",
            "leave `from` and `to` out for whole days, or write when it ends",
        );
        return None;
    }
    Some(Window { days, from, to })
}

fn days(list: &Texts, report: &mut Report) -> Option<[bool; 7]> {
    let mut days = [false; 7];
    for item in list.get_ref() {
        let Some((first, last)) = span_of(item.get_ref()) else {
            let known = DAYS.into_iter().chain(SPANS.map(|(name, ..)| name));
            let cure = format!(
                "{}; ranges are written `\"mon-fri\"`",
                suggest::cure(item.get_ref(), known)
            );
            let message = format!("`{}` is no day", clean(item.get_ref()));
            report.error("days", item.span(), message, cure);
            return None;
        };
        // `sat-mon` goes on after Sunday
        let length = (last + 7 - first) % 7;
        for day in first..=first + length {
            if let Some(day) = days.get_mut(day % 7) {
                *day = true;
            }
        }
    }
    if days == [false; 7] {
        let cure = "name days, such as `[\"mon\", \"fri\"]`, or leave `days` out for every day";
        report.error("empty-list", list.span(), "the list of days is empty", cure);
        return None;
    }
    Some(days)
}

fn span_of(text: &str) -> Option<(usize, usize)> {
    let day = |text: &str| DAYS.iter().position(|day| *day == text.trim());
    if let Some((_, first, last)) = SPANS.iter().find(|(name, ..)| *name == text) {
        return Some((*first, *last));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((day(first)?, day(last)?))
}

/// `HH:MM` as a minute of the day.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours < 24 && minutes < 60 || (hours, minutes) == (24, 0)).then_some(hours * 60 + minutes)
}
