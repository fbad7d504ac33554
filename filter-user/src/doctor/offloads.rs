//! Judges the offloads that change packets before XDP sees them. Owns the advice for each; it sees
//! the reading only and makes no system call.

use super::driver::DriverFacts;
use super::reading::{Interface, Offload};
use super::{Check, PolicyNeeds};

pub(super) fn lro(interface: &Interface, known: Option<&DriverFacts>) -> Check {
    let id = "lro";
    let offloads = match &interface.offloads {
        Ok(offloads) => offloads,
        Err(error) => return unreadable(id, interface, error),
    };
    let seen = format!("large-receive-offload {}", state(offloads.lro));
    if !offloads.lro.on {
        return Check::ok(id, seen);
    }
    let advice = format!("ethtool -K {} lro off", interface.name);
    if known.is_some_and(|facts| facts.refuses_lro) {
        Check::fail(
            id,
            format!("{seen}: the driver refuses XDP with it"),
            advice,
        )
    } else {
        Check::warn(
            id,
            format!("{seen}: packets would be merged before the filter"),
            advice,
        )
    }
}

pub(super) fn rx_vlan(interface: &Interface, needs: Option<&PolicyNeeds>) -> Check {
    let id = "rx-vlan-offload";
    let offload = match &interface.offloads {
        Ok(offloads) => offloads.rx_vlan,
        Err(error) => return unreadable(id, interface, error),
    };
    let seen = format!("rx-vlan-offload {}", state(offload));
    let command = format!("ethtool -K {} rxvlan off", interface.name);
    match (offload.on, needs) {
        (false, _) => Check::ok(id, seen),
        (true, Some(needs)) if needs.vlans => Check::warn(
            id,
            format!("{seen}: tags are hidden from XDP, so `vlans` in the policy would not match"),
            if offload.fixed {
                format!(
                    "the driver cannot switch it off; filter the VLAN devices above {} instead",
                    interface.name
                )
            } else {
                command
            },
        ),
        (true, Some(_)) => Check::ok(id, format!("{seen}; the policy has no `vlans`")),
        (true, None) => {
            Check::ok(id, seen).with_advice(format!("only for a policy with `vlans`: {command}"))
        }
    }
}

pub(super) fn gro_hw(interface: &Interface, known: Option<&DriverFacts>) -> Check {
    let id = "gro-hw";
    let offload = match &interface.offloads {
        Ok(offloads) => offloads.gro_hw,
        Err(error) => return unreadable(id, interface, error),
    };
    let seen = format!("rx-gro-hw {}", state(offload));
    match known.map(|facts| facts.name) {
        _ if !offload.on => Check::ok(id, seen),
        // It is switchable exactly where the host offers VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, and
        // then the driver switches it off itself (drivers/net/virtio_net.c, virtnet_xdp_set).
        Some("virtio_net") if offload.fixed => Check::fail(
            id,
            format!("{seen}: the driver refuses XDP while the host merges packets"),
            "on the host, switch the device's guest_tso4, guest_tso6, guest_ecn and guest_ufo off, \
             or ctrl_guest_offloads on",
        ),
        Some("virtio_net") => Check::ok(id, format!("{seen}; the driver switches it off for XDP")),
        _ => Check::warn(
            id,
            format!("{seen}: packets may be merged before the filter, and drivers may refuse XDP"),
            format!("ethtool -K {} rx-gro-hw off", interface.name),
        ),
    }
}

fn unreadable(id: &'static str, interface: &Interface, error: &str) -> Check {
    Check::warn(
        id,
        format!("the offload settings cannot be read: {error}"),
        format!("ethtool -k {}", interface.name),
    )
}

fn state(offload: Offload) -> &'static str {
    match (offload.on, offload.fixed) {
        (true, true) => "on (fixed)",
        (true, false) => "on",
        (false, true) => "off (fixed)",
        (false, false) => "off",
    }
}
