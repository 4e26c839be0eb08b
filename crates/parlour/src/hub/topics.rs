//! The topics of a hub, without I/O: the subscriptions, and the last value of each topic.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::event::Client;
use super::parcel::Parcel;

/// The limits of what a [`Topics`] holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopicLimits {
    /// Subscriptions of one client.
    pub(super) subscriptions_max: usize,
    /// Topics whose last value is kept.
    pub(super) kept_values_max: usize,
    /// Bytes of the values that are kept, with their topics.
    pub(super) kept_bytes_max: usize,
}

/// The client has as many subscriptions as it may have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManySubscriptions;

#[derive(Debug, Default)]
pub(super) struct Topics {
    /// The clients of each prefix.
    subscribers: BTreeMap<String, BTreeSet<Client>>,
    /// The prefixes of each client.
    prefixes: HashMap<Client, BTreeSet<String>>,
    kept: Kept,
}

impl Topics {
    /// Adds a subscription. Returns the kept values that the client did not have before, the oldest first.
    pub(super) fn subscribe(
        &mut self,
        client: Client,
        prefix: &str,
        limits: TopicLimits,
    ) -> Result<Vec<Arc<Parcel>>, TooManySubscriptions> {
        let prefixes = self.prefixes.entry(client).or_default();
        if prefixes.contains(prefix) {
            return Ok(Vec::new());
        }
        if prefixes.len() >= limits.subscriptions_max {
            return Err(TooManySubscriptions);
        }
        let is_new =
            |topic: &str| topic.starts_with(prefix) && !prefixes.iter().any(|other| topic.starts_with(&**other));
        let values = self.kept.values(is_new);
        prefixes.insert(prefix.to_owned());
        self.subscribers.entry(prefix.to_owned()).or_default().insert(client);
        Ok(values)
    }

    /// Removes a subscription, if there is one of exactly this prefix.
    pub(super) fn unsubscribe(&mut self, client: Client, prefix: &str) {
        let Some(prefixes) = self.prefixes.get_mut(&client) else { return };
        if prefixes.remove(prefix) {
            if prefixes.is_empty() {
                self.prefixes.remove(&client);
            }
            self.remove_subscriber(client, prefix);
        }
    }

    /// Removes all subscriptions of a client.
    pub(super) fn remove(&mut self, client: Client) {
        for prefix in self.prefixes.remove(&client).unwrap_or_default() {
            self.remove_subscriber(client, &prefix);
        }
    }

    fn remove_subscriber(&mut self, client: Client, prefix: &str) {
        if let Some(clients) = self.subscribers.get_mut(prefix) {
            clients.remove(&client);
            if clients.is_empty() {
                self.subscribers.remove(prefix);
            }
        }
    }

    /// Returns the clients with a subscription to a prefix of this topic, each once, in the order in which they
    /// joined. Looks up each prefix of the topic.
    pub(super) fn subscribers(&self, topic: &str) -> Vec<Client> {
        let ends = topic.char_indices().map(|(at, _)| at).chain([topic.len()]);
        let found = ends.filter_map(|end| self.subscribers.get(&topic[..end]));
        let clients: BTreeSet<Client> = found.flatten().copied().collect();
        clients.into_iter().collect()
    }

    /// Keeps a value as the last one of its topic.
    pub(super) fn keep(&mut self, topic: &str, parcel: Parcel, limits: TopicLimits) {
        self.kept.set(topic, parcel, limits);
    }

    /// Forgets the last value of a topic. Returns true if there was one.
    pub(super) fn forget(&mut self, topic: &str) -> bool {
        self.kept.remove(topic)
    }
}

/// The last value of each topic, within limits.
#[derive(Debug, Default)]
struct Kept {
    /// The values, and their numbers in the order of publication.
    values: HashMap<Arc<str>, (u64, Arc<Parcel>)>,
    order: BTreeMap<u64, Arc<str>>,
    bytes: usize,
    last_number: u64,
}

impl Kept {
    /// Replaces the value of a topic. Drops the values that were published longest ago, so that the limits hold. A
    /// value that is longer than all values may be is not kept, and neither is the one before it.
    fn set(&mut self, topic: &str, parcel: Parcel, limits: TopicLimits) {
        self.remove(topic);
        let cost = cost(topic, &parcel);
        if limits.kept_values_max == 0 || cost > limits.kept_bytes_max {
            return;
        }
        self.last_number += 1;
        let topic: Arc<str> = topic.into();
        self.order.insert(self.last_number, Arc::clone(&topic));
        self.values.insert(topic, (self.last_number, Arc::new(parcel)));
        self.bytes += cost;
        while self.values.len() > limits.kept_values_max || self.bytes > limits.kept_bytes_max {
            let Some((_, oldest)) = self.order.first_key_value() else { return };
            let oldest = Arc::clone(oldest);
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, topic: &str) -> bool {
        let Some((number, parcel)) = self.values.remove(topic) else { return false };
        self.order.remove(&number);
        self.bytes -= cost(topic, &parcel);
        true
    }

    /// Returns the values of these topics, the oldest first.
    fn values(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<Arc<Parcel>> {
        let wanted = self.order.values().filter(|topic| is_wanted(topic));
        wanted.filter_map(|topic| self.values.get(topic)).map(|(_, parcel)| Arc::clone(parcel)).collect()
    }
}

/// Returns the number of bytes that a value counts.
fn cost(topic: &str, parcel: &Parcel) -> usize {
    topic.len() + parcel.bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TopicLimits = TopicLimits { subscriptions_max: 3, kept_values_max: 2, kept_bytes_max: 100 };

    fn client(number: u64) -> Client {
        Client { number, slot: 0 }
    }

    fn parcel(bytes: &str) -> Parcel {
        Parcel { bytes: bytes.as_bytes().to_vec(), ..Parcel::default() }
    }

    /// Subscribes, and returns the kept values.
    fn subscribe(topics: &mut Topics, number: u64, prefix: &str) -> Vec<String> {
        let values = topics.subscribe(client(number), prefix, LIMITS).unwrap();
        values.iter().map(|value| String::from_utf8(value.bytes.clone()).unwrap()).collect()
    }

    fn subscribers(topics: &Topics, topic: &str) -> Vec<u64> {
        topics.subscribers(topic).into_iter().map(Client::number).collect()
    }

    #[test]
    fn a_topic_reaches_the_subscribers_of_its_prefixes_once() {
        let mut topics = Topics::default();
        for (number, prefix) in [(3, "weather/"), (1, ""), (2, "weather/vienna"), (3, "weather/v"), (4, "traffic/")] {
            subscribe(&mut topics, number, prefix);
        }
        assert_eq!(subscribers(&topics, "weather/vienna"), [1, 2, 3]);
        assert_eq!(subscribers(&topics, "weather/vienna/airport"), [1, 2, 3]);
        assert_eq!(subscribers(&topics, "weather/graz"), [1, 3]);
        assert_eq!(subscribers(&topics, "weather"), [1]);
        assert_eq!(subscribers(&topics, ""), [1]);
        assert_eq!(subscribers(&topics, "größe"), [1], "prefixes are cut between characters");
    }

    #[test]
    fn unsubscribing_removes_exactly_one_prefix() {
        let mut topics = Topics::default();
        subscribe(&mut topics, 1, "a");
        subscribe(&mut topics, 1, "a/b");
        topics.unsubscribe(client(1), "a/b/c");
        topics.unsubscribe(client(2), "a");
        assert_eq!(subscribers(&topics, "a/b/c"), [1]);
        topics.unsubscribe(client(1), "a");
        assert_eq!(subscribers(&topics, "a/c"), [0; 0]);
        assert_eq!(subscribers(&topics, "a/b"), [1]);
        topics.unsubscribe(client(1), "a/b");
        assert!(topics.subscribers.is_empty() && topics.prefixes.is_empty(), "nothing is left of a subscription");
    }

    #[test]
    fn a_client_that_leaves_takes_its_subscriptions_with_it() {
        let mut topics = Topics::default();
        subscribe(&mut topics, 1, "a");
        subscribe(&mut topics, 2, "a");
        subscribe(&mut topics, 1, "b");
        topics.remove(client(1));
        topics.remove(client(7));
        assert_eq!(subscribers(&topics, "a"), [2]);
        assert_eq!(topics.subscribers.len(), 1);
    }

    #[test]
    fn the_number_of_subscriptions_of_a_client_is_limited() {
        let mut topics = Topics::default();
        for prefix in ["a", "b", "c", "b"] {
            subscribe(&mut topics, 1, prefix);
        }
        assert_eq!(topics.subscribe(client(1), "d", LIMITS).unwrap_err(), TooManySubscriptions);
        subscribe(&mut topics, 2, "d");
        topics.unsubscribe(client(1), "a");
        subscribe(&mut topics, 1, "d");
    }

    #[test]
    fn a_new_subscriber_gets_the_last_values_the_oldest_first() {
        let mut topics = Topics::default();
        for (topic, value) in [("a/1", "first"), ("a/2", "second"), ("a/1", "third")] {
            topics.keep(topic, parcel(value), LIMITS);
        }
        assert_eq!(subscribe(&mut topics, 1, "a/"), ["second", "third"]);
        assert_eq!(subscribe(&mut topics, 1, "a/"), [""; 0], "it is subscribed already");
        assert_eq!(subscribe(&mut topics, 1, "a/1"), [""; 0], "it has the value already");
        assert_eq!(subscribe(&mut topics, 2, "a/1"), ["third"]);
        assert_eq!(subscribe(&mut topics, 1, ""), [""; 0]);
    }

    #[test]
    fn the_values_that_are_kept_are_limited_in_number_and_bytes() {
        let mut topics = Topics::default();
        for (topic, value) in [("a", "1"), ("b", "2"), ("c", "3")] {
            topics.keep(topic, parcel(value), LIMITS);
        }
        assert_eq!(subscribe(&mut topics, 1, ""), ["2", "3"]);
        topics.keep("d", parcel(&"x".repeat(98)), LIMITS);
        assert_eq!(topics.kept.values.len(), 1, "the other values have no room beside it");
        assert_eq!(topics.kept.bytes, 99);
        topics.keep("d", parcel(&"x".repeat(100)), LIMITS);
        assert_eq!((topics.kept.values.len(), topics.kept.bytes), (0, 0), "an outdated value is not kept");
        topics.keep("e", parcel("5"), LIMITS);
        assert!(topics.forget("e") && !topics.forget("e"));
        assert_eq!((topics.kept.order.len(), topics.kept.bytes), (0, 0));
    }
}
