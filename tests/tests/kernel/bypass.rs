//! Ways past a filter, all under a policy that opens tcp/443 only: what is not allowed never
//! passes, and the same frames pass where they are allowed.

use anyhow::{Result, ensure};
use edgefilter_tests::packets::{
    Extension, Icmp, Ipv4, Ipv6, LLDP, Link, Raw, SERVICE_VLAN, Sctp, Tcp, Udp, VLAN, link,
};
use edgefilter_tests::test_run::{Filter, can_run};

use crate::{OWN, OWN6, REMOTE, REMOTE6, WEB, filter};

/// Puts tags on a frame.
type Tag = fn(Link) -> Link;

/// A way to wrap a TCP segment to a port; the same for the open and the closed one.
type Wrap = Box<dyn Fn(&Tcp) -> Vec<Vec<u8>>>;

fn v4(segment: &Tcp) -> Ipv4 {
    Ipv4::new(REMOTE, OWN).with(segment)
}

fn v6(segment: &Tcp) -> Ipv6 {
    Ipv6::new(REMOTE6, OWN6).with(segment)
}

/// Extension headers that a chain may hold, one of each kind.
fn extensions() -> Vec<(&'static str, Extension)> {
    vec![
        ("hop-by-hop", Extension::HopByHop(8)),
        ("routing type 2", Extension::Routing(2, 24)),
        ("routing type 4", Extension::Routing(4, 24)),
        ("atomic fragment", Extension::Fragment(0, false, 9)),
        ("authentication", Extension::Authentication(24)),
        ("destination options", Extension::DestinationOptions(16)),
        ("mobility", Extension::Other(135, 8)),
        ("HIP", Extension::Other(139, 8)),
        ("shim6", Extension::Other(140, 8)),
    ]
}

/// Everything that may be wrapped around an allowed packet without making it another one.
fn wraps() -> Vec<(String, Wrap)> {
    let mut list: Vec<(String, Wrap)> = Vec::new();
    let tags: [(&str, Tag); 6] = [
        ("untagged", |link| link),
        ("802.1Q", |link| link.vlan(100)),
        ("802.1ad", |link| link.service_vlan(200)),
        ("QinQ", |link| link.service_vlan(200).vlan(100)),
        ("two 802.1Q tags", |link| link.vlan(1).vlan(4094)),
        ("priority tag", |link| link.tag(VLAN, 0xe000)),
    ];
    for (name, tag) in tags {
        list.push((
            format!("IPv4, {name}"),
            Box::new(move |tcp| vec![tag(link()).ipv4(&v4(tcp))]),
        ));
        list.push((
            format!("IPv6, {name}"),
            Box::new(move |tcp| vec![tag(link()).ipv6(&v6(tcp))]),
        ));
    }
    for size in (4..=40).step_by(4) {
        let wrap = move |tcp: &Tcp| vec![link().ipv4(&v4(tcp).options(&vec![1; size]))];
        list.push((format!("{size} bytes of IPv4 options"), Box::new(wrap)));
    }
    for (name, extension) in extensions() {
        let wrap = move |tcp: &Tcp| vec![link().ipv6(&v6(tcp).extension(extension.clone()))];
        list.push((name.to_owned(), Box::new(wrap)));
    }
    let eight = |tcp: &Tcp| {
        let chain = extensions().into_iter().take(8);
        vec![link().ipv6(&chain.fold(v6(tcp), |packet, (_, header)| packet.extension(header)))]
    };
    list.push(("a chain of eight".into(), Box::new(eight)));
    let options = |tcp: &Tcp| {
        let chain = (0..8).fold(v6(tcp), |packet, _| {
            packet.extension(Extension::DestinationOptions(264))
        });
        vec![link().ipv6(&chain)]
    };
    list.push(("a chain of eight, 2 KiB long".into(), Box::new(options)));
    let train4 = |tcp: &Tcp| {
        let packet = v4(&tcp.clone().payload(&[0x55; 700])).id(77);
        packet
            .fragments(256)
            .iter()
            .map(|part| link().ipv4(part))
            .collect()
    };
    list.push(("IPv4 fragments".into(), Box::new(train4)));
    let train6 = |tcp: &Tcp| {
        let packet = v6(&tcp.clone().payload(&[0x55; 700]));
        packet
            .fragments(256, 78)
            .iter()
            .map(|part| link().ipv6(part))
            .collect()
    };
    list.push(("IPv6 fragments".into(), Box::new(train6)));
    list
}

#[test]
fn no_wrapping_opens_a_port_or_closes_one() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(WEB)?;
    let mut frames = 0;
    for (name, wrap) in wraps() {
        for port in [443, 444, 22, 0, 65_535] {
            // a train must not follow the first fragment of another port
            filter.clear_fragments()?;
            for (index, frame) in wrap(&Tcp::syn(40_000, port)).iter().enumerate() {
                let verdict = filter.ingress(frame)?;
                ensure!(
                    verdict.pass == (port == 443),
                    "{name}, port {port}, frame {index}: {verdict:?}"
                );
                frames += 1;
            }
        }
    }
    eprintln!("{frames} frames");
    filter.settle()
}

#[test]
fn all_tcp_flags_pass_to_the_open_port_and_to_no_other() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(WEB)?;
    for flags in 0..=255 {
        for port in [443, 80, 50_000] {
            let segment = Tcp::new(443, port, flags);
            for frame in [link().ipv4(&v4(&segment)), link().ipv6(&v6(&segment))] {
                let verdict = filter.ingress(&frame)?;
                let expected = if port == 443 {
                    "pass_rule"
                } else {
                    "drop_port"
                };
                ensure!(
                    verdict.reason.name() == expected,
                    "flags {flags:#04x}, port {port}: {verdict:?}"
                );
            }
        }
    }
    filter.settle()
}

#[test]
fn what_is_not_tcp_443_is_dropped() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(WEB)?;
    let syn = Tcp::syn(40_000, 443);
    let inner = v4(&syn).bytes();
    let mut refused: Vec<(String, Vec<u8>)> = vec![
        (
            "SCTP to 443".into(),
            link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Sctp::init(1, 443))),
        ),
        (
            "UDP to 443".into(),
            link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Udp::new(1, 443))),
        ),
        (
            "GRE around it".into(),
            link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Raw::gre(&inner))),
        ),
        (
            "ESP".into(),
            link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Raw::esp(1))),
        ),
        (
            "AH on IPv4".into(),
            link().ipv4(&Ipv4::new(REMOTE, OWN).raw(51, &inner)),
        ),
        (
            "a ping".into(),
            link().ipv4(&Ipv4::new(REMOTE, OWN).with(&Icmp::echo_request(1))),
        ),
        ("LLDP".into(), link().carry(LLDP, &[0; 46])),
        ("LLC".into(), link().llc()),
        (
            "three tags".into(),
            link().vlan(1).vlan(2).vlan(3).ipv4(&v4(&syn)),
        ),
        (
            "three 802.1ad tags".into(),
            link()
                .tag(SERVICE_VLAN, 1)
                .tag(SERVICE_VLAN, 2)
                .tag(VLAN, 3)
                .ipv4(&v4(&syn)),
        ),
        ("a chain of nine".into(), {
            let chain = (0..9).fold(v6(&syn), |packet, _| {
                packet.extension(Extension::DestinationOptions(8))
            });
            link().ipv6(&chain)
        }),
        ("hop-by-hop as the second".into(), {
            let chain = v6(&syn)
                .extension(Extension::DestinationOptions(8))
                .extension(Extension::HopByHop(8));
            link().ipv6(&chain)
        }),
        (
            "routing type 0".into(),
            link().ipv6(&v6(&syn).extension(Extension::Routing(0, 24))),
        ),
        ("doff 4".into(), link().ipv4(&v4(&syn.clone().doff(4)))),
        (
            "a tiny first fragment".into(),
            link().ipv4(&v4(&syn).fragments(8)[0]),
        ),
        (
            "a tiny first IPv6 fragment".into(),
            link().ipv6(&v6(&syn).fragments(16, 1)[0]),
        ),
        (
            "a later fragment without its first".into(),
            link().ipv4(&v4(&syn).fragments(8)[1]),
        ),
        (
            "a later fragment over the header".into(),
            link().ipv4(&Ipv4::new(REMOTE, OWN).raw(6, &[0; 24]).fragment(1, false)),
        ),
    ];
    for protocol in (0..=255).filter(|protocol| *protocol != 6) {
        refused.push((
            format!("protocol {protocol}"),
            link().ipv4(&Ipv4::new(REMOTE, OWN).raw(protocol, &inner)),
        ));
        let name = format!("next header {protocol}");
        refused.push((
            name,
            link().ipv6(&Ipv6::new(REMOTE6, OWN6).raw(protocol, &[0; 64])),
        ));
    }
    for ethertype in (0..=0xffff_u16)
        .step_by(7)
        .filter(|number| ![0x0800, 0x86dd, 0x0806].contains(number))
    {
        refused.push((
            format!("ethertype {ethertype:#06x}"),
            link().carry(ethertype, &inner),
        ));
    }
    for (name, frame) in &refused {
        let verdict = filter.ingress(frame)?;
        ensure!(!verdict.pass, "{name}: {verdict:?}");
    }
    eprintln!("{} frames refused", refused.len());
    filter.settle()
}

#[test]
fn a_frame_cut_at_any_byte_is_dropped() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(WEB)?;
    let mut cuts = 0;
    for (name, wrap) in wraps()
        .iter()
        .filter(|(name, _)| !name.contains("fragments"))
    {
        for frame in wrap(
            &Tcp::syn(40_000, 443)
                .options(&[1; 4])
                .payload(b"0123456789"),
        ) {
            ensure!(filter.ingress(&frame)?.pass, "{name}: dropped as a whole");
            // below 14 bytes the kernel runs no program
            for length in 14..frame.len() {
                let verdict = filter.ingress(&frame[..length])?;
                ensure!(
                    !verdict.pass,
                    "{name} cut to {length} of {} bytes: {verdict:?}",
                    frame.len()
                );
                cuts += 1;
            }
        }
    }
    eprintln!("{cuts} cuts; the kernel refuses to run the program below 14 bytes");
    filter.settle()
}

/// A jumbo frame lies in several pages; a header that is not in the first is not read, so not passed.
#[test]
fn a_jumbo_frame_is_judged_by_its_headers() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(WEB)?;
    for (port, pass) in [(443, true), (80, false)] {
        for size in [1446, 3600, 8946, 8961] {
            let frame = link().ipv4(&v4(&Tcp::ack(40_000, port).payload(&vec![0x55; size])));
            let verdict = filter.ingress(&frame)?;
            ensure!(
                verdict.pass == pass,
                "{size} bytes to port {port}: {verdict:?}"
            );
        }
    }
    split_headers(&mut filter)
}

fn split_headers(filter: &mut Filter) -> Result<()> {
    let frame = link().ipv4(&v4(&Tcp::ack(40_000, 443).payload(&[0x55; 3000])));
    let headers = 14 + 20 + 20;
    for linear in 14..=headers {
        match filter.ingress_split(&frame, linear) {
            Ok(verdict) => ensure!(
                verdict.pass == (linear == headers),
                "{linear} bytes of the frame readable: {verdict:?}"
            ),
            Err(error) if error.root_cause().to_string().contains("Invalid argument") => {
                eprintln!("this kernel does not run programs on frames with a short first part");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
