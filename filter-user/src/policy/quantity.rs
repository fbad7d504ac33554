//! Times, counts and paths of the tables `scans` and `report`: read, and held against their bounds.
//! Reports what is wrong at its value; never rounds a value into its bounds.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::diagnostic::clean;
use super::source::Report;

/// A time as people write it; `None` if it is wrong, which is then reported.
pub(super) fn time(
    key: &str,
    value: &Spanned<String>,
    bounds: RangeInclusive<Duration>,
    report: &mut Report,
) -> Option<Duration> {
    let text = value.get_ref();
    let Ok(time) = humantime::parse_duration(text) else {
        let cure = match text.trim().parse::<u32>() {
            Ok(number) => format!("add the unit, such as `\"{number}s\"` or `\"{number}m\"`"),
            Err(_) => "write numbers with their units, such as `\"30s\"`, `\"10m\"`, `\"1h 30m\"` or `\"7d\"`".to_owned(),
        };
        let message = format!("`{key}` cannot be `{}`: this is no time", clean(text));
        report.error("time", value.span(), message, cure);
        return None;
    };
    if !bounds.contains(&time) {
        let (least, most) = (shown(*bounds.start()), shown(*bounds.end()));
        report.error(
            "time",
            value.span(),
            format!("`{key}` must be from {least} to {most}"),
            if time < *bounds.start() {
                format!("write `\"{least}\"` or more; the units are s, m, h and d")
            } else {
                format!("write `\"{most}\"` or less; the units are s, m, h and d")
            },
        );
        return None;
    }
    Some(time)
}

/// A time as messages show it.
pub(super) fn shown(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// A whole number within its bounds; `None` if it is wrong, which is then reported. `unit` is what
/// is counted.
pub(super) fn count<T: TryFrom<i64> + PartialOrd + std::fmt::Display>(
    key: &str,
    value: &Spanned<i64>,
    bounds: RangeInclusive<T>,
    unit: &str,
    report: &mut Report,
) -> Option<T> {
    let number = T::try_from(*value.get_ref()).ok();
    let number = number.filter(|number| bounds.contains(number));
    if number.is_none() {
        let (least, most) = (bounds.start(), bounds.end());
        report.error(
            "out-of-range",
            value.span(),
            format!("`{key}` must be from {least} to {most}"),
            format!("write a whole number of {unit} from {least} to {most}"),
        );
    }
    number
}

/// The absolute path of a file; `None` if it is wrong, which is then reported.
pub(super) fn file(key: &str, value: &Spanned<String>, report: &mut Report) -> Option<PathBuf> {
    let text = value.get_ref();
    let path = Path::new(text);
    let (message, cure) = if text.contains('\0') {
        ("no file name holds a NUL character", "take it out")
    } else if !path.is_absolute() {
        (
            "it must be absolute, for the daemon runs in a directory of its own",
            "begin it with `/`",
        )
    } else if text.ends_with('/') || path.file_name().is_none() {
        ("this names a directory", "name a file inside it")
    } else {
        return Some(path.to_owned());
    };
    let message = format!("`{key}` cannot be `{}`: {message}", clean(text));
    report.error("path", value.span(), message, cure);
    None
}
