//! One error type for the whole library.

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::owner::Owner;

/// What every fallible operation of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with which operation, on which object, and what to do next.
///
/// `Display` is one line for a person: operation, object, reason, and, where there is one, the next step. Programs
/// branch on [`kind`](Error::kind). [`source`](std::error::Error::source) is the `io::Error` of the system call
/// behind it, where there was one.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: Operation,
    object: String,
    detail: Cow<'static, str>,
    next_step: Option<Cow<'static, str>>,
    source: Option<io::Error>,
    holder: Option<Owner>,
}

/// The kinds of [`Error`], for a program to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An address or a name is not well formed.
    InvalidName,
    /// An option has a value that cannot be used.
    InvalidOption,
    /// A live server holds the name; [`Error::holder`] tells who.
    NameInUse,
    /// The server's files were removed or replaced by somebody else, or the server was carried into a forked child.
    NameLost,
    /// Nobody serves the name.
    NoServer,
    /// The other side answered, and said no.
    Refused,
    /// The system, or a check of the other side's identity, does not permit it.
    Denied,
    /// The server is there but had no room until the deadline.
    Busy,
    /// The deadline passed. What was being received stays with the connection; what was being sent was not sent.
    TimedOut,
    /// The other side has gone.
    Disconnected,
    /// The other side went in the middle of a message.
    Truncated,
    /// A message is longer than the limit.
    MessageTooLong,
    /// The other side broke the protocol.
    Protocol,
    /// A value could not be made a message, or a message not a value (feature `serde`). The connection goes on.
    Encoding,
    /// A directory's owner, mode or type lets somebody else interfere.
    UnsafeDirectory,
    /// This transport, platform or state cannot do it.
    Unsupported,
    /// The server was told to shut down.
    Shutdown,
    /// Any other failure of a system call.
    Io,
}

impl ErrorKind {
    /// Every kind there is, for tables of them in other languages, which a test can find incomplete.
    pub const ALL: &'static [Self] = &[
        Self::InvalidName,
        Self::InvalidOption,
        Self::NameInUse,
        Self::NameLost,
        Self::NoServer,
        Self::Refused,
        Self::Denied,
        Self::Busy,
        Self::TimedOut,
        Self::Disconnected,
        Self::Truncated,
        Self::MessageTooLong,
        Self::Protocol,
        Self::Encoding,
        Self::UnsafeDirectory,
        Self::Unsupported,
        Self::Shutdown,
        Self::Io,
    ];

    /// The same kind among those of the standard library.
    fn to_io(self) -> io::ErrorKind {
        match self {
            Self::InvalidName | Self::InvalidOption | Self::MessageTooLong => io::ErrorKind::InvalidInput,
            Self::NameInUse => io::ErrorKind::AddrInUse,
            Self::NameLost => io::ErrorKind::AddrNotAvailable,
            Self::NoServer => io::ErrorKind::NotFound,
            Self::Refused => io::ErrorKind::ConnectionRefused,
            Self::Denied | Self::UnsafeDirectory => io::ErrorKind::PermissionDenied,
            // Not `WouldBlock`: a blocking call never asks its caller to poll.
            Self::Busy => io::ErrorKind::ResourceBusy,
            Self::TimedOut => io::ErrorKind::TimedOut,
            Self::Disconnected => io::ErrorKind::BrokenPipe,
            Self::Truncated => io::ErrorKind::UnexpectedEof,
            Self::Protocol | Self::Encoding => io::ErrorKind::InvalidData,
            Self::Unsupported => io::ErrorKind::Unsupported,
            Self::Shutdown => io::ErrorKind::ConnectionAborted,
            Self::Io => io::ErrorKind::Other,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidName => "invalid name",
            Self::InvalidOption => "invalid option",
            Self::NameInUse => "name in use",
            Self::NameLost => "name lost",
            Self::NoServer => "no server",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Busy => "busy",
            Self::TimedOut => "timed out",
            Self::Disconnected => "disconnected",
            Self::Truncated => "truncated",
            Self::MessageTooLong => "message too long",
            Self::Protocol => "protocol error",
            Self::Encoding => "encoding error",
            Self::UnsafeDirectory => "unsafe directory",
            Self::Unsupported => "unsupported",
            Self::Shutdown => "shut down",
            Self::Io => "system error",
        })
    }
}

/// The operation of an [`Error`].
///
/// `Display` gives the words with which the text of the error begins: "connect to", "bind".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Parsing an address.
    ParseAddress,
    /// Checking an option.
    SetOption,
    /// Opening and checking a directory.
    OpenDirectory,
    /// Creating a directory.
    CreateDirectory,
    /// Removing the files that an earlier server left in its directory.
    ClearDirectory,
    /// Locking a name.
    Lock,
    /// Taking a name, or binding a socket.
    Bind,
    /// Listening for clients.
    Listen,
    /// Taking over the sockets that a service manager passed.
    Activate,
    /// Accepting a client.
    Accept,
    /// Serving clients with tasks.
    Serve,
    /// Waiting for an event of a hub.
    NextEvent,
    /// Connecting to a server.
    Connect,
    /// Creating a FIFO.
    CreateFifo,
    /// Creating the shared memory of a connection.
    CreateSharedMemory,
    /// Sending a message.
    Send,
    /// Receiving a message.
    Receive,
    /// Encoding a value.
    Encode,
    /// Decoding a value.
    Decode,
    /// Registering a descriptor with a runtime.
    Register,
    /// Taking a connection apart.
    IntoRawParts,
    /// Creating a block of shared memory.
    Create,
    /// Mapping a block of shared memory.
    Map,
    /// Converting a descriptor to a block of shared memory.
    Convert,
    /// Finding a server.
    Find,
    /// Listing the files of a directory.
    List,
    /// Inspecting a file.
    Inspect,
    /// Removing a file.
    Remove,
    /// Replacing a file.
    Replace,
    /// Releasing a name.
    Release,
    /// Closing a server or a hub.
    Close,
    /// Waiting for tasks.
    Wait,
    /// Drawing random bytes.
    Random,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ParseAddress => "use the address",
            Self::SetOption => "use the option",
            Self::OpenDirectory => "use the directory",
            Self::CreateDirectory => "create the directory",
            Self::ClearDirectory => "clear the directory",
            Self::Lock => "lock",
            Self::Bind => "bind",
            Self::Listen => "listen on",
            Self::Activate => "take over",
            Self::Accept => "accept on",
            Self::Serve => "serve",
            Self::NextEvent => "wait for the clients of",
            Self::Connect => "connect to",
            Self::CreateFifo => "create a FIFO in",
            Self::CreateSharedMemory => "create shared memory for a connection to",
            Self::Send => "send to",
            Self::Receive => "receive from",
            Self::Encode => "encode a message to",
            Self::Decode => "decode a message from",
            Self::Register => "register",
            Self::IntoRawParts => "take apart the connection to",
            Self::Create => "create",
            Self::Map => "map",
            Self::Convert => "use",
            Self::Find => "find",
            Self::List => "list",
            Self::Inspect => "inspect",
            Self::Remove => "remove",
            Self::Replace => "replace",
            Self::Release => "release",
            Self::Close => "close",
            Self::Wait => "wait for",
            Self::Random => "draw",
        })
    }
}

impl Error {
    pub(crate) fn new(
        kind: ErrorKind,
        operation: Operation,
        object: impl Into<String>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            object: object.into(),
            detail: detail.into(),
            next_step: None,
            source: None,
            holder: None,
        }))
    }

    /// A failed system call, with the kind that its error number suggests.
    pub(crate) fn io(operation: Operation, object: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let kind = match source.kind() {
            io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            io::ErrorKind::TimedOut => ErrorKind::TimedOut,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => {
                ErrorKind::Disconnected
            }
            io::ErrorKind::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Io,
        };
        let error = Self::new(kind, operation, object, "").because(source);
        match error.0.source.as_ref().and_then(io::Error::raw_os_error) {
            Some(libc::EMFILE) => error.next("raise the limit on open descriptors (ulimit -n)"),
            Some(libc::ETOOMANYREFS) => error.next(
                "too many descriptors of this user are on their way and not received yet: have the other side receive, or \
                 raise the limit on open descriptors (ulimit -n)",
            ),
            Some(libc::ENFILE) => error.next("raise the system's limit on open files (fs.file-max)"),
            Some(libc::ENOSPC | libc::EDQUOT) => error.next("free some space or inodes there"),
            Some(libc::EROFS) => error.next("set $PARLOUR_DIR to a directory that can be written"),
            _ => error,
        }
    }

    /// Says what the user can do about it.
    pub(crate) fn next(mut self, step: impl Into<Cow<'static, str>>) -> Self {
        self.0.next_step = Some(step.into());
        self
    }

    /// Keeps the system's error behind this one.
    pub(crate) fn because(mut self, source: impl Into<io::Error>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Keeps who holds the name.
    pub(crate) fn held_by(mut self, holder: Option<Owner>) -> Self {
        self.0.holder = holder;
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the operation that failed.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.0.operation
    }

    /// The name, address or path that the operation was about.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// Who holds the name, with [`ErrorKind::NameInUse`], as far as the holder has said.
    #[must_use]
    pub fn holder(&self) -> Option<&Owner> {
        self.0.holder.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, operation, object, detail, next_step, source, .. } = &*self.0;
        write!(f, "cannot {operation} {object}: ")?;
        match (detail.is_empty(), source) {
            (true, Some(source)) => write!(f, "{source}")?,
            (true, None) => write!(f, "{kind}")?,
            (false, Some(source)) => write!(f, "{detail} ({source})")?,
            (false, None) => f.write_str(detail)?,
        }
        match next_step {
            Some(step) => write!(f, "; {step}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind().to_io(), error)
    }
}

/// The error of the functions that send without blocking: [`try_send`](crate::Connection::try_send) and
/// [`try_flush`](crate::Connection::try_flush).
#[derive(Debug)]
pub enum TrySendError<T> {
    /// The channel is full. Nothing of the message was sent, and it is returned.
    Full(T),
    /// The connection cannot send this message, or none any more.
    Failed(Error),
}

impl<T> TrySendError<T> {
    /// Returns true if the channel was full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Replaces what is returned.
    #[cfg(feature = "serde")]
    pub(crate) fn with<V>(self, value: V) -> TrySendError<V> {
        match self {
            Self::Full(_) => TrySendError::Full(value),
            Self::Failed(error) => TrySendError::Failed(error),
        }
    }
}

impl<T> From<Error> for TrySendError<T> {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("cannot send now: the channel is full"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<T: fmt::Debug> std::error::Error for TrySendError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Full(_) => None,
            Self::Failed(error) => Some(error),
        }
    }
}

/// The error of the functions that take what has arrived without blocking: [`try_recv`](crate::Connection::try_recv),
/// [`try_accept`](crate::Server::try_accept) and [`try_next_event`](crate::Hub::try_next_event).
#[derive(Debug)]
pub enum TryRecvError {
    /// Nothing has arrived: no whole message, no client, no event.
    Empty,
    /// The call has failed.
    Failed(Error),
}

impl TryRecvError {
    /// Returns true if nothing had arrived.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

impl From<Error> for TryRecvError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("nothing has arrived yet"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TryRecvError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Empty => None,
            Self::Failed(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_operation_object_reason_and_next_step() {
        let error = Error::new(ErrorKind::NoServer, Operation::Connect, "'wc'", "nobody serves this name")
            .next("start its server");
        assert_eq!(error.to_string(), "cannot connect to 'wc': nobody serves this name; start its server");
    }

    #[test]
    fn converts_once_to_io_error_and_keeps_the_whole_text() {
        let io: io::Error = Error::new(ErrorKind::NameInUse, Operation::Bind, "'wc'", "taken").into();
        assert_eq!(io.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(io.to_string(), "cannot bind 'wc': taken");
    }

    #[test]
    fn the_list_of_kinds_has_every_one_in_order() {
        for (number, kind) in ErrorKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, number, "{kind:?}");
        }
        // `Io` stays the last one, so that a kind that is missing shows in the numbers.
        assert_eq!(ErrorKind::ALL.len(), ErrorKind::Io as usize + 1);
    }

    #[test]
    fn running_out_of_descriptors_says_how_to_raise_the_limit() {
        let error = Error::io(Operation::Accept, "'wc'", io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("ulimit -n"), "{error}");
    }
}
