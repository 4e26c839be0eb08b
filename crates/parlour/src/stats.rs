//! The counters of a server and its connections, as its owner and other processes see them.

use std::fmt;
use std::time::Duration;

use crate::peer::Peer;
use crate::shm::stats::Identity;
use crate::transport::Transport;
use crate::wire::origin::Origin;
use crate::wire::stats::{FlowWords, SlotValues, Wait, WaitKind};

/// The messages of one direction, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flow {
    /// Messages. A message counts once it was received as a whole, or once a call that sends has accepted it.
    pub messages: u64,
    /// The bytes of these messages, without headers and without the contents of blocks of shared memory.
    pub bytes: u64,
}

impl From<FlowWords> for Flow {
    fn from(words: FlowWords) -> Self {
        Self { messages: words.messages, bytes: words.bytes }
    }
}

/// The reason why one direction of a connection waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitReason {
    /// The server waits for a message, of which nothing has arrived. The client is idle.
    Message,
    /// The server waits for the rest of a message. The client has sent only a part of it.
    Rest,
    /// The server waits for space in the channel, or a hub holds messages for the client because the channel is full.
    /// The client does not read.
    Space,
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Message => "waits for a message",
            Self::Rest => "waits for the rest of a message",
            Self::Space => "waits for the client to read",
        })
    }
}

/// One direction of a connection that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// The reason.
    pub reason: WaitReason,
    /// The time for which it has been waiting, including time for which the system slept. A call that wakes up and
    /// sleeps again for the same message goes on waiting.
    pub time: Duration,
}

/// The counters of one client of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// The number of the connection: 1 for the first one that the server accepted. It is never reused, and it is not
    /// the number that a hub gives its clients.
    pub number: u64,
    /// The process id of the client, in the PID namespace of the server, if it is known. Over `fifo` it is what the
    /// client has stated.
    pub pid: Option<u32>,
    /// The user id of the client, in the user namespace of the server.
    pub uid: Option<u32>,
    /// The group id of the client, in the user namespace of the server.
    pub gid: Option<u32>,
    /// The transport. `None` for one that this version does not know.
    pub transport: Option<Transport>,
    /// The time since the server accepted the client, including time for which the system slept.
    pub connected: Duration,
    /// The messages that the server received from the client.
    pub received: Flow,
    /// The messages that the server sent to the client.
    pub sent: Flow,
    /// The number of bytes that a hub holds for the client, because its channel is full. Always 0 for a connection
    /// without a hub.
    pub held: u64,
    /// The wait of the receiving direction, if a call or a task waits.
    pub receiving: Option<Waiting>,
    /// The wait of the sending direction, if a call or a task waits, or a hub holds bytes.
    pub sending: Option<Waiting>,
    /// The other host that the client comes from, if a bridge has connected for it ([`Peer::origin`]). A name of a host
    /// of more than 64 bytes is cut, and so is one of a program of more than 16: it ends with `~` then, which no host
    /// has.
    pub origin: Option<Origin>,
}

impl ClientStats {
    /// Converts the values of a slot, at this time.
    pub(crate) fn new(values: &SlotValues, now: u64) -> Self {
        let since = |time: u64| Duration::from_nanos(now.saturating_sub(time));
        let waiting =
            |wait: Option<Wait>| wait.map(|wait| Waiting { reason: wait.kind.into(), time: since(wait.since) });
        Self {
            number: values.number,
            pid: values.pid,
            uid: values.uid,
            gid: values.gid,
            transport: transport_of(values.transport),
            connected: since(values.since),
            received: values.received.into(),
            sent: values.sent.into(),
            held: values.held,
            receiving: waiting(values.receiving),
            sending: waiting(values.sending),
            origin: values.origin.clone(),
        }
    }

    /// Returns the wait in which the client holds the server up: the server waits for the rest of a message, or for the
    /// client to read. `None` if there is none, in particular if the server only waits for the next message.
    ///
    /// A client that is merely busy is stuck for an instant, too. Look at [`Waiting::time`]; a second is a reasonable
    /// limit.
    #[must_use]
    pub fn stuck(&self) -> Option<Waiting> {
        let receiving = self.receiving.filter(|waiting| waiting.reason == WaitReason::Rest);
        match (receiving, self.sending) {
            (Some(one), Some(other)) => Some(if one.time > other.time { one } else { other }),
            (one, other) => one.or(other),
        }
    }
}

impl From<WaitKind> for WaitReason {
    fn from(kind: WaitKind) -> Self {
        match kind {
            WaitKind::Message => Self::Message,
            WaitKind::Rest => Self::Rest,
            WaitKind::Space => Self::Space,
        }
    }
}

impl<'a> Identity<'a> {
    /// Returns what the counters say about a connection.
    pub(crate) fn of(peer: &'a Peer, transport: Transport) -> Self {
        let (pid, uid, gid) = (peer.pid(), peer.uid(), peer.gid());
        Self { pid, uid, gid, transport: number_of(transport), origin: peer.origin() }
    }
}

/// Returns the number of a transport in the layout.
fn number_of(transport: Transport) -> u64 {
    match transport {
        Transport::Shm => 1,
        Transport::Packet => 2,
        Transport::Unix => 3,
        Transport::Fifo => 4,
    }
}

fn transport_of(number: u64) -> Option<Transport> {
    Transport::ALL.iter().copied().find(|transport| number_of(*transport) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(receiving: Option<Wait>, sending: Option<Wait>) -> ClientStats {
        let values = SlotValues {
            number: 1,
            since: 1_000,
            pid: None,
            uid: None,
            gid: None,
            transport: 3,
            received: FlowWords::default(),
            sent: FlowWords::default(),
            receiving,
            sending,
            held: 0,
            origin: None,
        };
        ClientStats::new(&values, 2_000)
    }

    #[test]
    fn a_client_is_stuck_inside_a_message_or_if_it_does_not_read() {
        let wait = |kind, since| Some(Wait { kind, since });
        assert_eq!(client(None, None).stuck(), None);
        assert_eq!(client(wait(WaitKind::Message, 0), None).stuck(), None, "the server is idle");
        let stuck = client(wait(WaitKind::Rest, 1_500), wait(WaitKind::Space, 1_800)).stuck().unwrap();
        assert_eq!((stuck.reason, stuck.time), (WaitReason::Rest, Duration::from_nanos(500)));
        let stuck = client(wait(WaitKind::Rest, 1_500), wait(WaitKind::Space, 100)).stuck().unwrap();
        assert_eq!(stuck.reason, WaitReason::Space);
    }

    #[test]
    fn a_time_in_the_future_and_an_unknown_transport_are_no_harm() {
        let values = client(Some(Wait { kind: WaitKind::Rest, since: u64::MAX }), None);
        assert_eq!(values.receiving.map(|waiting| waiting.time), Some(Duration::ZERO));
        assert_eq!((values.transport, transport_of(0), transport_of(5)), (Some(Transport::Unix), None, None));
        assert!(Transport::ALL.iter().all(|transport| transport_of(number_of(*transport)) == Some(*transport)));
    }
}
