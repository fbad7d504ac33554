//! Reading the counters, with or without a daemon: the label maps say what a slot means.

use std::collections::BTreeMap;
use std::path::Path;

use aya::maps::{Array, Map, MapData, PerCpuArray, PerCpuValues, RingBuf};
use aya_obj::generated::BPF_F_MMAPABLE;
use filter_common::layout::Counter;
use filter_common::limits::{INTERFACE_SLOTS, RULE_SLOTS};
use filter_common::reason::Reason;
use filter_common::scan::Pattern;
use serde::Serialize;

use super::attach::Mode;
use super::load::{Dataplane, LoadError, map_file, open, ring};
use super::pins::Pins;
use super::pod::{self, InterfaceLabelFields, to_bytes, to_text};

/// Names of the label maps.
pub(super) const LABEL_MAPS: [&str; 2] = ["RULE_LABELS", "INTERFACE_LABELS"];

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes of the frames.
    pub bytes: u64,
}

impl std::ops::AddAssign<Counter> for Count {
    fn add_assign(&mut self, other: Counter) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// One interface's counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceCounts {
    /// Name when it was attached.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// Profile that judges untagged frames.
    pub profile: String,
    /// How the program runs there.
    pub mode: Option<Mode>,
    /// By reason.
    pub reasons: BTreeMap<&'static str, Count>,
    /// By reason: what monitor mode let through.
    pub would_drop: BTreeMap<&'static str, Count>,
}

/// One rule's counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleCounts {
    /// Rule id.
    pub id: String,
    /// Profile it belongs to.
    pub profile: String,
    /// Packets that it decided about.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Everything that is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// By interface.
    pub interfaces: Vec<InterfaceCounts>,
    /// By rule.
    pub rules: Vec<RuleCounts>,
    /// Packets on interfaces with the program but without a configuration.
    pub unmanaged: Count,
    /// Sampled drops that were not reported, for want of budget or room.
    pub events_suppressed: u64,
    /// Refused packets that are probes, by pattern.
    pub patterns: BTreeMap<&'static str, u64>,
    /// Probes that were counted by pattern only, for want of budget or room: their source may go unnoticed.
    pub probes_shed: u64,
}

fn pin(path: &Path) -> impl Fn(aya::maps::MapError) -> LoadError + '_ {
    |error| LoadError::Pin {
        path: path.to_owned(),
        source: Box::new(error),
    }
}

fn per_cpu<V: aya::Pod>(pins: &Pins, name: &str) -> Result<PerCpuArray<MapData, V>, LoadError> {
    let path = pins.state_map(name);
    PerCpuArray::try_from(Map::PerCpuArray(open(&path)?)).map_err(pin(&path))
}

fn labels<V: aya::Pod>(
    pins: &Pins,
    name: &str,
    entries: usize,
) -> Result<Array<MapData, V>, LoadError> {
    let path = pins.label_map(name);
    if path.exists() {
        return Array::try_from(Map::Array(open(&path)?)).map_err(pin(&path));
    }
    let array = Array::<MapData, V>::create(entries as u32, BPF_F_MMAPABLE).map_err(pin(&path))?;
    array.pin(&path).map_err(|error| LoadError::Pin {
        path: path.clone(),
        source: Box::new(error),
    })?;
    // the pin holds the map; open it again, since pinning consumed our handle
    Array::try_from(Map::Array(open(&path)?)).map_err(pin(&path))
}

fn rule_labels(pins: &Pins) -> Result<Array<MapData, pod::RuleLabel>, LoadError> {
    labels(pins, "RULE_LABELS", RULE_SLOTS)
}

fn interface_labels(pins: &Pins) -> Result<Array<MapData, pod::InterfaceLabel>, LoadError> {
    labels(pins, "INTERFACE_LABELS", INTERFACE_SLOTS)
}

/// What rule slots mean: (slot, id, profile).
pub fn known_rules(pins: &Pins) -> Result<Vec<(u16, String, String)>, LoadError> {
    // makes the map if there is none
    rule_labels(pins)?;
    let path = pins.label_map("RULE_LABELS");
    // as memory: thousands of system calls each time would be the most that an idle daemon does
    let labels = map_file::<pod::RuleLabel>(&path, RULE_SLOTS)?;
    let mut rules = Vec::new();
    for slot in 0..RULE_SLOTS {
        let pod::RuleLabel([id, profile]) = labels.read(slot)?;
        if id[0] != 0 {
            rules.push((slot as u16, to_text(&id), to_text(&profile)));
        }
    }
    Ok(rules)
}

/// Names an interface slot; ifindex 0 frees it.
pub fn label_interface(
    pins: &Pins,
    slot: u16,
    label: &InterfaceLabelFields,
) -> Result<(), LoadError> {
    let path = pins.label_map("INTERFACE_LABELS");
    interface_labels(pins)?
        .set(slot as u32, pod::InterfaceLabel(*label), 0)
        .map_err(pin(&path))
}

/// An interface slot's label.
pub fn interface_label(pins: &Pins, slot: u16) -> Result<InterfaceLabelFields, LoadError> {
    let path = pins.label_map("INTERFACE_LABELS");
    Ok(interface_labels(pins)?
        .get(&(slot as u32), 0)
        .map_err(pin(&path))?
        .0)
}

/// Which interface has which slot: (ifindex, slot).
pub fn interface_slots(pins: &Pins) -> Result<Vec<(u32, u16)>, LoadError> {
    let path = pins.label_map("INTERFACE_LABELS");
    let labels = interface_labels(pins)?;
    let mut slots = Vec::new();
    for slot in 1..INTERFACE_SLOTS as u32 {
        let label = labels.get(&slot, 0).map_err(pin(&path))?.0;
        if label.ifindex != 0 {
            slots.push((label.ifindex, slot as u16));
        }
    }
    Ok(slots)
}

/// Names rule slots.
pub fn label_rules<'a>(
    pins: &Pins,
    rules: impl IntoIterator<Item = (u16, &'a str, &'a str)>,
) -> Result<(), LoadError> {
    let path = pins.label_map("RULE_LABELS");
    let mut array = rule_labels(pins)?;
    for (slot, id, profile) in rules {
        array
            .set(
                slot as u32,
                pod::RuleLabel([to_bytes(id), to_bytes(profile)]),
                0,
            )
            .map_err(pin(&path))?;
    }
    Ok(())
}

/// Starts the counters of rule slots at zero.
pub fn zero_rules(pins: &Pins, slots: &[u16]) -> Result<(), LoadError> {
    let path = pins.state_map("RULE_COUNTERS");
    let mut array = per_cpu::<pod::Counter>(pins, "RULE_COUNTERS")?;
    for slot in slots {
        let zero: Vec<_> = array
            .get(&(*slot as u32), 0)
            .map_err(pin(&path))?
            .iter()
            .map(|_| pod::Counter(Counter::ZERO))
            .collect();
        let zero = PerCpuValues::try_from(zero).map_err(LoadError::Io)?;
        array.set(*slot as u32, zero, 0).map_err(pin(&path))?;
    }
    Ok(())
}

/// Starts the counters of an interface slot at zero.
pub fn zero_interface(pins: &Pins, slot: u16) -> Result<(), LoadError> {
    let path = pins.state_map("INTERFACE_COUNTERS");
    let mut array = per_cpu::<pod::InterfaceCounters>(pins, "INTERFACE_COUNTERS")?;
    let slots = [Counter::ZERO; filter_common::reason::REASON_SLOTS];
    let nothing = pod::InterfaceCounters(filter_common::layout::InterfaceCounters {
        enforced: slots,
        monitored: slots,
    });
    let zero: Vec<_> = array
        .get(&(slot as u32), 0)
        .map_err(pin(&path))?
        .iter()
        .map(|_| nothing)
        .collect();
    let zero = PerCpuValues::try_from(zero).map_err(LoadError::Io)?;
    array.set(slot as u32, zero, 0).map_err(pin(&path))
}

/// Reads everything. Needs no daemon, only the pins.
pub fn read(pins: &Pins) -> Result<Counters, LoadError> {
    let mut counters = Counters::default();
    let path = pins.state_map("INTERFACE_COUNTERS");
    let array = per_cpu::<pod::InterfaceCounters>(pins, "INTERFACE_COUNTERS")?;
    let labels = interface_labels(pins)?;
    for slot in 1..INTERFACE_SLOTS as u32 {
        let label = labels.get(&slot, 0).map_err(pin(&path))?.0;
        if label.ifindex == 0 {
            continue;
        }
        let mut counts = InterfaceCounts {
            name: to_text(&label.name),
            ifindex: label.ifindex,
            profile: to_text(&label.profile),
            mode: Mode::from_number(label.mode),
            reasons: Reason::ALL
                .iter()
                .map(|reason| (reason.name(), Count::default()))
                .collect(),
            would_drop: BTreeMap::new(),
        };
        for value in array.get(&slot, 0).map_err(pin(&path))?.iter() {
            for reason in Reason::ALL {
                let index = *reason as usize;
                *counts.reasons.entry(reason.name()).or_default() += value.0.enforced[index];
                if !reason.passes() {
                    *counts.would_drop.entry(reason.name()).or_default() +=
                        value.0.monitored[index];
                }
            }
        }
        counters.interfaces.push(counts);
    }
    for value in array.get(&0, 0).map_err(pin(&path))?.iter() {
        counters.unmanaged += value.0.enforced[Reason::PassUnmanaged as usize];
    }
    let path = pins.state_map("RULE_COUNTERS");
    let array = per_cpu::<pod::Counter>(pins, "RULE_COUNTERS")?;
    for (slot, id, profile) in known_rules(pins)? {
        let mut count = Count::default();
        for value in array.get(&(slot as u32), 0).map_err(pin(&path))?.iter() {
            count += value.0;
        }
        counters.rules.push(RuleCounts {
            id,
            profile,
            packets: count.packets,
            bytes: count.bytes,
        });
    }
    read_cpus(pins, &mut counters)?;
    Ok(counters)
}

/// What CPUs have counted of events and probes.
fn read_cpus(pins: &Pins, counters: &mut Counters) -> Result<(), LoadError> {
    counters.patterns = Pattern::ALL
        .iter()
        .map(|pattern| (pattern.name(), 0))
        .collect();
    let path = pins.state_map("CPU");
    if !path.exists() {
        // the filter in force is of a version that counted them elsewhere
        return Ok(());
    }
    for value in per_cpu::<pod::CpuState>(pins, "CPU")?
        .get(&0, 0)
        .map_err(pin(&path))?
        .iter()
    {
        counters.events_suppressed += value.0.events.suppressed;
        counters.probes_shed += value.0.scans.shed;
        for pattern in Pattern::ALL {
            *counters.patterns.entry(pattern.name()).or_default() +=
                value.0.scans.patterns[*pattern as usize];
        }
    }
    Ok(())
}

/// Probes that were counted by pattern only, so far.
pub fn probes_shed(pins: &Pins) -> Result<u64, LoadError> {
    let mut counters = Counters::default();
    read_cpus(pins, &mut counters)?;
    Ok(counters.probes_shed)
}

/// Packets that rules have counted, by slot.
pub fn rule_packets(
    pins: &Pins,
    slots: impl IntoIterator<Item = u16>,
) -> Result<Vec<u64>, LoadError> {
    let path = pins.state_map("RULE_COUNTERS");
    let array = per_cpu::<pod::Counter>(pins, "RULE_COUNTERS")?;
    slots
        .into_iter()
        .map(|slot| {
            let counts = array.get(&u32::from(slot), 0).map_err(pin(&path))?;
            Ok(counts.iter().map(|count| count.0.packets).sum())
        })
        .collect()
}

/// Packets dropped so far, on all interfaces, for all reasons.
pub fn dropped(pins: &Pins) -> Result<u64, LoadError> {
    let path = pins.state_map("INTERFACE_COUNTERS");
    let array = per_cpu::<pod::InterfaceCounters>(pins, "INTERFACE_COUNTERS")?;
    let mut packets = 0;
    for (_, slot) in interface_slots(pins)? {
        for value in array.get(&(slot as u32), 0).map_err(pin(&path))?.iter() {
            let drops = Reason::ALL.iter().filter(|reason| !reason.passes());
            packets += drops
                .map(|reason| value.0.enforced[*reason as usize].packets)
                .sum::<u64>();
        }
    }
    Ok(packets)
}

impl Dataplane {
    /// The ring buffer of sampled drops.
    pub fn events(&self) -> Result<RingBuf<MapData>, LoadError> {
        ring(&self.bpf, "EVENTS")
    }
}
