//! Owns damage: bits, lengths and ends of frames changed, where parsers go wrong.
//! Must never leave a frame shorter or longer than can be injected.

use super::dice::Dice;
use super::{LONGEST, SHORTEST};

/// Changes a frame in one to three ways; `truncate` says whether it may lose its end.
pub fn mutate(dice: &mut Dice, frame: &mut Vec<u8>, truncate: bool) {
    for _ in 0..dice.pick(&[1, 1, 1, 2, 3]) {
        once(dice, frame, truncate);
    }
    frame.resize(frame.len().clamp(SHORTEST, LONGEST), 0);
}

fn once(dice: &mut Dice, frame: &mut Vec<u8>, truncate: bool) {
    if frame.len() <= SHORTEST {
        return;
    }
    // Behind the MAC addresses, mostly in the headers.
    let end = if dice.percent(80) {
        frame.len().min(100)
    } else {
        frame.len()
    };
    let at = dice.within(12..=end - 1);
    match dice.weighted(&[30, 10, 25, 20, 5, 5, 5]) {
        0 => frame[at] ^= 1 << dice.below(8),
        1 => frame[at] = dice.pick(&[0, 1, 4, 5, 8, 0x0f, 0x45, 0x7f, 0x80, 0xff]),
        2 if truncate => frame.truncate(dice.within(SHORTEST..=frame.len() - 1)),
        2 | 3 => length_field(dice, frame),
        4 => {
            let padding = dice.within(1..=30);
            let padding = if dice.percent(50) {
                vec![0; padding]
            } else {
                dice.bytes(padding)
            };
            frame.extend(padding);
        }
        5 => {
            // A piece of the headers twice: duplicated options, headers, tags.
            let size = dice.pick(&[2, 4, 8, 20]).min(frame.len() - at);
            let piece = frame[at..at + size].to_vec();
            frame.splice(at..at, piece);
        }
        _ => {
            let size = dice.within(1..=8).min(frame.len() - at);
            let bytes = dice.bytes(size);
            frame[at..at + size].copy_from_slice(&bytes);
        }
    }
}

/// Changes a length, offset or header-length field of IPv4, IPv6, TCP or UDP a little.
fn length_field(dice: &mut Dice, frame: &mut [u8]) {
    let mut at = 12;
    while matches!(frame.get(at..at + 2), Some([0x81, 0] | [0x88, 0xa8])) {
        at += 4;
    }
    let network = at + 2;
    let v6 = frame.get(at..at + 2) == Some(&[0x86, 0xdd]);
    let transport = network + if v6 { 40 } else { 20 };
    let fields: &[usize] = if v6 {
        &[
            network + 4,
            network + 5,
            network + 6,
            transport,
            transport + 1,
            transport + 3,
            transport + 5,
            transport + 12,
        ]
    } else {
        &[
            network,
            network + 2,
            network + 3,
            network + 6,
            network + 7,
            transport + 5,
            transport + 12,
        ]
    };
    let field = dice.pick(fields);
    let change = dice.pick(&[1, 0xff, 4, 0xfc, 8, 0xf8, 0x10, 0xf0, 0x20, 0x80]);
    if let Some(byte) = frame.get_mut(field) {
        *byte = byte.wrapping_add(change);
    }
}
