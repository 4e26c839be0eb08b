//! The ring of a tap, in which a server records messages for another process: the layout, and its parser. docs/wire.md
//! specifies it, and `wire/tap_ring.rs` has its writer and its reader.
//!
//! Every value is a `u64` in the byte order of the machine, at an offset that is a multiple of 8. A header is followed
//! by the bytes of the ring. A position counts the bytes that were ever written; its place is its remainder by the
//! length of the ring. A reader trusts nothing that it reads.

/// The first 8 bytes.
const MAGIC: u64 = u64::from_ne_bytes(*b"parlotap");

/// The version of the layout. A later version with the same number only uses words and events that are unknown now.
const VERSION: u64 = 1;

/// The length of the header in bytes.
pub(crate) const HEADER_LEN: usize = 4096;

/// The length of the words in front of the bytes of a record.
pub(crate) const RECORD_HEADER_LEN: usize = 64;

/// The bounds for the lengths that a header states.
const HEADER_LEN_MAX: u64 = 64 * 1024;
const RING_LEN_MIN: u64 = 4096;
const RING_LEN_MAX: u64 = 64 * 1024 * 1024;

/// The length of a word.
pub(crate) const WORD: usize = 8;

/// A value that is not known.
const UNKNOWN: u64 = u64::MAX;

/// A word of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderWord {
    Magic,
    Version,
    HeaderLen,
    RingLen,
    /// The time at which the ring was created, in nanoseconds since the boot.
    Since,
    /// The position of the oldest record that is intact.
    Tail,
    /// The position behind the newest record that is complete.
    Head,
    /// The number of the next record.
    Sequence,
}

impl HeaderWord {
    pub(crate) const fn offset(self) -> usize {
        WORD * match self {
            Self::Magic => 0,
            Self::Version => 1,
            Self::HeaderLen => 2,
            Self::RingLen => 3,
            Self::Since => 4,
            Self::Tail => 8,
            Self::Head => 9,
            Self::Sequence => 10,
        }
    }
}

/// Returns the number of bytes of a message that a ring of this length takes. The rest of a longer message is not
/// recorded: it would overwrite the records before it, and its own beginning, before a reader could have them.
pub(crate) const fn recorded_max(ring_len: usize) -> usize {
    ring_len / 4
}

/// Returns the length of a record that has this many bytes of a message.
pub(crate) const fn record_len(recorded: usize) -> usize {
    RECORD_HEADER_LEN + recorded.next_multiple_of(WORD)
}

/// Returns the words of a new header that never change, with their offsets.
pub(crate) fn constants(ring_len: usize) -> [(HeaderWord, u64); 4] {
    [
        (HeaderWord::Magic, MAGIC),
        (HeaderWord::Version, VERSION),
        (HeaderWord::HeaderLen, HEADER_LEN as u64),
        (HeaderWord::RingLen, ring_len as u64),
    ]
}

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) header_len: usize,
    pub(crate) ring_len: usize,
    pub(crate) since: u64,
    pub(crate) tail: u64,
    pub(crate) head: u64,
}

/// The reason why bytes are not the ring of a tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadTap {
    /// Too short, or something else.
    NotTap,
    /// Of a later version.
    Version(u64),
    /// A length is out of its bounds.
    Lengths,
    /// The positions or the numbers contradict each other.
    Positions,
    /// A record contradicts itself.
    Record,
}

impl Header {
    /// The number of bytes that [`parse`](Self::parse) looks at.
    pub(crate) const PARSED: usize = HeaderWord::Sequence.offset() + WORD;

    /// Parses the beginning of a header.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BadTap> {
        let bytes = bytes.get(..Self::PARSED).ok_or(BadTap::NotTap)?;
        let get = |at: HeaderWord| word(bytes, at.offset());
        if get(HeaderWord::Magic) != MAGIC {
            return Err(BadTap::NotTap);
        }
        if get(HeaderWord::Version) != VERSION {
            return Err(BadTap::Version(get(HeaderWord::Version)));
        }
        let (header_len, ring_len) = (get(HeaderWord::HeaderLen), get(HeaderWord::RingLen));
        let are_in_bounds = (HEADER_LEN as u64..=HEADER_LEN_MAX).contains(&header_len)
            && (RING_LEN_MIN..=RING_LEN_MAX).contains(&ring_len)
            && ring_len.is_power_of_two();
        if !are_in_bounds {
            return Err(BadTap::Lengths);
        }
        Ok(Self {
            header_len: header_len as usize,
            ring_len: ring_len as usize,
            since: get(HeaderWord::Since),
            tail: get(HeaderWord::Tail),
            head: get(HeaderWord::Head),
        })
    }
}

/// The event of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The server has received a message.
    In,
    /// The server begins to send a message.
    Out,
    /// The last message to this client that was recorded was not sent: the call failed, or the channel was full. The
    /// record has no bytes.
    OutFailed,
}

impl Event {
    const fn number(self) -> u64 {
        match self {
            Self::In => 1,
            Self::Out => 2,
            Self::OutFailed => 3,
        }
    }

    fn of(number: u64) -> Option<Self> {
        [Self::In, Self::Out, Self::OutFailed].into_iter().find(|event| event.number() == number)
    }
}

/// The words in front of the bytes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// The numbers of records increase. A gap is of records that were lost.
    pub(crate) sequence: u64,
    /// In nanoseconds since the boot.
    pub(crate) time: u64,
    /// The number of the connection, as in the counters of the server.
    pub(crate) client: u64,
    pub(crate) pid: Option<u32>,
    /// `None` for an event of a later version.
    pub(crate) event: Option<Event>,
    /// The number of descriptors that are attached to the message. A block of shared memory is one. They are not passed
    /// on.
    pub(crate) descriptors: u16,
    /// The length of the message in bytes.
    pub(crate) length: u64,
    /// The number of its first bytes that the record has.
    pub(crate) recorded: usize,
}

impl RecordHeader {
    /// Returns the length of the whole record.
    pub(crate) const fn record_len(&self) -> usize {
        record_len(self.recorded)
    }

    /// Returns the words.
    pub(crate) fn encode(&self) -> [u64; RECORD_HEADER_LEN / WORD] {
        let event = self.event.map_or(0, Event::number);
        [
            self.record_len() as u64,
            self.sequence,
            self.time,
            self.client,
            self.pid.map_or(UNKNOWN, u64::from),
            event | u64::from(self.descriptors) << 16,
            self.length,
            self.recorded as u64,
        ]
    }

    /// Parses the words of a record in a ring of this length. Returns `None` if there are not enough bytes.
    pub(crate) fn parse(bytes: &[u8], ring_len: usize) -> Result<Option<Self>, BadTap> {
        let Some(bytes) = bytes.get(..RECORD_HEADER_LEN) else { return Ok(None) };
        let get = |index: usize| word(bytes, index * WORD);
        let (size, length, recorded) = (get(0), get(6), get(7));
        let is_whole = recorded <= length && recorded <= recorded_max(ring_len) as u64;
        if !is_whole || size != record_len(recorded as usize) as u64 {
            return Err(BadTap::Record);
        }
        let what = get(5);
        Ok(Some(Self {
            sequence: get(1),
            time: get(2),
            client: get(3),
            pid: u32::try_from(get(4)).ok(),
            event: Event::of(what & 0xffff),
            descriptors: (what >> 16) as u16,
            length,
            recorded: recorded as usize,
        }))
    }
}

/// Returns a word, or 0 past the end.
pub(crate) fn word(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u64::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RING_LEN: usize = 1 << 16;

    fn header(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN];
        for (at, value) in constants(RING_LEN) {
            set(&mut bytes, at.offset(), value);
        }
        change(&mut bytes);
        bytes
    }

    fn set(bytes: &mut [u8], at: usize, value: u64) {
        bytes[at..at + WORD].copy_from_slice(&value.to_ne_bytes());
    }

    fn bytes(record: &RecordHeader) -> Vec<u8> {
        record.encode().iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn no_two_words_have_one_place() {
        use HeaderWord::{Head, HeaderLen, Magic, RingLen, Sequence, Since, Tail, Version};
        let mut places = [Magic, Version, HeaderLen, RingLen, Since, Tail, Head, Sequence].map(HeaderWord::offset);
        places.sort_unstable();
        assert!(places.windows(2).all(|pair| pair[0] + WORD <= pair[1]) && places[7] + WORD == Header::PARSED);
    }

    #[test]
    fn a_header_of_another_kind_version_or_size_is_refused() {
        assert!(Header::parse(&header(|_| {})).is_ok());
        let parse = |change: fn(&mut Vec<u8>)| Header::parse(&header(change)).unwrap_err();
        assert_eq!(parse(|bytes| bytes.truncate(Header::PARSED - 1)), BadTap::NotTap);
        assert_eq!(parse(|bytes| bytes[0] ^= 1), BadTap::NotTap);
        assert_eq!(parse(|bytes| set(bytes, HeaderWord::Version.offset(), 2)), BadTap::Version(2));
        for (word, bad) in [
            (HeaderWord::HeaderLen, [0, HEADER_LEN_MAX + 1]),
            (HeaderWord::RingLen, [RING_LEN_MIN / 2, RING_LEN_MAX * 2]),
            (HeaderWord::RingLen, [RING_LEN_MIN + 8, u64::MAX]),
        ] {
            for value in bad {
                let bytes = header(|bytes| set(bytes, word.offset(), value));
                assert_eq!(Header::parse(&bytes).unwrap_err(), BadTap::Lengths, "{word:?} {value}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_record_reads_back(
            (sequence, time, client) in any::<(u64, u64, u64)>(), pid in any::<Option<u32>>(), event in 1..4u64,
            descriptors in any::<u16>(), recorded in 0..=recorded_max(RING_LEN), more in 0..1000u64,
        ) {
            let record = RecordHeader {
                sequence, time, client, pid, event: Event::of(event),
                descriptors, length: recorded as u64 + more, recorded,
            };
            prop_assert_eq!(RecordHeader::parse(&bytes(&record), RING_LEN), Ok(Some(record)));
        }

        #[test]
        fn a_record_with_contradictory_lengths_is_refused(word in 0..3usize, by in 1..u64::MAX) {
            let record = RecordHeader {
                sequence: 1, time: 2, client: 3, pid: None, event: Some(Event::In),
                descriptors: 0, length: 100, recorded: 100,
            };
            let mut bytes = bytes(&record);
            // The size of the record, the length of the message below what is recorded, and the part that is recorded.
            let (at, value) = [(0, 169 + by % 1000), (48, by % 100), (56, 105 + by % 1000)][word];
            set(&mut bytes, at, value);
            prop_assert_eq!(RecordHeader::parse(&bytes, RING_LEN), Err(BadTap::Record));
        }
    }
}
