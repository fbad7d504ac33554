//! What the host's firewall does to blocked sources where no filter is: on a router and on a server, with real connections.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use edgefilter_tests::netns::Namespace;
use edgefilter_tests::netns::links::{Veth, add_address, add_route, veth};
use ipnet::IpNet;

use crate::nftables::{Keeper, PATIENCE, net, nft_ready, now};
use crate::support::beside;

/// Of the client, blocked; its neighbour's is not.
const CLIENT_V4: &str = "10.88.1.2";
const CLIENT_V6: &str = "fd88:1::2";
const NEIGHBOUR_V4: &str = "10.88.1.3";
const ROUTER_V4: &str = "10.88.1.1";
const ROUTER_V6: &str = "fd88:1::1";
const SERVER_V4: &str = "10.88.2.2";
const SERVER_V6: &str = "fd88:2::2";
const PORT: u16 = 7100;
/// How long nothing is awaited.
const SILENCE: Duration = Duration::from_millis(500);

/// client - router - server; both of these keep the table.
struct Place {
    client: Namespace,
    router: Namespace,
    server: Namespace,
    keepers: Vec<Keeper>,
}

impl Place {
    fn build() -> Result<Self> {
        let client = Namespace::create("client")?;
        let router = Namespace::create("router")?;
        let server = Namespace::create("server")?;
        let end = |namespace, name| Veth { namespace, name };
        veth(end(&client, "eth0"), end(&router, "west"), 1500)?;
        veth(end(&router, "east"), end(&server, "eth0"), 1500)?;
        for (namespace, link, address) in [
            (&client, "eth0", "10.88.1.2/24"),
            (&client, "eth0", "10.88.1.3/24"),
            (&client, "eth0", "fd88:1::2/64"),
            (&router, "west", "10.88.1.1/24"),
            (&router, "west", "fd88:1::1/64"),
            (&router, "east", "10.88.2.1/24"),
            (&router, "east", "fd88:2::1/64"),
            (&server, "eth0", "10.88.2.2/24"),
            (&server, "eth0", "fd88:2::2/64"),
        ] {
            add_address(namespace, link, address)?;
        }
        router.sysctls(&[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
        ])?;
        add_route(&client, "10.88.2.0/24", ROUTER_V4)?;
        add_route(&client, "fd88:2::/64", ROUTER_V6)?;
        add_route(&server, "10.88.1.0/24", "10.88.2.1")?;
        add_route(&server, "fd88:1::/64", "fd88:2::1")?;
        Ok(Self {
            client,
            router,
            server,
            keepers: Vec::new(),
        })
    }

    fn keep(&mut self, blocks: &[&str]) -> Result<()> {
        let until = now()? + Duration::from_mins(10);
        let blocks = blocks.iter().map(|source| Ok((net(source)?, until)));
        let blocks: Vec<(IpNet, Duration)> = blocks.collect::<Result<_>>()?;
        self.keepers.clear();
        for namespace in [&self.router, &self.server] {
            let keeper = Keeper::start(namespace, true, blocks.clone())?;
            keeper.wait("the table", |state| state.ok)?;
            self.keepers.push(keeper);
        }
        Ok(())
    }

    /// Whatever the client begins with the router and, through it, with the server.
    fn begins(&self, v4: bool, works: bool) -> Result<()> {
        let targets = if v4 {
            [(&self.router, ROUTER_V4), (&self.server, SERVER_V4)]
        } else {
            [(&self.router, ROUTER_V6), (&self.server, SERVER_V6)]
        };
        for (to, target) in targets {
            let target: IpAddr = target.parse()?;
            let seen = [
                connects(&self.client, to, target)?,
                asks(&self.client, to, target)?,
                pings(&self.client, &[], target)?,
            ];
            ensure!(
                seen == [works; 3],
                "client to {target}: TCP, UDP, ping were {seen:?}, {works} expected"
            );
        }
        Ok(())
    }

    /// Whatever the router and the server begin with the client; its replies must come through.
    fn is_answered(&self) -> Result<()> {
        for from in [&self.router, &self.server] {
            for target in [CLIENT_V4, CLIENT_V6] {
                let target: IpAddr = target.parse()?;
                let seen = [
                    connects(from, &self.client, target)?,
                    asks(from, &self.client, target)?,
                    pings(from, &[], target)?,
                ];
                ensure!(
                    seen == [true; 3],
                    "{} to the client at {target}: TCP, UDP, ping were {seen:?}",
                    from.name()
                );
            }
        }
        Ok(())
    }
}

#[test]
fn a_blocked_source_begins_nothing_and_its_replies_are_never_touched() -> Result<()> {
    if !nft_ready() {
        return Ok(());
    }
    let _turn = beside();
    let mut place = Place::build()?;
    for v4 in [true, false] {
        place.begins(v4, true).context("without the table")?;
    }
    // the server's own connection, older than the table and so than connection tracking
    let target = SocketAddr::new(CLIENT_V4.parse()?, PORT + 1);
    let (mut at_server, mut at_client) = connection(&place.server, &place.client, target)?;

    place.keep(&["10.88.1.2/32", "fd88:1::2/128"])?;
    // the client is the first to speak
    for data in [b"late", b"more"] {
        at_client.write_all(data)?;
        let mut buffer = [0; 4];
        at_server
            .read_exact(&mut buffer)
            .context("our old connection is cut")?;
        ensure!(&buffer == data);
    }
    for v4 in [true, false] {
        place.begins(v4, false).context("blocked")?;
    }
    place.is_answered().context("replies of a blocked source")?;
    let neighbour = pings(&place.client, &["-I", NEIGHBOUR_V4], SERVER_V4.parse()?)?;
    ensure!(neighbour, "another address of the same host is not blocked");
    // a blocked neighbour is still found: neighbour discovery is not dropped
    place.router.run(&["ip", "neigh", "flush", "all"])?;
    place.client.run(&["ip", "neigh", "flush", "all"])?;
    place
        .is_answered()
        .context("after the neighbours were forgotten")?;
    let dropped = place
        .router
        .run(&["nft", "list", "table", "inet", "edgefilter"])?
        .stdout;
    for chain in ["requests", "beginnings"] {
        let rules = dropped
            .split(&format!("chain {chain} {{"))
            .nth(1)
            .context("no such chain")?;
        let rules = rules.split('}').next().unwrap_or_default();
        let counts = |line: &str| line.contains("counter packets") && !line.contains("packets 0 ");
        ensure!(
            rules.lines().any(counts),
            "{chain} dropped nothing: {dropped}"
        );
    }

    // only the network of the IPv6 address
    place.keep(&["fd88:1::/64"])?;
    place
        .begins(true, true)
        .context("IPv4 is not blocked any more")?;
    place.begins(false, false).context("the /64 is blocked")?;
    place.is_answered().context("replies of a blocked /64")?;
    Ok(())
}

/// Both ends of a connection.
fn connection(
    from: &Namespace,
    to: &Namespace,
    target: SocketAddr,
) -> Result<(TcpStream, TcpStream)> {
    let listener = to.inside(|| TcpListener::bind(target))??;
    let one = from.inside(|| TcpStream::connect_timeout(&target, PATIENCE))??;
    let (other, _) = listener.accept()?;
    for end in [&one, &other] {
        end.set_read_timeout(Some(Duration::from_secs(3)))?;
    }
    Ok((one, other))
}

fn connects(from: &Namespace, to: &Namespace, target: IpAddr) -> Result<bool> {
    let target = SocketAddr::new(target, PORT);
    let _listener = to.inside(|| TcpListener::bind(target))??;
    let connected = from.inside(|| TcpStream::connect_timeout(&target, SILENCE))?;
    Ok(connected.is_ok())
}

/// Whether a datagram gets there; then its answer must come back.
fn asks(from: &Namespace, to: &Namespace, target: IpAddr) -> Result<bool> {
    let target = SocketAddr::new(target, PORT);
    let server = to.inside(|| UdpSocket::bind(target))??;
    let any: SocketAddr = if target.is_ipv4() {
        ([0; 4], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let client = from.inside(|| UdpSocket::bind(any))??;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(SILENCE))?;
    }
    client.send_to(b"question", target)?;
    let mut buffer = [0; 16];
    let Ok((_, asker)) = server.recv_from(&mut buffer) else {
        return Ok(false);
    };
    server.send_to(b"answer", asker)?;
    if client.recv_from(&mut buffer).is_err() {
        bail!("{target} was asked, and its answer did not arrive");
    }
    Ok(true)
}

fn pings(from: &Namespace, extra: &[&str], target: IpAddr) -> Result<bool> {
    let target = target.to_string();
    let mut words = vec!["ping", "-n", "-c", "1", "-W", "1"];
    words.extend(extra);
    words.push(&target);
    Ok(from.try_run(&words, PATIENCE)?.ok())
}
