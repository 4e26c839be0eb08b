//! Waiting with a deadline.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{self, AssertUnwindSafe, Location};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use parlour::ErrorKind;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::DEADLINE;

/// Waits until the descriptor is readable or at end of file. Returns `false` at [`DEADLINE`].
pub fn readable(fd: impl AsFd) -> bool {
    readable_within(fd, DEADLINE)
}

/// Like [`readable`], with the given timeout.
pub fn readable_within(fd: impl AsFd, timeout: Duration) -> bool {
    ready(fd, PollFlags::IN, timeout)
}

/// Waits until one of several descriptors is readable. Returns `false` at [`DEADLINE`].
pub fn any_readable<'a>(fds: impl Iterator<Item = BorrowedFd<'a>>) -> bool {
    any_ready(&mut fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect::<Vec<_>>(), DEADLINE)
}

/// Waits for events of one descriptor. Returns `false` after the timeout.
pub fn ready(fd: impl AsFd, events: PollFlags, timeout: Duration) -> bool {
    any_ready(&mut [PollFd::new(&fd, events)], timeout)
}

fn any_ready(fds: &mut [PollFd<'_>], timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).unwrap();
        match poll(fds, Some(&left)) {
            Ok(count) => return count > 0,
            Err(Errno::INTR) => {}
            Err(errno) => panic!("poll: {errno}"),
        }
    }
}

/// Lets a time pass, for behaviour that depends on the clock. Waits for nothing else.
pub fn pass(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

/// Polls until a condition that no descriptor reports holds. Panics at [`DEADLINE`].
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let place = Location::caller();
    assert!(eventually_some(|| holds().then_some(())).is_some(), "{place}: still not true after {DEADLINE:?}: {what}");
}

/// Like [`eventually`], for a condition with a value. Returns `None` at the deadline.
pub fn eventually_some<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look() {
            Some(value) => return Some(value),
            None if Instant::now() > deadline => return None,
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// An error with a kind: that of the library, or that of the fronts of the conformance suite.
pub trait HasKind {
    fn kind(&self) -> ErrorKind;
}

impl HasKind for parlour::Error {
    fn kind(&self) -> ErrorKind {
        self.kind()
    }
}

/// Makes an attempt with a short timeout, and again with a longer one while the server did not answer in time. A busy
/// machine may delay the first answer for longer than the trial wants to wait for the last one.
pub fn answered<T, E: HasKind>(mut attempt: impl FnMut(Duration) -> Result<T, E>) -> Result<T, E> {
    let mut timeout = Duration::from_millis(200);
    loop {
        match attempt(timeout) {
            Err(error) if error.kind() == ErrorKind::TimedOut && timeout < DEADLINE => timeout *= 5,
            outcome => return outcome,
        }
    }
}

/// Runs `work` in its own thread. Returns an error with the text of its panic, or with a notice that it hangs, in
/// which case the thread keeps running.
pub fn within(deadline: Duration, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let (done, is_done) = mpsc::channel();
    let worker = thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Dropped when the work returns or panics.
        let _done: mpsc::Sender<()> = done;
        work();
    });
    let worker = worker.map_err(|error| error.to_string())?;
    match is_done.recv_timeout(deadline) {
        Err(mpsc::RecvTimeoutError::Timeout) => Err(format!("the work hangs: not done after {deadline:?}")),
        _ => worker.join().map_err(|panic| text_of(&*panic)),
    }
}

/// Returns the text of a panic.
pub fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without a text".to_owned(),
    }
}

/// Work in its own thread that sleeps in the kernel, that is, in its blocking call.
pub struct Sleeper<T> {
    result: mpsc::Receiver<(thread::Result<T>, Instant)>,
}

impl<T: Send + 'static> Sleeper<T> {
    /// Starts the work. Returns when the thread sleeps or the work is done.
    pub fn start(work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (tell, told) = mpsc::channel();
        let (give, result) = mpsc::channel();
        thread::spawn(move || {
            tell.send(Path::new("/proc").join(fs::read_link("/proc/thread-self").unwrap())).unwrap();
            let result = panic::catch_unwind(AssertUnwindSafe(work));
            // The receiver is gone if the test has failed elsewhere.
            let _ = give.send((result, Instant::now()));
        });
        let thread = told.recv().unwrap();
        eventually("the thread sleeps", || match fs::read_to_string(thread.join("stat")) {
            // The name is in parentheses and may contain any character. The state is the first field after it.
            Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('S')),
            Err(_) => true,
        });
        Self { result }
    }

    /// Returns the result of the work and its time. Panics if the thread still sleeps at [`DEADLINE`].
    #[track_caller]
    pub fn result(self) -> (T, Instant) {
        match self.result.recv_timeout(DEADLINE) {
            Ok((Ok(value), at)) => (value, at),
            Ok((Err(panic), _)) => panic::resume_unwind(panic),
            Err(_) => panic!("the thread still sleeps"),
        }
    }
}
