//! Blocked sources in the host's firewall: the table `inet edgefilter`, with timed sets and, if policy says so, rules that
//! drop what those sources begin, on interfaces without the filter too.
//!
//! Owns that table, whoever made it. Must never touch another one, never make the caller wait, and never matter to the
//! filter: without `nft`, or with one that fails, the state says so and it is tried again.
//!
//! What is wanted is a map of sources; a task brings the kernel there. It writes at most ten times a second, looks every
//! two seconds whether the table is as it was made (after `nft flush ruleset` it is back within three seconds, see
//! [`RESTORED_WITHIN`]) and every minute whether the elements are; of a table with more than 4,096 elements the rules,
//! too, only every minute. A table is always replaced in one transaction, so that no moment is without it.

mod keeper;
mod program;
mod table;

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::keeper::Keeper;
pub use self::program::NftError;
use self::program::Program;
use crate::policy::Nftables;

/// How long it takes at most until a table that somebody removed or changed is as it should be, on a host that can run
/// `nft` within a second.
pub const RESTORED_WITHIN: Duration = Duration::from_secs(3);

/// Between two looks at the table.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks at the elements.
const LOOK_CLOSELY: Duration = Duration::from_mins(1);
/// Between two writes.
const REST: Duration = Duration::from_millis(100);

/// What tests set otherwise.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `nft` program, looked for in `PATH`.
    pub program: OsString,
    /// Between two looks at the elements.
    pub look_closely: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            program: OsString::from("nft"),
            look_closely: LOOK_CLOSELY,
        }
    }
}

/// How the table does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NftState {
    /// The table is as it should be, as far as it was last seen.
    pub ok: bool,
    /// Why it is not.
    pub error: Option<String>,
    /// What blocked sources begin is dropped there too.
    pub drop: bool,
    /// Sources it holds.
    pub elements: u64,
    /// How often it was made since the daemon started; more than once: somebody removed or changed it, or policy did.
    pub made: u64,
    /// Milliseconds that the last write took.
    pub last_write_ms: u64,
}

/// The task that keeps the table. Dropped, it ends and leaves the table as it is: elements go by their timeouts.
#[derive(Debug)]
pub struct Nft {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    program: OsString,
}

#[derive(Debug)]
struct Shared {
    wanted: Mutex<Wanted>,
    wake: Notify,
}

#[derive(Debug)]
struct Wanted {
    settings: Nftables,
    /// Source, and until when it is blocked (`CLOCK_MONOTONIC`).
    blocks: HashMap<IpNet, Duration>,
    /// Sources that the kernel may hold otherwise.
    changed: HashSet<IpNet>,
    /// The whole table has to be made anew.
    all: bool,
    state: NftState,
}

impl Nft {
    /// Starts to keep the table, with the blocks that hold now: an existing table is taken over in one transaction.
    /// Times are `CLOCK_MONOTONIC`. Within a Tokio runtime.
    pub fn start(settings: Nftables, blocks: impl IntoIterator<Item = (IpNet, Duration)>) -> Self {
        Self::start_with(settings, blocks, Options::default())
    }

    /// The same with other options.
    pub fn start_with(
        settings: Nftables,
        blocks: impl IntoIterator<Item = (IpNet, Duration)>,
        options: Options,
    ) -> Self {
        let shared = Arc::new(Shared {
            wanted: Mutex::new(Wanted {
                settings,
                blocks: blocks.into_iter().collect(),
                changed: HashSet::new(),
                all: true,
                state: NftState::default(),
            }),
            wake: Notify::new(),
        });
        let program = options.program.clone();
        let keeper = Keeper::new(Arc::clone(&shared), options);
        Self {
            shared,
            task: tokio::spawn(keeper.run()),
            program,
        }
    }

    /// Blocks a source (an address, or an IPv6 /64) until then (`CLOCK_MONOTONIC`), or changes until when.
    pub fn set(&self, source: IpNet, until: Duration) {
        if table::Place::of(source).is_none() {
            tracing::error!(%source, "no set of the table takes such a source");
            return;
        }
        let mut wanted = self.shared.lock();
        wanted.blocks.insert(source, until);
        wanted.changed.insert(source);
        drop(wanted);
        self.shared.wake.notify_one();
    }

    /// No longer blocks a source.
    pub fn remove(&self, source: IpNet) {
        let mut wanted = self.shared.lock();
        if wanted.blocks.remove(&source).is_some() {
            wanted.changed.insert(source);
        }
        drop(wanted);
        self.shared.wake.notify_one();
    }

    /// Goes on as another policy asks.
    pub fn replace(&self, settings: Nftables) {
        let mut wanted = self.shared.lock();
        if wanted.settings != settings {
            wanted.settings = settings;
            wanted.all = true;
        }
        drop(wanted);
        self.shared.wake.notify_one();
    }

    /// How it does.
    #[must_use]
    pub fn state(&self) -> NftState {
        self.shared.lock().state.clone()
    }

    /// Ends and removes the table, as when policy no longer asks for it.
    pub async fn end(mut self) -> Result<Removal, NftError> {
        self.task.abort();
        // it was cancelled, or had ended: either way it writes no more
        let _ = (&mut self.task).await;
        remove(&self.program).await
    }
}

impl Drop for Nft {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What became of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is not there (any more).
    Gone,
    /// The host has no `nft`: if it had a table, that is still there.
    NoProgram,
}

/// Removes what a former run may have left where policy asks for no table any more: blocks that last for hours would be
/// dropped there that long, whoever takes them off.
pub async fn remove_former() -> Result<Removal, NftError> {
    remove(&Options::default().program).await
}

/// Removes the table, if there is one.
async fn remove(program: &OsStr) -> Result<Removal, NftError> {
    let program = Program::new(program.to_owned());
    match program.write(&table::removed()).await {
        Ok(()) => Ok(Removal::Gone),
        Err(NftError::Missing(_)) => Ok(Removal::NoProgram),
        Err(error) => Err(error),
    }
}

/// The same where no task keeps it, as when the filter is taken off: waits until it is done.
pub fn remove_blocking() -> Result<Removal, NftError> {
    remove_blocking_with(&Options::default())
}

/// The same with other options.
pub fn remove_blocking_with(options: &Options) -> Result<Removal, NftError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(NftError::Start)?;
    runtime.block_on(remove(&options.program))
}

impl Shared {
    /// Nothing panics with the lock held, and what it guards is sound at every step.
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
