//! The bodies of the fuzz targets: one function per target, which panics if a property does not hold. They are here and
//! not in `fuzz/` because they use private modules. They are compiled for tests as well, so that `cargo test` replays
//! every committed seed.
#![allow(unreachable_pub, reason = "the module is public only for the fuzzers")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a failed check panics")]

mod calls;
mod frames;
mod handshakes;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::calls::calls;
pub use self::frames::{frames_publisher, frames_reader};
pub use self::handshakes::{hostile_client, hostile_server};
use crate::escape;
use crate::name::name_in_use;
use crate::owner::Owner;
use crate::server::hand_over::{CandidateState, CandidateStep, Heard, HolderState, HolderStep};
use crate::shm::hostile::{self, Input};
use crate::stats::ClientStats;
use crate::typed::codec::Codec;
use crate::typed::undecodable::Undecodable;
use crate::wire::child_fd;
use crate::wire::client_file::ClientId;
use crate::wire::control::Frame;
use crate::wire::decoder::Decoder;
use crate::wire::frame;
use crate::wire::hello::{self, Answer, Reason};
use crate::wire::listen_fds;
use crate::wire::nonce::Nonce;
use crate::wire::pack::Pack;
use crate::wire::pieces::{Assembler, BadPiece, Took};
use crate::wire::request::{self, RequestReader};
use crate::wire::shm_hello::{Greeting, is_ring_size};
use crate::wire::stats::{HEADER_LEN, Header, SLOT_LEN, SLOTS_MAX, SlotState, parse_slot};
use crate::wire::tap::{HEADER_LEN as TAP_HEADER_LEN, Header as TapHeader};
use crate::wire::tap_ring::{Cursor, Record, Step};

/// Parses the variables of a service manager: `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES`, with a zero byte between
/// them. A variable that is missing at the end is not set.
pub fn activation(data: &[u8]) {
    const PID: u32 = 77;
    let mut variables = data.splitn(3, |&byte| byte == 0).map(OsStr::from_bytes);
    let (listen_pid, listen_fds, listen_fdnames) = (variables.next(), variables.next(), variables.next());
    let Ok(count) = listen_fds::count(PID, listen_pid, listen_fds) else { return };
    assert!(count > 0);
    for (text, number) in [(listen_pid, PID), (listen_fds, u32::from(count))] {
        let digits = text.unwrap().to_str().unwrap();
        assert!(digits.trim_start_matches('0') == number.to_string(), "{digits:?} is not a spelling of {number}");
    }
    match (listen_fds::names(count, listen_fdnames), listen_fdnames) {
        (Ok(names), Some(text)) => {
            assert_eq!(names.len(), usize::from(count));
            assert_eq!(names.join(":"), text.to_string_lossy());
        }
        (Ok(names), None) => assert!(names.len() == usize::from(count) && names.iter().all(|name| name == "unknown")),
        (Err(_), text) => {
            let names = text.unwrap().as_bytes().split(|&byte| byte == b':').count();
            assert_ne!(names, usize::from(count), "each descriptor has a name");
        }
    }
}

/// Parses the counters of a server: the first words of the header, then three copies of a slot.
pub fn stats(data: &[u8]) {
    const WORDS: usize = 256;
    let (words, copies) = data.split_at(data.len().min(WORDS));
    let mut header = vec![0; HEADER_LEN];
    header[..words.len()].copy_from_slice(words);
    if let Ok(header) = Header::parse(&header) {
        assert!((HEADER_LEN..=64 * 1024).contains(&header.header_len) && header.slots <= SLOTS_MAX);
        assert!((SLOT_LEN..=1024).contains(&header.slot_len));
    }
    let third = copies.len() / 3;
    let [before, values, after] = [0, 1, 2].map(|number| &copies[number * third..][..third]);
    match parse_slot(before, values, after) {
        SlotState::Changing => {}
        SlotState::Free => assert!(third >= SLOT_LEN && before[..8] == after[..8]),
        SlotState::Used(slot) => {
            assert!(third >= SLOT_LEN && before[..8] == after[..8] && slot.number != 0);
            let _ = ClientStats::new(&slot, u64::MAX / 2).stuck();
        }
    }
}

/// Reads the ring of a tap, of 4096 bytes: the beginning of a header, and then, for each step of a reader, three
/// positions of 16 bits in units of 8 bytes (the head, the tail, and the tail after the copy), and the bytes that are
/// copied.
pub fn tap(data: &[u8]) {
    const RING_LEN: usize = 4096;
    if let Ok(header) = TapHeader::parse(data) {
        assert!(header.ring_len.is_power_of_two() && (4096..=64 << 20).contains(&header.ring_len));
        assert!((TAP_HEADER_LEN..=64 * 1024).contains(&header.header_len));
    }
    let header = TapHeader { header_len: TAP_HEADER_LEN, ring_len: RING_LEN, since: 0, tail: 0, head: 0 };
    let mut cursor = Cursor::at_beginning(&header);
    let (mut rest, mut next) = (data, 0);
    while let Some((positions, more)) = rest.split_first_chunk::<6>() {
        rest = more;
        let position = |at: usize| u64::from(u16::from_le_bytes([positions[at], positions[at + 1]])) * 8;
        let Ok(step) = cursor.step(position(0), position(2)) else { return };
        let Step::Copy { length, .. } = step else { continue };
        assert!(length <= RING_LEN);
        let (bytes, more) = rest.split_at(length.min(rest.len()));
        rest = more;
        let mut records = Vec::new();
        let outcome = cursor.take(bytes, position(4), &mut records);
        for Record { header, lost, bytes } in records {
            assert_eq!(header.sequence, next + lost);
            assert!(bytes.len() == header.recorded && bytes.len() as u64 <= header.length);
            assert!(bytes.len() <= RING_LEN / 4);
            next = header.sequence + 1;
        }
        if outcome.is_err() {
            return;
        }
    }
}

/// Parses the variables by which a parent announces a connection: the number, the inode and the transport, with a zero
/// byte between them.
pub fn child_fd(data: &[u8]) {
    let mut variables = data.splitn(3, |&byte| byte == 0).map(OsStr::from_bytes);
    let (number, inode, transport) = (variables.next(), variables.next(), variables.next());
    let Ok(announced) = child_fd::parse(number, inode, transport) else { return };
    let digits = |text: &OsStr| text.to_str().unwrap().trim_start_matches('0').to_owned();
    let spelling = |number: u64| if number == 0 { String::new() } else { number.to_string() };
    assert_eq!(digits(number.unwrap()), spelling(u64::try_from(announced.number).unwrap()));
    assert_eq!(inode.map(digits), announced.inode.map(spelling));
    let word = announced.transport.map(|transport| transport.to_string());
    assert_eq!(transport.map(|text| text.to_str().unwrap()), word.as_deref());
}

/// Takes both sides of a hand-over through datagrams: for each, a byte with its length and, in the most significant
/// bit, the proof, then the datagram. A byte 0 is the end of the socket.
pub fn control(data: &[u8]) {
    let (mut holder, mut candidate) = (Some(HolderState::Connected), Some(CandidateState::Asked));
    let (mut is_proved, mut is_granted, mut is_ready) = (false, false, false);
    let mut rest = data;
    while let Some((&head, behind)) = rest.split_first() {
        let (datagram, behind) = behind.split_at(behind.len().min(usize::from(head & 0x7f)));
        rest = behind;
        let heard = match (head, Frame::parse(datagram)) {
            (0, _) => Heard::End,
            (_, Ok(frame)) => {
                assert_eq!(frame.encode(), datagram, "a frame has one spelling");
                Heard::Frame(frame, head & 0x80 != 0)
            }
            (_, Err(bad)) => Heard::Bad(bad),
        };
        if let Some(state) = &mut holder {
            match state.hear(&heard) {
                HolderStep::Wait => assert!(is_granted),
                HolderStep::Welcome => is_proved = matches!(heard, Heard::Frame(Frame::Hello(_), true)),
                HolderStep::Grant(_) => {
                    assert!(is_proved && !is_granted, "a name is granted once, after a proof");
                    is_granted = true;
                }
                HolderStep::Leave | HolderStep::Resume => {
                    assert!(is_granted);
                    holder = None;
                }
                HolderStep::ShowCounters | HolderStep::ShowTap | HolderStep::Refuse(_) | HolderStep::Dismiss => {
                    assert!(!is_granted, "only the end of the socket ends a grant");
                    holder = None;
                }
            }
        }
        if let Some(state) = &mut candidate {
            match state.hear(&heard) {
                CandidateStep::GetReady => is_ready = true,
                CandidateStep::Take(..) => {
                    assert!(is_ready, "a name is taken once it was welcome");
                    candidate = None;
                }
                CandidateStep::Refused(_) | CandidateStep::Bind => candidate = None,
            }
        }
    }
}

/// Decodes a stream of frames in pieces: two bytes of limit, two bytes of piece size, then the stream. Runs once with
/// headers without marks, and once with marks.
pub fn decoder(data: &[u8]) {
    let mut input = Input(data);
    let (length_max, size) = (input.number() * 8, input.number().max(1));
    decode(Decoder::new(length_max), length_max, size, input.0, |header| (frame::length(header), false));
    decode(Decoder::new(length_max).with_marks(), length_max, size, input.0, |header| {
        (frame::length_beside_mark(header), frame::is_marked(header[0]))
    });
}

fn decode(mut decoder: Decoder, length_max: usize, size: usize, stream: &[u8], header: fn([u8; 4]) -> (usize, bool)) {
    let (mut rest, mut expected, mut out) = (stream, stream, Vec::new());
    let first = |stream| first_message(stream, header);
    loop {
        match decoder.next(&mut out) {
            Ok(true) => {
                let (message, is_marked, behind) = first(expected).expect("the stream contains no message yet");
                assert!(out == message && message.len() <= length_max);
                assert_eq!(decoder.was_marked(), is_marked);
                expected = behind;
                continue;
            }
            Ok(false) => {}
            Err(too_long) => {
                let announced = expected.first_chunk().expect("the stream contains no header yet");
                assert_eq!(too_long.length, header(*announced).0);
                assert!(too_long.length > length_max);
                assert_eq!(decoder.next(&mut out), Err(too_long), "the error is permanent");
                return;
            }
        }
        let has_begun = rest.len() < expected.len();
        assert_eq!(decoder.begun() > 0, has_begun, "`begun` counts the frames that were not returned");
        if rest.is_empty() {
            break;
        }
        let missing = decoder.missing(&rest[..rest.len().min(4)]);
        assert!(missing > 0, "a whole message would have been returned");
        let mut taken = 0;
        for space in decoder.spaces() {
            let count = space.len().min(size - taken).min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            taken += count;
        }
        assert!(taken > 0, "the first space is never empty");
        decoder.filled(taken);
    }
    assert_eq!(decoder.is_at_boundary(), expected.is_empty());
    assert!(first(expected).is_none(), "a whole message was not returned");
}

/// Returns the first message of a stream, true if it has a mark, and the bytes behind it.
fn first_message(stream: &[u8], header: fn([u8; 4]) -> (usize, bool)) -> Option<(&[u8], bool, &[u8])> {
    let (announced, body) = stream.split_first_chunk()?;
    let (length, is_marked) = header(*announced);
    let (message, behind) = body.split_at_checked(length)?;
    Some((message, is_marked, behind))
}

/// Parses the bytes of the server's FIFO in pieces: one byte of piece size, then the bytes.
pub fn request(data: &[u8]) {
    let mut input = Input(data);
    let size = usize::from(input.byte()).max(1);
    let found_in = |size: usize| {
        let mut reader = RequestReader::default();
        let mut found = Vec::new();
        for piece in input.0.chunks(size) {
            reader.push(piece, |request| found.push(request));
        }
        // After any input, the next honest request is found.
        let honest = ClientId { pid: 77, nonce: Nonce::from_bytes([7; Nonce::LEN]) };
        let mut last = None;
        reader.push(&request::encode(&honest), |request| last = Some(request));
        assert_eq!(last, Some(Ok(honest)));
        found
    };
    let found = found_in(size);
    assert_eq!(found, found_in(usize::MAX), "the piece size does not matter");
    for id in found.into_iter().flatten() {
        let line = request::encode(&id);
        assert!(
            input.0.windows(line.len()).any(|window| window == line),
            "the input does not contain the only spelling of {id:?}"
        );
    }
}

/// Parses an answer to a request, on `fifo` (one line) and on `shm` (one datagram).
pub fn hello(data: &[u8]) {
    let nonce = Nonce::from_bytes([0x3c; Nonce::LEN]);
    if let Some(answer) = hello::parse_answer(data, &nonce) {
        let line = hello::encode_answer(answer, &nonce);
        assert_eq!(line.strip_suffix(b"\n"), Some(data), "an answer has only one spelling");
        assert!(matches!(answer, Answer::Hello | Answer::Refused(Reason::Denied | Reason::Busy | Reason::Failed)));
    }
    if let Ok(greeting) = Greeting::parse(data) {
        if let Greeting::Hello { ring_size } = greeting {
            assert!(is_ring_size(ring_size));
        }
        let mut bytes = greeting.encode();
        // Unknown features are ignored.
        bytes[12..16].copy_from_slice(&data[12..16]);
        assert_eq!(bytes, data);
    }
}

/// Executes a program of operations on a ring with a hostile peer.
pub fn ring(data: &[u8]) {
    hostile::play(data);
}

/// Parses an owner record that another user wrote, and prints it as the errors and tables do.
pub fn owner(data: &[u8]) {
    // A record that is not one is printed nowhere, but a name or the target of a link can be any bytes.
    let escaped = escape::escaped(OsStr::from_bytes(data)).to_string();
    assert!(escaped.chars().all(escape::is_printable));
    assert!(escaped.len() <= escape::ESCAPED_LEN_MAX + 4, "the mark of an omission has four bytes");
    let Some(owner) = Owner::parse(data) else { return };
    let error = name_in_use("wc", Path::new("/base/wc"), Some(owner.clone()));
    for text in [owner.to_string(), owner.program.display().to_string(), owner.boot_id.clone(), error.to_string()] {
        assert!(text.chars().all(escape::is_printable), "{text:?}");
    }
    let _ = format!("{owner:?} {error:?}");
    let again = Owner::parse(owner.encode().as_bytes()).expect("an encoded record can be parsed");
    let numbers = |owner: &Owner| (owner.pid, owner.uid, owner.protocol, owner.start_time, owner.since);
    assert_eq!(numbers(&again), numbers(&owner));
    assert_eq!(again.transports, owner.transports);
    assert_eq!((again.program, again.boot_id), (owner.program, owner.boot_id), "what is printable stays as it is");
}

/// Assembles datagrams: two bytes of limit, then for each datagram its marker, two bytes of length, and its bytes.
pub fn pieces(data: &[u8]) {
    let mut input = Input(data);
    let length_max = input.number();
    let mut assembler = Assembler::new(length_max);
    let (mut message, mut out) = (Vec::new(), Vec::new());
    while !input.is_empty() {
        let (marker, length) = (input.byte(), input.number());
        let (piece, behind) = input.0.split_at(length.min(input.0.len()));
        input.0 = behind;
        let datagram = [piece, &[marker]].concat();
        let expected: Vec<u8> = [&message, piece].concat();
        let space = assembler.space(&mut out);
        assert!(space.len() <= length_max, "no message above the limit is expected");
        let placed = space.len().min(datagram.len());
        space[..placed].copy_from_slice(&datagram[..placed]);
        let split = assembler.split(placed, &datagram[placed..]).expect("the datagram is not empty");
        let placed = split.placed;
        assert_eq!((split.marker, placed + split.rest.len()), (marker, piece.len()));
        let is_open = match assembler.take(split, &mut out) {
            Ok(Took::Message) => {
                assert!(marker == 0 && out == expected);
                message = Vec::new();
                false
            }
            Ok(Took::Piece) => {
                assert_eq!(marker, 1);
                message = expected;
                true
            }
            Ok(Took::Pack) => {
                assert!(marker == 2 && message.is_empty());
                assert_eq!(assembler.placed(placed), &piece[..placed]);
                if !unpack(piece, length_max) {
                    return;
                }
                false
            }
            Err(BadPiece::Pack(_)) => return assert!(marker == 2 && !assembler.is_at_boundary()),
            Err(BadPiece::Marker) => return assert!(marker > 2),
            Err(BadPiece::TooLong(too_long)) => {
                assert_eq!(too_long.length, expected.len());
                return assert!(expected.len() > length_max);
            }
        };
        assert!(message.len() <= length_max && out.len() <= length_max);
        assert_eq!(assembler.is_at_boundary(), !is_open);
    }
}

/// Takes the messages out of a packed datagram. Returns true if the datagram has nothing else.
fn unpack(datagram: &[u8], length_max: usize) -> bool {
    let Ok(mut pack) = Pack::new(0..datagram.len()) else { return false };
    let mut again = Vec::new();
    loop {
        match pack.next(datagram, length_max) {
            Ok(Some(message)) => {
                assert!(message.len() <= length_max);
                again.extend_from_slice(&(message.len() as u32).to_be_bytes());
                again.extend_from_slice(message);
                assert!(datagram.starts_with(&again));
            }
            Ok(None) => {
                assert!(pack.is_empty() && again == datagram);
                return true;
            }
            Err(bad) => {
                assert!(!pack.is_empty() && pack.next(datagram, length_max) == Err(bad));
                return false;
            }
        }
    }
}

/// Parses the name of a file in a directory that other users may write to.
pub fn client_file(data: &[u8]) {
    let Ok(name) = std::str::from_utf8(data) else { return };
    if let Some((id, file)) = ClientId::parse(name) {
        assert_eq!(id.file_name(file), name, "a name has only one spelling");
        assert!(!name.contains('/') && id.pid > 0);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Text(String),
    Bytes(Vec<u8>),
    Pair(Box<Tree>, Box<Tree>),
    Named { name: Option<String>, children: Vec<Tree> },
    Map(BTreeMap<u32, Tree>),
    Numbers(i8, u16, i32, u64, i128),
    Units(Vec<()>),
    Result(Result<char, bool>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Chain(Option<Box<Chain>>);

/// Decodes a message as a value: one byte for the type, then the message.
pub fn typed(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 5 {
        0 => value::<Tree>(input.0),
        1 => value::<Chain>(input.0),
        2 => value::<Vec<()>>(input.0),
        3 => value::<BTreeMap<String, Vec<Option<u64>>>>(input.0),
        _ => value::<(Vec<[u64; 32]>, Option<String>)>(input.0),
    }
}

fn value<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &[u8]) {
    let Ok(value) = Codec::Postcard.decode::<T>(message) else { return };
    let again = postcard::to_stdvec(&value).expect("a received value can be sent");
    assert!(again.len() <= message.len(), "no message for a value is shorter than its encoding");
    assert_eq!(Codec::Postcard.decode::<T>(&again), Ok(value));
}

/// Parts of an object that the type does not name, and values whose type the message determines.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    #[serde(default)]
    kind: Option<Box<Open>>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

/// A value whose variant the message determines by its form.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Loose {
    Number(i64),
    Text(String),
    List(Vec<Loose>),
    Map(BTreeMap<String, Loose>),
}

/// Decodes a message as a value in JSON: one byte for the type, then the message.
pub fn typed_json(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 7 {
        0 => json_value::<Tree>(input.0),
        1 => json_value::<Chain>(input.0),
        2 => json_value::<Vec<()>>(input.0),
        3 => json_value::<BTreeMap<String, Vec<Option<u64>>>>(input.0),
        4 => json_value::<(Vec<[u64; 32]>, Option<String>)>(input.0),
        5 => json_value::<Open>(input.0),
        _ => json_value::<Loose>(input.0),
    }
}

fn json_value<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &[u8]) {
    let ours = Codec::Json.decode::<T>(message);
    if let Err(reason) = &ours {
        let text = reason.to_string();
        assert!(text.chars().all(escape::is_printable) && text.len() < 2 * escape::ESCAPED_LEN_MAX, "{text}");
    }
    if matches!(ours, Err(Undecodable::TooMuch(_) | Undecodable::NotText { .. })) {
        // serde_json alone does not limit the nesting of options, and would exhaust the stack.
        return;
    }
    match (ours, serde_json::from_slice::<T>(message)) {
        (Ok(value), Ok(same)) => {
            assert!(std::str::from_utf8(message).is_ok());
            let again = serde_json::to_vec(&value).expect("a received value can be sent");
            let read = serde_json::from_slice::<T>(&again).expect("a value that was sent can be received");
            assert_eq!(serde_json::to_vec(&read).expect("it can be sent again"), again, "a value has one form");
            assert_eq!(value, same);
        }
        (Err(reason), theirs) => assert!(theirs.is_err(), "serde_json decodes the value: {reason}"),
        (Ok(_), Err(theirs)) => panic!("serde_json does not decode the value: {theirs}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    type Target = (&'static str, fn(&[u8]));

    const TARGETS: [Target; 19] = [
        ("activation", super::activation),
        ("calls", super::calls),
        ("child_fd", super::child_fd),
        ("client_file", super::client_file),
        ("control", super::control),
        ("decoder", super::decoder),
        ("frames_publisher", super::frames_publisher),
        ("frames_reader", super::frames_reader),
        ("hello", super::hello),
        ("hostile_client", super::hostile_client),
        ("hostile_server", super::hostile_server),
        ("owner", super::owner),
        ("pieces", super::pieces),
        ("request", super::request),
        ("ring", super::ring),
        ("stats", super::stats),
        ("tap", super::tap),
        ("typed", super::typed),
        ("typed_json", super::typed_json),
    ];

    fn home() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
    }

    /// The names in a directory, without those of `crates/parlour-bridge`, which has its own list.
    fn names_in(directory: &str) -> Vec<String> {
        let entries = fs::read_dir(home().join(directory)).unwrap();
        let names = entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with("bridge_")).collect();
        names.sort();
        names
    }

    /// Returns true if the seeds are not there: the archive of the crate does not contain them.
    fn has_no_seeds() -> bool {
        let is_missing = !home().is_dir();
        if is_missing {
            println!("skipped: {} does not exist", home().display());
        }
        is_missing
    }

    #[test]
    fn every_seed_of_the_fuzzers_passes() {
        if has_no_seeds() {
            return;
        }
        let mut count = 0;
        for (name, target) in TARGETS {
            let before = count;
            for seed in fs::read_dir(home().join("seeds").join(name)).unwrap() {
                let path = seed.unwrap().path();
                let data = fs::read(&path).unwrap();
                std::panic::catch_unwind(|| target(&data)).unwrap_or_else(|_| panic!("{}", path.display()));
                count += 1;
            }
            assert!(count > before, "{name} has no seeds");
        }
    }

    #[test]
    fn each_target_has_its_program_and_its_seeds() {
        if has_no_seeds() {
            return;
        }
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names_in("fuzz_targets"), names);
        assert_eq!(names_in("seeds"), names);
    }
}
