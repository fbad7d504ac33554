//! What Python's `ipaddress` thinks of an address, and the list of where and why we differ: the second opinion on
//! `compile/registry.rs`, which it must never read.
//!
//! The rule, first match: unspecified is that; loopback, multicast, reserved and site-local are never a source;
//! link-local is the link's on IPv6, and the network's on IPv4 (clouds route 169.254.0.0/16); private is the network's;
//! global is anybody's; what is neither (100.64.0.0/10) is the network's.

use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use filter_user::compile::registry::Scope::{self, Global, LinkLocal, Never, Private, Unspecified};
use ipnet::IpNet;

const SCRIPT: &str = r#"
import ipaddress, json, sys
names = ["is_unspecified", "is_loopback", "is_multicast", "is_reserved", "is_site_local", "is_link_local",
         "is_private", "is_global"]
ask = lambda text: [bool(getattr(ipaddress.ip_address(text), name, False)) for name in names]
json.dump({"version": sys.version.split()[0], "answers": [ask(text) for text in json.load(sys.stdin)]}, sys.stdout)
"#;

#[derive(serde::Deserialize)]
struct Answers {
    version: String,
    answers: Vec<[bool; 8]>,
}

/// Whether a difference shows whatever the version of Python (3.11 and newer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Always,
    /// Versions differ, or it only keeps a wider exception from an address on which we agree.
    Either,
}
use Shows::{Always, Either};

/// In this prefix, where Python holds one of these opinions, ours is this, and the reason. The longest prefix decides.
struct Exception(&'static str, &'static [Scope], Scope, Shows, &'static str);

#[rustfmt::skip]
const EXCEPTIONS: &[Exception] = &[
    Exception("0.0.0.0/8", &[Private], Never, Always, "a network without a number has no members to send (RFC 1122, 3.2.1.3)"),
    Exception("192.0.0.0/24", &[Private, Global], Never, Always, "nothing outside the rows below was ever assigned; 3.11 calls it global"),
    Exception("192.0.0.0/29", &[Private], Private, Either, "in 192.0.0.0/24, but in use behind DS-Lite and 464XLAT"),
    Exception("192.0.0.8/32", &[Private, Global], Global, Either, "routers without an IPv4 address send path MTU errors from it; private since 3.12.4"),
    Exception("192.0.0.9/32", &[Private, Global], Global, Either, "in 192.0.0.0/24, but anycast that answers"),
    Exception("192.0.0.10/32", &[Private, Global], Global, Either, "in 192.0.0.0/24, but anycast that answers"),
    Exception("192.0.2.0/24", &[Private], Never, Always, "documentation is nobody's network"),
    Exception("192.88.99.0/24", &[Global], Never, Always, "the anycast relays are gone (RFC 7526); Python does not know the row"),
    Exception("192.88.99.2/32", &[Global], Private, Always, "the 6a44 relay serves its own provider's customers; Python does not know the row"),
    Exception("198.18.0.0/15", &[Private], Never, Always, "benchmarking is for networks of testers alone (RFC 2544)"),
    Exception("198.51.100.0/24", &[Private], Never, Always, "documentation is nobody's network"),
    Exception("203.0.113.0/24", &[Private], Never, Always, "documentation is nobody's network"),
    Exception("::ffff:0:0/96", &[Unspecified, Private, Global], Never, Either, "never on the wire; since 3.13 Python answers for the IPv4 address inside"),
    Exception("64:ff9b::/96", &[Never], Global, Always, "translators send from it; Python reserves all of ::/8"),
    Exception("64:ff9b:1::/48", &[Never], Private, Always, "translators inside a network send from it; Python reserves all of ::/8"),
    Exception("2001::/23", &[Private], Never, Always, "nothing outside the rows below was ever assigned"),
    Exception("2001::/32", &[Private], Global, Always, "Teredo hosts anywhere send from it"),
    Exception("2001:1::1/128", &[Private], Global, Either, "in 2001::/23, but anycast that answers; private before 3.12.4"),
    Exception("2001:1::2/128", &[Private], Global, Either, "in 2001::/23, but anycast that answers; private before 3.12.4"),
    Exception("2001:1::3/128", &[Private], Global, Either, "in 2001::/23, but anycast that answers; a row younger than Python's list"),
    Exception("2001:3::/32", &[Private], Global, Either, "in 2001::/23, but AMT relays answer from it; private before 3.12.4"),
    Exception("2001:4:112::/48", &[Private], Global, Either, "in 2001::/23, but AS112 answers from it; private before 3.12.4"),
    Exception("2001:20::/28", &[Private], Global, Either, "RFC 7343 wants no code against ORCHIDs; private before 3.12.4"),
    Exception("2001:30::/28", &[Private], Global, Either, "globally reachable says the registry; private before 3.12.4"),
    Exception("2001:db8::/32", &[Private], Never, Always, "documentation is nobody's network"),
    Exception("2002::/16", &[Global, Private], Never, Always, "6to4 has no way back without the relays; global before 3.12.4"),
    Exception("3fff::/20", &[Global, Private], Never, Always, "documentation is nobody's network; global before 3.13"),
    Exception("5f00::/16", &[Never], Private, Always, "SRv6 domains send from it; Python reserves all of 4000::/3"),
];

/// Who can have sent from each address, by Python and the exceptions, in the order asked.
///
/// # Errors
/// Without Python, when an opinion is at odds with an exception's, or when one shows nowhere.
pub(crate) fn expected(addresses: &[IpAddr]) -> Result<Vec<Scope>> {
    let Answers { version, answers } = ask(addresses)?;
    ensure!(answers.len() == addresses.len(), "Python left some out");
    let mut shown = vec![false; EXCEPTIONS.len()];
    let mut scopes = Vec::new();
    for (address, answer) in addresses.iter().zip(answers) {
        let theirs = rule(*address, answer);
        let exception = EXCEPTIONS
            .iter()
            .enumerate()
            .filter(|(_, exception)| exception.1.contains(&theirs))
            .filter_map(|(index, exception)| Some((index, exception.0.parse::<IpNet>().ok()?)))
            .filter(|(_, net)| net.contains(address))
            .max_by_key(|(_, net)| net.prefix_len());
        scopes.push(exception.map_or(theirs, |(index, _)| {
            let ours = EXCEPTIONS[index].2;
            shown[index] |= ours != theirs;
            ours
        }));
    }
    for (Exception(prefix, _, _, shows, why), shown) in EXCEPTIONS.iter().zip(shown) {
        ensure!(
            shown || *shows == Either,
            "Python {version} agrees with us on {prefix} ({why}): the exception is of no use"
        );
    }
    Ok(scopes)
}

fn rule(address: IpAddr, answer: [bool; 8]) -> Scope {
    let [
        unspecified,
        loopback,
        multicast,
        reserved,
        site_local,
        link_local,
        private,
        global,
    ] = answer;
    if unspecified {
        Unspecified
    } else if loopback || multicast || reserved || site_local {
        Never
    } else if link_local && address.is_ipv6() {
        LinkLocal
    } else if link_local || private || !global {
        Private
    } else {
        Global
    }
}

fn ask(addresses: &[IpAddr]) -> Result<Answers> {
    let mut python = Command::new("python3")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run python3")?;
    // it answers only after it has read all: neither pipe can block the other
    let mut input = python.stdin.take().context("no pipe to python3")?;
    input.write_all(&serde_json::to_vec(addresses)?)?;
    drop(input);
    let output = python.wait_with_output()?;
    ensure!(output.status.success(), "python3: {}", output.status);
    serde_json::from_slice(&output.stdout).context("unexpected output of python3")
}

#[test]
fn exceptions_are_prefixes_each_written_once() -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for Exception(prefix, _, _, _, why) in EXCEPTIONS {
        let net: IpNet = prefix.parse().with_context(|| (*prefix).to_owned())?;
        ensure!(net == net.trunc() && seen.insert(net), "{prefix}");
        ensure!(!why.is_empty(), "{prefix}: without a reason");
    }
    Ok(())
}
