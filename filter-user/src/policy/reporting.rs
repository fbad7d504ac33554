//! The table `report`: where scans, blocks and alerts go beside the daemon's own log. Never touches
//! a file or a network: whether a target works shows when it is used.

use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use hyper::Uri;
use toml::Spanned;

use super::diagnostic::clean;
use super::events;
use super::model::{Alerts, MAX_RATE, Nftables, ReportFile, Reporting, Webhook};
use super::quantity::{count, file, time};
use super::raw::scans::{RawAlerts, RawFile, RawReport, RawWebhook};
use super::source::Report;

/// Size of a report file, in MiB.
const FILE_MIB: RangeInclusive<u64> = 1..=10_000;
/// What it is without a word.
const DEFAULT_FILE_MIB: u64 = 10;
/// Rotated files.
const FILES: RangeInclusive<u32> = 1..=100;
/// What it is without a word.
const DEFAULT_FILES: u32 = 5;
/// Reports that wait for a webhook.
const QUEUE: RangeInclusive<u32> = 1..=100_000;
/// What it is without a word.
const DEFAULT_QUEUE: u32 = 1000;
/// How many times its baseline something must be to be alarming.
const FACTOR: RangeInclusive<f64> = 1.1..=1000.0;
/// How long the same alert may stay quiet.
const QUIET: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(30 * 24);

/// Where the table's keys stand, for warnings.
#[derive(Default)]
pub(super) struct Marks {
    pub(super) drop: Option<Range<usize>>,
    pub(super) url: Option<Range<usize>>,
}

/// Places of what was written.
pub(super) fn marks(raw: &RawReport) -> Marks {
    let drop = raw.nftables.as_ref().and_then(|raw| raw.drop.as_ref());
    let url = raw.webhook.as_ref().and_then(|raw| raw.url.as_ref());
    Marks {
        drop: drop.map(Spanned::span),
        url: url.map(Spanned::span),
    }
}

/// The checked table.
pub(super) fn validate(raw: &RawReport, report: &mut Report) -> Reporting {
    Reporting {
        kinds: events::words(
            "kind of report",
            raw.kinds.as_ref(),
            Reporting::KINDS,
            report,
        ),
        nftables: raw.nftables.as_ref().map(|raw| Nftables {
            drop: raw.drop.as_ref().is_some_and(|flag| *flag.get_ref()),
        }),
        file: raw.file.as_ref().and_then(|raw| report_file(raw, report)),
        syslog: raw.syslog,
        webhook: raw.webhook.as_ref().and_then(|raw| webhook(raw, report)),
        alerts: raw.alerts.as_ref().map(|raw| alerts(raw, report)),
    }
}

/// `None` if there is no usable path, which was reported.
pub(super) fn report_file(raw: &RawFile, report: &mut Report) -> Option<ReportFile> {
    let max_mib = raw.max_mib.as_ref();
    let max_mib = max_mib.and_then(|value| count("max_mib", value, FILE_MIB, "MiB", report));
    let keep = raw.keep.as_ref();
    let keep = keep.and_then(|value| count("keep", value, FILES, "files", report));
    Some(ReportFile {
        path: file("path", raw.path.as_ref()?, report)?,
        max_bytes: max_mib.unwrap_or(DEFAULT_FILE_MIB) << 20,
        keep: keep.unwrap_or(DEFAULT_FILES),
    })
}

/// `None` if there is no usable URL, which was reported.
fn webhook(raw: &RawWebhook, report: &mut Report) -> Option<Webhook> {
    let queue = raw.queue.as_ref();
    let queue = queue.and_then(|value| count("queue", value, QUEUE, "reports", report));
    let secret_file = raw.secret_file.as_ref();
    let secret_file = secret_file.and_then(|value| file("secret_file", value, report));
    let url = raw.url.as_ref()?;
    if let Err((message, cure)) = check_url(url.get_ref()) {
        let message = format!("`url` cannot be `{}`: {message}", clean(url.get_ref()));
        report.error("url", url.span(), message, cure);
        return None;
    }
    Some(Webhook {
        url: url.get_ref().clone(),
        secret_file,
        queue: queue.unwrap_or(DEFAULT_QUEUE),
    })
}

/// Why a URL cannot be posted to, and the cure.
fn check_url(text: &str) -> Result<(), (String, &'static str)> {
    let refuse = |message: &str, cure| Err((message.to_owned(), cure));
    let uri: Uri = match text.parse() {
        Ok(uri) => uri,
        Err(error) => {
            return Err((
                error.to_string(),
                "write it as `https://HOST/PATH`; other letters than ASCII in percent or punycode form",
            ));
        }
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return refuse(
            "its scheme must be http or https",
            "write it as `https://HOST/PATH`",
        );
    }
    let Some(authority) = uri.authority().filter(|a| !a.host().is_empty()) else {
        return refuse("it names no host", "write it as `https://HOST/PATH`");
    };
    if authority.as_str().contains('@') {
        return refuse(
            "a user name or password is not sent",
            "take it out; the receiver knows us by the signature made with `secret_file`",
        );
    }
    let tail = authority.as_str().strip_prefix(authority.host());
    let port = tail.and_then(|tail| tail.strip_prefix(':'));
    if port.is_some() && authority.port_u16().is_none_or(|port| port == 0) {
        return refuse(
            "its port is no number from 1 to 65535",
            "correct the port, or take it and its `:` out",
        );
    }
    if text.contains('#') {
        return refuse("what follows `#` is never sent", "take it out");
    }
    Ok(())
}

/// Whether what is posted to a checked URL crosses a network as plain text.
pub(super) fn is_exposed(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let local = match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    };
    uri.scheme_str() == Some("http") && !local
}

fn alerts(raw: &RawAlerts, report: &mut Report) -> Alerts {
    let default = Alerts::default();
    let factor = raw.factor.as_ref().map(|value| (value, *value.get_ref()));
    if let Some((value, _)) = factor.filter(|(_, factor)| !FACTOR.contains(factor)) {
        report.error(
            "out-of-range",
            value.span(),
            format!(
                "`factor` must be from {} to {}",
                FACTOR.start(),
                FACTOR.end()
            ),
            "write how many times its usual value something must be, such as `factor = 5.0`",
        );
    }
    let mut floor = |key, value: &Option<Spanned<i64>>, unit, default| {
        let value = value.as_ref();
        let value = value.and_then(|value| count(key, value, 1..=MAX_RATE, unit, report));
        value.unwrap_or(default)
    };
    Alerts {
        factor: factor.map_or(default.factor, |(_, factor)| factor),
        drops_per_second: floor(
            "drops_per_second",
            &raw.drops_per_second,
            "packets",
            default.drops_per_second,
        ),
        scans_per_minute: floor(
            "scans_per_minute",
            &raw.scans_per_minute,
            "scans",
            default.scans_per_minute,
        ),
        source_per_second: floor(
            "source_per_second",
            &raw.source_per_second,
            "packets",
            default.source_per_second,
        ),
        quiet: raw
            .quiet
            .as_ref()
            .and_then(|value| time("quiet", value, QUIET, report))
            .unwrap_or(default.quiet),
    }
}
