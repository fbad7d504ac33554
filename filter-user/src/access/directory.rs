//! Members of roles, as ids that the kernel's credentials can be compared with. Names are looked up once, when the
//! settings are read, so that nobody who connects makes the daemon ask a directory service.

use std::collections::HashMap;

use nix::errno::Errno;
use nix::unistd::{Group, Uid, User, geteuid};

use super::Role;
use crate::settings::{Members, Roles};

/// What the kernel says of the process at the other end of a socket, as it was when it connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Process; 0 if it lives in another PID namespace.
    pub pid: i32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Who has which role. Root and the daemon's own user are admins; who is not named has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    own: u32,
    users: HashMap<u32, Role>,
    groups: HashMap<u32, Role>,
    certificates: HashMap<String, Role>,
    unknown: Vec<String>,
}

impl Directory {
    /// Looks up every name, in the system's user and group databases (nsswitch.conf(5)).
    #[must_use]
    pub fn new(roles: &Roles) -> Self {
        let user = |name: &str| Ok(User::from_name(name)?.map(|user| user.uid.as_raw()));
        let group = |name: &str| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()));
        Self::with(roles, geteuid(), user, group)
    }

    /// The same with other databases.
    pub(super) fn with(
        roles: &Roles,
        own: Uid,
        user: impl Fn(&str) -> Result<Option<u32>, Errno>,
        group: impl Fn(&str) -> Result<Option<u32>, Errno>,
    ) -> Self {
        let mut directory = Self {
            own: own.as_raw(),
            ..Self::default()
        };
        // the most powerful comes last and wins
        for role in Role::ALL {
            let members = members(roles, role);
            for name in &members.users {
                let id = id(name, "user", &user, &mut directory.unknown);
                directory.users.extend(id.map(|id| (id, role)));
            }
            for name in &members.groups {
                let id = id(name, "group", &group, &mut directory.unknown);
                directory.groups.extend(id.map(|id| (id, role)));
            }
            let names = members.certificates.iter().cloned();
            directory
                .certificates
                .extend(names.map(|name| (name, role)));
        }
        directory
    }

    /// The role of a local process: the most powerful of its user's and its groups'.
    #[must_use]
    pub fn of_process(&self, who: &Credentials) -> Option<Role> {
        if self.is_trusted(who.uid) {
            return Some(Role::Admin);
        }
        let groups = who.groups.iter().chain([&who.gid]);
        let by_group = groups.filter_map(|group| self.groups.get(group).copied());
        by_group.chain(self.users.get(&who.uid).copied()).max()
    }

    /// The role of whoever showed a certificate with these names: the most powerful of theirs.
    pub fn of_certificate<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<Role> {
        let roles = names
            .into_iter()
            .filter_map(|name| self.certificates.get(name));
        roles.copied().max()
    }

    /// Whether this user needs no role: root, and the daemon's own user, who could take the filter off without asking.
    #[must_use]
    pub fn is_trusted(&self, uid: u32) -> bool {
        uid == 0 || uid == self.own
    }

    /// Whether anybody else on this host has a role.
    #[must_use]
    pub fn names_somebody(&self) -> bool {
        !self.users.is_empty() || !self.groups.is_empty()
    }

    /// Names that mean nobody here, each as a sentence.
    #[must_use]
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }
}

fn members(roles: &Roles, role: Role) -> &Members {
    match role {
        Role::Viewer => &roles.viewer,
        Role::Operator => &roles.operator,
        Role::Admin => &roles.admin,
    }
}

/// `#1001` is a number, as in sudoers(5); anything else is looked up.
fn id(
    name: &str,
    kind: &str,
    look_up: impl Fn(&str) -> Result<Option<u32>, Errno>,
    unknown: &mut Vec<String>,
) -> Option<u32> {
    let found = match name.strip_prefix('#') {
        Some(number) => Ok(number.parse().ok()),
        None => look_up(name),
    };
    let why = match found {
        Ok(Some(id)) => return Some(id),
        Ok(None) => "there is none by that name".to_owned(),
        Err(errno) => format!("it cannot be looked up: {}", errno.desc()),
    };
    unknown.push(format!("{kind} {name:?} of the roles has no role: {why}"));
    None
}
