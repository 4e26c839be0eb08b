//! Readings become rows: each counter is compared with that of the reading before.

use std::collections::HashMap;
use std::time::Duration;

use super::history::History;
use super::process::Process;
use super::reading::{Client, Counters, Name, Traffic};

/// Messages and bytes in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) received: f64,
    pub(super) sent: f64,
    /// Of both directions.
    pub(super) bytes: f64,
}

impl Rates {
    /// Returns the messages of both directions.
    pub(super) fn messages(&self) -> f64 {
        self.received + self.sent
    }

    fn between(before: [Traffic; 2], after: [Traffic; 2], seconds: f64) -> Self {
        let per_second = |of: fn(&Traffic) -> u64, direction: usize| {
            of(&after[direction]).saturating_sub(of(&before[direction])) as f64 / seconds
        };
        let bytes = |direction| per_second(|traffic| traffic.bytes, direction);
        Self {
            received: per_second(|traffic| traffic.messages, 0),
            sent: per_second(|traffic| traffic.messages, 1),
            bytes: bytes(0) + bytes(1),
        }
    }
}

/// A name with its rates.
#[derive(Clone, Debug, Default)]
pub(super) struct NameRow {
    pub(super) name: Name,
    /// `None` before the second reading of a server.
    pub(super) rates: Option<Rates>,
    pub(super) history: History,
    before: Option<Before>,
    /// The time of the last reading.
    at: f64,
}

/// The clients of the reading before, and the seconds since then.
#[derive(Clone, Debug)]
struct Before {
    clients: Vec<Client>,
    seconds: f64,
}

/// A client with its rates.
#[derive(Clone, Debug)]
pub(super) struct ClientRow {
    pub(super) client: Client,
    pub(super) rates: Option<Rates>,
    pub(super) process: Option<Process>,
}

impl ClientRow {
    /// Returns true if a signal has stopped the process of the client.
    pub(super) fn is_stopped(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.is_stopped)
    }
}

impl NameRow {
    /// Makes the row of a reading at the time `now`, in seconds. `last` is the row of the reading before.
    pub(super) fn new(name: Name, last: Option<NameRow>, now: f64) -> Self {
        let mut row = Self { name, rates: None, history: History::default(), before: None, at: now };
        let Some(last) = last else { return row };
        row.history = last.history;
        let is_same_server = last.name.pid == row.name.pid;
        if let (true, Some(before), Some(after)) = (is_same_server, last.name.counters, &row.name.counters)
            && let Some(seconds) = after.uptime.checked_sub(before.uptime).filter(|time| !time.is_zero())
        {
            let seconds = seconds.as_secs_f64();
            let rates = Rates::between([before.received, before.sent], [after.received, after.sent], seconds);
            row.history.add(last.at, now, rates.messages());
            row.rates = Some(rates);
            row.before = Some(Before { clients: before.clients, seconds });
        }
        row
    }

    /// Returns the counters, which are all zero if they are not known.
    pub(super) fn counters(&self) -> Counters {
        Counters { clients: Vec::new(), ..self.name.counters.clone().unwrap_or_default() }
    }

    /// Returns the clients.
    pub(super) fn clients(&self) -> &[Client] {
        self.name.counters.as_ref().map_or(&[], |counters| &counters.clients)
    }

    /// Returns the clients with their rates. `processes` has what is known of theirs, by the number of the client.
    pub(super) fn client_rows(&self, processes: &HashMap<u64, Process>) -> Vec<ClientRow> {
        let rates = |client: &Client| {
            let before = self.before.as_ref()?;
            // The clients of a reading are in the order of their numbers. One that is new began with zeros.
            let at = before.clients.binary_search_by_key(&client.number, |client| client.number);
            let was = at.ok().and_then(|at| before.clients.get(at)).map(|was| [was.received, was.sent]);
            Some(Rates::between(was.unwrap_or_default(), [client.received, client.sent], before.seconds))
        };
        let row = |client: &Client| ClientRow {
            client: client.clone(),
            rates: rates(client),
            process: processes.get(&client.number).cloned(),
        };
        self.clients().iter().map(row).collect()
    }

    /// Returns the number of clients that are stuck, and the one that has been so for the longest time.
    pub(super) fn stuck(&self) -> (usize, Option<&Client>) {
        let stuck = || self.clients().iter().filter(|client| client.wait.stuck().is_some());
        (stuck().count(), stuck().max_by_key(|client| client.wait.stuck()))
    }

    /// Returns the time for which a client has been stuck.
    pub(super) fn stuck_for(&self) -> Option<Duration> {
        self.stuck().1.and_then(|client| client.wait.stuck())
    }

    /// Returns the bytes that the server holds for its clients.
    pub(super) fn held(&self) -> u64 {
        self.clients().iter().fold(0, |sum, client| sum.saturating_add(client.held))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::samples::{client, name, traffic};
    use super::*;

    #[test]
    fn rates_are_those_of_the_time_between_two_readings_of_the_server() {
        let first = NameRow::new(name("a", 10, vec![client(1, traffic(4, 40), traffic(0, 0))]), None, 0.0);
        assert_eq!((first.rates, first.client_rows(&HashMap::new())[0].rates), (None, None));
        let clients = vec![client(1, traffic(8, 80), traffic(2, 20)), client(2, traffic(6, 6), traffic(0, 0))];
        let second = NameRow::new(name("a", 12, clients), Some(first), 2.0);
        assert_eq!(second.rates, Some(Rates { received: 5.0, sent: 1.0, bytes: 33.0 }));
        let rows = second.client_rows(&HashMap::new());
        assert_eq!(rows[0].rates, Some(Rates { received: 2.0, sent: 1.0, bytes: 30.0 }));
        assert_eq!(rows[1].rates, Some(Rates { received: 3.0, sent: 0.0, bytes: 3.0 }), "it is new");
        assert_eq!(second.history.max(), 6.0);
    }

    #[test]
    fn another_server_of_the_name_begins_without_rates() {
        let first = NameRow::new(name("a", 10, vec![client(1, traffic(4, 40), traffic(0, 0))]), None, 0.0);
        let mut other = name("a", 11, Vec::new());
        other.pid += 1;
        assert_eq!(NameRow::new(other, Some(first.clone()), 1.0).rates, None);
        assert_eq!(NameRow::new(name("a", 3, Vec::new()), Some(first.clone()), 1.0).rates, None, "it is younger");
        let fewer = NameRow::new(name("a", 11, Vec::new()), Some(first), 1.0);
        assert_eq!(fewer.rates, Some(Rates::default()), "no counter is below zero");
    }
}
