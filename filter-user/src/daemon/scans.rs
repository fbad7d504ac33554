//! The task that keeps scans and blocks: takes probes from the program, asks the detector, and does what it says.
//!
//! It decides nothing by itself, and whatever becomes of it, the filter stays: blocks end in the kernel.

mod host;
mod log;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use aya::maps::{MapData, RingBuf};
use filter_common::layout::Block as KernelBlock;
use ipnet::IpNet;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

use super::engine::Names;
use super::entries::Listed;
use super::ticker;
use crate::control::{Refusal, Request, Shared};
use crate::dataplane::scans::{ScanTables, decode};
use crate::dataplane::{Pins, counters};
use crate::report::scans::ScanStatus;
use crate::scans::Moment;
use crate::scans::detector::{
    Block, BlockError, CAPACITY, Detector, Effect, Peers, SOURCES, Settings,
};
use crate::scans::insight::{Insight, Totals};
use crate::scans::outlets::Outlets;
use crate::scans::outlets::nft::{self, Nft, NftError, Removal};
use crate::scans::probe::Probe;
use crate::scans::record::{BlockRecord, Origin, Report};
use log::Log;

pub(super) use host::{Teller, Told};

/// How long a peer counts as one with a working connection after it was last sent data.
const VERIFIED_FOR: Duration = Duration::from_hours(1);
/// Probes taken out of the ring buffer before anything else gets its turn.
const BATCH: usize = 512;
/// Blocks run out, scans are closed and the status is told.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two measurements of what is usual, and two looks at the host's ephemeral ports.
const MEASURE: u32 = 5;
/// How long reports that wait may keep the daemon from ending.
const FAREWELL: Duration = Duration::from_secs(2);

/// The task, before it runs.
pub(super) struct Watcher {
    ring: AsyncFd<RingBuf<MapData>>,
    pins: Pins,
    names: Arc<RwLock<Names>>,
    shared: Arc<Shared>,
    told: watch::Receiver<Arc<Told>>,
    listed: watch::Receiver<Listed>,
    requests: mpsc::Receiver<Request>,
    keeper: Keeper,
}

/// What it works on, apart from where news come from.
struct Keeper {
    tables: ScanTables,
    detector: Detector,
    outlets: Outlets,
    nft: Option<Nft>,
    insight: Option<Insight>,
    opened: u64,
    shed: u64,
    log: Log,
    told: Arc<Told>,
    listed: Listed,
    shared: Arc<Shared>,
}

struct Verified<'a>(&'a ScanTables);

impl Peers for Verified<'_> {
    fn verified(&self, address: IpAddr) -> bool {
        self.0
            .is_verified(address, VERIFIED_FOR)
            .unwrap_or_else(|error| {
                tracing::error!(%error, "cannot tell whether a peer has a working connection");
                false
            })
    }
}

impl Watcher {
    /// Takes over the blocks in force.
    pub(super) fn new(
        ring: RingBuf<MapData>,
        pins: &Pins,
        names: Arc<RwLock<Names>>,
        shared: Arc<Shared>,
        told: watch::Receiver<Arc<Told>>,
        listed: watch::Receiver<Listed>,
    ) -> Result<Self> {
        // SAFETY: the ring owns its file descriptor and answers with the same one until it is dropped with the `AsyncFd`.
        let ring = unsafe { AsyncFd::register(ring) }.context("cannot watch for probes")?;
        let tables = ScanTables::open(pins).context("cannot open the tables of scans")?;
        let now = moment()?;
        let first = Arc::clone(&told.borrow());
        let let_in = listed.borrow().clone();
        let mut detector = Detector::new(settings(&first, let_in.clone()), id_prefix(now));
        let known = tables.blocks().context("cannot read the blocks in force")?;
        let blocks = known.into_iter().map(|blocked| Block {
            source: blocked.source,
            since: Duration::from_nanos(blocked.block.since),
            until: Duration::from_nanos(blocked.block.until),
            strikes: blocked.block.strikes,
            origin: if blocked.block.origin == 0 {
                Origin::Scan
            } else {
                Origin::Manual
            },
            scan: None,
        });
        let effects = detector.restore(blocks.collect(), now);
        let outlets = Outlets::start(&first.reporting);
        let requests = shared.requests();
        let mut keeper = Keeper {
            tables,
            detector,
            outlets,
            nft: None,
            insight: first.reporting.alerts.map(Insight::new),
            opened: 0,
            log: Log::new(Instant::now()),
            shed: counters::probes_shed(pins)?,
            told: first,
            listed: let_in,
            shared: Arc::clone(&shared),
        };
        keeper.apply(effects);
        keeper.follow_nftables();
        if keeper.nft.is_none() {
            // a daemon before us may have had another policy
            tokio::spawn(async { removed(nft::remove_former().await) });
        }
        Ok(Self {
            ring,
            pins: pins.clone(),
            names,
            shared,
            told,
            listed,
            requests,
            keeper,
        })
    }

    /// Works until `stopped`.
    pub(super) async fn run(mut self, stopped: impl Future<Output = ()> + Send) -> Result<()> {
        tokio::pin!(stopped);
        let mut tick = ticker(TICK);
        let mut ticks = 0_u32;
        loop {
            tokio::select! {
                () = &mut stopped => break,
                ready = self.ring.readable_mut() => {
                    let mut ready = ready?;
                    let (probes, more) = take(ready.get_inner_mut());
                    if !more {
                        ready.clear_ready();
                    }
                    self.judge(&probes)?;
                }
                request = self.requests.recv() => match request {
                    Some(request) => self.keeper.answer(request, moment()?),
                    None => anyhow::bail!("nobody asks any more: another task took over"),
                },
                changed = self.told.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let told = Arc::clone(&self.told.borrow_and_update());
                    self.keeper.replace(told, moment()?);
                }
                changed = self.listed.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.keeper.listed.clone_from(&self.listed.borrow_and_update());
                    let told = Arc::clone(&self.keeper.told);
                    self.keeper.replace(told, moment()?);
                }
                _ = tick.tick() => {
                    ticks = ticks.wrapping_add(1);
                    if let Err(error) = self.tick(ticks) {
                        let error = format!("{error:#}");
                        tracing::error!(error, "cannot look after scans and blocks; tried again");
                    }
                }
            }
        }
        let left = self.keeper.outlets.finish(FAREWELL).await;
        if left > 0 {
            tracing::warn!(left, "reports that nobody took are lost");
        }
        if !self.pins.exist()
            && let Some(nft) = self.keeper.nft.take()
        {
            // `edgefilter detach` removed the table, and we may have made it again before we knew
            end(nft).await;
        }
        Ok(())
    }

    fn judge(&mut self, probes: &[(Probe, u8)]) -> Result<()> {
        let now = moment()?;
        for (probe, slot) in probes {
            let interface = {
                let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
                names
                    .slots
                    .get(&u16::from(*slot))
                    .cloned()
                    .unwrap_or_default()
            };
            let keeper = &mut self.keeper;
            let effects = keeper
                .detector
                .probe(probe, &interface, now, &Verified(&keeper.tables));
            keeper.apply(effects);
        }
        Ok(())
    }

    fn tick(&mut self, ticks: u32) -> Result<()> {
        let now = moment()?;
        let shed = counters::probes_shed(&self.pins)?;
        let keeper = &mut self.keeper;
        if shed > keeper.shed {
            keeper.detector.shed(shed - keeper.shed, now);
        }
        keeper.shed = shed;
        keeper.log.tick(Instant::now());
        keeper.count()?;
        let effects = keeper.detector.tick(now, &Verified(&keeper.tables));
        keeper.apply(effects);
        if ticks.is_multiple_of(MEASURE) {
            keeper.tables.renew_local_ports()?;
            if keeper.insight.is_some() {
                let drops = counters::dropped(&self.pins)?;
                keeper.measure(drops, now);
            }
        }
        self.shared.set_scans(keeper.status());
        Ok(())
    }
}

impl Keeper {
    /// Does what the detector says. A block that the kernel does not take is an error to show, not one to end by.
    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Block(block) => self.block(&block),
                Effect::Unblock(source) => {
                    if let Err(error) = self.tables.unblock(source) {
                        tracing::error!(%source, %error, "cannot take a block off");
                    }
                    if let Some(nft) = &self.nft {
                        nft.remove(source);
                    }
                }
                Effect::Report(report) => {
                    self.opened += u64::from(matches!(*report, Report::ScanOpened(_)));
                    self.report(report);
                }
            }
        }
    }

    fn block(&mut self, block: &Block) {
        let in_kernel = KernelBlock {
            since: nanoseconds(block.since),
            until: nanoseconds(block.until),
            strikes: block.strikes,
            origin: u32::from(block.origin == Origin::Manual),
        };
        if let Err(error) = self.tables.block(block.source, in_kernel) {
            tracing::error!(source = %block.source, %error, "cannot block");
            return;
        }
        if let Some(nft) = &self.nft {
            nft.set(block.source, block.until);
        }
    }

    fn report(&mut self, report: Arc<Report>) {
        self.log.report(&report, Instant::now());
        if self.told.reporting.wants(report.kind()) {
            self.outlets.send(&report);
            self.shared.report(report);
        }
    }

    /// Other settings.
    fn replace(&mut self, told: Arc<Told>, now: Moment) {
        let settings = settings(&told, self.listed.clone());
        let effects = self.detector.replace(settings, now);
        self.told = told;
        self.apply(effects);
        self.outlets.replace(&self.told.reporting);
        self.insight = match (self.insight.take(), self.told.reporting.alerts) {
            (Some(mut insight), Some(settings)) => {
                insight.replace(settings);
                Some(insight)
            }
            (_, settings) => settings.map(Insight::new),
        };
        self.follow_nftables();
    }

    /// Starts, changes or ends the table in the host's firewall, as the policy has it.
    fn follow_nftables(&mut self) {
        match (&self.nft, self.told.reporting.nftables) {
            (Some(nft), Some(settings)) => nft.replace(settings),
            (None, Some(settings)) => {
                let blocks = self.detector.in_force();
                self.nft = Some(Nft::start(
                    settings,
                    blocks.map(|block| (block.source, block.until)),
                ));
            }
            (_, None) => {
                if let Some(nft) = self.nft.take() {
                    tokio::spawn(end(nft));
                }
            }
        }
    }

    /// Adds what the cells counted of open scans since their last reports.
    fn count(&mut self) -> io::Result<()> {
        let sources: Vec<IpNet> = self.detector.open_sources().collect();
        for source in sources {
            let packets = self.tables.unreported(source)?;
            self.detector.unreported(source, packets);
        }
        Ok(())
    }

    fn measure(&mut self, drops: u64, now: Moment) {
        let Some(insight) = &mut self.insight else {
            return;
        };
        let totals = Totals {
            drops,
            scans: self.opened,
        };
        let sources: HashMap<IpNet, u64> = self.detector.open_packets().collect();
        for alert in insight.measure(totals, sources, now) {
            self.report(Arc::new(Report::Alert(alert)));
        }
    }

    fn answer(&mut self, request: Request, now: Moment) {
        // whoever asked may be gone: then nobody wants the answer
        match request {
            Request::Scans(answer) => {
                let _ = answer.send(self.detector.scans(now));
            }
            Request::Scan(id, answer) => {
                let _ = answer.send(self.detector.scan(&id, now));
            }
            Request::Blocks(answer) => {
                let _ = answer.send(self.detector.blocks(now));
            }
            Request::Block {
                source,
                ttl,
                answer,
            } => {
                let done = self.detector.block(source, ttl, now);
                let _ = answer.send(self.changed(done));
            }
            Request::Unblock { source, answer } => {
                let done = self.detector.unblock(source, now);
                let _ = answer.send(self.changed(done));
            }
        }
    }

    /// Applies a block or its end that a person asked for; what is told to all is the answer as well.
    fn changed(&mut self, done: Result<Vec<Effect>, BlockError>) -> Result<BlockRecord, Refusal> {
        let effects = done.map_err(|error| match error {
            BlockError::Protected { .. } => Refusal::Protected(error.to_string()),
            BlockError::NotBlocked(_) => Refusal::Unknown(error.to_string()),
            BlockError::Full => Refusal::Full(error.to_string()),
            BlockError::Prefix(_) | BlockError::Time => Refusal::Wrong(error.to_string()),
        })?;
        let told = effects.iter().rev().find_map(|effect| {
            let Effect::Report(report) = effect else {
                return None;
            };
            match &**report {
                Report::Blocked(block) | Report::Unblocked(block) => Some(block.clone()),
                _ => None,
            }
        });
        self.apply(effects);
        told.ok_or_else(|| Refusal::NotNow("nothing was changed".to_owned()))
    }

    fn status(&self) -> ScanStatus {
        let memory = self.detector.memory();
        ScanStatus {
            open: memory.open,
            blocks: memory.blocks,
            blocks_limit: CAPACITY,
            sources: memory.few + memory.many,
            sources_limit: SOURCES,
            shed: self.shed,
            outlets: self.outlets.state(),
            nftables: self.nft.as_ref().map(Nft::state),
            ..ScanStatus::new(&self.told.settings.scans)
        }
    }
}

/// What the detector goes by: sources that entries let in are not blocked.
fn settings(told: &Told, listed: Listed) -> Arc<Settings> {
    let Settings { scans, protected } = &*told.settings;
    Arc::new(Settings {
        scans: scans.clone(),
        protected: protected.clone().sparing(listed),
    })
}

async fn end(nft: Nft) {
    removed(nft.end().await);
}

fn removed(outcome: Result<Removal, NftError>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "cannot remove the table `inet edgefilter`");
    }
}

/// Another one after every start.
fn id_prefix(now: Moment) -> String {
    let since = now.wall.duration_since(SystemTime::UNIX_EPOCH);
    format!("{:x}", since.unwrap_or_default().as_secs())
}

/// Probes that wait, [`BATCH`] of them at most, and whether there may be more.
fn take(ring: &mut RingBuf<MapData>) -> (Vec<(Probe, u8)>, bool) {
    let mut probes = Vec::new();
    for _ in 0..BATCH {
        let Some(item) = ring.next() else {
            return (probes, false);
        };
        match decode(&item) {
            Some(probe) => probes.push(probe),
            None => tracing::warn!(bytes = item.len(), "a probe cannot be read"),
        }
    }
    (probes, true)
}

pub(super) fn moment() -> io::Result<Moment> {
    let since_boot = crate::dataplane::now()?;
    Ok(Moment {
        since_boot: Duration::from_nanos(since_boot),
        wall: SystemTime::now(),
    })
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
