//! What is known about network drivers' XDP support. Owns the table and nothing else; the kernel's
//! own answer (`netdev` generic netlink, Linux 6.3) goes before the table wherever there is one.
//!
//! MTU limits are for one buffer a packet (a program without `xdp.frags`, or a driver without
//! multi-buffer receive), with pages of 4 KiB and a `skb_shared_info` of 320 bytes. The expression
//! each figure comes from is in `source`, a path in the Linux tree.

/// Kernel version as (major, minor).
pub(super) type Version = (u32, u32);

/// What a driver demands of the queue counts before it takes an XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queues {
    /// Nothing known.
    Any,
    /// At most half of the maximum in use: the other half sends for XDP.
    HalfOfMax,
    /// As many receive as send queues, each at most half of the maximum.
    EqualAndHalfOfMax,
    /// One spare queue a CPU; refused without before the given version, slower from there on.
    SparePerCpu(Version),
    /// `combined` channels only.
    CombinedOnly,
}

/// One driver.
#[derive(Clone, Copy, Debug)]
pub(super) struct DriverFacts {
    /// As `ETHTOOL_GDRVINFO` names it.
    pub name: &'static str,
    /// First kernel with native XDP.
    pub native: Version,
    /// First kernel whose driver takes packets of several buffers.
    pub frags: Option<Version>,
    /// Greatest MTU of a single-buffer packet; `None` where it depends on the ring or the card.
    pub linear_mtu: Option<u32>,
    pub queues: Queues,
    /// Attaching fails while large-receive-offload is on.
    pub refuses_lro: bool,
    /// Attaching and detaching take the link down for a moment.
    pub resets_link: bool,
    /// Where the figures come from.
    pub source: &'static str,
}

const fn facts(name: &'static str, native: Version, source: &'static str) -> DriverFacts {
    DriverFacts {
        name,
        native,
        frags: None,
        linear_mtu: None,
        queues: Queues::Any,
        refuses_lro: false,
        resets_link: false,
        source,
    }
}

/// Drivers with native XDP. One that is missing here is judged by the kernel's answer alone.
pub(super) const DRIVERS: &[DriverFacts] = &[
    DriverFacts {
        linear_mtu: Some(3498),
        queues: Queues::HalfOfMax,
        resets_link: true,
        ..facts(
            "ena",
            (5, 6),
            "drivers/net/ethernet/amazon/ena/ena_xdp.h, ENA_XDP_MAX_MTU",
        )
    },
    DriverFacts {
        frags: Some((6, 3)),
        linear_mtu: Some(3506),
        queues: Queues::SparePerCpu((5, 13)),
        ..facts(
            "virtio_net",
            (4, 10),
            "drivers/net/virtio_net.c, virtnet_xdp_set",
        )
    },
    DriverFacts {
        frags: Some((5, 18)),
        linear_mtu: Some(3506),
        ..facts("veth", (4, 19), "drivers/net/veth.c, veth_xdp_set")
    },
    DriverFacts {
        linear_mtu: Some(3046),
        resets_link: true,
        ..facts(
            "ixgbe",
            (4, 12),
            "drivers/net/ethernet/intel/ixgbe/ixgbe_main.c, ixgbe_xdp_setup",
        )
    },
    DriverFacts {
        linear_mtu: Some(3046),
        resets_link: true,
        ..facts(
            "ixgbevf",
            (4, 17),
            "drivers/net/ethernet/intel/ixgbevf, ixgbevf_xdp_setup",
        )
    },
    DriverFacts {
        frags: Some((6, 4)),
        linear_mtu: Some(3046),
        resets_link: true,
        ..facts(
            "i40e",
            (4, 13),
            "drivers/net/ethernet/intel/i40e/i40e_main.c, i40e_xdp_setup",
        )
    },
    DriverFacts {
        frags: Some((6, 3)),
        linear_mtu: Some(3046),
        resets_link: true,
        ..facts(
            "ice",
            (5, 5),
            "drivers/net/ethernet/intel/ice/ice_main.c, ice_max_xdp_frame_size",
        )
    },
    DriverFacts {
        linear_mtu: Some(3046),
        resets_link: true,
        ..facts(
            "igb",
            (5, 10),
            "drivers/net/ethernet/intel/igb/igb_main.c, igb_xdp_setup",
        )
    },
    DriverFacts {
        linear_mtu: Some(1500),
        resets_link: true,
        ..facts(
            "igc",
            (5, 13),
            "drivers/net/ethernet/intel/igc/igc_xdp.c, igc_xdp_set_prog",
        )
    },
    DriverFacts {
        frags: Some((5, 18)),
        linear_mtu: Some(3498),
        refuses_lro: true,
        ..facts(
            "mlx5_core",
            (4, 9),
            "drivers/net/ethernet/mellanox/mlx5/core/en_main.c, mlx5e_xdp_allowed",
        )
    },
    DriverFacts {
        linear_mtu: Some(3498),
        ..facts(
            "mlx4_en",
            (4, 8),
            "drivers/net/ethernet/mellanox/mlx4/en_netdev.c, MLX4_EN_MAX_XDP_MTU",
        )
    },
    DriverFacts {
        frags: Some((5, 19)),
        linear_mtu: Some(3502),
        queues: Queues::CombinedOnly,
        resets_link: true,
        ..facts(
            "bnxt_en",
            (4, 11),
            "drivers/net/ethernet/broadcom/bnxt/bnxt.h, BNXT_MAX_PAGE_MODE_MTU",
        )
    },
    DriverFacts {
        linear_mtu: Some(2032),
        queues: Queues::EqualAndHalfOfMax,
        refuses_lro: true,
        ..facts(
            "gve",
            (6, 4),
            "drivers/net/ethernet/google/gve/gve_main.c, verify_xdp_configuration",
        )
    },
    DriverFacts {
        linear_mtu: Some(3506),
        ..facts("mana", (5, 17), "include/net/mana/mana.h, MANA_XDP_MTU_MAX")
    },
    DriverFacts {
        linear_mtu: Some(3506),
        refuses_lro: true,
        ..facts(
            "hv_netvsc",
            (5, 6),
            "drivers/net/hyperv/netvsc_bpf.c, netvsc_xdp_set",
        )
    },
    DriverFacts {
        linear_mtu: Some(3494),
        ..facts(
            "vmxnet3",
            (6, 6),
            "drivers/net/vmxnet3/vmxnet3_xdp.c, VMXNET3_XDP_MAX_MTU",
        )
    },
    DriverFacts {
        linear_mtu: Some(3840),
        ..facts("vif", (5, 9), "drivers/net/xen-netfront.c, xennet_xdp_set")
    },
    DriverFacts {
        linear_mtu: Some(1500),
        ..facts(
            "st_gmac",
            (5, 13),
            "drivers/net/ethernet/stmicro/stmmac/stmmac_xdp.c",
        )
    },
    DriverFacts {
        frags: Some((5, 18)),
        ..facts(
            "mvneta",
            (5, 5),
            "drivers/net/ethernet/marvell/mvneta.c, mvneta_xdp_setup",
        )
    },
    DriverFacts {
        frags: Some((5, 19)),
        ..facts(
            "atlantic",
            (5, 19),
            "drivers/net/ethernet/aquantia/atlantic/aq_main.c, aq_xdp_setup",
        )
    },
    facts("tun", (4, 14), "drivers/net/tun.c, tun_xdp_set"),
    facts("nfp", (4, 10), "drivers/net/ethernet/netronome/nfp"),
    facts("qede", (4, 10), "drivers/net/ethernet/qlogic/qede"),
    facts("sfc", (5, 6), "drivers/net/ethernet/sfc/efx.c"),
    facts(
        "nicvf",
        (4, 12),
        "drivers/net/ethernet/cavium/thunder/nicvf_main.c",
    ),
    facts("mvpp2", (5, 9), "drivers/net/ethernet/marvell/mvpp2"),
    facts(
        "fsl_dpaa2_eth",
        (5, 0),
        "drivers/net/ethernet/freescale/dpaa2",
    ),
    facts("fsl_enetc", (5, 13), "drivers/net/ethernet/freescale/enetc"),
    facts(
        "bonding",
        (5, 15),
        "drivers/net/bonding/bond_main.c, bond_xdp_set",
    ),
];

/// Looks a driver up by the name ethtool gives.
pub(super) fn known(name: &str) -> Option<&'static DriverFacts> {
    DRIVERS.iter().find(|driver| driver.name == name)
}
