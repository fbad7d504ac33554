//! The policies that were put in force, kept on disk: to start from, to go back to, and to tell after a crash which of
//! them the kernel holds.
//!
//! STATE_DIR/policy/state.json says what is in force and what is under way; STATE_DIR/policy/NUMBER/ holds a
//! generation: generation.json, bundle.json, and approval.json if it was signed. A generation is on disk, whole, before
//! the kernel gets it.

mod deadline;
mod record;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::approval::{Accepted, Approval};
use crate::durable;
use crate::policy::Bundle;
use crate::settings::GenerationSettings;

pub use deadline::{Clocks, Deadline};
pub use record::{Generation, Origin};

/// Name of the file that says what is in force.
const STATE: &str = "state.json";

/// Name of a generation that is being removed.
const GONE: &str = ".gone";

/// What the store says besides the generations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The generation in force; 0: none yet.
    pub current: u64,
    /// The highest number that was ever given away.
    pub last: u64,
    /// The generation that is being put in force: after a crash the kernel says whether it is.
    #[serde(default)]
    pub intent: Option<Intent>,
    /// The generation in force waits to be confirmed.
    #[serde(default)]
    pub pending: Option<Pending>,
    /// What was last read from the policy file.
    #[serde(default)]
    pub source: Option<Source>,
    /// The last manifest that was accepted.
    #[serde(default)]
    pub accepted: Option<Accepted>,
}

/// A change that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The generation that is about to be in force.
    pub generation: u64,
    /// What waits for a confirmation then.
    #[serde(default)]
    pub pending: Option<Pending>,
}

/// A generation that is undone unless it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The generation to go back to.
    pub undo_to: u64,
    /// When.
    pub deadline: Deadline,
}

/// What was last read from the policy file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// Digest of the policy that it held.
    pub digest: String,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system says no.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of ours makes no sense.
    #[error("{path} cannot be understood: {why}")]
    Broken {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There is none.
    #[error("the state directory cannot be used")]
    Missing,
    /// The kernel does not tell the time.
    #[error("cannot read the clocks")]
    Clock(#[source] io::Error),
    /// It is not kept, or never was.
    #[error("there is no generation {number}; `edgefilter generations` lists those that are kept")]
    Unknown {
        /// Which.
        number: u64,
    },
}

/// The store. One daemon at a time writes it.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    keep: usize,
    state: State,
}

impl Store {
    /// Opens the store of a state directory and makes it if it is not there.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let directory = state_dir.join("policy");
        durable::make_directory(&directory).map_err(at("make", &directory))?;
        let path = directory.join(STATE);
        let state = match read_json(&path) {
            Ok(state) => state,
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                State::default()
            }
            Err(error @ StoreError::Broken { .. }) => {
                // it is replaced as a whole: no crash does this, and no filter must stay off for it
                tracing::error!(%error, "what is in force is not known any more; the policy file decides");
                let aside = directory.join("state.json.broken");
                fs::rename(&path, &aside).map_err(at("move", &path))?;
                State::default()
            }
            Err(error) => return Err(error),
        };
        let mut store = Self {
            directory,
            keep: GenerationSettings::default().keep as usize,
            state,
        };
        // numbers are never given away twice, even if the state was lost
        let highest = store.numbers()?.last().copied().unwrap_or_default();
        store.state.last = store.state.last.max(highest);
        if store.state.accepted.is_none() {
            store.state.accepted = store.newest_approval()?;
        }
        Ok(store)
    }

    /// What the generations that are kept say of the last manifest that was accepted, should the state be lost.
    fn newest_approval(&self) -> Result<Option<Accepted>, StoreError> {
        let numbers = self.numbers()?.into_iter();
        let records = numbers.filter_map(|number| self.record(number).ok());
        let accepted = records.filter_map(|record| {
            Some(Accepted {
                serial: record.serial?,
                digest: record.digest,
            })
        });
        Ok(accepted.max_by_key(|accepted| accepted.serial))
    }

    /// At most so many generations are kept from now on, that in force and one more always.
    pub fn keep(&mut self, number: u32) {
        self.keep = number.max(2) as usize;
    }

    /// What is in force and under way.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Changes the state, on disk first.
    pub fn update(&mut self, change: impl FnOnce(&mut State)) -> Result<(), StoreError> {
        let mut state = self.state.clone();
        change(&mut state);
        write_json(&self.directory.join(STATE), &state)?;
        self.state = state;
        Ok(())
    }

    /// Changes the state to what the kernel holds by now, whether it can be written or not: the next change writes it.
    pub fn settle(&mut self, change: impl FnOnce(&mut State)) {
        change(&mut self.state);
        if let Err(error) = write_json(&self.directory.join(STATE), &self.state) {
            let error = format!("{:#}", anyhow::Error::new(error));
            tracing::error!(
                error,
                "what is in force cannot be kept; the next start asks the kernel"
            );
        }
    }

    /// Removes a generation: first its name, so that nobody ever finds half of one.
    pub fn remove(&self, number: u64) -> Result<(), StoreError> {
        self.sweep()?;
        let path = self.directory.join(number.to_string());
        fs::rename(&path, self.directory.join(GONE)).map_err(at("remove", &path))?;
        self.sweep()
    }

    /// Removes what is left of a generation that has no name any more.
    fn sweep(&self) -> Result<(), StoreError> {
        let path = self.directory.join(GONE);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(at("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Keeps one more generation under the next number, which `record` gets.
    pub fn add(
        &mut self,
        mut record: Generation,
        bundle: &Bundle,
        approval: Option<&Approval>,
    ) -> Result<Generation, StoreError> {
        let number = self.state.last + 1;
        record.number = number;
        let fresh = self.directory.join(".new");
        match fs::remove_dir_all(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at("remove", &fresh)(error));
            }
            _ => {}
        }
        durable::make_directory(&fresh).map_err(at("make", &fresh))?;
        write_json(&fresh.join("bundle.json"), bundle)?;
        if let Some(approval) = approval {
            write_json(&fresh.join("approval.json"), approval)?;
        }
        write_json(&fresh.join("generation.json"), &record)?;
        let directory = self.directory.join(number.to_string());
        fs::rename(&fresh, &directory)
            .and_then(|()| durable::sync_directory(&self.directory))
            .map_err(at("make", &directory))?;
        self.state.last = number;
        Ok(record)
    }

    /// All generations that are kept, oldest first.
    pub fn list(&self) -> Result<Vec<Generation>, StoreError> {
        let numbers = self.numbers()?;
        numbers
            .into_iter()
            .map(|number| self.record(number))
            .collect()
    }

    /// What is known of a generation.
    pub fn record(&self, number: u64) -> Result<Generation, StoreError> {
        self.read(number, "generation.json")
    }

    /// The files of a generation.
    pub fn bundle(&self, number: u64) -> Result<Bundle, StoreError> {
        self.read(number, "bundle.json")
    }

    /// The signatures of a generation; `None` if it was not signed.
    pub fn approval(&self, number: u64) -> Result<Option<Approval>, StoreError> {
        let path = self
            .directory
            .join(number.to_string())
            .join("approval.json");
        if path.exists() {
            return read_json(&path).map(Some);
        }
        Ok(None)
    }

    /// Removes the oldest generations beyond the limit. Those that are in force or may be gone back to stay.
    pub fn prune(&self) -> Result<(), StoreError> {
        let needed = [
            Some(self.state.current),
            self.state.pending.as_ref().map(|pending| pending.undo_to),
            self.state.intent.as_ref().map(|intent| intent.generation),
        ];
        let numbers = self.numbers()?;
        let excess = numbers.len().saturating_sub(self.keep);
        let old = numbers
            .into_iter()
            .filter(|number| !needed.contains(&Some(*number)));
        for number in old.take(excess) {
            self.remove(number)?;
        }
        Ok(())
    }

    fn read<T: DeserializeOwned>(&self, number: u64, name: &str) -> Result<T, StoreError> {
        let directory = self.directory.join(number.to_string());
        if !directory.is_dir() {
            return Err(StoreError::Unknown { number });
        }
        read_json(&directory.join(name))
    }

    /// Ascending.
    fn numbers(&self) -> Result<Vec<u64>, StoreError> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(at("read", &self.directory))? {
            let entry = entry.map_err(at("read", &self.directory))?;
            let name = entry.file_name();
            numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// The policy in force before: the newest generation that differs from the present one, was not undone for want of a
/// confirmation, and is older than what the present one went back to.
#[must_use]
pub fn before(list: &[Generation], current: u64) -> Option<u64> {
    let present = list.iter().find(|known| known.number == current)?;
    let since = match present.origin {
        Origin::Rollback(number) | Origin::Undo(number) => number,
        Origin::File | Origin::Apply => current,
    };
    let undone = |number| {
        let mut origins = list.iter().map(|known| known.origin);
        origins.any(|origin| origin == Origin::Undo(number))
    };
    let mut older = list.iter().rev().filter(|known| known.number < since);
    older
        .find(|known| known.digest != present.digest && !undone(known.number))
        .map(|known| known.number)
}

fn write_json(path: &Path, document: &impl Serialize) -> Result<(), StoreError> {
    durable::replace_json(path, document).map_err(at("write", path))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let text = fs::read(path).map_err(at("read", path))?;
    serde_json::from_slice(&text).map_err(|error| StoreError::Broken {
        path: path.to_owned(),
        why: error.to_string(),
    })
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Actor;

    fn record(digest: &str) -> Generation {
        Generation {
            number: 0,
            digest: digest.to_owned(),
            file: "edge.toml".to_owned(),
            actor: Actor::daemon("start"),
            made_at: "2026-01-01T00:00:00Z".to_owned(),
            message: None,
            origin: Origin::File,
            approvals: Vec::new(),
            serial: None,
            rules: 1,
            prefixes: 2,
        }
    }

    fn bundle(text: &str) -> Bundle {
        Bundle {
            main: "edge.toml".to_owned(),
            files: [("edge.toml".to_owned(), text.to_owned())].into(),
        }
    }

    #[test]
    fn an_older_manifest_stays_known_when_the_state_is_lost() {
        let scratch = tempfile::tempdir().unwrap();
        let mut store = Store::open(scratch.path()).unwrap();
        for (digest, serial) in [
            ("aa", Some(3)),
            ("bb", Some(7)),
            ("aa", Some(3)),
            ("cc", None),
        ] {
            let signed = Generation {
                serial,
                ..record(digest)
            };
            store.add(signed, &bundle(digest), None).unwrap();
        }
        fs::remove_file(scratch.path().join("policy").join(STATE)).ok();
        let accepted = Store::open(scratch.path())
            .unwrap()
            .state()
            .accepted
            .clone();
        let accepted = accepted.unwrap();
        assert_eq!((accepted.serial, accepted.digest.as_str()), (7, "bb"));
    }

    fn numbers(store: &Store) -> Vec<u64> {
        let list = store.list().unwrap();
        list.iter().map(|generation| generation.number).collect()
    }

    #[test]
    fn what_is_added_is_found_by_the_next_one() {
        let scratch = tempfile::tempdir().unwrap();
        let mut store = Store::open(scratch.path()).unwrap();
        let first = store.add(record("aa"), &bundle("one"), None).unwrap();
        assert_eq!(first.number, 1);
        store.update(|state| state.current = 1).unwrap();
        let approval = Approval {
            manifest: "m".to_owned(),
            signatures: vec!["s".to_owned()],
        };
        store
            .add(record("bb"), &bundle("two"), Some(&approval))
            .unwrap();

        let store = Store::open(scratch.path()).unwrap();
        assert_eq!((store.state().current, store.state().last), (1, 2));
        assert_eq!(numbers(&store), [1, 2]);
        assert_eq!(store.bundle(2).unwrap(), bundle("two"));
        assert_eq!(store.record(1).unwrap(), first);
        assert_eq!(store.approval(1).unwrap(), None);
        assert_eq!(store.approval(2).unwrap(), Some(approval));
        assert!(matches!(
            store.bundle(3),
            Err(StoreError::Unknown { number: 3 })
        ));
    }

    #[test]
    fn the_oldest_go_but_never_those_that_are_needed() {
        let scratch = tempfile::tempdir().unwrap();
        let mut store = Store::open(scratch.path()).unwrap();
        store.keep(3);
        for _ in 0..5 {
            store.add(record("aa"), &bundle("one"), None).unwrap();
        }
        let clocks = Clocks::now().unwrap();
        store
            .update(|state| {
                state.current = 2;
                state.pending = Some(Pending {
                    undo_to: 1,
                    deadline: Deadline::after(std::time::Duration::from_secs(1), &clocks),
                });
            })
            .unwrap();
        store.prune().unwrap();
        assert_eq!(numbers(&store), [1, 2, 5]);
        let next = store.add(record("aa"), &bundle("one"), None).unwrap();
        assert_eq!(next.number, 6);
    }

    #[test]
    fn going_back_again_goes_back_further() {
        let generation = |number, digest: &str, origin| Generation {
            number,
            origin,
            ..record(digest)
        };
        let mut list = vec![
            generation(1, "aa", Origin::File),
            generation(2, "bb", Origin::Apply),
            generation(3, "bb", Origin::Apply),
            generation(4, "cc", Origin::Apply),
        ];
        assert_eq!(before(&list, 4), Some(3));
        list.push(generation(5, "bb", Origin::Rollback(3)));
        assert_eq!(
            before(&list, 5),
            Some(1),
            "the same policy again is no way back"
        );
        list.push(generation(6, "aa", Origin::Rollback(1)));
        assert_eq!(before(&list, 6), None);
        // what nobody confirmed is not gone back to
        list.push(generation(7, "dd", Origin::Apply));
        list.push(generation(8, "aa", Origin::Undo(7)));
        list.push(generation(9, "ee", Origin::Apply));
        assert_eq!(before(&list, 9), Some(8));
        assert_eq!(before(&list, 8), Some(5));
    }

    #[test]
    fn a_half_made_generation_is_none() {
        let scratch = tempfile::tempdir().unwrap();
        let mut store = Store::open(scratch.path()).unwrap();
        let half = scratch.path().join("policy/.new");
        fs::create_dir(&half).unwrap();
        fs::write(half.join("bundle.json"), "{").unwrap();
        assert!(numbers(&store).is_empty());
        store.add(record("aa"), &bundle("one"), None).unwrap();
        assert_eq!(numbers(&store), [1]);
    }

    #[test]
    fn a_crash_while_one_is_removed_leaves_no_half_of_it() {
        let scratch = tempfile::tempdir().unwrap();
        let mut store = Store::open(scratch.path()).unwrap();
        for _ in 0..2 {
            store.add(record("aa"), &bundle("one"), None).unwrap();
        }
        // as it is after a kill in the middle
        let gone = scratch.path().join("policy/.gone");
        fs::rename(scratch.path().join("policy/1"), &gone).unwrap();
        fs::remove_file(gone.join("generation.json")).unwrap();
        let store = Store::open(scratch.path()).unwrap();
        assert_eq!(numbers(&store), [2]);
        store.remove(2).unwrap();
        assert!(numbers(&store).is_empty());
        assert!(!gone.exists());
    }

    #[test]
    fn a_number_is_never_given_away_twice() {
        let scratch = tempfile::tempdir().unwrap();
        let mut store = Store::open(scratch.path()).unwrap();
        store.add(record("aa"), &bundle("one"), None).unwrap();
        store.add(record("aa"), &bundle("one"), None).unwrap();
        // the state was never written
        let mut store = Store::open(scratch.path()).unwrap();
        assert_eq!(
            store
                .add(record("aa"), &bundle("one"), None)
                .unwrap()
                .number,
            3
        );
    }

    #[test]
    fn a_broken_state_is_set_aside() {
        let scratch = tempfile::tempdir().unwrap();
        drop(Store::open(scratch.path()).unwrap());
        fs::write(scratch.path().join("policy/state.json"), "{\"current\":").unwrap();
        let store = Store::open(scratch.path()).unwrap();
        assert_eq!(store.state(), &State::default());
        assert!(scratch.path().join("policy/state.json.broken").exists());
    }
}
