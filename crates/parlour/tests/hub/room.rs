//! A hub, and helpers that connect clients to it.

use std::thread;

use parlour::hub::{Client, DisconnectReason, Event, Hub, HubOptions};
use parlour::{ConnectOptions, Connection, ErrorKind, Message, Transport, TryRecvError};

use crate::support::{Base, Child, DEADLINE};

/// The base is declared last, so that it outlives the hub.
pub struct Room {
    pub hub: Hub,
    pub address: String,
    pub base: Base,
}

impl Room {
    pub fn new(transport: Transport) -> Self {
        Self::with(transport, &HubOptions::new())
    }

    pub fn with(transport: Transport, options: &HubOptions) -> Self {
        let base = Base::new();
        let address = base.address(transport, "room");
        Self { hub: options.bind(&address).unwrap(), address, base }
    }

    /// Connects a client while nothing else happens. Returns both ends.
    pub fn join(&mut self) -> (Client, Connection) {
        self.join_with(&ConnectOptions::new())
    }

    pub fn join_with(&mut self, options: &ConnectOptions) -> (Client, Connection) {
        let address = &self.address;
        let hub = &mut self.hub;
        thread::scope(|scope| {
            let connecting = scope.spawn(move || options.connect(address).unwrap());
            let client = joined(hub);
            (client, connecting.join().unwrap())
        })
    }

    /// Connects a child process. See [`roles`](crate::support::roles).
    pub fn join_child(&mut self) -> (Client, Child) {
        let mut child = Child::spawn("client", &[&self.address]);
        child.say("connect");
        let client = joined(&mut self.hub);
        let said = child.line();
        assert!(said.starts_with("connected "), "{said}");
        (client, child)
    }

    pub fn event(&mut self) -> Event {
        event(&mut self.hub)
    }

    /// Returns the next event, which must be a message of this client.
    #[track_caller]
    pub fn message(&mut self, from: Client) -> Message {
        match self.event() {
            Event::Message(client, message) if client == from => message,
            other => panic!("not a message of client {from}: {other:?}"),
        }
    }

    /// Returns the reason of the next event, which must be the end of this client.
    #[track_caller]
    pub fn left(&mut self, who: Client) -> DisconnectReason {
        match self.event() {
            Event::Left(client, why) if client == who => why,
            other => panic!("not the end of client {who}: {other:?}"),
        }
    }

    /// Checks that the next event is the end of a client that closes its connection, as [`left`](Self::left) does. One
    /// end of a pair of FIFOs may be seen before the other one, so `Finished` may come first.
    #[track_caller]
    pub fn closed(&mut self, who: Client) {
        match self.event() {
            Event::Finished(client) if client == who => assert!(matches!(self.left(who), DisconnectReason::Closed)),
            Event::Left(client, DisconnectReason::Closed) if client == who => {}
            other => panic!("not the end of client {who}: {other:?}"),
        }
    }

    /// Fails if there is an event.
    #[track_caller]
    pub fn assert_quiet(&mut self) {
        let event = self.hub.try_next_event();
        assert!(matches!(event, Err(TryRecvError::Empty)), "{event:?}");
    }
}

/// Returns the next event. Fails if there is none in time.
#[track_caller]
pub fn event(hub: &mut Hub) -> Event {
    hub.next_event_timeout(DEADLINE).expect("an event")
}

/// Returns the client of the next event, which must be `Joined`.
#[track_caller]
pub fn joined(hub: &mut Hub) -> Client {
    match event(hub) {
        Event::Joined(client, _) => client,
        other => panic!("not a new client: {other:?}"),
    }
}

/// Echoes messages of every client until the hub is shut down. Returns the clients that have left, and the reasons.
pub fn echo(hub: &mut Hub) -> Vec<(Client, DisconnectReason)> {
    let mut left = Vec::new();
    loop {
        match hub.next_event() {
            Ok(Event::Message(client, message)) => hub.send(client, &message).unwrap(),
            Ok(Event::Finished(client)) => hub.finish(client).unwrap(),
            Ok(Event::Left(client, why)) => left.push((client, why)),
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Shutdown, "{error}");
                return left;
            }
        }
    }
}

/// Returns the kind of the error with which a client left.
#[track_caller]
pub fn failure(why: DisconnectReason) -> ErrorKind {
    match why {
        DisconnectReason::Failed(error) => error.kind(),
        other => panic!("the connection has not failed: {other:?}"),
    }
}
