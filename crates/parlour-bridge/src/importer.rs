//! The importing side of a bridge, without I/O: which names this host holds for others, and which exporter serves each
//! client.
//!
//! An exporter is a host to which this one has a link. A client goes to the exporter with the fewest conversations from
//! here, and among equals to the next in turn. Nothing is read from a client before an exporter has accepted it.
//! Therefore the next exporter can be tried until [`OPEN_TIMEOUT`] is over. After that a conversation never moves.
//!
//! Each method that reports an event returns the actions that follow from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parlour::Transport;

use crate::hold::{Hold, HoldStep, Holding};
use crate::identity::{ConversationId, Host, Instance, LinkId, Name};
use crate::limits::Limits;
use crate::wire::conversation::{Answer, Origin, Preamble};

/// The time within which a client is served or turned away.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// A name that this host imports.
#[derive(Clone, Debug)]
pub struct Import {
    /// The hosts whose servers may have it.
    pub from: BTreeSet<Host>,
    /// The longest message, in bytes.
    pub message_max: u32,
    /// The mode of the socket on this host, which says who may connect.
    pub mode: u32,
    /// The transports that clients of this host may use, in any order.
    pub transports: Vec<Transport>,
}

impl Import {
    /// Returns true if a server with one of them serves clients as one with the other does.
    fn serves_like(&self, other: &Self) -> bool {
        (self.message_max, self.mode, &self.transports) == (other.message_max, other.mode, &other.transports)
    }
}

/// The driver's next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Takes the name on this host, and reports [`Importer::took`], [`Importer::in_use`] or [`Importer::failed`].
    Take(Name),
    /// Gives the name up. Conversations go on.
    GiveUp(Name),
    /// Dials the host of the link, sends the preamble, and reports [`Importer::answered`]. A connection on which this
    /// conversation was dialled before is closed.
    Dial(ConversationId, LinkId, Preamble),
    /// An exporter has accepted the client: the conversation goes on as a [`Conversation`].
    ///
    /// [`Conversation`]: crate::conversation::Conversation
    Open(ConversationId),
    /// No exporter takes the client. It is aborted, and a dialled connection is closed.
    Abort(ConversationId),
    /// The link of the conversation is lost ([`Conversation::remote_broke`]).
    ///
    /// [`Conversation::remote_broke`]: crate::conversation::Conversation::remote_broke
    Lose(ConversationId),
}

/// A name that this host imports, as its status shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedName<'a> {
    /// The name.
    pub name: &'a Name,
    /// The relation of this bridge to the name.
    pub holding: Holding,
    /// The hosts that export it now.
    pub exporters: Vec<&'a Host>,
    /// The number of conversations, with those that are being opened.
    pub conversations: usize,
}

#[derive(Debug)]
struct Imported {
    import: Import,
    hold: Hold,
    /// The exporter of the last client.
    last: Option<LinkId>,
    /// The number of conversations, with those that are being opened.
    conversations: usize,
}

/// A link to an exporter.
#[derive(Debug)]
struct Exporter {
    host: Host,
    instance: Instance,
    names: BTreeSet<Name>,
    /// The number of conversations, with those that are being opened.
    conversations: usize,
    quits: bool,
}

#[derive(Debug)]
struct Client {
    name: Name,
    link: LinkId,
    /// The rest, while no exporter has accepted the client.
    opening: Option<Opening>,
}

#[derive(Debug)]
struct Opening {
    origin: Origin,
    tried: BTreeSet<LinkId>,
    due: Duration,
}

/// The importing side.
#[derive(Debug)]
pub struct Importer {
    instance: Instance,
    limits: Limits,
    imports: BTreeMap<Name, Imported>,
    exporters: BTreeMap<LinkId, Exporter>,
    clients: BTreeMap<ConversationId, Client>,
    quits: bool,
}

impl Importer {
    /// Begins with no link. `instance` is that of this bridge.
    #[must_use]
    pub fn new(instance: Instance, limits: Limits, imports: BTreeMap<Name, Import>) -> Self {
        let imported = |import| Imported { import, hold: Hold::default(), last: None, conversations: 0 };
        let imports = imports.into_iter().map(|(name, import)| (name, imported(import))).collect();
        Self { instance, limits, imports, exporters: BTreeMap::new(), clients: BTreeMap::new(), quits: false }
    }

    /// Goes on with another configuration. Conversations go on, also those of names that are not imported any more.
    /// A name whose longest message or mode has changed is given up and taken again.
    pub fn configure(&mut self, limits: Limits, imports: BTreeMap<Name, Import>) -> Vec<Action> {
        self.limits = limits;
        let mut former = std::mem::take(&mut self.imports);
        let mut actions = Vec::new();
        for (name, import) in imports {
            let conversations = self.clients.values().filter(|client| client.name == name).count();
            let mut imported = Imported { import, hold: Hold::default(), last: None, conversations };
            if let Some(old) = former.remove(&name) {
                imported.last = old.last;
                if old.hold.is_held() && !old.import.serves_like(&imported.import) {
                    actions.push(Action::GiveUp(name.clone()));
                } else {
                    imported.hold = old.hold;
                }
            }
            self.imports.insert(name, imported);
        }
        let is_held = |(_, imported): &(Name, Imported)| imported.hold.is_held();
        actions.extend(former.into_iter().filter(is_held).map(|(name, _)| Action::GiveUp(name)));
        let names: Vec<Name> = self.imports.keys().cloned().collect();
        actions.extend(self.want(names));
        actions
    }

    /// Returns true if this bridge holds the name.
    #[must_use]
    pub fn holds(&self, name: &Name) -> bool {
        self.imports.get(name).is_some_and(|imported| imported.hold.is_held())
    }

    /// Returns the number of conversations, with those that are being opened, and those whose link is lost and that are
    /// not over.
    #[must_use]
    pub fn conversations(&self) -> usize {
        self.clients.len()
    }

    /// Returns the names with their exporters.
    pub fn names(&self) -> impl Iterator<Item = ImportedName<'_>> {
        self.imports.iter().map(|(name, imported)| {
            let exporters = self.exporters.values().filter(|exporter| offers(imported, exporter, name));
            ImportedName {
                name,
                holding: imported.hold.holding(),
                exporters: exporters.map(|exporter| &exporter.host).collect(),
                conversations: imported.conversations,
            }
        })
    }

    /// Returns the number of conversations of a link, with those that are being opened.
    #[must_use]
    pub fn conversations_of(&self, link: LinkId) -> usize {
        self.exporters.get(&link).map_or(0, |exporter| exporter.conversations)
    }

    /// Returns the time at which [`tick`](Self::tick) is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let holds = self.imports.values().filter_map(|imported| imported.hold.deadline());
        let clients = self.clients.values().filter_map(|client| client.opening.as_ref().map(|opening| opening.due));
        holds.chain(clients).min()
    }

    /// A link to an exporter is up.
    pub fn link_up(&mut self, link: LinkId, host: Host, instance: Instance) {
        let exporter = Exporter { host, instance, names: BTreeSet::new(), conversations: 0, quits: false };
        self.exporters.insert(link, exporter);
    }

    /// The exporter exports this name to this host. A name that is not imported from there has no effect.
    pub fn exported(&mut self, link: LinkId, name: Name) -> Vec<Action> {
        let Some(exporter) = self.exporters.get_mut(&link) else { return Vec::new() };
        // Another configuration may allow it.
        exporter.names.insert(name.clone());
        self.want([name])
    }

    /// The exporter does not export this name any more. Its conversations go on.
    pub fn withdrawn(&mut self, link: LinkId, name: Name) -> Vec<Action> {
        let Some(exporter) = self.exporters.get_mut(&link) else { return Vec::new() };
        exporter.names.remove(&name);
        self.want([name])
    }

    /// The exporter ends in order.
    pub fn link_quits(&mut self, link: LinkId) -> Vec<Action> {
        let Some(exporter) = self.exporters.get_mut(&link) else { return Vec::new() };
        exporter.quits = true;
        let names = exporter.names.clone();
        self.want(names)
    }

    /// The link is lost, with the conversations that belong to it. They count until they are over: a client that reads
    /// nothing holds its socket for that long. Clients that are being opened try the next exporter.
    pub fn link_down(&mut self, link: LinkId, now: Duration) -> Vec<Action> {
        let Some(exporter) = self.exporters.remove(&link) else { return Vec::new() };
        let mut actions = self.want(exporter.names);
        let of_link = self.clients.iter().filter(|(_, client)| client.link == link);
        for (id, is_opening) in of_link.map(|(&id, client)| (id, client.opening.is_some())).collect::<Vec<_>>() {
            if is_opening {
                actions.extend(self.try_next(id, now));
            } else {
                actions.push(Action::Lose(id));
            }
        }
        actions
    }

    /// The name was taken on this host.
    pub fn took(&mut self, name: &Name) -> Vec<Action> {
        if !self.imports.contains_key(name) {
            return vec![Action::GiveUp(name.clone())];
        }
        self.with_hold(name, Hold::took)
    }

    /// A server of this host has the name, or has taken it over.
    pub fn in_use(&mut self, name: &Name) {
        self.with_hold(name, |hold| {
            hold.in_use();
            None
        });
    }

    /// The name could not be taken.
    pub fn failed(&mut self, name: &Name, now: Duration) {
        self.with_hold(name, |hold| {
            hold.failed(now);
            None
        });
    }

    /// The server of this host has gone.
    pub fn local_server_gone(&mut self, name: &Name, now: Duration) {
        self.with_hold(name, |hold| {
            hold.local_server_gone(now);
            None
        });
    }

    /// A client has connected to a name that this bridge holds. `conversation` is a new number.
    pub fn client(&mut self, conversation: ConversationId, name: Name, origin: Origin, now: Duration) -> Vec<Action> {
        if self.clients.len() >= self.limits.conversations || self.quits {
            return vec![Action::Abort(conversation)];
        }
        if let Some(imported) = self.imports.get_mut(&name) {
            imported.conversations += 1;
        }
        let opening = Opening { origin, tried: BTreeSet::new(), due: now + OPEN_TIMEOUT };
        // No link has this number, so that nothing is counted for it.
        let link = LinkId(u64::MAX);
        self.clients.insert(conversation, Client { name, link, opening: Some(opening) });
        self.try_next(conversation, now)
    }

    /// The exporter has answered, or the dialled connection has failed (`None`).
    pub fn answered(&mut self, id: ConversationId, answer: Option<&Answer>, now: Duration) -> Vec<Action> {
        let Some(client) = self.clients.get_mut(&id).filter(|client| client.opening.is_some()) else {
            return Vec::new();
        };
        match answer {
            Some(Answer::Accepted) => {
                client.opening = None;
                vec![Action::Open(id)]
            }
            Some(Answer::Refused(..)) | None => self.try_next(id, now),
        }
    }

    /// The conversation is over, or its client has gone before an exporter accepted it.
    pub fn over(&mut self, id: ConversationId) {
        if let Some(client) = self.clients.remove(&id) {
            self.leave(client.link);
            if let Some(imported) = self.imports.get_mut(&client.name) {
                imported.conversations = imported.conversations.saturating_sub(1);
            }
        }
    }

    /// This bridge ends in order: it gives up all names, and takes no clients.
    pub fn quit(&mut self) -> Vec<Action> {
        self.quits = true;
        let names: Vec<Name> = self.imports.keys().cloned().collect();
        self.want(names)
    }

    /// Looks at the clock.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        for (name, imported) in &mut self.imports {
            actions.extend(imported.hold.tick(now).map(|step| action(name, step)));
        }
        let is_late = |client: &Client| client.opening.as_ref().is_some_and(|opening| now >= opening.due);
        let late: Vec<ConversationId> =
            self.clients.iter().filter(|(_, client)| is_late(client)).map(|(&id, _)| id).collect();
        for id in late {
            self.over(id);
            actions.push(Action::Abort(id));
        }
        actions
    }

    /// Dials the next exporter for a client, or aborts it.
    fn try_next(&mut self, id: ConversationId, now: Duration) -> Vec<Action> {
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        let (left, name) = (client.link, client.name.clone());
        let Some(opening) = &mut client.opening else { return Vec::new() };
        opening.tried.insert(left);
        let is_late = now >= opening.due;
        let (origin, tried) = (opening.origin.clone(), opening.tried.clone());
        // From here on the client belongs to no link.
        client.link = LinkId(u64::MAX);
        self.leave(left);
        let chosen = if is_late { None } else { self.choose(&name, &tried) };
        let (Some(link), Some(imported)) = (chosen, self.imports.get_mut(&name)) else {
            self.over(id);
            return vec![Action::Abort(id)];
        };
        imported.last = Some(link);
        let message_max = imported.import.message_max;
        let (Some(exporter), Some(client)) = (self.exporters.get_mut(&link), self.clients.get_mut(&id)) else {
            return Vec::new();
        };
        exporter.conversations += 1;
        client.link = link;
        let preamble = Preamble { name, importer: self.instance, exporter: exporter.instance, message_max, origin };
        vec![Action::Dial(id, link, preamble)]
    }

    /// Chooses an exporter that was not tried.
    fn choose(&self, name: &Name, tried: &BTreeSet<LinkId>) -> Option<LinkId> {
        let imported = self.imports.get(name)?;
        let last = imported.last;
        let is_candidate = |link: &LinkId, exporter: &Exporter| {
            offers(imported, exporter, name)
                && !tried.contains(link)
                && exporter.conversations < self.limits.conversations_per_host
        };
        let candidates = self.exporters.iter().filter(|(link, exporter)| is_candidate(link, exporter));
        // In turn: those behind the last one come first.
        let order =
            |link: LinkId, exporter: &Exporter| (exporter.conversations, last.is_some_and(|last| link <= last), link);
        candidates.map(|(&link, exporter)| (order(link, exporter), link)).min().map(|(_, link)| link)
    }

    fn leave(&mut self, link: LinkId) {
        if let Some(exporter) = self.exporters.get_mut(&link) {
            exporter.conversations = exporter.conversations.saturating_sub(1);
        }
    }

    /// Takes names up, or gives them up.
    fn want(&mut self, names: impl IntoIterator<Item = Name>) -> Vec<Action> {
        let mut actions = Vec::new();
        for name in names {
            let Some(imported) = self.imports.get(&name) else { continue };
            let is_wanted = !self.quits && self.exporters.values().any(|exporter| offers(imported, exporter, &name));
            actions.extend(self.with_hold(&name, |hold| hold.want(is_wanted)));
        }
        actions
    }

    fn with_hold(&mut self, name: &Name, f: impl FnOnce(&mut Hold) -> Option<HoldStep>) -> Vec<Action> {
        let step = self.imports.get_mut(name).and_then(|imported| f(&mut imported.hold));
        step.map(|step| action(name, step)).into_iter().collect()
    }
}

fn offers(imported: &Imported, exporter: &Exporter, name: &Name) -> bool {
    !exporter.quits && imported.import.from.contains(&exporter.host) && exporter.names.contains(name)
}

fn action(name: &Name, step: HoldStep) -> Action {
    match step {
        HoldStep::Take => Action::Take(name.clone()),
        HoldStep::GiveUp => Action::GiveUp(name.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::conversation::Refusal;

    const T0: Duration = Duration::ZERO;

    fn name() -> Name {
        Name::parse("wc").unwrap()
    }

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    /// An importer of `wc` from `b` and `c`, with a link to each: 1 and 2.
    fn importer(limits: Limits) -> Importer {
        let import = Import {
            from: BTreeSet::from([host("b"), host("c")]),
            message_max: 1 << 24,
            mode: 0o600,
            transports: vec![Transport::Unix],
        };
        let mut importer = Importer::new(Instance([1; 16]), limits, BTreeMap::from([(name(), import)]));
        importer.link_up(LinkId(1), host("b"), Instance([2; 16]));
        importer.link_up(LinkId(2), host("c"), Instance([3; 16]));
        assert_eq!(importer.exported(LinkId(1), name()), [Action::Take(name())]);
        assert_eq!(importer.exported(LinkId(2), name()), []);
        assert_eq!(importer.took(&name()), []);
        importer
    }

    /// Lets a client in, and returns the link that is dialled for it.
    fn dialled(actions: &[Action]) -> u64 {
        match actions {
            [Action::Dial(_, LinkId(link), preamble)] => {
                assert_eq!((preamble.importer, preamble.exporter.0[0]), (Instance([1; 16]), *link as u8 + 1));
                *link
            }
            other => panic!("{other:?}"),
        }
    }

    fn client(importer: &mut Importer, id: u64) -> u64 {
        dialled(&importer.client(ConversationId(id), name(), Origin::default(), T0))
    }

    #[test]
    fn a_client_goes_to_the_exporter_with_the_fewest_conversations_and_then_in_turn() {
        let mut importer = importer(Limits::default());
        let links: Vec<u64> = (0..6).map(|id| client(&mut importer, id)).collect();
        assert_eq!(links, [1, 2, 1, 2, 1, 2]);
        importer.over(ConversationId(1));
        importer.over(ConversationId(3));
        assert_eq!((6..9).map(|id| client(&mut importer, id)).collect::<Vec<_>>(), [2, 2, 1]);
    }

    #[test]
    fn the_next_exporter_is_tried_and_then_the_client_is_aborted() {
        let mut importer = importer(Limits::default());
        assert_eq!(client(&mut importer, 7), 1);
        let refused = Answer::Refused(Refusal::NoServer, String::new());
        assert_eq!(dialled(&importer.answered(ConversationId(7), Some(&refused), T0)), 2);
        assert_eq!(importer.answered(ConversationId(7), None, T0), [Action::Abort(ConversationId(7))]);
        assert_eq!(importer.answered(ConversationId(7), Some(&Answer::Accepted), T0), []);
        assert_eq!(importer.conversations(), 0);
        assert!(importer.exporters.values().all(|exporter| exporter.conversations == 0));
    }

    #[test]
    fn a_client_is_aborted_after_the_time_for_all_tries() {
        let mut importer = importer(Limits::default());
        client(&mut importer, 7);
        assert_eq!(importer.deadline(), Some(OPEN_TIMEOUT));
        assert_eq!(importer.tick(OPEN_TIMEOUT), [Action::Abort(ConversationId(7))]);
        client(&mut importer, 8);
        assert_eq!(importer.answered(ConversationId(8), None, OPEN_TIMEOUT), [Action::Abort(ConversationId(8))]);
    }

    #[test]
    fn a_lost_link_loses_its_conversations_and_moves_those_that_nobody_has_accepted() {
        let mut importer = importer(Limits::default());
        assert_eq!((client(&mut importer, 1), client(&mut importer, 2), client(&mut importer, 3)), (1, 2, 1));
        assert_eq!(
            importer.answered(ConversationId(1), Some(&Answer::Accepted), T0),
            [Action::Open(ConversationId(1))]
        );
        let actions = importer.link_down(LinkId(1), T0);
        assert_eq!(actions[0], Action::Lose(ConversationId(1)));
        assert_eq!(dialled(&actions[1..]), 2);
        assert!(importer.holds(&name()), "the other exporter is there");
        let actions = importer.link_down(LinkId(2), T0);
        let aborted = [2, 3].map(|id| Action::Abort(ConversationId(id)));
        assert_eq!(actions, [&[Action::GiveUp(name())][..], &aborted].concat());
        assert_eq!(importer.conversations(), 1, "its client may not have been told");
        importer.over(ConversationId(1));
        assert_eq!(importer.conversations(), 0);
    }

    #[test]
    fn lost_conversations_count_against_the_limit_until_they_are_over() {
        let limits = Limits { conversations: 1, ..Limits::default() };
        let mut importer = importer(limits);
        assert_eq!(client(&mut importer, 1), 1);
        importer.answered(ConversationId(1), Some(&Answer::Accepted), T0);
        assert_eq!(importer.link_down(LinkId(1), T0), [Action::Lose(ConversationId(1))]);
        let actions = importer.client(ConversationId(2), name(), Origin::default(), T0);
        assert_eq!(actions, [Action::Abort(ConversationId(2))]);
        assert_eq!(importer.names().map(|imported| imported.conversations).sum::<usize>(), 1);
        importer.over(ConversationId(1));
        assert_eq!(client(&mut importer, 3), 2);
    }

    #[test]
    fn an_exporter_that_withdraws_or_quits_gets_no_more_clients_and_keeps_those_that_it_has() {
        for quits in [false, true] {
            let mut importer = importer(Limits::default());
            client(&mut importer, 1);
            importer.answered(ConversationId(1), Some(&Answer::Accepted), T0);
            let actions = if quits { importer.link_quits(LinkId(1)) } else { importer.withdrawn(LinkId(1), name()) };
            assert_eq!((actions, importer.conversations()), (vec![], 1));
            assert_eq!((client(&mut importer, 2), client(&mut importer, 3)), (2, 2));
            assert_eq!(importer.withdrawn(LinkId(2), name()), [Action::GiveUp(name())]);
            let late = importer.client(ConversationId(4), name(), Origin::default(), T0);
            assert_eq!(late, [Action::Abort(ConversationId(4))]);
        }
    }

    #[test]
    fn only_an_allowed_host_can_export_a_name_here() {
        let import = Import {
            from: BTreeSet::from([host("b")]),
            message_max: 1,
            mode: 0o600,
            transports: vec![Transport::Unix],
        };
        let mut importer = Importer::new(Instance([1; 16]), Limits::default(), BTreeMap::from([(name(), import)]));
        importer.link_up(LinkId(1), host("c"), Instance([2; 16]));
        assert_eq!(importer.exported(LinkId(1), name()), []);
        importer.link_up(LinkId(2), host("b"), Instance([3; 16]));
        assert_eq!(importer.exported(LinkId(2), Name::parse("other").unwrap()), []);
        assert_eq!(importer.exported(LinkId(2), name()), [Action::Take(name())]);
    }

    fn import(from: &[&str], message_max: u32) -> BTreeMap<Name, Import> {
        let from = from.iter().copied().map(host).collect();
        BTreeMap::from([(name(), Import { from, message_max, mode: 0o600, transports: vec![Transport::Unix] })])
    }

    #[test]
    fn another_configuration_acts_on_new_clients_and_open_conversations_go_on() {
        let (mut importer, limits) = (importer(Limits::default()), Limits::default());
        assert_eq!(client(&mut importer, 1), 1);
        importer.answered(ConversationId(1), Some(&Answer::Accepted), T0);
        assert_eq!(importer.configure(limits, import(&["c"], 1 << 24)), []);
        assert_eq!((client(&mut importer, 2), client(&mut importer, 3)), (2, 2));
        assert_eq!(importer.configure(limits, import(&["d"], 1 << 24)), [Action::GiveUp(name())]);
        assert_eq!(importer.conversations(), 3);
        // The names of the former exporters are known.
        assert_eq!(importer.configure(limits, import(&["b"], 1 << 24)), [Action::Take(name())]);
        assert_eq!(importer.took(&name()), []);
        assert_eq!(client(&mut importer, 4), 1);
        let again = [Action::GiveUp(name()), Action::Take(name())];
        assert_eq!(importer.configure(limits, import(&["b"], 1)), again);
        assert_eq!(importer.took(&name()), []);
        let mut open = import(&["b"], 1);
        open.values_mut().for_each(|import| import.mode = 0o666);
        assert_eq!(importer.configure(limits, open), again);
        assert_eq!(importer.took(&name()), []);
        assert_eq!(importer.configure(limits, BTreeMap::new()), [Action::GiveUp(name())]);
        let late = importer.client(ConversationId(5), name(), Origin::default(), T0);
        assert_eq!(late, [Action::Abort(ConversationId(5))]);
        assert_eq!(importer.took(&name()), [Action::GiveUp(name())], "it was being taken");
        importer.over(ConversationId(1));
        assert_eq!(importer.configure(limits, import(&["b"], 1)), [Action::Take(name())]);
        assert_eq!(importer.names().map(|imported| imported.conversations).sum::<usize>(), 3);
    }

    #[test]
    fn the_limits_hold() {
        let limits = Limits { conversations: 5, conversations_per_host: 2, ..Limits::default() };
        let mut importer = importer(limits);
        assert_eq!((0..4).map(|id| client(&mut importer, id)).collect::<Vec<_>>(), [1, 2, 1, 2]);
        for id in [4, 5] {
            let actions = importer.client(ConversationId(id), name(), Origin::default(), T0);
            assert_eq!(actions, [Action::Abort(ConversationId(id))]);
        }
    }

    #[test]
    fn a_bridge_that_ends_gives_its_names_up() {
        let mut importer = importer(Limits::default());
        client(&mut importer, 1);
        assert_eq!(importer.quit(), [Action::GiveUp(name())]);
        assert_eq!((importer.exported(LinkId(1), name()), importer.conversations()), (vec![], 1));
    }
}
