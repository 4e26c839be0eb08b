//! The beginning of a conversation: the preamble of the importer, and the answer of the exporter.
//!
//! ```text
//!  0    1        3
//!  +----+--------+------+-----+----------+----------+-------------+-------+-----+-----+---------+
//!  | 01 | length | name (len) | importer | exporter | message_max | flags | uid | pid | program |
//!  +----+--------+------+-----+----------+----------+-------------+-------+-----+-----+---------+
//!
//!  +----+     +--------+------------+
//!  | 00 |  or | status | reason(len)|
//!  +----+     +--------+------------+
//! ```

use std::fmt;

use super::{CONVERSATION, Fields, framed, push_short, unframed};
use crate::identity::{Instance, Name};

/// The maximum length of the name of a program, in bytes.
pub const PROGRAM_LEN_MAX: usize = 64;

/// The maximum length of a reason, in bytes.
pub const REASON_LEN_MAX: usize = 200;

/// The client of a conversation, as the importing bridge sees it. For the exporter it is a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The user id.
    pub uid: u32,
    /// The process id.
    pub pid: u32,
    /// The name of the program: any bytes, of which only the first [`PROGRAM_LEN_MAX`] are sent.
    pub program: Vec<u8>,
}

/// The first bytes of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// The server that the client wants.
    pub name: Name,
    /// The run of the importing bridge.
    pub importer: Instance,
    /// The run of the exporting bridge that the importer expects.
    pub exporter: Instance,
    /// The longest message that the client's side accepts, in bytes.
    pub message_max: u32,
    /// The client.
    pub origin: Origin,
}

/// The reason for which bytes are not a preamble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPreamble {
    /// The preamble has flags that this version does not know. The answer is [`Refusal::Version`].
    Version,
    /// The bytes are malformed. There is no answer.
    Malformed,
}

impl Preamble {
    /// Returns the bytes of the preamble.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        push_short(&mut body, self.name.as_str().as_bytes());
        body.extend_from_slice(&self.importer.0);
        body.extend_from_slice(&self.exporter.0);
        body.extend_from_slice(&self.message_max.to_be_bytes());
        body.push(0);
        body.extend_from_slice(&self.origin.uid.to_be_bytes());
        body.extend_from_slice(&self.origin.pid.to_be_bytes());
        let program = &self.origin.program;
        push_short(&mut body, program.get(..PROGRAM_LEN_MAX).unwrap_or(program));
        let mut out = Vec::new();
        framed(CONVERSATION, &body, &mut out);
        out
    }

    /// Parses a preamble at the beginning of the bytes. Returns it with its length, or `None` if it has not arrived
    /// completely. An incomplete preamble is shorter than [`FRAME_LEN_MAX`](super::FRAME_LEN_MAX).
    ///
    /// # Errors
    ///
    /// The conversation cannot begin.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, BadPreamble> {
        if bytes.first().is_some_and(|&first| first != CONVERSATION) {
            return Err(BadPreamble::Malformed);
        }
        let Some(found) = unframed(bytes).map_err(|_| BadPreamble::Malformed)? else { return Ok(None) };
        let (preamble, flags) = parse_body(found.body).ok_or(BadPreamble::Malformed)?;
        if flags != 0 {
            return Err(BadPreamble::Version);
        }
        // A flag may announce further fields.
        preamble.map(|preamble| Some((preamble, found.len))).ok_or(BadPreamble::Malformed)
    }
}

/// Returns the flags, and the preamble if its last field ends the body.
fn parse_body(body: &[u8]) -> Option<(Option<Preamble>, u8)> {
    let mut fields = Fields(body);
    let name = Name::parse(fields.text()?).ok()?;
    let importer = Instance(fields.array()?);
    let exporter = Instance(fields.array()?);
    let message_max = fields.u32()?;
    let flags = fields.u8()?;
    let mut origin = || -> Option<Origin> {
        let (uid, pid, program) = (fields.u32()?, fields.u32()?, fields.short()?.to_vec());
        (fields.is_empty() && program.len() <= PROGRAM_LEN_MAX).then_some(Origin { uid, pid, program })
    };
    let preamble = origin().map(|origin| Preamble { name, importer, exporter, message_max, origin });
    Some((preamble, flags))
}

/// The reason for which an exporter does not take a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// 1: the name has no server at the moment.
    NoServer,
    /// 2: the name is not exported to this host. It may not exist.
    NotExported,
    /// 3: the server refused the client.
    Refused,
    /// 4: a limit is reached.
    Busy,
    /// 5: the conversation is for another run of the bridge, or no control connection of this importer is up.
    WrongInstance,
    /// 6: the preamble has flags that the exporter does not know.
    Version,
}

impl Refusal {
    /// All refusals.
    pub const ALL: [Self; 6] =
        [Self::NoServer, Self::NotExported, Self::Refused, Self::Busy, Self::WrongInstance, Self::Version];

    fn code(self) -> u8 {
        match self {
            Self::NoServer => 1,
            Self::NotExported => 2,
            Self::Refused => 3,
            Self::Busy => 4,
            Self::WrongInstance => 5,
            Self::Version => 6,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoServer => "the name has no server there",
            Self::NotExported => "the name is not exported to this host",
            Self::Refused => "the server refused the client",
            Self::Busy => "a limit of the other bridge is reached",
            Self::WrongInstance => "the other bridge has restarted, or has no control connection from here",
            Self::Version => "the other bridge does not speak this version",
        })
    }
}

/// The answer of the exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 0: the server has the client. From here on both directions contain frames only.
    Accepted,
    /// The exporter closes the connection. The text is for people, and may contain any characters.
    Refused(Refusal, String),
}

impl Answer {
    /// Returns the bytes of the answer. A reason is cut to [`REASON_LEN_MAX`] bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Accepted => vec![0],
            Self::Refused(refusal, reason) => {
                let end = (0..=REASON_LEN_MAX).rev().find(|&at| reason.is_char_boundary(at)).unwrap_or(0);
                let mut out = vec![refusal.code()];
                push_short(&mut out, reason.get(..end).unwrap_or(reason).as_bytes());
                out
            }
        }
    }

    /// Parses an answer at the beginning of the bytes. Returns it with its length, `None` if it has not arrived
    /// completely, or the error `()` if the bytes are not an answer.
    #[expect(clippy::result_unit_err, reason = "there is nothing to say about it")]
    #[expect(clippy::missing_errors_doc, reason = "stated above")]
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, ()> {
        let Some((&code, rest)) = bytes.split_first() else { return Ok(None) };
        if code == 0 {
            return Ok(Some((Self::Accepted, 1)));
        }
        let refusal = Refusal::ALL.into_iter().find(|refusal| refusal.code() == code).ok_or(())?;
        match rest.split_first() {
            Some((&len, _)) if usize::from(len) > REASON_LEN_MAX => Err(()),
            Some((&len, text)) => match text.get(..usize::from(len)) {
                Some(text) => {
                    let text = std::str::from_utf8(text).map_err(|_| ())?;
                    Ok(Some((Self::Refused(refusal, text.to_owned()), 2 + text.len())))
                }
                None => Ok(None),
            },
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn preamble(program: &[u8]) -> Preamble {
        Preamble {
            name: Name::parse("wc").unwrap(),
            importer: Instance(*b"importer--------"),
            exporter: Instance(*b"exporter--------"),
            message_max: 0x0100_0000,
            origin: Origin { uid: 1000, pid: 77, program: program.to_vec() },
        }
    }

    #[test]
    fn a_preamble_has_the_bytes_of_the_specification() {
        let expected = b"\x01\0\x35\x02wcimporter--------exporter--------\x01\0\0\0\0\0\0\x03\xe8\0\0\0\x4d\x04prog";
        assert_eq!(preamble(b"prog").encode(), expected);
    }

    #[test]
    fn every_prefix_of_a_preamble_is_incomplete() {
        let whole = preamble(b"prog").encode();
        for len in 0..whole.len() {
            assert_eq!(Preamble::parse(&whole[..len]), Ok(None));
        }
        let longer = [&whole[..], b"more"].concat();
        assert_eq!(Preamble::parse(&longer), Ok(Some((preamble(b"prog"), whole.len()))));
    }

    #[test]
    fn unknown_flags_are_another_version_and_all_else_is_malformed() {
        let whole = preamble(b"").encode();
        let with = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            Preamble::parse(&bytes)
        };
        let flags_at = 3 + 3 + 16 + 16 + 4;
        assert_eq!(with(flags_at, 1), Err(BadPreamble::Version));
        assert_eq!(with(0, 0), Err(BadPreamble::Malformed));
        assert_eq!(with(4, b'.'), Err(BadPreamble::Malformed));
        assert_eq!(with(2, whole[2] - 1), Err(BadPreamble::Malformed));
        assert_eq!(with(1, 2), Err(BadPreamble::Malformed));
        let mut longer = [&whole[..], b"x"].concat();
        longer[2] += 1;
        assert_eq!(Preamble::parse(&longer), Err(BadPreamble::Malformed));
        longer[flags_at] = 0x80;
        assert_eq!(Preamble::parse(&longer), Err(BadPreamble::Version), "a flag may announce further fields");
    }

    #[test]
    fn the_name_of_a_program_is_cut() {
        let bytes = preamble(&[b'p'; 300]).encode();
        let (parsed, len) = Preamble::parse(&bytes).unwrap().unwrap();
        assert_eq!((parsed.origin.program.len(), len), (PROGRAM_LEN_MAX, bytes.len()));
    }

    #[test]
    fn answers_have_the_bytes_of_the_specification() {
        assert_eq!(Answer::Accepted.encode(), [0]);
        let codes: Vec<u8> = Refusal::ALL.iter().map(|&r| Answer::Refused(r, String::new()).encode()[0]).collect();
        assert_eq!(codes, [1, 2, 3, 4, 5, 6]);
        assert_eq!(Answer::Refused(Refusal::Busy, "full".into()).encode(), b"\x04\x04full");
        assert_eq!(Answer::parse(b"\x07\0"), Err(()));
        assert_eq!(Answer::parse(b"\x01\xc9"), Err(()));
        assert_eq!(Answer::parse(b"\x01\x01\xff"), Err(()));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = "x".to_owned() + &"ä".repeat(200);
        let bytes = Answer::Refused(Refusal::Refused, reason).encode();
        let (parsed, len) = Answer::parse(&bytes).unwrap().unwrap();
        assert_eq!(parsed, Answer::Refused(Refusal::Refused, "x".to_owned() + &"ä".repeat(99)));
        assert_eq!(len, bytes.len());
    }

    proptest! {
        #[test]
        fn a_preamble_has_one_spelling(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            at in 0..200usize,
            byte: u8,
        ) {
            let mut near = preamble(&bytes[..bytes.len().min(64)]).encode();
            let at = at % near.len();
            near[at] = byte;
            for input in [&near, &bytes] {
                if let Ok(Some((parsed, len))) = Preamble::parse(input) {
                    prop_assert_eq!(&parsed.encode()[..], &input[..len]);
                }
            }
        }

        #[test]
        fn an_answer_has_one_spelling(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(Some((parsed, len))) = Answer::parse(&bytes) {
                prop_assert_eq!(&parsed.encode()[..], &bytes[..len]);
            }
        }
    }
}
