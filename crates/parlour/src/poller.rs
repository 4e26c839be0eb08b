//! One descriptor that is readable whenever a server has work.
//!
//! It is an epoll(7) instance that watches the listeners and their handshakes, a timerfd for deadlines, an eventfd for
//! shutdown, and an inotify(7) watch on the directory of the name. So the blocking `accept`, a caller's poll loop and
//! any event loop wait on one descriptor and need not know the deadlines. On a system without epoll the same set of
//! descriptors would go into its equivalent (kqueue).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::name::NameGuard;
use crate::sys::fork::Process;
use crate::sys::timer::Timer;

/// An event that the poller reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Shutdown,
    /// The deadline has passed.
    Deadline,
    /// The files of the name have changed.
    Files,
    /// An event that [`ControlPoller`] reports.
    Control,
    /// An event on a descriptor of the listener with this number. The descriptor was registered under this token.
    Listener(usize, u32),
}

// Listeners are numbered from 0. Other event sources have numbers from the end.
const SHUTDOWN: u32 = u32::MAX;
const DEADLINE: u32 = u32::MAX - 1;
const FILES: u32 = u32::MAX - 2;
const CONTROL: u32 = u32::MAX - 3;

/// The descriptors that a server waits for.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: Arc<OwnedFd>,
    timer: Timer,
    /// The deadline that the timer is set to.
    timer_at: Option<Instant>,
    shutdown: ShutdownHandle,
    /// The inotify instance, if the files of the name are watched.
    files: Option<OwnedFd>,
}

impl Poller {
    pub(crate) fn new() -> Result<Self, Errno> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let timer = Timer::new()?;
        let shutdown = ShutdownHandle::new()?;
        add(&epoll, &timer, DEADLINE, 0, EventFlags::IN)?;
        add(&epoll, &shutdown.0.event, SHUTDOWN, 0, EventFlags::IN)?;
        Ok(Self { epoll, timer, timer_at: None, shutdown, files: None })
    }

    /// Watches for the removal or replacement of the name's files. The kernel limits the number of inotify instances of
    /// a user. Without one, the server still notices a loss whenever a client connects.
    pub(crate) fn watch(&mut self, guard: &NameGuard) -> Result<(), Errno> {
        use inotify::WatchFlags as Watch;
        let watcher = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let gone = Watch::DELETE_SELF | Watch::MOVE_SELF | Watch::ONLYDIR;
        let path = guard.path();
        inotify::add_watch(&watcher, path, gone | Watch::DELETE | Watch::MOVED_FROM | Watch::MOVED_TO)?;
        if let Some(base) = path.parent() {
            inotify::add_watch(&watcher, base, gone)?;
        }
        add(&self.epoll, &watcher, FILES, 0, EventFlags::IN)?;
        self.files = Some(watcher);
        Ok(())
    }

    /// Returns a handle with which a listener registers its descriptors.
    pub(crate) fn interest(&self, listener: usize) -> Interest {
        self.interest_of(u32::try_from(listener).unwrap_or(CONTROL - 1))
    }

    /// Returns the handle for the [`ControlPoller`].
    pub(crate) fn interest_of_control(&self) -> Interest {
        self.interest_of(CONTROL)
    }

    fn interest_of(&self, number: u32) -> Interest {
        Interest { epoll: Arc::clone(&self.epoll), number, process: Process::current() }
    }

    pub(crate) fn shutdown_handle(&self) -> &ShutdownHandle {
        &self.shutdown
    }

    /// Returns one event, or `None` if there is none. If several descriptors are ready, the kernel reports them in
    /// turn.
    pub(crate) fn next(&self) -> Result<Option<Wake>, Errno> {
        let Some(data) = next_event(&self.epoll)? else { return Ok(None) };
        let (number, token) = ((data >> 32) as u32, data as u32);
        Ok(Some(match number {
            SHUTDOWN => {
                // A forked child may have requested it, in its own memory.
                self.shutdown.note_asked();
                Wake::Shutdown
            }
            DEADLINE => {
                self.timer.stop_reporting();
                Wake::Deadline
            }
            FILES => {
                if let Some(files) = &self.files {
                    drain(files);
                }
                Wake::Files
            }
            CONTROL => Wake::Control,
            listener => Wake::Listener(listener as usize, token),
        }))
    }

    /// Sets the time of [`Wake::Deadline`], in place of any earlier setting. `None` disables it.
    pub(crate) fn set_deadline(&mut self, at: Option<Instant>) -> Result<(), Errno> {
        if at == self.timer_at {
            return Ok(());
        }
        self.timer.set(at)?;
        self.timer_at = at;
        Ok(())
    }

    /// Stops or resumes the reports of a requested shutdown. While they are stopped, the descriptor is readable only if
    /// there is other work.
    pub(crate) fn report_shutdown(&self, report: bool) -> Result<(), Errno> {
        let flags = if report { EventFlags::IN } else { EventFlags::empty() };
        epoll::modify(&self.epoll, &self.shutdown.0.event, event_data(SHUTDOWN, 0), flags)
    }

    /// Records that the timer has expired and is no longer set.
    pub(crate) fn deadline_passed(&mut self) {
        self.timer_at = None;
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// The descriptors of a hand-over. They are apart from the other ones of a server, because a thread that waits for one
/// client watches these as well.
#[derive(Clone, Debug)]
pub(crate) struct ControlPoller(Arc<OwnedFd>);

impl ControlPoller {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self(Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?)))
    }

    /// Returns the handle with which descriptors are registered.
    pub(crate) fn interest(&self) -> Interest {
        Interest { epoll: Arc::clone(&self.0), number: CONTROL, process: Process::current() }
    }

    /// Returns the token of a descriptor that is ready, or `None` if there is none.
    pub(crate) fn next(&self) -> Result<Option<u32>, Errno> {
        Ok(next_event(&self.0)?.map(|data| data as u32))
    }
}

impl AsFd for ControlPoller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns the data of one event, or `None` if there is none.
fn next_event(epoll: &OwnedFd) -> Result<Option<u64>, Errno> {
    let mut event = [MaybeUninit::uninit()];
    let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
    // An interrupted call does not show that nothing is ready. A caller that is notified of changes only would then
    // sleep although there is work.
    loop {
        match epoll::wait(epoll, &mut event, Some(&no_wait)) {
            Ok((events, _)) => return Ok(events.first().map(|event| event.data.u64())),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Reads and discards everything, since only readability counts.
fn drain(fd: &OwnedFd) {
    let mut buffer = [0; 4096];
    while matches!(rustix::io::read(fd, &mut buffer), Ok(count) if count == buffer.len()) {}
}

fn add(epoll: &OwnedFd, fd: impl AsFd, number: u32, token: u32, flags: EventFlags) -> Result<(), Errno> {
    epoll::add(epoll, fd, event_data(number, token), flags)
}

fn event_data(number: u32, token: u32) -> EventData {
    EventData::new_u64(u64::from(number) << 32 | u64::from(token))
}

/// The access of a listener, or of the socket `control`, to a poller. A descriptor must be removed before it is closed:
/// a forked child may hold a duplicate of it, and epoll would keep reporting the file.
#[derive(Clone, Debug)]
pub(crate) struct Interest {
    epoll: Arc<OwnedFd>,
    number: u32,
    process: Process,
}

impl Interest {
    /// Reports when `fd` is readable.
    pub(crate) fn add_readable(&self, fd: impl AsFd, token: u32) -> Result<(), Errno> {
        add(&self.epoll, fd, self.number, token, EventFlags::IN)
    }

    /// Reports when the peer of `fd` has closed it.
    pub(crate) fn add_hang_up(&self, fd: impl AsFd, token: u32) -> Result<(), Errno> {
        add(&self.epoll, fd, self.number, token, EventFlags::empty())
    }

    /// Stops the reports for `fd`. Does nothing if it was not added.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        // A forked child shares the epoll instance, which belongs to the parent.
        if self.process.is_current() {
            // The only errors concern a descriptor that is not registered, and then there is nothing to remove.
            let _ = epoll::delete(&self.epoll, fd);
        }
    }
}

/// Stops a server from any thread: no client can connect any more, and accepting ends with
/// [`Shutdown`](crate::ErrorKind::Shutdown) once the clients that had connected before were accepted.
///
/// A handle can be cloned, and stays usable after the server is dropped. It keeps one eventfd(2) open. See
/// [`Server::shutdown_handle`](crate::Server::shutdown_handle).
#[derive(Clone, Debug)]
pub struct ShutdownHandle(Arc<Shutdown>);

#[derive(Debug)]
struct Shutdown {
    /// True once a shutdown was requested.
    asked: AtomicBool,
    /// Makes the poller readable. The counter is never reset.
    event: OwnedFd,
}

impl ShutdownHandle {
    fn new() -> Result<Self, Errno> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Shutdown { asked: AtomicBool::new(false), event })))
    }

    /// Requests that the server end its service. Established connections are not affected. Further calls have no
    /// effect.
    ///
    /// The next accepting call, or the one that is blocked at present, removes the files by which clients find the
    /// server. The accepting calls then return the clients that had connected before, and
    /// [`Shutdown`](crate::ErrorKind::Shutdown) once none is left. [`Server::accept`](crate::Server::accept) has the
    /// details. A hub ends at once.
    ///
    /// Stores to an atomic and calls write(2) on an eventfd, so it is async-signal-safe. In a forked child it acts on
    /// the server of the parent.
    pub fn shutdown(&self) {
        self.note_asked();
        // The write fails only if the counter is full, and then a shutdown was requested before.
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }

    fn note_asked(&self) {
        self.0.asked.store(true, Ordering::SeqCst);
    }

    /// Returns true once a shutdown was requested.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// Returns a descriptor that is readable from the first request on.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
