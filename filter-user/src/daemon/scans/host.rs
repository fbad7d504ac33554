//! What scans depend on beside packets: the policy, and who must never be blocked on this host.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use resolv_conf::{Config, ScopedIp};
use tokio::sync::watch;

use crate::daemon::engine::Engine;
use crate::policy::Reporting;
use crate::scans::detector::{Protected, Settings};

/// Where resolvers are named: what programs ask, and what systemd-resolved asks in their stead.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// What the task is told.
pub(in crate::daemon) struct Told {
    pub(in crate::daemon) settings: Arc<Settings>,
    pub(super) reporting: Reporting,
}

/// Tells the task what changed, and only that.
pub(in crate::daemon) struct Teller {
    sender: watch::Sender<Arc<Told>>,
    last: Host,
}

/// Whether two of these differ decides whether the task is told.
#[derive(PartialEq, Eq)]
struct Host {
    policy: String,
    gateways: Vec<IpAddr>,
    own: Vec<IpAddr>,
    resolvers: Vec<IpAddr>,
}

impl Host {
    fn new(engine: &Engine) -> Self {
        let mut own = engine.own_addresses();
        own.sort_unstable();
        Self {
            policy: engine.fingerprint().to_owned(),
            gateways: engine.gateways().to_vec(),
            own,
            resolvers: resolvers(),
        }
    }

    fn told(&self, engine: &Engine) -> Arc<Told> {
        let policy = engine.policy();
        let mut reporting = policy.report.clone();
        if let Some(nftables) = &mut reporting.nftables {
            // where every profile only watches, nothing else drops for it
            nftables.drop &= policy.profiles.iter().any(|profile| profile.enforce);
        }
        Arc::new(Told {
            settings: Arc::new(Settings {
                scans: policy.scans.clone(),
                protected: Protected::new(policy, &self.gateways, &self.own, &self.resolvers),
            }),
            reporting,
        })
    }
}

impl Teller {
    /// As it is now.
    pub(in crate::daemon) fn new(engine: &Engine) -> (Self, watch::Receiver<Arc<Told>>) {
        let last = Host::new(engine);
        let (sender, receiver) = watch::channel(last.told(engine));
        (Self { sender, last }, receiver)
    }

    /// Looks again, and tells what changed.
    pub(in crate::daemon) fn look(&mut self, engine: &Engine) {
        if Host::new(engine) != self.last {
            self.tell(engine);
        }
    }

    /// Tells all: after a reload files that the policy names may hold something else, though the policy is the same.
    pub(in crate::daemon) fn tell(&mut self, engine: &Engine) {
        self.last = Host::new(engine);
        self.sender.send_replace(self.last.told(engine));
    }
}

/// This host's resolvers. A file that is not there names none.
fn resolvers() -> Vec<IpAddr> {
    let mut found = BTreeSet::new();
    for path in RESOLVERS {
        let Ok(text) = std::fs::read(path) else {
            continue;
        };
        match Config::parse(&text) {
            Ok(config) => found.extend(config.nameservers.iter().map(|server| match server {
                ScopedIp::V4(v4) => IpAddr::V4(*v4),
                ScopedIp::V6(v6, _) => IpAddr::V6(*v6),
            })),
            Err(error) => tracing::warn!(path, %error, "cannot tell which resolvers to spare"),
        }
    }
    found.into_iter().collect()
}
