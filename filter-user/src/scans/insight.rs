//! What is far off its own recent baseline: drops, new scans, one source's refused packets.
//!
//! Pure: the clock is given, and only `since_boot` is reckoned with. Owns the baselines. Must never grow with what an
//! attacker sends: it follows at most [`SOURCES`] sources, each in less than half a KiB.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use ipnet::IpNet;

use super::Moment;
use super::record::Alert;
use crate::policy::Alerts;
use crate::report::time::rfc3339;

/// Sources that are followed at once.
pub const SOURCES: usize = 4096;
/// Alerts about single sources within one quiet time, together: beyond, the alerts about drops and scans tell.
pub const SOURCE_ALERTS: usize = 10;

/// Nothing is alarming before a subject was watched for so long: there is no baseline yet.
const WARM_UP: Duration = Duration::from_mins(1);
/// How long a baseline remembers: what was measured so long ago counts 1/e of what is measured now.
const MEMORY: Duration = Duration::from_mins(10);
/// What drops and a source's packets are averaged over, so that one burst is no alarm.
const PACKETS_OVER: Duration = Duration::from_secs(10);
/// What new scans are averaged over.
const SCANS_OVER: Duration = Duration::from_mins(1);
/// Points in time that are remembered within that.
const POINTS: u32 = 8;
/// While something is far off, it becomes the usual this many times more slowly.
const RELUCTANCE: f64 = 4.0;

/// Counters as they stand; one that is smaller than before began anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets dropped, of all sources.
    pub drops: u64,
    /// Scans opened.
    pub scans: u64,
}

/// Baselines, and what was said about them.
#[derive(Debug)]
pub struct Insight {
    settings: Alerts,
    drops: Subject,
    scans: Subject,
    sources: HashMap<IpNet, Subject>,
    /// When alerts about single sources were raised.
    raised: VecDeque<Duration>,
}

impl Insight {
    /// Begins without a baseline.
    #[must_use]
    pub fn new(settings: Alerts) -> Self {
        Self {
            settings,
            drops: Subject::new(PACKETS_OVER),
            scans: Subject::new(SCANS_OVER),
            sources: HashMap::new(),
            raised: VecDeque::new(),
        }
    }

    /// Goes on with other settings; what is usual stays known.
    pub fn replace(&mut self, settings: Alerts) {
        self.settings = settings;
    }

    /// What was counted until now: altogether, and refused packets of each source with an open scan. A source that is not
    /// named any more is forgotten. To be called every one to five seconds; says what is far off.
    pub fn measure(
        &mut self,
        totals: Totals,
        sources: impl IntoIterator<Item = (IpNet, u64)>,
        now: Moment,
    ) -> Vec<Alert> {
        let settings = self.settings;
        let time = now.since_boot;
        let mut alerts = Vec::new();
        let floor = settings.drops_per_second as f64;
        if let Some(found) = self.drops.measure(totals.drops, floor, &settings, time) {
            alerts.push(found.alert("drops", None, Unit::PacketsPerSecond, now));
        }
        let floor = settings.scans_per_minute as f64 / 60.0;
        if let Some(found) = self.scans.measure(totals.scans, floor, &settings, time) {
            alerts.push(found.alert("scans", None, Unit::ScansPerMinute, now));
        }
        let floor = settings.source_per_second as f64;
        let mut former = std::mem::take(&mut self.sources);
        for (source, packets) in sources.into_iter().take(SOURCES) {
            let subject = former.remove(&source);
            let mut subject = subject.unwrap_or_else(|| Subject::new(PACKETS_OVER));
            let found = subject.measure(packets, floor, &settings, time);
            self.sources.insert(source, subject);
            if let Some(found) = found
                && self.may_raise(time)
            {
                alerts.push(found.alert("source", Some(source), Unit::PacketsPerSecond, now));
            }
        }
        alerts
    }

    fn may_raise(&mut self, now: Duration) -> bool {
        let quiet = self.settings.quiet;
        self.raised
            .retain(|raised| now.saturating_sub(*raised) < quiet);
        if self.raised.len() >= SOURCE_ALERTS {
            return false;
        }
        self.raised.push_back(now);
        true
    }
}

#[derive(Clone, Copy)]
enum Unit {
    PacketsPerSecond,
    ScansPerMinute,
}

/// Something far off, a second.
struct Found {
    rate: f64,
    baseline: f64,
}

impl Found {
    fn alert(&self, about: &str, source: Option<IpNet>, unit: Unit, now: Moment) -> Alert {
        let (factor, unit) = match unit {
            Unit::PacketsPerSecond => (1.0, "packets/s"),
            Unit::ScansPerMinute => (60.0, "scans/min"),
        };
        Alert {
            about: about.to_owned(),
            source,
            value: self.rate * factor,
            baseline: self.baseline * factor,
            unit: unit.to_owned(),
            time: rfc3339(now.wall),
        }
    }
}

/// One counter, its rate and its baseline.
#[derive(Debug)]
struct Subject {
    over: Duration,
    /// Totals of the last while, the oldest first: at most [`POINTS`] + 2.
    points: VecDeque<(Duration, u64)>,
    /// How long the baseline has been learned.
    learned: Duration,
    /// When it was last.
    updated: Option<Duration>,
    baseline: f64,
    said: Option<Duration>,
}

impl Subject {
    fn new(over: Duration) -> Self {
        Self {
            over,
            points: VecDeque::new(),
            learned: Duration::ZERO,
            updated: None,
            baseline: 0.0,
            said: None,
        }
    }

    /// Whether the rate is far above its baseline, and that was not said lately.
    fn measure(
        &mut self,
        total: u64,
        floor: f64,
        settings: &Alerts,
        now: Duration,
    ) -> Option<Found> {
        let rate = self.rate(total, now)?;
        let baseline = self.baseline;
        let far_off = self.learned >= WARM_UP && rate >= floor && rate > settings.factor * baseline;
        self.learn(rate, far_off, now);
        let quiet = |said| now.saturating_sub(said) < settings.quiet;
        if !far_off || self.said.is_some_and(quiet) {
            return None;
        }
        self.said = Some(now);
        Some(Found { rate, baseline })
    }

    /// A second, over the last while; `None` until that has passed.
    fn rate(&mut self, total: u64, now: Duration) -> Option<f64> {
        if self.points.back().is_some_and(|(_, last)| total < *last) {
            self.points.clear();
        }
        let due = |(last, _): &(Duration, u64)| *last + self.over / POINTS <= now;
        if self.points.back().is_none_or(due) {
            self.points.push_back((now, total));
        }
        // the oldest is the youngest of those that are old enough
        while self
            .points
            .get(1)
            .is_some_and(|(second, _)| *second + self.over <= now)
        {
            self.points.pop_front();
        }
        let (then, before) = self.points.front()?;
        let time = now.checked_sub(*then).filter(|time| *time >= self.over)?;
        Some((total - before) as f64 / time.as_secs_f64())
    }

    /// An average weighted by age; a plain average until there is enough to weigh.
    fn learn(&mut self, rate: f64, far_off: bool, now: Duration) {
        let since = self.updated.replace(now);
        let time = since.map_or(self.over, |since| now.saturating_sub(since));
        self.learned = self.learned.saturating_add(time);
        let plain = time.as_secs_f64() / self.learned.as_secs_f64().max(f64::EPSILON);
        let weighted = 1.0 - (-time.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        let weight = if far_off {
            weighted / RELUCTANCE
        } else {
            plain.max(weighted)
        };
        self.baseline += weight * (rate - self.baseline);
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// A scripted host: what grows by how much each second.
    struct Host {
        insight: Insight,
        second: u64,
        totals: Totals,
        sources: Vec<(IpNet, u64)>,
    }

    impl Host {
        fn new() -> Self {
            Self {
                insight: Insight::new(Alerts::default()),
                second: 0,
                totals: Totals::default(),
                sources: Vec::new(),
            }
        }

        /// `seconds` of so many drops and scans a second; the seconds in which it was alerted, and what about.
        fn run(&mut self, seconds: u64, drops: u64, scans: u64) -> Vec<(u64, Alert)> {
            let mut alerts = Vec::new();
            for _ in 0..seconds {
                self.second += 1;
                self.totals.drops += drops;
                self.totals.scans += scans;
                let since_boot = Duration::from_secs(1000 + self.second);
                let now = Moment {
                    since_boot,
                    wall: UNIX_EPOCH + since_boot,
                };
                let sources = self.sources.clone();
                let found = self.insight.measure(self.totals, sources, now);
                alerts.extend(found.into_iter().map(|alert| (self.second, alert)));
            }
            alerts
        }
    }

    #[test]
    fn a_jump_is_said_once_per_quiet_time() {
        let mut host = Host::new();
        assert_eq!(host.run(300, 500, 0), []);
        let alerts = host.run(120, 20_000, 0);
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        let (second, alert) = &alerts[0];
        assert!((301..=310).contains(second), "within ten seconds: {second}");
        assert_eq!(
            (alert.about.as_str(), alert.unit.as_str()),
            ("drops", "packets/s")
        );
        assert!(alert.value > 2500.0, "{alert:?}");
        assert!((400.0..600.0).contains(&alert.baseline), "{alert:?}");
        assert_eq!(
            alert.time,
            rfc3339(UNIX_EPOCH + Duration::from_secs(1000 + second))
        );
        // it goes on for the rest of the quiet time of ten minutes: nothing more is said, then once
        assert_eq!(host.run(480, 20_000, 0), []);
        assert!(host.run(60, 20_000, 0).len() <= 1);
    }

    #[test]
    fn what_lasts_becomes_usual() {
        let mut host = Host::new();
        host.run(300, 500, 0);
        host.run(4 * 3600, 20_000, 0);
        assert_eq!(host.run(3600, 20_000, 0), []);
    }

    #[test]
    fn below_the_floor_nothing_is_alarming() {
        let mut host = Host::new();
        assert_eq!(host.run(300, 0, 0), []);
        assert_eq!(host.run(300, 999, 0), []);
        let mut host = Host::new();
        host.run(300, 0, 0);
        assert_eq!(
            host.run(300, 1000, 0).len(),
            1,
            "the floor itself is alarming"
        );
    }

    #[test]
    fn nothing_is_said_while_warming_up() {
        let mut host = Host::new();
        assert_eq!(host.run(60, 50_000, 100), []);
        assert_eq!(host.run(600, 50_000, 100), [], "that is what is usual here");
    }

    #[test]
    fn a_steady_load_with_noise_is_usual() {
        let mut host = Host::new();
        for round in 0..600_u64 {
            let noise = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
            assert_eq!(host.run(2, 1500 + noise, noise % 2), []);
        }
    }

    #[test]
    fn scans_are_counted_by_the_minute() {
        let mut host = Host::new();
        host.run(600, 0, 0);
        // nine within a minute are below the floor of ten
        let mut alerts = Vec::new();
        for _ in 0..9 {
            alerts.extend(host.run(1, 0, 1));
        }
        alerts.extend(host.run(120, 0, 0));
        assert_eq!(alerts, []);
        let alerts = host.run(30, 0, 1);
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        assert_eq!(alerts[0].1.about, "scans");
        assert_eq!(alerts[0].1.unit, "scans/min");
        assert!((10.0..=12.0).contains(&alerts[0].1.value), "{alerts:?}");
    }

    #[test]
    fn a_source_is_measured_by_its_own_past() {
        let source: IpNet = "203.0.113.9/32".parse().unwrap();
        let loud: IpNet = "203.0.113.10/32".parse().unwrap();
        let mut host = Host::new();
        host.sources = vec![(source, 0), (loud, 0)];
        let mut alerts = Vec::new();
        for second in 0..400 {
            host.sources[0].1 += if second < 200 { 30 } else { 900 };
            host.sources[1].1 += 2000;
            alerts.extend(host.run(1, 0, 0));
        }
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        assert_eq!(alerts[0].1.source, Some(source));
        host.sources.clear();
        host.run(1, 0, 0);
        assert!(host.insight.sources.is_empty(), "forgotten with its scan");
    }

    #[test]
    fn many_sources_are_bounded_in_alerts_and_memory() {
        let mut host = Host::new();
        let sources = (0..10_000_u32).map(|n| IpNet::from(std::net::IpAddr::from(n.to_be_bytes())));
        host.sources = sources.map(|source| (source, 0)).collect();
        let mut alerts = Vec::new();
        for second in 0..120 {
            for (_, packets) in &mut host.sources {
                *packets += if second < 90 { 1 } else { 5000 };
            }
            alerts.extend(host.run(1, 0, 0));
        }
        assert_eq!(alerts.len(), SOURCE_ALERTS);
        assert_eq!(host.insight.sources.len(), SOURCES);
        let most = host.insight.sources.values().map(|s| s.points.len()).max();
        assert!(most <= Some(POINTS as usize + 2), "{most:?}");
    }

    #[test]
    fn a_counter_that_begins_anew_is_no_jump() {
        let mut host = Host::new();
        host.run(300, 2000, 0);
        host.totals.drops = 0;
        assert_eq!(host.run(300, 2000, 0), []);
    }

    #[test]
    fn other_settings_keep_the_baseline() {
        let mut host = Host::new();
        host.run(300, 2000, 0);
        host.insight.replace(Alerts {
            factor: 2.0,
            ..Alerts::default()
        });
        let alerts = host.run(30, 6000, 0);
        assert_eq!(alerts.len(), 1);
        assert!(
            (1900.0..2100.0).contains(&alerts[0].1.baseline),
            "{alerts:?}"
        );
    }
}
