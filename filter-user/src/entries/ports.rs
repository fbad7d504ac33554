//! Ports of an entry, as people write them: `tcp/443`, `udp/5000-5003`.

use std::fmt;
use std::str::FromStr;

use filter_common::entry::asked;
use filter_common::service::protocol;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ports that one entry may name: each is a key of the kernel's table.
pub const PORTS: usize = 16;

/// Protocols that have ports, by name.
const PROTOCOLS: [(&str, u8); 3] = [
    ("tcp", protocol::TCP),
    ("udp", protocol::UDP),
    ("sctp", protocol::SCTP),
];

/// A port, or a range of them, of one protocol.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Ports {
    protocol: u8,
    first: u16,
    last: u16,
}

impl Ports {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// Each of them as `filter_common::entry::asked` says it.
    pub fn asked(self) -> impl Iterator<Item = u32> {
        (self.first..=self.last).map(move |port| asked(self.protocol, port))
    }

    /// One port by what [`Ports::asked`] says.
    pub(super) fn one(asked: u32) -> Option<Self> {
        let protocol = (asked >> 16) as u8;
        let known = PROTOCOLS.iter().any(|(_, number)| *number == protocol);
        known.then_some(Self {
            protocol,
            first: asked as u16,
            last: asked as u16,
        })
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` names no port: write protocol and port, as tcp/443 or udp/5000-5003 (tcp, udp or sctp)"
            )
        };
        let (name, ports) = text.split_once('/').ok_or_else(wrong)?;
        let (_, protocol) = PROTOCOLS
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .ok_or_else(wrong)?;
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
        let ports = Self {
            protocol,
            first: number(first)?,
            last: number(last)?,
        };
        if ports.first == 0 || ports.last < ports.first {
            return Err(wrong());
        }
        if ports.count() > PORTS {
            return Err(format!(
                "`{text}` is {} ports; an entry names {PORTS} at most: leave the ports out to name all, or write a rule",
                ports.count()
            ));
        }
        Ok(ports)
    }
}

impl TryFrom<String> for Ports {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Ports> for String {
    fn from(ports: Ports) -> Self {
        ports.to_string()
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = PROTOCOLS
            .iter()
            .find(|(_, number)| *number == self.protocol)
            .map_or("?", |(name, _)| name);
        write!(f, "{name}/{}", self.first)?;
        if self.last > self.first {
            write!(f, "-{}", self.last)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_read_as_they_are_shown() {
        for text in ["tcp/443", "udp/5000-5003", "sctp/1", "tcp/65535"] {
            assert_eq!(text.parse::<Ports>().unwrap().to_string(), text);
        }
        let all: Vec<u32> = "tcp/8000-8002".parse::<Ports>().unwrap().asked().collect();
        assert_eq!(all, [0x6_1f40, 0x6_1f41, 0x6_1f42]);
        for text in [
            "",
            "443",
            "tcp",
            "tcp/",
            "tcp/0",
            "tcp/65536",
            "tcp/-1",
            "tcp/9-8",
            "icmp/8",
            "6/443",
            "tcp/1-17",
            "tcp/1-2-3",
            "tcp/ 1",
        ] {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
    }
}
