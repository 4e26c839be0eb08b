//! One descriptor that is readable whenever a server has something to do.
//!
//! Implementation notes: epoll(7) over the listeners and their handshakes, a timerfd for deadlines, an eventfd for
//! shutdown and an inotify watch on the name's directory. So the blocking `accept`, a poll loop of the user and any
//! event loop wait in the same way, on one descriptor, and need not know about deadlines. On a system without epoll the
//! same set of descriptors goes into whatever is there (kqueue).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use crate::name::NameGuard;
use crate::sys::fork::Process;

/// What the poller reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Shutdown,
    /// A deadline has passed.
    Deadline,
    /// Something happened to the name's files.
    Files,
    /// A descriptor of the listener with this number, registered under this token.
    Listener(usize, u32),
}

// Listeners are numbered from 0; what is not a listener has a number from the end.
const SHUTDOWN: u32 = u32::MAX;
const DEADLINE: u32 = u32::MAX - 1;
const FILES: u32 = u32::MAX - 2;

#[derive(Debug)]
pub(crate) struct Poller {
    epoll: Arc<OwnedFd>,
    timer: OwnedFd,
    /// What the timer is set to.
    timer_at: Option<Instant>,
    shutdown: ShutdownHandle,
    files: Option<OwnedFd>,
}

impl Poller {
    pub(crate) fn new() -> Result<Self, Errno> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let shutdown = ShutdownHandle::new()?;
        add(&epoll, &timer, DEADLINE, 0, EventFlags::IN)?;
        add(&epoll, &shutdown.0.event, SHUTDOWN, 0, EventFlags::IN)?;
        Ok(Self { epoll, timer, timer_at: None, shutdown, files: None })
    }

    /// Watches for the name's files being removed or replaced. The number of watchers per user is limited; where it is
    /// reached the server still notices whenever a client comes.
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

    /// For a listener to have its descriptors watched.
    pub(crate) fn interest(&self, listener: usize) -> Interest {
        Interest {
            epoll: Arc::clone(&self.epoll),
            listener: u32::try_from(listener).unwrap_or(FILES - 1),
            process: Process::current(),
        }
    }

    pub(crate) fn shutdown_handle(&self) -> &ShutdownHandle {
        &self.shutdown
    }

    /// One thing to do, if there is one. Where several are ready the kernel reports them in turn.
    pub(crate) fn next(&self) -> Result<Option<Wake>, Errno> {
        let mut event = [MaybeUninit::uninit()];
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Only a look that was not interrupted says that there is nothing: who is told of changes alone sleeps then.
        let events = loop {
            match epoll::wait(&self.epoll, &mut event, Some(&no_wait)) {
                Ok((events, _)) => break events,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        };
        let Some(event) = events.first() else { return Ok(None) };
        let data = event.data.u64();
        let (number, token) = ((data >> 32) as u32, data as u32);
        Ok(Some(match number {
            SHUTDOWN => Wake::Shutdown,
            DEADLINE => {
                drain(&self.timer);
                Wake::Deadline
            }
            FILES => {
                if let Some(files) = &self.files {
                    drain(files);
                }
                Wake::Files
            }
            listener => Wake::Listener(listener as usize, token),
        }))
    }

    /// Has [`Wake::Deadline`] reported at this time, instead of any other.
    pub(crate) fn set_deadline(&mut self, at: Option<Instant>) -> Result<(), Errno> {
        if at == self.timer_at {
            return Ok(());
        }
        let left = at.map(|at| at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1)));
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value =
            left.map_or(never, |left| Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }));
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value })?;
        self.timer_at = at;
        Ok(())
    }

    /// The timer has fired and is set no more.
    pub(crate) fn deadline_passed(&mut self) {
        self.timer_at = None;
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// Takes what is to be read; that it is there was all that counted.
fn drain(fd: &OwnedFd) {
    let mut buffer = [0; 4096];
    while matches!(rustix::io::read(fd, &mut buffer), Ok(count) if count == buffer.len()) {}
}

fn add(epoll: &OwnedFd, fd: impl AsFd, number: u32, token: u32, flags: EventFlags) -> Result<(), Errno> {
    epoll::add(epoll, fd, EventData::new_u64(u64::from(number) << 32 | u64::from(token)), flags)
}

/// A listener's part of the poller. What is added must be removed before it is closed: a forked child may hold another
/// descriptor of the same file, and epoll would go on reporting it.
#[derive(Clone, Debug)]
pub(crate) struct Interest {
    epoll: Arc<OwnedFd>,
    listener: u32,
    process: Process,
}

impl Interest {
    /// Reports when `fd` is readable.
    pub(crate) fn add_readable(&self, fd: impl AsFd, token: u32) -> Result<(), Errno> {
        add(&self.epoll, fd, self.listener, token, EventFlags::IN)
    }

    /// Reports when the other side of `fd` has gone.
    pub(crate) fn add_hang_up(&self, fd: impl AsFd, token: u32) -> Result<(), Errno> {
        add(&self.epoll, fd, self.listener, token, EventFlags::empty())
    }

    /// Reports it no more. That it was not added is fine.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        // A forked child shares the epoll instance, which is the parent's.
        if self.process.is_current() {
            // The only errors are of a descriptor that is not there, and then there is nothing to do.
            let _ = epoll::delete(&self.epoll, fd);
        }
    }
}

/// Makes the blocked `accept` of a server, and every later one, return [`Shutdown`](crate::ErrorKind::Shutdown).
///
/// Usable from any thread, as often as one likes, also when the server is gone.
#[derive(Clone, Debug)]
pub struct ShutdownHandle(Arc<Shutdown>);

#[derive(Debug)]
struct Shutdown {
    asked: AtomicBool,
    /// Makes the poller readable, for good: nobody takes it back.
    event: OwnedFd,
}

impl ShutdownHandle {
    fn new() -> Result<Self, Errno> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Shutdown { asked: AtomicBool::new(false), event })))
    }

    /// Asks the server to stop accepting. Connections that are open go on.
    ///
    /// Stores to an atomic and calls write(2) on an eventfd, so it may be called in a signal handler. In a forked child
    /// it still speaks to the parent's server.
    pub fn shutdown(&self) {
        self.0.asked.store(true, Ordering::SeqCst);
        // The counter can only be full when it was asked already.
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// Readable once it is asked, for good.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
