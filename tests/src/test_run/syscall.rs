//! The commands of bpf(2) that aya has no call for: running a program on a frame, and batches.
//! All unsafe code of the test harness that concerns maps and programs is here.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

// enum bpf_cmd, include/uapi/linux/bpf.h
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_TEST_RUN: libc::c_long = 10;
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;
const MAP_UPDATE_BATCH: libc::c_long = 26;

/// `struct { .. } test` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    zero: u32,
}

/// The part of `union bpf_attr` for single elements.
#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map_fd: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `struct { .. } batch` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// `struct xdp_md`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct XdpContext {
    /// Offset of the frame's first byte.
    pub data: u32,
    /// Offset behind the last byte of the linear part.
    pub data_end: u32,
    /// Offset of the meta data.
    pub data_meta: u32,
    /// Interface the frame came in on.
    pub ingress_ifindex: u32,
    /// Receive queue.
    pub rx_queue_index: u32,
    /// Must be 0.
    pub egress_ifindex: u32,
}

/// What to run a program on.
#[derive(Debug)]
pub struct TestRun<'a> {
    /// The frame.
    pub frame: &'a [u8],
    /// The XDP context, where the default (`lo`, queue 0) does not do.
    pub context: Option<XdpContext>,
    /// How often to run.
    pub repeat: u32,
    /// Room for the frame as the program left it.
    pub output: Option<&'a mut Vec<u8>>,
}

impl<'a> TestRun<'a> {
    /// Once, on `lo`, without output.
    #[must_use]
    pub fn once(frame: &'a [u8]) -> Self {
        Self {
            frame,
            context: None,
            repeat: 1,
            output: None,
        }
    }
}

/// What a run gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    /// The program's return value, of the last run.
    pub value: u32,
    /// Time of one run, on average.
    pub duration: Duration,
}

fn address<T>(slice: &[T]) -> u64 {
    slice.as_ptr() as u64
}

fn address_mut<T>(slice: &mut [T]) -> u64 {
    slice.as_mut_ptr() as u64
}

/// # Safety
/// `attr` is the part of `union bpf_attr` that `command` reads, and its pointers are valid for it.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<()> {
    let attr: *mut T = attr;
    // SAFETY: as the caller says; the size is that of what `attr` points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Runs a program (`BPF_PROG_TEST_RUN`).
///
/// # Errors
/// EINVAL for a frame shorter than an Ethernet header, and whatever else the kernel says.
pub fn test_run(program: BorrowedFd<'_>, mut run: TestRun<'_>) -> io::Result<Ran> {
    let mut attr = TestRunAttr {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: run.frame.len() as u32,
        data_in: address(run.frame),
        repeat: run.repeat,
        ..TestRunAttr::default()
    };
    if let Some(context) = &run.context {
        attr.ctx_size_in = size_of::<XdpContext>() as u32;
        attr.ctx_in = std::ptr::from_ref(context) as u64;
    }
    if let Some(output) = run.output.as_deref_mut() {
        // what a program may add in front
        output.resize(run.frame.len() + 256, 0);
        attr.data_size_out = output.len() as u32;
        attr.data_out = address_mut(output);
    }
    // SAFETY: the attribute of this command; frame, context and output live until it returns, and
    // their sizes are those in the attribute.
    unsafe { bpf(PROG_TEST_RUN, &mut attr) }?;
    if let Some(output) = run.output {
        output.truncate(attr.data_size_out as usize);
    }
    Ok(Ran {
        value: attr.retval,
        duration: Duration::from_nanos(attr.duration.into()),
    })
}

/// Reads the value of a key into `value`.
///
/// # Errors
/// ENOENT for a key that is not there.
pub fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u64]) -> io::Result<()> {
    let mut attr = ElementAttr {
        map_fd: map.as_raw_fd() as u32,
        key: address(key),
        value: address_mut(value),
        ..ElementAttr::default()
    };
    // SAFETY: the attribute of this command; `Map`, the only caller, made key and value of the
    // map's sizes.
    unsafe { bpf(MAP_LOOKUP_ELEM, &mut attr) }
}

/// Writes the value of a key.
///
/// # Errors
/// What the kernel says.
pub fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u64]) -> io::Result<()> {
    let mut attr = ElementAttr {
        map_fd: map.as_raw_fd() as u32,
        key: address(key),
        value: address(value),
        ..ElementAttr::default()
    };
    // SAFETY: as in `lookup`.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }
}

/// Reads, or takes out, the next `count` elements; returns how many there were and whether that was
/// all. `position` begins as `None` and is kept between the calls of one walk.
///
/// # Errors
/// What the kernel says.
pub fn next_batch(
    map: BorrowedFd<'_>,
    position: &mut Option<Vec<u8>>,
    keys: &mut [u8],
    values: &mut [u64],
    count: usize,
    take: bool,
) -> io::Result<(usize, bool)> {
    let mut next = vec![0_u8; 64.max(keys.len() / count.max(1))];
    let mut attr = BatchAttr {
        in_batch: position.as_deref().map_or(0, address),
        out_batch: address_mut(&mut next),
        keys: address_mut(keys),
        values: address_mut(values),
        count: count as u32,
        map_fd: map.as_raw_fd() as u32,
        ..BatchAttr::default()
    };
    let command = if take {
        MAP_LOOKUP_AND_DELETE_BATCH
    } else {
        MAP_LOOKUP_BATCH
    };
    // SAFETY: the attribute of these commands; `Map`, the only caller, made room for `count` keys
    // and values; a position is a key or a bucket number, for which `next` has room.
    let result = unsafe { bpf(command, &mut attr) };
    *position = Some(next);
    match result {
        Ok(()) => Ok((attr.count as usize, false)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((attr.count as usize, true)),
        Err(error) => Err(error),
    }
}

/// Writes `count` elements.
///
/// # Errors
/// What the kernel says.
pub fn update_batch(
    map: BorrowedFd<'_>,
    keys: &[u8],
    values: &[u64],
    count: usize,
) -> io::Result<()> {
    let mut attr = BatchAttr {
        keys: address(keys),
        values: address(values),
        count: count as u32,
        map_fd: map.as_raw_fd() as u32,
        ..BatchAttr::default()
    };
    // SAFETY: the attribute of this command; `Map`, the only caller, holds `count` keys and values.
    unsafe { bpf(MAP_UPDATE_BATCH, &mut attr) }
}
