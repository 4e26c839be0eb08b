//! The text whose lines the demo's clients send.

use std::path::Path;

use anyhow::Context as _;

use crate::exit::{self, Failure};
use crate::lines::{Framing, Splitter};
use crate::stdio;

/// The built-in text: lines of many lengths, empty lines, and letters of many scripts.
const CARRIED: &str = include_str!("text.txt");

/// A text as lines of bytes.
pub(super) struct Text {
    /// The source of the text, for display.
    pub(super) origin: String,
    lines: Vec<Vec<u8>>,
}

impl Text {
    /// Loads the lines of a file or of stdin (`-`), or the built-in text.
    pub(super) fn load(input: Option<&Path>) -> anyhow::Result<Text> {
        let text = match input {
            None => Text::new("built-in text", CARRIED.as_bytes()),
            Some(path) if path.as_os_str() == "-" => Text::new("stdin", &stdio::read_stdin().context("reading stdin")?),
            Some(path) => Text::read(path)?,
        };
        if text.lines.is_empty() {
            let message = format!("the input ({}) has no lines", text.origin);
            return Err(Failure::new(exit::USAGE, message).into());
        }
        Ok(text)
    }

    /// Loads the lines of a file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Text> {
        let shown = path.display();
        let bytes = std::fs::read(path).with_context(|| format!("reading {shown}"))?;
        Ok(Text::new(&shown.to_string(), &bytes))
    }

    fn new(origin: &str, bytes: &[u8]) -> Text {
        let mut splitter = Splitter::new(Framing::Lines, 1);
        splitter.push(bytes);
        splitter.end();
        let mut lines = Vec::new();
        while let Some(line) = splitter.peek() {
            lines.push(line.to_vec());
            splitter.consume();
        }
        Text { origin: origin.to_owned(), lines }
    }

    /// Returns the lines. Each is one message.
    pub(super) fn lines(&self) -> &[Vec<u8>] {
        &self.lines
    }

    /// Returns the total length of the lines in bytes, without the newlines.
    pub(super) fn bytes(&self) -> u64 {
        self.lines.iter().map(|line| line.len() as u64).sum()
    }

    /// Returns the contents of a file from which the clients read the text.
    pub(super) fn to_file(&self) -> Vec<u8> {
        let mut bytes = self.lines.join(&b'\n');
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_built_in_text_has_lines_of_every_kind() {
        let text = Text::load(None).unwrap();
        assert!(text.lines().len() >= 1000, "{} lines", text.lines().len());
        assert!(text.lines().iter().any(Vec::is_empty), "an empty line is an empty message");
        assert!(text.lines().iter().any(|line| line.len() > 1000), "a long line");
        assert!(text.lines().iter().any(|line| !line.is_ascii()), "letters beyond ASCII");
        let mut different = text.lines().to_vec();
        different.sort();
        different.dedup();
        assert!(different.len() > 900, "{} different lines", different.len());
    }

    #[test]
    fn a_text_survives_a_round_trip_through_a_file() {
        let text = Text::new("", b"one\n\ntwo");
        assert_eq!(Text::new("", &text.to_file()).lines(), text.lines());
    }
}
