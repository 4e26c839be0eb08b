"""Requests that survive restarts of their server: the blocking session of calls."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from . import _json, _parlour
from ._errors import NOT_READY, Busy, Disconnected, TimedOut, Truncated

if TYPE_CHECKING:
    from typing_extensions import Buffer, Unpack

    from ._parlour import CallerConnectOptions, CallStream, HasFileno, SharedBytes

T = TypeVar("T")

# The longest time in seconds after which a call that waits looks for what no descriptor tells it: that another thread
# has closed the session, or that the server of pushed messages has handed its name over.
_LOOK = 0.1


class CallSession:
    """A Caller that connects again when its server has gone, for any number of threads.

    A call whose request was sent, and not answered when the connection ended, raises Lost: the server may have executed
    it. A call whose request was not sent yet goes on with the next server, within its timeout. No request is sent
    twice. The options are those of `Caller.connect`, without `wait`: a session waits for a server as long as the
    timeouts of its calls allow. `on_connect` is called with the Caller of each new connection before any other call is
    made over it. If it raises EOFError, ConnectionError or TimeoutError, the session tries again later; any other
    exception is raised by the call that has connected. It cannot use the session, and neither can a handler of signals
    while its thread connects: they get RuntimeError.

    A session is a context manager that closes it.
    """

    def __init__(
        self,
        address: str,
        on_connect: Callable[[_parlour.Caller], object] | None = None,
        **options: Unpack[CallerConnectOptions],
    ) -> None:
        """Does not connect."""
        if on_connect is not None and not callable(on_connect):
            raise TypeError("on_connect is a function that takes a Caller")
        self._steps = _parlour.CallSteps(address, **options)
        self._on_connect = on_connect
        self._caller: _parlour.Caller | None = None
        # The caller for which `on_connect` runs.
        self._greeted: _parlour.Caller | None = None
        # The thread that has it connects. `on_connect` and handlers of signals may run in it, and would wait for it.
        self._dialing = threading.RLock()
        self._is_dialing = False

    def call(
        self,
        data: Buffer,
        *more: Buffer,
        fds: Iterable[int | HasFileno] | None = None,
        shared: Iterable[SharedBytes] | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """Sends a request and returns the bytes of the answer. See `Caller.call` for the arguments.

        Raises Lost if the server has gone, and may have executed the call; the next call connects again. After TimedOut
        the text tells whether it may have been executed.
        """
        fds = None if fds is None else list(fds)
        shared = None if shared is None else list(shared)
        return self._over_a_caller(
            timeout, lambda caller, left: caller.call(data, *more, fds=fds, shared=shared, timeout=left)
        )

    def call_stream(
        self,
        data: Buffer,
        *more: Buffer,
        fds: Iterable[int | HasFileno] | None = None,
        shared: Iterable[SharedBytes] | None = None,
        timeout: float | None = None,
    ) -> CallStream:
        """Sends a request and returns a CallStream. `timeout` is for connecting and sending.

        If the server goes before the last answer, the stream raises Lost.
        """
        fds = None if fds is None else list(fds)
        shared = None if shared is None else list(shared)
        return self._over_a_caller(
            timeout, lambda caller, left: caller.call_stream(data, *more, fds=fds, shared=shared, timeout=left)
        )

    def next_push(self, timeout: float | None = None) -> bytes:
        """Returns the next message that a server has pushed. Connects if there is no connection.

        Raises Lost once for each connection that has ended, after the messages that had arrived over it, because some
        may have been missed.
        """
        deadline = _Deadline(timeout)
        while True:
            # An end that is found here is reported before anybody waits for the next server.
            caller = self._present()
            if (earlier := self._steps.earlier_push()) is not None:
                return earlier
            if caller is None:
                self._connected(deadline)
                continue
            left = deadline.left()
            try:
                return caller.next_push(timeout=_LOOK if left is None else min(left, _LOOK))
            except (EOFError, Disconnected, Truncated):
                self._steps.leave(caller)
            except TimedOut:
                if left is not None and left <= _LOOK:
                    raise

    def call_json(self, value: Any, timeout: float | None = None) -> Any:
        """Sends a value as JSON as `call` does, and returns the value of the answer.

        Raises Encoding if either is none; if the request is, nothing was sent.
        """
        return _json.decode(self.call(_json.encode(value), timeout=timeout))

    def call_stream_json(self, value: Any, timeout: float | None = None) -> CallStream:
        """Sends a value as JSON as `call_stream` does. `CallStream.recv_json` returns the values of the answers."""
        return self.call_stream(_json.encode(value), timeout=timeout)

    def next_push_json(self, timeout: float | None = None) -> Any:
        """Returns the value of the next pushed message, which is JSON. Raises Encoding if it is none."""
        return _json.decode(self.next_push(timeout=timeout))

    def connect(self, timeout: float | None = None) -> None:
        """Connects if there is no connection. The other calls do this by themselves."""
        self._connected(_Deadline(timeout))

    def close(self) -> None:
        """Closes the session. Calls of other threads get ValueError, and so does `on_connect` from its caller.

        Does nothing if it is closed.
        """
        self._steps.close()
        # The caller moves from the first one to the second.
        for caller in (self._greeted, self._caller):
            if caller is not None:
                caller.close()

    @property
    def closed(self) -> bool:
        """True if the session was closed."""
        return self._steps.closed

    @property
    def transport(self) -> str | None:
        """The transport of the connection, or None."""
        caller = self._caller
        return caller.transport if caller is not None and self._steps.is_present(caller) else None

    def _over_a_caller(self, timeout: float | None, call: Callable[[_parlour.Caller, float | None], T]) -> T:
        deadline = _Deadline(timeout)
        while True:
            caller = self._connected(deadline)
            try:
                return call(caller, deadline.left())
            except (Disconnected, Truncated):
                # The request was not sent: it goes to the next server.
                self._steps.leave(caller)
            except Busy:
                # The server is ending and has not begun the call, or it has too many calls.
                if self._steps.is_present(caller):
                    raise

    def _connected(self, deadline: _Deadline) -> _parlour.Caller:
        """Returns the caller over the present connection. One thread connects, and the others wait."""
        while (caller := self._present()) is None:
            left = deadline.left()
            if not self._dialing.acquire(timeout=-1 if left is None else min(left, threading.TIMEOUT_MAX)):
                raise self._late()
            try:
                if self._is_dialing:
                    raise RuntimeError(
                        "on_connect and handlers of signals cannot use the session while their thread connects; "
                        "use the caller, or the session after the call has returned"
                    )
                # Another thread may have connected meanwhile.
                if self._present() is None:
                    self._is_dialing = True
                    try:
                        self._dial(deadline)
                    finally:
                        self._is_dialing = False
            finally:
                self._dialing.release()
        return caller

    def _present(self) -> _parlour.Caller | None:
        caller = self._caller
        if caller is not None:
            # Finds out what has happened meanwhile. An end is found by the call below.
            with contextlib.suppress(OSError):
                _parlour.Attempts(caller).advance()
        if self._steps.closed:
            raise ValueError("this session was closed")
        return caller if caller is not None and self._steps.is_present(caller) else None

    def _dial(self, deadline: _Deadline) -> None:
        """Makes steps until there is a connection, or `on_connect` has failed for a while."""
        while True:
            caller = self._steps.try_dial()
            if caller is not None:
                break
            left = deadline.left()
            if left is not None and left <= 0:
                raise self._late()
            poll = select.poll()
            poll.register(self._steps.dial_fileno(), select.POLLIN)
            # A signal handler that raises ends it.
            poll.poll(1000 * (_LOOK if left is None else min(left, _LOOK)))
        self._greeted = caller
        try:
            if self._on_connect is not None and not self._steps.closed:
                self._on_connect(caller)
            if self._steps.closed:
                raise ValueError("this session was closed")
            if not self._steps.welcome(caller):
                raise ValueError("on_connect has closed the caller")
            self._caller = caller
        except BaseException as error:
            caller.close()
            # If the session was closed meanwhile, there is no next attempt.
            with contextlib.suppress(ValueError):
                self._steps.reject(f"on_connect has failed: {error!r}")
            if not isinstance(error, NOT_READY):
                raise
        finally:
            self._greeted = None

    def _late(self) -> TimedOut:
        return TimedOut("cannot connect: the session had no connection before the deadline; allow more time")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<parlour.CallSession{' closed' if self.closed else ''}>"


class _Deadline:
    """The time until which a call waits."""

    def __init__(self, timeout: float | None) -> None:
        self._at = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        return None if self._at is None else max(0.0, self._at - time.monotonic())
