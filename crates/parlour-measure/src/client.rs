//! The interface through which a measurement drives a client.

use anyhow::{Result, bail};

/// The client's end of one connection. Dropping it closes the connection.
pub trait Client {
    /// Sends one message.
    ///
    /// # Errors
    ///
    /// Returns an error if the message could not be sent.
    fn send(&mut self, message: &[u8]) -> Result<()>;

    /// Receives one message into `reply`, replacing its contents.
    ///
    /// # Errors
    ///
    /// Returns an error if no message could be received, or if the server disconnected.
    fn receive(&mut self, reply: &mut Vec<u8>) -> Result<()>;

    /// Sends a message and receives the answer.
    ///
    /// # Errors
    ///
    /// Returns an error if a message could not be sent, or if the answer could not be received.
    fn round_trip(&mut self, message: &[u8], reply: &mut Vec<u8>) -> Result<()> {
        self.send(message)?;
        self.receive(reply)
    }

    /// Sends a message `count` times, one way, as fast as possible. Then receives the one message that the server sends
    /// when it has received all of them.
    ///
    /// # Errors
    ///
    /// Returns an error if a message could not be sent, or if the answer could not be received.
    fn stream(&mut self, message: &[u8], count: u64) -> Result<()> {
        for _ in 0..count {
            self.send(message)?;
        }
        self.receive(&mut Vec::new())
    }

    /// Makes `each` round trips in each of `threads` threads over this one connection.
    ///
    /// # Errors
    ///
    /// Returns an error if a round trip failed, or if the client belongs to one thread, as is the default.
    fn calls(&mut self, _message: &[u8], _threads: usize, _each: u64) -> Result<()> {
        bail!("this client belongs to one thread")
    }
}
