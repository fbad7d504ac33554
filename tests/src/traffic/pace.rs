//! When the next packets are due.
//!
//! Sleeps where there is time for it and spins through the rest, since a thread that sleeps is late by some 50 microseconds.
//! Whoever is late catches up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Less than this is spun through.
const SLEEP: Duration = Duration::from_micros(200);
/// Longest sleep without a look at whether to stop.
const NAP: Duration = Duration::from_millis(50);

/// A clock for packets.
#[derive(Clone, Copy, Debug)]
pub struct Pace<'a> {
    start: Instant,
    deadline: Instant,
    /// Packets a second.
    rate: Option<f64>,
    stop: &'a AtomicBool,
}

impl<'a> Pace<'a> {
    /// Starts now and ends after `time`, or when `stop` is set. Without a rate everything is due at once.
    pub fn start(rate: Option<f64>, time: Duration, stop: &'a AtomicBool) -> Self {
        let start = Instant::now();
        Self {
            start,
            deadline: start + time,
            rate,
            stop,
        }
    }

    /// Waits until the packet behind `sent` others is due; false if that is past the end.
    pub fn wait(&self, sent: u64) -> bool {
        self.wait_for(match self.rate {
            Some(rate) => Duration::from_secs_f64(sent as f64 / rate),
            None => Duration::ZERO,
        })
    }

    /// Waits until so much time has passed since the start; false if that is past the end.
    pub fn wait_for(&self, offset: Duration) -> bool {
        let due = self.start + offset;
        loop {
            let now = Instant::now();
            if now >= self.deadline || self.stop.load(Ordering::Relaxed) {
                return false;
            }
            let left = due.min(self.deadline).saturating_duration_since(now);
            if left.is_zero() {
                return true;
            }
            if left > SLEEP {
                std::thread::sleep(left.saturating_sub(SLEEP / 2).min(NAP));
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
