//! A map of the filter, read and written in as few calls as possible.
//! Owns the buffers' sizes. Must never interpret what the values mean.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::MapData;

use super::syscall;

/// Elements read or written with one call.
const BATCH: usize = 2048;

/// An opened map. Values are whole 64-bit words, on every CPU's part (all of the filter's are).
#[derive(Debug)]
pub struct Map {
    data: MapData,
    key_bytes: usize,
    words: usize,
    entries: usize,
}

impl Map {
    /// Opens the pin `NAME-<layout>` of a state map under a bpffs.
    ///
    /// # Errors
    /// When there is no such pin.
    pub fn state(bpffs: &Path, name: &str) -> Result<Self> {
        let directory = bpffs.join("edgefilter/state");
        let found = fs::read_dir(&directory)
            .with_context(|| format!("cannot list {}", directory.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                file.rsplit_once('-')
                    .is_some_and(|(known, _)| known == name)
            })
            .with_context(|| format!("no pin of {name} in {}", directory.display()))?;
        Self::open(&found)
    }

    /// Opens a pinned map.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let data =
            MapData::from_pin(path).with_context(|| format!("cannot open {}", path.display()))?;
        let info = data.info()?;
        let per_cpu = matches!(
            info.map_type()?,
            aya::maps::MapType::PerCpuArray | aya::maps::MapType::PerCpuHash
        );
        let cpus = if per_cpu {
            aya::util::nr_cpus().map_err(|(_, error)| error)?
        } else {
            1
        };
        Ok(Self {
            key_bytes: info.key_size() as usize,
            words: (info.value_size() as usize).div_ceil(8) * cpus,
            entries: info.max_entries() as usize,
            data,
        })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.data.fd().as_fd()
    }

    /// Words of a value, all CPUs together.
    #[must_use]
    pub fn words(&self) -> usize {
        self.words
    }

    /// Most entries it holds.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Reads an array's value, CPU after CPU.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read(&self, index: u32, value: &mut Vec<u64>) -> io::Result<()> {
        value.resize(self.words, 0);
        syscall::lookup(self.fd(), &index.to_ne_bytes(), value)
    }

    /// Reads the first `count` values of an array, one after the other.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read_first(&self, count: usize, values: &mut Vec<u64>) -> io::Result<()> {
        let count = count.min(self.entries);
        let mut keys = [0_u8; BATCH * 4];
        values.resize(count * self.words, 0);
        syscall::next_batch(
            self.fd(),
            &mut None,
            &mut keys[..count * 4],
            values,
            count,
            false,
        )
        .map(drop)
    }

    /// Every key and value of a hash.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn all(&self) -> io::Result<Vec<(Vec<u8>, Vec<u64>)>> {
        self.walk(false)
    }

    /// Empties a hash.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn clear(&self) -> io::Result<()> {
        self.walk(true).map(drop)
    }

    fn walk(&self, take: bool) -> io::Result<Vec<(Vec<u8>, Vec<u64>)>> {
        let mut keys = vec![0_u8; BATCH * self.key_bytes];
        let mut values = vec![0_u64; BATCH * self.words];
        let mut position = None;
        let mut found = Vec::new();
        loop {
            let (count, last) = syscall::next_batch(
                self.fd(),
                &mut position,
                &mut keys,
                &mut values,
                BATCH,
                take,
            )?;
            let pairs = keys
                .chunks(self.key_bytes)
                .zip(values.chunks(self.words))
                .take(count);
            found.extend(pairs.map(|(key, value)| (key.to_vec(), value.to_vec())));
            if last {
                return Ok(found);
            }
        }
    }

    /// Writes a value.
    ///
    /// # Errors
    /// What the kernel says, EINVAL for a value of another size.
    pub fn write(&self, key: &[u8], value: &[u64]) -> io::Result<()> {
        if key.len() != self.key_bytes || value.len() != self.words {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        syscall::update(self.fd(), key, value)
    }

    /// Changes every value of an array of single words.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn change_words(&self, change: impl Fn(u64) -> u64) -> io::Result<()> {
        if self.words != 1 || self.key_bytes != 4 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut keys = vec![0_u8; self.entries * 4];
        let mut values = vec![0_u64; self.entries];
        let (count, _) = syscall::next_batch(
            self.fd(),
            &mut None,
            &mut keys,
            &mut values,
            self.entries,
            false,
        )?;
        let changed: Vec<u64> = values.iter().map(|value| change(*value)).collect();
        if changed == values {
            return Ok(());
        }
        syscall::update_batch(self.fd(), &keys, &changed, count)
    }
}
