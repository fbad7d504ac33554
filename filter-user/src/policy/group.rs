//! Groups of prefixes and the lists of rules: reads the prefix files they name, and hands out one
//! shared set for one list. Never builds more than the limit on prefixes allows.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use toml::Spanned;

use super::cidr;
use super::diagnostic::clean;
use super::files::Files;
use super::model::{MAX_CIDR_FILE_BYTES, MAX_PREFIXES, PrefixSet};
use super::prefixes::Written;
use super::raw::{RawGroup, Texts};
use super::source::Report;
use super::suggest;

/// What an address list means.
pub(super) enum Addresses {
    Any,
    Local,
    Forwarded,
    Set(Arc<PrefixSet>),
}

/// Which list addresses stand in; decides about the keywords it may hold.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Role {
    /// `from` of a rule.
    From,
    /// `to` of an allow or deny rule.
    To,
    /// `to` of a send rule.
    SendTo,
    /// `legitimate` of `antispoof`.
    Legitimate,
    /// `egress_sources` of `antispoof`.
    EgressSources,
    /// `exempt` of `scans`.
    Exempt,
    /// `never_block` of `scans`.
    NeverBlock,
}

impl Role {
    /// The key in the policy file.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::To | Self::SendTo => "to",
            Self::Legitimate => "legitimate",
            Self::EgressSources => "egress_sources",
            Self::Exempt => "exempt",
            Self::NeverBlock => "never_block",
        }
    }

    /// Words that stand for addresses, each alone.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::From | Self::SendTo => &["any"],
            Self::To => &["any", "self", "forwarded"],
            Self::Legitimate | Self::EgressSources | Self::Exempt | Self::NeverBlock => &[],
        }
    }
}

struct Group {
    set: Arc<PrefixSet>,
    span: Range<usize>,
    used: bool,
}

/// All groups, and the sets made of lists so far.
pub(super) struct Groups {
    groups: HashMap<String, Group>,
    lists: HashMap<Vec<String>, Arc<PrefixSet>>,
    prefixes: usize,
}

/// Prefix files read so far: a file that two groups name is read, and complained about, once.
struct PrefixFiles<'a, 'f> {
    files: &'a mut Files<'f>,
    read: HashMap<PathBuf, Written>,
    hash: &'a mut Sha256,
}

/// Adds a file to the fingerprint; the length keeps two files apart from one longer file.
pub(super) fn hash_file(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// The addresses of a list without keywords, `place` being the table that it stands in; `None` if there are none, which
/// was reported.
pub(super) fn sources(
    list: &Texts,
    role: Role,
    place: &str,
    groups: &mut Groups,
    report: &mut Report,
) -> Option<Arc<PrefixSet>> {
    let key = role.key();
    let Some(Addresses::Set(set)) =
        groups.resolve(list, role, &format!("{key} of {place}"), report)
    else {
        return None;
    };
    if set.is_empty() {
        if !report.list.has_errors() {
            report.warning(
                "empty-list",
                list.span(),
                format!("`{key}` holds no address, so it changes nothing"),
                format!("add addresses, or leave `{key}` out"),
            );
        }
        return None;
    }
    Some(set)
}

impl Groups {
    /// Reads the groups; names of files are relative to the file they stand in.
    pub(super) fn load(
        raw: Vec<RawGroup>,
        files: &mut Files<'_>,
        hash: &mut Sha256,
        report: &mut Report,
    ) -> Self {
        let mut this = Self {
            groups: HashMap::new(),
            lists: HashMap::new(),
            prefixes: 0,
        };
        let mut files = PrefixFiles {
            files,
            read: HashMap::new(),
            hash,
        };
        for group in raw {
            let (name, span) = (group.name.get_ref().clone(), group.name.span());
            super::validate::check_name("group", &group.name, report);
            let written = this.read_group(group, &mut files, report);
            let set = Arc::new(written.into_set(format!("@{name}")));
            this.groups.insert(
                name,
                Group {
                    set,
                    span,
                    used: false,
                },
            );
        }
        this
    }

    fn read_group(
        &mut self,
        group: RawGroup,
        files: &mut PrefixFiles<'_, '_>,
        report: &mut Report,
    ) -> Written {
        let mut written = Written::default();
        for item in group.cidrs.iter().flat_map(Spanned::get_ref) {
            match cidr::parse(item.get_ref()) {
                Ok(net) => written.push(net),
                Err(_) if item.get_ref().starts_with('@') => report.error(
                    "nested-group",
                    item.span(),
                    "a group cannot hold another group",
                    "name both groups in the rule's list",
                ),
                Err(error) => report.error("cidr", item.span(), error.to_string(), error.cure()),
            }
        }
        self.prefixes += written.len();
        for item in group.files.iter().flat_map(Spanned::get_ref) {
            let Some(source) = report.source(item.span().start) else {
                continue;
            };
            let roots = Arc::clone(&source.roots);
            let path = source.directory().join(item.get_ref());
            let name = source.bundled(item.get_ref());
            if !files.read.contains_key(&path) {
                let read = files.parse(&path, item, (&name, &roots), report);
                self.prefixes += read.len();
                files.read.insert(path.clone(), read);
            }
            if self.prefixes > MAX_PREFIXES {
                too_many(item.span(), report);
                return Written::default();
            }
            if let Some(read) = files.read.get(&path) {
                written.extend(&read.v4, &read.v6);
            }
        }
        if written.len() == 0 && !report.list.has_errors() {
            report.warning(
                "empty-group",
                group.name.span(),
                format!(
                    "group `{}` holds no prefixes: rules with it alone never match",
                    group.name.get_ref()
                ),
                "add `cidrs` or `files`, or take the group out",
            );
        }
        written
    }

    /// The meaning of an address list; `None` if it is wrong, which is then reported. `place` names
    /// the set if it is a new one, such as `rule https`.
    pub(super) fn resolve(
        &mut self,
        list: &Texts,
        role: Role,
        place: &str,
        report: &mut Report,
    ) -> Option<Addresses> {
        let items = list.get_ref();
        let mut written = Written::default();
        let mut good = true;
        if let [only] = items.as_slice() {
            let text = only.get_ref().as_str();
            match text {
                _ if !role.words().contains(&text) => {}
                "self" => return Some(Addresses::Local),
                "forwarded" => return Some(Addresses::Forwarded),
                _ => return Some(Addresses::Any),
            }
        }
        // Order and repetition do not change what a list means.
        let mut names: Vec<String> = items.iter().map(|item| item.get_ref().clone()).collect();
        names.sort_unstable();
        names.dedup();
        if let Some(set) = self.lists.get(&names) {
            return Some(Addresses::Set(Arc::clone(set)));
        }
        for item in items {
            let text = item.get_ref().as_str();
            if let Some(name) = text.strip_prefix('@') {
                if let Some(group) = self.groups.get_mut(name) {
                    group.used = true;
                    if self.prefixes + written.len() + group.set.len() > MAX_PREFIXES
                        && items.len() > 1
                    {
                        too_many(item.span(), report);
                        return None;
                    }
                    if items.len() == 1 {
                        return Some(Addresses::Set(Arc::clone(&group.set)));
                    }
                    written.extend(&group.set.v4, &group.set.v6);
                } else {
                    good = false;
                    self.unknown(name, item, report);
                }
                continue;
            }
            match cidr::parse(text) {
                Ok(net) => written.push(net),
                Err(error) => {
                    good = false;
                    let (code, message, cure) = self.explain(text, role, &error);
                    report.error(code, item.span(), message, cure);
                }
            }
        }
        if !good {
            return None;
        }
        self.prefixes += written.len();
        let set = Arc::new(written.into_set(place.to_owned()));
        self.lists.insert(names, Arc::clone(&set));
        Some(Addresses::Set(set))
    }

    fn unknown(&self, name: &str, item: &Spanned<String>, report: &mut Report) {
        let cure = match suggest::nearest(name, self.groups.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `@{near}`?"),
            None => format!(
                "define it: `[groups.{}]` with `cidrs` or `files`",
                clean(name)
            ),
        };
        report.error(
            "unknown-group",
            item.span(),
            format!("there is no group `{}`", clean(name)),
            cure,
        );
    }

    fn explain(
        &self,
        text: &str,
        role: Role,
        error: &cidr::CidrError,
    ) -> (&'static str, String, String) {
        let (words, key) = (role.words(), role.key());
        if words.contains(&text) {
            let message = format!("`{text}` stands alone, not among other addresses");
            return (
                "mixed-keyword",
                message,
                format!("write `{key} = \"{text}\"`, or take `{text}` out of the list"),
            );
        }
        if ["any", "self", "forwarded"].contains(&text) {
            let (message, cure) = match role {
                Role::From | Role::To => (
                    format!("`{text}` is a destination, not a source"),
                    format!("write `to = \"{text}\"`"),
                ),
                Role::SendTo => (
                    format!("`{text}` is no destination of a send rule"),
                    "name the addresses containers may send to, or write `to = \"any\"`".to_owned(),
                ),
                Role::Legitimate => (
                    format!("`{key}` names prefixes and groups, not `{text}`"),
                    "name the prefixes; `martians = false` turns the check off".to_owned(),
                ),
                Role::EgressSources => (
                    format!("`{key}` names prefixes and groups, not `{text}`"),
                    "name the prefixes (the host's own addresses always may leave); `egress = false` turns the check off".to_owned(),
                ),
                Role::Exempt => (
                    format!("`{key}` names prefixes and groups, not `{text}`"),
                    "name the sources that may scan; `sensitivity = \"off\"` records no scan at all".to_owned(),
                ),
                Role::NeverBlock => (
                    format!("`{key}` names prefixes and groups, not `{text}`"),
                    "name the sources (this host's own addresses, its gateways and resolvers are never blocked anyway); `action = \"observe\"` blocks nobody".to_owned(),
                ),
            };
            return ("wrong-keyword", message, cure);
        }
        if self.groups.contains_key(text) {
            return (
                "cidr",
                error.to_string(),
                format!("did you mean the group `@{text}`?"),
            );
        }
        match suggest::nearest(text, words.iter().copied()) {
            Some(near) => ("cidr", error.to_string(), format!("did you mean `{near}`?")),
            None => ("cidr", error.to_string(), error.cure()),
        }
    }

    /// Warns about groups nothing names.
    pub(super) fn warn_unused(&self, report: &mut Report) {
        let mut seen = HashSet::new();
        for (name, group) in self.groups.iter().filter(|(_, group)| !group.used) {
            if seen.insert(group.span.start) {
                report.warning(
                    "unused-group",
                    group.span.clone(),
                    format!("nothing names group `{}`", clean(name)),
                    format!("use it as `\"@{}\"` in a rule, or take it out", clean(name)),
                );
            }
        }
    }
}

impl PrefixFiles<'_, '_> {
    fn parse(
        &mut self,
        path: &Path,
        item: &Spanned<String>,
        (name, roots): (&Path, &[PathBuf]),
        report: &mut Report,
    ) -> Written {
        let shown = clean(item.get_ref());
        if item.get_ref().is_empty() {
            report.error(
                "file-missing",
                item.span(),
                "a file name cannot be empty",
                "write the name of a file of CIDRs",
            );
            return Written::default();
        }
        let roots = Path::new(item.get_ref()).is_relative().then_some(roots);
        let bytes = match self.files.read(path, roots, MAX_CIDR_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) => {
                let place = clean(&path.display().to_string());
                let cure = format!("{} (looked for {place})", error.cure());
                report.error(
                    error.code(),
                    item.span(),
                    format!("prefix file `{shown}`: {error}"),
                    cure,
                );
                return Written::default();
            }
        };
        hash_file(self.hash, &bytes);
        let errors = report.list.errors().count() + report.list.omitted();
        let written = cidr::parse_file(path, &bytes, &mut report.list);
        if written.len() == 0 && errors == report.list.errors().count() + report.list.omitted() {
            let cure = "write one CIDR a line, or take the file out; an empty file may be a failed download";
            let message = format!("prefix file `{shown}` holds no CIDRs");
            report.warning("empty-file", item.span(), message, cure);
        }
        self.files.keep(name, bytes);
        written
    }
}

fn too_many(span: Range<usize>, report: &mut Report) {
    report.error(
        "too-many-prefixes",
        span,
        format!("with this the policy holds more than {MAX_PREFIXES} prefixes"),
        "aggregate the prefixes, or let rules name the group alone instead of mixing it with others",
    );
}
