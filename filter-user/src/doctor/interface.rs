//! Judges the interface: driver, XDP mode, programs in place, MTU, queues, egress.
//! Owns the advice for each; it sees the reading only and makes no system call.

use super::driver::{self, DriverFacts, Queues};
use super::kernel::version;
use super::reading::{Interface, Mode, Program, Reading};
use super::{Check, Options, PolicyNeeds, offloads};

/// `NETDEV_XDP_ACT_BASIC`, include/uapi/linux/netdev.h
const XDP_BASIC: u64 = 1 << 0;
/// `NETDEV_XDP_ACT_RX_SG`: packets of several buffers reach the program.
const XDP_RX_SG: u64 = 1 << 5;

/// All checks of the interface; a single one when it does not exist.
pub(super) fn checks(name: &str, reading: &Reading, options: &Options) -> Vec<Check> {
    let Some(interface) = &reading.interface else {
        return vec![unknown(name, &reading.interfaces)];
    };
    let known = interface
        .driver
        .as_ref()
        .ok()
        .and_then(|driver| driver::known(&driver.name));
    let needs = options.policy.as_ref();
    vec![
        link(interface),
        driver_check(interface, known),
        native(interface, known, &reading.host.release, needs),
        attached(interface, options),
        mtu(interface, known, &reading.host.release),
        queues(interface, known, &reading.host.release),
        offloads::lro(interface, known),
        offloads::rx_vlan(interface, needs),
        offloads::gro_hw(interface, known),
        egress(interface, options),
    ]
}

fn unknown(name: &str, existing: &[String]) -> Check {
    let close = existing
        .iter()
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .min()
        .filter(|(distance, _)| *distance <= 2)
        .map(|(_, other)| format!("did you mean {other}? "))
        .unwrap_or_default();
    let list = if existing.is_empty() {
        "none".to_owned()
    } else {
        existing.join(", ")
    };
    Check::fail(
        "interface",
        format!("there is no interface {name:?} in this network namespace"),
        format!("{close}interfaces here: {list}\nip -brief link"),
    )
}

fn link(interface: &Interface) -> Check {
    let name = &interface.name;
    let kind = interface.kind.as_deref().unwrap_or("device");
    let seen = format!(
        "{kind}, {}, operational state {}",
        if interface.up { "up" } else { "down" },
        interface.operstate
    );
    if interface.loopback {
        return Check::warn(
            "interface",
            format!("{seen}; it is the loopback"),
            "filter the interfaces that face the network; local programs talk over this one",
        );
    }
    if let Some(lower) = &interface.lower {
        return Check::warn(
            "interface",
            format!("{seen}; stacked on {lower}"),
            format!(
                "filter {lower} instead (with `vlans = [..]` in a profile where it carries VLANs): \
                 packets pass its XDP hook first\nedgefilter doctor {lower}"
            ),
        );
    }
    if !interface.up {
        return Check::warn("interface", seen, format!("ip link set dev {name} up"));
    }
    match &interface.controller {
        Some(controller) => Check::ok("interface", format!("{seen}, port of {controller}"))
            .with_advice(format!(
                "a program at the XDP hook of {controller} and one here exclude each other: \
                 manage {name} or {controller}, not both"
            )),
        None => Check::ok("interface", seen),
    }
}

fn driver_check(interface: &Interface, known: Option<&DriverFacts>) -> Check {
    match &interface.driver {
        Ok(driver) => {
            let version = if driver.version.is_empty() {
                String::new()
            } else {
                format!(" {}", driver.version)
            };
            let check = Check::ok("driver", format!("{}{version}", driver.name));
            match known {
                Some(facts) if facts.resets_link => check.with_advice(
                    "attaching and detaching may take the link down for a moment on this driver; \
                     restarts and upgrades of the filter replace the program in place and do not",
                ),
                _ => check,
            }
        }
        Err(error) => Check::warn(
            "driver",
            format!("not known: {error}"),
            format!("ethtool -i {}", interface.name),
        ),
    }
}

fn native(
    interface: &Interface,
    known: Option<&DriverFacts>,
    release: &str,
    needs: Option<&PolicyNeeds>,
) -> Check {
    let id = "native-xdp";
    let driver = interface
        .driver
        .as_ref()
        .map_or("this driver", |driver| driver.name.as_str());
    let refused = |why: String| match needs {
        Some(needs) if needs.generic_xdp => Check::warn(
            id,
            format!("{why}; generic mode will be used, as the policy allows"),
            "expect a few times the cost per packet of native mode",
        ),
        _ => Check::fail(
            id,
            why,
            "set `generic_xdp = true` in the interface's profile (slower), or use a network card \
             whose driver has native XDP",
        ),
    };
    match (&interface.xdp_features, known) {
        (Ok(Some(features)), _) if features & XDP_BASIC != 0 => {
            Check::ok(id, format!("{driver} has native XDP (the kernel says so)"))
        }
        (Ok(Some(_)), _) => refused(format!(
            "{driver} has no native XDP in its present state (the kernel says so)"
        )),
        (_, Some(facts)) if version(release).is_some_and(|running| running >= facts.native) => {
            Check::ok(
                id,
                format!(
                    "{driver} has native XDP since Linux {}.{}",
                    facts.native.0, facts.native.1
                ),
            )
        }
        (_, Some(facts)) => refused(format!(
            "{driver} has native XDP since Linux {}.{} only, this is {release}",
            facts.native.0, facts.native.1
        )),
        (_, None) => Check::warn(
            id,
            format!("not known: {driver} is not in the table and Linux {release} does not tell"),
            "`edgefilter run` says which mode it got; if native is refused, set \
             `generic_xdp = true` in the interface's profile",
        ),
    }
}

fn attached(interface: &Interface, options: &Options) -> Check {
    let id = "xdp-program";
    let name = &interface.name;
    let foreign: Vec<_> = interface
        .xdp
        .iter()
        .filter(|xdp| !options.is_own(&xdp.program))
        .collect();
    if interface.xdp.is_empty() {
        return Check::ok(id, "none attached");
    }
    let list = interface
        .xdp
        .iter()
        .map(|xdp| {
            let own = if options.is_own(&xdp.program) {
                "this filter's "
            } else {
                ""
            };
            format!(
                "{own}{} in {} mode{}",
                describe(&xdp.program),
                xdp.mode.name(),
                holders(&xdp.program)
            )
        })
        .collect::<Vec<_>>()
        .join(", ");
    if foreign.is_empty() {
        let generic = interface.xdp.iter().any(|xdp| xdp.mode == Mode::Generic);
        let may = options
            .policy
            .as_ref()
            .is_none_or(|needs| needs.generic_xdp);
        return if generic && !may {
            Check::warn(
                id,
                list,
                "the policy wants native mode: restart edgefilter to get it",
            )
        } else {
            Check::ok(id, list)
        };
    }
    let mut advice = vec![
        "another program has the XDP hook; edgefilter never takes it over. Stop what loaded it, or:"
            .to_owned(),
    ];
    for xdp in foreign {
        if xdp.program.name == "xdp_dispatcher" {
            advice.push(format!("xdp-loader unload {name} --all"));
        } else if let Some(link) = xdp.program.link {
            advice.push(format!("bpftool link detach id {link}"));
        } else {
            advice.push(format!(
                "ip link set dev {name} {} off   (if refused, a bpf_link holds it: bpftool link show)",
                xdp.mode.ip_keyword()
            ));
        }
    }
    Check::fail(id, list, advice.join("\n"))
}

fn mtu(interface: &Interface, known: Option<&DriverFacts>, release: &str) -> Check {
    let id = "mtu";
    let (name, mtu) = (&interface.name, interface.mtu);
    let limit = known.and_then(|facts| facts.linear_mtu);
    let by_table = || {
        known.and_then(|facts| {
            let since = facts.frags?;
            Some(version(release)? >= since)
        })
    };
    let frags = match &interface.xdp_features {
        Ok(Some(features)) if features & XDP_BASIC != 0 => features & XDP_RX_SG != 0,
        _ => by_table().unwrap_or(false),
    };
    // Without native mode there is no driver limit: generic mode takes what the stack takes.
    if let (Ok(Some(features)), None) = (&interface.xdp_features, limit)
        && features & XDP_BASIC == 0
    {
        return Check::ok(id, mtu.to_string());
    }
    match (limit, frags) {
        (_, true) => Check::ok(
            id,
            format!("{mtu}; the driver takes any MTU for xdp.frags programs"),
        ),
        (Some(limit), false) if mtu <= limit => Check::ok(
            id,
            format!("{mtu}, within the driver's XDP limit of {limit}"),
        ),
        (Some(limit), false) => Check::fail(
            id,
            format!(
                "{mtu}, above the driver's XDP limit of {limit} ({})",
                known.map_or("", |facts| facts.source)
            ),
            format!("ip link set dev {name} mtu {limit}"),
        ),
        // No known driver takes less than this in one buffer.
        (None, false) if mtu <= 1500 => Check::ok(id, mtu.to_string()),
        (None, false) => Check::warn(
            id,
            format!(
                "{mtu}; the driver's XDP limit is not known, and it takes no packets of several buffers"
            ),
            format!("if attaching is refused: ip link set dev {name} mtu 1500"),
        ),
    }
}

fn queues(interface: &Interface, known: Option<&DriverFacts>, release: &str) -> Check {
    let id = "queues";
    let name = &interface.name;
    let channels = match &interface.channels {
        Ok(channels) => *channels,
        Err(error) => return Check::ok(id, format!("the driver has no queue settings ({error})")),
    };
    let mut parts = Vec::new();
    for (kind, used, most) in [
        ("rx", channels.rx, channels.max_rx),
        ("tx", channels.tx, channels.max_tx),
        ("combined", channels.combined, channels.max_combined),
    ] {
        if used > 0 || most > 0 {
            parts.push(format!("{kind} {used} of {most}"));
        }
    }
    let seen = parts.join(", ");
    let rule = known.map_or(Queues::Any, |facts| facts.queues);
    let cpus = u32::try_from(std::thread::available_parallelism().map_or(1, usize::from))
        .unwrap_or(u32::MAX);
    match rule {
        // An attached program has taken its queues already.
        _ if !interface.xdp.is_empty() => Check::ok(id, seen),
        Queues::HalfOfMax if 2 * channels.combined > channels.max_combined => {
            let advice = format!(
                "ethtool -L {name} combined {}",
                (channels.max_combined / 2).max(1)
            );
            let seen = format!("{seen}: more than half of the maximum are in use");
            // The driver that comes with the kernel gives the kernel's release as its version.
            // Newer separate releases of it do without the spare half.
            let separate = interface
                .driver
                .as_ref()
                .is_ok_and(|driver| version(&driver.version) != version(release));
            if separate {
                Check::warn(id, seen, format!("if attaching is refused: {advice}"))
            } else {
                Check::fail(id, seen, advice)
            }
        }
        Queues::EqualAndHalfOfMax
            if channels.rx != channels.tx || 2 * channels.tx > channels.max_tx =>
        {
            let count = channels.rx.min(channels.tx).min(channels.max_tx / 2).max(1);
            Check::fail(
                id,
                format!("{seen}: as many rx as tx are wanted, at most half of the maximum"),
                format!("ethtool -L {name} rx {count} tx {count}"),
            )
        }
        Queues::SparePerCpu(tolerated)
            if channels.combined.saturating_add(cpus) > channels.max_combined =>
        {
            let seen = format!("{seen}: no spare queue for each of {cpus} CPUs");
            let fewer = channels.max_combined.saturating_sub(cpus);
            if version(release).is_some_and(|running| running >= tolerated) {
                // Only sending from XDP is slower; the filter passes and drops.
                Check::ok(
                    id,
                    format!("{seen}, which the filter does not need on this kernel"),
                )
            } else if fewer > 0 {
                Check::fail(id, seen, format!("ethtool -L {name} combined {fewer}"))
            } else {
                Check::fail(
                    id,
                    seen,
                    format!("give the virtual machine {} queue pairs or more", cpus + 1),
                )
            }
        }
        Queues::CombinedOnly if channels.rx > 0 || channels.tx > 0 => Check::fail(
            id,
            format!("{seen}: the driver wants combined channels for XDP"),
            format!(
                "ethtool -L {name} rx 0 tx 0 combined {}",
                channels.rx.max(channels.tx)
            ),
        ),
        _ => Check::ok(id, seen),
    }
}

fn egress(interface: &Interface, options: &Options) -> Check {
    let id = "egress-programs";
    let found = match &interface.egress {
        Ok(found) => found,
        Err(error) => {
            return Check::warn(
                id,
                format!("cannot be read: {error}"),
                format!("tc filter show dev {} egress", interface.name),
            );
        }
    };
    if found.is_empty() {
        return Check::ok(id, "none");
    }
    let list = found
        .iter()
        .map(|egress| {
            let own = if options.is_own(&egress.program) {
                "this filter's "
            } else {
                ""
            };
            let priority = egress
                .priority
                .map(|priority| format!(", priority {priority}"))
                .unwrap_or_default();
            format!(
                "{own}{} at {}{priority}",
                describe(&egress.program),
                egress.hook
            )
        })
        .collect::<Vec<_>>()
        .join("; ");
    if found.iter().all(|egress| options.is_own(&egress.program)) {
        return Check::ok(id, list);
    }
    Check::warn(
        id,
        list,
        format!(
            "flows are noted at egress: a program that runs before the filter's and drops, \
             redirects or ends the chain hides packets from it, and their replies are then \
             dropped. See what it does: bpftool net show dev {}",
            interface.name
        ),
    )
}

fn describe(program: &Program) -> String {
    let name = if program.name.is_empty() {
        "?"
    } else {
        &program.name
    };
    format!("{name:?} (id {})", program.id)
}

fn holders(program: &Program) -> String {
    if program.holders.is_empty() {
        String::new()
    } else {
        format!(", held by {}", program.holders.join(", "))
    }
}
