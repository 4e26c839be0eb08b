//! The work of accepting: handshakes, refusals, the check of the name's files and the removal of leftovers.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::activation::Socket;
use crate::backend::config::ListenConfig;
use crate::backend::{Link, Listener, client_file, fifo};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::name::{NameGuard, leftovers};
use crate::poller::{Poller, ShutdownHandle, Wake};
use crate::transport::Transport;
use crate::wire::client_file::ClientFile;

/// The part of a server that one accepting thread at a time works on.
pub(super) struct Acceptor {
    /// The name in quotes, for messages.
    display_name: Arc<str>,
    /// `None` once the name has been given up.
    guard: Option<NameGuard>,
    listeners: Vec<Listener>,
    poller: Poller,
    /// When to look for files of clients that have gone.
    sweep_at: Option<Instant>,
    /// When the name's files were last checked.
    checked_at: Instant,
    lost: bool,
    /// The name was given up in place; what is left is memory.
    released: bool,
}

/// How old the last check of the name's files may be when a client comes. A watch tells of most changes at once; this
/// is for those that it cannot see, such as a directory above that was renamed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Clients whose files are this old have gone or have been given up.
const SWEEP_INTERVAL: Duration = client_file::AGE_MAX;

/// How many events one `try_accept` works on before it returns, so that a flood of bad requests cannot keep it for
/// ever.
const EVENTS_MAX: usize = 256;

/// The outcome of one round of work.
pub(crate) enum Step<T> {
    Ready(T),
    /// Nothing is left to do until the poller's descriptor is readable.
    Idle,
    /// There is more to do. The caller may do something else first.
    Yield,
}

impl<T> Step<T> {
    pub(crate) fn map<U>(self, convert: impl FnOnce(T) -> U) -> Step<U> {
        match self {
            Self::Ready(ready) => Step::Ready(convert(ready)),
            Self::Idle => Step::Idle,
            Self::Yield => Step::Yield,
        }
    }
}

impl Acceptor {
    /// From here on, dropping the acceptor removes what was made and releases the name.
    pub(super) fn new(display_name: Arc<str>, guard: NameGuard, poller: Poller) -> Self {
        Self {
            display_name,
            guard: Some(guard),
            listeners: Vec::new(),
            poller,
            sweep_at: None,
            checked_at: Instant::now(),
            lost: false,
            released: false,
        }
    }

    /// Returns true if the name is held, and not by the parent of a forked child.
    pub(super) fn is_in_this_process(&self) -> bool {
        self.guard.as_ref().is_some_and(NameGuard::is_in_this_process)
    }

    pub(super) fn listen(
        &mut self,
        transports: &[Transport],
        mut adopted: Vec<Socket>,
        config: &ListenConfig,
    ) -> Result<()> {
        let Some(guard) = &self.guard else { return Ok(()) };
        for &transport in transports {
            let interest = self.poller.interest(self.listeners.len());
            let handed_over = adopted.iter().position(|socket| socket.transport == transport);
            let made = match handed_over.map(|at| adopted.swap_remove(at).passed) {
                Some(passed) => Listener::adopt(transport, passed, guard, config, interest),
                None => Listener::bind(transport, guard, config, interest),
            };
            match made {
                Ok(listener) => self.listeners.push(listener),
                Err(error) => {
                    // Its file may be there already, and nobody is served yet. What cannot be removed the next server
                    // will.
                    let _ = guard.remove_server_files();
                    return Err(error);
                }
            }
        }
        if let Err(errno) = self.poller.watch(guard) {
            tracing::debug!(%errno, "the name's files are not watched, only checked");
        }
        Ok(())
    }

    /// Works on what is ready until that brings a client or nothing is left.
    pub(super) fn step(&mut self) -> Result<Step<Link>> {
        let step = self.work();
        let deadlines = self.listeners.iter().filter_map(Listener::deadline).chain(self.sweep_at);
        let next = deadlines.min();
        self.poller.set_deadline(next).map_err(|errno| Error::io(Operation::Accept, &*self.display_name, errno))?;
        step
    }

    fn work(&mut self) -> Result<Step<Link>> {
        let display_name = Arc::clone(&self.display_name);
        let failed = |errno: rustix::io::Errno| Error::io(Operation::Accept, &*display_name, errno);
        self.check_process()?;
        for _ in 0..EVENTS_MAX {
            if self.lost {
                return Err(self.name_lost());
            }
            match self.poller.next().map_err(failed)? {
                None => {
                    self.note_queue_drained();
                    return Ok(Step::Idle);
                }
                // The next round finds the handle asked.
                Some(Wake::Shutdown) => return Ok(Step::Yield),
                Some(Wake::Files) => self.check_files(),
                Some(Wake::Deadline) => self.expire()?,
                Some(Wake::Listener(number, token)) => {
                    if self.checked_at.elapsed() >= CHECK_INTERVAL {
                        self.check_files();
                    }
                    let Some(guard) = &self.guard else { return Ok(Step::Idle) };
                    let Some(listener) = self.listeners.get_mut(number) else { continue };
                    self.sweep_at.get_or_insert_with(|| Instant::now() + SWEEP_INTERVAL);
                    if let Some(link) = listener.advance(token, guard)? {
                        return Ok(Step::Ready(link));
                    }
                }
            }
        }
        Ok(Step::Yield)
    }

    /// Notes that every queue was empty a moment ago.
    pub(super) fn note_queue_drained(&mut self) {
        let now = Instant::now();
        for listener in &mut self.listeners {
            listener.note_queue_drained(now);
        }
    }

    fn check_process(&self) -> Result<()> {
        if self.is_in_this_process() {
            return Ok(());
        }
        let detail = "this is a forked child, and the name stayed with the parent";
        Err(Error::new(ErrorKind::NameLost, Operation::Accept, &*self.display_name, detail)
            .next("accept in the parent and hand connections to children, or bind after the fork"))
    }

    fn name_lost(&self) -> Error {
        let path = self.guard.as_ref().map(|guard| guard.path().display().to_string()).unwrap_or_default();
        let detail = format!("its files in {path} were removed or replaced, so clients no longer find it");
        Error::new(ErrorKind::NameLost, Operation::Accept, &*self.display_name, detail)
            .next("close it and bind again, and keep cleaners away from that directory")
    }

    fn check_files(&mut self) {
        let Some(guard) = &self.guard else { return };
        self.checked_at = Instant::now();
        let of_listeners = self.listeners.iter().map(|listener| listener.is_still_there(guard));
        // What cannot be said now is looked for the next time: a name that was lost is never had again.
        let is_gone = std::iter::once(guard.is_still_held()).chain(of_listeners).any(|there| there == Ok(false));
        if is_gone && !self.lost {
            self.lost = true;
            tracing::error!(name = %self.display_name, path = %guard.path().display(), "name lost");
        }
    }

    /// Ends handshakes that take too long, and removes what clients left that have gone.
    fn expire(&mut self) -> Result<()> {
        self.poller.deadline_passed();
        let Some(guard) = &self.guard else { return Ok(()) };
        let now = Instant::now();
        for listener in &mut self.listeners {
            listener.expire(guard, now)?;
        }
        if self.lost || self.sweep_at.is_none_or(|at| at > now) {
            return Ok(());
        }
        let listeners = &self.listeners;
        let swept = leftovers::remove_client_files(guard.clients(), |id, file, stat| {
            let age = client_file::age(stat);
            age >= client_file::AGE_MAX
                && !listeners.iter().any(|listener| listener.may_need(id, file, age))
                && match file {
                    ClientFile::Socket => true,
                    ClientFile::ServerToClient | ClientFile::ClientToServer => {
                        fifo::listen::is_gone(guard.clients(), id)
                    }
                }
        });
        // While files are left there is a reason to come back; else the next client is one.
        self.sweep_at = match swept {
            Ok(0) => None,
            Ok(_) => Some(now + SWEEP_INTERVAL),
            Err(error) => {
                tracing::warn!(name = %self.display_name, %error, "leftovers of clients cannot be removed");
                Some(now + SWEEP_INTERVAL)
            }
        };
        Ok(())
    }

    /// See [`Server::release`].
    pub(super) fn release(&mut self, shutdown: &ShutdownHandle) -> io::Result<()> {
        let Some(guard) = &self.guard else { return Ok(()) };
        if std::mem::replace(&mut self.released, true) {
            return Ok(());
        }
        let mut result = Ok(());
        for listener in &mut self.listeners {
            result = result.and(listener.release(guard, shutdown.as_fd()));
        }
        result.and(guard.release_in_place())
    }

    /// Gives the name up. In a forked child there is nothing to give.
    pub(super) fn close(&mut self) -> Result<()> {
        let Some(guard) = self.guard.take() else { return Ok(()) };
        let listeners = mem::take(&mut self.listeners);
        if self.released || !guard.is_in_this_process() {
            return Ok(());
        }
        let mut result = Ok(());
        for listener in listeners {
            result = result.and(listener.close(&guard));
        }
        result.and(guard.release())
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(name = %self.display_name, %error, "the server could not be closed cleanly");
        }
    }
}
