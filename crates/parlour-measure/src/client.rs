//! The client's end of a connection, as the measurement drives it.

use anyhow::Result;

/// The client's end of one connection. It ends when it is dropped.
pub trait Client {
    /// Sends one message.
    ///
    /// # Errors
    ///
    /// The message could not be sent.
    fn send(&mut self, message: &[u8]) -> Result<()>;

    /// Receives one message, which replaces what is in `reply`.
    ///
    /// # Errors
    ///
    /// The message could not be received, or the server has gone.
    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()>;

    /// Sends a message and receives the answer.
    ///
    /// # Errors
    ///
    /// The message could not be sent, or the answer could not be received.
    fn round_trip(&mut self, message: &[u8], reply: &mut Vec<u8>) -> Result<()> {
        self.send(message)?;
        self.receive(reply)
    }

    /// Sends a message `count` times, one way, as fast as it can. Then receives the one that the server sends when it
    /// has them all.
    ///
    /// # Errors
    ///
    /// The message could not be sent, or the answer could not be received.
    fn stream(&mut self, message: &[u8], count: u64) -> Result<()> {
        for _ in 0..count {
            self.send(message)?;
        }
        self.receive(&mut Vec::new())
    }
}
