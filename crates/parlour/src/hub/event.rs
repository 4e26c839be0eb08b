//! The events of a hub, and the handles of its clients.

use std::fmt;
use std::iter::FusedIterator;
use std::vec;

use crate::admission::Refusal;
use crate::error::Error;
use crate::message::Message;
use crate::peer::Peer;

/// A handle of one client of a [`Hub`](super::Hub). Its number is unique within the hub: clients are numbered from 1 in
/// the order in which they connected, and a number is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client {
    pub(super) number: u64,
    /// The slot of its connection in the table.
    pub(super) slot: u32,
}

impl Client {
    /// Returns the number of the client, for places that cannot hold a `Client`.
    #[must_use]
    pub fn number(self) -> u64 {
        self.number
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

/// An iterator over the clients of a hub. See [`Hub::clients`](super::Hub::clients).
#[derive(Clone, Debug)]
pub struct Clients(pub(super) vec::IntoIter<Client>);

impl Iterator for Clients {
    type Item = Client;

    fn next(&mut self) -> Option<Client> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Clients {}

impl FusedIterator for Clients {}

/// An event of a hub. Each client that was admitted causes one `Joined`, then its messages, and one `Left`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A client has connected and was admitted.
    Joined(Client, Peer),
    /// A client has sent a message.
    Message(Client, Message),
    /// A client has ended sending (half-close), after all of its messages. It still receives. Its connection stays open
    /// until the client disconnects, or until [`Hub::finish`](super::Hub::finish) or
    /// [`Hub::disconnect`](super::Hub::disconnect) is called: call one of them when there is nothing more to send to
    /// the client. A client that is closing its connection may cause this event right before `Left`.
    Finished(Client),
    /// A client's connection has ended, after all of its messages except where [`DisconnectReason`] says otherwise.
    Left(Client, DisconnectReason),
    /// A client was refused before it joined.
    Refused(Refusal),
    /// [`HubHandle::wake`](super::HubHandle::wake) was called, once or several times.
    Woken,
    /// A client has missed one message or several that a [`HubHandle`](super::HubHandle) had queued, because its write
    /// buffer was full ([`SlowClientPolicy::Refuse`](super::SlowClientPolicy::Refuse)), or because it cannot receive
    /// the shared memory that was attached. The latter is also reported for messages that had to wait. `Hub::send` and
    /// `Hub::broadcast` report other messages that a client misses by their result.
    Missed(Client),
}

/// The reason why a client has left.
#[derive(Debug)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The client has closed its connection, or its process has ended, or both sides have finished sending.
    Closed,
    /// [`Hub::disconnect`](super::Hub::disconnect) was called. Messages of the client that were not received by then
    /// are lost.
    Disconnected,
    /// The client did not keep up: more than [`write_buffer_max`](super::HubOptions::write_buffer_max) bytes would have
    /// been buffered for it, and the [`slow_client_policy`](super::HubOptions::slow_client_policy) disconnects such a
    /// client. Messages of the client that were not received by then are lost.
    Slow,
    /// The connection has failed. The client closed it without reading all that was sent to it
    /// ([`Disconnected`](crate::ErrorKind::Disconnected)), or disconnected mid-message
    /// ([`Truncated`](crate::ErrorKind::Truncated)), violated the protocol, or sent a message that needs more memory
    /// than it may take ([`Busy`](crate::ErrorKind::Busy), [`memory_max`](crate::ServerOptions::memory_max)).
    Failed(Error),
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the client closed the connection"),
            Self::Disconnected => f.write_str("the server disconnected the client"),
            Self::Slow => f.write_str("the server disconnected the client because it did not keep up"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}
