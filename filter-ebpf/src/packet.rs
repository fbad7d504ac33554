//! All reads through packet pointers. A window is compared with the end of the data right before it is used, in the
//! form that the verifier follows: constant size, offset with a known bound.

use core::arch::asm;
use core::cell::Cell;
use core::mem::offset_of;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{
    bpf_skb_load_bytes, bpf_skb_pull_data, bpf_xdp_get_buff_len, bpf_xdp_load_bytes,
};
use aya_ebpf::programs::{TcContext, XdpContext};
use filter_common::extension::{self, Chain, Walk};
use filter_common::packet::Packet;
use filter_common::parse::MAX_OFFSET;

use crate::account;

/// Bytes of headers that egress wants to read directly: Ethernet, tags, IPv6, some extension headers, TCP.
const HEADERS: u32 = 128;

/// Reads a packet pointer out of a context field. The kernel turns this very load into a 64-bit pointer; as plain code
/// LLVM moves the widening of the 32-bit field to where the pointer is used, and the verifier then sees a number.
macro_rules! pointer {
    ($ctx:expr, $type:ty, $field:ident) => {{
        let pointer: usize;
        // SAFETY: reads one field of the context that the kernel called us with.
        unsafe {
            asm!("{0} = *(u32 *)({1} + {2})", out(reg) pointer, in(reg) $ctx, const offset_of!($type, $field),
                options(nostack, readonly));
        }
        pointer
    }};
}

#[inline(always)]
fn window<'a, const N: usize>(data: usize, data_end: usize, offset: usize) -> Option<&'a [u8; N]> {
    if offset > MAX_OFFSET {
        return None;
    }
    let start = data + offset;
    if start + N > data_end {
        return None;
    }
    // SAFETY: `start + N <= data_end`, compared just above; the kernel keeps the frame's linear part mapped and
    // unchanged while the program runs, and bytes have no alignment.
    Some(unsafe { &*(start as *const [u8; N]) })
}

/// The directly readable part of the frame and nothing else: what a subprogram needs.
pub struct Headers {
    data: usize,
    data_end: usize,
}

impl Headers {
    /// Of a received frame.
    #[inline(always)]
    pub fn received(ctx: *mut xdp_md) -> Self {
        Self {
            data: pointer!(ctx, xdp_md, data),
            data_end: pointer!(ctx, xdp_md, data_end),
        }
    }
}

impl Packet for Headers {
    #[inline(always)]
    fn window<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        window(self.data, self.data_end, offset)
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.data_end - self.data
    }
}

/// 0, in memory of which the verifier knows nothing: volatile, so that the compiler does not know it either.
#[unsafe(no_mangle)]
static mut OPAQUE: u64 = 0;

/// See [`Packet::opaque`].
#[inline(always)]
pub fn opaque(number: u64, zero: u64) -> u64 {
    let mut number = number;
    // SAFETY: one instruction on registers.
    unsafe { asm!("{0} ^= {1}", inout(reg) number, in(reg) zero, options(pure, nomem, nostack)) };
    number
}

/// For [`opaque`].
#[inline(always)]
pub fn opaque_zero() -> u64 {
    // SAFETY: a static of ours that nobody writes.
    unsafe { (&raw const OPAQUE).read_volatile() }
}

#[inline(always)]
fn walk(headers: &Headers, next: u32, at: u32, end: u32) -> u64 {
    let chain = Chain {
        next: next as u8,
        at: at as usize & MAX_OFFSET,
        end: end as usize,
    };
    extension::walk(headers, chain).map_or(0, Walk::pack)
}

// Not mangled, so that they keep global linkage: the verifier checks a global function once, for any arguments, and
// takes its result as it comes; a static one is walked again on every path that calls it.

/// IPv6 extension headers of a received frame, see [`Walk::pack`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_extensions_in(ctx: *mut xdp_md, next: u32, at: u32, end: u32) -> u64 {
    walk(&Headers::received(ctx), next, at, end)
}

/// The same for a packet on its way out.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_extensions_out(skb: *mut __sk_buff, next: u32, at: u32, end: u32) -> u64 {
    walk(
        &Headers {
            data: pointer!(skb, __sk_buff, data),
            data_end: pointer!(skb, __sk_buff, data_end),
        },
        next,
        at,
        end,
    )
}

/// A sampled drop of a received frame: a global function, so that not every way to a drop is walked on to its end.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sample_frame(ctx: *mut xdp_md, length: u64, ifindex: u32, packed: u32) -> u64 {
    // SAFETY: the context is the kernel's; `sample` asks for no more bytes than it has reserved.
    let load = |target, length| unsafe { bpf_xdp_load_bytes(ctx, 0, target, length) == 0 };
    account::sample(load, length, ifindex, packed);
    0
}

/// The same of a packet with an skb.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn sample_skb(skb: *mut __sk_buff, length: u64, ifindex: u32, packed: u32) -> u64 {
    // SAFETY: as above.
    let load = |target, length| unsafe { bpf_skb_load_bytes(skb.cast(), 0, target, length) == 0 };
    account::sample(load, length, ifindex, packed);
    0
}

/// What counting and sampling ask of a frame.
pub trait Frame: Packet {
    /// Bytes of the whole frame, fragments included.
    fn frame_length(&self) -> u64;

    /// The same where no header could be read that says so.
    fn asked_length(&self) -> u64;

    /// Reports it as a sampled drop.
    fn sample(&self, length: u64, ifindex: u32, packed: u32);
}

/// Below this many bytes, what can be read directly is taken for the whole frame unless an IP header says otherwise: drivers
/// go on in another buffer when one is full. To ask costs a call, which on processors with guarded returns is a sixth of
/// what a refused packet costs.
const SMALL: usize = 1024;

/// A frame before the kernel has an skb for it.
pub struct XdpFrame<'a> {
    ctx: &'a XdpContext,
    data: usize,
    data_end: usize,
    length: Cell<usize>,
    zero: u64,
}

impl<'a> XdpFrame<'a> {
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext) -> Self {
        let (data, data_end) = (
            pointer!(ctx.ctx, xdp_md, data),
            pointer!(ctx.ctx, xdp_md, data_end),
        );
        let zero = opaque_zero();
        let readable = data_end - data;
        let length = if readable < SMALL {
            readable
        } else {
            whole_length(ctx)
        };
        Self {
            ctx,
            data,
            data_end,
            length: Cell::new(opaque(length as u64, zero) as usize),
            zero,
        }
    }

    #[cfg(feature = "log")]
    #[inline(always)]
    pub fn context(&self) -> &XdpContext {
        self.ctx
    }
}

#[inline(always)]
fn whole_length(ctx: &XdpContext) -> usize {
    // SAFETY: the context is the one the kernel called us with.
    unsafe { bpf_xdp_get_buff_len(ctx.ctx) as usize }
}

impl Frame for XdpFrame<'_> {
    #[inline(always)]
    fn frame_length(&self) -> u64 {
        self.length.get() as u64
    }

    #[inline(always)]
    fn asked_length(&self) -> u64 {
        self.opaque(whole_length(self.ctx) as u64)
    }

    #[inline(always)]
    fn sample(&self, length: u64, ifindex: u32, packed: u32) {
        sample_frame(self.ctx.ctx, length, ifindex, packed);
    }
}

impl Packet for XdpFrame<'_> {
    #[inline(always)]
    fn window<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        window(self.data, self.data_end, offset)
    }

    #[inline(always)]
    fn walk_extensions(&self, chain: Chain) -> Option<Walk> {
        Walk::unpack(walk_extensions_in(
            self.ctx.ctx,
            chain.next as u32,
            chain.at as u32,
            chain.end as u32,
        ))
    }

    #[inline(always)]
    fn holds(&self, end: usize) -> bool {
        if end <= self.length.get() {
            return true;
        }
        self.length.set(whole_length(self.ctx));
        end <= self.length.get()
    }

    #[inline(always)]
    fn opaque(&self, number: u64) -> u64 {
        opaque(number, self.zero)
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.length.get()
    }
}

/// A frame that has an skb: on its way out, or at the host's end of a container link.
pub struct SkbFrame<'a> {
    ctx: &'a TcContext,
    data: usize,
    data_end: usize,
    zero: u64,
}

impl<'a> SkbFrame<'a> {
    #[inline(always)]
    pub fn new(ctx: &'a TcContext) -> Self {
        // headers may lie in a page behind the linear part (forwarded or zero-copy packets)
        let skb = ctx.skb.skb;
        let wanted = ctx.len().min(HEADERS);
        if pointer!(skb, __sk_buff, data) + wanted as usize > pointer!(skb, __sk_buff, data_end) {
            // SAFETY: the context is the one the kernel called us with. On failure the linear part stays as it was,
            // and the headers that are not in it cannot be read: no flow is noted.
            let _ = unsafe { bpf_skb_pull_data(skb, wanted) };
        }
        Self {
            ctx,
            data: pointer!(skb, __sk_buff, data),
            data_end: pointer!(skb, __sk_buff, data_end),
            zero: opaque_zero(),
        }
    }

    /// The device's interface index.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: the kernel gives a valid context; this field is readable in every classifier.
        unsafe { (*self.ctx.skb.skb).ifindex }
    }

    /// The VLAN id that the device is about to insert, if the tag is not in the frame yet and has one.
    #[inline(always)]
    pub fn vlan(&self) -> Option<u16> {
        let skb = self.ctx.skb.skb;
        // SAFETY: as in `ifindex`.
        let (present, tci) = unsafe { ((*skb).vlan_present, (*skb).vlan_tci) };
        let id = tci as u16 & 0x0fff;
        (present != 0 && id != 0).then_some(id)
    }
}

impl Frame for SkbFrame<'_> {
    #[inline(always)]
    fn frame_length(&self) -> u64 {
        self.ctx.len() as u64
    }

    #[inline(always)]
    fn asked_length(&self) -> u64 {
        self.frame_length()
    }

    #[inline(always)]
    fn sample(&self, length: u64, ifindex: u32, packed: u32) {
        sample_skb(self.ctx.skb.skb, length, ifindex, packed);
    }
}

impl Packet for SkbFrame<'_> {
    #[inline(always)]
    fn window<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        window(self.data, self.data_end, offset)
    }

    #[inline(always)]
    fn walk_extensions(&self, chain: Chain) -> Option<Walk> {
        Walk::unpack(walk_extensions_out(
            self.ctx.skb.skb,
            chain.next as u32,
            chain.at as u32,
            chain.end as u32,
        ))
    }

    #[inline(always)]
    fn opaque(&self, number: u64) -> u64 {
        opaque(number, self.zero)
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.ctx.len() as usize
    }
}
