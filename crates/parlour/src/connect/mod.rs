//! The client's search for a server by name: through the bases, through the transports on offer, and until a server
//! appears.
//!
//! [`Connecting`] is a state machine that never waits itself. It tells its caller which descriptors and deadlines to
//! wait for, so that one mechanism serves every API. The blocking API sleeps in poll(2) between the steps.

pub(crate) mod connector;
pub(crate) mod pending;
mod round;
pub(crate) mod watch;

use std::sync::Arc;
use std::time::Duration;

use self::round::Round;
use self::watch::{Changes, Watch};
use crate::address::Address;
use crate::backend::attempt::{Attempt, Progress};
use crate::backend::config::ConnectConfig;
use crate::backend::{Handshake, Link};
use crate::connection::Connection;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::escape::escaped;
use crate::name::keeper::Kept;
use crate::options::ConnectOptions;
use crate::wait::{Deadline, WaitSet};

/// The pause between two attempts at a server that exists and is busy. It begins as short as a server that is about to
/// listen needs, and doubles each time.
const REST_MIN: Duration = Duration::from_millis(1);
const REST_MAX: Duration = Duration::from_millis(100);

/// The least number of attempts that fit into the time that is left, while the pauses between them are not shorter than
/// this. Each attempt costs the server a part of the time that it lacks.
const PAUSES_LEFT: u32 = 16;
const LAST_PAUSE_MIN: Duration = Duration::from_millis(20);

impl Connection {
    /// Connects to the server of this name, with the defaults of [`ConnectOptions`].
    ///
    /// Searches the base directories in order and uses the best transport on offer, unless the address demands one.
    /// Verifies that the server runs as this user or as root before it sends a byte. Starts neither a thread nor a
    /// runtime.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidName`]: the address is malformed.
    /// - [`ErrorKind::NoServer`]: no server has the name, or its server does not offer the demanded transport.
    /// - [`ErrorKind::Refused`]: the server rejected the connection. Over `unix` and `packet` connecting does not
    ///   involve the server: a refusal is the error of the first `recv`, `send` or `flush` that finds the connection
    ///   ended, of the kind `Refused` or [`ErrorKind::Busy`].
    /// - [`ErrorKind::Denied`]: the server belongs to another user, or the system denies access to it.
    /// - [`ErrorKind::Busy`], [`ErrorKind::TimedOut`]: the server exists but did not accept the client before the
    ///   deadline. If the server offers several transports, a client whose address selects none continues with the next
    ///   one after `Busy`. Over `packet` and `unix` its first `recv` or `send` then reports that the server is full.
    /// - [`ErrorKind::UnsafeDirectory`]: another user could tamper with a directory that the server may be in. Such a
    ///   directory is not entered, and no other directory has the server.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let mut connection = parlour::Connection::connect("echo")?;
    /// connection.send(b"hello")?;
    /// let reply = connection.recv()?.expect("the server answers");
    /// assert_eq!(reply, b"hello");
    /// # Ok::<(), parlour::Error>(())
    /// ```
    #[doc(alias = "connect_to")]
    pub fn connect(address: impl AsRef<str>) -> Result<Self> {
        ConnectOptions::default().connect(address)
    }
}

impl ConnectOptions {
    /// Connects to the server of this name, with these options. See [`Connection::connect`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::connect`], and:
    ///
    /// - [`ErrorKind::InvalidOption`]: a value is outside the range that its setter states.
    pub fn connect(&self, address: impl AsRef<str>) -> Result<Connection> {
        connect(address.as_ref(), self)
    }
}

/// Connects to an address that is not parsed yet.
fn connect(address: &str, options: &ConnectOptions) -> Result<Connection> {
    finish(Connecting::new(address, options)?)
}

/// Takes all steps, and sleeps between them.
fn finish(connecting: Connecting) -> Result<Connection> {
    let mut connecting = Connecting { may_sleep: true, ..connecting };
    loop {
        if let Some(connection) = connecting.step()? {
            return Ok(connection);
        }
        connecting.wait_set().sleep().map_err(|error| connecting.failed(error))?;
    }
}

/// A connection attempt in progress. Dropping it before it is complete leaves no file behind.
pub(crate) struct Connecting {
    address: Address,
    /// The name in quotes, for messages.
    display_name: Arc<str>,
    config: ConnectConfig,
    timeout: Duration,
    spin_limit: u32,
    /// The deadline for a server to appear.
    wait_deadline: Deadline,
    /// The deadline for a server that exists to complete the connection.
    deadline: Deadline,
    /// The next pause before a busy server is tried again.
    rest: Duration,
    /// An attempt at a busy server is not repeated.
    once: bool,
    /// The caller is a thread that may sleep in an attempt, and not only between two.
    may_sleep: bool,
    /// The reason why the server has not accepted the connection so far.
    no_time: Option<Error>,
    watch: Option<Watch>,
    /// The place that the first round tries, and no other.
    kept: Option<Arc<Kept>>,
    state: State,
}

enum State {
    /// A round through the bases begins.
    Scan,
    /// A handshake waits for the server's answer.
    Handshake(Box<Round>, Handshake),
    /// A server exists and is busy. It is tried again at this time.
    Backoff(Deadline),
    /// No server was found. The watch reports a change in a directory where one may appear.
    Watch,
    /// The watch has reported a change. The directories are searched at this time.
    Debounce(Deadline),
}

impl Connecting {
    pub(crate) fn new(address: &str, options: &ConnectOptions) -> Result<Self> {
        options.check()?;
        let address = Address::parse(address)?;
        let display_name = format!("'{}'", address.name()).into();
        Ok(Self::to(address, display_name, options))
    }

    /// Creates an attempt from options that were checked, and the name in quotes.
    fn to(address: Address, display_name: Arc<str>, options: &ConnectOptions) -> Self {
        Self {
            display_name,
            address,
            config: options.config(),
            timeout: options.timeout,
            spin_limit: options.spin_limit,
            wait_deadline: Deadline::after(options.wait_for_server),
            deadline: Deadline::after(options.timeout),
            rest: REST_MIN,
            once: false,
            may_sleep: false,
            no_time: None,
            watch: None,
            kept: None,
            state: State::Scan,
        }
    }

    /// Creates an attempt of a caller that decides by itself whether and when to try again: it ends with the first
    /// round.
    pub(crate) fn once(address: &str, options: &ConnectOptions) -> Result<Self> {
        Ok(Self { once: true, wait_deadline: Deadline::now(), ..Self::new(address, options)? })
    }

    /// Advances as far as that is possible without waiting. Returns `None` if the caller has to wait for
    /// [`wait_set`](Self::wait_set) first. An error is final.
    pub(crate) fn step(&mut self) -> Result<Option<Connection>> {
        loop {
            match std::mem::replace(&mut self.state, State::Scan) {
                State::Scan => {
                    let round = match self.kept.take() {
                        Some(kept) => Round::in_kept(kept, &self.address),
                        None => Round::new(&self.address, &self.config)?,
                    };
                    if let Some(link) = self.go_on(Box::new(round), None)? {
                        return Ok(Some(self.connected(link)));
                    }
                }
                State::Handshake(round, handshake) => {
                    if let Some(link) = self.go_on(round, Some(handshake))? {
                        return Ok(Some(self.connected(link)));
                    }
                    if matches!(self.state, State::Handshake(..)) {
                        return Ok(None);
                    }
                }
                State::Backoff(until) if !until.is_over() => {
                    self.state = State::Backoff(until);
                    return Ok(None);
                }
                State::Backoff(_) => match self.no_time.take() {
                    // An attempt without time would fail because of that alone, and hide this reason.
                    Some(error) if self.deadline.is_over() => return Err(error),
                    error => self.no_time = error,
                },
                State::Watch => match &self.watch {
                    Some(watch) if !self.wait_deadline.is_over() && !watch.has_seen_something() => {
                        self.state = State::Watch;
                        return Ok(None);
                    }
                    // A base may be a busy directory, and most changes in it are unrelated to this name.
                    _ => self.state = State::Debounce(self.wait_deadline.or_after(REST_MIN)),
                },
                State::Debounce(until) if !until.is_over() => {
                    self.state = State::Debounce(until);
                    return Ok(None);
                }
                State::Debounce(_) => self.watch_anew()?,
            }
        }
    }

    /// Continues a round. If it returns `None`, `self.state` contains the next step.
    fn go_on(&mut self, mut round: Box<Round>, handshake: Option<Handshake>) -> Result<Option<Link>> {
        match round.go_on(&self.address, &self.config, self.deadline, handshake) {
            Ok(Progress::Done(link)) => return Ok(Some(*link)),
            Ok(Progress::Waiting(handshake)) => self.state = State::Handshake(round, handshake),
            // An attempt with too little time fails because of that alone; an earlier reason is better.
            Err(Attempt::Failed(error)) if error.kind() == ErrorKind::TimedOut => {
                return Err(self.no_time.take().unwrap_or(error));
            }
            Err(Attempt::Failed(error)) => return Err(error),
            Err(Attempt::Again(error)) if self.once => return Err(error),
            Err(Attempt::Again(error)) => {
                self.no_time = Some(error);
                self.state = State::Backoff(self.deadline.or_after(self.pause()));
                self.config.may_sleep = self.may_sleep;
            }
            // The server has ended since the search, or another base has one.
            Err(Attempt::Absent(_)) if round.is_kept() => self.state = State::Scan,
            Err(Attempt::Absent(error)) if self.wait_deadline.is_over() => return Err(error),
            Err(Attempt::Absent(_)) if self.watch.is_some() => self.state = State::Watch,
            // A server that appears between the attempt and the start of the watch is found by the next attempt.
            Err(Attempt::Absent(_)) => self.watch_anew()?,
        }
        Ok(None)
    }

    /// Returns the pause before the next attempt. It doubles each time. As the deadline approaches it becomes shorter
    /// again: a client that has waited for long tries more often than one that has just come.
    fn pause(&mut self) -> Duration {
        let pause = self.rest;
        self.rest = (self.rest * 2).min(REST_MAX);
        self.deadline.left().map_or(pause, |left| pause.min((left / PAUSES_LEFT).max(LAST_PAUSE_MIN)))
    }

    /// Watches the directories as they are now, and starts another round.
    fn watch_anew(&mut self) -> Result<()> {
        self.watch.get_or_insert_with(|| Watch::new(Changes::Arrivals)).renew(&self.address, self.config.server_uid)?;
        self.deadline = Deadline::after(self.timeout);
        self.rest = REST_MIN;
        self.config.may_sleep = false;
        self.no_time = None;
        self.state = State::Scan;
        Ok(())
    }

    fn connected(&self, link: Link) -> Connection {
        tracing::debug!(address = %escaped(&self.address.to_string()), transport = %link.transport, peer = %link.peer, "connected");
        Connection::new(link, Arc::clone(&self.display_name), self.spin_limit)
    }

    /// Returns the events and the deadline that the next step waits for.
    pub(crate) fn wait_set(&self) -> WaitSet<'_> {
        match &self.state {
            State::Scan => WaitSet::until(Deadline::after(Duration::ZERO)),
            State::Handshake(_, handshake) => handshake.wait_set(),
            State::Backoff(until) | State::Debounce(until) => WaitSet::until(*until),
            State::Watch => match &self.watch {
                Some(watch) => watch.wait_set(self.wait_deadline),
                None => WaitSet::until(Deadline::after(Duration::ZERO)),
            },
        }
    }

    /// Returns the name in quotes, for messages.
    #[allow(dead_code, reason = "for the APIs that are features")]
    pub(crate) fn object(&self) -> &str {
        &self.display_name
    }

    /// Returns the error for a failure while waiting.
    pub(crate) fn failed(&self, error: std::io::Error) -> Error {
        Error::io(Operation::Connect, &*self.display_name, error)
    }
}
