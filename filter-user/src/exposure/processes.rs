//! Which process has a socket, from /proc. Whoever may not look into a process learns nothing of it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::Listener;

/// Most processes, and most descriptors of one, that are looked at.
const PROCESSES: usize = 32_768;
const DESCRIPTORS: usize = 65_536;

/// Fills in the processes of those that have none yet.
pub fn name(listeners: &mut [&mut Listener]) {
    let mut wanted: HashMap<u32, Vec<&mut Listener>> = HashMap::new();
    for listener in listeners.iter_mut() {
        if listener.pid.is_none() && listener.inode != 0 {
            wanted.entry(listener.inode).or_default().push(listener);
        }
    }
    let Ok(processes) = fs::read_dir("/proc") else {
        return;
    };
    let mut numbers: Vec<u32> = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .take(PROCESSES)
        .collect();
    // a master is older than its workers
    numbers.sort_unstable();
    for pid in numbers {
        if wanted.is_empty() {
            return;
        }
        let directory = Path::new("/proc").join(pid.to_string());
        let Ok(descriptors) = fs::read_dir(directory.join("fd")) else {
            continue;
        };
        for descriptor in descriptors.flatten().take(DESCRIPTORS) {
            let Ok(target) = fs::read_link(descriptor.path()) else {
                continue;
            };
            let Some(inode) = target.to_str().and_then(socket) else {
                continue;
            };
            for listener in wanted.remove(&inode).unwrap_or_default() {
                listener.pid = Some(pid);
                let name = fs::read_to_string(directory.join("comm")).unwrap_or_default();
                listener.process = Some(name.trim_end().to_owned());
            }
        }
    }
}

/// `socket:[4711]`
pub(super) fn socket(target: &str) -> Option<u32> {
    target
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}
