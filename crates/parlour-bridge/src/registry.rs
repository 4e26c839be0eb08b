//! The part of a bridge in a registry of names, without I/O: the entries that it puts, and the hosts that it finds.
//!
//! A bridge puts an entry for each name of its own that has a server, and puts it again before it expires. It watches
//! the names that it imports, and remembers the entries of the hosts that may have them. An entry expires by the clock
//! of this bridge, because a registry may not report it, and only after the registry has shown that it still answers:
//! a registry that is gone, or that has lost its contents, takes no host away.
//!
//! Nothing that a registry contains is believed. An entry says where a host can be dialled. The certificate of who
//! answers there decides which host it is, and its link which names it exports.
//!
//! Each method that reports an event returns the actions that follow from it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::identity::{Host, Instance, Name};
use crate::wire::control::Endpoint;
use crate::wire::registry::{Entry, Realm};

/// The maximum number of lines about refused entries in one run.
const REFUSALS_LOGGED_MAX: usize = 16;

/// The maximum length of a text of the registry in a line or in the status, in characters.
const SHOWN_LEN_MAX: usize = 200;

/// The bridge that takes part.
#[derive(Clone, Debug)]
pub struct Myself {
    /// The realm.
    pub realm: Realm,
    /// The host.
    pub host: Host,
    /// This run.
    pub instance: Instance,
    /// The address at which other hosts can dial this one, if there is one. Without it, nothing is put.
    pub endpoint: Option<Endpoint>,
    /// The time after which an entry expires that is not put again.
    pub ttl: Duration,
}

/// The driver's next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Puts the value of a key.
    Put(String, String),
    /// Deletes a key.
    Delete(String),
    /// Watches the keys with these patterns, and no others, and reports each change as [`Registry::entry`]. Then
    /// reports those of these keys that are stored.
    Watch {
        /// The patterns.
        patterns: Vec<String>,
        /// The keys whose values are needed now.
        keys: Vec<String>,
    },
    /// Asks the registry for anything, and reports the answer as [`Registry::answered`].
    Probe,
    /// This host can be dialled now.
    Found(Host),
    /// A line for the operator.
    Log(String),
}

/// The way in which an entry is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Somebody has put or deleted it now.
    Live,
    /// It was stored when the watch began. It may be older than what was heard live.
    Stored,
}

/// An entry of another host.
#[derive(Clone, Debug)]
struct Known {
    entry: Entry,
    /// The time at which it expires.
    due: Duration,
    /// Counts the entries in the order in which they were heard.
    order: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Up { refresh: Duration },
}

/// The part of a bridge in a registry.
#[derive(Debug)]
pub struct Registry {
    myself: Myself,
    state: State,
    /// The own names that have a server, with the time at which each is put again.
    offered: BTreeMap<Name, Duration>,
    /// The names to watch, and the hosts that may have them.
    wanted: BTreeMap<Name, BTreeSet<Host>>,
    known: BTreeMap<Host, BTreeMap<Name, Known>>,
    /// The entries that were heard live since the watch began.
    live: BTreeSet<(Name, Host)>,
    /// The time after which an entry of another host expires. Its bridge may put it as rarely as the registry allows.
    expiry: Duration,
    /// The time at which the registry was asked for a sign of life.
    probed: Option<Duration>,
    /// The keys of refused entries that were logged.
    logged: BTreeSet<String>,
    refused: u64,
    next: u64,
}

impl Registry {
    /// Begins without a registry. `wanted` has the names to watch, and the hosts that may have them.
    #[must_use]
    pub fn new(myself: Myself, wanted: BTreeMap<Name, BTreeSet<Host>>) -> Self {
        Self {
            expiry: myself.ttl,
            myself,
            state: State::Down,
            offered: BTreeMap::new(),
            wanted,
            known: BTreeMap::new(),
            live: BTreeSet::new(),
            probed: None,
            logged: BTreeSet::new(),
            refused: 0,
            next: 0,
        }
    }

    /// Takes over what a former state knows of the same realm, for another registry or other credentials.
    pub fn inherit(&mut self, former: Self) {
        self.known = former.known;
        (self.logged, self.refused, self.next) = (former.logged, former.refused, former.next);
        self.forget_unwanted();
    }

    /// The registry answers. `kept` is the time for which it keeps entries, if it has one.
    pub fn up(&mut self, kept: Option<Duration>, now: Duration) -> Vec<Action> {
        let ttl = self.myself.ttl;
        self.state = State::Up { refresh: kept.map_or(ttl, |kept| kept.min(ttl)) / 3 };
        self.expiry = kept.map_or(ttl, |kept| kept.max(ttl));
        self.probed = None;
        // The time without a registry does not count: nobody could put anything.
        for known in self.known.values_mut().flat_map(BTreeMap::values_mut) {
            known.due = known.due.max(now + self.expiry);
        }
        let mut actions = self.watch();
        actions.extend(self.put(true, |_, _| true, now));
        actions
    }

    /// The registry does not answer, or is not connected. Everything that is known stays known.
    pub fn down(&mut self) {
        self.state = State::Down;
        self.probed = None;
    }

    /// Returns true between [`up`](Self::up) and [`down`](Self::down).
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state != State::Down
    }

    /// These own names have a server now.
    pub fn offer(&mut self, names: &BTreeSet<Name>, now: Duration) -> Vec<Action> {
        let gone: Vec<Name> = self.offered.keys().filter(|name| !names.contains(*name)).cloned().collect();
        let mut actions = Vec::new();
        for name in gone {
            self.offered.remove(&name);
            if self.is_up() && self.myself.endpoint.is_some() {
                actions.push(Action::Delete(self.myself.realm.key(&name, &self.myself.host)));
            }
        }
        let added: BTreeSet<&Name> = names.iter().filter(|name| !self.offered.contains_key(*name)).collect();
        self.offered.extend(added.iter().map(|&name| (name.clone(), now)));
        actions.extend(self.put(true, |name, _| added.contains(name), now));
        actions
    }

    /// These names are watched from now on.
    pub fn want(&mut self, wanted: BTreeMap<Name, BTreeSet<Host>>) -> Vec<Action> {
        let is_same = self.wanted.keys().eq(wanted.keys());
        // The entries of a host that is allowed now have passed already.
        let is_wider =
            wanted.iter().any(|(name, hosts)| self.wanted.get(name).is_none_or(|former| !former.is_superset(hosts)));
        self.wanted = wanted;
        self.forget_unwanted();
        if self.is_up() && (!is_same || is_wider) { self.watch() } else { Vec::new() }
    }

    /// The registry has this entry, or none any more (`None`).
    pub fn entry(&mut self, key: &str, source: Source, value: Option<&[u8]>, now: Duration) -> Vec<Action> {
        let Some((name, host)) = self.myself.realm.parse_key(key) else {
            return self.refuse(key, &"the key is not one of a name and a host");
        };
        // Others may import more than this bridge does.
        if !self.wanted.get(&name).is_some_and(|hosts| hosts.contains(&host)) {
            return Vec::new();
        }
        let place = (name.clone(), host.clone());
        match source {
            Source::Live => drop(self.live.insert(place)),
            Source::Stored if self.live.contains(&place) => return Vec::new(),
            Source::Stored => {}
        }
        let Some(value) = value else {
            self.forget(&name, &host);
            return Vec::new();
        };
        let entry = match Entry::parse(value) {
            Ok(entry) => entry,
            Err(bad) => return self.refuse(key, &bad),
        };
        self.next += 1;
        let (due, order) = (now + self.expiry, self.next);
        let names = self.known.entry(host.clone()).or_default();
        let is_new = !names.values().any(|known| known.entry == entry);
        names.insert(name, Known { entry, due, order });
        if is_new { vec![Action::Found(host)] } else { Vec::new() }
    }

    /// The registry has answered a probe, so that an entry that is overdue was not put again.
    pub fn answered(&mut self) {
        let Some(probed) = self.probed.take() else { return };
        for names in self.known.values_mut() {
            names.retain(|_, known| known.due > probed);
        }
        self.known.retain(|_, names| !names.is_empty());
    }

    /// Returns the time at which [`tick`](Self::tick) is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        if !self.is_up() {
            return None;
        }
        let puts = self.offered.values().copied().filter(|_| self.myself.endpoint.is_some());
        let known = self.known.values().flat_map(BTreeMap::values).map(|known| known.due);
        puts.chain(known.filter(|_| self.probed.is_none())).min()
    }

    /// Looks at the clock.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = self.put(false, |_, due| due <= now, now);
        let is_overdue = self.known.values().flat_map(BTreeMap::values).any(|known| known.due <= now);
        if self.is_up() && self.probed.is_none() && is_overdue {
            self.probed = Some(now);
            actions.push(Action::Probe);
        }
        actions
    }

    /// This bridge ends in order: it takes its entries back.
    pub fn quit(&mut self, now: Duration) -> Vec<Action> {
        self.offer(&BTreeSet::new(), now)
    }

    /// Returns the endpoints of a host, those that were heard last first, without repetitions.
    #[must_use]
    pub fn endpoints(&self, host: &Host) -> Vec<Endpoint> {
        let mut known: Vec<&Known> = self.known.get(host).into_iter().flat_map(BTreeMap::values).collect();
        known.sort_by_key(|known| std::cmp::Reverse(known.order));
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for known in known {
            if !endpoints.contains(&known.entry.endpoint) {
                endpoints.push(known.entry.endpoint.clone());
            }
        }
        endpoints
    }

    /// Returns the number of entries that this bridge keeps in the registry.
    #[must_use]
    pub fn offered(&self) -> usize {
        if self.myself.endpoint.is_some() { self.offered.len() } else { 0 }
    }

    /// Returns the number of names that are watched.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.wanted.len()
    }

    /// Returns the number of hosts that are known.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.known.len()
    }

    /// Returns the number of entries that were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn watch(&mut self) -> Vec<Action> {
        self.live.clear();
        let realm = &self.myself.realm;
        let patterns = self.wanted.keys().map(|name| realm.pattern(name)).collect();
        let keys = self.wanted.iter().flat_map(|(name, hosts)| hosts.iter().map(|host| realm.key(name, host)));
        vec![Action::Watch { patterns, keys: keys.collect() }]
    }

    /// Puts those of the offered names that are chosen. After the first time, each is put again at a time of its own,
    /// so that a fleet that has begun at once does not go on at once.
    fn put(&mut self, is_first: bool, is_chosen: impl Fn(&Name, Duration) -> bool, now: Duration) -> Vec<Action> {
        let (State::Up { refresh }, Some(endpoint)) = (self.state, &self.myself.endpoint) else { return Vec::new() };
        let value = Entry { instance: self.myself.instance, endpoint: endpoint.clone() }.encode();
        let mut actions = Vec::new();
        for (name, due) in &mut self.offered {
            if is_chosen(name, *due) {
                let key = self.myself.realm.key(name, &self.myself.host);
                *due = now + if is_first { refresh * part(&key) / PARTS } else { refresh };
                actions.push(Action::Put(key, value.clone()));
            }
        }
        actions
    }

    fn forget_unwanted(&mut self) {
        let is_wanted = |name: &Name, host: &Host| self.wanted.get(name).is_some_and(|hosts| hosts.contains(host));
        for (host, names) in &mut self.known {
            names.retain(|name, _| is_wanted(name, host));
        }
        self.known.retain(|_, names| !names.is_empty());
    }

    fn forget(&mut self, name: &Name, host: &Host) {
        if let Some(names) = self.known.get_mut(host) {
            names.remove(name);
            if names.is_empty() {
                self.known.remove(host);
            }
        }
    }

    /// Counts an entry that is refused. Each key is logged once, up to a maximum.
    fn refuse(&mut self, key: &str, reason: &dyn std::fmt::Display) -> Vec<Action> {
        self.refused += 1;
        let key = shown(key);
        if self.logged.len() >= REFUSALS_LOGGED_MAX || !self.logged.insert(key.clone()) {
            return Vec::new();
        }
        let is_last = self.logged.len() == REFUSALS_LOGGED_MAX;
        let last = if is_last { "; further ones are counted in the status, and not logged" } else { "" };
        vec![Action::Log(format!("the entry {key} of the registry is refused: {reason}{last}"))]
    }
}

/// The time until the first refresh is a number of these parts of the usual one.
const PARTS: u32 = 256;

/// Returns a number from 1 to [`PARTS`] that depends on the key alone: its hash FNV-1a.
fn part(key: &str) -> u32 {
    let hash = key.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    1 + (hash >> 8) % PARTS
}

/// Returns a text of the registry as it may be printed: short, and of visible ASCII characters.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == SHOWN_LEN_MAX {
            return out + "...";
        }
        if c == ' ' || c.is_ascii_graphic() { out.push(c) } else { out.extend(c.escape_default()) }
    }
    out
}

#[cfg(test)]
mod tests;
