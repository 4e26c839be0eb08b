//! Recordings of the messages of a server, as files in the format MCAP (<https://mcap.dev>): their writer and reader.
//!
//! A channel has the messages of one client in one direction, `/NAME/CLIENT/in` and `/NAME/CLIENT/out`. Its metadata
//! tells what a recording needs beyond the format. Messages that are JSON have a channel of their own, whose encoding
//! says so. If there are very many clients, later ones share the channels `/NAME/more/in` and `/NAME/more/out`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Seek, Write};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use mcap::records::{MessageHeader, Metadata};
use mcap::{MessageStream, WriteOptions, Writer};
use parlour::inspect::{TapDirection, TapMessage};

/// The words of the metadata of a channel.
const CLIENT: &str = "client";
const DIRECTION: &str = "direction";
const PART: &str = "part";
const DESCRIPTORS: &str = "descriptors";

/// The word in place of the number of a client, for a channel that clients share.
const SHARED: &str = "more";

/// The number of channels from which on clients share channels. The format has numbers of channels of 16 bits, and each
/// channel takes memory.
const CHANNELS_MAX: usize = 4096;

/// The length from which on a chunk of a file is closed, and the length that it may have for each of its channels. A
/// chunk has an entry in the index of the file, with a number for each channel.
const CHUNK_MAX: u64 = 1 << 20;
const CHUNK_MAX_EACH: u64 = 4096;

/// The time after which a chunk is closed, and the time that it may take for each of its channels.
const CHUNK_TIME: Duration = Duration::from_secs(1);
const CHUNK_TIME_EACH: Duration = Duration::from_millis(5);

/// The memory that the index of a file may take, and that of an entry in it. The index is written at the end of a file.
const INDEX_MAX: u64 = 64 << 20;
const INDEX_ENTRY: u64 = 256;
const INDEX_ENTRY_EACH: u64 = 28;

/// The channel of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// `None` for a channel that clients share, where the sequence number of a message is the number of the client.
    client: Option<u64>,
    direction: Direction,
    is_json: bool,
    /// The bytes are the beginning of a longer message.
    is_part: bool,
    has_descriptors: bool,
}

/// The meaning of an entry of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Direction {
    In,
    Out,
    /// The last message to the client was not sent.
    NotSent,
    /// Messages were lost. The entry has their number.
    Lost,
}

impl Direction {
    const ALL: [Self; 4] = [Self::In, Self::Out, Self::NotSent, Self::Lost];

    fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::NotSent => "not-sent",
            Self::Lost => "lost",
        }
    }
}

/// The numbers of a recording.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) messages: u64,
    /// Messages that were not recorded.
    pub(crate) lost: u64,
    /// Messages of which only the beginning was recorded.
    pub(crate) parts: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, more: Self) {
        self.messages += more.messages;
        self.lost = self.lost.saturating_add(more.lost);
        self.parts += more.parts;
    }
}

/// A recording that is written.
pub(crate) struct Recorder<W: Write + Seek> {
    writer: Writer<W>,
    name: String,
    channels: HashMap<Key, u16>,
    sequence: u32,
    pub(crate) totals: Totals,
    chunk: Chunk,
    /// The length of the chunks that are closed.
    length: u64,
    /// An estimate of the memory of their index.
    index: u64,
}

/// The chunk that is written.
#[derive(Debug, Default)]
struct Chunk {
    length: u64,
    channels: HashSet<u16>,
}

impl Chunk {
    fn length_max(&self) -> u64 {
        CHUNK_MAX.max(CHUNK_MAX_EACH * self.channels.len() as u64)
    }

    fn time_max(&self) -> Duration {
        CHUNK_TIME.max(CHUNK_TIME_EACH * self.channels.len() as u32)
    }

    /// Returns an estimate of the memory of its entry in the index.
    fn index(&self) -> u64 {
        INDEX_ENTRY + INDEX_ENTRY_EACH * self.channels.len() as u64
    }
}

impl<W: Write + Seek> Recorder<W> {
    pub(crate) fn new(output: W, name: &str) -> anyhow::Result<Self> {
        let options = WriteOptions::new().compression(None).library(concat!("parlour ", env!("CARGO_PKG_VERSION")));
        // Chunks are closed here, because their number determines the memory of the index.
        let writer = options.chunk_size(None).create(output)?;
        Ok(Self {
            writer,
            name: name.to_owned(),
            channels: HashMap::new(),
            sequence: 0,
            totals: Totals::default(),
            chunk: Chunk::default(),
            length: 0,
            index: 0,
        })
    }

    /// Writes a message, and the number of those that were lost before it.
    pub(crate) fn write(&mut self, message: &TapMessage) -> anyhow::Result<()> {
        let nanos = message.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        if message.lost > 0 {
            self.totals.lost = self.totals.lost.saturating_add(message.lost);
            let direction = Direction::Lost;
            let key = Key { client: Some(0), direction, is_json: true, is_part: false, has_descriptors: false };
            self.put(key, nanos, format!("{{\"messages\":{}}}", message.lost).as_bytes())?;
        }
        let direction = match message.direction {
            TapDirection::In => Direction::In,
            TapDirection::Out => Direction::Out,
            TapDirection::OutFailed => Direction::NotSent,
            // Directions of later versions.
            _ => return Ok(()),
        };
        let is_part = (message.bytes.len() as u64) < message.length;
        let is_json = !is_part && is_json(&message.bytes);
        let has_descriptors = message.descriptors > 0;
        if direction != Direction::NotSent {
            self.totals.messages += 1;
            self.totals.parts += u64::from(is_part);
        }
        let client = Some(message.client);
        self.put(Key { client, direction, is_json, is_part, has_descriptors }, nanos, &message.bytes)
    }

    fn put(&mut self, mut key: Key, nanos: u64, bytes: &[u8]) -> anyhow::Result<()> {
        let mut sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        // The channel for losses is not shared.
        if self.channels.len() >= CHANNELS_MAX && key.direction != Direction::Lost && !self.channels.contains_key(&key)
        {
            let client = key.client.take().and_then(|client| u32::try_from(client).ok());
            sequence = client.context("a recording has clients with numbers of up to 32 bits")?;
        }
        let channel_id = match self.channels.get(&key) {
            Some(id) => *id,
            None => {
                let id = self.add_channel(key)?;
                self.channels.insert(key, id);
                id
            }
        };
        let header = MessageHeader { channel_id, sequence, log_time: nanos, publish_time: nanos };
        self.writer.write_to_known_channel(&header, bytes)?;
        self.chunk.channels.insert(channel_id);
        self.chunk.length += (size_of::<MessageHeader>() + bytes.len()) as u64;
        if self.chunk.length >= self.chunk.length_max() { self.flush() } else { Ok(()) }
    }

    fn add_channel(&mut self, key: Key) -> anyhow::Result<u16> {
        let Key { client, direction, is_json, is_part, has_descriptors } = key;
        let word = direction.word();
        let topic = match (direction, client) {
            (Direction::Lost, _) => format!("/{}/{word}", self.name),
            (_, Some(client)) => format!("/{}/{client}/{word}", self.name),
            (_, None) => format!("/{}/{SHARED}/{word}", self.name),
        };
        let mut metadata = BTreeMap::from([(DIRECTION.to_owned(), word.to_owned())]);
        metadata.insert(CLIENT.to_owned(), client.map_or(SHARED.to_owned(), |client| client.to_string()));
        for (name, value) in [(PART, is_part), (DESCRIPTORS, has_descriptors)] {
            if value {
                metadata.insert(name.to_owned(), true.to_string());
            }
        }
        let encoding = if is_json { "json" } else { "" };
        // 0: no schema.
        Ok(self.writer.add_channel(0, &topic, encoding, &metadata)?)
    }

    /// Returns the time after which [`flush`](Self::flush) is to be called.
    pub(crate) fn flush_after(&self) -> Duration {
        self.chunk.time_max()
    }

    /// Writes what is buffered, and closes the chunk.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        if !self.chunk.channels.is_empty() {
            self.index += self.chunk.index();
            self.length += std::mem::take(&mut self.chunk).length;
        }
        Ok(self.writer.flush()?)
    }

    /// Returns true if another file is to be begun: this one has so many bytes, or its index takes much memory.
    pub(crate) fn is_full(&self, length_max: Option<u64>) -> bool {
        self.index >= INDEX_MAX || length_max.is_some_and(|max| self.length + self.chunk.length >= max)
    }

    /// Completes the file.
    pub(crate) fn finish(&mut self) -> anyhow::Result<()> {
        let Totals { messages, lost, parts } = self.totals;
        let metadata = [("name", self.name.clone()), ("messages", messages.to_string())];
        let metadata = metadata.into_iter().chain([("lost", lost.to_string()), ("parts", parts.to_string())]);
        let metadata = metadata.map(|(name, value)| (name.to_owned(), value)).collect();
        self.writer.write_metadata(&Metadata { name: "parlour".to_owned(), metadata })?;
        self.writer.finish()?;
        Ok(())
    }
}

/// Returns true if a message is a JSON object or array.
pub(crate) fn is_json(message: &[u8]) -> bool {
    let is_likely = message.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| b"{[".contains(byte));
    // A string that is ignored is not checked by `serde_json`.
    let text = is_likely.then(|| std::str::from_utf8(message).ok()).flatten();
    text.is_some_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}

/// A recording that was read.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    pub(crate) events: Vec<Event>,
    /// Messages that were not recorded.
    pub(crate) lost: u64,
    /// Messages of which only the beginning was recorded.
    pub(crate) parts: u64,
    /// Messages from clients with descriptors or blocks of shared memory.
    pub(crate) with_descriptors: u64,
}

/// A message of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) client: u64,
    /// True for a message to the server.
    pub(crate) is_in: bool,
    /// The time since the first message.
    pub(crate) at: Duration,
    pub(crate) bytes: Vec<u8>,
    /// No other event of this client follows.
    pub(crate) is_last: bool,
}

/// The files of a recording, read one after the other.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    recording: Recording,
    /// The time of the first message.
    begin: Option<u64>,
    events: Vec<Option<Event>>,
    /// The place of the last message to each client, which may turn out not to have been sent.
    last_out: HashMap<u64, usize>,
}

impl Reader {
    /// Reads a whole file, which follows those that were read before.
    pub(crate) fn add(&mut self, file: &[u8]) -> anyhow::Result<()> {
        const INCOMPLETE: &str = "the file is not a complete recording; `parlour record` completes it when it ends";
        let Self { recording, begin, events, last_out } = self;
        for message in MessageStream::new(file).context(INCOMPLETE)? {
            let message = message.context(INCOMPLETE)?;
            let metadata = &message.channel.metadata;
            let number = metadata.get(CLIENT).and_then(|client| match &client[..] {
                SHARED => Some(u64::from(message.sequence)),
                client => client.parse().ok(),
            });
            let word = metadata.get(DIRECTION);
            let direction =
                Direction::ALL.into_iter().find(|direction| word.is_some_and(|word| word == direction.word()));
            let (Some(client), Some(direction)) = (number, direction) else {
                bail!("the channel {} is not one of `parlour record`", message.channel.topic);
            };
            if client == 0 && direction != Direction::Lost {
                bail!("a message of the channel {} has no number of a client", message.channel.topic);
            }
            let is_in = match direction {
                Direction::In => true,
                Direction::Out => false,
                Direction::NotSent => {
                    if let Some(index) = last_out.remove(&client) {
                        events[index] = None;
                    }
                    continue;
                }
                Direction::Lost => {
                    recording.lost = recording.lost.saturating_add(lost(&message.data));
                    // A mark that a message was not sent may be among the lost ones.
                    last_out.clear();
                    continue;
                }
            };
            recording.parts += u64::from(metadata.contains_key(PART));
            recording.with_descriptors += u64::from(is_in && metadata.contains_key(DESCRIPTORS));
            let begin = *begin.get_or_insert(message.log_time);
            let at = Duration::from_nanos(message.log_time.saturating_sub(begin));
            if !is_in {
                last_out.insert(client, events.len());
            }
            events.push(Some(Event { client, is_in, at, bytes: message.data.into_owned(), is_last: false }));
        }
        Ok(())
    }

    /// Returns what was read.
    pub(crate) fn finish(self) -> Recording {
        let Self { mut recording, events, .. } = self;
        recording.events = events.into_iter().flatten().collect();
        let mut seen = HashSet::new();
        for event in recording.events.iter_mut().rev() {
            event.is_last = seen.insert(event.client);
        }
        recording
    }
}

fn lost(entry: &[u8]) -> u64 {
    let entry: Option<serde_json::Value> = serde_json::from_slice(entry).ok();
    // An entry that cannot be read tells that at least one was lost.
    entry.and_then(|entry| entry.get("messages")?.as_u64()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// Writes entries, and reads them again.
    fn written(entries: &[(u64, Direction, &[u8])]) -> anyhow::Result<Recording> {
        let mut file = Cursor::new(Vec::new());
        let mut recorder = Recorder::new(&mut file, "room")?;
        for &(client, direction, bytes) in entries {
            let key = Key { client: Some(client), direction, is_json: false, is_part: false, has_descriptors: false };
            recorder.put(key, 1, bytes)?;
        }
        recorder.finish()?;
        drop(recorder);
        let mut reader = Reader::default();
        reader.add(file.get_ref())?;
        Ok(reader.finish())
    }

    fn seen(recording: &Recording) -> Vec<(u64, bool, &[u8], bool)> {
        let events = recording.events.iter();
        events.map(|event| (event.client, event.is_in, &event.bytes[..], event.is_last)).collect()
    }

    #[test]
    fn more_clients_than_there_are_numbers_of_channels_are_recorded() {
        let entries: Vec<_> = (1..70_000).map(|client| (client, Direction::In, &b"x"[..])).collect();
        let recording = written(&entries).unwrap();
        assert!(seen(&recording).into_iter().eq((1..70_000).map(|client| (client, true, &b"x"[..], true))));
    }

    #[test]
    fn the_index_of_a_file_is_small_beside_the_file_and_bounded() {
        let mut recorder = Recorder::new(Cursor::new(Vec::new()), "room").unwrap();
        let mut put = |client: u64, length: usize| {
            let direction = Direction::In;
            let key = Key { client: Some(client), direction, is_json: false, is_part: false, has_descriptors: false };
            recorder.put(key, 1, &vec![0; length]).unwrap();
            (recorder.length, recorder.index)
        };
        // A chunk of few clients, and one of many.
        let few = (0..).map(|number| put(number % 3, 1000)).find(|(length, _)| *length > 0).unwrap();
        assert!((CHUNK_MAX..2 * CHUNK_MAX).contains(&few.0) && few.1 < 512, "{few:?}");
        let many = (0..).map(|number| put(number % 4000, 1000)).find(|(length, _)| *length > few.0).unwrap();
        assert!((many.0 - few.0) / (many.1 - few.1) > 100, "{few:?} {many:?}");
        assert!(!recorder.is_full(None) && recorder.is_full(Some(many.0)) && !recorder.is_full(Some(many.0 + 1)));
        recorder.index = INDEX_MAX;
        assert!(recorder.is_full(None));
    }

    #[test]
    fn a_message_that_was_not_sent_is_taken_back_and_no_other_one() {
        let failed = (1, Direction::NotSent, &b""[..]);
        let recording = written(&[
            (1, Direction::Out, b"good"),
            (1, Direction::Out, b"bad"),
            (2, Direction::Out, b"other"),
            failed,
            failed,
        ]);
        let recording = recording.unwrap();
        assert_eq!(seen(&recording), [(1, false, &b"good"[..], true), (2, false, &b"other"[..], true)]);
        let lost = (0, Direction::Lost, &b"{\"messages\":18446744073709551615}"[..]);
        let recording = written(&[(1, Direction::Out, b"good"), lost, lost, failed]).unwrap();
        assert_eq!(seen(&recording), [(1, false, &b"good"[..], true)]);
        assert_eq!(recording.lost, u64::MAX);
    }

    #[test]
    fn a_message_without_a_client_is_refused() {
        assert!(written(&[(0, Direction::In, b"x")]).unwrap_err().to_string().contains("number of a client"));
    }

    #[test]
    fn bytes_that_are_no_text_are_not_json() {
        assert!(is_json(b" {\"a\": [1]}"));
        assert!(!is_json(b"{\"a\": \"\xff\"}") && !is_json(b"1"));
    }
}
