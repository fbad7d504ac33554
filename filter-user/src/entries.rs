//! Run-time entries: sources that an operator lets in or keeps out for a time, beside the policy.
//!
//! All of it is pure: [`Table`] holds the entries, [`schedule`] says what the kernel has to be told, [`Document`] is what
//! outlives a restart. Clocks are handed in, and nothing here reads a file or talks to the kernel.

mod document;
mod entry;
mod life;
mod ports;
pub mod record;
mod schedule;
mod steady;
mod table;

pub use document::{Document, DocumentError};
pub use entry::{Entry, Kind};
pub use life::Life;
pub use ports::{PORTS, Ports};
pub use schedule::{recovered, schedule};
pub use steady::Steady;
pub use table::{ENTRIES, Order, Table, TableError, comment};
