//! The hub's side of its handles: what other threads have sent is sent to the clients.

use std::os::fd::AsFd;

use super::event::{Client, Event};
use super::handle::{HubHandle, Mail};
use super::member::SendOutcome;
use super::options::SlowClientPolicy;
use super::queue::{QueueLimits, Recipients};
use super::{Hub, SEND};
use crate::error::{Error, Operation, Result};
use crate::payload::Payload;

/// The number of messages, counted once for each client, after which the hub serves its clients before it delivers
/// more: as many as clients can send between two polls. A broadcast is not divided.
const DELIVERIES_MAX: usize = 256;

impl Hub {
    /// Returns a handle with which other threads wake this hub and send through it. See [`HubHandle`].
    ///
    /// The first call creates an eventfd(2). A hub without a handle has none.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): no descriptor is available, or it cannot be watched.
    /// - [`ErrorKind::NameLost`](crate::ErrorKind::NameLost): this is a forked child.
    pub fn handle(&mut self) -> Result<HubHandle> {
        self.check_process(SEND)?;
        if let Some(mail) = &self.mail {
            return Ok(mail.handle());
        }
        let limits = QueueLimits { bytes_max: self.handle_queue_max, blocks_max: self.blocks_max };
        let mail = Mail::new(self.check.clone(), limits).and_then(|mail| {
            self.watch.add_handles(mail.as_fd())?;
            Ok(mail)
        });
        let object = || format!("a handle of {}", self.check.display_name);
        let mail = mail.map_err(|errno| Error::io(Operation::Create, object(), errno))?;
        let handle = mail.handle();
        self.mail = Some(Box::new(mail));
        Ok(handle)
    }

    /// Takes what the handles have left: wakes and messages. What is not delivered makes epoll report the handles
    /// again.
    pub(super) fn open_mail(&mut self) -> Result<()> {
        let Some(mut mail) = self.mail.take() else { return Ok(()) };
        mail.take_wakes();
        mail.take_messages();
        let delivered = self.deliver(&mut mail, DELIVERIES_MAX);
        if mail.pop_wake() {
            self.events.push_back(Event::Woken);
        }
        self.mail = Some(mail);
        delivered
    }

    /// Ends the handles, and delivers the messages that were queued before. Messages for a slow client are buffered
    /// beyond the limit, unless the policy disconnects it, because no event can report any more that it missed them.
    pub(super) fn end_mail(&mut self) {
        let Some(mut mail) = self.mail.take() else { return };
        mail.end();
        if self.slow_client_policy != SlowClientPolicy::Disconnect {
            (self.write_buffer_max, self.blocks_max) = (usize::MAX, usize::MAX);
        }
        loop {
            mail.take_messages();
            // Without a limit, no send waits or fails.
            if mail.batch.is_empty() || self.deliver(&mut mail, usize::MAX).is_err() {
                return;
            }
        }
    }

    /// Sends messages that were taken, until `deliveries_max` is reached. A message of which the sending failed stays
    /// first, for the clients that do not have it.
    fn deliver(&mut self, mail: &mut Mail, deliveries_max: usize) -> Result<()> {
        let (mut deliveries, mut count, mut cost, mut blocks) = (0, 0, 0, 0);
        let mut result = Ok(());
        while deliveries < deliveries_max {
            let Some(mut post) = mail.batch.pop_front() else { break };
            match post.parcel.with(|payload| self.send_to_each(&post.to, payload)) {
                Ok(recipients) => {
                    deliveries += recipients.max(1);
                    count += 1;
                    cost += post.cost();
                    blocks += post.parcel.blocks.len();
                }
                Err((left, error)) => {
                    post.to = Recipients::Some(left);
                    mail.batch.push_front(post);
                    result = Err(error);
                    break;
                }
            }
        }
        mail.delivered(count, cost, blocks);
        result
    }

    /// Sends one message to its recipients. Returns their number. If a send fails, returns those that are left.
    fn send_to_each(&mut self, to: &Recipients, payload: &Payload<'_>) -> Result<usize, (Vec<Client>, Error)> {
        let all: Vec<Client>;
        let clients = match to {
            Recipients::One(client) => std::slice::from_ref(client),
            Recipients::Some(clients) => clients,
            Recipients::All => {
                all = self.clients().collect();
                &all
            }
            Recipients::AllBut(one) => {
                all = self.clients().filter(|client| client != one).collect();
                &all
            }
            Recipients::Topic(topic) => {
                all = self.keep_and_match(topic, payload);
                &all
            }
        };
        for (index, &client) in clients.iter().enumerate() {
            match self.send_one(client, payload) {
                Ok(SendOutcome::Accepted | SendOutcome::Gone) => {}
                Ok(SendOutcome::Full | SendOutcome::NoBlocks(_)) => self.note_missed(client),
                Err(error) => return Err((clients[index..].to_vec(), error)),
            }
        }
        Ok(clients.len())
    }

    /// Queues the event `Missed`, unless it is queued already.
    #[cold]
    pub(super) fn note_missed(&mut self, client: Client) {
        let Some(member) = self.members.get_mut(client) else { return };
        if !std::mem::replace(&mut member.has_missed, true) {
            self.events.push_back(Event::Missed(client));
        }
    }
}
