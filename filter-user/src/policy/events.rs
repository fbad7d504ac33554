//! The table `events`: which sampled drops are told, and the lists of words that choose what streams tell. Never touches a
//! file or an interface.

use filter_common::reason::Reason;
use toml::Spanned;

use super::diagnostic::clean;
use super::model::Events;
use super::raw::Texts;
use super::raw::events::RawEvents;
use super::source::Report;
use super::{interface, reporting, suggest};

/// The checked table.
pub(super) fn validate(raw: &RawEvents, report: &mut Report) -> Events {
    let reasons: Vec<&str> = Reason::ALL
        .iter()
        .filter(|reason| !reason.passes())
        .map(|reason| reason.name())
        .collect();
    Events {
        enabled: raw.enabled.unwrap_or(true),
        reasons: words("reason", raw.reasons.as_ref(), &reasons, report),
        interfaces: raw.interfaces.as_ref().map(|list| interfaces(list, report)),
        file: raw
            .file
            .as_ref()
            .and_then(|raw| reporting::report_file(raw, report)),
    }
}

/// A list of known words; `None`: there is no list, so all of them are meant.
pub(super) fn words(
    what: &str,
    list: Option<&Texts>,
    known: &[&'static str],
    report: &mut Report,
) -> Option<Vec<&'static str>> {
    let mut found = Vec::new();
    for item in list?.get_ref() {
        let Some(word) = known.iter().find(|word| *word == item.get_ref()) else {
            report.error(
                "value",
                item.span(),
                format!("`{}` is no {what}", clean(item.get_ref())),
                suggest::cure(item.get_ref(), known.iter().copied()),
            );
            continue;
        };
        if found.contains(word) {
            twice(item, report);
        } else {
            found.push(*word);
        }
    }
    Some(found)
}

fn interfaces(list: &Texts, report: &mut Report) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for item in list.get_ref() {
        if let Err(error) = interface::check(item.get_ref()) {
            report.error("interface", item.span(), error.to_string(), error.cure());
        } else if names.contains(item.get_ref()) {
            twice(item, report);
        } else {
            names.push(item.get_ref().clone());
        }
    }
    names
}

fn twice(item: &Spanned<String>, report: &mut Report) {
    report.warning(
        "repeated",
        item.span(),
        "this is listed twice",
        "take one out",
    );
}

impl Events {
    /// Whether a drop on an interface, counted under a reason, is told.
    #[must_use]
    pub fn wants(&self, reason: &str, interface: &str) -> bool {
        let listed = |list: &Vec<&str>| list.contains(&reason);
        let matching = |list: &Vec<String>| {
            list.iter()
                .any(|pattern| interface::matches(pattern, interface))
        };
        self.enabled
            && self.reasons.as_ref().is_none_or(listed)
            && self.interfaces.as_ref().is_none_or(matching)
    }
}
