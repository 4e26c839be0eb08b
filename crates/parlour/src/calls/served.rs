//! The state of one client of a server of calls, without I/O: whether it has greeted, and its open calls.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

use crate::message::Message;
use crate::peer::Peer;
use crate::sys::fork::Process;
use crate::sys::fork_mutex::ForkMutex;
use crate::wire::call::{BadCall, HEADER_LEN, Header, Kind, Side};

/// The answer to a request that arrives after a shutdown.
pub(crate) const ENDING: &str = "the server is ending, and has not begun the call";

/// The limits of one client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallLimits {
    /// The number of calls that the handler may hold for it.
    pub(crate) calls: usize,
    /// The bytes of their requests.
    pub(crate) bytes: usize,
}

/// The defaults: as many calls as one connection has use for, and the longest message once.
impl Default for CallLimits {
    fn default() -> Self {
        Self { calls: 256, bytes: 16 * 1024 * 1024 }
    }
}

/// A client, as its calls know it.
#[derive(Debug)]
pub(crate) struct ClientInfo {
    /// Its number, which no other client of the server has or gets.
    pub(crate) number: u64,
    pub(crate) peer: Peer,
    /// The bytes of items that are queued for it and not yet handed to its connection.
    pub(crate) queued: AtomicUsize,
    process: Process,
}

/// A call that the handler holds.
pub(crate) struct Ticket {
    pub(crate) id: u32,
    pub(crate) client: Arc<ClientInfo>,
    /// The length of the request.
    length: usize,
    is_cancelled: AtomicBool,
    /// Those who wait until the call is cancelled.
    waiting: ForkMutex<Vec<Waker>>,
}

impl Ticket {
    fn new(id: u32, client: Arc<ClientInfo>, length: usize) -> Self {
        let waiting = ForkMutex::of(client.process, Vec::new());
        Self { id, client, length, is_cancelled: AtomicBool::new(false), waiting }
    }

    /// Returns true if nobody waits for the answer any more.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    /// Returns true if nobody waits for the answer any more. Otherwise registers the waker, which is woken then.
    pub(crate) fn poll_cancelled(&self, waker: &Waker) -> bool {
        if self.is_cancelled() {
            return true;
        }
        let Some(mut waiting) = self.waiting.lock() else { return true };
        // Looked at again under the lock: `cancel` sets the flag before it takes the lock.
        if self.is_cancelled() {
            return true;
        }
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        false
    }

    fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        let waiting = self.waiting.lock().map(|mut waiting| std::mem::take(&mut *waiting));
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("id", &self.id)
            .field("client", &self.client)
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// The step that follows a message of a client.
#[derive(Debug)]
pub(crate) enum Step {
    /// Return the greeting.
    Greet,
    /// Handle a call.
    Begin(Arc<Ticket>, Message),
    /// Tell the client that this call is one too many. The text says more.
    Refuse(u32, &'static str),
    /// Calls were cancelled, or nothing has happened.
    Nothing,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) info: Arc<ClientInfo>,
    is_greeted: bool,
    limits: CallLimits,
    /// The calls that the client waits for. The client chooses the ids, so the hash has a random key.
    open: HashMap<u32, Arc<Ticket>>,
    /// The number of calls that the handler holds, including those that were cancelled.
    held: usize,
    /// The bytes of their requests.
    held_bytes: usize,
}

impl Served {
    pub(crate) fn new(number: u64, peer: Peer, limits: CallLimits) -> Self {
        let info = ClientInfo { number, peer, queued: AtomicUsize::new(0), process: Process::current() };
        let open = HashMap::new();
        Self { info: Arc::new(info), is_greeted: false, limits, open, held: 0, held_bytes: 0 }
    }

    pub(crate) fn is_greeted(&self) -> bool {
        self.is_greeted
    }

    /// Returns true if a request in a message of this length would be refused.
    pub(crate) fn is_full_for(&self, length: usize) -> bool {
        self.held >= self.limits.calls || self.held > 0 && self.held_bytes.saturating_add(length) > self.limits.bytes
    }

    /// Returns the number of calls that the handler holds.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Returns the number of calls that the client waits for.
    pub(crate) fn awaited(&self) -> usize {
        self.open.len()
    }

    /// Takes a message of the client. An error ends the connection.
    pub(crate) fn receive(&mut self, mut message: Message) -> Result<Step, BadCall> {
        let (kind, id) = match Header::parse(&message)? {
            Header::Greeting { side: Side::Caller, .. } if !self.is_greeted => {
                self.is_greeted = true;
                return Ok(Step::Greet);
            }
            Header::Greeting { side: Side::Caller, .. } => return Err(BadCall("the client has greeted twice")),
            Header::Greeting { side: Side::Server, .. } => return Err(BadCall("the client greets as a server does")),
            Header::Message { .. } if !self.is_greeted => {
                return Err(BadCall("the first message of the client is not the greeting of a caller"));
            }
            Header::Message { kind, id } => (kind, id),
        };
        match kind {
            Kind::Request => {
                let Entry::Vacant(place) = self.open.entry(id) else {
                    return Err(BadCall("a request has the id of another one that is open"));
                };
                if self.held >= self.limits.calls {
                    return Ok(Step::Refuse(id, ""));
                }
                let length = message.len().saturating_sub(HEADER_LEN);
                // A client without another call may send the longest request.
                if self.held > 0 && self.held_bytes.saturating_add(length) > self.limits.bytes {
                    return Ok(Step::Refuse(id, "the open requests of this client have too many bytes"));
                }
                message.remove_front(HEADER_LEN);
                let client = Arc::clone(&self.info);
                let ticket = Arc::new(Ticket::new(id, client, length));
                place.insert(Arc::clone(&ticket));
                self.held += 1;
                self.held_bytes += length;
                Ok(Step::Begin(ticket, message))
            }
            Kind::Cancel => {
                // A call that is not open has just been answered.
                if let Some(ticket) = self.open.remove(&id) {
                    ticket.cancel();
                }
                Ok(Step::Nothing)
            }
            Kind::Reply | Kind::Item | Kind::End | Kind::Error | Kind::Push | Kind::Leave => {
                Err(BadCall("the client sent a message that only servers send"))
            }
        }
    }

    /// Notes that the handler has ended a call.
    pub(crate) fn end(&mut self, ticket: &Ticket) {
        self.held = self.held.saturating_sub(1);
        self.held_bytes = self.held_bytes.saturating_sub(ticket.length);
        if !ticket.is_cancelled() {
            self.open.remove(&ticket.id);
        }
    }

    /// Notes that the client does not receive any more.
    pub(crate) fn cancel_all(&mut self) {
        for (_, ticket) in self.open.drain() {
            ticket.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Provenance;

    fn message(header: Header, payload: &[u8]) -> Message {
        Message { bytes: [&header.encode()[..], payload].concat(), ..Message::default() }
    }

    fn request(id: u32) -> Message {
        message(Header::Message { kind: Kind::Request, id }, b"do it")
    }

    fn new(limits: CallLimits) -> Served {
        Served::new(1, Peer::from_file(0, None, Provenance::Unknown), limits)
    }

    fn greeted(calls_max: usize) -> Served {
        let mut served = new(CallLimits { calls: calls_max, ..CallLimits::default() });
        let greeting = message(Header::Greeting { side: Side::Caller, version: 1 }, b"");
        assert!(matches!(served.receive(greeting), Ok(Step::Greet)));
        served
    }

    fn begin(served: &mut Served, id: u32) -> Arc<Ticket> {
        match served.receive(request(id)) {
            Ok(Step::Begin(ticket, payload)) if payload == b"do it" => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_a_call_until_the_handler_has_ended_it() {
        let mut served = greeted(2);
        let ticket = begin(&mut served, 7);
        assert_eq!((ticket.id, served.held()), (7, 1));
        served.end(&ticket);
        assert_eq!(served.held(), 0);
        begin(&mut served, 7);
    }

    #[test]
    fn a_cancelled_call_counts_as_long_as_the_handler_holds_it() {
        let mut served = greeted(1);
        let ticket = begin(&mut served, 1);
        let cancel = message(Header::Message { kind: Kind::Cancel, id: 1 }, b"");
        assert!(matches!(served.receive(cancel), Ok(Step::Nothing)));
        assert!(ticket.is_cancelled());
        assert!(matches!(served.receive(request(2)), Ok(Step::Refuse(2, _))));
        served.end(&ticket);
        let other = begin(&mut served, 1);
        served.cancel_all();
        assert!(other.is_cancelled());
    }

    #[test]
    fn the_bytes_of_requests_count_until_their_calls_end() {
        let mut served = new(CallLimits { bytes: 9, ..CallLimits::default() });
        served.is_greeted = true;
        let long = message(Header::Message { kind: Kind::Request, id: 9 }, &[0; 100]);
        let Ok(Step::Begin(first, _)) = served.receive(long) else { panic!("the only request is too long") };
        assert!(matches!(served.receive(request(1)), Ok(Step::Refuse(1, text)) if text.contains("bytes")));
        served.end(&first);
        let held = [begin(&mut served, 1)];
        assert!(matches!(served.receive(request(2)), Ok(Step::Refuse(2, _))));
        let short = message(Header::Message { kind: Kind::Request, id: 3 }, b"done");
        assert!(matches!(served.receive(short), Ok(Step::Begin(..))));
        served.cancel_all();
        assert!(matches!(served.receive(request(4)), Ok(Step::Refuse(4, _))), "cancelled ones count, too");
        served.end(&held[0]);
        begin(&mut served, 5);
    }

    #[test]
    fn a_client_that_violates_the_protocol_is_noticed() {
        let mut served = new(CallLimits::default());
        assert!(served.receive(request(1)).is_err(), "a greeting comes first");
        let twice = message(Header::Greeting { side: Side::Caller, version: 1 }, b"");
        assert!(greeted(1).receive(twice).is_err());
        let mirrored = message(Header::Greeting { side: Side::Server, version: 1 }, b"");
        assert!(new(CallLimits::default()).receive(mirrored).is_err());
        let mut served = greeted(2);
        begin(&mut served, 1);
        assert!(served.receive(request(1)).is_err(), "the id is in use");
        for kind in [Kind::Reply, Kind::Item, Kind::Error] {
            assert!(greeted(1).receive(message(Header::Message { kind, id: 1 }, b"x")).is_err());
        }
        let plain = Message { bytes: b"hello".to_vec(), ..Message::default() };
        assert!(greeted(1).receive(plain).is_err());
    }
}
