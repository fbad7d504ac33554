//! A host with two containers, for real: links, routes and peers as this kernel tells them.

use std::net::Ipv6Addr;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use super::super::{Kind, Links, Peer, Watch};
use super::{ip, net};
use crate::compile::Route;

/// A namespace and a thread in it, on which things are done; both go together.
struct Namespace {
    jobs: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    thread: i32,
}

impl Namespace {
    fn new() -> nix::Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (ready, made) = mpsc::channel();
        std::thread::spawn(move || {
            let result = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
                .map(|()| nix::unistd::gettid().as_raw());
            let _ = ready.send(result);
            for job in inbox {
                job();
            }
        });
        let thread = made.recv().expect("the thread lives")?;
        Ok(Self { jobs, thread })
    }

    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, result) = mpsc::channel();
        let job = Box::new(move || {
            let _ = answer.send(work());
        });
        self.jobs.send(job).expect("the namespace's thread lives");
        result
            .recv_timeout(Duration::from_secs(30))
            .expect("the work in the namespace ended")
    }

    fn commands(&self, lines: String) {
        self.run(move || {
            let done = Command::new("sh").args(["-euc", &lines]).output();
            let done = done.expect("a shell");
            let error = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success(), "{lines}: {error}");
        });
    }

    /// Runs a future here; netlink sockets that it opens belong to this namespace.
    fn wait<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        self.run(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime")
                .block_on(work())
        })
    }
}

fn index(links: &Links, name: &str) -> u32 {
    let found = links.names.iter().find(|(_, known)| *known == name);
    *found.expect("the interface").0
}

/// A host with a bridge and two containers; one of them has no bridge, as with Calico.
fn host() -> Option<(Namespace, [Namespace; 2])> {
    let made =
        || -> nix::Result<_> { Ok((Namespace::new()?, [Namespace::new()?, Namespace::new()?])) };
    let (host, containers) = made()
        .map_err(|error| {
            println!("SKIPPED: cannot make a network namespace (root needed): {error}");
        })
        .ok()?;
    host.commands(format!(
        "ip link set lo up
         ip link add br0 type bridge
         ip link add pod0 type veth peer name eth0 address 02:00:00:00:00:05 netns {}
         ip link add cali0 type veth peer name eth0 address 02:00:00:00:00:06 netns {}
         ip link add same0 type veth peer name same1
         ip link set pod0 master br0
         ip addr add 10.22.0.1/24 dev br0; ip addr add 2001:db8:22::1/64 dev br0 nodad
         ip addr add 192.0.2.1/24 dev same0; ip addr add 192.0.2.2/24 dev same1
         ip addr add 2001:db8:9::9/64 dev same1
         for link in br0 pod0 cali0 same0 same1; do ip link set $link up; done",
        containers[0].thread, containers[1].thread
    ));
    containers[0].commands(
        "ip addr add 10.22.0.5/24 dev eth0; ip addr add 2001:db8:22::5/64 dev eth0
         ip link set eth0 up"
            .to_owned(),
    );
    containers[1].commands(
        "ip addr add 10.99.0.6/32 dev eth0; ip link set eth0 up
         ip addr add 10.1.2.3/8 dev lo"
            .to_owned(),
    );
    Some((host, containers))
}

#[test]
fn links_and_peers_of_a_host() {
    let Some((host, _containers)) = host() else {
        return;
    };
    let (links, peers) = host.wait(|| async {
        let mut watch = Watch::start().expect("netlink");
        let links = watch.snapshot(false).await.expect("links");
        let of = ["pod0", "cali0", "same0", "br0"].map(|name| index(&links, name));
        let peers = watch.peers(&links, &of).await;
        (links, peers)
    });
    let at = |name| index(&links, name);
    assert_eq!(links.bridge_name(at("pod0")), Some("br0"));
    assert_eq!(links.bridge_name(at("cali0")), None);
    let bridge = &links.details[&at("br0")];
    assert_eq!(bridge.kind, Kind::Bridge);
    assert!(bridge.mac.is_some());
    assert_eq!(
        bridge.prefixes,
        [net("10.22.0.0/24"), net("2001:db8:22::/64")]
    );
    assert!(links.facts.routes.is_empty());
    let tentative: Ipv6Addr = "2001:db8:9::9".parse().expect("an address");
    assert!(links.facts.own_v6.contains(&tentative));
    assert!(links.facts.tentative_v6.contains(&tentative));

    let peer = |name| peers[&at(name)].clone();
    let linked = ip("fe80::ff:fe00:5");
    let mac = Some([2, 0, 0, 0, 0, 5]);
    assert_eq!(
        peer("pod0"),
        Ok(Peer {
            here: false,
            mac,
            addresses: vec![ip("10.22.0.5"), ip("2001:db8:22::5"), linked],
        })
    );
    let routed = peer("cali0").expect("a peer");
    assert_eq!(routed.mac, Some([2, 0, 0, 0, 0, 6]));
    assert!(routed.addresses.contains(&ip("10.99.0.6")));
    assert!(
        !routed.addresses.contains(&ip("10.1.2.3")),
        "of another link"
    );
    let same = peer("same0").expect("a peer");
    assert!(same.here);
    assert_eq!(same.mac, links.details[&at("same1")].mac);
    assert!(same.addresses.contains(&ip("192.0.2.2")));
    assert!(peer("br0").is_err());
}

#[test]
fn routes_of_a_host() {
    let Some((host, _containers)) = host() else {
        return;
    };
    host.commands(
        "ip route add 198.51.100.0/24 via 10.22.0.9 metric 7
         ip route add 203.0.113.0/24 nexthop via 10.22.0.9 nexthop via 192.0.2.7 dev same0
         ip route add unreachable 198.18.0.0/15
         ip route add throw 198.19.0.0/16
         ip route add default dev same0 table 1000
         ip -6 route add 2001:db8:5::/48 via 2001:db8:22::7
         ip -6 route add blackhole 2001:db8:6::/48
         ip nexthop add id 5 via 10.22.0.8 dev br0
         ip route add 100.64.0.0/24 nhid 5"
            .to_owned(),
    );
    let routes = || {
        host.wait(|| async {
            let mut watch = Watch::start().expect("netlink");
            watch.snapshot(true).await.expect("links")
        })
    };
    let links = routes();
    let (br, same) = (index(&links, "br0"), index(&links, "same0"));
    let expect = |links: &Links, prefix, table, metric, interfaces: &[u32], any| {
        let prefix = net(prefix);
        let found: Vec<&Route> = links
            .facts
            .routes
            .iter()
            .filter(|route| route.prefix == prefix && route.table == table)
            .collect();
        let expected = Route {
            table,
            prefix,
            metric,
            interfaces: interfaces.to_vec(),
            any,
        };
        assert_eq!(found, [&expected]);
    };
    expect(&links, "198.51.100.0/24", 254, 7, &[br], false);
    let mut both = [br, same];
    both.sort_unstable();
    expect(&links, "203.0.113.0/24", 254, 0, &both, false);
    expect(&links, "198.18.0.0/15", 254, 0, &[], false);
    expect(&links, "0.0.0.0/0", 1000, 0, &[same], false);
    expect(&links, "2001:db8:5::/48", 254, 1024, &[br], false);
    expect(&links, "2001:db8:6::/48", 254, 1024, &[], false);
    expect(&links, "100.64.0.0/24", 254, 0, &[br], false);
    expect(&links, "10.22.0.0/24", 254, 0, &[br], false);
    for gateway in ["10.22.0.8", "10.22.0.9", "192.0.2.7", "2001:db8:22::7"] {
        assert!(links.gateways.contains(&ip(gateway)), "{gateway}");
    }
    let all = &links.facts.routes;
    assert!(all.iter().all(|route| route.prefix != net("198.19.0.0/16")));
    assert!(all.iter().all(|route| route.table != 255));

    host.commands("echo 0 > /proc/sys/net/ipv4/nexthop_compat_mode".to_owned());
    expect(&routes(), "100.64.0.0/24", 254, 0, &[], true);
}

#[test]
fn news_comes_from_here_and_from_containers() {
    let Some((host, [container, _])) = host() else {
        return;
    };
    // the container's thread acts while the host's listens
    let (act, acts) = mpsc::channel::<String>();
    let actor = std::thread::spawn(move || {
        for lines in acts {
            container.commands(lines);
        }
    });
    host.wait(|| async move {
        let mut watch = Watch::start().expect("netlink");
        let links = watch.snapshot(true).await.expect("links");
        // numbers of the containers' namespaces are given when somebody asks
        let pod = index(&links, "pod0");
        let before = watch.peers(&links, &[pod]).await;
        let limit = Duration::from_secs(5);
        let quiet = Duration::from_millis(1500);
        // addresses leave duplicate detection
        while tokio::time::timeout(quiet, watch.news()).await == Ok(true) {}

        act.send("ip addr add 10.22.0.77/24 dev eth0".to_owned())
            .expect("the container lives");
        let heard = tokio::time::timeout(limit, watch.news()).await;
        assert_eq!(heard, Ok(true), "an address in a container");
        watch.drain();
        let after = watch.peers(&links, &[pod]).await;
        assert_ne!(before, after);
        while tokio::time::timeout(quiet, watch.news()).await == Ok(true) {}

        let here = |lines: &str| {
            let done = Command::new("sh").args(["-euc", lines]).status();
            assert!(done.expect("a shell").success(), "{lines}");
        };
        here("ip route add 198.51.100.0/24 via 10.22.0.9");
        let heard = tokio::time::timeout(limit, watch.news()).await;
        assert_eq!(heard, Ok(true), "a route");
        watch.drain();
        let now = watch.snapshot(true).await.expect("links");
        assert_ne!(now.facts.routes, links.facts.routes);
        // nobody wants routes any more
        let _ = watch.snapshot(false).await.expect("links");
        here("ip route del 198.51.100.0/24");
        let heard = tokio::time::timeout(quiet, watch.news()).await;
        assert!(heard.is_err(), "routes are not asked for");
    });
    actor.join().expect("the container's thread");
}

#[test]
fn the_second_of_two_changes_of_routes_is_news_when_the_rest_ends() {
    let Some((host, _containers)) = host() else {
        return;
    };
    // So many that the rest after reading them outlasts the second change.
    host.commands(
        "for n in $(seq 0 1999); do
             echo route add 100.$((64 + n / 256)).$((n % 256)).0/24 dev br0
         done | ip -batch -"
            .to_owned(),
    );
    host.wait(|| async {
        let mut watch = Watch::start().expect("netlink");
        let _ = watch.snapshot(true).await.expect("links");
        let limit = Duration::from_secs(5);
        let quiet = Duration::from_millis(1500);
        while tokio::time::timeout(quiet, watch.news()).await == Ok(true) {
            let _ = watch.snapshot(true).await.expect("links");
        }
        for (number, prefix) in ["198.51.100.0/24", "203.0.113.0/24"].iter().enumerate() {
            let words = ["route", "add", prefix, "via", "10.22.0.9"];
            let done = Command::new("ip").args(words).status();
            assert!(done.expect("iproute2").success(), "{prefix}");
            let heard = tokio::time::timeout(limit, watch.news()).await;
            assert_eq!(heard, Ok(true), "change {number}");
            watch.drain();
            let links = watch.snapshot(true).await.expect("links");
            let known = |links: &Links| {
                let mut prefixes = links.facts.routes.iter().map(|route| route.prefix);
                prefixes.any(|known| known == net(prefix))
            };
            if number == 0 {
                assert!(known(&links), "read at once");
                continue;
            }
            assert!(!known(&links), "the rest was over already");
            // No news but this is to come: nothing changes any more.
            let heard = tokio::time::timeout(limit, watch.news()).await;
            assert_eq!(heard, Ok(true), "the end of the rest");
            assert!(known(&watch.snapshot(true).await.expect("links")));
            let heard = tokio::time::timeout(quiet, watch.news()).await;
            assert!(heard.is_err(), "nothing is pending any more");
        }
    });
}
