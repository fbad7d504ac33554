//! The task that keeps run-time entries: answers who asks for one, keeps the kernel's table and the store equal to what
//! there is, and takes away what is over. It asks nothing of the engine, so a policy that is being compiled never holds
//! an entry up.
//!
//! The store is written before the kernel's table. A daemon that dies between the two leaves the change to the next one,
//! which makes the table what the store says.

mod store;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::sync::{mpsc, oneshot, watch};

use super::scans::{Told, moment};
use super::ticker;
use crate::access::Actor;
use crate::control::{EntryRequest, Refusal, Shared};
use crate::dataplane::Pins;
use crate::dataplane::entries::EntryTable;
use crate::entries::record::{EntryOrder, EntryRecord};
use crate::entries::{ENTRIES, Entry, Kind, Ports, Steady, Table, TableError, recovered};
use crate::policy::PrefixSet;
use crate::report::entries::EntryStatus;
use crate::scans::Moment;
use store::Store;

/// Sources that entries let in; `None`: none are.
pub(super) type Listed = Option<Arc<PrefixSet>>;

/// How often what is over is taken away, and dates are held against the wall clock.
const TICK: Duration = Duration::from_secs(1);
/// Requests that are answered after one write of the store.
const BATCH: usize = 32;

/// The task, before it runs.
pub(super) struct Entries {
    kernel: EntryTable,
    table: Table,
    store: Store,
    clock: Steady,
    requests: mpsc::Receiver<EntryRequest>,
    shared: Arc<Shared>,
    told: watch::Receiver<Arc<Told>>,
    listed: watch::Sender<Listed>,
}

/// An answer that waits until what it says is true.
type Pending = Box<dyn FnOnce(Result<(), &Refusal>) + Send>;

impl Entries {
    /// Takes over the entries that the store holds, or else those that the kernel does.
    pub(super) fn new(
        pins: &Pins,
        state_dir: &Path,
        shared: Arc<Shared>,
        told: watch::Receiver<Arc<Told>>,
    ) -> Result<(Self, watch::Receiver<Listed>)> {
        let mut kernel = EntryTable::open(pins).context("cannot open the tables of entries")?;
        let now = moment()?;
        let (store, kept) = Store::open(state_dir, now)?;
        let table = kept.unwrap_or_else(|| Table::of(recovered(kernel.known(), now), now));
        if let Err(error) = store.write(&table, now) {
            tracing::warn!(
                error = format!("{error:#}"),
                "entries cannot be kept over a restart"
            );
        }
        kernel
            .replace(&table.schedule(now))
            .context("cannot put the entries in force")?;
        let (listed, receiver) = watch::channel(let_in(&table));
        shared.set_entries(counted(&table));
        let entries = Self {
            kernel,
            table,
            store,
            clock: Steady::new(now),
            requests: shared.entry_requests(),
            shared,
            told,
            listed,
        };
        Ok((entries, receiver))
    }

    /// Works until `stopped`.
    pub(super) async fn run(mut self, stopped: impl Future<Output = ()> + Send) -> Result<()> {
        tokio::pin!(stopped);
        let mut tick = ticker(TICK);
        let mut requests = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                () = &mut stopped => {
                    self.store.finish().await;
                    return Ok(());
                }
                count = self.requests.recv_many(&mut requests, BATCH) => {
                    if count == 0 {
                        anyhow::bail!("nobody asks any more: another task took over");
                    }
                    self.answer(std::mem::take(&mut requests))?;
                }
                _ = tick.tick() => {
                    if let Err(error) = self.tick() {
                        let error = format!("{error:#}");
                        tracing::error!(error, "cannot look after entries; tried again");
                    }
                }
            }
        }
    }

    /// Answers requests in order, and writes store and kernel once for all of them.
    fn answer(&mut self, requests: Vec<EntryRequest>) -> Result<()> {
        let (now, _) = self.clock.at(moment()?);
        let mut table = self.table.clone();
        let mut pending: Vec<Pending> = Vec::new();
        for request in requests {
            match request {
                EntryRequest::List(kind, answer) => {
                    let wanted = |entry: &&Entry| kind.is_none_or(|kind| entry.kind == kind);
                    let shown = table.iter().filter(wanted);
                    let shown = shown.map(|entry| EntryRecord::new(entry, now)).collect();
                    // whoever asked may be gone: then nobody wants the answer
                    let _ = answer.send(shown);
                }
                EntryRequest::Add {
                    order,
                    source,
                    actor,
                    answer,
                } => match self.add(&mut table, &order, source, actor, now) {
                    Ok(record) => pending.push(once(answer, record)),
                    Err(refused) => _ = answer.send(Err(refused)),
                },
                EntryRequest::Remove {
                    kind,
                    source,
                    ports,
                    answer,
                } => match remove(&mut table, kind, source, &ports, now) {
                    Ok(records) => pending.push(once(answer, records)),
                    Err(refused) => _ = answer.send(Err(refused)),
                },
            }
        }
        let done = if pending.is_empty() {
            Ok(())
        } else {
            self.change(table, now)
        };
        let done = done.map_err(|error| {
            let error = format!("{error:#}");
            tracing::error!(error, "entries were not changed");
            Refusal::NotNow(format!("nothing was changed: {error}"))
        });
        for answer in pending {
            answer(done.as_ref().copied());
        }
        Ok(())
    }

    fn add(
        &self,
        table: &mut Table,
        order: &EntryOrder,
        source: IpNet,
        actor: Actor,
        now: Moment,
    ) -> Result<EntryRecord, Refusal> {
        let life = order.life(now).map_err(Refusal::Wrong)?;
        if order.kind == Kind::Deny
            && !order.force
            && let Some(why) = self.told.borrow().settings.protected.spares(&source)
        {
            return Err(Refusal::Protected(format!(
                "{source} would keep out {why}, which this host may need; --force does it all the same"
            )));
        }
        let entry = Entry {
            kind: order.kind,
            source,
            ports: order.ports.clone(),
            comment: order.comment.clone(),
            actor,
            made: now.wall,
            life,
        };
        let made = table.add(entry, now).map_err(refusal)?;
        Ok(EntryRecord::new(made, now))
    }

    /// Makes this the table: store first, then the kernel.
    fn change(&mut self, table: Table, now: Moment) -> Result<()> {
        self.store.write(&table, now)?;
        if let Err(error) = self.kernel.replace(&table.schedule(now)) {
            // the store must not say what the kernel does not do
            let _ = self.kernel.replace(&self.table.schedule(now));
            self.store.write(&self.table, now)?;
            return Err(error).context("the kernel does not take the entries");
        }
        self.adopt(table);
        Ok(())
    }

    fn adopt(&mut self, table: Table) {
        self.table = table;
        self.shared.set_entries(counted(&self.table));
        let listed = let_in(&self.table);
        self.listed.send_if_modified(|known| {
            let other = *known != listed;
            *known = listed;
            other
        });
    }

    fn tick(&mut self) -> Result<()> {
        let (now, set) = self.clock.at(moment()?);
        let mut table = self.table.clone();
        let over = table.expire(now);
        for entry in &over {
            tracing::info!(kind = %entry.kind, source = %entry.source, "an entry is over");
        }
        // whatever becomes of the store: the kernel forgets by itself, and must not be behind a clock that was set
        let scheduled = self.kernel.replace(&table.schedule(now));
        self.adopt(table);
        scheduled.context("the kernel does not take the entries")?;
        if set || !over.is_empty() {
            self.store.write(&self.table, now)?;
        }
        Ok(())
    }
}

fn remove(
    table: &mut Table,
    kind: Kind,
    source: IpNet,
    ports: &[Ports],
    now: Moment,
) -> Result<Vec<EntryRecord>, Refusal> {
    let gone = table.remove(kind, source, ports).map_err(refusal)?;
    let records = gone.iter().map(|entry| EntryRecord::new(entry, now));
    Ok(records.collect())
}

/// Sends what was made of a request once that is in force, or why it is not.
fn once<T: Send + 'static>(answer: oneshot::Sender<Result<T, Refusal>>, made: T) -> Pending {
    Box::new(move |done| {
        // whoever asked may be gone: then nobody wants the answer
        let _ = answer.send(done.map(|()| made).map_err(Refusal::clone));
    })
}

fn refusal(error: TableError) -> Refusal {
    let text = error.to_string();
    match error {
        TableError::Entries | TableError::Keys(_) => Refusal::Full(text),
        TableError::Unknown { .. } => Refusal::Unknown(text),
        TableError::Ports(_)
        | TableError::Over
        | TableError::TooLong
        | TableError::Comment
        | TableError::Source(..) => Refusal::Wrong(text),
    }
}

fn counted(table: &Table) -> EntryStatus {
    let allow = table.iter().filter(|entry| entry.kind == Kind::Allow);
    let allow = allow.count();
    EntryStatus {
        allow,
        deny: table.iter().len() - allow,
        limit: ENTRIES,
    }
}

/// The sources that entries let in, as scans are told.
fn let_in(table: &Table) -> Listed {
    let (mut v4, mut v6): (Vec<Ipv4Net>, Vec<Ipv6Net>) = (Vec::new(), Vec::new());
    for entry in table.iter().filter(|entry| entry.kind == Kind::Allow) {
        match entry.source {
            IpNet::V4(net) => v4.push(net),
            IpNet::V6(net) => v6.push(net),
        }
    }
    let any = !(v4.is_empty() && v6.is_empty());
    any.then(|| {
        Arc::new(PrefixSet {
            name: "an allow entry".to_owned(),
            v4: Ipv4Net::aggregate(&v4),
            v6: Ipv6Net::aggregate(&v6),
        })
    })
}
