//! An XDP program that is not the filter's, to see that it is respected.
//!
//! Owns a two-instruction program (`return` and a verdict) and its link, detached when dropped. Written
//! against the system call itself, so that no loader of the filter's is involved.

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

use crate::netns::Namespace;

/// The program's name, as the kernel shows it.
pub const NAME: &str = "someone_else";

// linux/bpf.h
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_DETACH: libc::c_long = 34;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// What the program answers to every frame.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// XDP_DROP.
    Drop = 1,
    /// XDP_PASS.
    Pass = 2,
}

/// The head of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct ProgramLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// The head of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// The attached program.
#[derive(Debug)]
pub struct ForeignXdp {
    link: OwnedFd,
}

impl ForeignXdp {
    /// Attaches it natively to `link`.
    pub fn attach(namespace: &Namespace, link: &str, verdict: Verdict) -> Result<Self> {
        let descriptor = namespace
            .inside(|| attach_here(link, verdict))?
            .context("cannot attach a plain XDP program")?;
        Ok(Self { link: descriptor })
    }
}

impl Drop for ForeignXdp {
    fn drop(&mut self) {
        // not by closing it: a process that another test is just starting may have a copy of the descriptor
        if let Err(error) = call(BPF_LINK_DETACH, &self.link.as_raw_fd().cast_unsigned()) {
            eprintln!("cannot detach {NAME}: {error}");
        }
    }
}

fn attach_here(link: &str, verdict: Verdict) -> io::Result<OwnedFd> {
    // mov r0, verdict; exit
    let instructions: [u64; 2] = [0xb7 | ((verdict as u64) << 32), 0x95];
    let license = c"GPL";
    let mut prog_name = [0_u8; 16];
    prog_name[..NAME.len()].copy_from_slice(NAME.as_bytes());
    let load = ProgramLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: 2,
        insns: instructions.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name,
    };
    let program = bpf(BPF_PROG_LOAD, &load)?;
    let name = CString::new(link).map_err(io::Error::other)?;
    // SAFETY: `name` is a C string that lives through the call.
    let target_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) };
    let create = LinkCreate {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target_ifindex,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    bpf(BPF_LINK_CREATE, &create)
}

/// Makes an object.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    // SAFETY: the kernel just made `fd` for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<T>(command: libc::c_long, attributes: &T) -> io::Result<i32> {
    // SAFETY: the pointer and the length describe `attributes`; what it points to in turn (the
    // instructions and the licence) is alive in the caller.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    let answer = i32::try_from(answer).map_err(io::Error::other)?;
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer)
}
