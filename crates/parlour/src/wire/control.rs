//! The frames on the socket `control`: one datagram each, between the process that holds a name and the one that is to
//! hold it next, or one that asks for the holder's counters.
//!
//! ```text
//!  0          8      9         10    12
//!  +----------+------+---------+-----+------+
//!  | parlour1 | kind | version | 0 0 | body |
//!  +----------+------+---------+-----+------+
//! ```

use super::request::{LINE_MAX, Rest};
use crate::transport::Transport;

const MAGIC: &[u8; 8] = b"parlour1";

/// The version that this process speaks. A holder refuses any other one.
pub(crate) const VERSION: u8 = 1;

const HEAD_LEN: usize = MAGIC.len() + 4;
const OFFER_LEN: usize = 12;

/// The maximum length of a frame.
pub(crate) const FRAME_LEN_MAX: usize = HEAD_LEN + 4 + LINE_MAX;

/// The maximum number of descriptors that come with a frame: the lock, and a listener for each transport.
pub(crate) const FDS_MAX: usize = 1 + Transport::ALL.len();

/// A set of transports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Transports(u8);

impl Transports {
    /// Collects transports into a set.
    pub(crate) fn of(transports: impl IntoIterator<Item = Transport>) -> Self {
        Self(transports.into_iter().fold(0, |bits, transport| bits | Self::bit(transport)))
    }

    /// Returns the empty set.
    #[cfg(test)]
    pub(crate) const fn of_none() -> Self {
        Self(0)
    }

    /// Returns true if the set contains this transport.
    pub(crate) fn contains(self, transport: Transport) -> bool {
        self.0 & Self::bit(transport) != 0
    }

    /// Returns the transports of the set, in the order of [`Transport::ALL`], which is that of the descriptors.
    pub(crate) fn iter(self) -> impl Iterator<Item = Transport> {
        Transport::ALL.iter().copied().filter(move |&transport| self.contains(transport))
    }

    fn bit(transport: Transport) -> u8 {
        match transport {
            Transport::Unix => 1,
            Transport::Packet => 2,
            Transport::Shm => 4,
            Transport::Fifo => 8,
        }
    }

    fn parse(bits: u8) -> Option<Self> {
        (bits < 16).then_some(Self(bits))
    }
}

/// The listeners that the next server wants: a listener is passed to it only if transport, mode and group agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) transports: Transports,
    /// The mode of the sockets.
    pub(crate) mode: u32,
    /// The group of the sockets.
    pub(crate) group: u32,
    /// The candidate takes the name only from a server that yields it.
    pub(crate) if_yielded: bool,
}

/// The reason for which the holder refuses a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The candidate has not proved that it may take the name.
    Denied,
    /// The holder does not speak this version.
    Version,
    /// The holder cannot hand the name over.
    Failed,
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The candidate asks for the name. The descriptor of the lock comes with it, open for reading and writing.
    Hello(Wanted),
    /// The holder accepts the candidate.
    Welcome,
    /// The holder refuses the candidate.
    Refused(Refusal),
    /// The candidate has prepared everything.
    Ready,
    /// The name. The descriptors are that of the lock and those of the listeners, in the order of [`Transport::ALL`].
    Grant {
        listeners: Transports,
        /// The part of a request that the holder has read from its FIFO.
        rest: Rest,
    },
    /// The candidate holds the name.
    Ack,
    /// A process that is no candidate asks for the counters of the holder.
    AskCounters,
    /// The counters. The descriptor of their memory comes with it.
    Counters,
    /// A process that is no candidate asks for the files by which it taps the holder.
    AskTap,
    /// The descriptors of the counters, of the page of requests, and of the ring if there is one.
    Tap,
}

/// The reason for which a datagram is not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadFrame {
    /// Another version of the protocol.
    Version,
    Malformed,
}

impl Frame {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Self::Hello(Wanted { transports, mode, group, if_yielded }) => {
                let head = [transports.0, u8::from(*if_yielded), 0, 0];
                (1, [&head[..], &mode.to_be_bytes(), &group.to_be_bytes()].concat())
            }
            Self::Welcome => (2, Vec::new()),
            Self::Refused(reason) => (3, vec![encode_refusal(*reason)]),
            Self::Ready => (4, Vec::new()),
            Self::Grant { listeners, rest } => {
                (5, [&[listeners.0, u8::from(rest.is_overlong()), 0, 0][..], rest.bytes()].concat())
            }
            Self::Ack => (6, Vec::new()),
            Self::AskCounters => (7, Vec::new()),
            Self::Counters => (8, Vec::new()),
            Self::AskTap => (9, Vec::new()),
            Self::Tap => (10, Vec::new()),
        };
        [&MAGIC[..], &[kind, VERSION, 0, 0], &body].concat()
    }

    pub(crate) fn parse(datagram: &[u8]) -> Result<Self, BadFrame> {
        let malformed = BadFrame::Malformed;
        let rest = datagram.strip_prefix(MAGIC).ok_or(malformed)?;
        let (&[kind, version, zero, zeros], body) = rest.split_first_chunk().ok_or(malformed)?;
        if version != VERSION {
            return Err(BadFrame::Version);
        }
        if [zero, zeros] != [0, 0] {
            return Err(malformed);
        }
        match (kind, body) {
            (1, body) => parse_wanted(body).map(Self::Hello),
            (2, []) => Some(Self::Welcome),
            (3, &[reason]) => parse_refusal(reason).map(Self::Refused),
            (4, []) => Some(Self::Ready),
            (5, &[listeners, overlong @ (0 | 1), 0, 0, ref line @ ..]) => Transports::parse(listeners)
                .zip(Rest::new(line, overlong == 1))
                .map(|(listeners, rest)| Self::Grant { listeners, rest }),
            (6, []) => Some(Self::Ack),
            (7, []) => Some(Self::AskCounters),
            (8, []) => Some(Self::Counters),
            (9, []) => Some(Self::AskTap),
            (10, []) => Some(Self::Tap),
            _ => None,
        }
        .ok_or(malformed)
    }
}

fn parse_wanted(body: &[u8]) -> Option<Wanted> {
    let body: &[u8; OFFER_LEN] = body.try_into().ok()?;
    let number = |at: usize| Some(u32::from_be_bytes(*body.get(at..)?.first_chunk()?));
    let [transports, if_yielded @ (0 | 1), 0, 0, ..] = *body else { return None };
    let transports = Transports::parse(transports)?;
    Some(Wanted { transports, mode: number(4)?, group: number(8)?, if_yielded: if_yielded == 1 })
}

fn encode_refusal(reason: Refusal) -> u8 {
    match reason {
        Refusal::Denied => 1,
        Refusal::Version => 2,
        Refusal::Failed => 3,
    }
}

fn parse_refusal(byte: u8) -> Option<Refusal> {
    [Refusal::Denied, Refusal::Version, Refusal::Failed].into_iter().find(|&reason| encode_refusal(reason) == byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames() -> Vec<Frame> {
        let both = Transports::of([Transport::Unix, Transport::Fifo]);
        vec![
            Frame::Hello(Wanted { transports: both, mode: 0o600, group: 7, if_yielded: false }),
            Frame::Welcome,
            Frame::Refused(Refusal::Denied),
            Frame::Refused(Refusal::Version),
            Frame::Refused(Refusal::Failed),
            Frame::Ready,
            Frame::Grant { listeners: both, rest: Rest::new(b"parlour1 7", false).unwrap() },
            Frame::Grant { listeners: Transports::default(), rest: Rest::new(&[b'x'; LINE_MAX], true).unwrap() },
            Frame::Ack,
            Frame::Hello(Wanted { transports: both, mode: 0o600, group: 7, if_yielded: true }),
            Frame::AskCounters,
            Frame::Counters,
            Frame::AskTap,
            Frame::Tap,
        ]
    }

    #[test]
    fn frames_have_the_bytes_of_the_specification() {
        let text =
            |frame: &Frame| frame.encode().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        let head = "70 61 72 6c 6f 75 72 31";
        let all = frames();
        assert_eq!(text(&all[0]), format!("{head} 01 01 00 00 09 00 00 00 00 00 01 80 00 00 00 07"));
        assert_eq!(text(&all[1]), format!("{head} 02 01 00 00"));
        assert_eq!(text(&all[2]), format!("{head} 03 01 00 00 01"));
        assert_eq!(text(&all[5]), format!("{head} 04 01 00 00"));
        let line = "70 61 72 6c 6f 75 72 31 20 37";
        assert_eq!(text(&all[6]), format!("{head} 05 01 00 00 09 00 00 00 {line}"));
        assert_eq!(text(&all[8]), format!("{head} 06 01 00 00"));
        assert_eq!(text(&all[9]), format!("{head} 01 01 00 00 09 01 00 00 00 00 01 80 00 00 00 07"));
        assert_eq!(text(&all[10]), format!("{head} 07 01 00 00"));
        assert_eq!(text(&all[11]), format!("{head} 08 01 00 00"));
        assert_eq!(text(&all[12]), format!("{head} 09 01 00 00"));
        assert_eq!(text(&all[13]), format!("{head} 0a 01 00 00"));
    }

    #[test]
    fn every_frame_is_parsed_as_what_it_is_and_fits() {
        for frame in frames() {
            let bytes = frame.encode();
            assert!(bytes.len() <= FRAME_LEN_MAX, "{frame:?}");
            assert_eq!(Frame::parse(&bytes).as_ref(), Ok(&frame));
            for length in 0..bytes.len() {
                let part = Frame::parse(&bytes[..length]);
                assert!(matches!(frame, Frame::Grant { .. }) || part.is_err(), "{length} bytes of {frame:?}: {part:?}");
            }
        }
    }

    #[test]
    fn another_version_is_told_from_junk() {
        let mut bytes = Frame::Ready.encode();
        bytes[9] = 2;
        assert_eq!(Frame::parse(&bytes), Err(BadFrame::Version));
        bytes[0] = b'x';
        assert_eq!(Frame::parse(&bytes), Err(BadFrame::Malformed));
    }

    #[test]
    fn the_descriptors_of_a_set_are_in_the_order_of_the_transports() {
        let set = Transports::of([Transport::Fifo, Transport::Unix]);
        let ordered: Vec<_> = Transport::ALL.iter().copied().filter(|it| set.contains(*it)).collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), ordered);
        assert_eq!(ordered.len(), 2);
    }

    proptest! {
        #[test]
        fn a_datagram_that_is_accepted_has_one_spelling(
            kind in 0u8..9,
            body in prop::collection::vec(prop_oneof![any::<u8>(), Just(0)], 0..100),
        ) {
            let datagram = [&MAGIC[..], &[kind, VERSION, 0, 0], &body].concat();
            if let Ok(frame) = Frame::parse(&datagram) {
                prop_assert_eq!(frame.encode(), datagram);
            }
        }

        #[test]
        fn any_bytes_are_a_frame_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(frame) = Frame::parse(&bytes) {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }
    }
}
