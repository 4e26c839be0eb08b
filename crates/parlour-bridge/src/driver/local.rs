//! The servers of this host, and the sockets of its clients and servers.

use std::io;
use std::time::Duration;

use parlour::inspect::{NameState, NameStatus};
use parlour::tokio::Connection;
use parlour::{ConnectOptions, ConnectionGuard, Error, ErrorKind, Peer, RawFds, Transport};
use tokio::net::UnixStream;

use super::adapted::{self, Adapted};
use crate::boundary::Passed;
use crate::files::holders::{self, holders};
use crate::identity::{Host, Name};
use crate::wire::conversation::{Origin, Refusal};

/// The time for a connection to a server of this host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The socket of a client or a server of this host.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) stream: UnixStream,
    /// The connection that the socket stands for, unless that is one over `unix`.
    adapted: Option<Adapted>,
    /// Keeps the client counted by its server. Dropped after the stream.
    guard: ConnectionGuard,
}

impl Local {
    /// Counts what was written to the peer, and what it has sent, in the counters of a name that this bridge holds. (A
    /// connection in whose place this one is counts by itself.)
    pub(super) fn count(&self, sent: Passed, received: Passed) {
        self.guard.count_sent(sent.messages, sent.bytes);
        self.guard.count_received(received.messages, received.bytes);
    }

    /// Closes the socket, and waits until the peer has got what was written to it.
    pub(super) async fn close(self) {
        drop(self.stream);
        if let Some(adapted) = self.adapted {
            adapted.finish().await;
        }
    }
}

/// Takes the socket of a connection. If that is not possible, the peer gets an error.
pub(super) fn local(connection: Connection) -> io::Result<Local> {
    let (connection, adapted) = match connection.transport() {
        Transport::Unix => (connection, None),
        _ => adapted::adapt(connection).map(|(connection, adapted)| (connection, Some(adapted)))?,
    };
    let parts = match connection.into_raw_parts() {
        Ok(parts) => parts,
        Err(failed) => {
            failed.connection.abort();
            // The peer gets the error of the pair.
            adapted.map(|adapted| tokio::spawn(adapted.finish()));
            return Err(io::Error::other(failed.error));
        }
    };
    let RawFds::Unix(socket) = parts.fds else { return Err(io::ErrorKind::Unsupported.into()) };
    Ok(Local { stream: UnixStream::from_std(socket.into())?, adapted, guard: parts.guard })
}

/// Returns the description of a client of this host for the exporter.
pub(super) fn origin(client: &Connection) -> Origin {
    let peer = client.peer();
    Origin { uid: peer.uid().unwrap_or(u32::MAX), pid: peer.pid().unwrap_or(0), program: program(peer) }
}

/// Returns the name of the program of a client, as `/proc` shows it, or nothing.
fn program(peer: &Peer) -> Vec<u8> {
    let Some(pid) = peer.pid() else { return Vec::new() };
    let mut name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.truncate(name.iter().position(|&byte| byte == b'\n').unwrap_or(name.len()));
    name
}

/// Returns the origin to show to a server of this host: the certificate states the host, and the other bridge claims
/// the rest.
fn shown(host: &Host, origin: &Origin) -> parlour::Origin {
    let mut shown = parlour::Origin::new(host.as_str()).with_program(String::from_utf8_lossy(&origin.program));
    // The importer sends these for what it does not know.
    if origin.uid != u32::MAX {
        shown = shown.with_uid(origin.uid);
    }
    if origin.pid != 0 {
        shown = shown.with_pid(origin.pid);
    }
    shown
}

/// Connects to the server of a name of this host, for a client of another host. The server is one of this user or of
/// root, or, with `uid`, of that user alone.
pub(super) async fn connect(
    name: Name,
    uid: Option<u32>,
    host: &Host,
    origin: &Origin,
) -> Result<Connection, (Refusal, String)> {
    let mut options = ConnectOptions::new().timeout(CONNECT_TIMEOUT).origin(shown(host, origin));
    let mut address = name.to_string();
    if let Some(uid) = uid {
        options = options.server_uid(uid);
        // The search of the library would end at a server of another user.
        let statuses = holders(&name, Some(uid)).map_err(|error| refusal(&error))?;
        let Some(status) = statuses.iter().find(|status| may_be_served(status)) else {
            return Err((Refusal::NoServer, format!("no server of the user {uid} has the name {name}")));
        };
        address = holders::address(status);
    }
    // The others cost copies.
    let connected = match options.connect_tokio(format!("unix:{address}")).await {
        Err(error) if error.kind() == ErrorKind::NoServer => options.connect_tokio(address).await,
        connected => connected,
    };
    connected.map_err(|error| refusal(&error))
}

fn refusal(error: &Error) -> (Refusal, String) {
    let refusal = match error.kind() {
        ErrorKind::NoServer => Refusal::NoServer,
        ErrorKind::Busy | ErrorKind::TimedOut => Refusal::Busy,
        _ => Refusal::Refused,
    };
    (refusal, error.to_string())
}

/// Returns true if there may be a server, to which a client can connect.
fn may_be_served(status: &NameStatus) -> bool {
    let may_live = matches!(status.state, NameState::Live | NameState::Waiting | NameState::Foreign);
    may_live && !status.transports.is_empty()
}

/// The holder of a name of this host. No process number decides that it is this bridge: the holder may be in another
/// PID namespace, with the number of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Nobody,
    /// A bridge, which yields the name to a server.
    Bridge,
    Server,
}

/// Returns the holder of a name, of the users that [`connect`] accepts. Fails if a system call failed, such as for want
/// of descriptors: then it is not known.
pub(super) fn holder(name: &Name, uid: Option<u32>) -> parlour::Result<Holder> {
    let statuses = match holders(name, uid) {
        Ok(statuses) => statuses,
        Err(error) if error.kind() == ErrorKind::Io => return Err(error),
        Err(_) => return Ok(Holder::Nobody),
    };
    let mut found = Ok(Holder::Nobody);
    for status in statuses {
        if may_be_served(&status) {
            let is_bridge = status.owner.is_some_and(|owner| owner.yields);
            return Ok(if is_bridge { Holder::Bridge } else { Holder::Server });
        }
        match status.state {
            NameState::Unsafe(error) if error.kind() == ErrorKind::Io => found = Err(error),
            _ => {}
        }
    }
    found
}
