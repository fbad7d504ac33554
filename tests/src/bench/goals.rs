//! What the figures are held against.

use super::loading::Loading;
use super::report::{Goal, Row};

/// Every goal, met or not.
pub fn all(packets: &[Row], sources: &[Row], loading: &[Loading]) -> Vec<Goal> {
    let median = |id: &str| {
        packets
            .iter()
            .find(|row| row.id == id)
            .map_or(f64::NAN, |row| row.median)
    };
    let net = |id: &str| {
        packets
            .iter()
            .chain(sources)
            .find(|row| row.id == id)
            .map_or(f64::NAN, |row| row.net)
    };
    // 1 rule asks for one prefix: the same look-up, and nearly every source is settled by the root
    let ours = net("group_random") - net("one_rule_random");
    let mut goals = vec![
        Goal::at_most(
            "TCP SYN allowed, of xdp-filter",
            median("edge_syn_allowed") / median("xdp_filter_tcp_allowed"),
            1.0,
        ),
        Goal::at_most(
            "TCP ACK allowed, of xdp-filter",
            median("edge_ack_allowed") / median("xdp_filter_tcp_allowed"),
            1.0,
        ),
        Goal::at_most(
            "TCP SYN refused, of xdp-filter",
            median("edge_syn_refused") / median("xdp_filter_tcp_refused"),
            1.0,
        ),
        Goal::at_most(
            "TCP ACK refused, of xdp-filter",
            median("edge_ack_refused") / median("xdp_filter_tcp_refused"),
            1.0,
        ),
        Goal::at_most(
            "the same, net of the empty program: allowed",
            net("edge_syn_allowed") / net("xdp_filter_tcp_allowed"),
            0.75,
        ),
        Goal::at_most(
            "the same, net of the empty program: refused",
            net("edge_syn_refused") / net("xdp_filter_tcp_refused"),
            0.75,
        ),
        Goal::at_most(
            "random sources, of one source: allowed",
            net("edge_allowed_random") / net("edge_allowed_one"),
            1.5,
        ),
        Goal::at_most(
            "random sources, of one source: refused",
            net("edge_refused_random") / net("edge_refused_one"),
            1.5,
        ),
        Goal::at_most(
            "scans counted, ns a refused SYN of random sources",
            net("edge_refused_random"),
            100.0,
        ),
        Goal::at_most(
            "the same, random ports as well",
            net("edge_refused_ports"),
            100.0,
        ),
        Goal::at_most(
            "scans counted, ns a refused datagram of random sources",
            net("edge_udp_refused_random"),
            100.0,
        ),
        Goal::at_most(
            "random sources and ports, of one source: refused SYN",
            net("edge_refused_ports") / net("edge_refused_one"),
            1.5,
        ),
        Goal::at_most(
            "random sources, of one source: refused datagram",
            net("edge_udp_refused_random") / net("edge_udp_refused_one"),
            1.5,
        ),
        Goal::at_most(
            "65,536 blocks, ns on top: SYN allowed, one source",
            net("blocks_allowed_one") - net("edge_allowed_one"),
            10.0,
        ),
        Goal::at_most(
            "65,536 blocks, ns on top: SYN allowed, random sources",
            net("blocks_allowed_random") - net("edge_allowed_random"),
            30.0,
        ),
        Goal::at_least(
            "LPM trie of 100,000 prefixes, random sources: of our look-up",
            (net("one_rule_trie_random") - net("one_rule_random")) / ours,
            8.0,
        ),
        Goal::at_least(
            "the same, the trie alone in a program of its own",
            (net("trie_random") - net("no_trie_random")) / ours,
            8.0,
        ),
        Goal::at_most(
            "martians and own addresses refused, of not: allowed",
            median("edge_syn_allowed") / median("any_syn_allowed"),
            1.03,
        ),
        Goal::at_most(
            "martians and own addresses refused, of not: refused",
            median("edge_syn_refused") / median("any_syn_refused"),
            1.03,
        ),
        Goal::at_most(
            "strict reverse path, ns on top: allowed",
            median("strict_syn_allowed") - median("edge_syn_allowed"),
            10.0,
        ),
        Goal::at_most(
            "strict reverse path, ns on top: reply",
            median("strict_reply") - median("edge_reply"),
            10.0,
        ),
        Goal::at_most(
            "1,000 rules, of 1 rule: allowed",
            median("many_rules") / median("one_rule"),
            1.1,
        ),
        Goal::at_most(
            "1,000 rules, of 1 rule: refused",
            median("many_rules_refused") / median("one_rule_refused"),
            1.1,
        ),
    ];
    for row in loading {
        goals.push(Goal::at_most(
            &format!("{} prefixes put in force, of nft -f", row.prefixes),
            row.push / row.nft,
            0.2,
        ));
    }
    goals
}
