//! The bytes of `parlour-bridge/1`, without I/O: no file of this directory uses a descriptor, a clock or a socket.
//!
//! docs/wire-bridge.md specifies them. Integers are big-endian.

pub mod control;
pub mod conversation;
pub mod registry;

/// The application protocol that TLS negotiates (ALPN).
pub const ALPN: &[u8] = b"parlour-bridge/1";

/// The version in a hello.
pub const VERSION: u8 = 1;

/// The maximum length of a control frame, of a preamble and of an answer, in bytes.
pub const FRAME_LEN_MAX: usize = 512;

/// The first byte of a control connection.
pub const CONTROL: u8 = 0x00;

/// The first byte of a conversation.
pub const CONVERSATION: u8 = 0x01;

/// Bytes that are taken from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Takes bytes behind their length in one byte.
    fn short(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.bytes(usize::from(len))
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.short()?).ok()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Appends bytes behind their length in one byte. Whatever does not fit into 255 bytes is left out.
fn push_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.push(len);
    out.extend_from_slice(bytes.get(..usize::from(len)).unwrap_or(bytes));
}

/// Puts a kind and a length in front of a body. The types of the body bound its length.
fn framed(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(body);
}

/// A frame at the beginning of bytes.
struct Framed<'a> {
    kind: u8,
    body: &'a [u8],
    /// The length of the whole frame.
    len: usize,
}

/// Splits a frame off. Returns `None` if it has not arrived completely, and the announced length of the frame as an
/// error if that is too long.
fn unframed(bytes: &[u8]) -> Result<Option<Framed<'_>>, usize> {
    let Some((&[kind, high, low], rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let body_len = usize::from(u16::from_be_bytes([high, low]));
    let len = 3 + body_len;
    if len > FRAME_LEN_MAX {
        return Err(len);
    }
    Ok(rest.get(..body_len).map(|body| Framed { kind, body, len }))
}
