//! A picture of a screen, in SVG.

use std::fmt::Write;

use ratatui_core::buffer::{Buffer, Cell};
use ratatui_core::style::{Color, Modifier};

/// The size of a character, and the space around a screen.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 18.0;
const MARGIN: f64 = 14.0;

const BACKGROUND: &str = "#1d2025";
const FOREGROUND: &str = "#d7dae0";

/// Returns a picture of these screens, one below the other.
pub(super) fn svg(screens: &[Buffer]) -> String {
    let width = screens.iter().map(|screen| f64::from(screen.area.width) * WIDTH + 2.0 * MARGIN).fold(0.0, f64::max);
    let mut body = String::new();
    let mut top = 0.0;
    for screen in screens {
        let height = f64::from(screen.area.height) * HEIGHT + 2.0 * MARGIN;
        // Writing to a text does not fail.
        let _ = writeln!(body, r#"<rect y="{top}" width="{width}" height="{height}" rx="8" fill="{BACKGROUND}"/>"#);
        for y in 0..screen.area.height {
            line(&mut body, screen, y, top + MARGIN + f64::from(y) * HEIGHT);
        }
        top += height + MARGIN;
    }
    let height = top - MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"14\">\n\
         <title>parlour top: the names of a machine, and the clients of one</title>\n{body}</svg>\n"
    )
}

/// Draws a line, in runs of characters of the same style.
fn line(body: &mut String, screen: &Buffer, y: u16, top: f64) {
    let style = |x: u16| {
        let cell: &Cell = &screen[(x, y)];
        (cell.fg, cell.modifier)
    };
    let mut from = 0;
    for to in 1..=screen.area.width {
        if to < screen.area.width && style(to) == style(from) {
            continue;
        }
        let text: String = (from..to).map(|x| screen[(x, y)].symbol()).collect();
        let (colour, modifier) = style(from);
        let left = MARGIN + f64::from(from) * WIDTH;
        let width = f64::from(to - from) * WIDTH;
        run(body, &text, [left, top, width], colour, modifier);
        from = to;
    }
}

fn run(body: &mut String, text: &str, [left, top, width]: [f64; 3], colour: Color, modifier: Modifier) {
    let colour = match colour {
        Color::Red => "#ff7b72",
        Color::Yellow => "#e3b341",
        _ => FOREGROUND,
    };
    let is_reversed = modifier.contains(Modifier::REVERSED);
    if is_reversed {
        let _ = writeln!(
            body,
            r#"<rect x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{HEIGHT}" fill="{colour}"/>"#
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let fill = if is_reversed { BACKGROUND } else { colour };
    let weight = if modifier.contains(Modifier::BOLD) { r#" font-weight="bold""# } else { "" };
    let decoration = if modifier.contains(Modifier::UNDERLINED) { r#" text-decoration="underline""# } else { "" };
    let opacity = if modifier.contains(Modifier::DIM) { r#" opacity="0.7""# } else { "" };
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = write!(body, r#"<text x="{left:.1}" y="{:.1}" textLength="{width:.1}" "#, top + HEIGHT - 4.5);
    let _ = writeln!(body, r#"xml:space="preserve" fill="{fill}"{weight}{decoration}{opacity}>{text}</text>"#);
}
