"""Requests that survive restarts of their server, for an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from . import _json, _parlour
from ._aio_calls import Caller
from ._aio_dialing import Dialing
from ._errors import Busy, Disconnected, Truncated

if TYPE_CHECKING:
    from typing_extensions import Buffer, Unpack

    from ._aio_calls import CallStream
    from ._parlour import CallerConnectOptions, HasFileno, SharedBytes

T = TypeVar("T")


class CallSession:
    """A Caller that connects again when its server has gone, for the tasks of one event loop.

    See `parlour.CallSession` for the rules. A call waits for a server without a limit: timeouts are those of asyncio.
    `on_connect` is an asynchronous function that is called with the Caller of each new connection before any other call
    is made over it. If it raises EOFError, ConnectionError or TimeoutError, the session tries again later; any other
    exception is raised by a call that waits for the connection, or by the next one. The function runs in a task of its
    own, so that a call that is cancelled does not interrupt it.

    A session is an asynchronous context manager that closes it.
    """

    def __init__(
        self,
        address: str,
        on_connect: Callable[[Caller], Awaitable[object]] | None = None,
        **options: Unpack[CallerConnectOptions],
    ) -> None:
        """Does not connect."""
        if on_connect is not None and not callable(on_connect):
            raise TypeError("on_connect is an asynchronous function that takes a Caller")
        self._steps = _parlour.CallSteps(address, **options)
        self._on_connect = on_connect
        self._dialing = Dialing(self._steps, on_connect and self._log_in, lambda new: self._welcome(Caller._of(new)))
        self._caller: Caller | None = None
        # Also those that were left, and have open calls.
        self._callers: weakref.WeakSet[Caller] = weakref.WeakSet()

    def __del__(self) -> None:
        # The event loop must not keep a descriptor that is about to be closed.
        if hasattr(self, "_dialing"):
            self._dialing.stop()

    async def call(
        self,
        data: Buffer,
        *more: Buffer,
        fds: Iterable[int | HasFileno] | None = None,
        shared: Iterable[SharedBytes] | None = None,
    ) -> bytes:
        """Sends a request and returns the bytes of the answer. See `parlour.aio.Caller.call`.

        Raises Lost if the server has gone, and may have executed the call; the next call connects again. If this is
        cancelled, the request was sent or not, as a whole.
        """
        fds = None if fds is None else list(fds)
        shared = None if shared is None else list(shared)
        return await self._over_a_caller(lambda caller: caller.call(data, *more, fds=fds, shared=shared))

    async def call_stream(
        self,
        data: Buffer,
        *more: Buffer,
        fds: Iterable[int | HasFileno] | None = None,
        shared: Iterable[SharedBytes] | None = None,
    ) -> CallStream:
        """Sends a request and returns the stream of its answers. See `parlour.aio.Caller.call_stream`.

        If the server goes before the last answer, the stream raises Lost.
        """
        fds = None if fds is None else list(fds)
        shared = None if shared is None else list(shared)
        return await self._over_a_caller(lambda caller: caller.call_stream(data, *more, fds=fds, shared=shared))

    async def next_push(self) -> bytes:
        """Returns the next message that a server has pushed. Connects if there is no connection.

        Raises Lost once for each connection that has ended, after the messages that had arrived over it, because some
        may have been missed. A cancellation loses no message.
        """
        while True:
            # An end that is found here is reported before anybody waits for the next server.
            caller = self._present()
            if (earlier := self._steps.earlier_push()) is not None:
                return earlier
            if caller is None:
                await self._connected()
                continue
            try:
                for message in await self._push_of(caller):
                    return message
            except (EOFError, Disconnected, Truncated):
                self._leave(caller)

    async def call_json(self, value: Any) -> Any:
        """Sends a value as JSON as `call` does, and returns the value of the answer.

        Raises Encoding if either is none; if the request is, nothing was sent.
        """
        return _json.decode(await self.call(_json.encode(value)))

    async def call_stream_json(self, value: Any) -> CallStream:
        """Sends a value as JSON as `call_stream` does. `CallStream.recv_json` returns the values of the answers."""
        return await self.call_stream(_json.encode(value))

    async def next_push_json(self) -> Any:
        """Returns the value of the next pushed message, which is JSON. Raises Encoding if it is none."""
        return _json.decode(await self.next_push())

    async def connect(self) -> None:
        """Connects if there is no connection. The other calls do this by themselves."""
        await self._connected()

    async def close(self) -> None:
        """Closes the session. Tasks that wait for it get ValueError, and `on_connect` is cancelled.

        Does nothing if it is closed.
        """
        greeting = self._dialing.cancel()
        self._steps.close()
        self._dialing.wake()
        for caller in list(self._callers):
            caller.close()
        if greeting is not None:
            await asyncio.wait([greeting])

    @property
    def closed(self) -> bool:
        """True if the session was closed."""
        return self._steps.closed

    @property
    def transport(self) -> str | None:
        """The transport of the connection, or None."""
        caller = self._caller
        return caller.transport if caller is not None and self._is_present(caller) else None

    async def _over_a_caller(self, call: Callable[[Caller], Awaitable[T]]) -> T:
        while True:
            caller = await self._connected()
            try:
                return await call(caller)
            except (Disconnected, Truncated):
                # The request was not sent: it goes to the next server.
                self._leave(caller)
            except Busy:
                # The server is ending and has not begun the call, or it has too many calls.
                if self._is_present(caller):
                    raise

    async def _push_of(self, caller: Caller) -> tuple[bytes, ...]:
        """Returns the next message of a caller, or none if it is not present any more."""

        def attempt() -> tuple[bytes, ...] | None:
            message = caller._attempts.push()
            if message is not None:
                return (message,)
            return None if self._is_present(caller) else ()

        return await caller._until(caller._attempts.PUSH, attempt)

    async def _connected(self) -> Caller:
        """Returns the caller over the present connection. One task connects at a time."""
        while (caller := self._present()) is None:
            await self._dialing.advance()
        return caller

    def _present(self) -> Caller | None:
        self._dialing.raise_failure()
        caller = self._caller
        if caller is not None and not caller.closed:
            # Finds out what has happened meanwhile. An end is found by the call below.
            with contextlib.suppress(OSError):
                caller._advance()
        if self._steps.closed:
            raise ValueError("this session was closed")
        return caller if caller is not None and self._is_present(caller) else None

    def _is_present(self, caller: Caller) -> bool:
        return not self._steps.closed and self._steps.is_present(caller._caller)

    def _leave(self, caller: Caller) -> None:
        """Ends the use of a caller. The tasks that wait for its pushed messages go on with the next one."""
        if not self._steps.closed:
            self._steps.leave(caller._caller)
        caller._wake([caller._attempts.PUSH])

    async def _log_in(self, new: _parlour.Caller) -> None:
        caller = Caller._of(new)
        try:
            assert self._on_connect is not None
            await self._on_connect(caller)
            self._welcome(caller)
        except BaseException:
            caller.close()
            raise

    def _welcome(self, caller: Caller) -> None:
        if not self._steps.welcome(caller._caller):
            raise ValueError("on_connect has closed the caller")
        self._caller = caller
        self._callers.add(caller)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<parlour.aio.CallSession{' closed' if self.closed else ''}>"
