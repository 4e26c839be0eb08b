//! Both ends of a connection in one process, for scenarios that need no more.

use std::thread;
use std::time::Instant;

use parlour::{ConnectOptions, ErrorKind, ServerOptions, ShutdownHandle};

use super::api::{Connection, Receiver, Sender, Server, Setting};
use crate::support::{Base, Child, DEADLINE, SOON};

/// A server and one of its connections, both ends. (The base is last, so that it outlives the rest.)
pub struct Link {
    pub client: Connection,
    /// The server's end.
    pub served: Connection,
    pub server: Server,
    pub address: String,
    pub base: Base,
}

impl Link {
    pub fn new(setting: Setting) -> Self {
        Self::with(setting, &ServerOptions::new(), &ConnectOptions::new())
    }

    pub fn with(setting: Setting, server: &ServerOptions, client: &ConnectOptions) -> Self {
        let base = Base::new();
        let address = setting.address(&base, "room");
        let server = setting.bind_with(server, &address).unwrap();
        let (client, served) = meet(setting, &server, &address, client);
        assert_eq!((client.transport(), served.transport()), (setting.transport, setting.transport));
        Self { client, served, server, address, base }
    }

    /// The two ends, with the server gone.
    pub fn ends(self) -> (Connection, Connection) {
        (self.client, self.served)
    }
}

/// One more connection of a server: the client's end and its own.
pub fn meet(setting: Setting, server: &Server, address: &str, options: &ConnectOptions) -> (Connection, Connection) {
    thread::scope(|scope| {
        let client = scope.spawn(|| setting.connect_with(options, address).unwrap());
        let served = server.accept_timeout(DEADLINE).unwrap();
        (client.join().unwrap(), served)
    })
}

/// Plays a scene twice, each time with a new connection: with the client as its first part, and with the server.
pub fn each_way(setting: Setting, scene: impl Fn(Connection, Connection)) {
    for client_is_first in [true, false] {
        let (client, served) = Link::new(setting).ends();
        let _told = Told(if client_is_first { "the client" } else { "the server" });
        match client_is_first {
            true => scene(client, served),
            false => scene(served, client),
        }
    }
}

/// Says in a panic who played the first part.
struct Told(&'static str);

impl Drop for Told {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("({} played the first part)", self.0);
        }
    }
}

/// The two directions of a connection, each with its sender and its receiver.
pub fn directions(client: Connection, served: Connection) -> [(Sender, Receiver); 2] {
    let (to_server, from_server) = client.split();
    let (to_client, from_client) = served.split();
    [(to_server, from_client), (to_client, from_server)]
}

/// A connection of this process with a child that is told what to do; see [`roles`](crate::support::roles).
pub struct WithChild {
    pub connection: Connection,
    pub child: Child,
    pub room: Room,
}

/// Where they met.
pub struct Room {
    /// Of this process, when the child is a client.
    pub server: Option<Server>,
    pub address: String,
    pub base: Base,
}

/// What the child of [`WithChild`] can be.
pub const CHILD_ROLES: [&str; 2] = ["client", "server"];

impl WithChild {
    pub fn new(setting: Setting, role: &str) -> Self {
        let base = Base::new();
        let address = setting.address(&base, "room");
        let mut child;
        let (server, connection) = if role == "client" {
            let server = setting.bind(&address).unwrap();
            child = Child::spawn("client", &[&address]);
            child.say("connect");
            let connection = server.accept_timeout(DEADLINE).unwrap();
            (Some(server), connection)
        } else {
            child = Child::spawn("server", &[&address]);
            child.expect("ready");
            child.say("accept");
            (None, setting.connect(&address).unwrap())
        };
        let said = child.line();
        assert!(said.starts_with("connected ") || said.starts_with("accepted "), "{said}");
        Self { connection, child, room: Room { server, address, base } }
    }
}

/// Sends until that fails, which must be soon and for good, with `Disconnected`.
///
/// It would be at once if this were the only scenario: a process that another one starts at this very moment has copies
/// of all descriptors until its execve(2), and the end comes when the last copy is closed.
pub fn assert_nobody_reads(mut send: impl FnMut() -> super::api::Result<()>) {
    let deadline = Instant::now() + SOON;
    let error = loop {
        match send() {
            Err(error) => break error,
            Ok(()) => assert!(Instant::now() < deadline, "it goes on sending to nobody"),
        }
    };
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert_eq!(send().unwrap_err().kind(), ErrorKind::Disconnected, "the end stays");
}

/// Has a server's threads come back when a scenario ends, also when it ends in a panic.
pub struct ShutDownAtEnd(pub ShutdownHandle);

impl Drop for ShutDownAtEnd {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}
