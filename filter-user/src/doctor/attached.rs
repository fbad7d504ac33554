//! Which BPF programs sit on the interface, with their names and who holds them. Owns the look-up
//! in the kernel's list of programs; it never opens a program for anything but its description.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use aya::programs::tc::TcAttachType;
use aya::programs::{SchedClassifier, loaded_programs};
use netlink_packet_route::link::{LinkXdp, XdpAttached};
use netlink_packet_route::tc::{TcAttribute, TcFilterBpfOption, TcMessage, TcOption};

use super::netlink;
use super::reading::{Egress, Mode, Program, Read, Xdp};

/// Names of the loaded programs by id. Empty without CAP_SYS_ADMIN, which the kernel asks for.
pub(super) fn program_names() -> HashMap<u32, String> {
    loaded_programs()
        .filter_map(Result::ok)
        .map(|program| {
            (
                program.id(),
                String::from_utf8_lossy(program.name()).into_owned(),
            )
        })
        .collect()
}

/// The programs in the `IFLA_XDP` attribute of a link.
pub(super) fn xdp(attributes: &[LinkXdp], names: &HashMap<u32, String>) -> Vec<Xdp> {
    let mut found = Vec::new();
    let mut single = None;
    let mut attached = XdpAttached::None;
    for attribute in attributes {
        match attribute {
            LinkXdp::DrvProgId(id) => found.push((Mode::Native, *id)),
            LinkXdp::SkbProgId(id) => found.push((Mode::Generic, *id)),
            LinkXdp::HwProgId(id) => found.push((Mode::Offloaded, *id)),
            LinkXdp::ProgId(id) => single = Some(*id),
            LinkXdp::Attached(mode) => attached = *mode,
            _ => {}
        }
    }
    // Kernels before 4.20 give the one program without saying in its attribute where it sits.
    if let (true, Some(id)) = (found.is_empty(), single) {
        let mode = match attached {
            XdpAttached::SocketBuffer => Mode::Generic,
            XdpAttached::Hardware => Mode::Offloaded,
            _ => Mode::Native,
        };
        found.push((mode, id));
    }
    found
        .into_iter()
        .map(|(mode, id)| Xdp {
            mode,
            program: named(id, names),
        })
        .collect()
}

/// What runs at egress: TCX programs (Linux 6.6), then clsact filters by priority.
pub(super) fn egress(
    interface: &str,
    ifindex: u32,
    names: &HashMap<u32, String>,
) -> Read<Vec<Egress>> {
    let mut found = Vec::new();
    // An error means no TCX or no right to ask; the kernel check tells these apart.
    if let Ok((_, programs)) = SchedClassifier::query_tcx(interface, TcAttachType::Egress) {
        found.extend(programs.into_iter().map(|program| Egress {
            hook: "tcx",
            program: named(program.id(), names),
            priority: None,
        }));
    }
    let filters = netlink::egress_filters(ifindex).map_err(|error| error.to_string())?;
    found.extend(filters.iter().filter_map(|filter| clsact(filter, names)));
    Ok(found)
}

/// `None` for the headers without options that the kernel lists per priority.
pub(super) fn clsact(filter: &TcMessage, names: &HashMap<u32, String>) -> Option<Egress> {
    let mut kind = None;
    let mut program = Program::default();
    let mut has_options = false;
    for attribute in &filter.attributes {
        match attribute {
            TcAttribute::Kind(name) => kind = Some(name.clone()),
            TcAttribute::Options(options) => {
                has_options = true;
                for option in options {
                    match option {
                        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => {
                            program.name.clone_from(name);
                        }
                        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => program.id = *id,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if !has_options {
        return None;
    }
    if let Some(name) = names.get(&program.id) {
        // tc's own name is "file.o:[section]"; the kernel's is what `bpftool prog` shows.
        program.name.clone_from(name);
    } else if program.name.is_empty() {
        program.name = kind.unwrap_or_else(|| "filter".to_owned());
    }
    // The upper half of tcm_info is the priority, include/net/pkt_cls.h
    let priority = u16::try_from(filter.header.info >> 16).ok();
    Some(Egress {
        hook: "clsact",
        program,
        priority,
    })
}

fn named(id: u32, names: &HashMap<u32, String>) -> Program {
    Program {
        id,
        name: names.get(&id).cloned().unwrap_or_default(),
        ..Program::default()
    }
}

/// Adds the processes that hold the program, and the bpf_link that keeps it in place. Both are
/// found in the descriptors' `fdinfo`; a link that is only pinned is not seen here.
pub(super) fn add_holders(program: &mut Program, proc: &Path) {
    let Ok(processes) = fs::read_dir(proc) else {
        return;
    };
    for process in processes.filter_map(Result::ok) {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fdinfo")) else {
            continue;
        };
        let mut holds = false;
        for descriptor in descriptors.filter_map(Result::ok) {
            let Ok(text) = fs::read_to_string(descriptor.path()) else {
                continue;
            };
            if let Some(holder) = held(&text, program.id) {
                holds = true;
                program.link = program.link.or(holder.link);
            }
        }
        if holds {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            program.holders.push(format!("{} ({pid})", name.trim()));
        }
    }
}

/// A descriptor that keeps a program: of the program itself, or of the link with this id.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub link: Option<u32>,
}

/// Whether an `fdinfo` text is about this program.
pub(super) fn held(fdinfo: &str, program: u32) -> Option<Holder> {
    let field = |wanted: &str| {
        fdinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == wanted)
                .then(|| value.trim().parse::<u32>().ok())
                .flatten()
        })
    };
    (field("prog_id") == Some(program)).then(|| Holder {
        link: field("link_id"),
    })
}
