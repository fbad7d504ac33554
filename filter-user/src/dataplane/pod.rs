//! The shared structs as aya wants them: bytes that may be copied to and from the kernel.

use aya::Pod;
use filter_common::layout;

macro_rules! pods {
    ($($(#[$meta:meta])* $name:ident($inner:ty);)*) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        // SAFETY: the inner type is `repr(C)`, without padding (asserted where it is defined), made of integers only.
        unsafe impl Pod for $name {}
    )* };
}

pods! {
    /// See [`layout::InterfaceCounters`].
    InterfaceCounters(layout::InterfaceCounters);
    /// See [`layout::Counter`].
    Counter(layout::Counter);
    /// See [`layout::FlowKey`].
    FlowKey(layout::FlowKey);
    /// See [`layout::FlowState`].
    FlowState(layout::FlowState);
    /// See [`layout::FragmentKey`].
    FragmentKey(layout::FragmentKey);
    /// See [`layout::Address`].
    Address(layout::Address);
    /// See [`layout::Block`].
    Block(layout::Block);
    /// See [`layout::EntryKey`].
    EntryKey(layout::EntryKey);
    /// See [`layout::EntrySpans`].
    EntrySpans(layout::EntrySpans);
    /// See [`layout::CpuState`].
    CpuState(layout::CpuState);
    /// What a rule slot means: id, profile.
    RuleLabel([[u8; 64]; 2]);
    /// What an interface slot means.
    InterfaceLabel(InterfaceLabelFields);
}

/// An interface slot's meaning, for readers without a daemon.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct InterfaceLabelFields {
    /// Name, zero padded.
    pub name: [u8; 16],
    /// Profile, zero padded.
    pub profile: [u8; 64],
    /// Interface index, 0: the slot is free.
    pub ifindex: u32,
    /// [`super::Mode`] as a number.
    pub mode: u32,
}

/// Text as zero-padded bytes, cut if it is too long.
pub fn to_bytes<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes
        .iter_mut()
        .zip(text.bytes())
        .for_each(|(to, from)| *to = from);
    bytes
}

/// Zero-padded bytes as text.
pub fn to_text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
