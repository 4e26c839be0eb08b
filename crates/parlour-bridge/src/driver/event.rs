//! The events that the tasks report to the desk.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parlour::tokio::Connection;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::directory::Directory;
use super::nats::Report;
use super::net::Remote;
use crate::files::config::Config;
use crate::files::tls::Tls;
use crate::identity::{ConversationId, Host, LinkId, Name};
use crate::link;
use crate::status::Status;
use crate::wire::conversation::{Answer, Origin, Preamble, Refusal};

/// An event of any task.
#[derive(Debug)]
pub(super) enum Event {
    LinkAccepted {
        host: Host,
        remote: Box<Remote>,
    },
    LinkDialled {
        host: Host,
        remote: io::Result<(Box<Remote>, SocketAddr)>,
    },
    Link {
        id: LinkId,
        action: link::Action,
        /// When too many of these exist, the link reads nothing.
        place: OwnedSemaphorePermit,
    },
    Preamble {
        host: Host,
        preamble: Preamble,
        remote: Box<Remote>,
    },
    Client {
        name: Name,
        connection: Connection,
        origin: Origin,
    },
    NameLost {
        name: Name,
    },
    /// A server of this host has taken a name that this bridge held.
    NameTaken {
        name: Name,
    },
    Answered {
        id: ConversationId,
        attempt: u64,
        answer: Option<(Answer, Box<Remote>)>,
    },
    Connected {
        id: ConversationId,
        connection: Result<Connection, (Refusal, String)>,
    },
    Over {
        id: ConversationId,
    },
    Configured {
        config: Arc<Config>,
        tls: Tls,
        directory: Directory,
    },
    Registry {
        run: u64,
        report: Report,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
}

impl Event {
    /// Ends what nobody will hear. The peer of a connection of this host gets an error: a drop would be a clean end.
    pub(super) fn abort(self) {
        if let Self::Client { connection, .. } | Self::Connected { connection: Ok(connection), .. } = self {
            connection.abort();
        }
    }
}

/// Reports an event, or ends it if the desk hears no more.
pub(super) fn report(events: &UnboundedSender<Event>, event: Event) {
    if let Err(SendError(event)) = events.send(event) {
        event.abort();
    }
}
