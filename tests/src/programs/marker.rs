//! The mark that test packets carry in their payload: whose they are, and which one.
//!
//! Owns its 16 bytes: a magic, the kind and a sequence number. Survives routing, address translation and any header in front
//! of it, so a packet can be told from everybody else's wherever it turns up.

/// What every marked payload starts with. Some senders only take text, so it is text.
pub const MAGIC: [u8; 8] = *b"EFmark:>";

/// Where the payload of a UDP datagram stands in an Ethernet frame without tags or options, IPv4 and IPv6: the quick way.
const USUAL: [usize; 2] = [14 + 20 + 8, 14 + 40 + 8];

/// Kinds are below this.
pub const KINDS: u32 = 1024;

/// The 16 bytes.
pub fn payload(kind: u32, sequence: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&kind.to_be_bytes());
    bytes[12..].copy_from_slice(&sequence.to_be_bytes());
    bytes
}

/// The same as hexadecimal text, for tools that take their payload that way.
pub fn hexadecimal(kind: u32, sequence: u32) -> String {
    use std::fmt::Write;
    payload(kind, sequence)
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Kind and sequence number of a marked packet; `None` for any other.
pub fn find(packet: &[u8]) -> Option<(u32, u32)> {
    let at = USUAL
        .into_iter()
        .find(|at| packet.get(*at..*at + 8) == Some(&MAGIC[..]))
        .or_else(|| packet.windows(8).position(|window| window == MAGIC))?;
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?))
    };
    Some((word(at + 8)?, word(at + 12)?))
}

#[cfg(test)]
mod tests {
    use super::{find, hexadecimal, payload};

    #[test]
    fn a_mark_is_found_at_any_offset_and_only_there() {
        for front in [0, 13, 28, 42, 62, 100] {
            let packet = [&vec![7; front][..], &payload(3, 9), &[1, 2]].concat();
            assert_eq!(find(&packet), Some((3, 9)), "{front} bytes in front");
        }
        assert_eq!(find(&[0; 60]), None);
        assert_eq!(find(&payload(3, 9)[..15]), None, "cut short");
        assert!(hexadecimal(1, 2).ends_with("0000000100000002"));
    }
}
