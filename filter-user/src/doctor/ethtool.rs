//! Driver, queues and offloads by the ethtool ioctl, which every kernel has for every driver.
//! Owns the one unsafe call of the doctor; it only uses the reading commands (`ETHTOOL_G*`).

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;

use super::reading::{Channels, Driver, Offload, Offloads};

// include/uapi/linux/sockios.h and include/uapi/linux/ethtool.h
const SIOCETHTOOL: u32 = 0x8946;
const GDRVINFO: u32 = 0x03;
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const GCHANNELS: u32 = 0x3c;
const SS_FEATURES: u32 = 4;
const STRING_LEN: usize = 32;
const DRVINFO_LEN: usize = 196;

pub(super) fn driver(interface: &str) -> io::Result<Driver> {
    let mut buffer = request(&[GDRVINFO], DRVINFO_LEN);
    call(interface, &mut buffer)?;
    Ok(parse_driver(&buffer))
}

pub(super) fn channels(interface: &str) -> io::Result<Channels> {
    let mut buffer = request(&[GCHANNELS], 9 * 4);
    call(interface, &mut buffer)?;
    Ok(parse_channels(&buffer))
}

pub(super) fn offloads(interface: &str) -> io::Result<Offloads> {
    // How many features this kernel knows, their names, then their state as bit masks of 32.
    let mut info = request(&[GSSET_INFO, 0, 1 << SS_FEATURES, 0], 20);
    call(interface, &mut info)?;
    let count = word(&info, 4) as usize;
    // The kernel has fewer than 128; the bound keeps a broken answer from taking memory.
    if count == 0 || count > 4096 {
        return Err(io::Error::other(format!(
            "the kernel reports {count} offload features"
        )));
    }
    let mut names = request(
        &[GSTRINGS, SS_FEATURES, word(&info, 4)],
        12 + count * STRING_LEN,
    );
    call(interface, &mut names)?;
    let blocks = count.div_ceil(32);
    let size = u32::try_from(blocks).map_err(io::Error::other)?;
    let mut state = request(&[GFEATURES, size], 8 + blocks * 16);
    call(interface, &mut state)?;
    Ok(parse_offloads(&names, &state))
}

pub(super) fn parse_driver(answer: &[u8]) -> Driver {
    Driver {
        name: string(answer, 4),
        version: string(answer, 4 + STRING_LEN),
    }
}

pub(super) fn parse_channels(answer: &[u8]) -> Channels {
    // max rx, tx, other, combined; then the same four in use
    Channels {
        max_rx: word(answer, 1),
        max_tx: word(answer, 2),
        max_combined: word(answer, 4),
        rx: word(answer, 5),
        tx: word(answer, 6),
        combined: word(answer, 8),
    }
}

/// `names`: answer to `ETHTOOL_GSTRINGS`, `state`: answer to `ETHTOOL_GFEATURES`.
pub(super) fn parse_offloads(names: &[u8], state: &[u8]) -> Offloads {
    let read = |wanted: &str| {
        let count = word(names, 2) as usize;
        let position = (0..count).find(|i| string(names, 12 + i * STRING_LEN) == wanted);
        let Some(position) = position else {
            return Offload::default();
        };
        // A block holds available, requested, active and never_changed.
        let block = 2 + 4 * (position / 32);
        let bit = 1 << (position % 32);
        let available = word(state, block) & bit != 0;
        let never_changed = word(state, block + 3) & bit != 0;
        Offload {
            on: word(state, block + 2) & bit != 0,
            fixed: never_changed || !available,
        }
    };
    Offloads {
        lro: read("rx-lro"),
        rx_vlan: read("rx-vlan-hw-parse"),
        gro_hw: read("rx-gro-hw"),
    }
}

fn request(words: &[u32], length: usize) -> Vec<u8> {
    let mut buffer: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    buffer.resize(length.max(buffer.len()), 0);
    buffer
}

fn word(buffer: &[u8], index: usize) -> u32 {
    buffer
        .get(index * 4..index * 4 + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_ne_bytes)
}

fn string(buffer: &[u8], offset: usize) -> String {
    let bytes = buffer.get(offset..offset + STRING_LEN).unwrap_or_default();
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// One ethtool command. `buffer` must have the size that the command's answer takes.
fn call(interface: &str, buffer: &mut [u8]) -> io::Result<()> {
    // Any socket will do: the kernel hands the ioctl on to the device layer of the socket's
    // network namespace. An unconnected Unix socket needs neither privileges nor an address.
    let socket = UnixDatagram::unbound()?;
    // SAFETY: `ifreq` is plain data for which all zeroes is valid.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= ifreq.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (target, source) in ifreq.ifr_name.iter_mut().zip(interface.bytes()) {
        *target = libc::c_char::from_ne_bytes([source]);
    }
    ifreq.ifr_ifru.ifru_data = buffer.as_mut_ptr().cast();
    // SAFETY: the descriptor is open, `ifreq` is valid and NUL-terminated, and its data pointer
    // refers to a live, exclusively borrowed buffer. The commands above write at most as much as
    // they are told by their length fields, and the buffers are sized after these.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL.into(), &raw mut ifreq) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
