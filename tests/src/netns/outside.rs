//! Peers outside: each a namespace of its own, behind the topology's client, which routes for them.
//!
//! Owns 10.77.65.0 to 10.77.254.255 and `fd77:6401::` to `fd77:64be::`, a /24 and a /64 for each peer. Adds to a topology,
//! and goes away with it.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};

use super::links::{Veth, add_address, add_route, default_route, veth};
use super::topology::{HOST_V4, INNER_V4};
use super::{Edge, Namespace, Scratch};

/// Prefix of hosts behind the host: all of them answer, and all are the topology's `inner`.
pub const SWEPT: &str = "10.77.40.0/24";

const MASQUERADE: &str = "table ip users {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname \"eth0\" masquerade
  }
}
";

/// Most peers there can be.
const PEERS: u8 = 190;

/// What the client routes to.
#[derive(Debug)]
pub struct Outside {
    router: Namespace,
    next: u8,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where its programs run; its link is `eth0`.
    pub namespace: Namespace,
    /// Its address.
    pub v4: String,
    /// Its address, IPv6.
    pub v6: String,
    router: Namespace,
}

impl Outside {
    /// Makes the client a router, and `SWEPT` reachable.
    pub fn open(edge: &Edge) -> Result<Self> {
        let router = edge.client.clone();
        router.sysctls(&[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            // Forged sources have to get through.
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/conf/all/send_redirects", "0"),
        ])?;
        add_route(&router, SWEPT, HOST_V4)?;
        add_route(&edge.host, SWEPT, INNER_V4)?;
        local(&edge.inner, SWEPT)?;
        Ok(Self { router, next: 0 })
    }

    /// Another peer, with a default route to the host's side.
    pub fn peer(&mut self, label: &str) -> Result<Peer> {
        ensure!(self.next < PEERS, "no more than {PEERS} peers");
        self.next += 1;
        let number = self.next;
        let namespace = Namespace::create(label)?;
        let link = format!("peer{number}");
        let router_end = Veth {
            namespace: &self.router,
            name: &link,
        };
        let peer_end = Veth {
            namespace: &namespace,
            name: "eth0",
        };
        veth(router_end, peer_end, 1500)?;
        let v4 = |host: u8| format!("10.77.{}.{host}", 64 + number);
        let v6 = |host: u8| format!("fd77:{:x}::{host}", 0x6400 + u16::from(number));
        for (at, link, host) in [(&self.router, link.as_str(), 1), (&namespace, "eth0", 2)] {
            add_address(at, link, &format!("{}/24", v4(host)))?;
            add_address(at, link, &format!("{}/64", v6(host)))?;
        }
        default_route(&namespace, &v4(1))?;
        default_route(&namespace, &v6(1))?;
        Ok(Peer {
            namespace,
            v4: v4(2),
            v6: v6(2),
            router: self.router.clone(),
        })
    }
}

impl Peer {
    /// Gives it all addresses of an IPv4 prefix: its sockets can be bound to each.
    pub fn own(&self, prefix: &str) -> Result<()> {
        add_route(&self.router, prefix, &self.v4)?;
        local(&self.namespace, prefix)
    }

    /// Another address in its /64.
    pub fn second_v6(&self) -> Result<String> {
        let prefix = self
            .v6
            .strip_suffix("::2")
            .context("not a peer's address")?;
        let address = format!("{prefix}::3");
        add_address(&self.namespace, "eth0", &format!("{address}/64"))?;
        Ok(address)
    }
}

/// Users behind the address of a peer, which masquerades them.
#[derive(Debug)]
pub struct Users {
    /// Where all of them are.
    pub namespace: Namespace,
    /// Their addresses.
    pub addresses: Vec<Ipv4Addr>,
}

impl Peer {
    /// Puts `count` users behind it, at most 250.
    pub fn masquerade(&self, scratch: &Scratch, count: u8) -> Result<Users> {
        let namespace = Namespace::create("users")?;
        let inside = Veth {
            namespace: &self.namespace,
            name: "lan0",
        };
        let users = Veth {
            namespace: &namespace,
            name: "eth0",
        };
        veth(inside, users, 1500)?;
        add_address(&self.namespace, "lan0", "10.88.1.1/24")?;
        add_address(&namespace, "eth0", "10.88.1.2/24")?;
        default_route(&namespace, "10.88.1.1")?;
        add_route(&self.namespace, "10.88.2.0/24", "10.88.1.2")?;
        local(&namespace, "10.88.2.0/24")?;
        self.namespace.sysctls(&[("net/ipv4/ip_forward", "1")])?;
        self.namespace.nft(scratch, MASQUERADE)?;
        let addresses = (1..=count).map(|user| Ipv4Addr::new(10, 88, 2, user));
        Ok(Users {
            namespace,
            addresses: addresses.collect(),
        })
    }
}

fn local(namespace: &Namespace, prefix: &str) -> Result<()> {
    let words = ["ip", "route", "add", "local", prefix, "dev", "lo"];
    namespace.run(&words).map(drop)
}
