//! Finding a server by its name: through the bases, through the transports on offer, and until it is there.
//!
//! Connecting is a value that goes on in steps and never waits itself: it says what it waits for. So one mechanism serves
//! every API; the blocking one sleeps in poll(2) between the steps.

mod round;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use self::round::Round;
use self::watch::Watch;
use crate::address::Address;
use crate::backend::attempt::{Attempt, Progress};
use crate::backend::config::ConnectConfig;
use crate::backend::{Handshake, Link};
use crate::connection::Connection;
use crate::error::{Error, ErrorKind, Result};
use crate::options::ConnectOptions;
use crate::wait::{Deadline, WaitSet};

/// How long to rest between two attempts at a server that is there and has no time: as short as a server that is about
/// to listen needs, and growing.
const REST_MIN: Duration = Duration::from_millis(1);
const REST_MAX: Duration = Duration::from_millis(200);

impl Connection {
    /// Connects to the server with this name, with the defaults of [`ConnectOptions`].
    ///
    /// SpinBudget through the base directories in order, takes the best transport on offer if the address demands none, and
    /// makes sure that the server runs as this user or root before a byte is sent. Runs no thread and no runtime.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidName`]: the address is not one.
    /// - [`ErrorKind::NoServer`]: nobody has the name, or not over this transport.
    /// - [`ErrorKind::Refused`]: the server said no. On `unix` a server that refuses can only end the connection: the
    ///   first `recv` shows it, as `None` or as [`ErrorKind::Disconnected`].
    /// - [`ErrorKind::Denied`]: the server is another user's, or the system does not let us in.
    /// - [`ErrorKind::Busy`], [`ErrorKind::TimedOut`]: the server is there and had no time until the deadline.
    /// - [`ErrorKind::UnsafeDirectory`]: somebody else could interfere with a directory where the server may be.
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
    /// Connects. See [`Connection::connect`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::connect`], and [`ErrorKind::InvalidOption`] for a value outside the range that its setter
    /// states.
    pub fn connect(&self, address: impl AsRef<str>) -> Result<Connection> {
        connect(address.as_ref(), self)
    }
}

/// Connects, sleeping in between.
fn connect(address: &str, options: &ConnectOptions) -> Result<Connection> {
    let mut connecting = Connecting::new(address, options)?;
    loop {
        if let Some(connection) = connecting.step()? {
            return Ok(connection);
        }
        connecting.wait_set().sleep().map_err(|error| connecting.failed(error))?;
    }
}

/// A connection that is being made. Dropped before it is done it leaves no file behind.
pub(crate) struct Connecting {
    address: Address,
    /// The name in quotes, for messages.
    display_name: Arc<str>,
    config: ConnectConfig,
    timeout: Duration,
    spin_limit: u32,
    /// Until when a server may appear.
    wait_deadline: Deadline,
    /// Until when a server that is there has to let us in.
    deadline: Deadline,
    rest: Duration,
    /// Why the server that is there has not let us in so far.
    no_time: Option<Error>,
    watch: Option<Watch>,
    state: State,
}

enum State {
    /// A round through the bases begins.
    Scan,
    /// It waits for an answer.
    Handshake(Box<Round>, Handshake),
    /// A server is there and had no time; at this time it is tried again.
    Backoff(Deadline),
    /// Nobody is there, until something happens where a server could appear.
    Watch,
    /// Something has; at this time it is looked at.
    Debounce(Deadline),
}

impl Connecting {
    pub(crate) fn new(address: &str, options: &ConnectOptions) -> Result<Self> {
        options.check()?;
        let address = Address::parse(address)?;
        Ok(Self {
            display_name: format!("'{}'", address.name()).into(),
            address,
            config: options.config(),
            timeout: options.timeout,
            spin_limit: options.spin_limit,
            wait_deadline: Deadline::after(options.wait_for_server),
            deadline: Deadline::after(options.timeout),
            rest: REST_MIN,
            no_time: None,
            watch: None,
            state: State::Scan,
        })
    }

    /// Goes on as far as that is possible without waiting. `None`: what there is to wait for, [`wait_set`](Self::wait_set) says.
    ///
    /// An error is final.
    pub(crate) fn step(&mut self) -> Result<Option<Connection>> {
        loop {
            match std::mem::replace(&mut self.state, State::Scan) {
                State::Scan => {
                    let round = Round::new(&self.address)?;
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
                    // An attempt without time would fail for that alone, and hide the reason.
                    Some(error) if self.deadline.is_over() => return Err(error),
                    error => self.no_time = error,
                },
                State::Watch => match &self.watch {
                    Some(watch) if !self.wait_deadline.is_over() && !watch.has_seen_something() => {
                        self.state = State::Watch;
                        return Ok(None);
                    }
                    // The bases are busy directories at times; what happens there need not concern us.
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

    /// Goes on with a round. `None`: the state says what comes next.
    fn go_on(&mut self, mut round: Box<Round>, handshake: Option<Handshake>) -> Result<Option<Link>> {
        match round.go_on(&self.address, &self.config, self.deadline, handshake) {
            Ok(Progress::Done(link)) => return Ok(Some(*link)),
            Ok(Progress::Waiting(handshake)) => self.state = State::Handshake(round, handshake),
            // So does one that has too little time.
            Err(Attempt::Failed(error)) if error.kind() == ErrorKind::TimedOut => {
                return Err(self.no_time.take().unwrap_or(error));
            }
            Err(Attempt::Failed(error)) => return Err(error),
            Err(Attempt::Again(error)) => {
                self.no_time = Some(error);
                self.state = State::Backoff(self.deadline.or_after(self.rest));
                self.rest = (self.rest * 2).min(REST_MAX);
            }
            Err(Attempt::Absent(error)) if self.wait_deadline.is_over() => return Err(error),
            Err(Attempt::Absent(_)) if self.watch.is_some() => self.state = State::Watch,
            // What appears between an attempt and the watch is found by the next attempt.
            Err(Attempt::Absent(_)) => self.watch_anew()?,
        }
        Ok(None)
    }

    /// Watches what is there now, and has it looked at once more.
    fn watch_anew(&mut self) -> Result<()> {
        self.watch.get_or_insert_with(Watch::new).renew(&self.address)?;
        self.deadline = Deadline::after(self.timeout);
        self.rest = REST_MIN;
        self.no_time = None;
        self.state = State::Scan;
        Ok(())
    }

    fn connected(&self, link: Link) -> Connection {
        tracing::debug!(address = %self.address, transport = %link.transport, peer = %link.peer, "connected");
        Connection::new(link, Arc::clone(&self.display_name), self.spin_limit)
    }

    /// What the next step waits for.
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

    /// The name in quotes, for messages.
    #[allow(dead_code, reason = "for the APIs that are features")]
    pub(crate) fn object(&self) -> &str {
        &self.display_name
    }

    /// The error for what went wrong while waiting.
    pub(crate) fn failed(&self, error: std::io::Error) -> Error {
        Error::io("connect to", &*self.display_name, error)
    }
}
