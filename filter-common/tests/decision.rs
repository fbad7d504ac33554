//! The decision on the host: whatever bytes arrive, it ends, reads nothing out of bounds and says one reason.

use std::collections::HashMap;

use filter_common::entry;
use filter_common::extension::{self, Chain};
use filter_common::flow;
use filter_common::layout::{Address, Config, FlowKey, FlowState, FragmentKey, binding, flag};
use filter_common::matrix::{self, Entry, entry};
use filter_common::packet::Packet;
use filter_common::parse::{self, Lengths};
use filter_common::reason::Reason;
use filter_common::row;
use filter_common::scan::{self, Pattern, Probe, Refused, hint};
use filter_common::service;
use filter_common::verdict::{self, Guarded, Tables};
use proptest::prelude::*;

/// A policy of one rule: tcp/443 from anywhere, in slot 7. Flows and fragments are plain maps.
#[derive(Default)]
struct OneRule {
    flows: HashMap<[u64; 5], FlowState>,
    fragments: HashMap<[u64; 5], u64>,
    now: u64,
    sockets: bool,
    wildcard_until: u64,
    /// `binding::*` of the container, whose MAC and address are those that `tcp` sends from.
    known: u64,
    reached: u64,
    blocked: Vec<[u64; 2]>,
    /// What run-time entries say of every source.
    answer: u64,
    verified: Vec<[u64; 2]>,
    refused: Vec<(Reason, u8, Option<Probe>)>,
}

/// Linux's default.
const LOCAL_PORTS: u32 = (32768 << 16) + 60999;

fn flow_words(key: &FlowKey) -> [u64; 5] {
    let rest =
        u64::from(key.local_port) << 32 | u64::from(key.remote_port) << 8 | u64::from(key.protocol);
    [
        key.local.hi,
        key.local.lo,
        key.remote.hi,
        key.remote.lo,
        rest,
    ]
}

fn fragment_words(key: &FragmentKey) -> [u64; 5] {
    let rest = u64::from(key.id) << 32 | u64::from(key.protocol);
    [
        key.source.hi,
        key.source.lo,
        key.destination.hi,
        key.destination.lo,
        rest,
    ]
}

impl Tables for OneRule {
    fn source_class(&mut self, _: bool, _: &Address) -> Option<u16> {
        Some(0)
    }
    fn destination_class(&mut self, _: bool, _: &Address) -> Option<u16> {
        Some(0)
    }
    fn service_class(&mut self, service: u32) -> Option<u16> {
        assert!(
            (service as usize) < service::SERVICES,
            "service index {service}"
        );
        Some(u16::from(service == service::TCP + 443))
    }
    fn matrix_entry(&mut self, index: u32) -> Option<Entry> {
        Some(if index == 1 {
            entry(matrix::ALLOW, 7)
        } else {
            entry(matrix::CLOSED, 0)
        })
    }
    fn reach(&mut self, _: u16) -> Option<u64> {
        Some(self.reached)
    }
    fn binding_known(&mut self, _: u32) -> u64 {
        self.known
    }
    fn binding_has_mac(&mut self, _: u32, mac: u64) -> bool {
        mac == 0x0200_0000_0002
    }
    fn binding_has_address(&mut self, _: u32, v4: bool, address: &Address) -> bool {
        v4 && *address == Address::v4(0x0a00_0001)
    }
    fn within_rate(&mut self, _: u16, _: &Address) -> bool {
        true
    }
    fn now(&mut self) -> u64 {
        self.now
    }
    fn flow(&mut self, key: &FlowKey) -> Option<(&mut FlowState, u64)> {
        let flow = self.flows.get_mut(&flow_words(key))?;
        Some((flow, self.now))
    }
    fn note_flow(&mut self, key: &FlowKey, flow: &FlowState) {
        self.flows.insert(flow_words(key), *flow);
    }
    fn wildcard_until(&mut self) -> u64 {
        self.wildcard_until
    }
    fn host_socket(&mut self, _: &FlowKey, _: bool) -> bool {
        self.sockets
    }
    fn fragment_seen(&mut self, key: &FragmentKey) -> Option<u64> {
        self.fragments.get(&fragment_words(key)).copied()
    }
    fn note_fragment(&mut self, key: &FragmentKey, now: u64) {
        self.fragments.insert(fragment_words(key), now);
    }
    fn entry_now(&mut self, index: u32, source: &Address, asked: u32) -> Entry {
        let ruled = self.matrix_entry(index).unwrap_or(matrix::NO_RULE);
        let icmp = matches!(entry::protocol_of(asked), 1 | 58);
        if matrix::blockable(ruled) && !icmp && self.is_blocked(source) {
            return entry(matrix::BLOCKED, 0);
        }
        entry::applied(ruled, self.answer, asked)
    }
    fn is_blocked(&mut self, source: &Address) -> bool {
        self.blocked.contains(&[source.hi, source.lo])
    }
    fn note_verified(&mut self, peer: &Address) {
        self.verified.push([peer.hi, peer.lo]);
    }
    fn local_ports(&mut self) -> u32 {
        LOCAL_PORTS
    }
    fn account(&mut self, refused: &Refused<'_>, slot: u8) {
        let probe = Probe::of(refused, slot, LOCAL_PORTS);
        self.refused.push((refused.reason, slot, probe));
    }
}

fn config() -> Config {
    let flags = flag::ENFORCE | flag::ARP | flag::DHCP | flag::PMTU;
    Config {
        ifindex: 1,
        matrix_base: 0,
        source_classes: 1,
        service_classes: 2,
        flags,
        vlan_table: 0,
        leaving_base: 0,
        binding: 0,
        reach_bit: 0,
    }
}

/// A container that may be reached on tcp/443, and may send anything but from another's address.
fn container() -> Config {
    Config {
        flags: config().flags | flag::CONTAINER | flag::SENDER,
        leaving_base: 0,
        ..config()
    }
}

fn judge(frame: &[u8], tables: &mut OneRule) -> Reason {
    judge_as(frame, &config(), tables)
}

fn judge_as(frame: &[u8], config: &Config, tables: &mut OneRule) -> Reason {
    verdict::arriving(frame, &parse::link(frame), Guarded::Host, config, tables).reason
}

fn send(frame: &[u8], tables: &mut OneRule) {
    let decision = verdict::from_host(frame, &parse::link(frame), &config(), tables);
    assert_eq!(decision.reason, Reason::PassEgress, "nothing is asked for");
}

/// Ethernet, IPv4, TCP; `flags` as in the TCP header.
fn tcp(source: [u8; 4], destination: [u8; 4], ports: (u16, u16), flags: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(source);
    frame.extend(destination);
    frame.extend(ports.0.to_be_bytes());
    frame.extend(ports.1.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    frame
}

/// Ethernet, IPv6, UDP.
fn udp6(source: [u16; 8], destination: [u16; 8], ports: (u16, u16)) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
    frame.extend([0x60, 0, 0, 0, 0, 8, 17, 64]);
    for part in source.into_iter().chain(destination) {
        frame.extend(part.to_be_bytes());
    }
    frame.extend(ports.0.to_be_bytes());
    frame.extend(ports.1.to_be_bytes());
    frame.extend([0, 8, 0, 0]);
    frame
}

const US6: [u16; 8] = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1];
const US: [u8; 4] = [10, 0, 0, 1];
const THEM: [u8; 4] = [198, 51, 100, 7];
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

#[test]
fn one_port_is_open_and_every_other_closed() {
    let mut tables = OneRule::default();
    for port in 0..=u16::MAX {
        let expected = if port == 443 {
            Reason::PassRule
        } else {
            Reason::DropPort
        };
        assert_eq!(
            judge(&tcp(THEM, US, (40000, port), SYN), &mut tables),
            expected,
            "port {port}"
        );
    }
}

#[test]
fn what_we_open_comes_back_and_nothing_else() {
    let mut tables = OneRule::default();
    let answer = tcp(THEM, US, (80, 50000), SYN | ACK);
    assert_eq!(judge(&answer, &mut tables), Reason::DropPort);
    send(&tcp(US, THEM, (50000, 80), SYN), &mut tables);
    assert_eq!(judge(&answer, &mut tables), Reason::PassReply);
    assert_eq!(
        judge(&tcp(THEM, US, (80, 50000), SYN), &mut tables),
        Reason::DropPort,
        "a SYN is no answer"
    );
    assert_eq!(
        judge(&tcp(THEM, US, (81, 50000), ACK), &mut tables),
        Reason::DropPort
    );
    tables.now += 500_000 * 1_000_000_000;
    assert_eq!(
        judge(&answer, &mut tables),
        Reason::DropPort,
        "long after its time"
    );
}

#[test]
fn a_servers_answers_leave_no_flow() {
    let mut tables = OneRule::default();
    send(&tcp(US, THEM, (443, 40000), SYN | ACK), &mut tables);
    assert!(tables.flows.is_empty());
}

#[test]
fn sockets_stand_in_for_flows() {
    let mut tables = OneRule {
        sockets: true,
        ..OneRule::default()
    };
    assert_eq!(
        judge(&tcp(THEM, US, (80, 50000), ACK), &mut tables),
        Reason::PassReply
    );
    assert_eq!(
        judge(&tcp(THEM, US, (80, 50000), SYN), &mut tables),
        Reason::DropPort
    );
}

/// ICMPv6 "packet too big" about a datagram of ours.
fn too_big(quoted: &[u8]) -> Vec<u8> {
    let mut frame = udp6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9], US6, (0, 0));
    frame.truncate(54);
    frame[20] = 58;
    frame[19] = 8 + 48;
    frame.extend([2, 0, 0, 0, 0, 0, 5, 0]);
    frame.extend(&quoted[14..62]);
    frame
}

#[test]
fn the_entry_for_any_remote_is_no_flow_with_the_unspecified_address() {
    let mut tables = OneRule {
        now: 100,
        wildcard_until: 200,
        ..OneRule::default()
    };
    // the daemon found a UDP client that waits on port 5000
    let local = Address::v6(u128::from(std::net::Ipv6Addr::from(US6)));
    let waiting = flow::wildcard(&FlowKey {
        local,
        remote: local,
        local_port: 5000,
        remote_port: 1,
        protocol: 17,
    });
    tables.note_flow(&waiting, &flow::opened(17, 0, 100));
    let answer = udp6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9], US6, (53, 5000));
    assert_eq!(judge(&answer, &mut tables), Reason::PassReply);
    tables.now = 300;
    assert_eq!(judge(&answer, &mut tables), Reason::DropPort);
    let unspecified = udp6([0; 8], US6, (0, 5000));
    assert_eq!(judge(&unspecified, &mut tables), Reason::DropPort);
    let sent = udp6(US6, [0; 8], (5000, 0));
    assert_eq!(judge(&too_big(&sent), &mut tables), Reason::DropIcmp);
    send(&sent, &mut tables);
    assert_eq!(tables.flows.len(), 1);
    tables.flows.clear();
    send(&sent, &mut tables);
    assert!(tables.flows.is_empty(), "nor is it made by a packet");
}

#[test]
fn ipv4_mapped_addresses_are_malformed() {
    let mapped = |host: u16| [0, 0, 0, 0, 0, 0xffff, 0x0a00, host];
    let them = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9];
    let mut tables = OneRule::default();
    for (source, destination) in [(mapped(1), US6), (them, mapped(2)), (mapped(1), mapped(2))] {
        let frame = udp6(source, destination, (53, 5000));
        assert_eq!(judge(&frame, &mut tables), Reason::DropMalformed);
        send(&frame, &mut tables);
    }
    assert!(tables.flows.is_empty());
}

#[test]
fn the_first_vlan_id_that_is_one_counts() {
    let frame = tcp(THEM, US, (40000, 443), SYN);
    for (tags, vlan) in [
        (&[0x0064][..], 100),
        (&[0xe000], 0),
        (&[0x0000, 0x0064], 100),
        (&[0xe000, 0x6000], 0),
        (&[0x0007, 0x0064], 7),
    ] {
        let mut tagged = frame[..12].to_vec();
        for tag in tags {
            tagged.extend([0x81, 0x00]);
            tagged.extend(u16::to_be_bytes(*tag));
        }
        tagged.extend(&frame[12..]);
        assert_eq!(parse::link(tagged.as_slice()).vlan, vlan, "{tags:x?}");
    }
}

#[test]
fn cut_at_any_byte_it_is_malformed() {
    let whole = tcp(THEM, US, (40000, 443), SYN);
    assert_eq!(judge(&whole, &mut OneRule::default()), Reason::PassRule);
    for length in 0..whole.len() {
        // without its ethertype a frame is nothing
        assert_eq!(
            judge(&whole[..length], &mut OneRule::default()),
            Reason::DropMalformed,
            "{length} bytes"
        );
    }
}

#[test]
fn later_fragments_follow_the_first() {
    let fragment = |word: u16| {
        let mut frame = tcp(THEM, US, (40000, 443), ACK);
        frame[20..22].copy_from_slice(&word.to_be_bytes());
        frame
    };
    // 40 bytes: 20 of header, 20 of payload, which is no multiple of 8: pad the first to 24
    let mut first = fragment(0x2000);
    first.extend([0; 4]);
    first[17] = 44;
    let later = fragment(64 / 8);
    let mut tables = OneRule::default();
    assert_eq!(judge(&later, &mut tables), Reason::DropFragment);
    assert_eq!(judge(&first, &mut tables), Reason::PassRule);
    assert_eq!(judge(&later, &mut tables), Reason::PassFragment);
    assert_eq!(
        judge(&fragment(1), &mut tables),
        Reason::DropFragment,
        "over the header that was judged"
    );
    tables.now = verdict::FRAGMENT_TIMEOUT + 1;
    assert_eq!(judge(&later, &mut tables), Reason::DropFragment, "too late");
}

#[test]
fn frames_that_no_neighbour_sends() {
    let config = Config {
        flags: config().flags | flag::MARTIANS,
        ..config()
    };
    let tables = &mut OneRule::default();
    let true_one = tcp([10, 0, 0, 1], [10, 0, 0, 2], (5, 443), 2);
    assert_eq!(judge_as(&true_one, &config, tables), Reason::PassRule);
    let land = tcp([10, 0, 0, 2], [10, 0, 0, 2], (443, 443), 2);
    assert_eq!(judge_as(&land, &config, tables), Reason::DropMartian);
    assert_eq!(judge(&land, tables), Reason::PassRule, "not asked for");
    let mut group = true_one;
    group[6] |= 1;
    assert_eq!(judge_as(&group, &config, tables), Reason::DropMartian);
}

#[test]
fn the_reverse_path_comes_before_the_rules() {
    let config = Config {
        flags: config().flags | flag::REVERSE_PATH,
        reach_bit: 5,
        ..config()
    };
    let open = tcp([10, 0, 0, 1], [10, 0, 0, 2], (5, 443), 2);
    for (reached, reason) in [
        (0, Reason::DropReversePath),
        (!(1 << 5), Reason::DropReversePath),
        (1 << 5, Reason::PassRule),
    ] {
        let tables = &mut OneRule {
            reached,
            ..OneRule::default()
        };
        assert_eq!(judge_as(&open, &config, tables), reason, "{reached:x}");
    }
}

#[test]
fn a_container_sends_as_itself() {
    let row_of = |frame: &[u8], known: u64| {
        let tables = &mut OneRule {
            known,
            ..OneRule::default()
        };
        let decision = verdict::from_container(
            frame,
            &parse::link(frame),
            Lengths::Checked,
            &container(),
            tables,
        );
        (decision.reason, decision.rule)
    };
    let own = tcp([10, 0, 0, 1], [10, 0, 0, 2], (5, 443), 2);
    assert_eq!(row_of(&own, binding::KNOWN), (Reason::PassRule, 7));
    assert_eq!(
        row_of(&own, binding::UNKNOWN),
        (Reason::DropBinding, row::BINDING_UNKNOWN)
    );
    let other = tcp([10, 0, 0, 3], [10, 0, 0, 2], (5, 443), 2);
    assert_eq!(
        row_of(&other, binding::KNOWN),
        (Reason::DropBinding, row::BINDING_SOURCE)
    );
    assert_eq!(row_of(&other, binding::OPEN), (Reason::PassRule, 7));
    let nobody = tcp([0, 0, 0, 0], [10, 0, 0, 2], (5, 443), 2);
    assert_eq!(
        row_of(&nobody, binding::KNOWN),
        (Reason::DropBinding, row::BINDING_SOURCE)
    );
    let mut mac = own;
    mac[11] = 3;
    assert_eq!(
        row_of(&mac, binding::KNOWN),
        (Reason::DropBinding, row::BINDING_MAC)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_get_one_reason(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut tables = OneRule::default();
        let reason = judge(&bytes, &mut tables);
        // random bytes hardly ever are a TCP packet to 443; whatever passes was read to its end
        prop_assert!(!reason.passes() || matches!(reason, Reason::PassRule | Reason::PassControl | Reason::PassReply));
        send(&bytes, &mut tables);
        for known in [binding::UNKNOWN, binding::KNOWN, binding::OPEN] {
            tables.known = known;
            let decision = verdict::from_container(bytes.as_slice(), &parse::link(bytes.as_slice()), Lengths::Trusted, &container(), &mut tables);
            prop_assert!(known != binding::UNKNOWN || decision.reason == Reason::DropBinding);
        }
    }

    #[test]
    fn mutated_frames_end(at in 14_usize..54, value in any::<u8>(), ethertype in prop::sample::select(vec![0x0800_u16, 0x86dd, 0x8100, 0x0806])) {
        let mut frame = tcp(THEM, US, (40000, 443), SYN);
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        frame[at] = value;
        judge(&frame, &mut OneRule::default());
    }

    #[test]
    fn extension_chains_end_inside_the_packet(bytes in prop::collection::vec(any::<u8>(), 0..200), next in any::<u8>(), at in 0_usize..60) {
        let chain = Chain { next, at, end: bytes.len() };
        if let Some(walk) = extension::walk(bytes.as_slice(), chain) {
            prop_assert!(walk.at <= bytes.len().max(at));
            prop_assert!(walk.fragment <= walk.at);
            prop_assert_eq!(extension::Walk::unpack(walk.pack()), Some(walk));
        }
    }

    #[test]
    fn windows_stay_inside(bytes in prop::collection::vec(any::<u8>(), 0..64), at in 0_usize..80) {
        let window = bytes.as_slice().window::<8>(at);
        prop_assert_eq!(window.is_some(), at + 8 <= bytes.len());
    }
}

/// The pattern and hints of the frame, judged and refused with scans on.
fn probe(frame: &[u8]) -> (Option<Pattern>, u8) {
    let config = Config {
        flags: config().flags | flag::SCANS,
        binding: 3,
        ..config()
    };
    let mut tables = OneRule::default();
    let reason = judge_as(frame, &config, &mut tables);
    assert!(!reason.passes(), "{reason:?}");
    assert_eq!(tables.refused.len(), 1);
    let (counted, slot, probe) = tables.refused[0];
    assert_eq!((counted, slot), (reason, 3));
    let Some(probe) = probe else {
        return (None, 0);
    };
    assert_eq!(Probe::unpack(probe.pack()), probe);
    assert_eq!(probe.slot, 3);
    let ours = |address: [u8; 4]| Address::v4(u32::from_be_bytes(address));
    assert_eq!(
        scan::addresses(frame, &probe),
        Some((ours(THEM), ours(US), 64))
    );
    (
        Pattern::from_index(probe.pattern.into()),
        scan::hints(frame, &probe),
    )
}

fn ip4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = tcp(THEM, US, (0, 0), 0);
    frame.truncate(34);
    frame[17] = 20 + payload.len() as u8;
    frame[23] = protocol;
    frame.extend(payload);
    frame
}

#[test]
fn tcp_flags_say_the_pattern() {
    use Pattern::{Ack, Fin, IllegalFlags, Maimon, Null, Syn, Xmas};
    for flags in 0..=0xff_u8 {
        let [fin, syn, rst, psh, ack, urg] = [0, 1, 2, 3, 4, 5].map(|bit| flags >> bit & 1 == 1);
        let expected = match (fin, syn, rst, psh, ack, urg) {
            (false, true, false, false, false, false) => Some(Syn),
            (true, false, false, false, false, false) => Some(Fin),
            (false, false, false, false, false, false) => Some(Null),
            (true, false, false, true, false, true) => Some(Xmas),
            (true, true, ..) | (_, true, true, ..) | (true, _, true, ..) => Some(IllegalFlags),
            (_, _, true, ..) | (_, true, _, _, true, _) => None,
            (_, _, _, _, false, _) => Some(IllegalFlags),
            (true, ..) => Some(Maimon),
            (false, ..) => Some(Ack),
        };
        let (found, _) = probe(&tcp(THEM, US, (40000, 22), flags));
        assert_eq!(found, expected, "flags {flags:#04x}");
    }
}

#[test]
fn a_syn_with_the_options_of_a_system_is_a_connect() {
    let mut frame = tcp(THEM, US, (40000, 22), SYN);
    frame[17] = 60;
    frame[46] = 0xa0;
    frame.extend([1; 20]);
    assert_eq!(probe(&frame), (Some(Pattern::Connect), 0));
}

#[test]
fn late_answers_are_no_probes() {
    for (ports, flags, expected) in [
        ((443, 50000), ACK, None),
        ((50000, 50000), ACK, None),
        ((443, 50000), ACK | 1, None),
        ((443, 32767), ACK, Some(Pattern::Ack)),
        ((443, 61000), ACK, Some(Pattern::Ack)),
        ((443, 50000), SYN, Some(Pattern::Syn)),
    ] {
        assert_eq!(probe(&tcp(THEM, US, ports, flags)).0, expected, "{ports:?}");
    }
    let udp = |source: u16, port: u16| {
        let mut payload = Vec::from(source.to_be_bytes());
        payload.extend(port.to_be_bytes());
        payload.extend([0, 8, 0, 0]);
        probe(&ip4(17, &payload)).0
    };
    assert_eq!(udp(53, 40000), None);
    assert_eq!(udp(123, 60999), None);
    assert_eq!(udp(53, 161), Some(Pattern::Udp));
    assert_eq!(udp(53, 1024), None, "a resolver that asks from any port");
    assert_eq!(udp(443, 20000), None);
    assert_eq!(udp(54, 20000), Some(Pattern::Udp));
    assert_eq!(udp(40000, 40000), Some(Pattern::Udp));
    // traceroute
    assert_eq!(udp(40000, 33433), Some(Pattern::Udp));
    assert_eq!(udp(40000, 33434), None);
    assert_eq!(udp(40000, 33523), None);
    assert_eq!(udp(40000, 33524), Some(Pattern::Udp));
}

#[test]
fn requests_are_probes_and_what_answers_them_is_not() {
    let icmp = |kind: u8| probe(&ip4(1, &[kind, 0, 0, 0, 0, 1, 0, 1])).0;
    assert_eq!(icmp(8), Some(Pattern::IcmpEcho));
    assert_eq!(icmp(13), Some(Pattern::IcmpTimestamp));
    assert_eq!(icmp(17), Some(Pattern::IcmpMask));
    for kind in [0, 3, 4, 5, 11, 12, 14, 18] {
        assert_eq!(icmp(kind), None, "type {kind}");
    }
    let sctp = |chunk: u8| {
        let mut payload = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, chunk, 0, 0, 20];
        payload.resize(32, 0);
        probe(&ip4(132, &payload)).0
    };
    assert_eq!(sctp(1), Some(Pattern::SctpInit));
    assert_eq!(sctp(10), Some(Pattern::SctpCookie));
    for chunk in [0, 2, 3, 6, 11, 14] {
        assert_eq!(sctp(chunk), None, "chunk {chunk}");
    }
    assert_eq!(probe(&ip4(47, &[0; 8])).0, Some(Pattern::Protocol));
}

#[test]
fn habits_are_hints() {
    let mut zmap = tcp(THEM, US, (40000, 22), SYN);
    zmap[18..20].copy_from_slice(&54321_u16.to_be_bytes());
    assert_eq!(probe(&zmap), (Some(Pattern::Syn), hint::ZMAP));
    // destination 10.0.0.1 ^ port 22 ^ sequence number 1, of which 16 bits are kept
    let mut masscan = tcp(THEM, US, (40000, 22), SYN);
    masscan[18..20].copy_from_slice(&0x16_u16.to_be_bytes());
    assert_eq!(probe(&masscan), (Some(Pattern::Syn), hint::MASSCAN));
    let mut nmap = tcp(THEM, US, (40000, 22), SYN);
    nmap[17] = 44;
    nmap[46] = 0x60;
    nmap[48..50].copy_from_slice(&1024_u16.to_be_bytes());
    nmap.extend([2, 4, 5, 0xb4]);
    assert_eq!(probe(&nmap), (Some(Pattern::Syn), hint::NMAP));
}

#[test]
fn a_blocked_source_gets_answers_and_nothing_else() {
    let mut tables = OneRule {
        blocked: vec![{
            let them = Address::v4(u32::from_be_bytes(THEM));
            [them.hi, them.lo]
        }],
        ..OneRule::default()
    };
    let request = tcp(THEM, US, (40000, 443), SYN);
    assert_eq!(judge(&request, &mut tables), Reason::DropBlocked);
    let other = tcp([198, 51, 100, 8], US, (40000, 443), SYN);
    assert_eq!(judge(&other, &mut tables), Reason::PassRule);
    // to a port that no rule opens
    send(&tcp(US, THEM, (50000, 80), SYN), &mut tables);
    let answer = tcp(THEM, US, (80, 50000), SYN | ACK);
    assert_eq!(judge(&answer, &mut tables), Reason::PassReply);
    // from the open port: policy lets the answer in, and the block must not keep it out, however long it takes
    send(&tcp(US, THEM, (443, 80), SYN), &mut tables);
    tables.now += 3600 * 1_000_000_000;
    let answer = tcp(THEM, US, (80, 443), ACK);
    assert_eq!(judge(&answer, &mut tables), Reason::PassReply);
    assert_eq!(judge(&request, &mut tables), Reason::DropBlocked);
}

#[test]
fn only_data_we_send_verifies_a_peer() {
    let mut tables = OneRule::default();
    for flags in [SYN | ACK, ACK, ACK | 1, 0x04] {
        send(&tcp(US, THEM, (443, 40000), flags), &mut tables);
    }
    assert!(tables.verified.is_empty());
    let mut data = tcp(US, THEM, (443, 40000), ACK);
    data[17] += 4;
    data.extend(b"data");
    send(&data, &mut tables);
    let them = Address::v4(u32::from_be_bytes(THEM));
    assert_eq!(tables.verified, [[them.hi, them.lo]]);
    // what we ask for ourselves says nothing of who may come
    let mut asked = tcp(US, THEM, (50000, 80), ACK);
    asked[17] += 4;
    asked.extend(b"data");
    send(&asked, &mut tables);
    assert_eq!(tables.verified.len(), 1);
}
