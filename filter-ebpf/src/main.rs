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
mod clock;
mod entries;
mod flows;
mod maps;
mod packet;
mod scans;
mod tables;

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use filter_common::judgement::Judgement;
use filter_common::layout::{Config, flag};
use filter_common::parse::{self, Lengths};
use filter_common::reason::Reason;
use filter_common::row;
use filter_common::verdict::{self, Decision, Guarded};

use packet::{Frame, SkbFrame, XdpFrame};
use tables::{InForce, PolicyTables};

/// Judges what comes in by an outer interface.
#[xdp(frags)]
#[inline(always)]
pub fn edgefilter_in(ctx: XdpContext) -> u32 {
    let frame = XdpFrame::new(&ctx);
    let ifindex = ctx.ingress_ifindex() as u32;
    let Some(policy) = tables::in_force(ifindex) else {
        return without_configuration(&frame, &UNMANAGED, XDP);
    };
    let mut tables = PolicyTables::<false>::new(ctx.ctx.cast(), &policy);
    let link = parse::link(&frame);
    let config = policy.vlan_config(link.vlan);
    let decision = if config.flags & flag::UNMANAGED != 0 {
        UNMANAGED
    } else {
        verdict::arriving(&frame, &link, Guarded::Host, config, &mut tables)
    };
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
    conclude(&frame, ifindex, &policy, config, &decision, XDP)
}

/// Judges what leaves this host by an outer interface.
#[classifier]
#[inline(always)]
pub fn edgefilter_out(ctx: TcContext) -> i32 {
    let frame = SkbFrame::new(&ctx);
    let ifindex = frame.ifindex();
    let Some(policy) = tables::in_force(ifindex) else {
        return without_configuration(&frame, &UNMANAGED, TC) as i32;
    };
    let mut tables = PolicyTables::<false>::new(ctx.skb.skb.cast(), &policy);
    let link = parse::link(&frame);
    let config = policy.vlan_config(frame.vlan().unwrap_or(link.vlan));
    let decision = if config.flags & flag::UNMANAGED != 0 {
        UNMANAGED
    } else {
        verdict::from_host(&frame, &link, config, &mut tables)
    };
    conclude(&frame, ifindex, &policy, config, &decision, TC) as i32
}

/// Judges what is about to reach a container, where it leaves the host's end of the link.
#[classifier]
#[inline(always)]
pub fn edgefilter_deliver(ctx: TcContext) -> i32 {
    let frame = SkbFrame::new(&ctx);
    let ifindex = frame.ifindex();
    let Some(policy) = tables::in_force(ifindex) else {
        return without_configuration(&frame, &UNKNOWN_LINK, TC) as i32;
    };
    let mut tables = PolicyTables::<true>::new(ctx.skb.skb.cast(), &policy);
    let link = parse::link(&frame);
    let decision = verdict::arriving(
        &frame,
        &link,
        Guarded::Container,
        policy.config,
        &mut tables,
    );
    conclude(&frame, ifindex, &policy, policy.config, &decision, TC) as i32
}

/// Judges what a container sends, where it comes in at the host's end of the link.
#[classifier]
#[inline(always)]
pub fn edgefilter_send(ctx: TcContext) -> i32 {
    let frame = SkbFrame::new(&ctx);
    let ifindex = frame.ifindex();
    let Some(policy) = tables::in_force(ifindex) else {
        return without_configuration(&frame, &UNKNOWN_LINK, TC) as i32;
    };
    let mut tables = PolicyTables::<true>::new(ctx.skb.skb.cast(), &policy);
    let link = parse::link(&frame);
    let decision =
        verdict::from_container(&frame, &link, Lengths::Trusted, policy.config, &mut tables);
    conclude(&frame, ifindex, &policy, policy.config, &decision, TC) as i32
}

/// The same where nothing may get past: the kernel passes an skb by traffic control's programs if its sender says so
/// (`tc_skip_classify`, which an ifb device in the container sets, survives a veth).
#[xdp(frags)]
#[inline(always)]
pub fn edgefilter_send_xdp(ctx: XdpContext) -> u32 {
    let frame = XdpFrame::new(&ctx);
    let ifindex = ctx.ingress_ifindex() as u32;
    let Some(policy) = tables::in_force(ifindex) else {
        return without_configuration(&frame, &UNKNOWN_LINK, XDP);
    };
    let mut tables = PolicyTables::<true>::new(ctx.ctx.cast(), &policy);
    let link = parse::link(&frame);
    let decision =
        verdict::from_container(&frame, &link, Lengths::Checked, policy.config, &mut tables);
    conclude(&frame, ifindex, &policy, policy.config, &decision, XDP)
}

/// What a program returns for a packet that goes no further, and for one that goes on.
type Actions = [u32; 2];
const XDP: Actions = [xdp_action::XDP_DROP, xdp_action::XDP_PASS];
const TC: Actions = [TCX_DROP as u32, TCX_NEXT as u32];

const UNMANAGED: Decision = Decision {
    reason: Reason::PassUnmanaged,
    rule: 0,
};

/// A container link that the tables do not know, or not yet.
const UNKNOWN_LINK: Decision = Decision {
    reason: Reason::DropBinding,
    rule: row::BINDING_UNKNOWN,
};

/// 1 in the instance that is never attached: it says what it decided, and counts nothing. Set before the kernel loads the
/// program, so that the attached ones have no trace of it.
#[unsafe(no_mangle)]
static SHADOW: u32 = 0;

#[inline(always)]
fn is_shadow() -> bool {
    // SAFETY: a static of ours. Volatile: the compiler must not take it for the 0 that stands here.
    unsafe { (&raw const SHADOW).read_volatile() != 0 }
}

#[inline(always)]
const fn told(slot: u32, enforced: bool, decision: &Decision) -> u32 {
    let judgement = Judgement {
        decision: *decision,
        enforced,
        slot: slot as u8,
    };
    judgement.pack()
}

/// Counts a packet of an interface that the tables do not know; what becomes of it.
#[inline(always)]
fn without_configuration<F: Frame>(frame: &F, decision: &Decision, actions: Actions) -> u32 {
    if is_shadow() {
        return told(0, true, decision);
    }
    let length = frame.asked_length();
    account::count(0, decision.reason, true, length);
    if decision.rule != 0 {
        account::count_rule(decision.rule, length);
    }
    let [drop, pass] = actions;
    if decision.reason.passes() { pass } else { drop }
}

/// Counts the packet under its reason; what becomes of it.
#[inline(always)]
fn conclude<F: Frame>(
    frame: &F,
    ifindex: u32,
    policy: &InForce,
    config: &Config,
    decision: &Decision,
    actions: Actions,
) -> u32 {
    let [drop, pass] = actions;
    let enforced = config.flags & flag::ENFORCE != 0;
    if is_shadow() {
        return told(policy.slot, enforced, decision);
    }
    let passes = decision.reason.passes();
    let length = if matches!(decision.reason, Reason::DropMalformed) {
        frame.asked_length()
    } else {
        frame.frame_length()
    };
    account::count(policy.slot, decision.reason, enforced || passes, length);
    if decision.rule != 0 {
        account::count_rule(decision.rule, length);
    }
    if passes {
        return pass;
    }
    if account::is_sampled(policy.watch, policy.cpu, decision.reason) {
        frame.sample(length, ifindex, account::pack(decision, enforced));
    }
    if enforced { drop } else { pass }
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
