//! The exporting side of a bridge, without I/O: which names each host may reach, and who is let in.
//!
//! A conversation belongs to the link of its importer. It is refused without one, and lost with it. A host has one
//! link: a new one replaces the former one, whose end may not have been noticed yet.
//!
//! Each method that reports an event returns the actions that follow from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::identity::{ConversationId, Host, Instance, LinkId, Name};
use crate::limits::{Limits, Rate};
use crate::wire::conversation::{Answer, Origin, Preamble, Refusal};

/// The driver's next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Announces the name on the link ([`Link::export`]).
    ///
    /// [`Link::export`]: crate::link::Link::export
    Export(LinkId, Name),
    /// Withdraws the name on the link ([`Link::withdraw`]).
    ///
    /// [`Link::withdraw`]: crate::link::Link::withdraw
    Withdraw(LinkId, Name),
    /// Closes the link. A new one of the same host has replaced it.
    Close(LinkId),
    /// Connects to the server of this name on this host for a client of this other host, and reports
    /// [`Exporter::connected`] or [`Exporter::not_connected`].
    Connect(ConversationId, Name, Host, Origin),
    /// Sends the answer. Then the conversation goes on as a [`Conversation`], or its connection is closed.
    ///
    /// [`Conversation`]: crate::conversation::Conversation
    Answer(ConversationId, Answer),
    /// The link of the conversation is lost ([`Conversation::remote_broke`]).
    ///
    /// [`Conversation::remote_broke`]: crate::conversation::Conversation::remote_broke
    Lose(ConversationId),
}

/// A name that this host exports, as its status shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportedName<'a> {
    /// The name.
    pub name: &'a Name,
    /// True if it has a server on this host.
    pub has_server: bool,
    /// The hosts that may reach it.
    pub to: &'a BTreeSet<Host>,
    /// The number of conversations, with those that are being opened.
    pub conversations: usize,
}

#[derive(Debug)]
struct Exported {
    to: BTreeSet<Host>,
    has_server: bool,
    /// The number of conversations, with those that are being opened.
    conversations: usize,
}

/// A conversation, until it is over.
#[derive(Debug)]
struct Open {
    /// Its link, which may be lost.
    link: LinkId,
    host: Host,
    name: Name,
}

/// A link from an importer.
#[derive(Debug)]
struct Importer {
    host: Host,
    /// Known after the hello.
    instance: Option<Instance>,
    conversations: usize,
    opens: Rate,
}

/// The exporting side.
#[derive(Debug)]
pub struct Exporter {
    instance: Instance,
    limits: Limits,
    exports: BTreeMap<Name, Exported>,
    importers: BTreeMap<LinkId, Importer>,
    conversations: BTreeMap<ConversationId, Open>,
    /// The number of conversations of each host that has any, with those whose link is lost: a host that dials again
    /// has no more of them.
    of_hosts: BTreeMap<Host, usize>,
    quits: bool,
}

impl Exporter {
    /// Begins with no server and no link. `instance` is that of this bridge. Each name is exported to these hosts.
    #[must_use]
    pub fn new(instance: Instance, limits: Limits, exports: BTreeMap<Name, BTreeSet<Host>>) -> Self {
        let exported = |to| Exported { to, has_server: false, conversations: 0 };
        Self {
            instance,
            limits,
            exports: exports.into_iter().map(|(name, to)| (name, exported(to))).collect(),
            importers: BTreeMap::new(),
            conversations: BTreeMap::new(),
            of_hosts: BTreeMap::new(),
            quits: false,
        }
    }

    /// Goes on with another configuration. Conversations go on, also those that would not begin any more.
    pub fn configure(&mut self, limits: Limits, exports: BTreeMap<Name, BTreeSet<Host>>, now: Duration) -> Vec<Action> {
        let former = std::mem::take(&mut self.exports);
        for (name, to) in exports {
            let has_server = former.get(&name).is_some_and(|exported| exported.has_server);
            let conversations = self.conversations.values().filter(|open| open.name == name).count();
            self.exports.insert(name, Exported { to, has_server, conversations });
        }
        let is_told = |exports: &BTreeMap<Name, Exported>, name: &Name, host: &Host| {
            exports.get(name).is_some_and(|exported| exported.has_server && exported.to.contains(host))
        };
        let names: BTreeSet<&Name> = former.keys().chain(self.exports.keys()).collect();
        let mut actions = Vec::new();
        for (&link, importer) in &mut self.importers {
            for &name in &names {
                match (is_told(&former, name, &importer.host), is_told(&self.exports, name, &importer.host)) {
                    (true, false) => actions.push(Action::Withdraw(link, name.clone())),
                    (false, true) => actions.push(Action::Export(link, name.clone())),
                    _ => {}
                }
            }
            if limits.opens_per_second != self.limits.opens_per_second {
                importer.opens = Rate::new(limits.opens_per_second, now);
            }
        }
        self.limits = limits;
        actions
    }

    /// Returns the number of conversations, with those that are being opened, and those whose link is lost and that are
    /// not over.
    #[must_use]
    pub fn conversations(&self) -> usize {
        self.conversations.len()
    }

    /// Returns the names with their hosts.
    pub fn names(&self) -> impl Iterator<Item = ExportedName<'_>> {
        self.exports.iter().map(|(name, exported)| ExportedName {
            name,
            has_server: exported.has_server,
            to: &exported.to,
            conversations: exported.conversations,
        })
    }

    /// Returns the hosts that may reach a name.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<&Host> {
        self.exports.values().flat_map(|exported| &exported.to).collect()
    }

    /// Returns the number of conversations of a link, with those that are being opened.
    #[must_use]
    pub fn conversations_of(&self, link: LinkId) -> usize {
        self.importers.get(&link).map_or(0, |importer| importer.conversations)
    }

    /// A host has dialled, and the link with it begins. Returns the names that the link begins with.
    pub fn link_began(&mut self, link: LinkId, host: Host, now: Duration) -> BTreeSet<Name> {
        let is_for_it = |exported: &&Exported| exported.has_server && exported.to.contains(&host);
        let names = self.exports.iter().filter(|(_, exported)| is_for_it(exported));
        let names = names.map(|(name, _)| name.clone()).collect();
        let opens = Rate::new(self.limits.opens_per_second, now);
        self.importers.insert(link, Importer { host, instance: None, conversations: 0, opens });
        names
    }

    /// The link is up. It replaces all others of its host.
    pub fn link_up(&mut self, link: LinkId, instance: Instance) -> Vec<Action> {
        let Some(importer) = self.importers.get_mut(&link) else { return Vec::new() };
        importer.instance = Some(instance);
        let host = importer.host.clone();
        let is_former = |other: LinkId, importer: &Importer| other < link && importer.host == host;
        let former = self.importers.iter().filter(|&(&other, importer)| is_former(other, importer));
        let former: Vec<LinkId> = former.map(|(&other, _)| other).collect();
        let mut actions = Vec::new();
        for other in former {
            actions.push(Action::Close(other));
            actions.extend(self.link_down(other));
        }
        actions
    }

    /// The link is lost, with the conversations that belong to it. They count until they are over: a server that reads
    /// nothing holds its socket for that long.
    pub fn link_down(&mut self, link: LinkId) -> Vec<Action> {
        if self.importers.remove(&link).is_none() {
            return Vec::new();
        }
        let of_link = self.conversations.iter().filter(|(_, open)| open.link == link);
        of_link.map(|(&id, _)| Action::Lose(id)).collect()
    }

    /// A server of this host has taken the name, or has given it up. The bridge itself does not count as one: an
    /// imported name is not exported again.
    pub fn server(&mut self, name: &Name, is_there: bool) -> Vec<Action> {
        let Some(exported) = self.exports.get_mut(name) else { return Vec::new() };
        if std::mem::replace(&mut exported.has_server, is_there) == is_there {
            return Vec::new();
        }
        let links = self.importers.iter().filter(|(_, importer)| exported.to.contains(&importer.host));
        let action = if is_there { Action::Export } else { Action::Withdraw };
        links.map(|(&link, _)| action(link, name.clone())).collect()
    }

    /// A host wants to begin a conversation. `host` is that of its certificate, and `conversation` is a new number.
    pub fn preamble(
        &mut self,
        conversation: ConversationId,
        host: &Host,
        preamble: &Preamble,
        now: Duration,
    ) -> Vec<Action> {
        match self.admit(host, preamble, now) {
            Ok(link) => {
                let name = preamble.name.clone();
                if let Some(exported) = self.exports.get_mut(&name) {
                    exported.conversations += 1;
                }
                *self.of_hosts.entry(host.clone()).or_default() += 1;
                self.conversations.insert(conversation, Open { link, host: host.clone(), name });
                let Preamble { name, origin, .. } = preamble.clone();
                vec![Action::Connect(conversation, name, host.clone(), origin)]
            }
            Err(refusal) => vec![Action::Answer(conversation, Answer::Refused(refusal, String::new()))],
        }
    }

    fn admit(&mut self, host: &Host, preamble: &Preamble, now: Duration) -> Result<LinkId, Refusal> {
        let is_it = |importer: &Importer| importer.host == *host && importer.instance == Some(preamble.importer);
        let found = self.importers.iter_mut().find(|(_, importer)| is_it(importer));
        let Some((&link, importer)) = found.filter(|_| preamble.exporter == self.instance) else {
            return Err(Refusal::WrongInstance);
        };
        if !importer.opens.take(now) || self.quits {
            return Err(Refusal::Busy);
        }
        // A name that does not exist and one that is for others cannot be told apart.
        let exported = self.exports.get(&preamble.name).filter(|exported| exported.to.contains(host));
        let exported = exported.ok_or(Refusal::NotExported)?;
        if !exported.has_server {
            return Err(Refusal::NoServer);
        }
        let is_full = self.conversations.len() >= self.limits.conversations;
        let of_host = self.of_hosts.get(host).copied().unwrap_or_default();
        if is_full || of_host >= self.limits.conversations_per_host {
            return Err(Refusal::Busy);
        }
        importer.conversations += 1;
        Ok(link)
    }

    /// The server of this host has the client. Without an answer, the link was lost since then, and the driver aborts
    /// the connection to the server.
    pub fn connected(&mut self, id: ConversationId) -> Vec<Action> {
        if !self.has_link(id) {
            self.over(id);
            return Vec::new();
        }
        vec![Action::Answer(id, Answer::Accepted)]
    }

    /// The server of this host does not take the client. The reason is for people.
    pub fn not_connected(&mut self, id: ConversationId, refusal: Refusal, reason: String) -> Vec<Action> {
        let has_link = self.has_link(id);
        self.over(id);
        has_link.then_some(Action::Answer(id, Answer::Refused(refusal, reason))).into_iter().collect()
    }

    fn has_link(&self, id: ConversationId) -> bool {
        self.conversations.get(&id).is_some_and(|open| self.importers.contains_key(&open.link))
    }

    /// The conversation is over.
    pub fn over(&mut self, id: ConversationId) {
        let Some(Open { link, host, name }) = self.conversations.remove(&id) else { return };
        if let Some(importer) = self.importers.get_mut(&link) {
            importer.conversations = importer.conversations.saturating_sub(1);
        }
        if let Some(exported) = self.exports.get_mut(&name) {
            exported.conversations = exported.conversations.saturating_sub(1);
        }
        if let Some(count) = self.of_hosts.get_mut(&host) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_hosts.remove(&host);
            }
        }
    }

    /// This bridge ends in order: it lets nobody in. The driver calls [`Link::quit`] for each link.
    ///
    /// [`Link::quit`]: crate::link::Link::quit
    pub fn quit(&mut self) {
        self.quits = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::ZERO;
    const OWN: Instance = Instance([9; 16]);

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    fn preamble(text: &str, importer: u8) -> Preamble {
        let importer = Instance([importer; 16]);
        Preamble { name: name(text), importer, exporter: OWN, message_max: 1, origin: Origin::default() }
    }

    /// Exports `x` to `a` and `b`, and `y` to `b`. The server of `x` is there, and link 1 from `a` is up.
    fn exporter(limits: Limits) -> Exporter {
        let exports = [("x", vec!["a", "b"]), ("y", vec!["b"])];
        let exports = exports.into_iter().map(|(text, to)| (name(text), to.into_iter().map(host).collect())).collect();
        let mut exporter = Exporter::new(OWN, limits, exports);
        assert_eq!(exporter.server(&name("x"), true), []);
        assert_eq!(exporter.link_began(LinkId(1), host("a"), T0), BTreeSet::from([name("x")]));
        assert_eq!(exporter.link_up(LinkId(1), Instance([1; 16])), []);
        exporter
    }

    fn refusal(exporter: &mut Exporter, from: &str, preamble: &Preamble) -> Option<Refusal> {
        let id = ConversationId(exporter.conversations() as u64 + 100);
        match &exporter.preamble(id, &host(from), preamble, T0)[..] {
            [Action::Answer(answered, Answer::Refused(refusal, _))] if *answered == id => Some(*refusal),
            [Action::Connect(connecting, name, host, origin)] if *connecting == id => {
                assert_eq!((name, host.as_str(), origin), (&preamble.name, from, &preamble.origin));
                None
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_host_hears_of_the_names_that_are_for_it() {
        let mut exporter = exporter(Limits::default());
        assert!(exporter.link_began(LinkId(2), host("c"), T0).is_empty());
        exporter.link_began(LinkId(3), host("b"), T0);
        assert_eq!(exporter.server(&name("y"), true), [Action::Export(LinkId(3), name("y"))]);
        assert_eq!(exporter.server(&name("y"), true), []);
        let withdrawn = [1, 3].map(|link| Action::Withdraw(LinkId(link), name("x")));
        assert_eq!(exporter.server(&name("x"), false), withdrawn);
        assert_eq!(exporter.server(&name("z"), true), []);
    }

    #[test]
    fn a_client_is_let_in_when_its_name_is_exported_to_its_host_and_has_a_server() {
        let mut exporter = exporter(Limits::default());
        assert_eq!(refusal(&mut exporter, "a", &preamble("x", 1)), None);
        assert_eq!(refusal(&mut exporter, "a", &preamble("y", 1)), Some(Refusal::NotExported));
        assert_eq!(refusal(&mut exporter, "a", &preamble("z", 1)), Some(Refusal::NotExported));
        exporter.server(&name("x"), false);
        assert_eq!(refusal(&mut exporter, "a", &preamble("x", 1)), Some(Refusal::NoServer));
        exporter.server(&name("x"), true);
        exporter.quit();
        assert_eq!(refusal(&mut exporter, "a", &preamble("x", 1)), Some(Refusal::Busy));
    }

    #[test]
    fn another_configuration_acts_on_new_clients_and_open_conversations_go_on() {
        let mut exporter = exporter(Limits::default());
        assert_eq!(refusal(&mut exporter, "a", &preamble("x", 1)), None);
        exporter.link_began(LinkId(2), host("b"), T0);
        exporter.link_up(LinkId(2), Instance([2; 16]));
        let to = |list: &[(&str, &[&str])]| {
            list.iter().map(|(text, to)| (name(text), to.iter().copied().map(host).collect())).collect()
        };
        let limits = Limits { opens_per_second: 1, ..Limits::default() };
        let actions = exporter.configure(limits, to(&[("x", &["b", "c"]), ("z", &["a"])]), T0);
        assert_eq!(actions, [Action::Withdraw(LinkId(1), name("x"))]);
        assert_eq!(exporter.conversations(), 1);
        assert_eq!(refusal(&mut exporter, "a", &preamble("x", 1)), Some(Refusal::NotExported));
        assert_eq!(refusal(&mut exporter, "a", &preamble("x", 1)), Some(Refusal::Busy), "the rate is another one");
        assert_eq!(exporter.server(&name("z"), true), [Action::Export(LinkId(1), name("z"))]);
        let actions = exporter.configure(limits, to(&[("x", &["a"])]), T0);
        let withdrawn = [Action::Withdraw(LinkId(1), name("z")), Action::Withdraw(LinkId(2), name("x"))];
        assert_eq!(actions, [&[Action::Export(LinkId(1), name("x"))], &withdrawn[..]].concat());
    }

    #[test]
    fn a_conversation_needs_the_link_of_its_importer_and_both_instances() {
        let mut exporter = exporter(Limits::default());
        let wrong = Some(Refusal::WrongInstance);
        assert_eq!(refusal(&mut exporter, "a", &preamble("x", 2)), wrong);
        assert_eq!(refusal(&mut exporter, "b", &preamble("x", 1)), wrong);
        let former = Preamble { exporter: Instance([8; 16]), ..preamble("x", 1) };
        assert_eq!(refusal(&mut exporter, "a", &former), wrong);
        exporter.link_began(LinkId(2), host("b"), T0);
        assert_eq!(refusal(&mut exporter, "b", &preamble("x", 5)), wrong, "its hello has not arrived");
    }

    #[test]
    fn a_new_link_of_a_host_replaces_the_former_one() {
        let mut exporter = exporter(Limits::default());
        exporter.preamble(ConversationId(1), &host("a"), &preamble("x", 1), T0);
        exporter.link_began(LinkId(2), host("a"), T0);
        assert_eq!(refusal(&mut exporter, "a", &preamble("x", 2)), Some(Refusal::WrongInstance));
        let actions = exporter.link_up(LinkId(2), Instance([2; 16]));
        assert_eq!(actions, [Action::Close(LinkId(1)), Action::Lose(ConversationId(1))]);
        assert_eq!(refusal(&mut exporter, "a", &preamble("x", 1)), Some(Refusal::WrongInstance));
        assert_eq!(refusal(&mut exporter, "a", &preamble("x", 2)), None);
    }

    #[test]
    fn a_lost_link_loses_its_conversations_and_an_answer_that_is_late_goes_nowhere() {
        let mut exporter = exporter(Limits::default());
        for id in [1, 2] {
            exporter.preamble(ConversationId(id), &host("a"), &preamble("x", 1), T0);
        }
        assert_eq!(exporter.connected(ConversationId(1)), [Action::Answer(ConversationId(1), Answer::Accepted)]);
        assert_eq!(exporter.link_down(LinkId(1)), [1, 2].map(|id| Action::Lose(ConversationId(id))));
        assert_eq!((exporter.link_down(LinkId(1)), exporter.conversations()), (vec![], 2));
        assert_eq!(exporter.connected(ConversationId(2)), []);
        assert_eq!(exporter.not_connected(ConversationId(2), Refusal::NoServer, String::new()), []);
        assert_eq!(exporter.conversations(), 1, "its server may not have been told");
        exporter.over(ConversationId(1));
        assert_eq!((exporter.conversations(), exporter.of_hosts.len()), (0, 0));
    }

    #[test]
    fn a_host_that_dials_again_and_again_gets_no_more_conversations_than_its_limit() {
        let limits = Limits { conversations_per_host: 2, ..Limits::default() };
        let mut exporter = exporter(limits);
        for id in [1, 2] {
            exporter.preamble(ConversationId(id), &host("a"), &preamble("x", 1), T0);
            exporter.connected(ConversationId(id));
        }
        exporter.link_began(LinkId(2), host("a"), T0);
        exporter.link_up(LinkId(2), Instance([2; 16]));
        let busy = Some(Refusal::Busy);
        assert_eq!(refusal(&mut exporter, "a", &preamble("x", 2)), busy, "nobody has taken the lost ones");
        let names = exporter.names().map(|exported| exported.conversations).sum::<usize>();
        assert_eq!((names, exporter.conversations_of(LinkId(2))), (2, 0));
        exporter.over(ConversationId(1));
        assert_eq!(refusal(&mut exporter, "a", &preamble("x", 2)), None);
        assert_eq!(refusal(&mut exporter, "a", &preamble("x", 2)), busy);
    }

    #[test]
    fn the_limits_hold() {
        let limits = Limits { conversations: 3, conversations_per_host: 2, opens_per_second: 6 };
        let mut exporter = exporter(limits);
        exporter.link_began(LinkId(2), host("b"), T0);
        exporter.link_up(LinkId(2), Instance([2; 16]));
        let busy = Some(Refusal::Busy);
        assert_eq!([(); 3].map(|()| refusal(&mut exporter, "a", &preamble("x", 1))), [None, None, busy]);
        assert_eq!([(); 2].map(|()| refusal(&mut exporter, "b", &preamble("x", 2))), [None, busy]);
        exporter.over(ConversationId(100));
        assert_eq!(refusal(&mut exporter, "a", &preamble("x", 1)), None);
        exporter.over(ConversationId(101));
        assert_eq!([(); 3].map(|()| refusal(&mut exporter, "a", &preamble("z", 1)).unwrap()).last(), busy.as_ref());
    }
}
