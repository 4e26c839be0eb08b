//! The report of `parlour bench --html`: one file, which needs no other file, no script and no network.

use std::fmt::Write;

use parlour_measure::Size;

use super::bench_row::{BASELINE, Row};

/// The machine and the measurement, for the head of the report.
pub(super) struct About {
    pub(super) version: &'static str,
    pub(super) kernel: String,
    pub(super) processor: String,
    pub(super) processors: usize,
    /// The time of the report, to the second.
    pub(super) time: String,
    pub(super) rounds: u32,
}

const STYLE: &str = "\
:root { color-scheme: light dark; --text: #1a1a1a; --dim: #666; --line: #ddd; --back: #fff; }
@media (prefers-color-scheme: dark) { :root { --text: #e8e8e8; --dim: #a0a0a0; --line: #444; --back: #181818; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 2rem auto; \
max-width: 56rem; padding: 0 1rem; }
h1, h2 { line-height: 1.2; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.about { color: var(--dim); }
svg { width: 100%; height: auto; }
svg text { fill: var(--text); font: 14px system-ui, sans-serif; }
svg line { stroke: var(--line); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { white-space: nowrap; padding: .2rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
div.wide { overflow-x: auto; }
";

/// The widths of the chart in units of its own: the names, the longest bar, and the figures behind the bars.
const NAMES: f64 = 90.0;
const BARS: f64 = 560.0;
const FIGURES: f64 = 170.0;
const ROW: f64 = 30.0;

/// Returns the report of these rows.
pub(super) fn report(about: &About, rows: &[Row]) -> String {
    let mut html = String::new();
    let time = escaped(&about.time);
    let about_text = format!(
        "parlour {}, {} on {} processors, Linux {}, {}. {}.",
        escaped(about.version),
        escaped(&about.processor),
        about.processors,
        escaped(&about.kernel),
        time,
        match about.rounds {
            1 => "1 round".to_owned(),
            rounds => format!("{rounds} rounds"),
        }
    );
    html.push_str("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    push(&mut html, format_args!("<title>parlour bench, {time}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"));
    push(&mut html, format_args!("<h1>parlour on this machine</h1>\n<p class=\"about\">{about_text}</p>\n"));
    html.push_str(
        "<p>Each bar is the median time of one round trip between two processes, or of one message in a one-way \
         stream: shorter is better. The figure in parentheses is the median ratio to <code>raw-stream</code> in the \
         same round, a blocking UNIX socket with one system call for each message. Other load on the machine changes \
         the times; it changes the ratios less.</p>\n",
    );
    for work in works(rows) {
        push(&mut html, format_args!("<h2>{}</h2>\n", title(work)));
        chart(&mut html, work, &of(rows, work).collect::<Vec<_>>());
    }
    html.push_str("<h2>All figures</h2>\n<div class=\"wide\">\n<table>\n<tr><th>work</th><th>over</th><th>best</th>");
    html.push_str("<th>median</th><th>99 % below</th><th>ratio</th></tr>\n");
    for row in works(rows).into_iter().flat_map(|work| of(rows, work)) {
        let [best, median, p99] = [row.best_us, row.median_us, row.p99_us].map(duration);
        let (title, name, ratio) = (title((row.work, row.bytes)), name(row.contender), row.time_to_raw_stream);
        push(&mut html, format_args!("<tr><td>{title}</td><td>{name}</td><td>{best}</td><td>{median}</td>"));
        push(&mut html, format_args!("<td>{p99}</td><td>\u{d7}{ratio:.2}</td></tr>\n"));
    }
    html.push_str("</table>\n</div>\n</body>\n</html>\n");
    html
}

/// Returns the kinds of work, in the order of the rows.
fn works(rows: &[Row]) -> Vec<(&'static str, usize)> {
    rows.iter().filter(|row| row.contender == BASELINE).map(|row| (row.work, row.bytes)).collect()
}

/// Returns the rows of one kind of work.
fn of<'a>(rows: &'a [Row], work: (&'static str, usize)) -> impl Iterator<Item = &'a Row> {
    rows.iter().filter(move |row| (row.work, row.bytes) == work)
}

fn title((work, bytes): (&str, usize)) -> String {
    let kind = if work == "stream" { "one way" } else { "round trip" };
    let size = Size(bytes).to_string();
    // `64` or `64KiB`.
    let digits = size.trim_end_matches(char::is_alphabetic);
    let unit = if digits == size { "B" } else { &size[digits.len()..] };
    format!("{digits} {unit}, {kind}")
}

fn name(contender: &str) -> &str {
    contender.strip_prefix("parlour-").unwrap_or(contender)
}

/// Returns the colour of a contender, from a palette that colour-blind people can tell apart.
fn colour(contender: &str) -> &'static str {
    match contender {
        "parlour-shm" => "#cc79a7",
        "parlour-packet" => "#e69f00",
        "parlour-unix" => "#0072b2",
        "parlour-fifo" => "#009e73",
        _ => "#808080",
    }
}

/// Draws the rows of one kind of work as bars from zero.
fn chart(html: &mut String, work: (&str, usize), rows: &[&Row]) {
    let longest = rows.iter().map(|row| row.median_us).fold(f64::MIN_POSITIVE, f64::max);
    let (width, height) = (NAMES + BARS + FIGURES, ROW * rows.len() as f64 + 8.0);
    let title = title(work);
    push(html, format_args!("<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{title}\">\n"));
    push(html, format_args!("<line x1=\"{NAMES}\" y1=\"0\" x2=\"{NAMES}\" y2=\"{height:.0}\"/>\n"));
    for (row, number) in rows.iter().zip(0_u32..) {
        let top = ROW * f64::from(number) + 4.0;
        let length = (row.median_us / longest * BARS).max(1.0);
        let (name, colour, baseline) = (name(row.contender), colour(row.contender), top + 17.0);
        let figure = format!("{} (\u{d7}{:.2})", duration(row.median_us), row.time_to_raw_stream);
        push(
            html,
            format_args!("<text x=\"{:.0}\" y=\"{baseline:.0}\" text-anchor=\"end\">{name}</text>", NAMES - 8.0),
        );
        push(html, format_args!("<rect x=\"{NAMES}\" y=\"{top:.0}\" width=\"{length:.1}\" height=\"22\" "));
        push(html, format_args!("rx=\"2\" fill=\"{colour}\"/>"));
        push(html, format_args!("<text x=\"{:.1}\" y=\"{baseline:.0}\">{figure}</text>\n", NAMES + length + 8.0));
    }
    html.push_str("</svg>\n");
}

/// Formats a time in microseconds with three digits and a unit.
fn duration(us: f64) -> String {
    let (value, unit) = match us {
        _ if us < 0.9995 => (us * 1e3, "ns"),
        _ if us < 999.5 => (us, "\u{b5}s"),
        _ => (us / 1e3, "ms"),
    };
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {unit}")
}

fn escaped(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    printable.fold(String::new(), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
        escaped
    })
}

fn push(html: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = html.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(contender: &'static str, work: &'static str, bytes: usize, median_us: f64) -> Row {
        let [best_us, p99_us] = [median_us / 2.0, median_us * 3.0];
        Row { contender, work, bytes, best_us, median_us, p99_us, time_to_raw_stream: median_us / 10.0 }
    }

    #[test]
    fn each_kind_of_work_has_a_chart_and_each_figure_a_place_in_the_table() {
        let about = About {
            version: "1",
            kernel: "6.18".to_owned(),
            processor: "<b>& \"quick\"\u{1b}".to_owned(),
            processors: 2,
            time: "now".to_owned(),
            rounds: 5,
        };
        let rows = [
            row(BASELINE, "roundtrip", 64, 10.0),
            row(BASELINE, "stream", 1 << 20, 10.0),
            row("parlour-unix", "roundtrip", 64, 2.5),
            row("parlour-unix", "stream", 1 << 20, 1234.0),
        ];
        let html = report(&about, &rows);
        assert_eq!(html.matches("<svg ").count(), 2);
        assert_eq!(html.matches("</svg>").count(), 2);
        assert_eq!(html.matches("<rect ").count(), 4);
        for said in [
            "64 B, round trip",
            "1 MiB, one way",
            "width=\"560.0\"",
            "width=\"140.0\"",
            "2.50 \u{b5}s (\u{d7}0.25)",
            "1.23 ms",
            "&lt;b&gt;&amp; &quot;quick&quot;\u{fffd}",
        ] {
            assert!(html.contains(said), "{said} is missing in {html}");
        }
        // Nothing is loaded.
        for loading in ["http", "src=", "href=", "url(", "@import", "<script"] {
            assert!(!html.contains(loading), "{loading}");
        }
    }

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        let cases = [
            (0.0213, "21.3 ns"),
            (0.9994, "999 ns"),
            (1.0, "1.00 \u{b5}s"),
            (9.996, "10.0 \u{b5}s"),
            (99.96, "100 \u{b5}s"),
            (999.6, "1.00 ms"),
            (123_456.0, "123 ms"),
        ];
        for (us, said) in cases {
            assert_eq!(duration(us), said);
        }
    }
}
