//! Flows that exist before the filter does: switching it on must cut no connection.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use aya::maps::{Array, HashMap, Map};
use filter_common::flow::{self, state};
use filter_common::layout::{Address, FlowKey, FlowState};
use filter_common::limits::FLOW_PORT_WORDS;
use filter_common::service::protocol;
use nix::time::{ClockId, clock_gettime};

use super::conntrack::{ExistingFlow, Kind};
use super::load::{Dataplane, LoadError, map_file, open};
use super::{pod, watch};
use crate::compile::HostFacts;

/// How long a UDP client that waited when the filter started may get its answer (conntrack's timeout of an unanswered
/// UDP flow).
const WAITING: Duration = Duration::from_secs(30);

/// Now, on the clock that the program reads (ns).
pub fn monotonic() -> io::Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => Address::v4(v4.to_bits()),
        IpAddr::V6(v6) => Address::v6(v6.to_bits()),
    }
}

impl Dataplane {
    /// Whether the flow table was made by this load and what was there before is not noted yet.
    pub fn has_new_flow_table(&self) -> bool {
        self.new_flow_table
    }

    /// Says that the new table holds every flow there is, `noted` of them: until half of it has been used up, a TCP
    /// packet that misses it is not looked up among the host's sockets. An adopted table may have lost flows already.
    pub fn flows_are_complete(&mut self, noted: usize) -> Result<(), LoadError> {
        if !std::mem::take(&mut self.new_flow_table) {
            return Ok(());
        }
        let path = self.pins.state_map("FLOW_ROOM");
        let pin = |error: aya::maps::MapError| LoadError::Pin {
            path: path.clone(),
            source: Box::new(error),
        };
        let flows = open(&self.pins.state_map("FLOWS"))?;
        let capacity = flows.info().map_err(pin)?.max_entries();
        let mut room: Array<_, u64> = Array::try_from(Map::Array(open(&path)?)).map_err(pin)?;
        room.set(0, u64::from(capacity / 2).saturating_sub(noted as u64), 0)
            .map_err(pin)
    }

    /// Flows that are noted and not over, until a moment; and whether there may be more.
    pub fn noted(&self, until: Instant) -> Result<(Vec<FlowKey>, bool), LoadError> {
        let path = self.pins.state_map("FLOWS");
        let pin = |error: aya::maps::MapError| LoadError::Pin {
            path: path.clone(),
            source: Box::new(error),
        };
        let table: HashMap<_, pod::FlowKey, pod::FlowState> =
            HashMap::try_from(Map::LruHashMap(open(&path)?)).map_err(pin)?;
        let now = monotonic()?;
        let mut noted = Vec::new();
        for entry in &table {
            if Instant::now() >= until {
                return Ok((noted, true));
            }
            let (pod::FlowKey(key), pod::FlowState(state)) = entry.map_err(pin)?;
            let goes_on = flow::alive(&state, now) && !is_over(state.state);
            if goes_on && !flow::is_wildcard(&key) {
                noted.push(key);
            }
        }
        Ok((noted, false))
    }

    /// Notes flows that were there before. With `waiting`, UDP clients without a known peer are let wait for 30
    /// seconds: only when the filter is switched on, since anybody may answer them.
    pub fn note_existing(
        &mut self,
        flows: &[ExistingFlow],
        host: &HostFacts,
        waiting: bool,
    ) -> Result<usize, LoadError> {
        let now = monotonic()?;
        let path = self.pins.state_map("FLOWS");
        let pin = |error: aya::maps::MapError| LoadError::Pin {
            path: path.clone(),
            source: Box::new(error),
        };
        let mut table: HashMap<_, pod::FlowKey, pod::FlowState> =
            HashMap::try_from(Map::LruHashMap(open(&path)?)).map_err(pin)?;
        let ports = map_file::<u64>(&self.pins.state_map("FLOW_PORTS"), FLOW_PORT_WORDS)?;
        let mut clients = false;
        let (mut noted, mut failed) = (0, None);
        // a full table pushes out what came first: what we opened ourselves comes last
        let incoming = flows.iter().filter(|flow| !flow.outgoing);
        for existing in incoming.chain(flows.iter().filter(|flow| flow.outgoing)) {
            if existing.remote.is_none() {
                if !waiting {
                    continue;
                }
                clients = true;
            }
            let value = pod::FlowState(FlowState {
                seen: now,
                state: state_of(existing),
                zero: 0,
            });
            for key in keys(existing, host) {
                let bit = flow::port_bit(&key);
                ports.set_bits(bit / 64, 1 << (bit % 64))?;
                // a flow that the egress program has noted since knows more
                match table.insert(pod::FlowKey(key), value, NO_EXIST) {
                    Ok(()) => noted += 1,
                    Err(error) if exists(&error) => {}
                    Err(error) => failed = Some(error),
                }
            }
        }
        if clients {
            let until = now + WAITING.as_nanos() as u64;
            self.watch.publish(watch::WILDCARD_UNTIL, until)?;
        }
        match failed {
            Some(error) => Err(pin(error)),
            None => Ok(noted),
        }
    }
}

/// Whether nothing comes any more.
fn is_over(state: u32) -> bool {
    matches!(
        state,
        state::TIME_WAIT | state::RESET | state::RESET_RECEIVED
    )
}

fn state_of(existing: &ExistingFlow) -> u32 {
    match (existing.kind, existing.protocol) {
        (Kind::Established, _) => state::ESTABLISHED,
        (Kind::Udp, _) | (Kind::Other, protocol::UDP) => state::UDP_SENT,
        (Kind::IcmpEcho, _) => state::ICMP,
        (Kind::Other, _) => state::OTHER,
    }
}

/// The keys of a flow: one, or one for each own address if its socket is bound to all of them.
fn keys(existing: &ExistingFlow, host: &HostFacts) -> Vec<FlowKey> {
    let key = |local: IpAddr| FlowKey {
        local: address(local),
        remote: existing.remote.map_or(Address { hi: 0, lo: 0 }, address),
        local_port: existing.local_port,
        remote_port: existing.remote_port,
        protocol: existing.protocol.into(),
    };
    if existing.remote.is_some() {
        return vec![key(existing.local)];
    }
    let locals: Vec<IpAddr> = match existing.local {
        IpAddr::V4(local) if local.is_unspecified() => {
            host.own_v4.iter().copied().map(IpAddr::V4).collect()
        }
        IpAddr::V6(local) if local.is_unspecified() => {
            host.own_v6.iter().copied().map(IpAddr::V6).collect()
        }
        local => vec![local],
    };
    locals
        .into_iter()
        .map(|local| flow::wildcard(&key(local)))
        .collect()
}

/// `BPF_NOEXIST`
const NO_EXIST: u64 = 1;

fn exists(error: &aya::maps::MapError) -> bool {
    matches!(error, aya::maps::MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EEXIST))
}
