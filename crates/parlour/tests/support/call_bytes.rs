//! The messages of the protocol of calls, written by hand after docs/wire.md.
#![allow(dead_code, reason = "not every executable uses all")]

use parlour::{Connection, Message};

use crate::support::DEADLINE;

pub const REQUEST: u8 = 1;
pub const REPLY: u8 = 2;
pub const ITEM: u8 = 3;
pub const END: u8 = 4;
pub const ERROR: u8 = 5;
pub const CANCEL: u8 = 6;
pub const PUSH: u8 = 7;
pub const LEAVE: u8 = 8;

pub const CALLER_GREETING: &[u8] = &[0xc1, 0, 0, 0, 0, 0, 0, 1];
pub const SERVER_GREETING: &[u8] = &[0xc1, 0, 1, 0, 0, 0, 0, 1];

/// Returns a message of this kind.
pub fn message(kind: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    [&[0xc1, kind, 0, 0][..], &id.to_be_bytes(), payload].concat()
}

/// Returns the kind, the id and the payload of a message.
pub fn parse(message: &Message) -> (u8, u32, Vec<u8>) {
    assert_eq!((message[0], &message[2..4]), (0xc1, &[0, 0][..]), "{message:?}");
    (message[1], u32::from_be_bytes(message[4..8].try_into().unwrap()), message[8..].to_vec())
}

/// A server of calls with one client, written by hand.
pub struct HandServer(pub Connection);

impl HandServer {
    /// Exchanges greetings.
    pub fn greet(mut connection: Connection) -> Self {
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), CALLER_GREETING);
        connection.send(SERVER_GREETING).unwrap();
        Self(connection)
    }

    /// Returns the kind, the id and the payload of the next message.
    pub fn recv(&mut self) -> (u8, u32, Vec<u8>) {
        parse(&self.0.recv_timeout(DEADLINE).unwrap().expect("a message"))
    }

    /// Receives a request, and returns its id and its payload.
    pub fn request(&mut self) -> (u32, Vec<u8>) {
        let (kind, id, payload) = self.recv();
        assert_eq!(kind, REQUEST);
        (id, payload)
    }

    pub fn send(&mut self, kind: u8, id: u32, payload: &[u8]) {
        self.0.send(&message(kind, id, payload)).unwrap();
    }
}

/// A caller, written by hand.
pub struct HandCaller(pub Connection);

impl HandCaller {
    /// Connects and exchanges greetings.
    pub fn connect(address: &str) -> Self {
        let mut connection = Connection::connect(address).unwrap();
        connection.send(CALLER_GREETING).unwrap();
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), SERVER_GREETING);
        Self(connection)
    }

    pub fn send(&mut self, kind: u8, id: u32, payload: &[u8]) {
        self.0.send(&message(kind, id, payload)).unwrap();
    }

    /// Returns the kind, the id and the payload of the next message.
    pub fn recv(&mut self) -> (u8, u32, Vec<u8>) {
        parse(&self.0.recv_timeout(DEADLINE).unwrap().expect("a message"))
    }
}
