//! Throw-away network namespaces: links, addresses, raw frames and captures, all removed when the
//! value that made them is dropped.
//!
//! Owns everything whose name starts with `ef-<pid>-`: namespaces under /run/netns, directories
//! under the temporary directory, and the bpffs mounted there. Must never touch a link, an address,
//! a firewall rule or a process of the namespace the tests were started in.

pub mod frames;
pub mod leftovers;
pub mod links;
pub mod namespace;
pub mod outside;
pub mod packet_socket;
pub mod process;
pub mod ring;
pub mod scratch;
pub mod topology;

pub use frames::{Ends, Family};
pub use leftovers::sweep;
pub use links::{Veth, add_address, add_route, bridge, default_route, hardware_address};
pub use namespace::Namespace;
pub use outside::{Outside, Peer, Users};
pub use packet_socket::{Capture, PacketSocket};
pub use process::{Finished, Running, finish};
pub use scratch::Scratch;
pub use topology::{Edge, EdgeOptions};

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What every name made here starts with. The pid follows, so that the leftovers of a killed run
/// can be told from what a live run uses.
pub const NAME_PREFIX: &str = "ef-";

/// `ef-<pid>-<n>-<label>`, unique in this process.
pub(crate) fn fresh_name(label: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{NAME_PREFIX}{}-{n}-{label}", std::process::id())
}

/// Asks `condition` every few milliseconds until it holds. Returns how long that took, or `None`
/// when `limit` passed first.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> Option<Duration> {
    let start = Instant::now();
    loop {
        if condition() {
            return Some(start.elapsed());
        }
        if start.elapsed() >= limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
