//! A DHCP server (dnsmasq) and a DHCP client (isc-dhclient), IPv4 and IPv6.
//!
//! Owns the client's script and lease file. Must never run the system's dhclient-script, which
//! would rewrite the machine's resolver configuration.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::{Namespace, Running, Scratch, wait_until};

const SCRIPT: &str = r#"#!/bin/sh
# Called by dhclient with what it learnt in the environment.
case "$reason" in
  PREINIT|PREINIT6) ip link set dev "$interface" up ;;
  BOUND|RENEW|REBIND|REBOOT) ip -4 address replace "$new_ip_address/24" dev "$interface" ;;
  BOUND6|RENEW6|REBIND6) ip -6 address replace "$new_ip6_address/64" dev "$interface" nodad ;;
esac
exit 0
"#;

/// Serves 10.77.1.100-150 and fd77:1::100-1ff on eth0.
pub fn server(namespace: &Namespace, scratch: &Scratch) -> Result<Running> {
    server_on(namespace, scratch, "eth0")
}

/// The same on any link.
pub fn server_on(namespace: &Namespace, scratch: &Scratch, link: &str) -> Result<Running> {
    let link = format!("--interface={link}");
    let leases = format!(
        "--dhcp-leasefile={}",
        scratch.path().join("server.leases").display()
    );
    let running = namespace.start(&[
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        &link,
        "--bind-interfaces",
        "--dhcp-authoritative",
        "--log-dhcp",
        "--log-facility=-",
        "--user=root",
        "--pid-file=",
        "--no-ping",
        "--dhcp-range=10.77.1.100,10.77.1.150,255.255.255.0,10m",
        "--dhcp-range=fd77:1::100,fd77:1::1ff,64,10m",
        &leases,
    ])?;
    wait_until(Duration::from_secs(5), || {
        running.stderr().contains("DHCP, IP range")
    })
    .with_context(|| format!("dnsmasq does not serve DHCP: {}", running.stderr()))?;
    Ok(running)
}

/// Asks for an address on `link` for at most `limit`. Returns it, or `None` when no lease came.
pub fn client(
    namespace: &Namespace,
    scratch: &Scratch,
    link: &str,
    ipv6: bool,
    limit: Duration,
) -> Result<Option<String>> {
    let script = scratch.file("dhclient-script", SCRIPT)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let family = if ipv6 { "-6" } else { "-4" };
    let file = |name: &str| {
        scratch
            .path()
            .join(format!("{name}{family}"))
            .to_string_lossy()
            .into_owned()
    };
    let (script, leases, pid) = (
        script.to_string_lossy().into_owned(),
        file("leases"),
        file("pid"),
    );
    let configuration = scratch.file(
        "dhclient.conf",
        "timeout 10;\nretry 1;\nbackoff-cutoff 2;\ninitial-interval 1;\n",
    )?;
    let configuration = configuration.to_string_lossy().into_owned();
    let mut running = namespace.start(&[
        "dhclient",
        family,
        "-1",
        "-d",
        "-sf",
        &script,
        "-cf",
        &configuration,
        "-lf",
        &leases,
        "-pf",
        &pid,
        link,
    ])?;
    let mut found = None;
    wait_until(limit, || {
        found = dynamic_address(namespace, link, ipv6).ok().flatten();
        found.is_some() || !running.is_running()
    });
    Ok(found)
}

/// The address out of the server's range that `link` has.
fn dynamic_address(namespace: &Namespace, link: &str, ipv6: bool) -> Result<Option<String>> {
    let (family, start) = if ipv6 {
        ("-6", "fd77:1::1")
    } else {
        ("-4", "10.77.1.1")
    };
    let shown = namespace.run(&["ip", "-o", family, "address", "show", "dev", link])?;
    Ok(shown
        .stdout
        .split_whitespace()
        .find(|word| word.starts_with(start) && word.contains('/'))
        .map(str::to_owned))
}
