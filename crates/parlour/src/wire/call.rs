//! Calls: the header in front of each message of a connection on which requests and answers carry a number.
//!
//! ```text
//!  0    1      2      4          8
//!  +----+------+------+----------+---------------+
//!  | c1 | kind | 0  0 | id       | the payload   |
//!  +----+------+------+----------+---------------+
//!  | c1 | 0    | side 0 | version  |   the greeting, the first message each way
//!  +----+------+------+----------+
//! ```
//! Numbers are big-endian.

/// Length of the header in bytes.
pub(crate) const HEADER_LEN: usize = 8;

/// The first byte of each message. It begins no text in UTF-8 and no value in MessagePack, so a message of a peer that
/// does not speak this protocol is noticed.
const MAGIC: u8 = 0xc1;

/// The version that this side speaks.
pub(crate) const VERSION: u32 = 1;

const GREETING: u8 = 0;

/// The side that sends a greeting. A peer that returns what it receives is thereby not mistaken for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Caller,
    Server,
}

/// The kind of a message that is not a greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A caller begins a call.
    Request,
    /// The server answers a call with one message. The call has ended.
    Reply,
    /// The server answers a call with one of several messages.
    Item,
    /// The server has sent the last item. The call has ended.
    End,
    /// The server has failed to answer. The payload is that of [`Failure`]. The call has ended.
    Error,
    /// The caller does not want the answer any more. The call has ended.
    Cancel,
    /// The server sends a message that answers no call. Its id is 0.
    Push,
    /// The server asks the caller to go to the server that now has the name. Its id is 0. Calls are still answered.
    Leave,
}

impl Kind {
    const ALL: [Self; 8] =
        [Self::Request, Self::Reply, Self::Item, Self::End, Self::Error, Self::Cancel, Self::Push, Self::Leave];

    fn number(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Reply => 2,
            Self::Item => 3,
            Self::End => 4,
            Self::Error => 5,
            Self::Cancel => 6,
            Self::Push => 7,
            Self::Leave => 8,
        }
    }
}

/// The header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// The first message each way. The version is the highest that the side speaks, and at least 1. Both sides speak
    /// the lower one of the two.
    Greeting {
        side: Side,
        version: u32,
    },
    Message {
        kind: Kind,
        id: u32,
    },
}

/// The reason for which a message does not belong to this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadCall(pub(crate) &'static str);

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER_LEN] {
        let (kind, side, number) = match self {
            Self::Greeting { side, version } => (GREETING, matches!(side, Side::Server).into(), version),
            Self::Message { kind, id } => (kind.number(), 0, id),
        };
        let [a, b, c, d] = number.to_be_bytes();
        [MAGIC, kind, side, 0, a, b, c, d]
    }

    /// Parses the header of a message. The payload are the bytes behind it. Bytes behind a greeting are ignored.
    pub(crate) fn parse(message: &[u8]) -> Result<Self, BadCall> {
        let Some((&[magic, kind, side, zero, a, b, c, d], payload)) = message.split_first_chunk() else {
            return Err(BadCall("a message is shorter than the header of a call"));
        };
        let number = u32::from_be_bytes([a, b, c, d]);
        match (magic, kind, side, zero) {
            (MAGIC, GREETING, 0 | 1, 0) if number > 0 => {
                let side = if side == 0 { Side::Caller } else { Side::Server };
                Ok(Self::Greeting { side, version: number })
            }
            (MAGIC, GREETING, ..) => Err(BadCall("a greeting is malformed")),
            (MAGIC, kind, 0, 0) => {
                let known = Kind::ALL.into_iter().find(|known| known.number() == kind);
                let kind = known.ok_or(BadCall("a message has a kind that is not known"))?;
                match kind {
                    Kind::Push | Kind::Leave if number != 0 => {
                        Err(BadCall("a message that belongs to no call has an id"))
                    }
                    Kind::Leave if !payload.is_empty() => Err(BadCall("a message that has no payload has one")),
                    Kind::Push | Kind::Leave => Ok(Self::Message { kind, id: 0 }),
                    _ if number == 0 => Err(BadCall("a message of a call has no id")),
                    Kind::End | Kind::Cancel if !payload.is_empty() => {
                        Err(BadCall("a message that has no payload has one"))
                    }
                    _ => Ok(Self::Message { kind, id: number }),
                }
            }
            _ => Err(BadCall("a message does not begin with the header of a call")),
        }
    }
}

/// The payload of an error: a byte that says who has failed, and a text in UTF-8 for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    pub(crate) text: String,
}

/// The cause of an error. A number that is not known counts as [`Handler`](Cause::Handler).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The code that handles the call has failed.
    Handler,
    /// A limit of the server is reached. The call was not begun.
    Busy,
    /// The code that handles the call has dropped it.
    Unanswered,
}

impl Cause {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Handler => 0,
            Self::Busy => 1,
            Self::Unanswered => 2,
        }
    }
}

impl Failure {
    /// Parses the payload of an error. Bytes that are not UTF-8 are replaced.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, BadCall> {
        let Some((&number, text)) = payload.split_first() else {
            return Err(BadCall("an error of a call has no cause"));
        };
        let cause = match number {
            1 => Cause::Busy,
            2 => Cause::Unanswered,
            _ => Cause::Handler,
        };
        Ok(Self { cause, text: String::from_utf8_lossy(text).into_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let caller = Header::Greeting { side: Side::Caller, version: 1 };
        let server = Header::Greeting { side: Side::Server, version: 1 };
        let request = Header::Message { kind: Kind::Request, id: 258 };
        assert_eq!(caller.encode(), [0xc1, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(server.encode(), [0xc1, 0, 1, 0, 0, 0, 0, 1]);
        assert_eq!(request.encode(), [0xc1, 1, 0, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn each_header_reads_back() {
        for kind in Kind::ALL {
            let id = if matches!(kind, Kind::Push | Kind::Leave) { 0 } else { u32::MAX };
            let header = Header::Message { kind, id };
            assert_eq!(Header::parse(&header.encode()), Ok(header));
        }
        for side in [Side::Caller, Side::Server] {
            let header = Header::Greeting { side, version: 7 };
            assert_eq!(Header::parse(&header.encode()), Ok(header));
            assert_eq!(Header::parse(&[&header.encode()[..], b"of a later version"].concat()), Ok(header));
        }
    }

    #[test]
    fn the_messages_of_other_protocols_are_rejected() {
        for message in [&b""[..], b"hello", b"hello, world", &[0xc1, 1, 0, 0, 0, 0, 0], &[0xc1, 1, 1, 0, 0, 0, 0, 1]] {
            assert!(Header::parse(message).is_err(), "{message:?}");
        }
        assert!(Header::parse(&[0xc1, 0, 0, 0, 0, 0, 0, 0]).is_err(), "there is no version 0");
        assert!(Header::parse(&[0xc1, 0, 2, 0, 0, 0, 0, 1]).is_err(), "there are two sides");
        assert!(Header::parse(&[0xc1, 9, 0, 0, 0, 0, 0, 1]).is_err(), "there are eight kinds");
        assert!(Header::parse(&[0xc1, 1, 0, 0, 0, 0, 0, 0]).is_err(), "a request has an id");
        assert!(Header::parse(&[0xc1, 7, 0, 0, 0, 0, 0, 1]).is_err(), "a pushed message has none");
        assert!(Header::parse(&[0xc1, 8, 0, 0, 0, 0, 0, 1]).is_err(), "nor has the request to leave");
        assert!(Header::parse(&[0xc1, 8, 0, 0, 0, 0, 0, 0, 1]).is_err(), "and it has no payload");
        assert!(Header::parse(&[0xc1, 6, 0, 0, 0, 0, 0, 1, 0]).is_err(), "a cancellation has no payload");
    }

    #[test]
    fn a_failure_has_a_cause_and_a_text() {
        for cause in [Cause::Handler, Cause::Busy, Cause::Unanswered] {
            let payload = [&[cause.number()][..], b"no"].concat();
            assert_eq!(Failure::parse(&payload), Ok(Failure { cause, text: "no".to_owned() }));
        }
        assert_eq!(Failure::parse(&[77, 0xff]).map(|failure| failure.text), Ok("\u{fffd}".to_owned()));
        assert!(Failure::parse(&[]).is_err());
    }

    proptest! {
        #[test]
        fn a_header_has_one_spelling(message in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(header) = Header::parse(&message) {
                prop_assert_eq!(&header.encode()[..], &message[..HEADER_LEN]);
            }
            let _ = Failure::parse(&message);
        }

        #[test]
        fn a_message_that_begins_like_a_call_has_one_spelling(
            kind in 0u8..10,
            rest in prop::collection::vec(0u8..3, 6..20),
        ) {
            let message = [&[MAGIC, kind][..], &rest].concat();
            if let Ok(header) = Header::parse(&message) {
                prop_assert_eq!(&header.encode()[..], &message[..HEADER_LEN]);
            }
        }
    }
}
