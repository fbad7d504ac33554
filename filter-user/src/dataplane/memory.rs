//! A map's values as memory (`BPF_F_MMAPABLE`): filling a bank is a copy, switching it is one store.

use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Values as they lie in memory. `T` has no padding.
pub(super) fn bytes_of<T: Copy>(values: &[T]) -> &[u8] {
    // SAFETY: as many bytes as the slice has, all of them initialized.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// The values of an array map, as `T`s.
#[derive(Debug)]
pub(super) struct MappedArray<T> {
    start: NonNull<T>,
    length: usize,
    bytes: usize,
    marker: PhantomData<T>,
}

// SAFETY: the mapping belongs to this value alone on our side; the kernel's side is read-only to the program.
unsafe impl<T: Send> Send for MappedArray<T> {}

impl<T: Copy> MappedArray<T> {
    /// Maps `length` values of `T` that make up the whole map.
    ///
    /// `T` may be a part of the map's value (a `u32` of a root's `[u32; 65536]`), as long as values have no padding.
    pub(super) fn map(map: impl AsFd, length: usize) -> io::Result<Self> {
        let bytes = NonZeroUsize::new(length * size_of::<T>()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "an empty map has no memory")
        })?;
        // SAFETY: a fresh shared mapping of a file descriptor; nothing else refers to the address range.
        let start = unsafe {
            mmap(
                None,
                bytes,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                map,
                0,
            )
        }?;
        Ok(Self {
            start: start.cast(),
            length,
            bytes: bytes.get(),
            marker: PhantomData,
        })
    }

    /// Copies `values` to `at` and on.
    pub(super) fn write(&mut self, at: usize, values: &[T]) -> io::Result<()> {
        self.check(at, values.len())?;
        // SAFETY: inside the mapping, as just checked; source and target cannot overlap.
        unsafe {
            self.start
                .as_ptr()
                .add(at)
                .copy_from_nonoverlapping(values.as_ptr(), values.len());
        };
        Ok(())
    }

    /// Sets `count` values from `at` on to `value`.
    pub(super) fn fill(&mut self, at: usize, count: usize, value: T) -> io::Result<()> {
        self.check(at, count)?;
        for index in at..at + count {
            // SAFETY: inside the mapping, as just checked.
            unsafe { self.start.as_ptr().add(index).write(value) };
        }
        Ok(())
    }

    /// Reads the value at `at`.
    pub(super) fn read(&self, at: usize) -> io::Result<T> {
        self.check(at, 1)?;
        // SAFETY: inside the mapping; the kernel side never writes these maps.
        Ok(unsafe { self.start.as_ptr().add(at).read_volatile() })
    }

    /// Whether the map holds just `values` from `at` on.
    pub(super) fn holds(&self, at: usize, values: &[T]) -> io::Result<bool> {
        self.check(at, values.len())?;
        // SAFETY: inside the mapping, as just checked; the kernel's side does not write these values meanwhile.
        let held = unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(at), values.len()) };
        Ok(bytes_of(held) == bytes_of(values))
    }

    fn check(&self, at: usize, count: usize) -> io::Result<()> {
        if at.checked_add(count).is_some_and(|end| end <= self.length) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{count} values at {at} do not fit into a map of {}",
                self.length
            ),
        ))
    }
}

impl MappedArray<u64> {
    /// Stores one word after everything written before it, through any mapping.
    pub(super) fn publish(&mut self, at: usize, value: u64) -> io::Result<()> {
        self.check(at, 1)?;
        fence(Ordering::SeqCst);
        // SAFETY: inside the mapping, 8-byte aligned (the mapping is page-aligned), and only ever stored atomically.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(at)) }.store(value, Ordering::Release);
        Ok(())
    }

    /// Sets bits of a word in which the program sets others.
    pub(super) fn set_bits(&self, at: usize, bits: u64) -> io::Result<()> {
        self.check(at, 1)?;
        // SAFETY: inside the mapping and aligned, as in `publish`; the program changes such words only atomically.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(at)) }
            .fetch_or(bits, Ordering::SeqCst);
        Ok(())
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, unmapped once.
        if let Err(error) = unsafe { munmap(self.start.cast(), self.bytes) } {
            tracing::warn!(%error, "cannot unmap a map's memory");
        }
    }
}
