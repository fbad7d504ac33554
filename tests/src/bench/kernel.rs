//! The few bpf(2) calls that the measurement makes itself: small programs and maps, and test runs.
//! Never attaches anything.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result, bail};

use super::assembly::Instruction;

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
    /// Programs to call.
    pub const PROG_ARRAY: u32 = 3;
    /// BPF_MAP_TYPE_LRU_HASH
    pub const LRU_HASH: u32 = 9;
    /// Longest prefix match.
    pub const LPM_TRIE: u32 = 11;
}

/// `BPF_F_NO_PREALLOC`
pub const NO_PREALLOC: u32 = 1;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const XDP_HAS_FRAGS: u32 = 1 << 5;

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
        let mut log = vec![0_u8; 64 << 10];
        let mut attributes = Attributes {
            program_type: PROG_TYPE_XDP,
            count: instructions.len() as u32,
            instructions: instructions.as_ptr(),
            license: c"GPL".as_ptr(),
            log_level: 1,
            log_size: log.len() as u32,
            log: log.as_mut_ptr(),
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
        match bpf(command::PROG_LOAD, &mut attributes) {
            Ok(answer) => Ok(Self(owned(answer))),
            Err(error) => {
                let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
                bail!(
                    "the kernel does not take the program {name}: {error}\n{}",
                    String::from_utf8_lossy(&log[..end])
                )
            }
        }
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
        let mut attributes = TestRun {
            program: self.0.as_raw_fd() as u32,
            size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat,
            ..TestRun::default()
        };
        bpf(command::PROG_TEST_RUN, &mut attributes).context("BPF_PROG_TEST_RUN failed")?;
        Ok(Run {
            action: attributes.action,
            nanoseconds: attributes.duration,
        })
    }

    /// Runs the program on `count` live frames: what it does with one, redirecting it for instance, is really done.
    pub fn send(&self, frame: &[u8], count: u32) -> Result<()> {
        /// `BPF_F_TEST_XDP_LIVE_FRAMES`
        const LIVE_FRAMES: u32 = 2;
        let mut attributes = TestRun {
            program: self.0.as_raw_fd() as u32,
            size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat: count,
            flags: LIVE_FRAMES,
            ..TestRun::default()
        };
        bpf(command::PROG_TEST_RUN, &mut attributes)
            .context("no live frames were sent")
            .map(drop)
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
