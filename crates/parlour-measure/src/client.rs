//! The interface through which a measurement drives a client.

use anyhow::Result;

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
}
