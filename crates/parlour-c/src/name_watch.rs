//! A watch on a name: who holds it, and each change of that.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parlour::inspect::{self, NameState, NameStatus, Owner, Watch};
use parlour::{ConnectOptions, ErrorKind, Transport};

use crate::guard::{self, Failure, Timeout, run_unit};
use crate::options::parlour_connect_options;
use crate::status::parlour_status;

/// A watch on one name. One thread at a time may use it. It takes three descriptors. After fork(2), only one of the
/// processes may use it.
pub struct parlour_name_watch {
    watch: Watch,
    address: String,
    options: ConnectOptions,
    /// The state that was returned last. `None` before the first one.
    last: Option<Seen>,
    /// Nobody has looked yet, or the last look has failed.
    must_look: bool,
}

/// The state of a name, as a client finds it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_name_state {
    /// No server has the name. parlour_connect returns PARLOUR_NO_SERVER.
    PARLOUR_NAME_ABSENT = 0,
    /// A server holds the name.
    PARLOUR_NAME_LIVE = 1,
    /// A service manager listens, and starts the server when a client connects.
    PARLOUR_NAME_WAITING = 2,
    /// The name belongs to another user, and this process cannot determine whether a server holds it.
    PARLOUR_NAME_FOREIGN = 3,
}

/// The state of a name, and the process that holds it. The process is for people: by the time that it is read, another
/// one may have its id. A value that is not known is -1.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct parlour_name_event {
    /// The state of the name.
    pub state: parlour_name_state,
    /// The holder yields the name to any other server of its user (parlour_server_options_yields).
    pub yields: bool,
    /// The process id of the holder, in its PID namespace.
    pub pid: i64,
    /// The effective user id of the holder.
    pub uid: i64,
}

/// A state that a later one is compared with.
#[derive(PartialEq)]
struct Seen {
    state: parlour_name_state,
    path: Option<PathBuf>,
    owner: Option<Owner>,
    transports: Vec<Transport>,
}

impl Seen {
    fn of(found: Option<&NameStatus>) -> Self {
        let state = match found.map(|status| &status.state) {
            Some(NameState::Live) => parlour_name_state::PARLOUR_NAME_LIVE,
            Some(NameState::Waiting) => parlour_name_state::PARLOUR_NAME_WAITING,
            Some(NameState::Foreign) => parlour_name_state::PARLOUR_NAME_FOREIGN,
            _ => parlour_name_state::PARLOUR_NAME_ABSENT,
        };
        Self {
            state,
            path: found.map(|status| status.path.clone()),
            owner: found.and_then(|status| status.owner.clone()),
            transports: found.map(|status| status.transports.clone()).unwrap_or_default(),
        }
    }

    fn event(&self) -> parlour_name_event {
        let owner = self.owner.as_ref();
        parlour_name_event {
            state: self.state,
            yields: owner.is_some_and(|owner| owner.yields),
            pid: owner.map_or(-1, |owner| i64::from(owner.pid)),
            uid: owner.map_or(-1, |owner| i64::from(owner.uid)),
        }
    }
}

impl parlour_name_event {
    const NONE: Self = Self { state: parlour_name_state::PARLOUR_NAME_ABSENT, yields: false, pid: -1, uid: -1 };
}

impl parlour_name_watch {
    /// Returns the state if it differs from the last one.
    fn look(&mut self) -> Result<Option<parlour_name_event>, Failure> {
        let resolution = inspect::resolve_with(&self.address, &self.options)?;
        let seen = match resolution.client {
            // A server may be there.
            Err(error) if error.kind() == ErrorKind::Io => return Err(error.into()),
            _ => Seen::of(resolution.found()),
        };
        if self.last.as_ref() == Some(&seen) {
            return Ok(None);
        }
        Ok(Some(self.last.insert(seen).event()))
    }

    fn next(&mut self, timeout: Timeout) -> Result<parlour_name_event, Failure> {
        let end = timeout.limit().and_then(|limit| Instant::now().checked_add(limit));
        // Also after an error, which may have taken a change with it.
        let must_look = std::mem::replace(&mut self.must_look, true);
        self.must_look = self.watch.changed()? || must_look;
        loop {
            let event = if self.must_look { self.look()? } else { None };
            self.must_look = false;
            if let Some(event) = event {
                return Ok(event);
            }
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            self.must_look = match self.watch.wait_timeout(left) {
                Ok(()) => true,
                Err(error) if error.kind() == ErrorKind::TimedOut && end.is_none() => false,
                Err(error) => return Err(error.into()),
            };
        }
    }
}

/// Begins to watch the name of an address, and stores the watch in `*watch`. Free it with parlour_name_watch_free.
///
/// `address` is as for parlour_connect. Of the options, only that of parlour_connect_options_server_uid has an effect.
/// `options` may be NULL for the defaults.
///
/// Every directory in which a client searches the name is watched, by inotify(7), also one that does not exist yet. If
/// directories cannot be watched, because the user has too many inotify instances, the watch looks every 100 ms.
///
/// Errors:
/// - PARLOUR_INVALID_NAME: the address is malformed.
/// - PARLOUR_UNSAFE_DIRECTORY: $PARLOUR_DIR is not an absolute path.
/// - PARLOUR_IO: a descriptor could not be created.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_name_watch_new(
    address: *const c_char,
    options: *const parlour_connect_options,
    watch: *mut *mut parlour_name_watch,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(watch) }?;
        // SAFETY: the caller passes NULL or a string.
        let address = unsafe { guard::text(address) }?.to_owned();
        // SAFETY: the caller passes NULL or live options.
        let options = unsafe { options.as_ref() }.map(|options| options.options.clone()).unwrap_or_default();
        let begun = inspect::watch_with(&address, &options)?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe {
            guard::give(watch, parlour_name_watch { watch: begun, address, options, last: None, must_look: true })
        };
        Ok(())
    })
}

/// Waits up to `timeout_ms` until the state of the name differs from the one that was returned last, and stores the new
/// one in `*event`. The first call stores the present state at once.
///
/// Another server, or other transports, are a difference, too. A state that was over before this call looked is not
/// returned: a server that is restarted may be one event, with another process. A state of a moment may be returned: a
/// server whose process is not known yet, or PARLOUR_NAME_WAITING while the kernel closes the sockets of one that was
/// killed.
///
/// Errors:
/// - PARLOUR_TIMED_OUT: the state is the same. `*event` is then PARLOUR_NAME_ABSENT, without a process.
/// - PARLOUR_IO: a system call failed, for example because no descriptor is left. The state is not known then, and the
///   descriptor of the watch does not report it: repeat the call after a moment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_name_watch_next(
    watch: *mut parlour_name_watch,
    timeout_ms: i64,
    event: *mut parlour_name_event,
) -> parlour_status {
    run_unit(|| {
        if event.is_null() {
            return Err(Failure::null("the event"));
        }
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(event, parlour_name_event::NONE) };
        // SAFETY: the caller passes NULL or a live watch that no other thread uses during the call.
        let watch = unsafe { guard::exclusive(watch, "the watch") }?;
        let next = watch.next(Timeout::of(timeout_ms))?;
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(event, next) };
        Ok(())
    })
}

/// Returns a descriptor for poll(2), which is readable (POLLIN) when parlour_name_watch_next may have a new state. Call
/// that with a timeout of 0 then; it may return PARLOUR_TIMED_OUT. The first state is there without a change: take it
/// before the first poll. The descriptor is for waiting only. It belongs to the watch: do not read or close it. Returns
/// -1 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_name_watch_fd(watch: *const parlour_name_watch) -> c_int {
    // SAFETY: the caller passes NULL or a live watch.
    guard::value(-1, || Some(unsafe { watch.as_ref() }?.watch.as_fd().as_raw_fd()))
}

/// Ends a watch, and frees it. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_name_watch_free(watch: *mut parlour_name_watch) {
    // SAFETY: the caller passes NULL or a watch that it does not use any more.
    unsafe { guard::free(watch) };
}
