//! What may be typed, with its help. Defaults and limits of values stand here, their meaning elsewhere.

mod audit;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use filter_common::limits::FLOWS;
use ipnet::IpNet;

use crate::control;
use crate::daemon::CNI_CACHE;
use crate::entries::{Ports, record};
use crate::policy::{self, Scans as ScanPolicy};
pub use audit::*;

/// Edge filter for Linux: drops what a policy does not let in before the network stack sees it.
#[derive(Debug, Parser)]
#[command(
    name = "edgefilter",
    version,
    max_term_width = 100,
    after_help = "\
Exit codes:
  0  done
  1  refused or failed
  2  wrong usage
  3  the daemon cannot be reached
  4  a privilege or a kernel feature is missing

Examples:
  edgefilter doctor eth0                  can this interface carry the filter?
  edgefilter check edge.toml              is the policy sound?
  edgefilter run --policy edge.toml       put it in force
  edgefilter counters --watch             what passes and what is dropped, per second"
)]
pub struct Cli {
    /// Directories and output.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct Globals {
    /// Directory for files that outlive a restart
    #[arg(long, global = true, env = "EDGEFILTER_STATE_DIR", value_name = "DIR", default_value = "/var/lib/edgefilter", value_hint = ValueHint::DirPath, help_heading = "Global options")]
    pub state_dir: PathBuf,
    /// Directory of the lock and the control socket
    #[arg(long, global = true, env = "EDGEFILTER_RUN_DIR", value_name = "DIR", default_value = "/run/edgefilter", value_hint = ValueHint::DirPath, help_heading = "Global options")]
    pub run_dir: PathBuf,
    /// BPF file system; everything is pinned in its directory `edgefilter`
    #[arg(long, global = true, env = "EDGEFILTER_BPFFS", value_name = "DIR", default_value = "/sys/fs/bpf", value_hint = ValueHint::DirPath, help_heading = "Global options")]
    pub bpffs: PathBuf,
    /// Ask the daemon at this address over TLS instead of the one on this host
    #[arg(long, global = true, env = "EDGEFILTER_REMOTE", value_name = "HOST:PORT", requires_all = ["tls_ca", "tls_cert", "tls_key"], help_heading = "Control over the network")]
    pub remote: Option<String>,
    /// Who signed that daemon's certificate (PEM)
    #[arg(long, global = true, env = "EDGEFILTER_TLS_CA", value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Control over the network")]
    pub tls_ca: Option<PathBuf>,
    /// The certificate to show to it (PEM)
    #[arg(long, global = true, env = "EDGEFILTER_TLS_CERT", value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Control over the network")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, global = true, env = "EDGEFILTER_TLS_KEY", value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Control over the network")]
    pub tls_key: Option<PathBuf>,
    /// Print JSON: one document on standard output and nothing else there
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Colours; `auto`: on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        global = true,
        env = "EDGEFILTER_COLOR",
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Global options"
    )]
    pub color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put a policy in force and keep it there: the daemon
    ///
    /// Loads the filter, attaches it to every interface that the policy names, now or later, and stays in the
    /// foreground. SIGHUP reads the policy again; SIGTERM and SIGINT end the daemon. However it ends, the filter stays
    /// in force: take it off with `edgefilter detach`.
    #[command(after_help = "\
Examples:
  edgefilter run --policy /etc/edgefilter/edge.toml
  edgefilter run --policy edge.toml --flows 1000000 --log debug")]
    Run(Run),
    /// Check a policy file: every error at once, each with its cure
    ///
    /// Reads the policy and the files it names, and compiles it. Exit code 1 if the daemon would refuse it.
    #[command(after_help = "\
Examples:
  edgefilter check edge.toml
  edgefilter check --settings /etc/edgefilter/daemon.toml
  edgefilter check /etc/edgefilter/policy.d
  edgefilter --json check edge.toml | jq '.errors[].message'")]
    Check(Check),
    /// Show what a policy would change, and change nothing
    ///
    /// Compares it with the policy in force: ports opened and closed, and to whom; prefixes added and removed; live
    /// connections that would be cut. Exit code 1 if `apply` would refuse it.
    #[command(after_help = "\
Examples:
  edgefilter plan edge.toml
  edgefilter plan edge.toml --json | jq .objections")]
    Plan(Plan),
    /// Put a policy in force, all at once or not at all
    ///
    /// The policy goes to the daemon with all files it names. It is compiled into tables beside those in force, read back
    /// from the kernel, tried on your own connection, and swapped in by one store. A policy that would cut the connection
    /// it came in by, or close every way in, is refused unless --force is given.
    #[command(after_help = "\
Examples:
  edgefilter apply edge.toml --message partner-network
  edgefilter apply edge.toml --confirm 60s
  edgefilter apply edge.toml --if-generation 17")]
    Apply(Apply),
    /// Keep the policy that `apply --confirm` put in force
    #[command(after_help = "\
Examples:
  edgefilter apply edge.toml --confirm 60s
  edgefilter confirm")]
    Confirm,
    /// Put an earlier policy in force again
    ///
    /// Without a number: what was in force before the present policy; while a policy waits to be confirmed, what it is
    /// undone to. It becomes a new generation.
    #[command(after_help = "\
Examples:
  edgefilter rollback
  edgefilter rollback 12 --message partner-moved-back")]
    Rollback(RollbackTo),
    /// Show the policies that were put in force: who, when, why
    ///
    /// With a number, the files of that one.
    #[command(after_help = "\
Examples:
  edgefilter generations
  edgefilter generations 12 > edge-12.toml
  edgefilter generations --json | jq '.generations[-1].actor.name'")]
    Generations(GenerationsOf),
    /// Show the daemon, its policy and its interfaces
    ///
    /// Without a daemon it shows where the filter stays in force, and ends with exit code 3.
    #[command(after_help = "\
Examples:
  edgefilter status
  edgefilter status --json | jq -r '.interfaces[] | select(.attached | not) | .name'")]
    Status,
    /// Show packets and bytes by interface and reason, and by rule
    ///
    /// Reads the kernel's counters and needs no daemon.
    #[command(after_help = "\
Examples:
  edgefilter counters
  edgefilter counters --watch
  edgefilter counters --watch=10 >> rates.log
  edgefilter counters --json | jq '.interfaces[0].reasons.drop_port'")]
    Counters(Counters),
    /// Show sampled drops: when, where, why, and the packet's headers
    ///
    /// The daemon keeps the last 256. With --json: without --follow one document, `{"events": [...]}`; with it a
    /// document a line. A reader that is too slow is told how many it missed.
    #[command(after_help = "\
Examples:
  edgefilter events
  edgefilter events --follow
  edgefilter events --follow --json | jq -r 'select(.reason == \"drop_port\") | .headers.source'")]
    Events(Events),
    /// Say what would become of a packet, and why
    ///
    /// The packet is described by options, or given as a frame in hex or out of a capture file. The filter's own program
    /// judges it under the policy in force, with the flows, rates and blocks there are, and nothing is counted or
    /// remembered. What is not said of it is filled in: this host's side with the interface's address, the other side's port
    /// with 50000.
    #[command(after_help = "\
Examples:
  edgefilter explain --iface eth0 --from 198.51.100.7 --tcp 443
  edgefilter explain --iface eth0 --from 2001:db8::7 --tcp 443 --flags A
  edgefilter explain --iface eth0 --out --to 198.51.100.7 --udp 53
  edgefilter explain --iface eth0 --pcap capture.pcap --nth 3 --json")]
    Explain(Box<Explain>),
    /// Show which packets of a capture another policy would judge otherwise
    ///
    /// Every packet is judged under the policy in force and under the other one, as if the capture were all there ever
    /// was: connections begin with their first packet in it, rate limits are never used up. Nothing is changed, counted or
    /// remembered. What leaves is told from what arrives by the interface's own address.
    #[command(after_help = "\
Examples:
  tcpdump -i eth0 -s 128 -c 100000 -w capture.pcap
  edgefilter replay capture.pcap --policy edge.toml
  edgefilter replay capture.pcap --policy edge.toml --iface eth0 --json | jq '.first[]'")]
    Replay(Replay),
    /// Show scans: who probed this host, how, and what became of it
    ///
    /// Scans that go on and the last 20 that ended; with --all every one that the daemon remembers. With --json one
    /// document, `{"scans": [...], "omitted": N}`, or the one scan; with --follow a document a line.
    #[command(after_help = "\
Examples:
  edgefilter scans
  edgefilter scans 68a1f2c0-12
  edgefilter scans --follow
  edgefilter scans --json --all | jq -r '.scans[] | select(.verdict == \"blocked\") | .source'
  edgefilter scans --json --follow | jq -c 'select(.event == \"scan_opened\")'")]
    Scans(Scans),
    /// Show which sources are blocked, block one, or take a block off
    ///
    /// A blocked source reaches nothing that the policy opens; answers to what this host asks of it still come in. Blocks
    /// end by themselves, with or without the daemon. For what should stay, write a deny rule into the policy.
    #[command(
        subcommand,
        after_help = "\
Examples:
  edgefilter block list
  edgefilter block add 198.51.100.7 --ttl 2h
  edgefilter block remove 198.51.100.7"
    )]
    Block(Block),
    /// Let a source in for a time, beside the policy
    ///
    /// In force at once, whatever the size of the policy, and over by itself, with or without the daemon. An entry lets
    /// in what no rule speaks of: deny rules and checks of forged sources outrank it. Connections that it let in go on
    /// when it is over. For what should stay, write an allow rule into the policy.
    #[command(
        subcommand,
        after_help = "\
Examples:
  edgefilter allow add 198.51.100.0/24 --port tcp/443 --ttl 2h --comment incident-7
  edgefilter allow list
  edgefilter allow remove 198.51.100.0/24"
    )]
    Allow(EntryAction),
    /// Keep a source out for a time, whatever the policy says
    ///
    /// In force at once, for answers and open connections, too, and over by itself, with or without the daemon. The
    /// longest prefix decides: `allow add` of a part of what is denied leaves that part to the policy. For what should
    /// stay, write a deny rule into the policy.
    #[command(
        subcommand,
        after_help = "\
Examples:
  edgefilter deny add 198.51.100.0/24 --ttl 10m --comment incident-7
  edgefilter deny list
  edgefilter deny remove 198.51.100.0/24"
    )]
    Deny(EntryAction),
    /// Show or check the record of who did what to the filter
    #[command(
        subcommand,
        after_help = "\
Examples:
  edgefilter audit show --since 2h
  edgefilter audit verify"
    )]
    Audit(Audit),
    /// Print the manifest of a policy, for people to sign
    ///
    /// It names every file of the policy by its hash. A daemon that requires signatures takes a policy with its manifest
    /// and enough signatures beside it: FILE.manifest, FILE.manifest.NAME.sig.
    #[command(after_help = "\
Examples:
  edgefilter manifest edge.toml --serial 7 > edge.toml.manifest
  ssh-keygen -Y sign -n edgefilter -f ~/.ssh/id_ed25519 edge.toml.manifest")]
    Manifest(Manifest),
    /// Write a first policy from what listens on this host and who comes
    ///
    /// For a person to read: every rule stands below its evidence, and what there is none for is a comment. With a daemon
    /// in monitor mode it also looks for a while at what would be dropped.
    #[command(after_help = "\
Examples:
  edgefilter learn --output first.toml
  edgefilter learn --iface eth0 --for 1h --output first.toml; edgefilter check first.toml")]
    Learn(Learn),
    /// Print what the filter counts, as Prometheus reads it
    ///
    /// The text of `GET /v1/metrics`, in the OpenMetrics format; with --json as one string.
    #[command(after_help = "\
Examples:
  edgefilter metrics
  edgefilter metrics | grep edgefilter_policy_load_ok")]
    Metrics,
    /// Examine whether an interface and this host can carry the filter
    ///
    /// Only looks. Exit code 1 if a check fails.
    #[command(after_help = "\
Examples:
  edgefilter doctor eth0
  edgefilter doctor eth0 --policy edge.toml
  edgefilter doctor eth0 --json | jq -r '.checks[] | select(.status != \"ok\") | .advice'")]
    Doctor(Doctor),
    /// Take the filter off every interface and remove its maps
    ///
    /// From then on nothing is filtered. Stop the daemon first.
    #[command(after_help = "\
Examples:
  systemctl stop edgefilter; edgefilter detach")]
    Detach,
    /// Write policy files as they are best read
    ///
    /// Keys in the order of the reference, one way of spacing and indenting; comments stay. What a file means never
    /// changes. Files whose names end in `.json` are JSON, all others TOML; `-` is standard input. With --check and
    /// --diff nothing is written, and exit code 1 says that a file is not formatted.
    #[command(after_help = "\
Examples:
  edgefilter fmt /etc/edgefilter/*.toml
  edgefilter fmt --check policy.toml conf.d/10-ssh.toml
  edgefilter fmt - < policy.toml | diff policy.toml -")]
    Fmt(Fmt),
    /// Print the JSON Schema of policy files, for editors
    #[command(after_help = "\
Examples:
  edgefilter schema > policy.schema.json")]
    Schema,
    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  edgefilter completions bash > /usr/share/bash-completion/completions/edgefilter
  edgefilter completions zsh > /usr/local/share/zsh/site-functions/_edgefilter
  edgefilter completions fish > ~/.config/fish/completions/edgefilter.fish")]
    Completions(Completions),
    /// Print the manual page, or write those of all commands
    #[command(after_help = "\
Examples:
  edgefilter man | man -l -
  edgefilter man --dir /usr/local/share/man/man1")]
    Man(Man),
}

/// See [`Command::Run`].
#[derive(Args, Debug)]
pub struct Run {
    /// The daemon's own settings: roles, approvals, bounds [default: /etc/edgefilter/daemon.toml if it exists]
    #[arg(long, env = "EDGEFILTER_SETTINGS", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub settings: Option<PathBuf>,
    /// The policy file, or a directory whose `*.toml` and `*.json` are one policy
    #[arg(long, env = "EDGEFILTER_POLICY", value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub policy: PathBuf,
    /// Read the policy again whenever it or a file it names changes
    #[arg(long)]
    pub watch: bool,
    /// Flows to remember; a table that exists keeps its size
    #[arg(long, value_name = "N", default_value_t = FLOWS as u32, value_parser = clap::value_parser!(u32).range(1024..=16_777_216))]
    pub flows: u32,
    /// Cache of libcni: container links are bound to what CNI plugins gave them
    #[arg(long, env = "EDGEFILTER_CNI_CACHE", value_name = "DIR", default_value = CNI_CACHE, value_hint = ValueHint::DirPath)]
    pub cni_cache: PathBuf,
    /// Let the daemon read files under DIR, too: prefix files that a later policy names, say
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub allow_read: Vec<PathBuf>,
    /// Let the daemon write files under DIR, too: reports that a later policy names, say
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub allow_write: Vec<PathBuf>,
    /// Keep every capability, system call and file that the user has: only to look for an error
    #[arg(long)]
    pub no_sandbox: bool,
    /// What to log: error, warn, info, debug, trace, or directives such as `info,filter_user::daemon=debug`
    #[arg(long, env = "EDGEFILTER_LOG", value_name = "LEVEL", default_value = "info", value_parser = super::logging::directives)]
    pub log: String,
}

/// See [`Command::Plan`].
#[derive(Args, Debug)]
pub struct Plan {
    /// The policy file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
}

/// See [`Command::Apply`].
#[derive(Args, Debug)]
pub struct Apply {
    /// The policy file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// On what terms
    #[command(flatten)]
    pub terms: TermsOf,
}

/// On what terms a policy is put in force.
#[derive(Args, Debug)]
pub struct TermsOf {
    /// What it is for; kept with the generation and in the audit record
    #[arg(long, short, value_name = "TEXT")]
    pub message: Option<String>,
    /// Undo it after this time unless `edgefilter confirm` comes, 1s to 24h
    #[arg(long, value_name = "TIME", value_parser = super::policy::confirm_time)]
    pub confirm: Option<Duration>,
    /// Only if this generation is in force: somebody else's change is not overwritten
    #[arg(long, value_name = "N")]
    pub if_generation: Option<u64>,
    /// Even if it cuts the connection it comes in by, or closes every way in
    #[arg(long)]
    pub force: bool,
}

/// See [`Command::Rollback`].
#[derive(Args, Debug)]
pub struct RollbackTo {
    /// The generation to go back to [default: the one before]
    pub generation: Option<u64>,
    /// On what terms
    #[command(flatten)]
    pub terms: TermsOf,
}

/// See [`Command::Generations`].
#[derive(Args, Debug)]
pub struct GenerationsOf {
    /// Show the files of this one
    pub number: Option<u64>,
}

/// See [`Command::Check`].
#[derive(Args, Debug)]
pub struct Check {
    /// FILE holds the daemon's own settings, not a policy
    #[arg(long)]
    pub settings: bool,
    /// The policy file, or a directory whose `*.toml` and `*.json` are one policy
    #[arg(value_hint = ValueHint::AnyPath)]
    pub file: PathBuf,
}

/// See [`Command::Fmt`].
#[derive(Args, Debug)]
pub struct Fmt {
    /// Policy files; `-`: standard input, to standard output
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    /// Write nothing; name the files that are not formatted
    #[arg(long)]
    pub check: bool,
    /// Write nothing; show what would change
    #[arg(long)]
    pub diff: bool,
}

/// See [`Command::Counters`].
#[derive(Args, Debug)]
pub struct Counters {
    /// Show rates per second again and again, every SECONDS (1 if left out)
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "1", value_parser = seconds)]
    pub watch: Option<Duration>,
    /// Show reasons and rules that count nothing as well
    #[arg(long)]
    pub all: bool,
}

/// See [`Command::Events`].
#[derive(Args, Debug)]
pub struct Events {
    /// Go on with new ones as they come
    #[arg(long, short)]
    pub follow: bool,
    /// How many of those kept to begin with [default: all; 10 with --follow]
    #[arg(long, short = 'n', value_name = "N")]
    pub last: Option<usize>,
}

/// See [`Command::Replay`].
#[derive(Args, Debug)]
pub struct Replay {
    /// The capture (pcap, Ethernet), at most 64 MiB
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// The other policy
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub policy: PathBuf,
    /// Interface that the packets were captured on [default: the only outer one]
    #[arg(long, value_name = "INTERFACE")]
    pub iface: Option<String>,
}

/// See [`Command::Explain`].
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("packet").required(true).args(["tcp", "udp", "icmp", "proto", "hex", "pcap"])))]
pub struct Explain {
    /// Interface that the packet comes in by
    #[arg(long, value_name = "INTERFACE")]
    pub iface: String,
    /// It leaves by the interface instead
    #[arg(long)]
    pub out: bool,
    /// Source address
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["hex", "pcap"])]
    pub from: Option<IpAddr>,
    /// Destination address
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["hex", "pcap"])]
    pub to: Option<IpAddr>,
    /// TCP, to this port
    #[arg(long, value_name = "PORT")]
    pub tcp: Option<u16>,
    /// UDP, to this port
    #[arg(long, value_name = "PORT")]
    pub udp: Option<u16>,
    /// ICMP (ICMPv6 between such addresses) of this type
    #[arg(long, value_name = "TYPE")]
    pub icmp: Option<u8>,
    /// Another protocol, by its number
    #[arg(long, value_name = "NUMBER")]
    pub proto: Option<u8>,
    /// A frame in hex, from its Ethernet header on
    #[arg(long, value_name = "FRAME")]
    pub hex: Option<String>,
    /// A frame out of a capture file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub pcap: Option<PathBuf>,
    /// Which frame of the capture file
    #[arg(long, value_name = "N", default_value_t = 1, requires = "pcap", value_parser = frame_number)]
    pub nth: usize,
    /// Source port
    #[arg(long, value_name = "PORT", default_value_t = 50000)]
    pub sport: u16,
    /// TCP flags, any of F S R P A U
    #[arg(long, value_name = "FLAGS", default_value = "S", value_parser = super::explain::tcp_flags, conflicts_with_all = ["udp", "icmp", "proto", "hex", "pcap"])]
    pub flags: u8,
    /// ICMP code
    #[arg(long, value_name = "CODE", default_value_t = 0, requires = "icmp")]
    pub code: u8,
    /// VLAN id of its tag
    #[arg(long, value_name = "ID", conflicts_with_all = ["hex", "pcap"])]
    pub vlan: Option<u16>,
    /// Source MAC
    #[arg(long, value_name = "MAC", value_parser = super::explain::mac, conflicts_with_all = ["hex", "pcap"])]
    pub mac: Option<[u8; 6]>,
    /// TTL or hop limit [default: 64]
    #[arg(long, value_name = "N", conflicts_with_all = ["hex", "pcap"])]
    pub ttl: Option<u8>,
    /// It is the first of a train of fragments
    #[arg(long, conflicts_with_all = ["hex", "pcap"])]
    pub fragment: bool,
}

fn frame_number(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("frames are counted from 1".to_owned()),
    }
}

/// See [`Command::Scans`].
#[derive(Args, Debug)]
pub struct Scans {
    /// Show all about this one
    #[arg(value_parser = scan_id, conflicts_with_all = ["follow", "all"])]
    pub id: Option<String>,
    /// Print a line for everything that happens to scans and blocks, as it comes
    #[arg(long, short, conflicts_with = "all")]
    pub follow: bool,
    /// How many of the last lines to begin with [default: 10]
    #[arg(long, short = 'n', value_name = "N", requires = "follow")]
    pub last: Option<usize>,
    /// Show every scan that the daemon remembers
    #[arg(long)]
    pub all: bool,
}

/// See [`Command::Block`].
#[derive(Debug, Subcommand)]
pub enum Block {
    /// Show which sources are blocked, until when and why
    ///
    /// With --json: `{"blocks": [...]}`.
    #[command(after_help = "\
Examples:
  edgefilter block list
  edgefilter block list --json | jq -r '.blocks[] | select(.origin == \"manual\") | .source'")]
    List,
    /// Block a source for a time
    ///
    /// A source that is blocked already is blocked anew. Refused for what must never be blocked (exit code 1): this
    /// host's own addresses, gateways, resolvers, and the lists that the policy allows by name or spares.
    #[command(after_help = "\
Examples:
  edgefilter block add 198.51.100.7
  edgefilter block add 2001:db8:0:1::/64 --ttl 2h --comment incident-7")]
    Add(BlockAdd),
    /// Take a block off before its time
    #[command(after_help = "\
Examples:
  edgefilter block remove 198.51.100.7
  edgefilter block remove 2001:db8:0:1::/64")]
    Remove(BlockRemove),
}

/// See [`Block::Add`].
#[derive(Args, Debug)]
pub struct BlockAdd {
    /// An IPv4 address, an IPv6 address or an IPv6 /64
    #[arg(value_parser = control::blockable)]
    pub source: IpNet,
    /// For how long, 1s to 30d [default: the policy's block_for]
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    pub ttl: Option<Duration>,
    /// Why, for the audit record
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub comment: String,
}

/// See [`Block::Remove`].
#[derive(Args, Debug)]
pub struct BlockRemove {
    /// The source, as `edgefilter block list` shows it
    #[arg(value_parser = control::blockable)]
    pub source: IpNet,
}

/// See [`Command::Allow`] and [`Command::Deny`].
#[derive(Debug, Subcommand)]
pub enum EntryAction {
    /// Show what is in force or to come, until when, by whom and why
    ///
    /// With --json: `{"entries": [...]}`.
    #[command(after_help = "\
Examples:
  edgefilter allow list
  edgefilter deny list --json | jq -r '.entries[] | .source'")]
    List,
    /// Make an entry
    ///
    /// One about the same source and ports is replaced. There may be 1024 entries of both kinds together, each with up to
    /// 16 ports. Refused for what this host may need, or for where you come from, unless --force is given (exit code 1).
    #[command(after_help = "\
Examples:
  edgefilter allow add 198.51.100.7 --port tcp/22
  edgefilter allow add 2001:db8::/32 --port tcp/443 --port udp/443 --ttl 2h
  edgefilter deny add 198.51.100.0/24 --from 2026-08-05T22:00:00Z --until 2026-08-06T04:00:00Z")]
    Add(EntryAdd),
    /// Take entries away before their time
    #[command(after_help = "\
Examples:
  edgefilter allow remove 198.51.100.7
  edgefilter allow remove 2001:db8::/32 --port tcp/443 --port udp/443")]
    Remove(EntryRemove),
}

/// See [`EntryAction::Add`].
#[derive(Args, Debug)]
pub struct EntryAdd {
    /// An address or a prefix, IPv4 or IPv6
    #[arg(value_parser = policy::prefix)]
    pub source: IpNet,
    /// Protocol and port, as tcp/443 or udp/5000-5003; may be repeated [default: all]
    #[arg(long = "port", value_name = "PORT")]
    pub ports: Vec<Ports>,
    /// For how long, 1s to 30d [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = ttl, conflicts_with_all = ["from", "until"])]
    pub ttl: Option<Duration>,
    /// When it begins, RFC 3339 in UTC [default: now]
    #[arg(long, value_name = "DATE", value_parser = date, requires = "until")]
    pub from: Option<String>,
    /// When it ends, by the wall clock, RFC 3339 in UTC
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub until: Option<String>,
    /// Why, for those who read the list
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub comment: String,
    /// Keep out even what this host may need, or where you come from
    #[arg(long)]
    pub force: bool,
}

/// See [`EntryAction::Remove`].
#[derive(Args, Debug)]
pub struct EntryRemove {
    /// The source, as `list` shows it
    #[arg(value_parser = policy::prefix)]
    pub source: IpNet,
    /// Only the entry that names just these ports; may be repeated
    #[arg(long = "port", value_name = "PORT")]
    pub ports: Vec<Ports>,
}

/// See [`Command::Learn`].
#[derive(Args, Debug)]
pub struct Learn {
    /// The interface that faces outside [default: the one that the default route leads out of]
    #[arg(long, value_name = "IFACE")]
    pub iface: Option<String>,
    /// Write the policy there, where no file may be yet [default: standard output]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// How long to look at what would be dropped, up to 7d
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = looking)]
    pub duration: Duration,
    /// Write it as to be enforced, not to be monitored first
    #[arg(long)]
    pub enforce: bool,
}

/// See [`Command::Doctor`].
#[derive(Args, Debug)]
pub struct Doctor {
    /// The interface, as `ip link` shows it
    #[arg(value_name = "IFACE")]
    pub interface: String,
    /// Check what this policy needs, too
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub policy: Option<PathBuf>,
}

/// See [`Command::Completions`].
#[derive(Args, Debug)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// See [`Command::Man`].
#[derive(Args, Debug)]
pub struct Man {
    /// Write `edgefilter.1` and a page for each command into this directory, which must exist
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

fn looking(text: &str) -> Result<Duration, String> {
    const MOST: Duration = Duration::from_hours(7 * 24);
    match humantime::parse_duration(text) {
        Ok(time) if time <= MOST => Ok(time),
        _ => Err("not a time such as 60s or 1h, up to 7d".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("not a number of seconds between 0.1 and 86400".to_owned()),
    }
}

/// Goes into a path as it is.
fn scan_id(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !text.is_empty() && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("not the id of a scan, which `edgefilter scans` shows first on its line".to_owned())
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text)
        .map_err(|_| "not a time such as 90s, 10m or 1h 30m".to_owned())?;
    if ttl.subsec_nanos() == 0 && ScanPolicy::BLOCK.contains(&ttl) {
        Ok(ttl)
    } else {
        Err("not whole seconds from 1s to 30d".to_owned())
    }
}

fn date(text: &str) -> Result<String, String> {
    record::date(text).map(|_| text.to_owned())
}
