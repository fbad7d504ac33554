//! The command line: what may be typed ([`Cli`]), and one function for each command.
//!
//! Commands write one document to standard output and what they have to say beside it to standard error; they never
//! end the process. `main` calls them and turns the [`Outcome`] into an exit code.

mod arguments;
pub mod audit;
pub mod block;
pub mod check;
pub mod counters;
mod daemon;
pub mod detach;
pub mod doctor;
pub mod documents;
pub mod entries;
pub mod events;
pub mod explain;
pub mod exposure;
pub mod fmt;
mod lines;
mod logging;
pub mod manifest;
pub mod metrics;
mod origin;
mod output;
pub mod policy;
mod privilege;
pub mod replay;
pub mod run;
pub mod scans;
pub mod status;
#[cfg(test)]
mod tests;

pub use arguments::*;
pub use output::{Output, report_error};
pub use privilege::is_missing as is_privilege_missing;

/// How a command ended, when nothing unexpected happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was asked.
    Done,
    /// What was asked has the answer no: a policy with errors, an interface that is not ready.
    Refused,
    /// The daemon cannot be reached; what is known without it was shown.
    Unreachable,
}
