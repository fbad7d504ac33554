//! The few bpf(2) calls that measuring and sending take: small programs and maps, test runs and frames that really go out.
//! Never attaches anything.

pub mod instruction;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result, bail};

use instruction::Instruction;

/// Commands (linux/bpf.h).
mod command {
    pub(super) const MAP_CREATE: libc::c_int = 0;
    pub(super) const MAP_UPDATE_ELEM: libc::c_int = 2;
    pub(super) const PROG_LOAD: libc::c_int = 5;
    pub(super) const PROG_TEST_RUN: libc::c_int = 10;
    pub(super) const PROG_GET_FD_BY_ID: libc::c_int = 13;
    pub(super) const MAP_UPDATE_BATCH: libc::c_int = 26;
}

/// Map types (linux/bpf.h).
pub mod map_type {
    /// Values by number.
    pub const ARRAY: u32 = 2;
    /// Programs to call.
    pub const PROG_ARRAY: u32 = 3;
    /// BPF_MAP_TYPE_LRU_HASH
    pub const LRU_HASH: u32 = 9;
    /// Longest prefix match.
    pub const LPM_TRIE: u32 = 11;
}

/// `BPF_F_NO_PREALLOC`
pub const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE`
const MMAPABLE: u32 = 1 << 10;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const XDP_HAS_FRAGS: u32 = 1 << 5;
const LIVE_FRAMES: u32 = 1 << 1;

/// Lines of the verifier's log that are shown: why it refuses a program stands at the end.
const LOG_LINES: usize = 30;

/// What `BPF_PROG_TEST_RUN` said.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The XDP action of the last repetition.
    pub action: u32,
    /// Whole nanoseconds a repetition, rounded down.
    pub nanoseconds: u32,
}

/// What a program has to have in common with those it calls through a program array.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Takes frames of several buffers.
    pub frags: bool,
    /// Declared for attachment to an interface.
    pub attach: bool,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 4] = [
        Self {
            frags: true,
            attach: true,
        },
        Self {
            frags: false,
            attach: true,
        },
        Self {
            frags: true,
            attach: false,
        },
        Self {
            frags: false,
            attach: false,
        },
    ];
}

/// Makes one bpf(2) call.
fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are a plain structure as this command wants it; the pointers in it are valid for the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

/// Takes over the descriptor that a call returned.
fn owned(answer: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us; nobody else has it.
    unsafe { OwnedFd::from_raw_fd(answer as RawFd) }
}

/// A map.
#[derive(Debug)]
pub struct Map(OwnedFd);

impl Map {
    /// Makes a map.
    pub fn new(kind: u32, key: u32, value: u32, entries: u32, flags: u32) -> Result<Self> {
        let mut attributes = [kind, key, value, entries, flags];
        Ok(Self(owned(
            bpf(command::MAP_CREATE, &mut attributes).context("cannot make a map")?,
        )))
    }

    /// A map that is held elsewhere.
    pub fn from_fd(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// For a program's instructions.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Puts `program` into a program array's first slot.
    pub fn put_program(&self, program: RawFd) -> io::Result<()> {
        #[repr(C)]
        struct Attributes {
            map: u32,
            zero: u32,
            key: *const u32,
            value: *const u32,
            flags: u64,
        }
        let (key, value) = (0_u32, program as u32);
        let mut attributes = Attributes {
            map: self.0.as_raw_fd() as u32,
            zero: 0,
            key: &raw const key,
            value: &raw const value,
            flags: 0,
        };
        bpf(command::MAP_UPDATE_ELEM, &mut attributes).map(drop)
    }

    /// Stores the only value of an array.
    pub fn put_value<V>(&self, value: &[V]) -> Result<()> {
        #[repr(C)]
        struct Attributes<V> {
            map: u32,
            zero: u32,
            key: *const u32,
            value: *const V,
            flags: u64,
        }
        let key = 0_u32;
        let mut attributes = Attributes {
            map: self.0.as_raw_fd() as u32,
            zero: 0,
            key: &raw const key,
            value: value.as_ptr(),
            flags: 0,
        };
        bpf(command::MAP_UPDATE_ELEM, &mut attributes)
            .map(drop)
            .context("cannot fill a map")
    }

    /// Stores many entries with one call.
    pub fn put_all<K, V>(&self, keys: &[K], values: &[V]) -> Result<()> {
        #[repr(C)]
        struct Attributes<K, V> {
            in_batch: u64,
            out_batch: u64,
            keys: *const K,
            values: *const V,
            count: u32,
            map: u32,
            element_flags: u64,
            flags: u64,
        }
        let count = keys.len().min(values.len());
        let mut attributes = Attributes {
            in_batch: 0,
            out_batch: 0,
            keys: keys.as_ptr(),
            values: values.as_ptr(),
            count: count as u32,
            map: self.0.as_raw_fd() as u32,
            element_flags: 0,
            flags: 0,
        };
        bpf(command::MAP_UPDATE_BATCH, &mut attributes).context("cannot fill a map")?;
        if attributes.count as usize != count {
            bail!(
                "the kernel took {} of {count} map entries",
                attributes.count
            );
        }
        Ok(())
    }
}

/// Numbers that a program and this process share: the value of an array map of one entry.
#[derive(Debug)]
pub struct Shared {
    map: Map,
    memory: NonNull<AtomicU64>,
    numbers: usize,
}

// SAFETY: the memory belongs to this value until it is dropped, and holds atomics only.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// So many numbers, all 0; a page holds 512.
    pub fn new(numbers: usize) -> Result<Self> {
        let size = numbers * size_of::<AtomicU64>();
        let map = Map::new(map_type::ARRAY, 4, size as u32, 1, MMAPABLE)?;
        // SAFETY: a new shared mapping; the result is checked.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.descriptor(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("cannot share a map's memory");
        }
        Ok(Self {
            map,
            memory: NonNull::new(memory.cast()).context("a mapping at address 0")?,
            numbers,
        })
    }

    /// For a program's instructions.
    pub fn descriptor(&self) -> RawFd {
        self.map.descriptor()
    }

    /// The numbers.
    pub fn numbers(&self) -> &[AtomicU64] {
        // SAFETY: mapped in `new` with room for so many, for as long as `self` lives; atomics may be written by others.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.numbers) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let size = self.numbers * size_of::<AtomicU64>();
        // SAFETY: mapped in `new` with this length, and no slice of it is alive.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), size) };
    }
}

/// A loaded XDP program.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Loads a program from its instructions.
    pub fn load(name: &str, instructions: &[Instruction], kind: Kind) -> Result<Self> {
        #[repr(C)]
        struct Attributes {
            program_type: u32,
            count: u32,
            instructions: *const Instruction,
            license: *const libc::c_char,
            log_level: u32,
            log_size: u32,
            log: *mut u8,
            kernel_version: u32,
            flags: u32,
            name: [u8; 16],
            ifindex: u32,
            attach_type: u32,
        }
        let mut attributes = Attributes {
            program_type: PROG_TYPE_XDP,
            count: instructions.len() as u32,
            instructions: instructions.as_ptr(),
            license: c"GPL".as_ptr(),
            log_level: 0,
            log_size: 0,
            log: std::ptr::null_mut(),
            kernel_version: 0,
            flags: if kind.frags { XDP_HAS_FRAGS } else { 0 },
            name: [0; 16],
            ifindex: 0,
            attach_type: if kind.attach { ATTACH_XDP } else { 0 },
        };
        attributes
            .name
            .iter_mut()
            .take(15)
            .zip(name.bytes())
            .for_each(|(to, from)| *to = from);
        if let Ok(answer) = bpf(command::PROG_LOAD, &mut attributes) {
            return Ok(Self(owned(answer)));
        }
        // Once more, to hear why: a log that is too long would be an error by itself.
        let mut log = vec![0_u8; 64 << 10];
        attributes.log_level = 1;
        attributes.log_size = log.len() as u32;
        attributes.log = log.as_mut_ptr();
        let error = bpf(command::PROG_LOAD, &mut attributes)
            .err()
            .unwrap_or_else(|| io::ErrorKind::Other.into());
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
        let log = String::from_utf8_lossy(&log[..end]);
        let mut last: Vec<&str> = log.lines().rev().take(LOG_LINES).collect();
        last.reverse();
        bail!(
            "the kernel does not take the program {name}: {error}\n{}",
            last.join("\n")
        )
    }

    /// Another's program.
    pub fn by_id(id: u32) -> Result<Self> {
        let mut attributes = [id, 0, 0];
        let answer = bpf(command::PROG_GET_FD_BY_ID, &mut attributes)
            .with_context(|| format!("no program has the id {id}"))?;
        Ok(Self(owned(answer)))
    }

    /// A program that is held elsewhere.
    pub fn from_fd(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// The program's descriptor.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Runs the program on `frame`, `repeat` times, as if it came in on this namespace's loopback interface.
    pub fn run(&self, frame: &[u8], repeat: u32) -> Result<Run> {
        Self::test(&mut TestRun {
            repeat,
            ..self.test_run(frame)
        })
    }

    /// Runs the program on `frame` once, and returns what it made of it.
    pub fn run_once(&self, frame: &[u8]) -> Result<(Run, Vec<u8>)> {
        let mut out = vec![0_u8; frame.len()];
        let run = Self::test(&mut TestRun {
            repeat: 1,
            size_out: out.len() as u32,
            data_out: out.as_mut_ptr() as u64,
            ..self.test_run(frame)
        })?;
        Ok((run, out))
    }

    /// Runs the program on `repeat` frames that are real (`BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18): what it redirects is
    /// sent. `batch` of them at once, 256 at most. A frame may still hold what the program wrote into it in an earlier turn.
    ///
    /// # Errors
    /// EINTR if a signal came: by then the program has run on some of the frames.
    pub fn run_live(&self, frame: &[u8], repeat: u32, batch: u32) -> io::Result<()> {
        let mut attributes = TestRun {
            repeat,
            batch,
            flags: LIVE_FRAMES,
            ..self.test_run(frame)
        };
        bpf(command::PROG_TEST_RUN, &mut attributes).map(drop)
    }

    fn test_run(&self, frame: &[u8]) -> TestRun {
        TestRun {
            program: self.0.as_raw_fd() as u32,
            size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            ..TestRun::default()
        }
    }

    fn test(attributes: &mut TestRun) -> Result<Run> {
        bpf(command::PROG_TEST_RUN, attributes).context("BPF_PROG_TEST_RUN failed")?;
        Ok(Run {
            action: attributes.action,
            nanoseconds: attributes.duration,
        })
    }
}

/// What `BPF_PROG_TEST_RUN` is asked, and what it answers (`union bpf_attr`, `test`).
#[derive(Default)]
#[repr(C)]
struct TestRun {
    program: u32,
    action: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    zero: u32,
}

impl AsRawFd for Program {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor()
    }
}
