//! The commands of bpf(2) for elements and batches of maps as bytes, which aya has no call for.
//! All unsafe code of the test harness that concerns maps is here.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

// enum bpf_cmd, include/uapi/linux/bpf.h
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;
const MAP_UPDATE_BATCH: libc::c_long = 26;

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
