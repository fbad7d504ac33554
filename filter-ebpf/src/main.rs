//! The BPF entry points: read, ask filter-common, count, return. No decision is made here.
#![no_std]
#![no_main]
#![expect(
    internal_features,
    reason = "atomic compare-and-exchange is only there as an intrinsic on this target"
)]
#![expect(
    missing_docs,
    reason = "the attribute macros make functions that no comment reaches"
)]
#![feature(core_intrinsics, asm_experimental_arch)]

mod account;
mod maps;
mod packet;
mod scans;
mod tables;

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use filter_common::layout::{Config, flag};
use filter_common::parse::{self, Lengths};
use filter_common::reason::Reason;
use filter_common::row;
use filter_common::verdict::{self, Decision, Guarded};

use packet::{Frame, SkbFrame, XdpFrame};
use tables::PolicyTables;

/// Judges what comes in by an outer interface.
#[xdp(frags)]
pub fn edgefilter_in(ctx: XdpContext) -> u32 {
    let frame = XdpFrame::new(&ctx);
    let ifindex = ctx.ingress_ifindex() as u32;
    let Some((bank, slot, config)) = tables::config(ifindex) else {
        account::count(0, Reason::PassUnmanaged, true, frame.frame_length());
        return xdp_action::XDP_PASS;
    };
    let mut tables = PolicyTables::<false>::new(ctx.ctx.cast(), bank);
    let link = parse::link(&frame);
    let config = tables::vlan_config(bank, config, link.vlan);
    let decision = if config.flags & flag::UNMANAGED != 0 {
        UNMANAGED
    } else {
        verdict::arriving(&frame, &link, Guarded::Host, config, &mut tables)
    };
    let passes = conclude(&frame, ifindex, slot, config, &decision);
    #[cfg(feature = "log")]
    if !decision.reason.passes() {
        aya_log_ebpf::debug!(
            frame.context(),
            "if {} reason {} rule {}",
            ifindex,
            decision.reason as u8,
            decision.rule
        );
    }
    if passes {
        xdp_action::XDP_PASS
    } else {
        xdp_action::XDP_DROP
    }
}

/// Judges what leaves this host by an outer interface.
#[classifier]
pub fn edgefilter_out(ctx: TcContext) -> i32 {
    let frame = SkbFrame::new(&ctx);
    let ifindex = frame.ifindex();
    let Some((bank, slot, config)) = tables::config(ifindex) else {
        return unmanaged(&frame);
    };
    let mut tables = PolicyTables::<false>::new(ctx.skb.skb.cast(), bank);
    let link = parse::link(&frame);
    let config = tables::vlan_config(bank, config, frame.vlan().unwrap_or(link.vlan));
    let decision = if config.flags & flag::UNMANAGED != 0 {
        UNMANAGED
    } else {
        verdict::from_host(&frame, &link, config, &mut tables)
    };
    action(conclude(&frame, ifindex, slot, config, &decision))
}

/// Judges what is about to reach a container, where it leaves the host's end of the link.
#[classifier]
pub fn edgefilter_deliver(ctx: TcContext) -> i32 {
    let frame = SkbFrame::new(&ctx);
    let ifindex = frame.ifindex();
    let Some((bank, slot, config)) = tables::config(ifindex) else {
        return action(unknown_link(&frame));
    };
    let mut tables = PolicyTables::<true>::new(ctx.skb.skb.cast(), bank);
    let link = parse::link(&frame);
    let decision = verdict::arriving(&frame, &link, Guarded::Container, config, &mut tables);
    action(conclude(&frame, ifindex, slot, config, &decision))
}

/// Judges what a container sends, where it comes in at the host's end of the link.
#[classifier]
pub fn edgefilter_send(ctx: TcContext) -> i32 {
    let frame = SkbFrame::new(&ctx);
    let ifindex = frame.ifindex();
    let Some((bank, slot, config)) = tables::config(ifindex) else {
        return action(unknown_link(&frame));
    };
    let mut tables = PolicyTables::<true>::new(ctx.skb.skb.cast(), bank);
    let link = parse::link(&frame);
    let decision = verdict::from_container(&frame, &link, Lengths::Trusted, config, &mut tables);
    action(conclude(&frame, ifindex, slot, config, &decision))
}

/// The same where nothing may get past: the kernel passes an skb by traffic control's programs if its sender says so
/// (`tc_skip_classify`, which an ifb device in the container sets, survives a veth).
#[xdp(frags)]
pub fn edgefilter_send_xdp(ctx: XdpContext) -> u32 {
    let frame = XdpFrame::new(&ctx);
    let ifindex = ctx.ingress_ifindex() as u32;
    let Some((bank, slot, config)) = tables::config(ifindex) else {
        unknown_link(&frame);
        return xdp_action::XDP_DROP;
    };
    let mut tables = PolicyTables::<true>::new(ctx.ctx.cast(), bank);
    let link = parse::link(&frame);
    let decision = verdict::from_container(&frame, &link, Lengths::Checked, config, &mut tables);
    if conclude(&frame, ifindex, slot, config, &decision) {
        xdp_action::XDP_PASS
    } else {
        xdp_action::XDP_DROP
    }
}

const UNMANAGED: Decision = Decision {
    reason: Reason::PassUnmanaged,
    rule: 0,
};

/// A container link that the tables do not know, or not yet: whether its packets go on.
#[inline(always)]
fn unknown_link<F: Frame>(frame: &F) -> bool {
    account::count(0, Reason::DropBinding, true, frame.frame_length());
    account::count_rule(row::BINDING_UNKNOWN, frame.frame_length());
    false
}

#[inline(always)]
fn unmanaged(frame: &SkbFrame<'_>) -> i32 {
    account::count(0, Reason::PassUnmanaged, true, frame.frame_length());
    TCX_NEXT
}

#[inline(always)]
const fn action(passes: bool) -> i32 {
    if passes { TCX_NEXT } else { TCX_DROP }
}

/// Counts the packet under its reason; whether it goes on.
#[inline(always)]
fn conclude<F: Frame>(
    frame: &F,
    ifindex: u32,
    slot: u32,
    config: &Config,
    decision: &Decision,
) -> bool {
    let enforced = config.flags & flag::ENFORCE != 0;
    let passes = decision.reason.passes();
    account::count(
        slot,
        decision.reason,
        enforced || passes,
        frame.frame_length(),
    );
    if decision.rule != 0 {
        account::count_rule(decision.rule, frame.frame_length());
    }
    if passes {
        return true;
    }
    frame.sample(ifindex, account::pack(decision, enforced));
    !enforced
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// "Dual MIT/GPL": some helpers are only there for programs under a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
