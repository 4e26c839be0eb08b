//! Connecting to one name again and again.

use std::fmt;
use std::sync::Arc;

use super::pending::PendingConnection;
use super::{Connecting, finish};
use crate::address::Address;
use crate::connection::Connection;
use crate::error::Result;
use crate::name::keeper::Keeper;
use crate::options::ConnectOptions;
use crate::sys::fork_mutex::ForkMutex;

/// A client that connects to one name many times.
///
/// Before a client connects, it checks each directory on the path to the name: no other user could have replaced the
/// server. A connector keeps what these checks have found, and has the kernel report changes. While nothing on the path
/// changes, [`connect`](Connector::connect) needs about half of the system calls of [`Connection::connect`]. After a
/// change it checks everything anew: if a directory has another owner, mode or place, if the server is another one, or
/// if a base that is searched earlier has the name by now. So the connections and the errors are the same as those of
/// [`Connection::connect`] at that moment; only the environment variables that lead to the name are read less often, at
/// the first connection and after a change.
///
/// Threads may share a connector. A forked child may use it too, and keeps its own state from then on.
///
/// # Resources
///
/// From the first connection on, a connector has up to five descriptors: an instance of inotify(7), the directory of
/// the name, and entries of that directory. It keeps their file system from being unmounted. The number of instances is
/// limited for each user (`fs.inotify.max_user_instances`, 128 by default), so have one connector for each name, and
/// not one for each thread. Where none is available, or where this process may not list a directory on the path, each
/// connection is made as by [`Connection::connect`].
///
/// A connector that is used once costs more than [`Connection::connect`].
///
/// # Examples
///
/// ```
/// use parlour::{ConnectOptions, Server};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let base = tempfile::tempdir()?;
/// # let address = format!("unix:{}", base.path().join("jobs").display());
/// let server = Server::bind(&address)?;
/// let jobs = ConnectOptions::new().connector(&address)?;
/// for job in ["one", "two", "three"] {
///     let mut connection = jobs.connect()?;
///     connection.send(job)?;
/// #   assert_eq!(server.accept()?.recv()?.expect("a message"), job.as_bytes());
/// }
/// # Ok(())
/// # }
/// ```
pub struct Connector {
    address: Address,
    /// The name in quotes, for messages.
    display_name: Arc<str>,
    options: ConnectOptions,
    keeper: ForkMutex<Keeper>,
}

impl ConnectOptions {
    /// Creates a client that connects to the server of this name many times, with these options. Makes no connection
    /// yet.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName): the address is malformed.
    /// - [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption): a value is outside the range that its setter
    ///   states.
    pub fn connector(&self, address: impl AsRef<str>) -> Result<Connector> {
        self.check()?;
        let address = Address::parse(address.as_ref())?;
        Ok(Connector {
            display_name: format!("'{}'", address.name()).into(),
            address,
            options: self.clone(),
            keeper: ForkMutex::new(Keeper::new()),
        })
    }
}

impl Connector {
    /// Creates a client that connects to the server of this name many times, with the defaults of [`ConnectOptions`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName): the address is malformed.
    pub fn new(address: impl AsRef<str>) -> Result<Self> {
        ConnectOptions::default().connector(address)
    }

    /// Connects to the server. See [`Connection::connect`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::connect`].
    pub fn connect(&self) -> Result<Connection> {
        finish(self.connecting())
    }

    /// Begins to connect to the server, without blocking. See [`ConnectOptions::begin`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed.
    pub fn begin(&self) -> Result<PendingConnection> {
        PendingConnection::of(self.connecting())
    }

    /// Returns the address of the server.
    pub fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn connecting(&self) -> Connecting {
        let kept = match self.keeper.lock() {
            Some(mut keeper) => keeper.get(&self.address, self.options.server_uid),
            // A thread of the parent used it when this process was forked.
            None => None,
        };
        let connecting = Connecting::to(self.address.clone(), Arc::clone(&self.display_name), &self.options);
        Connecting { kept, ..connecting }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("address", &self.address).finish_non_exhaustive()
    }
}
