//! The account of a connection of a session that has ended.

use std::fmt;

/// The part of a session's traffic that may be lost, because the connection that carried it has ended.
///
/// [`Error::loss`](crate::Error::loss) returns it. All numbers are about the connection that has ended, from the end of
/// the [`on_connect`](crate::Session::on_connect) hook on. A message counts as sent when `send` or `feed` accepted it.
/// The message of the call that returns the error does not count: the server did not receive it.
///
/// The kernel does not tell which messages the server has read, so each number is an upper bound for a kind of
/// protocol:
///
/// - With one request at a time, at most [`sent_since_received`](Loss::sent_since_received) requests were not answered.
/// - With several requests on their way and one answer to each, [`sent`](Loss::sent) minus
///   [`received`](Loss::received) minus [`unreceived`](Loss::unreceived) requests were not answered.
/// - If the server does not answer, up to [`sent`](Loss::sent) messages may be lost. Put a number into each message,
///   and have the server say which one was the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) sent_since_received: u64,
    pub(crate) unread: bool,
    pub(crate) unwritten: bool,
    pub(crate) unreceived: usize,
}

impl Loss {
    /// Returns the number of messages that were sent over the connection.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Returns the number of messages that were received over the connection.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Returns the number of messages that were sent since the last one was received.
    #[must_use]
    pub fn sent_since_received(&self) -> u64 {
        self.sent_since_received
    }

    /// Returns true if messages were sent and the kernel reported that the server closed without reading all
    /// (`ECONNRESET`). False does not mean that it read all: a `fifo` does not report this, and a message that was read
    /// may not have been processed.
    #[must_use]
    pub fn unread(&self) -> bool {
        self.unread
    }

    /// Returns the number of messages of the server that had arrived and were not received when the connection ended.
    /// They do not count as received. [`Session::take_unreceived`](crate::Session::take_unreceived) returns them.
    ///
    /// It is 0 if the end was found by a receive, which returns all messages before.
    #[must_use]
    pub fn unreceived(&self) -> usize {
        self.unreceived
    }

    /// Returns true if bytes of accepted messages were still buffered in this process, because they were given to
    /// `feed`, or because the channel was full in the middle of a message. These messages count as sent, and the server
    /// did not receive them.
    #[must_use]
    pub fn unwritten(&self) -> bool {
        self.unwritten
    }
}

impl fmt::Display for Loss {
    /// Writes a clause for people: "5 messages were sent and 1 was received, before the last 2 were sent".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sent {
            0 => f.write_str("no message was sent")?,
            1 => f.write_str("1 message was sent")?,
            count => write!(f, "{count} messages were sent")?,
        }
        match self.received {
            0 => f.write_str(" and none was received")?,
            1 => f.write_str(" and 1 was received")?,
            count => write!(f, " and {count} were received")?,
        }
        match (self.sent_since_received, self.received) {
            (0, _) | (_, 0) => {}
            (1, _) => f.write_str(", before the last 1 was sent")?,
            (count, _) => write!(f, ", before the last {count} were sent")?,
        }
        if self.unread {
            f.write_str(", and the server closed without reading all")?;
        }
        if self.unwritten {
            f.write_str(", and some were still buffered")?;
        }
        match self.unreceived {
            0 => Ok(()),
            1 => f.write_str("; 1 message that had arrived was not received"),
            count => write!(f, "; {count} messages that had arrived were not received"),
        }
    }
}
