//! BPF instructions, for programs small enough to be written one by one (Documentation/bpf/standardization/instruction-set.rst).
//! Knows the encoding and nothing of what a program is for.

use std::os::fd::RawFd;

/// One BPF instruction.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Operation codes. Jumps and arithmetic are with the immediate; those that end in `_OF`, and the jumps that only compare, take
/// another register. Those that end in `_32` work on the lower half of a register and clear the upper one.
#[expect(missing_docs, reason = "the names say what the instructions do")]
pub mod op {
    pub const LOAD_IMMEDIATE: u8 = 0x18;
    pub const LOAD_WORD: u8 = 0x61;
    pub const LOAD_DOUBLE: u8 = 0x79;
    pub const STORE_DOUBLE: u8 = 0x7a;
    pub const STORE_WORD: u8 = 0x62;
    pub const STORE_WORD_OF: u8 = 0x63;
    pub const STORE_HALF_OF: u8 = 0x6b;
    pub const STORE_DOUBLE_OF: u8 = 0x7b;
    pub const ADD: u8 = 0x07;
    pub const ADD_OF: u8 = 0x0f;
    pub const SUBTRACT_OF: u8 = 0x1f;
    pub const MULTIPLY: u8 = 0x27;
    pub const MULTIPLY_OF: u8 = 0x2f;
    pub const AND: u8 = 0x57;
    pub const AND_32: u8 = 0x54;
    pub const OR_32: u8 = 0x44;
    pub const SHIFT_RIGHT: u8 = 0x77;
    pub const MODULO: u8 = 0x97;
    pub const XOR: u8 = 0xa7;
    pub const XOR_OF: u8 = 0xaf;
    pub const SET: u8 = 0xb7;
    pub const COPY: u8 = 0xbf;
    pub const COPY_32: u8 = 0xbc;
    pub const TO_BIG_ENDIAN: u8 = 0xdc;
    pub const JUMP: u8 = 0x05;
    pub const JUMP_EQUAL: u8 = 0x15;
    pub const JUMP_GREATER: u8 = 0x2d;
    pub const JUMP_GREATER_THAN: u8 = 0x25;
    pub const JUMP_GREATER_OR_EQUAL: u8 = 0x3d;
    pub const JUMP_NOT_EQUAL: u8 = 0x55;
    pub const CALL: u8 = 0x85;
    pub const EXIT: u8 = 0x95;
}

/// Helper functions (linux/bpf.h).
#[expect(missing_docs, reason = "the names are the kernel's")]
pub mod helper {
    pub const MAP_LOOKUP: i32 = 1;
    pub const KTIME: i32 = 5;
    pub const PRANDOM: i32 = 7;
    pub const TAIL_CALL: i32 = 12;
    pub const REDIRECT: i32 = 23;
    pub const FIB_LOOKUP: i32 = 69;
}

/// `src` of a 64-bit load: the immediate is a map's descriptor.
const PSEUDO_MAP_FD: u8 = 1;
/// The same, for the address of the map's first value.
const PSEUDO_MAP_VALUE: u8 = 2;

/// Any instruction.
pub const fn instruction(
    code: u8,
    target: u8,
    source: u8,
    offset: i16,
    immediate: i32,
) -> Instruction {
    Instruction {
        code,
        registers: source << 4 | target,
        offset,
        immediate,
    }
}

/// Loads 64 bits, which takes two instructions.
pub const fn load_double(target: u8, value: u64) -> [Instruction; 2] {
    [
        instruction(op::LOAD_IMMEDIATE, target, 0, 0, value as i32),
        instruction(0, 0, 0, 0, (value >> 32) as i32),
    ]
}

/// Loads a map, for a helper function.
pub const fn load_map(target: u8, map: RawFd) -> [Instruction; 2] {
    [
        instruction(op::LOAD_IMMEDIATE, target, PSEUDO_MAP_FD, 0, map),
        instruction(0, 0, 0, 0, 0),
    ]
}

/// Loads the address of an array map's first value.
pub const fn load_map_value(target: u8, map: RawFd) -> [Instruction; 2] {
    [
        instruction(op::LOAD_IMMEDIATE, target, PSEUDO_MAP_VALUE, 0, map),
        instruction(0, 0, 0, 0, 0),
    ]
}
