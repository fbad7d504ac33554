//! A binding in the making, within the limits. Nothing is claimed that does not get in. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

use super::claims::Claims;
use super::link_local::eui64;
use super::{Binding, Bound, MAX_BOUND_MACS, Mac, Origin};
use crate::policy::MAX_BOUND_ADDRESSES;

/// Most remarks that are kept of one link: a container may give cause for as many as it likes.
const MAX_REMARKS: usize = 8;

pub(super) struct List {
    ifindex: u32,
    bound: Bound,
    remarks: Vec<String>,
    /// Remarks beyond the limit.
    more: usize,
}

impl List {
    pub(super) fn new(origin: Origin, ifindex: u32) -> Self {
        Self {
            ifindex,
            bound: Bound {
                origin,
                macs: Vec::new(),
                v4: Vec::new(),
                v6: Vec::new(),
            },
            remarks: Vec::new(),
            more: 0,
        }
    }

    pub(super) fn remark(&mut self, text: String) {
        if self.remarks.len() < MAX_REMARKS {
            self.remarks.push(text);
        } else {
            self.more += 1;
        }
    }

    /// Counts things that were not even looked at.
    pub(super) fn left_out(&mut self, count: usize) {
        self.more += count;
    }

    /// What the policy says is not asked for twice.
    pub(super) fn write_mac(&mut self, mac: Mac) {
        if !self.bound.macs.contains(&mac) {
            self.bound.macs.push(mac);
        }
    }

    /// See [`List::write_mac`]; the policy's limit is the same.
    pub(super) fn write(&mut self, net: IpNet) {
        match net {
            IpNet::V4(net) => self.bound.v4.push(net),
            IpNet::V6(net) => self.bound.v6.push(net),
        }
    }

    pub(super) fn take_mac(&mut self, claims: &mut Claims<'_>, mac: Mac) {
        if self.bound.macs.contains(&mac) {
            return;
        }
        let taken = if self.bound.macs.len() < MAX_BOUND_MACS {
            claims.take_mac(self.ifindex, mac)
        } else {
            Err(format!(
                "a MAC refused: more than {MAX_BOUND_MACS} on one link"
            ))
        };
        match taken {
            Ok(()) => self.bound.macs.push(mac),
            Err(reason) => self.remark(reason),
        }
    }

    pub(super) fn take(&mut self, claims: &mut Claims<'_>, ip: IpAddr) {
        let net = IpNet::from(ip);
        let (version, length, known) = match net {
            IpNet::V4(net) => (4, self.bound.v4.len(), self.bound.v4.contains(&net)),
            IpNet::V6(net) => (6, self.bound.v6.len(), self.bound.v6.contains(&net)),
        };
        if known {
            return;
        }
        let taken = if length < MAX_BOUND_ADDRESSES {
            claims.take(self.ifindex, ip)
        } else {
            Err(format!(
                "{ip} refused: more than {MAX_BOUND_ADDRESSES} IPv{version} addresses on one link"
            ))
        };
        match taken {
            Ok(()) => self.write(net),
            Err(reason) => self.remark(reason),
        }
    }

    /// The addresses that the container's kernel makes of its MACs: no plugin and no policy names them, and without
    /// them there is no neighbour discovery.
    pub(super) fn take_link_local(
        &mut self,
        claims: &mut Claims<'_>,
        free: impl Fn(IpAddr) -> bool,
    ) {
        for mac in self.bound.macs.clone() {
            let ip = eui64(mac);
            let covered = self.bound.v6.iter().any(|net| net.contains(&ip));
            let room = self.bound.v6.len() < MAX_BOUND_ADDRESSES;
            if !covered && room && free(ip.into()) && claims.take(self.ifindex, ip.into()).is_ok() {
                self.write(IpAddr::V6(ip).into());
            }
        }
    }

    pub(super) fn has_mac(&self) -> bool {
        !self.bound.macs.is_empty()
    }

    pub(super) fn has_addresses(&self) -> bool {
        !(self.bound.v4.is_empty() && self.bound.v6.is_empty())
    }

    /// The binding; without a MAC there is none, and nothing stays claimed for it. Equal things compare as equal,
    /// whatever order they were asked for in.
    pub(super) fn finish(mut self, claims: &mut Claims<'_>) -> Binding {
        if self.more > 0 {
            self.remarks.push(format!("and {} more", self.more));
        }
        if !self.has_mac() {
            claims.release(self.ifindex);
            return Binding {
                bound: None,
                remarks: self.remarks,
            };
        }
        self.bound.macs.sort_unstable();
        self.bound.v4.sort_unstable();
        self.bound.v6.sort_unstable();
        Binding {
            bound: Some(self.bound),
            remarks: self.remarks,
        }
    }

    /// No binding after all: the remarks say why.
    pub(super) fn give_up(mut self, claims: &mut Claims<'_>) -> Binding {
        self.bound.macs.clear();
        self.finish(claims)
    }
}
