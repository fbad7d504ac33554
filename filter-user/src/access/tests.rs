//! Who gets which role.

use nix::errno::Errno;
use nix::unistd::Uid;

use super::*;
use crate::settings::{Members, Roles};

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|&name| name.to_owned()).collect()
}

fn directory() -> Directory {
    let roles = Roles {
        viewer: Members {
            users: names(&["carol", "dave", "nobody-knows"]),
            groups: names(&["staff"]),
            certificates: names(&["monitor.example"]),
        },
        operator: Members {
            users: names(&["dave", "#1009"]),
            groups: names(&["noc", "#-1"]),
            certificates: names(&["noc.example"]),
        },
        admin: Members {
            groups: names(&["wheel"]),
            certificates: names(&["noc.example"]),
            ..Members::default()
        },
    };
    let user = |name: &str| match name {
        "carol" => Ok(Some(1003)),
        "dave" => Ok(Some(1004)),
        _ => Ok(None),
    };
    let group = |name: &str| match name {
        "staff" => Ok(Some(50)),
        "noc" => Ok(Some(51)),
        "wheel" => Err(Errno::EIO),
        _ => Ok(None),
    };
    Directory::with(&roles, Uid::from_raw(990), user, group)
}

#[test]
fn the_most_powerful_role_counts() {
    let directory = directory();
    let role = |uid, gid, groups: &[u32]| {
        directory.of_process(&Credentials {
            uid,
            gid,
            pid: 1,
            groups: groups.to_vec(),
        })
    };
    for (uid, gid, groups, expected, who) in [
        (0, 0, &[][..], Some(Role::Admin), "root"),
        (990, 990, &[], Some(Role::Admin), "the daemon's own user"),
        (1003, 100, &[], Some(Role::Viewer), "by user"),
        (1004, 100, &[], Some(Role::Operator), "two roles of a user"),
        (1009, 100, &[], Some(Role::Operator), "by number"),
        (1005, 50, &[], Some(Role::Viewer), "by its own group"),
        (
            1005,
            100,
            &[7, 51],
            Some(Role::Operator),
            "by another group",
        ),
        (1003, 51, &[50], Some(Role::Operator), "user and groups"),
        (1005, 100, &[0, 990], None, "root's group is no role"),
        (1005, u32::MAX, &[], None, "a group that is no number"),
        (65534, 65534, &[65534], None, "nobody"),
    ] {
        assert_eq!(role(uid, gid, groups), expected, "{who}");
    }
    assert!(directory.names_somebody());
    assert!(!Directory::new(&Roles::default()).names_somebody());
}

#[test]
fn certificates_by_name() {
    let directory = directory();
    assert_eq!(
        directory.of_certificate(["x", "monitor.example"]),
        Some(Role::Viewer)
    );
    assert_eq!(
        directory.of_certificate(["monitor.example", "noc.example"]),
        Some(Role::Admin)
    );
    assert_eq!(directory.of_certificate(["root", "carol"]), None);
    assert_eq!(directory.of_certificate([]), None);
}

#[test]
fn names_that_mean_nobody_are_said() {
    let unknown = directory().unknown().join("\n");
    assert_eq!(
        unknown,
        "user \"nobody-knows\" of the roles has no role: there is none by that name\n\
         group \"#-1\" of the roles has no role: there is none by that name\n\
         group \"wheel\" of the roles has no role: it cannot be looked up: I/O error"
    );
}
