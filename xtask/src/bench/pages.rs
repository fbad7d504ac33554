//! A result in docs/performance.md: what is between markers is written anew, everything else is left as people wrote it.
//!
//! `<!-- bench:NAME -->` and `<!-- end -->` stand around what one bench found. A result that does not hold a bench leaves
//! its figures as they are.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::charts;
use super::document::{Document, Goal, Section, Table};

const PAGE: &str = "docs/performance.md";
/// From the page's folder.
const CHARTS: &str = "charts";
const END: &str = "<!-- end -->";

/// Writes the page and the charts below `root`.
pub fn write(root: &Path, document: &Document) -> Result<()> {
    let page = root.join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {PAGE}"))?;
    let filled = fill(&text, document)?;
    let folder = page.with_file_name(CHARTS);
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for chart in document.sections.iter().flat_map(|section| &section.charts) {
        let file = folder.join(format!("{}.svg", chart.name));
        fs::write(&file, charts::svg(chart)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    fs::write(&page, filled).with_context(|| format!("cannot write {PAGE}"))?;
    eprintln!("bench: {PAGE} and its charts are written");
    Ok(())
}

/// The page with what the document holds between its markers.
fn fill(page: &str, document: &Document) -> Result<String> {
    let mut page = page.to_owned();
    for section in &document.sections {
        let marker = format!("<!-- bench:{} -->", section.bench);
        let (before, rest) = page.split_once(&marker).with_context(|| {
            format!(
                "{PAGE} has no place for {}: put `{marker}` and `{END}` where its figures belong",
                section.bench
            )
        })?;
        let (old, after) = rest
            .split_once(END)
            .with_context(|| format!("{PAGE}: no `{END}` behind `{marker}`"))?;
        ensure!(
            !old.contains("<!-- bench:"),
            "{PAGE}: no `{END}` behind `{marker}` before the next one"
        );
        let figures = figures(document, section);
        page = format!("{before}{marker}\n{figures}{END}{after}");
    }
    Ok(page)
}

/// All of one bench, as Markdown.
fn figures(document: &Document, section: &Section) -> String {
    let quick = if document.quick {
        "; a `--quick` run"
    } else {
        ""
    };
    let mut text = format!(
        "\n{}; commit {}, {}{quick}.\n",
        document.machine.text().trim_end(),
        document.commit,
        document.date
    );
    for table in &section.tables {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n**{}**\n\n{}", table.title, markdown(table));
        let drawn = section
            .charts
            .iter()
            .find(|chart| table.title.starts_with(&chart.title));
        if let Some(chart) = drawn {
            let _ = write!(text, "\n![{}]({CHARTS}/{}.svg)\n", chart.title, chart.name);
        }
    }
    if section.tables.is_empty() {
        let _ = write!(text, "\n```text\n{}```\n", section.text);
    }
    let goals: Vec<&Goal> = document
        .goals
        .iter()
        .filter(|goal| goal.bench == section.bench)
        .collect();
    if !goals.is_empty() {
        text.push_str("\n| promise | seen | wanted | |\n|---|---|---|---|\n");
    }
    for goal in goals {
        let value = goal
            .value
            .map_or("not measured".to_owned(), |value| format!("{value:.2}"));
        let _ = writeln!(
            text,
            "| {} | {value} | {} {} | {} |",
            goal.what,
            if goal.at_least { "at least" } else { "at most" },
            goal.limit,
            if goal.met { "kept" } else { "**missed**" },
        );
    }
    text.push('\n');
    text
}

fn markdown(table: &Table) -> String {
    let row = |cells: &[String]| {
        let cells = cells.iter().map(|cell| cell.replace('|', "\\|"));
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let mut text = row(&table.columns);
    text.push_str(&"|---".repeat(table.columns.len()));
    text.push_str("|\n");
    text.extend(table.rows.iter().map(|cells| row(cells)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::arguments::Bench;
    use crate::workspace;
    use clap::ValueEnum as _;

    const RESULT: &str = r#"{
        "machine": {"kernel": "6.18.0", "processor": "a processor", "processors": 2, "xdp_filter": "1.3.1"},
        "commit": "abc1234", "date": "2026-01-02T03:04:05Z", "quick": false,
        "sections": [
            {"bench": "sizes", "text": "", "measured": {}, "figures": null,
             "tables": [{"title": "Cost, ns", "columns": ["rules", "a | b"], "rows": [["1", "30.0"], ["10", "30.5"]]}],
             "charts": [{"name": "rules", "title": "Cost", "x": "rules", "y": "ns",
                         "lines": [{"name": "SYN allowed", "points": [[1, 30.0], [10, 30.5]]}]}]},
            {"bench": "containers", "text": "lines\n", "measured": {}, "figures": null, "tables": [], "charts": []}
        ],
        "goals": [{"id": "flat", "bench": "sizes", "what": "10 rules, of 1", "value": 1.0166, "limit": 1.05,
                   "at_least": false, "met": true, "promise": "here"}]
    }"#;

    fn result() -> Document {
        serde_json::from_str(RESULT).unwrap()
    }

    #[test]
    fn figures_stand_between_their_markers() {
        let page = "By hand.\n\n<!-- bench:sizes -->\nold\n<!-- end -->\n\nMeaning.\n\n<!-- bench:push -->\nkept\n\
                    <!-- end -->\n<!-- bench:containers --><!-- end -->\n";
        let filled = fill(page, &result()).unwrap();
        let expected = "By hand.\n\n<!-- bench:sizes -->\n\n\
            Linux 6.18.0, a processor (2 online), xdp-filter 1.3.1; commit abc1234, 2026-01-02T03:04:05Z.\n\n\
            **Cost, ns**\n\n| rules | a \\| b |\n|---|---|\n| 1 | 30.0 |\n| 10 | 30.5 |\n\n![Cost](charts/rules.svg)\n\n\
            | promise | seen | wanted | |\n|---|---|---|---|\n| 10 rules, of 1 | 1.02 | at most 1.05 | kept |\n\n\
            <!-- end -->\n\nMeaning.\n\n<!-- bench:push -->\nkept\n<!-- end -->\n<!-- bench:containers -->\n\n\
            Linux 6.18.0, a processor (2 online), xdp-filter 1.3.1; commit abc1234, 2026-01-02T03:04:05Z.\n\n\
            ```text\nlines\n```\n\n<!-- end -->\n";
        assert_eq!(filled, expected);
        assert_eq!(fill(&filled, &result()).unwrap(), expected);
    }

    #[test]
    fn a_page_without_markers_is_refused() {
        for page in [
            "nothing",
            "<!-- bench:sizes --> <!-- bench:containers --> <!-- end -->",
        ] {
            let error = fill(page, &result()).unwrap_err();
            assert!(error.to_string().contains("bench:sizes"), "{error}");
        }
    }

    #[test]
    fn the_page_has_a_place_for_every_bench() {
        let page = fs::read_to_string(workspace::root().join(PAGE)).unwrap();
        let mut all = result();
        let section = all.sections.remove(1);
        all.sections = Bench::value_variants()
            .iter()
            .map(|bench| Section {
                bench: bench.name(),
                ..section.clone()
            })
            .collect();
        fill(&page, &all).unwrap();
    }

    #[test]
    fn a_chart_shows_its_lines() {
        let chart = &result().sections[0].charts[0];
        let svg = charts::svg(chart).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for word in ["Cost", "SYN allowed", "rules", "polyline"] {
            assert!(svg.contains(word), "no {word} in {svg}");
        }
    }
}
