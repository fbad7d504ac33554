//! The tables of run-time entries: what the program looks up, kept equal to what is wanted.
//!
//! They are state: a later daemon goes on with them, another policy does not touch them, and entries end in the kernel
//! by themselves.

use std::collections::BTreeMap;

use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, Map, MapData, MapError};
use filter_common::entry::{self, SERVICE_BITS};
use filter_common::layout::{Address, EntryKey, EntrySpans};
use filter_common::limits::ENTRY_FILTER_WORDS;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::load::{LoadError, open};
use super::memory::MappedArray;
use super::pins::Pins;
use super::{pod, watch};

/// An IPv4 prefix is looked up as an IPv4-mapped IPv6 one.
const MAPPED_BITS: u32 = 96;

/// What one key of the table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    /// Sources.
    pub source: IpNet,
    /// `entry::asked` of protocol and port; 0: all they may ask for.
    pub asked: u32,
}

/// The tables, open.
#[derive(Debug)]
pub struct EntryTable {
    map: LpmTrie<MapData, pod::EntryKey, pod::EntrySpans>,
    watch: MappedArray<u64>,
    known: BTreeMap<Named, EntrySpans>,
}

impl EntryTable {
    /// Opens the pinned tables and brings the filter in line with the entries.
    pub fn open(pins: &Pins) -> Result<Self, LoadError> {
        let path = pins.state_map("ENTRIES");
        let pin = |error: MapError| LoadError::Pin {
            path: path.clone(),
            source: Box::new(error),
        };
        let map: LpmTrie<_, pod::EntryKey, pod::EntrySpans> =
            LpmTrie::try_from(Map::LpmTrie(open(&path)?)).map_err(pin)?;
        let mut known = BTreeMap::new();
        for item in &map {
            let (key, spans) = item.map_err(pin)?;
            if let Some(named) = named(&key) {
                known.insert(named, spans.0);
            }
        }
        let mut table = Self {
            map,
            watch: watch::open(pins)?,
            known,
        };
        let bits = filter_of(table.known.keys());
        table.write_filter(&bits)?;
        Ok(table)
    }

    /// What the kernel holds.
    #[must_use]
    pub fn known(&self) -> &BTreeMap<Named, EntrySpans> {
        &self.known
    }

    /// Makes the kernel hold just this; in force for packets that come after the call. After an error it holds some of
    /// both: call again.
    pub fn replace(&mut self, wanted: &BTreeMap<Named, EntrySpans>) -> Result<(), LoadError> {
        if self.known == *wanted {
            return Ok(());
        }
        // a bit too many costs a look-up, one too few would hide an entry
        let both = filter_of(self.known.keys().chain(wanted.keys()));
        self.write_filter(&both)?;
        // room first: the table may be full
        let gone: Vec<Named> = self
            .known
            .keys()
            .filter(|named| !wanted.contains_key(named))
            .copied()
            .collect();
        for named in gone {
            match self.map.remove(&key(&named)) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(MapError::SyscallError(error))
                    if error.io_error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(LoadError::program(error)),
            }
            self.known.remove(&named);
        }
        for (named, spans) in wanted {
            if self.known.get(named) == Some(spans) {
                continue;
            }
            self.map
                .insert(&key(named), pod::EntrySpans(*spans), 0)
                .map_err(LoadError::program)?;
            self.known.insert(*named, *spans);
        }
        let bits = filter_of(self.known.keys());
        self.write_filter(&bits)?;
        Ok(())
    }

    fn write_filter(&mut self, bits: &[u64]) -> Result<(), LoadError> {
        for (at, word) in bits.iter().enumerate() {
            if self.watch.read(watch::ENTRY_BITS + at)? != *word {
                self.watch.publish(watch::ENTRY_BITS + at, *word)?;
            }
        }
        let entries = u64::from(bits.iter().any(|word| *word != 0));
        if self.watch.read(watch::ENTRIES)? != entries {
            self.watch.publish(watch::ENTRIES, entries)?;
        }
        Ok(())
    }
}

/// The bits of all addresses that are named. IPv6 prefixes shorter than the 32 bits that are hashed may have any.
fn filter_of<'a>(named: impl Iterator<Item = &'a Named>) -> Vec<u64> {
    let mut bits = vec![0_u64; ENTRY_FILTER_WORDS];
    let (v4, v6) = (0..ENTRY_FILTER_WORDS / 2, ENTRY_FILTER_WORDS / 2..);
    for named in named {
        match named.source {
            IpNet::V4(net) if net.prefix_len() == 0 => bits[v4.clone()].fill(u64::MAX),
            IpNet::V4(net) => {
                let last = entry::filter_bit(&Address::v4(net.broadcast().to_bits()));
                for bit in entry::filter_bit(&Address::v4(net.network().to_bits()))..=last {
                    bits[bit / 64] |= 1 << (bit % 64);
                }
            }
            IpNet::V6(net) if net.prefix_len() < 32 => bits[v6.clone()].fill(u64::MAX),
            IpNet::V6(net) => {
                let bit = entry::filter_bit(&Address::v6(net.network().to_bits()));
                bits[bit / 64] |= 1 << (bit % 64);
            }
        }
    }
    bits
}

fn key(named: &Named) -> Key<pod::EntryKey> {
    let (address, bits) = match named.source {
        IpNet::V4(net) => (
            Address::v4(net.network().to_bits()),
            MAPPED_BITS + u32::from(net.prefix_len()),
        ),
        IpNet::V6(net) => (
            Address::v6(net.network().to_bits()),
            u32::from(net.prefix_len()),
        ),
    };
    let service = entry::service(matches!(named.source, IpNet::V4(_)), named.asked);
    Key::new(
        SERVICE_BITS + bits,
        pod::EntryKey(entry::key(service, &address)),
    )
}

/// What a key of the table names; `None` for one that nobody wrote.
fn named(key: &Key<pod::EntryKey>) -> Option<Named> {
    let EntryKey { service, address } = key.data().0;
    let bits = key.prefix_len().checked_sub(SERVICE_BITS)?;
    let address = address.map(u64::from_be);
    let whole = u128::from(address[0]) << 64 | u128::from(address[1]);
    let source = if service >> 32 == 0 {
        IpNet::V6(Ipv6Net::new(whole.into(), u8::try_from(bits).ok()?).ok()?)
    } else {
        let bits = u8::try_from(bits.checked_sub(MAPPED_BITS)?).ok()?;
        IpNet::V4(Ipv4Net::new((whole as u32).into(), bits).ok()?)
    };
    Some(Named {
        source,
        asked: service as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_what_it_was_made_of() {
        for (source, asked) in [
            ("0.0.0.0/0", 0),
            ("198.51.100.0/24", entry::asked(6, 443)),
            ("198.51.100.7/32", 0),
            ("::/0", 0),
            ("2001:db8::/29", entry::asked(17, 53)),
            ("2001:db8::7/128", 0),
        ] {
            let wanted = Named {
                source: source.parse().unwrap(),
                asked,
            };
            assert_eq!(named(&key(&wanted)), Some(wanted), "{source}");
        }
    }

    #[test]
    fn the_filter_has_a_bit_for_each_address_named() {
        let bits = |source: &str| {
            let named = Named {
                source: source.parse().unwrap(),
                asked: 0,
            };
            filter_of([named].iter())
        };
        let count =
            |source: &str| -> u32 { bits(source).iter().map(|word| word.count_ones()).sum() };
        for (source, expected) in [
            ("198.51.100.7/32", 1),
            ("198.51.0.0/16", 1),
            ("198.0.0.0/8", 256),
            ("0.0.0.0/0", 65536),
            ("2001:db8::7/128", 1),
            ("2001:db8::/32", 1),
            ("2001:db8::/31", 65536),
        ] {
            assert_eq!(count(source), expected, "{source}");
        }
        let inside = entry::filter_bit(&Address::v4(0xc6ff_0001));
        assert_ne!(bits("198.0.0.0/8")[inside / 64] >> (inside % 64) & 1, 0);
    }
}
