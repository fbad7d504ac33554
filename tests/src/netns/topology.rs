//! The standard topology "edge": an outside peer, a host with the filter, a container behind it.
//!
//! ```text
//! client eth0 ---- eth0 host ctr0 ---- eth0 inner
//! second eth0 ---- eth1 host              (optional)
//! ```
//!
//! Owns the addresses used. The host forwards, and masquerades what inner sends out of eth0. The
//! client knows a route to inner, so that unsolicited traffic to it is a real attempt.

use std::time::Duration;

use anyhow::{Context, Result};

use super::links::{Veth, add_address, add_route, default_route, veth};
use super::{Namespace, Scratch, wait_until};

/// The client's address on the link to the host.
pub const CLIENT_V4: &str = "10.77.1.2";
/// The same, IPv6.
pub const CLIENT_V6: &str = "fd77:1::2";
/// The client's second address, for rules about sources.
pub const CLIENT_OTHER_V4: &str = "10.77.1.3";
/// The same, IPv6.
pub const CLIENT_OTHER_V6: &str = "fd77:1::3";
/// The host's address outside, on eth0.
pub const HOST_V4: &str = "10.77.1.1";
/// The same, IPv6.
pub const HOST_V6: &str = "fd77:1::1";
/// The container's address.
pub const INNER_V4: &str = "10.77.2.2";
/// The same, IPv6.
pub const INNER_V6: &str = "fd77:2::2";
/// The second peer's address; the host has 10.77.3.1 there.
pub const SECOND_V4: &str = "10.77.3.2";
/// The same, IPv6.
pub const SECOND_V6: &str = "fd77:3::2";

const MASQUERADE: &str = "table inet outgoing {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    iifname \"ctr0\" oifname \"eth0\" masquerade
  }
}
";

/// What can differ from the standard topology.
#[derive(Clone, Copy, Debug)]
pub struct EdgeOptions {
    /// Bytes, on every link.
    pub mtu: u32,
    /// Adds `second`, a peer on the host's eth1.
    pub second: bool,
    /// False leaves the host's eth0 without addresses, for DHCP.
    pub addresses: bool,
}

impl Default for EdgeOptions {
    fn default() -> Self {
        Self {
            mtu: 1500,
            second: false,
            addresses: true,
        }
    }
}

/// The namespaces, linked and routed; removed when dropped.
#[derive(Debug)]
pub struct Edge {
    /// The outside: peer, gateway and resolver of the host.
    pub client: Namespace,
    /// Runs the filter and the services.
    pub host: Namespace,
    /// The container behind the host.
    pub inner: Namespace,
    /// The second peer, when asked for.
    pub second: Option<Namespace>,
    /// Files of the programs that run here.
    pub scratch: Scratch,
}

impl Edge {
    /// Builds it, and waits until traffic flows.
    pub fn build(options: &EdgeOptions) -> Result<Self> {
        let edge = Self {
            client: Namespace::create("client")?,
            host: Namespace::create("host")?,
            inner: Namespace::create("inner")?,
            second: options
                .second
                .then(|| Namespace::create("second"))
                .transpose()?,
            scratch: Scratch::create("scratch")?,
        };
        edge.connect_outside(*options)?;
        edge.connect_inner(*options)?;
        if let Some(second) = &edge.second {
            edge.connect_second(second, *options)?;
        }
        if options.addresses {
            edge.settle()?;
        }
        Ok(edge)
    }

    /// The topology with everything at its default.
    pub fn standard() -> Result<Self> {
        Self::build(&EdgeOptions::default())
    }

    fn connect_outside(&self, options: EdgeOptions) -> Result<()> {
        let (client, host) = (&self.client, &self.host);
        veth(end(host, "eth0"), end(client, "eth0"), options.mtu)?;
        for address in [CLIENT_V4, CLIENT_OTHER_V4] {
            add_address(client, "eth0", &format!("{address}/24"))?;
        }
        for address in [CLIENT_V6, CLIENT_OTHER_V6] {
            add_address(client, "eth0", &format!("{address}/64"))?;
        }
        if options.addresses {
            add_address(host, "eth0", &format!("{HOST_V4}/24"))?;
            add_address(host, "eth0", &format!("{HOST_V6}/64"))?;
            default_route(host, CLIENT_V4)?;
            default_route(host, CLIENT_V6)?;
            add_route(client, "10.77.2.0/24", HOST_V4)?;
            add_route(client, "fd77:2::/64", HOST_V6)?;
        }
        // Of two addresses on one link the older is the default source; say so instead of relying
        // on it, since IPv6 prefers the younger.
        client.run(&[
            "ip",
            "-6",
            "address",
            "change",
            &format!("{CLIENT_OTHER_V6}/64"),
            "dev",
            "eth0",
            "preferred_lft",
            "0",
        ])?;
        Ok(())
    }

    fn connect_inner(&self, options: EdgeOptions) -> Result<()> {
        let (host, inner) = (&self.host, &self.inner);
        veth(end(host, "ctr0"), end(inner, "eth0"), options.mtu)?;
        add_address(host, "ctr0", "10.77.2.1/24")?;
        add_address(host, "ctr0", "fd77:2::1/64")?;
        add_address(inner, "eth0", &format!("{INNER_V4}/24"))?;
        add_address(inner, "eth0", &format!("{INNER_V6}/64"))?;
        default_route(inner, "10.77.2.1")?;
        default_route(inner, "fd77:2::1")?;
        host.sysctls(&[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
        ])?;
        host.nft(&self.scratch, MASQUERADE)
    }

    fn connect_second(&self, second: &Namespace, options: EdgeOptions) -> Result<()> {
        veth(end(&self.host, "eth1"), end(second, "eth0"), options.mtu)?;
        add_address(&self.host, "eth1", "10.77.3.1/24")?;
        add_address(&self.host, "eth1", "fd77:3::1/64")?;
        add_address(second, "eth0", &format!("{SECOND_V4}/24"))?;
        add_address(second, "eth0", &format!("{SECOND_V6}/64"))?;
        default_route(second, "10.77.3.1")?;
        default_route(second, "fd77:3::1")
    }

    /// Waits until both ends can talk: a veth pair is up a moment after it is told to be.
    fn settle(&self) -> Result<()> {
        for (from, to) in [
            (&self.client, HOST_V4),
            (&self.client, HOST_V6),
            (&self.inner, CLIENT_V4),
            (&self.inner, CLIENT_V6),
        ] {
            wait_until(Duration::from_secs(5), || {
                from.try_run(
                    &["ping", "-q", "-n", "-c1", "-W1", to],
                    Duration::from_secs(3),
                )
                .is_ok_and(|done| done.ok())
            })
            .with_context(|| format!("{} cannot reach {to} even without a filter", from.name()))?;
        }
        Ok(())
    }
}

fn end<'a>(namespace: &'a Namespace, name: &'a str) -> Veth<'a> {
    Veth { namespace, name }
}
