//! The connection of a blocking caller, which any number of threads use at the same time.
//!
//! No thread of the library receives. The threads that wait do: one leads and receives for all (`followers.rs`). A
//! thread that waits for room to send waits in the same way, so somebody always receives. Otherwise a server that
//! sends a long answer and a caller that sends a long request would wait for each other.
//!
//! Only the leader sleeps on descriptors. If it sleeps and another thread has something to be written that the channel
//! did not take, that thread nudges it.
//!
//! Locks are held while a call works, never while it sleeps, except that of the receiver, which belongs to the leader.
//! They are taken in this order, and mostly one at a time: `receiver`, `sender`, `state`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};

use super::exchange::{End, Exchange, Limits, Want};
use super::followers::{self, Followers};
use super::park::waker_of_this_thread;
use crate::backoff::{Backoff, SpinBudget};
use crate::connection::Connection;
use crate::endpoint::Common;
use crate::error::{Error, ErrorKind, Operation, Result, TryRecvError, TrySendError};
use crate::message::{Message, Received};
use crate::payload::Payload;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::sys::fork::Process;
use crate::sys::fork_mutex::{ForkMutex, Guard};
use crate::sys::shared_fd::WatchedFd;
use crate::wait::Deadline;
use crate::wire::call::{BadCall, Header, Kind, Side, VERSION};

const CALL: Operation = Operation::Call;

/// The time after which a session looks whether the server has gone before it sends a request.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// The number of messages that [`Line::advance`] receives at most, and of their bytes, after which it receives no
/// further one: those for whom they are take them before more have to be kept.
const ADVANCE_MAX: usize = 64;
const ADVANCE_BYTES_MAX: usize = 64 << 10;

/// See the [module](self).
pub(super) struct Line {
    process: Process,
    common: Arc<Common>,
    state: ForkMutex<State>,
    sender: ForkMutex<Sender>,
    receiver: ForkMutex<Receiver>,
    /// An eventfd(2) that wakes the leader.
    nudge: OwnedFd,
    /// That of the receiver.
    readable: Arc<WatchedFd>,
    user: User,
}

/// The user of a line, who decides what its end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// A [`Caller`](super::Caller), which ends with its connection.
    Caller,
    /// A [`CallSession`](super::CallSession), which goes on with another connection.
    Session,
}

pub(super) struct State {
    pub(super) exchange: Exchange,
    followers: Followers,
    /// That of the followers. The leader has the one of the receiver.
    backoff: Backoff,
    /// The time at which the last leader of a session resigned.
    led: Instant,
    /// For [`Line::advance`].
    full: Option<Arc<WatchedFd>>,
    /// [`Line::advance`] was called, so somebody may sleep on the descriptor without a place among the followers.
    is_polled: bool,
}

impl State {
    /// Makes this thread the leader and returns true, if there is none.
    pub(super) fn lead(&mut self) -> bool {
        self.followers.lead()
    }
}

/// The result of waiting.
pub(super) enum Waited<T> {
    Ready(T),
    TimedOut,
    /// The connection has ended in an orderly way.
    Closed,
}

/// The state of a thread that waits.
enum Place {
    /// It has not waited yet.
    New,
    /// It looks again after each yield.
    Spinning(Backoff, SpinBudget),
    Parked(followers::Place),
}

/// The state of the line when a call was opened.
#[derive(Clone, Copy)]
pub(super) struct Opened {
    pub(super) is_greeted: bool,
    /// [`Exchange::rooms`].
    pub(super) rooms: u64,
}

/// The result of sending a request.
pub(super) enum Requested {
    Sent,
    /// The deadline passed first. Nothing was sent.
    TimedOut,
    /// The server has asked the caller of a session to leave. Nothing was sent.
    Leaving,
}

impl Line {
    /// Takes a connection, and greets the server.
    pub(super) fn new(connection: Connection, limits: Limits, user: User) -> Result<Self> {
        let (mut sender, mut receiver) = connection.into_halves();
        let common = Arc::clone(receiver.shared());
        let nudge = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| common.io(CALL, errno.into()))?;
        let greeting = Header::Greeting { side: Side::Caller, version: VERSION }.encode();
        sender.feed_now(&Payload::new(&greeting))?;
        // The first thread that waits writes the bytes that the channel does not take now.
        if let Err(TrySendError::Failed(error)) = sender.try_flush() {
            return Err(error);
        }
        let readable = receiver.incoming.share_fd();
        let state = State {
            exchange: Exchange::new(limits),
            followers: Followers::default(),
            backoff: Backoff::new(),
            led: Instant::now(),
            full: None,
            is_polled: false,
        };
        Ok(Self {
            process: Process::current(),
            common,
            state: ForkMutex::new(state),
            sender: ForkMutex::new(sender),
            receiver: ForkMutex::new(receiver),
            nudge,
            readable,
            user,
        })
    }

    /// Returns the error of a call after the server has ended the connection.
    pub(super) fn closed(&self) -> Error {
        self.common
            .error(ErrorKind::Disconnected, CALL, "the server has ended the connection")
            .next("connect again; the server may have executed calls that it did not answer")
    }

    /// Converts the error of a call that was sent.
    pub(super) fn lost(&self, error: Error) -> Error {
        match self.user {
            User::Caller => error,
            User::Session => lost(error),
        }
    }

    /// Returns true if nothing arrives any more.
    pub(super) fn has_ended(&self) -> Result<bool> {
        Ok(self.state()?.exchange.end().is_some())
    }

    /// Returns true if this is a connection of a session of calls.
    pub(super) fn is_of_session(&self) -> bool {
        self.user == User::Session
    }

    /// Returns true if the next request belongs on another connection: this one has ended, or the server has asked to
    /// leave it.
    pub(super) fn is_over(&self) -> Result<bool> {
        let state = self.state()?;
        Ok(state.exchange.end().is_some() || state.exchange.is_leaving())
    }

    /// Returns true if the server has asked a session to leave. A [`Caller`](super::Caller) has no other connection.
    fn is_to_be_left(&self, exchange: &Exchange) -> bool {
        self.user == User::Session && exchange.is_leaving()
    }

    /// Receives what has arrived, without blocking, if no thread has done so for a moment. The server may have gone
    /// meanwhile, and a channel takes requests that nobody reads any more.
    pub(super) fn look_around(&self) -> Result<()> {
        let state = self.state()?;
        if state.followers.has_leader() || state.led.elapsed() < LOOK_INTERVAL {
            return Ok(());
        }
        drop(state);
        // An end is kept.
        let _ = self.wait(Want::Push, Deadline::now(), false, |_| None::<()>);
        Ok(())
    }

    pub(super) fn common(&self) -> &Common {
        &self.common
    }

    /// Locks the state.
    pub(super) fn state(&self) -> Result<Guard<'_, State>> {
        self.state.lock().ok_or_else(|| self.forked())
    }

    pub(super) fn check_process(&self) -> Result<()> {
        if self.process.is_before_fork() { Err(self.forked()) } else { Ok(()) }
    }

    #[cold]
    fn forked(&self) -> Error {
        let detail = "this is a forked child, and the caller belongs to the parent";
        self.common.error(ErrorKind::NameLost, CALL, detail).next("connect in the child")
    }

    /// Sends a request. Waits until the server has said that it answers calls, and while the channel is full. After an
    /// error nothing was sent.
    pub(super) fn send_request(
        &self,
        id: u32,
        payload: &Payload<'_>,
        Opened { is_greeted, mut rooms }: Opened,
        deadline: Deadline,
    ) -> Result<Requested> {
        if !is_greeted {
            let is_greeted = |exchange: &mut Exchange| exchange.is_greeted().then_some(());
            match self.wait(Want::Greeting, deadline, false, is_greeted)? {
                Waited::Ready(()) => {}
                Waited::TimedOut => return Ok(Requested::TimedOut),
                Waited::Closed => return Err(self.closed()),
            }
            if self.is_to_be_left(&self.state()?.exchange) {
                return Ok(Requested::Leaving);
            }
        }
        loop {
            if self.try_send_request(id, payload)? {
                return Ok(Requested::Sent);
            }
            // Room that was found since before the attempt counts.
            let has_room = |exchange: &mut Exchange| {
                let now = exchange.rooms();
                let is_new = std::mem::replace(&mut rooms, now) != now;
                let is_to_be_left = self.is_to_be_left(exchange);
                (is_to_be_left || is_new).then_some(is_to_be_left)
            };
            match self.wait(Want::Room, deadline, false, has_room)? {
                Waited::Ready(false) => {}
                Waited::Ready(true) => return Ok(Requested::Leaving),
                Waited::TimedOut => return Ok(Requested::TimedOut),
                Waited::Closed => return Err(self.closed()),
            }
        }
    }

    /// Sends a request without blocking. Returns false if nothing was sent.
    pub(super) fn try_send_request(&self, id: u32, payload: &Payload<'_>) -> Result<bool> {
        let header = Header::Message { kind: Kind::Request, id }.encode();
        payload.with_front(&header, |payload| self.try_send(payload))
    }

    /// Sends without blocking. The rest of a message of which the channel takes a part is kept, and written by the
    /// threads that wait. Returns false if nothing was sent.
    fn try_send(&self, payload: Payload<'_>) -> Result<bool> {
        let Some(mut sender) = self.sender.lock() else { return Err(self.forked()) };
        match sender.try_send(payload) {
            Ok(()) => {
                let has_rest = sender.outgoing().pending() > 0;
                drop(sender);
                if has_rest {
                    self.nudge();
                }
                Ok(true)
            }
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Failed(error)) => Err(error),
        }
    }

    /// Tells the server that the answer to a call is not wanted any more. Never blocks: what the channel does not take
    /// is buffered.
    pub(super) fn cancel(&self, id: u32) {
        let Some(mut sender) = self.sender.lock() else { return };
        let header = Header::Message { kind: Kind::Cancel, id }.encode();
        // An error means that the connection has ended, and then the server knows.
        if sender.feed_now(&Payload::new(&header)).is_ok() && sender.try_flush().is_err_and(|error| error.is_full()) {
            drop(sender);
            self.nudge();
        }
    }

    /// Writes and receives without blocking. Returns true if something was received, or room was found.
    pub(super) fn advance(&self) -> Result<bool> {
        let mut woken = Vec::new();
        let mut has_changed = self.advance_writing(&mut woken)?;
        let mut to_cancel = Vec::new();
        // A leader receives for all.
        let leads = {
            let mut state = self.state()?;
            state.is_polled = true;
            state.followers.lead()
        };
        if leads {
            let leading = Leading(self);
            has_changed |= self.advance_receiving(&mut woken)?;
            let mut state = self.state()?;
            to_cancel = state.exchange.take_to_cancel();
            state.followers.resign();
            std::mem::forget(leading);
            self.leave(state);
        }
        self.after_receiving(&to_cancel, &mut woken);
        Ok(has_changed)
    }

    /// Receives some messages, in the thread that leads.
    fn advance_receiving(&self, woken: &mut Vec<Waker>) -> Result<bool> {
        let Some(mut receiver) = self.receiver.lock() else { return Err(self.forked()) };
        let mut bytes = 0;
        for count in 0..ADVANCE_MAX {
            if bytes >= ADVANCE_BYTES_MAX {
                return Ok(true);
            }
            if self.state()?.exchange.end().is_some() {
                return Ok(count > 0);
            }
            let mut message = Message::default();
            let received = receiver.try_recv_over(&mut message);
            bytes += message.len();
            let mut state = self.state()?;
            match received {
                Ok(true) => self.take(&mut state, message, woken),
                Ok(false) => state.exchange.finish(End::Closed, woken),
                Err(TryRecvError::Failed(error)) => state.exchange.finish(End::Failed(error), woken),
                Err(TryRecvError::Empty) => return Ok(count > 0),
            }
        }
        Ok(true)
    }

    /// Writes what is buffered, and notes the descriptor that reports room for the rest.
    fn advance_writing(&self, woken: &mut Vec<Waker>) -> Result<bool> {
        let full = match self.write() {
            Writing::Idle => None,
            Writing::Full(fd) if !is_writable(&fd) => Some(fd),
            Writing::Full(_) | Writing::HasRoom => {
                let full = self.sender.lock().and_then(|mut sender| match sender.try_flush() {
                    // Room that was found meanwhile does not take all.
                    Err(TrySendError::Full(())) => sender.outgoing().share_fd(),
                    // An error shows with the next send.
                    Ok(()) | Err(TrySendError::Failed(_)) => None,
                });
                let mut state = self.state()?;
                state.full = full;
                state.exchange.note_room(woken);
                return Ok(true);
            }
        };
        self.state()?.full = full;
        Ok(false)
    }

    /// Returns the descriptor that reports what arrives.
    pub(super) fn readable(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }

    /// Returns the descriptor that the last [`advance`](Self::advance) has noted.
    pub(super) fn writable(&self) -> Option<Arc<WatchedFd>> {
        self.state.lock()?.full.clone()
    }

    /// Makes the leader look for something to write, if there is a leader. The next one looks anyway.
    pub(super) fn nudge(&self) {
        if self.state.lock().is_none_or(|state| !state.followers.has_leader()) {
            return;
        }
        // The write fails only if the counter is full, and then the leader is about to wake up.
        let _ = rustix::io::write(&self.nudge, &1u64.to_ne_bytes());
    }

    /// Waits until `ready` returns a value. `want` is the event that may change what it returns. `has_sent` is true if
    /// this thread has just sent a request.
    pub(super) fn wait<T>(
        &self,
        want: Want,
        deadline: Deadline,
        has_sent: bool,
        mut ready: impl FnMut(&mut Exchange) -> Option<T>,
    ) -> Result<Waited<T>> {
        let mut place = Place::New;
        loop {
            let mut state = self.state()?;
            let has_waited = !matches!(place, Place::New);
            match &place {
                Place::New => {}
                Place::Spinning(..) => state.followers.end_spinning(),
                Place::Parked(place) => state.followers.unfollow(*place),
            }
            if let Some(waited) = self.look(&mut state.exchange, &mut ready) {
                self.leave(state);
                return waited;
            }
            if has_waited && deadline.is_over() {
                self.leave(state);
                return Ok(Waited::TimedOut);
            }
            if state.followers.lead() {
                drop(state);
                return self.lead(want, deadline, has_sent, ready);
            }
            // A thread that was woken does not spin, because its message has arrived or another thread leads.
            let (mut backoff, mut budget) = match place {
                Place::New => {
                    let mut backoff = state.backoff;
                    let budget = backoff.begin(self.common.spin_limit);
                    (backoff, budget)
                }
                Place::Spinning(backoff, budget) => (backoff, budget),
                Place::Parked(_) => (state.backoff, SpinBudget::default()),
            };
            if budget.has_polls_left() {
                state.followers.begin_spinning();
                drop(state);
                backoff.spin_once(&mut budget);
                place = Place::Spinning(backoff, budget);
                continue;
            }
            state.backoff = backoff;
            let waker = waker_of_this_thread();
            state.exchange.wait_for(want, &waker);
            place = Place::Parked(state.followers.follow(waker));
            drop(state);
            if want == Want::Room {
                // The leader has to find out when there is room.
                self.nudge();
            }
            match deadline.left() {
                Some(left) => thread::park_timeout(left),
                None => thread::park(),
            }
        }
    }

    /// Returns the result of waiting if there is one.
    fn look<T>(
        &self,
        exchange: &mut Exchange,
        ready: &mut impl FnMut(&mut Exchange) -> Option<T>,
    ) -> Option<Result<Waited<T>>> {
        if let Some(value) = ready(exchange) {
            return Some(Ok(Waited::Ready(value)));
        }
        match exchange.end()? {
            End::Closed => Some(Ok(Waited::Closed)),
            End::Failed(error) => Some(Err(error.again())),
        }
    }

    /// Wakes the next leader if there is none, for a thread that leaves.
    fn leave(&self, mut state: Guard<'_, State>) {
        let successor = state.followers.successor();
        drop(state);
        if let Some(successor) = successor {
            successor.wake();
        }
    }

    /// Ends the leadership of this thread.
    pub(super) fn resign(&self) {
        drop(Leading(self));
    }

    /// Receives for all threads until `ready` returns a value. This thread is the leader, and is not any more when this
    /// returns.
    pub(super) fn lead<T>(
        &self,
        want: Want,
        deadline: Deadline,
        has_sent: bool,
        mut ready: impl FnMut(&mut Exchange) -> Option<T>,
    ) -> Result<Waited<T>> {
        // Whatever ends this function, nobody else stays asleep.
        let leading = Leading(self);
        let Some(mut receiver) = self.receiver.lock() else { return Err(self.forked()) };
        if want == Want::Room {
            // So that the leader looks for room before it sleeps.
            self.state()?.exchange.wait_for(want, &waker_of_this_thread());
        }
        if has_sent {
            receiver.expect_answer();
        }
        let mut woken = Vec::new();
        loop {
            let mut message = Message::default();
            let received = self.receive(&mut receiver, &mut message, deadline, &mut woken);
            let mut state = self.state()?;
            let is_over = matches!(received, Arrived::DeadlinePassed);
            match received {
                Arrived::Message => self.take(&mut state, message, &mut woken),
                Arrived::Nothing | Arrived::DeadlinePassed => {}
                Arrived::End(end) => state.exchange.finish(end, &mut woken),
            }
            let mut waited = self.look(&mut state.exchange, &mut ready);
            if waited.is_none() && is_over {
                waited = Some(Ok(Waited::TimedOut));
            }
            if waited.is_some() {
                // The messages that were read together with the last one belong to others, who need not read them.
                let mut next = Vec::new();
                while state.exchange.end().is_none() && receiver.pop_read(&mut next) {
                    let message = Message { bytes: std::mem::take(&mut next), ..Message::default() };
                    self.take(&mut state, message, &mut woken);
                }
            }
            let to_cancel = state.exchange.take_to_cancel();
            match waited {
                Some(waited) => {
                    if state.is_polled {
                        hand_to_polls(&mut receiver, &mut state, &mut woken);
                    }
                    drop(receiver);
                    state.followers.resign();
                    if self.user == User::Session {
                        state.led = Instant::now();
                    }
                    std::mem::forget(leading);
                    woken.extend(state.followers.successor());
                    drop(state);
                    self.after_receiving(&to_cancel, &mut woken);
                    return waited;
                }
                None => drop(state),
            }
            self.after_receiving(&to_cancel, &mut woken);
        }
    }

    /// Gives a message to the one who waits for it. A violation of the protocol ends the connection.
    fn take(&self, state: &mut State, message: Message, woken: &mut Vec<Waker>) {
        if let Err(BadCall(reason)) = state.exchange.receive(message, woken) {
            let error = self
                .common
                .error(ErrorKind::Protocol, CALL, reason)
                .next("check that the server answers calls (Server::serve_calls)");
            state.exchange.finish(End::Failed(error), woken);
        }
    }

    fn after_receiving(&self, to_cancel: &[u32], woken: &mut Vec<Waker>) {
        for &id in to_cancel {
            self.cancel(id);
        }
        for waker in woken.drain(..) {
            waker.wake();
        }
    }

    /// Receives one message. Writes what is to be written meanwhile.
    fn receive(
        &self,
        receiver: &mut Receiver,
        message: &mut Message,
        deadline: Deadline,
        woken: &mut Vec<Waker>,
    ) -> Arrived {
        if receiver.pop_read(&mut message.bytes) {
            return Arrived::Message;
        }
        let mut is_interrupted = false;
        let received = receiver.recv_until(message, deadline, |fd| {
            let readable = self.sleep(fd, deadline, woken)?;
            is_interrupted = readable.is_none();
            Ok(readable == Some(true))
        });
        match received {
            Ok(Received::Message) => Arrived::Message,
            Ok(Received::Empty) => Arrived::Nothing,
            Ok(Received::Closed) => Arrived::End(End::Closed),
            Err(error) if error.kind() == ErrorKind::TimedOut && is_interrupted => Arrived::Nothing,
            Err(error) if error.kind() == ErrorKind::TimedOut => Arrived::DeadlinePassed,
            Err(error) => Arrived::End(End::Failed(error)),
        }
    }

    /// Sleeps until the receiver is readable, and returns true, or until the deadline, and returns false. Returns
    /// `None` if there is room for sending, for which somebody waits.
    fn sleep(&self, readable: BorrowedFd<'_>, deadline: Deadline, woken: &mut Vec<Waker>) -> io::Result<Option<bool>> {
        loop {
            let full = match self.write() {
                Writing::Idle => None,
                Writing::Full(fd) => Some(fd),
                Writing::HasRoom => {
                    if let Some(mut state) = self.state.lock() {
                        state.exchange.note_room(woken);
                    }
                    return Ok(None);
                }
            };
            // Without a full channel, no event of the third descriptor is awaited.
            let (writable, flags) = match &full {
                Some(fd) => (fd.as_fd(), PollFlags::OUT),
                None => (self.nudge.as_fd(), PollFlags::empty()),
            };
            let fds = [
                PollFd::from_borrowed_fd(readable, PollFlags::IN),
                PollFd::from_borrowed_fd(self.nudge.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(writable, flags),
            ];
            let Some(events) = self.common.sleep_on(fds, deadline)? else { return Ok(Some(false)) };
            let [is_readable, is_nudged, is_writable] = events.map(|events| !events.is_empty());
            if is_nudged {
                // The counter is reset, and all for which it was raised is looked for.
                let _ = rustix::io::read(&self.nudge, &mut [0; 8]);
            }
            if is_writable && full.is_some() {
                if let Some(mut sender) = self.sender.lock() {
                    // An error shows with the next send.
                    let _ = sender.try_flush();
                }
                if let Some(mut state) = self.state.lock() {
                    state.exchange.note_room(woken);
                }
                return Ok(if is_readable { Some(true) } else { None });
            }
            if is_readable {
                return Ok(Some(true));
            }
        }
    }

    /// Writes what is buffered, without blocking.
    fn write(&self) -> Writing {
        let wants_room = self.state.lock().is_some_and(|state| state.exchange.wants_room());
        let Some(mut sender) = self.sender.lock() else { return Writing::Idle };
        if sender.outgoing().pending() == 0 && !wants_room {
            return Writing::Idle;
        }
        // An error of sending does not keep this side from receiving. Those who want to send get it when they try.
        let can_send = match sender.try_flush() {
            Ok(()) if !wants_room => return Writing::Idle,
            Ok(()) => sender.prepare_to_wait().unwrap_or(true),
            Err(TrySendError::Full(())) => false,
            Err(TrySendError::Failed(_)) if !wants_room => return Writing::Idle,
            Err(TrySendError::Failed(_)) => true,
        };
        match (can_send, sender.outgoing().share_fd()) {
            (false, Some(fd)) => Writing::Full(fd),
            _ => Writing::HasRoom,
        }
    }
}

/// Converts the error that ended a connection into the one that a session reports for a call that was sent over it.
pub(crate) fn lost(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Disconnected | ErrorKind::Truncated | ErrorKind::Busy => error
            .into_kind(ErrorKind::Lost)
            .note("the server may have executed the call")
            .next("the next call connects again; make this call again only if it may be executed twice"),
        _ => error,
    }
}

/// Returns true if the descriptor reports room, or an end.
fn is_writable(fd: &WatchedFd) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)];
    rustix::event::poll(&mut fds, Some(&Timespec::default())).is_ok_and(|count| count > 0)
}

/// The outcome of a write of the leader.
enum Writing {
    /// Nothing is buffered, or it cannot be sent any more, and nobody wants to send.
    Idle,
    /// Those who wait for room may try again.
    HasRoom,
    /// This descriptor reports when there is room.
    Full(Arc<WatchedFd>),
}

/// The outcome of a receive of the leader.
enum Arrived {
    Message,
    Nothing,
    DeadlinePassed,
    End(End),
}

/// Makes those that sleep on the descriptor find what arrives after the leader has resigned: its arrival makes the
/// descriptor readable. All are woken if something has arrived already.
#[cold]
fn hand_to_polls(receiver: &mut Receiver, state: &mut State, woken: &mut Vec<Waker>) {
    if receiver.incoming.has_message() || receiver.incoming.prepare_to_wait() {
        state.exchange.wake_all(woken);
    }
}

/// Ends the leadership of a thread, whatever ends its work.
struct Leading<'a>(&'a Line);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        let mut woken = Vec::new();
        // The order of the locks: that of the receiver is the first.
        let receiver = self.0.receiver.lock();
        if let Some(mut state) = self.0.state.lock() {
            if let Some(mut receiver) = receiver.filter(|_| state.is_polled) {
                hand_to_polls(&mut receiver, &mut state, &mut woken);
            }
            state.followers.resign();
            self.0.leave(state);
        }
        for waker in woken {
            waker.wake();
        }
    }
}
