//! What the packet filter decides, and the memory both sides share.
//!
//! Pure: no I/O, no clock, no allocation, no `unsafe`. The BPF program and the host tests run this same code; the
//! only difference is who implements [`packet::Packet`] and [`verdict::Tables`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod entry;
pub mod event;
pub mod extension;
pub mod flow;
pub mod judgement;
pub mod layout;
pub mod limits;
pub mod matrix;
pub mod packet;
pub mod parse;
pub mod prefix;
pub mod quote;
pub mod rate;
pub mod reason;
pub mod row;
pub mod scan;
pub mod service;
pub mod verdict;
