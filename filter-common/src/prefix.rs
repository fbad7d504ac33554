//! The prefix table's layout and its look-up, for the BPF program and the host alike.
//! Pure: the caller fetches root words and cells. Never builds a table, never panics.
//!
//! # Range cells
//!
//! Prefixes are flattened to disjoint ranges, so a look-up is "how many ranges end before this
//! address". A root indexed by the leading 16 bits leaves a handful of ranges to choose among, and
//! they lie in one 64-byte cell, a cache line: on a set that exceeds the caches, the cost of a
//! look-up is the number of lines it touches, and almost every IPv4 address is settled by two.
//! (The idea of searching ranges instead of prefix bits: Lampson, Srinivasan, Varghese, "IP lookups
//! using multiway and multicolumn search", 1999. The direct root is DIR-24-8's, Gupta et al. 1998,
//! made small enough to stay in the second-level cache.)
//!
//! A cell holds the *last* value of each of its ranges but the final one, ascending, padded with
//! all ones. The rank of `x` is the number of lasts below `x`; a padding key is never below
//! anything, so no length is stored. What the root leaves of an IPv6 address is taken as four 32-bit
//! digits, one cell (or a small tree of cells) for each digit that tells prefixes apart, since keys
//! of 128 bits would leave three ranges to a line. The digits begin where the root ends: the first
//! one of a global address is its bits 19 to 50, which is as far as most prefixes go.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | bit 31 clear | an answer, in the low 16 bits |
//! | bit 31 set | a pointer: bits 26-29 = k, bits 0-25 = index of the first of 2^k cells, of which the next k bits of the address choose one |
//! | bits 31, 30 set | IPv6 cells only: the same, but the child looks at the same digit again (k = 0) |
//!
//! # Sharing a cell pool
//!
//! Indexes are absolute in the pool, so two root banks may point into one pool. A cell that a
//! published root can reach must not be written; its room is free again only after an RCU grace
//! period has passed since the root word was replaced.
//!
//! # Alignment
//!
//! Create the cell arrays with `BPF_F_MMAPABLE`: the kernel then starts the values on a page
//! (`array_map_alloc` in kernel/bpf/arraymap.c), and each cell is exactly one line. Without it the
//! values follow the map's header and every cell straddles two.

/// What a range means; the policy compiler chooses the numbers.
pub type Answer = u16;

/// Words in the IPv4 root: one for each /16.
pub const ROOT4_LEN: usize = 1 << 16;
/// Words in the IPv6 root: one for each /19 inside 2000::/3, then one for each /3 of the space
/// (the second of those is never read).
pub const ROOT6_LEN: usize = (1 << 16) + 8;

/// Set in a word that points at cells instead of holding an answer.
pub const POINTER: u32 = 1 << 31;
/// Set as well in an IPv6 pointer whose child looks at the same 32-bit digit.
pub const SAME_DIGIT: u32 = 1 << 30;
/// Where a pointer's k begins.
pub const SPLIT_SHIFT: u32 = 26;
/// Cells that a pointer can tell apart.
pub const MAX_CELLS: usize = 1 << SPLIT_SHIFT;
/// The largest k written: 4,096 cells, which leave 16 addresses a cell in a /16.
pub const MAX_SPLIT: u32 = 12;

/// Ranges in one IPv4 cell.
pub const CELL4_RANGES: usize = 16;
/// Ranges in one IPv6 cell.
pub const CELL6_RANGES: usize = 8;
/// Most cells read for one IPv4 address: a /16 can always be split so that no part of it exceeds
/// 16 * 16 ranges (at k = 8 a part has 256 addresses), hence one inner cell and one leaf.
pub const MAX_DEPTH4: usize = 2;
/// Names how addresses are cut into digits, for the layout hash of pinned tables.
pub const ENCODING: &str = "ipv6 digits from the end of the root on";
/// Most cells read for one IPv6 address: 8 levels of cells, 8^8 ranges, in each of the four digits.
/// No table of fewer than eight million ranges can need more; the builder refuses one that does.
pub const MAX_DEPTH6: usize = 32;

const INDEX_MASK: u32 = (1 << SPLIT_SHIFT) - 1;
const SPLIT_MASK: u32 = 15;

/// Up to 16 IPv4 ranges within a /16, one cache line.
///
/// `lasts` packs 15 16-bit lasts and, in the topmost lane, a tag: 0 for a leaf, 1 for an inner
/// cell, whose children are consecutive and whose first child's index is in `answers[0..2]`.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell4 {
    lasts: [u64; 4],
    answers: [Answer; CELL4_RANGES],
}

/// Up to 8 IPv6 ranges of one 32-bit digit, one cache line. `words` are answers or pointers.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell6 {
    lasts: [u32; CELL6_RANGES - 1],
    unused: u32,
    words: [u32; CELL6_RANGES],
}

const _: () = assert!(size_of::<Cell4>() == 64 && size_of::<Cell6>() == 64);

/// The word that points at 2^`split` cells from `first` on.
#[inline(always)]
pub const fn pointer(first: u32, split: u32) -> u32 {
    POINTER | (split & SPLIT_MASK) << SPLIT_SHIFT | first & INDEX_MASK
}

/// Whether a word points at cells, and is no answer.
#[inline(always)]
pub const fn is_pointer(word: u32) -> bool {
    word & POINTER != 0
}

/// Looks up an IPv4 address (host order), given its root word, the one at `address >> 16`.
///
/// None only if the table is inconsistent (a cell is missing, or lies too deep): fail closed.
#[inline(always)]
pub fn lookup4<'a>(
    root_word: u32,
    address: u32,
    cell: impl Fn(u32) -> Option<&'a Cell4>,
) -> Option<Answer> {
    if root_word & POINTER == 0 {
        return Some(root_word as Answer);
    }
    let low = address & 0xffff;
    let split = (root_word >> SPLIT_SHIFT) & SPLIT_MASK;
    let mut index = (root_word & INDEX_MASK) + (low >> (16 - split));
    // Unrolled by hand (MAX_DEPTH4): the verifier walks two short paths and no loop.
    let first = cell(index)?;
    let rank = first.rank(low);
    if !first.is_inner() {
        return Some(first.answers[rank]);
    }
    index = first.first_child().wrapping_add(rank as u32);
    let second = cell(index)?;
    if second.is_inner() {
        return None;
    }
    Some(second.answers[second.rank(low)])
}

/// Index into the IPv6 root for the address whose upper half is `hi`; below [`ROOT6_LEN`].
///
/// Global unicast (2000::/3) is where the prefixes are, so it gets bits 3 to 18.
#[inline(always)]
pub fn root6_index(hi: u64) -> u32 {
    if root6_bits(hi) == 19 {
        (hi >> 45) as u32 & 0xffff
    } else {
        (1 << 16) + (hi >> 61) as u32
    }
}

/// Leading bits of an address that its root word stands for; the digits are made of the rest.
#[inline(always)]
pub const fn root6_bits(hi: u64) -> u32 {
    if hi >> 61 == 1 { 19 } else { 3 }
}

/// Looks up the IPv6 address `hi`:`lo` (host order), given its root word, the one at
/// [`root6_index`]. Takes scalars only, so the caller can make a BPF subprogram of it.
///
/// None only if the table is inconsistent (a cell is missing, or lies too deep): fail closed.
#[inline(always)]
pub fn lookup6<'a>(
    root_word: u32,
    hi: u64,
    lo: u64,
    cell: impl Fn(u32) -> Option<&'a Cell6>,
) -> Option<Answer> {
    if root_word & POINTER == 0 {
        return Some(root_word as Answer);
    }
    let used = root6_bits(hi);
    let (mut hi, mut lo) = (hi << used | lo >> (64 - used), lo << used);
    let mut digit = hi >> 32;
    let split = u64::from((root_word >> SPLIT_SHIFT) & SPLIT_MASK);
    let mut index = (root_word & INDEX_MASK) + (digit >> (32 - split)) as u32;
    // A 64-bit counter: a 32-bit one, spilled beside `index`, has read as an endless loop to the
    // verifier.
    for _ in 0..MAX_DEPTH6 as u64 {
        let found = cell(index)?;
        let word = found.words[found.rank(digit)];
        if word & POINTER == 0 {
            return Some(word as Answer);
        }
        // On to the next digit, unless SAME_DIGIT: a shift by 32 or by 0 rather than a choice,
        // since LLVM makes a branch of a choice and the verifier then walks 2^depth paths.
        let step = u64::from(!word & SAME_DIGIT) >> 25;
        hi = hi << step | (lo >> 1) >> (63 - step);
        lo <<= step;
        digit = hi >> 32;
        let split = u64::from((word >> SPLIT_SHIFT) & SPLIT_MASK);
        index = (word & INDEX_MASK) + (digit >> (32 - split)) as u32;
    }
    None
}

// Both ranks add up the carries of `x + all ones - last`, which has one exactly if last < x: the bit
// above the key's width, for which lanes twice as wide leave a place. Written with comparisons, or
// as `(last - x) >> 63`, LLVM makes a branch for each key, BPF having no conditional move: slow, and
// too many paths for the verifier. This form it leaves alone, so no `asm!` barrier is needed (the
// verifier walks some 200 instructions for IPv4 and 2,600 for IPv6: count them in a test). The mask
// at a rank's end is what bounds it for the verifier; no bound hangs on a 32-bit OR of two unknowns,
// after which Linux 6.1 knows none.

impl Cell4 {
    const EVEN: u64 = 0x0000_ffff_0000_ffff;
    const CARRY: u64 = 0x0001_0000_0001_0000;

    /// A leaf: each range's last value but the final one's, and the answers. Surplus is ignored.
    pub fn leaf(
        lasts: impl IntoIterator<Item = u16>,
        answers: impl IntoIterator<Item = Answer>,
    ) -> Self {
        let mut cell = Self {
            lasts: Self::pack(lasts, 0),
            answers: [0; CELL4_RANGES],
        };
        cell.answers
            .iter_mut()
            .zip(answers)
            .for_each(|(slot, answer)| *slot = answer);
        cell
    }

    /// An inner cell whose children are `first_child` and those that follow it.
    pub fn inner(lasts: impl IntoIterator<Item = u16>, first_child: u32) -> Self {
        let mut cell = Self {
            lasts: Self::pack(lasts, 1),
            answers: [0; CELL4_RANGES],
        };
        cell.answers[0] = first_child as u16;
        cell.answers[1] = (first_child >> 16) as u16;
        cell
    }

    fn pack(lasts: impl IntoIterator<Item = u16>, tag: u64) -> [u64; 4] {
        let mut words = [u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 16 | tag << 48];
        for (lane, last) in lasts.into_iter().take(CELL4_RANGES - 1).enumerate() {
            let shift = 16 * (lane % 4);
            words[lane / 4] &= !(0xffff << shift);
            words[lane / 4] |= u64::from(last) << shift;
        }
        words
    }

    #[inline(always)]
    fn is_inner(&self) -> bool {
        self.lasts[3] >> 48 != 0
    }

    #[inline(always)]
    fn first_child(&self) -> u32 {
        u32::from(self.answers[0]) | u32::from(self.answers[1]) << 16
    }

    /// How many lasts are below `x`, a 16-bit value. Two keys at a time in 32-bit lanes.
    #[inline(always)]
    fn rank(&self, x: u32) -> usize {
        let x = u64::from(x & 0xffff) + 0xffff;
        let x = x | x << 32;
        let below = |keys: u64| x.wrapping_sub(keys) & Self::CARRY;
        let four = |keys: u64| below(keys & Self::EVEN) + below(keys >> 16 & Self::EVEN);
        let mut carries = four(self.lasts[0]) + four(self.lasts[1]) + four(self.lasts[2]);
        // The topmost lane is the tag: leave its carry out.
        let keys = self.lasts[3];
        carries += below(keys & Self::EVEN) + (below(keys >> 16 & 0xffff) & 0x1_0000);
        ((carries >> 16) + (carries >> 48)) as usize & (CELL4_RANGES - 1)
    }
}

impl Cell6 {
    /// A cell: each range's last value but the final one's, and the words. Surplus is ignored.
    pub fn new(lasts: impl IntoIterator<Item = u32>, words: impl IntoIterator<Item = u32>) -> Self {
        let mut cell = Self {
            lasts: [u32::MAX; CELL6_RANGES - 1],
            unused: 0,
            words: [0; CELL6_RANGES],
        };
        cell.lasts
            .iter_mut()
            .zip(lasts)
            .for_each(|(slot, last)| *slot = last);
        cell.words
            .iter_mut()
            .zip(words)
            .for_each(|(slot, word)| *slot = word);
        cell
    }

    /// How many lasts are below `x`, a 32-bit value. Spelt out, so that no loop is left to unroll.
    #[inline(always)]
    fn rank(&self, x: u64) -> usize {
        let x = (x & 0xffff_ffff) + 0xffff_ffff;
        let below = |nth: usize| x.wrapping_sub(u64::from(self.lasts[nth])) & 1 << 32;
        let carries = below(0) + below(1) + below(2) + below(3) + below(4) + below(5) + below(6);
        (carries >> 32) as usize & (CELL6_RANGES - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use std::vec::Vec;

    fn ascending<T: Ord>(mut keys: Vec<T>) -> Vec<T> {
        keys.sort();
        keys
    }

    #[test]
    fn an_answer_in_the_root_needs_no_cell() {
        assert_eq!(lookup4(7, 0xffff_ffff, |_| None), Some(7));
        assert_eq!(lookup6(7, u64::MAX, u64::MAX, |_| None), Some(7));
    }

    #[test]
    fn a_missing_cell_is_no_answer() {
        assert_eq!(lookup4(pointer(3, 0), 1, |_| None), None);
        assert_eq!(lookup6(pointer(3, 0), 1, 1, |_| None), None);
    }

    #[test]
    fn a_loop_of_cells_is_no_answer() {
        let cell4 = Cell4::inner([], 0);
        assert_eq!(lookup4(pointer(0, 0), 0, |_| Some(&cell4)), None);
        let cell6 = Cell6::new([], [pointer(0, 0) | SAME_DIGIT; CELL6_RANGES]);
        assert_eq!(lookup6(pointer(0, 0), 0, 0, |_| Some(&cell6)), None);
    }

    #[test]
    fn every_slash_three_has_its_root_word() {
        assert_eq!(root6_index(0), 65536);
        assert_eq!(root6_index(0x1fff_ffff_ffff_ffff), 65536);
        assert_eq!(root6_index(0x2000_0000_0000_0000), 0);
        assert_eq!(root6_index(0x2000_1fff_ffff_ffff), 0);
        assert_eq!(root6_index(0x2000_2000_0000_0000), 1);
        assert_eq!(root6_index(0x3fff_ffff_ffff_ffff), 65535);
        assert_eq!(root6_index(0x4000_0000_0000_0000), 65538);
        assert_eq!(root6_index(u64::MAX) as usize, ROOT6_LEN - 1);
    }

    #[test]
    fn an_ipv6_pointer_goes_to_the_next_digit_unless_marked() {
        // Answer 1 below digit value 6, then by the second digit's first bit, then 1 again.
        let cells = [
            Cell6::new([5, 6], [1, pointer(1, 1), 1]),
            Cell6::new([9], [2, pointer(3, 0) | SAME_DIGIT]),
            Cell6::new([], [4]),
            Cell6::new([10], [5, 6]),
        ];
        // in 2000::/19 and in 4000::/3
        for (root, used) in [(0x2000_u64 << 48, 19), (0x4000_u64 << 48, 3)] {
            let get = |digits: u64| {
                let rest = u128::from(digits) << 64 >> used;
                let (hi, lo) = (root | (rest >> 64) as u64, rest as u64);
                lookup6(pointer(0, 0), hi, lo, |i| cells.get(i as usize))
            };
            assert_eq!(get(5 << 32), Some(1));
            assert_eq!(get(0x6_0000_0009), Some(2));
            assert_eq!(get(0x6_0000_000a), Some(5));
            assert_eq!(get(0x6_0000_000b), Some(6));
            assert_eq!(get(0x6_8000_0000), Some(4));
            assert_eq!(get(7 << 32), Some(1));
        }
    }

    proptest! {
        #[test]
        fn rank4_counts_the_lasts_below(lasts in vec(any::<u16>(), 0..=15), x in any::<u16>(), inner in any::<bool>()) {
            let lasts = ascending(lasts);
            let cell = if inner { Cell4::inner(lasts.clone(), 9) } else { Cell4::leaf(lasts.clone(), []) };
            for x in lasts.iter().flat_map(|l| [l.wrapping_sub(1), *l, l.wrapping_add(1)]).chain([x, 0, u16::MAX]) {
                prop_assert_eq!(cell.rank(x.into()), lasts.iter().filter(|l| **l < x).count());
            }
            prop_assert_eq!(cell.is_inner(), inner);
        }

        #[test]
        fn rank6_counts_the_lasts_below(lasts in vec(any::<u32>(), 0..=7), x in any::<u32>()) {
            let lasts = ascending(lasts);
            let cell = Cell6::new(lasts.clone(), []);
            for x in lasts.iter().flat_map(|l| [l.wrapping_sub(1), *l, l.wrapping_add(1)]).chain([x, 0, u32::MAX]) {
                prop_assert_eq!(cell.rank(x.into()), lasts.iter().filter(|l| **l < x).count());
            }
        }

        #[test]
        fn a_single_cell_answers_like_a_scan(
            bounds in proptest::collection::btree_set(1u16.., 0..=15),
            answers in vec(any::<u16>(), 16),
            first_child in any::<u32>(),
            x in any::<u16>(),
        ) {
            let cell = Cell4::leaf(bounds.iter().map(|b| b - 1), answers.clone());
            for x in bounds.iter().flat_map(|b| [b - 1, *b]).chain([x, 0, u16::MAX]) {
                let want = answers[bounds.iter().filter(|b| **b <= x).count()];
                prop_assert_eq!(lookup4(pointer(0, 0), x.into(), |_| Some(&cell)), Some(want));
            }
            prop_assert_eq!(Cell4::inner([], first_child).first_child(), first_child);
        }

        #[test]
        fn no_content_makes_the_look_up_panic(word in any::<u32>(), hi in any::<u64>(), lo in any::<u64>(), noise in any::<[u32; 15]>()) {
            let mut cell4 = Cell4::leaf([], []);
            cell4.lasts = [u64::from(noise[0]) << 32, u64::from(noise[1]), u64::MAX, u64::from(noise[2]) << 40];
            let cell6 = Cell6 { lasts: noise[..7].try_into().unwrap(), unused: 0, words: noise[7..].try_into().unwrap() };
            let _ = lookup4(word, lo as u32, |_| Some(&cell4));
            let _ = lookup6(word, hi, lo, |_| Some(&cell6));
        }
    }
}
