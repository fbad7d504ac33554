//! Debian's Linux 6.1 for cloud machines: where it comes from, where it is kept, and which of its
//! modules need which. It owns the kernel cache and must never install a package on this host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};

use super::Progress;

/// The long-term release that stands for kernels without TCX (merged in 6.6).
const SERIES: &str = "6.1.";
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// An unpacked kernel.
#[derive(Debug)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    pub image: PathBuf,
    modules: PathBuf,
}

/// Parts of the module tree that a guest can load from when something asks for it, as with the
/// modules behind `ip link add type vlan` or an nftables expression.
const ON_DEMAND: &[&str] = &["kernel/net", "kernel/drivers/net", "kernel/lib"];

/// A file of the module tree and its path in a guest.
#[derive(Debug, PartialEq, Eq)]
pub struct ModuleFile {
    pub host: PathBuf,
    pub guest: String,
}

/// The cached kernel, or the newest from apt when there is none or `refresh` asks for it.
pub fn obtain(cache: &Path, refresh: bool, say: &Progress) -> Result<Kernel> {
    let cached = newest_cached(cache)?;
    if let Some(kernel) = &cached
        && !refresh
    {
        return open(cache, kernel);
    }
    let release = newest_release()?;
    if cached.as_ref() != Some(&release) {
        say.step(&format!("fetching Linux {release} from apt"), || {
            fetch(cache, &release)
        })?;
    }
    open(cache, &release)
}

fn home(cache: &Path, release: &str) -> PathBuf {
    cache.join(format!("linux-{release}"))
}

fn open(cache: &Path, release: &str) -> Result<Kernel> {
    let home = home(cache, release);
    let kernel = Kernel {
        release: release.to_owned(),
        image: home.join("vmlinuz"),
        modules: home.join("modules"),
    };
    if !kernel.image.is_file() || !kernel.modules.join("modules.dep").is_file() {
        bail!(
            "the cached kernel in {} is incomplete: remove that directory and try again",
            home.display()
        );
    }
    Ok(kernel)
}

fn newest_cached(cache: &Path) -> Result<Option<String>> {
    let entries =
        fs::read_dir(cache).with_context(|| format!("cannot list {}", cache.display()))?;
    let releases = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let release = name.to_str()?.strip_prefix("linux-")?;
        release.starts_with(SERIES).then(|| release.to_owned())
    });
    Ok(releases.max_by_key(|release| numbers(release)))
}

/// The release that apt's meta-package stands for, or the newest of the series where the
/// meta-package has moved on to a later one.
fn newest_release() -> Result<String> {
    let depends = output(Command::new("apt-cache").args(["depends", "--important", META_PACKAGE]));
    let wanted = |package: &str| -> Option<String> {
        let release = package.trim().strip_prefix("linux-image-")?;
        (release.starts_with(SERIES) && release.ends_with("-cloud-amd64"))
            .then(|| release.to_owned())
    };
    if let Ok(depends) = &depends {
        let found = depends
            .lines()
            .filter_map(|line| wanted(line.trim().strip_prefix("Depends:")?))
            .max_by_key(|release| numbers(release));
        if let Some(release) = found {
            return Ok(release);
        }
    }
    let names = output(Command::new("apt-cache").args(["pkgnames", "linux-image-6.1"]))?;
    names
        .lines()
        .filter_map(wanted)
        .max_by_key(|release| numbers(release))
        .context(
            "apt knows no linux-image-6.1.*-cloud-amd64: run `apt-get update`; where Debian 12 \
             (bookworm) is not among apt's sources, add it",
        )
}

/// The numbers in a release, so that 6.1.0-9 sorts before 6.1.0-56.
fn numbers(release: &str) -> Vec<u64> {
    release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// Downloads the package (apt checks its signature) and unpacks what a guest needs of it.
fn fetch(cache: &Path, release: &str) -> Result<()> {
    // A run directory by name, so that the sweep of stale ones takes it along.
    let work = super::Scratch::new(cache)?;
    let package = format!("linux-image-{release}");
    output(
        Command::new("apt-get")
            .args(["download", "-qq", &package])
            .current_dir(work.path()),
    )
    .with_context(|| format!("cannot download {package}: try `apt-get update` first"))?;
    let archive = fs::read_dir(work.path())?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .with_context(|| format!("apt-get download {package} brought no package"))?;
    let tree = work.path().join("tree");
    output(Command::new("dpkg-deb").arg("-x").args([&archive, &tree]))?;
    // The list of dependencies is made when the package is installed, so make it here.
    output(
        Command::new("busybox")
            .arg("depmod")
            .arg("-b")
            .args([&tree])
            .arg(release),
    )
    .context("busybox-static is needed: apt-get install busybox-static")?;

    let ready = work.path().join("ready");
    fs::create_dir(&ready)?;
    fs::rename(
        tree.join(format!("boot/vmlinuz-{release}")),
        ready.join("vmlinuz"),
    )
    .with_context(|| format!("{package} holds no kernel image"))?;
    fs::rename(
        tree.join(format!("lib/modules/{release}")),
        ready.join("modules"),
    )
    .with_context(|| format!("{package} holds no modules"))?;
    // Renamed as a whole: a cached kernel is complete or absent, also when two runs race.
    let home = home(cache, release);
    match fs::rename(&ready, &home) {
        Err(e) if !home.exists() => Err(e).context(format!("cannot fill {}", home.display())),
        _ => Ok(()),
    }
}

/// A command's stdout, or an error with its stderr.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .env("LC_ALL", "C")
        .output()
        .with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!(
            "{shown} failed ({status}): {}",
            String::from_utf8_lossy(&stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

impl Kernel {
    /// The files of the named modules and of all they depend on, in the order to load them.
    /// Names that are built into the kernel are left out.
    pub fn modules<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<ModuleFile>> {
        let read = |file: &str| -> Result<String> {
            let path = self.modules.join(file);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let paths = load_order(&read("modules.dep")?, &read("modules.builtin")?, names)
            .with_context(|| format!("Linux {}", self.release))?;
        Ok(paths.iter().map(|path| self.file(path)).collect())
    }

    /// What modprobe needs in the guest: its tables, and the modules that may be asked for.
    pub fn on_demand(&self) -> Result<Vec<ModuleFile>> {
        let mut files: Vec<ModuleFile> = ["modules.dep", "modules.alias", "modules.builtin"]
            .map(|table| self.file(table))
            .into();
        let mut folders: Vec<String> = ON_DEMAND.iter().map(|&f| f.to_owned()).collect();
        while let Some(folder) = folders.pop() {
            let path = self.modules.join(&folder);
            let entries =
                fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?;
            for entry in entries {
                let entry = entry?;
                let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
                if entry.file_type()?.is_dir() {
                    folders.push(path);
                } else {
                    files.push(self.file(&path));
                }
            }
        }
        Ok(files)
    }

    fn file(&self, path: &str) -> ModuleFile {
        ModuleFile {
            host: self.modules.join(path),
            guest: format!("/lib/modules/{}/{path}", self.release),
        }
    }
}

/// `kernel/net/netfilter/nf-x.ko` -> `nf_x`: modprobe takes both signs for one.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split(".ko").next().unwrap_or(file);
    stem.replace('-', "_")
}

fn load_order<'a>(
    dep: &str,
    builtin: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<String>> {
    let mut known: BTreeMap<String, (&str, Vec<&str>)> = BTreeMap::new();
    for line in dep.lines() {
        if let Some((path, needs)) = line.split_once(':') {
            known.insert(
                module_name(path),
                (path, needs.split_whitespace().collect()),
            );
        }
    }
    let builtin: BTreeSet<String> = builtin.lines().map(module_name).collect();

    fn visit(
        name: &str,
        known: &BTreeMap<String, (&str, Vec<&str>)>,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<String>,
    ) {
        if let Some((path, needs)) = known.get(name)
            && seen.insert(name.to_owned())
        {
            for need in needs {
                visit(&module_name(need), known, seen, order);
            }
            order.push((*path).to_owned());
        }
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for name in names {
        let name = module_name(name);
        if known.contains_key(&name) {
            visit(&name, &known, &mut seen, &mut order);
        } else if !builtin.contains(&name) {
            bail!("this kernel has no module {name}");
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::{load_order, numbers};

    const DEP: &str = "kernel/a.ko: kernel/b.ko kernel/c-d.ko\nkernel/b.ko: kernel/c-d.ko\n\
                       kernel/c-d.ko:\n";

    #[test]
    fn a_module_comes_after_what_it_needs() -> anyhow::Result<()> {
        let order = load_order(DEP, "kernel/in.ko\n", ["a", "in", "c_d"])?;
        assert_eq!(order, ["kernel/c-d.ko", "kernel/b.ko", "kernel/a.ko"]);
        Ok(())
    }

    #[test]
    fn an_unknown_module_is_named() {
        let error = load_order(DEP, "", ["nosuch"]).map_err(|e| e.to_string());
        assert_eq!(error, Err("this kernel has no module nosuch".to_owned()));
    }

    #[test]
    fn releases_sort_by_number() {
        assert!(numbers("6.1.0-9-cloud-amd64") < numbers("6.1.0-56-cloud-amd64"));
    }
}
