//! What one packet costs: the filter beside an empty program, xdp-filter and the kernel's LPM trie.

use anyhow::Result;
use serde::Serialize;

use super::filter::Filter;
use super::goals;
use super::isolation::isolated;
use super::measure::{self, Effort};
use super::report::{self, Row, Shown};
use super::subjects::{self, Fronts, Programs};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Packets {
    /// Rounds and repetitions behind `packets`, then behind `sources`.
    effort: [Effort; 2],
    /// Cost per packet.
    packets: Vec<Row>,
    /// Cost per packet behind a program that sets the source address.
    sources: Vec<Row>,
}

/// Random sources touch megabytes of tables. A run has to be long enough that most of it finds them in the caches as a
/// flood would, and not as the program measured before it left them.
const VARIED: Effort = Effort {
    rounds: 21,
    repeat: 1_000_000,
};

/// Measures everything.
pub fn measure(quick: bool) -> Result<Packets> {
    let (effort, varied_effort) = if quick {
        (
            Effort {
                rounds: 15,
                repeat: 20_000,
            },
            Effort {
                rounds: 5,
                repeat: 200_000,
            },
        )
    } else {
        (
            Effort {
                rounds: 101,
                repeat: 100_000,
            },
            VARIED,
        )
    };
    isolated(|| {
        let directory = tempfile::tempdir()?;
        let (programs, mut filters) = Programs::load(directory.path())?;
        let mut each_round = || filters.iter_mut().try_for_each(Filter::renew_events);
        let fixed = subjects::fixed(&programs)?;
        let samples = measure::rounds("packets", &fixed, effort, &mut each_round)?;
        let packets = report::rows(&fixed, &samples);

        let fronts = Fronts::new(&programs)?;
        let varied = fronts.subjects();
        let samples = measure::rounds(
            "packets of many sources",
            &varied,
            varied_effort,
            &mut each_round,
        )?;
        Ok(Packets {
            effort: [effort, varied_effort],
            packets,
            sources: report::rows(&varied, &samples),
        })
    })
}

/// The row of xdp-filter that does the same to a packet.
fn beside(id: &str) -> Option<&'static str> {
    Some(match id {
        "edge_syn_allowed" | "edge_ack_allowed" => "xdp_filter_tcp_allowed",
        "edge_syn_refused" | "edge_ack_refused" | "monitor_syn_refused" => "xdp_filter_tcp_refused",
        "edge_udp_refused" => "xdp_filter_udp_refused",
        "edge_syn6_allowed" => "xdp_filter_tcp6_allowed",
        "edge_syn6_refused" => "xdp_filter_tcp6_refused",
        "edge_vlan" => "xdp_filter_vlan",
        _ => return None,
    })
}

impl Packets {
    /// As tables, and what goals are judged by.
    pub fn shown(&self) -> Shown {
        let [fixed, varied] = self.effort;
        Shown {
            tables: vec![
                report::table(
                    "One packet, ns (net: less the empty program)",
                    fixed,
                    &self.packets,
                    beside,
                ),
                report::table(
                    "Source set by a program in front, ns (net: less the same before an empty program)",
                    varied,
                    &self.sources,
                    beside,
                ),
            ],
            measured: goals::packets(&self.packets, &self.sources),
            ..Shown::default()
        }
    }
}
