//! Attaching. An outer interface gets XDP for what comes in and TCX (clsact before Linux 6.6) for what goes out; the
//! host's end of a container link gets TCX both ways, since XDP on a veth copies every large segment, or XDP for what the
//! container sends where the policy asks for that. Links are pinned,
//! so the filter outlives the daemon; a program is replaced on its link, never detached and attached again (some
//! drivers take the link down for that).
//!
//! Pins: `xdp-N`, `tcx-N` on an outer interface with index N; `send-N` or `xdp-N`, and `deliver-N` on a container link.
//! clsact filters can't be pinned: an empty directory `classic-N` says that they are there.

use std::fs;
use std::io;
use std::mem;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{LinkOrder, ProgramError, TcAttachType, tc};

use super::link_info;
use super::load::{Dataplane, LoadError, TcProgram, XdpProgram};
use super::pins::{Pins, read_directory};

/// Priority and handle of our clsact filter: fixed, so that a later daemon finds its own.
const CLASSIC_PRIORITY: u16 = 0xef;
const CLASSIC_HANDLE: TcHandle = TcHandle::new(0, 0xef);
/// What begins the name of the mark for clsact filters.
const CLASSIC: &str = "classic";

/// How the program runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the stack, on an skb: works everywhere, costs several times as much.
    Generic,
    /// Both ways at the traffic control hooks, on an skb: container links.
    Tc,
}

impl Mode {
    /// For the label map.
    pub fn number(self) -> u32 {
        match self {
            Self::Native => 1,
            Self::Generic => 2,
            Self::Tc => 3,
        }
    }

    /// From the label map.
    pub fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Native),
            2 => Some(Self::Generic),
            3 => Some(Self::Tc),
            _ => None,
        }
    }
}

/// What was done for an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// It had no filter before.
    Fresh(Mode),
    /// The program on its link was replaced, or is the one that was there; the mode is as it was.
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
    /// A pin cannot be removed.
    #[error(transparent)]
    Pins(#[from] io::Error),
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

/// Where an interface stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Between this host and others.
    Outer,
    /// Between this host and one of its containers.
    Container,
}

/// What begins the names of the pins of a hook.
const XDP: &str = "xdp";

impl TcProgram {
    const fn pin(self) -> &'static str {
        match self {
            Self::Out => "tcx",
            Self::Send => "send",
            Self::Deliver => "deliver",
        }
    }

    const fn hook(self) -> TcAttachType {
        match self {
            Self::Out | Self::Deliver => TcAttachType::Egress,
            Self::Send => TcAttachType::Ingress,
        }
    }

    const fn side(self) -> &'static str {
        match self {
            Self::Out | Self::Deliver => "egress",
            Self::Send => "ingress",
        }
    }
}

impl Dataplane {
    /// Attaches a program that runs on an skb, or replaces it where it is attached already.
    pub fn attach_tc(
        &mut self,
        which: TcProgram,
        ifindex: u32,
        interface: &str,
    ) -> Result<(), AttachError> {
        let pin = self.pins.links().join(format!("{}-{ifindex}", which.pin()));
        let program = self.tc(which)?;
        let id = program.info().map_err(LoadError::program)?.id();
        if holds(&pin, ifindex, id) {
            return Ok(());
        }
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
        match program.attach_with_options(interface, which.hook(), order) {
            Ok(id) => {
                let link = program
                    .take_link(id)
                    .map_err(|error| kernel(interface, which.side(), error))?;
                pin_link(
                    FdLink::try_from(link)
                        .map_err(|error| kernel(interface, which.side(), error))?,
                    &pin,
                    interface,
                )
            }
            Err(error) if errno(&error) == Some(libc::EINVAL) => {
                self.attach_classic(which, ifindex, interface)
            }
            Err(error) => Err(kernel(interface, which.side(), error)),
        }
    }

    /// clsact, for kernels without TCX. The filter stays when its link value is forgotten.
    fn attach_classic(
        &mut self,
        which: TcProgram,
        ifindex: u32,
        interface: &str,
    ) -> Result<(), AttachError> {
        match tc::qdisc_add_clsact(interface) {
            Ok(()) => {}
            Err(tc::TcError::AlreadyAttached) => {}
            Err(tc::TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {
            }
            Err(error) => return Err(kernel(interface, which.side(), error)),
        }
        let mark = self.pins.links().join(format!("{CLASSIC}-{ifindex}"));
        fs::create_dir_all(&mark).map_err(|error| kernel(interface, which.side(), error))?;
        let program = self.tc(which)?;
        let options = NlOptions {
            priority: CLASSIC_PRIORITY,
            handle: CLASSIC_HANDLE,
            classid: None,
        };
        let id = match program.attach_with_options(
            interface,
            which.hook(),
            TcAttachOptions::Netlink(options),
        ) {
            Ok(id) => id,
            Err(_) => {
                // ours is there from before: replace the program in place
                let old = SchedClassifierLink::attached(
                    interface,
                    which.hook(),
                    CLASSIC_PRIORITY,
                    CLASSIC_HANDLE,
                    None,
                )
                .map_err(|error| kernel(interface, which.side(), error))?;
                program
                    .attach_to_link(old)
                    .map_err(|error| kernel(interface, which.side(), error))?
            }
        };
        mem::forget(
            program
                .take_link(id)
                .map_err(|error| kernel(interface, which.side(), error))?,
        );
        Ok(())
    }

    /// Takes off every program but these.
    pub fn keep_only(
        &self,
        ifindex: u32,
        interface: &str,
        xdp: bool,
        tc: &[TcProgram],
    ) -> io::Result<()> {
        let unwanted = TcProgram::ALL.iter().filter(|which| !tc.contains(which));
        let pins = unwanted.clone().map(|which| which.pin());
        for name in pins.chain((!xdp).then_some(XDP)) {
            let pin = self.pins.links().join(format!("{name}-{ifindex}"));
            if pin.exists() {
                fs::remove_file(&pin)?;
            }
        }
        if self.classic(ifindex).exists() {
            for which in unwanted {
                // an error says that it is not there, which is what is wanted
                let _ = tc::qdisc_detach_program(interface, which.hook(), which.name());
            }
        }
        Ok(())
    }

    fn classic(&self, ifindex: u32) -> std::path::PathBuf {
        self.pins.links().join(format!("{CLASSIC}-{ifindex}"))
    }

    /// Attaches a program that runs on a frame, or replaces it where it is attached already.
    pub fn attach_xdp(
        &mut self,
        which: XdpProgram,
        ifindex: u32,
        interface: &str,
        generic: bool,
    ) -> Result<Attached, AttachError> {
        let pin = self.pins.links().join(format!("{XDP}-{ifindex}"));
        let program = self.xdp(which)?;
        let id = program.info().map_err(LoadError::program)?.id();
        if holds(&pin, ifindex, id) {
            return Ok(Attached::Replaced);
        }
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

    /// Whether the interface has the programs of its side.
    pub fn is_attached(&self, ifindex: u32, side: Side) -> bool {
        let pinned = |name: &str| self.pins.links().join(format!("{name}-{ifindex}")).exists();
        match side {
            Side::Outer => pinned(XDP),
            Side::Container => {
                (pinned(TcProgram::Send.pin()) || pinned(XDP) || pinned(CLASSIC))
                    && (pinned(TcProgram::Deliver.pin()) || pinned(CLASSIC))
            }
        }
    }

    /// Forgets TCX links that hang in the air; true if there were any. Without TCX there are none to look at.
    pub fn forget_dead_tcx(&self) -> io::Result<bool> {
        let mut dead = false;
        for path in read_directory(&self.pins.links())? {
            let is_tcx = path.file_name().is_some_and(|name| {
                let name = name.to_string_lossy();
                TcProgram::ALL
                    .iter()
                    .any(|which| name.split('-').next() == Some(which.pin()))
            });
            if is_tcx && Some(link_info::held(&path)?.ifindex) != link_ifindex(&path) {
                tracing::error!(link = %path.display(), "the program was not attached any more");
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
            if alive(ifindex) {
                continue;
            }
            if path.is_dir() {
                detach_filters(ifindex);
                fs::remove_dir(&path)?;
            } else {
                fs::remove_file(&path)?;
            }
            if !gone.contains(&ifindex) {
                gone.push(ifindex);
            }
        }
        Ok(gone)
    }
}

/// Whether the link is alive and holds this program: replacing it by itself would cost an RCU grace period.
fn holds(pin: &Path, ifindex: u32, program: u32) -> bool {
    link_info::held(pin).is_ok_and(|held| held == link_info::Held { ifindex, program })
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

/// Removes our clsact filters, and the marks that say where they are.
pub(super) fn detach_classic(pins: &Pins) -> anyhow::Result<Vec<String>> {
    let mut gone = Vec::new();
    for path in read_directory(&pins.links())? {
        if path.is_dir()
            && let Some(ifindex) = link_ifindex(&path)
        {
            if detach_filters(ifindex) {
                gone.push(format!("clsact-{ifindex}"));
            }
            fs::remove_dir(&path)?;
        }
    }
    Ok(gone)
}

/// The interface's name; `None` if there is none with this index. (For such nix 0.31 answers with an empty name.)
#[must_use]
pub fn interface_name(ifindex: u32) -> Option<String> {
    let name = nix::net::if_::if_indextoname(ifindex).ok()?;
    Some(name.to_string_lossy().into_owned()).filter(|name| !name.is_empty())
}

/// Whether the interface had clsact filters of ours.
fn detach_filters(ifindex: u32) -> bool {
    let Some(name) = interface_name(ifindex) else {
        return false;
    };
    TcProgram::ALL
        .iter()
        .filter(|which| tc::qdisc_detach_program(&name, which.hook(), which.name()).is_ok())
        .count()
        > 0
}
