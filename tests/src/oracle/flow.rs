//! Owns the oracle's memory: flows noted at egress, first fragments that passed, rate buckets.
//! Must never judge a packet, and never ask a clock: the time comes with the call.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use super::parse::{TCP, UDP};
use super::policy::Rate;

const SECOND: u64 = 1_000_000_000;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// What a flow is known by, seen from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Our address.
    pub local: IpAddr,
    /// Theirs.
    pub remote: IpAddr,
    /// Our port, or the identifier of an ICMP request, or 0.
    pub local_port: u16,
    /// Their port or 0.
    pub remote_port: u16,
    /// Protocol number.
    pub protocol: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SynSent,
    Established,
    /// By whom matters: what comes from outside may be forged, and must not end a flow while we may go on.
    Reset {
        by_us: bool,
    },
    /// UDP and everything else without a handshake.
    Plain {
        replied: bool,
    },
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    state: State,
    fin_out: bool,
    fin_in: bool,
    seen: u64,
}

impl Flow {
    fn timeout(&self, protocol: u8) -> u64 {
        let seconds = match self.state {
            State::SynSent => 120,
            // The other side's FIN alone shortens nothing: see `Reset`.
            State::Established if self.fin_out => 120,
            State::Established => 432_000,
            State::Reset { by_us: true } => 10,
            State::Reset { by_us: false } => 120,
            State::Plain { replied } => match (protocol, replied) {
                (UDP, false) | (super::parse::ICMP | super::parse::ICMPV6, _) => 30,
                (UDP, true) => 120,
                _ => 600,
            },
        };
        seconds * SECOND
    }

    fn live(&self, protocol: u8, now: u64) -> bool {
        now.saturating_sub(self.seen) <= self.timeout(protocol)
    }
}

/// Flows by key; nothing is ever thrown away, an expired flow is no flow.
#[derive(Debug, Default)]
pub struct Flows(HashMap<Key, Flow>);

impl Flows {
    /// Whether the flow is known and not expired. `::` is nobody's address: it has no flows.
    #[must_use]
    pub fn known(&self, key: &Key, now: u64) -> bool {
        self.0
            .get(key)
            .is_some_and(|flow| flow.live(key.protocol, now))
    }

    /// Notes an outgoing packet; `flags` are TCP's (0 for others).
    pub fn outgoing(&mut self, key: Key, flags: u8, now: u64) {
        if key.remote == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            return;
        }
        let live = self.known(&key, now);
        if key.protocol != TCP {
            let replied = live
                && self
                    .0
                    .get(&key)
                    .is_some_and(|f| f.state == State::Plain { replied: true });
            self.0.insert(
                key,
                Flow {
                    state: State::Plain { replied },
                    fin_out: false,
                    fin_in: false,
                    seen: now,
                },
            );
            return;
        }
        let opens = flags & SYN != 0 && flags & ACK == 0;
        let fresh = |state| Flow {
            state,
            fin_out: flags & FIN != 0 && !opens,
            fin_in: false,
            seen: now,
        };
        match self.0.get_mut(&key) {
            Some(flow) if live => {
                let reset = matches!(flow.state, State::Reset { .. });
                let closing = flow.fin_out || flow.fin_in || reset;
                if flags & RST != 0 && !opens && flow.state == (State::Reset { by_us: true }) {
                    // Said before: it lasts no longer for it.
                    return;
                }
                flow.seen = now;
                if opens && (closing || flow.state == State::SynSent) {
                    *flow = fresh(State::SynSent);
                } else if opens {
                    // A SYN in a connection that is open: nothing.
                } else if flags & RST != 0 {
                    flow.state = State::Reset { by_us: true };
                } else if reset {
                    *flow = fresh(State::Established);
                } else {
                    flow.fin_out |= flags & FIN != 0;
                    flow.state = State::Established;
                }
            }
            _ if opens => {
                self.0.insert(key, fresh(State::SynSent));
            }
            _ if flags & RST == 0 => {
                self.0.insert(key, fresh(State::Established));
            }
            _ => {}
        }
    }

    /// Whether an incoming packet belongs to a known flow; if so, notes what it does to the flow.
    pub fn incoming(&mut self, key: &Key, flags: u8, now: u64) -> bool {
        let Some(flow) = self
            .0
            .get_mut(key)
            .filter(|flow| flow.live(key.protocol, now))
        else {
            return false;
        };
        if key.protocol != TCP {
            *flow = Flow {
                state: State::Plain { replied: true },
                seen: now,
                ..*flow
            };
        } else if !matches!(flow.state, State::Reset { .. }) {
            flow.seen = now;
            let over = flow.fin_out && flow.fin_in;
            if flags & RST != 0 && !over {
                flow.state = State::Reset { by_us: false };
            } else if flow.state != State::SynSent || flags & ACK != 0 {
                // What acknowledges nothing answers no SYN (RFC 9293, 3.10.7.3).
                flow.fin_in |= flags & FIN != 0;
                flow.state = State::Established;
            }
        }
        true
    }
}

/// What the fragments of one packet have in common; the protocol is 0 in IPv6.
pub type FragmentKey = (IpAddr, IpAddr, u32, u8);

/// First fragments that passed, and when.
#[derive(Debug, Default)]
pub struct Fragments(HashMap<FragmentKey, u64>);

impl Fragments {
    /// Notes a first fragment that passed.
    pub fn note(&mut self, key: FragmentKey, now: u64) {
        self.0.insert(key, now);
    }

    /// Whether the first fragment passed in the last 30 seconds.
    #[must_use]
    pub fn passed(&self, key: &FragmentKey, now: u64) -> bool {
        self.0
            .get(key)
            .is_some_and(|noted| now.saturating_sub(*noted) <= 30 * SECOND)
    }
}

/// Rate buckets by rule, and source where the limit is per source.
/// GCRA in its virtual scheduling form (ITU-T I.371, annex A).
#[derive(Debug, Default)]
pub struct Buckets(HashMap<(String, Option<IpAddr>), u64>);

impl Buckets {
    /// Whether one more packet conforms; a conforming packet is charged.
    pub fn conforms(&mut self, rule: &str, source: Option<IpAddr>, rate: Rate, now: u64) -> bool {
        let interval = SECOND / rate.packets.max(1);
        let tolerance = rate
            .burst
            .unwrap_or(rate.packets)
            .max(1)
            .saturating_sub(1)
            .saturating_mul(interval);
        let arrival = self.0.entry((rule.to_owned(), source)).or_insert(now);
        let expected = (*arrival).max(now);
        if expected - now > tolerance {
            return false;
        }
        *arrival = expected.saturating_add(interval);
        true
    }
}
