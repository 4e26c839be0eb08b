//! What the demo's processes tell the one that started them: one JSON object per line on their stdout.

use parlour::{ErrorKind, Peer};
use serde::{Deserialize, Serialize};

/// One line of a worker's stdout.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    /// A server holds its name.
    Ready,
    /// A server has accepted a client.
    Accepted {
        /// Who the client is, as the library tells the server.
        client: Identity,
    },
    /// A client is connected, and waits for a line on its stdin before it begins.
    Connected {
        /// Who the server is, as the library tells the client.
        server: Identity,
    },
    /// An endless client has had its first replies.
    Talking,
    /// A client has sent every line and has every reply.
    Done(Done),
    /// The server has left an endless client.
    Left {
        /// How many messages were answered before.
        messages: u64,
        /// What the client got instead of a reply.
        got: String,
        /// Whether that is what a client can expect of a server that has died: the end, or a disconnect.
        as_promised: bool,
    },
}

/// What a client that has sent everything has to say.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// The first line, counted from 1, of which the reply was another.
    pub(super) wrong_line: Option<u64>,
    /// From the first message to the last reply.
    pub(super) elapsed_ns: u64,
    /// One for each message.
    pub(super) round_trips_ns: Vec<u32>,
}

/// Who is at the other end, and what vouches for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: Option<u32>,
    pub(super) pid_provenance: String,
    pub(super) uid: Option<u32>,
    pub(super) uid_provenance: String,
}

impl Identity {
    pub(super) fn of(peer: &Peer) -> Identity {
        Identity {
            pid: peer.pid(),
            pid_provenance: peer.pid_provenance().to_string(),
            uid: peer.uid(),
            uid_provenance: peer.uid_provenance().to_string(),
        }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |id: Option<u32>| id.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
        let (pid, uid) = (shown(self.pid), shown(self.uid));
        write!(f, "pid {pid} ({}), uid {uid} ({})", self.pid_provenance, self.uid_provenance)
    }
}

/// Whether a client whose server has died may get this.
pub(super) fn is_a_death(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Disconnected | ErrorKind::Truncated)
}
