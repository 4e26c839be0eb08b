//! A report as one self-contained HTML file.

use std::fmt::Write;

use super::document::{Block, Document, Mood, Table};

const STYLE: &str = "\
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 78rem; margin: 2rem auto;
  padding: 0 1.5rem; }
h1 { font-size: 1.9rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; } h3 { margin-top: 2rem; }
code { font-family: ui-monospace, monospace; font-size: 0.92em; background: #f2f2f2; padding: 0 0.2em; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.7rem; border-bottom: 1px solid #e2e2e2; text-align: right; white-space: nowrap; }
th { border-bottom: 2px solid #999; } th.t, td.t { text-align: left; white-space: normal; }
tbody tr:hover { background: #f6f6f6; }
.good { color: #00603a; font-weight: 600; } .bad { color: #a80000; font-weight: 600; } .unknown { color: #777; }
figure { margin: 1.5rem 0; overflow-x: auto; } figure svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; } summary { cursor: pointer; margin: 0.8rem 0; }
";

pub(super) fn render(document: &Document) -> String {
    let title = escaped(&document.title);
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    for block in &document.blocks {
        // Writing to a string cannot fail.
        let _ = match block {
            Block::Heading(level, title) => writeln!(text, "<h{level}>{}</h{level}>", inline(title)),
            Block::Text(paragraph) => writeln!(text, "<p>{}</p>", inline(paragraph)),
            Block::Table(table) => writeln!(text, "{}", rendered(table)),
            Block::Chart(chart) => {
                writeln!(text, "<figure role=\"img\" aria-label=\"{}\">{}</figure>", escaped(&chart.alt), chart.svg)
            }
        };
    }
    text.push_str("</body>\n</html>\n");
    text
}

fn rendered(table: &Table) -> String {
    let class = |column: usize, mood: Mood| {
        let mood = match mood {
            Mood::Plain => "",
            Mood::Good => "good",
            Mood::Bad => "bad",
            Mood::Unknown => "unknown",
        };
        let classes = if column < table.text_columns { format!("t {mood}") } else { mood.to_owned() };
        match classes.trim() {
            "" => String::new(),
            classes => format!(" class=\"{classes}\""),
        }
    };
    let header: String = table
        .header
        .iter()
        .enumerate()
        .map(|(column, title)| format!("<th{}>{}</th>", class(column, Mood::Plain), inline(title)))
        .collect();
    let mut text = format!("<div class=\"wide\"><table>\n<thead><tr>{header}</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        let cells: String = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("<td{}>{}</td>", class(column, cell.mood), inline(&cell.text)))
            .collect();
        text.push_str(&format!("<tr>{cells}</tr>\n"));
    }
    text.push_str("</tbody>\n</table></div>");
    match &table.details {
        Some(details) => format!("<details><summary>{}</summary>\n{text}\n</details>", inline(details)),
        None => text,
    }
}

/// Renders `code` and **strong**, and escapes everything else.
fn inline(text: &str) -> String {
    let code = between(&escaped(text), "`", "<code>", "</code>");
    between(&code, "**", "<strong>", "</strong>")
}

fn between(text: &str, mark: &str, begin: &str, end: &str) -> String {
    let pieces = text.split(mark).enumerate();
    pieces.fold(String::new(), |text, (number, piece)| match number {
        0 => text + piece,
        odd if odd % 2 == 1 => text + begin + piece,
        _ => text + end + piece,
    })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_markup_is_escaped() {
        assert_eq!(inline("a < b & `c<d>` **e**"), "a &lt; b &amp; <code>c&lt;d&gt;</code> <strong>e</strong>");
    }

    #[test]
    fn verdicts_have_colours_and_text_columns_are_aligned_to_the_left() {
        let mut table = Table::new(1, &["what", "verdict"]);
        table.row([super::super::document::Cell { text: "x".into(), mood: Mood::Bad }, "1".into()]);
        let html = rendered(&table);
        assert!(html.contains("<td class=\"t bad\">x</td><td>1</td>"), "{html}");
    }
}
