//! The end of a hub that loses nobody: it lets no further client in, and goes on with those that are connected.

use std::os::fd::AsFd;
use std::time::Duration;

use super::service::Service;
use super::{Event, Hub, WAIT};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::sys::timer::Timer;
use crate::wait::Deadline;

/// The time for which a hub serves its clients after a hand-over, by default.
const GRACE_DEFAULT: Duration = Duration::from_secs(30);

impl Hub {
    /// Lets no further client connect, and releases the name. The clients that are connected go on to be served. After
    /// the last one has left, [`next_event`](Hub::next_event) returns [`Shutdown`](ErrorKind::Shutdown).
    ///
    /// Clients that had connected before and wait to be let in still join: the hub loses nobody. Usually they are in,
    /// and the name is free for the next server, when this call returns. Over `fifo`, a client that was answered and
    /// has not connected yet delays this, up to [`handshake_timeout`](crate::ServerOptions::handshake_timeout), while
    /// the hub waits for events. Clients at the socket of a service manager wait there for the next server.
    ///
    /// A hub does not make its clients leave: tell them, or [`finish`](Hub::finish) them.
    /// [`ShutdownHandle::shutdown`](crate::ShutdownHandle::shutdown) ends the hub at once, also while it drains.
    /// Further calls of this function have no effect.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Io`]: a system call failed. If it was the removal of a file, the name is free nevertheless.
    /// - [`ErrorKind::Shutdown`]: the shutdown handle was used before.
    /// - [`ErrorKind::NameLost`]: this is a forked child.
    ///
    /// # Examples
    ///
    /// ```
    /// use parlour::hub::{Event, Hub};
    /// use parlour::{Connection, ErrorKind, Server};
    ///
    /// # let base = tempfile::tempdir()?;
    /// # let name = format!("{}/service", base.path().display());
    /// let mut hub = Hub::bind(&name)?;
    /// let client = Connection::connect(&name)?;
    /// hub.drain()?;
    /// let _next = Server::bind(&name)?;
    ///
    /// assert!(matches!(hub.next_event()?, Event::Joined(..)));
    /// drop(client);
    /// let error = loop {
    ///     match hub.next_event() {
    ///         Ok(Event::Left(client, _)) => println!("{client} has left"),
    ///         Ok(_) => {}
    ///         Err(error) => break error,
    ///     }
    /// };
    /// assert_eq!(error.kind(), ErrorKind::Shutdown);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drain(&mut self) -> Result<()> {
        self.check_process(Operation::Close)?;
        if matches!(self.service, Service::Open) {
            self.service = Service::Draining;
        }
        while self.accept_clients()? {}
        Ok(())
    }

    /// Releases the name after the last client was let in.
    pub(super) fn release_name(&mut self) -> Result<()> {
        self.leave_server(Service::Released)?;
        self.server.give_up()
    }

    /// Goes on without the name, which another process has taken over. The descriptor of the hub becomes readable at
    /// the end of the grace period.
    pub(super) fn leave_name(&mut self) -> Result<()> {
        if self.wakes_at_hand_over {
            self.events.push_back(Event::Woken);
        }
        let ends_at = Deadline::after(self.server.hand_over_grace().unwrap_or(GRACE_DEFAULT));
        self.leave_server(Service::HandedOver(ends_at))?;
        if let Some(at) = ends_at.at() {
            let watched = Timer::new().and_then(|timer| {
                timer.set(Some(at))?;
                self.watch.add_server(timer.as_fd())?;
                self.grace_timer = Some(timer);
                Ok(())
            });
            if let Err(errno) = watched {
                tracing::debug!(%errno, "a caller's poll loop does not learn of the end of the grace period");
            }
        }
        Ok(())
    }

    /// Gives the name up, and goes on with the clients that were let in, also after a shutdown: until the caller closes
    /// the hub, its events are still returned. Clients that wait to be let in are disconnected.
    pub(crate) fn begin_ending(&mut self) -> Result<()> {
        self.check_process(Operation::Close)?;
        // Another process has the descriptors of a name that was handed over.
        match self.service {
            Service::Open | Service::Draining => self.watch.remove_server(self.server.as_fd()),
            Service::Released | Service::HandedOver(_) => self.watch.remove_server(self.shutdown.as_fd()),
            Service::Ending => {}
        }
        self.grace_timer = None;
        self.service = Service::Ending;
        self.server.give_up()
    }

    /// Makes the hub return [`Event::Woken`] when another process has taken the name over.
    pub(crate) fn wake_at_hand_over(&mut self) {
        self.wakes_at_hand_over = true;
    }

    /// Returns true if another process has taken the name over.
    pub(crate) fn has_handed_over(&self) -> bool {
        matches!(self.service, Service::HandedOver(_))
    }

    /// Stops watching the server. The hub then watches the shutdown handle itself, as the poller of the server did.
    fn leave_server(&mut self, service: Service) -> Result<()> {
        self.service = service;
        self.watch.remove_server(self.server.as_fd());
        self.watch.add_server(self.shutdown.as_fd()).map_err(|errno| self.io_error(WAIT, errno))
    }

    /// Returns the time until which connected clients may stay, if another process has taken the name over.
    pub(super) fn leaves_at(&self) -> Deadline {
        match self.service {
            Service::HandedOver(at) => at,
            Service::Open | Service::Draining | Service::Released | Service::Ending => Deadline::NEVER,
        }
    }

    /// Fails if the hub has no name any more, and no client is left or their time is over. Queued events come first.
    #[inline]
    pub(super) fn check_ended(&self) -> Result<()> {
        match self.service {
            Service::Open | Service::Draining | Service::Ending => Ok(()),
            Service::Released | Service::HandedOver(_) => self.check_ended_without_name(),
        }
    }

    #[cold]
    fn check_ended_without_name(&self) -> Result<()> {
        if !self.events.is_empty() {
            return Ok(());
        }
        let failed = |kind, detail: &'static str| Error::new(kind, WAIT, &**self.server.display_name(), detail);
        match self.service {
            Service::Released if self.members.is_empty() => {
                let detail = "the hub has let in no further clients, and the last one has left";
                Err(failed(ErrorKind::Shutdown, detail))
            }
            Service::HandedOver(at) if at.is_over() || self.members.is_empty() => {
                Err(failed(ErrorKind::HandedOver, "another process has taken the name over").next("close the hub"))
            }
            Service::Open | Service::Draining | Service::Released | Service::HandedOver(_) | Service::Ending => Ok(()),
        }
    }
}
