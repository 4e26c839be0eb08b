//! JSON texts, checked and on one line.

use serde::de::IgnoredAny;

/// Returns a JSON text without the white space between its tokens, and otherwise unchanged: numbers keep their digits,
/// and objects the order of their members. Fails if the bytes are not one JSON text.
pub(crate) fn compact(text: &[u8]) -> anyhow::Result<Vec<u8>> {
    // The text is checked first: what is ignored need not be UTF-8.
    serde_json::from_str::<IgnoredAny>(std::str::from_utf8(text)?)?;
    let mut compact = Vec::with_capacity(text.len());
    let (mut is_in_string, mut is_escaped) = (false, false);
    for &byte in text {
        if is_in_string || !byte.is_ascii_whitespace() {
            compact.push(byte);
        }
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_in_string,
            b'"' => is_in_string = !is_in_string,
            _ => {}
        }
    }
    Ok(compact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_between_tokens_is_removed_and_nothing_else() {
        let text = br#" { "b" : [ 1.50 , 123456789012345678901234567890 ] ,
            "a" : " \" spaces \\" , "c" : null } "#;
        let compacted = compact(text).unwrap();
        let expected = br#"{"b":[1.50,123456789012345678901234567890],"a":" \" spaces \\","c":null}"#;
        assert_eq!(compacted, expected);
    }

    #[test]
    fn what_is_not_one_json_text_is_an_error() {
        for text in [&b""[..], b"{", b"1 2", b"hello", b"\"\xff\""] {
            assert!(compact(text).is_err(), "{text:?}");
        }
    }
}
