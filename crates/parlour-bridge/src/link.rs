//! The state of a control connection between two hosts, without I/O.
//!
//! The host that dials imports, and the host that was dialled exports. Two hosts that import from each other have two
//! links. Only the exporter names names on a link. The loss of a link ends the conversations that belong to it, on both
//! hosts: a stopped host, whose kernel goes on acknowledging, is noticed in no other way.
//!
//! Each method that reports an event returns the actions that follow from it. The driver carries them out in order.
//! Times are durations since any moment of a clock that never goes back. After [`Action::Down`] nothing follows.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::identity::{Host, Instance, Name};
use crate::wire::control::{BadFrame, Endpoint, Frame, FrameReader, Hello};

/// The lease if none is configured. With 2 s, a cut of 1 s can be too long, because TCP doubles its waits.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(5);

/// The shortest lease. A shorter one would make a host send more than four pings a second for each peer.
pub const LEASE_MIN: Duration = Duration::from_secs(1);

/// The longest lease.
pub const LEASE_MAX: Duration = Duration::from_secs(300);

/// The time within which the hello of the peer must have arrived.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of names on one link.
pub const NAMES_MAX: usize = 65_536;

/// The side of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// This host has dialled.
    Importer,
    /// This host was dialled.
    Exporter,
}

/// This host, as its hello describes it.
#[derive(Clone, Debug)]
pub struct Myself {
    /// The host.
    pub host: Host,
    /// This run of the bridge.
    pub instance: Instance,
    /// The endpoint at which other hosts dial this one.
    pub endpoint: Endpoint,
    /// The lease, from [`LEASE_MIN`] to [`LEASE_MAX`].
    pub lease: Duration,
}

/// The driver's next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sends the frame.
    Send(Frame),
    /// The peer is there.
    Up(Hello),
    /// The exporter exports this name to this host.
    Exported(Name),
    /// The exporter does not export this name any more.
    Withdrawn(Name),
    /// The peer ends in order. This host opens nothing new with it.
    Quits,
    /// Closes the connection. The conversations of the link have ended.
    Down(Down),
}

/// The reason for the end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// The connection has ended.
    End,
    /// The connection has ended after the peer had announced that.
    Quit,
    /// Nothing arrived for this time.
    Silence(Duration),
    /// The peer sent something that is not a frame.
    BadFrame(BadFrame),
    /// The peer sent a frame that is not due from it, of this kind.
    Unexpected(&'static str),
    /// The hello names another host than the certificate.
    WrongHost(Host),
    /// The peer is this bridge itself.
    Myself,
    /// The lease of the peer is out of range.
    Lease(Duration),
    /// The peer exports more than [`NAMES_MAX`] names.
    Names,
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("the connection has ended"),
            Self::Quit => f.write_str("the bridge there has ended the link in order"),
            Self::Silence(time) => write!(f, "nothing arrived for {} ms", time.as_millis()),
            Self::BadFrame(bad) => write!(f, "the peer sent {bad}"),
            Self::Unexpected(kind) => write!(f, "the peer sent {kind}, which is not due"),
            Self::WrongHost(host) => write!(f, "the peer calls itself {host}, and its certificate does not"),
            Self::Myself => f.write_str("the peer is this bridge itself"),
            Self::Lease(lease) => write!(
                f,
                "the lease of the peer is {} ms (allowed: {} to {} ms)",
                lease.as_millis(),
                LEASE_MIN.as_millis(),
                LEASE_MAX.as_millis()
            ),
            Self::Names => write!(f, "the peer exports more than {NAMES_MAX} names"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The hello of the peer has not arrived. It is due at this time.
    Greeting {
        due: Duration,
    },
    Up,
    /// The peer has announced its end.
    Quitting,
    Down,
}

/// A control connection.
#[derive(Debug)]
pub struct Link {
    role: Role,
    myself: Myself,
    /// The host of the certificate.
    peer: Host,
    state: State,
    /// The shorter lease of both sides, once both are known.
    lease: Duration,
    reader: FrameReader,
    /// The time at which something arrived last, and that at which something was sent last.
    heard: Duration,
    sent: Duration,
    /// The names that this host exports to the peer, or that the peer exports to this host.
    names: BTreeSet<Name>,
    has_quit: bool,
}

impl Link {
    /// Begins a link over a new connection. `peer` is the host of the certificate. `names` are those that this host
    /// exports to the peer, and none if it is the importer.
    #[must_use]
    pub fn new(role: Role, myself: Myself, peer: Host, names: BTreeSet<Name>, now: Duration) -> (Self, Vec<Action>) {
        let hello = Frame::Hello(Hello {
            instance: myself.instance,
            host: myself.host.clone(),
            endpoint: myself.endpoint.clone(),
            lease: myself.lease,
        });
        let link = Self {
            role,
            lease: myself.lease,
            myself,
            peer,
            state: State::Greeting { due: now + HELLO_TIMEOUT },
            reader: FrameReader::default(),
            heard: now,
            sent: now,
            names,
            has_quit: false,
        };
        (link, vec![Action::Send(hello)])
    }

    /// Returns the host of the certificate of the peer.
    #[must_use]
    pub fn peer(&self) -> &Host {
        &self.peer
    }

    /// Returns the time at which [`tick`](Self::tick) is due, or `None` if the link is down.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Greeting { due } => Some(due),
            State::Up | State::Quitting => Some((self.heard + self.lease).min(self.sent + self.lease / 4)),
            State::Down => None,
        }
    }

    /// This host was too busy to read until now. The silence of the peer counts from now on.
    pub fn was_held_up(&mut self, now: Duration) {
        self.heard = self.heard.max(now);
    }

    /// Bytes have arrived.
    pub fn receive(&mut self, bytes: &[u8], now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.state == State::Down {
            return actions;
        }
        // A process that was stopped finds old bytes. The peer has given it up.
        self.expire(now, &mut actions);
        self.heard = now;
        self.reader.push(bytes);
        while self.state != State::Down {
            match self.reader.next() {
                Ok(Some(frame)) => self.hear(frame, now, &mut actions),
                Ok(None) => break,
                Err(bad) => self.go_down(Down::BadFrame(bad), &mut actions),
            }
        }
        actions
    }

    fn hear(&mut self, frame: Frame, now: Duration, actions: &mut Vec<Action>) {
        let greeted = !matches!(self.state, State::Greeting { .. });
        match (frame, self.role) {
            (Frame::Hello(hello), _) if !greeted => self.greet(hello, now, actions),
            (Frame::Hello(_), _) => self.go_down(Down::Unexpected("a second hello"), actions),
            (_, _) if !greeted => self.go_down(Down::Unexpected("a frame before its hello"), actions),
            (Frame::Export(_) | Frame::Withdraw(_), Role::Exporter) => {
                self.go_down(Down::Unexpected("a name, although it imports"), actions);
            }
            (Frame::Export(name), Role::Importer) => {
                if self.names.len() >= NAMES_MAX && !self.names.contains(&name) {
                    self.go_down(Down::Names, actions);
                } else if self.names.insert(name.clone()) {
                    actions.push(Action::Exported(name));
                }
            }
            (Frame::Withdraw(name), Role::Importer) => {
                if self.names.remove(&name) {
                    actions.push(Action::Withdrawn(name));
                }
            }
            (Frame::Ping, _) => {}
            (Frame::Quit, _) => {
                if self.state == State::Up {
                    self.state = State::Quitting;
                    actions.push(Action::Quits);
                }
            }
        }
    }

    fn greet(&mut self, hello: Hello, now: Duration, actions: &mut Vec<Action>) {
        if hello.host != self.peer {
            return self.go_down(Down::WrongHost(hello.host), actions);
        }
        if hello.host == self.myself.host || hello.instance == self.myself.instance {
            return self.go_down(Down::Myself, actions);
        }
        if hello.lease < LEASE_MIN || hello.lease > LEASE_MAX {
            return self.go_down(Down::Lease(hello.lease), actions);
        }
        // Neither side waits longer for the other one than its own configuration says.
        self.lease = hello.lease.min(self.myself.lease);
        self.state = State::Up;
        actions.push(Action::Up(hello));
        if self.role == Role::Exporter {
            for name in self.names.clone() {
                self.send(Frame::Export(name), now, actions);
            }
        }
        if self.has_quit {
            self.send(Frame::Quit, now, actions);
        }
    }

    /// The connection has ended, or has failed.
    pub fn end(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        let down = if self.state == State::Quitting { Down::Quit } else { Down::End };
        self.go_down(down, &mut actions);
        actions
    }

    /// Looks at the clock: sends a ping, or gives the peer up.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        self.expire(now, &mut actions);
        if matches!(self.state, State::Up | State::Quitting) && now >= self.sent + self.lease / 4 {
            self.send(Frame::Ping, now, &mut actions);
        }
        actions
    }

    fn expire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let expired = match self.state {
            State::Greeting { due } => now >= due,
            State::Up | State::Quitting => now >= self.heard + self.lease,
            State::Down => false,
        };
        if expired {
            self.go_down(Down::Silence(now.saturating_sub(self.heard)), actions);
        }
    }

    /// The server of a name that is exported to the peer is there.
    pub fn export(&mut self, name: Name, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.names.insert(name.clone()) {
            self.send(Frame::Export(name), now, &mut actions);
        }
        actions
    }

    /// The server of a name has gone.
    pub fn withdraw(&mut self, name: Name, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.names.remove(&name) {
            self.send(Frame::Withdraw(name), now, &mut actions);
        }
        actions
    }

    /// This bridge ends in order: the peer shall open nothing new.
    pub fn quit(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if !self.has_quit {
            self.has_quit = true;
            self.send(Frame::Quit, now, &mut actions);
        }
        actions
    }

    /// Sends a frame to a peer that has said hello. Otherwise the hello of the peer makes up for it.
    fn send(&mut self, frame: Frame, now: Duration, actions: &mut Vec<Action>) {
        if matches!(self.state, State::Up | State::Quitting) {
            self.sent = now;
            actions.push(Action::Send(frame));
        }
    }

    fn go_down(&mut self, down: Down, actions: &mut Vec<Action>) {
        if self.state != State::Down {
            self.state = State::Down;
            actions.push(Action::Down(down));
        }
    }
}

#[cfg(test)]
mod tests;
