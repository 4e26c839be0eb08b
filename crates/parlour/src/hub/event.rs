//! What a hub tells: who came, what they said, who went and why.

use std::fmt;
use std::iter::FusedIterator;
use std::vec;

use crate::admission::Refusal;
use crate::error::Error;
use crate::message::Message;
use crate::peer::Peer;

/// One client of a [`Hub`](super::Hub): a number that is never given to another, in the order in which they came, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client {
    pub(super) number: u64,
    /// Where its connection is kept.
    pub(super) place: u32,
}

impl Client {
    /// The number, for what cannot hold a `Client` itself.
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

/// An event of a hub. Each client causes one `Joined`, then its messages, and one `Left`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A client has connected and was let in.
    Joined(Client, Peer),
    /// A client has sent a message.
    Message(Client, Message),
    /// A client sends no more, after all its messages, and still receives. Its connection stays until it goes, or until
    /// [`Hub::finish`](super::Hub::finish) or [`Hub::disconnect`](super::Hub::disconnect): call one of them when there is
    /// nothing more to be sent to it. (A client that is just closing may show this right before `Left`.)
    Finished(Client),
    /// A client's connection has ended, after all its messages but in the cases where [`Why`] says otherwise.
    Left(Client, DisconnectReason),
    /// A client was turned away before it joined.
    Refused(Refusal),
}

/// Why a client has left.
#[derive(Debug)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// It has closed its connection, or its process has ended, or both sides have finished.
    Closed,
    /// [`Hub::disconnect`](super::Hub::disconnect) was called. What it had sent by then is lost if it was not received.
    Disconnected,
    /// It did not take what was sent to it: more than [`write_buffer_max`](super::HubOptions::write_buffer_max) would have waited, and
    /// [`slow_client_policy`](super::HubOptions::slow_client_policy) says that it is disconnected then. What it had sent is lost if it was not
    /// received.
    Slow,
    /// Its connection has failed: its end came without its having read all that was sent to it
    /// ([`Disconnected`](crate::ErrorKind::Disconnected)), or in the middle of a message
    /// ([`Truncated`](crate::ErrorKind::Truncated)), or it broke a rule.
    Failed(Error),
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("it closed the connection"),
            Self::Disconnected => f.write_str("it was disconnected"),
            Self::Slow => f.write_str("it was disconnected because it did not keep up"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}
