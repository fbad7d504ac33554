//! Containers as a container runtime makes them: a network namespace, CNI plugins in it, a process by runc.
//!
//! Owns the order of these steps and the directories they use, all in a test's scratch directory. Must never touch the
//! machine's own containers, networks or CNI cache.

mod cache;
mod network;
mod runtime;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Seen, find, http};
use crate::netns::{Finished, Namespace, Scratch};
pub use network::{
    Attachment, BRIDGE, GATEWAY_V4, GATEWAY_V6, Network, Published, SUBNET_V4, SUBNET_V6,
};
use runtime::Runtime;

/// Name of the CNI cache in the scratch directory (libcni's is /var/lib/cni).
pub const CACHE: &str = "cni";
/// The port that the program in a container listens on, TCP.
pub const PORT: u16 = 80;
/// Where Debian's containernetworking-plugins puts them, then where others do.
const PLUGINS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// What a real container needs beside the programs that every namespace test needs.
pub const NEEDED: [&str; 3] = ["runc", "busybox", "iptables"];

/// The directory of the CNI plugins, or why there is none.
pub fn plugins() -> Result<PathBuf> {
    PLUGINS
        .map(PathBuf::from)
        .into_iter()
        .find(|directory| directory.join("bridge").is_file())
        .context("no CNI plugins: apt-get install containernetworking-plugins")
}

/// A running container: busybox' web server on [`PORT`]. Stopped, and taken off its network, when dropped.
#[derive(Debug)]
pub struct Container {
    // In this order: the process ends, its network goes, its namespace goes.
    runtime: Runtime,
    /// What the plugins gave it.
    pub network: Attachment,
    /// Its network namespace.
    pub namespace: Namespace,
}

impl Container {
    /// Makes the namespace, then the network, then starts the process; the order of containerd and CRI-O.
    pub fn start(
        network: &Network,
        scratch: &Scratch,
        label: &str,
        published: &[Published],
    ) -> Result<Self> {
        let namespace = Namespace::create(label)?;
        Self::start_in(namespace, network, scratch, published)
    }

    /// The same in a namespace that is there already, to look into it from the first moment on.
    pub fn start_in(
        namespace: Namespace,
        network: &Network,
        scratch: &Scratch,
        published: &[Published],
    ) -> Result<Self> {
        let attachment = network.add(&namespace, published)?;
        let words = ["httpd", "-f", "-p", &PORT.to_string(), "-h", "/www"].map(str::to_owned);
        let runtime = Runtime::start(&namespace, scratch, &words)?;
        let container = Self {
            runtime,
            network: attachment,
            namespace,
        };
        container.wait_listening()?;
        Ok(container)
    }

    /// Runs one of busybox' programs inside, in all of the container's namespaces, with its capabilities.
    pub fn exec(&self, words: &[&str], limit: Duration) -> Result<Finished> {
        self.runtime.exec(words, limit)
    }

    /// Fetches a page from inside. By nc and not by wget, which crashes in Debian's static busybox. Works only when the
    /// page is the one served here.
    pub fn fetch(&self, address: &str, port: u16, limit: Duration) -> Result<(Seen, String)> {
        let script = format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | /bin/busybox nc -w {} {address} {port}",
            limit.as_secs().max(1)
        );
        let done = self.exec(&["sh", "-c", &script], limit + Duration::from_secs(5))?;
        let seen = if done.ok() && done.stdout.ends_with(http::BODY) {
            Seen::Works
        } else if done.stderr.contains("timed out") {
            Seen::Nothing
        } else {
            Seen::Reached
        };
        Ok((
            seen,
            format!("nc exit {} {}", done.code(), done.stderr.trim()),
        ))
    }

    /// Sends one echo request from inside, with two seconds of patience. Works only when it was answered.
    pub fn ping(&self, address: &str) -> Result<(Seen, String)> {
        let words = ["ping", "-c", "1", "-W", "2", address];
        let done = self.exec(&words, Duration::from_secs(10))?;
        let seen = if done.stdout.contains("1 packets received") {
            Seen::Works
        } else {
            Seen::Nothing
        };
        Ok((seen, done.stdout + &done.stderr))
    }

    /// Stops it as runtimes do: the process, then the network. The namespace goes with the last handle.
    pub fn stop(mut self) -> Result<()> {
        self.runtime.stop()?;
        self.network.remove()
    }

    fn wait_listening(&self) -> Result<()> {
        let ready = crate::netns::wait_until(Duration::from_secs(10), || {
            self.fetch("127.0.0.1", PORT, Duration::from_secs(2))
                .is_ok_and(|(seen, _)| seen == Seen::Works)
        });
        ensure!(
            ready.is_some(),
            "nobody listens in the container {}: {}",
            self.namespace.name(),
            self.runtime.log()
        );
        Ok(())
    }
}

/// The full path of a program, for what is started without a PATH.
fn program(name: &str) -> Result<PathBuf> {
    find(name).with_context(|| super::missing(&[name]).unwrap_or_default())
}
