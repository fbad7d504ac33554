//! Single probes: a TCP connection, a UDP datagram, hping3, and a tcpdump behind the filter.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::checks::Seen;
use crate::netns::{Namespace, Running, wait_until};

/// Tries one TCP connection, at most `limit`.
pub fn tcp(
    namespace: &Namespace,
    address: &str,
    port: u16,
    limit: Duration,
) -> Result<(Seen, String)> {
    let target = SocketAddr::new(parse(address)?, port);
    let outcome = namespace.inside(|| TcpStream::connect_timeout(&target, limit))?;
    Ok(match outcome {
        Ok(_) => (Seen::Works, "connected".to_owned()),
        Err(error) => silence_or_reached(&error),
    })
}

/// Sends up to three datagrams (first byte 0, for an `Echo::udp` to answer at once) and waits `limit` in all for an answer.
pub fn udp(
    namespace: &Namespace,
    address: &str,
    port: u16,
    limit: Duration,
) -> Result<(Seen, String)> {
    let target = SocketAddr::new(parse(address)?, port);
    let outcome = namespace.inside(|| -> io::Result<usize> {
        let any: SocketAddr = if target.is_ipv6() {
            ([0_u16; 8], 0).into()
        } else {
            ([0_u8; 4], 0).into()
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(target)?;
        socket.set_read_timeout(Some((limit / 3).max(Duration::from_millis(10))))?;
        let mut last = io::Error::from(ErrorKind::TimedOut);
        for _ in 0..3 {
            socket.send(b"\0edgefilter probe")?;
            match socket.recv(&mut [0; 64]) {
                Ok(read) => return Ok(read),
                Err(error) if is_silence(&error) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    })?;
    Ok(match outcome {
        Ok(_) => (Seen::Works, "answered".to_owned()),
        Err(error) => silence_or_reached(&error),
    })
}

/// Runs hping3 with `arguments` for `count` probes 20 ms apart; returns how many were answered.
/// IPv4 only, as hping3 is.
pub fn hping(namespace: &Namespace, address: &str, count: u32, arguments: &[&str]) -> Result<u32> {
    let text = count.to_string();
    let mut words = vec!["hping3", "-n", "-q", "-c", &text, "-i", "u20000"];
    words.extend(arguments);
    words.push(address);
    let done = namespace.try_run(&words, Duration::from_secs(10 + u64::from(count)))?;
    done.stderr
        .lines()
        .chain(done.stdout.lines())
        .find_map(|line| {
            line.split(", ")
                .find_map(|part| part.strip_suffix(" packets received")?.parse().ok())
        })
        .with_context(|| format!("hping3 gave no summary: {}{}", done.stderr, done.stdout))
}

/// tcpdump on a link, counting the packets that fit a pcap filter.
#[derive(Debug)]
pub struct Tcpdump {
    running: Running,
}

impl Tcpdump {
    /// Captures incoming packets only.
    pub fn start(namespace: &Namespace, link: &str, filter: &str) -> Result<Self> {
        let running = namespace.start(&[
            "tcpdump",
            "-n",
            "-l",
            "--immediate-mode",
            "-Q",
            "in",
            "-i",
            link,
            filter,
        ])?;
        wait_until(Duration::from_secs(5), || {
            running.stderr().contains("listening on")
        })
        .with_context(|| format!("tcpdump does not start: {}", running.stderr()))?;
        Ok(Self { running })
    }

    /// Ends the capture; returns one line a packet.
    pub fn finish(self) -> Result<Vec<String>> {
        std::thread::sleep(Duration::from_millis(100));
        let done = self.running.end(Signal::SIGINT, Duration::from_secs(5))?;
        Ok(done
            .stdout
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect())
    }
}

fn parse(address: &str) -> Result<IpAddr> {
    address
        .parse()
        .with_context(|| format!("{address:?} is not an address"))
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

fn silence_or_reached(error: &io::Error) -> (Seen, String) {
    let seen = if is_silence(error) {
        Seen::Nothing
    } else {
        Seen::Reached
    };
    (seen, error.to_string())
}
