//! Attaching: XDP for what comes in, TCX (clsact before Linux 6.6) for what goes out. Links are pinned, so the filter
//! outlives the daemon; a program is replaced on its link, never detached and attached again (some drivers take the
//! link down for that).

use std::fs;
use std::io;
use std::mem;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{LinkOrder, ProgramError, TcAttachType, tc};

use super::link_info;
use super::load::{Dataplane, EGRESS, LoadError};
use super::pins::{Pins, read_directory};

/// Priority and handle of our clsact filter: fixed, so that a later daemon finds its own.
const CLASSIC_PRIORITY: u16 = 0xef;
const CLASSIC_HANDLE: TcHandle = TcHandle::new(0, 0xef);

/// How the program runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the stack, on an skb: works everywhere, costs several times as much.
    Generic,
}

impl Mode {
    /// For the label map.
    pub fn number(self) -> u32 {
        match self {
            Self::Native => 1,
            Self::Generic => 2,
        }
    }

    /// From the label map.
    pub fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Native),
            2 => Some(Self::Generic),
            _ => None,
        }
    }
}

/// What was done for an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// It had no filter before.
    Fresh(Mode),
    /// The program on its link was replaced; the mode is as it was.
    Replaced,
}

/// Why an interface has no filter.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Another XDP program is there.
    #[error(
        "{interface}: another XDP program is attached ({program}); edgefilter neither replaces it nor runs beside it: \
         remove it (ip link set dev {interface} xdp off) or leave the interface out of the policy"
    )]
    Foreign {
        /// Where.
        interface: String,
        /// Name and id.
        program: String,
    },
    /// The driver has no native XDP.
    #[error(
        "{interface}: the driver does not take the program in native mode ({reason}); see `edgefilter doctor {interface}`, \
         or set generic_xdp = true in its profile to accept the slower generic mode"
    )]
    NotNative {
        /// Where.
        interface: String,
        /// The kernel's error.
        reason: String,
    },
    /// `bpf_link` is not there, so that the filter could not outlive the daemon.
    #[error(
        "{interface}: the kernel attaches XDP without a link (Linux 5.9 and later have them), which cannot be pinned"
    )]
    NoLink {
        /// Where.
        interface: String,
    },
    /// Anything else.
    #[error("{interface}: cannot attach the {side} program")]
    Kernel {
        /// Where.
        interface: String,
        /// ingress or egress
        side: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The program is gone.
    #[error(transparent)]
    Load(#[from] LoadError),
}

fn kernel(
    interface: &str,
    side: &'static str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> AttachError {
    AttachError::Kernel {
        interface: interface.to_owned(),
        side,
        source: Box::new(error),
    }
}

impl Dataplane {
    /// Attaches the egress program, which only notes flows: before ingress, so that no flow is missed.
    pub fn attach_egress(&mut self, ifindex: u32, interface: &str) -> Result<(), AttachError> {
        let pin = self.pins.links().join(format!("tcx-{ifindex}"));
        let program = self.egress()?;
        if let Ok(pinned) = PinnedLink::from_pin(&pin) {
            if let Ok(link) = SchedClassifierLink::try_from(FdLink::from(pinned))
                && let Ok(id) = program.attach_to_link(link)
            {
                // the pin alone keeps it: a handle of ours would outlive `edgefilter detach`
                drop(program.take_link(id));
                return Ok(());
            }
            // the interface moved to another namespace or came back under the same index: the link is dead
            remove(&pin, interface)?;
        }
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        match program.attach_with_options(interface, TcAttachType::Egress, order) {
            Ok(id) => {
                let link = program
                    .take_link(id)
                    .map_err(|error| kernel(interface, "egress", error))?;
                pin_link(
                    FdLink::try_from(link).map_err(|error| kernel(interface, "egress", error))?,
                    &pin,
                    interface,
                )
            }
            Err(error) if errno(&error) == Some(libc::EINVAL) => self.attach_classic(interface),
            Err(error) => Err(kernel(interface, "egress", error)),
        }
    }

    /// clsact, for kernels without TCX. The filter stays when its link value is forgotten.
    fn attach_classic(&mut self, interface: &str) -> Result<(), AttachError> {
        match tc::qdisc_add_clsact(interface) {
            Ok(()) => {}
            Err(tc::TcError::AlreadyAttached) => {}
            Err(tc::TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {
            }
            Err(error) => return Err(kernel(interface, "egress", error)),
        }
        let program = self.egress()?;
        let options = NlOptions {
            priority: CLASSIC_PRIORITY,
            handle: CLASSIC_HANDLE,
            classid: None,
        };
        let id = match program.attach_with_options(
            interface,
            TcAttachType::Egress,
            TcAttachOptions::Netlink(options),
        ) {
            Ok(id) => id,
            Err(_) => {
                // ours is there from before: replace the program in place
                let old = SchedClassifierLink::attached(
                    interface,
                    TcAttachType::Egress,
                    CLASSIC_PRIORITY,
                    CLASSIC_HANDLE,
                    None,
                )
                .map_err(|error| kernel(interface, "egress", error))?;
                program
                    .attach_to_link(old)
                    .map_err(|error| kernel(interface, "egress", error))?
            }
        };
        mem::forget(
            program
                .take_link(id)
                .map_err(|error| kernel(interface, "egress", error))?,
        );
        Ok(())
    }

    /// Attaches the ingress program, or replaces it where it is attached already.
    pub fn attach_ingress(
        &mut self,
        ifindex: u32,
        interface: &str,
        generic: bool,
    ) -> Result<Attached, AttachError> {
        let pin = self.pins.links().join(format!("xdp-{ifindex}"));
        let program = self.ingress()?;
        if let Ok(pinned) = PinnedLink::from_pin(&pin) {
            if let Ok(link) = XdpLink::try_from(FdLink::from(pinned))
                && let Ok(id) = program.attach_to_link(link)
            {
                drop(program.take_link(id));
                return Ok(Attached::Replaced);
            }
            remove(&pin, interface)?;
        }
        let (id, mode) = match program.attach_to_if_index(ifindex, XdpMode::Driver) {
            Ok(id) => (id, Mode::Native),
            Err(error) if matches!(errno(&error), Some(libc::EBUSY | libc::EEXIST)) => {
                return Err(AttachError::Foreign {
                    interface: interface.to_owned(),
                    program: foreign(interface),
                });
            }
            Err(_) if generic => {
                let id = program
                    .attach_to_if_index(ifindex, XdpMode::Skb)
                    .map_err(|error| kernel(interface, "ingress", error))?;
                (id, Mode::Generic)
            }
            Err(error) => {
                let reason = errno(&error).map_or_else(
                    || error.to_string(),
                    |code| io::Error::from_raw_os_error(code).to_string(),
                );
                return Err(AttachError::NotNative {
                    interface: interface.to_owned(),
                    reason,
                });
            }
        };
        let link = program
            .take_link(id)
            .map_err(|error| kernel(interface, "ingress", error))?;
        // aya falls back to netlink silently; such a link ends with the process
        let link = FdLink::try_from(link).map_err(|_| AttachError::NoLink {
            interface: interface.to_owned(),
        })?;
        pin_link(link, &pin, interface)?;
        Ok(Attached::Fresh(mode))
    }

    /// Whether the interface has a pinned ingress link.
    pub fn is_attached(&self, ifindex: u32) -> bool {
        self.pins.links().join(format!("xdp-{ifindex}")).exists()
    }

    /// Forgets egress links that hang in the air; true if there were any. Without TCX there are none to look at.
    pub fn forget_dead_egress(&self) -> io::Result<bool> {
        let mut dead = false;
        for path in read_directory(&self.pins.links())? {
            let is_egress = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("tcx-"));
            if is_egress && Some(link_info::interface(&path)?) != link_ifindex(&path) {
                tracing::error!(link = %path.display(), "the egress program was not attached any more");
                fs::remove_file(&path)?;
                dead = true;
            }
        }
        Ok(dead)
    }

    /// Forgets the links of interfaces that are gone.
    pub fn forget_links(&self, alive: impl Fn(u32) -> bool) -> io::Result<Vec<u32>> {
        let mut gone = Vec::new();
        for path in read_directory(&self.pins.links())? {
            let Some(ifindex) = link_ifindex(&path) else {
                continue;
            };
            if !alive(ifindex) {
                fs::remove_file(&path)?;
                gone.push(ifindex);
            }
        }
        Ok(gone)
    }
}

fn link_ifindex(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.split_once('-')?.1.parse().ok()
}

fn pin_link(link: FdLink, pin: &Path, interface: &str) -> Result<(), AttachError> {
    link.pin(pin)
        .map(drop)
        .map_err(|error| kernel(interface, "pinned", error))
}

fn remove(pin: &Path, interface: &str) -> Result<(), AttachError> {
    fs::remove_file(pin).map_err(|error| kernel(interface, "old", error))
}

fn errno(error: &ProgramError) -> Option<i32> {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(current) = source {
        if let Some(io) = current.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        if let Some(call) = current.downcast_ref::<aya::sys::SyscallError>() {
            return call.io_error.raw_os_error();
        }
        source = current.source();
    }
    None
}

/// What is known of the program on an interface.
fn foreign(interface: &str) -> String {
    crate::doctor::xdp_program(interface).unwrap_or_else(|| "unknown".to_owned())
}

/// Removes our clsact filters; there is no pin for them, so every link that could have one is asked.
pub(super) fn detach_classic(pins: &Pins) -> anyhow::Result<Vec<String>> {
    let mut gone = Vec::new();
    for path in read_directory(&pins.links())? {
        let Some(ifindex) = link_ifindex(&path) else {
            continue;
        };
        let Ok(name) = nix::net::if_::if_indextoname(ifindex) else {
            continue;
        };
        let name = name.to_string_lossy().into_owned();
        if pins.links().join(format!("tcx-{ifindex}")).exists() {
            continue;
        }
        if tc::qdisc_detach_program(&name, TcAttachType::Egress, EGRESS).is_ok() {
            gone.push(format!("clsact-{ifindex}"));
        }
    }
    Ok(gone)
}
