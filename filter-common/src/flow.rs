//! Flows that this host (or a container behind it) opened: states, timeouts, and what a packet does to them.
//! Timeouts are those of Linux conntrack (net/netfilter/nf_conntrack_proto_*.c), so that people find what they know, but
//! for what comes in: sequence numbers are not followed, so anyone who guesses the ports can forge a FIN or RST. Only
//! what we send ends a flow; a FIN from outside shortens nothing, a RST gives us two minutes to show that we go on.

use crate::layout::{Address, FlowKey, FlowState};
use crate::service::protocol;

/// Values of [`FlowState::state`].
pub mod state {
    /// We sent a SYN.
    pub const SYN_SENT: u32 = 1;
    /// Open.
    pub const ESTABLISHED: u32 = 2;
    /// We sent a FIN.
    pub const FIN_SENT: u32 = 3;
    /// The other side sent a FIN, or someone in its name: as good as open until we send ours.
    pub const FIN_RECEIVED: u32 = 4;
    /// Both sent a FIN.
    pub const TIME_WAIT: u32 = 5;
    /// We sent a RST. What we send afterwards opens the flow again.
    pub const RESET: u32 = 6;
    /// UDP without an answer yet.
    pub const UDP_SENT: u32 = 7;
    /// UDP that was answered.
    pub const UDP_ANSWERED: u32 = 8;
    /// ICMP echo or timestamp.
    pub const ICMP: u32 = 9;
    /// SCTP and protocols without ports.
    pub const OTHER: u32 = 10;
    /// A RST came in. Forged ones are cheap, so what we send afterwards opens the flow again.
    pub const RESET_RECEIVED: u32 = 11;
}

/// Bits of the TCP flags byte (RFC 9293, 3.1).
pub mod tcp {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Ends it at once.
    pub const RST: u8 = 0x04;
    /// Hand the data on at once.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;

    /// SYN without ACK: asks for a new connection.
    #[inline(always)]
    pub const fn opens(flags: u8) -> bool {
        flags & (SYN | ACK) == SYN
    }
}

const SECOND: u64 = 1_000_000_000;

/// A flow's time stamp is written at most this often (ns): packets of a busy flow read it only.
pub const REFRESH: u64 = SECOND;

/// Nanoseconds a flow in this state is remembered after its last packet.
#[inline(always)]
pub const fn timeout(state: u32) -> u64 {
    SECOND
        * match state {
            state::SYN_SENT | state::FIN_SENT | state::TIME_WAIT | state::RESET_RECEIVED => 120,
            state::ESTABLISHED | state::FIN_RECEIVED => 432_000,
            state::RESET => 10,
            state::UDP_SENT | state::ICMP => 30,
            state::UDP_ANSWERED => 120,
            _ => 600,
        }
}

/// Whether the flow counts at `now`.
#[inline(always)]
pub fn alive(flow: &FlowState, now: u64) -> bool {
    // another CPU may have stamped it a tick ahead of our clock
    now.saturating_sub(flow.seen) <= timeout(flow.state)
}

/// A flow's first packet, sent by us.
#[inline(always)]
pub const fn opened(protocol: u8, flags: u8, now: u64) -> FlowState {
    let state = match protocol {
        protocol::TCP if tcp::opens(flags) => state::SYN_SENT,
        protocol::TCP if flags & tcp::FIN != 0 => state::FIN_SENT,
        protocol::TCP => state::ESTABLISHED,
        protocol::UDP => state::UDP_SENT,
        protocol::ICMP | protocol::ICMPV6 => state::ICMP,
        _ => state::OTHER,
    };
    FlowState {
        seen: now,
        state,
        zero: 0,
    }
}

/// The state after a packet that came in.
#[inline(always)]
pub const fn received(state: u32, flags: u8) -> u32 {
    match state {
        state::UDP_SENT => state::UDP_ANSWERED,
        state::SYN_SENT | state::ESTABLISHED | state::FIN_SENT | state::FIN_RECEIVED
            if flags & tcp::RST != 0 =>
        {
            state::RESET_RECEIVED
        }
        // every answer acknowledges (RFC 9293, 3.10.7.3)
        state::SYN_SENT if flags & tcp::ACK == 0 => state::SYN_SENT,
        state::SYN_SENT | state::ESTABLISHED if flags & tcp::FIN != 0 => state::FIN_RECEIVED,
        state::FIN_SENT if flags & tcp::FIN != 0 => state::TIME_WAIT,
        state::SYN_SENT => state::ESTABLISHED,
        other => other,
    }
}

/// The state after a packet that we sent.
#[inline(always)]
pub const fn sent(state: u32, flags: u8) -> u32 {
    match state {
        state::UDP_SENT | state::UDP_ANSWERED | state::ICMP | state::OTHER => state,
        state::ESTABLISHED if tcp::opens(flags) => state,
        _ if tcp::opens(flags) => state::SYN_SENT,
        _ if flags & tcp::RST != 0 => state::RESET,
        state::FIN_RECEIVED | state::TIME_WAIT if flags & tcp::FIN != 0 => state::TIME_WAIT,
        state::SYN_SENT | state::ESTABLISHED | state::RESET | state::RESET_RECEIVED
            if flags & tcp::FIN != 0 =>
        {
            state::FIN_SENT
        }
        state::SYN_SENT | state::RESET | state::RESET_RECEIVED => state::ESTABLISHED,
        other => other,
    }
}

/// Moves a live flow on to `state`, writing only when something changed or the stamp is old.
#[inline(always)]
pub fn touch(flow: &mut FlowState, state: u32, now: u64) {
    if flow.state != state {
        flow.state = state;
        flow.seen = now;
    } else if state != state::RESET
        && state != state::RESET_RECEIVED
        && now.saturating_sub(flow.seen) > REFRESH
    {
        flow.seen = now;
    }
}

/// The bit that stands for the local port of flows like this. A bit that is not set says that there is no such flow,
/// without a look-up: most of what scans and floods ask for is no port that we ask from.
#[inline(always)]
pub const fn port_bit(key: &FlowKey) -> usize {
    (key.protocol as usize & TELLS_UDP) << 12 | key.local_port as usize
}

/// A bit of the protocol's number that tells UDP from TCP without a comparison, behind which the verifier would walk on
/// twice.
const TELLS_UDP: usize = 16;
const _: () = assert!(protocol::UDP as usize & TELLS_UDP != protocol::TCP as usize & TELLS_UDP);

/// The key of a flow, without a remote: "any remote", for UDP clients that were waiting when the filter started.
#[inline(always)]
pub const fn wildcard(key: &FlowKey) -> FlowKey {
    FlowKey {
        remote: Address { hi: 0, lo: 0 },
        remote_port: 0,
        ..*key
    }
}

/// Whether the key is one of [`wildcard`]'s. No packet has such a key in earnest: `::` is nobody's address.
#[inline(always)]
pub const fn is_wildcard(key: &FlowKey) -> bool {
    key.remote.hi | key.remote.lo == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FLOW_PORT_WORDS;

    #[test]
    fn a_connection_from_syn_to_time_wait() {
        let flow = opened(protocol::TCP, tcp::SYN, 5);
        assert_eq!(flow.state, state::SYN_SENT);
        let established = received(flow.state, tcp::SYN | tcp::ACK);
        assert_eq!(established, state::ESTABLISHED);
        assert_eq!(sent(established, tcp::ACK), state::ESTABLISHED);
        assert_eq!(
            received(sent(established, tcp::FIN | tcp::ACK), tcp::FIN | tcp::ACK),
            state::TIME_WAIT
        );
        assert_eq!(
            sent(
                received(established, tcp::FIN | tcp::ACK),
                tcp::FIN | tcp::ACK
            ),
            state::TIME_WAIT
        );
    }

    #[test]
    fn a_forged_reset_does_not_end_what_goes_on() {
        let reset = received(state::ESTABLISHED, tcp::RST);
        assert_eq!(timeout(reset), 120 * SECOND, "time to send something");
        assert_eq!(sent(reset, tcp::ACK), state::ESTABLISHED);
        assert_eq!(
            received(reset, tcp::ACK),
            reset,
            "what comes in does not revive it"
        );
        let ours = sent(reset, tcp::RST);
        assert_eq!(timeout(ours), 10 * SECOND, "our own is meant");
        assert_eq!(received(ours, tcp::RST), ours);
    }

    #[test]
    fn a_forged_fin_shortens_nothing() {
        let half = received(state::ESTABLISHED, tcp::FIN | tcp::ACK);
        assert_eq!(timeout(half), timeout(state::ESTABLISHED));
        assert_eq!(sent(half, tcp::ACK), half);
        assert_eq!(timeout(sent(half, tcp::FIN | tcp::ACK)), 120 * SECOND);
        assert_eq!(
            received(state::SYN_SENT, tcp::FIN),
            state::SYN_SENT,
            "and answers no SYN"
        );
    }

    #[test]
    fn a_busy_flow_is_not_written() {
        let mut flow = opened(protocol::UDP, 0, 0);
        let before = flow;
        touch(&mut flow, state::UDP_SENT, REFRESH);
        assert_eq!(flow, before);
        touch(&mut flow, state::UDP_SENT, REFRESH + 1);
        assert_eq!(flow.seen, REFRESH + 1);
    }

    #[test]
    fn every_port_has_a_bit_and_udp_has_its_own() {
        let key = |protocol: u8, local_port| FlowKey {
            local: Address::v4(1),
            remote: Address::v4(2),
            local_port,
            remote_port: 3,
            protocol: protocol.into(),
        };
        for protocol in 0..=u8::MAX {
            assert!(port_bit(&key(protocol, u16::MAX)) < FLOW_PORT_WORDS * 64);
        }
        let (tcp, udp) = (key(protocol::TCP, 53), key(protocol::UDP, 53));
        assert_ne!(port_bit(&tcp), port_bit(&udp));
        assert_eq!(
            port_bit(&wildcard(&udp)),
            port_bit(&udp),
            "whoever it asked"
        );
    }

    #[test]
    fn timeouts_end_it() {
        let flow = opened(protocol::UDP, 0, 7);
        assert!(alive(&flow, 7 + timeout(state::UDP_SENT)));
        assert!(!alive(&flow, 8 + timeout(state::UDP_SENT)));
        assert!(alive(&flow, 0), "a clock a tick behind");
    }
}
