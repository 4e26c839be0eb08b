//! The keys that a terminal sends, by their bytes.

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A printable character.
    Character(char),
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    /// Ctrl-C, which a terminal in raw mode sends as a byte.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-L.
    Redraw,
}

/// Returns the keys of what one read returned. Unknown sequences and bytes are ignored. An escape that nothing follows
/// in the same read is the key.
pub(super) fn parse(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while let Some((&first, rest)) = bytes.split_first() {
        bytes = rest;
        let key = match first {
            0x1b => {
                let (key, rest) = escape(rest);
                bytes = rest;
                key
            }
            0x03 => Some(Key::Interrupt),
            0x0c => Some(Key::Redraw),
            0x1a => Some(Key::Suspend),
            b'\r' | b'\n' => Some(Key::Enter),
            0x08 | 0x7f => Some(Key::Backspace),
            b' '..=b'~' => Some(Key::Character(char::from(first))),
            _ => None,
        };
        keys.extend(key);
    }
    keys
}

/// Parses what follows an escape. Returns the key, and the bytes after it.
fn escape(bytes: &[u8]) -> (Option<Key>, &[u8]) {
    let Some((&kind, rest)) = bytes.split_first() else { return (Some(Key::Escape), bytes) };
    match kind {
        b'O' if !rest.is_empty() => (named(&[], rest[0]), &rest[1..]),
        b'[' => match rest.iter().position(|byte| (0x40..=0x7e).contains(byte)) {
            Some(end) => (named(&rest[..end], rest[end]), &rest[end + 1..]),
            None => (None, &[]),
        },
        // With Alt, a key sends an escape before its byte. Two escapes are two keys.
        _ => (Some(Key::Escape), bytes),
    }
}

fn named(parameters: &[u8], last: u8) -> Option<Key> {
    Some(match (parameters, last) {
        (_, b'A') => Key::Up,
        (_, b'B') => Key::Down,
        (_, b'C') => Key::Right,
        (_, b'D') => Key::Left,
        (_, b'H') | (b"1" | b"7", b'~') => Key::Home,
        (_, b'F') | (b"4" | b"8", b'~') => Key::End,
        (b"5", b'~') => Key::PageUp,
        (b"6", b'~') => Key::PageDown,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_by_their_bytes() {
        use Key::*;
        assert_eq!(parse(b"q/A"), [Character('q'), Character('/'), Character('A')]);
        assert_eq!(parse(b"\x1b[A\x1b[B\x1bOC\x1b[D\x1b[1;5A"), [Up, Down, Right, Left, Up]);
        assert_eq!(parse(b"\x1b[5~\x1b[6~\x1b[H\x1b[4~\x1b[1~\x1bOF"), [PageUp, PageDown, Home, End, Home, End]);
        assert_eq!(
            parse(b"\r\n\x7f\x08\x03\x1a\x0c"),
            [Enter, Enter, Backspace, Backspace, Interrupt, Suspend, Redraw]
        );
        assert_eq!((parse(b"\x1b"), parse(b"\x1b\x1b")), (vec![Escape], vec![Escape, Escape]));
    }

    #[test]
    fn what_is_unknown_is_ignored() {
        for bytes in [&b""[..], b"\x1b[", b"\x1b[12", b"\x1b[200~", b"\x00\x01", b"\xff\xc3", b"\x1bOz"] {
            assert_eq!(parse(bytes), [], "{bytes:?}");
        }
    }
}
