//! Listeners and openings, put side by side.

use super::openings::{Opening, Profile, word};
use super::{Exposure, Finding, Kind, Listener, Openings};

/// What is open to whom, what is shut, and what is open for nothing. `clients` is how many UDP sockets were left out.
#[must_use]
pub fn compare(listeners: Vec<Listener>, openings: &Openings, clients: usize) -> Exposure {
    let (loopback, outside): (Vec<Listener>, Vec<Listener>) = listeners
        .into_iter()
        .partition(|listener| listener.address.is_loopback());
    let mut findings = Vec::new();
    for profile in &openings.profiles {
        findings.extend(outside.iter().map(|listener| judge(listener, profile)));
        findings.extend(unused(&outside, profile));
    }
    findings.sort_by_key(|finding| finding.kind);
    let mut remarks = Vec::new();
    if openings.profiles.is_empty() {
        remarks.push("no profile of the policy guards this host: everything is open".to_owned());
    }
    let monitored = openings.profiles.iter().filter(|profile| !profile.enforced);
    remarks.extend(monitored.map(|profile| {
        format!(
            "profile {} is in monitor mode: everybody gets in, whatever is said here",
            profile.name
        )
    }));
    if clients > 0 {
        remarks.push(format!(
            "{clients} UDP sockets on ports that the kernel hands out were taken for clients"
        ));
    }
    Exposure {
        findings,
        loopback,
        remarks,
    }
}

fn judge(listener: &Listener, profile: &Profile) -> Finding {
    let covers =
        |opening: &&Opening| opening.covers(&listener.protocol, listener.port, listener.address);
    let shut = profile.shut.iter().any(|opening| covers(&opening));
    let open: Vec<&Opening> = profile.open.iter().filter(covers).collect();
    let mut rules: Vec<String> = open.iter().map(|opening| opening.rule.clone()).collect();
    let everybody = profile.passes || open.iter().any(|opening| opening.prefixes.is_none());
    let kind = match (shut, everybody, open.is_empty()) {
        (true, ..) => Kind::Closed,
        (_, true, _) => Kind::OpenToWorld,
        (_, _, false) => Kind::OpenToSome,
        _ => Kind::Closed,
    };
    if shut {
        rules = profile
            .shut
            .iter()
            .filter(covers)
            .map(|opening| opening.rule.clone())
            .collect();
    } else if profile.passes {
        rules.push("default".to_owned());
    }
    let prefixes = if kind == Kind::OpenToSome {
        open.iter().filter_map(|opening| opening.prefixes).sum()
    } else {
        0
    };
    Finding {
        kind,
        protocol: listener.protocol.clone(),
        ports: listener.port.to_string(),
        listener: Some(listener.clone()),
        profile: profile.name.clone(),
        interfaces: profile.interfaces.clone(),
        enforced: profile.enforced,
        rules,
        prefixes,
    }
}

/// Openings that nothing stands behind.
fn unused(listeners: &[Listener], profile: &Profile) -> Vec<Finding> {
    let used = |opening: &&Opening| {
        listeners
            .iter()
            .any(|listener| opening.covers(&listener.protocol, listener.port, listener.address))
    };
    let finding = |opening: &Opening| Finding {
        kind: Kind::Unused,
        protocol: word(opening.protocol).to_owned(),
        ports: if opening.first == opening.last {
            opening.first.to_string()
        } else {
            format!("{}-{}", opening.first, opening.last)
        },
        listener: None,
        profile: profile.name.clone(),
        interfaces: profile.interfaces.clone(),
        enforced: profile.enforced,
        rules: vec![opening.rule.clone()],
        prefixes: opening.prefixes.unwrap_or_default(),
    };
    profile
        .open
        .iter()
        .filter(|opening| !used(opening))
        .map(finding)
        .collect()
}
