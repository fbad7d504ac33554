//! A small FTP server (RFC 959, passive mode) and its client: protocols that open many ports by agreement.
//!
//! Owns the files served: their content follows from their number. Every transfer has a data connection to a port of its
//! own, as servers do it. Must never retry.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::echo::Outcome;
use crate::netns::Namespace;

/// The port of control connections.
pub const PORT: u16 = 21;
/// How long one step of a transfer may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// Bytes of a file: several segments.
const FILE: usize = 16 << 10;

/// The server on threads of its own; ends when dropped.
#[derive(Debug)]
pub struct FtpServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl FtpServer {
    /// Listens on port 21 of all IPv4 addresses; data ports are taken from `data` by turns.
    pub fn start(namespace: &Namespace, data: RangeInclusive<u16>) -> Result<Self> {
        ensure!(!data.is_empty(), "no data ports");
        let listener = namespace.inside(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)))??;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let ports = Arc::new(DataPorts {
            range: data,
            next: AtomicU16::new(0),
        });
        // A thread's children are in its namespace.
        let thread = namespace.thread(move || {
            let mut sessions = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let ports = Arc::clone(&ports);
                        sessions.push(std::thread::spawn(move || serve(&stream, &ports)));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
            for session in sessions {
                // A session that failed is seen, and counted, by its client.
                let _ = session.join();
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for FtpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Fetches the files 0 to `count` of the server at `address`, on one control connection for each 50.
pub fn fetch(namespace: &Namespace, address: &str, count: u32) -> Result<Outcome> {
    let address: IpAddr = address
        .parse()
        .with_context(|| format!("{address:?} is not an address"))?;
    let server = SocketAddr::new(address, PORT);
    namespace.inside(|| {
        let mut outcome = Outcome::default();
        let mut session = None;
        for number in 0..count {
            if number % 50 == 0 {
                session = None;
            }
            match transfer(&mut session, server, number) {
                Ok(()) => outcome.answered += 1,
                Err(error) => {
                    outcome.lost.push(format!("file {number}: {error:#}"));
                    session = None;
                }
            }
            if outcome.lost.len() >= 5 {
                break;
            }
        }
        outcome
    })
}

fn transfer(session: &mut Option<Session>, server: SocketAddr, number: u32) -> Result<()> {
    let control = match session {
        Some(control) => control,
        None => session.insert(Session::open(server)?),
    };
    let data = control.passive()?;
    control.ask(&format!("RETR {number}"), "150")?;
    let mut stream = data;
    let mut received = Vec::new();
    stream
        .read_to_end(&mut received)
        .context("data connection")?;
    control.expect("226")?;
    ensure!(
        received == content(number),
        "another content, {} bytes",
        received.len()
    );
    Ok(())
}

/// A control connection, client side.
struct Session {
    reader: BufReader<TcpStream>,
}

impl Session {
    fn open(server: SocketAddr) -> Result<Self> {
        let stream = connect(server).context("control connection")?;
        let mut session = Self {
            reader: BufReader::new(stream),
        };
        session.expect("220")?;
        session.ask("USER anonymous", "331")?;
        session.ask("PASS test@example.com", "230")?;
        session.ask("TYPE I", "200")?;
        Ok(session)
    }

    /// Asks for a data port and connects to it.
    fn passive(&mut self) -> Result<TcpStream> {
        let answer = self.ask("PASV", "227")?;
        let address = parse_passive(&answer).with_context(|| format!("what is {answer:?}?"))?;
        connect(SocketAddr::V4(address)).with_context(|| format!("data connection to {address}"))
    }

    fn ask(&mut self, command: &str, code: &str) -> Result<String> {
        write!(self.reader.get_mut(), "{command}\r\n")?;
        self.expect(code).with_context(|| command.to_owned())
    }

    fn expect(&mut self, code: &str) -> Result<String> {
        let mut line = String::new();
        self.reader
            .read_line(&mut line)
            .with_context(|| format!("waiting for {code}"))?;
        if !line.starts_with(code) {
            bail!("{line:?} instead of {code}");
        }
        Ok(line)
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// `227 Entering Passive Mode (h1,h2,h3,h4,p1,p2)`
fn parse_passive(answer: &str) -> Option<SocketAddrV4> {
    let inside = answer.split('(').nth(1)?.split(')').next()?;
    let numbers: Vec<u8> = inside
        .split(',')
        .map_while(|number| number.parse().ok())
        .collect();
    let [a, b, c, d, high, low] = numbers.try_into().ok()?;
    let port = u16::from_be_bytes([high, low]);
    Some(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port))
}

struct DataPorts {
    range: RangeInclusive<u16>,
    next: AtomicU16,
}

impl DataPorts {
    /// A listener on the next free port.
    fn listen(&self, address: Ipv4Addr) -> io::Result<(TcpListener, SocketAddrV4)> {
        let count = self.range.end() - self.range.start() + 1;
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..count {
            let port = self.range.start() + self.next.fetch_add(1, Ordering::Relaxed) % count;
            let address = SocketAddrV4::new(address, port);
            match TcpListener::bind(address) {
                Ok(listener) => return Ok((listener, address)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// One session, server side.
fn serve(stream: &TcpStream, ports: &DataPorts) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let IpAddr::V4(own) = stream.local_addr()?.ip() else {
        bail!("not IPv4");
    };
    let mut control = stream;
    let mut lines = BufReader::new(stream);
    control.write_all(b"220 test server\r\n")?;
    let mut data = None;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let (command, argument) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        match command {
            "USER" => control.write_all(b"331 password?\r\n")?,
            "PASS" => control.write_all(b"230 welcome\r\n")?,
            "TYPE" => control.write_all(b"200 fine\r\n")?,
            "PASV" => {
                let (listener, address) = ports.listen(own)?;
                let [a, b, c, d] = own.octets();
                let [high, low] = address.port().to_be_bytes();
                data = Some(listener);
                write!(
                    control,
                    "227 Entering Passive Mode ({a},{b},{c},{d},{high},{low})\r\n"
                )?;
            }
            "RETR" => {
                let listener = data.take().context("RETR without PASV")?;
                control.write_all(b"150 here it comes\r\n")?;
                let mut connection = accept(&listener)?;
                connection.write_all(&content(argument.parse()?))?;
                drop(connection);
                control.write_all(b"226 done\r\n")?;
            }
            "QUIT" => return Ok(()),
            _ => control.write_all(b"502 not here\r\n")?,
        }
    }
}

/// The next connection, at most `PATIENCE`.
fn accept(listener: &TcpListener) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            return Ok(stream);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("nobody came for the data")
}

/// What file `number` holds.
fn content(number: u32) -> Vec<u8> {
    let mut state = number.wrapping_add(1);
    (0..FILE)
        .map(|_| {
            // Numerical Recipes' linear congruential generator: the top byte is good enough to tell files apart.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{content, parse_passive};

    #[test]
    fn passive_answers_are_read() {
        let address = parse_passive("227 Entering Passive Mode (10,77,1,1,195,80)\r\n").unwrap();
        assert_eq!(address.to_string(), "10.77.1.1:50000");
        for wrong in ["227 no", "227 (1,2,3,4,5)", "227 (1,2,3,4,5,256)"] {
            assert_eq!(parse_passive(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn files_differ() {
        assert_eq!(content(1), content(1));
        assert_ne!(content(1), content(2));
    }
}
