//! What is forgotten, and when: flows by their state, fragments after 30 seconds. Nobody waits: what
//! the programs noted is made older.

use anyhow::{Result, ensure};
use edgefilter_tests::packets::transport::{ACK, FIN, RST, SYN};
use edgefilter_tests::packets::{Icmp, Ipv4, Raw, Sctp, Tcp, Transport, Udp, link};
use edgefilter_tests::test_run::{Filter, can_run, clock};

use crate::{CLOSED, OWN, REMOTE, WEB, filter};

enum Way {
    Out(Box<dyn Transport>),
    In(Box<dyn Transport>),
}

fn run(filter: &mut Filter, packet: &Way) -> Result<bool> {
    match packet {
        Way::Out(transport) => {
            filter.egress(&link().ipv4(&Ipv4::new(OWN, REMOTE).with(transport.as_ref())))
        }
        Way::In(transport) => Ok(filter
            .ingress(&link().ipv4(&Ipv4::new(REMOTE, OWN).with(transport.as_ref())))?
            .pass),
    }
}

fn out(flags: u8) -> Way {
    Way::Out(Box::new(Tcp::new(50_000, 443, flags)))
}

fn back(flags: u8) -> Way {
    Way::In(Box::new(Tcp::new(443, 50_000, flags)))
}

/// What happens, seconds it is remembered, and a packet that comes in only as long as it is.
fn states() -> Vec<(&'static str, Vec<Way>, u64, Way)> {
    let udp = || Way::Out(Box::new(Udp::new(50_000, 53)));
    let answer = || Way::In(Box::new(Udp::new(53, 50_000)));
    vec![
        ("SYN sent", vec![out(SYN)], 120, back(SYN | ACK)),
        (
            "established",
            vec![out(SYN), back(SYN | ACK), out(ACK)],
            432_000,
            back(ACK),
        ),
        (
            "a connection met midway",
            vec![out(ACK)],
            432_000,
            back(ACK),
        ),
        (
            "FIN sent",
            vec![out(SYN), back(SYN | ACK), out(FIN | ACK)],
            120,
            back(ACK),
        ),
        (
            "FIN received",
            vec![out(SYN), back(SYN | ACK), back(FIN | ACK)],
            432_000,
            back(ACK),
        ),
        (
            "FIN received, then sent",
            vec![out(SYN), back(SYN | ACK), back(FIN | ACK), out(FIN | ACK)],
            120,
            back(ACK),
        ),
        (
            "both FIN",
            vec![out(SYN), back(SYN | ACK), out(FIN | ACK), back(FIN | ACK)],
            120,
            back(ACK),
        ),
        (
            "reset by them",
            vec![out(SYN), back(SYN | ACK), back(RST)],
            120,
            back(ACK),
        ),
        (
            "reset by us",
            vec![out(SYN), back(SYN | ACK), out(RST)],
            10,
            back(ACK),
        ),
        (
            "reset by them, then by us",
            vec![out(SYN), back(SYN | ACK), back(RST), out(RST)],
            10,
            back(ACK),
        ),
        (
            "reset, then revived",
            vec![out(SYN), back(SYN | ACK), back(RST), out(ACK)],
            432_000,
            back(ACK),
        ),
        ("UDP unanswered", vec![udp()], 30, answer()),
        ("UDP answered", vec![udp(), answer()], 120, answer()),
        (
            "echo",
            vec![Way::Out(Box::new(Icmp::echo_request(7)))],
            30,
            Way::In(Box::new(Icmp::echo_reply(7))),
        ),
        (
            "SCTP",
            vec![Way::Out(Box::new(Sctp::init(50_000, 9)))],
            600,
            Way::In(Box::new(Sctp::init(9, 50_000))),
        ),
        (
            "GRE",
            vec![Way::Out(Box::new(Raw::gre(&[])))],
            600,
            Way::In(Box::new(Raw::gre(&[]))),
        ),
    ]
}

#[test]
fn a_flow_is_remembered_as_long_as_its_state_says() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    for (name, packets, seconds, probe) in states() {
        if !clock::reaches_back((seconds + 1) * 1000)? {
            // an established flow: five days
            eprintln!("not shown, the machine has not been up for {seconds} s: {name}");
            continue;
        }
        for (age, alive) in [(seconds - 1, true), (seconds + 1, false)] {
            filter.clear_flows()?;
            for packet in &packets {
                ensure!(
                    run(&mut filter, packet)?,
                    "{name}: an earlier packet does not pass"
                );
            }
            filter.advance(age * 1000)?;
            ensure!(
                run(&mut filter, &probe)? == alive,
                "{name}, {age} s later: alive should be {alive}"
            );
        }
    }
    filter.settle()
}

/// The five days cannot be shown on a young machine; that it is far more than the others can.
#[test]
fn an_established_connection_outlives_all_other_states() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    if !clock::reaches_back(620_000)? {
        eprintln!("not shown, the machine has not been up for 620 s");
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    let open = || vec![out(SYN), back(SYN | ACK)];
    // anybody can forge the other side's FIN
    let half = || vec![out(SYN), back(SYN | ACK), back(FIN | ACK)];
    for packets in [open(), half()] {
        filter.clear_flows()?;
        for packet in packets {
            ensure!(run(&mut filter, &packet)?, "does not pass");
        }
        filter.advance(610_000)?;
        ensure!(run(&mut filter, &back(ACK))?, "forgotten after ten minutes");
    }
    Ok(())
}

#[test]
fn a_packet_renews_its_flow() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    let answer = Way::In(Box::new(Udp::new(53, 50_000)));
    ensure!(
        run(&mut filter, &Way::Out(Box::new(Udp::new(50_000, 53))))?,
        "refused"
    );
    ensure!(run(&mut filter, &answer)?, "the first answer");
    for _ in 0..5 {
        filter.advance(119_000)?;
        ensure!(run(&mut filter, &answer)?, "not renewed");
    }
    ensure!(filter.flows()? == 1, "one flow");
    Ok(())
}

#[test]
fn fragments_are_forgotten_after_30_seconds() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(WEB)?;
    let packet = Ipv4::new(REMOTE, OWN)
        .with(&Tcp::ack(40_000, 443).payload(&[0x55; 600]))
        .id(5);
    let parts: Vec<_> = packet
        .fragments(256)
        .iter()
        .map(|part| link().ipv4(part))
        .collect();
    for (age, alive) in [(29_000, true), (31_000, false)] {
        filter.clear_fragments()?;
        ensure!(filter.ingress(&parts[0])?.pass, "the first");
        filter.advance(age)?;
        ensure!(
            filter.ingress(&parts[1])?.pass == alive,
            "{age} ms after the first"
        );
    }
    Ok(())
}
