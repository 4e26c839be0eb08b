//! Values as JSON ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259)), by serde_json.
//!
//! serde_json has a limit of its own on the depth of arrays and objects, 127. It stays in force beside the limits of
//! [`Budget`], which count every value that contains others.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bounded::Budget;
use super::undecodable::Undecodable;
use crate::escape::escaped;

/// Writes the value without spaces.
pub(super) fn encode<S: Serialize + ?Sized>(value: &S, out: impl io::Write) -> serde_json::Result<()> {
    serde_json::to_writer(out, value)
}

/// Returns the value that this text is. Only white space may surround it.
pub(super) fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, Undecodable> {
    // serde_json would not check the strings that the type ignores.
    let text = std::str::from_utf8(message).map_err(|error| Undecodable::NotText { at: error.valid_up_to() })?;
    let budget = Budget::for_message(message.len());
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(budget.bound(&mut deserializer)).map_err(|reason| match budget.exceeded() {
        Some(what) => Undecodable::TooMuch(what),
        None => undecodable(&reason),
    })?;
    deserializer.end().map_err(|reason| undecodable(&reason))?;
    Ok(value)
}

/// Converts an error of serde_json. Its text may quote strings of the message, so it is escaped and cut. The position
/// comes first, so that it is never cut off.
fn undecodable(reason: &serde_json::Error) -> Undecodable {
    let (line, column) = (reason.line(), reason.column());
    let text = reason.to_string();
    let text = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    Undecodable::Json(format!("line {line}, column {column}: {}", escaped(text)))
}
