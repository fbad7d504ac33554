//! The doctor's judgement on machines that are not at hand: a table of readings and findings.

use std::collections::BTreeSet;

use super::reading::{
    Channels, Driver, Egress, Feature, Host, Interface, Mode, Offload, Offloads, Program, Reading,
    Setting, Sysctls, Xdp,
};
use super::{Check, Options, PolicyNeeds, Report, Status, judge, render_text};

const ALL: [Feature; 4] = [
    Feature::XdpLink,
    Feature::XdpFrags,
    Feature::RingBuffer,
    Feature::Tcx,
];

/// The kernel's settings as they are built in.
fn quiet() -> Sysctls {
    let zero = || Ok(Some(Setting::default()));
    Sysctls {
        interface: "eth0".to_owned(),
        rp_filter: zero(),
        accept_local: zero(),
        route_localnet: zero(),
        proxy_arp: zero(),
        proxy_ndp: zero(),
    }
}

/// A host on which everything is right, with an interface of the given driver.
fn healthy(name: &str) -> Reading {
    Reading {
        interfaces: vec!["lo".to_owned(), "eth0".to_owned()],
        interface: Some(Interface {
            name: "eth0".to_owned(),
            up: true,
            operstate: "up".to_owned(),
            mtu: 1500,
            kind: None,
            loopback: false,
            lower: None,
            controller: None,
            xdp: Vec::new(),
            driver: Ok(Driver {
                name: name.to_owned(),
                version: "6.12.0".to_owned(),
            }),
            xdp_features: Ok(Some(0b1)),
            channels: Ok(Channels {
                combined: 2,
                max_combined: 8,
                ..Channels::default()
            }),
            offloads: Ok(Offloads::default()),
            egress: Ok(Vec::new()),
            sysctls: quiet(),
        }),
        host: Host {
            release: "6.12.0-1-amd64".to_owned(),
            features: Ok(BTreeSet::from(ALL)),
            jit: Ok(1),
            bpffs: Ok(true),
            capabilities: Ok(u64::MAX),
            landlock: Ok(7),
            seccomp: true,
            memlock: Ok(8 << 20),
            memory: Ok(4 << 30),
            initial_namespace: true,
            managers: Vec::new(),
        },
    }
}

fn judged(driver: &str, change: impl FnOnce(&mut Interface, &mut Host)) -> Report {
    judged_for(driver, None, change)
}

pub(super) fn judged_for(
    driver: &str,
    policy: Option<PolicyNeeds>,
    change: impl FnOnce(&mut Interface, &mut Host),
) -> Report {
    let mut reading = healthy(driver);
    let interface = reading.interface.as_mut().expect("healthy() has one");
    change(interface, &mut reading.host);
    judge(
        "eth0",
        &reading,
        &Options {
            policy,
            ..Options::default()
        },
    )
}

fn check<'a>(report: &'a Report, id: &str) -> &'a Check {
    report
        .checks
        .iter()
        .find(|check| check.id == id)
        .unwrap_or_else(|| panic!("no {id} check"))
}

/// The check has this status, and what was seen and the advice together mention these words.
#[track_caller]
pub(super) fn assert_check(report: &Report, id: &str, status: Status, words: &[&str]) {
    let check = check(report, id);
    let text = format!(
        "{} {}",
        check.seen,
        check.advice.as_deref().unwrap_or_default()
    );
    assert_eq!(check.status, status, "{id}: {text}");
    for word in words {
        assert!(
            text.contains(word),
            "{id} does not mention {word:?}: {text}"
        );
    }
    if status != Status::Ok {
        assert!(check.advice.is_some(), "{id}: a finding without advice");
    }
}

#[test]
fn healthy_host_has_no_findings() {
    for driver in ["virtio_net", "veth", "ice", "ena"] {
        let report = judged(driver, |_, _| {});
        assert_eq!(
            report.worst(),
            Status::Ok,
            "{}",
            render_text(&report, false)
        );
    }
}

#[test]
fn ena_wants_small_mtu_and_half_of_the_channels() {
    let report = judged("ena", |interface, _| {
        interface.mtu = 9001;
        interface.driver = Ok(Driver {
            name: "ena".to_owned(),
            version: "6.12.0-1-amd64".to_owned(),
        });
        interface.channels = Ok(Channels {
            combined: 8,
            max_combined: 8,
            ..Channels::default()
        });
    });
    assert_check(
        &report,
        "mtu",
        Status::Fail,
        &["9001", "3498", "ip link set dev eth0 mtu 3498"],
    );
    assert_check(
        &report,
        "queues",
        Status::Fail,
        &["ethtool -L eth0 combined 4"],
    );
    assert_check(&report, "driver", Status::Ok, &["link down"]);

    let separate = judged("ena", |interface, _| {
        interface.driver = Ok(Driver {
            name: "ena".to_owned(),
            version: "2.13.0g".to_owned(),
        });
        interface.channels = Ok(Channels {
            combined: 8,
            max_combined: 8,
            ..Channels::default()
        });
    });
    assert_check(
        &separate,
        "queues",
        Status::Warn,
        &["ethtool -L eth0 combined 4"],
    );
}

#[test]
fn jumbo_frames_pass_where_the_driver_takes_several_buffers() {
    // BASIC and RX_SG
    let told = judged("unheard_of", |interface, _| {
        interface.mtu = 9000;
        interface.xdp_features = Ok(Some(0b10_0001));
    });
    assert_check(&told, "mtu", Status::Ok, &["9000"]);
    // Before 6.3 by the table: veth since 5.18, virtio_net since 6.3.
    let old = |_: &mut Interface, host: &mut Host| "6.1.0-32".clone_into(&mut host.release);
    let veth = judged("veth", |interface, host| {
        old(interface, host);
        interface.mtu = 9000;
        interface.xdp_features = Ok(None);
    });
    assert_check(&veth, "mtu", Status::Ok, &[]);
    let virtio = judged("virtio_net", |interface, host| {
        old(interface, host);
        interface.mtu = 9000;
        interface.xdp_features = Ok(None);
    });
    assert_check(&virtio, "mtu", Status::Fail, &["mtu 3506"]);
    let nobody_knows = judged("unheard_of", |interface, _| interface.mtu = 9000);
    assert_check(&nobody_knows, "mtu", Status::Warn, &["mtu 1500"]);
}

#[test]
fn native_mode_is_judged_by_the_kernel_first() {
    let none = |interface: &mut Interface, _: &mut Host| interface.xdp_features = Ok(Some(0));
    assert_check(
        &judged("e1000e", none),
        "native-xdp",
        Status::Fail,
        &["generic_xdp = true"],
    );
    let allowed = PolicyNeeds {
        generic_xdp: true,
        ..PolicyNeeds::default()
    };
    assert_check(
        &judged_for("e1000e", Some(allowed), none),
        "native-xdp",
        Status::Warn,
        &["generic mode will be used"],
    );
    let old = judged("gve", |interface, host| {
        interface.xdp_features = Ok(None);
        "6.1.0".clone_into(&mut host.release);
    });
    assert_check(&old, "native-xdp", Status::Fail, &["since Linux 6.4"]);
    let untold = judged("e1000e", |interface, _| interface.xdp_features = Ok(None));
    assert_check(&untold, "native-xdp", Status::Warn, &["not known"]);
}

#[test]
fn foreign_program_is_named_and_own_is_not_an_obstacle() {
    let place = |program: Program, mode| {
        judged("ice", move |interface, _| {
            interface.xdp = vec![Xdp { mode, program }];
        })
    };
    let foreign = Program {
        id: 42,
        name: "cil_xdp_entry".to_owned(),
        holders: vec!["cilium (77)".to_owned()],
        link: Some(9),
    };
    assert_check(
        &place(foreign, Mode::Native),
        "xdp-program",
        Status::Fail,
        &[
            "cil_xdp_entry",
            "42",
            "native",
            "cilium (77)",
            "bpftool link detach id 9",
        ],
    );
    let dispatcher = Program {
        id: 3,
        name: "xdp_dispatcher".to_owned(),
        ..Program::default()
    };
    assert_check(
        &place(dispatcher, Mode::Native),
        "xdp-program",
        Status::Fail,
        &["xdp-loader unload eth0 --all"],
    );
    let plain = Program {
        id: 4,
        ..Program::default()
    };
    assert_check(
        &place(plain, Mode::Generic),
        "xdp-program",
        Status::Fail,
        &["ip link set dev eth0 xdpgeneric off"],
    );
    let own = Program {
        id: 5,
        name: "edgefilter_xdp".to_owned(),
        ..Program::default()
    };
    assert_check(
        &place(own, Mode::Native),
        "xdp-program",
        Status::Ok,
        &["this filter's"],
    );
}

#[test]
fn queue_rules_of_the_clouds() {
    let gve = judged("gve", |interface, _| {
        interface.channels = Ok(Channels {
            rx: 8,
            tx: 8,
            max_rx: 8,
            max_tx: 8,
            ..Channels::default()
        });
    });
    assert_check(&gve, "queues", Status::Fail, &["ethtool -L eth0 rx 4 tx 4"]);
    let full = Ok(Channels {
        combined: 64,
        max_combined: 64,
        ..Channels::default()
    });
    let virtio = judged("virtio_net", |interface, _| {
        interface.channels = full.clone();
    });
    assert_check(&virtio, "queues", Status::Ok, &["no spare queue"]);
    let old = judged("virtio_net", |interface, host| {
        interface.channels = full;
        "5.10.0".clone_into(&mut host.release);
    });
    assert_check(&old, "queues", Status::Fail, &["ethtool -L eth0 combined"]);
    let bnxt = judged("bnxt_en", |interface, _| {
        interface.channels = Ok(Channels {
            rx: 4,
            tx: 4,
            ..Channels::default()
        });
    });
    assert_check(&bnxt, "queues", Status::Fail, &["rx 0 tx 0 combined 4"]);
}

#[test]
fn offloads_that_get_in_the_way() {
    let on = Offload {
        on: true,
        fixed: false,
    };
    let fixed = Offload {
        on: true,
        fixed: true,
    };
    let lro = |driver: &str| {
        judged(driver, |i, _| {
            i.offloads = Ok(Offloads {
                lro: on,
                ..Offloads::default()
            });
        })
    };
    assert_check(
        &lro("mlx5_core"),
        "lro",
        Status::Fail,
        &["ethtool -K eth0 lro off"],
    );
    assert_check(
        &lro("vmxnet3"),
        "lro",
        Status::Warn,
        &["ethtool -K eth0 lro off"],
    );

    let tags = |policy, offload| {
        judged_for("ice", policy, |i, _| {
            i.offloads = Ok(Offloads {
                rx_vlan: offload,
                ..Offloads::default()
            });
        })
    };
    let vlans = Some(PolicyNeeds {
        vlans: true,
        ..PolicyNeeds::default()
    });
    assert_check(
        &tags(vlans.clone(), on),
        "rx-vlan-offload",
        Status::Warn,
        &["rxvlan off"],
    );
    assert_check(
        &tags(vlans, fixed),
        "rx-vlan-offload",
        Status::Warn,
        &["cannot switch it off"],
    );
    let plain = Some(PolicyNeeds::default());
    assert_check(
        &tags(plain, on),
        "rx-vlan-offload",
        Status::Ok,
        &["no `vlans`"],
    );

    let gro = |driver: &str, offload| {
        judged(driver, |i, _| {
            i.offloads = Ok(Offloads {
                gro_hw: offload,
                ..Offloads::default()
            });
        })
    };
    assert_check(
        &gro("virtio_net", fixed),
        "gro-hw",
        Status::Fail,
        &["guest_tso4"],
    );
    assert_check(&gro("virtio_net", on), "gro-hw", Status::Ok, &[]);
    assert_check(
        &gro("mlx5_core", on),
        "gro-hw",
        Status::Warn,
        &["rx-gro-hw off"],
    );
}

#[test]
fn links_that_are_the_wrong_place() {
    let vlan = judged("802.1Q VLAN Support", |i, _| {
        i.kind = Some("vlan".to_owned());
        i.lower = Some("ens5".to_owned());
    });
    assert_check(
        &vlan,
        "interface",
        Status::Warn,
        &["edgefilter doctor ens5"],
    );
    let down = judged("ice", |i, _| i.up = false);
    assert_check(
        &down,
        "interface",
        Status::Warn,
        &["ip link set dev eth0 up"],
    );
    let port = judged("ice", |i, _| i.controller = Some("bond0".to_owned()));
    assert_check(&port, "interface", Status::Ok, &["bond0"]);
}

#[test]
fn other_programs_at_egress_are_listed() {
    let report = judged("ice", |i, _| {
        let program = Program {
            id: 8,
            name: "shaper".to_owned(),
            ..Program::default()
        };
        i.egress = Ok(vec![Egress {
            hook: "clsact",
            program,
            priority: Some(1),
        }]);
    });
    assert_check(
        &report,
        "egress-programs",
        Status::Warn,
        &["shaper", "priority 1", "bpftool net"],
    );
}

#[test]
fn unknown_interface_suggests_and_still_judges_the_host() {
    let mut reading = healthy("ice");
    reading.interface = None;
    let report = judge("eth1", &reading, &Options::default());
    assert_check(
        &report,
        "interface",
        Status::Fail,
        &["did you mean eth0?", "lo, eth0"],
    );
    assert_check(&report, "kernel", Status::Ok, &[]);
    assert_eq!(report.worst(), Status::Fail);
}

#[test]
fn old_kernels_and_missing_rights() {
    let no_tcx = judged("ice", |_, host| {
        "6.1.0".clone_into(&mut host.release);
        host.features = Err("no BTF".to_owned());
    });
    assert_check(&no_tcx, "kernel", Status::Ok, &["clsact in place of TCX"]);
    assert_check(&no_tcx, "btf", Status::Fail, &["CONFIG_DEBUG_INFO_BTF"]);
    let backported = judged("ice", |_, host| {
        "5.14.0-503.el9".clone_into(&mut host.release);
        host.features = Ok(BTreeSet::from([
            Feature::XdpFrags,
            Feature::RingBuffer,
            Feature::XdpLink,
        ]));
    });
    assert_check(&backported, "kernel", Status::Ok, &["xdp.frags"]);
    let old = judged("ice", |_, host| {
        "5.10.0".clone_into(&mut host.release);
        host.features = Ok(BTreeSet::from([Feature::RingBuffer, Feature::XdpLink]));
    });
    assert_check(&old, "kernel", Status::Fail, &["Linux 5.18 or newer"]);
    assert_check(&old, "memlock", Status::Fail, &["ulimit -l unlimited"]);

    let user = judged("ice", |_, host| {
        host.capabilities = Ok(0);
        host.bpffs = Ok(false);
        host.landlock = Err("Function not implemented".to_owned());
        host.jit = Ok(0);
        host.memory = Ok(1 << 20);
    });
    assert_check(&user, "sandbox", Status::Warn, &["no Landlock", "lsm="]);
    assert_check(
        &user,
        "privileges",
        Status::Fail,
        &["CAP_NET_ADMIN", "CAP_BPF", "sudo"],
    );
    assert_check(
        &user,
        "bpffs",
        Status::Fail,
        &["mount -t bpf bpf /sys/fs/bpf"],
    );
    assert_check(&user, "jit", Status::Warn, &["bpf_jit_enable=1"]);
    assert_check(&user, "memory", Status::Fail, &["1 MiB available"]);
}

#[test]
fn text_and_json() {
    let report = judged("ena", |interface, _| interface.mtu = 9001);
    let text = render_text(&report, false);
    assert!(text.contains("fail  mtu "), "{text}");
    assert!(text.contains("-> ip link set dev eth0 mtu 3498"), "{text}");
    assert!(text.ends_with("0 warn, 1 fail\n"), "{text}");
    assert!(!text.contains('\x1b'));
    assert!(render_text(&report, true).contains("\x1b[31mfail"));
    let json = serde_json::to_value(&report).expect("serialisable");
    assert_eq!(json["checks"][4]["id"], "mtu");
    assert_eq!(json["checks"][4]["status"], "fail");
}
