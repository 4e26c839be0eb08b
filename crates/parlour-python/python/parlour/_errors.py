"""The exceptions: one class for each kind of error of the library, below `Error`.

Each is also an exception of Python itself, so that code which catches `TimeoutError` or `ConnectionError` works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from ._parlour import Loss, Owner


class Error(OSError):
    """An operation has failed. The text names the operation, the object, the reason and the next step."""

    kind: ClassVar[str] = ""
    """The name of the kind, which is that of the class."""
    operation: str = ""
    """The operation, as in "connect to"."""
    object: str = ""
    """The object of the operation."""
    holder: Owner | None = None
    """The holder of the name, with `NameInUse`."""
    failure: str | None = None
    """The text of the server, with `CallFailed`."""
    loss: Loss | None = None
    """The account of the connection of a session that has ended, with `Lost` and other errors that end one."""

    def __init_subclass__(cls) -> None:
        cls.kind = cls.__name__


class InvalidName(Error, ValueError):
    """An address or a name is malformed."""


class InvalidOption(Error, ValueError):
    """The value of an option is invalid."""


class NameInUse(Error):
    """A live server holds the name: `holder`."""


class NameLost(Error):
    """Another process removed or replaced the server's files, or the call was made in a forked child."""


class NoServer(Error, ConnectionRefusedError):
    """No server has the name."""


class Refused(Error, ConnectionRefusedError):
    """The server rejected the connection, or the peer allows no descriptors."""


class Denied(Error, PermissionError):
    """The system denied access, or the identity of the peer is not the expected one."""


class Busy(Error):
    """The server has reached a limit or did not accept the client in time. The caller may try again."""


class TimedOut(Error, TimeoutError):
    """The timeout has passed. `recv` keeps a partial message; after `send` nothing was sent."""


class Disconnected(Error, ConnectionResetError):
    """The peer has disconnected."""


class Truncated(Error, ConnectionResetError):
    """The peer disconnected in the middle of a message."""


class Lost(Error, ConnectionResetError):
    """The connection of a session has ended, and what was sent over it may be lost."""


class MessageTooLong(Error, ValueError):
    """A message is longer than the limit, `message_max`."""


class Protocol(Error, ConnectionAbortedError):
    """The peer violated the protocol."""


class Encoding(Error, ValueError):
    """A value could not be encoded, or a message could not be decoded."""


class UnsafeDirectory(Error, PermissionError):
    """The owner, mode or type of a directory lets another user tamper with it."""


class Unsupported(Error, NotImplementedError):
    """This transport, platform or state does not support the operation."""


class Shutdown(Error):
    """A shutdown of the server was requested."""


class HandedOver(Error):
    """Another process has taken the server's name over."""


class CallFailed(Error):
    """The server answered a call with an error: `failure`. The connection can still be used."""


class Io(Error):
    """Another system call failed: `errno`."""


class BufferTooSmall(BufferError):
    """A message is longer than the buffer of `recv_into`. It is kept for the next call."""

    needed: int = 0
    """The length of the message in bytes."""


NOT_READY = (EOFError, ConnectionError, TimeoutError)
"""A session whose function `on_connect` raises one of these tries again, because the server is not ready."""
