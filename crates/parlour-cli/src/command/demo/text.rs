//! What the demo's clients send.

use std::io::Read;
use std::path::Path;

use anyhow::Context as _;

use crate::exit::{self, Failure};
use crate::lines::{Framing, Splitter};

/// The text that the program carries: lines of many lengths, empty ones, and letters of many scripts.
const CARRIED: &str = include_str!("text.txt");

/// Lines, as bytes.
pub(super) struct Text {
    /// Where it is from, for people.
    pub(super) origin: String,
    lines: Vec<Vec<u8>>,
}

impl Text {
    /// The lines of a file, of stdin (`-`), or the text that the program carries.
    pub(super) fn load(input: Option<&Path>) -> anyhow::Result<Text> {
        let text = match input {
            None => Text::new("carried by the program", CARRIED.as_bytes()),
            Some(path) if path.as_os_str() == "-" => {
                let mut bytes = Vec::new();
                std::io::stdin().lock().read_to_end(&mut bytes).context("reading stdin")?;
                Text::new("stdin", &bytes)
            }
            Some(path) => Text::read(path)?,
        };
        if text.lines.is_empty() {
            let message = format!("the input ({}) has no line to send", text.origin);
            return Err(Failure::new(exit::USAGE, message).into());
        }
        Ok(text)
    }

    /// The lines of a file.
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

    /// One message each.
    pub(super) fn lines(&self) -> &[Vec<u8>] {
        &self.lines
    }

    /// The bytes of all lines, without the newlines.
    pub(super) fn bytes(&self) -> u64 {
        self.lines.iter().map(|line| line.len() as u64).sum()
    }

    /// The text as a file for the clients to read.
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
    fn the_carried_text_has_lines_of_every_sort() {
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
    fn a_text_is_the_same_after_its_file() {
        let text = Text::new("", b"one\n\ntwo");
        assert_eq!(Text::new("", &text.to_file()).lines(), text.lines());
    }
}
