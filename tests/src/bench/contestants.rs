//! The filters that are sent to, each in force on a pair of namespaces of its own, so that rounds can go through all of them
//! without loading anything anew.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use edgefilter_tests::netns::{Running, Scratch, wait_until};
use edgefilter_tests::programs::Edgefilter;
use edgefilter_tests::programs::foreign::{ForeignXdp, Verdict};
use edgefilter_tests::traffic::Pair;
use edgefilter_tests::traffic::pair::SENDER_LINK;

use super::filter::EDGE;

/// A source that our filter has blocked.
pub const BLOCKED: &str = "16.1.2.3";

/// Which filter. What they have in common: TCP ports 22, 80 and 443 are open (of [`Filter::Xdp`] only 80).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// None.
    None,
    /// An XDP program that drops everything.
    Empty,
    /// Ours: the daemon, with the edge policy as it is shipped.
    Ours,
    /// xdp-filter with all its features and policy deny.
    Xdp,
    /// nftables in the netdev family, in front of the stack: ports that are not in a set are dropped.
    Netdev,
    /// nftables, input chain, without state.
    Stateless,
    /// nftables, input chain, default deny, with conntrack.
    Conntrack,
    /// The same by iptables, over nftables.
    IptablesNft,
    /// The same by iptables, as it was.
    IptablesLegacy,
}

/// A filter at work.
#[derive(Debug)]
pub struct Lane {
    // In this order: the filter is given up before its link goes.
    work: Work,
    _deaf: Option<ForeignXdp>,
    /// Where files of programs are.
    pub scratch: Scratch,
    /// From where, to where.
    pub pair: Pair,
}

#[derive(Debug)]
enum Work {
    /// In the kernel, until the namespace goes.
    Rules,
    Program {
        _link: ForeignXdp,
    },
    /// Keeps a mount of bpffs.
    Mount {
        _shell: Running,
    },
    Daemon(Box<Edgefilter>),
}

const NETDEV: &str = "table netdev bench {
  set open { type inet_service; elements = { 22, 80, 443 } }
  chain ingress {
    type filter hook ingress device \"LINK\" priority 0; policy accept;
    meta l4proto tcp tcp dport != @open drop
  }
}
";
const STATELESS: &str = "table inet bench {
  set open { type inet_service; elements = { 22, 80, 443 } }
  chain input {
    type filter hook input priority filter; policy drop;
    iifname \"lo\" accept
    tcp dport @open accept
  }
}
";
const CONNTRACK: &str = "table inet bench {
  set open { type inet_service; elements = { 22, 80, 443 } }
  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname \"lo\" accept
    ct state new tcp dport @open accept
  }
}
";

impl Lane {
    /// Puts a filter in force. A `deaf` sender drops what the receiver answers before that costs anything.
    pub fn build(filter: Filter, deaf: bool) -> Result<Self> {
        let pair = Pair::build("lane")?;
        let scratch = Scratch::create("lane")?;
        let work = start(filter, &pair, &scratch)
            .with_context(|| format!("cannot put {filter:?} in force"))?;
        let deaf = deaf
            .then(|| ForeignXdp::attach(&pair.sender, SENDER_LINK, Verdict::Drop))
            .transpose()?;
        Ok(Self {
            work,
            _deaf: deaf,
            scratch,
            pair,
        })
    }

    /// Packets that our filter has dropped for `reason`; `None` for other filters.
    pub fn counted(&self, reason: &str) -> Result<Option<u64>> {
        match &self.work {
            Work::Daemon(daemon) => Ok(Some(daemon.counters()?.packets(reason))),
            _ => Ok(None),
        }
    }
}

fn start(filter: Filter, pair: &Pair, scratch: &Scratch) -> Result<Work> {
    let host = &pair.receiver;
    let rules = match filter {
        Filter::None => return Ok(Work::Rules),
        Filter::Empty => {
            return Ok(Work::Program {
                _link: ForeignXdp::attach(host, &pair.link, Verdict::Drop)?,
            });
        }
        Filter::Ours => return ours(pair, scratch),
        Filter::Xdp => return xdp_filter(pair),
        Filter::IptablesNft => return iptables(pair, "iptables-nft"),
        Filter::IptablesLegacy => return iptables(pair, "iptables-legacy"),
        Filter::Netdev => NETDEV,
        Filter::Stateless => STATELESS,
        Filter::Conntrack => CONNTRACK,
    };
    host.nft(scratch, &rules.replace("LINK", &pair.link))?;
    Ok(Work::Rules)
}

fn ours(pair: &Pair, scratch: &Scratch) -> Result<Work> {
    let shipped = std::fs::read_to_string(EDGE).with_context(|| format!("cannot read {EDGE}"))?;
    let interfaces = format!("interfaces = [\"{}\"]", pair.link);
    let mut found = false;
    let lines = shipped.lines().map(|line| {
        let here = line.starts_with("interfaces =");
        found |= here;
        if here { interfaces.as_str() } else { line }
    });
    let policy = lines.collect::<Vec<_>>().join("\n");
    if !found {
        bail!("{EDGE} has no line `interfaces = ...` to replace");
    }
    let daemon = Edgefilter::enable(&pair.receiver, scratch, &policy)?;
    daemon
        .cli(&["block", "add", BLOCKED, "--ttl", "1d"])?
        .require()?;
    Ok(Work::Daemon(Box::new(daemon)))
}

/// xdp-filter looks for its pins in /sys/fs/bpf: it gets a mount namespace with an own one, which a shell keeps.
fn xdp_filter(pair: &Pair) -> Result<Work> {
    let script = format!(
        "mount -t sysfs sysfs /sys && mount -t bpf bpf /sys/fs/bpf && \
         xdp-filter load --mode native --policy deny --features all {} && \
         xdp-filter port --mode dst --proto tcp 80 && echo ready && exec sleep infinity",
        pair.link
    );
    let mut shell = pair
        .receiver
        .start(&["unshare", "--mount", "sh", "-c", &script])?;
    wait_until(Duration::from_secs(10), || {
        shell.stdout().contains("ready") || !shell.is_running()
    });
    if !shell.stdout().contains("ready") {
        bail!("xdp-filter: {}{}", shell.stderr(), shell.stdout());
    }
    Ok(Work::Mount { _shell: shell })
}

fn iptables(pair: &Pair, program: &str) -> Result<Work> {
    let established = [
        "-m",
        "conntrack",
        "--ctstate",
        "ESTABLISHED,RELATED",
        "-j",
        "ACCEPT",
    ];
    let open = [
        "-p",
        "tcp",
        "-m",
        "multiport",
        "--dports",
        "22,80,443",
        "-j",
        "ACCEPT",
    ];
    for rule in [&established[..], &["-i", "lo", "-j", "ACCEPT"], &open] {
        let words = [&[program, "-w", "-A", "INPUT"], rule].concat();
        pair.receiver.run(&words)?;
    }
    pair.receiver.run(&[program, "-w", "-P", "INPUT", "DROP"])?;
    Ok(Work::Rules)
}
