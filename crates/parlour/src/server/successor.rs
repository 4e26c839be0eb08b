//! The side of the process that takes a name over from a live server. See `hand_over.rs` for the states.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::acceptor::Acceptor;
use super::control::{self, Control, Offer, Received};
use super::hand_over::{CandidateState, CandidateStep, Heard};
use super::{Prepared, Server};
use crate::address::Address;
use crate::backend::Listener;
use crate::backend::config::ListenConfig;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::name::directory;
use crate::name::hand_over::{Held, Standing, find_held};
use crate::name::leftovers::{self, CONTROL};
use crate::name::lock::NameLock;
use crate::name::{is_yielded, name_in_use};
use crate::options::ServerOptions;
use crate::owner::Owner;
use crate::sys::fork::ParentOnly;
use crate::transport::Transport;
use crate::wait::{Deadline, pause, poll_now, wait_for};
use crate::wire::control::{Frame, Refusal, Transports, Wanted};
use crate::wire::request::Rest;

/// The time for which a name that nobody offers is looked at again: its server may be about to start.
const STARTING_MAX: Duration = Duration::from_millis(200);

/// The time for which `bind` waits for a server that yields its name.
const YIELDING_MAX: Duration = Duration::from_secs(1);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// The outcome of asking the holder.
enum Answer {
    Granted(Box<Granted>),
    /// The holder has ended before it granted the name, or its socket was not there.
    Ended,
    Refused(Refusal),
    /// The holder did not answer before the deadline.
    Late,
}

/// The lock and the listeners that the holder has passed.
struct Granted {
    /// Dropped last: from the end of this socket without an `ack` the holder learns that it still owns the name.
    socket: ParentOnly,
    lock: ParentOnly,
    listeners: Vec<(Transport, ParentOnly)>,
    rest: Rest,
}

impl Server {
    /// Takes the name over from the server that holds it, or binds it if none does.
    pub(super) fn take_over(
        address: &Address,
        transports: &[Transport],
        options: &ServerOptions,
        timeout: Duration,
    ) -> Result<Self> {
        let deadline = Deadline::after(timeout);
        let mut patience = deadline.or_after(STARTING_MAX);
        loop {
            let standing = find_held(address)?;
            if let Standing::Offered(held) = standing {
                let prepared = Prepared::new(address, transports, options)?;
                let (mode, group) = prepared.config.access();
                let transports = Transports::of(transports.iter().copied());
                let wanted = Wanted { transports, mode, group, if_yielded: false };
                let failed = |error| Error::io(Operation::Bind, format!("'{}'", address.name()), error);
                match ask(&held, wanted, deadline).map_err(failed)? {
                    Answer::Granted(granted) => return prepared.continue_service(*held, *granted, options),
                    // Its server ends, or another process has taken the name over from it.
                    Answer::Ended => patience = deadline,
                    Answer::Refused(reason) => return Err(refused(address, *held, reason)),
                    Answer::Late => return Err(late(address, &held)),
                }
            }
            match Self::open(address, address, transports, options, Vec::new()) {
                Err(error) if error.kind() == ErrorKind::NameInUse && !patience.is_over() => {
                    pause(PAUSE, patience).map_err(|error| Error::io(Operation::Bind, address.name(), error))?;
                }
                Err(error) if error.kind() == ErrorKind::NameInUse => {
                    return Err(error.note(
                        "its server does not hand it over: it was bound so, or serves on the sockets of a service \
                         manager, which passes them to the next server itself",
                    ));
                }
                bound => return bound,
            }
        }
    }

    /// Takes the name from a server that yields it, or binds it once none holds it.
    ///
    /// Another server may take the name meanwhile. Its record is not there yet when its `control` is, so that the
    /// record does not decide: `hello` says that the name is wanted only from a server that yields.
    pub(super) fn displace(address: &Address, transports: &[Transport], options: &ServerOptions) -> Result<Self> {
        let deadline = Deadline::after(YIELDING_MAX);
        loop {
            // Without a way to ask, the name is bound, or is in use.
            let held = match find_held(address) {
                Ok(Standing::Offered(held)) => Some(held),
                _ => None,
            };
            if let Some(held) = held.filter(|held| held.owner.as_ref().is_some_and(|owner| owner.yields)) {
                let prepared = Prepared::new(address, transports, options)?;
                let (mode, group) = prepared.config.access();
                let wanted =
                    Wanted { transports: Transports::of(transports.iter().copied()), mode, group, if_yielded: true };
                let failed = |error| Error::io(Operation::Bind, format!("'{}'", address.name()), error);
                if let Answer::Granted(granted) = ask(&held, wanted, deadline).map_err(failed)? {
                    match prepared.continue_service(*held, *granted, options) {
                        // The holder owns the name again, and still yields.
                        Err(error) if error.kind() == ErrorKind::Busy => {}
                        taken => return taken,
                    }
                }
            }
            match Self::open(address, address, transports, options, Vec::new()) {
                Err(error) if is_yielded(&error) && !deadline.is_over() => {
                    pause(PAUSE, deadline).map_err(|error| Error::io(Operation::Bind, address.name(), error))?;
                }
                Err(error) if is_yielded(&error) => {
                    return Err(error.note("its server yields, but has not handed it over in time"));
                }
                bound => return bound,
            }
        }
    }
}

/// Asks the holder for the name.
fn ask(held: &Held, wanted: Wanted, deadline: Deadline) -> std::io::Result<Answer> {
    let Some(socket) = control::reach(&held.directory, &held.path, deadline)? else { return Ok(Answer::Ended) };
    let Some(socket) = socket else { return Ok(Answer::Late) };
    if !control::is_of_this_user(&socket)? {
        return Ok(Answer::Refused(Refusal::Denied));
    }
    let say = |frame: &Frame, proof: &[_]| match control::send(&socket, frame, proof) {
        // The holder has ended. It may have said something before.
        Err(error) if is_end(&error) => Ok(()),
        said => said,
    };
    say(&Frame::Hello(wanted), &[held.lock.as_fd()])?;
    let mut state = CandidateState::Asked;
    loop {
        let (received, mut descriptors) = ParentOnly::receive(|| control::receive(&socket))?;
        let heard = match received {
            Received::Nothing => match wait_for(socket.as_fd(), PollFlags::IN, deadline)? {
                true => continue,
                false => return Ok(Answer::Late),
            },
            // The holder learns from the end of the socket that it keeps the name.
            Received::Truncated => return Err(Errno::MFILE.into()),
            Received::Frame(frame) => frame.map_or_else(Heard::Bad, |frame| Heard::Frame(frame, false)),
            Received::End => Heard::End,
        };
        match state.hear(&heard) {
            CandidateStep::GetReady => say(&Frame::Ready, &[])?,
            CandidateStep::Refused(reason) => return Ok(Answer::Refused(reason)),
            CandidateStep::Bind => return Ok(Answer::Ended),
            CandidateStep::Take(transports, rest) => {
                let count = 1 + transports.iter().count();
                let are_as_announced = descriptors.len() == count
                    && transports.iter().zip(&descriptors[1..]).all(|(kind, fd)| control::is_listener(fd, kind));
                if !are_as_announced {
                    return Ok(Answer::Refused(Refusal::Failed));
                }
                let listeners = transports.iter().zip(descriptors.drain(1..)).collect();
                let Some(lock) = descriptors.pop() else { return Ok(Answer::Refused(Refusal::Failed)) };
                return Ok(Answer::Granted(Box::new(Granted { socket, lock, listeners, rest })));
            }
        }
    }
}

fn is_end(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::PIPE | Errno::CONNRESET))
}

impl Prepared {
    /// Continues the service of the holder with what it has passed.
    fn continue_service(self, held: Held, granted: Granted, options: &ServerOptions) -> Result<Server> {
        let Granted { socket, lock, listeners, rest } = granted;
        let passed = Transports::of(listeners.iter().map(|(transport, _)| *transport));
        let mode = if options.open_to_others() { 0o755 } else { 0o700 };
        let guard = held.inherit(lock)?;
        let path = guard.path().to_owned();
        let Self { parts, config, poller } = self;
        let failed = |error| Error::io(Operation::Bind, &*parts.display_name, error);
        let mut acceptor = Acceptor::new(Arc::clone(&parts.display_name), guard, poller);
        let prepared =
            acceptor.prepare(&parts.transports, listeners, &rest, &config, Offer::of(options)).and_then(|()| {
                match &acceptor.guard {
                    Some(guard) => acknowledge(&socket, guard.lock()).map_err(failed),
                    None => Ok(true),
                }
            });
        let is_taken_back = matches!(prepared, Ok(false));
        let prepared =
            prepared.and_then(|is_owned| if is_owned { Ok(()) } else { Err(taken_back(&parts.display_name)) });
        if let Err(error) = prepared {
            // The holder goes on after the end of the socket. Until then the files are this process's to remove.
            if let Some(guard) = acceptor.guard.as_ref().filter(|_| !is_taken_back) {
                guard.remove_new_files();
            }
            drop(acceptor);
            drop(socket);
            return Err(error);
        }
        let owner = Owner::current(&parts.transports, options.message_max, parts.stats_place());
        acceptor.take_up(passed, &owner, mode, &config)?;
        tracing::info!(name = %parts.display_name, "name taken over");
        Ok(parts.serve(path, options, acceptor))
    }
}

/// Tells the holder that the name has arrived. A holder that has ended needs not know. Returns false if the holder took
/// the end of this process's direction for its end, and owns the name again.
fn acknowledge(socket: &ParentOnly, lock: &NameLock) -> std::io::Result<bool> {
    /// The kernel may have no memory for a moment.
    const TRIES: u32 = 20;
    let mut tries = 0;
    loop {
        tries += 1;
        match control::send(socket, &Frame::Ack, &[]) {
            Ok(()) => return Ok(true),
            // Before a holder that owns the name again closes the socket, it says so in the open file of the lock.
            Err(error) if is_end(&error) && has_ended(socket) => return Ok(!lock.was_taken_back()),
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => pause(PAUSE, Deadline::NEVER)?,
        }
    }
}

/// Returns true if the other end of this socket is closed.
fn has_ended(socket: &ParentOnly) -> bool {
    poll_now(socket.as_fd(), PollFlags::empty()).contains(PollFlags::HUP)
}

impl Acceptor {
    /// Prepares the listeners of a name that its server hands over. Clients notice nothing yet.
    fn prepare(
        &mut self,
        transports: &[Transport],
        mut inherited: Vec<(Transport, ParentOnly)>,
        rest: &Rest,
        config: &ListenConfig,
        offer: Offer,
    ) -> Result<()> {
        let Some(guard) = &self.guard else { return Ok(()) };
        self.access = config.access();
        for &transport in transports {
            let interest = self.poller.interest(self.listeners.len());
            let at = inherited.iter().position(|(other, _)| *other == transport);
            let inherited = at.map(|at| inherited.swap_remove(at).1);
            let rest = if transport == Transport::Fifo { rest.clone() } else { Rest::default() };
            self.listeners.push(Listener::prepare(transport, inherited, rest, guard, config, interest)?);
        }
        if offer != Offer::Nobody {
            match Control::bind(guard, self.poller.interest_of_control(), true, offer) {
                Ok(control) => self.control = Some(control),
                Err(error) => tracing::warn!(name = %self.display_name, %error, "the name cannot be handed over again"),
            }
        }
        Ok(())
    }

    /// Serves the name, which belongs to this process from here on.
    fn take_up(&mut self, passed: Transports, owner: &Owner, mode: u32, config: &ListenConfig) -> Result<()> {
        let Some(guard) = &mut self.guard else { return Ok(()) };
        if !guard.lock_mut().own() {
            let detail = "the lock of the name was released meanwhile";
            return Err(Error::new(ErrorKind::NameLost, Operation::Bind, &*self.display_name, detail).next("try again"));
        }
        for listener in &mut self.listeners {
            listener.take_up(passed.contains(listener.transport()), guard, config)?;
        }
        // Clients are served from here on, whatever else fails: no other server has the name any more.
        let offered = Transports::of(self.listeners.iter().map(Listener::transport));
        let published = match &self.control {
            Some(control) => control.publish(guard),
            None => directory::remove(guard.directory(), CONTROL),
        };
        let failed = |error| Error::io(Operation::Replace, guard.path().display().to_string(), error);
        let removed = leftovers::remove_points_of_contact(guard.directory(), |transport| !offered.contains(transport));
        let settled = guard.settle_after_hand_over(owner, mode);
        for error in [settled, published.map_err(failed), removed.map_err(failed)].into_iter().filter_map(Result::err) {
            tracing::warn!(name = %self.display_name, %error, "a file is still that of the former server");
        }
        self.watch_files();
        Ok(())
    }
}

fn refused(address: &Address, held: Held, reason: Refusal) -> Error {
    let error = name_in_use(address.name(), &held.path, held.owner);
    error.note(match reason {
        Refusal::Denied => "its server does not hand it over to this process",
        Refusal::Version => "its server hands it over in another version of the protocol",
        Refusal::Failed => "its server could not pass its descriptors",
    })
}

fn taken_back(display_name: &str) -> Error {
    let detail = "its server has taken it back, because the socket to this process seemed to have ended";
    Error::new(ErrorKind::Busy, Operation::Bind, display_name, detail).next("try again")
}

fn late(address: &Address, held: &Held) -> Error {
    let holder = held.owner.as_ref().map_or_else(|| "its server".to_owned(), ToString::to_string);
    let detail = format!(
        "{holder} did not hand it over before the deadline: its program neither accepts nor waits for a client"
    );
    Error::new(ErrorKind::Busy, Operation::Bind, format!("'{}'", address.name()), detail)
        .next("try again, or stop that server")
}
