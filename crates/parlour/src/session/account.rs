//! The messages of one connection of a session, counted for the report of its end.

use crate::loss::Loss;

/// Counts of one connection.
#[derive(Debug, Default)]
pub(crate) struct Account {
    sent: u64,
    received: u64,
    sent_at_last_received: u64,
}

impl Account {
    /// Notes that a message was sent or buffered.
    pub(crate) fn sent(&mut self) {
        self.sent = self.sent.saturating_add(1);
    }

    /// Sets the number of messages that were sent or buffered, where another place counts them.
    #[allow(dead_code, reason = "used by the API for tokio")]
    pub(crate) fn set_sent(&mut self, sent: u64) {
        self.sent = sent;
    }

    /// Notes that a message was received.
    pub(crate) fn received(&mut self) {
        self.received = self.received.saturating_add(1);
        self.sent_at_last_received = self.sent;
    }

    /// Returns true if a message was received.
    pub(crate) fn has_received(&self) -> bool {
        self.received > 0
    }

    /// Ends the account and begins that of the next connection. `unread`: the peer closed without reading all, which
    /// may be the handshake or the messages of the hook. `unwritten`: bytes were still buffered in this process.
    /// `unreceived`: the number of messages that had arrived.
    pub(crate) fn end(&mut self, unread: bool, unwritten: bool, unreceived: usize) -> Loss {
        let Self { sent, received, sent_at_last_received } = std::mem::take(self);
        let sent_since_received = sent.saturating_sub(sent_at_last_received);
        let unread = unread && sent > 0;
        Loss { sent, received, sent_since_received, unread, unwritten, unreceived }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_counts_from_the_last_message_that_was_received() {
        let mut account = Account::default();
        (0..3).for_each(|_| account.sent());
        account.received();
        (0..2).for_each(|_| account.sent());
        let loss = account.end(true, false, 0);
        assert_eq!((loss.sent(), loss.received(), loss.sent_since_received()), (5, 1, 2));
        assert!(loss.unread() && !loss.unwritten());
        let text = "5 messages were sent and 1 was received, before the last 2 were sent, and the server closed without \
                    reading all";
        assert_eq!(loss.to_string(), text);
    }

    #[test]
    fn requests_that_were_sent_before_their_answers_count_as_sent() {
        let mut account = Account::default();
        (0..5).for_each(|_| account.sent());
        (0..3).for_each(|_| account.received());
        let loss = account.end(false, false, 0);
        assert_eq!(loss.to_string(), "5 messages were sent and 3 were received");
    }

    #[test]
    fn a_handshake_that_was_not_read_is_no_loss() {
        let loss = Account::default().end(true, false, 0);
        assert!(!loss.unread());
        assert_eq!(loss.to_string(), "no message was sent and none was received");
    }

    #[test]
    fn each_connection_has_an_account_of_its_own() {
        let mut account = Account::default();
        account.sent();
        account.received();
        account.end(false, false, 0);
        assert!(!account.has_received());
        let loss = account.end(false, false, 0);
        assert_eq!((loss.sent(), loss.received(), loss.sent_since_received()), (0, 0, 0));
        assert_eq!(loss.to_string(), "no message was sent and none was received");
        account.sent();
        let loss = account.end(false, true, 2);
        let text = "1 message was sent and none was received, and some were still buffered; 2 messages that had arrived were \
                    not received";
        assert_eq!(loss.to_string(), text);
    }
}
