//! The messages of a server, while they pass. docs/stats.md specifies how a process asks for them.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::fs::{OFlags, stat};
use rustix::io::Errno;

use super::stats::{
    NameDirectory, ask, denied, has_own_proc, is_counters, not_given, open_counters, open_directory, open_place,
};
use super::tap_request::{Asking, is_page};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::owner::Owner;
use crate::server::counters::{Answer, Asked, Asks};
use crate::shm::place::{Place, now};
use crate::shm::stats_reader::{self, ReadError};
use crate::shm::tap_reader::{TapReadError, TapReader};
use crate::sys::fork::ParentOnly;
use crate::wait::{Deadline, pause};
use crate::wire::stats::PlaceWords;
use crate::wire::tap::{BadTap, Event, Header};
use crate::wire::tap_request::HOLDS;
use crate::wire::tap_ring::{Cursor, Record};

const INSPECT: Operation = Operation::Inspect;

/// The time between two looks at the ring.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// The time between two renewals of the request, in nanoseconds.
const RENEW_EVERY: u64 = HOLDS / 4;

/// The direction of a message, as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TapDirection {
    /// From a client to the server.
    In,
    /// From the server to a client. The message was recorded before it was sent.
    Out,
    /// The server could not send the last [`Out`](Self::Out) message to this client: the channel was full, or the call
    /// failed. It may try again with a new one. There are no bytes.
    OutFailed,
}

/// A message that passed a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TapMessage {
    /// The time at which the server had received the message, or began to send it. Within a [`Tap`], the messages are
    /// in the order of their times, because it looks at the time of day once, at its begin. A change of the time of day
    /// while it runs changes no time of a message.
    pub at: SystemTime,
    /// The number of the client, as in [`ClientStats`](crate::ClientStats). 0 if it has no counters.
    pub client: u64,
    /// The process id of the client, if it is known.
    pub pid: Option<u32>,
    /// The direction.
    pub direction: TapDirection,
    /// The length of the message in bytes.
    pub length: u64,
    /// Its first bytes. A server records at most 1 MiB of a message.
    pub bytes: Vec<u8>,
    /// The number of descriptors, or of blocks of shared memory, that are attached to the message.
    pub descriptors: u16,
    /// The number of messages that were lost before this one, because this process was too slow, or because two threads
    /// of the server had messages at once. After a pause of this process for more than 2 seconds, there may have been
    /// more.
    pub lost: u64,
}

/// A tap of a server, which [`tap`](super::tap) begins. Dropping it ends the tap.
///
/// [`recv_timeout`](Self::recv_timeout) renews the request to the server. If it is not called for two seconds, the
/// server may stop recording until the next call.
pub struct Tap {
    object: String,
    owner: Owner,
    way: Way,
    counters: OwnedFd,
    asking: Asking,
    requests_place: Place,
    renewed: u64,
    has_ended: bool,
    ring: Option<(PlaceWords, TapReader<OwnedFd>)>,
    records: Records,
    calendar: Calendar,
}

/// Converts times since the boot into times of day, each by the same difference.
#[derive(Clone, Copy, Debug)]
struct Calendar {
    /// A time in nanoseconds since the boot, and the time of day then.
    since_boot: u64,
    of_day: SystemTime,
}

/// The way to the memory of a server.
enum Way {
    /// The descriptors of its process.
    Proc,
    /// Its socket `control`, for a server to whose process `/proc` does not lead.
    Control(Control),
}

/// A name whose holder is asked at its socket `control`.
struct Control {
    name: TappedName,
    /// The place of the counters in the owner record. Another holder has another one.
    counters: Place,
    /// The files that the server has handed out at the beginning. The ring is one of them if there was one.
    given: Vec<ParentOnly>,
    /// The request for the ring that was sent and not answered yet.
    asked: Option<Asked>,
}

/// The name of a server that is tapped.
pub(super) struct TappedName {
    pub(super) address: String,
    /// The user that the server must have; `None` for the user of this process, or root.
    pub(super) server_uid: Option<u32>,
    pub(super) base: PathBuf,
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Returns the owner record of the server that holds the name of an address now.
    pub(super) holder: fn(&str, Option<u32>) -> Result<Option<Owner>>,
}

impl Control {
    /// Returns the ring at this place, once the server has handed it out. Does not wait.
    fn ring(&mut self, place: Place) -> Option<OwnedFd> {
        if let Some(ring) = find(&std::mem::take(&mut self.given), place) {
            return Some(ring);
        }
        if self.asked.is_none() {
            let directory = open_directory(&self.name.directory())?;
            let deadline = Deadline::after(Duration::ZERO);
            // If the server cannot be reached now, the next look tries again.
            self.asked = Asked::begin(&directory, &self.name.path, Asks::Tap, deadline).ok()?.ok();
        }
        let answer = self.asked.as_ref()?.answer();
        if !matches!(answer, Ok(None)) {
            self.asked = None;
        }
        let Ok(Some(Answer::Given(files))) = answer else { return None };
        find(&files, place)
    }

    /// Returns true if the server holds the name no more.
    fn has_ended(&self) -> Result<bool> {
        let holder = (self.name.holder)(&self.name.address, self.name.server_uid)?;
        Ok(holder.is_none_or(|owner| owner.stats != Some(self.counters)))
    }
}

impl TappedName {
    fn directory(&self) -> NameDirectory<'_> {
        NameDirectory { base: &self.base, name: &self.name, path: &self.path }
    }
}

/// Returns the file at this place.
fn find(files: &[ParentOnly], place: Place) -> Option<OwnedFd> {
    let file = files.iter().find(|file| is_counters(file, place).unwrap_or(false))?;
    file.as_fd().try_clone_to_owned().ok()
}

/// The files of a server that is tapped.
struct Files {
    way: Way,
    counters: OwnedFd,
    requests: OwnedFd,
    requests_place: Place,
}

/// The records that were read and not returned yet.
#[derive(Default)]
struct Records {
    queue: VecDeque<Record>,
    /// The messages that were lost before records that were skipped.
    lost: u64,
}

impl Tap {
    pub(super) fn begin(object: String, name: TappedName, owner: Option<Owner>) -> Result<Self> {
        let Some(owner) = owner else {
            let detail = "the owner record of the server cannot be read";
            return Err(Error::new(ErrorKind::Unsupported, INSPECT, object, detail));
        };
        let Files { way, counters, requests, requests_place } = Files::open(&object, name, &owner)?;
        let mut tap = Self {
            owner,
            way,
            counters,
            asking: Asking::new(requests),
            requests_place,
            renewed: now(),
            has_ended: false,
            ring: None,
            records: Records::default(),
            calendar: Calendar::new(),
            object,
        };
        // A ring that exists is read from its end on, before this process asks for a new one.
        tap.find_ring(Cursor::at_end)?;
        if !tap.asking.take_place().map_err(|errno| Error::io(INSPECT, &tap.object, errno))? {
            let detail = "128 processes tap the server";
            return Err(Error::new(ErrorKind::Busy, INSPECT, &tap.object, detail).next("end one of them"));
        }
        Ok(tap)
    }

    /// Returns the owner record of the server that is tapped. After a [hand-over](crate::ServerOptions::hand_over) the
    /// name has another owner, and this tap goes on with the server that has handed the name over.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Waits for the next message. Returns `None` after the timeout.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NoServer`]: the server has ended, and all messages that it recorded were returned.
    /// - [`ErrorKind::Protocol`]: the memory of the server contradicts itself.
    /// - [`ErrorKind::NameLost`]: this is a forked child of the process that taps. The tap of the parent goes on.
    /// - [`ErrorKind::Io`]: a system call failed, for example because this process has too many descriptors. The tap
    ///   goes on with the next call.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<TapMessage>> {
        if self.asking.is_in_child() {
            return Err(forked(&self.object));
        }
        let deadline = Deadline::after(timeout);
        loop {
            // The end is noted before the last look, so that nothing that was recorded before it is missed.
            self.renew_if_due()?;
            let had_ended = self.has_ended;
            if self.records.queue.is_empty() {
                self.read()?;
            }
            if let Some(message) = self.records.pop(self.calendar) {
                return Ok(Some(message));
            }
            if had_ended {
                return Err(gone(&self.object));
            }
            if deadline.is_over() {
                return Ok(None);
            }
            pause(POLL_EVERY, deadline).map_err(|error| Error::io(INSPECT, &self.object, error))?;
        }
    }

    fn read(&mut self) -> Result<()> {
        let mut records = Vec::new();
        self.read_ring(&mut records)?;
        // The ring that was read may have been replaced. It had nothing more.
        if records.is_empty() && self.find_ring(Cursor::at_beginning)? {
            self.read_ring(&mut records)?;
        }
        self.records.queue.extend(records);
        Ok(())
    }

    fn read_ring(&mut self, records: &mut Vec<Record>) -> Result<()> {
        let Some((_, reader)) = &mut self.ring else { return Ok(()) };
        reader.read(records).map_err(|error| unreadable(&self.object, error))
    }

    /// Opens the ring that the server states. Returns true if it is another one than before.
    fn find_ring(&mut self, begin: fn(&Header) -> Cursor) -> Result<bool> {
        let Ok(header) = stats_reader::read_header(&self.counters) else { return Ok(false) };
        let Some(words) = header.tap.filter(|words| self.ring.as_ref().is_none_or(|(before, _)| before != words))
        else {
            return Ok(false);
        };
        // The place may have changed while it was read, or the ring may have gone. The next look finds it.
        let Some(place) = place_of(words) else { return Ok(false) };
        let opened = match &mut self.way {
            Way::Proc => match open_counters(self.owner.pid, place) {
                Ok(file) => Some(file),
                Err(errno) if is_end(errno) => None,
                Err(errno) => return Err(Error::io(INSPECT, &self.object, errno)),
            },
            Way::Control(control) => control.ring(place),
        };
        let Some(file) = opened else { return Ok(false) };
        let reader = TapReader::new(file, begin).map_err(|error| unreadable(&self.object, error))?;
        if self.ring.replace((words, reader)).is_some() {
            // The server gave the ring before up with a message that it did not record.
            self.records.lost = self.records.lost.saturating_add(1);
        }
        Ok(true)
    }

    fn renew_if_due(&mut self) -> Result<()> {
        if self.has_ended || now().wrapping_sub(self.renewed) < RENEW_EVERY {
            return Ok(());
        }
        self.renewed = now();
        self.asking.renew().map_err(|errno| Error::io(INSPECT, &self.object, errno))?;
        self.has_ended = match &self.way {
            // A server that has ended has closed its files.
            Way::Proc => match open_place(self.owner.pid, self.requests_place, OFlags::RDONLY) {
                Ok(_) => false,
                // Another process may have the process id now.
                Err(errno) if is_end(errno) => true,
                Err(errno) => return Err(Error::io(INSPECT, &self.object, errno)),
            },
            Way::Control(control) => control.has_ended()?,
        };
        Ok(())
    }
}

impl Files {
    fn open(object: &str, name: TappedName, owner: &Owner) -> Result<Self> {
        let counters_place = owner.stats.ok_or_else(|| not_offered(object))?;
        let by_proc = match owner.has_other_pids() || !has_own_proc() {
            true => Err(Errno::ACCESS),
            false => open_counters(owner.pid, counters_place),
        };
        match by_proc {
            Ok(counters) => {
                let requests_place = requests_of(object, &counters)?;
                let requests = open_place(owner.pid, requests_place, OFlags::RDWR);
                let requests = requests.map_err(|errno| unopened(object, errno))?;
                check_page(object, &name, &requests)?;
                Ok(Self { way: Way::Proc, counters, requests, requests_place })
            }
            Err(Errno::ACCESS | Errno::PERM) => {
                let given = ask(object, &name.directory(), owner, Asks::Tap)?;
                let not_given = || not_given(object, owner, Asks::Tap);
                let counters = find(&given, counters_place).ok_or_else(not_given)?;
                let requests_place = requests_of(object, &counters)?;
                let requests = find(&given, requests_place).ok_or_else(not_given)?;
                check_page(object, &name, &requests)?;
                let control = Control { name, counters: counters_place, given, asked: None };
                Ok(Self { way: Way::Control(control), counters, requests, requests_place })
            }
            Err(errno) => Err(unopened(object, errno)),
        }
    }
}

/// Returns an error if a file is not a page of requests of the user to whom the directory of a name belongs.
fn check_page(object: &str, name: &TappedName, requests: impl AsFd) -> Result<()> {
    let is_page = stat(&name.path).and_then(|directory| is_page(requests, directory.st_uid));
    match is_page.map_err(|errno| unopened(object, errno))? {
        true => Ok(()),
        false => {
            let detail = "the place of the requests to tap the server has something else";
            Err(Error::new(ErrorKind::Protocol, INSPECT, object, detail).next("check that the server is sound"))
        }
    }
}

/// Returns the place of the requests that the counters of a server state.
fn requests_of(object: &str, counters: impl AsFd) -> Result<Place> {
    let header = stats_reader::read_header(&counters).map_err(|error| match error {
        ReadError::Io(error) => Error::io(INSPECT, object, error),
        ReadError::Bad(bad) => Error::new(ErrorKind::Unsupported, INSPECT, object, bad.to_string()),
    })?;
    header.tap_requests.and_then(place_of).ok_or_else(|| not_offered(object))
}

impl Calendar {
    /// Looks at both clocks.
    fn new() -> Self {
        let look = || {
            let (before, of_day, since_boot) = (now(), SystemTime::now(), now());
            // With the later time, no message seems to be of a time that is yet to come.
            (since_boot.saturating_sub(before), Self { since_boot, of_day })
        };
        let (mut shortest, mut best) = look();
        // The process may be preempted between the clocks, so the shortest of some looks is the best.
        for (length, calendar) in (0..4).map(|_| look()) {
            if length < shortest {
                (shortest, best) = (length, calendar);
            }
        }
        best
    }

    /// Returns the time of day of a time in nanoseconds since the boot, which may be any number.
    fn time_of_day(self, since_boot: u64) -> SystemTime {
        let later = Duration::from_nanos(since_boot.saturating_sub(self.since_boot));
        let earlier = Duration::from_nanos(self.since_boot.saturating_sub(since_boot));
        let time = self.of_day.checked_add(later).and_then(|time| time.checked_sub(earlier));
        time.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

impl Records {
    /// Returns the next message that was read.
    fn pop(&mut self, calendar: Calendar) -> Option<TapMessage> {
        while let Some(record) = self.queue.pop_front() {
            self.lost = self.lost.saturating_add(record.lost);
            // Events of later versions are skipped.
            if let Some(message) = TapMessage::new(record, calendar) {
                return Some(TapMessage { lost: std::mem::take(&mut self.lost), ..message });
            }
        }
        None
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("server", &self.object).field("pid", &self.owner.pid).finish_non_exhaustive()
    }
}

impl TapMessage {
    /// Returns the message of a record, without the messages that were lost before it.
    fn new(record: Record, calendar: Calendar) -> Option<Self> {
        let Record { header, lost: _, bytes } = record;
        let direction = match header.event? {
            Event::In => TapDirection::In,
            Event::Out => TapDirection::Out,
            Event::OutFailed => TapDirection::OutFailed,
        };
        Some(Self {
            at: calendar.time_of_day(header.time),
            client: header.client,
            pid: header.pid,
            direction,
            length: header.length,
            bytes,
            descriptors: header.descriptors,
            lost: 0,
        })
    }
}

fn place_of(words: PlaceWords) -> Option<Place> {
    let PlaceWords { fd, device, inode } = words;
    Some(Place { fd: i32::try_from(fd).ok()?, device, inode })
}

fn not_offered(object: &str) -> Error {
    Error::new(ErrorKind::Unsupported, INSPECT, object, "the server does not let other processes tap it")
        .next("set its options stats and tap, if it is of this version")
}

fn unopened(object: &str, errno: Errno) -> Error {
    match errno {
        Errno::ACCESS | Errno::PERM => denied(object, Asks::Tap),
        Errno::NOENT | Errno::SRCH | Errno::STALE => gone(object),
        errno => Error::io(INSPECT, object, errno),
    }
}

/// Returns true if the failure to open a file of a process says that the process, or the file, is there no more.
fn is_end(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::SRCH | Errno::STALE | Errno::ACCESS | Errno::PERM)
}

fn forked(object: &str) -> Error {
    let detail = "this is a forked child, and the tap belongs to the parent";
    Error::new(ErrorKind::NameLost, INSPECT, object, detail).next("tap the server in the child")
}

fn gone(object: &str) -> Error {
    Error::new(ErrorKind::NoServer, INSPECT, object, "the server has ended").next("tap the next server")
}

fn unreadable(object: &str, error: TapReadError) -> Error {
    match error {
        TapReadError::Io(error) => Error::io(INSPECT, object, error),
        TapReadError::Bad(BadTap::Version(version)) => {
            let detail = format!("the ring of the server has version {version}, and this is version 1");
            Error::new(ErrorKind::Unsupported, INSPECT, object, detail).next("use the same version")
        }
        TapReadError::Bad(bad) => {
            let detail = match bad {
                BadTap::NotTap | BadTap::Version(_) => "the place of its ring has something else",
                BadTap::Lengths => "its ring states lengths that are out of bounds",
                BadTap::Positions => "the positions in its ring contradict each other",
                BadTap::Record => "a record in its ring contradicts itself",
            };
            Error::new(ErrorKind::Protocol, INSPECT, object, detail).next("check that the server is sound")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::wire::tap::RecordHeader;

    #[test]
    fn messages_that_were_lost_before_a_record_of_a_later_version_are_counted_with_the_next() {
        let record = |event, lost| Record {
            header: RecordHeader {
                sequence: 0,
                time: 0,
                client: 1,
                pid: None,
                event,
                descriptors: 0,
                length: 0,
                recorded: 0,
            },
            lost,
            bytes: Vec::new(),
        };
        let calendar = Calendar::new();
        let queue = [record(None, 3), record(Some(Event::In), 4), record(Some(Event::In), 0), record(None, 5)].into();
        let mut records = Records { queue, lost: 0 };
        assert_eq!(records.pop(calendar).unwrap().lost, 7);
        assert_eq!(records.pop(calendar).unwrap().lost, 0);
        assert!(records.pop(calendar).is_none());
        records.queue.push_back(record(Some(Event::In), 1));
        assert_eq!(records.pop(calendar).unwrap().lost, 6);
    }

    #[test]
    fn the_times_of_messages_are_in_the_order_of_the_clock_of_the_server() {
        let calendar = Calendar::new();
        let begin = calendar.since_boot;
        let times: Vec<u64> = [0, 1, begin - 1, begin, begin + 1, begin + 1_000_000_000, u64::MAX - 1, u64::MAX].into();
        let of_day: Vec<_> = times.iter().map(|time| calendar.time_of_day(*time)).collect();
        assert!(of_day.is_sorted());
        assert_eq!(of_day[3], calendar.of_day);
        for (from, to) in [(2, 3), (3, 4), (3, 5), (6, 7)] {
            assert_eq!(
                of_day[to].duration_since(of_day[from]).unwrap().as_nanos(),
                u128::from(times[to] - times[from])
            );
        }
    }

    #[test]
    fn a_message_of_now_has_the_time_of_day_of_now() {
        let (before, at, after) = (SystemTime::now(), Calendar::new().time_of_day(now()), SystemTime::now());
        // A test beside it may keep the processor between two looks at a clock.
        let hour = Duration::from_secs(3600);
        assert!(before - hour < at && at < after + hour);
    }
}
