//! The task that owns the states of both sides.

mod configure;
mod flaps;
mod flows;
mod refusals;
mod registered;
mod registry;
mod report;
#[cfg(test)]
pub(super) mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parlour::ErrorKind;
use parlour::tokio::Connection;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::directory::Directory;
use super::event::{self, Event};
use super::held::{self, Held};
use super::joined;
use super::links::{self, LinkTask, Wish};
use super::local::{self, Holder};
use super::net::{self, Remote};
use super::watched::Watched;
use crate::counters::Counters;
use crate::exporter::{self, Exporter};
use crate::files::config::Config;
use crate::files::tls::Tls;
use crate::identity::{ConversationId, Host, Instance, LinkId, Name};
use crate::importer::{self, Importer};
use crate::link::{self, Down, Link, Myself, Role};
use crate::status::HostState;
use crate::wire::control::Endpoint;
use crate::wire::conversation::{Answer, Preamble};
use flaps::{Flaps, Spell};
use flows::Flows;
use refusals::Refusals;
use registered::Registered;

/// The pause between two looks at the names of this host.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The time for telling all clients and servers that the bridge ends, and then for the other hosts.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The pauses between two tries to dial a host.
const REDIAL_MIN: Duration = Duration::from_millis(100);
const REDIAL_MAX: Duration = Duration::from_secs(2);

/// The maximum number of reasons that are logged for one host until it was there.
const UNREACHED_MAX: usize = 8;

/// The maximum number of links that one host has dialled. All but one of them have not said hello.
const LINKS_PER_HOST_MAX: usize = 4;

#[derive(Debug)]
struct OpenLink {
    host: Host,
    role: Role,
    /// The address of a host that was dialled.
    address: Option<SocketAddr>,
    state: HostState,
    wishes: UnboundedSender<Wish>,
}

/// A client whose exporter has not answered.
#[derive(Debug)]
struct Opening {
    connection: Connection,
    attempt: u64,
    dialling: Option<AbortHandle>,
    remote: Option<Box<Remote>>,
    /// The exporter that was asked last, and the name.
    asked: Option<(Host, Name)>,
}

/// A client of another host that waits for its server.
#[derive(Debug)]
struct Asking {
    remote: Box<Remote>,
    host: Host,
    name: Name,
}

/// A host from which names are imported.
#[derive(Debug)]
struct Peer {
    pause: Duration,
    /// The time of the next try, or `None` while a link or a try exists.
    due: Option<Instant>,
    /// The reason why the last link ended, or could not begin.
    problem: Option<String>,
}

#[derive(Debug)]
pub(super) struct Desk {
    config: Arc<Config>,
    tls: Tls,
    directory: Arc<Directory>,
    /// The configuration of the side that is dialled.
    server: watch::Sender<Arc<ServerConfig>>,
    myself: Myself,
    importer: Importer,
    exporter: Exporter,
    links: BTreeMap<LinkId, OpenLink>,
    peers: BTreeMap<Host, Peer>,
    held: BTreeMap<Name, Held>,
    in_use: BTreeSet<Name>,
    /// The exported names, and those in use, as far as there may be watches.
    watched: Watched,
    /// The set of names to watch is another one.
    must_watch: bool,
    /// The names whose holder was not known at the last look.
    unknown: BTreeSet<Name>,
    /// The time in which there are such names.
    blind: Spell,
    registry: Option<Registered>,
    opening: HashMap<ConversationId, Opening>,
    /// The connections of other hosts that wait for their server.
    connecting: HashMap<ConversationId, Asking>,
    connected: HashMap<ConversationId, Connection>,
    joined: HashMap<ConversationId, (Role, Arc<Notify>)>,
    /// The tasks of links.
    linked: JoinSet<()>,
    tasks: JoinSet<()>,
    counters: Counters,
    flows: Flows,
    /// The refusals by other hosts, and by this one.
    refused_there: Refusals,
    refused_here: Refusals,
    /// The hosts with which this one has had links.
    flaps: BTreeMap<(Host, Role), Flaps>,
    /// The imported names that could not be taken, since they were taken last.
    untaken: HashSet<(Name, ErrorKind)>,
    /// The reasons why hosts could not be reached that were logged since they were there.
    unreached: BTreeSet<(Host, String)>,
    /// The connections that were refused before they said what they are for.
    strangers: Arc<AtomicU64>,
    events: UnboundedSender<Event>,
    start: Instant,
    next: u64,
    log: fn(&str),
}

impl Desk {
    pub(super) fn new(
        config: Arc<Config>,
        tls: Tls,
        directory: Directory,
        server: watch::Sender<Arc<ServerConfig>>,
        events: UnboundedSender<Event>,
        strangers: Arc<AtomicU64>,
        log: fn(&str),
    ) -> io::Result<Self> {
        let mut instance = [0; 16];
        rustix::rand::getrandom(&mut instance, rustix::rand::GetRandomFlags::empty())?;
        let instance = Instance(instance);
        let start = Instant::now();
        let endpoint = config.listen.and_then(|address| Endpoint::parse(&address.to_string())).unwrap_or_default();
        let myself = Myself { host: config.host.clone(), instance, endpoint, lease: config.lease };
        let from = config.imports.values().flat_map(|import| import.from.iter().cloned());
        let peers = from.map(|host| (host, Peer { pause: REDIAL_MIN, due: Some(start), problem: None })).collect();
        Ok(Self {
            importer: Importer::new(instance, config.limits, config.imports.clone()),
            exporter: Exporter::new(instance, config.limits, config.exports.clone()),
            config,
            tls,
            directory: Arc::new(directory),
            server,
            myself,
            links: BTreeMap::new(),
            peers,
            held: BTreeMap::new(),
            in_use: BTreeSet::new(),
            watched: Watched::default(),
            must_watch: true,
            unknown: BTreeSet::new(),
            blind: Spell::default(),
            registry: None,
            opening: HashMap::new(),
            connecting: HashMap::new(),
            connected: HashMap::new(),
            joined: HashMap::new(),
            linked: JoinSet::new(),
            tasks: JoinSet::new(),
            counters: Counters::default(),
            flows: Flows::default(),
            refused_there: Refusals::default(),
            refused_here: Refusals::default(),
            flaps: BTreeMap::new(),
            untaken: HashSet::new(),
            unreached: BTreeSet::new(),
            strangers,
            events,
            start,
            next: 0,
            log,
        })
    }

    /// Hears all events until `end` completes. Then ends in order.
    pub(super) async fn run(mut self, mut mailbox: UnboundedReceiver<Event>, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        self.configure_registry();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let due = self.importer.deadline().map(|deadline| self.start + deadline);
            let dials = self.peers.values().filter_map(|peer| peer.due);
            let due = dials.chain(due).chain(self.registry_due()).min().unwrap_or_else(|| Instant::now() + LOOK_EVERY);
            tokio::select! {
                event = mailbox.recv() => match event {
                    Some(event) => self.hear(event),
                    None => break,
                },
                _ = look.tick() => self.look(),
                names = self.watched.changed() => self.look_at_all(&names),
                () = tokio::time::sleep_until(due) => {}
                () = &mut end => break,
                Some(_) = self.tasks.join_next() => {}
                Some(_) = self.linked.join_next() => {}
            }
            let actions = self.importer.tick(self.now());
            self.import(actions);
            self.tick_registry();
            self.dial_links();
        }
        self.stop(&mut mailbox).await;
    }

    /// Gives the names up, tells the other hosts, and aborts all conversations: the end of this process would look like
    /// a clean end.
    async fn stop(&mut self, mailbox: &mut UnboundedReceiver<Event>) {
        self.held.clear();
        self.leave_registry();
        self.links.values().for_each(|open| drop(open.wishes.send(Wish::Quit)));
        for (_, Opening { connection, dialling, .. }) in self.opening.drain() {
            dialling.iter().for_each(AbortHandle::abort);
            connection.abort();
        }
        self.connected.drain().for_each(|(_, connection)| connection.abort());
        self.joined.values().for_each(|(_, lost)| lost.notify_one());
        let aborting = async {
            while !(self.joined.is_empty() && self.connecting.is_empty()) {
                let Some(event) = mailbox.recv().await else { return };
                match &event {
                    Event::Over { id } => drop(self.joined.remove(id)),
                    Event::Connected { id, .. } => drop(self.connecting.remove(id)),
                    _ => {}
                }
                event.abort();
            }
        };
        // A client that reads nothing cannot be told.
        let _ = tokio::time::timeout(STOP_TIMEOUT, aborting).await;
        // Without wishes, each link ends.
        self.links.clear();
        let ending = async { while self.linked.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(STOP_TIMEOUT, ending).await;
        // Those who report a connection from now on end it themselves.
        mailbox.close();
        while let Some(event) = mailbox.recv().await {
            event.abort();
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Begins and ends watches, and looks who holds the names of this host whose changes are not reported, or whose
    /// holder is not known.
    fn look(&mut self) {
        self.close_unneeded_links();
        if std::mem::take(&mut self.must_watch) || !self.watched.is_reporting() {
            let names = self.config.exports.keys().chain(&self.in_use).cloned().collect();
            let mut names = self.watched.set(names);
            names.extend(std::mem::take(&mut self.unknown));
            self.look_at_all(&names);
        } else {
            let mut names = std::mem::take(&mut self.unknown);
            // The watches are on the directories of this user and of root.
            names.extend(self.config.server_uids.keys().cloned());
            if !names.is_empty() {
                self.look_at_all(&names.into_iter().collect::<Vec<_>>());
            }
        }
    }

    /// Looks who holds these names of this host.
    fn look_at_all(&mut self, names: &[Name]) {
        names.iter().for_each(|name| self.look_at(name));
        self.offer_served();
    }

    /// Looks who holds a name of this host. The caller reports the result to the registry, which takes all names.
    fn look_at(&mut self, name: &Name) {
        let holder = match local::holder(name, self.config.server_uids.get(name).copied()) {
            Ok(holder) => holder,
            Err(error) => {
                // The state of before stays until the next look.
                self.unknown.insert(name.clone());
                if self.blind.is_new(self.start.elapsed()) {
                    (self.log)(&format!("the server of {name} cannot be looked for: {error}; looking again"));
                }
                return;
            }
        };
        let actions = self.exporter.server(name, holder == Holder::Server);
        self.export(actions);
        if holder == Holder::Nobody && self.in_use.remove(name) {
            self.must_watch = true;
            self.importer.local_server_gone(name, self.now());
        }
    }

    fn dial_links(&mut self) {
        let now = Instant::now();
        let is_due = |peer: &Peer| peer.due.is_some_and(|due| due <= now);
        let due = self.peers.iter().filter(|(_, peer)| is_due(peer)).map(|(host, _)| host.clone());
        for host in due.collect::<Vec<_>>() {
            let registered = self.registered(&host);
            let Some(peer) = self.peers.get_mut(&host) else { continue };
            if registered.as_ref().is_some_and(Vec::is_empty) {
                // Many hosts of a fleet have none of the names. An entry ends this pause.
                (peer.due, peer.pause) = (Some(now + REDIAL_MAX), REDIAL_MIN);
                peer.problem = Some("the registry has no entry of it for a name that is imported from it".to_owned());
                continue;
            }
            peer.due = None;
            let (host, directory, events) = (host.clone(), Arc::clone(&self.directory), self.events.clone());
            let (client, lease) = (self.tls.client(), self.config.lease);
            self.tasks.spawn(async move {
                let remote = async {
                    let addresses = directory.find(&host, registered.unwrap_or_default()).await?;
                    net::dial_any(&host, &addresses, &client, lease).await
                };
                let remote = remote.await.map(|(remote, address)| (Box::new(remote), address));
                let _ = events.send(Event::LinkDialled { host, remote });
            });
        }
    }

    fn hear(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::LinkAccepted { host, remote } => self.begin_link(Role::Exporter, host, *remote, None),
            // The host is not needed any more, or it was removed and added again meanwhile.
            Event::LinkDialled { host, .. } if !self.peers.contains_key(&host) || self.has_link_to(&host) => {}
            Event::LinkDialled { host, remote } => match remote {
                Ok((remote, address)) => self.begin_link(Role::Importer, host, *remote, Some(address)),
                Err(error) => {
                    let problem = error.to_string();
                    // Without numbers, such as the seconds since a certificate has expired.
                    let kind = problem.chars().filter(|c| !c.is_ascii_digit()).collect();
                    let of_host = self.unreached.iter().filter(|(other, _)| *other == host).count();
                    if of_host < UNREACHED_MAX && self.unreached.insert((host.clone(), kind)) {
                        (self.log)(&format!("{host} cannot be reached: {error}; trying again"));
                    }
                    self.redial(&host, problem);
                }
            },
            Event::Link { id, action, place } => {
                self.hear_link(id, action);
                drop(place);
            }
            Event::Preamble { host, preamble, remote } => {
                let id = ConversationId(self.number());
                let actions = self.exporter.preamble(id, &host, &preamble, now);
                self.connecting.insert(id, Asking { remote, host, name: preamble.name });
                self.export(actions);
            }
            Event::Connected { id, connection } => {
                let actions = match connection {
                    Ok(connection) => {
                        self.connected.insert(id, connection);
                        self.exporter.connected(id)
                    }
                    Err((refusal, reason)) => self.exporter.not_connected(id, refusal, reason),
                };
                self.export(actions);
                // Without an answer, the link is lost.
                if let Some(connection) = self.connected.remove(&id) {
                    connection.abort();
                }
                self.connecting.remove(&id);
            }
            Event::Client { name, connection, origin } => {
                let id = ConversationId(self.number());
                self.opening.insert(id, Opening { connection, attempt: 0, dialling: None, remote: None, asked: None });
                let actions = self.importer.client(id, name, origin, now);
                self.import(actions);
            }
            Event::NameLost { name } => {
                self.held.remove(&name);
                self.importer.failed(&name, now);
            }
            Event::NameTaken { name } => {
                (self.log)(&format!("{name} has a server on this host, which has taken it; conversations go on"));
                self.held.remove(&name);
                self.in_use.insert(name.clone());
                self.must_watch = true;
                self.importer.in_use(&name);
            }
            Event::Answered { id, attempt, answer } => {
                let Some(opening) = self.opening.get_mut(&id).filter(|opening| opening.attempt == attempt) else {
                    return;
                };
                if let (Some((host, name)), Some((answer, _))) = (&opening.asked, &answer)
                    && let Some(reason) =
                        self.refused_there.hear(host, name, answer, |refusal| refusal.to_string(), now)
                {
                    (self.log)(&format!("{host} has refused a client of {name}: {reason}"));
                }
                let answer = answer.map(|(answer, remote)| {
                    opening.remote = Some(remote);
                    answer
                });
                let actions = self.importer.answered(id, answer.as_ref(), now);
                self.import(actions);
            }
            Event::Over { id } => match self.joined.remove(&id) {
                Some((Role::Importer, _)) => self.importer.over(id),
                Some((Role::Exporter, _)) => self.exporter.over(id),
                None => {}
            },
            Event::Configured { config, tls, directory } => self.configure(config, tls, directory),
            Event::Registry { run, report } => self.hear_registry(run, report),
            Event::Status { reply } => drop(reply.send(self.status())),
        }
    }

    /// Returns true if this host has dialled another one. A second link would replace the first one, whose end would
    /// have the host dialled again.
    fn has_link_to(&self, host: &Host) -> bool {
        self.links.values().any(|open| open.role == Role::Importer && open.host == *host)
    }

    /// Tries to dial a host again after a pause.
    fn redial(&mut self, host: &Host, problem: String) {
        let Some(peer) = self.peers.get_mut(host) else { return };
        let pause = peer.pause;
        peer.problem = Some(problem);
        peer.due = Some(Instant::now() + pause);
        peer.pause = (pause * 2).min(REDIAL_MAX);
    }

    fn begin_link(&mut self, role: Role, host: Host, remote: Remote, address: Option<SocketAddr>) {
        let same = self.links.values().filter(|open| open.role == role && open.host == host).count();
        if same >= LINKS_PER_HOST_MAX {
            return;
        }
        let id = LinkId(self.number());
        let names = match role {
            Role::Importer => BTreeSet::new(),
            Role::Exporter => self.exporter.link_began(id, host.clone(), self.now()),
        };
        let (link, first) = Link::new(role, self.myself.clone(), host.clone(), names, self.now());
        let (wishes, heard) = tokio::sync::mpsc::unbounded_channel();
        self.links.insert(id, OpenLink { host, role, address, state: HostState::Connecting, wishes });
        let (start, events) = (self.start, self.events.clone());
        let task = LinkTask { id, link, remote, role, start, wishes: heard, events };
        self.linked.spawn(links::run(task, first));
    }

    /// Logs a change of the links with a host. Returns false if they change all the time, so that it was not logged.
    fn log_link(
        &mut self,
        line: &str,
        host: &Host,
        role: Role,
        change: fn(&mut Flaps, Duration) -> Option<&'static str>,
    ) -> bool {
        let now = self.now();
        let end = change(self.flaps.entry((host.clone(), role)).or_default(), now);
        end.iter().for_each(|end| (self.log)(&format!("{line}{end}")));
        end.is_some()
    }

    fn hear_link(&mut self, id: LinkId, action: link::Action) {
        // A link that was replaced has nothing to say any more.
        let Some(open) = self.links.get_mut(&id) else { return };
        let (host, role, state) = (open.host.clone(), open.role, open.state);
        match action {
            link::Action::Up(_) => open.state = HostState::Up,
            link::Action::Quits => open.state = HostState::Ending,
            _ => {}
        }
        match (action, role) {
            (link::Action::Up(hello), Role::Importer) => {
                if self.log_link(&format!("{host} is there"), &host, role, Flaps::came) {
                    self.unreached.retain(|(other, _)| *other != host);
                }
                self.peers.entry(host.clone()).and_modify(|peer| peer.pause = REDIAL_MIN);
                self.importer.link_up(id, host, hello.instance);
            }
            (link::Action::Up(hello), Role::Exporter) => {
                self.log_link(&format!("{host} is there, and may import"), &host, role, Flaps::came);
                let actions = self.exporter.link_up(id, hello.instance);
                self.export(actions);
            }
            (link::Action::Exported(name), _) => {
                let actions = self.importer.exported(id, name);
                self.import(actions);
            }
            (link::Action::Withdrawn(name), _) => {
                let actions = self.importer.withdrawn(id, name);
                self.import(actions);
            }
            (link::Action::Quits, _) => {
                let actions = self.importer.link_quits(id);
                self.import(actions);
            }
            (link::Action::Down(down), role) => {
                self.log_link(&format!("{host} is lost: {down}"), &host, role, Flaps::went);
                if matches!(state, HostState::Up | HostState::Ending) && down != Down::Quit {
                    self.counters.links_lost += 1;
                }
                self.links.remove(&id);
                match role {
                    Role::Importer => {
                        self.redial(&host, down.to_string());
                        let actions = self.importer.link_down(id, self.now());
                        self.import(actions);
                    }
                    Role::Exporter => {
                        let actions = self.exporter.link_down(id);
                        self.export(actions);
                    }
                }
            }
            (link::Action::Send(_), _) => {}
        }
    }

    fn import(&mut self, actions: Vec<importer::Action>) {
        for action in actions {
            match action {
                importer::Action::Take(name) => self.take(&name),
                importer::Action::GiveUp(name) => drop(self.held.remove(&name)),
                importer::Action::Dial(id, link, preamble) => self.dial(id, link, &preamble),
                importer::Action::Open(id) => {
                    self.counters.imported += 1;
                    self.open(id);
                }
                importer::Action::Abort(id) => {
                    self.counters.aborted += 1;
                    if let Some(opening) = self.opening.remove(&id) {
                        opening.dialling.iter().for_each(AbortHandle::abort);
                        opening.connection.abort();
                    }
                }
                importer::Action::Lose(id) => self.lose(id),
            }
        }
    }

    fn take(&mut self, name: &Name) {
        let Some(import) = self.config.imports.get(name) else { return };
        match held::take(name, import, self.events.clone()) {
            Ok(held) => {
                self.untaken.retain(|(other, _)| other != name);
                self.held.insert(name.clone(), held);
                let actions = self.importer.took(name);
                self.import(actions);
            }
            Err(error) if error.kind() == ErrorKind::NameInUse => {
                self.log_untaken(
                    &format!("{name} has a server on this host, which keeps it: {error}"),
                    name,
                    error.kind(),
                );
                self.in_use.insert(name.clone());
                self.must_watch = true;
                self.importer.in_use(name);
            }
            Err(error) => {
                self.log_untaken(&format!("{name} cannot be taken: {error}; trying again"), name, error.kind());
                self.importer.failed(name, self.now());
            }
        }
    }

    /// Logs why a name cannot be taken. A name is tried every second, and each kind of error is logged once until the
    /// name was taken.
    fn log_untaken(&mut self, line: &str, name: &Name, kind: ErrorKind) {
        if self.untaken.insert((name.clone(), kind)) {
            (self.log)(line);
        }
    }

    fn dial(&mut self, id: ConversationId, link: LinkId, preamble: &Preamble) {
        let Some(opening) = self.opening.get_mut(&id) else { return };
        opening.dialling.take().iter().for_each(AbortHandle::abort);
        opening.remote = None;
        opening.attempt += 1;
        let attempt = opening.attempt;
        // The address of the link leads to the bridge that has exported the name, and another one may not.
        let address = self.links.get(&link).and_then(|open| Some((open.host.clone(), open.address?)));
        let Some((host, address)) = address else { return };
        opening.asked = Some((host.clone(), preamble.name.clone()));
        let (client, lease, events) = (self.tls.client(), self.config.lease, self.events.clone());
        let preamble = preamble.encode();
        opening.dialling = Some(self.tasks.spawn(async move {
            let answer = async {
                let mut remote = net::dial(&host, address, client, lease).await?;
                remote.write_all(&preamble).await?;
                remote.flush().await?;
                let mut got = Vec::new();
                loop {
                    got.push(remote.read_u8().await?);
                    match Answer::parse(&got) {
                        Ok(Some((answer, _))) => return Ok((answer, Box::new(remote))),
                        Ok(None) => {}
                        Err(()) => return Err(io::Error::from(io::ErrorKind::InvalidData)),
                    }
                }
            };
            let answer = answer.await.ok();
            let _ = events.send(Event::Answered { id, attempt, answer });
        }));
    }

    fn export(&mut self, actions: Vec<exporter::Action>) {
        for action in actions {
            match action {
                exporter::Action::Export(link, name) => self.wish(link, Wish::Export(name)),
                exporter::Action::Withdraw(link, name) => self.wish(link, Wish::Withdraw(name)),
                exporter::Action::Close(link) => drop(self.links.remove(&link)),
                exporter::Action::Connect(id, name, host, origin) => {
                    let (events, uid) = (self.events.clone(), self.config.server_uids.get(&name).copied());
                    self.tasks.spawn(async move {
                        let connection = local::connect(name, uid, &host, &origin).await;
                        event::report(&events, Event::Connected { id, connection });
                    });
                }
                exporter::Action::Answer(id, answer) => {
                    self.counters.answered(&answer);
                    self.answer(id, &answer);
                }
                exporter::Action::Lose(id) => self.lose(id),
            }
        }
    }

    fn wish(&self, link: LinkId, wish: Wish) {
        if let Some(open) = self.links.get(&link) {
            let _ = open.wishes.send(wish);
        }
    }

    fn answer(&mut self, id: ConversationId, answer: &Answer) {
        let Some(Asking { mut remote, host, name }) = self.connecting.remove(&id) else { return };
        if let Some(reason) = self.refused_here.hear(&host, &name, answer, refusals::here, self.now()) {
            (self.log)(&format!("a client of {host} for {name} was refused: {reason}"));
        }
        let bytes = answer.encode();
        match self.connected.remove(&id) {
            Some(connection) => {
                let (events, lost) = (self.events.clone(), Arc::new(Notify::new()));
                let counts = self.flows.of(&host, Role::Exporter, &name);
                self.joined.insert(id, (Role::Exporter, Arc::clone(&lost)));
                self.tasks.spawn(async move {
                    // In case of a failure, both sides get an error.
                    if remote.write_all(&bytes).await.is_err() {
                        connection.abort();
                    } else if let Ok(local) = local::local(connection) {
                        joined::run(local, remote, lost, counts).await;
                    }
                    let _ = events.send(Event::Over { id });
                });
            }
            None => drop(self.tasks.spawn(async move {
                let _ = remote.write_all(&bytes).await;
                let _ = remote.shutdown().await;
            })),
        }
    }

    /// Begins a conversation that an exporter has accepted.
    fn open(&mut self, id: ConversationId) {
        let Some(Opening { connection, remote, asked, .. }) = self.opening.remove(&id) else { return };
        // In case of a failure, both sides get an error: the connection to the exporter ends without `close_notify`.
        let (Some(remote), Some((host, name))) = (remote, asked) else {
            connection.abort();
            return self.importer.over(id);
        };
        let Ok(local) = local::local(connection) else { return self.importer.over(id) };
        let (events, lost) = (self.events.clone(), Arc::new(Notify::new()));
        let counts = self.flows.of(&host, Role::Importer, &name);
        self.joined.insert(id, (Role::Importer, Arc::clone(&lost)));
        self.tasks.spawn(async move {
            joined::run(local, remote, lost, counts).await;
            let _ = events.send(Event::Over { id });
        });
    }

    fn lose(&self, id: ConversationId) {
        if let Some((_, lost)) = self.joined.get(&id) {
            lost.notify_one();
        }
    }
}
