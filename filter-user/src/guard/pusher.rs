//! Whoever pushes a policy: the TCP connections that their commands come in by. A process on the control socket has
//! none itself; one of its ancestors does, as sshd for a shell.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::daemon::sandbox;
use crate::dataplane::conntrack::{TcpSocket, tcp_sockets};

/// How far up a process's ancestors are looked at.
const ANCESTORS: usize = 64;

/// Where sshd says which connection a session has (ssh(1)).
const SSH_CONNECTION: &str = "SSH_CONNECTION";

/// How many open files of a process are looked at.
const FILES: usize = 4096;

/// A TCP connection of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Our side.
    pub local: SocketAddr,
    /// The other side.
    pub remote: SocketAddr,
    /// The other side opened it.
    pub incoming: bool,
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.incoming {
            write!(f, "from {} to {}", self.remote, self.local)
        } else {
            write!(f, "to {}", self.remote)
        }
    }
}

/// What is known of whoever pushes a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pusher {
    /// The process that the kernel names.
    pub pid: Option<i32>,
    /// The other end of the network connection that the policy came by.
    pub remote: Option<SocketAddr>,
    /// The client's `SSH_CONNECTION` (ssh(1)): a connection to look at beside those that are found.
    pub ssh_connection: Option<String>,
}

impl Pusher {
    /// Its connections, as the kernel knows them.
    ///
    /// # Errors
    /// When the kernel does not list its sockets.
    pub fn connections(&self) -> anyhow::Result<Vec<Connection>> {
        if self == &Self::default() {
            return Ok(Vec::new());
        }
        // the confined daemon looks at other processes from a thread of its own
        let held = self
            .pid
            .and_then(|pid| sandbox::look(move || held_by_ancestors(pid)).ok())
            .unwrap_or_default();
        let hint = self.ssh_connection.as_deref().and_then(ssh_connection);
        let is_ours = |socket: &TcpSocket| {
            held.contains(&socket.inode)
                || self.remote == Some(socket.remote)
                || hint == Some((socket.remote, socket.local))
        };
        let ours = tcp_sockets()?.into_iter().filter(is_ours);
        Ok(ours
            .map(|socket| Connection {
                local: socket.local,
                remote: socket.remote,
                incoming: socket.incoming,
            })
            .collect())
    }
}

/// What the client sends as [`Pusher::ssh_connection`]: its own, or that of its nearest ancestor, since `sudo` takes it
/// out of the environment. The daemon may not be allowed to look for itself.
#[must_use]
pub fn own_ssh_connection() -> Option<String> {
    let own = std::env::var(SSH_CONNECTION).ok();
    own.or_else(|| {
        let pid = i32::try_from(std::process::id()).ok()?;
        ancestors(pid).find_map(|process| {
            // of another user's process it cannot be read
            let environment = fs::read(process.join("environ")).ok()?;
            ssh_connection_in(&environment)
        })
    })
}

/// In an environment as the kernel shows it.
fn ssh_connection_in(environment: &[u8]) -> Option<String> {
    let mut variables = environment.split(|byte| *byte == 0);
    variables.find_map(|variable| {
        let (name, value) = std::str::from_utf8(variable).ok()?.split_once('=')?;
        (name == SSH_CONNECTION).then(|| value.to_owned())
    })
}

/// Inodes of the sockets that a process or one of its ancestors holds.
fn held_by_ancestors(pid: i32) -> HashSet<u32> {
    let mut held = HashSet::new();
    for process in ancestors(pid) {
        match fs::read_dir(process.join("fd")) {
            Ok(files) => held.extend(files.take(FILES).filter_map(|file| {
                let target = fs::read_link(file.ok()?.path()).ok()?;
                let number = target.to_str()?.strip_prefix("socket:[")?;
                number.strip_suffix(']')?.parse::<u32>().ok()
            })),
            // without CAP_SYS_PTRACE; what the client says of its SSH connection is left
            Err(error) => {
                let process = process.display();
                tracing::debug!(%process, %error, "cannot tell which connections a process holds");
            }
        }
    }
    held
}

/// A process and its ancestors, below /proc. The first process of all is left out: it is everybody's ancestor.
fn ancestors(pid: i32) -> impl Iterator<Item = PathBuf> {
    let process = |pid: i32| Path::new("/proc").join(pid.to_string());
    let all = std::iter::successors(Some(pid), move |pid| parent(&process(*pid)));
    all.take_while(|pid| *pid > 1).take(ANCESTORS).map(process)
}

fn parent(process: &Path) -> Option<i32> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// `CLIENT PORT SERVER PORT`: the client's end, and ours.
fn ssh_connection(text: &str) -> Option<(SocketAddr, SocketAddr)> {
    let mut words = text.split_ascii_whitespace();
    let mut end = || {
        let address = words.next()?.parse().ok()?;
        Some(SocketAddr::new(address, words.next()?.parse().ok()?))
    };
    Some((end()?, end()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn ssh_says_which_connection() {
        let (client, server) = ssh_connection("198.51.100.7 50000 192.0.2.1 22").unwrap();
        assert_eq!(client.to_string(), "198.51.100.7:50000");
        assert_eq!(server.to_string(), "192.0.2.1:22");
        for text in [
            "",
            "198.51.100.7",
            "a b c d",
            "198.51.100.7 50000 192.0.2.1",
        ] {
            assert_eq!(ssh_connection(text), None, "{text}");
        }
    }

    #[test]
    fn the_environment_says_which_connection() {
        let environment = b"HOME=/root\0XSSH_CONNECTION=1\0SSH_CONNECTION=a 1 b 2\0LANG=\xff\0";
        let found = ssh_connection_in(environment);
        assert_eq!(found.as_deref(), Some("a 1 b 2"));
        assert_eq!(ssh_connection_in(b"LANG=\xff\0SSH_CONNECTION"), None);
        assert_eq!(ssh_connection_in(b""), None);
    }

    #[test]
    fn a_process_is_the_first_of_its_ancestors() {
        let own = std::process::id() as i32;
        let found: Vec<PathBuf> = ancestors(own).collect();
        assert_eq!(
            found.first(),
            Some(&Path::new("/proc").join(own.to_string()))
        );
        assert!(found.len() > 1 && found.len() <= ANCESTORS, "{found:?}");
        assert!(!found.contains(&PathBuf::from("/proc/1")));
    }

    #[test]
    fn connections_are_found_by_process_and_by_hint() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let client = TcpStream::connect(server).unwrap();
        let _accepted = listener.accept().unwrap();
        let client = client.local_addr().unwrap();
        let expected = Connection {
            local: server,
            remote: client,
            incoming: true,
        };
        let pushers = [
            Pusher {
                pid: Some(std::process::id() as i32),
                ..Pusher::default()
            },
            Pusher {
                ssh_connection: Some(format!(
                    "127.0.0.1 {} 127.0.0.1 {}",
                    client.port(),
                    server.port()
                )),
                ..Pusher::default()
            },
            Pusher {
                remote: Some(client),
                ..Pusher::default()
            },
        ];
        for pusher in pushers {
            let found = pusher.connections().unwrap();
            assert!(found.contains(&expected), "{pusher:?}: {found:?}");
        }
        assert_eq!(Pusher::default().connections().unwrap(), []);
        let nobody = Pusher {
            ssh_connection: Some("192.0.2.77 1 192.0.2.78 2".to_owned()),
            ..Pusher::default()
        };
        assert_eq!(
            nobody.connections().unwrap(),
            [],
            "the kernel knows no such connection"
        );
    }
}
