//! Debian's package manager: what is installed, and installing. It leaves no
//! service running that was not running before.

use std::{
    collections::HashSet,
    fs,
    io::{IsTerminal as _, Write as _},
    process::Command,
};

use anyhow::{Result, bail};

use super::{Unsupported, packages::SERVICES};
use crate::workspace;

/// One script for root, so that sudo asks once and the trap cleans up however
/// it ends. policy-rc.d is what Debian's maintainer scripts ask before they
/// start a service (invoke-rc.d(8)); 101 means no. One that is there already
/// belongs to the machine's owner and is left alone. `$1` is the list of
/// services to keep disabled, the other arguments are packages.
const INSTALL: &str = r#"
set -eu
services=$1; shift
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
new_services=
for service in $services; do
    [ -e "/lib/systemd/system/$service" ] || new_services="$new_services $service"
done
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
apt-get -o DPkg::Lock::Timeout=300 update -qq
apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install -y -qq --no-install-recommends "$@"
for service in $new_services; do
    if [ -e "/lib/systemd/system/$service" ] && command -v systemctl >/dev/null; then
        systemctl disable --quiet "$service" 2>/dev/null || true
    fi
done
"#;

/// Whether this system has apt and dpkg.
pub fn is_here() -> bool {
    workspace::find_program("apt-get").is_some() && workspace::find_program("dpkg-query").is_some()
}

/// Those of `names` that are not installed, in the order given. One question
/// to dpkg, however many names.
pub fn missing(names: &[&'static str]) -> Result<Vec<&'static str>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let answer = Command::new("dpkg-query")
        .args([
            "--show",
            "--showformat",
            "${db:Status-Status} ${Package} ${Provides}\n",
        ])
        .output()?;
    let answer = String::from_utf8_lossy(&answer.stdout);
    Ok(not_in(names, &answer))
}

/// `listing` has a line for each package: status, name, and what it provides
/// (`curl (= 1.2), other`). A package under another name counts by what it
/// provides.
fn not_in(names: &[&'static str], listing: &str) -> Vec<&'static str> {
    let installed: HashSet<&str> = listing
        .lines()
        .filter_map(|line| line.strip_prefix("installed "))
        .flat_map(|line| line.split([' ', ',']))
        .collect();
    names
        .iter()
        .copied()
        .filter(|name| !installed.contains(name))
        .collect()
}

/// Whether apt's lists have a package of this name.
pub fn knows(name: &str) -> bool {
    Command::new("apt-cache")
        .args(["show", "--quiet", "--no-all-versions", name])
        .output()
        .is_ok_and(|answer| answer.status.success() && !answer.stdout.is_empty())
}

/// Whether apt has any list of packages at all: fresh images have none.
pub fn has_lists() -> bool {
    fs::read_dir("/var/lib/apt/lists").is_ok_and(|entries| {
        entries
            .filter_map(Result::ok)
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    })
}

/// Fetches apt's lists, for those who look something up before they install.
pub fn update() -> Result<()> {
    eprintln!("setup: apt-get update");
    let mut command = as_root("apt-get")?;
    workspace::run(command.args(["-o", "DPkg::Lock::Timeout=300", "update", "-qq"]))
}

/// Installs packages. A person who is not root is asked first.
pub fn install(names: &[&str]) -> Result<()> {
    eprintln!("setup: apt-get install {}", names.join(" "));
    if !workspace::is_root() && std::io::stdin().is_terminal() && !agreed()? {
        bail!("nothing was installed; without these packages the command cannot go on");
    }
    let mut command = as_root("sh")?;
    command
        .args(["-c", INSTALL, "xtask-setup", &SERVICES.join(" ")])
        .args(names)
        .stdout(std::io::stderr());
    let status = command.status()?;
    if !status.success() {
        bail!(
            "apt-get could not install everything ({status}); its messages are above. To try by hand: apt-get install {}",
            names.join(" ")
        );
    }
    Ok(())
}

/// The program, through sudo unless this is root.
fn as_root(program: &str) -> Result<Command> {
    if workspace::is_root() {
        return Ok(Command::new(program));
    }
    if workspace::find_program("sudo").is_none() {
        bail!(Unsupported(
            "installing packages needs root, and there is no sudo: run `cargo xtask setup` as root"
                .to_owned()
        ));
    }
    let mut command = Command::new("sudo");
    if !std::io::stdin().is_terminal() {
        // Nobody is there to type a password: fail and do not wait.
        command.arg("--non-interactive");
    }
    command.arg("--").arg(program);
    Ok(command)
}

fn agreed() -> Result<bool> {
    eprint!("Install these packages with sudo? [Y/n] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(
        answer.trim().to_lowercase().as_str(),
        "" | "y" | "yes"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_counts_once_installed_under_its_name_or_as_provided() {
        let listing = "installed curl \n\
                       config-files nmap \n\
                       installed netcat-openbsd netcat, nc (= 1.2)\n";
        assert_eq!(
            not_in(&["curl", "nmap", "nc", "netcat", "absent"], listing),
            ["nmap", "absent"]
        );
    }
}
