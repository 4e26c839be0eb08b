//! Charts with a line for each contender, by the size of the message. Only this module uses kuva.

use std::sync::Arc;

use kuva::plot::line::LineStyle;
use kuva::plot::scatter::MarkerShape;
use kuva::plot::{LinePlot, ScatterPlot};
use kuva::prelude::{LegendPosition, Plot, render_to_svg};
use kuva::render::layout::{Layout, TickFormat};
use parlour_measure::{Placement, Size, Work};

use super::document::{Block, Chart, Document};
use crate::plan;
use crate::results::{Results, Row};

/// One line of a chart: the figures of a contender by size.
struct Line<'a> {
    contender: &'a str,
    points: Vec<(usize, f64)>,
}

/// The quantity that a chart shows.
struct Figure {
    title: &'static str,
    /// The label of the axis of values, with the unit.
    axis: &'static str,
    is: fn(Work) -> bool,
    value: fn(&Row) -> f64,
}

const FIGURES: [Figure; 2] = [
    Figure {
        title: "Round trips",
        axis: "median time of a round trip in µs",
        is: |work| matches!(work, Work::RoundTrip { .. }),
        value: |row| row.summary.median / 1e3,
    },
    Figure {
        title: "Messages one way",
        axis: "bytes per second in MB/s",
        is: |work| matches!(work, Work::Stream { .. }),
        // Bytes per nanosecond are gigabytes per second.
        value: |row| row.work.size() as f64 / row.summary.median * 1e3,
    },
];

/// Adds the charts of a run: parlour beside bare system calls and, if other libraries took part, beside these.
pub(super) fn blocks(document: &mut Document, run: &Results, number: usize) {
    let is_raw = |name: &str| name.starts_with("raw-");
    let is_ours = |name: &str| name.starts_with("parlour-");
    let is_blocking = |name: &str| is_ours(name) && !name.starts_with("parlour-tokio");
    let bare = move |name: &str| is_raw(name) || is_blocking(name);
    let others = move |name: &str| (!is_raw(name) && !name.ends_with("-send")) || name == "raw-stream";
    let has_others = run.rows.iter().any(|row| !is_raw(&row.contender) && !is_ours(&row.contender));
    for figure in &FIGURES {
        for placement in Placement::ALL {
            block(document, (number, run), figure, placement, "beside bare system calls", &bare);
            if has_others {
                block(document, (number, run), figure, placement, "beside other libraries", &others);
            }
        }
    }
}

fn block(
    document: &mut Document,
    (number, run): (usize, &Results),
    figure: &Figure,
    placement: Placement,
    beside: &str,
    wanted: &dyn Fn(&str) -> bool,
) {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for row in run.rows.iter().filter(|row| (figure.is)(row.work) && row.placement == placement) {
        if !wanted(&row.contender) {
            continue;
        }
        let point = (row.work.size(), (figure.value)(row));
        match lines.iter_mut().find(|line| line.contender == row.contender) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { contender: &row.contender, points: vec![point] }),
        }
    }
    // One size does not make a line, and the tables show it.
    lines.retain(|line| line.points.len() > 1);
    if lines.is_empty() {
        return;
    }
    for line in &mut lines {
        line.points.sort_by_key(|(size, _)| *size);
    }
    // The legend has the order of the right ends of the lines.
    let last = |line: &Line<'_>| line.points.last().map_or(0.0, |(_, value)| *value);
    lines.sort_by(|one, other| last(other).total_cmp(&last(one)));
    let title = format!("{}, {beside}, {placement}", figure.title);
    let name = format!("run {number} {title}").to_ascii_lowercase().replace([' ', ','], "-").replace("--", "-");
    let svg = draw(&title, figure.axis, &lines);
    document.blocks.push(Block::Chart(Chart { name, alt: title, svg }));
}

/// The style of a contender's line. A bare system call has the colour of the transport that is built on it.
struct Look {
    colour: &'static str,
    style: LineStyle,
    width: f64,
    marker: MarkerShape,
}

fn look(contender: &str, number_of_other: usize) -> Look {
    let (blue, orange, green, purple, black) = ("#0072B2", "#D55E00", "#009E73", "#7B3294", "#222222");
    let ours = |colour, marker| Look { colour, style: LineStyle::Solid, width: 2.6, marker };
    let sent = |colour, marker| Look { colour, style: LineStyle::Dotted, width: 1.6, marker };
    let bare = |colour, marker| Look { colour, style: LineStyle::Dashed, width: 1.6, marker };
    match contender {
        "parlour-unix" => ours(blue, MarkerShape::Circle),
        "parlour-packet" => ours(orange, MarkerShape::Square),
        "parlour-fifo" => ours(green, MarkerShape::Triangle),
        "parlour-shm" => ours(purple, MarkerShape::Diamond),
        "parlour-unix-send" => sent(blue, MarkerShape::Circle),
        "parlour-packet-send" => sent(orange, MarkerShape::Square),
        "parlour-fifo-send" => sent(green, MarkerShape::Triangle),
        "parlour-shm-send" => sent(purple, MarkerShape::Diamond),
        "parlour-tokio" => ours("#56B4E9", MarkerShape::TriangleDown),
        "parlour-tokio-threads" => sent("#56B4E9", MarkerShape::TriangleDown),
        "raw-stream" => bare(black, MarkerShape::Circle),
        "raw-packet" => bare(orange, MarkerShape::Square),
        "raw-packet-packed" => bare(orange, MarkerShape::Diamond),
        "raw-fifo" => bare(green, MarkerShape::Triangle),
        _ => {
            const COLOURS: [&str; 5] = ["#AA4499", "#999933", "#8C564B", "#666666", "#E69F00"];
            const STYLES: [LineStyle; 3] = [LineStyle::DashDot, LineStyle::Solid, LineStyle::Dotted];
            const MARKERS: [MarkerShape; 4] =
                [MarkerShape::Cross, MarkerShape::Plus, MarkerShape::Star, MarkerShape::Pentagon];
            Look {
                colour: COLOURS[number_of_other % COLOURS.len()],
                style: STYLES[number_of_other / COLOURS.len() % STYLES.len()].clone(),
                width: 1.4,
                marker: MARKERS[number_of_other % MARKERS.len()],
            }
        }
    }
}

/// Draws a chart as SVG. Both axes are logarithmic. The axis of sizes shows binary exponents, so that its ticks are
/// powers of two.
fn draw(title: &str, axis: &str, lines: &[Line<'_>]) -> String {
    let mut plots: Vec<Plot> = Vec::new();
    // Other libraries keep their styles from chart to chart as long as the same libraries take part.
    let mut others: Vec<&str> = lines.iter().map(|line| line.contender).collect();
    others.retain(|name| !name.starts_with("parlour-") && !name.starts_with("raw-"));
    others.sort_unstable();
    for line in lines {
        let number = others.iter().position(|name| *name == line.contender).unwrap_or(0);
        let Look { colour, style, width, marker } = look(line.contender, number);
        let points: Vec<(f64, f64)> = line.points.iter().map(|&(size, value)| ((size as f64).log2(), value)).collect();
        let drawn = LinePlot::new().with_data(points.clone()).with_color(colour).with_stroke_width(width);
        plots.push(drawn.with_line_style(style).with_legend(line.contender).into());
        plots.push(ScatterPlot::new().with_data(points).with_color(colour).with_size(4.5).with_marker(marker).into());
    }
    let exponents = lines.iter().flat_map(|line| &line.points).map(|(size, _)| (*size as f64).log2());
    let (least, most) = exponents.fold((f64::MAX, f64::MIN), |(least, most), at| (least.min(at), most.max(at)));
    let sizes = TickFormat::Custom(Arc::new(|exponent| plan::size(Size(exponent.exp2().round() as usize))));
    let values = TickFormat::Custom(Arc::new(plain));
    let layout = Layout::auto_from_plots(&plots)
        .with_title(title)
        .with_x_label("size of the message")
        .with_y_label(axis)
        .with_log_y()
        .with_x_axis_min(least)
        .with_x_axis_max(most)
        .with_x_tick_step(2.0)
        .with_x_tick_format(sizes)
        .with_y_tick_format(values)
        .with_legend_position(LegendPosition::OutsideRightTop)
        .with_legend_width(210.0)
        .with_width(1080.0)
        .with_height(560.0);
    render_to_svg(plots, layout)
}

/// Formats a number without an exponent and without trailing zeros.
fn plain(value: f64) -> String {
    match value {
        _ if value >= 1.0 => format!("{value:.0}"),
        _ => format!("{value:.4}").trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_a_line_for_each_contender_and_names_its_units() {
        let line = |contender| Line { contender, points: vec![(64, 1.0), (65536, 20.0)] };
        let svg = draw("Title of it", "time in µs", &[line("raw-stream"), line("parlour-unix"), line("another")]);
        for said in ["Title of it", "raw-stream", "parlour-unix", "another", "64 B", "64 KiB", "time in µs"] {
            assert!(svg.contains(said), "{said}");
        }
    }

    #[test]
    fn ticks_are_plain_numbers() {
        assert_eq!([0.1, 0.01, 1.0, 1000.0].map(plain), ["0.1", "0.01", "1", "1000"]);
    }
}
