//! JSON in printable ASCII only, so that no text in a record can steer a terminal, hide, or break a line; and texts cut to
//! a length as written there.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter};

/// A value on one line.
pub(super) fn json(value: &impl Serialize) -> io::Result<String> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Ascii))?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

struct Ascii;

impl Formatter for Ascii {
    /// Fragments hold no quotes, backslashes and control characters below space: those are escaped already.
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for c in fragment.chars() {
            if is_plain(c) {
                CompactFormatter.write_string_fragment(writer, c.encode_utf8(&mut [0; 4]))?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~')
}

/// Bytes that a character takes as written here, or more.
fn written(c: char) -> usize {
    match c {
        '"' | '\\' => 2,
        c if is_plain(c) => 1,
        c => 6 * c.len_utf16(),
    }
}

/// The text, or as much of it as fits into `limit` bytes with a mark that says how long it was.
pub(super) fn cut(text: &mut String, limit: usize) {
    /// ` [cut, of N bytes]`
    const MARK: usize = 36;
    if text.chars().map(written).sum::<usize>() <= limit {
        return;
    }
    let mut room = limit.saturating_sub(MARK);
    let fitting = text.char_indices().take_while(|(_, c)| {
        let fits = written(*c) <= room;
        room = room.saturating_sub(written(*c));
        fits
    });
    let end = fitting.last().map_or(0, |(at, c)| at + c.len_utf8());
    let whole = text.len();
    text.truncate(end);
    // Writing into a String cannot fail.
    let _ = write!(text, " [cut, of {whole} bytes]");
}
