//! Links, addresses and routes inside namespaces of ours, through iproute2.
//!
//! Owns nothing that lasts: what it makes goes away with the namespace. Must never name a link of
//! the namespace the tests were started in.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::namespace::Namespace;
use super::process::finish;

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct Veth<'a> {
    /// Where this end is.
    pub namespace: &'a Namespace,
    /// What it is called there.
    pub name: &'a str,
}

/// Joins two namespaces by a veth pair, both ends up, with the same MTU in bytes.
pub fn veth(one: Veth<'_>, other: Veth<'_>, mtu: u32) -> Result<()> {
    let mut command = Command::new("ip");
    command.args([
        "link",
        "add",
        one.name,
        "netns",
        one.namespace.name(),
        "type",
        "veth",
    ]);
    command.args(["peer", "name", other.name, "netns", other.namespace.name()]);
    finish(command, Duration::from_secs(10))?.require()?;
    for end in [one, other] {
        end.namespace
            .run(&["ip", "link", "set", end.name, "mtu", &mtu.to_string(), "up"])?;
    }
    Ok(())
}

/// Adds an address with its prefix length, IPv4 or IPv6, usable at once.
pub fn add_address(namespace: &Namespace, link: &str, address: &str) -> Result<()> {
    let mut words = vec!["ip", "address", "add", address, "dev", link];
    if address.contains(':') {
        words.push("nodad");
    }
    namespace.run(&words).map(drop)
}

/// Routes `destination` through `gateway`; the gateway's address decides the family.
pub fn add_route(namespace: &Namespace, destination: &str, gateway: &str) -> Result<()> {
    namespace
        .run(&[
            "ip",
            family(gateway),
            "route",
            "add",
            destination,
            "via",
            gateway,
        ])
        .map(drop)
}

/// Routes everything else through `gateway`.
pub fn default_route(namespace: &Namespace, gateway: &str) -> Result<()> {
    add_route(namespace, "default", gateway)
}

/// Makes a bridge, up, and puts `ports` into it.
pub fn bridge(namespace: &Namespace, name: &str, ports: &[&str]) -> Result<()> {
    namespace.run(&["ip", "link", "add", name, "type", "bridge"])?;
    for port in ports {
        namespace.run(&["ip", "link", "set", port, "master", name])?;
    }
    namespace.run(&["ip", "link", "set", name, "up"]).map(drop)
}

/// What `ip -j -d link show` says about a link; `None` when there is no such link.
pub fn describe(namespace: &Namespace, link: &str) -> Result<Option<Value>> {
    let shown = namespace.try_run(
        &["ip", "-j", "-d", "link", "show", "dev", link],
        Duration::from_secs(10),
    )?;
    if !shown.ok() {
        return Ok(None);
    }
    let links: Value = serde_json::from_str(&shown.stdout).context("`ip -j link` gave no JSON")?;
    Ok(links.get(0).cloned())
}

/// The link's index.
pub fn index(namespace: &Namespace, link: &str) -> Result<u32> {
    let described = describe(namespace, link)?
        .with_context(|| format!("{} has no link {link}", namespace.name()))?;
    let index = described.get("ifindex").and_then(Value::as_u64);
    Ok(u32::try_from(index.context("a link without an index")?)?)
}

/// The link's MAC address.
pub fn hardware_address(namespace: &Namespace, link: &str) -> Result<[u8; 6]> {
    let described = describe(namespace, link)?
        .with_context(|| format!("{} has no link {link}", namespace.name()))?;
    let text = described
        .get("address")
        .and_then(Value::as_str)
        .context("a link without an address")?;
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .with_context(|| format!("{text:?} is not a MAC address"))
}

fn family(address: &str) -> &'static str {
    if address.contains(':') { "-6" } else { "-4" }
}
