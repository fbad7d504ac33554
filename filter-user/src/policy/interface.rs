//! Interface names and globs: which are well formed, what they match, which profile wins. Knows
//! nothing of the interfaces that exist.

use std::cmp::Reverse;

use glob::Pattern;

use super::model::{Policy, Profile};

/// Longest interface name in bytes (Linux, IFNAMSIZ less the closing zero).
const MAX_NAME: usize = 15;
/// Longest glob; brackets make globs longer than the names they match.
const MAX_GLOB: usize = 64;

/// Why a text is neither an interface name nor a glob.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternError {
    #[error("an interface name cannot be empty")]
    Empty,
    #[error("an interface name has at most {MAX_NAME} bytes, a glob at most {MAX_GLOB}")]
    Long,
    #[error("an interface name holds no spaces, `/` or `:`, and is not `.` or `..`")]
    Characters,
    #[error("this glob is malformed: {0}")]
    Glob(&'static str),
}

impl PatternError {
    pub(super) fn cure(&self) -> &'static str {
        match self {
            Self::Empty | Self::Characters => {
                "write a name as `ip link` shows it, such as `eth0`, or a glob such as `eth*`"
            }
            Self::Long => "write the name as `ip link` shows it, or shorten it with `*`",
            Self::Glob(_) => {
                "use `*`, `?` and closed brackets such as `eth[0-3]`; `**` is not used"
            }
        }
    }
}

pub(super) fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// Whether a text may stand in `interfaces`.
pub(super) fn check(pattern: &str) -> Result<(), PatternError> {
    let longest = if is_glob(pattern) { MAX_GLOB } else { MAX_NAME };
    if pattern.is_empty() {
        Err(PatternError::Empty)
    } else if pattern.len() > longest {
        Err(PatternError::Long)
    } else if pattern
        .contains(|c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ':')
        || pattern == "."
        || pattern == ".."
    {
        Err(PatternError::Characters)
    } else if pattern.contains("**") {
        Err(PatternError::Glob("`**` means nothing more than `*`"))
    } else if is_glob(pattern) {
        Pattern::new(pattern)
            .map(drop)
            .map_err(|error| PatternError::Glob(error.msg))
    } else {
        Ok(())
    }
}

/// How closely a pattern names its interfaces: exact names first, then by literal characters.
fn specificity(pattern: &str) -> (bool, usize) {
    let literals = tokens(pattern)
        .iter()
        .filter(|token| matches!(token, Token::Literal(_)))
        .count();
    (!is_glob(pattern), literals)
}

pub(super) fn matches(pattern: &str, interface: &str) -> bool {
    if is_glob(pattern) {
        Pattern::new(pattern).is_ok_and(|glob| glob.matches(interface))
    } else {
        pattern == interface
    }
}

impl Policy {
    /// The profiles that judge an interface, each with its index. `bridge` is the bridge it is a
    /// port of, if any. First the one without `vlans`, if any, then those with `vlans` that judge at
    /// least one id. An exact name beats a glob, then the glob with more literal characters wins,
    /// then the first in the file; every match of `interfaces` beats one of `bridges`. Where a VLAN
    /// id stands in several of the profiles returned, the first of them judges it. A container
    /// profile that wins stands alone: what a container may send cannot depend on a tag it chooses.
    pub fn profile_for<'a>(
        &'a self,
        interface: &str,
        bridge: Option<&str>,
    ) -> Vec<(usize, &'a Profile)> {
        let mut candidates: Vec<_> = self
            .profiles
            .iter()
            .enumerate()
            .filter_map(|(index, profile)| {
                let by_name = closest(&profile.interfaces, interface).map(|close| (true, close));
                let by_bridge = || Some((false, closest(&profile.bridges, bridge?)?));
                Some((Reverse(by_name.or_else(by_bridge)?), index, profile))
            })
            .collect();
        candidates.sort_by_key(|(closeness, index, _)| (*closeness, *index));

        let base = candidates
            .iter()
            .find(|(_, _, profile)| profile.vlans.is_empty());
        let mut winners: Vec<_> = base
            .map(|(_, index, profile)| (*index, *profile))
            .into_iter()
            .collect();
        if winners
            .iter()
            .any(|(_, profile)| profile.containers.is_some())
        {
            return winners;
        }
        let mut taken = Vec::new();
        for (_, index, profile) in &candidates {
            if profile.vlans.iter().any(|id| !taken.contains(id)) {
                taken.extend_from_slice(&profile.vlans);
                winners.push((*index, *profile));
            }
        }
        winners
    }
}

/// How close the closest of the patterns that match is.
fn closest(patterns: &[String], name: &str) -> Option<(bool, usize)> {
    patterns
        .iter()
        .filter(|pattern| matches(pattern, name))
        .map(|pattern| specificity(pattern))
        .max()
}

/// Whether a pattern matches every interface there can be. May overlook cases.
pub(super) fn is_everything(pattern: &str) -> bool {
    covers(&tokens(pattern), &[Token::Many])
}

/// Whether `winner` (of a profile with index `winner_at`) takes every interface that `pattern` (of
/// the profile at `at`) matches. May overlook cases; never claims one that is not so.
pub(super) fn shadows(winner: &str, winner_at: usize, pattern: &str, at: usize) -> bool {
    let closer = specificity(winner)
        .cmp(&specificity(pattern))
        .then(at.cmp(&winner_at));
    closer.is_gt() && covers(&tokens(winner), &tokens(pattern))
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Literal(char),
    One,
    Class(&'a str),
    Many,
}

fn tokens(pattern: &str) -> Vec<Token<'_>> {
    let mut list = Vec::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        list.push(match c {
            '*' => Token::Many,
            '?' => Token::One,
            '[' => {
                // A `]` straight after `[` or `[!` is a member of the class.
                let members = if rest.starts_with("[!") { 3 } else { 2 };
                let end = rest.char_indices().skip(members).find(|(_, c)| *c == ']');
                length = end.map_or(rest.len(), |(at, _)| at + 1);
                Token::Class(&rest[..length])
            }
            c => Token::Literal(c),
        });
        rest = &rest[length..];
    }
    list
}

/// Whether everything `narrow` matches is matched by `wide`: a table over both, from their ends.
fn covers(wide: &[Token<'_>], narrow: &[Token<'_>]) -> bool {
    let mut table = vec![vec![false; narrow.len() + 1]; wide.len() + 1];
    for i in (0..=wide.len()).rev() {
        for j in (0..=narrow.len()).rev() {
            table[i][j] = match (wide.get(i), narrow.get(j)) {
                (None, other) => other.is_none(),
                (Some(Token::Many), other) => {
                    table[i + 1][j] || (other.is_some() && table[i][j + 1])
                }
                (Some(_), None | Some(Token::Many)) => false,
                (Some(Token::One), Some(_)) => table[i + 1][j + 1],
                (Some(Token::Class(class)), Some(Token::Literal(c))) => {
                    table[i + 1][j + 1] && matches(class, c.encode_utf8(&mut [0; 4]))
                }
                (Some(a), Some(b)) => a == b && table[i + 1][j + 1],
            };
        }
    }
    table[0][0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_checked() {
        for good in [
            "eth0",
            "eth*",
            "*",
            "en?",
            "veth[0-9a-f]*",
            "[!l]*",
            "br-12ab",
            "a.100",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a/b",
            "eth 0",
            "..",
            "eth0:1",
            "sixteen-letters-",
            "eth[0",
            "a**",
            "x\u{7}",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shadowing_is_by_specificity_then_order() {
        assert!(
            shadows("eth*", 0, "eth?", 1),
            "same literals, first in the file"
        );
        assert!(!shadows("eth?", 0, "eth*", 1), "does not cover");
        assert!(shadows("eth*", 0, "eth[0-9]", 1));
        assert!(!shadows("eth*", 0, "eth0", 1), "exact name wins");
        assert!(!shadows("e*", 0, "eth*", 1), "more literal characters win");
        assert!(shadows("eth?", 0, "eth[]0]", 1));
    }
}
