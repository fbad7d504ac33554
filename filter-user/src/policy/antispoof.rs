//! The table `antispoof` of a profile: its defaults, and its lists as sets. Never makes a list
//! wider than was written.

use std::ops::Range;

use toml::Spanned;

use super::diagnostic::clean;
use super::group::{self, Groups, Role};
use super::model::{AntiSpoof, ReversePath};
use super::raw::{RawAntiSpoof, RawProfile, Texts};
use super::source::Report;
use super::validate::choice;

/// The loopback interface: whatever comes in there is from this host.
pub(super) const LOOPBACK: &str = "lo";

/// Places of what was written, for warnings.
#[derive(Default)]
pub(super) struct Marks {
    pub(super) internet: Option<Range<usize>>,
    pub(super) legitimate: Option<Range<usize>>,
    pub(super) reverse_path: Option<Range<usize>>,
    pub(super) egress_sources: Option<Range<usize>>,
}

/// Where the profile writes its keys.
pub(super) fn marks(raw: &RawProfile) -> Marks {
    let Some(raw) = &raw.antispoof else {
        return Marks::default();
    };
    Marks {
        internet: raw.internet.as_ref().map(Spanned::span),
        legitimate: raw.legitimate.as_ref().map(Spanned::span),
        reverse_path: raw.reverse_path.as_ref().map(Spanned::span),
        egress_sources: raw.egress_sources.as_ref().map(Spanned::span),
    }
}

/// What the profile refuses, with the defaults of its kind filled in.
pub(super) fn validate(raw: &RawProfile, groups: &mut Groups, report: &mut Report) -> AntiSpoof {
    if raw.containers.is_some() {
        // That the table is there at all is an error; it is reported with the kind of the profile.
        return AntiSpoof::default();
    }
    let loopback = raw
        .interfaces
        .iter()
        .flat_map(Spanned::get_ref)
        .any(|name| name.get_ref() == LOOPBACK);
    let nothing = RawAntiSpoof::default();
    let keys = raw.antispoof.as_ref().unwrap_or(&nothing);
    let profile = clean(raw.name.get_ref());
    let mut set = |list: &Option<Texts>, role| {
        let list = list.as_ref()?;
        group::sources(list, role, &format!("profile {profile}"), groups, report)
    };
    let legitimate = set(&keys.legitimate, Role::Legitimate);
    let egress_sources = set(&keys.egress_sources, Role::EgressSources);
    AntiSpoof {
        martians: keys.martians.unwrap_or(!loopback),
        internet: keys.internet.as_ref().is_some_and(|flag| *flag.get_ref()),
        legitimate,
        own_addresses: keys.own_addresses.unwrap_or(!loopback),
        reverse_path: choice(
            keys.reverse_path.as_ref(),
            "reverse_path",
            &[
                ("off", ReversePath::Off),
                ("loose", ReversePath::Loose),
                ("strict", ReversePath::Strict),
            ],
            report,
        ),
        egress: keys.egress.unwrap_or(!loopback),
        egress_sources,
    }
}
