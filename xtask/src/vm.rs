//! `cargo xtask vm`: runs a program under Debian's Linux 6.1 in a software-emulated machine.
//! It owns the guest from kernel to exit code, and must never install anything on this host,
//! touch this host's network, or leave a machine running.
//!
//! ```text
//! cargo xtask vm -- uname -r
//! cargo xtask vm --file target/release/edgefilter --tool nft -- edgefilter doctor lo
//! ```

mod cpio;
mod image;
mod init;
mod kernel;
mod machine;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// A step that lasts longer than this is named on stderr.
const SLOW_STEP: Duration = Duration::from_secs(2);

/// Programs of this host that every run needs, and Debian's packages that bring them.
const NEEDED: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("setpriv", "util-linux"),
    ("ldd", "libc-bin"),
    ("ip", "iproute2"),
];

/// What to run in the guest, and what to take along.
#[derive(Clone, Debug, clap::Args)]
pub struct VmArgs {
    /// Take a file or program along, with the shared libraries it needs. Without GUEST it keeps
    /// its absolute path, and a program can be called by its bare name
    #[arg(long = "file", value_name = "HOST[:GUEST]")]
    pub files: Vec<String>,

    /// Take a directory along, with everything in it
    #[arg(long = "dir", value_name = "HOST[:GUEST]")]
    pub dirs: Vec<String>,

    /// Take one of this host's programs along, found on PATH (ip, tc and nsenter always are)
    #[arg(long = "tool", value_name = "NAME")]
    pub tools: Vec<String>,

    /// Load one more kernel module, with those it depends on
    #[arg(long = "module", value_name = "NAME")]
    pub modules: Vec<String>,

    /// Set an environment variable for the command
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,

    /// Give up after this many seconds, boot included
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u64,

    /// The guest's memory, which also holds the files taken along
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    pub memory: u32,

    /// The guest's processors
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    pub cpus: u32,

    /// Ask apt for the newest 6.1 kernel even if one is cached
    #[arg(long)]
    pub refresh_kernel: bool,

    /// Show the guest's kernel log on stderr afterwards
    #[arg(long)]
    pub kernel_log: bool,

    /// Say nothing of one's own but errors
    #[arg(long)]
    pub quiet: bool,

    /// Where kernels are kept [default: vm/ in the target directory]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// The command: a program taken along, a busybox applet, or a path or program of this host
    /// (which is then taken along)
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

impl VmArgs {
    /// The defaults of the command line, for callers inside xtask.
    pub fn new<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self {
            files: Vec::new(),
            dirs: Vec::new(),
            tools: Vec::new(),
            modules: Vec::new(),
            env: Vec::new(),
            timeout: 300,
            memory: 2048,
            cpus: 2,
            refresh_kernel: false,
            kernel_log: false,
            quiet: false,
            cache: None,
            command: command.into_iter().map(Into::into).collect(),
        }
    }
}

/// Runs the command with its output on this process's stdout and stderr. Returns its exit code
/// (128 + N for signal N, 127 when it was not found); an error means that the guest, not the
/// command, failed.
pub fn run(args: &VmArgs) -> Result<i32> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the guest is an x86-64 machine running this host's programs; this host is not one");
    }
    if args.command.is_empty() {
        bail!("no command to run in the guest");
    }
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| image::on_path(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        bail!(
            "programs are missing: apt-get install {}",
            missing.join(" ")
        );
    }
    let cache = match &args.cache {
        Some(dir) => dir.clone(),
        None => default_cache()?,
    };
    fs::create_dir_all(&cache)
        .with_context(|| format!("cannot make the directory {}", cache.display()))?;
    let cache = cache
        .canonicalize()
        .with_context(|| format!("cannot resolve {}", cache.display()))?;
    remove_stale(&cache);

    let say = Progress { quiet: args.quiet };
    let kernel = kernel::obtain(&cache, args.refresh_kernel, &say)?;
    let scratch = Scratch::new(&cache)?;
    let initrd = scratch.path().join("initrd");
    say.step("collecting the guest's files", || {
        image::build(args, &kernel, &initrd)
    })?;
    let machine = machine::Machine {
        kernel: &kernel,
        initrd: &initrd,
        scratch: scratch.path(),
        memory_mib: args.memory,
        cpus: args.cpus.max(1),
        timeout: Duration::from_secs(args.timeout),
        kernel_log: args.kernel_log,
    };
    machine.run(&mut io::stdout(), &mut io::stderr(), &say)
}

/// Names steps that take long. It never prints for a quick one.
struct Progress {
    quiet: bool,
}

impl Progress {
    fn say(&self, text: &str) {
        if !self.quiet {
            eprintln!("vm: {text}");
        }
    }

    /// Does `work`, and names it on stderr once it has lasted two seconds.
    fn step<T>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        thread::scope(|scope| {
            let (done, wait) = mpsc::channel::<()>();
            scope.spawn(move || {
                if wait.recv_timeout(SLOW_STEP) == Err(mpsc::RecvTimeoutError::Timeout) {
                    self.say(&format!("{name} ..."));
                }
            });
            let result = work();
            drop(done);
            result
        })
    }
}

/// A directory for one run, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(cache: &Path) -> Result<Self> {
        let pid = std::process::id();
        for n in 0..1000 {
            let dir = cache.join(format!("run-{pid}-{n}"));
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(Self(dir)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).context(format!("cannot make {}", dir.display())),
            }
        }
        bail!("{} is full of run directories", cache.display())
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the next run sweeps what is left.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what runs left behind that were killed before they could clean up.
fn remove_stale(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|n| n.strip_prefix("run-")) else {
            continue;
        };
        let pid = rest.split('-').next().unwrap_or_default();
        if pid.parse::<u32>().is_ok_and(|pid| !is_running(pid)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A dead process may stay listed as a zombie for as long as nobody waits for it.
fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .is_ok_and(|status| !status.lines().any(|line| line.starts_with("State:\tZ")))
}

/// `vm/` in cargo's target directory.
fn default_cache() -> Result<PathBuf> {
    // Set by `cargo run` to the xtask folder, which lies in the workspace's root.
    let root = match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(xtask) => Path::new(&xtask).parent().map(Path::to_path_buf),
        None => std::env::current_dir().ok(),
    };
    let root = root.context("cannot tell where the workspace is: run this through cargo xtask")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Ok(root.join(target).join("vm"))
}
