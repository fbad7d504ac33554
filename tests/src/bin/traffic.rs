//! Sends packets by description, or a capture again: the program behind `cargo xtask traffic`.
//!
//! Owns the command line and what is printed; [`edgefilter_tests::traffic`] owns what is sent, and by which links it may go.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use edgefilter_tests::programs::foreign::{ForeignXdp, Verdict};
use edgefilter_tests::traffic::capture::{Capture, Speed};
use edgefilter_tests::traffic::description::{self, Description};
use edgefilter_tests::traffic::link::neighbour;
use edgefilter_tests::traffic::pair::{Pair, RECEIVER_V4};
use edgefilter_tests::traffic::sender::Engine;
use edgefilter_tests::traffic::{Limits, Link, Sender, Sent, Stream};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Set by SIGINT and SIGTERM.
static STOP: AtomicBool = AtomicBool::new(false);

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask traffic",
    bin_name = "cargo xtask traffic",
    about = "Sends packets by description, flat out or at a pace, or a capture again",
    after_help = "Without --interface the packets go into a throw-away veth pair whose far end drops them: that is the generator \
                  alone.\n\nExamples:\n  cargo xtask traffic --count 50000000\n  cargo xtask traffic --netns peer --interface eth0 \
                  --destination 10.0.0.1 --ports 1-1024 --rate 100000 --seconds 30 --count 3000000\n  cargo xtask traffic --netns peer \
                  --interface eth0 --pcap scan.pcap --rate 5000"
)]
struct Arguments {
    /// The link to send by: a veth, dummy or loopback one
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,

    /// Network namespace of the link (`ip netns list`) [default: this one]
    #[arg(long, value_name = "NAME", requires = "interface")]
    netns: Option<String>,

    /// Send by a link that may lead out of this machine
    #[arg(long)]
    i_own_this_network: bool,

    /// Packets at most [default: 10000000; with --pcap, each of its packets once]
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,

    /// Seconds at most
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    seconds: f64,

    /// Packets a second, or `max` [default: max; with --pcap, as they were captured]
    #[arg(long, value_name = "NUMBER")]
    rate: Option<Rate>,

    /// Who makes the packets
    #[arg(long, value_enum, default_value_t)]
    engine: EngineName,

    /// Print one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    what: What,

    #[command(flatten)]
    description: Description,
}

/// Where the packets are described, if not by the other flags.
#[derive(clap::Args, Debug)]
#[group(id = "files", multiple = false)]
struct What {
    /// Send this capture (pcap) again
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,

    /// Send what this TOML file describes: a table `stream` for each kind of packet, with the names of the flags
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum Rate {
    Most,
    PerSecond(f64),
}

impl std::str::FromStr for Rate {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.parse() {
            _ if text == "max" => Ok(Self::Most),
            Ok(rate) if rate > 0.0 && f64::is_finite(rate) => Ok(Self::PerSecond(rate)),
            _ => bail!("{text:?} is no number of packets a second and not `max`"),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum EngineName {
    /// The kernel where the link takes XDP frames, else a socket
    #[default]
    Auto,
    /// An XDP program
    Kernel,
    /// An AF_PACKET socket
    Socket,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let sent = stop_on_signals().and_then(|()| run(&arguments));
    match sent.and_then(|sent| show(sent, arguments.json)) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("traffic: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Sent> {
    ensure!(
        arguments.seconds > 0.0 && arguments.seconds.is_finite(),
        "--seconds has to be a positive number"
    );
    match &arguments.interface {
        Some(interface) => by_link(arguments, interface),
        None => alone(arguments),
    }
}

/// Into a pair of namespaces, where nobody does more than drop.
fn alone(arguments: &Arguments) -> Result<Sent> {
    let pair = Pair::build("traffic")?;
    let _drop = ForeignXdp::attach(&pair.receiver, &pair.link, Verdict::Drop)?;
    if let Some(path) = &arguments.what.pcap {
        let capture = Capture::read(path)?;
        return pair.sender.inside(|| {
            let link = Link::find(edgefilter_tests::traffic::pair::SENDER_LINK)?;
            replay(arguments, &capture, &link)
        })?;
    }
    let mut streams = Vec::new();
    for mut description in descriptions(arguments)? {
        let receiver: IpAddr = RECEIVER_V4.parse()?;
        description.destination.get_or_insert(receiver);
        streams.extend(pair.streams(&description)?);
    }
    let mut sender = pair.open(streams, rate(arguments), engine(arguments))?;
    pair.sender
        .inside(|| sender.send(limits(arguments, None), &STOP))?
}

fn by_link(arguments: &Arguments, interface: &str) -> Result<Sent> {
    if let Some(name) = &arguments.netns {
        let path = Path::new("/run/netns").join(name);
        let file = std::fs::File::open(&path)
            .with_context(|| format!("there is no network namespace {name} (`ip netns list`)"))?;
        setns(file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter {}: run as root", path.display()))?;
    }
    let link = Link::find(interface)?;
    if !arguments.i_own_this_network {
        link.refuse_real()?;
    }
    if let Some(path) = &arguments.what.pcap {
        return replay(arguments, &Capture::read(path)?, &link);
    }
    let mut streams = Vec::new();
    for description in descriptions(arguments)? {
        streams.extend(streams_by(&link, &description)?);
    }
    Sender::open(&link, streams, rate(arguments), engine(arguments))?
        .send(limits(arguments, None), &STOP)
}

fn streams_by(link: &Link, description: &Description) -> Result<Vec<Stream>> {
    let destination = description
        .destination
        .context("where are the packets to go? Say --destination ADDRESS")?;
    let known = || neighbour(link, destination);
    let to = description.destination_mac.map(|mac| mac.0).or_else(known);
    let to = to.with_context(|| {
        format!(
            "nobody knows the MAC address of {destination} on {}: ping it first, or say --destination-mac",
            link.name
        )
    })?;
    description.streams(link.mac, to)
}

fn descriptions(arguments: &Arguments) -> Result<Vec<Description>> {
    let Some(path) = &arguments.what.file else {
        return Ok(vec![arguments.description.clone()]);
    };
    let show = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {show}"))?;
    let mut described = description::from_toml(&text).with_context(|| show.to_string())?;
    for description in &mut described {
        // one destination for all may be a flag
        description.destination = description
            .destination
            .or(arguments.description.destination);
    }
    Ok(described)
}

fn replay(arguments: &Arguments, capture: &Capture, link: &Link) -> Result<Sent> {
    let speed = match arguments.rate {
        None => Speed::Original,
        Some(Rate::PerSecond(rate)) => Speed::Rate(rate),
        Some(Rate::Most) => Speed::Most,
    };
    let limits = limits(arguments, Some(capture.frames() as u64));
    capture.send(link, limits, speed, &STOP)
}

fn limits(arguments: &Arguments, once: Option<u64>) -> Limits {
    Limits {
        packets: arguments.count.or(once).unwrap_or(10_000_000),
        time: Duration::from_secs_f64(arguments.seconds),
    }
}

fn rate(arguments: &Arguments) -> Option<f64> {
    match arguments.rate {
        Some(Rate::PerSecond(rate)) => Some(rate),
        Some(Rate::Most) | None => None,
    }
}

fn engine(arguments: &Arguments) -> Engine {
    match arguments.engine {
        EngineName::Auto => Engine::Auto,
        EngineName::Kernel => Engine::Kernel,
        EngineName::Socket => Engine::Socket,
    }
}

fn show(sent: Sent, json: bool) -> Result<String> {
    if json {
        return Ok(serde_json::to_string_pretty(&sent)? + "\n");
    }
    Ok(format!(
        "{} packets, {} bytes in {:.3} s: {:.0} packets a second, {:.1} Mbit/s; sent by {}, busy for {:.0} % of the time; {} not \
         taken by the link\n",
        sent.packets,
        sent.bytes,
        sent.seconds,
        sent.rate,
        sent.bytes as f64 * 8e-6 / sent.seconds,
        match sent.engine {
            Engine::Socket => "a socket",
            Engine::Auto | Engine::Kernel => "the kernel",
        },
        sent.busy * 100.0,
        sent.lost
    ))
}

/// What is there is cleaned up, and what was sent is printed, also when somebody stops it.
fn stop_on_signals() -> Result<()> {
    extern "C" fn stop(_: libc::c_int) {
        STOP.store(true, Ordering::Relaxed);
    }
    let action = SigAction::new(
        SigHandler::Handler(stop),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}
