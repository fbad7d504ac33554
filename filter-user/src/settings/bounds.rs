//! Bounds of the settings' values, asked for while they are read, so that a mistake has its place in the file.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer, Error};

pub(super) fn require_signatures<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    within(from, 0..=16)
}

pub(super) fn file_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    within(from, 64 << 10..=1 << 30)
}

pub(super) fn files<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    within(from, 2..=1000)
}

pub(super) fn keep<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    within(from, 2..=1000)
}

fn within<'de, D, T>(from: D, range: RangeInclusive<T>) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + PartialOrd + Display,
{
    let value = T::deserialize(from)?;
    if range.contains(&value) {
        return Ok(value);
    }
    let (least, most) = range.into_inner();
    Err(D::Error::custom(format!(
        "{value} is not between {least} and {most}"
    )))
}

/// The daemon's working directory is nothing to rely on.
pub(super) fn path<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(from)?;
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(D::Error::custom("not an absolute path: begin it with `/`"))
    }
}

pub(super) fn some_path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    path(from).map(Some)
}
