//! What the figures of test runs are judged by: formulas, by the names of limits. The limits stand in
//! tests/bench-limits.toml.

use super::report::Row;

/// A figure that a limit is held against.
pub type Measured = (&'static str, f64);

/// Of the cost of packets: `packets` always the same one, `sources` behind a program that sets the source.
pub fn packets(packets: &[Row], sources: &[Row]) -> Vec<Measured> {
    let row = |id: &str| packets.iter().chain(sources).find(|row| row.id == id);
    let median = |id: &str| row(id).map_or(f64::NAN, |row| row.median);
    let net = |id: &str| row(id).map_or(f64::NAN, |row| row.net);
    // 1 rule asks for one prefix: the same look-up, and nearly every source is settled by the root
    let ours = net("group_random") - net("one_rule_random");
    vec![
        (
            "allowed_net_of_xdp_filter",
            net("edge_syn_allowed") / net("xdp_filter_tcp_allowed"),
        ),
        (
            "refused_net_of_xdp_filter",
            net("edge_syn_refused") / net("xdp_filter_tcp_refused"),
        ),
        ("refused_over_empty_ns", net("edge_syn_refused")),
        (
            "syn_allowed_of_xdp_filter",
            median("edge_syn_allowed") / median("xdp_filter_tcp_allowed"),
        ),
        (
            "ack_allowed_of_xdp_filter",
            median("edge_ack_allowed") / median("xdp_filter_tcp_allowed"),
        ),
        (
            "syn_refused_of_xdp_filter",
            median("edge_syn_refused") / median("xdp_filter_tcp_refused"),
        ),
        (
            "ack_refused_of_xdp_filter",
            median("edge_ack_refused") / median("xdp_filter_tcp_refused"),
        ),
        (
            "random_sources_allowed_of_one",
            net("edge_allowed_random") / net("edge_allowed_one"),
        ),
        (
            "random_sources_refused_of_one",
            net("edge_refused_random") / net("edge_refused_one"),
        ),
        (
            "random_ports_refused_of_one",
            net("edge_refused_ports") / net("edge_refused_one"),
        ),
        (
            "random_sources_udp_of_one",
            net("edge_udp_refused_random") / net("edge_udp_refused_one"),
        ),
        (
            "scans_counted_random_sources_ns",
            net("edge_refused_random"),
        ),
        ("scans_counted_random_ports_ns", net("edge_refused_ports")),
        ("scans_counted_udp_ns", net("edge_udp_refused_random")),
        (
            "blocks_one_source_ns",
            net("blocks_allowed_one") - net("edge_allowed_one"),
        ),
        (
            "blocks_random_sources_ns",
            net("blocks_allowed_random") - net("edge_allowed_random"),
        ),
        (
            "trie_in_place_of_look_up",
            (net("one_rule_trie_random") - net("one_rule_random")) / ours,
        ),
        (
            "trie_alone_of_look_up",
            (net("trie_random") - net("no_trie_random")) / ours,
        ),
        (
            "martians_allowed_of_not",
            median("edge_syn_allowed") / median("any_syn_allowed"),
        ),
        (
            "martians_refused_of_not",
            median("edge_syn_refused") / median("any_syn_refused"),
        ),
        (
            "strict_path_allowed_ns",
            median("strict_syn_allowed") - median("edge_syn_allowed"),
        ),
        (
            "strict_path_reply_ns",
            median("strict_reply") - median("edge_reply"),
        ),
        (
            "rules_1000_allowed_of_one",
            median("many_rules") / median("one_rule"),
        ),
        (
            "rules_1000_refused_of_one",
            median("many_rules_refused") / median("one_rule_refused"),
        ),
    ]
}
