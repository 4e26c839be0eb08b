//! The holder's side of a hand-over: what happens to the listeners and to the lock at each step of `hand_over.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::acceptor::{Acceptor, Service};
use super::control::Control;
use super::hand_over::HolderStep;
use crate::backend::Listener;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::standby::Served;
use crate::transport::Transport;
use crate::wire::control::{Frame, Refusal, Transports, Wanted};
use crate::wire::request::Rest;

/// The time that a listener is kept which the next server has replaced. A client that has opened its file before may
/// connect meanwhile. A client that comes later finds that nobody listens there, and tries again at the new one.
const REPLACED_FOR: Duration = Duration::from_millis(100);

/// The maximum number of events that one call works on for a thread that is not accepting.
const EVENTS_MAX: usize = 16;

impl Acceptor {
    /// Takes the steps that one event of a hand-over allows. Returns false if there was none.
    pub(super) fn advance_hand_over(&mut self) -> Result<bool> {
        let (Some(control), Some(guard)) = (&mut self.control, &self.guard) else { return Ok(false) };
        let failed = |errno: rustix::io::Errno| Error::io(Operation::Accept, &*self.display_name, errno);
        let Some(step) = control.advance(guard, self.shown.as_deref()).map_err(failed)? else { return Ok(false) };
        match step {
            HolderStep::Grant(wanted) => self.grant(wanted)?,
            HolderStep::Leave => self.leave(),
            HolderStep::Resume => self.resume()?,
            // `Control` takes the other steps.
            HolderStep::Wait
            | HolderStep::Welcome
            | HolderStep::ShowCounters
            | HolderStep::ShowTap
            | HolderStep::Refuse(_)
            | HolderStep::Dismiss => {}
        }
        Ok(true)
    }

    /// Works on a hand-over for a thread that is not accepting. Clients wait until one accepts.
    pub(super) fn serve_hand_over(&mut self) -> Served {
        if self.control.is_none() || self.is_released() || !self.is_in_this_process() {
            return Served::Over;
        }
        // The next call that accepts withdraws the service.
        if self.service == Service::Open && self.poller.shutdown_handle().is_asked() {
            return Served::Over;
        }
        for _ in 0..EVENTS_MAX {
            match self.advance_hand_over() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.failure = Some(error);
                    break;
                }
            }
        }
        if self.failure.is_some() || matches!(self.service, Service::Leaving | Service::Lost) {
            // A thread that is asleep in `accept`, or a caller's poll loop, learns of that.
            if let Err(errno) = self.poller.set_deadline(Some(Instant::now())) {
                tracing::debug!(name = %self.display_name, %errno, "threads that accept are not woken");
            }
        }
        if self.control.is_some() { Served::Done } else { Served::Over }
    }

    /// Passes the name to the candidate. From here on this server accepts nobody and changes no file of the name, until
    /// it knows which of the two owns it.
    fn grant(&mut self, wanted: Wanted) -> Result<()> {
        let (Some(control), Some(guard)) = (&self.control, &mut self.guard) else { return Ok(()) };
        // A FIFO serves its own user alone.
        let has_access =
            |listener: &Listener| listener.transport() == Transport::Fifo || (wanted.mode, wanted.group) == self.access;
        let is_passed = |listener: &&Listener| wanted.transports.contains(listener.transport()) && has_access(listener);
        let passed = Transports::of(self.listeners.iter().filter(is_passed).map(Listener::transport));
        self.listeners.iter_mut().for_each(Listener::pause);
        guard.lock_mut().lend();
        let of_transport = |transport| self.listeners.iter().find(move |listener| listener.transport() == transport);
        let lock = guard.lock().as_fd();
        let descriptors: Vec<_> =
            lock.into_iter().chain(passed.iter().filter_map(of_transport).map(Listener::as_fd)).collect();
        let rest = of_transport(Transport::Fifo).filter(is_passed).map_or_else(Rest::default, Listener::rest);
        match control.grant(&Frame::Grant { listeners: passed, rest }, &descriptors) {
            Ok(()) => {
                tracing::debug!(name = %self.display_name, "name offered to another process");
                self.passed = passed;
                self.service = Service::Lent;
                Ok(())
            }
            Err(error) => {
                tracing::debug!(name = %self.display_name, %error, "the name could not be offered");
                if let Some(control) = &mut self.control {
                    control.refuse(Refusal::Failed);
                }
                self.resume()
            }
        }
    }

    /// Owns the name again: the candidate has ended, or was not granted anything.
    fn resume(&mut self) -> Result<()> {
        let Some(guard) = &mut self.guard else { return Ok(()) };
        // Before the socket ends: a candidate that lives nevertheless then finds that it does not own the name.
        let is_locked = guard.lock_mut().take_back();
        self.control.as_mut().map(Control::dismiss);
        self.service = Service::Open;
        if !is_locked {
            self.lose();
            return Ok(());
        }
        guard.remove_new_files();
        for listener in &mut self.listeners {
            listener.resume(guard)?;
        }
        self.check_files();
        // A shutdown may have been requested meanwhile.
        let failed = |errno: rustix::io::Errno| Error::io(Operation::Accept, &*self.display_name, errno);
        self.poller.report_shutdown(true).map_err(failed)
    }

    /// Leaves the name to the other process. Its listeners are this server's no more; one that it has replaced still
    /// has clients.
    fn leave(&mut self) {
        let Some(guard) = &mut self.guard else { return };
        tracing::info!(name = %self.display_name, "name handed over");
        self.service = Service::Leaving;
        guard.lock_mut().give();
        self.control = None;
        let shutdown = self.poller.shutdown_handle().clone();
        for listener in &mut self.listeners {
            let left = match self.passed.contains(listener.transport()) {
                true => listener.leave(shutdown.as_fd()).map_err(|error| error.to_string()),
                false => {
                    self.retire_at = Some(Instant::now() + REPLACED_FOR);
                    listener.resume(guard).map_err(|error| error.to_string())
                }
            };
            if let Err(error) = left {
                tracing::debug!(name = %self.display_name, error, "a listener cannot be left in order");
            }
        }
    }

    /// Ends this server's part once no client can come through it any more. To be called when the poller reports
    /// nothing. Returns true if the poller must be asked again.
    pub(super) fn finish_leaving(&mut self) -> bool {
        if self.retire_at.is_some_and(|at| at <= Instant::now()) {
            self.retire_at = None;
            let passed = self.passed;
            let replaced = self.listeners.iter_mut().filter(|listener| !passed.contains(listener.transport()));
            replaced.for_each(Listener::retire);
            return true;
        }
        if self.retire_at.is_none() && self.listeners.iter().all(Listener::is_left) {
            self.service = Service::HandedOver;
            return true;
        }
        false
    }

    /// Returns the error of accepting after a hand-over.
    pub(super) fn handed_over(&self) -> Error {
        let detail = "another process has taken the name over";
        Error::new(ErrorKind::HandedOver, Operation::Accept, Arc::clone(&self.display_name).to_string(), detail)
            .next("let the open connections end, then close the server")
    }
}
