//! What a policy would change, as text: a line for each thing, `+` for what is opened and `-` for what is closed.

use std::fmt::Write as _;

use super::printable;
use super::table::{GREEN, RED, YELLOW, paint};
use crate::plan::{Difference, ListDifference, Opening, ProfileDifference};

/// All that differs.
#[must_use]
pub fn difference(found: &Difference, colour: bool) -> String {
    if *found == Difference::default() {
        return "no traffic is judged otherwise than now\n".to_owned();
    }
    let mut text = String::new();
    for profile in &found.profiles {
        text += &self::profile(profile, colour);
    }
    for list in &found.lists {
        text += &self::list(list);
    }
    let rules = [
        ("new rules", &found.rules_added),
        ("rules taken out", &found.rules_removed),
        ("rules that say something else", &found.rules_changed),
    ];
    for (what, ids) in rules {
        if !ids.is_empty() {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{what}: {}", printable(&ids.join(", ")));
        }
    }
    if found.scans_changed {
        text += "what is done about scans, or where it is reported to, is other than now\n";
    }
    text
}

fn profile(found: &ProfileDifference, colour: bool) -> String {
    let state = match (found.existed, found.exists) {
        (false, _) => " (new)",
        (true, false) => " (taken out: its interfaces are not filtered any more)",
        (true, true) => "",
    };
    let mut text = format!("profile {}{state}\n", printable(&found.profile));
    let groups = [
        ("+ ", GREEN, "", &found.opened),
        ("- ", RED, "", &found.closed),
        ("+ ", GREEN, "containers may send ", &found.send_opened),
        ("- ", RED, "containers may not send ", &found.send_closed),
    ];
    for (sign, shade, what, openings) in groups {
        for opening in openings {
            let line = format!("{sign}{what}{}", self::opening(opening, !what.is_empty()));
            let _ = writeln!(text, "  {}", paint(&line, shade, colour));
        }
    }
    for setting in &found.settings {
        let line = format!("~ {}", printable(setting));
        let _ = writeln!(text, "  {}", paint(&line, YELLOW, colour));
    }
    text
}

fn opening(opening: &Opening, to: bool) -> String {
    let way = if to { "to" } else { "from" };
    let mut text = opening.service.clone();
    if let Some(to) = &opening.to {
        let _ = write!(text, " at {}", printable(to));
    }
    if opening.anybody {
        let _ = write!(text, " {way} anybody");
    } else {
        let _ = write!(
            text,
            " {way} {}",
            prefixes(opening.prefixes, &opening.first)
        );
    }
    text
}

fn list(found: &ListDifference) -> String {
    let mut text = format!("list {}:", printable(&found.list));
    if found.added > 0 {
        let _ = write!(text, " +{}", prefixes(found.added, &found.first_added));
    }
    if found.removed > 0 {
        let _ = write!(text, " -{}", prefixes(found.removed, &found.first_removed));
    }
    text + "\n"
}

/// `2 prefixes (192.0.2.1/32, 2001:db8::/32)`
fn prefixes(count: usize, first: &[String]) -> String {
    let plural = if count == 1 { "prefix" } else { "prefixes" };
    let more = if count > first.len() { ", ..." } else { "" };
    format!("{count} {plural} ({}{more})", first.join(", "))
}
