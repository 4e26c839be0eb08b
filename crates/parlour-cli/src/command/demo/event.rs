//! The events that the demo's worker processes report to the demo: one JSON object per line on their stdout.

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
        /// The identity of the client, as the library reports it to the server.
        client: Identity,
    },
    /// A client is connected, and waits for a line on its stdin before it begins.
    Connected {
        /// The identity of the server, as the library reports it to the client.
        server: Identity,
    },
    /// An endless client has received its first replies.
    Talking,
    /// A client has sent every line and received every reply.
    Done(Done),
    /// The server of an endless client has disconnected.
    Left {
        /// The number of replies before the disconnect.
        messages: u64,
        /// The result that the client got instead of a reply.
        got: String,
        /// True if the library promises this result for a server that has died: end of file or a disconnect.
        as_promised: bool,
    },
}

/// The results of a client that has sent everything.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// The number of the first line, counted from 1, whose reply was wrong.
    pub(super) wrong_line: Option<u64>,
    /// The time from the first message to the last reply, in nanoseconds.
    pub(super) elapsed_ns: u64,
    /// The time from each message to its reply, in nanoseconds.
    pub(super) round_trips_ns: Vec<u32>,
}

/// The identity of a peer, with the provenance of each part.
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

/// Returns true if a client whose server has died may get an error of this kind.
pub(super) fn is_a_death(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Disconnected | ErrorKind::Truncated)
}
