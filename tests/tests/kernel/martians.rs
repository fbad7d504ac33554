//! Sources that cannot be, through the real program: the edges of every row of the registry as source of a packet that
//! would be let in, judged as Python's `ipaddress` would (see `opinion.rs` for where and why we differ).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use edgefilter_tests::packets::{Ipv4, Ipv6, Tcp, link};
use edgefilter_tests::test_run::{Filter, can_run};
use filter_user::compile::HostFacts;
use filter_user::compile::registry::{Row, Scope, V4, V6, row_id};
use ipnet::IpNet;

use crate::opinion;

/// The host's own addresses, far from every row's edges.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(45, 67, 89, 10);
/// See [`HOST`].
pub(crate) const HOST6: Ipv6Addr = Ipv6Addr::new(0x2a00, 1, 2, 3, 0, 0, 0, 0x10);

/// Private prefixes that are narrower than their rows.
const LEGITIMATE: [&str; 2] = ["172.16.0.0/13", "fd00::/8"];

/// A host of which only its addresses are known.
pub(crate) fn host() -> HostFacts {
    HostFacts {
        own_v4: vec![HOST],
        own_v6: vec![HOST6],
        ..HostFacts::default()
    }
}

/// tcp/443 from anywhere, and these lines in `antispoof`: on `lo` nothing is on unless it is said.
pub(crate) fn policy(antispoof: &str) -> String {
    format!(
        "version = 1\n[profiles.edge]\ninterfaces = [\"lo\"]\n[profiles.edge.antispoof]\n{antispoof}\n\
         [[profiles.edge.allow]]\nid = \"https\"\nprotocol = \"tcp\"\nports = [443]\n"
    )
}

/// A connection request to the open port.
pub(crate) fn syn(source: IpAddr) -> Vec<u8> {
    let syn = Tcp::syn(40_000, 443);
    match source {
        IpAddr::V4(source) => link().ipv4(&Ipv4::between(source, HOST).with(&syn)),
        IpAddr::V6(source) => link().ipv6(&Ipv6::between(source, HOST6).with(&syn)),
    }
}

fn rows() -> impl Iterator<Item = (&'static Row, IpNet)> {
    V4.iter()
        .chain(V6)
        .filter_map(|row| Some((row, row.prefix.parse().ok()?)))
}

/// First, last and middle address of a prefix, and its neighbours on both sides.
fn edges(net: IpNet) -> Vec<IpAddr> {
    let (first, last) = (net.network(), net.broadcast());
    let mut edges = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (first, last) = (first.to_bits(), last.to_bits());
            let outside = [first.checked_sub(1), last.checked_add(1)];
            [first, last, first + (last - first) / 2]
                .into_iter()
                .chain(outside.into_iter().flatten())
                .map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
                .collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let (first, last) = (first.to_bits(), last.to_bits());
            let outside = [first.checked_sub(1), last.checked_add(1)];
            [first, last, first + (last - first) / 2]
                .into_iter()
                .chain(outside.into_iter().flatten())
                .map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
                .collect()
        }
        _ => Vec::new(),
    };
    edges.sort_unstable();
    edges.dedup();
    edges
}

fn addresses() -> Result<Vec<IpAddr>> {
    let mut all: Vec<IpAddr> = rows().flat_map(|(_, net)| edges(net)).collect();
    for prefix in LEGITIMATE {
        all.extend(edges(prefix.parse()?));
    }
    all.sort_unstable();
    all.dedup();
    ensure!(all.len() > 150, "only {} addresses", all.len());
    Ok(all)
}

/// The row that covers an address most closely.
fn row(address: IpAddr) -> Result<&'static Row> {
    rows()
        .filter(|(_, net)| net.contains(&address))
        .max_by_key(|(_, net)| net.prefix_len())
        .map(|(row, _)| row)
        .with_context(|| format!("no row covers {address}"))
}

fn complain(wrong: &[String]) -> Result<()> {
    ensure!(
        wrong.is_empty(),
        "{} addresses:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn the_registry_agrees_with_python_but_for_the_exceptions() -> Result<()> {
    let addresses = addresses()?;
    let mut wrong = Vec::new();
    for (address, expected) in addresses.iter().zip(opinion::expected(&addresses)?) {
        let row = row(*address)?;
        if row.scope != expected {
            wrong.push(format!(
                "{address}: {:?} by {}, expected {expected:?}",
                row.scope, row.prefix
            ));
        }
    }
    complain(&wrong)
}

#[test]
fn the_edges_of_every_row_are_judged_as_expected() -> Result<()> {
    if !can_run() {
        return Ok(());
    }
    let addresses = addresses()?;
    let scopes = opinion::expected(&addresses)?;
    let legitimate: Vec<IpNet> = LEGITIMATE
        .iter()
        .map(|prefix| prefix.parse())
        .collect::<Result<_, _>>()?;
    let listed = format!("internet = true\nlegitimate = {LEGITIMATE:?}");
    let mut filter = Filter::load()?;
    let mut wrong = Vec::new();
    for (settings, internet, legitimate) in [
        ("internet = false", false, &[][..]),
        ("internet = true", true, &[]),
        (listed.as_str(), true, &legitimate),
    ] {
        let text = policy(&format!(
            "martians = true\nown_addresses = true\n{settings}"
        ));
        filter.push_with_facts(&text, &host())?;
        for (address, scope) in addresses.iter().zip(&scopes) {
            let listed = legitimate.iter().any(|net| net.contains(address));
            let refused = match scope {
                Scope::Never | Scope::Unspecified => true,
                Scope::Private => internet && !listed,
                Scope::Global | Scope::LinkLocal => false,
            };
            let expected = if refused {
                ("drop_martian", row_id(row(*address)?))
            } else {
                ("pass_rule", "https".to_owned())
            };
            let verdict = filter.ingress(&syn(*address))?;
            let found = (verdict.reason.name(), verdict.rule.unwrap_or_default());
            if found != expected || verdict.pass == refused {
                wrong.push(format!(
                    "{}: {address}: {found:?}, expected {expected:?}",
                    settings.replace('\n', ", ")
                ));
            }
        }
        filter.settle()?;
    }
    eprintln!("{} addresses under 3 policies", addresses.len());
    complain(&wrong)
}
