//! The counters of a server, which other processes read: the layout, and its parser. docs/stats.md specifies them.
//!
//! Every value is a `u64` in the byte order of the machine, at an offset that is a multiple of 8. A header is followed
//! by slots of equal length, one for each connection.
//!
//! A reader trusts nothing that it reads. The writer goes on meanwhile, so a reader takes three copies, one after the
//! other. If the first and the last one have the same even sequence number, nothing was rewritten in between, and the
//! one in the middle is consistent.

use super::origin::Origin;

/// The first 8 bytes.
const MAGIC: u64 = u64::from_ne_bytes(*b"parstats");

/// The version of the layout. A later version with the same number only uses words that are 0 now.
const VERSION: u64 = 1;

/// The length of the header in bytes.
pub(crate) const HEADER_LEN: usize = 4096;

/// The length of a slot in bytes.
pub(crate) const SLOT_LEN: usize = 256;

/// The number of slots whose memory is allocated at a time.
pub(crate) const SLOTS_AT_ONCE: usize = 64;

/// The maximum number of slots. A process cannot have more descriptors (`fs.nr_open`) on a usual system.
pub(crate) const SLOTS_MAX: usize = 1 << 20;

/// The bounds for lengths that a header states. A later version may use longer ones.
const HEADER_LEN_MAX: u64 = 64 * 1024;
const SLOT_LEN_MAX: u64 = 1024;

/// The length of a word.
const WORD: usize = 8;

/// A value that is not known.
const UNKNOWN: u64 = u64::MAX;

/// The number of reasons for refusals that the header has space for.
pub(crate) const REASONS: usize = 16;

/// A word of the header.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HeaderWord {
    Magic,
    Version,
    HeaderLen,
    SlotLen,
    /// The number of slots from the first one on that a reader has to look at.
    Slots,
    /// The time at which the server began to count, in nanoseconds since the boot.
    Since,
    /// Changes when the totals of ended connections and a slot change. Odd meanwhile.
    Sequence,
    Accepted,
    Open,
    /// The number of open connections that have no slot.
    Unlisted,
    /// The totals of the connections that have ended.
    EndedReceived(FlowWord),
    EndedSent(FlowWord),
    /// The number of refusals for the reason with this number.
    Refused(usize),
    /// The place of the page with the requests to tap.
    TapRequests(PlaceWord),
    /// The place of the ring with the messages, while a process taps them.
    Tap(PlaceWord),
}

/// A word of the place of another file of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PlaceWord {
    Fd,
    Device,
    /// 0 if there is no file. Written last.
    Inode,
}

/// The place of another file of the server, as its words state it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaceWords {
    pub(crate) fd: u64,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// A word of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FlowWord {
    Messages,
    Bytes,
}

impl HeaderWord {
    pub(crate) const fn offset(self) -> usize {
        WORD * match self {
            Self::Magic => 0,
            Self::Version => 1,
            Self::HeaderLen => 2,
            Self::SlotLen => 3,
            Self::Slots => 4,
            Self::Since => 5,
            Self::Sequence => 7,
            Self::Accepted => 8,
            Self::Open => 9,
            Self::Unlisted => 10,
            Self::EndedReceived(word) => 12 + word as usize,
            Self::EndedSent(word) => 14 + word as usize,
            Self::Refused(reason) => 16 + reason % REASONS,
            Self::TapRequests(word) => 32 + word as usize,
            Self::Tap(word) => 36 + word as usize,
        }
    }
}

/// A word of a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SlotWord {
    /// Changes when the slot gets a connection or loses it. Odd meanwhile.
    Sequence,
    /// The number of the connection, from 1 on, or 0 if the slot is free.
    Number,
    /// The time at which the connection was accepted, in nanoseconds since the boot.
    Since,
    Pid,
    Uid,
    Gid,
    Transport,
    /// Of the server's own use: distinguishes its process from forked children.
    Forks,
    /// A word of the direction from the client to the server.
    Received(DirectionWord),
    /// A word of the direction from the server to the client.
    Sent(DirectionWord),
    /// The user id that a client of a bridge claims to have on its host.
    OriginUid,
    /// The process id that it claims to have there.
    OriginPid,
    /// The name of the program that it claims to be. See [`text_words`].
    OriginProgram(usize),
    /// The host of a client of a bridge.
    OriginHost(usize),
}

/// The number of words of the texts of an origin.
pub(crate) const PROGRAM_WORDS: usize = 2;
pub(crate) const HOST_WORDS: usize = 8;

/// The last character of a text that is too long for its words. No host name has it.
const CUT: char = '~';

/// Returns the words of a text: its bytes, and zeros. One that is too long is cut, and ends with `~`.
pub(crate) fn text_words<const WORDS: usize>(text: &str) -> [u64; WORDS] {
    let (mut shown, mut cut) = (text, "");
    let mut buffer = [0; 4];
    if text.len() > WORDS * WORD {
        cut = CUT.encode_utf8(&mut buffer);
        let end = (0..WORDS * WORD).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        shown = &text[..end];
    }
    let mut bytes = shown.bytes().chain(cut.bytes());
    std::array::from_fn(|_| u64::from_ne_bytes(std::array::from_fn(|_| bytes.next().unwrap_or(0))))
}

/// A word of one direction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DirectionWord {
    Messages,
    Bytes,
    /// See [`Wait::encode`].
    Wait,
    /// The number of bytes that a hub holds for the client.
    Held,
}

/// The number of words that identify the connection of a slot.
const IDENTITY_WORDS: usize = 8;

impl SlotWord {
    /// The offsets of the two directions. Each has 64 bytes of its own.
    pub(crate) const RECEIVED: usize = 64;
    pub(crate) const SENT: usize = 128;

    pub(crate) const fn offset(self) -> usize {
        match self {
            Self::Sequence => 0,
            Self::Number => WORD,
            Self::Since => 2 * WORD,
            Self::Pid => 3 * WORD,
            Self::Uid => 4 * WORD,
            Self::Gid => 5 * WORD,
            Self::Transport => 6 * WORD,
            Self::Forks => 7 * WORD,
            Self::Received(word) => Self::RECEIVED + word.offset(),
            Self::Sent(word) => Self::SENT + word.offset(),
            Self::OriginUid => 20 * WORD,
            Self::OriginPid => 21 * WORD,
            Self::OriginProgram(index) => (22 + index % PROGRAM_WORDS) * WORD,
            Self::OriginHost(index) => (24 + index % HOST_WORDS) * WORD,
        }
    }
}

impl DirectionWord {
    pub(crate) const fn offset(self) -> usize {
        self as usize * WORD
    }
}

/// The reason why a half of a connection waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitKind {
    /// It waits for a message, of which nothing has arrived.
    Message,
    /// It waits for the rest of a message.
    Rest,
    /// It waits for space in the channel, or a hub holds bytes because the channel is full.
    Space,
}

/// A half that waits, and the time since when, in nanoseconds since the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) kind: WaitKind,
    pub(crate) since: u64,
}

impl Wait {
    /// The bits of the word that have the kind. The others have the time, which is exact to 8 nanoseconds.
    const KIND: u64 = 7;

    /// Returns the word. The word of a half that does not wait is 0.
    pub(crate) const fn encode(self) -> u64 {
        self.since & !Self::KIND | self.kind.number()
    }

    /// Parses a word. Returns `None` for a half that does not wait, and for a kind that this version does not know.
    pub(crate) fn parse(word: u64) -> Option<Self> {
        let kind = match word & Self::KIND {
            1 => WaitKind::Message,
            2 => WaitKind::Rest,
            3 => WaitKind::Space,
            _ => return None,
        };
        Some(Self { kind, since: word & !Self::KIND })
    }
}

impl WaitKind {
    const fn number(self) -> u64 {
        match self {
            Self::Message => 1,
            Self::Rest => 2,
            Self::Space => 3,
        }
    }

    /// Returns true if a word says that a half waits for this reason.
    pub(crate) const fn is_of(self, word: u64) -> bool {
        word & Wait::KIND == self.number()
    }
}

/// Returns the words of a new header that never change, with their offsets.
pub(crate) fn constants() -> [(HeaderWord, u64); 4] {
    [
        (HeaderWord::Magic, MAGIC),
        (HeaderWord::Version, VERSION),
        (HeaderWord::HeaderLen, HEADER_LEN as u64),
        (HeaderWord::SlotLen, SLOT_LEN as u64),
    ]
}

/// Converts a value that may be unknown.
pub(crate) fn optional(value: Option<u32>) -> u64 {
    value.map_or(UNKNOWN, u64::from)
}

/// Messages and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlowWords {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// A header that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) header_len: usize,
    pub(crate) slot_len: usize,
    pub(crate) slots: usize,
    pub(crate) since: u64,
    pub(crate) sequence: u64,
    pub(crate) accepted: u64,
    pub(crate) open: u64,
    pub(crate) unlisted: u64,
    pub(crate) ended_received: FlowWords,
    pub(crate) ended_sent: FlowWords,
    pub(crate) refused: [u64; REASONS],
    pub(crate) tap_requests: Option<PlaceWords>,
    pub(crate) tap: Option<PlaceWords>,
}

/// The reason why bytes are not the counters of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadStats {
    /// Too short, or something else.
    NotStats,
    /// Of a later version.
    Version(u64),
    /// A length is out of its bounds.
    Lengths,
}

impl Header {
    /// Parses a header. Only the first [`HEADER_LEN`] bytes are looked at.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BadStats> {
        let bytes = bytes.get(..HEADER_LEN).ok_or(BadStats::NotStats)?;
        let get = |at: HeaderWord| word(bytes, at.offset());
        if get(HeaderWord::Magic) != MAGIC {
            return Err(BadStats::NotStats);
        }
        if get(HeaderWord::Version) != VERSION {
            return Err(BadStats::Version(get(HeaderWord::Version)));
        }
        let (header_len, slot_len) = (get(HeaderWord::HeaderLen), get(HeaderWord::SlotLen));
        let slots = get(HeaderWord::Slots);
        let are_in_bounds = (HEADER_LEN as u64..=HEADER_LEN_MAX).contains(&header_len)
            && (SLOT_LEN as u64..=SLOT_LEN_MAX).contains(&slot_len)
            && slots <= SLOTS_MAX as u64;
        if !are_in_bounds {
            return Err(BadStats::Lengths);
        }
        let flow = |of: fn(FlowWord) -> HeaderWord| FlowWords {
            messages: get(of(FlowWord::Messages)),
            bytes: get(of(FlowWord::Bytes)),
        };
        let place = |of: fn(PlaceWord) -> HeaderWord| match get(of(PlaceWord::Inode)) {
            0 => None,
            inode => Some(PlaceWords { fd: get(of(PlaceWord::Fd)), device: get(of(PlaceWord::Device)), inode }),
        };
        Ok(Self {
            header_len: header_len as usize,
            slot_len: slot_len as usize,
            slots: slots as usize,
            since: get(HeaderWord::Since),
            sequence: get(HeaderWord::Sequence),
            accepted: get(HeaderWord::Accepted),
            open: get(HeaderWord::Open),
            unlisted: get(HeaderWord::Unlisted),
            ended_received: flow(HeaderWord::EndedReceived),
            ended_sent: flow(HeaderWord::EndedSent),
            refused: std::array::from_fn(|reason| get(HeaderWord::Refused(reason))),
            tap_requests: place(HeaderWord::TapRequests),
            tap: place(HeaderWord::Tap),
        })
    }

    /// Returns true if neither the totals nor a slot were rewritten between two reads.
    pub(crate) fn is_as_before(&self, before: &Self) -> bool {
        self.sequence % 2 == 0 && self.sequence == before.sequence
    }
}

/// The counters of one connection that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotValues {
    pub(crate) number: u64,
    pub(crate) since: u64,
    pub(crate) pid: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) transport: u64,
    pub(crate) received: FlowWords,
    pub(crate) sent: FlowWords,
    pub(crate) receiving: Option<Wait>,
    pub(crate) sending: Option<Wait>,
    pub(crate) held: u64,
    pub(crate) origin: Option<Origin>,
}

/// A slot that was read three times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    Free,
    Used(SlotValues),
    /// The slot was rewritten meanwhile.
    Changing,
}

/// Parses three copies of a slot, in the order in which they were read.
pub(crate) fn parse_slot(before: &[u8], values: &[u8], after: &[u8]) -> SlotState {
    let identity = IDENTITY_WORDS * WORD;
    let (first, last) = (before.get(..identity), after.get(..identity));
    let (Some(first), Some(second), Some(last)) = (first, values.get(..SLOT_LEN), last) else {
        return SlotState::Changing;
    };
    if first != last || word(first, SlotWord::Sequence.offset()) % 2 != 0 {
        return SlotState::Changing;
    }
    let get = |at: SlotWord| word(second, at.offset());
    if get(SlotWord::Number) == 0 {
        return SlotState::Free;
    }
    let known = |at: SlotWord| u32::try_from(get(at)).ok();
    let flow = |of: fn(DirectionWord) -> SlotWord| FlowWords {
        messages: get(of(DirectionWord::Messages)),
        bytes: get(of(DirectionWord::Bytes)),
    };
    SlotState::Used(SlotValues {
        number: get(SlotWord::Number),
        since: get(SlotWord::Since),
        pid: known(SlotWord::Pid),
        uid: known(SlotWord::Uid),
        gid: known(SlotWord::Gid),
        transport: get(SlotWord::Transport),
        received: flow(SlotWord::Received),
        sent: flow(SlotWord::Sent),
        receiving: Wait::parse(get(SlotWord::Received(DirectionWord::Wait))),
        sending: Wait::parse(get(SlotWord::Sent(DirectionWord::Wait))),
        held: get(SlotWord::Sent(DirectionWord::Held)),
        origin: origin(second),
    })
}

/// Parses the origin of a slot. Returns `None` if there is none, or if its host has characters that no host has.
fn origin(slot: &[u8]) -> Option<Origin> {
    let text = |first: SlotWord, words: usize| {
        let bytes = slot.get(first.offset()..first.offset() + words * WORD).unwrap_or_default();
        String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
    };
    let known = |at: SlotWord| u32::try_from(word(slot, at.offset())).ok();
    let host = text(SlotWord::OriginHost(0), HOST_WORDS);
    if !Origin::new(host.strip_suffix(CUT).unwrap_or(&host)).is_valid() {
        return None;
    }
    let mut origin = Origin::new(host).with_program(text(SlotWord::OriginProgram(0), PROGRAM_WORDS));
    origin = known(SlotWord::OriginUid).into_iter().fold(origin, Origin::with_uid);
    Some(known(SlotWord::OriginPid).into_iter().fold(origin, Origin::with_pid))
}

/// Returns a word, or 0 past the end.
fn word(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u64::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LEN];
        for (at, value) in constants() {
            set(&mut bytes, at.offset(), value);
        }
        change(&mut bytes);
        bytes
    }

    fn set(bytes: &mut [u8], at: usize, value: u64) {
        bytes[at..at + WORD].copy_from_slice(&value.to_ne_bytes());
    }

    #[test]
    fn no_two_words_have_one_place() {
        let mut header: Vec<usize> = (0..REASONS).map(|reason| HeaderWord::Refused(reason).offset()).collect();
        header.extend(constants().map(|(at, _)| at.offset()));
        use HeaderWord::{Accepted, EndedReceived, EndedSent, Open, Sequence, Since, Slots, Unlisted};
        header.extend([Slots, Since, Sequence, Accepted, Open, Unlisted].map(HeaderWord::offset));
        for word in [FlowWord::Messages, FlowWord::Bytes] {
            header.extend([EndedReceived(word).offset(), EndedSent(word).offset()]);
        }
        for word in [PlaceWord::Fd, PlaceWord::Device, PlaceWord::Inode] {
            header.extend([HeaderWord::TapRequests(word).offset(), HeaderWord::Tap(word).offset()]);
        }
        let count = header.len();
        header.sort_unstable();
        header.dedup();
        assert_eq!(header.len(), count);
        assert!(header.iter().all(|at| at % WORD == 0 && at + WORD <= HEADER_LEN));
        assert!(SlotWord::Forks.offset() < IDENTITY_WORDS * WORD && IDENTITY_WORDS * WORD <= SlotWord::RECEIVED);
        assert!(SlotWord::Received(DirectionWord::Held).offset() < SlotWord::SENT);
        assert!(SlotWord::Sent(DirectionWord::Held).offset() < SlotWord::OriginUid.offset());
        assert_eq!(SlotWord::OriginHost(HOST_WORDS - 1).offset() + WORD, SLOT_LEN);
        assert!(SlotWord::OriginProgram(PROGRAM_WORDS - 1).offset() < SlotWord::OriginHost(0).offset());
    }

    #[test]
    fn a_header_of_another_kind_version_or_size_is_refused() {
        assert!(Header::parse(&header(|_| {})).is_ok());
        let parse = |change: fn(&mut Vec<u8>)| Header::parse(&header(change)).unwrap_err();
        assert_eq!(parse(|bytes| bytes.truncate(HEADER_LEN - 1)), BadStats::NotStats);
        assert_eq!(parse(|bytes| bytes[0] ^= 1), BadStats::NotStats);
        assert_eq!(parse(|bytes| set(bytes, HeaderWord::Version.offset(), 2)), BadStats::Version(2));
        for word in [HeaderWord::HeaderLen, HeaderWord::SlotLen] {
            for value in [0, u64::MAX] {
                let bytes = header(|bytes| set(bytes, word.offset(), value));
                assert_eq!(Header::parse(&bytes).unwrap_err(), BadStats::Lengths);
            }
        }
        assert_eq!(parse(|bytes| set(bytes, HeaderWord::Slots.offset(), SLOTS_MAX as u64 + 1)), BadStats::Lengths);
    }

    #[test]
    fn a_wait_reads_back_with_a_time_that_is_exact_to_eight_nanoseconds() {
        for kind in [WaitKind::Message, WaitKind::Rest, WaitKind::Space] {
            let word = Wait { kind, since: 1_234_567 }.encode();
            assert_eq!(Wait::parse(word), Some(Wait { kind, since: 1_234_560 }));
            assert!(kind.is_of(word) && !kind.is_of(0));
        }
        assert_eq!((Wait::parse(0), Wait::parse(7)), (None, None));
    }

    #[test]
    fn a_slot_that_was_rewritten_between_the_copies_is_changing() {
        let mut slot = vec![0; SLOT_LEN];
        set(&mut slot, SlotWord::Sequence.offset(), 2);
        assert_eq!(parse_slot(&slot, &slot, &slot), SlotState::Free);
        set(&mut slot, SlotWord::Number.offset(), 7);
        set(&mut slot, SlotWord::Pid.offset(), 4711);
        set(&mut slot, SlotWord::Uid.offset(), UNKNOWN);
        let SlotState::Used(values) = parse_slot(&slot, &slot, &slot) else { panic!("the slot is in use") };
        assert_eq!((values.number, values.pid, values.uid), (7, Some(4711), None));
        let mut later = slot.clone();
        set(&mut later, SlotWord::Sequence.offset(), 4);
        assert_eq!(parse_slot(&slot, &slot, &later), SlotState::Changing);
        set(&mut slot, SlotWord::Sequence.offset(), 3);
        assert_eq!(parse_slot(&slot, &slot, &slot), SlotState::Changing);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..512usize) {
            parse_slot(&bytes, &bytes, &bytes);
            let _ = Header::parse(&bytes);
            let changed = header(|whole| {
                for (offset, byte) in bytes.iter().enumerate() {
                    whole[at + offset] = *byte;
                }
            });
            if let Ok(header) = Header::parse(&changed) {
                prop_assert!(header.slots <= SLOTS_MAX && header.slot_len as u64 <= SLOT_LEN_MAX);
            }
        }
    }
}
