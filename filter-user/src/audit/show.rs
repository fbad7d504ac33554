//! Picks records.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::files::{self, Line, Lines};
use super::record::Record;
use crate::report::time::rfc3339;

/// Which records are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Written then or later.
    pub since: Option<SystemTime>,
    /// By whom.
    pub actor: Option<String>,
    /// An action, or a family of them: `policy` means `policy.apply` and all others of that family.
    pub action: Option<String>,
}

impl Filter {
    /// Most records in one answer.
    pub const MOST: usize = 4096;

    /// Whether a record is wanted.
    #[must_use]
    pub fn picks(&self, record: &Record) -> bool {
        let event = &record.event;
        // times are written in one form, so their order is that of the texts
        let late = self.since.is_none_or(|since| record.time >= rfc3339(since));
        let actor = self.actor.as_ref();
        let actor = actor.is_none_or(|actor| *actor == event.actor.name);
        let action = self.action.as_ref().is_none_or(|action| {
            let rest = event.action.strip_prefix(action.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        late && actor && action
    }
}

/// The last records, `last` at most, that a filter picks, oldest first. Lines that are no records are left to
/// [`verify`](super::verify).
///
/// # Errors
/// The directory or a file cannot be read.
pub fn matching(directory: &Path, filter: &Filter, last: usize) -> io::Result<Vec<Record>> {
    let last = last.min(Filter::MOST);
    let mut picked = VecDeque::new();
    // the newest file first: the others are mostly not wanted
    for path in files::list(directory)?.iter().rev() {
        let room = last - picked.len();
        if room == 0 {
            break;
        }
        match File::open(path) {
            Ok(file) => {
                for record in of_file(file, filter, room)?.into_iter().rev() {
                    picked.push_front(record);
                }
            }
            // it was rotated away meanwhile
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(picked.into())
}

/// The last of one file, oldest first.
fn of_file(file: File, filter: &Filter, last: usize) -> io::Result<VecDeque<Record>> {
    let read = |line: &[u8]| {
        let record = serde_json::from_slice::<Record>(line).ok();
        record.filter(|record| filter.picks(record))
    };
    let mut lines = Lines::new(file);
    let mut picked = VecDeque::new();
    // without conditions a line need not be understood to be passed over
    let all = *filter == Filter::default();
    let mut waiting: VecDeque<Vec<u8>> = VecDeque::new();
    while let Some(line) = lines.next()? {
        let Line::Whole(line) = line else {
            continue;
        };
        if all {
            waiting.push_back(line);
            if waiting.len() > last {
                waiting.pop_front();
            }
        } else if let Some(record) = read(&line) {
            picked.push_back(record);
            if picked.len() > last {
                picked.pop_front();
            }
        }
    }
    picked.extend(waiting.iter().filter_map(|line| read(line)));
    Ok(picked)
}
