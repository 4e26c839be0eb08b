//! The refusals that were logged, so that each is logged once.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use parlour::inspect::escaped;

use crate::identity::{Host, Name};
use crate::wire::conversation::{Answer, Refusal};

/// The maximum number of lines about one host in [`PERIOD`]. Another host can ask for any name, and be refused in turn
/// with being served.
const LINES_MAX: usize = 64;

const PERIOD: Duration = Duration::from_secs(3600);

/// The refusals of one role. A refusal is logged again after the next client of that host and name was served.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<Host, Logged>);

/// The refusals of one host since the beginning of its period.
#[derive(Debug)]
struct Logged {
    begin: Duration,
    lines: usize,
    refused: HashSet<(Name, Refusal)>,
}

impl Refusals {
    /// Takes an answer. Returns the reason of a refusal that is to be logged, in these words for its kind.
    pub(super) fn hear(
        &mut self,
        host: &Host,
        name: &Name,
        answer: &Answer,
        words: fn(Refusal) -> String,
        now: Duration,
    ) -> Option<String> {
        let Answer::Refused(refusal, reason) = answer else {
            if let Some(logged) = self.0.get_mut(host) {
                logged.refused.retain(|(other, _)| other != name);
            }
            return None;
        };
        let new = || Logged { begin: now, lines: 0, refused: HashSet::new() };
        let logged = self.0.entry(host.clone()).or_insert_with(new);
        if logged.lines >= LINES_MAX && now >= logged.begin + PERIOD {
            *logged = new();
        }
        if logged.lines >= LINES_MAX || !logged.refused.insert((name.clone(), *refusal)) {
            return None;
        }
        logged.lines += 1;
        let more = if reason.is_empty() { String::new() } else { format!(" ({})", escaped(reason)) };
        let is_last = logged.lines == LINES_MAX;
        let last =
            if is_last { "; further refusals of clients between both hosts are not logged for a while" } else { "" };
        Some(words(*refusal) + &more + last)
    }
}

/// Returns the words for a refusal by this host.
pub(super) fn here(refusal: Refusal) -> String {
    match refusal {
        Refusal::NoServer => "the name has no server",
        Refusal::NotExported => "the name is not exported to it",
        Refusal::Refused => "the server refused the client",
        Refusal::Busy => "a limit is reached",
        Refusal::WrongInstance => "it has asked for another run of this bridge, or has no link",
        Refusal::Version => "it speaks another version",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(refusal: Refusal) -> String {
        refusal.to_string()
    }

    const T0: Duration = Duration::ZERO;

    #[test]
    fn a_refusal_is_due_once_until_a_client_is_served_and_its_text_is_escaped() {
        let (host, name) = (Host::parse("a.example").unwrap(), Name::parse("wc").unwrap());
        let other = Name::parse("wd").unwrap();
        let mut refusals = Refusals::default();
        let refused = |refusal| Answer::Refused(refusal, "full\x1b[2J".to_owned());
        let mut hear = |name: &Name, answer: &Answer| refusals.hear(&host, name, answer, there, T0);
        let due = hear(&name, &refused(Refusal::Busy));
        assert_eq!(due.as_deref(), Some(r"a limit of the other bridge is reached (full\x1b[2J)"));
        assert_eq!(hear(&name, &refused(Refusal::Busy)), None);
        assert!(hear(&name, &refused(Refusal::NoServer)).is_some());
        assert!(hear(&other, &refused(Refusal::Busy)).is_some());
        assert_eq!(hear(&name, &Answer::Accepted), None);
        assert!(hear(&name, &refused(Refusal::Busy)).is_some());
        assert_eq!(hear(&other, &refused(Refusal::Busy)), None);
    }

    #[test]
    fn a_host_that_asks_for_any_name_fills_neither_memory_nor_log_and_takes_no_lines_from_others() {
        let [host, other] = ["a.example", "b.example"].map(|text| Host::parse(text).unwrap());
        let mut refusals = Refusals::default();
        let answer = Answer::Refused(Refusal::NotExported, String::new());
        let mut hear = |host: &Host, number: usize, now| {
            refusals.hear(host, &Name::parse(&format!("name{number}")).unwrap(), &answer, here, now)
        };
        for number in 0..2 * LINES_MAX {
            let due = hear(&host, number, T0);
            assert_eq!(due.is_some(), number < LINES_MAX);
            let is_last = due.is_some_and(|line| line.ends_with("are not logged for a while"));
            assert_eq!(is_last, number + 1 == LINES_MAX);
        }
        assert!(hear(&other, 0, T0).is_some());
        assert_eq!(hear(&host, 999, PERIOD - Duration::from_nanos(1)), None);
        assert!(hear(&host, 0, PERIOD).is_some());
        assert_eq!(refusals.0[&host].refused.len(), 1);
    }

    #[test]
    fn a_host_that_is_served_and_refused_in_turn_does_not_fill_the_log() {
        let (host, name) = (Host::parse("a.example").unwrap(), Name::parse("wc").unwrap());
        let (mut refusals, busy) = (Refusals::default(), Answer::Refused(Refusal::Busy, String::new()));
        let mut hear = |answer| refusals.hear(&host, &name, answer, here, T0);
        let lines = (0..1000).filter(|_| hear(&Answer::Accepted).or(hear(&busy)).is_some()).count();
        assert_eq!(lines, LINES_MAX);
    }
}
