//! What the filter counts, as OpenMetrics text for Prometheus. Names end in `_total` where they only grow.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::status::Status;
use crate::dataplane::counters::{Count, Counters};

/// The media type of the text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is told, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// The kernel's counters.
    pub counters: Counters,
    /// What the daemon says of itself.
    pub status: Status,
    /// Control actions that could not be recorded since the daemon started.
    pub unrecorded: u64,
}

impl Metrics {
    /// The text, or nothing if it cannot be made.
    #[must_use]
    pub fn render(self) -> Option<String> {
        let mut registry = Registry::with_prefix("edgefilter");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        text::encode(&mut text, &registry).ok()?;
        Some(text)
    }
}

/// Labels of one sample.
type Labels<'a> = Vec<(&'a str, &'a str)>;

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counters = &self.counters;
        let by_reason = |pick: fn(&Count) -> u64| {
            counters.interfaces.iter().flat_map(move |interface| {
                interface.reasons.iter().map(move |(reason, count)| {
                    let labels = vec![("interface", interface.name.as_str()), ("reason", *reason)];
                    (labels, pick(count))
                })
            })
        };
        let mut counter = Family::new(&mut encoder, false);
        counter.write(
            "packets",
            "Packets by interface and by the one reason that decided about them",
            by_reason(|count| count.packets),
        )?;
        counter.write(
            "bytes",
            "Bytes of those packets",
            by_reason(|count| count.bytes),
        )?;
        counter.write(
            "would_drop_packets",
            "Packets that monitor mode let through although the policy drops them",
            counters.interfaces.iter().flat_map(|interface| {
                interface.would_drop.iter().map(|(reason, count)| {
                    let labels = vec![("interface", interface.name.as_str()), ("reason", *reason)];
                    (labels, count.packets)
                })
            }),
        )?;
        counter.write(
            "rule_packets",
            "Packets that a rule decided about",
            counters.rules.iter().map(|rule| {
                let labels = vec![
                    ("rule", rule.id.as_str()),
                    ("profile", rule.profile.as_str()),
                ];
                (labels, rule.packets)
            }),
        )?;
        counter.write(
            "probes",
            "Refused packets that are probes, by pattern",
            counters
                .patterns
                .iter()
                .map(|(pattern, count)| (vec![("pattern", *pattern)], *count)),
        )?;
        counter.one(
            "probes_shed",
            "Probes counted by pattern only, for want of budget or room",
            counters.probes_shed,
        )?;
        counter.one(
            "events_suppressed",
            "Sampled drops that were not reported, for want of budget or room",
            counters.events_suppressed,
        )?;
        counter.one(
            "unrecorded_actions",
            "Control actions missing in the audit record",
            self.unrecorded,
        )?;
        self.encode_state(&mut Family::new(&mut encoder, true))
    }
}

impl Metrics {
    fn encode_state(&self, gauge: &mut Family<'_, '_>) -> Result<(), std::fmt::Error> {
        let status = &self.status;
        let policy = status.policy.as_ref();
        gauge.one(
            "generation",
            "Tables put in force since the filter was first attached",
            status.generation,
        )?;
        gauge.one(
            "policy_generation",
            "Number of the policy in force among those that are kept",
            policy.map_or(0, |policy| policy.generation),
        )?;
        let sound = policy.is_some_and(|policy| policy.last_error.is_none());
        gauge.one(
            "policy_load_ok",
            "1 if the last attempt to load a policy succeeded",
            u64::from(sound),
        )?;
        gauge.one(
            "policy_rules",
            "Rules of the policy in force",
            policy.map_or(0, |policy| policy.rules as u64),
        )?;
        gauge.one(
            "policy_prefixes",
            "Distinct prefixes in the lists of the policy in force",
            policy.map_or(0, |policy| policy.prefixes as u64),
        )?;
        gauge.write(
            "interface_attached",
            "1 if the filter is in force on an interface that the policy names",
            status.interfaces.iter().map(|interface| {
                let labels = vec![("interface", interface.name.as_str())];
                (labels, u64::from(interface.attached))
            }),
        )?;
        let scans = status.scans.as_ref();
        gauge.one(
            "scans_open",
            "Scans that go on",
            scans.map_or(0, |scans| scans.open as u64),
        )?;
        gauge.one(
            "blocks",
            "Sources that are blocked",
            scans.map_or(0, |scans| scans.blocks as u64),
        )?;
        let entries = status.entries.as_ref();
        gauge.write(
            "entries",
            "Run-time entries, those to come included",
            [
                ("allow", entries.map_or(0, |entries| entries.allow as u64)),
                ("deny", entries.map_or(0, |entries| entries.deny as u64)),
            ]
            .map(|(kind, count)| (vec![("kind", kind)], count)),
        )?;
        gauge.one(
            "warnings",
            "Things that `edgefilter status` says somebody should look at",
            status.warnings.len() as u64,
        )
    }
}

/// Writes metrics of one kind.
struct Family<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
    gauge: bool,
}

impl<'a, 'b> Family<'a, 'b> {
    fn new(encoder: &'a mut DescriptorEncoder<'b>, gauge: bool) -> Self {
        Self { encoder, gauge }
    }

    fn one(&mut self, name: &str, help: &str, value: u64) -> Result<(), std::fmt::Error> {
        let kind = self.kind();
        let encoder = self.encoder.encode_descriptor(name, help, None, kind)?;
        if self.gauge {
            gauge(value).encode(encoder)
        } else {
            ConstCounter::new(value).encode(encoder)
        }
    }

    fn write<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> Result<(), std::fmt::Error> {
        let kind = self.kind();
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            let encoder = family.encode_family(&labels)?;
            if self.gauge {
                gauge(value).encode(encoder)?;
            } else {
                ConstCounter::new(value).encode(encoder)?;
            }
        }
        Ok(())
    }

    fn kind(&self) -> MetricType {
        if self.gauge {
            MetricType::Gauge
        } else {
            MetricType::Counter
        }
    }
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::counters::tests::sample;
    use crate::report::entries::EntryStatus;
    use crate::report::status::{InterfaceStatus, PolicyStatus};

    #[test]
    fn every_kind_of_sample() {
        let mut counters = sample();
        // the kernel allows such names
        counters.interfaces[1].name = "a\"b\\".to_owned();
        let status = Status {
            generation: 7,
            policy: Some(PolicyStatus {
                rules: 3,
                generation: 12,
                ..PolicyStatus::default()
            }),
            interfaces: vec![InterfaceStatus {
                name: "eth0".to_owned(),
                attached: true,
                ..InterfaceStatus::default()
            }],
            entries: Some(EntryStatus {
                allow: 2,
                ..EntryStatus::default()
            }),
            ..Status::default()
        };
        let metrics = Metrics {
            counters,
            status,
            unrecorded: 2,
        };
        let text = metrics.render().unwrap();
        for line in [
            "# TYPE edgefilter_packets counter",
            "edgefilter_packets_total{interface=\"eth0\",reason=\"pass_rule\"} 10",
            "edgefilter_bytes_total{interface=\"eth0\",reason=\"drop_port\"} 120",
            "edgefilter_packets_total{interface=\"a\\\"b\\\\\",reason=\"pass_reply\"} 5",
            "edgefilter_rule_packets_total{rule=\"https\",profile=\"edge\"} 10",
            "# TYPE edgefilter_generation gauge",
            "edgefilter_generation 7",
            "edgefilter_entries{kind=\"allow\"} 2",
            "edgefilter_policy_generation 12",
            "edgefilter_policy_load_ok 1",
            "edgefilter_policy_rules 3",
            "edgefilter_interface_attached{interface=\"eth0\"} 1",
            "edgefilter_unrecorded_actions_total 2",
            "edgefilter_scans_open 0",
        ] {
            assert!(
                text.lines().any(|known| known == line),
                "no {line}:\n{text}"
            );
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
