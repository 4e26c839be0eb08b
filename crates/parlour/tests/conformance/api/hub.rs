//! A hub behind the common front. A dedicated thread runs the hub and serves all clients. Calls on the server's end of
//! a connection are executed by that thread between two events. The thread polls the hub only while a call waits for
//! an event, so that scenarios can test a side that does not receive.

use std::any::Any;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parlour::hub::{Client, DisconnectReason, Event, Hub, HubOptions, SlowClientPolicy};
use parlour::{
    Capabilities, ErrorKind, Message, Payload, Peer, ServerOptions, ServerStats, SharedBytes, ShutdownHandle, Transport,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::error::Error;
use super::{Connection, Result, TryRecvError, TrySendError};

/// As much as a connection of the other APIs buffers for `feed`.
const UNSENT_MAX: usize = 64 * 1024;

/// A queue between the hub's thread and the calls of a scenario.
struct Queue<T> {
    items: Mutex<VecDeque<T>>,
    changed: Condvar,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { items: Mutex::default(), changed: Condvar::new() }
    }
}

impl<T> Queue<T> {
    fn push(&self, item: T) {
        self.items.lock().unwrap().push_back(item);
        self.changed.notify_all();
    }

    /// Waits until `look` returns a value or the deadline expires.
    fn wait<R>(&self, deadline: Option<Instant>, mut look: impl FnMut(&mut VecDeque<T>) -> Option<R>) -> Option<R> {
        let mut items = self.items.lock().unwrap();
        loop {
            if let Some(found) = look(&mut items) {
                return Some(found);
            }
            let left = deadline.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            items = self.changed.wait_timeout(items, left).unwrap().0;
        }
    }
}

/// A result of `accept`.
enum Arrival {
    Client(HubConnection),
    Failed(ErrorKind, String),
    Panic(Box<dyn Any + Send>),
}

/// An item that one client sent.
enum Item {
    Message(Message),
    /// The client has finished, or failed with this error. The last item, which is never removed.
    End(Option<(ErrorKind, String)>),
}

/// The state of the hub's thread.
struct Served {
    hub: Hub,
    is_shut_down: bool,
    /// The server front was dropped, so new clients are disconnected.
    is_closed: bool,
    arrivals: Arc<Queue<Arrival>>,
    /// Creates the front of a connection.
    join: Join,
    clients: HashMap<Client, Arc<Queue<Item>>>,
    /// Clients that left before all messages to them were written.
    failed_clients: HashSet<Client>,
    pending: Vec<PendingSend>,
}

/// A call that waits until the kernel has taken its message.
struct PendingSend {
    number: u64,
    client: Client,
    /// The message, until the hub has accepted it.
    message: Option<OwnMessage>,
    done: mpsc::Sender<Result<()>>,
}

/// A message on its way to the hub's thread.
struct OwnMessage {
    bytes: Vec<u8>,
    blocks: Vec<SharedBytes>,
}

impl OwnMessage {
    fn of(payload: &Payload<'_>) -> Self {
        Self { bytes: payload.to_vec(), blocks: Vec::new() }
    }
}

type Command = Box<dyn FnOnce(&mut Served) + Send>;
type Join = Box<dyn Fn(&Hub, Client, Peer, Arc<Queue<Item>>) -> Option<HubConnection> + Send>;

/// The handle of the hub's thread. The thread ends when the last handle is dropped.
struct Driver {
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    shutdown: ShutdownHandle,
    arrivals: Arc<Queue<Arrival>>,
    /// The number of calls that wait for an event.
    waiters: Arc<AtomicUsize>,
}

/// A call that waits for an event.
struct Waiter<'a>(&'a AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Driver {
    fn poll_events(&self) -> Waiter<'_> {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        rustix::io::write(&*self.wake, &1u64.to_ne_bytes()).unwrap();
        Waiter(&self.waiters)
    }

    /// Executes `work` in the hub's thread and returns its result.
    fn run<R: Send + 'static>(&self, work: impl FnOnce(&mut Served) -> R + Send + 'static) -> R {
        let (reply, result) = mpsc::channel();
        self.post(move |served| drop(reply.send(work(served))));
        result.recv().expect("the hub's thread runs")
    }

    fn post(&self, work: impl FnOnce(&mut Served) + Send + 'static) {
        if let Some(commands) = &*self.commands.lock().unwrap() {
            // The thread has ended only if it panicked, which another call reports.
            let _ = commands.send(Box::new(work));
        }
        rustix::io::write(&*self.wake, &1u64.to_ne_bytes()).unwrap();
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        *self.commands.lock().unwrap() = None;
        rustix::io::write(&*self.wake, &1u64.to_ne_bytes()).unwrap();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The server front of a hub.
pub struct HubServer {
    driver: Arc<Driver>,
    name: String,
    path: PathBuf,
    transports: Vec<Transport>,
}

impl HubServer {
    pub fn bind(options: &ServerOptions, address: &str) -> Result<Self> {
        let options =
            HubOptions::from(options.clone()).write_buffer_max(UNSENT_MAX).slow_client_policy(SlowClientPolicy::Refuse);
        let hub = options.bind(address)?;
        let (name, path, transports) = (hub.name().to_owned(), hub.path().to_owned(), hub.transports().to_vec());
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap());
        let (send, receive) = mpsc::channel();
        let shutdown = hub.shutdown_handle();
        let (arrivals, waiters) = (Arc::new(Queue::default()), Arc::default());
        let driver = Arc::new_cyclic(|driver| {
            let driver: Weak<Driver> = Weak::clone(driver);
            let join = move |hub: &Hub, client, peer, inbox| {
                let (transport, capabilities) = (hub.transport(client)?, hub.capabilities(client)?);
                let (driver, finished) = (driver.upgrade()?, AtomicBool::new(false));
                let end = End::Both;
                Some(HubConnection { driver, client, inbox, peer, capabilities, transport, finished, end })
            };
            let served = Served {
                hub,
                is_shut_down: false,
                is_closed: false,
                arrivals: Arc::clone(&arrivals),
                join: Box::new(join),
                clients: HashMap::new(),
                failed_clients: HashSet::new(),
                pending: Vec::new(),
            };
            let (awake, waiter_count) = (Arc::clone(&wake), Arc::clone(&waiters));
            let thread = thread::spawn(move || serve(served, &awake, &receive, &waiter_count));
            Driver { commands: Mutex::new(Some(send)), wake, thread: Some(thread), shutdown, arrivals, waiters }
        });
        Ok(Self { driver, name, path, transports })
    }

    pub fn accept(&self, timeout: Option<Duration>) -> Result<HubConnection> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let _waiter = self.driver.poll_events();
        // Events that have occurred are processed even if the timeout is zero.
        self.driver.run(Served::process_events);
        let arrival = self.driver.arrivals.wait(deadline, |arrivals| {
            // As in a server, a shutdown takes precedence over waiting clients.
            let shut = arrivals.iter().position(|arrival| matches!(arrival, Arrival::Failed(ErrorKind::Shutdown, _)));
            match shut.map(|place| &arrivals[place]) {
                Some(Arrival::Failed(kind, text)) => Some(Arrival::Failed(*kind, text.clone())),
                _ => arrivals.pop_front(),
            }
        });
        match arrival {
            Some(Arrival::Client(connection)) => Ok(connection),
            Some(Arrival::Failed(kind, text)) => Err(Error::Reported(kind, text)),
            Some(Arrival::Panic(panic)) => resume_unwind(panic),
            None => Err(Error::TimedOut),
        }
    }

    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.driver.shutdown.clone()
    }

    pub fn stats(&self) -> ServerStats {
        self.driver.run(|served| served.hub.stats())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn transports(&self) -> Vec<Transport> {
        self.transports.clone()
    }

    /// Waits until `accept` would not block.
    pub fn wait_readable(&self) -> bool {
        let deadline = Instant::now() + crate::support::DEADLINE;
        let _waiter = self.driver.poll_events();
        self.driver.arrivals.wait(Some(deadline), |arrivals| (!arrivals.is_empty()).then_some(())).is_some()
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        // Clients that were not accepted by now never are.
        self.driver.run(|served| {
            served.is_closed = true;
            served.arrivals.items.lock().unwrap().clear();
        });
    }
}

impl fmt::Debug for HubServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubServer({})", self.name)
    }
}

/// Runs the hub until all handles are dropped.
fn serve(mut served: Served, wake: &OwnedFd, commands: &mpsc::Receiver<Command>, waiters: &AtomicUsize) {
    loop {
        // The wake-up is reset before the commands are read, so a command that arrives now wakes the thread again.
        let _ = rustix::io::read(wake, &mut [0; 8]);
        loop {
            match commands.try_recv() {
                Ok(command) => command(&mut served),
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
        }
        if waiters.load(Ordering::SeqCst) > 0 || !served.pending.is_empty() {
            served.process_events();
        }
        let pending = std::mem::take(&mut served.pending);
        served.pending = pending.into_iter().filter_map(|pending| served.retry(pending)).collect();
        let mut fds = vec![PollFd::new(wake, PollFlags::IN)];
        if !served.is_shut_down && (waiters.load(Ordering::SeqCst) > 0 || !served.pending.is_empty()) {
            fds.push(PollFd::new(&served.hub, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => panic!("poll: {errno}"),
        }
    }
}

impl Served {
    /// Processes all events that have occurred.
    fn process_events(&mut self) {
        while !self.is_shut_down {
            match catch_unwind(AssertUnwindSafe(|| self.hub.try_next_event())) {
                Ok(Ok(Event::Joined(client, _))) if self.is_closed => self.hub.disconnect(client).unwrap(),
                Ok(Ok(Event::Joined(client, peer))) => {
                    let inbox = Arc::new(Queue::default());
                    self.clients.insert(client, Arc::clone(&inbox));
                    if let Some(connection) = (self.join)(&self.hub, client, peer, inbox) {
                        self.arrivals.push(Arrival::Client(connection));
                    }
                }
                Ok(Ok(event)) => self.process_event(event),
                Ok(Err(parlour::TryRecvError::Empty)) => return,
                Ok(Err(parlour::TryRecvError::Failed(error))) => {
                    self.is_shut_down = error.kind() == ErrorKind::Shutdown;
                    // No client is read any more, so receivers that wait must get the error.
                    if self.is_shut_down {
                        let end = || Item::End(Some((error.kind(), error.to_string())));
                        self.clients.values().for_each(|inbox| inbox.push(end()));
                    }
                    self.arrivals.push(Arrival::Failed(error.kind(), error.to_string()));
                }
                Err(panic) => self.arrivals.push(Arrival::Panic(panic)),
            }
        }
    }

    fn process_event(&mut self, event: Event) {
        let (client, item) = match event {
            Event::Message(client, message) => (client, Item::Message(message)),
            Event::Finished(client) => (client, Item::End(None)),
            Event::Left(client, why) => {
                let Some(inbox) = self.clients.remove(&client) else { return };
                if matches!(why, DisconnectReason::Failed(_)) {
                    self.failed_clients.insert(client);
                }
                inbox.push(Item::End(match why {
                    DisconnectReason::Failed(error) => Some((error.kind(), error.to_string())),
                    _ => None,
                }));
                return;
            }
            _ => return,
        };
        if let Some(inbox) = self.clients.get(&client) {
            inbox.push(item);
        }
    }

    /// Sends a message if the write buffer has space. Returns `false` if it has not.
    fn try_send(&mut self, client: Client, OwnMessage { bytes, blocks }: &OwnMessage) -> Result<bool> {
        if !self.clients.contains_key(&client) {
            return Err(gone());
        }
        let blocks: Vec<&SharedBytes> = blocks.iter().collect();
        match self.hub.send(client, Payload::new(bytes).shared(&blocks)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Busy => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Continues a pending send. Returns it if it is still pending.
    fn retry(&mut self, mut pending: PendingSend) -> Option<PendingSend> {
        let client = pending.client;
        let sent = match &pending.message {
            Some(message) => self.try_send(client, message),
            None if self.failed_clients.contains(&client) => Err(gone()),
            None => Ok(true),
        };
        let outcome = sent.map(|taken| {
            if taken {
                pending.message = None;
                self.hub.flush().unwrap();
            }
            taken && self.hub.write_buffer_len(client) == 0
        });
        match outcome {
            Ok(false) => return Some(pending),
            // The caller may have given up.
            Ok(true) => drop(pending.done.send(Ok(()))),
            Err(error) => drop(pending.done.send(Err(error))),
        }
        None
    }
}

fn gone() -> Error {
    Error::Reported(ErrorKind::Disconnected, "the client has left".to_owned())
}

/// The server's end of a connection in a hub.
pub struct HubConnection {
    driver: Arc<Driver>,
    client: Client,
    inbox: Arc<Queue<Item>>,
    peer: Peer,
    capabilities: Capabilities,
    transport: Transport,
    finished: AtomicBool,
    end: End,
}

/// The action when a [`HubConnection`] is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Both,
    Sending,
    Nothing,
}

impl HubConnection {
    pub fn send(&self, payload: Payload<'_>, timeout: Option<Duration>) -> Result<()> {
        self.check_finished()?;
        self.wait(Some(OwnMessage::of(&payload)), timeout)
    }

    /// Sends a message with these blocks.
    pub fn send_shared(&self, bytes: &[u8], blocks: &[&SharedBytes]) -> Result<()> {
        self.check_finished()?;
        let blocks = blocks.iter().copied().cloned().collect();
        self.wait(Some(OwnMessage { bytes: bytes.to_owned(), blocks }), None)
    }

    pub fn try_send<'a>(&self, payload: Payload<'a>) -> Result<(), TrySendError<Payload<'a>>> {
        self.check_finished().map_err(TrySendError::Failed)?;
        let (client, message) = (self.client, OwnMessage::of(&payload));
        let sent = self.driver.run(move |served| {
            // Free space is reported by an event as well.
            served.process_events();
            let sent = served.try_send(client, &message);
            served.hub.flush().unwrap();
            sent
        });
        match sent {
            Ok(true) => Ok(()),
            Ok(false) => Err(TrySendError::Full(payload)),
            Err(error) => Err(TrySendError::Failed(error)),
        }
    }

    pub fn flush(&self) -> Result<()> {
        self.wait(None, None)
    }

    /// Buffers a message if the write buffer has space and the message is not too long for it. Otherwise sends it.
    pub fn feed(&self, payload: Payload<'_>) -> Result<()> {
        if payload.len() > UNSENT_MAX {
            return self.send(payload, None);
        }
        self.check_finished()?;
        let (client, message) = (self.client, OwnMessage::of(&payload));
        match self.driver.run(move |served| served.try_send(client, &message))? {
            true => Ok(()),
            false => self.send(payload, None),
        }
    }

    pub fn try_flush(&self) -> bool {
        let client = self.client;
        self.driver.run(move |served| {
            served.hub.flush().unwrap();
            served.hub.write_buffer_len(client) == 0
        })
    }

    fn wait(&self, message: Option<OwnMessage>, timeout: Option<Duration>) -> Result<()> {
        let (done, is_done) = mpsc::channel();
        let client = self.client;
        let number = self.driver.run(move |served| {
            // The disconnect of a client is reported by an event.
            served.process_events();
            let number = served.pending.iter().map(|pending| pending.number + 1).max().unwrap_or(0);
            let pending = served.retry(PendingSend { number, client, message, done });
            served.pending.extend(pending);
            number
        });
        match timeout {
            None => is_done.recv().expect("the hub's thread runs"),
            Some(timeout) => match is_done.recv_timeout(timeout) {
                Ok(result) => result,
                Err(_) => {
                    let given_up = self.driver.run(move |served| {
                        let place = served.pending.iter().position(|pending| pending.number == number)?;
                        Some(served.pending.swap_remove(place))
                    });
                    match given_up {
                        // The hub has accepted the message, so it will be written.
                        Some(PendingSend { message: None, .. }) => Ok(()),
                        Some(_) => Err(Error::TimedOut),
                        // The send completed concurrently.
                        None => is_done.recv().expect("the send completed"),
                    }
                }
            },
        }
    }

    pub fn recv(&self, timeout: Option<Duration>) -> Result<Option<Message>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let _waiter = self.driver.poll_events();
        // Events that have occurred are processed even if the timeout is zero.
        self.driver.run(Served::process_events);
        let taken = self.inbox.wait(deadline, |items| match items.front()? {
            Item::End(None) => Some(Ok(None)),
            Item::End(Some((kind, text))) => Some(Err(Error::Reported(*kind, text.clone()))),
            Item::Message(_) => match items.pop_front() {
                Some(Item::Message(message)) => Some(Ok(Some(message))),
                _ => None,
            },
        });
        taken.unwrap_or(Err(Error::TimedOut))
    }

    pub fn try_recv(&self) -> Result<Option<Message>, TryRecvError> {
        match self.recv(Some(Duration::ZERO)) {
            Ok(message) => Ok(message),
            Err(Error::TimedOut) => Err(TryRecvError::Empty),
            Err(error) => Err(TryRecvError::Failed(error)),
        }
    }

    pub fn has_message(&self) -> bool {
        !self.inbox.items.lock().unwrap().is_empty()
    }

    /// Returns an error after `finish`. The hub itself ignores a message to a client that it is closing.
    fn check_finished(&self) -> Result<()> {
        let finished = self.finished.load(Ordering::SeqCst);
        if finished {
            Err(Error::Reported(ErrorKind::Disconnected, "this side has finished".to_owned()))
        } else {
            Ok(())
        }
    }

    pub fn finish(&self) -> Result<()> {
        self.finished.store(true, Ordering::SeqCst);
        let client = self.client;
        self.driver.run(move |served| served.hub.finish(client))?;
        self.flush()
    }

    /// Splits the connection into the sending half and the receiving half.
    pub fn split(mut self) -> (Self, Self) {
        self.end = End::Nothing;
        let sender = Self {
            driver: Arc::clone(&self.driver),
            client: self.client,
            inbox: Arc::clone(&self.inbox),
            peer: self.peer.clone(),
            capabilities: self.capabilities,
            transport: self.transport,
            finished: AtomicBool::new(false),
            end: End::Sending,
        };
        (sender, self)
    }

    pub fn close(self) -> Result<()> {
        self.flush()
    }

    pub fn abort(mut self) {
        self.end = End::Nothing;
        let client = self.client;
        self.driver.run(move |served| served.hub.abort(client).unwrap());
    }

    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    pub fn transport(&self) -> Transport {
        self.transport
    }
}

impl Drop for HubConnection {
    fn drop(&mut self) {
        let (client, end) = (self.client, self.end);
        self.driver.post(move |served| match end {
            End::Both => served.hub.disconnect(client).unwrap(),
            End::Sending => served.hub.finish(client).unwrap(),
            End::Nothing => {}
        });
    }
}

impl fmt::Debug for HubConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubConnection({})", self.client)
    }
}

impl From<HubConnection> for Connection {
    fn from(connection: HubConnection) -> Self {
        Self::Hub(connection)
    }
}
