//! `edgefilter counters`: reads the pinned counters, with or without a daemon.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

use super::{Counters, Globals, Outcome, Output, privilege};
use crate::dataplane::{Pins, counters};
use crate::report;
use crate::report::rates::Rates;
use crate::report::time::rfc3339;

/// Cursor to the upper left corner, and everything below it cleared (ECMA-48).
const REDRAW: &str = "\x1b[H\x1b[J";

/// Shows them once, or rates until interrupted.
pub fn counters(globals: &Globals, arguments: &Counters, out: &mut Output<'_>) -> Result<Outcome> {
    privilege::require_readable(&globals.bpffs)?;
    let pins = Pins::at(&globals.bpffs);
    if let Some(every) = arguments.watch {
        return watch(&pins, every, arguments.all, out);
    }
    let counters = read(&pins)?;
    out.show(&counters, |_| {
        report::counters::render(&counters, arguments.all)
    })?;
    Ok(Outcome::Done)
}

fn watch(pins: &Pins, every: Duration, all: bool, out: &mut Output<'_>) -> Result<Outcome> {
    let (mut before, mut at) = (read(pins)?, Instant::now());
    if out.terminal && !out.json {
        out.text(&format!(
            "{REDRAW}measuring for {:.1} s ...\n",
            every.as_secs_f64()
        ))?;
    }
    loop {
        thread::sleep((at + every).saturating_duration_since(Instant::now()));
        let (after, now) = (read(pins)?, Instant::now());
        let rates = Rates::between(&before, &after, now - at, rfc3339(SystemTime::now()));
        if out.json {
            out.line(&rates)?;
        } else if out.terminal {
            out.text(&format!("{REDRAW}{}", rates.render(all)))?;
        } else {
            out.text(&rates.render_lines(all))?;
        }
        (before, at) = (after, now);
    }
}

fn read(pins: &Pins) -> Result<counters::Counters> {
    if !pins.exist() {
        bail!(
            "nothing is counted: no filter is in force here; start one with `edgefilter run --policy FILE`"
        );
    }
    counters::read(pins).context("cannot read the counters")
}
