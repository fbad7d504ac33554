//! The programs that the filter is compared with, instruction by instruction: small enough to be read here, and no
//! second build step. Each drops what it is given.

use std::os::fd::{AsRawFd, RawFd};

use anyhow::Result;
use edgefilter_tests::bpf::instruction::{Instruction, helper, instruction, load_map, op};

use super::kernel::{Kind, Map, Program, map_type};

const XDP_DROP: i32 = 1;
/// The source address and the destination port in an untagged IPv4 frame, and where the ports end.
const SOURCE: i16 = 26;
const PORT: i16 = 36;
const HEADERS: i32 = 38;
/// The context's fields.
const DATA: i16 = 0;
const DATA_END: i16 = 4;

const fn drop_it() -> [Instruction; 2] {
    [
        instruction(op::SET, 0, 0, 0, XDP_DROP),
        instruction(op::EXIT, 0, 0, 0, 0),
    ]
}

/// With the context in r6: data in r2; jumps over the next `skip` instructions if there is no IPv4 header.
const fn bounds(skip: usize) -> [Instruction; 5] {
    [
        instruction(op::LOAD_WORD, 2, 6, DATA, 0),
        instruction(op::LOAD_WORD, 3, 6, DATA_END, 0),
        instruction(op::COPY, 4, 2, 0, 0),
        instruction(op::ADD, 4, 0, 0, HEADERS),
        instruction(op::JUMP_GREATER, 4, 3, skip as i16, 0),
    ]
}

/// Drops everything.
pub fn empty(kind: Kind) -> Result<Program> {
    Program::load("bench_empty", &drop_it(), kind)
}

/// Builds a trie's key from the source address (data in r2) and looks it up if `trie` is there.
fn lookup(trie: Option<&Map>) -> Vec<Instruction> {
    let mut body = vec![
        instruction(op::LOAD_WORD, 4, 2, SOURCE, 0),
        instruction(op::STORE_WORD, 10, 0, -8, 32),
        instruction(op::STORE_WORD_OF, 10, 4, -4, 0),
    ];
    if let Some(map) = trie {
        body.extend(load_map(1, map.descriptor()));
        body.extend([
            instruction(op::COPY, 2, 10, 0, 0),
            instruction(op::ADD, 2, 0, 0, -8),
            instruction(op::CALL, 0, 0, 0, helper::MAP_LOOKUP),
        ]);
    }
    body
}

/// A program that looks the source up in `trie`, if it is there, and drops.
pub fn source_lookup(trie: Option<&Map>, kind: Kind) -> Result<Program> {
    let body = lookup(trie);
    let program: Vec<_> = [instruction(op::COPY, 6, 1, 0, 0)]
        .into_iter()
        .chain(bounds(body.len()))
        .chain(body)
        .chain(drop_it())
        .collect();
    Program::load("bench_lookup", &program, kind)
}

/// A program that looks the way back to the source up in the kernel's FIB, and drops.
pub fn fib_lookup(kind: Kind) -> Result<Program> {
    // struct bpf_fib_lookup (linux/bpf.h), 64 bytes from r10 - 64: ifindex at 8, addresses at 16 and 32
    const LENGTH: i32 = 64;
    const AF_INET: i32 = 2;
    const DESTINATION: i16 = 30;
    let mut body = vec![
        instruction(op::LOAD_WORD, 4, 2, SOURCE, 0),
        instruction(op::LOAD_WORD, 5, 2, DESTINATION, 0),
    ];
    body.extend((0..16).map(|word| instruction(op::STORE_WORD, 10, 0, -64 + word * 4, 0)));
    body.extend([
        instruction(op::STORE_WORD, 10, 0, -64, AF_INET),
        instruction(op::STORE_WORD, 10, 0, -56, 1),
        instruction(op::STORE_WORD_OF, 10, 5, -48, 0),
        instruction(op::STORE_WORD_OF, 10, 4, -32, 0),
        instruction(op::COPY, 1, 6, 0, 0),
        instruction(op::COPY, 2, 10, 0, 0),
        instruction(op::ADD, 2, 0, 0, -64),
        instruction(op::SET, 3, 0, 0, LENGTH),
        instruction(op::SET, 4, 0, 0, 0),
        instruction(op::CALL, 0, 0, 0, helper::FIB_LOOKUP),
    ]);
    let program: Vec<_> = [instruction(op::COPY, 6, 1, 0, 0)]
        .into_iter()
        .chain(bounds(body.len()))
        .chain(body)
        .chain(drop_it())
        .collect();
    Program::load("bench_fib", &program, kind)
}

/// Which sources the packets get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sources {
    /// This one: the same work as for random ones, and its result thrown away.
    One([u8; 4]),
    /// All of IPv4, uniformly.
    Random,
    /// The same, each with a destination port of its own.
    RandomPorts,
    /// So many neighbours, this one (as a number) the first, in no order.
    Among(u32, u32),
}

/// A program that gives each packet a source address and then goes on with another one.
#[derive(Debug)]
pub struct Prologue {
    /// To be run.
    pub program: Program,
    _next: Map,
}

impl Prologue {
    /// In front of `next`, of whichever kind that is. With a trie, the source is looked up there on the way.
    pub fn before(next: &impl AsRawFd, sources: Sources, trie: Option<&Map>) -> Result<Self> {
        let mut last = None;
        for kind in Kind::ALL {
            let map = Map::new(map_type::PROG_ARRAY, 4, 4, 1, 0)?;
            let instructions = prologue(map.descriptor(), sources, trie);
            let program = Program::load("bench_prologue", &instructions, kind)?;
            match map.put_program(next.as_raw_fd()) {
                Ok(()) => {
                    return Ok(Self {
                        program,
                        _next: map,
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        anyhow::bail!("the kernel refuses the tail call into the measured program: {last:?}")
    }
}

fn prologue(next: RawFd, sources: Sources, trie: Option<&Map>) -> Vec<Instruction> {
    // random & mask ^ fixed: as many instructions for one source as for random ones
    let masked = |mask, fixed| {
        vec![
            instruction(op::AND, 0, 0, 0, mask),
            instruction(op::XOR, 0, 0, 0, fixed),
        ]
    };
    let mut body = match sources {
        Sources::One(address) => masked(0, i32::from_ne_bytes(address)),
        Sources::Random | Sources::RandomPorts => masked(-1, 0),
        Sources::Among(first, count) => vec![
            instruction(op::MODULO, 0, 0, 0, count as i32),
            instruction(op::ADD, 0, 0, 0, first as i32),
            instruction(op::TO_BIG_ENDIAN, 0, 0, 0, 32),
        ],
    };
    body.push(instruction(op::STORE_WORD_OF, 2, 0, SOURCE, 0));
    if sources == Sources::RandomPorts {
        body.push(instruction(op::STORE_HALF_OF, 2, 0, PORT, 0));
    }
    body.extend(lookup(trie));
    body.push(instruction(op::COPY, 1, 6, 0, 0));
    body.extend(load_map(2, next));
    body.extend([
        instruction(op::SET, 3, 0, 0, 0),
        instruction(op::CALL, 0, 0, 0, helper::TAIL_CALL),
    ]);
    let start = [
        instruction(op::COPY, 6, 1, 0, 0),
        instruction(op::CALL, 0, 0, 0, helper::PRANDOM),
    ];
    start
        .into_iter()
        .chain(bounds(body.len()))
        .chain(body)
        .chain(drop_it())
        .collect()
}
