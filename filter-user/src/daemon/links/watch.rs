//! The netlink connections: news of changes, and snapshots of what there is. News is only ever a reason to look again.

use std::io;
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::AsyncSocket;
use rtnetlink::{Error, Handle, MulticastGroup};
use tokio::time::{Instant, sleep_until};

use super::addresses::Address;
use super::routes::Tables;
use super::{Links, Peers, peers, routes};

type Messages = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, netlink_sys::SocketAddr)>;

/// News from other namespaces counts at most this often: whoever rules in one may change things as fast as he likes.
const PEER_PAUSE: Duration = Duration::from_millis(100);

/// Routes are read again after this long even without news. Some changes come without: next-hop objects, IPv4 routes of
/// a link that goes down, and what the socket had no room for.
const ROUTES_AGE: Duration = Duration::from_secs(10);

/// Reading the routes takes at most this part of the time: a full table is a million of them, and always on the move.
const ROUTES_SHARE: u32 = 8;

/// Netlink connections of the namespace it was started in.
pub(in crate::daemon) struct Watch {
    handle: Handle,
    changed: Messages,
    /// Its dumps heed the namespace they ask for.
    strict: Handle,
    /// Links and addresses of all namespaces that have a number here; `None` where the kernel refuses.
    elsewhere: Option<Messages>,
    elsewhere_changed: bool,
    elsewhere_due: Instant,
    routes: Routes,
}

/// The routes as last read.
struct Routes {
    wanted: bool,
    known: Tables,
    /// When they were read.
    at: Option<Instant>,
    /// Not read again before this.
    rest: Instant,
    changed: bool,
    /// They changed during the rest: somebody has to look when it ends. Set once for each attempt, so that a kernel that
    /// refuses to answer is not asked without a pause.
    due: Option<Instant>,
}

impl Watch {
    /// Opens the connections in the network namespace of the calling thread.
    pub(in crate::daemon) fn start() -> io::Result<Self> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (connection, handle, changed) = rtnetlink::new_multicast_connection(&groups)?;
        tokio::spawn(connection);
        let (connection, strict, _) = rtnetlink::new_connection_with_strict_check()?;
        tokio::spawn(connection);
        let elsewhere = listen_elsewhere()
            .inspect_err(|error| {
                tracing::warn!(
                    %error,
                    "changes in containers' network namespaces are noticed only once a second; CAP_NET_BROADCAST is needed"
                );
            })
            .ok();
        let now = Instant::now();
        Ok(Self {
            handle,
            changed,
            strict,
            elsewhere,
            elsewhere_changed: false,
            elsewhere_due: now,
            routes: Routes {
                wanted: false,
                known: Tables::default(),
                at: None,
                rest: now,
                changed: true,
                due: None,
            },
        })
    }

    /// Waits until something changed. False: the connection ended.
    pub(in crate::daemon) async fn news(&mut self) -> bool {
        loop {
            tokio::select! {
                message = self.changed.next() => match message {
                    Some((message, _)) if self.routes.concerns(&message) => return true,
                    Some(_) => {}
                    None => return false,
                },
                message = next(&mut self.elsewhere) => match message {
                    Some(()) => self.elsewhere_changed = true,
                    None => {
                        tracing::warn!("no more news from containers' network namespaces");
                        self.elsewhere = None;
                    }
                },
                () = sleep_until(self.elsewhere_due), if self.elsewhere_changed => {
                    self.elsewhere_changed = false;
                    self.elsewhere_due = Instant::now() + PEER_PAUSE;
                    return true;
                }
                () = until(self.routes.due) => {
                    self.routes.due = None;
                    return true;
                }
            }
        }
    }

    /// Throws away news that the next snapshot covers.
    pub(in crate::daemon) fn drain(&mut self) {
        while let Ok((message, _)) = self.changed.try_recv() {
            self.routes.concerns(&message);
        }
        if let Some(elsewhere) = &mut self.elsewhere {
            while elsewhere.try_recv().is_ok() {}
        }
        self.elsewhere_changed = false;
    }

    /// Asks the kernel for links and addresses, and for the routes of all tables if they are wanted.
    pub(in crate::daemon) async fn snapshot(&mut self, want_routes: bool) -> Result<Links, Error> {
        let mut links = Links::default();
        let mut list = self.handle.link().get().execute();
        while let Some(link) = list.try_next().await? {
            links.add_link(link);
        }
        let mut addresses = Vec::new();
        let mut list = self.handle.address().get().execute();
        while let Some(message) = list.try_next().await? {
            addresses.extend(Address::read(&message));
        }
        links.add_addresses(addresses);
        self.routes.wanted = want_routes;
        if want_routes {
            self.routes.refresh(&self.handle).await?;
            links.facts.routes.clone_from(&self.routes.known.routes);
            links.gateways.clone_from(&self.routes.known.gateways);
        } else {
            self.routes.forget();
        }
        links.finish();
        Ok(links)
    }

    /// The other ends of these links, which are part of `links`.
    pub(in crate::daemon) async fn peers(&self, links: &Links, of: &[u32]) -> Peers {
        peers::look(&self.strict, links, of).await
    }
}

/// Never ready without a connection.
async fn next(messages: &mut Option<Messages>) -> Option<()> {
    match messages {
        Some(messages) => messages.next().await.map(drop),
        None => std::future::pending().await,
    }
}

/// Never ready without an instant.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// A connection of its own, so that what happens elsewhere cannot crowd out what happens here.
fn listen_elsewhere() -> io::Result<Messages> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
    ];
    let (mut connection, _, messages) = rtnetlink::new_multicast_connection(&groups)?;
    let socket = connection.socket_mut().socket_mut();
    socket.set_listen_all_namespaces(true)?;
    tokio::spawn(connection);
    Ok(messages)
}

impl Routes {
    /// Notes a message, and tells whether somebody has to look.
    fn concerns(&mut self, message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
        let of_routes = matches!(
            message.payload,
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_)
            )
        );
        // with a link its routes go, not all of them with a message of their own
        self.changed = true;
        !of_routes || self.wanted
    }

    async fn refresh(&mut self, handle: &Handle) -> Result<(), Error> {
        let started = Instant::now();
        let old = self.at.is_none_or(|at| started - at >= ROUTES_AGE);
        if self.at.is_some() {
            if !(self.changed || old) {
                return Ok(());
            }
            if started < self.rest {
                self.due = Some(self.rest);
                return Ok(());
            }
        }
        // before reading: what changes while we read is news again
        (self.changed, self.due) = (false, None);
        self.known = routes::dump(handle)
            .await
            .inspect_err(|_| self.changed = true)?;
        let now = Instant::now();
        self.at = Some(now);
        self.rest = now + (now - started) * ROUTES_SHARE;
        Ok(())
    }

    fn forget(&mut self) {
        self.known = Tables::default();
        (self.at, self.due) = (None, None);
    }
}
