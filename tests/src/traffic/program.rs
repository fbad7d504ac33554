//! The XDP program that makes the packets of a stream: it counts, hashes the count, writes what varies, corrects the
//! checksums, and sends the frame out of a link. Must do exactly what [`Stream::write`] does; a test compares them.
//!
//! One call into the kernel costs a grace period of RCU, some 20 ms: the frames' page pool comes and goes with it. So a call is
//! for many packets, and the program itself looks at the clock every few of them: to keep a pace, to end in time, and to end
//! when it is told to. What is left of the call is then thrown away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

use super::stream::{Checksum, Field, MULTIPLIERS, SHIFTS, STEP, Stream, Value};
use crate::bpf::instruction::{Instruction, helper, instruction, load_double, load_map_value, op};
use crate::bpf::{Kind, Program, Shared};

/// Packets between two looks at the clock at most, a power of two. So many are made before they are sent: a veth's ring has
/// room for 256.
const BURST: u64 = 64;
/// Seconds between two of them when paced.
const LOOK: f64 = 50e-6;
/// The slowest pace, in packets a second: waiting for a packet keeps the processor.
pub const SLOWEST: f64 = 1.0 / LOOK;
/// Looks at the clock while waiting for the next packet, 0.1 ms or more in all; the verifier follows at most 8,192 jumps.
const SPINS: i32 = 4096;
/// Fractions of a nanosecond that an interval is counted in, as a shift.
const FRACTION: i32 = 16;

/// Registers: what is left is for values on their way.
const NUMBER: u8 = 0;
const RANDOM: u8 = 2;
const VALUE: u8 = 3;
const SPARE: u8 = 4;
const CONSTANT: u8 = 5;
const CONTROL: u8 = 6;
const FRAME: u8 = 7;
const HEADER_SUM: u8 = 8;
const TRANSPORT_SUM: u8 = 9;
const STACK: u8 = 10;
/// The same registers, before they hold sums.
const DUE: u8 = HEADER_SUM;
const SPIN: u8 = TRANSPORT_SUM;

/// What the program and this process share: 64-bit numbers, by index.
mod control {
    /// Packets made.
    pub(super) const COUNT: usize = 0;
    /// Not 0: make no more.
    pub(super) const STOP: usize = 1;
    /// When to stop; times are nanoseconds of the monotonic clock.
    pub(super) const DEADLINE: usize = 2;
    /// The first look at the clock of this call.
    pub(super) const BEGIN: usize = 3;
    /// Packets made by then.
    pub(super) const BEGIN_COUNT: usize = 4;
    /// The last look.
    pub(super) const END: usize = 5;
    /// Packets made by then.
    pub(super) const END_COUNT: usize = 6;
    /// Nanoseconds spent on waiting.
    pub(super) const WAITED: usize = 7;
    pub(super) const NUMBERS: usize = 8;
}

/// Where a number of `control` is.
const fn at(number: usize) -> i16 {
    (number * 8) as i16
}

/// A loaded program and what it shares with us.
#[derive(Debug)]
pub struct Generator {
    program: Program,
    frame: Vec<u8>,
    control: Shared,
    batch: u32,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    /// Packets made and sent.
    pub packets: u64,
    /// Of these, so many were timed,
    pub timed: u64,
    /// and took so long: without what the call itself costs.
    pub time: Duration,
    /// Of that, so long was waited for the next ones to be due.
    pub waited: Duration,
}

impl Generator {
    /// Makes the packets of `stream` and sends them by the link with this index, at `rate` packets a second if there is one.
    pub fn new(stream: &Stream, link: u32, rate: Option<f64>) -> Result<Self> {
        let control = Shared::new(control::NUMBERS)?;
        let kind = Kind {
            frags: false,
            attach: true,
        };
        let generator = Self {
            program: Program::load("traffic", &assemble(stream, &control, link, rate), kind)?,
            frame: stream.template.clone(),
            control,
            batch: burst(rate) as u32,
        };
        generator
            .number(control::DEADLINE)?
            .store(u64::MAX, Ordering::Relaxed);
        Ok(generator)
    }

    /// Sends that many packets, unless `time` is over before or [`Generator::stop`] is called. The thread has to be in the
    /// link's network namespace.
    pub fn send(&self, packets: u32, time: Duration) -> Result<Made> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        let deadline = (now + time).as_nanos().try_into().unwrap_or(u64::MAX);
        let before = self.made()?;
        for (number, value) in [
            (control::STOP, 0),
            (control::WAITED, 0),
            (control::DEADLINE, deadline),
            (control::BEGIN, 0),
            (control::BEGIN_COUNT, before),
            (control::END, 0),
            (control::END_COUNT, before),
        ] {
            self.number(number)?.store(value, Ordering::Relaxed);
        }
        match self.program.run_live(&self.frame, packets, self.batch) {
            // a signal: what was sent by then has been counted
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                return Err(error).context("BPF_PROG_TEST_RUN failed");
            }
            _ => {}
        }
        let read = |number| Ok::<_, anyhow::Error>(self.number(number)?.load(Ordering::Relaxed));
        Ok(Made {
            packets: self.made()? - before,
            timed: read(control::END_COUNT)?.saturating_sub(read(control::BEGIN_COUNT)?),
            time: Duration::from_nanos(read(control::END)?.saturating_sub(read(control::BEGIN)?)),
            waited: Duration::from_nanos(read(control::WAITED)?),
        })
    }

    /// Ends a call that another thread is in.
    pub fn stop(&self) {
        if let Ok(stop) = self.number(control::STOP) {
            stop.store(1, Ordering::Relaxed);
        }
    }

    /// Packets made so far.
    pub fn made(&self) -> Result<u64> {
        Ok(self.number(control::COUNT)?.load(Ordering::Relaxed))
    }

    /// Makes the next packet without sending it.
    pub fn preview(&self) -> Result<Vec<u8>> {
        Ok(self.program.run_once(&self.frame)?.1)
    }

    fn number(&self, index: usize) -> Result<&AtomicU64> {
        self.control.numbers().get(index).context("no such number")
    }
}

fn assemble(stream: &Stream, control: &Shared, link: u32, rate: Option<f64>) -> Vec<Instruction> {
    let mut body = next_number(stream, control, rate);
    for (register, sum) in [
        (HEADER_SUM, stream.header_sum),
        (TRANSPORT_SUM, stream.transport_sum),
    ] {
        let base = sum.map_or(0, |sum| i32::from(sum.base));
        body.push(instruction(op::SET, register, 0, 0, base));
    }
    let mut fields: Vec<&Field> = stream.fields.iter().collect();
    fields.sort_by_key(|field| field.word);
    let mut hashed = None;
    for field in fields {
        // One hash is good for two words; a field leaves it as it is.
        if hashed != Some(field.word / 2) {
            hashed = Some(field.word / 2);
            body.extend(hash(stream.addend(field.word / 2)));
        }
        body.extend(write(field));
    }
    for (register, sum) in [
        (HEADER_SUM, stream.header_sum),
        (TRANSPORT_SUM, stream.transport_sum),
    ] {
        body.extend(sum.into_iter().flat_map(|sum| store_sum(register, sum)));
    }
    body.extend([
        instruction(op::SET, 1, 0, 0, link.cast_signed()),
        instruction(op::SET, 2, 0, 0, 0),
        instruction(op::CALL, 0, 0, 0, helper::REDIRECT),
        instruction(op::EXIT, 0, 0, 0, 0),
    ]);
    let length = stream.template.len() as i32;
    // struct xdp_md: data at 0, data_end at 4
    [
        instruction(op::LOAD_WORD, FRAME, 1, 0, 0),
        instruction(op::LOAD_WORD, SPARE, 1, 4, 0),
        instruction(op::COPY, VALUE, FRAME, 0, 0),
        instruction(op::ADD, VALUE, 0, 0, length),
        instruction(op::JUMP_GREATER, VALUE, SPARE, body.len() as i16, 0),
    ]
    .into_iter()
    .chain(body)
    .chain(drop_it())
    .collect()
}

const fn drop_it() -> [Instruction; 2] {
    const XDP_DROP: i32 = 1;
    [
        instruction(op::SET, 0, 0, 0, XDP_DROP),
        instruction(op::EXIT, 0, 0, 0, 0),
    ]
}

/// Counts, by itself: nobody else counts here while it sends. Every few packets it looks at the clock before.
fn next_number(stream: &Stream, control: &Shared, rate: Option<f64>) -> Vec<Instruction> {
    let look = look(rate);
    let mut body = load_map_value(CONTROL, control.descriptor()).to_vec();
    body.extend([
        instruction(op::LOAD_DOUBLE, NUMBER, CONTROL, at(control::COUNT), 0),
        instruction(op::COPY, VALUE, NUMBER, 0, 0),
        instruction(op::AND, VALUE, 0, 0, burst(rate) as i32 - 1),
        instruction(op::JUMP_NOT_EQUAL, VALUE, 0, look.len() as i16, 0),
    ]);
    body.extend(look);
    body.extend([
        instruction(op::COPY, RANDOM, NUMBER, 0, 0),
        instruction(op::ADD, RANDOM, 0, 0, 1),
        instruction(op::STORE_DOUBLE_OF, CONTROL, RANDOM, at(control::COUNT), 0),
    ]);
    if let Some(flows) = stream.flows {
        let flows = flows.clamp(1, i32::MAX.cast_unsigned()).cast_signed();
        body.push(instruction(op::MODULO, NUMBER, 0, 0, flows));
    }
    body
}

/// Packets between two looks at the clock: a power of two.
fn burst(rate: Option<f64>) -> u64 {
    let Some(rate) = rate else { return BURST };
    let fitting = ((rate * LOOK) as u64).clamp(1, BURST);
    1 << fitting.ilog2()
}

/// Looks at the clock: ends if it is time to, waits if it is too early. Leaves the packet's number in its register.
fn look(rate: Option<f64>) -> Vec<Instruction> {
    let wait = rate.map(wait).unwrap_or_default();
    let mut body = vec![
        instruction(op::LOAD_DOUBLE, VALUE, CONTROL, at(control::STOP), 0),
        instruction(op::JUMP_EQUAL, VALUE, 0, 2, 0),
    ];
    body.extend(drop_it());
    body.extend([
        instruction(op::CALL, 0, 0, 0, helper::KTIME),
        instruction(op::LOAD_DOUBLE, VALUE, CONTROL, at(control::BEGIN), 0),
        instruction(op::JUMP_NOT_EQUAL, VALUE, 0, 1, 0),
        instruction(op::STORE_DOUBLE_OF, CONTROL, 0, at(control::BEGIN), 0),
        instruction(op::LOAD_DOUBLE, SPARE, CONTROL, at(control::COUNT), 0),
        instruction(op::LOAD_DOUBLE, VALUE, CONTROL, at(control::END), 0),
        instruction(op::JUMP_NOT_EQUAL, VALUE, 0, 1, 0),
        instruction(
            op::STORE_DOUBLE_OF,
            CONTROL,
            SPARE,
            at(control::BEGIN_COUNT),
            0,
        ),
    ]);
    body.extend(wait);
    body.extend([
        instruction(op::STORE_DOUBLE_OF, CONTROL, 0, at(control::END), 0),
        instruction(op::LOAD_DOUBLE, SPARE, CONTROL, at(control::COUNT), 0),
        instruction(
            op::STORE_DOUBLE_OF,
            CONTROL,
            SPARE,
            at(control::END_COUNT),
            0,
        ),
        instruction(op::LOAD_DOUBLE, VALUE, CONTROL, at(control::DEADLINE), 0),
        instruction(op::JUMP_GREATER_OR_EQUAL, VALUE, 0, 3, 0),
        instruction(op::STORE_DOUBLE, CONTROL, 0, at(control::STOP), 1),
    ]);
    body.extend(drop_it());
    body.push(instruction(op::COPY, NUMBER, SPARE, 0, 0));
    body
}

/// Spins until the packet (its number in `SPARE`) is due. The time is in register 0 before and after.
fn wait(rate: f64) -> Vec<Instruction> {
    let interval = (1e9 / rate * f64::from(1 << FRACTION)) as u64;
    let half_burst = (interval * burst(Some(rate)) / 2) >> FRACTION;
    let mut body = vec![
        instruction(op::LOAD_DOUBLE, VALUE, CONTROL, at(control::BEGIN_COUNT), 0),
        instruction(op::COPY, DUE, SPARE, 0, 0),
        instruction(op::SUBTRACT_OF, DUE, VALUE, 0, 0),
    ];
    body.extend(load_double(VALUE, interval));
    body.extend([
        instruction(op::MULTIPLY_OF, DUE, VALUE, 0, 0),
        instruction(op::SHIFT_RIGHT, DUE, 0, 0, FRACTION),
        instruction(op::LOAD_DOUBLE, VALUE, CONTROL, at(control::BEGIN), 0),
        instruction(op::ADD_OF, DUE, VALUE, 0, 0),
        // Who is late catches up at twice the pace, and not by a burst.
        instruction(op::LOAD_DOUBLE, VALUE, CONTROL, at(control::END), 0),
        instruction(op::ADD, VALUE, 0, 0, half_burst as i32),
        instruction(op::JUMP_GREATER_OR_EQUAL, DUE, VALUE, 1, 0),
        instruction(op::COPY, DUE, VALUE, 0, 0),
        instruction(op::SET, SPIN, 0, 0, 0),
        instruction(op::STORE_DOUBLE_OF, STACK, 0, -8, 0),
        // again:
        instruction(op::JUMP_GREATER_OR_EQUAL, 0, DUE, 4, 0),
        instruction(op::ADD, SPIN, 0, 0, 1),
        instruction(op::JUMP_GREATER_THAN, SPIN, 0, 2, SPINS),
        instruction(op::CALL, 0, 0, 0, helper::KTIME),
        instruction(op::JUMP, 0, 0, -5, 0),
        instruction(op::LOAD_DOUBLE, VALUE, STACK, -8, 0),
        instruction(op::COPY, RANDOM, 0, 0, 0),
        instruction(op::SUBTRACT_OF, RANDOM, VALUE, 0, 0),
        instruction(op::LOAD_DOUBLE, VALUE, CONTROL, at(control::WAITED), 0),
        instruction(op::ADD_OF, VALUE, RANDOM, 0, 0),
        instruction(op::STORE_DOUBLE_OF, CONTROL, VALUE, at(control::WAITED), 0),
    ]);
    body
}

/// The finisher of splitmix64.
fn hash(addend: u64) -> Vec<Instruction> {
    let mut body = vec![instruction(op::COPY, RANDOM, NUMBER, 0, 0)];
    body.extend(load_double(CONSTANT, STEP));
    body.push(instruction(op::MULTIPLY_OF, RANDOM, CONSTANT, 0, 0));
    body.extend(load_double(CONSTANT, addend));
    body.push(instruction(op::ADD_OF, RANDOM, CONSTANT, 0, 0));
    for (index, shift) in SHIFTS.into_iter().enumerate() {
        body.extend([
            instruction(op::COPY, VALUE, RANDOM, 0, 0),
            instruction(op::SHIFT_RIGHT, VALUE, 0, 0, shift),
            instruction(op::XOR_OF, RANDOM, VALUE, 0, 0),
        ]);
        if let Some(multiplier) = MULTIPLIERS.get(index) {
            body.extend(load_double(CONSTANT, *multiplier));
            body.push(instruction(op::MULTIPLY_OF, RANDOM, CONSTANT, 0, 0));
        }
    }
    body
}

/// Writes a field and adds it to the sums.
fn write(field: &Field) -> Vec<Instruction> {
    let mut body = if field.word.is_multiple_of(2) {
        vec![instruction(op::COPY_32, VALUE, RANDOM, 0, 0)]
    } else {
        vec![
            instruction(op::COPY, VALUE, RANDOM, 0, 0),
            instruction(op::SHIFT_RIGHT, VALUE, 0, 0, 32),
        ]
    };
    let store = match field.value {
        Value::Bits { mask, fixed } => {
            body.extend([
                instruction(op::AND_32, VALUE, 0, 0, mask.cast_signed()),
                instruction(op::OR_32, VALUE, 0, 0, fixed.cast_signed()),
            ]);
            op::STORE_WORD_OF
        }
        Value::Port { ports, upper } => {
            body.push(if upper {
                instruction(op::SHIFT_RIGHT, VALUE, 0, 0, 16)
            } else {
                instruction(op::AND, VALUE, 0, 0, 0xffff)
            });
            body.extend([
                instruction(op::MULTIPLY, VALUE, 0, 0, ports.count().cast_signed()),
                instruction(op::SHIFT_RIGHT, VALUE, 0, 0, 16),
                instruction(op::ADD, VALUE, 0, 0, i32::from(ports.first)),
                instruction(op::TO_BIG_ENDIAN, VALUE, 0, 0, 16),
            ]);
            op::STORE_HALF_OF
        }
    };
    body.push(instruction(store, FRAME, VALUE, field.offset as i16, 0));
    for (register, covered) in [
        (HEADER_SUM, field.in_header),
        (TRANSPORT_SUM, field.in_transport),
    ] {
        if covered {
            body.push(instruction(op::ADD_OF, register, VALUE, 0, 0));
        }
    }
    body
}

/// Folds a sum to 16 bits and writes its complement.
fn store_sum(register: u8, sum: Checksum) -> Vec<Instruction> {
    // 32 bits and a little, then 17, then 16 and a carry, then 16
    let mut body = vec![
        instruction(op::COPY, VALUE, register, 0, 0),
        instruction(op::SHIFT_RIGHT, VALUE, 0, 0, 32),
        instruction(op::COPY_32, register, register, 0, 0),
        instruction(op::ADD_OF, register, VALUE, 0, 0),
    ];
    for _ in 0..3 {
        body.extend([
            instruction(op::COPY, VALUE, register, 0, 0),
            instruction(op::SHIFT_RIGHT, VALUE, 0, 0, 16),
            instruction(op::AND, register, 0, 0, 0xffff),
            instruction(op::ADD_OF, register, VALUE, 0, 0),
        ]);
    }
    body.push(instruction(op::XOR, register, 0, 0, 0xffff));
    if sum.never_zero {
        body.extend([
            instruction(op::JUMP_NOT_EQUAL, register, 0, 1, 0),
            instruction(op::SET, register, 0, 0, 0xffff),
        ]);
    }
    body.push(instruction(
        op::STORE_HALF_OF,
        FRAME,
        register,
        sum.offset as i16,
        0,
    ));
    body
}
