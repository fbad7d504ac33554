//! The filter in the kernel: loads the program, pins it, fills its tables, attaches it, reads its counters.
//!
//! The pins are the truth: everything a later daemon (or a command without one) needs to know is in them. Nothing here
//! decides about packets, and nothing here ever detaches the filter but [`detach`].

mod attach;
mod bank;
pub mod conntrack;
pub mod counters;
pub mod entries;
mod flows;
mod grace;
pub mod in_force;
mod link_info;
mod load;
mod memory;
mod pins;
pub mod pod;
pub mod scans;
mod shadow;
pub mod test_run;
mod watch;

pub use attach::{AttachError, Attached, Mode, Side, interface_name};
pub use bank::{Assignment, PolicyMark, PushError, Staged, UNBOUND};
pub use flows::monotonic as now;
pub use load::{Dataplane, LoadError, Sizes, TcProgram, XdpProgram};
pub use pins::{Pins, detach};
pub use shadow::{Capture, Hook, JudgeError, Judged, Place, Shadow};
