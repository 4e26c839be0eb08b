//! Foreign text made printable: file names, link targets and records that another user wrote.
//!
//! Such text may contain terminal escapes, line breaks, and characters that reorder the text around them. An error or a
//! table shows it in a notation of printable characters only.

use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;

/// The maximum length of the result in bytes, without the mark of an omission. Longer than the paths that people use,
/// and short enough for one line of a log.
pub const ESCAPED_LEN_MAX: usize = 1024;

/// The mark that the rest of the text was omitted. No other backslash in the result is followed by a dot.
const OMITTED: &str = "\\...";

/// Returns text of another user, such as a path or [`Owner::program`](crate::Owner::program), in a form that is safe to
/// print. See [`Escaped`]. The errors and the `Display` of this crate use it.
///
/// # Examples
///
/// ```
/// use parlour::inspect::escaped;
///
/// assert_eq!(escaped("/run/parlour/wc").to_string(), "/run/parlour/wc");
/// assert_eq!(escaped("\x1b]0;title\x07\u{202e}\\").to_string(), r"\x1b]0;title\x07\u{202e}\\");
/// ```
pub fn escaped(text: &(impl AsRef<OsStr> + ?Sized)) -> Escaped<'_> {
    Escaped(text.as_ref().as_bytes())
}

/// Text that is escaped when it is written.
///
/// Printable characters stand for themselves. A backslash is written as `\\`, a control character as `\n`, `\r`, `\t`
/// or `\xNN`, any other character that is not printable as `\u{NNNN}`, and a byte that is not UTF-8 as `\xNN`.
/// Characters that are not printable include the C1 control characters, line and paragraph separators, characters
/// without width and those that change the direction of text. Different texts thus have different forms. A text whose
/// form is longer than [`ESCAPED_LEN_MAX`] is cut at a character, and `\...` marks the omission.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = ESCAPED_LEN_MAX;
        let mut form = String::new();
        for chunk in self.0.utf8_chunks() {
            let characters = chunk.valid().chars().map(Piece::Character);
            for piece in characters.chain(chunk.invalid().iter().copied().map(Piece::Invalid)) {
                form.clear();
                piece.write(&mut form)?;
                let Some(left) = space.checked_sub(form.len()) else { return f.write_str(OMITTED) };
                space = left;
                f.write_str(&form)?;
            }
        }
        Ok(())
    }
}

/// A writer that passes printable characters on, and writes any other character as [`Escaped`] does. A backslash stands
/// for itself, so that text which was escaped before is not escaped again.
pub(crate) struct Printable<W>(pub(crate) W);

impl<W: Write> Write for Printable<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c| !is_printable(c)) {
            let (before, after) = rest.split_at(at);
            self.0.write_str(before)?;
            let mut characters = after.chars();
            if let Some(c) = characters.next() {
                let mut form = String::new();
                Piece::Character(c).write(&mut form)?;
                self.0.write_str(&form)?;
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Returns the text as [`Printable`] writes it.
pub(crate) fn without_control(text: String) -> String {
    if text.chars().all(is_printable) {
        return text;
    }
    let mut written = String::new();
    // Writing to a string does not fail.
    let _ = Printable(&mut written).write_str(&text);
    written
}

/// A part of the text that is not divided.
enum Piece {
    Character(char),
    Invalid(u8),
}

impl Piece {
    fn write(&self, out: &mut String) -> fmt::Result {
        match *self {
            Self::Character('\\') => out.write_str("\\\\"),
            Self::Character('\n') => out.write_str("\\n"),
            Self::Character('\r') => out.write_str("\\r"),
            Self::Character('\t') => out.write_str("\\t"),
            // An ASCII character is below 0x80 and a byte that is not UTF-8 is not, so their forms differ.
            Self::Character(c) if c.is_ascii_control() => write!(out, "\\x{:02x}", u32::from(c)),
            Self::Character(c) if is_printable(c) => out.write_char(c),
            Self::Character(c) => write!(out, "{}", c.escape_unicode()),
            Self::Invalid(byte) => write!(out, "\\x{byte:02x}"),
        }
    }
}

/// Returns the text with U+FFFD in the place of each character that is not printable, for a text that others store or
/// print in their own way.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_printable(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// Returns true if the standard library takes the character for printable. Its table is used through `escape_debug`,
/// which escapes a combining mark only at the beginning of a text.
pub(crate) fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    let mut buffer = [b'a'; 5];
    let length = 1 + c.encode_utf8(&mut buffer[1..]).len();
    std::str::from_utf8(&buffer[..length]).is_ok_and(|text| text.escape_debug().nth(1) == Some(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form_of(bytes: &[u8]) -> String {
        escaped(OsStr::from_bytes(bytes)).to_string()
    }

    /// Returns the bytes of a form that is complete.
    fn undo(form: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = form.chars();
        while let Some(c) = rest.next() {
            let hex = |digits: &str| u32::from_str_radix(digits, 16).unwrap();
            let c = match c {
                '\\' => match rest.next().unwrap() {
                    '\\' => '\\',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'x' => {
                        bytes.push(hex(&rest.by_ref().take(2).collect::<String>()) as u8);
                        continue;
                    }
                    'u' => {
                        let digits: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                        char::from_u32(hex(&digits)).unwrap()
                    }
                    other => panic!("`\\{other}` in {form}"),
                },
                c => c,
            };
            bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        bytes
    }

    #[test]
    fn ordinary_text_stands_for_itself() {
        for text in ["/run/parlour/wc", "", " ", "it's \"quoted\"", "/home/zoë/日本", "e\u{301}", "\u{fffd}"] {
            assert_eq!(escaped(text).to_string(), text);
        }
    }

    #[test]
    fn every_kind_of_character_that_is_not_printable_is_escaped() {
        for (bytes, form) in [
            (&b"\x1b]0;X\x07"[..], r"\x1b]0;X\x07"),
            (b"a\nb\rc\td\0\x7f", r"a\nb\rc\td\x00\x7f"),
            (b"back\\slash", r"back\\slash"),
            ("\u{9b}31m\u{85}".as_bytes(), r"\u{9b}31m\u{85}"),
            (b"\x9b31m \xff \xc3", r"\x9b31m \xff \xc3"),
            ("\u{202e}\u{2066}\u{200f}\u{61c}".as_bytes(), r"\u{202e}\u{2066}\u{200f}\u{61c}"),
            ("\u{2028}\u{2029}\u{200b}\u{feff}\u{e0041}".as_bytes(), r"\u{2028}\u{2029}\u{200b}\u{feff}\u{e0041}"),
        ] {
            assert_eq!(form_of(bytes), form);
        }
    }

    #[test]
    fn a_writer_escapes_what_is_not_printable_and_nothing_twice() {
        let text = |text: &str| without_control(text.to_owned());
        assert_eq!(text("plain \\x1b \\ text"), "plain \\x1b \\ text");
        assert_eq!(text("\u{1b}]0;X\u{7}\n\u{202e}!"), r"\x1b]0;X\x07\n\u{202e}!");
        let once = form_of(b"\x1b\\\n\xff");
        assert_eq!(text(&once), once);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character_and_marked() {
        let exact = "x".repeat(ESCAPED_LEN_MAX);
        assert_eq!(escaped(&exact).to_string(), exact);
        assert_eq!(escaped(&format!("{exact}y")).to_string(), format!("{exact}\\..."));
        let form = form_of(&b"\x1b".repeat(10_000));
        assert_eq!(form, format!("{}\\...", r"\x1b".repeat(ESCAPED_LEN_MAX / 4)));
        let form = escaped(&format!("x{}", "é".repeat(10_000))).to_string();
        assert!(form.ends_with("é\\...") && form.len() <= ESCAPED_LEN_MAX + OMITTED.len());
    }

    proptest! {
        #[test]
        fn a_form_is_printable_and_stands_for_one_text_only(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let form = form_of(&bytes);
            prop_assert!(form.chars().all(is_printable), "{form:?}");
            prop_assert_eq!(undo(&form), bytes);
        }

        #[test]
        fn what_a_writer_writes_is_printable(text in "\\PC{0,20}[\\\\\\pC]{0,20}") {
            prop_assert!(without_control(text).chars().all(is_printable));
        }

        #[test]
        fn a_form_of_characters_is_printable_and_stands_for_one_text_only(text in "\\PC{0,20}[\\\\\\pC]{0,20}") {
            let form = form_of(text.as_bytes());
            prop_assert!(form.chars().all(is_printable), "{form:?}");
            prop_assert_eq!(undo(&form), text.as_bytes());
        }
    }
}
