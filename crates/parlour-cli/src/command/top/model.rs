//! The state of the view: the rows, their order, the filter, the selection, and the effects of keys. Without I/O.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

use super::keys::Key;
use super::process::Process;
use super::reading::{Client, Name};
use super::rows::{ClientRow, NameRow};
use crate::args::TopOrder;

/// The orders of names, and those of clients.
pub(super) const OF_NAMES: [TopOrder; 6] =
    [TopOrder::Stuck, TopOrder::Messages, TopOrder::Bytes, TopOrder::Held, TopOrder::Clients, TopOrder::Name];
pub(super) const OF_CLIENTS: [TopOrder; 6] =
    [TopOrder::Stuck, TopOrder::Messages, TopOrder::Bytes, TopOrder::Held, TopOrder::Age, TopOrder::Pid];

/// The number of processes that are looked at again with a reading, in turn.
const AGAIN: usize = 100;

/// The rows that are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum View {
    Names,
    /// The clients of the name at this place.
    Clients(String),
}

/// The effect of a key on the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    /// Other rows are shown, so that another reading is wanted.
    Read,
    Redraw,
    Suspend,
    Quit,
}

/// A row that is selected, so that it stays so when others come and go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Selected {
    Name(String),
    Client(u64),
}

/// The state of the view.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) view: View,
    pub(super) order: TopOrder,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    /// True while the filter is typed.
    pub(super) is_typing: bool,
    pub(super) only_stuck: bool,
    pub(super) is_paused: bool,
    /// The reason why there is no reading.
    pub(super) failure: Option<String>,
    /// The time of the last reading, in seconds.
    pub(super) now: f64,
    /// The number of rows that fit on the screen, and the index of the first of these.
    pub(super) page: usize,
    pub(super) top: usize,
    /// The index of the selected row when the rows were fitted to the screen.
    pub(super) at: usize,
    names: Vec<NameRow>,
    processes: HashMap<u64, Process>,
    /// The number of the last client whose process was looked at again.
    looked: u64,
    selected: Option<Selected>,
}

impl Model {
    pub(super) fn new(view: View, order: Option<TopOrder>, filter: String) -> Self {
        Self {
            view,
            order: order.unwrap_or(TopOrder::Stuck),
            is_reversed: false,
            filter,
            is_typing: false,
            only_stuck: false,
            is_paused: false,
            failure: None,
            now: 0.0,
            page: 1,
            top: 0,
            at: 0,
            names: Vec::new(),
            processes: HashMap::new(),
            looked: 0,
            selected: None,
        }
    }

    /// Takes up a reading of all names.
    pub(super) fn read_names(&mut self, names: Vec<Name>, now: f64) {
        let mut last: HashMap<String, NameRow> =
            std::mem::take(&mut self.names).into_iter().map(|row| (row.name.place.clone(), row)).collect();
        let row = |name: Name| {
            let last = last.remove(&name.place);
            NameRow::new(name, last, now)
        };
        self.names = names.into_iter().map(row).collect();
        (self.now, self.failure) = (now, None);
    }

    /// Takes up a reading of the name whose clients are shown.
    pub(super) fn read_name(&mut self, name: Name, now: f64) {
        let at = self.names.iter().position(|row| row.name.place == name.place);
        let last = at.map(|at| self.names.swap_remove(at));
        self.names.push(NameRow::new(name, last, now));
        (self.now, self.failure) = (now, None);
    }

    /// Takes up that there is no reading, for this reason. The rows that it would have had go.
    pub(super) fn fail(&mut self, why: String, now: f64) {
        match &self.view {
            View::Names => self.names.clear(),
            View::Clients(place) => self.names.retain(|row| row.name.place != *place),
        }
        (self.now, self.failure) = (now, Some(why));
    }

    /// Takes up that so many rows fit on the screen, and moves them so that the selected one is among them.
    pub(super) fn fit(&mut self, page: usize) {
        let (selected, count) = match self.view {
            View::Names => self.selected_of(&self.names(), &[]),
            View::Clients(_) => self.selected_of(&[], &self.clients()),
        };
        self.at = selected;
        self.page = page.max(1);
        self.top = self.top.clamp((selected + 1).saturating_sub(self.page), selected);
        // No part of the screen stays empty while there are more rows.
        self.top = self.top.min(count.saturating_sub(self.page));
    }

    /// Returns the clients whose processes are to be looked at: those on the screen, one that is stuck, up to `more` of
    /// those that are not known yet, and some of the others in turn, which may have been stopped meanwhile.
    pub(super) fn wanted(&mut self, more: usize) -> Vec<Client> {
        let Some(name) = self.opened() else { return Vec::new() };
        let on_screen = self.clients().into_iter().skip(self.top).take(self.page).map(|row| row.client);
        let is_known = |client: &&Client| self.processes.contains_key(&client.number);
        let unknown = name.clients().iter().filter(|client| !is_known(client));
        let known = name.clients().iter().filter(is_known);
        let again: Vec<_> = known.filter(|client| client.number > self.looked).take(AGAIN).collect();
        let looked = again.last().filter(|_| again.len() == AGAIN).map_or(0, |client| client.number);
        let rest = unknown.take(more).chain(again).cloned();
        let wanted = on_screen.chain(name.stuck().1.cloned()).chain(rest).collect();
        self.looked = looked;
        wanted
    }

    /// Takes up what is known of the processes of clients, by the numbers of these.
    pub(super) fn add_processes(&mut self, processes: HashMap<u64, Process>) {
        self.processes.extend(processes);
        if let View::Clients(place) = &self.view
            && let Some(name) = self.names.iter().find(|row| row.name.place == *place)
        {
            let is_there = |number: &u64| name.clients().binary_search_by_key(number, |client| client.number).is_ok();
            self.processes.retain(|number, _| is_there(number));
        }
    }

    /// Returns what is known of the process of a client.
    pub(super) fn process(&self, client: &Client) -> Option<&Process> {
        self.processes.get(&client.number)
    }

    /// Returns the name whose clients are shown.
    pub(super) fn opened(&self) -> Option<&NameRow> {
        let View::Clients(place) = &self.view else { return None };
        self.names.iter().find(|row| row.name.place == *place)
    }

    /// Returns all names.
    pub(super) fn all_names(&self) -> &[NameRow] {
        &self.names
    }

    /// Returns the names that are shown, in their order.
    pub(super) fn names(&self) -> Vec<&NameRow> {
        let is_shown = |row: &&NameRow| {
            (!self.only_stuck || row.stuck_for().is_some())
                && self.passes(&[&row.name.name, &row.name.server, &row.name.state])
        };
        let mut shown: Vec<_> = self.names.iter().filter(is_shown).collect();
        shown.sort_by(|a, b| {
            let order = compare_names(self.order, a, b);
            let order = if self.is_reversed { order.reverse() } else { order };
            order.then_with(|| a.name.name.cmp(&b.name.name)).then_with(|| a.name.place.cmp(&b.name.place))
        });
        shown
    }

    /// Returns the clients that are shown, in their order.
    pub(super) fn clients(&self) -> Vec<ClientRow> {
        let Some(name) = self.opened() else { return Vec::new() };
        let is_shown = |row: &ClientRow| {
            let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
            let program = row.process.as_ref().map_or("", |process| &process.program);
            (!self.only_stuck || row.client.wait.stuck().is_some())
                && self.passes(&[&number(row.client.pid), program, &row.client.transport])
        };
        let mut shown = name.client_rows(&self.processes);
        shown.retain(is_shown);
        shown.sort_by(|a, b| {
            let order = compare_clients(self.order, a, b);
            let order = if self.is_reversed { order.reverse() } else { order };
            order.then_with(|| a.client.number.cmp(&b.client.number))
        });
        shown
    }

    /// Returns true if one of these texts contains the filter, whatever the case of its letters.
    fn passes(&self, texts: &[&str]) -> bool {
        let filter = self.filter.to_lowercase();
        filter.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&filter))
    }

    /// Returns the index of the selected row among those that are shown.
    pub(super) fn selected(&self) -> usize {
        match self.view {
            View::Names => self.selected_of(&self.names(), &[]).0,
            View::Clients(_) => self.selected_of(&[], &self.clients()).0,
        }
    }

    /// Returns the index of the selected row among these, of which one list is empty, and the number of these.
    fn selected_of(&self, names: &[&NameRow], clients: &[ClientRow]) -> (usize, usize) {
        let at = match &self.selected {
            Some(Selected::Name(place)) => names.iter().position(|row| row.name.place == *place),
            Some(Selected::Client(number)) => clients.iter().position(|row| row.client.number == *number),
            None => None,
        };
        (at.unwrap_or(0), names.len() + clients.len())
    }

    fn select(&mut self, index: usize) {
        self.selected = match self.view {
            View::Names => {
                let names = self.names();
                let row = names.get(index).or(names.last());
                row.map(|row| Selected::Name(row.name.place.clone()))
            }
            View::Clients(_) => {
                let clients = self.clients();
                clients.get(index).or(clients.last()).map(|row| Selected::Client(row.client.number))
            }
        };
    }

    /// Returns the orders of the rows that are shown.
    pub(super) fn orders(&self) -> &'static [TopOrder] {
        if self.view == View::Names { &OF_NAMES } else { &OF_CLIENTS }
    }

    /// Takes up a key.
    pub(super) fn press(&mut self, key: Key) -> Effect {
        match key {
            Key::Interrupt => return Effect::Quit,
            Key::Suspend => return Effect::Suspend,
            Key::Redraw => return Effect::Redraw,
            key if self.is_typing => self.type_filter(key),
            Key::Character('q') => return Effect::Quit,
            Key::Character('/') => self.is_typing = true,
            Key::Character('t') => self.only_stuck = !self.only_stuck,
            Key::Character('r') => self.is_reversed = !self.is_reversed,
            Key::Character(' ') => self.is_paused = !self.is_paused,
            Key::Character('s') => {
                let orders = self.orders();
                let at = orders.iter().position(|order| *order == self.order).map_or(0, |at| at + 1);
                self.order = orders[at % orders.len()];
            }
            Key::Up | Key::Character('k') => self.select(self.selected().saturating_sub(1)),
            Key::Down | Key::Character('j') => self.select(self.selected() + 1),
            Key::PageUp => self.select(self.selected().saturating_sub(self.page)),
            Key::PageDown => self.select(self.selected() + self.page),
            Key::Home => self.select(0),
            Key::End => self.select(usize::MAX),
            Key::Enter | Key::Right if self.view == View::Names => return self.open(),
            Key::Escape if !self.filter.is_empty() => self.filter.clear(),
            Key::Escape | Key::Left | Key::Backspace if self.view != View::Names => return self.leave(),
            _ => {}
        }
        Effect::None
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Character(c) => self.filter.push(c),
            Key::Backspace => drop(self.filter.pop()),
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                self.is_typing = false;
                self.filter.clear();
            }
            _ => {}
        }
    }

    fn open(&mut self) -> Effect {
        let selected = self.selected();
        let Some(place) = self.names().get(selected).map(|row| row.name.place.clone()) else { return Effect::None };
        self.change_to(View::Clients(place))
    }

    fn leave(&mut self) -> Effect {
        let place = self.opened().map(|row| row.name.place.clone());
        let effect = self.change_to(View::Names);
        self.selected = place.map(Selected::Name);
        effect
    }

    fn change_to(&mut self, view: View) -> Effect {
        self.view = view;
        (self.selected, self.top, self.is_paused, self.only_stuck) = (None, 0, false, false);
        self.filter.clear();
        self.processes.clear();
        if !self.orders().contains(&self.order) {
            self.order = TopOrder::Stuck;
        }
        Effect::Read
    }
}

fn compare_names(order: TopOrder, a: &NameRow, b: &NameRow) -> Ordering {
    let rates = |row: &NameRow| row.rates.unwrap_or_default();
    match order {
        TopOrder::Stuck => (b.stuck_for(), b.stuck().0).cmp(&(a.stuck_for(), a.stuck().0)),
        TopOrder::Messages => rates(b).messages().total_cmp(&rates(a).messages()),
        TopOrder::Bytes => rates(b).bytes.total_cmp(&rates(a).bytes),
        TopOrder::Held => b.held().cmp(&a.held()),
        TopOrder::Clients => b.clients().len().cmp(&a.clients().len()),
        TopOrder::Name | TopOrder::Age | TopOrder::Pid => Ordering::Equal,
    }
}

fn compare_clients(order: TopOrder, a: &ClientRow, b: &ClientRow) -> Ordering {
    let rates = |row: &ClientRow| row.rates.unwrap_or_default();
    let key = |row: &ClientRow| Reverse((row.client.wait.stuck(), row.is_stopped()));
    match order {
        TopOrder::Stuck => key(a).cmp(&key(b)),
        TopOrder::Messages => rates(b).messages().total_cmp(&rates(a).messages()),
        TopOrder::Bytes => rates(b).bytes.total_cmp(&rates(a).bytes),
        TopOrder::Held => b.client.held.cmp(&a.client.held),
        TopOrder::Age => b.client.connected.cmp(&a.client.connected),
        TopOrder::Pid => a.client.pid.cmp(&b.client.pid),
        TopOrder::Clients | TopOrder::Name => Ordering::Equal,
    }
}
