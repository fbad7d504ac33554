//! What links were bound to before: who has an address keeps it. Pure.

use std::collections::BTreeMap;

use super::{Binding, Bound};
use crate::daemon::links::Links;

/// By index, with the name the link had then: another link may come by either.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct Former(BTreeMap<u32, (String, Bound)>);

impl Former {
    /// What these links are bound to.
    pub(in crate::daemon) fn of(links: &Links, bindings: &BTreeMap<u32, Binding>) -> Self {
        let bound = bindings.iter().filter_map(|(ifindex, binding)| {
            let bound = binding.bound.clone()?;
            Some((*ifindex, links.names.get(ifindex)?.clone(), bound))
        });
        bound.collect()
    }

    /// What a link was bound to, if it is still the same link.
    pub(super) fn get(&self, links: &Links, ifindex: u32) -> Option<&Bound> {
        let (name, bound) = self.0.get(&ifindex)?;
        (links.names.get(&ifindex) == Some(name)).then_some(bound)
    }
}

impl FromIterator<(u32, String, Bound)> for Former {
    fn from_iter<T: IntoIterator<Item = (u32, String, Bound)>>(list: T) -> Self {
        let list = list.into_iter();
        Self(
            list.map(|(ifindex, name, bound)| (ifindex, (name, bound)))
                .collect(),
        )
    }
}
