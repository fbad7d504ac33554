//! Sources refused for another reason than the registry's: the host's and its containers' addresses, broadcasts, group
//! MACs, packets to themselves; and what a host without an address may send all the same.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use edgefilter_tests::packets::{
    Extension, Icmp, Icmpv6, Ipv4, Ipv6, Tcp, Udp, dhcpv4_reply, dhcpv6_reply, link,
};
use edgefilter_tests::test_run::{Filter, can_run};
use filter_user::compile::HostFacts;

use crate::martians::{HOST, HOST6, host, policy, syn};

/// An address of the host on another interface.
const OTHER: &str = "45.67.90.1";
const ALL_ON: &str = "martians = true\nown_addresses = true";

/// What is sent, and the reason and row or rule expected of it.
type Case = (&'static str, Vec<u8>, &'static str, Option<&'static str>);

fn case(source: &'static str, reason: &'static str, rule: &'static str) -> Result<Case> {
    Ok((source, syn(source.parse()?), reason, Some(rule)))
}

fn passes(source: &'static str) -> Result<Case> {
    case(source, "pass_rule", "https")
}

fn check(filter: &mut Filter, text: &str, host: &HostFacts, cases: &[Case]) -> Result<()> {
    filter.push_with_facts(text, host)?;
    let mut wrong = Vec::new();
    for (name, frame, reason, rule) in cases {
        let verdict = filter.ingress(frame)?;
        let found = (verdict.reason.name(), verdict.rule.as_deref());
        if found != (*reason, *rule) {
            wrong.push(format!("{name}: {found:?}, expected {reason} {rule:?}"));
        }
    }
    ensure!(wrong.is_empty(), "under\n{text}\n{}", wrong.join("\n"));
    filter.settle()
}

#[test]
fn nothing_is_refused_on_lo_unless_it_is_said() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let group = link().macs([3, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let from_group = group.ipv4(&Ipv4::new("8.8.8.8", "45.67.89.10").with(&Tcp::syn(1, 443)));
    let mut cases = vec![("group MAC", from_group, "pass_rule", Some("https"))];
    for source in ["127.0.0.1", "45.67.89.10", "240.0.0.1", "10.0.0.1", "::1"] {
        cases.push(passes(source)?);
    }
    check(&mut Filter::load()?, &policy(""), &host(), &cases)
}

#[test]
fn a_host_without_an_ipv4_address_may_ask_for_one() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let row = Some("martian:0.0.0.0/32");
    let from = |destination| Ipv4::between(Ipv4Addr::UNSPECIFIED, destination);
    let discover = link().ipv4(&from(Ipv4Addr::BROADCAST).with(&Udp::new(68, 67)));
    let report = link().ipv4(&from(Ipv4Addr::new(224, 0, 0, 22)).raw(2, &[0x22; 16]));
    let refused = |name, frame| (name, frame, "drop_martian", row);
    let other = [
        refused(
            "UDP to 68",
            link().ipv4(&from(HOST).with(&Udp::new(68, 68))),
        ),
        refused(
            "a DHCP answer",
            link().ipv4(&from(HOST).with(&dhcpv4_reply())),
        ),
        refused("TCP", syn(Ipv4Addr::UNSPECIFIED.into())),
        refused("TCP to 67", {
            link().ipv4(&from(HOST).with(&Tcp::syn(68, 67)))
        }),
        refused("a ping", {
            link().ipv4(&from(HOST).with(&Icmp::echo_request(1)))
        }),
    ];
    let mut filter = Filter::load()?;
    let mut cases = vec![
        ("discover", discover.clone(), "drop_port", None),
        ("IGMP", report.clone(), "drop_protocol", None),
    ];
    cases.extend(other.clone());
    check(&mut filter, &policy(ALL_ON), &host(), &cases)?;
    let open = format!(
        "{}[[profiles.edge.allow]]\nid = \"dhcp\"\nprotocol = \"udp\"\nports = [67]\n\
         [[profiles.edge.allow]]\nid = \"igmp\"\nprotocol = \"igmp\"\n",
        policy(ALL_ON)
    );
    let mut cases = vec![
        ("discover", discover, "pass_rule", Some("dhcp")),
        ("IGMP", report, "pass_rule", Some("igmp")),
    ];
    cases.extend(other);
    check(&mut filter, &open, &host(), &cases)
}

#[test]
fn a_host_without_an_ipv6_address_may_make_itself_one() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mac = [2, 0, 0, 0, 0, 1];
    let send = |message: &Icmpv6| {
        let listener = matches!(message.kind, 130..=132 | 143);
        let mut packet = Ipv6::new("::", "ff02::1").hops(if listener { 1 } else { 255 });
        if listener {
            // the router alert option (RFC 2711)
            packet = packet.extension(Extension::HopByHop(8));
        }
        link().ipv6(&packet.with(message))
    };
    let listener = |kind| Icmpv6 {
        payload: vec![0; 16],
        ..Icmpv6::new(kind, 0)
    };
    let control = |name, message: &Icmpv6| (name, send(message), "pass_control", None);
    let refused = |name, frame| (name, frame, "drop_martian", Some("martian:::/128"));
    let mut cases = vec![
        control(
            "duplicate address detection",
            &Icmpv6::neighbour_solicitation(HOST6, mac),
        ),
        control("router solicitation", &Icmpv6::router_solicitation()),
        refused(
            "router advertisement",
            send(&Icmpv6::router_advertisement()),
        ),
        refused(
            "neighbour advertisement",
            send(&Icmpv6::neighbour_advertisement(HOST6, mac)),
        ),
        refused("listener query", send(&Icmpv6::listener_query())),
        refused("a ping", send(&Icmpv6::echo_request(1))),
        refused("TCP", syn("::".parse()?)),
        refused("a DHCP answer", {
            link().ipv6(&Ipv6::new("::", "ff02::1").with(&dhcpv6_reply()))
        }),
    ];
    let mut filter = Filter::load()?;
    let reports = [("report", 131), ("done", 132), ("version 2 report", 143)];
    let mut closed = cases.clone();
    closed.extend(reports.map(|(name, kind)| (name, send(&listener(kind)), "drop_icmp", None)));
    check(&mut filter, &policy(ALL_ON), &host(), &closed)?;
    let open = format!(
        "{}[profiles.edge.icmp]\nv6 = [128, 131, 132, 143]\n",
        policy(ALL_ON)
    );
    cases.extend(reports.map(|(name, kind)| control(name, &listener(kind))));
    check(&mut filter, &open, &host(), &cases)
}

#[test]
fn a_packet_to_itself_is_a_martian() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let land = |address: &'static str, transport: &Tcp| -> Result<Vec<u8>> {
        Ok(match address.parse()? {
            IpAddr::V4(ip) => link().ipv4(&Ipv4::between(ip, ip).with(transport)),
            IpAddr::V6(ip) => link().ipv6(&Ipv6::between(ip, ip).with(transport)),
        })
    };
    let mut cases = Vec::new();
    for address in ["45.67.89.10", "8.8.8.8", "0.0.0.0", "2a00:1:2:3::10", "::"] {
        let frame = land(address, &Tcp::syn(443, 443))?;
        cases.push((address, frame, "drop_martian", Some("martian:land")));
    }
    let mut filter = Filter::load()?;
    check(&mut filter, &policy(ALL_ON), &host(), &cases)?;
    let listed = policy(&format!(
        "{ALL_ON}\nlegitimate = [\"8.8.8.8\", \"45.67.89.10\"]"
    ));
    check(&mut filter, &listed, &host(), &cases)?;
    let own = [
        (
            "own",
            land("45.67.89.10", &Tcp::syn(443, 443))?,
            "drop_own_address",
            Some("own-address"),
        ),
        (
            "foreign",
            land("8.8.8.8", &Tcp::syn(443, 443))?,
            "pass_rule",
            Some("https"),
        ),
    ];
    let text = policy("martians = false\nown_addresses = true");
    check(&mut filter, &text, &host(), &own)
}

#[test]
fn a_group_mac_never_sends() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let packet = Ipv4::between("8.8.8.8".parse()?, HOST).with(&Tcp::syn(1, 443));
    let packet6 = Ipv6::between("2606:4700::1".parse()?, HOST6).with(&Tcp::syn(1, 443));
    let host_mac = [2, 0, 0, 0, 0, 2];
    let multicast = link().macs([1, 0, 0x5e, 0, 0, 1], host_mac);
    let broadcast = link().macs([0xff; 6], host_mac);
    let row = Some("martian:group-mac");
    let mut filter = Filter::load()?;
    let on = [
        ("multicast", multicast.ipv4(&packet), "drop_martian", row),
        ("broadcast", broadcast.ipv4(&packet), "drop_martian", row),
        ("IPv6", multicast.ipv6(&packet6), "drop_martian", row),
        (
            "tagged",
            multicast.clone().vlan(5).ipv4(&packet),
            "drop_martian",
            row,
        ),
        // ARP is no matter of sources
        (
            "ARP",
            multicast.arp_request("45.67.89.1", "45.67.89.10"),
            "pass_control",
            None,
        ),
    ];
    check(&mut filter, &policy("martians = true"), &host(), &on)?;
    let off = [("off", multicast.ipv4(&packet), "pass_rule", Some("https"))];
    check(&mut filter, &policy("own_addresses = true"), &host(), &off)
}

#[test]
fn a_broadcast_address_of_our_networks_never_sends() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let facts = HostFacts {
        broadcast: vec!["45.67.89.0".parse()?, "45.67.89.255".parse()?],
        ..host()
    };
    let mut filter = Filter::load()?;
    let cases = [
        case("45.67.89.255", "drop_martian", "martian:broadcast")?,
        case("45.67.89.0", "drop_martian", "martian:broadcast")?,
        passes("45.67.89.254")?,
        passes("45.67.90.0")?,
    ];
    check(&mut filter, &policy("martians = true"), &facts, &cases)?;
    let off = [passes("45.67.89.255")?];
    check(&mut filter, &policy("own_addresses = true"), &facts, &off)
}

#[test]
fn own_addresses_do_not_come_from_outside() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut facts = host();
    facts.own_v4.extend([OTHER.parse()?, Ipv4Addr::LOCALHOST]);
    facts.own_v6.push("fe80::10".parse()?);
    let own = |source| case(source, "drop_own_address", "own-address");
    let ping = link().ipv4(&Ipv4::new(OTHER, "45.67.89.10").with(&Icmp::echo_request(1)));
    let shut = link().ipv4(&Ipv4::new(OTHER, "45.67.89.10").with(&Udp::new(1, 9)));
    let mut cases = vec![
        own(OTHER)?,
        // a martian as well: that it is ours says more
        own("127.0.0.1")?,
        own("fe80::10")?,
        ("a ping", ping, "drop_own_address", Some("own-address")),
        ("a shut port", shut, "drop_own_address", Some("own-address")),
        passes("45.67.90.2")?,
        passes("fe80::11")?,
    ];
    let mut filter = Filter::load()?;
    check(&mut filter, &policy("own_addresses = true"), &facts, &cases)?;
    cases.push(case("127.0.0.2", "drop_martian", "martian:127.0.0.0/8")?);
    check(&mut filter, &policy(ALL_ON), &facts, &cases)?;
    // an address that is listed as legitimate is still ours
    let listed = policy(&format!(
        "{ALL_ON}\nlegitimate = [\"45.67.90.0/24\", \"127.0.0.0/8\"]"
    ));
    cases.pop();
    cases.push(passes("127.0.0.2")?);
    check(&mut filter, &listed, &facts, &cases)?;
    let off = [
        passes(OTHER)?,
        case("127.0.0.1", "drop_martian", "martian:127.0.0.0/8")?,
    ];
    check(&mut filter, &policy("martians = true"), &facts, &off)
}

#[test]
fn a_tentative_address_may_still_be_another_hosts() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let address = "2a00:1:2:3::77";
    // who has the address already defends it from there (RFC 4862, 5.4.4)
    let defence = link().ipv6(
        &Ipv6::new(address, "ff02::1")
            .hops(255)
            .with(&Icmpv6::neighbour_advertisement(address.parse()?, [2; 6])),
    );
    let mut facts = host();
    facts.own_v6.push(address.parse()?);
    facts.tentative_v6.push(address.parse()?);
    let mut filter = Filter::load()?;
    let text = policy(ALL_ON);
    let tentative = [
        ("defence", defence.clone(), "pass_control", None),
        passes(address)?,
    ];
    check(&mut filter, &text, &facts, &tentative)?;
    facts.tentative_v6.clear();
    let row = Some("own-address");
    let settled = [
        ("defence", defence, "drop_own_address", row),
        case(address, "drop_own_address", "own-address")?,
    ];
    check(&mut filter, &text, &facts, &settled)
}

#[test]
fn what_stands_inside_does_not_come_from_outside() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let facts = HostFacts {
        inside_v4: vec!["10.22.0.0/24".parse()?, "45.67.91.5/32".parse()?],
        inside_v6: vec!["fd00:22::/64".parse()?],
        ..host()
    };
    let inside = |source| case(source, "drop_own_address", "own-container");
    let mut cases = vec![
        inside("10.22.0.0")?,
        inside("10.22.0.255")?,
        inside("45.67.91.5")?,
        inside("fd00:22::1")?,
        passes("10.21.255.255")?,
        passes("10.22.1.0")?,
        passes("45.67.91.4")?,
        passes("fd00:22:0:1::")?,
    ];
    let mut filter = Filter::load()?;
    check(&mut filter, &policy(ALL_ON), &facts, &cases)?;
    let listed = policy(&format!(
        "{ALL_ON}\ninternet = true\nlegitimate = [\"10.0.0.0/8\", \"fd00::/8\"]"
    ));
    check(&mut filter, &listed, &facts, &cases)?;
    cases.clear();
    cases.extend([passes("10.22.0.1")?, passes("fd00:22::1")?]);
    check(&mut filter, &policy("martians = true"), &facts, &cases)
}

#[test]
fn legitimate_lets_in_what_the_registry_refuses() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let text = policy(&format!(
        "{ALL_ON}\nlegitimate = [\"192.0.2.0/24\", \"198.51.100.0/25\", \"2002::/16\"]"
    ));
    let cases = [
        passes("192.0.2.0")?,
        passes("192.0.2.255")?,
        passes("198.51.100.127")?,
        case("198.51.100.128", "drop_martian", "martian:198.51.100.0/24")?,
        passes("2002:808:808::1")?,
        case("2001:db8::1", "drop_martian", "martian:2001:db8::/32")?,
    ];
    check(&mut Filter::load()?, &text, &host(), &cases)
}

#[test]
fn the_source_is_looked_at_before_rules_and_flows_but_after_the_form() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let text = format!(
        "{}[[profiles.edge.deny]]\nid = \"never\"\nfrom = [\"240.0.0.0/4\", \"10.0.0.0/8\"]\n",
        policy(&format!("{ALL_ON}\ninternet = true"))
    );
    let row = Some("martian:10.0.0.0/8");
    let mut filter = Filter::load()?;
    filter.push_with_facts(&text, &host())?;
    let asked = link().ipv4(&Ipv4::new("45.67.89.10", "10.1.2.3").with(&Udp::new(5000, 53)));
    ensure!(filter.egress(&asked)?, "the kernel refuses the frame");
    let answer = link().ipv4(&Ipv4::new("10.1.2.3", "45.67.89.10").with(&Udp::new(53, 5000)));
    let mut short = syn("240.0.0.1".parse()?);
    short.truncate(14 + 20 + 4);
    let whole = Ipv4::new("10.1.2.3", "45.67.89.10")
        .id(7)
        .with(&Udp::new(1, 443).payload(&[0; 64]));
    let parts = whole.fragments(32);
    ensure!(parts.len() > 1, "no later fragment");
    let cases = [
        case("240.0.0.1", "drop_martian", "martian:240.0.0.0/4")?,
        ("an answer", answer, "drop_martian", row),
        ("cut short", short, "drop_malformed", None),
        (
            "a first fragment",
            link().ipv4(&parts[0]),
            "drop_martian",
            row,
        ),
        (
            "a later fragment",
            link().ipv4(&parts[1]),
            "drop_fragment",
            None,
        ),
        (
            "tagged",
            link()
                .vlan(5)
                .ipv4(&Ipv4::new("10.1.2.3", "45.67.89.10").with(&Tcp::syn(1, 443))),
            "drop_martian",
            row,
        ),
    ];
    check(&mut filter, &text, &host(), &cases)
}

#[test]
fn in_monitor_mode_it_passes_and_is_counted() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let text = policy(ALL_ON).replacen(
        "[profiles.edge.antispoof]",
        "enforce = false\n[profiles.edge.antispoof]",
        1,
    );
    let mut filter = Filter::load()?;
    filter.push_with_facts(&text, &host())?;
    for (source, reason) in [
        ("240.0.0.1", "drop_martian"),
        ("45.67.89.10", "drop_martian"),
        ("2a00:1:2:3::10", "drop_martian"),
    ] {
        let verdict = filter.ingress(&syn(source.parse()?))?;
        ensure!(
            verdict.reason.name() == reason && verdict.would_drop && verdict.pass,
            "{source}: {verdict:?}"
        );
    }
    filter.settle()
}
