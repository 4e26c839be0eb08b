//! The request that a client writes into the server's FIFO: `parlour1 <pid> <nonce> <crc32>\n`.

use super::client_file::{ClientId, parse_pid};
use super::nonce::Nonce;

/// The prefix of each line of the FIFO handshake.
pub(crate) const MAGIC: &str = "parlour1 ";

/// The maximum length of a request: the magic, ten digits of process id, the nonce, eight digits of checksum, two
/// spaces and the newline. This is far below the 512 bytes that every pipe accepts atomically according to POSIX.
pub(crate) const LINE_MAX: usize = MAGIC.len() + 10 + 1 + Nonce::TEXT_LEN + 1 + 8 + 1;

/// Returns the request line of a client, including the newline.
pub(crate) fn encode(id: &ClientId) -> Vec<u8> {
    let body = format!("{MAGIC}{} {}", id.pid, id.nonce);
    let checksum = crc32fast::hash(body.as_bytes());
    format!("{body} {checksum:08x}\n").into_bytes()
}

/// Parses one line without its newline.
///
/// Only the bytes from the last magic on are parsed. If another writer left a partial line in the FIFO, an honest
/// request that follows on the same line is still served. The checksum confirms that the request is complete.
fn parse(line: &[u8]) -> Option<ClientId> {
    let begin = line.windows(MAGIC.len()).rposition(|window| window == MAGIC.as_bytes())?;
    let line = &line[begin..];
    let (body, checksum) = split_last_space(line)?;
    if checksum != format!("{:08x}", crc32fast::hash(body)).as_bytes() {
        return None;
    }
    let (pid, nonce) = split_last_space(body.strip_prefix(MAGIC.as_bytes())?)?;
    Some(ClientId { pid: parse_pid(pid)?, nonce: Nonce::parse(nonce)? })
}

fn split_last_space(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = text.iter().rposition(|&c| c == b' ')?;
    Some((&text[..space], &text[space + 1..]))
}

/// Finds the requests in the bytes that the server reads from its FIFO.
///
/// Many writers share that FIFO. For any input, this keeps at most one line's worth of bytes and resynchronises at the
/// next newline.
#[derive(Debug, Default)]
pub(crate) struct RequestReader {
    line: Vec<u8>,
    /// The current line is too long to be a request. Only its last `LINE_MAX` bytes are kept.
    overlong: bool,
}

/// The part of a request line that was read without its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rest {
    line: Vec<u8>,
    overlong: bool,
}

impl Rest {
    /// Returns `None` if a reader cannot have kept these bytes.
    pub(crate) fn new(line: &[u8], overlong: bool) -> Option<Self> {
        let is_possible = line.len() <= LINE_MAX && !line.contains(&b'\n');
        is_possible.then(|| Self { line: line.to_vec(), overlong })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.line
    }

    /// Returns true if bytes before these were discarded, because the line is too long to be a request.
    pub(crate) fn is_overlong(&self) -> bool {
        self.overlong
    }
}

/// A malformed request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadRequest;

impl RequestReader {
    /// Continues behind the rest of another reader.
    pub(crate) fn after(rest: Rest) -> Self {
        Self { line: rest.line, overlong: rest.overlong }
    }

    /// Returns the part of a line that was read without its end.
    pub(crate) fn rest(&self) -> Rest {
        Rest { line: self.line.clone(), overlong: self.overlong }
    }

    /// Consumes the next bytes and calls `found` for each line that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8], mut found: impl FnMut(Result<ClientId, BadRequest>)) {
        for piece in bytes.split_inclusive(|&c| c == b'\n') {
            let (piece, ended) = match piece.split_last() {
                Some((b'\n', rest)) => (rest, true),
                _ => (piece, false),
            };
            self.line.extend_from_slice(piece);
            if self.line.len() > LINE_MAX {
                self.overlong = true;
                self.line.drain(..self.line.len() - LINE_MAX);
            }
            if ended {
                // A writer may send an empty line to make sure that a new line begins. It is not an error.
                if !self.line.is_empty() || self.overlong {
                    found(parse(&self.line).ok_or(BadRequest));
                }
                self.line.clear();
                self.overlong = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(pid: u32) -> ClientId {
        ClientId { pid, nonce: Nonce::from_bytes([pid as u8; 16]) }
    }

    fn read(stream: &[u8], size: usize) -> Vec<Result<ClientId, BadRequest>> {
        let mut reader = RequestReader::default();
        let mut found = Vec::new();
        for piece in stream.chunks(size) {
            reader.push(piece, |request| found.push(request));
            assert!(reader.line.len() <= LINE_MAX);
        }
        found
    }

    #[test]
    fn a_request_is_one_short_line_with_literal_bytes() {
        let line = encode(&id(7));
        let text = String::from_utf8(line.clone()).unwrap();
        assert_eq!(text, "parlour1 7 07070707070707070707070707070707 f90de0e9\n");
        assert!(line.len() <= LINE_MAX);
        assert!(encode(&id(i32::MAX as u32)).len() <= LINE_MAX);
    }

    #[test]
    fn requests_are_found_whatever_the_pieces() {
        let stream: Vec<u8> = (1..=5).flat_map(|pid| encode(&id(pid))).collect();
        let expected: Vec<_> = (1..=5).map(|pid| Ok(id(pid))).collect();
        for size in [1, 2, 7, 60, 4096] {
            assert_eq!(read(&stream, size), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn another_reader_goes_on_in_the_middle_of_a_line() {
        let stream = [&b"x".repeat(300)[..], b"\n", &encode(&id(5)), &encode(&id(6))].concat();
        let whole = read(&stream, stream.len());
        for at in 0..stream.len() {
            let (mut first, mut found) = (RequestReader::default(), Vec::new());
            first.push(&stream[..at], |request| found.push(request));
            let rest = first.rest();
            let mut second = RequestReader::after(Rest::new(rest.bytes(), rest.is_overlong()).unwrap());
            second.push(&stream[at..], |request| found.push(request));
            assert_eq!(found, whole, "handed over after {at} bytes");
        }
    }

    #[test]
    fn a_malformed_line_does_not_affect_the_next_request() {
        for junk in [&b"hello\n"[..], b"parlour1 1 x y\n", b"\xff\xfe\n", &[b'x'; 100_000], b"parlour1 12"] {
            let stream = [junk, b"\n", &encode(&id(9))].concat();
            let found = read(&stream, 4096);
            assert_eq!(found.last(), Some(&Ok(id(9))));
            assert_eq!(found[0], Err(BadRequest));
        }
    }

    #[test]
    fn half_a_line_in_front_of_a_request_does_not_hide_it() {
        for junk in [&b"parlour1 12"[..], b"x", &[b'y'; 5000]] {
            assert_eq!(read(&[junk, &encode(&id(9))].concat(), 100), [Ok(id(9))]);
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let line = encode(&id(1234));
        for at in 0..line.len() - 1 {
            let mut bad = line.clone();
            bad[at] ^= 1;
            assert!(read(&bad, 100).iter().all(Result::is_err), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic_and_memory_is_bounded(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b' ')], 0..2000),
            size in 1usize..500,
        ) {
            let stream = [&bytes[..], b"\n", &encode(&id(77))].concat();
            let found = read(&stream, size);
            prop_assert_eq!(found.last(), Some(&Ok(id(77))));
        }
    }
}
