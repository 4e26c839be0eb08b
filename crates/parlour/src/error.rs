//! The error types of the library.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::io;

use crate::escape::{Printable, without_control};
use crate::loss::Loss;
use crate::owner::Owner;

/// The result of a fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error of a failed operation.
///
/// `Display` writes one line for people: the operation, the object, the reason and, if there is one, the next step.
/// Programs branch on [`kind`](Error::kind). [`source`](std::error::Error::source) returns the `io::Error` of the
/// system call that failed, if one did.
///
/// The text is one line of printable characters, also if a path, a file name or a link that another user made contains
/// others: these are written as in `\n`, `\x1b` or `\u{202e}`.
///
/// An `Error` converts into an `io::Error` of the corresponding [`io::ErrorKind`].
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: Operation,
    object: String,
    detail: Cow<'static, str>,
    next_step: Option<Cow<'static, str>>,
    source: Option<io::Error>,
    holder: Option<Owner>,
    /// The peer closed without reading all that this side sent.
    is_reset: bool,
    loss: Option<Loss>,
}

/// The kind of an [`Error`], for programs to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An address or a name is malformed.
    InvalidName,
    /// The value of an option is invalid.
    InvalidOption,
    /// A live server holds the name. [`Error::holder`] returns its owner record.
    NameInUse,
    /// Another process removed or replaced the server's files, or the call was made in a forked child.
    NameLost,
    /// No server has the name.
    NoServer,
    /// The server rejected the connection, or the peer allows no descriptors.
    Refused,
    /// The system denied access, or the identity of the peer is not the expected one.
    Denied,
    /// The server did not accept the client before the deadline, has reached a limit, or a system call of the server
    /// failed; or a message needs more memory than the client may take
    /// ([`memory_max`](crate::ServerOptions::memory_max)); or the write buffer of a hub's client is full
    /// ([`SlowClientPolicy::Refuse`](crate::hub::SlowClientPolicy::Refuse)). The caller may try again.
    Busy,
    /// The deadline passed. `recv` keeps a partial message for the next call. `send` returns this only if it sent
    /// nothing. `flush` and `finish` keep unwritten bytes buffered. `close` loses them.
    TimedOut,
    /// The peer has disconnected.
    Disconnected,
    /// The peer disconnected mid-message.
    Truncated,
    /// The connection of a [`Session`](crate::Session) has ended, and what was sent over it may be lost.
    /// [`Error::loss`] tells how much. Or that of a [`CallSession`](crate::CallSession) has ended after the request of
    /// this call was sent, and the server may have executed the call. The next call connects again.
    Lost,
    /// A message is longer than the limit.
    MessageTooLong,
    /// The peer violated the protocol.
    Protocol,
    /// A value could not be encoded, or a message could not be decoded (feature `serde`). The connection can still be
    /// used.
    Encoding,
    /// The owner, mode or type of a directory lets another user tamper with it.
    UnsafeDirectory,
    /// This transport, platform or state does not support the operation.
    Unsupported,
    /// A shutdown of the server was requested, or the hub of a handle has ended.
    Shutdown,
    /// Another process has taken the server's name over. See
    /// [`ServerOptions::hand_over`](crate::ServerOptions::hand_over).
    HandedOver,
    /// The server answered a call with an error ([`Call::fail`](crate::calls::Call::fail)), or dropped the call. The
    /// connection can still be used.
    CallFailed,
    /// Another system call failed.
    Io,
}

impl ErrorKind {
    /// All kinds, in declaration order. New kinds may be added.
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
        Self::Lost,
        Self::MessageTooLong,
        Self::Protocol,
        Self::Encoding,
        Self::UnsafeDirectory,
        Self::Unsupported,
        Self::Shutdown,
        Self::HandedOver,
        Self::CallFailed,
        Self::Io,
    ];

    /// Returns the corresponding kind of the standard library.
    fn to_io(self) -> io::ErrorKind {
        match self {
            Self::InvalidName | Self::InvalidOption | Self::MessageTooLong => io::ErrorKind::InvalidInput,
            Self::NameInUse => io::ErrorKind::AddrInUse,
            Self::NameLost => io::ErrorKind::AddrNotAvailable,
            Self::NoServer => io::ErrorKind::NotFound,
            Self::Refused => io::ErrorKind::ConnectionRefused,
            Self::Denied | Self::UnsafeDirectory => io::ErrorKind::PermissionDenied,
            // Not `WouldBlock`: callers of blocking functions do not expect it.
            Self::Busy => io::ErrorKind::ResourceBusy,
            Self::TimedOut => io::ErrorKind::TimedOut,
            Self::Disconnected => io::ErrorKind::BrokenPipe,
            Self::Truncated => io::ErrorKind::UnexpectedEof,
            Self::Lost => io::ErrorKind::ConnectionReset,
            Self::Protocol | Self::Encoding => io::ErrorKind::InvalidData,
            Self::Unsupported => io::ErrorKind::Unsupported,
            Self::Shutdown | Self::HandedOver => io::ErrorKind::ConnectionAborted,
            Self::CallFailed | Self::Io => io::ErrorKind::Other,
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
            Self::Lost => "lost",
            Self::MessageTooLong => "message too long",
            Self::Protocol => "protocol error",
            Self::Encoding => "encoding error",
            Self::UnsafeDirectory => "unsafe directory",
            Self::Unsupported => "unsupported",
            Self::Shutdown => "shut down",
            Self::HandedOver => "handed over",
            Self::CallFailed => "call failed",
            Self::Io => "system error",
        })
    }
}

/// The operation of an [`Error`].
///
/// `Display` writes the words that follow "cannot" in the text of the error, such as "connect to" or "bind".
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
    /// Creating both ends of a connection.
    MakePair,
    /// Starting a program that inherits a connection.
    Spawn,
    /// Taking a connection that this process inherited.
    Inherit,
    /// Creating a FIFO.
    CreateFifo,
    /// Creating the shared memory of a connection.
    CreateSharedMemory,
    /// Sending a message.
    Send,
    /// Receiving a message.
    Receive,
    /// Calling a server, and receiving its answer.
    Call,
    /// Answering a call.
    Answer,
    /// Encoding a value.
    Encode,
    /// Decoding a value.
    Decode,
    /// Registering a connection with a runtime.
    Register,
    /// Taking a connection apart.
    IntoRawParts,
    /// Creating a block of shared memory.
    Create,
    /// Mapping a block of shared memory.
    Map,
    /// Lending a block of a frame pool.
    Loan,
    /// Admitting a reader to a frame pool.
    Attach,
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
    /// Waiting for the tasks of a server to end.
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
            Self::MakePair => "make a pair of connections over",
            Self::Spawn => "start",
            Self::Inherit => "take the connection of",
            Self::CreateFifo => "create a FIFO in",
            Self::CreateSharedMemory => "create shared memory for a connection to",
            Self::Send => "send to",
            Self::Receive => "receive from",
            Self::Call => "call",
            Self::Answer => "answer",
            Self::Encode => "encode a message to",
            Self::Decode => "decode a message from",
            Self::Register => "register the connection to",
            Self::IntoRawParts => "take apart the connection to",
            Self::Create => "create",
            Self::Map => "map",
            Self::Loan => "lend a block of",
            Self::Attach => "admit",
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
            object: without_control(object.into()),
            detail: detail.into(),
            next_step: None,
            source: None,
            holder: None,
            is_reset: false,
            loss: None,
        }))
    }

    /// Creates the error of a failed system call. Its kind follows from the error number.
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
                "too many descriptors of this user were sent and not received yet: let the peer receive, or raise the \
                 limit on open descriptors (ulimit -n)",
            ),
            Some(libc::ENFILE) => error.next("raise the limit of the system on open files (fs.file-max)"),
            Some(libc::ENOSPC | libc::EDQUOT) => error.next("free space or inodes on that file system"),
            Some(libc::ENOSYS) => error.next("allow the system call in the sandbox, or use a newer kernel"),
            Some(libc::EROFS) => error.next("set $PARLOUR_DIR to a writable directory"),
            _ => error,
        }
    }

    /// Adds the next step that the user can take.
    pub(crate) fn next(mut self, step: impl Into<Cow<'static, str>>) -> Self {
        self.0.next_step = Some(step.into());
        self
    }

    /// Adds a clause to the reason.
    pub(crate) fn note(mut self, clause: impl fmt::Display) -> Self {
        let detail = &self.0.detail;
        let separator = if detail.is_empty() { "" } else { "; " };
        self.0.detail = format!("{detail}{separator}{clause}").into();
        self
    }

    /// Adds the error of the system call that caused this one.
    pub(crate) fn because(mut self, source: impl Into<io::Error>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds the owner record of the name's holder.
    pub(crate) fn held_by(mut self, holder: Option<Owner>) -> Self {
        self.0.holder = holder;
        self
    }

    /// Notes that the peer closed without reading all that this side sent.
    pub(crate) fn after_reset(mut self) -> Self {
        self.0.is_reset = true;
        self
    }

    /// Returns true if the peer closed without reading all that this side sent.
    pub(crate) fn is_reset(&self) -> bool {
        self.0.is_reset
    }

    /// Converts the error that ended a connection of a session into the one that reports it.
    pub(crate) fn into_loss(mut self, kind: ErrorKind, loss: Loss) -> Self {
        self.0.kind = kind;
        self.0.loss = Some(loss);
        self.note(loss).next("the next call connects again")
    }

    /// Changes the kind.
    pub(crate) fn into_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Returns the same error again, for another caller to whom it applies.
    pub(crate) fn again(&self) -> Self {
        let Inner { kind, operation, object, detail, next_step, source, holder, is_reset, loss } = &*self.0;
        let source = source.as_ref().map(|source| match source.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(source.kind(), source.to_string()),
        });
        Self(Box::new(Inner {
            kind: *kind,
            operation: *operation,
            object: object.clone(),
            detail: detail.clone(),
            next_step: next_step.clone(),
            source,
            holder: holder.clone(),
            is_reset: *is_reset,
            loss: *loss,
        }))
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the operation that failed.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.0.operation
    }

    /// Returns the name, address, path or peer that the operation was about. Characters that are not printable are
    /// escaped, as in the text of the error.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// Returns what may be lost with a connection of a [`Session`](crate::Session). Returns `Some` for
    /// [`ErrorKind::Lost`], and for any other error with which the connection of a session has ended. Returns `None` if
    /// the session still has its connection, or had none.
    #[must_use]
    pub fn loss(&self) -> Option<&Loss> {
        self.0.loss.as_ref()
    }

    /// Returns the text with which the server answered a call, for [`ErrorKind::CallFailed`]. Characters that are not
    /// printable are **not** escaped here; they are in the text of the error. Returns `None` for other kinds.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        (self.0.kind == ErrorKind::CallFailed).then_some(&*self.0.detail)
    }

    /// Returns the owner record of the name's holder, for [`ErrorKind::NameInUse`]. Returns `None` for other kinds, and
    /// if the holder has not written a record.
    #[must_use]
    pub fn holder(&self) -> Option<&Owner> {
        self.0.holder.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, operation, object, detail, next_step, source, .. } = &*self.0;
        // Text of a peer or of another user can be in any part, and in the text of the source.
        let f = &mut Printable(f);
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

/// The error of functions that send without blocking, such as [`try_send`](crate::Connection::try_send) and
/// [`try_flush`](crate::Connection::try_flush).
#[derive(Debug)]
pub enum TrySendError<T> {
    /// The channel is full. From `try_send`: nothing was sent, and the payload is returned. From `try_flush`: unwritten
    /// bytes stay buffered, and the value is `()`.
    Full(T),
    /// The connection cannot send this message, or cannot send any more.
    Failed(Error),
}

impl<T> TrySendError<T> {
    /// Returns true if the channel was full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Replaces the returned value.
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
            Self::Full(_) => f.write_str("cannot send without blocking: the channel is full"),
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

/// The error of functions that receive or accept without blocking, such as [`try_recv`](crate::Connection::try_recv),
/// [`try_accept`](crate::Server::try_accept) and [`try_next_event`](crate::Hub::try_next_event).
#[derive(Debug)]
pub enum TryRecvError {
    /// Nothing has arrived yet: no whole message, no client, no event.
    Empty,
    /// The call failed.
    Failed(Error),
}

impl TryRecvError {
    /// Returns true if nothing has arrived yet.
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
    fn an_error_text_names_operation_object_reason_and_next_step() {
        let error = Error::new(ErrorKind::NoServer, Operation::Connect, "'wc'", "no server has this name")
            .next("start the server");
        assert_eq!(error.to_string(), "cannot connect to 'wc': no server has this name; start the server");
    }

    #[test]
    fn an_error_text_is_printable_whatever_its_parts_contain() {
        let foreign = "\u{1b}]0;X\u{7}\nfake: line\r\u{9b}31m\u{202e}";
        let source = io::Error::other(foreign);
        let error = Error::new(ErrorKind::Io, Operation::Bind, foreign, foreign.to_owned())
            .next(foreign.to_owned())
            .note(foreign)
            .because(source);
        let escaped = r"\x1b]0;X\x07\nfake: line\r\u{9b}31m\u{202e}";
        let expected = format!("cannot bind {escaped}: {escaped}; {escaped} ({escaped}); {escaped}");
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.object(), escaped);
        assert_eq!(format!("{error:?}"), format!("Error(Io: {expected})"));
        assert_eq!(io::Error::from(error).to_string(), expected);
    }

    #[test]
    fn the_conversion_to_io_error_keeps_kind_and_text() {
        let io: io::Error = Error::new(ErrorKind::NameInUse, Operation::Bind, "'wc'", "taken").into();
        assert_eq!(io.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(io.to_string(), "cannot bind 'wc': taken");
    }

    #[test]
    fn the_list_of_kinds_is_complete_and_in_order() {
        for (number, kind) in ErrorKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, number, "{kind:?}");
        }
        // `Io` is always the last kind, so a missing kind makes the numbers differ.
        assert_eq!(ErrorKind::ALL.len(), ErrorKind::Io as usize + 1);
    }

    #[test]
    fn the_error_of_a_full_descriptor_table_says_how_to_raise_the_limit() {
        let error = Error::io(Operation::Accept, "'wc'", io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("ulimit -n"), "{error}");
    }
}
