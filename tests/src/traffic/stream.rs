//! One kind of packet: a frame, and what varies in it from packet to packet.
//!
//! Packet `n` of a stream is always the same one, here and in the program that the kernel runs: what varies is made of `n` by
//! a hash. With a number of flows it is made of `n` modulo that, so that flows return in turn. Checksums are always right,
//! since a stack drops what is broken before a firewall sees it; they are kept by adding what varies to what does not
//! (RFC 1071).

use ipnet::IpNet;

/// Sebastiano Vigna's splitmix64: a step and two multipliers.
pub(super) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
pub(super) const MULTIPLIERS: [u64; 2] = [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];
pub(super) const SHIFTS: [i32; 3] = [30, 27, 31];

/// Where random bits come from: 32-bit words of one or several hashes of a packet's number.
pub(super) const SOURCE_WORDS: [usize; 4] = [5, 4, 3, 0];
pub(super) const PORTS_WORD: usize = 1;
pub(super) const SEQUENCE_WORD: usize = 2;

/// A range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl Ports {
    /// How many there are.
    pub fn count(self) -> u32 {
        u32::from(self.last.saturating_sub(self.first)) + 1
    }

    /// The one at `part` of the way, which is in 65536ths.
    fn at(self, part: u16) -> u16 {
        self.first + ((u32::from(part) * self.count()) >> 16) as u16
    }
}

/// What is written into each packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// 32 bits: those of `mask` at random, the others as in `fixed`; both as they lie in memory.
    Bits { mask: u32, fixed: u32 },
    /// A port of a range, by the lower or the upper half of a word.
    Port { ports: Ports, upper: bool },
}

/// A place in the frame that varies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) offset: usize,
    /// Which random word it is made of.
    pub(super) word: usize,
    pub(super) value: Value,
    /// Whether the IPv4 header's checksum covers it.
    pub(super) in_header: bool,
    /// Whether the transport's checksum covers it, by a pseudo header or itself.
    pub(super) in_transport: bool,
}

/// A checksum over what varies and what does not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checksum {
    pub(super) offset: usize,
    /// Sum over what does not vary.
    pub(super) base: u16,
    /// UDP: a sum of 0 would mean "none".
    pub(super) never_zero: bool,
}

/// Ready to be sent.
#[derive(Clone, Debug)]
pub struct Stream {
    /// What varies, and the checksums, are 0 here.
    pub(super) template: Vec<u8>,
    pub(super) fields: Vec<Field>,
    pub(super) header_sum: Option<Checksum>,
    pub(super) transport_sum: Option<Checksum>,
    pub(super) flows: Option<u32>,
    pub(super) seed: u64,
    /// Packets of this stream for each one of a stream of weight 1.
    pub weight: u32,
}

/// Where things are in a frame, and what varies; for [`Stream::new`].
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Where the IP header begins.
    pub network: usize,
    /// Where the transport header begins; `None` if what follows is not one (a later fragment).
    pub transport: Option<Transport>,
    /// Sources.
    pub source: IpNet,
    /// Source and destination ports, where there are ports.
    pub ports: [Ports; 2],
}

/// A transport header that varies.
#[derive(Clone, Copy, Debug)]
pub struct Transport {
    /// Where it begins.
    pub offset: usize,
    /// Which one it is.
    pub kind: TransportKind,
}

/// Which header it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportKind {
    /// TCP: ports and sequence number vary.
    Tcp,
    /// UDP: ports vary.
    Udp,
    /// ICMP or ICMPv6 echo: identifier and sequence number vary.
    Echo,
}

impl TransportKind {
    const fn checksum(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
            Self::Echo => 2,
        }
    }

    /// What varies besides ports: an offset.
    const fn sequence(self) -> Option<usize> {
        match self {
            Self::Tcp | Self::Echo => Some(4),
            Self::Udp => None,
        }
    }
}

impl Stream {
    /// Takes a whole frame with right checksums; what `layout` lets vary is taken out of it.
    pub fn new(mut frame: Vec<u8>, layout: &Layout, flows: Option<u32>, seed: u64) -> Self {
        let mut fields = source_fields(layout);
        if let Some(transport) = layout.transport {
            fields.extend(transport_fields(transport, layout.ports));
        }
        let varying = Sums::of(&fields, &frame);
        for field in &fields {
            clear(&mut frame, field);
        }
        let mut keep = |offset: usize, varying: u64, never_zero: bool| {
            let place = frame.get_mut(offset..offset + 2)?;
            let sum = place.try_into().map_or(0, u16::from_ne_bytes);
            place.fill(0);
            // less what varies: adding the complement is subtracting
            Some(Checksum {
                offset,
                base: fold(u64::from(!sum) + u64::from(!fold(varying))),
                never_zero,
            })
        };
        let header_sum = match layout.source {
            IpNet::V4(_) => keep(layout.network + 10, varying.header, false),
            IpNet::V6(_) => None,
        };
        let transport_sum = layout.transport.and_then(|part| {
            let offset = part.offset + part.kind.checksum();
            keep(offset, varying.transport, part.kind == TransportKind::Udp)
        });
        Self {
            template: frame,
            fields,
            header_sum,
            transport_sum,
            flows,
            seed,
            weight: 1,
        }
    }

    /// Bytes of a packet.
    pub fn size(&self) -> usize {
        self.template.len()
    }

    /// Writes packet `number` into `frame`.
    pub fn write(&self, number: u64, frame: &mut Vec<u8>) {
        frame.clear();
        frame.extend_from_slice(&self.template);
        let number = self
            .flows
            .map_or(number, |flows| number % u64::from(flows.max(1)));
        for field in &self.fields {
            let word = self.word(number, field.word);
            let (bytes, length) = match field.value {
                Value::Bits { mask, fixed } => ((word & mask | fixed).to_ne_bytes(), 4),
                Value::Port { ports, upper } => {
                    let part = if upper { word >> 16 } else { word } as u16;
                    let [high, low] = ports.at(part).to_be_bytes();
                    ([high, low, 0, 0], 2)
                }
            };
            if let Some(place) = frame.get_mut(field.offset..field.offset + length) {
                place.copy_from_slice(&bytes[..length]);
            }
        }
        let varying = Sums::of(&self.fields, frame);
        let sums = [
            (self.header_sum, varying.header),
            (self.transport_sum, varying.transport),
        ];
        for (sum, varying) in sums {
            let Some(sum) = sum else { continue };
            let mut value = !fold(u64::from(sum.base) + varying);
            if sum.never_zero && value == 0 {
                value = u16::MAX;
            }
            if let Some(place) = frame.get_mut(sum.offset..sum.offset + 2) {
                place.copy_from_slice(&value.to_ne_bytes());
            }
        }
    }

    /// A random word of packet `number`.
    fn word(&self, number: u64, index: usize) -> u32 {
        let mut mixed = number
            .wrapping_mul(STEP)
            .wrapping_add(self.addend(index / 2));
        for (shift, multiplier) in SHIFTS.into_iter().zip(MULTIPLIERS) {
            mixed = (mixed ^ (mixed >> shift)).wrapping_mul(multiplier);
        }
        mixed ^= mixed >> SHIFTS[2];
        (mixed >> (32 * (index % 2))) as u32
    }

    /// What makes the hashes of one packet different ones.
    pub(super) fn addend(&self, hash: usize) -> u64 {
        self.seed
            .wrapping_add((hash as u64 + 1).wrapping_mul(MULTIPLIERS[0]))
    }
}

fn source_fields(layout: &Layout) -> Vec<Field> {
    let (offset, fixed, mask) = match layout.source {
        IpNet::V4(net) => (
            layout.network + 12,
            net.network().octets().to_vec(),
            net.hostmask().octets().to_vec(),
        ),
        IpNet::V6(net) => (
            layout.network + 8,
            net.network().octets().to_vec(),
            net.hostmask().octets().to_vec(),
        ),
    };
    let v4 = matches!(layout.source, IpNet::V4(_));
    // ICMP has no pseudo header over IPv4.
    let echo = layout
        .transport
        .is_some_and(|part| part.kind == TransportKind::Echo);
    // The last word of an address is the one that varies first.
    let words = &SOURCE_WORDS[SOURCE_WORDS.len() - fixed.len() / 4..];
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_ne_bytes);
    fixed
        .chunks(4)
        .zip(mask.chunks(4))
        .zip(words)
        .enumerate()
        .filter(|(_, ((_, mask), _))| number(mask) != 0)
        .map(|(index, ((fixed, mask), word))| Field {
            offset: offset + index * 4,
            word: *word,
            value: Value::Bits {
                mask: number(mask),
                fixed: number(fixed),
            },
            in_header: v4,
            in_transport: !(v4 && echo),
        })
        .collect()
}

fn transport_fields(transport: Transport, ports: [Ports; 2]) -> Vec<Field> {
    let mut fields = Vec::new();
    if transport.kind != TransportKind::Echo {
        for (ports, upper) in ports.into_iter().zip([false, true]) {
            if ports.count() > 1 {
                fields.push(Field {
                    offset: transport.offset + if upper { 2 } else { 0 },
                    word: PORTS_WORD,
                    value: Value::Port { ports, upper },
                    in_header: false,
                    in_transport: true,
                });
            }
        }
    }
    if let Some(offset) = transport.kind.sequence() {
        fields.push(Field {
            offset: transport.offset + offset,
            word: SEQUENCE_WORD,
            value: Value::Bits {
                mask: u32::MAX,
                fixed: 0,
            },
            in_header: false,
            in_transport: true,
        });
    }
    fields
}

impl Field {
    fn length(&self) -> usize {
        match self.value {
            Value::Bits { .. } => 4,
            Value::Port { .. } => 2,
        }
    }
}

/// What the varying fields of a frame add to its checksums.
struct Sums {
    header: u64,
    transport: u64,
}

impl Sums {
    fn of(fields: &[Field], frame: &[u8]) -> Self {
        let (mut header, mut transport) = (0, 0);
        for field in fields {
            let bytes = frame.get(field.offset..field.offset + field.length());
            let value = bytes.map_or(0, |bytes| match *bytes {
                [a, b] => u64::from(u16::from_ne_bytes([a, b])),
                [a, b, c, d] => u64::from(u32::from_ne_bytes([a, b, c, d])),
                _ => 0,
            });
            header += if field.in_header { value } else { 0 };
            transport += if field.in_transport { value } else { 0 };
        }
        Self { header, transport }
    }
}

fn clear(frame: &mut [u8], field: &Field) {
    if let Some(place) = frame.get_mut(field.offset..field.offset + field.length()) {
        place.fill(0);
    }
}

/// A ones' complement sum of 16 bits.
fn fold(mut sum: u64) -> u16 {
    while sum > u64::from(u16::MAX) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
