//! What can be set, with defaults and units.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::admission::{Admission, Policy};
use crate::backend::config::{ClientFilePolicy, ConnectConfig, ListenConfig, MessageMax};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::limits;
use crate::peer::Peer;
use crate::transport::Transport;
use crate::wire::{frame, shm_hello};

/// How a server is to be. Every setter says its default and its unit.
///
/// ```no_run
/// use parlour::{ServerOptions, Transport};
///
/// let server = ServerOptions::new()
///     .transports([Transport::Unix, Transport::Fifo])
///     .connections_max(100)
///     .allow(|peer| peer.uid() == Some(1000))
///     .bind("wc")?;
/// # Ok::<(), parlour::Error>(())
/// ```
#[derive(Clone)]
pub struct ServerOptions {
    pub(crate) transports: Vec<Transport>,
    pub(crate) mode: u32,
    pub(crate) group: Option<u32>,
    pub(crate) policy: Option<Arc<Policy>>,
    pub(crate) message_max: usize,
    pub(crate) fds_max: usize,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_uid_max: usize,
    pub(crate) half_open_max: usize,
    pub(crate) backlog: u32,
    pub(crate) handshake_timeout: Duration,
    pub(crate) client_file: ClientFilePolicy,
    pub(crate) ring_size: usize,
    pub(crate) spin_limit: u32,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            transports: Vec::new(),
            mode: 0o600,
            group: None,
            policy: None,
            message_max: limits::MESSAGE_MAX,
            fds_max: 0,
            connections_max: limits::CONNECTIONS_MAX,
            connections_per_uid_max: limits::CONNECTIONS_PER_UID_MAX,
            half_open_max: limits::HALF_OPEN_MAX,
            backlog: limits::BACKLOG,
            handshake_timeout: limits::HANDSHAKE_TIMEOUT,
            client_file: ClientFilePolicy::default(),
            ring_size: limits::RING_SIZE,
            spin_limit: limits::SPIN_LIMIT,
        }
    }
}

impl ServerOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The transports to offer. Default: the one in the address, or `unix`. If the address has one, it must be among
    /// these.
    #[must_use]
    pub fn transports(mut self, transports: impl IntoIterator<Item = Transport>) -> Self {
        self.transports = transports.into_iter().collect();
        self
    }

    /// The mode of the socket, as for chmod(1): who may connect. Default `0o600`: this user (and root). `0o660` with
    /// [`group`](Self::group) lets a group in, `0o666` everybody. FIFOs are for this user in any case.
    ///
    /// Whatever the umask is, the socket never has more than this and has exactly this before anybody can connect.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// The group that the socket belongs to, by id. Default: this process's own. It must be one that this process is a
    /// member of, unless it runs as root.
    #[must_use]
    pub fn group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }

    /// Who may connect, among those that the mode lets in: called once for each client, before `accept` returns it.
    /// Default: with a mode without rights for others, this user and root; else everybody.
    ///
    /// Decide by [`Peer::uid`] and [`Peer::gid`]; an unknown uid is `None`. A panic in the closure goes through
    /// `accept`.
    #[must_use]
    pub fn allow(mut self, policy: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// The longest message in bytes, sent or received. Default 16 MiB; at most 2 GiB - 1.
    #[must_use]
    pub fn message_max(mut self, bytes: usize) -> Self {
        self.message_max = bytes;
        self
    }

    /// How many open descriptors may come with one message ([`Message::fds`](crate::Message::fds)), blocks of
    /// [`SharedBytes`](crate::SharedBytes) among them. Default 0: they are refused. At most 253; a peer that sends more
    /// than are allowed loses the connection.
    ///
    /// A descriptor is a right, and a hold on whatever is behind it: allow as many as the conversation needs.
    #[must_use]
    pub fn fds_max(mut self, count: usize) -> Self {
        self.fds_max = count;
        self
    }

    /// Connections at once. Default 65,536; at least 1. The limit on open descriptors may come first.
    #[must_use]
    pub fn connections_max(mut self, count: usize) -> Self {
        self.connections_max = count;
        self
    }

    /// Connections at once of each user. Default 4,096; at least 1.
    #[must_use]
    pub fn connections_per_uid_max(mut self, count: usize) -> Self {
        self.connections_per_uid_max = count;
        self
    }

    /// Handshakes under way at once, on transports that have one (`shm`, `fifo`). Default 128; 1 to 65,536.
    #[must_use]
    pub fn half_open_max(mut self, count: usize) -> Self {
        self.half_open_max = count;
        self
    }

    /// Clients that may wait to be accepted. Default 4,096; the kernel caps it (`net.core.somaxconn`).
    #[must_use]
    pub fn backlog(mut self, count: u32) -> Self {
        self.backlog = count;
        self
    }

    /// How long a client may take for its handshake. Default 5 seconds; more than 0.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// What to make of the clients' own files on `unix`. Default [`ClientFilePolicy::Check`].
    #[must_use]
    pub fn client_file(mut self, policy: ClientFilePolicy) -> Self {
        self.client_file = policy;
        self
    }

    /// How much a connection over `shm` holds of what this side sends, in bytes. Default 1 MiB; a power of two from 64 KiB to
    /// 64 MiB. The memory is allocated when the connection is made, and longer messages flow through it in pieces.
    #[must_use]
    pub fn ring_size(mut self, bytes: usize) -> Self {
        self.ring_size = bytes;
        self
    }

    /// How often a blocking call on a connection looks again, yielding the processor in between, before it sleeps in the
    /// kernel. Default 40; 0 sleeps at once.
    ///
    /// Waking a sleeper costs more than everything else about a small message; a peer that answers at once is heard
    /// several times sooner this way. The price is up to some 20 microseconds of processor time for each wait, which other
    /// processes that have work take over by being yielded to. Where they then keep the processor for long, waits sleep at
    /// once for a while. A connection that stays idle sleeps.
    #[must_use]
    pub fn spin_limit(mut self, count: u32) -> Self {
        self.spin_limit = count;
        self
    }

    /// Whether users other than ours may connect.
    pub(crate) fn open_to_others(&self) -> bool {
        self.mode & 0o077 != 0
    }

    pub(crate) fn admission(&self) -> Admission {
        Admission {
            policy: self.policy.clone(),
            open_to_others: self.open_to_others(),
            connections_max: self.connections_max,
            connections_per_uid_max: self.connections_per_uid_max,
            counts: Mutex::default(),
            refusals: Mutex::default(),
            untold: Mutex::default(),
        }
    }

    pub(crate) fn config(&self, admission: &Arc<Admission>) -> ListenConfig {
        ListenConfig {
            admission: Arc::clone(admission),
            message_max: MessageMax::new(self.message_max, self.fds_max),
            half_open_max: self.half_open_max,
            handshake_timeout: self.handshake_timeout,
            client_file: self.client_file,
            ring_size: self.ring_size,
            mode: self.mode,
            group: self.group,
            backlog: self.backlog,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_message_max(self.message_max)?;
        check_fds_max(self.fds_max)?;
        check_ring_size(self.ring_size)?;
        check("connections_max", self.connections_max >= 1, "it must be at least 1")?;
        check("connections_per_uid_max", self.connections_per_uid_max >= 1, "it must be at least 1")?;
        check("half_open_max", (1..=65_536).contains(&self.half_open_max), "it must be from 1 to 65,536")?;
        check("handshake_timeout", !self.handshake_timeout.is_zero(), "it must be more than 0")?;
        check("mode", self.mode & !0o777 == 0, "it must be from 0 to 0777")?;
        check("mode", self.mode & 0o600 == 0o600, "it must let this user read and write (0600)")
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("transports", &self.transports)
            .field("mode", &format_args!("{:#o}", self.mode))
            .field("group", &self.group)
            .field("policy", &self.policy.as_ref().map(|_| "a closure"))
            .field("message_max", &self.message_max)
            .field("fds_max", &self.fds_max)
            .field("connections_max", &self.connections_max)
            .field("connections_per_uid_max", &self.connections_per_uid_max)
            .field("half_open_max", &self.half_open_max)
            .field("backlog", &self.backlog)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("client_file", &self.client_file)
            .field("ring_size", &self.ring_size)
            .field("spin_limit", &self.spin_limit)
            .finish()
    }
}

/// How a client is to connect. Every setter says its default and its unit.
///
/// ```no_run
/// use std::time::Duration;
/// use parlour::ConnectOptions;
///
/// let mut connection = ConnectOptions::new().wait_for_server(Duration::from_secs(10)).connect("wc")?;
/// # Ok::<(), parlour::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub(crate) timeout: Duration,
    pub(crate) wait_for_server: Duration,
    pub(crate) server_uid: Option<u32>,
    pub(crate) client_file: bool,
    pub(crate) message_max: usize,
    pub(crate) fds_max: usize,
    pub(crate) ring_size: usize,
    pub(crate) spin_limit: u32,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: limits::HANDSHAKE_TIMEOUT,
            wait_for_server: Duration::ZERO,
            server_uid: None,
            client_file: true,
            message_max: limits::MESSAGE_MAX,
            fds_max: 0,
            ring_size: limits::RING_SIZE,
            spin_limit: limits::SPIN_LIMIT,
        }
    }
}

impl ConnectOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long connecting to a server that is there may take. Default 5 seconds; more than 0.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long to wait for a server that is not there yet, or just restarts. Default: not at all.
    ///
    /// Waiting costs nothing: it sleeps until something appears in one of the directories where the server could be.
    /// What waiting cannot heal (an unsafe directory, another user's server) is an error at once.
    #[must_use]
    pub fn wait_for_server(mut self, timeout: Duration) -> Self {
        self.wait_for_server = timeout;
        self
    }

    /// The user that the server must run as. Default: our own user or root. This is checked before a byte is sent, and
    /// the directories of that user are trusted.
    #[must_use]
    pub fn server_uid(mut self, uid: u32) -> Self {
        self.server_uid = Some(uid);
        self
    }

    /// Whether to bind a file of our own on `unix` where we may. Default yes; it costs two system calls and shows in
    /// the name's directory who is connecting.
    #[must_use]
    pub fn client_file(mut self, bind: bool) -> Self {
        self.client_file = bind;
        self
    }

    /// The longest message in bytes, sent or received. Default 16 MiB; at most 2 GiB - 1.
    #[must_use]
    pub fn message_max(mut self, bytes: usize) -> Self {
        self.message_max = bytes;
        self
    }

    /// How many open descriptors may come with one message ([`Message::fds`](crate::Message::fds)), blocks of
    /// [`SharedBytes`](crate::SharedBytes) among them. Default 0: they are refused. At most 253; a peer that sends more
    /// than are allowed loses the connection.
    ///
    /// A descriptor is a right, and a hold on whatever is behind it: allow as many as the conversation needs.
    #[must_use]
    pub fn fds_max(mut self, count: usize) -> Self {
        self.fds_max = count;
        self
    }

    /// How much a connection over `shm` holds of what this side sends, in bytes. Default 1 MiB; a power of two from 64 KiB to
    /// 64 MiB. The memory is allocated when the connection is made, and longer messages flow through it in pieces.
    #[must_use]
    pub fn ring_size(mut self, bytes: usize) -> Self {
        self.ring_size = bytes;
        self
    }

    /// How often a blocking call on a connection looks again, yielding the processor in between, before it sleeps in the
    /// kernel. Default 40; 0 sleeps at once.
    ///
    /// Waking a sleeper costs more than everything else about a small message; a peer that answers at once is heard
    /// several times sooner this way. The price is up to some 20 microseconds of processor time for each wait, which other
    /// processes that have work take over by being yielded to. Where they then keep the processor for long, waits sleep at
    /// once for a while. A connection that stays idle sleeps.
    #[must_use]
    pub fn spin_limit(mut self, count: u32) -> Self {
        self.spin_limit = count;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_message_max(self.message_max)?;
        check_fds_max(self.fds_max)?;
        check_ring_size(self.ring_size)?;
        check("timeout", !self.timeout.is_zero(), "it must be more than 0")
    }

    pub(crate) fn config(&self) -> ConnectConfig {
        ConnectConfig {
            server_uid: self.server_uid,
            client_file: self.client_file,
            message_max: MessageMax::new(self.message_max, self.fds_max),
            ring_size: self.ring_size,
        }
    }
}

fn check_message_max(bytes: usize) -> Result<()> {
    check("message_max", bytes <= frame::MESSAGE_MAX, "it must be at most 2 GiB - 1")
}

fn check_fds_max(count: usize) -> Result<()> {
    check("fds_max", count <= limits::FDS_MAX, "it must be at most 253, which is what the kernel sends at once")
}

fn check_ring_size(bytes: usize) -> Result<()> {
    check("ring_size", shm_hello::is_ring_size(bytes), "it must be a power of two from 64 KiB to 64 MiB")
}

fn check(option: &str, holds: bool, rule: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new(ErrorKind::InvalidOption, Operation::SetOption, option, rule)) }
}
