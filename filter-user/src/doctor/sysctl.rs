//! Reads the kernel's own settings about sources, which stand beside the policy's. Owns where they are and how the
//! kernel combines an interface's with that of `all`; judges nothing.
//!
//! Documentation/networking/ip-sysctl.rst, and the `IN_DEV_` macros of include/linux/inetdevice.h where it is silent:
//! the larger counts for `rp_filter` (2, loose, beats 1, strict), either for the others.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::reading::{Read, Setting, Sysctls};

/// Of the network namespace of the thread that reads.
pub(super) const ROOT: &str = "/proc/sys/net";

/// The settings of one interface under `root`.
pub(super) fn read(root: &Path, interface: &str) -> Sysctls {
    let setting = |version: &str, name: &str| {
        let of = |whose: &str| value(&root.join(version).join("conf").join(whose).join(name));
        Ok(match (of("all")?, of(interface)?) {
            (Some(all), Some(own)) => Some(Setting { all, own }),
            _ => None,
        })
    };
    Sysctls {
        interface: interface.to_owned(),
        rp_filter: setting("ipv4", "rp_filter"),
        accept_local: setting("ipv4", "accept_local"),
        route_localnet: setting("ipv4", "route_localnet"),
        proxy_arp: setting("ipv4", "proxy_arp"),
        proxy_ndp: setting("ipv6", "proxy_ndp"),
    }
}

/// `None` where the file is not there: the interface, or the host, has no such version of IP.
fn value(path: &Path) -> Read<Option<u32>> {
    match fs::read_to_string(path) {
        Ok(text) => text
            .trim()
            .parse()
            .map(Some)
            .map_err(|_| format!("{}: unexpected value {:?}", path.display(), text.trim())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, version: &str, whose: &str, name: &str, value: &str) {
        let directory = root.join(version).join("conf").join(whose);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(name), value).unwrap();
    }

    #[test]
    fn both_places_are_read() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "ipv4", "all", "rp_filter", "0\n");
        write(root.path(), "ipv4", "eth0.5", "rp_filter", "2\n");
        write(root.path(), "ipv4", "all", "accept_local", "1\n");
        write(root.path(), "ipv4", "eth0.5", "accept_local", "yes\n");
        write(root.path(), "ipv4", "all", "proxy_arp", "1\n");
        let found = read(root.path(), "eth0.5");
        assert_eq!(found.interface, "eth0.5");
        assert_eq!(found.rp_filter, Ok(Some(Setting { all: 0, own: 2 })));
        assert!(found.accept_local.unwrap_err().contains("\"yes\""));
        assert_eq!(found.proxy_arp, Ok(None), "the interface has none");
        assert_eq!(found.proxy_ndp, Ok(None), "no IPv6");
    }

    #[test]
    fn the_loopback_of_this_machine_has_them() {
        let found = read(Path::new(ROOT), "lo");
        for setting in [found.rp_filter, found.accept_local, found.route_localnet] {
            assert!(matches!(setting, Ok(Some(_))), "{setting:?}");
        }
    }
}
