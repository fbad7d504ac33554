//! Events made by hand, whole and cut at every length.

use etherparse::{IpFragOffset, Ipv4Header, PacketBuilder, ip_number};

use super::*;

/// The bytes the kernel would send.
pub(crate) fn raw(reason: Reason, rule: u16, frame: &[u8]) -> Vec<u8> {
    let captured = frame.len().min(EVENT_BYTES);
    let mut bytes = vec![0; size_of::<Event>()];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(offset_of!(EventHeader, ifindex), &3_u32.to_ne_bytes());
    put(
        offset_of!(EventHeader, frame_length),
        &(frame.len() as u32).to_ne_bytes(),
    );
    put(
        offset_of!(EventHeader, captured),
        &(captured as u32).to_ne_bytes(),
    );
    put(offset_of!(EventHeader, rule), &rule.to_ne_bytes());
    put(offset_of!(EventHeader, reason), &[reason as u8]);
    put(HEADER, &frame[..captured]);
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Result<EventRecord, DecodeError> {
    EventRecord::decode(
        bytes,
        |index| (index == 3).then(|| "eth0".to_owned()),
        |slot| Some(format!("rule-{slot}")),
        |_, _| None,
    )
}

fn ethernet() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
}

pub(crate) fn syn() -> Vec<u8> {
    let mut frame = Vec::new();
    ethernet()
        .ipv4([192, 0, 2, 1], [198, 51, 100, 7], 64)
        .tcp(4242, 22, 1, 1024)
        .syn()
        .write(&mut frame, &[])
        .unwrap();
    frame
}

/// The line without its time.
fn line(reason: Reason, rule: u16, frame: &[u8]) -> String {
    let line = decode(&raw(reason, rule, frame)).unwrap().render();
    line.split_once(' ').unwrap().1.to_owned()
}

#[test]
fn tcp_over_ipv4() {
    assert_eq!(
        line(Reason::DropPort, 0, &syn()),
        "eth0 drop_port tcp 192.0.2.1:4242 > 198.51.100.7:22 [S], 54 bytes"
    );
    let record = decode(&raw(Reason::DropDenied, 7, &syn())).unwrap();
    let value = serde_json::to_value(&record).unwrap();
    assert_eq!(value["rule"], "rule-7");
    assert_eq!(value["headers"]["source_mac"], "02:00:00:00:00:01");
    assert_eq!(value["headers"]["protocol"], 6);
    assert_eq!(value["headers"]["tcp_flags"], "S");
    assert_eq!(value["monitored"], false);
    assert!(value.get("bytes").is_none());
    let back: EventRecord = serde_json::from_value(value).unwrap();
    assert_eq!(back, record);
}

#[test]
fn udp_over_ipv6_in_two_vlans() {
    let mut frame = Vec::new();
    ethernet()
        .double_vlan(100.try_into().unwrap(), 200.try_into().unwrap())
        .ipv6([1; 16], [2; 16], 1)
        .udp(53, 5353)
        .write(&mut frame, &[0; 300])
        .unwrap();
    let shown = line(Reason::DropSource, 0, &frame);
    assert_eq!(
        shown,
        "eth0 drop_source udp [101:101:101:101:101:101:101:101]:53 > [202:202:202:202:202:202:202:202]:5353 \
         vlan 100.200, 370 bytes",
        "longer than what is sampled, and no problem"
    );
}

#[test]
fn icmp_arp_and_other_ethertypes() {
    let mut frame = Vec::new();
    ethernet()
        .ipv4([192, 0, 2, 1], [198, 51, 100, 7], 64)
        .icmpv4_echo_request(1, 2)
        .write(&mut frame, &[])
        .unwrap();
    assert_eq!(
        line(Reason::DropIcmp, 0, &frame),
        "eth0 drop_icmp icmp 192.0.2.1 > 198.51.100.7 type 8 code 0, 42 bytes"
    );

    let mut frame = vec![255; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([
        2, 0, 0, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 9,
    ]);
    assert_eq!(
        line(Reason::DropEthertype, 0, &frame),
        "eth0 drop_ethertype arp who has 192.0.2.9, asks 192.0.2.1, 42 bytes"
    );

    let frame = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x88, 0xcc, 0, 0];
    assert_eq!(
        line(Reason::DropEthertype, 0, &frame),
        "eth0 drop_ethertype ethertype 0x88cc 02:02:02:02:02:02 > 01:01:01:01:01:01, 16 bytes"
    );
}

#[test]
fn fragments_and_sctp_show_ports_where_they_are() {
    let fragment = |offset: u16, protocol, payload: &[u8]| {
        let mut header = Ipv4Header::new(
            payload.len() as u16,
            64,
            protocol,
            [192, 0, 2, 1],
            [198, 51, 100, 7],
        )
        .unwrap();
        header.identification = 0xbeef;
        header.more_fragments = offset == 0;
        header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
        frame.extend(header.to_bytes());
        frame.extend(payload);
        frame
    };
    let ports = [0x10, 0x92, 0, 22, 0, 0, 0, 0];
    let first = line(
        Reason::DropFragment,
        0,
        &fragment(0, ip_number::UDP, &ports),
    );
    assert!(
        first.contains("udp 192.0.2.1:4242 > 198.51.100.7:22 fragment 0xbeef at 0+"),
        "{first}"
    );
    let later = line(
        Reason::DropFragment,
        0,
        &fragment(3, ip_number::UDP, &ports),
    );
    assert!(
        later.contains("udp 192.0.2.1 > 198.51.100.7 fragment 0xbeef at 24,"),
        "{later}"
    );
    let mut frame = Vec::new();
    ethernet()
        .ipv4([192, 0, 2, 1], [198, 51, 100, 7], 64)
        .write(&mut frame, ip_number::SCTP, &[&ports[..], &[0; 4]].concat())
        .unwrap();
    let sctp = line(Reason::DropPort, 0, &frame);
    assert!(
        sctp.contains("sctp 192.0.2.1:4242 > 198.51.100.7:22, "),
        "{sctp}"
    );
}

#[test]
fn cut_at_every_length() {
    let whole = raw(Reason::DropMalformed, 9, &syn());
    for length in 0..whole.len() {
        let decoded = decode(&whole[..length]);
        assert_eq!(
            decoded.is_err(),
            length < HEADER,
            "{length} bytes of an event"
        );
    }
    for length in 0..syn().len() {
        let record = decode(&raw(Reason::DropMalformed, 0, &syn()[..length])).unwrap();
        assert!(record.problem.is_some(), "{length} bytes of a frame");
        assert_eq!(record.bytes.as_ref().unwrap().len(), length * 2);
        assert_eq!(
            record.headers.source.is_some(),
            length >= 34,
            "{length} bytes of a frame"
        );
        assert_eq!(
            record.headers.destination_port.is_some(),
            length >= 38,
            "{length} bytes of a frame"
        );
        assert!(!record.render().contains('\n'));
    }
}

#[test]
fn lengths_and_numbers_are_not_trusted() {
    let mut bytes = raw(Reason::DropPort, 0, &syn());
    bytes[offset_of!(EventHeader, captured)..][..4].copy_from_slice(&u32::MAX.to_ne_bytes());
    assert!(decode(&bytes).is_ok());
    bytes[offset_of!(EventHeader, reason)] = 250;
    assert_eq!(decode(&bytes), Err(DecodeError::Reason(250)));
    assert_eq!(decode(&[0; 5]), Err(DecodeError::Short(5)));
    let unknown = EventRecord::decode(
        &raw(Reason::DropPort, 5, &syn()),
        |_| None,
        |_| None,
        |_, _| None,
    )
    .unwrap();
    assert_eq!((unknown.interface.as_str(), unknown.rule), ("if3", None));
}

#[test]
fn any_bytes_are_survived() {
    let mut seed = 1_u32;
    let mut random = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    };
    for ethertype in [[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0], [0x88, 0xe5]] {
        for _ in 0..2000 {
            let mut frame: Vec<u8> = (0..EVENT_BYTES).map(|_| random()).collect();
            frame[12..14].copy_from_slice(&ethertype);
            frame.truncate(random() as usize);
            let line = decode(&raw(Reason::DropMalformed, 0, &frame))
                .unwrap()
                .render();
            assert!(line.chars().all(|c| !c.is_control()));
        }
    }
}
