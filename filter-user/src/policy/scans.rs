//! The table `scans`: presets, thresholds of one's own, and what becomes of a scan's source. Never
//! makes a list of spared sources wider than was written.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::group::{self, Groups, Role};
use super::model::{LONGEST_WINDOW, MOST_TARGETS, PrefixSet, ScanAction, Scans, Threshold};
use super::quantity::{count, shown, time};
use super::raw::Texts;
use super::raw::scans::{RawScans, RawThreshold};
use super::source::Report;
use super::validate::choice;

/// What a window may be.
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=LONGEST_WINDOW;
/// Ports or hosts that make a scan; one alone may be a slip of the hand.
const TARGETS: RangeInclusive<u32> = 2..=MOST_TARGETS;
/// Automatic blocks in a minute.
const BLOCKS_PER_MINUTE: RangeInclusive<u32> = 1..=10_000;
/// The windows, the shortest first.
pub(super) const WINDOWS: [&str; 3] = ["fast", "medium", "slow"];

/// Places of what was written, for warnings.
#[derive(Default)]
pub(super) struct Marks {
    pub(super) action: Option<Range<usize>>,
    pub(super) verified: Option<Range<usize>>,
    pub(super) exempt: Option<Range<usize>>,
    pub(super) never_block: Option<Range<usize>>,
    /// Of the first of them that is written.
    pub(super) thresholds: [Option<Range<usize>>; 3],
}

/// Where the table's keys stand.
pub(super) fn marks(raw: &RawScans) -> Marks {
    let text = |key: &Option<Spanned<String>>| key.as_ref().map(Spanned::span);
    let list = |key: &Option<Texts>| key.as_ref().map(Spanned::span);
    Marks {
        action: text(&raw.action),
        verified: text(&raw.verified),
        exempt: list(&raw.exempt),
        never_block: list(&raw.never_block),
        thresholds: raw.thresholds.each_ref().map(|raw| {
            let number = |key: &Option<Spanned<i64>>| key.as_ref().map(Spanned::span);
            [text(&raw.within), number(&raw.ports), number(&raw.hosts)]
                .into_iter()
                .flatten()
                .min_by_key(|span| span.start)
        }),
    }
}

/// How sensitive detection is.
#[derive(Clone, Copy, PartialEq, Default)]
enum Sensitivity {
    Low,
    #[default]
    Medium,
    High,
    Off,
}

impl Scans {
    /// How long a block may last.
    pub const BLOCK: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_hours(30 * 24);

    /// The presets by name.
    pub const PRESETS: [(&'static str, [Threshold; 3]); 3] = [
        ("low", Self::LOW),
        ("medium", Self::MEDIUM),
        ("high", Self::HIGH),
    ];

    /// The preset that is in force: `low`, `medium` or `high`, `off`, or `own` for thresholds that no preset has.
    pub fn sensitivity(&self) -> &'static str {
        if !self.enabled {
            return "off";
        }
        let preset = Self::PRESETS
            .iter()
            .find(|(_, thresholds)| *thresholds == self.thresholds);
        preset.map_or("own", |(name, _)| name)
    }
}

/// The checked table.
pub(super) fn validate(raw: &RawScans, groups: &mut Groups, report: &mut Report) -> Scans {
    let default = Scans::default();
    let sensitivity = choice(
        raw.sensitivity.as_ref(),
        "sensitivity",
        &[
            ("low", Sensitivity::Low),
            ("medium", Sensitivity::Medium),
            ("high", Sensitivity::High),
            ("off", Sensitivity::Off),
        ],
        report,
    );
    let preset = match sensitivity {
        Sensitivity::Low => Scans::LOW,
        Sensitivity::Medium | Sensitivity::Off => Scans::MEDIUM,
        Sensitivity::High => Scans::HIGH,
    };
    let actions = [
        ("observe", ScanAction::Observe),
        ("block", ScanAction::Block),
    ];
    let (block_for, block_at_most) = times(raw, &default, report);
    Scans {
        enabled: sensitivity != Sensitivity::Off,
        thresholds: thresholds(&raw.thresholds, preset, report),
        action: choice(raw.action.as_ref(), "action", &actions, report),
        verified: choice(raw.verified.as_ref(), "verified", &actions, report),
        block_for,
        block_at_most,
        blocks_per_minute: raw
            .blocks_per_minute
            .as_ref()
            .and_then(|value| {
                count(
                    "blocks_per_minute",
                    value,
                    BLOCKS_PER_MINUTE,
                    "blocks",
                    report,
                )
            })
            .unwrap_or(default.blocks_per_minute),
        exempt: sources(raw.exempt.as_ref(), Role::Exempt, groups, report),
        never_block: sources(raw.never_block.as_ref(), Role::NeverBlock, groups, report),
    }
}

/// `block_for` and `block_at_most`, of which the first is never the longer one.
fn times(raw: &RawScans, default: &Scans, report: &mut Report) -> (Duration, Duration) {
    let mut read = |key, value: &Option<Spanned<String>>, default| match value {
        Some(value) => time(key, value, Scans::BLOCK, report),
        None => Some(default),
    };
    let first = read("block_for", &raw.block_for, default.block_for);
    let most = read("block_at_most", &raw.block_at_most, default.block_at_most);
    let (Some(first), Some(most)) = (first, most) else {
        return (default.block_for, default.block_at_most);
    };
    let written = raw.block_at_most.as_ref().or(raw.block_for.as_ref());
    if let Some(written) = written.filter(|_| first > most) {
        let by_default = |value: &Option<_>| if value.is_none() { " by default" } else { "" };
        // The other key may stand further down than a syntax error: see `load`.
        report.error(
            "block-times",
            written.span(),
            format!(
                "a first block (`block_for`, {}{}) would last longer than any may (`block_at_most`, {}{})",
                shown(first),
                by_default(&raw.block_for),
                shown(most),
                by_default(&raw.block_at_most),
            ),
            format!("write `block_at_most = \"{}\"` or more, or a shorter `block_for`", shown(first)),
        );
    }
    (first, most)
}

/// The preset with what was written put into it; windows ascend.
fn thresholds(
    raw: &[RawThreshold; 3],
    preset: [Threshold; 3],
    report: &mut Report,
) -> [Threshold; 3] {
    let mut list = preset;
    let mut windows = [None; 3];
    for (((threshold, raw), window), name) in
        list.iter_mut().zip(raw).zip(&mut windows).zip(WINDOWS)
    {
        let place = |key: &str| format!("{name}.{key}");
        *window = match &raw.within {
            Some(value) => time(&place("within"), value, WINDOW, report),
            None => Some(threshold.within),
        };
        let mut targets = |key: &str, value: &Option<Spanned<i64>>, default| {
            let value = value.as_ref()?;
            count(&place(key), value, TARGETS, default, report)
        };
        let ports = targets("ports", &raw.ports, "ports").unwrap_or(threshold.ports);
        let hosts = targets("hosts", &raw.hosts, "hosts").unwrap_or(threshold.hosts);
        *threshold = Threshold {
            within: window.unwrap_or(threshold.within),
            ports,
            hosts,
        };
    }
    for (at, pair) in windows.windows(2).enumerate() {
        let &[Some(shorter), Some(longer)] = pair else {
            continue;
        };
        let place = |at: usize| raw.get(at).and_then(|raw| raw.within.as_ref());
        let (Some(span), false) = (place(at + 1).or(place(at)), shorter < longer) else {
            continue;
        };
        let (a, b) = (WINDOWS[at], WINDOWS[at + 1]);
        // The other window may stand further down than a syntax error: see `load`.
        report.error(
            "windows",
            span.span(),
            format!(
                "the window of `{b}` ({}) must be longer than that of `{a}` ({})",
                shown(longer),
                shown(shorter)
            ),
            format!(
                "write the windows in ascending order; the presets have {}",
                preset.map(|t| shown(t.within)).join(", ")
            ),
        );
    }
    list
}

fn sources(
    list: Option<&Texts>,
    role: Role,
    groups: &mut Groups,
    report: &mut Report,
) -> Option<Arc<PrefixSet>> {
    group::sources(list?, role, "scans", groups, report)
}
