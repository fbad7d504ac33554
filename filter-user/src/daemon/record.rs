//! The record of control actions, as the daemon keeps it. A host whose disk does not take it is filtered all the same;
//! only changes are refused.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::audit::{DIRECTORY, Event, Log};
use crate::control::Record;
use crate::settings::AuditSettings;

/// Opens the record of a state directory.
pub(super) fn open(state_dir: &Path, settings: &AuditSettings) -> Arc<dyn Record> {
    let directory = state_dir.join(DIRECTORY);
    match Log::open(&directory, settings) {
        Ok(log) => Arc::new(log),
        Err(error) => {
            let path = directory.display();
            tracing::error!(%path, %error, "control actions cannot be recorded, so none is taken");
            Arc::new(Closed(error.to_string()))
        }
    }
}

impl Record for Log {
    fn ready(&self) -> io::Result<()> {
        self.check()
    }

    fn record(&self, event: Event, repeated: u64) -> io::Result<()> {
        match repeated {
            0 => self.append(event)?,
            times => self.append_repeated(event, u32::try_from(times).unwrap_or(u32::MAX))?,
        };
        Ok(())
    }
}

/// A record that could not be opened.
#[derive(Debug)]
struct Closed(String);

impl Record for Closed {
    fn ready(&self) -> io::Result<()> {
        Err(io::Error::other(self.0.clone()))
    }

    fn record(&self, _: Event, _: u64) -> io::Result<()> {
        self.ready()
    }
}
