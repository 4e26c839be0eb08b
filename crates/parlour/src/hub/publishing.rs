//! Publishing on topics, to the clients that have subscribed.

use super::event::Client;
use super::member::SendOutcome;
use super::parcel::Parcel;
use super::topics::TooManySubscriptions;
use super::{Hub, SEND};
use crate::error::{Error, ErrorKind, Result};
use crate::payload::Payload;

/// Topics.
///
/// A topic is a text that the server program chooses, such as `weather/vienna`. A client that is subscribed to a prefix
/// gets every message that is published on a topic that begins with it. The topic is not part of the message, and the
/// hub reads no topic from a client: a server that lets clients choose receives a message that says so, and calls
/// [`subscribe`](Hub::subscribe).
///
/// ```
/// use parlour::Connection;
/// use parlour::hub::{Event, HubOptions};
///
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/weather", base.path().display());
/// let mut hub = HubOptions::new().kept_values_max(100).bind(&name)?;
/// hub.publish("weather/vienna", "18 degrees")?;
/// hub.publish("weather/vienna", "19 degrees")?;
///
/// let mut client = Connection::connect(&name)?;
/// client.send("weather/")?;
/// loop {
///     if let Event::Message(client, prefix) = hub.next_event()? {
///         hub.subscribe(client, std::str::from_utf8(&prefix)?)?;
///         break;
///     }
/// }
/// hub.publish("weather/graz", "17 degrees")?;
/// hub.publish("traffic/vienna", "a jam")?;
/// hub.flush()?;
/// assert_eq!(client.recv()?.unwrap(), b"19 degrees"); // the last value
/// assert_eq!(client.recv()?.unwrap(), b"17 degrees");
/// assert!(!client.has_message());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl Hub {
    /// Subscribes a client to all topics that begin with `prefix`: an empty prefix means all topics. The client gets
    /// each message once, whatever number of its prefixes match.
    ///
    /// The client is sent the last value of each of these topics, if the hub keeps values
    /// ([`kept_values_max`](super::HubOptions::kept_values_max)), in the order in which they were published, and except
    /// those to which it was subscribed before. [`Event::Missed`](super::Event::Missed) reports that it missed one of
    /// them, for the reasons for which [`publish`](Hub::publish) returns a client.
    ///
    /// Subscriptions end with the client. The call does nothing if the client has left, or has this subscription.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Busy`]: the client has as many subscriptions as it may have
    ///   ([`subscriptions_max`](super::HubOptions::subscriptions_max)). It was not subscribed.
    /// - [`ErrorKind::Shutdown`]: the shutdown handle was used while the call waited for a slow client.
    /// - [`ErrorKind::NameLost`]: this is a forked child.
    pub fn subscribe(&mut self, client: Client, prefix: impl AsRef<str>) -> Result<()> {
        self.check_process(SEND)?;
        if self.members.get(client).is_none() {
            return Ok(());
        }
        let topics = self.topics.get_or_insert_default();
        let values = topics.subscribe(client, prefix.as_ref(), self.topic_limits).map_err(|TooManySubscriptions| {
            let object = format!("client {client} of {}", self.check.display_name);
            let detail = format!("it has {} subscriptions already", self.topic_limits.subscriptions_max);
            Error::new(ErrorKind::Busy, SEND, object, detail).next("unsubscribe it, or raise subscriptions_max")
        })?;
        for value in values {
            match value.with(|payload| self.send_one(client, payload))? {
                SendOutcome::Accepted | SendOutcome::Gone => {}
                SendOutcome::Full | SendOutcome::NoBlocks(_) => self.note_missed(client),
            }
        }
        Ok(())
    }

    /// Ends the subscription of a client to exactly this prefix. Does nothing if it has none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameLost`]: this is a forked child.
    pub fn unsubscribe(&mut self, client: Client, prefix: impl AsRef<str>) -> Result<()> {
        self.check_process(SEND)?;
        if let Some(topics) = &mut self.topics {
            topics.unsubscribe(client, prefix.as_ref());
        }
        Ok(())
    }

    /// Sends one message to every client that is subscribed to a prefix of `topic`. Returns the clients that did not
    /// get it, as [`broadcast`](Hub::broadcast) does.
    ///
    /// The message becomes the last value of the topic, if the hub keeps values
    /// ([`kept_values_max`](super::HubOptions::kept_values_max)).
    ///
    /// # Errors
    ///
    /// Those of [`broadcast`](Hub::broadcast).
    pub fn publish<'a>(&mut self, topic: impl AsRef<str>, payload: impl Into<Payload<'a>>) -> Result<Vec<Client>> {
        let payload = payload.into();
        self.check_process(SEND)?;
        self.check.message(&payload)?;
        let clients = self.keep_and_match(topic.as_ref(), &payload);
        self.send_to(clients, payload)
    }

    /// Forgets the last value of a topic, so that no new subscriber gets it. Returns true if there was one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameLost`]: this is a forked child.
    pub fn forget(&mut self, topic: impl AsRef<str>) -> Result<bool> {
        self.check_process(SEND)?;
        Ok(self.topics.as_mut().is_some_and(|topics| topics.forget(topic.as_ref())))
    }

    /// Keeps a message as the last value of its topic. Returns the subscribers of the topic.
    pub(super) fn keep_and_match(&mut self, topic: &str, payload: &Payload<'_>) -> Vec<Client> {
        if self.topic_limits.kept_values_max > 0 {
            let topics = self.topics.get_or_insert_default();
            topics.keep(topic, Parcel::new(payload), self.topic_limits);
        }
        self.topics.as_ref().map_or_else(Vec::new, |topics| topics.subscribers(topic))
    }
}
