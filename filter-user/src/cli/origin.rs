//! From where a command is typed. sudo and su leave `SSH_CONNECTION` behind, so those who started us are asked, too.

use std::fs;
use std::net::IpAddr;

/// Processes that are asked, each the parent of the one before.
const ANCESTORS: usize = 32;

/// The other end of the SSH connection that this process hangs on.
pub(super) fn ssh_client() -> Option<IpAddr> {
    let mut process = std::process::id();
    for _ in 0..ANCESTORS {
        if let Some(client) = fs::read(format!("/proc/{process}/environ"))
            .ok()
            .and_then(|environment| client_in(&environment))
        {
            return Some(client);
        }
        process = parent(process)?;
    }
    None
}

/// The client of `SSH_CONNECTION` (sshd(8): client address, port, server address, port).
fn client_in(environment: &[u8]) -> Option<IpAddr> {
    let text = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION="))?;
    let text = std::str::from_utf8(text).ok()?;
    // a scope, as in fe80::1%eth0, is no part of the address
    let client = text.split([' ', '%']).next()?;
    client.parse().ok()
}

fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok().filter(|parent| *parent > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_read_from_the_environment() {
        let client = |text: &str| client_in(text.as_bytes()).map(|client| client.to_string());
        let environment = "A=1\0SSH_CONNECTION=203.0.113.9 40000 192.0.2.10 22\0B=2\0";
        assert_eq!(client(environment).as_deref(), Some("203.0.113.9"));
        let local = "SSH_CONNECTION=fe80::1%eth0 40000 fe80::2%eth0 22";
        assert_eq!(client(local).as_deref(), Some("fe80::1"));
        for nothing in [
            "",
            "NO_SSH_CONNECTION=1",
            "SSH_CONNECTION=",
            "SSH_CONNECTION=x y",
        ] {
            assert_eq!(client(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_process_has_a_parent() {
        assert!(parent(std::process::id()).is_some());
        assert_eq!(parent(1), None);
    }
}
