//! What a process takes of the machine: memory, that of its BPF maps apart, and processor time. Reads /proc only.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::time::clock_getcpuclockid;
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident now, the tables that it has mapped included.
    pub resident: u64,
    /// Resident at its peak, without the tables that it has mapped.
    pub peak: u64,
    /// All its BPF maps, each once.
    pub maps: u64,
}

impl Memory {
    /// Of a process that holds BPF maps.
    pub fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = number(&status, "VmHWM:").context("a process without VmHWM")?;
        let resident = number(&status, "VmRSS:").context("a process without VmRSS")?;
        let mut maps = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
            // a file may be closed meanwhile
            let Ok(text) = fs::read_to_string(entry?.path()) else {
                continue;
            };
            if let (Some(id), Some(bytes)) = (number(&text, "map_id:"), number(&text, "memlock:")) {
                maps.insert(id, bytes);
            }
        }
        ensure!(!maps.is_empty(), "process {pid} holds no BPF map");
        let mapped = mapped(pid)?;
        ensure!(mapped < peak, "{mapped} of {peak} kB are mapped");
        Ok(Self {
            resident: resident << 10,
            peak: (peak - mapped) << 10,
            maps: maps.values().sum(),
        })
    }
}

/// The resident peak of any process so far, in bytes; `None` once it is gone.
pub fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    number(&status, "VmHWM:").map(|kib| kib << 10)
}

/// The processor time that a process has taken so far, threads that ended included; then that of the programs it ran and
/// waited for, to a hundredth of a second.
pub fn processor_time(pid: u32) -> Result<(Duration, Duration)> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid as i32))
        .with_context(|| format!("process {pid} has no clock"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // the program's name, in parentheses, may hold anything: fields are counted behind it, the first is the third
    let fields = status.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut waited_for = fields.split_whitespace().skip(13);
    let mut next = || -> Result<u64> { Ok(waited_for.next().context("a short stat")?.parse()?) };
    let ticks = next()? + next()?;
    let second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel has no ticks")?;
    let children = Duration::from_secs_f64(ticks as f64 / second as f64);
    Ok((clock.now()?.into(), children))
}

/// KiB of BPF maps that are resident in the process.
fn mapped(pid: u32) -> Result<u64> {
    let (mut mapped, mut of_map) = (0, false);
    for line in fs::read_to_string(format!("/proc/{pid}/smaps"))?.lines() {
        match line.split_once(':') {
            Some(("Rss", size)) if of_map => {
                mapped += size.trim().trim_end_matches(" kB").parse::<u64>()?;
            }
            // the first line of a mapping begins with its addresses
            _ if line
                .split(' ')
                .next()
                .is_some_and(|word| word.contains('-')) =>
            {
                of_map = line.contains("bpf-map");
            }
            _ => {}
        }
    }
    Ok(mapped)
}

/// The number behind `key` in the lines of a file of /proc.
fn number(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}
