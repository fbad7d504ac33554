//! `edgefilter explain`: what would become of a packet.

use anyhow::{Context, Result};
use filter_common::flow::tcp;

use super::{Explain, Globals, Outcome, Output, daemon};
use crate::explain::frame::{Content, Mac};
use crate::explain::{Description, Question, Subject, bytes, pcap};
use crate::policy::hex;
use crate::report;

/// Letters of TCP flags, as tcpdump and nmap write them.
const FLAGS: [(char, u8); 6] = [
    ('F', tcp::FIN),
    ('S', tcp::SYN),
    ('R', tcp::RST),
    ('P', tcp::PSH),
    ('A', tcp::ACK),
    ('U', tcp::URG),
];

/// Asks the daemon about a packet.
pub fn explain(globals: &Globals, arguments: &Explain, out: &mut Output<'_>) -> Result<Outcome> {
    let server = &globals.daemon()?;
    let question = question(arguments)?;
    daemon::ask(globals, async {
        let explanation = question.ask(server).await?;
        out.show(&explanation, |colour| {
            report::explain::explanation(&explanation, colour)
        })?;
        Ok(Outcome::Done)
    })
}

fn question(arguments: &Explain) -> Result<Question> {
    let packet = if let Some(text) = &arguments.hex {
        Subject::Frame(text.clone())
    } else if let Some(path) = &arguments.pcap {
        Subject::Frame(hex(&pcap::nth(path, arguments.nth)?))
    } else {
        Subject::Described(Description {
            from: arguments.from,
            to: arguments.to,
            content: content(arguments).context("the packet carries nothing")?,
            vlan: arguments.vlan,
            mac: arguments.mac,
            hop_limit: arguments.ttl,
            fragment: arguments.fragment,
        })
    };
    Ok(Question {
        interface: arguments.iface.clone(),
        out: arguments.out,
        packet,
    })
}

fn content(arguments: &Explain) -> Option<Content> {
    let source = arguments.sport;
    let tcp = arguments.tcp.map(|destination| Content::Tcp {
        source,
        destination,
        flags: arguments.flags,
    });
    let udp = arguments.udp.map(|destination| Content::Udp {
        source,
        destination,
    });
    let icmp = arguments.icmp.map(|kind| Content::Icmp {
        kind,
        code: arguments.code,
    });
    tcp.or(udp)
        .or(icmp)
        .or(arguments.proto.map(Content::Protocol))
}

/// TCP flags by their letters.
pub(super) fn tcp_flags(text: &str) -> Result<u8, String> {
    text.chars().try_fold(0, |flags, letter| {
        FLAGS
            .iter()
            .find(|(known, _)| letter.eq_ignore_ascii_case(known))
            .map(|(_, bit)| flags | bit)
            .ok_or_else(|| format!("`{letter}` is none of F S R P A U"))
    })
}

/// An Ethernet address.
pub(super) fn mac(text: &str) -> Result<Mac, String> {
    bytes(text)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "not an Ethernet address such as 02:00:00:00:00:01".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn asked(words: &str) -> Question {
        let words = format!("edgefilter explain --iface eth0 {words}");
        let cli = Cli::try_parse_from(words.split(' ')).unwrap();
        let Command::Explain(arguments) = cli.command else {
            panic!("{words}");
        };
        question(&arguments).unwrap()
    }

    #[test]
    fn options_describe_a_packet() {
        let Question { packet, out, .. } = asked("--from 198.51.100.7 --tcp 443 --flags sa");
        let Subject::Described(described) = packet else {
            panic!("{packet:?}");
        };
        assert!(!out);
        assert_eq!(
            described.content,
            Content::Tcp {
                source: 50000,
                destination: 443,
                flags: tcp::SYN | tcp::ACK
            }
        );
        let frame = asked("--out --hex 0200").packet;
        assert_eq!(frame, Subject::Frame("0200".to_owned()));
    }

    #[test]
    fn what_makes_no_packet_is_wrong_usage() {
        for words in [
            "",
            "--tcp 443 --udp 53",
            "--tcp 443 --flags X",
            "--udp 53 --flags S",
            "--hex 00 --from 192.0.2.1",
            "--udp 53 --mac 02:00",
            "--pcap a.pcap --nth 0",
        ] {
            let all = format!("edgefilter explain --iface eth0 {words}");
            let parsed = Cli::try_parse_from(all.split_whitespace());
            assert!(parsed.is_err(), "{words}");
        }
    }
}
