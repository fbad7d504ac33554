//! Connections that exist, as lines of text and as real sockets with a masqueraded client.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6};

use super::sockets::{
    HostSocket, STATE_CLOSE, STATE_LISTEN, STATE_TIME_WAIT, dump_sockets, ping_flow, proc_address,
    proc_socket, proc_sockets, sctp_flows, tcp_flows, udp_flows,
};
use super::table::{Entry, on_the_wire, proc_entry, tracked_by_netlink};
use super::{ExistingFlow, ICMP, Kind, TCP, UDP, established, proc_net, sockets};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn own(addresses: &[&str]) -> HashSet<IpAddr> {
    addresses.iter().map(|text| ip(text)).collect()
}

fn wire(line: &str, addresses: &[&str]) -> Vec<String> {
    let entry = proc_entry(line).expect("a conntrack line");
    on_the_wire(&entry, &own(addresses))
        .iter()
        .map(text)
        .collect()
}

/// "out 6 local:port remote:port"
fn text(flow: &ExistingFlow) -> String {
    let way = if flow.outgoing { "out" } else { "in" };
    let remote = flow
        .remote
        .map_or("*".to_owned(), |remote| remote.to_string());
    let ExistingFlow {
        protocol,
        local,
        local_port,
        remote_port,
        ..
    } = flow;
    format!("{way} {protocol} {local} {local_port} {remote} {remote_port}")
}

#[test]
fn conntrack_entries_as_the_outer_wire_sees_them() {
    let host = ["192.0.2.1", "10.9.0.1"];
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "the host's own connection",
            "ipv4 2 tcp 6 431999 ESTABLISHED src=192.0.2.1 dst=198.51.100.9 sport=40000 dport=443 src=198.51.100.9 dst=192.0.2.1 sport=443 dport=40000 [ASSURED] mark=0 zone=0 use=2",
            &["out 6 192.0.2.1 40000 198.51.100.9 443"],
        ),
        (
            "masqueraded container, with another port outside",
            "ipv4 2 tcp 6 431999 ESTABLISHED src=10.9.0.2 dst=198.51.100.9 sport=40000 dport=443 src=198.51.100.9 dst=192.0.2.1 sport=443 dport=61000 [ASSURED] use=1",
            &["out 6 192.0.2.1 61000 198.51.100.9 443"],
        ),
        (
            "a service of the host",
            "ipv4 2 tcp 6 431999 ESTABLISHED src=198.51.100.9 dst=192.0.2.1 sport=5555 dport=22 src=192.0.2.1 dst=198.51.100.9 sport=22 dport=5555 [ASSURED] use=1",
            &["in 6 192.0.2.1 22 198.51.100.9 5555"],
        ),
        (
            "published port of a container",
            "ipv4 2 tcp 6 431999 ESTABLISHED src=198.51.100.9 dst=192.0.2.1 sport=5555 dport=8080 src=10.9.0.2 dst=198.51.100.9 sport=80 dport=5555 [ASSURED] use=1",
            &["in 6 192.0.2.1 8080 198.51.100.9 5555"],
        ),
        (
            "node port served by another machine: in, and out again under our address",
            "ipv4 2 tcp 6 9 ESTABLISHED src=198.51.100.9 dst=192.0.2.1 sport=5555 dport=30080 src=192.0.2.7 dst=192.0.2.1 sport=80 dport=61001 [ASSURED] use=1",
            &[
                "out 6 192.0.2.1 61001 192.0.2.7 80",
                "in 6 192.0.2.1 30080 198.51.100.9 5555",
            ],
        ),
        (
            "forwarded without translation: either end may be ours",
            "ipv6 10 tcp 6 9 ESTABLISHED src=2001:db8::5 dst=2001:db8:1::9 sport=1 dport=2 src=2001:db8:1::9 dst=2001:db8::5 sport=2 dport=1 [ASSURED] use=1",
            &[
                "out 6 2001:db8::5 1 2001:db8:1::9 2",
                "in 6 2001:db8:1::9 2 2001:db8::5 1",
            ],
        ),
        (
            "a query that waits for its answer",
            "ipv4 2 udp 17 29 src=10.9.0.2 dst=198.51.100.53 sport=4000 dport=53 [UNREPLIED] src=198.51.100.53 dst=192.0.2.1 sport=53 dport=4000 use=1",
            &["out 17 192.0.2.1 4000 198.51.100.53 53"],
        ),
        (
            "an unanswered packet from outside",
            "ipv4 2 udp 17 29 src=198.51.100.9 dst=192.0.2.1 sport=4000 dport=9 [UNREPLIED] src=192.0.2.1 dst=198.51.100.9 sport=9 dport=4000 use=1",
            &[],
        ),
        (
            "a container's ping, with another identifier outside",
            "ipv4 2 icmp 1 29 src=10.9.0.2 dst=198.51.100.9 type=8 code=0 id=7 src=198.51.100.9 dst=192.0.2.1 type=0 code=0 id=4711 use=1",
            &["out 1 192.0.2.1 4711 198.51.100.9 0"],
        ),
        (
            "a ping from outside",
            "ipv4 2 icmp 1 29 src=198.51.100.9 dst=192.0.2.1 type=8 code=0 id=7 src=192.0.2.1 dst=198.51.100.9 type=0 code=0 id=7 use=1",
            &[],
        ),
        (
            "a tunnel: its keys are no ports",
            "ipv4 2 gre 47 179 timeout=180, stream_timeout=180 src=192.0.2.1 dst=198.51.100.9 srckey=0x1 dstkey=0x2 src=198.51.100.9 dst=192.0.2.1 srckey=0x2 dstkey=0x1 use=1",
            &["out 47 192.0.2.1 0 198.51.100.9 0"],
        ),
        (
            "closed",
            "ipv4 2 tcp 6 100 TIME_WAIT src=192.0.2.1 dst=198.51.100.9 sport=1 dport=2 src=198.51.100.9 dst=192.0.2.1 sport=2 dport=1 [ASSURED] use=1",
            &[],
        ),
    ];
    for (name, line, expected) in cases {
        assert_eq!(wire(line, &host), *expected, "{name}");
    }
    for broken in [
        "",
        "ipv4",
        "ipv4 2 tcp six 1 src=1.2.3.4",
        "ipv4 2 tcp 6 9 X src=a dst=b",
    ] {
        assert_eq!(proc_entry(broken), None, "{broken:?}");
    }
}

fn socket(local: &str, remote: &str, state: u8) -> HostSocket {
    let address = |text: &str| text.parse().expect("an address with a port");
    HostSocket {
        local: address(local),
        remote: address(remote),
        state,
        v6_only: false,
        inode: 0,
    }
}

#[test]
fn sockets_that_are_connections() {
    let flows = tcp_flows(&[
        socket("0.0.0.0:22", "0.0.0.0:0", STATE_LISTEN),
        socket("192.0.2.1:22", "198.51.100.9:5555", 1),
        socket("[::ffff:192.0.2.1]:40000", "[::ffff:198.51.100.9]:443", 1),
        socket("192.0.2.1:40001", "198.51.100.9:443", STATE_TIME_WAIT),
        socket("192.0.2.1:40002", "0.0.0.0:0", STATE_CLOSE),
    ]);
    let flows: Vec<_> = flows.iter().map(text).collect();
    assert_eq!(
        flows,
        [
            "in 6 192.0.2.1 22 198.51.100.9 5555",
            "out 6 192.0.2.1 40000 198.51.100.9 443"
        ]
    );

    let flows = udp_flows(
        &[
            socket("[::]:40000", "[::]:0", STATE_CLOSE),
            socket("0.0.0.0:53", "0.0.0.0:0", STATE_CLOSE),
            socket("192.0.2.1:53", "198.51.100.9:5555", 1),
            socket("[2001:db8::1]:50000", "[2001:db8::2]:53", 1),
        ],
        (32768, 60999),
    );
    let flows: Vec<_> = flows.iter().map(text).collect();
    assert_eq!(
        flows,
        [
            "out 17 :: 40000 * 0",
            "out 17 0.0.0.0 40000 * 0",
            "in 17 192.0.2.1 53 198.51.100.9 5555",
            "out 17 2001:db8::1 50000 2001:db8::2 53",
        ]
    );
}

#[test]
fn lines_of_proc() {
    let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when";
    assert_eq!(ping_flow(head, ICMP), None);
    // The kernel prints words of the address as numbers of the machine it runs on.
    let word = |octets: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(octets));
    let v4 = word([192, 0, 2, 1]);
    let v6 = [[0x20, 1, 0xd, 0xb8], [0; 4], [0; 4], [0, 0, 0, 1]]
        .map(word)
        .concat();
    let line = format!("    7: {v4}:1267 00000000:0000 07 00000000:00000000 00:00000000");
    let ping = ping_flow(&line, ICMP);
    assert_eq!(
        ping.as_ref().map(text).as_deref(),
        Some("out 1 192.0.2.1 4711 * 0")
    );
    assert_eq!(
        proc_address(&format!("{v6}:0007")),
        Some((ip("2001:db8::1"), 7))
    );
    let listening = proc_socket(&format!("   0: {v4}:0016 00000000:0000 0A 00:00"));
    assert!(listening.is_some_and(|found| found.state == STATE_LISTEN));
    assert!(proc_socket(head).is_none());
    assert_eq!(proc_address("0100"), None);
    assert_eq!(proc_address("€100007F:0016"), None);

    let line = "0000 0000 2 1 3 0 5 0 0 0 12345 40000 3868 *192.0.2.1 2001:db8::1 <-> \
                *198.51.100.9 2001:db8::9 7500 10 10 0 0 0 0";
    let flows: Vec<_> = sctp_flows(line).iter().map(text).collect();
    assert_eq!(
        flows,
        [
            "out 132 192.0.2.1 40000 198.51.100.9 3868",
            "out 132 2001:db8::1 40000 2001:db8::9 3868"
        ]
    );
    assert!(sctp_flows(" ASSOC     SOCK   STY SST ST HBKT ASSOC-ID TX_QUEUE").is_empty());
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own, which ends with it.
struct Namespace {
    jobs: mpsc::Sender<Job>,
    thread: i32,
}

impl Namespace {
    fn new() -> Result<Self, String> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, made) = mpsc::channel();
        std::thread::spawn(move || {
            let result = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
                .map(|()| nix::unistd::gettid().as_raw());
            let _ = ready.send(result);
            for job in inbox {
                job();
            }
        });
        match made.recv() {
            Ok(Ok(thread)) => Ok(Namespace { jobs, thread }),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, result) = mpsc::channel();
        let job = Box::new(move || {
            let _ = answer.send(work());
        });
        self.jobs.send(job).expect("the namespace's thread lives");
        result
            .recv_timeout(Duration::from_secs(20))
            .expect("the work in the namespace ended")
    }

    /// Runs lines of commands, each of which must succeed.
    fn commands(&self, script: String) {
        self.run(move || {
            let status = Command::new("sh").args(["-ec", &script]).status();
            assert!(
                status.is_ok_and(|status| status.success()),
                "failed: {script}"
            );
        });
    }
}

fn ping_socket() -> OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, bind};
    let socket = nix::sys::socket::socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Icmp,
    )
    .expect("a ping socket");
    // The identifier takes the place of the port.
    let address = SockaddrIn::new(192, 0, 2, 1, 4711);
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address).expect("an identifier");
    socket
}

/// Real sockets and a real masqueraded client: remote === host === client.
#[test]
fn real_sockets_and_a_masqueraded_client() {
    let (host, remote, client) = match (Namespace::new(), Namespace::new(), Namespace::new()) {
        (Ok(host), Ok(remote), Ok(client)) => (host, remote, client),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
            println!("SKIPPED: cannot make a network namespace (root needed): {error}");
            return;
        }
    };
    host.commands(format!(
        "ip link set lo up
         ip link add o0 type veth peer name o1 netns {}
         ip link add c0 type veth peer name c1 netns {}
         ip addr add 192.0.2.1/24 dev o0; ip addr add 2001:db8::1/64 dev o0 nodad
         ip addr add 10.9.0.1/24 dev c0
         ip link set o0 up; ip link set c0 up
         echo 1 > /proc/sys/net/ipv4/ip_forward
         echo '0 0' > /proc/sys/net/ipv4/ping_group_range
         nft 'table ip n {{
            chain out {{ type nat hook postrouting priority 100; oifname o0 masquerade random; }}
            chain in {{ type nat hook prerouting priority -100; tcp dport 8080 dnat to 10.9.0.2:80; }}
         }}'",
        remote.thread, client.thread
    ));
    remote.commands(
        "ip addr add 192.0.2.2/24 dev o1; ip addr add 2001:db8::2/64 dev o1 nodad
         ip link set o1 up"
            .to_owned(),
    );
    client.commands(
        "ip addr add 10.9.0.2/24 dev c1; ip link set c1 up; ip route add default via 10.9.0.1"
            .to_owned(),
    );

    // Services, then those who use them; all sockets stay open until the end.
    let (far4, far6, far_udp) = remote.run(|| {
        (
            TcpListener::bind("192.0.2.2:5000").expect("listen"),
            TcpListener::bind("[2001:db8::2]:5000").expect("listen"),
            UdpSocket::bind("192.0.2.2:53").expect("bind"),
        )
    });
    let inner = client.run(|| TcpListener::bind("10.9.0.2:80").expect("listen"));
    let (host_service, host4, host6, connected, unconnected, ping) = host.run(|| {
        let connected = UdpSocket::bind("192.0.2.1:0").expect("bind");
        connected.connect("192.0.2.2:53").expect("connect");
        (
            TcpListener::bind("[::]:2222").expect("listen"),
            TcpStream::connect("192.0.2.2:5000").expect("connect"),
            TcpStream::connect("[2001:db8::2]:5000").expect("connect"),
            connected,
            UdpSocket::bind("[::]:0").expect("bind"),
            ping_socket(),
        )
    });
    let (visitor, published) = remote.run(|| {
        // Unasked for, and unanswered: must not show up as a flow.
        let noise = UdpSocket::bind("192.0.2.2:9").expect("bind");
        let _ = noise.send_to(b"x", "192.0.2.1:5001");
        (
            TcpStream::connect("192.0.2.1:2222").expect("connect"),
            TcpStream::connect("192.0.2.1:8080").expect("connect"),
        )
    });
    let (guest, guest_udp) = client.run(|| {
        let mut guest = TcpStream::connect("192.0.2.2:5000").expect("connect");
        guest.write_all(b"x").expect("write");
        let query = UdpSocket::bind("10.9.0.2:0").expect("bind");
        query.send_to(b"?", "192.0.2.2:53").expect("send");
        (guest, query)
    });
    // As the other side sees the masqueraded ones.
    let accepted = remote.run({
        let far4 = far4.try_clone().expect("clone");
        move || {
            [
                far4.accept().expect("accept").1,
                far4.accept().expect("accept").1,
            ]
        }
    });
    let asked = remote.run({
        let far_udp = far_udp.try_clone().expect("clone");
        move || far_udp.recv_from(&mut [0; 8]).expect("receive").1
    });

    let found = host
        .run(|| established(|_| false))
        .expect("the kernel lists its connections");
    let port = |address: io::Result<SocketAddr>| address.expect("bound").port();
    let [first, second] = accepted.map(|address| address.port());
    let mine = port(host4.local_addr());
    let masqueraded = if first == mine { second } else { first };
    let mut expected = vec![
        format!("out 6 192.0.2.1 {mine} 192.0.2.2 5000"),
        format!(
            "out 6 2001:db8::1 {} 2001:db8::2 5000",
            port(host6.local_addr())
        ),
        format!(
            "out 17 192.0.2.1 {} 192.0.2.2 53",
            port(connected.local_addr())
        ),
        format!("out 17 :: {} * 0", port(unconnected.local_addr())),
        format!("out 17 0.0.0.0 {} * 0", port(unconnected.local_addr())),
        "out 1 192.0.2.1 4711 * 0".to_owned(),
        format!(
            "in 6 192.0.2.1 2222 192.0.2.2 {}",
            port(visitor.local_addr())
        ),
        format!(
            "in 6 192.0.2.1 8080 192.0.2.2 {}",
            port(published.local_addr())
        ),
        format!("out 6 192.0.2.1 {masqueraded} 192.0.2.2 5000"),
        format!("out 17 192.0.2.1 {} 192.0.2.2 53", asked.port()),
    ];
    expected.sort();
    let mut seen: Vec<String> = found.iter().map(text).collect();
    seen.sort();
    assert_eq!(seen, expected);
    assert!(
        found
            .iter()
            .any(|flow| flow.local_port == masqueraded && flow.remaining.is_some()),
        "conntrack's timeout is handed on"
    );

    // Both ways to the sockets say the same; /proc shows mapped addresses as IPv4 already.
    let (by_diag, by_proc) = host.run(|| {
        let sorted = |sockets: Vec<HostSocket>| {
            let mut list: Vec<String> = sockets
                .iter()
                .map(|socket| {
                    let flow = sockets::connected(socket, 0, Kind::Other, true);
                    format!("{} {}", text(&flow), socket.state)
                })
                .collect();
            list.sort();
            list
        };
        [
            (AF_INET, TCP),
            (AF_INET6, TCP),
            (AF_INET, UDP),
            (AF_INET6, UDP),
        ]
        .map(|(family, protocol)| {
            let diag = dump_sockets(family, protocol).expect("sock_diag");
            let proc = proc_sockets(family, protocol).expect("/proc/net");
            (sorted(diag), sorted(proc))
        })
        .into_iter()
        .unzip::<_, _, Vec<_>, Vec<_>>()
    });
    assert_eq!(by_diag, by_proc);

    // Both ways into conntrack say the same, where the kernel still has the file.
    let (by_netlink, by_file) = host.run(|| {
        let file = fs::read_to_string(proc_net("nf_conntrack")).unwrap_or_default();
        let file: Vec<Entry> = file.lines().filter_map(proc_entry).collect();
        (tracked_by_netlink().expect("ctnetlink"), file)
    });
    if by_file.is_empty() {
        println!("SKIPPED: the comparison with /proc/net/nf_conntrack, which is not there");
    } else {
        let mut left: Vec<_> = by_netlink
            .iter()
            .map(|e| {
                (
                    e.protocol,
                    e.original.source_port,
                    e.reply.destination_port,
                    e.replied,
                    e.over,
                )
            })
            .collect();
        let mut right: Vec<_> = by_file
            .iter()
            .map(|e| {
                (
                    e.protocol,
                    e.original.source_port,
                    e.reply.destination_port,
                    e.replied,
                    e.over,
                )
            })
            .collect();
        left.sort_unstable();
        right.sort_unstable();
        assert_eq!(left, right);
    }
    drop((far6, inner, host_service, ping, guest, guest_udp));
}
