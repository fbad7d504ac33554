//! The failsafe list: sources that always get in. Tells a list that is absent from one that is empty.

use std::collections::HashMap;
use std::ops::Range;

use jiff::tz::TimeZone;

use super::group::Groups;
use super::model::{AddressSet, Failsafe};
use super::raw::RawRules;
use super::rule::{self, Kind};
use super::source::Report;

/// Checks the list. `ids` holds the ids of rules seen so far.
pub(super) fn validate(
    raw: Option<&RawRules>,
    groups: &mut Groups,
    ids: &mut HashMap<String, Range<usize>>,
    zone: Option<&TimeZone>,
    report: &mut Report,
) -> Failsafe {
    let Some(raw) = raw else {
        return Failsafe::Absent;
    };
    if raw.rules.is_empty() {
        return Failsafe::None;
    }
    let rules = raw.rules.iter();
    Failsafe::Rules(
        rules
            .map(|raw| rule::validate(Kind::Failsafe, raw, zone, groups, ids, report))
            .collect(),
    )
}

/// Places of the rules, for warnings.
pub(super) fn marks(raw: Option<&RawRules>) -> Vec<Range<usize>> {
    let rules = raw.iter().flat_map(|raw| &raw.rules);
    rules.map(super::raw::RawRule::place).collect()
}

/// Warns about rules that let in anybody. Those that let in nobody have a warning of their own.
pub(super) fn lint(failsafe: &Failsafe, marks: &[Range<usize>], report: &mut Report) {
    for (rule, span) in failsafe.rules().iter().zip(marks) {
        let everyone = match &rule.from {
            AddressSet::Any => true,
            AddressSet::Prefixes(set) => set.is_everything(),
        };
        if everyone {
            report.warning(
                "failsafe-any",
                span.clone(),
                format!(
                    "failsafe rule `{}` lets in everybody, and no deny rule or block stops them",
                    rule.id
                ),
                "name the hosts that must never be locked out, such as `from = [\"@admins\"]`",
            );
        }
    }
}
