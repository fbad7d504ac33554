//! A refused packet as the program reports it.

use std::net::IpAddr;
use std::time::Duration;

use filter_common::scan::Pattern;

/// A refused packet that was new of its source: a target (host, port, pattern) not seen of it in the last minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// `CLOCK_MONOTONIC`, coarse.
    pub time: Duration,
    /// Who sent it, as far as the address can be believed.
    pub source: IpAddr,
    /// Whom it was for.
    pub destination: IpAddr,
    /// Destination port; the protocol number for [`Pattern::Protocol`]; 0 for ICMP.
    pub port: u16,
    /// Source port, 0 without ports.
    pub source_port: u16,
    /// What it looks like.
    pub pattern: Pattern,
    /// `filter_common::scan::hint`
    pub hints: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Refused packets of the source on that CPU since its last report, this one included.
    pub packets: u32,
    /// `filter_common::scan::filled`: the fuller, the more targets were not reported beside this one.
    pub filled: u32,
}
