//! The taps of a server: the page in which other processes of its user ask for its messages, and the ring in which it
//! records them meanwhile.
//!
//! All processes that tap read one ring, so a server does the same work for one and for many. While nobody asks, a
//! message costs the comparison of two words.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use rustix::fs::{Mode, SealFlags, fchmod, fcntl_add_seals, fstat};

use super::memfd;
use super::place::{Place, now};
use super::region::{Region, SIZE_SEALS};
use super::tap::Ring;
use crate::sys::fork::ParentOnly;
use crate::sys::fork_mutex::ForkMutex;
use crate::wire::tap::{Event, word};
use crate::wire::tap_request::{BELL, PAGE_LEN, requests};
use crate::wire::tap_ring::{Entry, write};

/// The length of the ring in bytes.
const RING_LEN: usize = 4 << 20;

/// The time between two looks at the requests, in nanoseconds.
const LOOK_EVERY: u64 = 100_000_000;

/// The name of the page, visible in `/proc`.
const NAME: &str = "parlour-tap-requests";

/// The taps of a server, or none.
pub(crate) struct Taps {
    /// The word that differs from `quiet` if there is something to do: the bell in the page of `recorder`, or a static.
    bell: AtomicPtr<AtomicU64>,
    quiet: AtomicU64,
    /// Processes to which `/proc` does not lead get the files.
    are_handed_out: bool,
    recorder: Option<Recorder>,
}

/// The bell of a server that cannot be tapped.
static SILENT: AtomicU64 = AtomicU64::new(0);

/// The bell of a server while it records messages. No other process can change it.
static RINGING: AtomicU64 = AtomicU64::new(1);

/// The requests and the messages that are recorded.
struct Recorder {
    page: Region,
    /// Other processes open the page through it.
    memfd: ParentOnly,
    place: Place,
    /// The messages that were not recorded, because another thread was recording one, since the last record.
    lost: AtomicU64,
    state: ForkMutex<State>,
}

#[derive(Default)]
struct State {
    ring: Option<Arc<Ring>>,
    /// The time of the last look at the requests.
    looked: u64,
    /// The processes that tap, as they state it.
    pids: Vec<u64>,
}

/// A message that is recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passing<'a> {
    pub(crate) client: u64,
    pub(crate) pid: Option<u32>,
    pub(crate) event: Event,
    pub(crate) descriptors: usize,
    pub(crate) parts: &'a [IoSlice<'a>],
}

impl Taps {
    /// Returns the taps of a server that cannot be tapped.
    pub(crate) fn off() -> Self {
        Self {
            bell: AtomicPtr::new((&raw const SILENT).cast_mut()),
            quiet: AtomicU64::new(0),
            are_handed_out: false,
            recorder: None,
        }
    }

    /// Creates the page. `are_handed_out` lets [`files`](Self::files) return it.
    pub(crate) fn create(are_handed_out: bool) -> io::Result<Self> {
        let memfd = ParentOnly::open(|| memfd::allocate(NAME, PAGE_LEN as u64))?;
        fchmod(&memfd, Mode::RUSR | Mode::WUSR)?;
        fcntl_add_seals(&memfd, SIZE_SEALS | SealFlags::SEAL)?;
        let page = Region::map(&memfd, PAGE_LEN, false)?;
        let stat = fstat(&memfd)?;
        let place = Place { fd: memfd.as_fd().as_raw_fd(), device: stat.st_dev, inode: stat.st_ino };
        let recorder = Recorder { page, memfd, place, lost: AtomicU64::new(0), state: ForkMutex::default() };
        let bell = AtomicPtr::new(recorder.bell());
        Ok(Self { bell, quiet: AtomicU64::new(0), are_handed_out, recorder: Some(recorder) })
    }

    /// Returns the place of the page, for other processes.
    pub(crate) fn place(&self) -> Option<Place> {
        self.recorder.as_ref().map(|recorder| recorder.place)
    }

    /// Returns the page, and the ring if there is one, for a process to which `/proc` does not lead.
    /// Returns `None` if the server does not hand them out.
    pub(crate) fn files(&self) -> Option<(BorrowedFd<'_>, Option<Arc<Ring>>)> {
        let recorder = self.recorder.as_ref().filter(|_| self.are_handed_out)?;
        let ring = recorder.state.lock()?.ring.clone();
        Some((recorder.memfd.as_fd(), ring))
    }

    /// Returns true if a message is to be given to [`record`](Self::record).
    #[inline]
    pub(crate) fn is_up(&self) -> bool {
        let bell = self.bell.load(Ordering::Relaxed);
        // SAFETY: the word is a static, or in the page of the recorder, which is mapped as long as `self` exists, and
        // whose size is sealed. It is aligned, because `BELL` is a multiple of 8. Other processes may change an atomic
        // at any time. The mapping is read-only, and a relaxed load is allowed there.
        unsafe { &*bell }.load(Ordering::Relaxed) != self.quiet.load(Ordering::Relaxed)
    }

    /// Records a message, if a process has asked for that. Returns true if the message was recorded. Calls `publish`
    /// when the place of the ring changes. The caller is not a forked child.
    #[cold]
    #[inline(never)]
    pub(crate) fn record(&self, message: &Passing<'_>, publish: impl FnOnce(Option<Place>)) -> bool {
        self.record_at(now, message, publish)
    }

    /// Records a message as [`record`](Self::record) does, at the time of this clock.
    fn record_at(
        &self,
        clock: impl FnOnce() -> u64,
        message: &Passing<'_>,
        publish: impl FnOnce(Option<Place>),
    ) -> bool {
        let Some(recorder) = &self.recorder else { return false };
        let Recorder { page, lost, state, .. } = recorder;
        let Some(mut state) = state.try_lock() else {
            lost.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        // One thread at a time takes it, so the records of a ring are in the order of their times.
        let time = clock();
        if time.wrapping_sub(state.looked) >= LOOK_EVERY {
            state.looked = time;
            let had_ring = state.ring.is_some();
            // The bell is part of the copy, in front of the requests, so a later request differs from it.
            let page = page.copy_words();
            state.look(&page, time, publish);
            let (bell, quiet) = match state.ring {
                Some(_) => ((&raw const RINGING).cast_mut(), 0),
                None => (recorder.bell(), word(&page, BELL)),
            };
            if !had_ring {
                lost.store(0, Ordering::Relaxed);
            }
            self.bell.store(bell, Ordering::Relaxed);
            self.quiet.store(quiet, Ordering::Relaxed);
        }
        let Some(ring) = &state.ring else { return false };
        let Passing { client, pid, event, descriptors, parts } = *message;
        let descriptors = u16::try_from(descriptors).unwrap_or(u16::MAX);
        let lost = lost.swap(0, Ordering::Relaxed);
        write(&**ring, &Entry { time, client, pid, event, descriptors }, lost, parts.iter().map(|part| &**part));
        true
    }
}

impl Recorder {
    /// Returns the address of the word that changes with each request.
    fn bell(&self) -> *mut AtomicU64 {
        self.page.start().wrapping_add(BELL).cast()
    }
}

impl State {
    /// Looks at the requests, and begins or ends to record.
    fn look(&mut self, page: &[u8], time: u64, publish: impl FnOnce(Option<Place>)) {
        let pids: Vec<u64> = requests(page).filter(|request| request.holds(time)).map(|request| request.pid).collect();
        for pid in pids.iter().filter(|pid| !self.pids.contains(pid)) {
            // The upper half distinguishes the taps of one process.
            tracing::debug!(pid = *pid as u32, "a process of this user taps the messages of this server");
        }
        let was_tapped = !self.pids.is_empty();
        let is_tapped = !pids.is_empty();
        if is_tapped && !was_tapped {
            tracing::info!("processes of this user tap the messages of this server");
        }
        self.pids = pids;
        match (&self.ring, is_tapped) {
            (None, true) => match Ring::create(RING_LEN) {
                Ok(ring) => {
                    publish(Some(ring.place()));
                    self.ring = Some(Arc::new(ring));
                }
                Err(error) => tracing::warn!(%error, "no memory for the messages that a process taps"),
            },
            (Some(_), false) => {
                publish(None);
                self.ring = None;
            }
            _ => {}
        }
        if was_tapped && !is_tapped {
            tracing::info!("no process taps the messages of this server any more");
        }
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::cell::Cell;

    use rustix::io::pwrite;

    use super::*;
    use crate::wire::tap_request::{HOLDS, Request};

    const MESSAGE: Passing<'_> = Passing { client: 1, pid: None, event: Event::In, descriptors: 0, parts: &[] };

    fn recorder(taps: &Taps) -> &Recorder {
        taps.recorder.as_ref().unwrap()
    }

    fn ask(taps: &Taps, until: u64, bell: u64) {
        pwrite(&recorder(taps).memfd, &Request { until, pid: 7 }.encode(), Request::offset(3) as u64).unwrap();
        pwrite(&recorder(taps).memfd, &bell.to_ne_bytes(), BELL as u64).unwrap();
    }

    /// A time at which nothing was looked at yet, in nanoseconds.
    const TIME: u64 = 1 << 40;

    /// Records a message so many looks after [`TIME`]. Returns the place that was published.
    fn record(taps: &Taps, looks: u64) -> Option<Option<Place>> {
        let published = Cell::new(None);
        taps.record_at(|| TIME + looks * LOOK_EVERY, &MESSAGE, |place| published.set(Some(place)));
        published.get()
    }

    #[test]
    fn a_request_begins_a_tap_and_its_end_frees_the_memory() {
        let taps = Taps::create(false).unwrap();
        assert!(!taps.is_up());
        ask(&taps, TIME + HOLDS, 1);
        assert!(taps.is_up());
        let place = record(&taps, 0).unwrap().unwrap();
        assert!(place.inode != 0 && taps.is_up());
        assert_eq!(record(&taps, 1), None, "the tap goes on");
        for bell in [0, 1, u64::MAX] {
            pwrite(&recorder(&taps).memfd, &bell.to_ne_bytes(), BELL as u64).unwrap();
            assert!(taps.is_up(), "no process stops the recording by the bell alone");
        }
        ask(&taps, 0, 2);
        assert_eq!(record(&taps, 2), Some(None));
        assert!(!taps.is_up(), "messages cost nothing after the end");
        assert!(recorder(&taps).state.lock().unwrap().ring.is_none());
    }

    #[test]
    fn a_request_that_is_not_renewed_ends() {
        let taps = Taps::create(false).unwrap();
        ask(&taps, TIME + 2 * LOOK_EVERY, 1);
        record(&taps, 0).unwrap().unwrap();
        assert_eq!(record(&taps, 1), None);
        assert_eq!(record(&taps, 2), Some(None));
        assert!(!taps.is_up());
    }

    #[test]
    fn a_bell_without_a_request_costs_one_look() {
        let taps = Taps::create(false).unwrap();
        ask(&taps, u64::MAX, 5);
        assert!(taps.is_up());
        assert_eq!(record(&taps, 0), None);
        assert!(!taps.is_up());
        ask(&taps, TIME + HOLDS, 6);
        assert_eq!(record(&taps, 0), None, "no look so soon");
        assert!(taps.is_up(), "the look comes later");
        assert!(record(&taps, 1).is_some());
    }

    #[test]
    fn a_message_that_meets_another_one_is_counted() {
        let taps = Taps::create(false).unwrap();
        ask(&taps, TIME + HOLDS, 1);
        record(&taps, 0);
        let guard = recorder(&taps).state.lock().unwrap();
        assert!(!taps.record(&MESSAGE, |_| {}), "no mark follows a message that was not recorded");
        drop(guard);
        assert_eq!(recorder(&taps).lost.load(Ordering::Relaxed), 1);
        record(&taps, 1);
        assert_eq!(recorder(&taps).lost.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_time_of_a_message_is_taken_when_no_other_one_can_be_recorded_before_it() {
        let taps = Taps::create(false).unwrap();
        ask(&taps, TIME + HOLDS, 1);
        let mut is_locked = false;
        let clock = || {
            is_locked = recorder(&taps).state.try_lock().is_none();
            TIME
        };
        assert!(taps.record_at(clock, &MESSAGE, |_| {}));
        assert!(is_locked);
    }

    #[test]
    fn the_files_are_handed_out_only_by_a_server_that_was_told_so() {
        assert!(Taps::create(true).unwrap().files().is_some());
        assert!(Taps::create(false).unwrap().files().is_none() && Taps::off().files().is_none());
    }

    #[test]
    fn no_process_can_change_the_size_of_the_page() {
        let taps = Taps::create(false).unwrap();
        assert_eq!(rustix::fs::ftruncate(&recorder(&taps).memfd, 0), Err(rustix::io::Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&recorder(&taps).memfd, 8192), Err(rustix::io::Errno::PERM));
    }
}
