//! Both ends of a connection in one process, without a server.

use std::sync::Arc;

use crate::backend::pair::pair;
use crate::connection::Connection;
use crate::endpoint::OtherSide;
use crate::error::{Error, Operation, Result};
use crate::options::ConnectOptions;
use crate::shm::memfd;
use crate::transport::Transport;

impl Connection {
    /// Creates both ends of a connection, without a server and without a name, with the defaults of [`ConnectOptions`].
    ///
    /// It is to [`Connection`] what [`UnixStream::pair`](std::os::unix::net::UnixStream::pair) is to a socket: for
    /// tests of code that takes a connection, and for two threads. The ends behave as a client and an accepted
    /// connection over the same transport do. [`spawn`](Connection::spawn) gives one end to a child process.
    ///
    /// The peer of each end is this process. No file is created, on any transport: `unix` and `packet` are
    /// socketpair(2), `fifo` is two pipes, and `shm` has anonymous memory. What is sent to an end that was dropped or
    /// was not received is lost with the pair.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): `shm` where memfd_create(2) does not work.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed, for example because the descriptor table of
    ///   this process is full. Over `shm` the memory of both rings is allocated.
    ///
    /// # Examples
    ///
    /// ```
    /// use parlour::{Connection, Transport};
    ///
    /// /// The code to be tested.
    /// fn answer(mut client: Connection) -> parlour::Result<()> {
    ///     while let Some(question) = client.recv()? {
    ///         client.send(&question.to_ascii_uppercase())?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let (mut client, served) = Connection::pair(Transport::Unix)?;
    /// let answering = std::thread::spawn(move || answer(served));
    /// client.send("hello")?;
    /// assert_eq!(client.recv()?.unwrap(), b"HELLO");
    /// client.close()?;
    /// answering.join().unwrap()?;
    /// # Ok::<(), parlour::Error>(())
    /// ```
    pub fn pair(transport: Transport) -> Result<(Self, Self)> {
        ConnectOptions::default().pair(transport)
    }
}

impl ConnectOptions {
    /// Creates both ends of a connection, with these options for each. See [`Connection::pair`].
    ///
    /// The options about messages and memory apply: [`message_max`](Self::message_max), [`fds_max`](Self::fds_max),
    /// [`ring_size`](Self::ring_size) and [`spin_limit`](Self::spin_limit). Those about finding a server have no
    /// effect.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::pair`], and [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption): a value is
    /// outside the range that its setter states.
    pub fn pair(&self, transport: Transport) -> Result<(Connection, Connection)> {
        self.check()?;
        let failed = |error| Error::io(Operation::MakePair, transport.to_string(), error);
        if transport == Transport::Shm {
            memfd::check_supported()
                .map_err(|error| failed(error).next("use unix or packet, or allow the system call in the sandbox"))?;
        }
        let (one, other) = pair(transport, &self.config()).map_err(failed)?;
        let name: Arc<str> = "the other end of a pair".into();
        let end = |link| Connection::to(OtherSide::End, link, Arc::clone(&name), self.spin_limit);
        Ok((end(one), end(other)))
    }
}
