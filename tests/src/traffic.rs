//! A generator of load: packets by description, flat out or at a given pace, and captures sent again.
//!
//! Owns what is sent and how fast. Fastest is the kernel itself: a small XDP program writes what differs from packet to
//! packet into frames that never were in user space, and sends them (`BPF_PROG_TEST_RUN` with live frames: 12 million a
//! second and core on a veth). Must never send without a bound in packets and in time, nor by a link that may lead out of
//! this machine, unless it is told to.
//!
//! ```text
//! description (flags, TOML) -> stream (a frame, and what varies in it) -> program -> sender -> link
//! ```

pub mod capture;
pub mod description;
pub mod link;
pub mod pace;
pub mod pair;
pub mod program;
pub mod sender;
pub mod stream;

pub use description::Description;
pub use link::Link;
pub use pair::Pair;
pub use sender::{Limits, Sender, Sent};
pub use stream::Stream;
