//! What the bench is told, in one place for the program that measures and for `cargo xtask bench` in front of it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// What a packet costs, beside an empty program, xdp-filter and the kernel's LPM trie
    Packets,
    /// The same packets on one processor, and on two at once
    Cores,
    /// What a packet costs against the number of rules, prefixes, flows and attackers
    Sizes,
    /// Prefixes put in force: time, memory, and packets delayed meanwhile
    Push,
    /// Processor time and memory of the daemon, idle and under a flood
    Daemon,
    /// The throughput of containers, by iperf3
    Containers,
    /// Packets a second dropped end to end, beside xdp-filter, nftables and iptables
    Drops,
    /// What a server answers while a flood is refused in front of it
    Goodput,
}

impl Bench {
    /// As it is typed.
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What is measured, and where the figures go.
#[derive(Clone, Debug, Args)]
pub struct Asked {
    /// What is measured; everything if nothing is named
    #[arg(value_name = "NAME")]
    pub names: Vec<Bench>,

    /// Fewer and shorter rounds: figures good to some 10-20 %
    #[arg(long)]
    pub quick: bool,

    /// Writes one JSON document; `-`: to standard output, instead of tables
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Ends with 1 if a figure is past its limit in tests/bench-limits.toml, and names it
    #[arg(long)]
    pub check: bool,
}

impl Asked {
    /// What was asked for, in the order in which it is measured.
    pub fn chosen(&self) -> Vec<Bench> {
        let all = Bench::value_variants().iter().copied();
        all.filter(|bench| self.names.is_empty() || self.names.contains(bench))
            .collect()
    }
}
