//! The guest's root file system, an initramfs: busybox, the init script, kernel modules, and the
//! files and programs taken along with the shared libraries they need. It owns the mapping from
//! host paths to guest paths and must never change a file of this host.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::kernel::{Kernel, output};
use super::{VmArgs, cpio, init};

/// Modules every guest loads at boot: a veth pair to send through and clsact to attach to. The
/// kernel fetches others of its network part by itself when they are first used.
const MODULES: &[&str] = &["veth", "sch_ingress", "cls_bpf"];

/// Programs of this host every guest has, since busybox' applets of the same name do not do.
const TOOLS: &[&str] = &["ip", "tc", "nsenter"];

/// Where a bare command name is looked up on this host.
const FALLBACK_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Directories that distributions have merged into /usr: the guest does the same, so that one
/// library reached by two paths is there once.
const MERGED: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64"];

enum Entry {
    Directory,
    File { from: Source, mode: u32 },
    Link(String),
}

enum Source {
    Host(PathBuf),
    Text(String),
}

/// Guest paths without the leading `/`, in an order that puts parents before children.
struct Image(BTreeMap<String, Entry>);

/// Writes the archive that boots `kernel` into `args.command`.
pub fn build(args: &VmArgs, kernel: &Kernel, initrd: &Path) -> Result<()> {
    let mut image = Image(BTreeMap::new());
    for name in MERGED {
        image.put(name, Entry::Link(format!("usr/{name}")));
        image.directory(&format!("usr/{name}"));
    }
    for mount_point in ["proc", "sys", "dev", "run", "tmp", "root", "vm", "etc"] {
        image.directory(mount_point);
    }
    image.put("var/run", Entry::Link("/run".to_owned()));
    image.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    image.text("etc/group", "root:x:0:\n");
    image.text("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n");

    image.busybox()?;
    for tool in TOOLS
        .iter()
        .copied()
        .chain(args.tools.iter().map(String::as_str))
    {
        let path = on_path(tool).with_context(|| {
            format!("no program {tool} on this host's PATH: install the package it is in")
        })?;
        image.file(&path, &path)?;
    }
    for spec in &args.files {
        let (host, guest) = pair(spec)?;
        image.file(&host, &guest)?;
    }
    for spec in &args.dirs {
        let (host, guest) = pair(spec)?;
        image.tree(&host, &guest)?;
    }

    let names = MODULES
        .iter()
        .copied()
        .chain(args.modules.iter().map(String::as_str));
    let loaded = kernel.modules(names)?;
    let list: Vec<&str> = loaded.iter().map(|module| module.guest.as_str()).collect();
    image.text(init::MODULE_LIST, &(list.join("\n") + "\n"));
    for module in loaded.into_iter().chain(kernel.on_demand()?) {
        let (from, mode) = (Source::Host(module.host), 0o644);
        image.put(
            &guest_path(Path::new(&module.guest))?,
            Entry::File { from, mode },
        );
    }

    if let Some(bad) = args.env.iter().find(|e| !e.contains('=')) {
        bail!("--env {bad}: NAME=VALUE is needed");
    }
    let command = image.resolve_command(&args.command)?;
    image.text(init::COMMAND, &init::command_script(&args.env, &command));
    let from = Source::Text(init::SCRIPT.to_owned());
    image.put("init", Entry::File { from, mode: 0o755 });
    image
        .write(initrd)
        .with_context(|| format!("cannot write the initramfs {}", initrd.display()))
}

impl Image {
    fn put(&mut self, guest: &str, entry: Entry) {
        let guest = guest.trim_start_matches('/').to_owned();
        if let Some((parent, _)) = guest.rsplit_once('/') {
            self.directory(parent);
        }
        self.0.insert(guest, entry);
    }

    fn directory(&mut self, guest: &str) {
        let guest = guest.trim_start_matches('/');
        for (at, _) in guest.match_indices('/').chain([(guest.len(), "")]) {
            let part = guest.get(..at).unwrap_or(guest).to_owned();
            self.0.entry(part).or_insert(Entry::Directory);
        }
    }

    fn text(&mut self, guest: &str, text: &str) {
        let from = Source::Text(text.to_owned());
        self.put(guest, Entry::File { from, mode: 0o644 });
    }

    fn has(&self, guest: &str) -> bool {
        self.0.contains_key(guest.trim_start_matches('/'))
    }

    /// The program `busybox` and a link for each of its applets.
    fn busybox(&mut self) -> Result<()> {
        let help = "install the package busybox-static";
        let path = on_path("busybox").with_context(|| format!("no busybox: {help}"))?;
        if !shared_libraries(&path)?.is_empty() {
            bail!("{} needs shared libraries: {help}", path.display());
        }
        let applets = output(Command::new(&path).arg("--list"))?;
        for applet in applets.lines().filter(|a| *a != "busybox") {
            let target = "busybox".to_owned();
            self.put(&format!("{}/{applet}", init::APPLETS), Entry::Link(target));
        }
        let from = Source::Host(path);
        self.put(
            &format!("{}/busybox", init::APPLETS),
            Entry::File { from, mode: 0o755 },
        );
        // Called by their full paths: by scripts, and by the kernel.
        for name in ["usr/bin/env", "usr/sbin/modprobe"] {
            let target = format!("{}/busybox", init::APPLETS);
            self.put(name, Entry::Link(target));
        }
        // Not busybox' own shell, which prefers its applets to the programs on PATH.
        self.file(Path::new("/bin/sh"), Path::new("/bin/sh"))
    }

    /// A regular file; for a program also its libraries and a name on PATH.
    fn file(&mut self, host: &Path, guest: &Path) -> Result<()> {
        let meta =
            fs::metadata(host).with_context(|| format!("cannot take {} along", host.display()))?;
        if !meta.is_file() {
            bail!(
                "{} is not a file: take directories along with --dir",
                host.display()
            );
        }
        let mode = meta.permissions().mode() & 0o7777;
        let guest = guest_path(guest)?;
        let from = Source::Host(host.to_path_buf());
        self.put(&guest, Entry::File { from, mode });
        if mode & 0o111 == 0 {
            return Ok(());
        }
        for library in shared_libraries(host)? {
            let at = guest_path(&library)?;
            if !self.has(&at) {
                let from = Source::Host(library);
                self.put(&at, Entry::File { from, mode: 0o755 });
            }
        }
        let (folder, name) = guest.rsplit_once('/').unwrap_or(("", &guest));
        let alias = format!("usr/local/bin/{name}");
        if !["usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin"].contains(&folder)
            && !self.has(&alias)
        {
            self.put(&alias, Entry::Link(format!("/{guest}")));
        }
        Ok(())
    }

    fn tree(&mut self, host: &Path, guest: &Path) -> Result<()> {
        self.directory(&guest_path(guest)?);
        let entries = fs::read_dir(host)
            .with_context(|| format!("cannot take the directory {} along", host.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", host.display()))?;
            let (from, to) = (entry.path(), guest.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.tree(&from, &to)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(&from)?;
                let target = target.to_str().with_context(|| not_utf8(&target))?;
                self.put(&guest_path(&to)?, Entry::Link(target.to_owned()));
            } else if kind.is_file() {
                self.file(&from, &to)?;
            }
        }
        Ok(())
    }

    /// Makes sure that the guest has the program the command names.
    fn resolve_command(&mut self, command: &[String]) -> Result<Vec<String>> {
        let mut command = command.to_vec();
        let Some(program) = command.first_mut() else {
            bail!("no command to run in the guest");
        };
        if program.contains('/') {
            let host = std::path::absolute(&program)?;
            let guest = guest_path(&host)?;
            if !self.has(&guest) && host.is_file() {
                self.file(&host, &host)?;
            }
            if self.has(&guest) {
                *program = format!("/{guest}");
            }
            return Ok(command);
        }
        let folders = [
            "usr/local/bin",
            "usr/local/sbin",
            "usr/sbin",
            "usr/bin",
            init::APPLETS,
        ];
        if !folders
            .iter()
            .any(|folder| self.has(&format!("{folder}/{program}")))
            && let Some(path) = on_path(program)
        {
            self.file(&path, &path)?;
        }
        Ok(command)
    }

    fn write(&self, initrd: &Path) -> Result<()> {
        let mut archive = cpio::Archive::new(BufWriter::new(File::create(initrd)?));
        for (path, entry) in &self.0 {
            match entry {
                Entry::Directory => archive.directory(path, 0o755)?,
                Entry::Link(target) => archive.symlink(path, target)?,
                Entry::File { from, mode } => match from {
                    Source::Text(text) => {
                        archive.file(path, *mode, text.len() as u64, text.as_bytes())?;
                    }
                    Source::Host(host) => {
                        let named = || format!("cannot read {}", host.display());
                        let file = File::open(host).with_context(named)?;
                        let size = file.metadata().with_context(named)?.len();
                        archive.file(path, *mode, size, file).with_context(named)?;
                    }
                },
            }
        }
        // The kernel opens it for the first process before that can mount /dev.
        archive.character_device("dev/console", 0o600, (5, 1))?;
        archive.finish()?;
        Ok(())
    }
}

/// `HOST[:GUEST]`, both absolute; without GUEST the file keeps its path.
fn pair(spec: &str) -> Result<(PathBuf, PathBuf)> {
    let (host, guest) = match spec.split_once(':') {
        Some((host, guest)) => (host, Some(PathBuf::from(guest))),
        None => (spec, None),
    };
    let host = std::path::absolute(host)
        .with_context(|| format!("{spec:?} names no path of this host"))?;
    match guest {
        Some(guest) if !guest.is_absolute() => {
            bail!("{spec:?}: the path in the guest has to start with a slash")
        }
        Some(guest) => Ok((host, guest)),
        None => Ok((host.clone(), host)),
    }
}

/// An absolute path as the archive has it: no leading slash, no `..`, merged into /usr.
fn guest_path(path: &Path) -> Result<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str().with_context(|| not_utf8(path))?),
            Component::ParentDir => drop(parts.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if parts.len() > 1 && parts.first().is_some_and(|first| MERGED.contains(first)) {
        parts.insert(0, "usr");
    }
    Ok(parts.join("/"))
}

fn not_utf8(path: &Path) -> String {
    format!("the path {} is not valid UTF-8", path.display())
}

/// A program of this host, by its bare name.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(FALLBACK_PATH.split(':'))
        .filter(|dir| !dir.is_empty())
        .map(|dir| Path::new(dir).join(name))
        .find(|p| {
            p.metadata()
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
}

/// What the dynamic loader of this host would map for a program: none for a script or a static
/// program.
fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let mut magic = [0; 4];
    let is_elf = File::open(program)
        .with_context(|| format!("cannot read {}", program.display()))?
        .read_exact(&mut magic)
        .is_ok_and(|()| magic == *b"\x7fELF");
    if !is_elf {
        return Ok(Vec::new());
    }
    let listing = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .context("cannot run ldd")?;
    if !listing.status.success() {
        let why = String::from_utf8_lossy(&listing.stderr);
        if why.contains("not a dynamic executable") {
            return Ok(Vec::new());
        }
        bail!("ldd {} failed: {}", program.display(), why.trim());
    }
    parse_ldd(&String::from_utf8_lossy(&listing.stdout))
        .with_context(|| format!("{} cannot run in the guest", program.display()))
}

fn parse_ldd(listing: &str) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for line in listing.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_suffix("=> not found") {
            bail!("this host lacks its shared library {}", name.trim());
        }
        // "name => /path (address)", or for the loader itself "/path (address)".
        let path = line.split_once("=> ").map_or(line, |(_, path)| path);
        if let Some((path, _)) = path.split_once(" (")
            && path.starts_with('/')
        {
            libraries.push(PathBuf::from(path));
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{guest_path, parse_ldd};

    #[test]
    fn guest_paths_are_merged_and_plain() -> anyhow::Result<()> {
        assert_eq!(guest_path(Path::new("/lib64/ld.so"))?, "usr/lib64/ld.so");
        assert_eq!(guest_path(Path::new("/opt/a/../lib/x.so"))?, "opt/lib/x.so");
        assert_eq!(guest_path(Path::new("/usr/bin/ip"))?, "usr/bin/ip");
        Ok(())
    }

    #[test]
    fn ldd_gives_libraries_and_the_loader() -> anyhow::Result<()> {
        let listing = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        let expected = ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(parse_ldd(listing)?, expected.map(PathBuf::from));
        assert!(parse_ldd("\tlibnone.so => not found\n").is_err());
        assert!(parse_ldd("\tstatically linked\n")?.is_empty());
        Ok(())
    }
}
