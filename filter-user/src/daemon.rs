//! The daemon: puts a policy in force, keeps it on the interfaces it names as they come and go, and tells what happens.
//!
//! It may die at any time: what it put in force stays, and the next one goes on from the pins. It never detaches.

mod bindings;
mod bits;
mod engine;
mod entries;
mod events;
mod hits;
mod links;
mod lock;
mod managed;
mod pace;
mod policies;
pub mod sandbox;
mod scans;
mod settings;
mod topology;
mod view;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::control::Asked;
use crate::control::policy::Order;
use crate::control::{self, Shared};
use crate::dataplane::{Pins, in_force};
use crate::policy::Policy;
use crate::report::sandbox::SandboxStatus;
use crate::report::status::Status;
pub use bindings::cni::CACHE as CNI_CACHE;
use engine::Engine;
use links::{Links, Peers, Watch};
use policies::Policies;
use scans::Teller;
use settings::Keeper;

/// What a daemon is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The policy file.
    pub policy: PathBuf,
    /// The file of its own settings; `None`: the one in the usual place, if there is one.
    pub settings: Option<PathBuf>,
    /// Where it may keep files.
    pub state_dir: PathBuf,
    /// Lock and control socket.
    pub run_dir: PathBuf,
    /// Where the bpffs is, or will be mounted.
    pub bpffs: PathBuf,
    /// Flows to remember; counts when the flow table is made, not later.
    pub flows: u32,
    /// The cache of libcni, with the results of CNI plugins.
    pub cni_cache: PathBuf,
    /// How this process is confined.
    pub sandbox: SandboxStatus,
    /// Read the policy file again when it changes.
    pub watch: bool,
}

/// The kernel or a privilege that is missing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unsupported(pub String);

/// A span of the budget for sampled drops.
const EVENT_EPOCH: Duration = Duration::from_millis(100);

/// Changes of links and addresses come in bursts: they are looked at together after this long.
const SETTLE: Duration = Duration::from_millis(10);

/// How often the counters of rules are looked at.
const HITS: Duration = Duration::from_mins(1);
/// Links, addresses and attachments are compared with the kernel's even without news: netlink may lose messages, and a
/// program that is taken off behind our back is no news to it.
const AUDIT: Duration = Duration::from_secs(1);

/// Runs until `shutdown`. Whatever happens, the filter stays as it is.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<()> {
    // first of all: a reload that comes while we start must not end us
    let hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let _lock = lock::take(&options.run_dir)?;
    let mut keeper = Keeper::start(options.settings.as_deref());
    // before the first look, so that nothing that changes in between is missed
    let mut watch = Watch::start().context("cannot watch links and addresses")?;
    let shared = Arc::new(Shared::new());
    let recorder = keeper.record(&shared, &options.state_dir);
    let mut policies = Policies::open(&options.state_dir, options.policy.clone(), recorder);
    policies.follow(&keeper);
    let kernel = in_force::policy(&Pins::at(&options.bpffs))
        .context("cannot tell which policy is in force")?;
    let choice = policies.choose(kernel)?;
    let (links, peers) = snapshot(&mut watch, &choice.loaded.policy)
        .await
        .context("cannot list links and addresses")?;

    let mut engine = Engine::start(&options, choice.loaded, choice.mark, links, &peers)?;
    policies.started(choice.then);
    // believe the kernel, not the pins: a link may be attached to a device that is not ours any more
    let (links, peers) = snapshot(&mut watch, engine.policy())
        .await
        .context("cannot list links and addresses")?;
    engine.reconcile(links, peers);
    let listener = control::bind(&options.run_dir)?;
    shared.set_pins(Pins::at(&options.bpffs));
    keeper.share(&shared, &options.run_dir).await?;
    show(&shared, &engine, &policies);
    let orders = shared.orders();
    let questions = shared.questions();
    let events = events::Reader::new(engine.events()?).context("cannot read sampled drops")?;

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let until = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
        // an error means that the sender is gone, which is a stop as well
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let server = tokio::spawn(control::serve(
        listener,
        Arc::clone(&shared),
        until(stopped.clone()),
    ));
    let reader =
        tokio::spawn(events.forward(Arc::clone(&shared), engine.names(), until(stopped.clone())));
    let (teller, told) = Teller::new(&engine);
    let (entries, listed) = engine.entries(Arc::clone(&shared), told.clone())?;
    let entries = tokio::spawn(entries.run(until(stopped.clone())));
    let watcher = engine.watcher(Arc::clone(&shared), told, listed)?;
    let watcher = tokio::spawn(async move {
        let outcome = watcher.run(until(stopped)).await;
        if let Err(error) = &outcome {
            let error = format!("{error:#}");
            tracing::error!(
                error,
                "scans are not watched any more; start the daemon again"
            );
        }
        outcome
    });

    notify(&[NotifyState::Ready, NotifyState::Status("filter in force")]);
    tracing::info!(policy = %options.policy.display(), "ready");
    let mut main = Main {
        engine,
        policies,
        watch,
        shared,
        teller,
        keeper,
        run_dir: options.run_dir,
        follow_file: options.watch,
    };
    let outcome = main.serve(orders, questions, hangup, shutdown).await;
    notify(&[NotifyState::Stopping]);
    // both end by themselves once told; there is nothing to do about a receiver that is gone already
    let _ = stop.send(true);
    for task in [server, reader, watcher, entries] {
        if let Ok(Err(error)) = task.await {
            tracing::warn!(%error, "a task ended with an error");
        }
    }
    if !main.engine.is_detached() {
        tracing::info!("stopped; the filter stays in force (take it off with `edgefilter detach`)");
    }
    outcome
}

/// What works on the filter, one thing after the other.
struct Main {
    engine: Engine,
    policies: Policies,
    watch: Watch,
    shared: Arc<Shared>,
    teller: Teller,
    keeper: Keeper,
    run_dir: PathBuf,
    /// Read the policy file again when it changes.
    follow_file: bool,
}

impl Main {
    async fn serve(
        &mut self,
        mut orders: mpsc::Receiver<Order>,
        mut questions: mpsc::Receiver<Asked>,
        mut hangup: Signal,
        shutdown: impl Future<Output = ()>,
    ) -> Result<()> {
        let mut epoch = ticker(EVENT_EPOCH);
        let mut audit = ticker(AUDIT);
        let mut hits = ticker(HITS);
        let mut watchdog =
            ticker(sd_notify::watchdog_enabled().map_or(Duration::from_mins(1), |limit| limit / 3));
        tokio::pin!(shutdown);
        loop {
            let due = self.engine.due().map(Instant::from_std);
            let confirm_in = self.policies.confirm_in();
            tokio::select! {
                () = &mut shutdown => return Ok(()),
                _ = hangup.recv() => {
                    self.keeper.reread();
                    if let Err(error) = self.keeper.share(&self.shared, &self.run_dir).await {
                        tracing::error!(error = format!("{error:#}"), "the control socket keeps its mode");
                    }
                    self.policies.follow(&self.keeper);
                    self.reload("reload").await;
                }
                Some(Asked { question, answer }) = questions.recv() => {
                    // whoever asked may be gone: then nobody wants the answer
                    let _ = answer.send(self.engine.explain(&question));
                }
                Some(order) = orders.recv() => {
                    self.policies.obey(order, &mut self.engine, &mut self.watch).await;
                    self.tell();
                }
                () = sleep(confirm_in.unwrap_or_default()), if confirm_in.is_some() => {
                    self.policies.undo(&mut self.engine, &mut self.watch).await;
                    self.tell();
                }
                _ = epoch.tick() => {
                    if self.engine.is_detached() {
                        tracing::warn!("the filter was taken off by `edgefilter detach`");
                        return Ok(());
                    }
                    self.engine.renew_event_budget();
                }
                _ = hits.tick() => self.policies.look_at_hits(&self.engine),
                _ = watchdog.tick() => notify(&[NotifyState::Watchdog]),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.look().await;
                }
                _ = audit.tick() => {
                    if self.follow_file && self.policies.file_changed() {
                        self.reload("watch").await;
                    }
                    self.look().await;
                }
                alive = self.watch.news() => {
                    if !alive {
                        anyhow::bail!("the netlink connection ended; start the daemon again (the filter stays in force)");
                    }
                    sleep(SETTLE).await;
                    self.watch.drain();
                    self.look().await;
                }
            }
        }
    }

    async fn reload(&mut self, cause: &str) {
        notify(&[NotifyState::Reloading]);
        self.policies
            .reload(cause, &mut self.engine, &mut self.watch)
            .await;
        self.tell();
        notify(&[NotifyState::Ready]);
    }

    /// Tells all who depend on the policy.
    fn tell(&mut self) {
        self.teller.tell(&self.engine);
        show(&self.shared, &self.engine, &self.policies);
    }

    /// Compares links and addresses with what the filter knows.
    async fn look(&mut self) {
        let looked = async {
            let wants_routes = view::wants_routes(self.engine.policy());
            let links = self.watch.snapshot(wants_routes).await?;
            self.engine.guard(&links);
            let peers = peers(&self.watch, self.engine.policy(), &links).await;
            Ok::<_, rtnetlink::Error>((links, peers))
        };
        match looked.await {
            Ok((links, peers)) => {
                self.engine.reconcile(links, peers);
                self.teller.look(&self.engine);
                show(&self.shared, &self.engine, &self.policies);
            }
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "cannot list links and addresses"
            ),
        }
    }
}

/// Has those who ask see what is so now.
fn show(shared: &Shared, engine: &Engine, policies: &Policies) {
    shared.set_status(status(engine, policies));
    shared.expose(engine.fingerprint(), || engine.exposed());
}

fn status(engine: &Engine, policies: &Policies) -> Status {
    let mut status = engine.status();
    if let Some(policy) = &mut status.policy {
        policies.describe(policy);
    }
    status
}

/// Links and addresses, and what this policy wants to know beside.
async fn snapshot(watch: &mut Watch, policy: &Policy) -> Result<(Links, Peers), rtnetlink::Error> {
    let links = watch.snapshot(view::wants_routes(policy)).await?;
    let peers = peers(watch, policy, &links).await;
    Ok((links, peers))
}

async fn peers(watch: &Watch, policy: &Policy, links: &Links) -> Peers {
    let containers: Vec<u32> = view::containers(policy, links).into_keys().collect();
    watch.peers(links, &containers).await
}

fn ticker(period: Duration) -> tokio::time::Interval {
    let mut ticker = interval(period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

/// Tells the service manager, if there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
