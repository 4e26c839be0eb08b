//! The work of accepting clients: handshakes, refusals, checks of the name's files, and the removal of leftovers.
//! `holder.rs` and `successor.rs` have the two sides of a hand-over.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::activation::Socket;
use super::control::{Control, Offer};
use super::sweep::Sweep;
use crate::admission::Admission;
use crate::backend::config::ListenConfig;
use crate::backend::{Link, Listener};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::escape::escaped;
use crate::name::NameGuard;
use crate::name::leftovers::CONTROL;
use crate::poller::{Poller, ShutdownHandle, Wake};
use crate::transport::Transport;
use crate::wire::control::Transports;

/// The state of a server that accepting threads share. One thread at a time works on it, under a lock.
pub(super) struct Acceptor {
    /// The name in quotes, for error texts and logs.
    pub(super) display_name: Arc<str>,
    /// `None` once the server was closed.
    pub(super) guard: Option<NameGuard>,
    pub(super) listeners: Vec<Listener>,
    pub(super) poller: Poller,
    /// The socket at which another process asks for the name, if this server hands it over.
    pub(super) control: Option<Control>,
    /// The owner of the memory that a process at `control` gets.
    pub(super) shown: Option<Arc<Admission>>,
    /// The listeners that were passed to another process.
    pub(super) passed: Transports,
    /// The mode and the group of the sockets.
    pub(super) access: (u32, u32),
    /// The time from which on no client can reach a listener that the next server has replaced.
    pub(super) retire_at: Option<Instant>,
    /// The removal of files of dead clients.
    sweep: Sweep,
    /// The time at which the name's files were last checked.
    checked_at: Instant,
    pub(super) service: Service,
    /// An error of the work on a hand-over that a thread did which was not accepting.
    pub(super) failure: Option<Error>,
    /// True once the name was released in place. Only memory is left to free.
    released: bool,
}

/// The state of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// Clients can connect.
    Open,
    /// Another process may have taken the name over. Clients wait until this is known.
    Lent,
    /// Another process has taken the name over. Handshakes that this server has begun go on.
    Leaving,
    /// The clients of all of them were accepted.
    HandedOver,
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
            control: None,
            shown: None,
            passed: Transports::default(),
            access: (0, 0),
            retire_at: None,
            sweep: Sweep::default(),
            checked_at: Instant::now(),
            service: Service::Open,
            failure: None,
            released: false,
        }
    }

    /// Returns true once the name was released in place.
    pub(super) fn is_released(&self) -> bool {
        self.released
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
        offer: Offer,
    ) -> Result<()> {
        let Some(guard) = &self.guard else { return Ok(()) };
        self.access = config.access();
        // The manager starts the next server on sockets that it keeps.
        let offer = if adopted.is_empty() { offer } else { Offer::Nobody };
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
        if offer != Offer::Nobody {
            match Control::bind(guard, self.poller.interest_of_control(), false, offer) {
                Ok(control) => self.control = Some(control),
                Err(error) => tracing::warn!(name = %self.display_name, %error, "the name cannot be handed over"),
            }
        }
        self.watch_files();
        Ok(())
    }

    pub(super) fn watch_files(&mut self) {
        let Some(guard) = &self.guard else { return };
        if let Err(errno) = self.poller.watch(guard) {
            tracing::debug!(%errno, "files of the name are checked without an inotify watch");
        }
    }

    /// Processes events until one brings a client or none is left, and sets the next deadline. Ends the service if that
    /// was requested, by the shutdown handle or by a hub.
    pub(super) fn step(&mut self, end_asked: bool) -> Result<Step<Link>> {
        self.check_process()?;
        if end_asked {
            match self.service {
                _ if self.released => return Err(self.shut_down()),
                Service::Open => self.withdraw()?,
                Service::Draining | Service::Lent | Service::Leaving | Service::HandedOver => {}
                Service::Ended | Service::Lost => return Err(self.shut_down()),
            }
        }
        let step = self.failure.take().map_or_else(|| self.work(), Err);
        let next = match self.service {
            // In the past, so the descriptor stays readable, and every thread that waits learns of it.
            Service::Lost | Service::HandedOver => Some(self.checked_at),
            _ => self.deadline(),
        };
        self.poller.set_deadline(next).map_err(|errno| Error::io(Operation::Accept, &*self.display_name, errno))?;
        step
    }

    fn deadline(&self) -> Option<Instant> {
        let handshakes = self.listeners.iter().filter_map(Listener::deadline);
        let sweep = self.sweep.deadline().filter(|_| self.owns_files());
        handshakes.chain(sweep).chain(self.retire_at).min()
    }

    /// Returns true if this server may change the files of the name.
    fn owns_files(&self) -> bool {
        self.guard.as_ref().is_some_and(NameGuard::is_owned)
    }

    fn work(&mut self) -> Result<Step<Link>> {
        let display_name = Arc::clone(&self.display_name);
        let failed = |errno: rustix::io::Errno| Error::io(Operation::Accept, &*display_name, errno);
        for _ in 0..EVENTS_MAX {
            match self.service {
                Service::Lost => return Err(self.name_lost()),
                Service::HandedOver => return Err(self.handed_over()),
                _ => {}
            }
            match self.poller.next().map_err(failed)? {
                None if self.service == Service::Draining && self.listeners.iter().all(Listener::is_drained) => {
                    self.service = Service::Ended;
                    // Wakes every thread that waits for the last handshakes.
                    self.poller.report_shutdown(true).map_err(failed)?;
                    return Err(self.shut_down());
                }
                None if self.service == Service::Leaving && self.finish_leaving() => {}
                None => {
                    if self.listeners.iter().all(Listener::is_watched) {
                        self.sweep.note_no_client_waits();
                    }
                    return Ok(Step::Idle);
                }
                Some(Wake::Shutdown)
                    if matches!(self.service, Service::Draining | Service::Lent | Service::Leaving) =>
                {
                    self.poller.report_shutdown(false).map_err(failed)?;
                }
                // The next call finds the request in the shutdown handle.
                Some(Wake::Shutdown) => return Ok(Step::Yield),
                Some(Wake::Files) => self.check_files(),
                Some(Wake::Deadline) => self.expire()?,
                Some(Wake::Control) => {
                    self.advance_hand_over()?;
                }
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
                    if guard.is_owned() {
                        self.sweep.begin();
                    }
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
        if let Some(Err(error)) = self.control.take().map(|control| control.remove_file(guard)) {
            tracing::debug!(name = %self.display_name, %error, "a file cannot be removed yet");
        }
        for listener in &mut self.listeners {
            // `close` tries again to remove a file, and reports the error.
            if let Err(error) = listener.withdraw(guard) {
                tracing::debug!(name = %self.display_name, %error, "a file cannot be removed yet");
            }
        }
        // A thread that waits for the last handshakes must not find the request again and again. Without a request, one
        // that comes later must still be found.
        if !self.poller.shutdown_handle().is_asked() {
            return Ok(());
        }
        let failed = |errno: rustix::io::Errno| Error::io(Operation::Accept, &*self.display_name, errno);
        self.poller.report_shutdown(false).map_err(failed)
    }

    pub(super) fn check_files(&mut self) {
        let Some(guard) = &self.guard else { return };
        if self.service != Service::Open {
            return;
        }
        self.checked_at = Instant::now();
        let of_listeners = self.listeners.iter().map(|listener| listener.is_still_there(guard));
        // A check that fails is repeated the next time: a lost name stays lost.
        let is_gone = std::iter::once(guard.is_still_held()).chain(of_listeners).any(|there| there == Ok(false));
        if is_gone {
            self.lose();
        }
    }

    /// Ends the service of a name that was lost. Clients in the queue are disconnected, instead of waiting until the
    /// server is closed.
    pub(super) fn lose(&mut self) {
        let Some(guard) = &self.guard else { return };
        self.service = Service::Lost;
        tracing::error!(name = %self.display_name, path = %escaped(guard.path()), "name lost");
        let control = self.control.take().map(|control| control.remove_file(guard).map_err(|error| error.to_string()));
        let listeners = mem::take(&mut self.listeners);
        let closed = listeners.into_iter().map(|listener| listener.close(guard).map_err(|error| error.to_string()));
        for error in control.into_iter().chain(closed).filter_map(Result::err) {
            tracing::debug!(name = %self.display_name, error, "a file of the lost name cannot be removed");
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
        if self.service != Service::Lost && guard.is_owned() {
            if let Err(error) = self.sweep.run(guard, &self.listeners, now) {
                tracing::warn!(name = %self.display_name, %error, "files of dead clients cannot be removed");
            }
        }
        Ok(())
    }

    /// Releases the name in place. See [`Server::release`](super::Server::release).
    pub(super) fn release(&mut self, shutdown: &ShutdownHandle) -> io::Result<()> {
        let Some(guard) = &mut self.guard else { return Ok(()) };
        if std::mem::replace(&mut self.released, true) {
            return Ok(());
        }
        let mut result = Ok(());
        if let Some(control) = &mut self.control {
            result = control.remove_file(guard).and(control.close_in_place(shutdown.as_fd()));
        }
        // If another process may have taken the name over, this end of the lock must not outlive its turn.
        result = result.and(guard.lock_mut().leave_in_place(shutdown.as_fd()));
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
        let (listeners, control) = (mem::take(&mut self.listeners), self.control.take());
        if self.released || !guard.is_in_this_process() {
            return Ok(());
        }
        let mut result = match control.map(|control| control.remove_file(&guard)) {
            Some(Err(error)) => Err(Error::io(Operation::Remove, guard.display_path(CONTROL), error)),
            Some(Ok(())) | None => Ok(()),
        };
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
