//! One CIDR or address, and files of them. Strict: what is ambiguous or cannot match is an error
//! with its cure, never silently corrected.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::prefixes::Written;
use super::source::bad_utf8;

/// Most errors reported of one prefix file; the rest is counted.
const MAX_FILE_ERRORS: usize = 100;

/// Why a text is not a prefix.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CidrError {
    #[error("an empty text is no address")]
    Empty,
    #[error("this is neither an IPv4 nor an IPv6 address")]
    Address,
    #[error("this is a range of addresses, not a prefix")]
    Range,
    #[error("the prefix length must be a number from 0 to {max}")]
    Length { max: u8 },
    #[error("a netmask stands in the place of the prefix length")]
    Netmask { cure: String },
    #[error("bits beyond the prefix length are set")]
    HostBits { network: String, host: String },
    #[error("IPv4-mapped IPv6 addresses never appear in packets")]
    Mapped { v4: String },
}

impl CidrError {
    pub(super) fn cure(&self) -> String {
        match self {
            Self::Empty => "write an address or a CIDR, such as 192.0.2.0/24 or 2001:db8::/32".into(),
            Self::Address => "write numbers, such as 192.0.2.0/24, 198.51.100.7 or 2001:db8::/32; names are not looked up, \
                 octets have no leading zeros, zones (%eth0) are not used"
                .into(),
            Self::Range => "write the range as CIDRs, such as 192.0.2.0/25 for 192.0.2.0 to 192.0.2.127".into(),
            Self::Length { max } => format!("write a length from 0 to {max}, or leave `/` out for one host"),
            Self::Netmask { cure } => format!("write `{cure}`"),
            Self::HostBits { network, host } => format!("write `{network}` for the network, or `{host}` for the one host"),
            Self::Mapped { v4 } => format!("write `{v4}`"),
        }
    }
}

/// A CIDR, or a bare address, which is a host, as a policy has it; otherwise what is wrong and what to write.
pub fn prefix(text: &str) -> Result<IpNet, String> {
    parse(text).map_err(|error| format!("{error}: {}", error.cure()))
}

/// A CIDR, or a bare address, which is a host.
pub(super) fn parse(text: &str) -> Result<IpNet, CidrError> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = match address.parse() {
        Ok(address) => address,
        Err(_) if text.is_empty() => return Err(CidrError::Empty),
        Err(_) if is_range(text) => return Err(CidrError::Range),
        Err(_) => return Err(CidrError::Address),
    };
    let max = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => max,
        Some(length) => parse_length(address, length, max)?,
    };
    // The length was checked, so the constructors do not refuse it.
    let error = |_| CidrError::Length { max };
    let net = match address {
        IpAddr::V4(address) => IpNet::V4(Ipv4Net::new(address, length).map_err(error)?),
        IpAddr::V6(address) => IpNet::V6(Ipv6Net::new(address, length).map_err(error)?),
    };
    if net.addr() != net.network() {
        return Err(CidrError::HostBits {
            network: net.trunc().to_string(),
            host: address.to_string(),
        });
    }
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
        && length >= 96
    {
        let v4 = if length == 128 {
            v4.to_string()
        } else {
            format!("{v4}/{}", length - 96)
        };
        return Err(CidrError::Mapped { v4 });
    }
    Ok(net)
}

fn parse_length(address: IpAddr, text: &str, max: u8) -> Result<u8, CidrError> {
    if let (IpAddr::V4(address), Ok(mask)) = (address, text.parse::<Ipv4Addr>())
        && let Ok(length) = ipnet::ip_mask_to_prefix(IpAddr::V4(mask))
        && let Ok(net) = Ipv4Net::new(address, length)
    {
        return Err(CidrError::Netmask {
            cure: net.trunc().to_string(),
        });
    }
    // `parse` alone would take "+8" and "08".
    let plain =
        text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    match text.parse::<u8>() {
        Ok(length) if plain && length <= max => Ok(length),
        _ => Err(CidrError::Length { max }),
    }
}

fn is_range(text: &str) -> bool {
    text.split_once('-').is_some_and(|(a, b)| {
        let (a, b) = (a.trim(), b.trim());
        a.parse::<Ipv4Addr>().is_ok() && (b.parse::<Ipv4Addr>().is_ok() || b.parse::<u8>().is_ok())
            || a.parse::<Ipv6Addr>().is_ok() && b.parse::<Ipv6Addr>().is_ok()
    })
}

/// Reads a file of one CIDR a line, with `#` comments. Reports every bad line (up to a limit) and
/// returns the good ones.
pub(super) fn parse_file(path: &Path, bytes: &[u8], report: &mut Diagnostics) -> Written {
    let mut written = Written::default();
    let mut errors = 0;
    let mut start = 0;
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        if let Err(build) = parse_line(path, index + 1, start, line, &mut written) {
            errors += 1;
            if errors <= MAX_FILE_ERRORS {
                report.push(build());
            }
        }
        start += line.len() + 1;
    }
    report.omit(errors.saturating_sub(MAX_FILE_ERRORS));
    written
}

/// On failure, how to build the diagnostic: a file of rubbish may have millions.
fn parse_line<'l>(
    path: &'l Path,
    number: usize,
    start: usize,
    line: &'l [u8],
    written: &mut Written,
) -> Result<(), Box<dyn FnOnce() -> Diagnostic + 'l>> {
    let Ok(text) = std::str::from_utf8(line) else {
        return Err(Box::new(move || {
            bad_utf8(path.to_owned(), number, start, line)
        }));
    };
    let text = text.strip_suffix('\r').unwrap_or(text);
    // Some editors put a byte order mark at the start.
    let body = if number == 1 {
        text.strip_prefix('\u{feff}').unwrap_or(text)
    } else {
        text
    };
    let entry = body.split('#').next().unwrap_or_default().trim();
    if entry.is_empty() {
        return Ok(());
    }
    let error = match parse(entry) {
        Ok(net) => {
            written.push(net);
            return Ok(());
        }
        Err(error) => error,
    };
    Err(Box::new(move || {
        let at = (entry.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        let (message, cure) = if entry.contains([' ', '\t', ',', ';']) {
            (
                "more than one CIDR in a line".to_owned(),
                "write one CIDR a line; a comment begins with `#`".to_owned(),
            )
        } else {
            (error.to_string(), error.cure())
        };
        Diagnostic::in_line(
            "cidr",
            path.to_owned(),
            (number, start, text),
            at..at + entry.len(),
            message,
            cure,
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_ones() {
        for (text, net) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("198.51.100.7", "198.51.100.7/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), net);
        }
    }

    #[test]
    fn bad_ones_have_their_cure() {
        for (text, cure) in [
            ("192.0.2.1/24", "`192.0.2.0/24`"),
            ("2001:db8::1/32", "`2001:db8::/32`"),
            ("192.0.2.0/255.255.255.0", "`192.0.2.0/24`"),
            ("192.0.2.0-192.0.2.9", "range"),
            ("192.0.2.0/33", "0 to 32"),
            ("2001:db8::/129", "0 to 128"),
            ("192.0.2.0/", "0 to 32"),
            ("192.0.2.0/+8", "0 to 32"),
            ("192.0.2.0/08", "0 to 32"),
            ("::ffff:192.0.2.1", "`192.0.2.1`"),
            ("010.0.0.1", "leading zeros"),
            ("example.org", "names are not looked up"),
            ("fe80::1%eth0", "zones"),
            ("", "an address"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.cure().contains(cure), "{text}: {}", error.cure());
        }
    }

    #[test]
    fn file_lines_are_counted_and_comments_skipped() {
        let mut report = Diagnostics::default();
        let text =
            "\u{feff}192.0.2.0/24 # office\r\n\r\n  bogus\n#x\n10.0.0.1/8\n1.1.1.1 2.2.2.2\n\n::1";
        let written = parse_file(Path::new("f"), text.as_bytes(), &mut report);
        assert_eq!((written.v4.len(), written.v6.len()), (1, 1));
        let places: Vec<_> = report
            .iter()
            .filter_map(|d| d.location.as_ref())
            .map(|l| (l.line, l.column))
            .collect();
        assert_eq!(places, [(3, 3), (5, 1), (6, 1)]);
        let span = report
            .iter()
            .next()
            .and_then(|d| d.location.clone())
            .unwrap()
            .span;
        assert_eq!(&text[span], "bogus");
    }
}
