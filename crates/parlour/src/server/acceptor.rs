//! The work of accepting clients: handshakes, refusals, checks of the name's files, and the removal of leftovers.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::activation::Socket;
use super::sweep::Sweep;
use crate::backend::config::ListenConfig;
use crate::backend::{Link, Listener};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::escape::escaped;
use crate::name::NameGuard;
use crate::poller::{Poller, ShutdownHandle, Wake};
use crate::transport::Transport;

/// The state of a server that accepting threads share. One thread at a time works on it, under a lock.
pub(super) struct Acceptor {
    /// The name in quotes, for error texts and logs.
    display_name: Arc<str>,
    /// `None` once the server was closed.
    guard: Option<NameGuard>,
    listeners: Vec<Listener>,
    poller: Poller,
    /// The removal of files of dead clients.
    sweep: Sweep,
    /// The time at which the name's files were last checked.
    checked_at: Instant,
    service: Service,
    /// True once the name was released in place. Only memory is left to free.
    released: bool,
}

/// The state of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    /// Clients can connect.
    Open,
    /// A shutdown was requested. Clients can no longer connect, and those that have connected are accepted.
    Draining,
    /// All of them were accepted.
    Ended,
    /// Clients no longer find the server, because its files were removed or replaced.
    Lost,
}

/// The maximum age of the last check of the name's files when a client connects. The inotify(7) watch reports most
/// changes immediately. This check finds those that the watch does not report, such as a renamed parent directory.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The maximum number of events that one round of work processes, so that a flood of bad requests cannot keep
/// `try_accept` from returning.
const EVENTS_MAX: usize = 256;

/// The outcome of one round of work.
pub(crate) enum Step<T> {
    Ready(T),
    /// No work is left until the poller's descriptor is readable.
    Idle,
    /// More work is left. The caller may do something else first.
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
    /// Takes over the name. From here on, dropping the acceptor removes the created files and releases the name.
    pub(super) fn new(display_name: Arc<str>, guard: NameGuard, poller: Poller) -> Self {
        Self {
            display_name,
            guard: Some(guard),
            listeners: Vec::new(),
            poller,
            sweep: Sweep::default(),
            checked_at: Instant::now(),
            service: Service::Open,
            released: false,
        }
    }

    /// Returns true if this process holds the name. Returns false in a forked child, whose parent holds it.
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
                    // The listener may have created its file before it failed. No client is served yet. The next server
                    // removes a file that cannot be removed here.
                    let _ = guard.remove_server_files();
                    return Err(error);
                }
            }
        }
        if let Err(errno) = self.poller.watch(guard) {
            tracing::debug!(%errno, "files of the name are checked without an inotify watch");
        }
        Ok(())
    }

    /// Processes events until one brings a client or none is left, and sets the next deadline. Ends the service if a
    /// shutdown was requested.
    pub(super) fn step(&mut self, shutdown_asked: bool) -> Result<Step<Link>> {
        self.check_process()?;
        if shutdown_asked {
            match self.service {
                _ if self.released => return Err(self.shut_down()),
                Service::Open => self.withdraw()?,
                Service::Draining => {}
                Service::Ended | Service::Lost => return Err(self.shut_down()),
            }
        }
        let step = self.work();
        let next = match self.service {
            // In the past, so the descriptor stays readable, and every thread that waits learns of the loss.
            Service::Lost => Some(self.checked_at),
            _ => self.listeners.iter().filter_map(Listener::deadline).chain(self.sweep.deadline()).min(),
        };
        self.poller.set_deadline(next).map_err(|errno| Error::io(Operation::Accept, &*self.display_name, errno))?;
        step
    }

    fn work(&mut self) -> Result<Step<Link>> {
        let display_name = Arc::clone(&self.display_name);
        let failed = |errno: rustix::io::Errno| Error::io(Operation::Accept, &*display_name, errno);
        for _ in 0..EVENTS_MAX {
            if self.service == Service::Lost {
                return Err(self.name_lost());
            }
            match self.poller.next().map_err(failed)? {
                None if self.service == Service::Draining && self.listeners.iter().all(Listener::is_drained) => {
                    self.service = Service::Ended;
                    // Wakes every thread that waits for the last handshakes.
                    self.poller.report_shutdown(true).map_err(failed)?;
                    return Err(self.shut_down());
                }
                None => {
                    if self.listeners.iter().all(Listener::is_watched) {
                        self.sweep.note_no_client_waits();
                    }
                    return Ok(Step::Idle);
                }
                Some(Wake::Shutdown) if self.service == Service::Draining => {
                    self.poller.report_shutdown(false).map_err(failed)?;
                }
                // The next call finds the request in the shutdown handle.
                Some(Wake::Shutdown) => return Ok(Step::Yield),
                Some(Wake::Files) => self.check_files(),
                Some(Wake::Deadline) => self.expire()?,
                Some(Wake::Listener(number, token)) => {
                    if self.checked_at.elapsed() >= CHECK_INTERVAL {
                        self.check_files();
                        // The client stays in the queue, which has ended with the name.
                        if self.service == Service::Lost {
                            continue;
                        }
                    }
                    let Some(guard) = &self.guard else { return Ok(Step::Idle) };
                    let Some(listener) = self.listeners.get_mut(number) else { continue };
                    self.sweep.begin();
                    if let Some(link) = listener.advance(token, guard)? {
                        return Ok(Step::Ready(link));
                    }
                }
            }
        }
        Ok(Step::Yield)
    }

    /// Fails in a forked child.
    pub(super) fn check_process(&self) -> Result<()> {
        if self.is_in_this_process() { Ok(()) } else { Err(in_forked_child(&self.display_name)) }
    }

    /// Returns the error of accepting after the end of the service.
    fn shut_down(&self) -> Error {
        Error::new(ErrorKind::Shutdown, Operation::Accept, &*self.display_name, "a shutdown was requested")
    }

    fn name_lost(&self) -> Error {
        let path = self.guard.as_ref().map(|guard| guard.path().display().to_string()).unwrap_or_default();
        let detail = format!("the server's files in {path} were removed or replaced, so clients no longer find it");
        Error::new(ErrorKind::NameLost, Operation::Accept, &*self.display_name, detail)
            .next("close the server and bind again, and exclude that directory from cleaners")
    }

    /// Lets no further client connect. From here on the queues only become shorter.
    fn withdraw(&mut self) -> Result<()> {
        let Some(guard) = &self.guard else { return Ok(()) };
        self.service = Service::Draining;
        for listener in &mut self.listeners {
            // `close` tries again to remove a file, and reports the error.
            if let Err(error) = listener.withdraw(guard) {
                tracing::debug!(name = %self.display_name, %error, "a file cannot be removed yet");
            }
        }
        // A thread that waits for the last handshakes must not find the request again and again.
        let failed = |errno: rustix::io::Errno| Error::io(Operation::Accept, &*self.display_name, errno);
        self.poller.report_shutdown(false).map_err(failed)
    }

    fn check_files(&mut self) {
        let Some(guard) = &self.guard else { return };
        if self.service != Service::Open {
            return;
        }
        self.checked_at = Instant::now();
        let of_listeners = self.listeners.iter().map(|listener| listener.is_still_there(guard));
        // A check that fails is repeated the next time: a lost name stays lost.
        let is_gone = std::iter::once(guard.is_still_held()).chain(of_listeners).any(|there| there == Ok(false));
        if is_gone {
            self.service = Service::Lost;
            tracing::error!(name = %self.display_name, path = %escaped(guard.path()), "name lost");
            // Clients in the queue are disconnected, instead of waiting until the server is closed.
            for listener in mem::take(&mut self.listeners) {
                if let Err(error) = listener.close(guard) {
                    tracing::debug!(name = %self.display_name, %error, "a file of the lost name cannot be removed");
                }
            }
        }
    }

    /// Ends late handshakes, and removes the files of dead clients.
    fn expire(&mut self) -> Result<()> {
        self.poller.deadline_passed();
        let Some(guard) = &self.guard else { return Ok(()) };
        let now = Instant::now();
        for listener in &mut self.listeners {
            listener.expire(guard, now)?;
        }
        if self.service != Service::Lost {
            if let Err(error) = self.sweep.run(guard, &self.listeners, now) {
                tracing::warn!(name = %self.display_name, %error, "files of dead clients cannot be removed");
            }
        }
        Ok(())
    }

    /// Releases the name in place. See [`Server::release`](super::Server::release).
    pub(super) fn release(&mut self, shutdown: &ShutdownHandle) -> io::Result<()> {
        let Some(guard) = &self.guard else { return Ok(()) };
        if std::mem::replace(&mut self.released, true) {
            return Ok(());
        }
        let mut result = Ok(());
        for listener in &mut self.listeners {
            result = result.and(listener.release(guard, shutdown.as_fd()));
        }
        // A drain may have stopped the reports.
        result = result.and(self.poller.report_shutdown(true).map_err(io::Error::from));
        result.and(guard.release_in_place())
    }

    /// Removes the files and releases the name. Does nothing in a forked child.
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

/// Returns the error of accepting in a forked child.
pub(super) fn in_forked_child(display_name: &str) -> Error {
    let detail = "this is a forked child, and the parent holds the name";
    Error::new(ErrorKind::NameLost, Operation::Accept, display_name, detail)
        .next("accept in the parent and pass connections to children, or bind after the fork")
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(name = %self.display_name, %error, "server was not closed cleanly");
        }
    }
}
