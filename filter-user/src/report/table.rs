//! Tables for terminals: aligned columns, no frames, so that a line can be searched and cut.

use comfy_table::{CellAlignment, Table, presets};

/// Aligned columns under a header; columns from `numbers_from` on stand to the right. Ends with a newline.
pub(super) fn render(
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
    numbers_from: usize,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.to_vec());
    table.add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index >= numbers_from {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// Each line indented by two blanks.
pub(super) fn indent(text: &str) -> String {
    text.lines().flat_map(|line| ["  ", line, "\n"]).collect()
}

/// Text in a colour (an SGR parameter of ECMA-48), or as it is.
pub(super) fn paint(text: &str, sgr: u8, colour: bool) -> String {
    if colour {
        format!("\x1b[{sgr}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

pub(super) const GREEN: u8 = 32;
pub(super) const YELLOW: u8 = 33;
pub(super) const RED: u8 = 31;
