//! The state of a caller's calls, without I/O: which are open, what has arrived for each, and who waits for it.
//!
//! A message from the server goes to the call with its id. A message for a call that is not open is dropped and
//! counted: the call has timed out or was dropped, and no other call must get its answer.

use std::task::Waker;

use super::open::OpenCalls;
use super::queue::Queue;
use crate::error::Error;
use crate::message::Message;
use crate::wire::call::{BadCall, Cause, Failure, HEADER_LEN, Header, Kind, Side};

/// The limits of what is kept for the caller, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For the items of one call.
    pub(crate) items: usize,
    /// For pushed messages.
    pub(crate) pushes: usize,
}

/// The number of answers that a caller expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    One,
    Many,
}

/// The last thing that is known about a call.
#[derive(Debug)]
pub(crate) enum Outcome {
    Reply(Message),
    /// The server has sent all items.
    End,
    Failed(Failure),
    /// The server sent several answers, and the caller expects one.
    NotOne,
    /// More items have arrived than are kept.
    TooMany,
    /// The request could not be sent.
    #[cfg(feature = "tokio")]
    NotSent(Error),
}

/// The next element of a call with several answers.
#[derive(Debug)]
pub(crate) enum Next {
    Item(Message),
    Over(Outcome),
}

/// The reason for which nothing arrives any more.
#[derive(Debug)]
pub(crate) enum End {
    /// The server has ended the connection between two messages.
    Closed,
    Failed(Error),
}

/// The event for which a thread or a task waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Answer(u32),
    Push,
    /// The greeting of the server.
    Greeting,
    /// Room for sending.
    Room,
}

/// The counts of a caller.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) late: u64,
    pub(crate) pushes_dropped: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Exchange {
    limits: Limits,
    is_greeted: bool,
    open: OpenCalls<Slot>,
    pushes: Queue,
    push_wakers: Vec<Waker>,
    greeting_wakers: Vec<Waker>,
    room_wakers: Vec<Waker>,
    /// The number of times that room was found for sending.
    rooms: u64,
    /// Calls that ended on this side alone.
    to_cancel: Vec<u32>,
    counts: Counts,
    /// A message came after the greeting, or after the last [`settle`](Self::settle).
    has_received: bool,
    /// The server asked the caller to leave.
    is_leaving: bool,
    end: Option<End>,
}

/// The part of an exchange that outlives its connection.
#[derive(Debug, Default)]
pub(crate) struct Legacy {
    /// The pushed messages that nobody has taken, oldest first.
    pub(crate) pushes: Queue,
    pub(crate) counts: Counts,
    pub(crate) has_received: bool,
    pub(crate) was_asked_to_leave: bool,
}

#[derive(Debug)]
struct Slot {
    shape: Shape,
    items: Queue,
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

impl Exchange {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            is_greeted: false,
            open: OpenCalls::default(),
            pushes: Queue::default(),
            push_wakers: Vec::new(),
            greeting_wakers: Vec::new(),
            room_wakers: Vec::new(),
            rooms: 0,
            to_cancel: Vec::new(),
            counts: Counts::default(),
            has_received: false,
            is_leaving: false,
            end: None,
        }
    }

    /// Returns true once the server has said that it answers calls. No request is sent before.
    pub(crate) fn is_greeted(&self) -> bool {
        self.is_greeted
    }

    /// Opens a call and returns its id. This goes through all other ids before one is used again, so the server cannot
    /// have an answer to an earlier call with this id any more.
    pub(crate) fn begin(&mut self, shape: Shape) -> u32 {
        self.open.add(Slot { shape, items: Queue::default(), outcome: None, waker: None })
    }

    /// Takes the outcome of a call. The call is then no longer open.
    pub(crate) fn take(&mut self, id: u32) -> Option<Outcome> {
        let outcome = self.open.get_mut(id)?.outcome.take()?;
        self.open.remove(id);
        Some(outcome)
    }

    /// Takes the next element of a call with several answers. The call is no longer open after the last one.
    pub(crate) fn take_next(&mut self, id: u32) -> Option<Next> {
        let slot = self.open.get_mut(id)?;
        if let Some(item) = slot.items.pop() {
            return Some(Next::Item(item));
        }
        match slot.outcome.take()? {
            // One reply is a stream of one item.
            Outcome::Reply(message) => {
                slot.outcome = Some(Outcome::End);
                Some(Next::Item(message))
            }
            outcome => {
                self.open.remove(id);
                Some(Next::Over(outcome))
            }
        }
    }

    /// Closes a call on this side. Returns true if the server has to be told.
    pub(crate) fn abandon(&mut self, id: u32) -> bool {
        self.open.remove(id).is_some_and(|slot| slot.outcome.is_none()) && self.end.is_none()
    }

    /// Ends a call whose request could not be sent.
    #[cfg(feature = "tokio")]
    pub(crate) fn reject(&mut self, id: u32, error: Error, woken: &mut Vec<Waker>) {
        if let Some(slot) = self.open.get_mut(id).filter(|slot| slot.outcome.is_none()) {
            slot.outcome = Some(Outcome::NotSent(error));
            woken.extend(slot.waker.take());
        }
    }

    /// Returns the calls that [`receive`](Self::receive) has ended, of which the server has to be told.
    pub(crate) fn take_to_cancel(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.to_cancel)
    }

    pub(crate) fn take_push(&mut self) -> Option<Message> {
        self.pushes.pop()
    }

    /// Returns true once the server has asked the caller to go to the server that now has the name.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Notes that the connection is ready to be used: what was received before does not show that the server works.
    pub(crate) fn settle(&mut self) {
        self.has_received = false;
    }

    /// Takes what outlives the connection. Pushed messages that arrive after this are lost with it.
    pub(crate) fn retire(&mut self) -> Legacy {
        Legacy {
            pushes: std::mem::take(&mut self.pushes),
            counts: std::mem::take(&mut self.counts),
            has_received: self.has_received,
            was_asked_to_leave: self.is_leaving,
        }
    }

    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns a number that changes when room for sending is found.
    pub(crate) fn rooms(&self) -> u64 {
        self.rooms
    }

    /// Returns true if somebody waits for room.
    pub(crate) fn wants_room(&self) -> bool {
        !self.room_wakers.is_empty()
    }

    /// Notes that sending may go on.
    pub(crate) fn note_room(&mut self, woken: &mut Vec<Waker>) {
        self.rooms = self.rooms.wrapping_add(1);
        woken.append(&mut self.room_wakers);
    }

    /// Registers a waiter, which is woken once.
    pub(crate) fn wait_for(&mut self, want: Want, waker: &Waker) {
        let list = match want {
            Want::Answer(id) => {
                if let Some(slot) = self.open.get_mut(id) {
                    slot.waker = Some(waker.clone());
                }
                return;
            }
            Want::Push => &mut self.push_wakers,
            Want::Greeting => &mut self.greeting_wakers,
            Want::Room => &mut self.room_wakers,
        };
        if !list.iter().any(|known| known.will_wake(waker)) {
            list.push(waker.clone());
        }
    }

    /// Takes a message of the server. Adds those who waited for it to `woken`.
    pub(crate) fn receive(&mut self, mut message: Message, woken: &mut Vec<Waker>) -> Result<(), BadCall> {
        let header = Header::parse(&message)?;
        let (kind, id) = match header {
            Header::Greeting { side: Side::Server, .. } if !self.is_greeted => {
                self.is_greeted = true;
                woken.append(&mut self.greeting_wakers);
                return Ok(());
            }
            Header::Greeting { side: Side::Server, .. } => return Err(BadCall("the peer has greeted twice")),
            Header::Greeting { side: Side::Caller, .. } => {
                return Err(BadCall("the peer is a caller, or returns what it receives"));
            }
            Header::Message { .. } if !self.is_greeted => {
                return Err(BadCall("the first message of the peer is not the greeting of a server of calls"));
            }
            Header::Message { kind, id } => (kind, id),
        };
        let is_answer = match kind {
            Kind::Reply | Kind::Item | Kind::End | Kind::Error => true,
            Kind::Push => false,
            Kind::Leave => {
                self.is_leaving = true;
                woken.append(&mut self.push_wakers);
                woken.append(&mut self.room_wakers);
                return Ok(());
            }
            Kind::Request | Kind::Cancel => return Err(BadCall("the peer sent a message that only callers send")),
        };
        let failure = match kind {
            Kind::Error => Some(Failure::parse(message.get(HEADER_LEN..).unwrap_or_default())?),
            _ => None,
        };
        // A server that begins no call is not more use than one that is absent.
        self.has_received |= failure.as_ref().is_none_or(|failure| failure.cause != Cause::Busy);
        message.remove_front(HEADER_LEN);
        if !is_answer {
            self.receive_push(message, woken);
            return Ok(());
        }
        let Some(slot) = self.open.get_mut(id).filter(|slot| slot.outcome.is_none()) else {
            self.counts.late += 1;
            return Ok(());
        };
        let ended_here = match (kind, failure, slot.shape) {
            (_, Some(failure), _) => {
                slot.outcome = Some(Outcome::Failed(failure));
                false
            }
            (Kind::Reply, ..) => {
                slot.outcome = Some(Outcome::Reply(message));
                false
            }
            (Kind::Item, _, Shape::Many) if slot.items.has_room(&message, self.limits.items) => {
                slot.items.push(message);
                false
            }
            (Kind::Item, _, Shape::Many) => {
                slot.outcome = Some(Outcome::TooMany);
                true
            }
            (Kind::Item, _, Shape::One) => {
                slot.outcome = Some(Outcome::NotOne);
                true
            }
            (_, _, shape) => {
                slot.outcome = Some(if shape == Shape::One { Outcome::NotOne } else { Outcome::End });
                false
            }
        };
        woken.extend(slot.waker.take());
        if ended_here {
            self.to_cancel.push(id);
        }
        Ok(())
    }

    fn receive_push(&mut self, message: Message, woken: &mut Vec<Waker>) {
        while !self.pushes.has_room(&message, self.limits.pushes) && self.pushes.pop().is_some() {
            self.counts.pushes_dropped += 1;
        }
        self.pushes.push(message);
        woken.append(&mut self.push_wakers);
    }

    /// Notes that nothing arrives any more. Wakes all. The first end counts.
    pub(crate) fn finish(&mut self, end: End, woken: &mut Vec<Waker>) {
        if self.end.is_none() {
            self.end = Some(end);
        }
        self.wake_all(woken);
    }

    /// Adds all who wait to `woken`.
    pub(crate) fn wake_all(&mut self, woken: &mut Vec<Waker>) {
        woken.append(&mut self.push_wakers);
        woken.append(&mut self.greeting_wakers);
        woken.append(&mut self.room_wakers);
        woken.extend(self.open.values_mut().filter_map(|slot| slot.waker.take()));
    }

    pub(crate) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Returns the bytes that are kept for the caller, and the number of messages for which nobody waits.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn bytes(&self) -> usize {
        self.pushes.bytes() + self.open.values().map(|slot| slot.items.bytes()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { items: 1000, pushes: 1000 };

    fn message(kind: Kind, id: u32, payload: &[u8]) -> Message {
        let bytes = [&Header::Message { kind, id }.encode()[..], payload].concat();
        Message { bytes, ..Message::default() }
    }

    fn greeted() -> Exchange {
        let mut exchange = Exchange::new(LIMITS);
        let bytes = Header::Greeting { side: Side::Server, version: 1 }.encode().to_vec();
        exchange.receive(Message { bytes, ..Message::default() }, &mut Vec::new()).unwrap();
        exchange
    }

    fn receive(exchange: &mut Exchange, kind: Kind, id: u32, payload: &[u8]) {
        exchange.receive(message(kind, id, payload), &mut Vec::new()).unwrap();
    }

    fn reply(exchange: &mut Exchange, id: u32) -> Option<Vec<u8>> {
        match exchange.take(id)? {
            Outcome::Reply(message) => Some(message.into_vec()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_reach_their_calls_in_any_order() {
        let mut exchange = greeted();
        let ids = [(); 3].map(|()| exchange.begin(Shape::One));
        for id in [ids[1], ids[2], ids[0]] {
            receive(&mut exchange, Kind::Reply, id, &id.to_be_bytes());
        }
        for id in ids {
            assert_eq!(reply(&mut exchange, id), Some(id.to_be_bytes().to_vec()));
        }
        assert_eq!((exchange.open(), exchange.counts().late), (0, 0));
    }

    #[test]
    fn a_late_answer_is_counted_and_no_other_call_gets_it() {
        let mut exchange = greeted();
        let first = exchange.begin(Shape::One);
        assert!(exchange.abandon(first), "the server is told");
        let second = exchange.begin(Shape::One);
        receive(&mut exchange, Kind::Reply, first, b"for the first");
        assert_eq!(reply(&mut exchange, second), None);
        receive(&mut exchange, Kind::Reply, second, b"for the second");
        receive(&mut exchange, Kind::Reply, second, b"again");
        assert_eq!(reply(&mut exchange, second), Some(b"for the second".to_vec()));
        assert_eq!(exchange.counts().late, 2);
    }

    #[test]
    fn a_server_that_only_refuses_calls_was_no_use() {
        for (cause, is_use) in [(Cause::Busy, false), (Cause::Handler, true), (Cause::Unanswered, true)] {
            let mut exchange = greeted();
            let id = exchange.begin(Shape::One);
            receive(&mut exchange, Kind::Error, id, &[cause.number()]);
            assert_eq!(exchange.retire().has_received, is_use, "{cause:?}");
        }
    }

    #[test]
    fn a_reply_to_a_stream_is_its_only_item() {
        let mut exchange = greeted();
        let id = exchange.begin(Shape::Many);
        receive(&mut exchange, Kind::Item, id, b"one");
        receive(&mut exchange, Kind::Reply, id, b"two");
        for expected in [&b"one"[..], b"two"] {
            assert!(matches!(exchange.take_next(id), Some(Next::Item(item)) if item == *expected));
        }
        assert!(matches!(exchange.take_next(id), Some(Next::Over(Outcome::End))));
        assert_eq!(exchange.open(), 0);
    }

    #[test]
    fn items_that_nobody_takes_end_their_call_and_keep_what_was_before() {
        let mut exchange = greeted();
        let id = exchange.begin(Shape::Many);
        for _ in 0..100 {
            receive(&mut exchange, Kind::Item, id, &[0; 100]);
            assert!(exchange.bytes() <= 1000);
        }
        assert_eq!(exchange.take_to_cancel(), [id]);
        let mut items = 0;
        while let Some(Next::Item(_)) = exchange.take_next(id) {
            items += 1;
        }
        assert_eq!((items, exchange.open()), (6, 0));
    }

    #[test]
    fn several_answers_to_a_call_for_one_end_it() {
        let mut exchange = greeted();
        let id = exchange.begin(Shape::One);
        receive(&mut exchange, Kind::Item, id, b"one");
        assert!(matches!(exchange.take(id), Some(Outcome::NotOne)));
        assert_eq!(exchange.take_to_cancel(), [id]);
    }

    #[test]
    fn the_oldest_pushed_messages_make_room_for_new_ones() {
        let mut exchange = greeted();
        for number in 0..100u8 {
            receive(&mut exchange, Kind::Push, 0, &[number; 36]);
            assert!(exchange.bytes() <= 1000);
        }
        let kept: Vec<u8> = std::iter::from_fn(|| Some(exchange.take_push()?[0])).collect();
        assert_eq!(kept, (90..100).collect::<Vec<u8>>());
        assert_eq!(exchange.counts().pushes_dropped, 90);
    }

    #[test]
    fn an_error_reaches_its_call() {
        let mut exchange = greeted();
        let id = exchange.begin(Shape::One);
        receive(&mut exchange, Kind::Error, id, &[&[Cause::Handler.number()][..], b"no such note"].concat());
        assert!(matches!(exchange.take(id), Some(Outcome::Failed(failure)) if failure.text == "no such note"));
    }

    #[test]
    fn a_peer_that_is_no_server_of_calls_is_noticed_at_its_first_message() {
        let caller = Header::Greeting { side: Side::Caller, version: 1 }.encode();
        let reply = Header::Message { kind: Kind::Reply, id: 1 }.encode();
        for first in [&b"hello"[..], &caller, &reply, b""] {
            let mut exchange = Exchange::new(LIMITS);
            let first = Message { bytes: first.to_vec(), ..Message::default() };
            assert!(exchange.receive(first, &mut Vec::new()).is_err());
        }
        let request = message(Kind::Request, 1, b"");
        assert!(greeted().receive(request, &mut Vec::new()).is_err());
    }

    #[test]
    fn a_server_that_asks_to_leave_wakes_those_who_wait_for_what_it_may_not_send() {
        let mut exchange = greeted();
        let id = exchange.begin(Shape::One);
        for want in [Want::Answer(id), Want::Push, Want::Room] {
            exchange.wait_for(want, Waker::noop());
        }
        let mut woken = Vec::new();
        exchange.receive(message(Kind::Leave, 0, b""), &mut woken).unwrap();
        assert!(exchange.is_leaving() && woken.len() == 2);
        // The open call is still answered.
        receive(&mut exchange, Kind::Reply, id, b"an answer");
        assert_eq!(reply(&mut exchange, id), Some(b"an answer".to_vec()));
        receive(&mut exchange, Kind::Push, 0, b"a push");
        let legacy = exchange.retire();
        assert!(legacy.was_asked_to_leave && legacy.has_received && exchange.take_push().is_none());
    }

    #[test]
    fn the_end_wakes_all() {
        let mut exchange = greeted();
        let id = exchange.begin(Shape::One);
        for want in [Want::Answer(id), Want::Push, Want::Greeting, Want::Room] {
            exchange.wait_for(want, Waker::noop());
        }
        let mut woken = Vec::new();
        exchange.finish(End::Closed, &mut woken);
        assert_eq!(woken.len(), 4);
        assert!(!exchange.abandon(id), "nobody can be told");
    }
}
