"""Clients that outlive servers, for an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from . import _json, _parlour
from ._aio_dialing import Dialing
from ._watch import Watch

if TYPE_CHECKING:
    from typing_extensions import Buffer, Unpack

    from ._parlour import ConnectOptions, HasFileno, Message, SharedBytes
    from .aio import Connection

# The number of calls in a row that find something to do before they let other tasks run.
_TURNS = 64

T = TypeVar("T")


class Session:
    """A client that outlives its servers, for the tasks of one event loop. See `parlour.Session` for the rules.

    The end of a connection is reported once, by the call that finds it, with Lost. The call after that connects again,
    and waits for a server without a limit: timeouts are those of asyncio. `on_connect` is an asynchronous function that
    is called with each new Connection before anything else is sent. If it raises EOFError, ConnectionError or
    TimeoutError, the session tries again later; any other exception is raised by a call that waits for the connection,
    or by the next one. The function runs in a task of its own, so that a call that is cancelled does not interrupt it.

    A session is an asynchronous context manager that closes it.
    """

    def __init__(
        self,
        address: str,
        on_connect: Callable[[Connection], Awaitable[object]] | None = None,
        **options: Unpack[ConnectOptions],
    ) -> None:
        """Does not connect."""
        if on_connect is not None and not callable(on_connect):
            raise TypeError("on_connect is an asynchronous function that takes a Connection")
        self._steps = _parlour.SessionSteps(address, **options)
        self._on_connect = on_connect
        self._dialing = Dialing(self._steps, on_connect and self._log_in, self._steps.welcome)
        self._reading = Watch()
        self._writing = Watch(is_writer=True, work=self._write)
        self._taken = 0
        self._turns = 0

    def __del__(self) -> None:
        # The event loop must not keep a descriptor that is about to be closed.
        if hasattr(self, "_writing"):
            self._dialing.stop()
            self._reading.stop()
            self._writing.stop()

    async def connect(self) -> None:
        """Connects if there is no connection. The other calls do this by themselves."""
        while not self._is_ready():
            await self._dialing.advance()

    async def send(
        self,
        data: Buffer,
        *more: Buffer,
        fds: Iterable[int | HasFileno] | None = None,
        shared: Iterable[SharedBytes] | None = None,
    ) -> None:
        """Sends one message. Connects first if there is no connection. Waits while the channel is full.

        After an exception of the library the server does not receive the message. If the coroutine is cancelled when a
        part was sent, the event loop sends the rest. `messages_taken` counts the message then; otherwise nothing of it
        was sent.
        """
        await self._give_way()
        fds = None if fds is None else list(fds)
        shared = None if shared is None else list(shared)
        while True:
            await self.connect()
            if self._step(lambda: self._steps.try_send(data, *more, fds=fds, shared=shared)):
                break
            await self._writable()
        self._taken += 1
        await self._drain()

    async def recv(self) -> bytes:
        """Receives one message and returns its bytes. Connects first if there is no connection.

        Never returns a message of an earlier connection. Raises Lost when the connection has ended, after all messages
        that had arrived. A cancellation loses no message.
        """
        return await self._receive(self._steps.try_recv)

    async def recv_message(self) -> Message:
        """Receives one message as `recv` does, with what is attached to it."""
        return await self._receive(self._steps.try_recv_message)

    async def send_json(self, value: Any) -> None:
        """Sends one value as JSON, in UTF-8. Raises Encoding if it is none; nothing was sent then."""
        await self.send(_json.encode(value))

    async def recv_json(self) -> Any:
        """Receives one message as `recv` does, and returns the value that it is in JSON.

        Raises Encoding if it is none. The message was taken then, and the connection can be used further.
        """
        return _json.decode(await self.recv())

    def take_unreceived(self) -> list[bytes]:
        """Takes the messages that had arrived when a send has found the end. See `parlour.Session.take_unreceived`."""
        return self._steps.take_unreceived()

    async def close(self) -> None:
        """Writes all buffered messages and closes the session, also if it is cancelled meanwhile.

        Tasks that wait for the session get ValueError, and `on_connect` is cancelled. Does nothing if it is closed.
        """
        try:
            if not self._steps.closed:
                await self._drain()
        finally:
            greeting = self._drop()
            if greeting is not None:
                await asyncio.wait([greeting])

    @property
    def closed(self) -> bool:
        """True if the session was closed."""
        return self._steps.closed

    @property
    def connected(self) -> bool:
        """True if there is a connection, and `on_connect` has returned. Its server may have gone."""
        return self._steps.connected

    @property
    def transport(self) -> str | None:
        """The transport of the connection, or None."""
        return self._steps.transport

    @property
    def messages_taken(self) -> int:
        """The number of messages that `send` has taken, over all connections, also those of cancelled coroutines."""
        return self._taken

    async def _receive(self, attempt: Callable[[], T | None]) -> T:
        await self._give_way()
        try:
            while True:
                await self.connect()
                message = self._step(attempt)
                if message is not None:
                    return message
                await self._readable()
        finally:
            # One read takes several messages out of the descriptor, which does not show them to other tasks.
            self._reading.wake()

    def _is_ready(self) -> bool:
        self._dialing.raise_failure()
        return self._steps.connected

    async def _log_in(self, new: _parlour.Connection) -> None:
        from .aio import Connection

        connection = Connection(new)
        try:
            assert self._on_connect is not None
            await self._on_connect(connection)
            if connection.closed:
                raise ValueError("on_connect has closed the connection")
            self._steps.welcome(connection._release())
        finally:
            connection._drop()

    def _step(self, step: Callable[[], T]) -> T:
        """Makes a step over the connection, and forgets its descriptors if that has ended."""
        try:
            return step()
        finally:
            if self._steps.closed or not self._steps.connected:
                self._forget()

    def _forget(self) -> None:
        for watch in (self._reading, self._writing):
            watch.stop()
            watch.wake()

    async def _readable(self) -> None:
        # The server may wait for what is buffered, such as what on_connect has fed.
        if not self._step(self._steps.try_flush):
            writable = self._steps.send_fileno()
            if writable is not None:
                self._writing.watch(writable)
        fd = self._steps.fileno()
        if fd is not None:
            await self._reading.wait(fd)

    async def _writable(self) -> None:
        fd = self._steps.send_fileno()
        if fd is not None:
            await self._writing.wait(fd)

    async def _drain(self) -> None:
        while not self._step(self._steps.try_flush):
            # If this coroutine is cancelled, the event loop goes on without it.
            await self._writable()
        self._dialing.raise_failure()

    def _write(self) -> bool:
        """Writes in the event loop. Returns true if something is left."""
        if self._steps.closed:
            return False
        try:
            return not self._step(self._steps.try_flush)
        except Exception as failure:
            self._dialing.failure = failure
            return False

    def _drop(self) -> asyncio.Task[None] | None:
        """Closes the session without waiting. Returns the task that ends now."""
        greeting = self._dialing.cancel()
        for watch in (self._reading, self._writing):
            watch.stop()
        self._steps.close()
        self._dialing.wake()
        for watch in (self._reading, self._writing):
            watch.wake()
        return greeting

    async def _give_way(self) -> None:
        """Lets other tasks run once in a number of calls, because a call that need not wait does not."""
        self._turns += 1
        if self._turns >= _TURNS:
            self._turns = 0
            await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        elif (greeting := self._drop()) is not None:
            await asyncio.wait([greeting])

    def __repr__(self) -> str:
        return f"<parlour.aio.Session{' closed' if self.closed else ''}>"
