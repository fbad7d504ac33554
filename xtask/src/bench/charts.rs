//! Lines over sizes as SVG: decades to the right, nanoseconds upwards.

use anyhow::{Result, anyhow};
use plotters::prelude::{
    BLACK, ChartBuilder, Color as _, IntoDrawingArea as _, IntoLogRange as _, LineSeries,
    PathElement, RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
};

use super::document::Chart;

const SIZE: (u32, u32) = (860, 420);
const FONT: &str = "sans-serif";
/// Told apart by people who see colours otherwise as well (Okabe and Ito's palette).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];

/// The chart's SVG; the same for the same figures.
pub fn svg(chart: &Chart) -> Result<String> {
    let mut text = String::new();
    // plotters' errors hold the drawing area, which is gone when they are shown
    draw(chart, &mut text).map_err(|error| anyhow!("chart {}: {error}", chart.name))?;
    Ok(text)
}

fn draw(chart: &Chart, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let points = || chart.lines.iter().flat_map(|line| &line.points);
    let first = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
    let last = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let most = points().map(|(_, y)| *y).fold(1.0, f64::max);
    let least = points().map(|(_, y)| *y).fold(0.0, f64::min);
    let range = (first.min(last) * 0.9)..(last * 1.3);

    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut drawn = ChartBuilder::on(&area)
        .caption(&chart.title, (FONT, 17))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(60)
        // room for the legend above the lines
        .build_cartesian_2d(range.log_scale(), least..most * 1.3)?;
    drawn
        .configure_mesh()
        .x_desc(&chart.x)
        .y_desc(&chart.y)
        .x_label_formatter(&|size| short(*size))
        .y_label_formatter(&|figure| format!("{figure:.0}"))
        .label_style((FONT, 13))
        .light_line_style(WHITE)
        .draw()?;
    for (line, colour) in chart.lines.iter().zip(COLOURS.into_iter().cycle()) {
        let style = colour.stroke_width(2);
        drawn
            .draw_series(LineSeries::new(line.points.iter().copied(), style).point_size(3))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    drawn
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 13))
        .draw()?;
    area.present()?;
    Ok(())
}

/// 1, 10, 1 k, 1 M.
fn short(size: f64) -> String {
    if size >= 1e6 {
        format!("{} M", size / 1e6)
    } else if size >= 1e3 {
        format!("{} k", size / 1e3)
    } else {
        format!("{size}")
    }
}
