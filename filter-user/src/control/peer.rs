//! Who is at the other end of a connection: what the kernel or a certificate says, never what the client says.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use lru::LruCache;
use nix::unistd::{Uid, User};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::connection::Gate;
use super::listener::Limited;
use super::secured::Secured;
use crate::access::{Actor, Credentials, Directory, Via};

/// Most groups a process can have (`NGROUPS_MAX`, limits.h).
const GROUPS: usize = 65_536;
/// User names that are remembered.
const NAMES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);
/// Longest the name of a user may take; its number will do.
const NAME_TIME: Duration = Duration::from_secs(1);

/// Who it is.
#[derive(Clone, Debug)]
pub(super) enum Identity {
    /// A process on this host.
    Process(Credentials),
    /// Somebody with a certificate.
    Certificate {
        /// Its common name, then its alternative names.
        names: Vec<String>,
        address: SocketAddr,
    },
}

/// One connection as the guard sees it.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) identity: Arc<Identity>,
    pub(super) gate: Arc<Gate>,
}

impl Connected<IncomingStream<'_, Limited>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Self {
        stream.io().peer()
    }
}

impl Connected<IncomingStream<'_, Secured>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Secured>) -> Self {
        stream.io().peer()
    }
}

/// The process that connected.
pub(super) fn credentials(stream: &UnixStream) -> io::Result<Credentials> {
    let peer = stream.peer_cred()?;
    Ok(Credentials {
        uid: peer.uid(),
        gid: peer.gid(),
        pid: peer.pid().unwrap_or(0),
        groups: groups(stream)?,
    })
}

/// `SO_PEERGROUPS`: supplementary groups, since Linux 4.13.
fn groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut length = size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: the descriptor is open for as long as `stream` is borrowed, and `length` is the size in bytes of the
        // buffer, which any bit pattern is valid for.
        let outcome = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let needed = length as usize / size_of::<u32>();
        if outcome == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || needed > GROUPS || needed <= groups.len() {
            return Err(error);
        }
        groups.resize(needed, 0);
    }
}

/// Names of users, as far as they were needed.
#[derive(Debug)]
pub(super) struct Names(Mutex<LruCache<u32, String>>);

impl Default for Names {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(NAMES)))
    }
}

impl Names {
    /// The name of a user; its number, as `#1001`, if it has none or nobody says in time.
    async fn of(&self, uid: u32) -> String {
        if let Some(name) = self.known().get(&uid) {
            return name.clone();
        }
        // a directory service may take its time
        let asked = tokio::task::spawn_blocking(move || User::from_uid(Uid::from_raw(uid)));
        match timeout(NAME_TIME, asked).await {
            Ok(Ok(Ok(Some(user)))) => {
                self.known().put(uid, user.name.clone());
                user.name
            }
            _ => format!("#{uid}"),
        }
    }

    /// Forgets them: they may have changed.
    pub(super) fn clear(&self) {
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, LruCache<u32, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    /// Who acts, with the role they have now.
    pub(super) async fn actor(&self, directory: &Directory, names: &Names) -> Actor {
        match &*self.identity {
            Identity::Process(who) => Actor {
                name: names.of(who.uid).await,
                role: directory.of_process(who),
                via: Via::Socket {
                    uid: who.uid,
                    gid: who.gid,
                    pid: who.pid,
                },
            },
            Identity::Certificate { names, address } => Actor {
                name: names.first().cloned().unwrap_or_default(),
                role: directory.of_certificate(names.iter().map(String::as_str)),
                via: Via::Remote { address: *address },
            },
        }
    }
}
