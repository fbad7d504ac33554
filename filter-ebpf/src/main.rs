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
mod tables;

use aya_ebpf::bindings::{tcx_action_base::TCX_NEXT, xdp_action};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use filter_common::layout::{Config, flag};
use filter_common::parse;
use filter_common::reason::Reason;
use filter_common::verdict::{self, Decision};

use packet::{SkbFrame, XdpFrame};
use tables::PolicyTables;

/// Judges what comes in.
#[xdp(frags)]
pub fn edgefilter_in(ctx: XdpContext) -> u32 {
    let frame = XdpFrame::new(&ctx);
    let ifindex = ctx.ingress_ifindex() as u32;
    let Some((bank, slot, config)) = tables::config(ifindex) else {
        account::count(0, Reason::PassUnmanaged, true, frame.frame_length());
        return xdp_action::XDP_PASS;
    };
    let mut tables = PolicyTables::new(ctx.ctx.cast(), bank);
    let link = parse::link(&frame);
    let config = tables::vlan_config(bank, config, link.vlan);
    let decision = if config.flags & flag::UNMANAGED != 0 {
        Decision {
            reason: Reason::PassUnmanaged,
            rule: 0,
        }
    } else {
        verdict::ingress(&frame, &link, config, &mut tables)
    };
    conclude(&frame, ifindex, slot, config, &decision)
}

/// Counts the packet under its reason and turns the reason into the XDP action.
#[inline(always)]
fn conclude(
    frame: &XdpFrame<'_>,
    ifindex: u32,
    slot: u32,
    config: &Config,
    decision: &Decision,
) -> u32 {
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
        return xdp_action::XDP_PASS;
    }
    account::sample(frame, ifindex, decision, enforced);
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(
        frame.context(),
        "if {} reason {} rule {}",
        ifindex,
        decision.reason as u8,
        decision.rule
    );
    if enforced {
        xdp_action::XDP_DROP
    } else {
        xdp_action::XDP_PASS
    }
}

/// Notes the flows of what goes out; never holds anything back.
#[classifier]
pub fn edgefilter_out(ctx: TcContext) -> i32 {
    let frame = SkbFrame::new(&ctx);
    if let Some((bank, _, config)) = tables::config(frame.ifindex()) {
        let link = parse::link(&frame);
        let config = tables::vlan_config(bank, config, frame.vlan().unwrap_or(link.vlan));
        if config.flags & flag::UNMANAGED == 0 {
            let mut tables = PolicyTables::new(ctx.skb.skb.cast(), bank);
            verdict::egress(&frame, &link, config, &mut tables);
        }
    }
    TCX_NEXT
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
