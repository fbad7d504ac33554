//! The tables of scans and blocks: what the program counts of sources, and whom it lets nothing of in.
//!
//! They are state: a later daemon goes on with them, and blocks end by themselves without any.

use std::collections::HashMap as Map;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use aya::maps::{HashMap, Map as AyaMap, MapData, MapError, RingBuf};
use filter_common::layout::{Address, Block, ProbeRecord, ScanCell};
use filter_common::limits::{BLOCK_FILTER_WORDS, SCAN_CELLS, VERIFIED};
use filter_common::scan::{self, Pattern};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::flows::monotonic;
use super::load::{Dataplane, LoadError, map_file, open, ring};
use super::memory::MappedArray;
use super::pins::Pins;
use super::{pod, watch};
use crate::scans::probe::Probe;

/// Of net.ipv4.ip_local_port_range, first and last.
const DEFAULT_LOCAL_PORTS: u64 = (32768 << 16) + 60999;

/// What `scan::coarse_seconds` counts.
const COARSE_SECOND: Duration = Duration::from_nanos(1 << 30);

/// The tables, open.
#[derive(Debug)]
pub struct ScanTables {
    watch: MappedArray<u64>,
    cells: MappedArray<ScanCell>,
    verified: MappedArray<u64>,
    blocks: HashMap<MapData, pod::Address, pod::Block>,
    seed: u64,
    /// How many blocks each bit of the filter stands for.
    bits: Map<u32, u32>,
    count: u64,
    cpus: usize,
}

/// A block as the program knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Address, or IPv6 /64.
    pub source: IpNet,
    /// How long, how often, and who asked for it.
    pub block: Block,
}

impl ScanTables {
    /// Opens the pinned tables and brings the filter in line with the blocks.
    pub fn open(pins: &Pins) -> Result<Self, LoadError> {
        let path = |name| pins.state_map(name);
        let mut watch = watch::open(pins)?;
        let mut seed = watch.read(watch::SEED)?;
        if seed == 0 {
            seed = random()?;
            watch.publish(watch::SEED, seed)?;
        }
        let cpus = open(&path("SCAN_CELLS"))?
            .info()
            .map_err(pin(pins, "SCAN_CELLS"))?
            .max_entries() as usize
            / SCAN_CELLS;
        let blocks = HashMap::try_from(AyaMap::HashMap(open(&path("BLOCKS"))?))
            .map_err(pin(pins, "BLOCKS"))?;
        let mut tables = Self {
            watch,
            cells: map_file(&path("SCAN_CELLS"), cpus * SCAN_CELLS)?,
            verified: map_file(&path("VERIFIED"), VERIFIED)?,
            blocks,
            seed,
            bits: Map::new(),
            count: 0,
            cpus,
        };
        if let Err(error) = tables.renew_local_ports() {
            tracing::warn!(%error, "cannot tell which ports this host opens connections from; taken for Linux's default");
            tables
                .watch
                .publish(watch::LOCAL_PORTS, DEFAULT_LOCAL_PORTS)?;
        }
        let known = tables.blocks().map_err(LoadError::program)?;
        let mut words = vec![0_u64; BLOCK_FILTER_WORDS];
        for blocked in &known {
            let bit = tables.bit(blocked.source);
            *tables.bits.entry(bit).or_default() += 1;
            words[bit as usize / 64] |= 1 << (bit % 64);
        }
        tables.watch.write(watch::BLOCK_BITS, &words)?;
        tables.count = known.len() as u64;
        tables.watch.publish(watch::BLOCKS, tables.count)?;
        Ok(tables)
    }

    /// Tells the program which ports this host opens connections from (net.ipv4.ip_local_port_range).
    pub fn renew_local_ports(&mut self) -> io::Result<()> {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
        let mut ports = text.split_whitespace().map(str::parse::<u16>);
        let (Some(Ok(first)), Some(Ok(last))) = (ports.next(), ports.next()) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("ip_local_port_range says {text:?}"),
            ));
        };
        let word = u64::from(first) << 16 | u64::from(last);
        if self.watch.read(watch::LOCAL_PORTS)? != word {
            self.watch.publish(watch::LOCAL_PORTS, word)?;
        }
        Ok(())
    }

    /// Every block in the kernel's table, those included that have ended and were not taken out yet.
    pub fn blocks(&self) -> Result<Vec<Blocked>, MapError> {
        self.blocks
            .iter()
            .map(|entry| {
                let (key, block) = entry?;
                Ok(Blocked {
                    source: net(&key.0),
                    block: block.0,
                })
            })
            .collect()
    }

    /// Blocks a source, or changes how long it is blocked. In force for packets that come after the call.
    pub fn block(&mut self, source: IpNet, block: Block) -> Result<(), LoadError> {
        let key = pod::Address(block_key(source)?);
        let known = self.blocks.get(&key, 0).is_ok();
        self.blocks
            .insert(key, pod::Block(block), 0)
            .map_err(|error| match error {
                MapError::SyscallError(error)
                    if error.io_error.raw_os_error() == Some(libc::E2BIG) =>
                {
                    LoadError::BlocksFull
                }
                error => LoadError::program(error),
            })?;
        if known {
            return Ok(());
        }
        let bit = self.bit(source);
        *self.bits.entry(bit).or_default() += 1;
        self.write_bit(bit, true)?;
        self.count += 1;
        self.watch.publish(watch::BLOCKS, self.count)?;
        Ok(())
    }

    /// Takes a block off; whether there was one.
    pub fn unblock(&mut self, source: IpNet) -> Result<bool, LoadError> {
        match self.blocks.remove(&pod::Address(block_key(source)?)) {
            Ok(()) => {}
            Err(MapError::KeyNotFound) => return Ok(false),
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(LoadError::program(error)),
        }
        let bit = self.bit(source);
        let left = self.bits.get(&bit).copied().unwrap_or(0).saturating_sub(1);
        if left == 0 {
            self.bits.remove(&bit);
            self.write_bit(bit, false)?;
        } else {
            self.bits.insert(bit, left);
        }
        self.count = self.count.saturating_sub(1);
        self.watch.publish(watch::BLOCKS, self.count)?;
        Ok(true)
    }

    /// Whether we sent the peer data over a TCP connection that it opened, not longer ago than `within`.
    pub fn is_verified(&self, peer: IpAddr, within: Duration) -> io::Result<bool> {
        let hash = self.hash(peer);
        let word = self.verified.read((hash >> 48) as usize)?;
        let now = scan::coarse_seconds(monotonic()?);
        let age = COARSE_SECOND * now.saturating_sub(word as u32);
        Ok(word >> 32 == hash & 0xffff_ffff && age <= within)
    }

    /// Refused packets of a source that were counted and not reported yet.
    pub fn unreported(&self, source: IpNet) -> io::Result<u64> {
        let key = scan::key(&address(source.addr()));
        let at = (scan::hash(key, self.seed) >> 51) as usize;
        let mut packets = 0;
        for cpu in 0..self.cpus {
            let cell = self.cells.read(cpu * SCAN_CELLS + at)?;
            if cell.key == key {
                packets += u64::from(cell.packets);
            }
        }
        Ok(packets)
    }

    fn hash(&self, source: IpAddr) -> u64 {
        scan::hash(scan::key(&address(source)), self.seed)
    }

    /// The bit of the filter that stands for a source.
    fn bit(&self, source: IpNet) -> u32 {
        let hash = self.hash(source.addr());
        ((hash >> 50) as u32) << 6 | (hash & 63) as u32
    }

    fn write_bit(&mut self, bit: u32, on: bool) -> io::Result<()> {
        let at = watch::BLOCK_BITS + bit as usize / 64;
        let mask = 1 << (bit % 64);
        let word = self.watch.read(at)?;
        self.watch
            .publish(at, if on { word | mask } else { word & !mask })
    }
}

impl Dataplane {
    /// The ring buffer of probes.
    pub fn probes(&self) -> Result<RingBuf<MapData>, LoadError> {
        ring(&self.bpf, "PROBES")
    }
}

/// A probe out of the ring buffer, and the slot of its interface.
pub fn decode(bytes: &[u8]) -> Option<(Probe, u8)> {
    let record: [u8; size_of::<ProbeRecord>()] = bytes.try_into().ok()?;
    // SAFETY: as long as the record, which any bytes make a valid one of.
    let record = unsafe { record.as_ptr().cast::<ProbeRecord>().read_unaligned() };
    let probe = Probe {
        time: Duration::from_nanos(record.time),
        source: ip(&record.source),
        destination: ip(&record.destination),
        port: record.port,
        source_port: record.source_port,
        pattern: Pattern::from_index(record.pattern as usize)?,
        hints: record.hints,
        hop_limit: record.hop_limit,
        packets: record.packets,
        filled: record.filled,
    };
    Some((probe, record.slot))
}

/// An address as people write it.
pub fn ip(address: &Address) -> IpAddr {
    if address.hi == 0 && address.lo >> 32 == 0xffff {
        IpAddr::V4(Ipv4Addr::from_bits(address.lo as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(
            u128::from(address.hi) << 64 | u128::from(address.lo),
        ))
    }
}

fn address(source: IpAddr) -> Address {
    match source {
        IpAddr::V4(v4) => Address::v4(v4.to_bits()),
        IpAddr::V6(v6) => Address::v6(v6.to_bits()),
    }
}

/// As the program looks it up: an address, or a /64 that is one party's alone.
fn block_key(source: IpNet) -> Result<Address, LoadError> {
    let host = address(source.addr());
    let is_other = source.addr().is_ipv6() && host.hi == 0;
    match source.max_prefix_len() - source.prefix_len() {
        0 if !is_other => Ok(host),
        64 if !is_other && scan::key(&host) == host.hi => Ok(scan::network(&host)),
        _ => Err(LoadError::NoSource(source)),
    }
}

fn net(key: &Address) -> IpNet {
    match ip(key) {
        IpAddr::V4(v4) => Ipv4Net::from(v4).into(),
        IpAddr::V6(_) if key.hi == 0 && key.lo >> 48 != 0 => {
            let first = Ipv6Addr::from_bits(u128::from(key.lo) << 64);
            Ipv6Net::new_assert(first, 64).into()
        }
        IpAddr::V6(v6) => Ipv6Net::from(v6).into(),
    }
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    // 0 stands for none
    Ok(u64::from_ne_bytes(bytes).max(1))
}

fn pin<'a>(pins: &'a Pins, name: &'a str) -> impl Fn(MapError) -> LoadError + 'a {
    move |error| LoadError::Pin {
        path: pins.state_map(name),
        source: Box::new(error),
    }
}
