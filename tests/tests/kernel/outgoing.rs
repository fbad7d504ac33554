//! What only packets on their way out can show: they are let go whatever they are, and packets yet
//! to be segmented note their flow although no length field can say how long they are.

use anyhow::{Result, ensure};
use edgefilter_tests::packets::{Ipv4, Ipv6, Tcp, link};
use edgefilter_tests::test_run::can_run;

use crate::{CLOSED, OWN, OWN6, REMOTE, REMOTE6, filter};

#[test]
fn a_packet_longer_than_its_length_field_notes_its_flow() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    let segment = Tcp::ack(50_000, 443).payload(&[0x55; 1400]);
    let mut v4 = link().ipv4(&Ipv4::new(OWN, REMOTE).with(&segment));
    // BIG TCP: total length 0 (IPv4, Linux 6.3), payload length 0 (IPv6)
    v4[16..18].fill(0);
    let mut v6 = link().ipv6(&Ipv6::new(OWN6, REMOTE6).with(&segment));
    v6[18..20].fill(0);
    let reply = Tcp::ack(443, 50_000);
    let back = [
        link().ipv4(&Ipv4::new(REMOTE, OWN).with(&reply)),
        link().ipv6(&Ipv6::new(REMOTE6, OWN6).with(&reply)),
    ];
    for (sent, answer) in [v4, v6].iter().zip(back) {
        ensure!(!filter.ingress(&answer)?.pass, "an answer to nothing");
        ensure!(filter.egress(sent)?, "the kernel refuses the frame");
        let verdict = filter.ingress(&answer)?;
        ensure!(verdict.reason.name() == "pass_reply", "{verdict:?}");
    }
    Ok(())
}

#[test]
fn nothing_is_held_back() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let mut filter = filter(CLOSED)?;
    // every return value but "go on" is an error of `egress`
    for seed in 0..20 {
        for step in edgefilter_tests::random::case(seed, 200).steps {
            filter.egress(&step.frame).or_else(|error| {
                // the kernel asks for one byte behind the Ethernet header
                if step.frame.len() < 15 {
                    Ok(false)
                } else {
                    Err(error)
                }
            })?;
        }
    }
    filter.settle()
}
