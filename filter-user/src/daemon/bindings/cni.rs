//! Results of CNI plugins, from the cache that container runtimes keep (libcni's `cniCacheV1`, CNI 0.3 to 1.1). Only
//! reads, and no more than it must: what is broken or too large is left out.

use std::collections::{HashMap, HashSet};
use std::fs::{DirEntry, File, OpenOptions};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;

use crate::daemon::links::Mac;

/// Where libcni keeps its cache, unless a runtime says otherwise.
pub const CACHE: &str = "/var/lib/cni";
/// The directory of results in the cache.
const RESULTS: &str = "results";

/// Most files that are read, and the largest.
const MAX_FILES: usize = 4096;
const MAX_BYTES: u64 = 1 << 20;

/// What the plugins gave a container behind one link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::daemon) struct CniResult {
    /// Of the interfaces in the container; some plugins name none.
    pub(in crate::daemon) macs: Vec<Mac>,
    pub(in crate::daemon) addresses: Vec<IpAddr>,
}

/// By the name of the host's end.
pub(in crate::daemon) type CniResults = HashMap<String, CniResult>;

/// The cache, and what was read of it: files are read again only when they changed.
#[derive(Debug)]
pub(in crate::daemon) struct CniCache {
    directory: PathBuf,
    files: HashMap<PathBuf, (Stamp, Parsed)>,
    warned: HashSet<PathBuf>,
}

/// Tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp {
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    inode: u64,
}

/// The host's ends of one result, and what is behind them.
type Parsed = (Vec<String>, CniResult);

impl CniCache {
    /// The cache in `directory`, which need not exist.
    pub(in crate::daemon) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.join(RESULTS),
            files: HashMap::new(),
            warned: HashSet::new(),
        }
    }

    /// The results there are now. Where two files speak of the same link, the newer one counts: runtimes leave files
    /// behind when the host goes down.
    pub(in crate::daemon) fn read(&mut self) -> CniResults {
        let mut before = std::mem::take(&mut self.files);
        let mut warnings = HashSet::new();
        let paths = match list(&self.directory) {
            Ok((paths, None)) => paths,
            Ok((paths, Some(too_many))) => {
                self.warn(&mut warnings, &self.directory, &too_many);
                paths
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                self.warn(&mut warnings, &self.directory, &error);
                Vec::new()
            }
        };
        for path in paths {
            match read(&path, before.remove(&path)) {
                Ok(Some(file)) => {
                    self.files.insert(path, file);
                }
                Ok(None) => {}
                // gone in between
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.warn(&mut warnings, &path, &error),
            }
        }
        // a file that was mended and breaks again is worth a word again
        self.warned = warnings;
        let mut files: Vec<_> = self.files.values().collect();
        files.sort_by_key(|(stamp, _)| *stamp);
        let mut results = CniResults::new();
        for (_, (names, result)) in files {
            for name in names {
                results.insert(name.clone(), result.clone());
            }
        }
        results
    }

    fn warn(&self, warnings: &mut HashSet<PathBuf>, path: &Path, error: &io::Error) {
        if !self.warned.contains(path) {
            tracing::warn!(path = %path.display(), %error, "CNI results left out");
        }
        warnings.insert(path.to_owned());
    }
}

/// The newest files, should there be more than are read, and that it is so.
fn list(directory: &Path) -> io::Result<(Vec<PathBuf>, Option<io::Error>)> {
    let entries: Vec<DirEntry> = std::fs::read_dir(directory)?.collect::<io::Result<_>>()?;
    let mut paths: Vec<PathBuf> = entries.iter().map(DirEntry::path).collect();
    if paths.len() <= MAX_FILES {
        return Ok((paths, None));
    }
    let too_many = format!(
        "{} files, and no more than {MAX_FILES} are read; the oldest are left out",
        paths.len()
    );
    paths.sort_by_cached_key(|path| {
        let modified = path
            .symlink_metadata()
            .and_then(|metadata| metadata.modified());
        std::cmp::Reverse(modified.ok())
    });
    paths.truncate(MAX_FILES);
    Ok((paths, Some(io::Error::other(too_many))))
}

/// `None` for what is no file, or no result.
fn read(path: &Path, before: Option<(Stamp, Parsed)>) -> io::Result<Option<(Stamp, Parsed)>> {
    if !path.symlink_metadata()?.is_file() {
        return Ok(None);
    }
    let file = OpenOptions::new()
        .read(true)
        // it may have become something else in between
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let stamp = stamp(&file)?;
    if let Some(before) = before.filter(|(old, _)| *old == stamp) {
        return Ok(Some(before));
    }
    if stamp.size > MAX_BYTES {
        return Err(io::Error::other(format!("larger than {MAX_BYTES} bytes")));
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut text)?;
    Ok(parse(&text)?.map(|parsed| (stamp, parsed)))
}

fn stamp(file: &File) -> io::Result<Stamp> {
    let metadata = file.metadata()?;
    Ok(Stamp {
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        size: metadata.size(),
        inode: metadata.ino(),
    })
}

#[derive(Deserialize)]
struct Cached {
    #[serde(default)]
    kind: String,
    result: Option<RawResult>,
}

#[derive(Deserialize)]
struct RawResult {
    #[serde(default)]
    interfaces: Option<Vec<Interface>>,
    #[serde(default)]
    ips: Option<Vec<Ip>>,
}

#[derive(Deserialize)]
struct Interface {
    #[serde(default)]
    name: String,
    #[serde(default)]
    mac: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Ip {
    address: String,
    interface: Option<i64>,
}

/// One cache file. `None` for what is of another kind or names no link of the host.
fn parse(text: &[u8]) -> serde_json::Result<Option<Parsed>> {
    use serde::de::Error as _;
    let cached: Cached = serde_json::from_slice(text)?;
    let Some(result) = cached.result.filter(|_| cached.kind == "cniCacheV1") else {
        return Ok(None);
    };
    let interfaces = result.interfaces.unwrap_or_default();
    let (inside, outside): (Vec<&Interface>, Vec<&Interface>) = interfaces
        .iter()
        .partition(|interface| !interface.sandbox.is_empty());
    let names: Vec<String> = outside
        .iter()
        .map(|interface| interface.name.clone())
        .collect();
    if names.is_empty() {
        return Ok(None);
    }
    let mut parsed = CniResult::default();
    for interface in inside.iter().filter(|interface| !interface.mac.is_empty()) {
        let mac = mac(&interface.mac).ok_or_else(|| {
            serde_json::Error::custom(format!("`{}` is not a MAC", interface.mac))
        })?;
        parsed.macs.push(mac);
    }
    for ip in result.ips.unwrap_or_default() {
        // without an index it is the container's
        let ours = ip.interface.is_none_or(|index| {
            let interface = usize::try_from(index)
                .ok()
                .and_then(|index| interfaces.get(index));
            interface.is_some_and(|interface| !interface.sandbox.is_empty())
        });
        if !ours {
            continue;
        }
        let address = address(&ip.address).ok_or_else(|| {
            serde_json::Error::custom(format!("`{}` is not an address", ip.address))
        })?;
        parsed.addresses.push(address);
    }
    Ok(Some((names, parsed)))
}

/// With or without a prefix length.
fn address(text: &str) -> Option<IpAddr> {
    let net = text.parse::<IpNet>().map(|net| net.addr());
    net.ok().or_else(|| text.parse().ok())
}

fn mac(text: &str) -> Option<Mac> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|part| {
            let hex = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            u8::from_str_radix(part, 16).ok().filter(|_| hex)
        })
        .collect();
    Mac::try_from(bytes?).ok()
}

#[cfg(test)]
mod tests;
