//! Connections between a process and its children, without a name: the child inherits one end.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::Arc;

use rustix::fs::fstat;

use crate::backend::Link;
use crate::backend::pair::{self, NotAnEnd};
use crate::connection::Connection;
use crate::endpoint::OtherSide;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::escape::escaped;
use crate::options::ConnectOptions;
use crate::peer::Peer;
use crate::shm::memfd;
use crate::sys::child_fd::{self, Inherited, NotInherited};
use crate::sys::privileges;
use crate::transport::Transport;
use crate::wire::child_fd::{INODE, NUMBER, NotAnnounced, TRANSPORT, can_be_inherited, parse};

/// The object of errors about the environment.
const VARIABLE: &str = "$PARLOUR_FD";

impl Connection {
    /// Starts a program and returns a connection to it, with the defaults of [`ConnectOptions`]. No name and no file is
    /// involved, and no other process can connect.
    ///
    /// The call makes a [pair](Connection::pair) and starts the command. The child inherits the other end, and finds
    /// its number in the environment variable `PARLOUR_FD`. There it calls [`from_env`](Connection::from_env). A
    /// program in another language uses the descriptor itself: it is a connected socket in blocking mode, of the type
    /// `SOCK_STREAM` for `unix` and `SOCK_SEQPACKET` for `packet`, and carries the frames of docs/wire.md. For `shm`
    /// the socket holds the memory of both sides, until the child takes it.
    ///
    /// Only this child inherits the descriptor, also while other threads start programs. The parent keeps no copy: when
    /// the child ends, [`recv`](Connection::recv) returns `None` after its last message. What the child starts inherits
    /// the descriptor too, unless the child takes it with `from_env` first. The command is consumed, because a second
    /// child could not have the same end.
    ///
    /// The process id of the [`peer`](Connection::peer) is that of the child; its user is unknown. `Child` identifies
    /// the process; [`peer_pidfd`](Connection::peer_pidfd) is not supported on this end. Dropping the `Child` does not
    /// end the process.
    ///
    /// # Errors
    ///
    /// If the call fails, no child is left.
    ///
    /// - [`ErrorKind::Unsupported`]: the transport is `fifo`, or `shm` where memfd_create(2) does not work.
    /// - [`ErrorKind::Denied`], [`ErrorKind::Io`]: the program cannot be started; `source()` has the reason. Or the
    ///   pair cannot be made.
    ///
    /// # Examples
    ///
    /// The parent:
    ///
    /// ```no_run
    /// use std::process::Command;
    ///
    /// use parlour::{Connection, Transport};
    ///
    /// let mut command = Command::new("worker");
    /// command.arg("--quiet");
    /// let (mut connection, mut child) = Connection::spawn(command, Transport::Unix)?;
    /// connection.send("hello")?;
    /// println!("{:?}", connection.recv()?);
    /// connection.close()?;
    /// child.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The child, `worker`:
    ///
    /// ```no_run
    /// let mut parent = parlour::Connection::from_env()?;
    /// while let Some(message) = parent.recv()? {
    ///     parent.send(&message)?;
    /// }
    /// # Ok::<(), parlour::Error>(())
    /// ```
    pub fn spawn(command: Command, transport: Transport) -> Result<(Self, Child)> {
        ConnectOptions::default().spawn(command, transport)
    }

    /// Takes the connection that the parent of this process passed to it, with the defaults of [`ConnectOptions`]. The
    /// variable `PARLOUR_FD` in the environment has the number of the descriptor. See [`spawn`](Connection::spawn).
    ///
    /// The parent may be any program: the descriptor must be one end of socketpair(2), of the type `SOCK_STREAM` or
    /// `SOCK_SEQPACKET`. `PARLOUR_FD_TRANSPORT` has the transport; without it a `SOCK_SEQPACKET` socket is `packet`. If
    /// `PARLOUR_FD_INODE` is set too, the socket must have this inode; this detects a variable that
    /// was inherited without its descriptor. The process that made the pair must run as this user or as root, or as the
    /// user of [`server_uid`](ConnectOptions::server_uid); it is the [`peer`](Connection::peer).
    ///
    /// A process takes the connection once. The call makes the descriptor close-on-exec, so that programs that this
    /// process starts do not inherit it. It does not change the environment; remove `PARLOUR_FD` from the environment
    /// of such programs, if they may call this function. A program with more privileges than its caller (set-user-ID)
    /// ignores the variable.
    ///
    /// # Errors
    ///
    /// After an error the descriptor is as it was.
    ///
    /// - [`ErrorKind::Unsupported`]: the variable is not set, or the connection was taken before.
    /// - [`ErrorKind::InvalidOption`]: the variable is malformed, or the descriptor is not open, is not a connected
    ///   UNIX socket of one of these types, or is not the one that was announced.
    /// - [`ErrorKind::Protocol`]: over `shm`, the parent has sent no hello, or a wrong one, or its ring is larger than
    ///   [`peer_ring_max`](ConnectOptions::peer_ring_max).
    /// - [`ErrorKind::Denied`]: another user made the pair.
    /// - [`ErrorKind::Io`]: a system call failed.
    pub fn from_env() -> Result<Self> {
        ConnectOptions::default().from_env()
    }
}

impl ConnectOptions {
    /// Starts a program and returns a connection to it, with these options for this end. See [`Connection::spawn`].
    ///
    /// The options about messages and memory apply. The child sets its own in [`from_env`](Self::from_env), except that
    /// [`ring_size`](Self::ring_size) is that of both ends.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::spawn`], and [`ErrorKind::InvalidOption`]: a value is outside the range that its setter
    /// states.
    pub fn spawn(&self, mut command: Command, transport: Transport) -> Result<(Connection, Child)> {
        let program = escaped(command.get_program()).to_string();
        let (mut link, end) = self.for_child(transport, &program)?;
        command.envs(end.env());
        child_fd::pass(&mut command, end.socket);
        let child = command.spawn().map_err(|error| {
            Error::io(Operation::Spawn, &*program, error).next("check the path and the mode of the program")
        })?;
        // The other end is closed here: it belongs to the child alone.
        drop(command);
        link.peer = Peer::of_child(child.id());
        let name: Arc<str> = format!("the child '{program}'").into();
        Ok((Connection::to(OtherSide::End, link, name, self.spin_limit), child))
    }

    /// Makes a connection to a program that the caller starts by other means than [`Command`], for example with the
    /// `subprocess` of Python. [`spawn`](Self::spawn) is the function for all others.
    ///
    /// The caller starts the program with the variables of [`ChildEnd::env`], lets it inherit the descriptor under the
    /// same number, and drops the [`ChildEnd`]. The program calls [`from_env`](Self::from_env). While this process has
    /// the `ChildEnd`, the connection does not end with the program. The [`peer`](Connection::peer) is unknown.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Unsupported`]: the transport is `fifo`, or `shm` where memfd_create(2) does not work.
    /// - [`ErrorKind::InvalidOption`]: a value is outside the range that its setter states.
    /// - [`ErrorKind::Io`]: the pair cannot be made.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::os::fd::{AsFd, AsRawFd};
    ///
    /// use parlour::{ConnectOptions, Transport};
    ///
    /// let (connection, end) = ConnectOptions::new().child_end(Transport::Unix)?;
    /// let number = end.as_fd().as_raw_fd().to_string();
    /// assert!(end.env().any(|(name, value)| name == "PARLOUR_FD" && value == number));
    /// # drop(connection);
    /// # Ok::<(), parlour::Error>(())
    /// ```
    pub fn child_end(&self, transport: Transport) -> Result<(Connection, ChildEnd)> {
        let (mut link, end) = self.for_child(transport, "a child process")?;
        link.peer = Peer::UNKNOWN;
        Ok((Connection::to(OtherSide::End, link, "the child process".into(), self.spin_limit), end))
    }

    /// Makes both ends of a connection to a child. Errors name the program.
    fn for_child(&self, transport: Transport, program: &str) -> Result<(Link, ChildEnd)> {
        self.check()?;
        let failed = |error| Error::io(Operation::Spawn, program, error);
        if !can_be_inherited(transport) {
            let detail = format!("a child cannot inherit a connection over {transport}");
            return Err(Error::new(ErrorKind::Unsupported, Operation::Spawn, program, detail)
                .next("use unix, packet or shm, or let the child connect by a name"));
        }
        if transport == Transport::Shm {
            memfd::check_supported()
                .map_err(|error| failed(error).next("use unix or packet, or allow the system call in the sandbox"))?;
        }
        let (link, socket) = pair::with_socket(transport, &self.config()).map_err(failed)?;
        let socket = child_fd::beside_the_streams(socket).map_err(|errno| failed(errno.into()))?;
        let inode = fstat(&socket).map_err(|errno| failed(errno.into()))?.st_ino;
        let env = [number_of(&socket), inode.to_string(), transport.to_string()];
        Ok((link, ChildEnd { socket, env }))
    }

    /// Takes the connection that the parent of this process passed to it, with these options. See
    /// [`Connection::from_env`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::from_env`], and [`ErrorKind::InvalidOption`]: a value is outside the range that its
    /// setter states.
    #[allow(clippy::wrong_self_convention, reason = "it converts the environment, with these options")]
    pub fn from_env(&self) -> Result<Connection> {
        self.check()?;
        let variable = |name| std::env::var_os(name).filter(|_| !privileges::exceed_the_callers());
        let [number, inode, transport] = [NUMBER, INODE, TRANSPORT].map(variable);
        let announced = parse(number.as_deref(), inode.as_deref(), transport.as_deref()).map_err(not_announced)?;
        let number = announced.number;
        let inherited = Inherited::find(number).map_err(|why| not_inherited(why, number))?;
        let failed = |error| Error::io(Operation::Inherit, VARIABLE, error);
        let inode = fstat(inherited.fd()).map_err(|errno| failed(errno.into()))?.st_ino;
        if announced.inode.is_some_and(|expected| expected != inode) {
            let detail = format!("descriptor {number} is not the one that was passed to this process or to its parent");
            return Err(
                invalid(detail).next("remove the variable from the environment of programs that get no connection")
            );
        }
        let config = self.config();
        let prepared = pair::examine(inherited.fd(), announced.transport, &config).map_err(|why| match why {
            NotAnEnd::Wrong(what) => invalid(format!("descriptor {number} {what}"))
                .next("pass one end of a connected pair of UNIX sockets, as Connection::spawn does"),
            NotAnEnd::Denied(uid) => {
                let who =
                    uid.map_or("a user without an id in this user namespace".to_owned(), |uid| format!("uid {uid}"));
                let detail = format!("the process that made the connection belongs to {who}");
                Error::new(ErrorKind::Denied, Operation::Inherit, VARIABLE, detail)
                    .next("if this is the intended parent, expect its user (option server_uid)")
            }
            NotAnEnd::Hello(what) => Error::new(ErrorKind::Protocol, Operation::Inherit, VARIABLE, what)
                .next("start the program with Connection::spawn; of a large ring, raise the option peer_ring_max"),
            NotAnEnd::Io(error) => failed(error),
        })?;
        let transport = prepared.transport();
        let socket = inherited.take().map_err(|errno| failed(errno.into()))?;
        let link = prepared.adopt(socket, &config).map_err(failed)?;
        tracing::debug!(%transport, peer = %link.peer, "inherited a connection");
        Ok(Connection::to(OtherSide::End, link, "the parent process".into(), self.spin_limit))
    }
}

/// The end of a connection that a program inherits. [`ConnectOptions::child_end`] makes it.
///
/// The descriptor ([`AsFd`]) is close-on-exec in this process. Dropping the value closes it.
pub struct ChildEnd {
    socket: OwnedFd,
    /// The values of the variables, in the order of [`ChildEnd::env`].
    env: [String; 3],
}

impl ChildEnd {
    /// Returns the variables that announce the descriptor to the program, with their values: `PARLOUR_FD`,
    /// `PARLOUR_FD_INODE` and `PARLOUR_FD_TRANSPORT`.
    pub fn env(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [NUMBER, INODE, TRANSPORT].into_iter().zip(self.env.iter().map(String::as_str))
    }
}

impl AsFd for ChildEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for ChildEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildEnd").field("socket", &self.socket).finish_non_exhaustive()
    }
}

fn number_of(fd: impl AsFd) -> String {
    use std::os::fd::AsRawFd;
    fd.as_fd().as_raw_fd().to_string()
}

fn invalid(detail: String) -> Error {
    Error::new(ErrorKind::InvalidOption, Operation::Inherit, VARIABLE, detail)
}

fn not_announced(why: NotAnnounced) -> Error {
    match why {
        NotAnnounced::NotSet => {
            let detail = "it is not set: no parent passed a connection to this process";
            Error::new(ErrorKind::Unsupported, Operation::Inherit, VARIABLE, detail)
                .next("start the program with Connection::spawn, or connect to a name")
        }
        NotAnnounced::Malformed(name) => {
            invalid(format!("${name} is not a number")).next("set it to decimal digits alone")
        }
        NotAnnounced::UnknownTransport => invalid(format!("${TRANSPORT} is not unix, packet or shm"))
            .next("leave it out for a SOCK_STREAM socket and for one of packet"),
    }
}

fn not_inherited(why: NotInherited, number: i32) -> Error {
    match why {
        NotInherited::NotOpen => invalid(format!("descriptor {number} is not open"))
            .next("pass the descriptor without close-on-exec, and take it before other code closes descriptors"),
        NotInherited::Taken => {
            let detail = "this process has taken the connection already";
            Error::new(ErrorKind::Unsupported, Operation::Inherit, VARIABLE, detail)
                .next("take it once and pass the connection on")
        }
    }
}
