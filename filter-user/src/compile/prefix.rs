//! Builds the prefix tables ([`filter_common::prefix`]) out of sorted address ranges.
//! Pure and deterministic: never touches a map, never looks at what the answers mean.

use std::{error, fmt, iter};

use filter_common::prefix::{
    Answer, CELL4_RANGES, CELL6_RANGES, Cell4, Cell6, MAX_CELLS, MAX_DEPTH4, MAX_DEPTH6, MAX_SPLIT,
    ROOT4_LEN, ROOT6_LEN, SAME_DIGIT, lookup4, lookup6, pointer, root6_bits, root6_index,
};

/// The addresses from `start` (host order) up to the next range's start have this answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range<K> {
    /// Its lowest address.
    pub start: K,
    /// What a look-up of any of its addresses gives.
    pub answer: Answer,
}

/// Why no table could be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The first range does not start at 0, or there is none.
    Uncovered,
    /// The range at this index does not start above the one before it.
    Unsorted {
        /// Of the range that is out of place.
        index: usize,
    },
    /// More cells than a pointer can tell apart, those below `base` included.
    TooManyCells,
    /// Some address would take more cells than the look-up reads.
    TooDeep,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uncovered => f.write_str("the address ranges do not begin at address 0"),
            Self::Unsorted { index } => {
                write!(
                    f,
                    "address range {index} does not start above the one before it"
                )
            }
            Self::TooManyCells => write!(
                f,
                "the prefix table needs more than {MAX_CELLS} cells: use fewer or shorter prefixes"
            ),
            Self::TooDeep => write!(
                f,
                "an IPv6 address would take more than {MAX_DEPTH6} table cells: too many prefixes \
                 nest in one place; use fewer or shorter ones there"
            ),
        }
    }
}

impl error::Error for BuildError {}

/// The IPv4 table: [`ROOT4_LEN`] words, and the cells for pool indexes from `base` on.
#[derive(Clone, Debug)]
pub struct Built4 {
    /// Goes into a root bank as it is.
    pub root: Vec<u32>,
    /// `cells[i]` goes to index `base + i` of the pool.
    pub cells: Vec<Cell4>,
    base: u32,
}

/// The IPv6 table: [`ROOT6_LEN`] words, and the cells for pool indexes from `base` on.
#[derive(Clone, Debug)]
pub struct Built6 {
    /// Goes into a root bank as it is.
    pub root: Vec<u32>,
    /// `cells[i]` goes to index `base + i` of the pool.
    pub cells: Vec<Cell6>,
    base: u32,
}

impl Built4 {
    /// Builds from disjoint ranges that cover the whole space: ascending, the first from 0 on.
    /// `cells[i]` belongs at index `base + i` of the pool.
    pub fn build(ranges: &[Range<u32>], base: u32) -> Result<Self, BuildError> {
        check(ranges)?;
        let mut pool = Pool::<Cell4>::new(base, ranges.len() / 4);
        let mut root = vec![0; ROOT4_LEN];
        let mut inside = Vec::new();
        let mut answer = 0;
        let mut rest = ranges;
        for (word, slot) in root.iter_mut().zip(0u32..) {
            let begin = slot << 16;
            inside.clear();
            let mut first = answer;
            while let Some((range, tail)) = rest.split_first()
                && range.start >> 16 == slot
            {
                if range.start == begin {
                    first = range.answer;
                } else if range.answer != answer {
                    inside.push(Boundary {
                        at: range.start & 0xffff,
                        word: range.answer.into(),
                    });
                }
                answer = range.answer;
                rest = tail;
            }
            (*word, _) = pool.place(
                &inside,
                Span {
                    begin: 0,
                    width: 16,
                },
                first.into(),
            )?;
        }
        Ok(Self {
            root,
            cells: pool.cells,
            base,
        })
    }

    /// The answer for an address in host order, by the very code the BPF program runs.
    pub fn get(&self, address: u32) -> Option<Answer> {
        let word = *self.root.get((address >> 16) as usize)?;
        lookup4(word, address, |index| {
            self.cells.get(index.wrapping_sub(self.base) as usize)
        })
    }
}

impl Built6 {
    /// Builds from disjoint ranges that cover the whole space: ascending, the first from 0 on.
    /// `cells[i]` belongs at index `base + i` of the pool.
    pub fn build(ranges: &[Range<u128>], base: u32) -> Result<Self, BuildError> {
        check(ranges)?;
        let mut digits = Digits {
            pool: Pool::new(base, ranges.len()),
            scratch: Default::default(),
        };
        let mut root = vec![0; ROOT6_LEN];
        let mut answer = 0;
        let mut rest = ranges;
        // In address order: ::/3, the /19s of 2000::/3, the other /3s.
        let begins = iter::once(0)
            .chain((0..1 << 16).map(|slot| 1 << 125 | slot << 109))
            .chain((2..8).map(|top| top << 125));
        for begin in begins {
            let hi = (begin >> 64) as u64;
            let used = root6_bits(hi);
            let last: u128 = begin + (u128::MAX >> used);
            let inside = rest.iter().position(|range| range.start > last);
            let (inside, tail) = rest.split_at(inside.unwrap_or(rest.len()));
            let (word, depth) = digits.word(inside, used, 0, answer)?;
            if depth > MAX_DEPTH6 {
                return Err(BuildError::TooDeep);
            }
            if let Some(slot) = root.get_mut(root6_index(hi) as usize) {
                *slot = word;
            }
            answer = inside.last().map_or(answer, |range| range.answer);
            rest = tail;
        }
        Ok(Self {
            root,
            cells: digits.pool.cells,
            base,
        })
    }

    /// The answer for an address, by the very code the BPF program runs.
    pub fn get(&self, address: u128) -> Option<Answer> {
        let (hi, lo) = ((address >> 64) as u64, address as u64);
        let word = *self.root.get(root6_index(hi) as usize)?;
        lookup6(word, hi, lo, |index| {
            self.cells.get(index.wrapping_sub(self.base) as usize)
        })
    }
}

fn check<K: Copy + Ord + Default>(ranges: &[Range<K>]) -> Result<(), BuildError> {
    if ranges
        .first()
        .is_none_or(|range| range.start != K::default())
    {
        return Err(BuildError::Uncovered);
    }
    match ranges
        .windows(2)
        .position(|pair| pair[0].start >= pair[1].start)
    {
        Some(before) => Err(BuildError::Unsorted { index: before + 1 }),
        None => Ok(()),
    }
}

/// From the value `at` of a digit on, `word` holds.
#[derive(Clone, Copy)]
struct Boundary {
    at: u32,
    word: u32,
}

/// The 2^`width` values of a digit from `begin` on.
#[derive(Clone, Copy)]
struct Span {
    begin: u32,
    width: u32,
}

/// What differs between the two kinds of cell.
trait Cell: Copy + Default {
    const RANGES: usize;
    /// Cells one above another within a digit; a span that needs more is split further.
    const LEVELS: usize;
    /// A cell of `boundaries.len() + 1` ranges; `first` is the first one's word.
    fn of_ranges(first: u32, boundaries: &[Boundary]) -> Self;
    /// A cell above `lasts.len() + 1` cells, the first of them at pool index `first_child`.
    fn of_cells(lasts: &[u32], first_child: u32) -> Self;
}

impl Cell for Cell4 {
    const RANGES: usize = CELL4_RANGES;
    const LEVELS: usize = MAX_DEPTH4;
    fn of_ranges(first: u32, boundaries: &[Boundary]) -> Self {
        let answers = iter::once(first).chain(boundaries.iter().map(|b| b.word));
        Self::leaf(
            boundaries.iter().map(|b| (b.at - 1) as u16),
            answers.map(|word| word as Answer),
        )
    }
    fn of_cells(lasts: &[u32], first_child: u32) -> Self {
        Self::inner(lasts.iter().map(|last| *last as u16), first_child)
    }
}

impl Cell for Cell6 {
    const RANGES: usize = CELL6_RANGES;
    const LEVELS: usize = MAX_DEPTH6;
    fn of_ranges(first: u32, boundaries: &[Boundary]) -> Self {
        let words = iter::once(first).chain(boundaries.iter().map(|b| b.word));
        Self::new(boundaries.iter().map(|b| b.at - 1), words)
    }
    fn of_cells(lasts: &[u32], first_child: u32) -> Self {
        let children = first_child..=first_child + lasts.len() as u32;
        Self::new(
            lasts.iter().copied(),
            children.map(|child| pointer(child, 0) | SAME_DIGIT),
        )
    }
}

struct Pool<C> {
    cells: Vec<C>,
    base: u32,
}

impl<C: Cell> Pool<C> {
    fn new(base: u32, expected: usize) -> Self {
        Self {
            cells: Vec::with_capacity(expected.min(MAX_CELLS)),
            base,
        }
    }

    /// Makes room for consecutive cells; gives the first one's place in `cells`.
    fn reserve(&mut self, count: usize) -> Result<usize, BuildError> {
        let first = self.cells.len();
        if self.base as usize + first + count > MAX_CELLS {
            return Err(BuildError::TooManyCells);
        }
        self.cells.resize(first + count, C::default());
        Ok(first)
    }

    /// Below [`MAX_CELLS`] by `reserve`.
    fn index(&self, place: usize) -> u32 {
        self.base + place as u32
    }

    /// Stores a span: `first` holds from its beginning on, the boundaries lie strictly inside.
    /// Gives the word for it and the most cells that a look-up then reads within this digit.
    fn place(
        &mut self,
        boundaries: &[Boundary],
        span: Span,
        first: u32,
    ) -> Result<(u32, usize), BuildError> {
        if boundaries.is_empty() {
            return Ok((first, 0));
        }
        let split = choose_split::<C>(boundaries, span, MAX_SPLIT.min(span.width));
        let place = self.reserve(1 << split)?;
        let mut word = first;
        let mut rest = boundaries;
        let mut levels = 0;
        for part in 0..1usize << split {
            // A boundary that coincides with the part's edge costs no key.
            if let Some((edge, tail)) = rest.split_first()
                && part_of(edge.at, span, split) == part
                && on_edge(edge.at, span, split)
            {
                word = edge.word;
                rest = tail;
            }
            let count = rest
                .iter()
                .take_while(|b| part_of(b.at, span, split) == part)
                .count();
            let (inside, tail) = rest.split_at(count);
            self.fill(place + part, inside, word)?;
            levels = levels.max(levels_for::<C>(count));
            word = inside.last().map_or(word, |boundary| boundary.word);
            rest = tail;
        }
        Ok((pointer(self.index(place), split), levels))
    }

    /// Writes the cell at `place`, and the cells below it when the ranges exceed one. They are
    /// dealt out evenly, which gives the least depth.
    fn fill(
        &mut self,
        place: usize,
        boundaries: &[Boundary],
        first: u32,
    ) -> Result<(), BuildError> {
        let ranges = boundaries.len() + 1;
        let cell = if ranges <= C::RANGES {
            C::of_ranges(first, boundaries)
        } else {
            let children = ranges.div_ceil(C::RANGES).min(C::RANGES);
            let child = self.reserve(children)?;
            let mut lasts = [0; CELL4_RANGES];
            let mut begin = 0;
            for nth in 0..children {
                let end = ranges * (nth + 1) / children;
                // Range 0 begins with the cell, range i > 0 with boundary i - 1.
                let word = if begin == 0 {
                    first
                } else {
                    boundaries[begin - 1].word
                };
                if begin > 0 {
                    lasts[nth - 1] = boundaries[begin - 1].at - 1;
                }
                self.fill(child + nth, &boundaries[begin..end - 1], word)?;
                begin = end;
            }
            C::of_cells(&lasts[..children - 1], self.index(child))
        };
        self.cells[place] = cell;
        Ok(())
    }
}

fn part_of(at: u32, span: Span, split: u32) -> usize {
    (u64::from(at - span.begin) >> (span.width - split)) as usize
}

fn on_edge(at: u32, span: Span, split: u32) -> bool {
    u64::from(at - span.begin).trailing_zeros() >= span.width - split
}

/// Cells one above another for this many boundaries.
fn levels_for<C: Cell>(boundaries: usize) -> usize {
    let (mut levels, mut room) = (1, C::RANGES);
    while boundaries >= room {
        levels += 1;
        room *= C::RANGES;
    }
    levels
}

/// How many leading bits of a span should choose the cell: the fewest that come within 5 % of the
/// least mean depth, trying up to four times as many cells as the ranges fill. More bits save a
/// line on the way, fewer save memory.
fn choose_split<C: Cell>(boundaries: &[Boundary], span: Span, max_split: u32) -> u32 {
    let ranges = boundaries.len() + 1;
    let fewest = ranges
        .div_ceil(C::RANGES)
        .next_power_of_two()
        .trailing_zeros()
        .min(max_split);
    if fewest == 0 {
        return 0;
    }
    let mut costs = [usize::MAX; MAX_SPLIT as usize + 1];
    let mut least = usize::MAX;
    let mut tried = fewest;
    for split in fewest..=max_split {
        let (cost, levels) = cost::<C>(boundaries, span, split);
        let fits = levels <= C::LEVELS;
        tried = split;
        if fits {
            costs[split as usize] = cost;
            least = least.min(cost);
        }
        // A depth of 1 throughout cannot be improved on.
        if least <= boundaries.len() || (split >= fewest + 2 && least < usize::MAX) {
            break;
        }
    }
    let near = |split: &u32| costs[*split as usize] <= least.saturating_add(least / 20);
    (fewest..=tried).find(near).unwrap_or(tried)
}

/// The sum over all boundaries of the cells read to reach them, and the deepest part's levels.
fn cost<C: Cell>(boundaries: &[Boundary], span: Span, split: u32) -> (usize, usize) {
    let (mut sum, mut deepest) = (0, 0);
    for part in boundaries.chunk_by(|a, b| part_of(a.at, span, split) == part_of(b.at, span, split))
    {
        let keys = part.len() - usize::from(on_edge(part[0].at, span, split));
        let levels = levels_for::<C>(keys);
        sum += part.len() * levels;
        deepest = deepest.max(levels);
    }
    (sum, deepest)
}

/// Splits what the root leaves of 128-bit starts into four 32-bit digits, a tree of spans.
struct Digits {
    pool: Pool<Cell6>,
    /// One list for each digit, kept to save allocations: there can be millions of nodes.
    scratch: [Vec<Boundary>; 4],
}

impl Digits {
    /// The word for the `nth` digit behind the `used` leading bits, and the most cells read below it. `before` is the
    /// answer just ahead of the first range; all ranges share the bits above this digit.
    fn word(
        &mut self,
        ranges: &[Range<u128>],
        used: u32,
        nth: usize,
        before: Answer,
    ) -> Result<(u32, usize), BuildError> {
        if ranges.is_empty() {
            return Ok((before.into(), 0));
        }
        let mut list = std::mem::take(self.scratch.get_mut(nth).ok_or(BuildError::TooDeep)?);
        list.clear();
        let mut first = u32::from(before);
        let mut set = |at: u64, word: u32| {
            let Ok(at) = u32::try_from(at) else {
                return;
            };
            if at == 0 {
                first = word;
                return;
            }
            if list.last().is_some_and(|last| last.at == at) {
                list.pop();
            }
            if list.last().map_or(first, |last| last.word) != word {
                list.push(Boundary { at, word });
            }
        };
        let (mut answer, mut below) = (before, 0);
        let digit = |range: &Range<u128>| (range.start << used >> (96 - 32 * nth)) as u32;
        for group in ranges.chunk_by(|a, b| digit(a) == digit(b)) {
            let value = digit(&group[0]);
            let exact = nth == 3 || group[0].start << used << (32 * (nth + 1)) == 0;
            let (at_value, inside) = if exact {
                (group[0].answer, &group[1..])
            } else {
                (answer, group)
            };
            let (word, depth) = self.word(inside, used, nth + 1, at_value)?;
            below = below.max(depth);
            answer = group.last().map_or(answer, |range| range.answer);
            set(value.into(), word);
            set(u64::from(value) + 1, answer.into());
        }
        let whole = Span {
            begin: 0,
            width: 32,
        };
        let (word, levels) = self.pool.place(&list, whole, first)?;
        self.scratch[nth] = list;
        Ok((word, levels + below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    /// Ranges that begin at 0 and at `starts`, with few answers, so that neighbours are often equal.
    fn ranges<K: Copy + Ord + Default>(mut starts: Vec<K>, salt: u16) -> Vec<Range<K>> {
        starts.push(K::default());
        starts.sort();
        starts.dedup();
        let answer = |i: usize| match (i as u16).wrapping_mul(40503) ^ salt {
            odd if odd % 5 == 0 => u16::MAX,
            odd => odd % 7,
        };
        starts
            .iter()
            .enumerate()
            .map(|(i, start)| Range {
                start: *start,
                answer: answer(i),
            })
            .collect()
    }

    fn reference<K: Copy + Ord>(ranges: &[Range<K>], address: K) -> Option<Answer> {
        let after = ranges.partition_point(|range| range.start <= address);
        ranges[..after].last().map(|range| range.answer)
    }

    fn check4(ranges: &[Range<u32>], base: u32, extra: &[u32]) -> Built4 {
        let built = Built4::build(ranges, base).unwrap();
        let edges = ranges
            .iter()
            .flat_map(|r| [r.start.wrapping_sub(1), r.start, r.start.wrapping_add(1)]);
        for address in edges.chain(extra.iter().copied()).chain([0, u32::MAX]) {
            assert_eq!(
                built.get(address),
                reference(ranges, address),
                "{address:#x}"
            );
        }
        built
    }

    fn check6(ranges: &[Range<u128>], base: u32, extra: &[u128]) -> Built6 {
        let built = Built6::build(ranges, base).unwrap();
        let edges = ranges
            .iter()
            .flat_map(|r| [r.start.wrapping_sub(1), r.start, r.start.wrapping_add(1)]);
        for address in edges.chain(extra.iter().copied()).chain([0, u128::MAX]) {
            assert_eq!(
                built.get(address),
                reference(ranges, address),
                "{address:#x}"
            );
        }
        built
    }

    /// Addresses that crowd: anywhere, in four /16s, in one /24, at the ends of the space.
    fn crowded4() -> impl Strategy<Value = u32> {
        prop_oneof![
            any::<u32>(),
            (0u32..4, any::<u16>()).prop_map(|(net, low)| (0x0a00 + net) << 16 | u32::from(low)),
            any::<u8>().prop_map(|low| 0xc000_0200 | u32::from(low)),
            (0u32..300).prop_map(|low| low),
            (0u32..300).prop_map(|low| u32::MAX - low),
        ]
    }

    /// Addresses that crowd: anywhere, in one /64, at digit and root edges, at the ends.
    fn crowded6() -> impl Strategy<Value = u128> {
        let doc = 0x2001_0db8_0000_0001u128 << 64;
        prop_oneof![
            any::<u128>(),
            any::<u64>().prop_map(move |low| doc | u128::from(low)),
            any::<u16>().prop_map(move |low| doc | u128::from(low)),
            (any::<u16>(), 0u32..4).prop_map(move |(low, nth)| doc ^ u128::from(low) << (32 * nth)),
            (0u128..8, -2i128..3).prop_map(|(top, by)| (top << 125).wrapping_add_signed(by)),
            (0u128..8, 0u128..40).prop_map(|(top, slot)| (top << 125) + (slot << 109)),
            (0u128..300).prop_map(|low| low),
            (0u128..300).prop_map(|low| u128::MAX - low),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]

        #[test]
        fn ipv4_answers_like_a_search(starts in vec(crowded4(), 0..2000), base in 0u32..1 << 20, salt in any::<u16>(), extra in vec(crowded4(), 200)) {
            check4(&ranges(starts, salt), base, &extra);
        }

        #[test]
        fn a_dense_ipv4_net_answers_like_a_search(begin in 0u32..0x1_0000, count in 1u32..40_000, step in 1u32..9, salt in any::<u16>()) {
            let starts = (0..count).map(|i| 0x0a01_0000 + begin + i * step).collect();
            check4(&ranges(starts, salt), 5, &[]);
        }

        #[test]
        fn ipv6_answers_like_a_search(starts in vec(crowded6(), 0..2000), base in 0u32..1 << 20, salt in any::<u16>(), extra in vec(crowded6(), 200)) {
            check6(&ranges(starts, salt), base, &extra);
        }

        #[test]
        fn ipv6_hosts_under_one_net_answer_like_a_search(bits in 1u32..=128, shift in 0u32..100, starts in vec(any::<u128>(), 1..3000), salt in any::<u16>()) {
            let net = 0x2001_0db8_0000_0001u128 << 64 | 0xfeed;
            let starts = starts.into_iter().map(|s| net ^ (s >> (128 - bits)) << shift.min(128 - bits)).collect();
            check6(&ranges(starts, salt), 9, &[]);
        }
    }

    #[test]
    fn a_full_net_takes_the_depth_limit_and_no_more() {
        // Each address of a net a range of its own, in an otherwise empty /16.
        let net = |begin: u32, count: u32| -> Vec<Range<u32>> {
            let own = (begin..begin + count).map(|start| (start, start as u16));
            iter::once((0, 1))
                .chain(own)
                .map(|(start, answer)| Range { start, answer })
                .collect()
        };
        for count in [15, 16, 17, 255, 256, 257, 300, 511, 1023, 1024, 5000] {
            check4(&net(0x0a01_0200, count), 0, &[]);
            check4(&net(0x0a01_0203, count), 0, &[]);
        }
        // Two full /16s: 16 addresses a cell at the largest split, and no inner cell.
        assert_eq!(
            check4(&net(0x0a01_0000, 0x2_0000), 0, &[]).cells.len(),
            2 * 4096
        );
    }

    #[test]
    fn the_whole_space_in_one_range_needs_no_cell() {
        assert!(
            check4(
                &[Range {
                    start: 0,
                    answer: 9
                }],
                0,
                &[1]
            )
            .cells
            .is_empty()
        );
        assert!(
            check6(
                &[Range {
                    start: 0,
                    answer: 9
                }],
                0,
                &[1, 1 << 125]
            )
            .cells
            .is_empty()
        );
    }

    #[test]
    fn equal_neighbours_need_no_cell() {
        let same: Vec<_> = (0..100)
            .map(|i| Range {
                start: i,
                answer: 4,
            })
            .collect();
        assert!(check4(&same, 0, &[]).cells.is_empty());
        let same: Vec<_> = (0..100)
            .map(|i| Range {
                start: i,
                answer: 4,
            })
            .collect();
        assert!(check6(&same, 0, &[]).cells.is_empty());
    }

    #[test]
    fn two_banks_share_a_pool() {
        let one = check4(&ranges((1..5000).map(|i| i * 7919).collect(), 1), 0, &[]);
        let two = check4(
            &ranges((1..5000).map(|i| i * 104_729).collect(), 2),
            one.cells.len() as u32,
            &[],
        );
        let pool: Vec<Cell4> = one.cells.iter().chain(&two.cells).copied().collect();
        for address in (0..100_000u32).map(|i| i.wrapping_mul(2_654_435_761)) {
            for table in [&one, &two] {
                let word = table.root[(address >> 16) as usize];
                assert_eq!(
                    lookup4(word, address, |i| pool.get(i as usize)),
                    table.get(address)
                );
            }
        }
    }

    #[test]
    fn crowded_ipv6_digits_stay_within_the_depth_limit() {
        // Every digit crowded at once: a path of dense runs below one another.
        let mut starts = Vec::new();
        for nth in 0..4u32 {
            let above = 0x2001_0db8_4000_4000_4000_4000_4000_4000u128 >> (128 - 32 * nth).min(127);
            let above = above.checked_shl(128 - 32 * nth).unwrap_or(0);
            let middle = if nth == 0 {
                0x2001_0db8u128
            } else {
                0x4000_4000
            };
            starts
                .extend((0..20_000u128).map(|i| above | (middle - 10_000 + i) << (96 - 32 * nth)));
        }
        check6(&ranges(starts, 11), 0, &[]);
    }

    #[test]
    fn ranges_out_of_order_are_refused() {
        let at = |start| Range { start, answer: 0 };
        assert_eq!(Built4::build(&[], 0).err(), Some(BuildError::Uncovered));
        assert_eq!(
            Built4::build(&[at(1)], 0).err(),
            Some(BuildError::Uncovered)
        );
        assert_eq!(
            Built4::build(&[at(0), at(5), at(5)], 0).err(),
            Some(BuildError::Unsorted { index: 2 })
        );
        assert_eq!(Built6::build(&[], 0).err(), Some(BuildError::Uncovered));
    }

    #[test]
    fn more_cells_than_a_pointer_reaches_are_refused() {
        let two = [
            Range {
                start: 0u32,
                answer: 0,
            },
            Range {
                start: 1,
                answer: 1,
            },
        ];
        assert!(Built4::build(&two, MAX_CELLS as u32 - 1).is_ok());
        assert_eq!(
            Built4::build(&two, MAX_CELLS as u32).err(),
            Some(BuildError::TooManyCells)
        );
        assert_eq!(
            Built4::build(&two, u32::MAX).err(),
            Some(BuildError::TooManyCells)
        );
        let two = [
            Range {
                start: 0u128,
                answer: 0,
            },
            Range {
                start: 1,
                answer: 1,
            },
        ];
        assert!(Built6::build(&two, MAX_CELLS as u32 - 4).is_ok());
        assert_eq!(
            Built6::build(&two, MAX_CELLS as u32 - 3).err(),
            Some(BuildError::TooManyCells)
        );
    }
}
