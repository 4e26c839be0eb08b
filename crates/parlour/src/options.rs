//! The options of servers and clients.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::system::sysinfo;

use crate::admission::{Admission, Policy};
use crate::backend::config::{ClientFilePolicy, ConnectConfig, ListenConfig, MessageMax};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::limits::{self, Quotas, Surroundings};
use crate::peer::Peer;
use crate::shm::stats::Counters;
use crate::shm::taps::Taps;
use crate::standby::StandbySlot;
use crate::sys::fork_mutex::ForkMutex;
use crate::transport::Transport;
use crate::wire::origin::Origin;
use crate::wire::{frame, shm_hello};

/// Options of a [`Server`](crate::Server). Each setter states its default and its unit.
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
    pub(crate) connections_max: Option<usize>,
    pub(crate) connections_per_uid_max: Option<usize>,
    pub(crate) memory_max: Option<usize>,
    pub(crate) memory_per_uid_max: Option<usize>,
    pub(crate) half_open_max: usize,
    pub(crate) backlog: u32,
    pub(crate) handshake_timeout: Duration,
    pub(crate) client_file: ClientFilePolicy,
    pub(crate) ring_size: usize,
    pub(crate) peer_ring_max: Option<usize>,
    pub(crate) spin_limit: u32,
    pub(crate) take_over: Option<Duration>,
    pub(crate) hand_over: bool,
    pub(crate) hand_over_grace: Option<Duration>,
    pub(crate) yields: bool,
    pub(crate) stats: bool,
    /// `None`: a process that may open the server's descriptors taps it. True: any of its user does, at `control`.
    pub(crate) tap: Option<bool>,
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
            connections_max: None,
            connections_per_uid_max: None,
            memory_max: None,
            memory_per_uid_max: None,
            half_open_max: limits::HALF_OPEN_MAX,
            backlog: limits::BACKLOG,
            handshake_timeout: limits::HANDSHAKE_TIMEOUT,
            client_file: ClientFilePolicy::default(),
            ring_size: limits::RING_SIZE,
            peer_ring_max: None,
            spin_limit: limits::SPIN_LIMIT,
            take_over: None,
            hand_over: true,
            hand_over_grace: None,
            yields: false,
            stats: true,
            tap: None,
        }
    }
}

impl ServerOptions {
    /// Returns the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the transports to offer. `shm` is left out beside others if the system has no memfd_create(2). Default: the
    /// transport in the address, or `unix` if it has none. A transport in
    /// the address must be among those that are set.
    #[must_use]
    pub fn transports(mut self, transports: impl IntoIterator<Item = Transport>) -> Self {
        self.transports = transports.into_iter().collect();
        self
    }

    /// Sets the mode of the sockets, as for chmod(1). It determines which users may connect. Default `0o600`: this user
    /// and root. `0o660` together with [`group`](Self::group) admits a group, `0o666` admits all users. FIFOs always
    /// have mode `0o600`.
    ///
    /// The mode does not depend on the umask. The socket never has more rights than this mode, and has exactly this
    /// mode before any client can connect.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Sets the group of the sockets, by group id. Default: the group of this process. Unless this process runs as
    /// root, it must be a member of the group. The number 4,294,967,295, which chown(2) takes for no group, is not
    /// accepted.
    #[must_use]
    pub fn group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }

    /// Sets the policy, which decides about each client that the mode of the socket admits. It is called once for each
    /// client, before `accept` returns the client. Default: if the mode gives no rights to group and others, this user
    /// and root may connect; otherwise all clients.
    ///
    /// Base the decision on [`Peer::uid`] and [`Peer::gid`]. An unknown id is `None`.
    ///
    /// # Panics
    ///
    /// A panic in the closure propagates through `accept`.
    #[must_use]
    pub fn allow(mut self, policy: impl Fn(&Peer) -> bool + Send + Sync + 'static) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// Sets the maximum length of a message that is sent or received, in bytes. Default 16 MiB; at most 2 GiB - 1.
    #[must_use]
    pub fn message_max(mut self, bytes: usize) -> Self {
        self.message_max = bytes;
        self
    }

    /// Sets the maximum number of open descriptors that this side receives with one message
    /// ([`Message::fds`](crate::Message::fds)), including those of [`SharedBytes`](crate::SharedBytes). Default 0,
    /// which refuses descriptors; at most 253. A peer that sends more than are allowed loses the connection.
    ///
    /// A descriptor grants access to the object behind it and keeps that object open. Allow no more than the protocol
    /// of the application needs.
    #[must_use]
    pub fn fds_max(mut self, count: usize) -> Self {
        self.fds_max = count;
        self
    }

    /// Sets the maximum number of concurrent connections; at least 1.
    ///
    /// Default: as many as three quarters of the descriptors that this process may have open when it binds
    /// (`RLIMIT_NOFILE`), at most 65,536. A connection takes one descriptor, and two over `fifo`. With a limit of 1,024
    /// descriptors, for example, the default is 768 connections. [`ServerStats`](crate::ServerStats) has the limit that
    /// is in effect. A value that is set is not reduced; the limit on descriptors may then be reached first.
    #[must_use]
    pub fn connections_max(mut self, count: usize) -> Self {
        self.connections_max = Some(count);
        self
    }

    /// Sets the maximum number of concurrent connections of each user; at least 1.
    ///
    /// Default: if the [`mode`](Self::mode) lets other users connect, a quarter of the default of
    /// [`connections_max`](Self::connections_max), otherwise all of it; at most 4,096.
    #[must_use]
    pub fn connections_per_uid_max(mut self, count: usize) -> Self {
        self.connections_per_uid_max = Some(count);
        self
    }

    /// Sets the maximum amount of memory that all clients together may take in this process, in bytes; at least 1.
    ///
    /// Two things count: messages that have not arrived completely and take more than 64 KiB, and this side's rings of
    /// `shm` connections ([`ring_size`](Self::ring_size)). A connection that needs more than the limit allows is not
    /// read: receiving from it fails with [`ErrorKind::Busy`], and loses nothing. A hub ends that connection. A client
    /// over `shm` that would exceed it is refused as at the limit on connections. A message longer than the limit
    /// cannot be received.
    ///
    /// Default: a quarter of the machine's memory, but at least 128 MiB, at most 1 GiB, and always enough for one
    /// message of [`message_max`](Self::message_max) of four users.
    #[must_use]
    pub fn memory_max(mut self, bytes: usize) -> Self {
        self.memory_max = Some(bytes);
        self
    }

    /// Sets the maximum amount of memory that the clients of each user may take, in bytes; at least 1. See
    /// [`memory_max`](Self::memory_max).
    ///
    /// Default: if the [`mode`](Self::mode) lets other users connect, a quarter of the default of `memory_max`,
    /// otherwise all of it.
    #[must_use]
    pub fn memory_per_uid_max(mut self, bytes: usize) -> Self {
        self.memory_per_uid_max = Some(bytes);
        self
    }

    /// Sets the maximum number of concurrent handshakes, for each transport that has one (`shm`, `fifo`). Default 128;
    /// 1 to 65,536.
    #[must_use]
    pub fn half_open_max(mut self, count: usize) -> Self {
        self.half_open_max = count;
        self
    }

    /// Sets the length of the queue of clients that wait to be accepted, as for listen(2). Default 4,096. The kernel
    /// limits it to `net.core.somaxconn`.
    #[must_use]
    pub fn backlog(mut self, count: u32) -> Self {
        self.backlog = count;
        self
    }

    /// Sets the time limit of a client's handshake. Default 5 seconds; more than 0.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Sets how the server treats the files that clients bind for themselves on socket transports. Default
    /// [`ClientFilePolicy::Check`].
    #[must_use]
    pub fn client_file(mut self, policy: ClientFilePolicy) -> Self {
        self.client_file = policy;
        self
    }

    /// Sets the size of the ring through which this side sends over `shm`, in bytes. Default 1 MiB; a power of two from
    /// 64 KiB to 64 MiB. The memory is allocated when the connection is established. Messages longer than the ring pass
    /// through it in pieces. The peer accepts rings of up to 16 MiB by default
    /// ([`peer_ring_max`](Self::peer_ring_max)).
    #[must_use]
    pub fn ring_size(mut self, bytes: usize) -> Self {
        self.ring_size = bytes;
        self
    }

    /// Sets the maximum size of the ring through which the peer sends over `shm`, in bytes. Default 16 MiB, or the size
    /// of this side's own ring if that is larger. A peer with a larger ring is refused.
    ///
    /// The peer allocates the memory of its ring. This side keeps that memory in use until the connection ends.
    #[must_use]
    pub fn peer_ring_max(mut self, bytes: usize) -> Self {
        self.peer_ring_max = Some(bytes);
        self
    }

    /// Sets the number of times that a blocking call on a connection polls, with sched_yield(2) in between, before it
    /// sleeps in the kernel. Default 40; with 0 the call sleeps immediately.
    ///
    /// Waking a sleeping thread costs more than everything else about a small message. With polling, the answer of a
    /// peer that answers immediately arrives several times sooner. The cost is up to about 20 microseconds of processor
    /// time for each wait; other processes that are ready to run get that time. If they then keep the processor for
    /// long, waits sleep immediately for a while (back-off). An idle connection sleeps.
    #[must_use]
    pub fn spin_limit(mut self, count: u32) -> Self {
        self.spin_limit = count;
        self
    }

    /// Lets [`bind`](Self::bind) take the name over from the server that holds it, and wait for it up to `timeout`.
    /// Default: `bind` fails with [`NameInUse`](ErrorKind::NameInUse).
    ///
    /// The name moves without a gap: clients in the queue of that server, and those that connect meanwhile, are
    /// accepted by one of the two servers, and none is refused. Connections that the other server has accepted stay
    /// with it. Its accepting calls end with [`HandedOver`](ErrorKind::HandedOver). If no server holds the name, `bind`
    /// takes it as usual. docs/hand-over.md describes a replacement step by step.
    ///
    /// Both processes must run as the same user, and this one must be able to write to the files of the name. Both may
    /// have different options. A listening socket moves if its transport, [mode](Self::mode) and [group](Self::group)
    /// are equal; otherwise this server replaces it, and the other one accepts the clients that had connected to it.
    ///
    /// The other server answers while one of its threads waits in this library: in
    /// [`accept`](crate::Server::accept) and its variants, in a call that receives from one of its clients or sends to
    /// one, or in a hub; and while a runtime runs tasks with it. It does not answer while all of its threads do
    /// something else. `bind` blocks the calling thread until it answers, also in the API for tasks; call it in
    /// `spawn_blocking` there.
    ///
    /// # Errors
    ///
    /// Of [`bind`](Self::bind), in addition to its others:
    ///
    /// - [`ErrorKind::Busy`]: the other server did not answer in time. Its program neither accepts nor waits for a
    ///   client, or is stopped. It keeps the name.
    /// - [`ErrorKind::NameInUse`]: the other server does not hand its name over: it has switched
    ///   [`hand_over`](Self::hand_over) off, serves on sockets of a service manager, runs an older version of this
    ///   library, or belongs to another user.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::thread;
    /// use std::time::Duration;
    ///
    /// use parlour::{Connection, Server, ServerOptions};
    ///
    /// # let base = tempfile::tempdir()?;
    /// # let address = base.path().join("hello").display().to_string();
    /// let old = Server::bind(&address)?;
    /// // This client is in the queue of the old server.
    /// let mut client = Connection::connect(&address)?;
    /// let accepting = thread::spawn(move || old.accept().map(drop));
    ///
    /// // Usually in another process: the next version of the program.
    /// let new = ServerOptions::new().take_over(Duration::from_secs(10)).bind(&address)?;
    /// # if let Err(error) = accepting.join().expect("the old server") {
    /// #     assert_eq!(error.kind(), parlour::ErrorKind::HandedOver);
    /// new.accept()?.send("hello from the new server")?;
    /// assert_eq!(client.recv()?.expect("a message"), b"hello from the new server");
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn take_over(mut self, timeout: Duration) -> Self {
        self.take_over = Some(timeout);
        self
    }

    /// Sets whether a process of the same user may take the name over ([`take_over`](Self::take_over)). Default true.
    ///
    /// After that the accepting calls of this server return the clients whose handshakes it had begun, and then
    /// [`HandedOver`](ErrorKind::HandedOver). Its connections go on. Closing the server then removes nothing.
    ///
    /// A server on the sockets of a service manager ([`bind_listen_fds`](Self::bind_listen_fds)) hands nothing over,
    /// because the manager passes the sockets to the next server itself.
    #[must_use]
    pub fn hand_over(mut self, hand_over: bool) -> Self {
        self.hand_over = hand_over;
        self
    }

    /// Sets how long the connected clients are served after a hand-over, where this library serves them:
    /// [`Hub`](crate::hub::Hub), [`Server::serve_calls`](crate::Server::serve_calls), and `serve` and `serve_calls` of
    /// the API for tasks. Default: 30 seconds; for the API for tasks the grace period that its functions are given.
    ///
    /// These end when the last client has left, or after this time. `Duration::MAX` lets every client finish. Then the
    /// old process lives as long as its last client is connected. Under [`Server::accept`](crate::Server::accept) the
    /// caller decides.
    #[must_use]
    pub fn hand_over_grace(mut self, time: Duration) -> Self {
        self.hand_over_grace = Some(time);
        self
    }

    /// Sets whether any other server of the same user may take the name, for a program that stands in for servers that
    /// may come. Default false.
    ///
    /// The owner record says that the server yields. A [`bind`](Self::bind) of another server then takes the name over,
    /// without the option [`take_over`](Self::take_over): the accepting calls of this server end with
    /// [`HandedOver`](ErrorKind::HandedOver), its connections go on, and no client is refused. If this server does not
    /// answer within 1 second, because its program neither accepts nor waits for a client or is stopped, `bind` fails
    /// with [`NameInUse`](ErrorKind::NameInUse). So `bind` may block for that time, also in the API for tasks.
    ///
    /// A server that yields takes no name from another server, also not from one that yields: its `bind` fails with
    /// `NameInUse`. To bind again when the other server has gone, wait with
    /// [`Watch::wait_until_quiet`](crate::inspect::Watch::wait_until_quiet).
    ///
    /// # Errors
    ///
    /// Of [`bind`](Self::bind) of this server, in addition to its others:
    ///
    /// - [`ErrorKind::InvalidOption`]: [`take_over`](Self::take_over) is set, or [`hand_over`](Self::hand_over) is
    ///   false, or the sockets are those of a service manager ([`bind_listen_fds`](Self::bind_listen_fds)).
    ///
    /// # Examples
    ///
    /// A program that holds a name while no other server does:
    ///
    /// ```
    /// use std::thread;
    /// use std::time::Duration;
    ///
    /// use parlour::{ErrorKind, Server, ServerOptions, inspect};
    ///
    /// # let base = tempfile::tempdir()?;
    /// # let address = base.path().join("hello").display().to_string();
    /// let mut watch = inspect::watch(&address)?;
    /// let stand_in = ServerOptions::new().yields(true).bind(&address)?;
    /// let accepting = thread::spawn(move || stand_in.accept().map(drop));
    ///
    /// // Usually in another process, which knows nothing of the first one.
    /// let server = Server::bind(&address)?;
    /// let error = accepting.join().expect("the thread ends").expect_err("the name was taken");
    /// assert_eq!(error.kind(), ErrorKind::HandedOver);
    /// drop(server);
    ///
    /// // A server that is restarted is back within this time.
    /// watch.wait_until_quiet(Duration::from_secs(1), Duration::MAX)?;
    /// let stand_in = ServerOptions::new().yields(true).bind(&address)?;
    /// # drop(stand_in);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn yields(mut self, yields: bool) -> Self {
        self.yields = yields;
        self
    }

    /// Sets whether the server counts messages and bytes for other processes of the same user, which read them without
    /// the help of this one: [`inspect::stats`](crate::inspect::stats) and `parlour stats`. Default true.
    ///
    /// A message costs less than 15 more instructions, and no system call. The counters take 256 bytes for each
    /// connection, and one descriptor. Other users see nothing of them. docs/stats.md specifies them.
    ///
    /// A server that cannot create the memory, because memfd_create(2) or a limit does not allow it, starts without
    /// counters.
    #[must_use]
    pub fn stats(mut self, stats: bool) -> Self {
        self.stats = stats;
        self
    }

    /// Sets whether other processes of the same user may look at the messages of the server while they pass:
    /// [`inspect::tap`](crate::inspect::tap) and `parlour tap`. Requires [`stats`](Self::stats).
    ///
    /// By default, a process can tap the server if the kernel lets it open the descriptors of the server in `/proc`. It
    /// does not for a server that is not dumpable (prctl(2), `PR_SET_DUMPABLE`), such as an agent that keeps passwords,
    /// nor for one in another PID namespace. With `tap(true)`, every process of its user can tap these as well, through
    /// the socket `control` of the name. With `tap(false)`, nobody can tap the server.
    ///
    /// While nobody taps it, a message costs the comparison of two words, and the server has one page of memory and one
    /// descriptor. While a process does, messages are copied into memory of 4 MiB, which the first message after the
    /// last tap frees. A process that taps cannot hold the server up. Other users cannot tap it, nor can root as such.
    #[must_use]
    pub fn tap(mut self, tap: bool) -> Self {
        self.tap = Some(tap);
        self
    }

    /// Returns true if the mode lets users other than the user of this process connect.
    pub(crate) fn open_to_others(&self) -> bool {
        self.mode & 0o077 != 0
    }

    /// Creates the admission of a server that offers these transports. The limits that are not set depend on those of
    /// this process and on the machine, at this time.
    pub(crate) fn admission(&self, transports: &[Transport]) -> Admission {
        let default = Quotas::in_proportion_to(&Surroundings {
            fds: getrlimit(Resource::Nofile).current,
            fds_per_connection: if transports.contains(&Transport::Fifo) { 2 } else { 1 },
            memory: total_memory(),
            message_max: self.message_max,
            is_open_to_others: self.open_to_others(),
        });
        let connections_max = self.connections_max.unwrap_or(default.connections_max);
        let taps =
            (self.stats && self.tap != Some(false)).then(|| Taps::create(self.tap == Some(true))).and_then(|created| {
                created.inspect_err(|error| tracing::debug!(%error, "the server cannot be tapped")).ok()
            });
        let taps = taps.unwrap_or_else(Taps::off);
        let counters = self.stats.then(|| Counters::create(connections_max, taps.place())).and_then(|created| {
            let warn = |error: &std::io::Error| {
                let next = "raise the limits on sizes and on locked memory, or turn the option stats off";
                tracing::warn!(%error, next, "the server starts without counters");
            };
            created.inspect_err(warn).ok()
        });
        Admission {
            standby: StandbySlot::default(),
            counters: counters.map(Arc::new),
            taps,
            policy: self.policy.clone(),
            open_to_others: self.open_to_others(),
            quotas: Quotas {
                connections_max,
                connections_per_uid_max: self.connections_per_uid_max.unwrap_or(default.connections_per_uid_max),
                memory_max: self.memory_max.unwrap_or(default.memory_max),
                memory_per_uid_max: self.memory_per_uid_max.unwrap_or(default.memory_per_uid_max),
            },
            counts: ForkMutex::default(),
            refusals: ForkMutex::default(),
            queued_refusals: ForkMutex::default(),
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
            peer_ring_max: peer_ring_max(self.peer_ring_max, self.ring_size),
            mode: self.mode,
            group: self.group,
            backlog: self.backlog,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_message_max(self.message_max)?;
        check_fds_max(self.fds_max)?;
        check_ring_size(self.ring_size)?;
        check_peer_ring_max(self.peer_ring_max)?;
        for (option, limit) in [
            ("connections_max", self.connections_max),
            ("connections_per_uid_max", self.connections_per_uid_max),
            ("memory_max", self.memory_max),
            ("memory_per_uid_max", self.memory_per_uid_max),
        ] {
            check(option, limit != Some(0), "it must be at least 1")?;
        }
        check("half_open_max", (1..=65_536).contains(&self.half_open_max), "it must be from 1 to 65,536")?;
        check("handshake_timeout", !self.handshake_timeout.is_zero(), "it must be more than 0")?;
        check("group", self.group != Some(u32::MAX), "4294967295 is the number for no group")?;
        let takes_none = "a server that yields takes no name from another one; leave take_over out";
        check("yields", !self.yields || self.take_over.is_none(), takes_none)?;
        check(
            "yields",
            !self.yields || self.hand_over,
            "a server that yields hands its name over; leave hand_over on",
        )?;
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
            .field("memory_max", &self.memory_max)
            .field("memory_per_uid_max", &self.memory_per_uid_max)
            .field("half_open_max", &self.half_open_max)
            .field("backlog", &self.backlog)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("client_file", &self.client_file)
            .field("ring_size", &self.ring_size)
            .field("peer_ring_max", &peer_ring_max(self.peer_ring_max, self.ring_size))
            .field("spin_limit", &self.spin_limit)
            .field("take_over", &self.take_over)
            .field("hand_over", &self.hand_over)
            .field("hand_over_grace", &self.hand_over_grace)
            .field("yields", &self.yields)
            .field("stats", &self.stats)
            .field("tap", &self.tap)
            .finish()
    }
}

/// Options of connecting to a server. Each setter states its default and its unit.
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
    pub(crate) origin: Option<Origin>,
    pub(crate) message_max: usize,
    pub(crate) fds_max: usize,
    pub(crate) ring_size: usize,
    pub(crate) peer_ring_max: Option<usize>,
    pub(crate) spin_limit: u32,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: limits::HANDSHAKE_TIMEOUT,
            wait_for_server: Duration::ZERO,
            server_uid: None,
            client_file: true,
            origin: None,
            message_max: limits::MESSAGE_MAX,
            fds_max: 0,
            ring_size: limits::RING_SIZE,
            peer_ring_max: None,
            spin_limit: limits::SPIN_LIMIT,
        }
    }
}

impl ConnectOptions {
    /// Returns the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the time limit of connecting to a server that exists. Default 5 seconds; more than 0.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long to wait for a server that does not exist yet, or is being restarted. Default 0: no wait.
    ///
    /// The wait takes no processor time. It sleeps until a file appears in one of the directories where the server can
    /// be (inotify(7)). Errors that waiting cannot resolve, such as a server of another user, are returned immediately.
    /// An unsafe directory does not end the wait, because another user may have created it; the error at the end names
    /// it.
    #[must_use]
    pub fn wait_for_server(mut self, timeout: Duration) -> Self {
        self.wait_for_server = timeout;
        self
    }

    /// Sets the user that the server must run as, which is verified before a byte is sent. Default: the user of this
    /// process, or root. A service manager of root may listen for the server in a directory of that user. The
    /// directories of that user are trusted, and its default bases (`/run/user/<uid>/parlour` and
    /// `/tmp/parlour-<uid>`) are searched first. A base that only its environment names must be in the address.
    #[must_use]
    pub fn server_uid(mut self, uid: u32) -> Self {
        self.server_uid = Some(uid);
        self
    }

    /// Sets whether the client binds its socket to a file of its own in the directory of the name, on socket transports
    /// and where it has the right to. Default true. The file shows people which process is connecting, and costs two
    /// system calls.
    #[must_use]
    pub fn client_file(mut self, bind: bool) -> Self {
        self.client_file = bind;
        self
    }

    /// Sets the origin of the client, for a bridge that connects for the client of another host. Default: the client is
    /// one of this host. The server finds it in [`Peer::origin`].
    ///
    /// The client shows its origin to a server of the same user, by a file in the directory of the name, over every
    /// transport. A client that runs as root shows it to a server of any user. The server removes the file when it
    /// accepts the client. If the file cannot be created, connecting fails: the server would take the client for one of
    /// this host. A server of an earlier version does take it for one. A client of another user than root shows nothing
    /// to a server of another user, which would not believe it: the server sees the user of this process
    /// ([`Peer::uid`]), and admits it or not.
    ///
    /// # Errors
    ///
    /// Of connecting, in addition to its others:
    ///
    /// - [`ErrorKind::InvalidOption`]: the name of the host is malformed, or [`client_file`](Self::client_file) is
    ///   false.
    /// - [`ErrorKind::Denied`], [`ErrorKind::Io`]: the file cannot be created.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::thread;
    ///
    /// use parlour::{ConnectOptions, Origin, Server};
    ///
    /// # let base = tempfile::tempdir()?;
    /// # let address = base.path().join("hello").display().to_string();
    /// let server = Server::bind(&address)?;
    /// let accepting = thread::spawn(move || server.accept());
    /// let options = ConnectOptions::new().origin(Origin::new("a.example").with_program("wc"));
    /// let bridged = options.connect(&address)?;
    /// let client = accepting.join().expect("the thread ends")?;
    /// let origin = client.peer().origin().expect("a client of another host");
    /// assert_eq!((origin.host(), origin.program()), ("a.example", Some("wc")));
    /// # drop(bridged);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Sets the maximum length of a message that is sent or received, in bytes. Default 16 MiB; at most 2 GiB - 1.
    #[must_use]
    pub fn message_max(mut self, bytes: usize) -> Self {
        self.message_max = bytes;
        self
    }

    /// Sets the maximum number of open descriptors that this side receives with one message
    /// ([`Message::fds`](crate::Message::fds)), including those of [`SharedBytes`](crate::SharedBytes). Default 0,
    /// which refuses descriptors; at most 253. A peer that sends more than are allowed loses the connection.
    ///
    /// A descriptor grants access to the object behind it and keeps that object open. Allow no more than the protocol
    /// of the application needs.
    #[must_use]
    pub fn fds_max(mut self, count: usize) -> Self {
        self.fds_max = count;
        self
    }

    /// Sets the size of the ring through which this side sends over `shm`, in bytes. Default 1 MiB; a power of two from
    /// 64 KiB to 64 MiB. The memory is allocated when the connection is established. Messages longer than the ring pass
    /// through it in pieces. The peer accepts rings of up to 16 MiB by default
    /// ([`peer_ring_max`](Self::peer_ring_max)).
    #[must_use]
    pub fn ring_size(mut self, bytes: usize) -> Self {
        self.ring_size = bytes;
        self
    }

    /// Sets the maximum size of the ring through which the peer sends over `shm`, in bytes. Default 16 MiB, or the size
    /// of this side's own ring if that is larger. A peer with a larger ring is refused.
    ///
    /// The peer allocates the memory of its ring. This side keeps that memory in use until the connection ends.
    #[must_use]
    pub fn peer_ring_max(mut self, bytes: usize) -> Self {
        self.peer_ring_max = Some(bytes);
        self
    }

    /// Sets the number of times that a blocking call on a connection polls, with sched_yield(2) in between, before it
    /// sleeps in the kernel. Default 40; with 0 the call sleeps immediately.
    ///
    /// Waking a sleeping thread costs more than everything else about a small message. With polling, the answer of a
    /// peer that answers immediately arrives several times sooner. The cost is up to about 20 microseconds of processor
    /// time for each wait; other processes that are ready to run get that time. If they then keep the processor for
    /// long, waits sleep immediately for a while (back-off). An idle connection sleeps.
    #[must_use]
    pub fn spin_limit(mut self, count: u32) -> Self {
        self.spin_limit = count;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_message_max(self.message_max)?;
        check_fds_max(self.fds_max)?;
        check_ring_size(self.ring_size)?;
        check_peer_ring_max(self.peer_ring_max)?;
        let is_host = self.origin.as_ref().is_none_or(Origin::is_valid);
        check("origin", is_host, "its host must have 1 to 253 characters of A-Z a-z 0-9 . _ - :")?;
        check("origin", self.origin.is_none() || self.client_file, "it is shown by a file; leave client_file on")?;
        check("timeout", !self.timeout.is_zero(), "it must be more than 0")
    }

    pub(crate) fn config(&self) -> ConnectConfig {
        ConnectConfig {
            server_uid: self.server_uid,
            client_file: self.client_file,
            origin: self.origin.as_ref().map(Origin::encode),
            message_max: MessageMax::new(self.message_max, self.fds_max),
            ring_size: self.ring_size,
            peer_ring_max: peer_ring_max(self.peer_ring_max, self.ring_size),
            may_sleep: false,
        }
    }
}

/// Returns the memory of the machine in bytes.
fn total_memory() -> u64 {
    let info = sysinfo();
    // The types of the fields depend on the platform.
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

fn check_message_max(bytes: usize) -> Result<()> {
    check("message_max", bytes <= frame::MESSAGE_MAX, "it must be at most 2 GiB - 1")
}

fn check_fds_max(count: usize) -> Result<()> {
    check("fds_max", count <= limits::FDS_MAX, "it must be at most 253, the limit of the kernel (SCM_MAX_FD)")
}

fn peer_ring_max(set: Option<usize>, ring_size: usize) -> usize {
    set.unwrap_or(limits::PEER_RING_MAX.max(ring_size))
}

fn check_peer_ring_max(bytes: Option<usize>) -> Result<()> {
    let holds = bytes.is_none_or(|bytes| bytes >= shm_hello::RING_SIZE_MIN);
    check("peer_ring_max", holds, "it must be at least 64 KiB, the smallest ring")
}

fn check_ring_size(bytes: usize) -> Result<()> {
    check("ring_size", shm_hello::is_ring_size(bytes), "it must be a power of two from 64 KiB to 64 MiB")
}

fn check(option: &str, holds: bool, rule: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new(ErrorKind::InvalidOption, Operation::SetOption, option, rule)) }
}
