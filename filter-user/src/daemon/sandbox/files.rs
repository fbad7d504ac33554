//! Which files the daemon may touch (Landlock): the system's to read, its own directories to write, and what the policy
//! names. What it has open already, as its log, stays open.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use glob::Pattern;
use landlock::{
    ABI, Access, AccessFs, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope, path_beneath_rules,
};

use super::Needs;
use crate::policy::MAX_POLICY_BYTES;

/// The newest set of rights that is known here; an older kernel enforces what it knows.
const RIGHTS: ABI = ABI::V6;

/// Programs (`nft`) and the libraries they load.
const PROGRAMS: [&str; 5] = ["/usr", "/lib", "/lib64", "/bin", "/sbin"];
/// What is read while the daemon runs: names of users and services, certificates, resolvers; kernel settings, sockets,
/// processes; the kernel's types; container results.
const SYSTEM: [&str; 5] = ["/etc", "/proc", "/sys", "/run/systemd", "/run/resolvconf"];
/// Devices.
const DEVICES: [&str; 3] = ["/dev/null", "/dev/urandom", "/dev/random"];
/// Sockets of the system log, for those that are opened by path.
const LOGS: [&str; 2] = ["/dev/log", "/run/systemd/journal"];
/// Where reports go in most places: a policy that is applied later can have them there.
const REPORTS: &str = "/var/log/edgefilter";

/// Confines this thread and those that it starts. Returns the version of Landlock.
pub(super) fn confine(needs: &Needs) -> Result<u32> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let run = AccessFs::from_read(RIGHTS);
    let all = AccessFs::from_all(RIGHTS) & !AccessFs::Execute;
    let mut named = Named::of(&needs.policy);
    if let Some(settings) = &needs.settings {
        named.read.extend(directory(settings));
        named.read.extend(Named::of(settings).read);
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let programs = PROGRAMS
        .iter()
        .map(PathBuf::from)
        .chain(std::env::split_paths(&paths));
    let readable = SYSTEM
        .iter()
        .chain(&LOGS)
        .map(PathBuf::from)
        .chain(directory(&needs.policy))
        // it may be a directory itself, reached by a link
        .chain(needs.policy.canonicalize())
        .chain(needs.read.iter().cloned())
        .chain(named.read);
    let writable = needs.own.iter().chain(&needs.write).cloned();
    let writable = writable.chain([PathBuf::from(REPORTS)]);
    let writable = writable.chain(named.write.iter().filter_map(|path| existing(path)));
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(RIGHTS))?
        .scope(Scope::Signal)?
        .create()
        .context("cannot make a set of rules")?
        .add_rules(path_beneath_rules(programs, run))?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(DEVICES, read | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(writable, all))?
        .restrict_self()?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _)
        | (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => {
            bail!(
                "this kernel has none (CONFIG_SECURITY_LANDLOCK, and `landlock` in the boot parameter lsm=)"
            )
        }
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok(effective_abi as u32),
    }
}

/// Files that a policy, or the settings, name, as far as they can be read: one with errors is refused later, with all of them.
#[derive(Debug, Default, PartialEq)]
struct Named {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    /// Files that were looked at: those that include each other are looked at once.
    seen: BTreeSet<PathBuf>,
}

impl Named {
    /// Of a file, or of all files of a directory.
    fn of(policy: &Path) -> Self {
        let mut named = Self::default();
        let base = policy.parent().unwrap_or(Path::new(""));
        if let Ok(entries) = std::fs::read_dir(policy) {
            for entry in entries.flatten() {
                named.add(&entry.path(), policy);
            }
        } else {
            named.add(policy, base);
        }
        named
    }

    fn add(&mut self, file: &Path, base: &Path) {
        if !self.seen.insert(file.to_owned()) {
            return;
        }
        // what is no file, or too large, is refused later
        let fits = |found: &Metadata| found.is_file() && found.len() <= MAX_POLICY_BYTES;
        if !file.metadata().is_ok_and(|found| fits(&found)) {
            return;
        }
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let value = toml::from_str(&text).map(toml::Value::Table);
        let value = value.or_else(|_| serde_json::from_str::<toml::Value>(&text));
        if let Ok(value) = value {
            self.gather(&value, base);
        }
    }

    /// Directories of prefix files, keys and certificates, to read, and of report files, to write.
    fn gather(&mut self, value: &toml::Value, base: &Path) {
        let Some(table) = value.as_table() else {
            return;
        };
        for (key, value) in table {
            match (key.as_str(), value) {
                ("files", toml::Value::Array(files)) => {
                    let files = files.iter().filter_map(toml::Value::as_str);
                    self.read
                        .extend(files.filter_map(|file| directory(&base.join(file))));
                }
                (
                    "secret_file" | "allowed_signers" | "certificate" | "key" | "client_ca",
                    toml::Value::String(file),
                ) => {
                    self.read.extend(directory(&base.join(file)));
                }
                ("include", toml::Value::Array(files)) => {
                    for file in files.iter().filter_map(toml::Value::as_str) {
                        self.include(&base.join(file));
                    }
                }
                ("path", toml::Value::String(file)) => {
                    self.write
                        .extend(base.join(file).parent().map(Path::to_owned));
                }
                _ => self.gather(value, base),
            }
        }
    }

    /// Further files of a policy: what its name is a pattern of, in one directory.
    fn include(&mut self, file: &Path) {
        let (Some(name), Some(base)) = (file.file_name().and_then(OsStr::to_str), directory(file))
        else {
            return;
        };
        let (Ok(pattern), Ok(entries)) = (Pattern::new(name), std::fs::read_dir(&base)) else {
            return;
        };
        self.read.push(base.clone());
        for entry in entries.flatten() {
            if entry
                .file_name()
                .to_str()
                .is_some_and(|name| pattern.matches(name))
            {
                self.add(&entry.path(), &base);
            }
        }
    }
}

/// Where a file is. The directory, not the file: it is replaced by renaming another one over it.
fn directory(file: &Path) -> Option<PathBuf> {
    let directory = match file.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return None,
    };
    directory.canonicalize().ok()
}

/// The path, or the directory in which it will be made; never the root.
fn existing(path: &Path) -> Option<PathBuf> {
    let found = path.ancestors().find(|one| one.exists())?;
    (found != Path::new("/")).then(|| found.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_policy_names() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("lists")).unwrap();
        let policy = base.join("policy.toml");
        std::fs::write(
            &policy,
            "[groups.a]\nfiles = [\"lists/a.txt\"]\n[report.file]\npath = \"/var/log/x/scans.jsonl\"\n\
             [report.webhook]\nsecret_file = \"key\"\n",
        )
        .unwrap();
        let named = Named::of(&policy);
        assert_eq!(named.read, [base.join("lists"), base]);
        assert_eq!(named.write, [PathBuf::from("/var/log/x")]);
        let nothing = Named::of(Path::new("/nonexistent"));
        assert_eq!((nothing.read, nothing.write), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_included_files_name() {
        let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (base, other) = (here.path(), elsewhere.path().canonicalize().unwrap());
        std::fs::create_dir(other.join("lists")).unwrap();
        let policy = base.join("policy.toml");
        // they include each other, which is refused later
        let include = |path: &Path| format!("include = [\"{}\"]\n", path.display());
        std::fs::write(&policy, include(&other.join("*.toml"))).unwrap();
        let fragment = "[groups.a]\nfiles = [\"lists/a.txt\"]\n";
        std::fs::write(other.join("a.toml"), include(&policy) + fragment).unwrap();
        let named = Named::of(&policy);
        for directory in [other.join("lists"), other] {
            assert!(named.read.contains(&directory), "{named:?}");
        }
    }

    #[test]
    fn where_a_file_will_be_made() {
        assert_eq!(
            existing(Path::new("/usr/nonexistent/x")),
            Some(PathBuf::from("/usr"))
        );
        assert_eq!(existing(Path::new("/nonexistent/x")), None);
    }
}
