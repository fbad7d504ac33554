//! What may be typed after `edgefilter audit` and `edgefilter manifest`.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::exposure::Kind;
use clap::{Args, Subcommand, ValueHint};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::audit::Noted;

/// See [`Command::Audit`](super::Command::Audit).
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Show who did what to the filter, or tried to
    ///
    /// Asks the daemon, or reads the files with --dir. With --json one document, `{"records": [...]}`; with --follow a
    /// document a line.
    #[command(after_help = "\
Examples:
  edgefilter audit show
  edgefilter audit show --since 2h --action policy
  edgefilter audit show --actor alice --json | jq -r '.records[] | select(.outcome == \"refused\") | .why'
  edgefilter audit show --dir /var/lib/edgefilter/audit")]
    Show(AuditShow),
    /// Check that no record was changed, removed, added or moved
    ///
    /// Reads the files and needs no daemon. Exit code 1 if something is wrong. Whoever can write the files can also write
    /// a new, sound record: note the head that is shown on another host, and compare with --head later.
    #[command(after_help = "\
Examples:
  edgefilter audit verify
  edgefilter audit verify --dir /backup/audit
  edgefilter audit verify --json | jq -r .head")]
    Verify(AuditVerify),
    /// Show what listens on this host, and to whom the policy in force opens it
    ///
    /// Listening sockets and published container ports, beside the rules that open them; what is open and nobody listens
    /// on; what only this host itself can ask. Run as root it names every process.
    #[command(after_help = "\
Examples:
  edgefilter audit exposure
  edgefilter audit exposure --fail-on open-to-world,unused
  edgefilter audit exposure --json | jq -r '.findings[] | select(.kind == \"closed\") | .listener.process'")]
    Exposure(AuditExposure),
}

/// See [`Audit::Exposure`].
#[derive(Args, Debug)]
pub struct AuditExposure {
    /// End with exit code 1 if there is such a finding
    #[arg(long, value_name = "FINDING", value_delimiter = ',')]
    pub fail_on: Vec<Kind>,
}

/// See [`Audit::Show`].
#[derive(Args, Debug)]
pub struct AuditShow {
    /// How many to show at most, the latest [default: 20; 10 with --follow]
    #[arg(long, short = 'n', value_name = "N")]
    pub last: Option<usize>,
    /// Only what was recorded since then: 90m, 2h, 7d ago, or a date (2026-01-31, 2026-01-31T08:00, with Z for UTC)
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<SystemTime>,
    /// Only what this user or certificate did; `edgefilter` is the daemon itself
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Only this action, or all of its family: policy, policy.apply, block.add
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// Go on with new ones as they come
    #[arg(long, short, conflicts_with = "dir")]
    pub follow: bool,
    /// Read the files in this directory instead of asking the daemon
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

/// See [`Audit::Verify`].
#[derive(Args, Debug)]
pub struct AuditVerify {
    /// Where the files are [default: `audit` in the state directory]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// A head that was noted earlier, SEQ:HASH: it must still be part of the record
    #[arg(long, value_name = "HEAD", value_parser = head)]
    pub head: Option<Noted>,
}

/// See [`Command::Manifest`](super::Command::Manifest).
#[derive(Args, Debug)]
pub struct Manifest {
    /// The policy file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Number of this approval: higher than that of the last policy that was accepted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub serial: u64,
}

fn head(text: &str) -> Result<Noted, &'static str> {
    text.parse()
}

fn since(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(SystemTime::now()
            .checked_sub(ago)
            .unwrap_or(SystemTime::UNIX_EPOCH));
    }
    let local = || {
        let time: DateTime = text.parse().ok()?;
        Some(time.to_zoned(TimeZone::system()).ok()?.timestamp())
    };
    match text.parse::<Timestamp>().ok().or_else(local) {
        Some(time) => Ok(time.into()),
        None => Err("no time such as 90m, 2h, 7d, 2026-01-31 or 2026-01-31T08:00Z".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_to_begin_with() {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_hours(490920);
        assert_eq!(since("2026-01-02T00:00:00Z"), Ok(moment));
        assert_eq!(since("2026-01-02T01:00:00+01:00"), Ok(moment));
        assert!(since("2026-01-02").is_ok());
        assert!(since("2026-01-02T08:00").is_ok());
        let hours = since("2h").unwrap().elapsed().unwrap();
        assert!(hours >= Duration::from_hours(2) && hours < Duration::from_hours(3));
        for wrong in ["", "yesterday", "2026-13-01"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
