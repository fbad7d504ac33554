//! What a running daemon says of what it has given up. The daemon fills it in; this file only gives it a form.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::printable;
use super::table::{YELLOW, paint};

/// How far the daemon is confined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxStatus {
    /// False: started with `--no-sandbox`.
    pub enabled: bool,
    /// Capabilities that it keeps.
    pub capabilities: Vec<String>,
    /// Capabilities of the one thread that looks at other processes.
    pub processes: Vec<String>,
    /// Only the system calls that it needs are possible.
    pub seccomp: bool,
    /// Version of Landlock that confines it to its files; `null`: it is not confined to them.
    pub landlock: Option<u32>,
    /// What is missing, and what is so because of it.
    pub warnings: Vec<String>,
}

impl SandboxStatus {
    /// Appends the lines for people.
    pub fn render(&self, text: &mut String, colour: bool) {
        let landlock = self
            .landlock
            .map_or_else(|| "no landlock".to_owned(), |abi| format!("landlock {abi}"));
        let seccomp = if self.seccomp {
            "seccomp"
        } else {
            "no seccomp"
        };
        let state = if self.enabled { "on" } else { "off" };
        // Writing into a String cannot fail.
        let _ = writeln!(text, "sandbox: {state}, {seccomp}, {landlock}");
        let _ = writeln!(text, "  capabilities: {}", list(&self.capabilities));
        if !self.processes.is_empty() {
            let _ = writeln!(text, "  to look at processes: {}", list(&self.processes));
        }
        for warning in &self.warnings {
            let _ = writeln!(
                text,
                "  {}: {}",
                paint("warning", YELLOW, colour),
                printable(warning)
            );
        }
    }
}

fn list(names: &[String]) -> String {
    printable(&names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_for_people() {
        let mut text = String::new();
        let status = SandboxStatus {
            enabled: true,
            capabilities: vec!["CAP_NET_ADMIN".to_owned(), "CAP_BPF".to_owned()],
            seccomp: true,
            landlock: Some(6),
            warnings: vec!["CAP_X is missing".to_owned()],
            ..SandboxStatus::default()
        };
        status.render(&mut text, false);
        assert_eq!(
            text,
            "sandbox: on, seccomp, landlock 6\n  capabilities: CAP_NET_ADMIN CAP_BPF\n  warning: CAP_X is missing\n"
        );
        text.clear();
        SandboxStatus::default().render(&mut text, false);
        assert_eq!(
            text,
            "sandbox: off, no seccomp, no landlock\n  capabilities: \n"
        );
    }
}
