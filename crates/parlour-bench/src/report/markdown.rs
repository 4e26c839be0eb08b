//! A report as Markdown, with its charts as files in a directory beside it.

use std::fmt::Write;

use super::document::{Block, Document, Table};

pub(super) fn render(document: &Document, charts: &str) -> String {
    let mut text = format!("# {}\n", document.title);
    for block in &document.blocks {
        // Writing to a string cannot fail.
        let _ = match block {
            Block::Heading(level, title) => write!(text, "\n{} {title}\n", "#".repeat(*level)),
            Block::Text(paragraph) => write!(text, "\n{}\n", wrapped(paragraph)),
            Block::Table(table) => write!(text, "\n{}", rendered(table)),
            Block::Chart(chart) => write!(text, "\n![{}]({charts}/{}.svg)\n", chart.alt, chart.name),
        };
    }
    text
}

/// Wraps a paragraph at 120 columns.
fn wrapped(paragraph: &str) -> String {
    let mut text = String::new();
    let mut column = 0;
    for word in paragraph.split_whitespace() {
        let len = word.chars().count();
        if column > 0 && column + 1 + len > 120 {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += len;
    }
    text
}

fn rendered(table: &Table) -> String {
    let mut text = String::new();
    if let Some(details) = &table.details {
        text.push_str(&format!("<details><summary>{details}</summary>\n\n"));
    }
    text.push_str(&format!("| {} |\n", table.header.join(" | ")));
    let rule = |column| if column < table.text_columns { "---|" } else { "---:|" };
    let rules: String = (0..table.header.len()).map(rule).collect();
    text.push_str(&format!("|{rules}\n"));
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.text.replace('|', "\\|")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    if table.details.is_some() {
        text.push_str("\n</details>\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::document::Chart;
    use super::*;

    #[test]
    fn every_kind_of_block_is_rendered_as_markdown() {
        let mut document = Document::new("Title");
        document.heading(2, "Part");
        document.text("word ".repeat(30));
        let mut table = Table::new(1, &["name", "us"]);
        table.row(["a|b", "1.0"]);
        table.details = Some("more".to_owned());
        document.table(table);
        document.blocks.push(Block::Chart(Chart { name: "c".into(), alt: "what".into(), svg: String::new() }));
        let words = |count| vec!["word"; count].join(" ");
        let expected = format!(
            "# Title\n\n## Part\n\n{}\n{}\n\n<details><summary>more</summary>\n\n| name | us |\n|---|---:|\n\
             | a\\|b | 1.0 |\n\n</details>\n\n![what](charts/c.svg)\n",
            words(24),
            words(6)
        );
        assert_eq!(render(&document, "charts"), expected);
    }
}
