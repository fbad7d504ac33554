//! Owns the checksums of the packet builders: Internet checksum (RFC 1071) and CRC32c (RFC 9260).
//! Must never decide whether a checksum belongs in a packet.

use std::net::IpAddr;

use etherparse::checksum::Sum16BitWords;

/// The Internet checksum of some bytes, as it stands in the header.
#[must_use]
pub fn internet(bytes: &[u8]) -> u16 {
    u16::from_be_bytes(
        Sum16BitWords::new()
            .add_slice(bytes)
            .ones_complement()
            .to_ne_bytes(),
    )
}

/// The checksum over pseudo header and transport bytes (RFC 793, RFC 8200 section 8.1).
#[must_use]
pub fn with_pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, bytes: &[u8]) -> u16 {
    let mut pseudo = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(v4) => pseudo.extend(v4.octets()),
            IpAddr::V6(v6) => pseudo.extend(v6.octets()),
        }
    }
    pseudo.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    pseudo.extend(bytes);
    internet(&pseudo)
}

/// CRC32c, bit by bit (RFC 9260, appendix A).
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc = (crc >> 1) ^ (0x82f6_3b78 * carry);
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // RFC 3720 B.4 and the worked example of RFC 1071.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(
            internet(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
    }
}
