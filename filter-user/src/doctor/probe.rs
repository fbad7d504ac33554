//! Gathers the [`Reading`] from the running system. Owns the order of the questions; it judges
//! nothing and changes nothing.

use std::path::Path;

use anyhow::Context as _;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};

use super::reading::{Interface, Reading};
use super::{Options, attached, ethtool, kernel, netlink, sysctl};

/// # Errors
/// When the kernel does not list the interfaces.
pub(super) fn read(name: &str, options: &Options) -> anyhow::Result<Reading> {
    let links = netlink::links().context("cannot list the network interfaces by rtnetlink")?;
    let interfaces: Vec<String> = links
        .iter()
        .filter_map(|link| link_name(link).map(str::to_owned))
        .collect();
    let interface = links
        .iter()
        .find(|link| link_name(link) == Some(name))
        .map(|link| interface(name, link, &links, options));
    Ok(Reading {
        interfaces,
        interface,
        host: kernel::read(&options.bpffs),
    })
}

fn interface(name: &str, link: &LinkMessage, all: &[LinkMessage], options: &Options) -> Interface {
    let names = attached::program_names();
    let by_index = |index: u32| {
        all.iter()
            .find(|other| other.header.index == index)
            .and_then(|other| link_name(other).map(str::to_owned))
            .unwrap_or_else(|| format!("interface {index}"))
    };
    let mut found = Interface {
        name: name.to_owned(),
        up: link.header.flags.contains(LinkFlags::Up),
        operstate: "unknown".to_owned(),
        mtu: 0,
        kind: None,
        loopback: link.header.flags.contains(LinkFlags::Loopback),
        lower: None,
        controller: None,
        xdp: Vec::new(),
        driver: ethtool::driver(name).map_err(|error| error.to_string()),
        xdp_features: netlink::xdp_features(link.header.index).map_err(|error| error.to_string()),
        channels: ethtool::channels(name).map_err(|error| error.to_string()),
        offloads: ethtool::offloads(name).map_err(|error| error.to_string()),
        egress: attached::egress(name, link.header.index, &names),
        sysctls: sysctl::read(Path::new(sysctl::ROOT), name),
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => found.mtu = *mtu,
            LinkAttribute::OperState(state) => found.operstate = state_name(*state),
            LinkAttribute::Xdp(xdp) => found.xdp = attached::xdp(xdp, &names),
            LinkAttribute::Controller(index) => found.controller = Some(by_index(*index)),
            LinkAttribute::Link(index) => found.lower = Some(by_index(*index)),
            LinkAttribute::LinkInfo(info) => {
                found.kind = info.iter().find_map(|part| match part {
                    LinkInfo::Kind(kind) => Some(InfoKind::to_string(kind)),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    if let Some(controller) = &found.controller {
        found.sysctls = sysctl::read(Path::new(sysctl::ROOT), controller);
    }
    // The two ends of a veth name each other as their lower device, possibly across namespaces.
    if found.kind.as_deref() == Some("veth") {
        found.lower = None;
    }
    for xdp in &mut found.xdp {
        if !options.is_own(&xdp.program) {
            attached::add_holders(&mut xdp.program, Path::new("/proc"));
        }
    }
    found
}

fn link_name(link: &LinkMessage) -> Option<&str> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        })
}

fn state_name(state: State) -> String {
    match state {
        State::Up => "up",
        State::Down => "down",
        State::LowerLayerDown => "lower layer down",
        State::Dormant => "dormant",
        State::NotPresent => "not present",
        State::Testing => "testing",
        _ => "unknown",
    }
    .to_owned()
}
