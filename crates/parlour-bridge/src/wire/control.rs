//! The frames of a control connection.
//!
//! ```text
//!  0      1        3
//!  +------+--------+------+
//!  | kind | length | body |      kind: 'h' 'p' 'q' '+' '-'
//!  +------+--------+------+
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Fields, VERSION, framed, push_short, unframed};
use crate::identity::{Host, Instance, Name};

/// The maximum length of an endpoint, in bytes: the longest name of a host, a colon and a port.
pub const ENDPOINT_LEN_MAX: usize = crate::identity::HOST_LEN_MAX + 6;

/// The address at which a bridge listens, as `host:port`, or the empty text if it does not listen. The peer claims it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// Returns the endpoint, or `None` if the text is too long or contains anything but visible ASCII characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_valid = text.len() <= ENDPOINT_LEN_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_valid.then(|| Self(text.to_owned()))
    }

    /// Parses `host:port`, where the host is a DNS name, an IPv4 address, or an IPv6 address in brackets.
    #[must_use]
    pub fn parse_address(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let is_valid = text.parse::<SocketAddr>().is_ok() || Host::parse(&host.to_ascii_lowercase()).is_ok();
        let is_port = port.parse::<u16>().is_ok_and(|port| port != 0) && port.bytes().all(|byte| byte.is_ascii_digit());
        Self::parse(text).filter(|_| is_valid && is_port)
    }

    /// Returns the endpoint as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The first frame from each side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// This run of the bridge.
    pub instance: Instance,
    /// The host. The receiver compares it with the certificate.
    pub host: Host,
    /// The endpoint of the bridge.
    pub endpoint: Endpoint,
    /// The time of silence after which the host counts as lost, in whole milliseconds.
    pub lease: Duration,
}

/// A control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// `h`
    Hello(Hello),
    /// `+`: the name is exported to the receiver, and its server is there.
    Export(Name),
    /// `-`: this is no longer so.
    Withdraw(Name),
    /// `p`: nothing else was sent for a quarter of the lease.
    Ping,
    /// `q`: the bridge ends in order. The receiver opens nothing new. Open conversations go on.
    Quit,
}

/// The reason for which bytes are not a control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// The frame announces this length, in bytes.
    TooLong(usize),
    /// The hello has this version.
    Version(u8),
    /// The body of a frame of this kind is malformed.
    Malformed(u8),
}

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(f, "a control frame of {len} bytes (at most {})", super::FRAME_LEN_MAX),
            Self::Version(version) => write!(f, "version {version} of the protocol (this bridge has {VERSION})"),
            Self::Malformed(kind) => write!(f, "a malformed control frame of kind {:?}", char::from(*kind)),
        }
    }
}

impl Frame {
    /// Appends the bytes of the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => {
                let mut body = vec![VERSION];
                body.extend_from_slice(&hello.instance.0);
                push_short(&mut body, hello.host.as_str().as_bytes());
                push_short(&mut body, hello.endpoint.0.as_bytes());
                let lease_ms = u32::try_from(hello.lease.as_millis()).unwrap_or(u32::MAX);
                body.extend_from_slice(&lease_ms.to_be_bytes());
                framed(b'h', &body, out);
            }
            Self::Export(name) => framed(b'+', name.as_str().as_bytes(), out),
            Self::Withdraw(name) => framed(b'-', name.as_str().as_bytes(), out),
            Self::Ping => framed(b'p', &[], out),
            Self::Quit => framed(b'q', &[], out),
        }
    }

    /// Parses the body of a frame. Returns `None` for a kind that this version does not know.
    fn parse(kind: u8, body: &[u8]) -> Result<Option<Self>, BadFrame> {
        let name = || std::str::from_utf8(body).ok().and_then(|text| Name::parse(text).ok());
        let frame = match kind {
            b'h' => match body.first() {
                Some(&version) if version != VERSION => return Err(BadFrame::Version(version)),
                _ => parse_hello(body).map(Self::Hello),
            },
            b'+' => name().map(Self::Export),
            b'-' => name().map(Self::Withdraw),
            b'p' => body.is_empty().then_some(Self::Ping),
            b'q' => body.is_empty().then_some(Self::Quit),
            _ => return Ok(None),
        };
        frame.map(Some).ok_or(BadFrame::Malformed(kind))
    }
}

fn parse_hello(body: &[u8]) -> Option<Hello> {
    let mut fields = Fields(body);
    let _version = fields.u8()?;
    let instance = Instance(fields.array()?);
    let host = Host::parse(fields.text()?).ok()?;
    let endpoint = Endpoint::parse(fields.text()?)?;
    let lease = Duration::from_millis(u64::from(fields.u32()?));
    fields.is_empty().then_some(Hello { instance, host, endpoint, lease })
}

/// Splits the bytes of a control connection into frames, and passes over those of unknown kinds.
///
/// The caller calls [`next`](Self::next) until it returns `None` after each [`push`](Self::push). What is kept is then
/// shorter than one frame.
#[derive(Debug, Default)]
pub struct FrameReader {
    bytes: Vec<u8>,
    /// The offset of the next frame.
    at: usize,
    bad: Option<BadFrame>,
}

impl FrameReader {
    /// Takes bytes that have arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.bad.is_none() {
            self.bytes.drain(..self.at);
            self.at = 0;
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Returns the next frame, or `None` if it has not arrived completely.
    ///
    /// # Errors
    ///
    /// Every later call returns the same error.
    #[expect(clippy::should_implement_trait, reason = "the end may be followed by further frames")]
    pub fn next(&mut self) -> Result<Option<Frame>, BadFrame> {
        let found = self.find();
        if let Err(bad) = &found {
            self.bad = Some(bad.clone());
            self.bytes = Vec::new();
            self.at = 0;
        }
        found
    }

    fn find(&mut self) -> Result<Option<Frame>, BadFrame> {
        if let Some(bad) = &self.bad {
            return Err(bad.clone());
        }
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(found) = unframed(rest).map_err(BadFrame::TooLong)? else { return Ok(None) };
            self.at += found.len;
            if let Some(frame) = Frame::parse(found.kind, found.body)? {
                return Ok(Some(frame));
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::wire::FRAME_LEN_MAX;
    use proptest::prelude::*;

    fn hello(host: &str, endpoint: &str) -> Frame {
        Frame::Hello(Hello {
            instance: Instance(*b"0123456789abcdef"),
            host: Host::parse(host).unwrap(),
            endpoint: Endpoint::parse(endpoint).unwrap(),
            lease: Duration::from_secs(5),
        })
    }

    fn encoded(frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        bytes
    }

    fn read_all(bytes: &[u8], piece: usize) -> (Vec<Frame>, Option<BadFrame>) {
        let (mut reader, mut frames) = (FrameReader::default(), Vec::new());
        for part in bytes.chunks(piece) {
            reader.push(part);
            loop {
                match reader.next() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(bad) => return (frames, Some(bad)),
                }
            }
            assert!(reader.bytes.len() - reader.at < FRAME_LEN_MAX);
        }
        (frames, None)
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let name = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}";
        prop_oneof![
            ("[a-z][a-z0-9]{0,20}", "[!-~]{0,206}", any::<[u8; 16]>(), any::<u32>()).prop_map(
                |(host, endpoint, instance, lease)| Frame::Hello(Hello {
                    instance: Instance(instance),
                    host: Host::parse(&host).unwrap(),
                    endpoint: Endpoint::parse(&endpoint).unwrap(),
                    lease: Duration::from_millis(u64::from(lease)),
                })
            ),
            name.prop_map(|name| Frame::Export(Name::parse(&name).unwrap())),
            name.prop_map(|name| Frame::Withdraw(Name::parse(&name).unwrap())),
            Just(Frame::Ping),
            Just(Frame::Quit),
        ]
    }

    #[test]
    fn frames_have_the_bytes_of_the_specification() {
        assert_eq!(encoded(&Frame::Export(Name::parse("wc").unwrap())), b"+\0\x02wc");
        assert_eq!(encoded(&Frame::Withdraw(Name::parse("wc").unwrap())), b"-\0\x02wc");
        assert_eq!(encoded(&Frame::Ping), b"p\0\0");
        assert_eq!(encoded(&Frame::Quit), b"q\0\0");
        let expected = b"h\0\x23\x010123456789abcdef\x01a\x0b[::1]:7477x\x00\x00\x13\x88";
        assert_eq!(encoded(&hello("a", "[::1]:7477x")), expected);
    }

    #[test]
    fn the_longest_hello_fits_into_a_frame() {
        let host = vec!["x".repeat(49); 4].join(".");
        let longest = hello(&host, &"e".repeat(ENDPOINT_LEN_MAX));
        assert!(encoded(&longest).len() <= FRAME_LEN_MAX);
        assert_eq!(read_all(&encoded(&longest), 512), (vec![longest], None));
    }

    #[test]
    fn an_unknown_kind_is_passed_over() {
        let bytes = [&encoded(&Frame::Ping)[..], b"?\0\x03abc", b"!\0\0", &encoded(&Frame::Quit)].concat();
        assert_eq!(read_all(&bytes, 1), (vec![Frame::Ping, Frame::Quit], None));
    }

    #[test]
    fn another_version_and_junk_are_told_apart() {
        assert_eq!(read_all(b"h\0\x01\x02", 9).1, Some(BadFrame::Version(2)));
        let malformed: [&[u8]; 7] =
            [b"h\0\0", b"h\0\x01\x01", b"+\0\0", b"+\0\x02.a", b"-\0\x01\xff", b"p\0\x01x", b"q\0\x01x"];
        for bytes in malformed {
            assert_eq!(read_all(bytes, 9).1, Some(BadFrame::Malformed(bytes[0])), "{bytes:?}");
        }
        let longer = [&b"h\0\x24"[..], &encoded(&hello("a", "[::1]:7477x"))[3..], b"x"].concat();
        assert_eq!(read_all(&longer, 9).1, Some(BadFrame::Malformed(b'h')));
        // Even if the kind is unknown.
        assert_eq!(read_all(b"?\x01\xfe", 9).1, Some(BadFrame::TooLong(513)));
        assert_eq!(read_all(b"?\x01\xfd", 9), (Vec::new(), None));
    }

    #[test]
    fn an_error_is_permanent() {
        let mut reader = FrameReader::default();
        reader.push(b"+\0\x01.p\0\0");
        for _ in 0..2 {
            assert_eq!(reader.next(), Err(BadFrame::Malformed(b'+')));
            reader.push(b"p\0\0");
        }
    }

    proptest! {
        #[test]
        fn frames_are_read_as_they_were_written(
            frames in prop::collection::vec(any_frame(), 0..20),
            piece in 1..600usize,
        ) {
            let mut bytes = Vec::new();
            frames.iter().for_each(|frame| frame.encode(&mut bytes));
            prop_assert_eq!(read_all(&bytes, piece), (frames, None));
        }

        #[test]
        fn the_size_of_the_pieces_has_no_effect(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            piece in 1..600usize,
        ) {
            prop_assert_eq!(read_all(&bytes, piece), read_all(&bytes, bytes.len().max(1)));
        }
    }
}
