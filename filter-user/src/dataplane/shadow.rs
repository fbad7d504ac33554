//! The shadow: a second instance of the programs, never attached, that judges a packet as the attached ones would, and
//! touches nothing that they or people look at.
//!
//! It reads the very policy tables that are loaded, those of the idle bank too, and the blocks. Whatever else the program
//! writes it has for itself: what a packet would look up of flows, fragments and rates is copied from the live tables
//! first. Its return value tells the decision (`filter_common::judgement`), so nothing is counted.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use aya::{Ebpf, EbpfLoader, Pod};
use filter_common::judgement::Judgement;
use filter_common::layout::{Address, FlowKey, FlowState, RateLimits};
use filter_common::limits::{BANKS, FLOW_PORT_WORDS, RULE_SLOTS};
use filter_common::parse;
use filter_common::rate;
use filter_common::reason::Reason;
use filter_common::scan;
use filter_common::verdict::{Asked, Way, asked};

use super::bank::{CONTROL_WORDS, GENERATION};
use super::load::{Dataplane, LoadError, OBJECT, TcProgram, XdpProgram, map_pinned, open, program};
use super::memory::MappedArray;
use super::pins::{POLICY_MAPS, Pins, STATE_MAPS};
use super::pod;
mod capture;

pub use capture::Capture;

use super::test_run::{Context, SkbContext, TestRun, XdpContext, test_run};

/// Maps that the shadow has for itself, and how many entries; the rest it shares, since no program writes them. What it
/// never counts or reports needs no room: an index behind the end finds nothing.
const OWN: [(&str, Option<u32>); 15] = [
    ("CONTROL", None),
    ("FLOWS", Some(STATE_ENTRIES)),
    ("FLOW_ROOM", None),
    ("FLOW_PORTS", None),
    ("FRAGMENTS", Some(STATE_ENTRIES)),
    ("RATES", None),
    ("SOURCE_RATES", None),
    ("INTERFACE_COUNTERS", Some(1)),
    ("RULE_COUNTERS", Some(1)),
    ("CPU", None),
    ("EVENTS", Some(SMALLEST_RING)),
    ("SCAN_HEADS", Some(1)),
    ("SCAN_CELLS", Some(1)),
    ("PROBES", Some(SMALLEST_RING)),
    ("VERIFIED", None),
];

/// Entries of the tables of flows and fragments: more than one packet can ask for, on as many CPUs as share them.
const STATE_ENTRIES: u32 = 1024;

/// Flows of a capture that are remembered; the oldest ones are forgotten beyond.
const CAPTURED_FLOWS: u32 = 1 << 16;

/// Of a rule without rate limits.
const UNLIMITED: RateLimits = RateLimits {
    interval: 0,
    tolerance: 0,
    source_interval: 0,
    source_tolerance: 0,
};

/// A ring buffer is a power of two of whole pages, and no page is larger than 64 KiB.
const SMALLEST_RING: u32 = 1 << 16;

/// Which program judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// One that runs on a frame.
    Xdp(XdpProgram),
    /// One that runs on an skb.
    Tc(TcProgram),
}

impl Hook {
    /// Its name in the object.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Xdp(which) => which.name(),
            Self::Tc(which) => which.name(),
        }
    }

    /// Which way a packet goes that this program judges.
    pub fn way(self) -> Way {
        match self {
            Self::Xdp(XdpProgram::In) => Way::ToHost,
            Self::Xdp(XdpProgram::Send) | Self::Tc(TcProgram::Send) => Way::FromContainer,
            Self::Tc(TcProgram::Out) => Way::FromHost,
            Self::Tc(TcProgram::Deliver) => Way::ToContainer,
        }
    }
}

/// Where a packet is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Interface.
    pub ifindex: u32,
    /// Which program.
    pub hook: Hook,
}

/// What the program says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The reason it would be counted under.
    pub reason: Reason,
    /// Slot of the rule or row that decided, 0 if none.
    pub rule: u16,
    /// Slot of the interface; 0 if the tables do not know it.
    pub slot: u8,
    /// Whether it would go on: also what monitor mode only counts.
    pub passes: bool,
    /// Whether it passes only because the profile does not enforce.
    pub monitored: bool,
    /// The flow it was taken for a part of, as it is now.
    pub flow: Option<(FlowKey, FlowState)>,
}

/// Why a packet could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The program could not be loaded, or its tables not opened.
    #[error("cannot load the filter program a second time, to judge packets with")]
    Load(#[from] LoadError),
    /// The kernel does not run it on this frame.
    #[error(
        "the kernel does not run the program on a frame of {length} bytes by interface {ifindex}"
    )]
    Run {
        /// Of the frame.
        length: usize,
        /// Where.
        ifindex: u32,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// State could not be copied.
    #[error("cannot copy what the packet is looked up in")]
    State(#[from] MapError),
    /// The program returned an action.
    #[error("the program says {0:#x}, which is no judgement")]
    Answer(u32),
    /// Memory of a table.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A live table that is read, and the shadow's own.
struct Copied<T> {
    live: T,
    own: T,
}

type Hash<K, V> = HashMap<MapData, K, V>;

/// The second instance.
pub struct Shadow {
    bpf: Ebpf,
    /// `Control` of the live programs, and of these.
    live: MappedArray<u64>,
    control: MappedArray<u64>,
    limits: MappedArray<RateLimits>,
    /// Of the live programs, which these share.
    blocks: Hash<pod::Address, pod::Block>,
    flows: Copied<Hash<pod::FlowKey, pod::FlowState>>,
    fragments: Copied<Hash<pod::FragmentKey, u64>>,
    room: Copied<Array<MapData, u64>>,
    rates: Copied<Array<MapData, u64>>,
    source_rates: Copied<Array<MapData, u64>>,
}

impl fmt::Debug for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadow").finish_non_exhaustive()
    }
}

impl Dataplane {
    /// The shadow of the loaded programs, which is made when it is first asked for.
    pub fn shadow(&mut self) -> Result<&mut Shadow, LoadError> {
        let shadow = match self.shadow.take() {
            Some(shadow) => shadow,
            None => Box::new(Shadow::load(&self.pins, &self.policy_set, STATE_ENTRIES)?),
        };
        Ok(self.shadow.insert(shadow))
    }

    /// Another shadow, which knows of no flow but those of the packets it is given, and judges by the policy of the bank
    /// that this word names; without one, by that in force.
    pub fn shadow_of_a_capture(&self, generation: Option<u64>) -> Result<Capture, JudgeError> {
        let shadow = Shadow::load(&self.pins, &self.policy_set, CAPTURED_FLOWS)?;
        Capture::begin(shadow, generation)
    }
}

impl Shadow {
    /// `flows`: how many it has room for.
    fn load(pins: &Pins, policy_set: &Path, flows: u32) -> Result<Self, LoadError> {
        let mut loader = EbpfLoader::new();
        let policy = POLICY_MAPS
            .iter()
            .map(|name| (*name, policy_set.join(name)));
        let state = STATE_MAPS
            .iter()
            .map(|(name, hash)| (*name, pins.state(name, *hash)));
        for (name, path) in policy.chain(state) {
            match OWN.iter().find(|(own, _)| *own == name) {
                None => {
                    loader.map_pin_path(name, Cow::Owned(path));
                }
                Some(("FLOWS", _)) => {
                    loader.map_max_entries(name, flows);
                }
                Some((_, Some(entries))) => {
                    loader.map_max_entries(name, *entries);
                }
                Some((_, None)) => {}
            }
        }
        loader.override_global("SHADOW", &1_u32, true);
        let mut bpf = loader.load(OBJECT).map_err(LoadError::program)?;
        // not taken: programs are loaded later, and a map that is dropped before is gone for them
        let Some(Map::Array(control)) = bpf.map("CONTROL") else {
            return Err(LoadError::Missing("CONTROL"));
        };
        let control = MappedArray::map(control.fd(), CONTROL_WORDS)?;
        // it is asked of few packets: each is looked up
        let Some(Map::Array(ports)) = bpf.map("FLOW_PORTS") else {
            return Err(LoadError::Missing("FLOW_PORTS"));
        };
        MappedArray::map(ports.fd(), FLOW_PORT_WORDS)?.fill(0, FLOW_PORT_WORDS, u64::MAX)?;
        Ok(Self {
            live: map_pinned(policy_set, "CONTROL", CONTROL_WORDS)?,
            control,
            limits: map_pinned(policy_set, "LIMITS", BANKS * RULE_SLOTS)?,
            blocks: HashMap::try_from(Map::HashMap(open(&pins.state_map("BLOCKS"))?))
                .map_err(LoadError::program)?,
            flows: Copied::hash(&mut bpf, pins, "FLOWS")?,
            fragments: Copied::hash(&mut bpf, pins, "FRAGMENTS")?,
            room: Copied::array(&mut bpf, pins, "FLOW_ROOM")?,
            rates: Copied::array(&mut bpf, pins, "RATES")?,
            source_rates: Copied::array(&mut bpf, pins, "SOURCE_RATES")?,
            bpf,
        })
    }

    /// Judges a frame under the policy in force.
    pub fn judge_now(&mut self, place: Place, frame: &[u8]) -> Result<Judged, JudgeError> {
        let generation = self.live.read(GENERATION)?;
        self.judge(generation, place, frame)
    }

    /// Judges a frame under the policy of the bank that this word names (see [`super::Staged::generation`]).
    pub fn judge(
        &mut self,
        generation: u64,
        place: Place,
        frame: &[u8],
    ) -> Result<Judged, JudgeError> {
        self.control.publish(GENERATION, generation)?;
        self.room.own.set(0, self.room.live.get(&0, 0)?, 0)?;
        let asked = asked(frame, place.hook.way());
        self.copy_state(&asked)?;
        let mut judgement = self.run(place, frame)?;
        // which limits count, only the tables tell
        if self.copy_rates(generation, judgement, frame)? {
            self.copy_state(&asked)?;
            judgement = self.run(place, frame)?;
        }
        let reason = judgement.decision.reason;
        let flow = match reason {
            Reason::PassReply => self
                .live_flow(asked.flow)?
                .or(self.live_flow(asked.waiting)?),
            Reason::PassRelated => self.live_flow(asked.quoted)?,
            _ => None,
        };
        Ok(Judged {
            reason,
            rule: judgement.decision.rule,
            slot: judgement.slot,
            passes: reason.passes() || !judgement.enforced,
            monitored: !reason.passes() && !judgement.enforced,
            flow,
        })
    }

    /// Until when (`CLOCK_MONOTONIC` ns) a source is blocked, by itself or with its network.
    pub fn blocked_until(&self, source: &Address) -> Result<Option<u64>, MapError> {
        let mut until = None;
        for key in [*source, scan::network(source)] {
            let block = found(self.blocks.get(&pod::Address(key), 0))?;
            until = until.max(block.map(|block| block.0.until));
        }
        Ok(until)
    }

    fn run(&mut self, place: Place, frame: &[u8]) -> Result<Judgement, JudgeError> {
        let context = match place.hook {
            Hook::Xdp(_) => Context::Xdp(XdpContext {
                data_end: frame.len() as u32,
                ingress_ifindex: place.ifindex,
                ..XdpContext::default()
            }),
            Hook::Tc(_) => Context::Skb(SkbContext {
                ifindex: place.ifindex,
                ..SkbContext::default()
            }),
        };
        let run = TestRun {
            context: Some(context),
            ..TestRun::once(frame)
        };
        let program = program(&mut self.bpf, place.hook)?;
        let ran = test_run(program, run).map_err(|source| JudgeError::Run {
            length: frame.len(),
            ifindex: place.ifindex,
            source,
        })?;
        Judgement::unpack(ran.value).ok_or(JudgeError::Answer(ran.value))
    }

    /// Makes the own tables say of this packet what the live ones say.
    fn copy_state(&mut self, asked: &Asked) -> Result<(), MapError> {
        for key in [asked.flow, asked.waiting, asked.quoted]
            .into_iter()
            .flatten()
        {
            self.flows.copy(pod::FlowKey(key))?;
        }
        if let Some(key) = asked.fragment {
            self.fragments.copy(pod::FragmentKey(key))?;
        }
        Ok(())
    }

    /// Copies how far the limits of the rule that decided are used up; whether it has any.
    fn copy_rates(
        &mut self,
        generation: u64,
        judgement: Judgement,
        frame: &[u8],
    ) -> Result<bool, JudgeError> {
        let limits = self.limits_of(generation, judgement)?;
        let slot = u32::from(judgement.decision.rule);
        if limits.interval != 0 {
            self.rates.copy(slot)?;
        }
        if limits.source_interval != 0 {
            for bucket in source_buckets(slot, frame) {
                self.source_rates.copy(bucket)?;
            }
        }
        Ok(limits.interval != 0 || limits.source_interval != 0)
    }

    /// The limits that the rule has that decided.
    fn limits_of(&self, generation: u64, judgement: Judgement) -> io::Result<RateLimits> {
        let slot = judgement.decision.rule;
        let decided = matches!(
            judgement.decision.reason,
            Reason::PassRule | Reason::DropRate
        );
        if slot == 0 || !decided {
            return Ok(UNLIMITED);
        }
        let bank = generation as usize & (BANKS - 1);
        self.limits.read(bank * RULE_SLOTS + usize::from(slot))
    }

    fn live_flow(&self, key: Option<FlowKey>) -> Result<Option<(FlowKey, FlowState)>, MapError> {
        let Some(key) = key else {
            return Ok(None);
        };
        let state = found(self.flows.live.get(&pod::FlowKey(key), 0))?;
        Ok(state.map(|state| (key, state.0)))
    }
}

impl<K: Pod, V: Pod> Copied<Hash<K, V>> {
    fn hash(bpf: &mut Ebpf, pins: &Pins, name: &'static str) -> Result<Self, LoadError> {
        let live = Map::LruHashMap(open(&pins.state_map(name))?);
        Ok(Self {
            live: HashMap::try_from(live).map_err(LoadError::program)?,
            own: HashMap::try_from(take(bpf, name)?).map_err(LoadError::program)?,
        })
    }

    fn copy(&mut self, key: K) -> Result<(), MapError> {
        match found(self.live.get(&key, 0))? {
            Some(value) => self.own.insert(key, value, 0),
            None => found(self.own.remove(&key)).map(drop),
        }
    }
}

impl Copied<Array<MapData, u64>> {
    fn array(bpf: &mut Ebpf, pins: &Pins, name: &'static str) -> Result<Self, LoadError> {
        let live = Map::Array(open(&pins.state_map(name))?);
        Ok(Self {
            live: Array::try_from(live).map_err(LoadError::program)?,
            own: Array::try_from(take(bpf, name)?).map_err(LoadError::program)?,
        })
    }

    fn copy(&mut self, index: u32) -> Result<(), MapError> {
        let value = self.live.get(&index, 0)?;
        self.own.set(index, value, 0)
    }
}

/// Buckets of a packet's source under a rule.
fn source_buckets(rule: u32, frame: &[u8]) -> impl Iterator<Item = u32> {
    let source = parse::source(frame, &parse::link(frame));
    source
        .into_iter()
        .flat_map(move |(_, source)| rate::source_buckets(rule, &source))
}

fn take(bpf: &mut Ebpf, name: &'static str) -> Result<Map, LoadError> {
    bpf.take_map(name).ok_or(LoadError::Missing(name))
}

/// `None` for a key that is not there.
fn found<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
