//! A simulated driver: it carries out the actions of the states over simulated sockets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use parlour_bridge::conversation::{Conversation, LINGER_MAX, Status, Step};
use parlour_bridge::exporter::{self, Exporter};
use parlour_bridge::identity::{ConversationId, Host, Instance, LinkId, Name};
use parlour_bridge::importer::{self, Import, Importer};
use parlour_bridge::limits::Limits;
use parlour_bridge::link::{self, Link, Myself, Role};
use parlour_bridge::wire::control::Endpoint;
use parlour_bridge::wire::conversation::{Answer, Origin, Preamble};
use parlour_bridge::wire::{CONTROL, CONVERSATION};

use super::random::Random;
use super::sockets::{EndId, Got, Sockets};

/// The holder of a name on one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Nobody,
    Server,
    Bridge,
}

/// The name of one host: its holder, and the clients that wait to be accepted.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) holder: Holder,
    pub(crate) queue: VecDeque<EndId>,
}

/// Everything around a bridge.
pub(crate) struct Around<'a> {
    pub(crate) sockets: &'a mut Sockets,
    pub(crate) names: &'a mut BTreeMap<(usize, Name), Registered>,
    /// The connections from other hosts that wait at each bridge which runs. The first number is the other host.
    pub(crate) listening: &'a mut BTreeMap<usize, VecDeque<(usize, EndId)>>,
    pub(crate) random: &'a mut Random,
}

/// The names that a host exports and imports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) exports: Vec<(Name, Vec<usize>)>,
    pub(crate) imports: Vec<(Name, Vec<usize>)>,
}

struct OpenLink {
    link: Link,
    peer: usize,
    role: Role,
    end: EndId,
    out: Vec<u8>,
}

/// A dialled conversation that has no answer yet.
struct Dialled {
    local: EndId,
    remote: Option<EndId>,
    out: Vec<u8>,
    got: Vec<u8>,
}

/// A conversation in either role.
struct Joined {
    conversation: Conversation,
    local: EndId,
    remote: Option<EndId>,
    /// The answer, before everything else.
    out: Vec<u8>,
    role: Role,
    lingers_since: Option<Duration>,
}

/// A connection that another bridge has dialled, and its first bytes.
struct Fresh {
    peer: usize,
    end: EndId,
    got: Vec<u8>,
}

pub(crate) struct Bridge {
    host: usize,
    plan: Plan,
    myself: Myself,
    importer: Importer,
    exporter: Exporter,
    links: BTreeMap<LinkId, OpenLink>,
    redial: BTreeMap<usize, Duration>,
    fresh: Vec<Fresh>,
    dialled: BTreeMap<ConversationId, Dialled>,
    /// The connections that wait for their server.
    connecting: BTreeMap<ConversationId, EndId>,
    joined: BTreeMap<ConversationId, Joined>,
    /// The remote ends whose refusal is on its way.
    leaving: Vec<EndId>,
    in_use: BTreeSet<Name>,
    next: u64,
}

pub(crate) fn host_name(host: usize) -> Host {
    Host::parse(&format!("host{}", ["a", "b", "c", "d"][host])).unwrap()
}

/// Returns a conversation whose client is aborted.
fn lost() -> Conversation {
    let mut conversation = Conversation::new();
    conversation.remote_broke();
    conversation
}

impl Bridge {
    pub(crate) fn new(host: usize, plan: Plan, run: u8) -> Self {
        let mut instance = [run; 16];
        instance[0] = host as u8;
        let instance = Instance(instance);
        let hosts = |hosts: &[usize]| hosts.iter().map(|&host| host_name(host)).collect::<BTreeSet<_>>();
        let import =
            |from: &[usize]| Import { from: hosts(from), message_max: 1 << 24, mode: 0o600, transports: Vec::new() };
        let imports = plan.imports.iter().map(|(name, from)| (name.clone(), import(from))).collect();
        let exports = plan.exports.iter().map(|(name, to)| (name.clone(), hosts(to))).collect();
        let lease = link::LEASE_MIN;
        Self {
            host,
            myself: Myself { host: host_name(host), instance, endpoint: Endpoint::default(), lease },
            importer: Importer::new(instance, Limits::default(), imports),
            exporter: Exporter::new(instance, Limits::default(), exports),
            plan,
            links: BTreeMap::new(),
            redial: BTreeMap::new(),
            fresh: Vec::new(),
            dialled: BTreeMap::new(),
            connecting: BTreeMap::new(),
            joined: BTreeMap::new(),
            leaving: Vec::new(),
            in_use: BTreeSet::new(),
            next: 0,
        }
    }

    pub(crate) fn conversations(&self) -> usize {
        assert!(self.joined.len() + self.dialled.len() >= self.importer.conversations());
        self.joined.len() + self.dialled.len() + self.connecting.len()
    }

    /// The process is killed.
    pub(crate) fn die(&mut self, around: &mut Around<'_>) {
        let remote = self.joined.values().filter_map(|joined| joined.remote);
        let remote = remote.chain(self.dialled.values().filter_map(|dialled| dialled.remote));
        let remote = remote.chain(self.connecting.values().copied()).chain(self.leaving.iter().copied());
        let remote = remote.chain(self.links.values().map(|open| open.end)).chain(self.fresh.iter().map(|f| f.end));
        let local = self.joined.values().map(|joined| joined.local);
        let all = remote.chain(local).chain(self.dialled.values().map(|dialled| dialled.local));
        all.for_each(|end| around.sockets.die(end, true));
        for (_, end) in around.listening.remove(&self.host).unwrap_or_default() {
            around.sockets.die(end, true);
        }
        for ((host, _), registered) in around.names.iter_mut() {
            if *host == self.host && registered.holder == Holder::Bridge {
                registered.holder = Holder::Nobody;
                registered.queue.drain(..).for_each(|end| around.sockets.die(end, true));
            }
        }
    }

    pub(crate) fn poll(&mut self, around: &mut Around<'_>) {
        let now = around.sockets.now;
        self.watch(around);
        self.accept(around);
        self.dial_links(around);
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            self.poll_link(id, around);
        }
        let actions = self.importer.tick(now);
        self.import_all(actions, around);
        self.accept_clients(around);
        for id in self.dialled.keys().copied().collect::<Vec<_>>() {
            self.poll_dialled(id, around);
        }
        for id in self.joined.keys().copied().collect::<Vec<_>>() {
            self.poll_joined(id, around);
        }
        self.leaving.retain(|&end| {
            let is_over = matches!(around.sockets.recv(end, 1000), Got::End | Got::Reset);
            if is_over {
                around.sockets.close(end);
            }
            !is_over
        });
    }

    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Looks who holds the names of this host.
    fn watch(&mut self, around: &mut Around<'_>) {
        let now = around.sockets.now;
        for (name, _) in self.plan.exports.clone() {
            let is_there = around.names[&(self.host, name.clone())].holder == Holder::Server;
            let actions = self.exporter.server(&name, is_there);
            self.export_all(actions, around);
        }
        for (name, _) in self.plan.imports.clone() {
            let is_local = around.names[&(self.host, name.clone())].holder == Holder::Server;
            match (is_local, self.in_use.contains(&name)) {
                (true, false) => {
                    self.importer.in_use(&name);
                    self.in_use.insert(name);
                }
                (false, true) => {
                    self.importer.local_server_gone(&name, now);
                    self.in_use.remove(&name);
                }
                _ => {}
            }
        }
    }

    fn accept(&mut self, around: &mut Around<'_>) {
        let waiting = around.listening.entry(self.host).or_default().drain(..);
        self.fresh.extend(waiting.map(|(peer, end)| Fresh { peer, end, got: Vec::new() }));
        for mut fresh in std::mem::take(&mut self.fresh) {
            match around.sockets.recv(fresh.end, 1 + around.random.below(200) as usize) {
                Got::Bytes(bytes) => fresh.got.extend_from_slice(&bytes),
                Got::Nothing => {}
                Got::Notify | Got::End | Got::Reset => {
                    around.sockets.close(fresh.end);
                    continue;
                }
            }
            match fresh.got.first() {
                None => self.fresh.push(fresh),
                Some(&CONTROL) => self.begin_link(Role::Exporter, fresh, around),
                Some(&CONVERSATION) => match Preamble::parse(&fresh.got).unwrap() {
                    None => self.fresh.push(fresh),
                    Some((preamble, len)) => {
                        assert_eq!(len, fresh.got.len(), "nothing follows before the answer");
                        let id = ConversationId(self.next());
                        self.connecting.insert(id, fresh.end);
                        let now = around.sockets.now;
                        let actions = self.exporter.preamble(id, &host_name(fresh.peer), &preamble, now);
                        self.export_all(actions, around);
                    }
                },
                Some(other) => panic!("the first byte is {other}"),
            }
        }
    }

    fn dial_links(&mut self, around: &mut Around<'_>) {
        let peers: BTreeSet<usize> = self.plan.imports.iter().flat_map(|(_, from)| from.iter().copied()).collect();
        for peer in peers {
            let has_link = self.links.values().any(|open| open.role == Role::Importer && open.peer == peer);
            let is_early = self.redial.get(&peer).is_some_and(|&at| around.sockets.now < at);
            if has_link || is_early || !around.listening.contains_key(&peer) {
                continue;
            }
            self.redial.insert(peer, around.sockets.now + Duration::from_millis(100 + around.random.below(200)));
            if let Some((end, other)) = around.sockets.dial(self.host, peer, usize::MAX) {
                around.listening.entry(peer).or_default().push_back((self.host, other));
                self.begin_link(Role::Importer, Fresh { peer, end, got: Vec::new() }, around);
            }
        }
    }

    fn begin_link(&mut self, role: Role, fresh: Fresh, around: &mut Around<'_>) {
        let now = around.sockets.now;
        let id = LinkId(self.next());
        let peer = host_name(fresh.peer);
        let names = match role {
            Role::Importer => BTreeSet::new(),
            Role::Exporter => self.exporter.link_began(id, peer.clone(), now),
        };
        let (link, actions) = Link::new(role, self.myself.clone(), peer, names, now);
        let out = if role == Role::Importer { vec![CONTROL] } else { Vec::new() };
        self.links.insert(id, OpenLink { link, peer: fresh.peer, role, end: fresh.end, out });
        self.link_all(id, actions, around);
        if let Some(rest) = fresh.got.get(1..) {
            let actions = self.links.get_mut(&id).map(|open| open.link.receive(rest, now));
            self.link_all(id, actions.unwrap_or_default(), around);
        }
    }

    fn poll_link(&mut self, id: LinkId, around: &mut Around<'_>) {
        let now = around.sockets.now;
        let Some(open) = self.links.get_mut(&id) else { return };
        let got = around.sockets.recv(open.end, 1 + around.random.below(300) as usize);
        let mut actions = match got {
            Got::Nothing => Vec::new(),
            Got::Bytes(bytes) => open.link.receive(&bytes, now),
            Got::Notify | Got::End | Got::Reset => open.link.end(),
        };
        actions.extend(open.link.tick(now));
        self.link_all(id, actions, around);
        let Some(open) = self.links.get_mut(&id) else { return };
        match around.sockets.send(open.end, &open.out) {
            Ok(count) => drop(open.out.drain(..count)),
            Err(()) => {
                let actions = open.link.end();
                self.link_all(id, actions, around);
            }
        }
    }

    fn link_all(&mut self, id: LinkId, actions: Vec<link::Action>, around: &mut Around<'_>) {
        let now = around.sockets.now;
        for action in actions {
            let Some(open) = self.links.get_mut(&id) else { return };
            let (role, peer) = (open.role, open.peer);
            match action {
                link::Action::Send(frame) => frame.encode(&mut open.out),
                link::Action::Up(hello) => match role {
                    Role::Importer => self.importer.link_up(id, host_name(peer), hello.instance),
                    Role::Exporter => {
                        let actions = self.exporter.link_up(id, hello.instance);
                        self.export_all(actions, around);
                    }
                },
                link::Action::Exported(name) => {
                    let actions = self.importer.exported(id, name);
                    self.import_all(actions, around);
                }
                link::Action::Withdrawn(name) => {
                    let actions = self.importer.withdrawn(id, name);
                    self.import_all(actions, around);
                }
                link::Action::Quits => {
                    let actions = self.importer.link_quits(id);
                    self.import_all(actions, around);
                }
                link::Action::Down(_) => {
                    around.sockets.close(open.end);
                    self.links.remove(&id);
                    match role {
                        Role::Importer => {
                            let actions = self.importer.link_down(id, now);
                            self.import_all(actions, around);
                        }
                        Role::Exporter => {
                            let actions = self.exporter.link_down(id);
                            self.export_all(actions, around);
                        }
                    }
                }
            }
        }
    }

    fn import_all(&mut self, actions: Vec<importer::Action>, around: &mut Around<'_>) {
        for action in actions {
            match action {
                importer::Action::Take(name) => self.take(&name, around),
                importer::Action::GiveUp(name) => self.give_up(&name, around),
                importer::Action::Dial(id, link, preamble) => {
                    let Some(dialled) = self.dialled.get_mut(&id) else { panic!("{id:?} is unknown") };
                    dialled.remote.take().into_iter().for_each(|end| around.sockets.close(end));
                    let peer = self.links[&link].peer;
                    (dialled.out, dialled.got) = (preamble.encode(), Vec::new());
                    let tag = around.sockets.tag(dialled.local);
                    let listens = around.listening.contains_key(&peer);
                    let ends = if listens { around.sockets.dial(self.host, peer, tag) } else { None };
                    if let Some((end, other)) = ends {
                        dialled.remote = Some(end);
                        around.listening.entry(peer).or_default().push_back((self.host, other));
                    }
                }
                importer::Action::Open(id) => {
                    let dialled = self.dialled.remove(&id).unwrap();
                    assert!(dialled.got.is_empty());
                    self.join(id, Conversation::new(), dialled.local, dialled.remote, Role::Importer);
                }
                importer::Action::Abort(id) => {
                    let dialled = self.dialled.remove(&id).unwrap();
                    dialled.remote.into_iter().for_each(|end| around.sockets.close(end));
                    self.join(id, lost(), dialled.local, None, Role::Importer);
                }
                importer::Action::Lose(id) => {
                    if let Some(joined) = self.joined.get_mut(&id) {
                        joined.conversation.remote_broke();
                    }
                }
            }
        }
    }

    fn take(&mut self, name: &Name, around: &mut Around<'_>) {
        let registered = around.names.get_mut(&(self.host, name.clone())).unwrap();
        if registered.holder == Holder::Nobody {
            registered.holder = Holder::Bridge;
            let actions = self.importer.took(name);
            self.import_all(actions, around);
        } else {
            self.importer.in_use(name);
            self.in_use.insert(name.clone());
        }
    }

    fn give_up(&mut self, name: &Name, around: &mut Around<'_>) {
        let registered = around.names.get_mut(&(self.host, name.clone())).unwrap();
        assert_eq!(registered.holder, Holder::Bridge);
        registered.holder = Holder::Nobody;
        // Those who have connected already are aborted, as by a server that ends they would be closed.
        for end in registered.queue.drain(..) {
            let id = ConversationId(self.next());
            self.join(id, lost(), end, None, Role::Importer);
        }
    }

    fn export_all(&mut self, actions: Vec<exporter::Action>, around: &mut Around<'_>) {
        let now = around.sockets.now;
        for action in actions {
            match action {
                exporter::Action::Export(id, name) => {
                    let actions = self.links.get_mut(&id).map(|open| open.link.export(name, now));
                    self.link_all(id, actions.unwrap_or_default(), around);
                }
                exporter::Action::Withdraw(id, name) => {
                    let actions = self.links.get_mut(&id).map(|open| open.link.withdraw(name, now));
                    self.link_all(id, actions.unwrap_or_default(), around);
                }
                exporter::Action::Close(id) => {
                    self.links.remove(&id).into_iter().for_each(|open| around.sockets.close(open.end));
                }
                exporter::Action::Connect(id, name, ..) => {
                    let remote = self.connecting[&id];
                    let registered = around.names.get_mut(&(self.host, name)).unwrap();
                    let actions = if registered.holder == Holder::Server {
                        let (local, other) = around.sockets.pair(around.sockets.tag(remote));
                        registered.queue.push_back(other);
                        self.connecting.remove(&id);
                        self.join(id, Conversation::new(), local, Some(remote), Role::Exporter);
                        self.exporter.connected(id)
                    } else {
                        let refusal = parlour_bridge::wire::conversation::Refusal::NoServer;
                        self.exporter.not_connected(id, refusal, String::new())
                    };
                    self.export_all(actions, around);
                }
                exporter::Action::Answer(id, answer) => match self.joined.get_mut(&id) {
                    Some(joined) => joined.out = answer.encode(),
                    None => {
                        let end = self.connecting.remove(&id).unwrap();
                        let _ = around.sockets.send(end, &answer.encode());
                        around.sockets.shut(end);
                        self.leaving.push(end);
                    }
                },
                exporter::Action::Lose(id) => {
                    if let Some(joined) = self.joined.get_mut(&id) {
                        joined.conversation.remote_broke();
                    }
                }
            }
        }
    }

    fn accept_clients(&mut self, around: &mut Around<'_>) {
        let now = around.sockets.now;
        for (name, _) in self.plan.imports.clone() {
            let registered = around.names.get_mut(&(self.host, name.clone())).unwrap();
            if registered.holder != Holder::Bridge {
                continue;
            }
            for local in std::mem::take(&mut registered.queue) {
                let id = ConversationId(self.next());
                self.dialled.insert(id, Dialled { local, remote: None, out: Vec::new(), got: Vec::new() });
                let actions = self.importer.client(id, name.clone(), Origin::default(), now);
                self.import_all(actions, around);
            }
        }
    }

    fn poll_dialled(&mut self, id: ConversationId, around: &mut Around<'_>) {
        let now = around.sockets.now;
        let Some(dialled) = self.dialled.get_mut(&id) else { return };
        let answer = match dialled.remote {
            None => Some(None),
            Some(remote) => {
                let sent = around.sockets.send(remote, &dialled.out);
                sent.iter().for_each(|&count| drop(dialled.out.drain(..count)));
                // The answer is read byte by byte: what follows it is for the conversation.
                match around.sockets.recv(remote, 1) {
                    Got::Nothing if sent.is_ok() => None,
                    Got::Bytes(bytes) => {
                        dialled.got.extend_from_slice(&bytes);
                        Answer::parse(&dialled.got).unwrap().map(|(answer, _)| Some(answer))
                    }
                    _ => Some(None),
                }
            }
        };
        if let Some(answer) = answer {
            dialled.got = Vec::new();
            let actions = self.importer.answered(id, answer.as_ref(), now);
            self.import_all(actions, around);
        }
    }

    fn join(
        &mut self,
        id: ConversationId,
        conversation: Conversation,
        local: EndId,
        remote: Option<EndId>,
        role: Role,
    ) {
        self.joined.insert(id, Joined { conversation, local, remote, out: Vec::new(), role, lingers_since: None });
    }

    fn poll_joined(&mut self, id: ConversationId, around: &mut Around<'_>) {
        let Some(joined) = self.joined.get_mut(&id) else { return };
        for _ in 0..1 + around.random.below(4) {
            joined.poll(around);
        }
        if joined.conversation.status() == Status::Over {
            around.sockets.close(joined.local);
            joined.remote.into_iter().for_each(|end| around.sockets.close(end));
            match joined.role {
                Role::Importer => self.importer.over(id),
                Role::Exporter => self.exporter.over(id),
            }
            self.joined.remove(&id);
        }
    }
}

impl Joined {
    fn poll(&mut self, around: &mut Around<'_>) {
        if around.random.once_in(2) {
            self.poll_local(around);
        }
        if around.random.once_in(2) {
            self.poll_remote(around);
        }
        if self.conversation.status() == Status::Lingering {
            let now = around.sockets.now;
            let since = *self.lingers_since.get_or_insert(now);
            let is_acknowledged = self.remote.is_none_or(|end| around.sockets.is_acknowledged(end));
            if is_acknowledged || now >= since + LINGER_MAX {
                self.conversation.lingered();
            }
        }
    }

    fn poll_local(&mut self, around: &mut Around<'_>) {
        let conversation = &mut self.conversation;
        let budget = 1 + around.random.below(70_000) as usize;
        if let Some(space) = conversation.local_space() {
            match around.sockets.recv(self.local, budget.min(space.len())) {
                Got::Nothing => {}
                Got::Bytes(bytes) => {
                    space[..bytes.len()].copy_from_slice(&bytes);
                    conversation.local_filled(bytes.len());
                }
                Got::End => conversation.local_ended(),
                Got::Reset => conversation.local_broke(),
                Got::Notify => panic!("close_notify on a UNIX socket"),
            }
        }
        match conversation.local_step() {
            Step::Wait => {
                if around.sockets.has_hung_up(self.local) {
                    conversation.local_refused();
                }
            }
            Step::Write(bytes) => match around.sockets.send(self.local, &bytes[..bytes.len().min(budget)]) {
                Ok(count) => conversation.local_written(count),
                Err(()) => conversation.local_refused(),
            },
            Step::End => {
                around.sockets.shut(self.local);
                conversation.local_done();
            }
            Step::Close => {
                around.sockets.close(self.local);
                conversation.local_done();
            }
            Step::Cut => panic!("a local side is closed"),
        }
    }

    fn poll_remote(&mut self, around: &mut Around<'_>) {
        let conversation = &mut self.conversation;
        let Some(remote) = self.remote else { return };
        if !self.out.is_empty() {
            match around.sockets.send(remote, &self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(()) => self.out.clear(),
            }
            if !self.out.is_empty() {
                return;
            }
        }
        let budget = 1 + around.random.below(70_000) as usize;
        if let Some(space) = conversation.remote_space() {
            match around.sockets.recv(remote, budget.min(space.len())) {
                Got::Nothing => {}
                Got::Bytes(bytes) => {
                    space[..bytes.len()].copy_from_slice(&bytes);
                    conversation.remote_filled(bytes.len());
                }
                Got::Notify => conversation.remote_ended(),
                Got::End | Got::Reset => conversation.remote_broke(),
            }
        }
        match conversation.remote_step() {
            Step::Wait => {}
            Step::Write(bytes) => match around.sockets.send(remote, &bytes[..bytes.len().min(budget)]) {
                Ok(count) => conversation.remote_written(count),
                Err(()) => conversation.remote_refused(),
            },
            Step::End => {
                around.sockets.notify(remote);
                around.sockets.shut(remote);
                conversation.remote_done();
            }
            Step::Cut => {
                around.sockets.shut(remote);
                conversation.remote_done();
            }
            Step::Close => panic!("a remote side is cut"),
        }
    }
}
