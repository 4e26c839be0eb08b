//! Both ends of a connection in one process, and connections with a child process.

use std::thread;
use std::time::Instant;

use parlour::{ConnectOptions, ErrorKind, ServerOptions, ShutdownHandle};

use super::api::{Connection, Receiver, Sender, Server, Setting};
use crate::support::{Base, Child, DEADLINE, SOON};

/// A server and both ends of one of its connections. The base is the last field, so it is dropped last.
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
        let (client, served) = connect_pair(setting, &server, &address, client);
        assert_eq!((client.transport(), served.transport()), (setting.transport, setting.transport));
        Self { client, served, server, address, base }
    }
}

/// Returns both ends of a connection: a client and an accepted connection without their server, or a pair.
pub fn ends(setting: Setting) -> (Connection, Connection) {
    ends_with(setting, &ServerOptions::new(), &ConnectOptions::new())
}

/// Returns both ends of a connection with these options. A pair has those of the client.
pub fn ends_with(setting: Setting, server: &ServerOptions, client: &ConnectOptions) -> (Connection, Connection) {
    if setting.is_pair {
        let (one, other) = setting.pair(client).unwrap();
        assert_eq!((one.transport(), other.transport()), (setting.transport, setting.transport));
        return (one, other);
    }
    let link = Link::with(setting, server, client);
    (link.client, link.served)
}

/// Connects a new client to the server. Returns the end of the client and the end of the server.
pub fn connect_pair(
    setting: Setting,
    server: &Server,
    address: &str,
    options: &ConnectOptions,
) -> (Connection, Connection) {
    thread::scope(|scope| {
        let client = scope.spawn(|| setting.connect_with(options, address).unwrap());
        let served = server.accept_timeout(DEADLINE).unwrap();
        (client.join().unwrap(), served)
    })
}

/// Runs the scenario twice, each time with a new connection. The first argument is the client, then the server.
pub fn each_way(setting: Setting, scene: impl Fn(Connection, Connection)) {
    for client_is_first in [true, false] {
        let (client, served) = ends(setting);
        let _note = PanicNote(if client_is_first { "the client" } else { "the server" });
        match client_is_first {
            true => scene(client, served),
            false => scene(served, client),
        }
    }
}

/// Prints which side was the first argument of the scenario if the thread panics.
struct PanicNote(&'static str);

impl Drop for PanicNote {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("(the first argument of the scenario was {})", self.0);
        }
    }
}

/// Splits a connection into its two directions, each with its sender and its receiver.
pub fn directions(client: Connection, served: Connection) -> [(Sender, Receiver); 2] {
    let (to_server, from_server) = client.split();
    let (to_client, from_client) = served.split();
    [(to_server, from_client), (to_client, from_server)]
}

/// A connection of this process with a child process that executes commands; see [`roles`](crate::support::roles).
pub struct WithChild {
    pub connection: Connection,
    pub child: Child,
    pub room: Room,
}

/// The server side of [`WithChild`].
pub struct Room {
    /// The server of this process, if the child is a client.
    pub server: Option<Server>,
    pub address: String,
    pub base: Base,
}

/// The roles that the child of [`WithChild`] can have.
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

/// Sends until that fails with `Disconnected`, which must happen within [`SOON`] and permanently.
///
/// The first send may succeed because other scenarios run at the same time: a child process that another thread has
/// just forked holds copies of all descriptors until its execve(2), and the peer is disconnected when the last copy is
/// closed.
pub fn assert_disconnected(mut send: impl FnMut() -> super::api::Result<()>) {
    let deadline = Instant::now() + SOON;
    let error = loop {
        match send() {
            Err(error) => break error,
            Ok(()) => assert!(Instant::now() < deadline, "sending to a disconnected peer still succeeds"),
        }
    };
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert_eq!(send().unwrap_err().kind(), ErrorKind::Disconnected, "the error is permanent");
}

/// Shuts a server down when it is dropped, so that its threads return even if the scenario panics.
pub struct ShutDownAtEnd(pub ShutdownHandle);

impl Drop for ShutDownAtEnd {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}
