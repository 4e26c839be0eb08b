//! The search of a session for its server: pauses, attempts, and the watch that ends a pause.

use std::time::{Duration, Instant};

use super::reconnect::Reconnect;
use super::schedule::Schedule;
use crate::address::Address;
use crate::connect::Connecting;
use crate::connect::watch::{Changes, Watch};
use crate::connection::Connection;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::name::base;
use crate::options::ConnectOptions;
use crate::sys::fork::Process;
use crate::wait::{Deadline, WaitSet};

/// A pause up to this length ends by itself before a watch would be worth its cost.
const UNWATCHED: Duration = Duration::from_millis(20);

/// A state machine that connects again and again. Like [`Connecting`], it never waits itself.
pub(crate) struct Reconnecting {
    /// The address as the caller wrote it.
    text: String,
    address: Address,
    /// The name in quotes, for messages.
    display_name: String,
    options: ConnectOptions,
    schedule: Schedule,
    state: State,
    /// Exists from the first failure or long pause until a connection is established: an inotify instance is a scarce
    /// resource.
    watch: Option<Watch>,
    /// True if the last attempt found no server.
    is_absent: bool,
    /// The failure of the last attempt.
    last: Option<Error>,
    process: Process,
}

enum State {
    /// The next attempt begins at `until`. If the name has appeared, that time does not change any more.
    Pause {
        until: Instant,
        is_woken: bool,
    },
    Attempt(Box<Connecting>),
}

impl Reconnecting {
    pub(crate) fn new(address: &str, options: &ConnectOptions, reconnect: &Reconnect) -> Result<Self> {
        options.check()?;
        reconnect.check()?;
        let text = address.to_owned();
        let address = Address::parse(&text)?;
        Ok(Self {
            text,
            display_name: format!("'{}'", address.name()),
            address,
            options: options.clone(),
            schedule: Schedule::new(reconnect.clone(), seed()),
            state: State::pause(Instant::now()),
            watch: None,
            is_absent: false,
            last: None,
            process: Process::current(),
        })
    }

    /// Advances as far as that is possible without waiting. Returns `None` if the caller has to wait for
    /// [`wait_set`](Self::wait_set) first. After an error, which waiting does not resolve, the next call goes on.
    pub(crate) fn step(&mut self) -> Result<Option<Connection>> {
        self.leave_to_the_parent();
        loop {
            match &mut self.state {
                State::Pause { until, is_woken } => {
                    let now = Instant::now();
                    let watch = self.watch.as_ref().filter(|watch| !*is_woken && watch.has_seen_something());
                    if let Some(watch) = watch {
                        let sooner = match watch.is_reporting() {
                            true => Some(self.schedule.woken(now)),
                            // Nothing is known of a change, so a server that was there keeps its pause.
                            false => self.is_absent.then(|| self.schedule.looked(now)),
                        };
                        *until = sooner.map_or(*until, |sooner| sooner.min(*until));
                        *is_woken = true;
                    }
                    if now < *until {
                        let is_long = *until - now > UNWATCHED;
                        if is_long && self.watch.is_none() {
                            self.watch()?;
                        }
                        return Ok(None);
                    }
                    self.begin(now)?;
                }
                State::Attempt(connecting) => match connecting.step() {
                    Ok(None) => return Ok(None),
                    Ok(Some(connection)) => {
                        self.schedule.reached();
                        self.state = State::pause(Instant::now());
                        return Ok(Some(connection));
                    }
                    Err(error) => self.attempt_failed(error)?,
                },
            }
        }
    }

    fn begin(&mut self, now: Instant) -> Result<()> {
        self.schedule.begin(now);
        if let Some(watch) = &mut self.watch {
            // The attempt finds everything that has changed by now. Later changes end the next pause.
            watch.has_seen_something();
            watch.renew(&self.address, self.options.server_uid)?;
        }
        self.state = State::Attempt(Box::new(Connecting::once(&self.text, &self.options)?));
        Ok(())
    }

    /// Sets the pause after a failure. Returns the error if waiting does not resolve it.
    fn attempt_failed(&mut self, error: Error) -> Result<()> {
        self.is_absent = matches!(error.kind(), ErrorKind::NoServer | ErrorKind::UnsafeDirectory);
        if !self.is_absent {
            self.schedule.reached();
        }
        let now = Instant::now();
        if self.is_absent && self.watch.is_none() {
            // A server that appears between the attempt and the start of the watch is found by the next attempt.
            self.state = State::pause(now);
        } else {
            self.state = State::pause(self.schedule.failed(now));
        }
        self.watch()?;
        match self.may_pass(&error) {
            true => self.last = Some(error),
            false => return Err(error),
        }
        Ok(())
    }

    /// Watches the directories as they are now.
    fn watch(&mut self) -> Result<()> {
        self.watch.get_or_insert_with(|| Watch::new(Changes::Arrivals)).renew(&self.address, self.options.server_uid)
    }

    /// Returns true if a later attempt may succeed although nobody changes the configuration.
    ///
    /// An unsafe directory among several bases may be one that another user created to end the wait.
    fn may_pass(&self, error: &Error) -> bool {
        match error.kind() {
            ErrorKind::UnsafeDirectory => {
                let bases = base::candidates_for_client(&self.address, self.options.server_uid);
                bases.is_ok_and(|bases| bases.len() > 1)
            }
            kind => may_pass(kind),
        }
    }

    /// Notes that the session takes the connection of the last [`step`](Self::step).
    pub(crate) fn done(&mut self) {
        self.watch = None;
        self.last = None;
    }

    /// Notes that the hook after connecting failed, and that the connection was closed. Returns the error if waiting
    /// does not resolve it.
    pub(crate) fn hook_failed(&mut self, error: Error) -> Result<()> {
        self.is_absent = false;
        self.state = State::pause(self.schedule.failed(Instant::now()));
        match may_pass(error.kind()) {
            true => self.last = Some(error),
            false => return Err(error),
        }
        Ok(())
    }

    /// Notes that the connection has ended, which was established at `connected`.
    pub(crate) fn ended(&mut self, connected: Instant, has_received: bool) {
        self.state = State::pause(self.schedule.ended(Instant::now(), connected, has_received));
    }

    /// Notes that the connection, which was established at `connected`, is left because another server has the name or
    /// will have it.
    pub(crate) fn moved(&mut self, connected: Instant, has_received: bool) {
        self.state = State::pause(self.schedule.moved(Instant::now(), connected, has_received));
    }

    /// Returns the events and the deadline that the next step waits for.
    pub(crate) fn wait_set(&self, deadline: Deadline) -> WaitSet<'_> {
        match &self.state {
            State::Pause { until, is_woken } => {
                let deadline = deadline.earliest(Deadline::on(*until));
                match &self.watch {
                    Some(watch) if !is_woken => watch.wait_set(deadline),
                    _ => WaitSet::until(deadline),
                }
            }
            State::Attempt(connecting) => {
                let mut waits = connecting.wait_set();
                waits.until = waits.until.earliest(deadline);
                waits
            }
        }
    }

    /// Returns the error of a call whose deadline has passed.
    pub(crate) fn timed_out(&self) -> Error {
        no_connection(self.object(), self.last.as_ref())
    }

    /// Returns the error for a failure while waiting.
    pub(crate) fn failed(&self, error: std::io::Error) -> Error {
        Error::io(Operation::Connect, self.object(), error)
    }

    /// Returns the name in quotes, for messages.
    pub(crate) fn object(&self) -> &str {
        &self.display_name
    }

    /// In a forked child: leaves the watch and the attempt to the parent, which shares their descriptors. Begins anew.
    fn leave_to_the_parent(&mut self) {
        if !self.process.is_before_fork() {
            return;
        }
        self.process = Process::current();
        self.schedule.reseed(seed());
        self.watch = None;
        if matches!(self.state, State::Attempt(_)) {
            self.state = State::pause(Instant::now());
        }
    }
}

impl State {
    fn pause(until: Instant) -> Self {
        Self::Pause { until, is_woken: false }
    }
}

/// Returns the error of a call whose deadline has passed while the session connected. `last` is the failure of the last
/// attempt.
pub(crate) fn no_connection(object: &str, last: Option<&Error>) -> Error {
    let detail = match last {
        Some(error) => format!("the session had no connection before the deadline; the last attempt: {error}"),
        None => "the session had no connection before the deadline".to_owned(),
    };
    Error::new(ErrorKind::TimedOut, Operation::Connect, object, detail).next("call again to go on, or allow more time")
}

/// Returns true for the failures of a server that is absent, starting, busy or dying.
pub(crate) fn may_pass(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NoServer
            | ErrorKind::Busy
            | ErrorKind::TimedOut
            | ErrorKind::Disconnected
            | ErrorKind::Truncated
            | ErrorKind::Lost
    )
}

/// Returns a number that differs between sessions. If the system has no random bytes, the address of a local variable
/// and the time since boot do.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            (now.tv_nsec as u64) ^ (u64::from(std::process::id()) << 32)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_pause_after_a_connection_ends_when_the_name_appears() {
        let base = tempfile::tempdir().unwrap();
        let address = base.path().join("notes");
        let (options, reconnect) = (ConnectOptions::new(), Reconnect::new());
        let mut reconnecting = Reconnecting::new(address.to_str().unwrap(), &options, &reconnect).unwrap();
        let hour = Duration::from_secs(3600);
        reconnecting.state = State::pause(Instant::now() + hour);
        assert!(reconnecting.step().unwrap().is_none());
        assert!(matches!(reconnecting.state, State::Pause { is_woken: false, .. }));
        std::fs::create_dir(&address).unwrap();
        assert!(reconnecting.step().unwrap().is_none());
        let State::Pause { until, is_woken: true } = reconnecting.state else { panic!("the pause goes on") };
        assert!(until - Instant::now() < Duration::from_millis(60));
    }

    #[test]
    fn a_short_pause_costs_no_watch() {
        let base = tempfile::tempdir().unwrap();
        let address = base.path().join("notes");
        let (options, reconnect) = (ConnectOptions::new(), Reconnect::new());
        let mut reconnecting = Reconnecting::new(address.to_str().unwrap(), &options, &reconnect).unwrap();
        reconnecting.state = State::pause(Instant::now() + UNWATCHED);
        assert!(reconnecting.step().unwrap().is_none());
        assert!(reconnecting.watch.is_none());
    }
}
