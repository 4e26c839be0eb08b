//! A hub behind the same front. A thread of its own serves all clients; what a scenario calls on the server's end of a
//! connection is done there, between two events, and what it waits for is what that thread is told. The hub is asked for events
//! only while somebody waits for one, so that scenarios can be about a side that does not receive.

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
use parlour::{Capabilities, ErrorKind, Message, Payload, Peer, ServerOptions, ServerStats, ShutdownHandle, Transport};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::error::Error;
use super::{Connection, Result, TryRecvError, TrySendError};

/// As much as a connection gathers by itself.
const UNSENT_MAX: usize = 64 * 1024;

/// What one side puts in and the other waits for.
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

    /// Waits until `look` finds something, or the deadline has passed.
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

/// What waits at the server's door.
enum Arrival {
    Client(HubConnection),
    Failed(ErrorKind, String),
    Panic(Box<dyn Any + Send>),
}

/// What has come from one client.
enum Item {
    Message(Message),
    /// It sends no more: in order, or with an error. The last item, which stays.
    End(Option<(ErrorKind, String)>),
}

/// What the hub's thread has in its hands.
struct Served {
    hub: Hub,
    is_shut: bool,
    /// Nobody accepts any more.
    is_closed: bool,
    door: Arc<Queue<Arrival>>,
    /// Makes the front of a connection.
    join: Join,
    clients: HashMap<Client, Arc<Queue<Item>>>,
    /// Those that have left without all that was sent to them.
    missed: HashSet<Client>,
    waiting: Vec<Waiting>,
}

/// A call that waits until the system has what is sent.
struct Waiting {
    number: u64,
    client: Client,
    /// What the hub has not taken yet.
    message: Option<Vec<u8>>,
    done: mpsc::Sender<Result<()>>,
}

type Command = Box<dyn FnOnce(&mut Served) + Send>;
type Join = Box<dyn Fn(&Hub, Client, Peer, Arc<Queue<Item>>) -> Option<HubConnection> + Send>;

/// The thread, and the way to it. It ends with the last of those who have this.
struct Driver {
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    shutdown: ShutdownHandle,
    door: Arc<Queue<Arrival>>,
    /// How many calls wait for something to happen.
    demand: Arc<AtomicUsize>,
}

/// A call that waits for something to happen.
struct Demand<'a>(&'a AtomicUsize);

impl Drop for Demand<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Driver {
    fn demand(&self) -> Demand<'_> {
        self.demand.fetch_add(1, Ordering::SeqCst);
        rustix::io::write(&*self.wake, &1u64.to_ne_bytes()).unwrap();
        Demand(&self.demand)
    }

    /// Does something in the hub's thread, and waits for what comes of it.
    fn run<R: Send + 'static>(&self, work: impl FnOnce(&mut Served) -> R + Send + 'static) -> R {
        let (tell, told) = mpsc::channel();
        self.post(move |served| drop(tell.send(work(served))));
        told.recv().expect("the hub's thread lives")
    }

    fn post(&self, work: impl FnOnce(&mut Served) + Send + 'static) {
        if let Some(commands) = &*self.commands.lock().unwrap() {
            // It has ended only after a panic, which shows elsewhere.
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

/// The server that a hub is.
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
        let (door, demand) = (Arc::new(Queue::default()), Arc::default());
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
                is_shut: false,
                is_closed: false,
                door: Arc::clone(&door),
                join: Box::new(join),
                clients: HashMap::new(),
                missed: HashSet::new(),
                waiting: Vec::new(),
            };
            let (awake, demanded) = (Arc::clone(&wake), Arc::clone(&demand));
            let thread = thread::spawn(move || serve(served, &awake, &receive, &demanded));
            Driver { commands: Mutex::new(Some(send)), wake, thread: Some(thread), shutdown, door, demand }
        });
        Ok(Self { driver, name, path, transports })
    }

    pub fn accept(&self, timeout: Option<Duration>) -> Result<HubConnection> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let _demand = self.driver.demand();
        // What is there is taken in, however short the time is.
        self.driver.run(Served::hear_all);
        let arrival = self.driver.door.wait(deadline, |arrivals| {
            // As with a server, that it is told to shut down goes before who is there.
            let shut = arrivals.iter().position(|arrival| matches!(arrival, Arrival::Failed(ErrorKind::Shutdown, _)));
            match shut.map(|place| &arrivals[place]) {
                Some(Arrival::Failed(kind, text)) => Some(Arrival::Failed(*kind, text.clone())),
                _ => arrivals.pop_front(),
            }
        });
        match arrival {
            Some(Arrival::Client(connection)) => Ok(connection),
            Some(Arrival::Failed(kind, text)) => Err(Error::Told(kind, text)),
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

    /// Waits until somebody is at the door.
    pub fn has_somebody(&self) -> bool {
        let deadline = Instant::now() + crate::support::DEADLINE;
        let _demand = self.driver.demand();
        self.driver.door.wait(Some(deadline), |arrivals| (!arrivals.is_empty()).then_some(())).is_some()
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        // Who was not accepted by now never will be.
        self.driver.run(|served| {
            served.is_closed = true;
            served.door.items.lock().unwrap().clear();
        });
    }
}

impl fmt::Debug for HubServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HubServer({})", self.name)
    }
}

/// Serves until nobody gives commands any more.
fn serve(mut served: Served, wake: &OwnedFd, commands: &mpsc::Receiver<Command>, demand: &AtomicUsize) {
    loop {
        // Woken first, so that a command that comes now wakes again.
        let _ = rustix::io::read(wake, &mut [0; 8]);
        loop {
            match commands.try_recv() {
                Ok(command) => command(&mut served),
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
        }
        if demand.load(Ordering::SeqCst) > 0 || !served.waiting.is_empty() {
            served.hear_all();
        }
        let waiting = std::mem::take(&mut served.waiting);
        served.waiting = waiting.into_iter().filter_map(|waiting| served.retry(waiting)).collect();
        let mut fds = vec![PollFd::new(wake, PollFlags::IN)];
        if !served.is_shut && (demand.load(Ordering::SeqCst) > 0 || !served.waiting.is_empty()) {
            fds.push(PollFd::new(&served.hub, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => panic!("poll: {errno}"),
        }
    }
}

impl Served {
    /// Takes in all that has happened.
    fn hear_all(&mut self) {
        while !self.is_shut {
            match catch_unwind(AssertUnwindSafe(|| self.hub.try_next_event())) {
                Ok(Ok(Event::Joined(client, _))) if self.is_closed => self.hub.disconnect(client).unwrap(),
                Ok(Ok(Event::Joined(client, peer))) => {
                    let inbox = Arc::new(Queue::default());
                    self.clients.insert(client, Arc::clone(&inbox));
                    if let Some(connection) = (self.join)(&self.hub, client, peer, inbox) {
                        self.door.push(Arrival::Client(connection));
                    }
                }
                Ok(Ok(event)) => self.hear(event),
                Ok(Err(parlour::TryRecvError::Empty)) => return,
                Ok(Err(parlour::TryRecvError::Failed(error))) => {
                    self.is_shut = error.kind() == ErrorKind::Shutdown;
                    // Nobody is heard any more, and whoever waits for somebody has to know.
                    if self.is_shut {
                        let end = || Item::End(Some((error.kind(), error.to_string())));
                        self.clients.values().for_each(|inbox| inbox.push(end()));
                    }
                    self.door.push(Arrival::Failed(error.kind(), error.to_string()));
                }
                Err(panic) => self.door.push(Arrival::Panic(panic)),
            }
        }
    }

    fn hear(&mut self, event: Event) {
        let (client, item) = match event {
            Event::Message(client, message) => (client, Item::Message(message)),
            Event::Finished(client) => (client, Item::End(None)),
            Event::Left(client, why) => {
                let Some(inbox) = self.clients.remove(&client) else { return };
                if matches!(why, DisconnectReason::Failed(_)) {
                    self.missed.insert(client);
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

    /// Sends, if there is room.
    fn offer(&mut self, client: Client, message: &[u8]) -> Result<bool> {
        if !self.clients.contains_key(&client) {
            return Err(gone());
        }
        match self.hub.send(client, message) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Busy => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives it back when it has to wait on.
    fn retry(&mut self, mut waiting: Waiting) -> Option<Waiting> {
        let client = waiting.client;
        let offered = match &waiting.message {
            Some(message) => self.offer(client, message),
            None if self.missed.contains(&client) => Err(gone()),
            None => Ok(true),
        };
        let outcome = offered.map(|taken| {
            if taken {
                waiting.message = None;
                self.hub.flush().unwrap();
            }
            taken && self.hub.write_buffer_len(client) == 0
        });
        match outcome {
            Ok(false) => return Some(waiting),
            // Who called may have given up.
            Ok(true) => drop(waiting.done.send(Ok(()))),
            Err(error) => drop(waiting.done.send(Err(error))),
        }
        None
    }
}

fn gone() -> Error {
    Error::Told(ErrorKind::Disconnected, "it has left".to_owned())
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

/// What it ends when it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Both,
    Sending,
    Nothing,
}

impl HubConnection {
    pub fn send(&self, payload: Payload<'_>, timeout: Option<Duration>) -> Result<()> {
        self.check_finished()?;
        self.wait(Some(payload.to_vec()), timeout)
    }

    pub fn try_send<'a>(&self, payload: Payload<'a>) -> Result<(), TrySendError<Payload<'a>>> {
        self.check_finished().map_err(TrySendError::Failed)?;
        let (client, bytes) = (self.client, payload.to_vec());
        let offered = self.driver.run(move |served| {
            // Whether it has room is an event, too.
            served.hear_all();
            let offered = served.offer(client, &bytes);
            served.hub.flush().unwrap();
            offered
        });
        match offered {
            Ok(true) => Ok(()),
            Ok(false) => Err(TrySendError::Full(payload)),
            Err(error) => Err(TrySendError::Failed(error)),
        }
    }

    pub fn flush(&self) -> Result<()> {
        self.wait(None, None)
    }

    /// Takes a message to go with others, if there is room and it is not too long for that.
    pub fn feed(&self, payload: Payload<'_>) -> Result<()> {
        if payload.len() > UNSENT_MAX {
            return self.send(payload, None);
        }
        self.check_finished()?;
        let (client, bytes) = (self.client, payload.to_vec());
        match self.driver.run(move |served| served.offer(client, &bytes))? {
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

    fn wait(&self, message: Option<Vec<u8>>, timeout: Option<Duration>) -> Result<()> {
        let (done, is_done) = mpsc::channel();
        let client = self.client;
        let number = self.driver.run(move |served| {
            // That a client has gone is an event.
            served.hear_all();
            let number = served.waiting.iter().map(|waiting| waiting.number + 1).max().unwrap_or(0);
            let waiting = served.retry(Waiting { number, client, message, done });
            served.waiting.extend(waiting);
            number
        });
        match timeout {
            None => is_done.recv().expect("the hub's thread lives"),
            Some(timeout) => match is_done.recv_timeout(timeout) {
                Ok(result) => result,
                Err(_) => {
                    let given_up = self.driver.run(move |served| {
                        let place = served.waiting.iter().position(|waiting| waiting.number == number)?;
                        Some(served.waiting.swap_remove(place))
                    });
                    match given_up {
                        // The hub keeps it, so it is on its way.
                        Some(Waiting { message: None, .. }) => Ok(()),
                        Some(_) => Err(Error::TimedOut),
                        // It was done at this very moment.
                        None => is_done.recv().expect("it was done"),
                    }
                }
            },
        }
    }

    pub fn recv(&self, timeout: Option<Duration>) -> Result<Option<Message>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let _demand = self.driver.demand();
        // What is there is taken in, however short the time is.
        self.driver.run(Served::hear_all);
        let taken = self.inbox.wait(deadline, |items| match items.front()? {
            Item::End(None) => Some(Ok(None)),
            Item::End(Some((kind, text))) => Some(Err(Error::Told(*kind, text.clone()))),
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

    /// To a hub this is sending to a client that is going, which does nothing.
    fn check_finished(&self) -> Result<()> {
        let finished = self.finished.load(Ordering::SeqCst);
        if finished { Err(Error::Told(ErrorKind::Disconnected, "this side has finished".to_owned())) } else { Ok(()) }
    }

    pub fn finish(&self) -> Result<()> {
        self.finished.store(true, Ordering::SeqCst);
        let client = self.client;
        self.driver.run(move |served| served.hub.finish(client))?;
        self.flush()
    }

    /// The half that sends, and this one, which receives on.
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
