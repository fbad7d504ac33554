//! Equivalence classes of a line: positions that exactly the same members cover get the same class.

use std::collections::HashMap;
use std::hash::Hash;

use super::prefix::Range;

/// More classes than an answer can name.
#[derive(Debug, thiserror::Error)]
#[error("more than {limit} classes of {what}")]
pub struct TooManyClasses {
    /// Of what.
    pub what: &'static str,
    /// The limit.
    pub limit: usize,
}

/// Numbers sets of members; the empty set is class 0.
#[derive(Debug)]
pub(super) struct Classes {
    what: &'static str,
    numbers: HashMap<Vec<u32>, u16>,
    /// By class: the members, ascending.
    pub(super) members: Vec<Vec<u32>>,
}

impl Classes {
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            numbers: HashMap::from([(Vec::new(), 0)]),
            members: vec![Vec::new()],
        }
    }

    fn number(&mut self, members: &[u32]) -> Result<u16, TooManyClasses> {
        if let Some(&number) = self.numbers.get(members) {
            return Ok(number);
        }
        let limit = u16::MAX as usize;
        let number = u16::try_from(self.members.len()).map_err(|_| TooManyClasses {
            what: self.what,
            limit,
        })?;
        self.members.push(members.to_vec());
        self.numbers.insert(members.to_vec(), number);
        Ok(number)
    }
}

/// A stretch of the line, both ends included, that `member` covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stretch<K> {
    pub(super) first: K,
    pub(super) last: K,
    pub(super) member: u32,
}

/// A position on the line.
pub(super) trait Position: Copy + Ord + Hash {
    const ZERO: Self;
    /// The next position, `None` at the end of the line.
    fn next(self) -> Option<Self>;
    /// The position before, `None` at its beginning.
    fn before(self) -> Option<Self>;
}

macro_rules! position {
    ($($type:ty)*) => { $(impl Position for $type {
        const ZERO: Self = 0;
        fn next(self) -> Option<Self> { self.checked_add(1) }
        fn before(self) -> Option<Self> { self.checked_sub(1) }
    })* };
}
position!(u32 u128);

/// Cuts the line into ranges of one class each. Stretches of the same member must not overlap.
pub(super) fn cut<K: Position>(
    stretches: &[Stretch<K>],
    classes: &mut Classes,
) -> Result<Vec<Range<K>>, TooManyClasses> {
    // (position, member, begins); ends sort before beginnings at the same position, which does not matter
    let mut edges = Vec::with_capacity(stretches.len() * 2);
    for stretch in stretches {
        edges.push((stretch.first, stretch.member, true));
        if let Some(end) = stretch.last.next() {
            edges.push((end, stretch.member, false));
        }
    }
    edges.sort_unstable();
    let mut ranges: Vec<Range<K>> = vec![Range {
        start: K::ZERO,
        answer: 0,
    }];
    let mut active: Vec<u32> = Vec::new();
    let mut rest = edges.as_slice();
    while let Some(&(start, ..)) = rest.first() {
        let count = rest.iter().take_while(|edge| edge.0 == start).count();
        let (here, after) = rest.split_at(count);
        // a member may end and begin again at one position: leave first
        for &(_, member, _) in here.iter().filter(|edge| !edge.2) {
            if let Ok(at) = active.binary_search(&member) {
                active.remove(at);
            }
        }
        for &(_, member, _) in here.iter().filter(|edge| edge.2) {
            if let Err(at) = active.binary_search(&member) {
                active.insert(at, member);
            }
        }
        let answer = classes.number(&active)?;
        match ranges.last_mut() {
            Some(last) if last.start == start => last.answer = answer,
            Some(last) if last.answer == answer => {}
            _ => ranges.push(Range { start, answer }),
        }
        rest = after;
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_class_is_who_covers(raw in prop::collection::vec((0_u32..300, 0_u32..40, 0_u32..8), 0..40), at in 0_u32..400) {
            // one stretch a member and start, made disjoint by spacing the members out
            let mut stretches: Vec<Stretch<u32>> = Vec::new();
            for (first, length, member) in raw {
                let stretch = Stretch { first, last: first + length, member };
                if stretches.iter().all(|s| s.member != member || s.last < first || s.first > stretch.last) {
                    stretches.push(stretch);
                }
            }
            let mut classes = Classes::new("things");
            let ranges = cut(&stretches, &mut classes).unwrap();
            let answer = ranges.iter().rev().find(|range| range.start <= at).unwrap().answer;
            let mut expected: Vec<u32> =
                stretches.iter().filter(|s| s.first <= at && at <= s.last).map(|s| s.member).collect();
            expected.sort_unstable();
            prop_assert_eq!(&classes.members[answer as usize], &expected);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].start < pair[1].start && pair[0].answer != pair[1].answer));
        }
    }
}
