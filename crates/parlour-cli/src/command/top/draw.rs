//! Draws a page into the cells of a terminal.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};

use super::model::Model;
use super::page::{self, Column, Row, Tone};

/// The width from which on the wide columns are shown.
const WIDE: u16 = 120;

/// Takes up the size of the terminal, and draws all of it.
pub(super) fn draw(model: &mut Model, area: Rect, buffer: &mut Buffer) {
    let head = page::head(model);
    // The titles of the table and the help take a line each.
    let around = head.len() + 2;
    model.fit(usize::from(area.height).saturating_sub(around));

    let mut y = area.y;
    let mut line = |text: &str, style: Style| {
        if y < area.bottom() {
            put(buffer, Rect { y, height: 1, ..area }, text, style);
        }
        y += 1;
    };
    let width = usize::from(area.width);
    for part in &head {
        line(&cut(&part.text, width).0, style(part.tone));
    }
    let is_wide = area.width >= WIDE;
    let columns = page::columns(model);
    let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    let titles = joined(columns, &titles, is_wide, width);
    let titles_y = area.y.saturating_add(u16::try_from(head.len()).unwrap_or(u16::MAX));
    line(&titles, Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED));
    for (index, Row { cells, tone }) in page::rows(model, false).iter().enumerate() {
        let is_selected = model.top + index == model.at;
        let style = if is_selected { style(*tone).add_modifier(Modifier::REVERSED) } else { style(*tone) };
        line(&joined(columns, cells, is_wide, width), style);
    }
    let sorted_by = page::sorted_by(model);
    if let Some(x) = titles.find(sorted_by).and_then(|x| u16::try_from(x).ok()) {
        let title = Rect { x: area.x.saturating_add(x), y: titles_y, width: sorted_by.len() as u16, height: 1 };
        buffer.set_style(title.intersection(area), Style::new().add_modifier(Modifier::REVERSED));
    }
    if area.height > 0 {
        let last = Rect { y: area.bottom() - 1, height: 1, ..area };
        put(buffer, last, &cut(&page::help(model), width).0, Style::new().add_modifier(Modifier::DIM));
    }
}

/// Writes a text over a whole line.
fn put(buffer: &mut Buffer, line: Rect, text: &str, style: Style) {
    for x in line.left()..line.right() {
        buffer[(x, line.y)].set_symbol(" ");
    }
    buffer.set_stringn(line.x, line.y, text, usize::from(line.width), Style::new());
    buffer.set_style(line, style);
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain | Tone::Graph => Style::new(),
        Tone::Title => Style::new().add_modifier(Modifier::BOLD),
        Tone::Stuck => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Tone::Stopped => Style::new().fg(Color::Yellow),
    }
}

/// Returns the cells of one line, each cut or filled to the width of its column. A space separates the columns.
fn joined(columns: &[Column], cells: &[String], is_wide: bool, width: usize) -> String {
    let mut line = String::new();
    let mut used = 0;
    for (column, cell) in columns.iter().zip(cells) {
        let space = column.widths[usize::from(is_wide)].min(width.saturating_sub(used));
        if space == 0 {
            continue;
        }
        let (cell, length) = cut(cell, space);
        let filling = " ".repeat(space - length);
        let parts = if column.is_number { [&*filling, &*cell] } else { [&*cell, &*filling] };
        line.extend(parts);
        line.push(' ');
        used += space + 1;
    }
    line
}

/// Returns the beginning of a text that has this width at most, and its width. A dot marks what was cut.
fn cut(text: &str, width: usize) -> (String, usize) {
    let width_of = |text: &str| ratatui_core::text::Span::raw(text).width();
    let whole = width_of(text);
    if whole <= width {
        return (text.to_owned(), whole);
    }
    let mut kept = String::new();
    for c in text.chars() {
        let mut longer = kept.clone();
        longer.push(c);
        if width_of(&longer) + 1 > width {
            break;
        }
        kept = longer;
    }
    kept.push('…');
    let length = width_of(&kept);
    (kept, length)
}
