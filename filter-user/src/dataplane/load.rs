//! Loading: adopts pinned maps of the right shape, creates what is missing, loads the programs.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::thread;

use aya::maps::{Map, MapData, MapType, RingBuf};
use aya::programs::{Program, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use aya_obj::generated::bpf_map_type;
use filter_common::layout::{Bank, Binding, RateLimits};
use filter_common::limits::{
    BANKS, BLOCKS, INTERFACE_SLOTS, MATRIX_ROW, RULE_SLOTS, SCAN_CELLS, VLAN_IDS, VLAN_TABLES,
};
use filter_common::matrix::Entry;
use filter_common::prefix::{Cell4, Cell6};
use ipnet::IpNet;

use super::bank::CONTROL_WORDS;
use super::memory::MappedArray;
use super::pins::{POLICY_MAPS, Pins, STATE_MAPS};
use super::shadow::{Hook, Shadow};
use super::watch;

/// The program, built by `build.rs`.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/edgefilter.bpf.o"));

/// The programs that run on a frame before there is an skb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpProgram {
    /// What comes in by an outer interface.
    In,
    /// What a container sends.
    Send,
}

impl XdpProgram {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::In, Self::Send];

    /// Its name in the object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "edgefilter_in",
            Self::Send => "edgefilter_send_xdp",
        }
    }
}

/// The programs that run on an skb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcProgram {
    /// What leaves this host by an outer interface.
    Out,
    /// What a container sends.
    Send,
    /// What is about to reach a container.
    Deliver,
}

impl TcProgram {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Out, Self::Send, Self::Deliver];

    /// Its name in the object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Out => "edgefilter_out",
            Self::Send => "edgefilter_send",
            Self::Deliver => "edgefilter_deliver",
        }
    }
}

/// How large the tables of a policy set are, for each of the two banks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// IPv4 cells, 64 bytes each.
    pub cells4: usize,
    /// IPv6 cells, 64 bytes each.
    pub cells6: usize,
    /// Matrix entries, 4 bytes each; a multiple of [`MATRIX_ROW`].
    pub matrix: usize,
}

impl Sizes {
    /// Room for twice what is needed, so that a policy can grow without a new set; never less than a small policy's.
    pub fn with_room(needed: Self) -> Self {
        let room = |count: usize, least: usize| (count * 2).max(least);
        Self {
            cells4: room(needed.cells4, 4096),
            cells6: room(needed.cells6, 4096),
            matrix: room(needed.matrix, 32 * MATRIX_ROW).next_multiple_of(MATRIX_ROW),
        }
    }

    fn hold(&self, needed: &Self) -> bool {
        self.cells4 >= needed.cells4 && self.cells6 >= needed.cells6 && self.matrix >= needed.matrix
    }
}

/// Why the program could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel or aya refused.
    #[error("the kernel does not take the filter program")]
    Program(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A pin could not be read or made.
    #[error("cannot use the pinned map {path}")]
    Pin {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A pin is not the map that its name says.
    #[error(
        "{path} is a map of another shape than this program's; run `edgefilter detach` (which opens the host) and start again"
    )]
    Shape {
        /// Which.
        path: PathBuf,
    },
    /// Memory or directories.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The table of blocks holds no more.
    #[error(
        "{BLOCKS} sources are blocked, and no more can be: unblock some, or wait until blocks end"
    )]
    BlocksFull,
    /// Neither an address nor an IPv6 /64 of one party.
    #[error("{0} cannot be blocked: only an address can, or an IPv6 /64 that is not link-local")]
    NoSource(IpNet),
    /// The object was built wrong.
    #[error("the program object has no {0}")]
    Missing(&'static str),
}

impl LoadError {
    /// What the kernel or aya says of a program.
    pub(super) fn program(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Program(Box::new(error))
    }
}

/// The loaded programs and the memory of the policy set they read.
#[derive(Debug)]
pub struct Dataplane {
    pub(super) bpf: Ebpf,
    pub(super) pins: Pins,
    pub(super) policy_set: PathBuf,
    pub(super) sizes: Sizes,
    pub(super) memory: PolicyMemory,
    /// `Watch` as words.
    pub(super) watch: MappedArray<u64>,
    /// Judges packets for people, once somebody has asked.
    pub(super) shadow: Option<Box<Shadow>>,
    /// The flow table was made by this load.
    pub(super) new_flow_table: bool,
}

/// Every policy map as memory.
#[derive(Debug)]
pub(super) struct PolicyMemory {
    /// `Control` as words.
    pub(super) control: MappedArray<u64>,
    /// Each a `Bank`.
    pub(super) banks: MappedArray<u8>,
    pub(super) vlans: MappedArray<u16>,
    pub(super) cells4: MappedArray<Cell4>,
    pub(super) cells6: MappedArray<Cell6>,
    pub(super) matrix: MappedArray<Entry>,
    pub(super) limits: MappedArray<RateLimits>,
    pub(super) bindings: MappedArray<Binding>,
}

impl Dataplane {
    /// Opens the tables, with a policy set that has room for `needed`: the pinned one if it is large enough, else a new
    /// one. Programs are loaded by [`Dataplane::prepare`], or when they are first asked for. What is attached stays as it
    /// is until [`Dataplane::attach_xdp`].
    pub fn load(pins: &Pins, needed: Sizes, flows: u32) -> Result<Self, LoadError> {
        let (policy_set, sizes) = match adoptable(pins, &needed)? {
            Some(found) => found,
            None => (pins.new_policy_set()?, Sizes::with_room(needed)),
        };
        check_shapes(pins, &policy_set)?;
        let new_flow_table = !pins.state_map("FLOWS").exists();
        let mut loader = EbpfLoader::new();
        for name in POLICY_MAPS {
            loader.map_pin_path(name, Cow::Owned(policy_set.join(name)));
        }
        for (name, hash) in STATE_MAPS {
            let path = pins.state(name, hash);
            if name == "FLOWS" {
                // a table of another size than asked for keeps its size: its flows matter more
                let entries = if path.exists() {
                    pinned_entries(&path)?
                } else {
                    flows
                };
                loader.map_max_entries(name, entries);
            }
            loader.map_pin_path(name, Cow::Owned(path));
        }
        let banks = BANKS as u32;
        loader
            .map_max_entries("CELLS4", sizes.cells4 as u32 * banks)
            .map_max_entries("SCAN_HEADS", (cpus()? * SCAN_CELLS) as u32)
            .map_max_entries("SCAN_CELLS", (cpus()? * SCAN_CELLS) as u32)
            .map_max_entries("CELLS6", sizes.cells6 as u32 * banks)
            .map_max_entries("MATRIX", (sizes.matrix / MATRIX_ROW) as u32 * banks);
        let bpf = loader.load(OBJECT).map_err(LoadError::program)?;
        let memory = PolicyMemory::open(&policy_set, &sizes)?;
        #[cfg(feature = "bpf-log")]
        let bpf = logging(bpf);
        Ok(Self {
            bpf,
            pins: pins.clone(),
            policy_set,
            sizes,
            memory,
            watch: watch::open(pins)?,
            shadow: None,
            new_flow_table,
        })
    }

    /// Whether a policy of these sizes fits the loaded set.
    pub fn fits(&self, needed: &Sizes) -> bool {
        self.sizes.hold(needed)
    }

    /// Removes the pins of sets and maps that nothing attached uses any more. Call it after everything was attached.
    pub fn retire_others(&self) -> io::Result<()> {
        self.pins.retire(&self.policy_set)
    }

    /// Has the kernel verify programs, which is what a start takes its time for: side by side, as far as there are CPUs.
    pub fn prepare(&mut self, programs: &[Hook]) -> Result<(), LoadError> {
        let wanted = |name: &str| programs.iter().any(|hook| hook.name() == name);
        thread::scope(|scope| {
            let programs = self.bpf.programs_mut();
            let loading: Vec<_> = programs
                .filter(|(name, _)| wanted(name))
                .map(|(_, program)| scope.spawn(|| loaded(program)))
                .collect();
            let done: Vec<_> = loading
                .into_iter()
                .map(|program| match program.join() {
                    Ok(loaded) => loaded,
                    Err(_) => Err(LoadError::Missing("thread to load a program in")),
                })
                .collect();
            done.into_iter().collect()
        })
    }

    /// A program, to be run or looked at.
    pub fn program(&mut self, which: Hook) -> Result<BorrowedFd<'_>, LoadError> {
        program(&mut self.bpf, which)
    }

    /// A program that runs on a frame.
    pub fn xdp(&mut self, which: XdpProgram) -> Result<&mut Xdp, LoadError> {
        xdp(&mut self.bpf, which)
    }

    /// The kernel's id of a program that runs on a frame.
    pub fn xdp_id(&mut self, which: XdpProgram) -> Result<u32, LoadError> {
        let info = self.xdp(which)?.info().map_err(LoadError::program)?;
        Ok(info.id())
    }

    /// A program that runs on an skb.
    pub fn tc(&mut self, which: TcProgram) -> Result<&mut SchedClassifier, LoadError> {
        tc(&mut self.bpf, which)
    }

    /// The pins it works on.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }
}

/// Prints what the debug build of the program says, through `tracing`'s log bridge. Needs a tokio runtime.
#[cfg(feature = "bpf-log")]
fn logging(mut bpf: Ebpf) -> Ebpf {
    match aya_log::EbpfLogger::init(&mut bpf) {
        Ok(mut logger) => {
            tokio::spawn(async move {
                let mut ticker = tokio::time::interval(std::time::Duration::from_millis(100));
                loop {
                    ticker.tick().await;
                    logger.flush();
                }
            });
        }
        Err(error) => tracing::warn!(%error, "the program does not log"),
    }
    bpf
}

/// Loads a program that is not. Its maps have to be there still: what it reads of them is their descriptors.
fn loaded(program: &mut Program) -> Result<(), LoadError> {
    if program.fd().is_ok() {
        return Ok(());
    }
    match program {
        Program::Xdp(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => return Ok(()),
    }
    .map_err(LoadError::program)
}

fn named<'a, T>(bpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, LoadError>
where
    &'a mut T: TryFrom<&'a mut Program>,
{
    let program = bpf.program_mut(name).ok_or(LoadError::Missing(name))?;
    loaded(program)?;
    program.try_into().map_err(|_| LoadError::Missing(name))
}

fn xdp(bpf: &mut Ebpf, which: XdpProgram) -> Result<&mut Xdp, LoadError> {
    named(bpf, which.name())
}

fn tc(bpf: &mut Ebpf, which: TcProgram) -> Result<&mut SchedClassifier, LoadError> {
    named(bpf, which.name())
}

/// A program, loaded if it is not yet.
pub(super) fn program(bpf: &mut Ebpf, which: Hook) -> Result<BorrowedFd<'_>, LoadError> {
    let fd = match which {
        Hook::Xdp(which) => xdp(bpf, which)?.fd(),
        Hook::Tc(which) => tc(bpf, which)?.fd(),
    };
    Ok(fd.map_err(LoadError::program)?.as_fd())
}

/// A ring buffer of an object. The object keeps its own descriptor, which programs that are loaded later refer to.
pub(super) fn ring(bpf: &Ebpf, name: &'static str) -> Result<RingBuf<MapData>, LoadError> {
    let Some(Map::RingBuf(ring)) = bpf.map(name) else {
        return Err(LoadError::Missing(name));
    };
    let own = ring.fd().as_fd().try_clone_to_owned()?;
    let data = MapData::from_fd(own).map_err(LoadError::program)?;
    RingBuf::try_from(Map::RingBuf(data)).map_err(LoadError::program)
}

/// Compares every pinned map with what the program expects: aya adopts a pin without a look at it.
fn check_shapes(pins: &Pins, policy_set: &Path) -> Result<(), LoadError> {
    let object = aya_obj::Object::parse(OBJECT).map_err(LoadError::program)?;
    let policy = POLICY_MAPS
        .iter()
        .map(|name| (*name, policy_set.join(name)));
    let state = STATE_MAPS
        .iter()
        .map(|(name, hash)| (*name, pins.state(name, *hash)));
    for (name, path) in policy.chain(state).filter(|(_, path)| path.exists()) {
        let expected = object
            .maps
            .get(name)
            .ok_or(LoadError::Missing("map of this name"))?;
        let wrong = |error: aya::maps::MapError| LoadError::Pin {
            path: path.clone(),
            source: Box::new(error),
        };
        let found = open(&path)?.info().map_err(wrong)?;
        let kind = bpf_map_type::try_from(expected.map_type())
            .ok()
            .and_then(|kind| MapType::try_from(kind).ok());
        let same = found.map_type().ok() == kind
            && found.key_size() == expected.key_size()
            && found.value_size() == expected.value_size()
            && found.map_flags() == expected.map_flags();
        if !same {
            return Err(LoadError::Shape { path });
        }
    }
    Ok(())
}

/// The newest complete policy set of our layout, if it has room.
fn adoptable(pins: &Pins, needed: &Sizes) -> Result<Option<(PathBuf, Sizes)>, LoadError> {
    for (_, directory) in pins.policy_sets()?.into_iter().rev() {
        if POLICY_MAPS
            .iter()
            .any(|name| !directory.join(name).exists())
        {
            // a daemon died while it made this set; nothing attached uses it
            fs::remove_dir_all(&directory)?;
            continue;
        }
        let banks = BANKS;
        let sizes = Sizes {
            cells4: pinned_entries(&directory.join("CELLS4"))? as usize / banks,
            cells6: pinned_entries(&directory.join("CELLS6"))? as usize / banks,
            matrix: pinned_entries(&directory.join("MATRIX"))? as usize / banks * MATRIX_ROW,
        };
        if sizes.hold(needed) {
            return Ok(Some((directory, sizes)));
        }
    }
    Ok(None)
}

/// Opens a pinned map.
pub(super) fn open(path: &Path) -> Result<MapData, LoadError> {
    MapData::from_pin(path).map_err(|error| LoadError::Pin {
        path: path.to_owned(),
        source: Box::new(error),
    })
}

/// CPUs that there can ever be.
fn cpus() -> Result<usize, LoadError> {
    aya::util::nr_cpus().map_err(|(what, error)| {
        LoadError::Io(io::Error::new(error.kind(), format!("{what}: {error}")))
    })
}

fn pinned_entries(path: &Path) -> Result<u32, LoadError> {
    let info = open(path)?.info().map_err(|error| LoadError::Pin {
        path: path.to_owned(),
        source: Box::new(error),
    })?;
    Ok(info.max_entries())
}

impl PolicyMemory {
    fn open(set: &Path, sizes: &Sizes) -> Result<Self, LoadError> {
        use map_pinned as map;
        Ok(Self {
            control: map(set, "CONTROL", CONTROL_WORDS)?,
            banks: map(set, "BANKS", BANKS * size_of::<Bank>())?,
            vlans: map(set, "VLANS", BANKS * VLAN_TABLES * VLAN_IDS)?,
            cells4: map(set, "CELLS4", BANKS * sizes.cells4)?,
            cells6: map(set, "CELLS6", BANKS * sizes.cells6)?,
            matrix: map(set, "MATRIX", BANKS * sizes.matrix)?,
            limits: map(set, "LIMITS", BANKS * RULE_SLOTS)?,
            bindings: map(set, "BINDINGS", BANKS * INTERFACE_SLOTS)?,
        })
    }
}

/// The whole of a pinned map of a policy set as memory.
pub(super) fn map_pinned<T: Copy>(
    set: &Path,
    name: &str,
    length: usize,
) -> Result<MappedArray<T>, LoadError> {
    map_file(&set.join(name), length)
}

/// The whole of a pinned map as memory.
pub(super) fn map_file<T: Copy>(path: &Path, length: usize) -> Result<MappedArray<T>, LoadError> {
    let data = open(path)?;
    let wrong = |text: String| LoadError::Pin {
        path: path.to_owned(),
        source: text.into(),
    };
    let info = data.info().map_err(|error| wrong(error.to_string()))?;
    let (is, want) = (
        info.max_entries() as usize * info.value_size() as usize,
        length * size_of::<T>(),
    );
    if is != want {
        return Err(wrong(format!(
            "it holds {is} bytes, not {want}; run `edgefilter detach` and start again"
        )));
    }
    Ok(MappedArray::map(data.fd(), length)?)
}
