//! Parsing of what the kernel says, whole, cut short and wrong.

use std::collections::BTreeSet;

use super::attached::Holder;
use super::reading::{Channels, Driver, Feature, Offload, Offloads};
use super::{attached, driver, ethtool, kernel};

#[test]
fn kernel_texts() {
    assert_eq!(kernel::version("6.1.0-32-cloud-amd64"), Some((6, 1)));
    assert_eq!(kernel::version("5.14-rc1"), Some((5, 14)));
    assert_eq!(kernel::version("garbage"), None);
    assert_eq!(
        kernel::capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"),
        Ok(0x1ff_ffff_ffff)
    );
    assert!(kernel::capabilities("").is_err());
    assert_eq!(
        kernel::mem_available("MemTotal: 9 kB\nMemAvailable:   16 kB\n"),
        Ok(16 << 10)
    );
    assert!(kernel::mem_available("MemAvailable: many").is_err());
}

#[test]
fn features_from_type_information() {
    let strings = b"\0xdp_has_frags\0bpf_xdp_link\0not_BPF_TCX_EGRESS\0";
    let mut btf = Vec::new();
    btf.extend(0xeb9f_u16.to_ne_bytes());
    btf.extend([1, 0]);
    let length = u32::try_from(strings.len()).expect("short");
    // hdr_len, type_off, type_len, str_off, str_len
    for word in [24, 0, 0, 0, length] {
        btf.extend(u32::to_ne_bytes(word));
    }
    btf.extend(strings);
    assert_eq!(
        kernel::features(&btf),
        Ok(BTreeSet::from([Feature::XdpFrags, Feature::XdpLink]))
    );
    for cut in 0..btf.len() {
        // Truncated is an error, never a panic.
        assert!(kernel::features(&btf[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn ethtool_answers() {
    let mut info = vec![0; 196];
    info[4..7].copy_from_slice(b"ena");
    info[36..42].copy_from_slice(b"2.13.0");
    assert_eq!(
        ethtool::parse_driver(&info),
        Driver {
            name: "ena".to_owned(),
            version: "2.13.0".to_owned()
        }
    );
    let words: Vec<u8> = [0x3c_u32, 1, 2, 3, 4, 5, 6, 7, 8]
        .map(u32::to_ne_bytes)
        .concat();
    assert_eq!(
        ethtool::parse_channels(&words),
        Channels {
            max_rx: 1,
            max_tx: 2,
            max_combined: 4,
            rx: 5,
            tx: 6,
            combined: 8
        }
    );

    let list = ["scatter", "rx-vlan-hw-parse", "rx-lro", "rx-gro-hw"];
    let mut names: Vec<u8> = [0x1b_u32, 4, 4].map(u32::to_ne_bytes).concat();
    for name in list {
        let mut field = [0; 32];
        field[..name.len()].copy_from_slice(name.as_bytes());
        names.extend(field);
    }
    // available, requested, active, never_changed
    let state: Vec<u8> = [0x3a_u32, 1, 0b0111, 0, 0b1010, 0b0000]
        .map(u32::to_ne_bytes)
        .concat();
    let offloads = ethtool::parse_offloads(&names, &state);
    assert_eq!(
        offloads.rx_vlan,
        Offload {
            on: true,
            fixed: false
        }
    );
    assert_eq!(
        offloads.lro,
        Offload {
            on: false,
            fixed: false
        }
    );
    assert_eq!(
        offloads.gro_hw,
        Offload {
            on: true,
            fixed: true
        }
    );
    assert_eq!(ethtool::parse_offloads(&[], &[]), Offloads::default());
}

#[test]
fn descriptors_that_hold_a_program() {
    assert_eq!(
        attached::held("pos:\t0\nprog_type:\t6\nprog_id:\t12\n", 12),
        Some(Holder { link: None })
    );
    let link = "link_type:\txdp\nlink_id:\t3\nprog_tag:\t00\nprog_id:\t12\nifindex:\t2\n";
    assert_eq!(attached::held(link, 12), Some(Holder { link: Some(3) }));
    assert_eq!(attached::held(link, 13), None);
    assert_eq!(attached::held("pos: 0", 0), None);
}

#[test]
fn driver_table_has_no_duplicates_and_cites() {
    let names: BTreeSet<_> = driver::DRIVERS.iter().map(|facts| facts.name).collect();
    assert_eq!(names.len(), driver::DRIVERS.len());
    for facts in driver::DRIVERS {
        assert!(facts.source.contains('/'), "{}: no source", facts.name);
        assert!(
            facts.frags.is_none_or(|since| since >= (5, 18)),
            "{}",
            facts.name
        );
    }
}
