//! Serving the clients of a hub: their requests become calls, and the answers of handlers go to them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};
use std::thread;
use std::time::Duration;

use super::call::Call;
use super::ids::IdHasher;
use super::outbox::{Outbox, Post, To};
use super::served::{CallLimits, ENDING, Served, Step};
use crate::error::{Error, ErrorKind, Operation, Result, TryRecvError};
use crate::hub::{Client, Event, Hub, HubHandle, HubOptions};
use crate::message::Message;
use crate::options::ServerOptions;
use crate::server::Server;
use crate::wait::Deadline;
use crate::wire::call::{BadCall, Cause, HEADER_LEN, Header, Kind, Side, VERSION};

/// The number of bytes of items, and of pushed messages, that may wait for one client.
const QUEUED_MAX: usize = 1024 * 1024;

/// Items are handed to the hub until it has buffered this much for the client. The hub does not read from a client for
/// which more than 64 KiB are buffered, and the cancellation of the stream has to be read.
const ITEMS_BUFFERED_MAX: usize = 48 * 1024;

/// The number of events that are served after the deadline of [`CallServer::next_call_timeout`]: those that had
/// happened by then, as a rule. A client that sends without pause causes more, and must not delay the return for ever.
const EVENTS_LATE_MAX: usize = 1024;

/// See the [module](self).
pub(super) struct Serving {
    pub(super) hub: Hub,
    pub(super) outbox: Arc<Outbox>,
    pub(super) limits: CallLimits,
    clients: Clients,
    /// The clients with a backlog.
    behind: BTreeSet<u64>,
    posts: VecDeque<Post>,
    /// Another process has the name, and the clients were told.
    has_told_to_leave: bool,
    /// No further request is begun.
    is_ending: bool,
}

impl Serving {
    pub(super) fn new(server: Server) -> Result<Self> {
        let display_name = Arc::clone(server.display_name());
        let message_max = server.message_max();
        let options = ServerOptions::new().message_max(message_max).spin_limit(server.spin_limit());
        // This server decides how much is buffered for a client, and not the hub.
        let mut hub = Hub::over(server, &HubOptions::new().server(options).write_buffer_max(usize::MAX))?;
        let outbox = Arc::new(Outbox::new(display_name, message_max, QUEUED_MAX));
        outbox.set_waker(Waker::from(Arc::new(WakeHub(hub.handle()?))));
        hub.wake_at_hand_over();
        let clients = Clients { members: HashMap::default(), outbox: Arc::clone(&outbox) };
        let (behind, posts) = (BTreeSet::new(), VecDeque::new());
        let (has_told_to_leave, is_ending) = (false, false);
        Ok(Self { hub, outbox, limits: CallLimits::default(), clients, behind, posts, has_told_to_leave, is_ending })
    }

    /// Serves until a request arrives, or until the deadline.
    pub(super) fn call_until(&mut self, deadline: Deadline) -> Result<Option<Call>> {
        self.outbox.check_process()?;
        if self.is_ending {
            return Err(Error::new(ErrorKind::Shutdown, Operation::NextEvent, self.outbox.server(), "the server ends"));
        }
        let mut events_left = EVENTS_LATE_MAX;
        loop {
            self.send_posts()?;
            let Some(event) = self.event_until(deadline)? else { return Ok(None) };
            if deadline.is_over() {
                events_left -= 1;
            }
            if let Some(call) = self.handle(event)? {
                return Ok(Some(call));
            }
            if events_left == 0 {
                // The descriptor stays readable for the events that are left.
                self.outbox.wake_server();
                return Ok(None);
            }
        }
    }

    /// Handles an event of the hub. Returns the call that it begins.
    fn handle(&mut self, event: Event) -> Result<Option<Call>> {
        match event {
            Event::Joined(client, peer) => {
                let served = Served::new(client.number(), peer, self.limits);
                let member = Member { client, served, backlog: VecDeque::new(), has_finished: false };
                self.clients.members.insert(client.number(), member);
            }
            Event::Message(client, message) => {
                let member = self.clients.members.get(&client.number());
                if member.is_some_and(|member| member.served.is_full_for(message.len())) {
                    // A call that another thread ended before this message was sent does not count.
                    self.send_posts()?;
                }
                return self.receive(client, message);
            }
            Event::Finished(client) => {
                if let Some(member) = self.clients.members.get_mut(&client.number()) {
                    member.has_finished = true;
                }
                self.end_if_done(client.number())?;
            }
            Event::Left(client, _) => {
                self.behind.remove(&client.number());
                if let Some(mut member) = self.clients.members.remove(&client.number()) {
                    member.served.cancel_all();
                    self.outbox.wake_waiting();
                }
            }
            // The hub has written all that was buffered for a client, or a thread has something to send, or another
            // process has the name.
            Event::Woken => {
                self.send_backlogs()?;
                if self.hub.has_handed_over() {
                    self.tell_to_leave()?;
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// Returns the next event of the hub, or `None` at the deadline.
    fn event_until(&mut self, deadline: Deadline) -> Result<Option<Event>> {
        match deadline.left() {
            None => self.hub.next_event().map(Some),
            Some(Duration::ZERO) => match self.hub.try_next_event() {
                Ok(event) => Ok(Some(event)),
                Err(TryRecvError::Empty) => Ok(None),
                Err(TryRecvError::Failed(error)) => Err(error),
            },
            Some(left) => match self.hub.next_event_timeout(left) {
                Ok(event) => Ok(Some(event)),
                Err(error) if error.kind() == ErrorKind::TimedOut => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Takes a message of a client. Returns the call that it begins.
    fn receive(&mut self, client: Client, message: Message) -> Result<Option<Call>> {
        let Some(member) = self.clients.members.get_mut(&client.number()) else { return Ok(None) };
        match member.served.receive(message) {
            Ok(Step::Begin(ticket, _)) if self.is_ending => {
                member.served.end(&ticket);
                let refusal = self.outbox.failure(ticket.id, Cause::Busy, ENDING);
                self.hub.send(client, &refusal)?;
                Ok(None)
            }
            Ok(Step::Begin(ticket, request)) => Ok(Some(Call::new(request, ticket, Arc::clone(&self.outbox)))),
            Ok(Step::Greet) => {
                let greeting = Header::Greeting { side: Side::Server, version: VERSION }.encode();
                self.hub.send(client, &greeting)?;
                if self.has_told_to_leave {
                    self.hub.send(client, &leave())?;
                }
                Ok(None)
            }
            Ok(Step::Refuse(id, text)) => {
                let refusal = self.outbox.failure(id, Cause::Busy, text);
                self.hub.send(client, &refusal)?;
                Ok(None)
            }
            Ok(Step::Nothing) => {
                // The items of a call that was cancelled are dropped.
                self.send_backlog(client.number())?;
                self.outbox.wake_waiting();
                Ok(None)
            }
            Err(BadCall(reason)) => {
                tracing::debug!(client = client.number(), reason, "disconnected for a violation of the protocol");
                // A client that does not know calls finds an error, and not the orderly end of a server that has no
                // answer.
                self.hub.abort(client)?;
                Ok(None)
            }
        }
    }

    /// Sends what handlers and other threads have queued.
    fn send_posts(&mut self) -> Result<()> {
        let mut posts = std::mem::take(&mut self.posts);
        loop {
            self.outbox.take(&mut posts);
            if posts.is_empty() {
                self.posts = posts;
                return Ok(());
            }
            for post in posts.drain(..) {
                self.dispatch(post)?;
            }
            self.outbox.wake_waiting();
        }
    }

    fn dispatch(&mut self, post: Post) -> Result<()> {
        match &post.to {
            To::Caller { ticket, is_of_stream: true, .. } => {
                let number = ticket.client.number;
                let Some(member) = self.clients.members.get_mut(&number) else { return Ok(()) };
                member.backlog.push_back(post);
                self.send_backlog(number)
            }
            To::Caller { ticket, .. } => {
                let number = ticket.client.number;
                let Some(member) = self.clients.members.get_mut(&number) else { return Ok(()) };
                if !ticket.is_cancelled() {
                    self.hub.send(member.client, &post.bytes)?;
                }
                // A message that does not belong to a stream is the last one.
                member.served.end(ticket);
                self.end_if_done(number)
            }
            &To::Client(number) => match self.clients.members.get(&number) {
                Some(member) if member.served.is_greeted() => push(&mut self.hub, member.client, &post.bytes),
                _ => Ok(()),
            },
            #[cfg(feature = "tokio")]
            To::This => Ok(()),
            To::All => {
                let greeted = self.clients.members.values().filter(|member| member.served.is_greeted());
                greeted.map(|member| member.client).try_for_each(|client| push(&mut self.hub, client, &post.bytes))
            }
        }
    }

    /// Sends items for which the hub has room.
    fn send_backlog(&mut self, number: u64) -> Result<()> {
        let Some(member) = self.clients.members.get_mut(&number) else { return Ok(()) };
        while let Some(Post { to: To::Caller { ticket, is_last, .. }, bytes }) = member.backlog.front() {
            if !ticket.is_cancelled() {
                let buffered = self.hub.write_buffer_len(member.client);
                if buffered > 0 && buffered + bytes.len() > ITEMS_BUFFERED_MAX {
                    self.hub.wake_when_written(member.client);
                    self.behind.insert(number);
                    return Ok(());
                }
                self.hub.send(member.client, bytes)?;
            }
            ticket.client.queued.fetch_sub(bytes.len(), Ordering::Relaxed);
            if *is_last {
                member.served.end(ticket);
            }
            member.backlog.pop_front();
        }
        self.behind.remove(&number);
        self.end_if_done(number)
    }

    /// Tells the clients once that another server has the name, or will have it. Those that can connect again do so.
    fn tell_to_leave(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.has_told_to_leave, true) {
            return Ok(());
        }
        let greeted = self.clients.members.values().filter(|member| member.served.is_greeted());
        greeted.map(|member| member.client).try_for_each(|client| self.hub.send(client, &leave()))
    }

    fn send_backlogs(&mut self) -> Result<()> {
        if self.behind.is_empty() {
            return Ok(());
        }
        for number in self.behind.clone() {
            self.send_backlog(number)?;
        }
        self.outbox.wake_waiting();
        Ok(())
    }

    /// Ends the connection of a client that has ended sending, once all of its calls are answered.
    fn end_if_done(&mut self, number: u64) -> Result<()> {
        match self.clients.members.get(&number) {
            Some(member) if member.has_finished && member.served.held() == 0 && member.backlog.is_empty() => {
                self.hub.finish(member.client)
            }
            _ => Ok(()),
        }
    }

    /// Waits for the calls that other threads hold, and ends. Requests that have arrived by then are refused, so that
    /// their callers know that they were not begun. The writing of the answers has the time until `deadline`, or the
    /// time of the hub.
    pub(super) fn end(mut self, grace: Duration, deadline: Option<Deadline>) -> Result<()> {
        let mut given_up = Ok(());
        if !self.outbox.is_forked() {
            self.outbox.set_server(thread::current().id());
            // The first error is that of the file system: the name is free nevertheless.
            if !std::mem::replace(&mut self.is_ending, true) {
                given_up = self.hub.begin_ending();
            }
            if let Err(error) = self.finish_calls(Deadline::after(grace), Served::held) {
                tracing::debug!(%error, "calls are not awaited");
            }
        }
        let Self { hub, clients, .. } = self;
        drop(clients);
        given_up.and(match deadline {
            None => hub.close(),
            Some(deadline) => hub.close_timeout(deadline.left().unwrap_or(Duration::MAX)),
        })
    }

    /// Does what [`end`](Self::end) does until the deadline, and can go on after that. Calls that were cancelled are
    /// not awaited.
    pub(super) fn end_until(&mut self, deadline: Deadline) -> Result<()> {
        self.outbox.check_process()?;
        self.outbox.set_server(thread::current().id());
        if !std::mem::replace(&mut self.is_ending, true) {
            self.hub.begin_ending()?;
        }
        self.finish_calls(deadline, Served::awaited)?;
        match self.count(Served::awaited) {
            0 => self.hub.end_timeout(deadline.left().unwrap_or(Duration::MAX)),
            count => {
                let detail = format!("{count} calls are open; they fail at their callers when the server is dropped");
                Err(Error::new(ErrorKind::TimedOut, Operation::Close, self.outbox.server(), detail))
            }
        }
    }

    fn count(&self, of_client: fn(&Served) -> usize) -> usize {
        self.clients.members.values().map(|member| of_client(&member.served)).sum()
    }

    /// Serves without beginning a call: until `of_client` counts none, or until the deadline, and then what has
    /// arrived.
    fn finish_calls(&mut self, until: Deadline, of_client: fn(&Served) -> usize) -> Result<()> {
        self.tell_to_leave()?;
        let mut events_left = EVENTS_LATE_MAX;
        while events_left > 0 {
            self.send_posts()?;
            let is_over = self.count(of_client) == 0 || until.is_over();
            match self.event_until(if is_over { Deadline::now() } else { until })? {
                // A call that is dropped here would be refused, too.
                Some(event) => drop(self.handle(event)?),
                None if is_over => break,
                None => {}
            }
            events_left -= usize::from(is_over);
        }
        Ok(())
    }
}

/// The clients. Dropping them ends their calls.
struct Clients {
    /// By their numbers, which the hub chooses.
    members: HashMap<u64, Member, BuildHasherDefault<IdHasher>>,
    outbox: Arc<Outbox>,
}

impl Drop for Clients {
    fn drop(&mut self) {
        if self.outbox.is_forked() {
            return;
        }
        for member in self.members.values_mut() {
            member.served.cancel_all();
        }
        self.outbox.end();
    }
}

/// Wakes the thread that serves.
struct WakeHub(HubHandle);

impl Wake for WakeHub {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

/// A client, and the items that wait for it because it takes them slowly.
struct Member {
    client: Client,
    served: Served,
    backlog: VecDeque<Post>,
    /// The client has ended sending.
    has_finished: bool,
}

/// Returns the message that asks a client to go to the server that now has the name.
fn leave() -> [u8; HEADER_LEN] {
    Header::Message { kind: Kind::Leave, id: 0 }.encode()
}

/// Sends a message that answers no call. A client that does not take its messages is disconnected.
fn push(hub: &mut Hub, client: Client, bytes: &[u8]) -> Result<()> {
    if hub.write_buffer_len(client) > QUEUED_MAX {
        tracing::debug!(client = client.number(), "disconnected because it does not take its messages");
        return hub.disconnect(client);
    }
    hub.send(client, bytes)
}
