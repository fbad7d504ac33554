//! The real programs under `BPF_PROG_TEST_RUN`: a filter of one's own, frames in, verdicts and
//! counter deltas out. Owns the network and mount namespace of the thread that uses it. Must never
//! attach a program, and never let a frame reach a network.

pub mod assignment;
pub mod campaign;
pub mod clock;
pub mod counters;
pub mod entries;
pub mod filter;
pub mod map;
pub mod place;
pub mod replay;
pub mod syscall;

pub use filter::{Filter, Verdict};
pub use place::can_run;
pub use replay::{Disagreement, Replay, replay};
