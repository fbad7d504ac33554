//! Running a program on a frame without a network: `BPF_PROG_TEST_RUN` of bpf(2), which aya has no call for.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// `BPF_PROG_TEST_RUN` of `enum bpf_cmd` (include/uapi/linux/bpf.h)
const PROG_TEST_RUN: libc::c_long = 10;

/// What a program may put in front of a frame.
const HEADROOM: usize = 256;

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

/// `struct xdp_md`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
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

/// `struct __sk_buff`, as far as it tells the interface; the kernel takes the rest for zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SkbContext {
    /// Fields that the kernel fills itself.
    pub zero: [u32; 10],
    /// Interface.
    pub ifindex: u32,
}

/// What a program is told beside the frame.
#[derive(Clone, Copy, Debug)]
pub enum Context {
    /// An XDP program.
    Xdp(XdpContext),
    /// A program of traffic control.
    Skb(SkbContext),
}

impl Context {
    fn bytes(&self) -> (u64, u32) {
        match self {
            Self::Xdp(context) => (
                std::ptr::from_ref(context) as u64,
                size_of::<XdpContext>() as u32,
            ),
            Self::Skb(context) => (
                std::ptr::from_ref(context) as u64,
                size_of::<SkbContext>() as u32,
            ),
        }
    }
}

/// What to run a program on.
#[derive(Debug)]
pub struct TestRun<'a> {
    /// The frame.
    pub frame: &'a [u8],
    /// The context, where the default (`lo`, queue 0) does not do.
    pub context: Option<Context>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The program's return value, of the last run.
    pub value: u32,
    /// Time of one run, on average.
    pub duration: Duration,
}

/// Runs a program.
///
/// # Errors
/// EINVAL for a frame shorter than an Ethernet header, and whatever else the kernel says.
pub fn test_run(program: BorrowedFd<'_>, mut run: TestRun<'_>) -> io::Result<Ran> {
    let mut attr = TestRunAttr {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: run.frame.len() as u32,
        data_in: run.frame.as_ptr() as u64,
        repeat: run.repeat,
        ..TestRunAttr::default()
    };
    if let Some(context) = &run.context {
        (attr.ctx_in, attr.ctx_size_in) = context.bytes();
    }
    if let Some(output) = run.output.as_deref_mut() {
        output.resize(run.frame.len() + HEADROOM, 0);
        attr.data_size_out = output.len() as u32;
        attr.data_out = output.as_mut_ptr() as u64;
    }
    // SAFETY: the attribute of this command; frame, context and output live until it returns, and their sizes are those
    // in the attribute.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_TEST_RUN,
            &raw mut attr,
            size_of::<TestRunAttr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if let Some(output) = run.output {
        output.truncate(attr.data_size_out as usize);
    }
    Ok(Ran {
        value: attr.retval,
        duration: Duration::from_nanos(attr.duration.into()),
    })
}
