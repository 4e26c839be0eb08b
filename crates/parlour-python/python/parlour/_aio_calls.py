"""Requests and answers for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Awaitable, Callable, Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from . import _json, _parlour
from ._errors import Disconnected, HandedOver, Shutdown, TimedOut
from ._watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Buffer, Unpack

    from ._parlour import (
        CallerConnectOptions,
        CallerOptions,
        CallServerOptions,
        ConnectOptions,
        HasFileno,
        Message,
        Peer,
        ServerStats,
        SharedBytes,
    )
    from .aio import Connection

T = TypeVar("T")

_log = logging.getLogger("parlour")

# The number of calls in a row that a server begins before it lets other tasks run.
_TURNS = 64


class Caller:
    """A client that calls a server, for the tasks of one event loop. `parlour.Caller` is the blocking one.

    Any number of tasks may call at the same time over the one connection. A coroutine that is cancelled tells the
    server that the answer is not wanted, so a call takes any timeout: `async with asyncio.timeout(1)`. A caller is an
    asynchronous context manager that closes it.
    """

    def __init__(self, connection: Connection, **options: Unpack[CallerOptions]) -> None:
        """Makes calls over a connection on which nothing was sent, and which belongs to the caller from then on."""
        self._wrap(_parlour.Caller(connection._release(), **options))

    @staticmethod
    def connect(address: str, **options: Unpack[CallerConnectOptions]) -> _ConnectCaller:
        """Connects to the server of this name. Takes the options of `parlour.connect` and of `parlour.Caller`.

        Await the result, or enter it: `async with parlour.aio.Caller.connect("notes") as notes`.
        """
        return _ConnectCaller(address, options)

    @classmethod
    def _of(cls, caller: _parlour.Caller) -> Self:
        """Wraps a blocking caller, which must not be used any more."""
        wrapped = cls.__new__(cls)
        wrapped._wrap(caller)
        return wrapped

    def _wrap(self, caller: _parlour.Caller) -> None:
        self._caller = caller
        self._attempts = _parlour.Attempts(caller)
        # Those of the tasks that wait, by what they wait for.
        self._waiters: dict[int, list[asyncio.Future[None]]] = {}
        # The channel has taken a message in part.
        self._has_rest = False
        # The event loop keeps what it calls, and a caller that nobody keeps is to be freed.
        go_on = weakref.WeakMethod(self._go_on)
        self._reading = Watch(work=lambda: (method := go_on()) is not None and method())
        self._writing = Watch(is_writer=True, work=lambda: (method := go_on()) is not None and method())

    def __del__(self) -> None:
        # The event loop must not keep a descriptor that is about to be closed.
        if hasattr(self, "_writing"):
            self._reading.stop()
            self._writing.stop()

    async def call(
        self,
        data: Buffer,
        *more: Buffer,
        fds: Iterable[int | HasFileno] | None = None,
        shared: Iterable[SharedBytes] | None = None,
    ) -> bytes:
        """Sends a request and returns the bytes of the answer. See `parlour.Caller.call`.

        If this is cancelled, the request was sent or not, as a whole. A late answer is dropped.
        """
        stream = await self._begin(False, data, *more, fds=fds, shared=shared)
        try:
            return await self._next(stream)
        finally:
            self._end(stream)

    async def call_stream(
        self,
        data: Buffer,
        *more: Buffer,
        fds: Iterable[int | HasFileno] | None = None,
        shared: Iterable[SharedBytes] | None = None,
    ) -> CallStream:
        """Sends a request and returns the stream of its answers. See `parlour.Caller.call_stream`."""
        stream = CallStream(self, await self._begin(True, data, *more, fds=fds, shared=shared))
        with contextlib.suppress(OSError):
            # The event loop writes what the channel has not taken.
            self._advance()
        return stream

    async def next_push(self) -> bytes:
        """Returns the next message that the server has pushed. Raises EOFError at the end.

        A cancellation loses no message.
        """
        return await self._until(self._attempts.PUSH, self._attempts.push)

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

    def close(self) -> None:
        """Closes the connection. Tasks that wait for answers get ValueError. Does nothing if it is closed."""
        self._reading.stop()
        self._writing.stop()
        self._caller.close()
        self._wake(list(self._waiters))

    @property
    def closed(self) -> bool:
        """True if the caller was closed."""
        return self._caller.closed

    @property
    def peer(self) -> Peer:
        """The identity of the server, with what vouches for each part of it."""
        return self._caller.peer

    @property
    def transport(self) -> str:
        """The transport: "shm", "packet", "unix" or "fifo"."""
        return self._caller.transport

    @property
    def late_answers(self) -> int:
        """The number of answers that arrived when nobody waited for them any more."""
        return self._caller.late_answers

    @property
    def pushes_dropped(self) -> int:
        """The number of pushed messages that were dropped because too many were kept."""
        return self._caller.pushes_dropped

    async def _begin(
        self,
        is_stream: bool,
        data: Buffer,
        *more: Buffer,
        fds: Iterable[int | HasFileno] | None,
        shared: Iterable[SharedBytes] | None,
    ) -> _parlour.CallStream:
        fds = None if fds is None else list(fds)
        shared = None if shared is None else list(shared)
        return await self._until(
            self._attempts.BEGIN, lambda: self._attempts.begin(is_stream, data, *more, fds=fds, shared=shared)
        )

    async def _next(self, stream: _parlour.CallStream) -> bytes:
        return await self._until(self._attempts.token(stream), lambda: self._attempts.next(stream))

    async def _until(self, token: int, attempt: Callable[[], T | None]) -> T:
        """Repeats an attempt until it returns something. Tasks that wait for the same have the same token."""
        while (result := attempt()) is None:
            waiter = asyncio.get_running_loop().create_future()
            waiters = self._waiters.setdefault(token, [])
            waiters.append(waiter)
            try:
                self._advance()
                await waiter
            finally:
                # Whoever has woken this one has taken the list away.
                if waiter in waiters:
                    waiters.remove(waiter)
                if not waiters and self._waiters.get(token) is waiters:
                    del self._waiters[token]
        return result

    def _end(self, stream: _parlour.CallStream) -> None:
        """Ends a call, and sends the cancellation if it is open."""
        stream.close()
        # Tasks that wait for it find that it has ended.
        self._wake([self._attempts.token(stream)])
        if not self._caller.closed:
            with contextlib.suppress(OSError):
                self._advance()

    def _advance(self) -> bool:
        """Sends and receives what is possible, wakes the tasks, and lets the event loop do the rest.

        Returns true if a task was woken.
        """
        woken, has_more, writable = self._attempts.advance()
        self._wake(woken)
        loop = self._reading.watch(self._attempts.fileno())
        self._has_rest = writable is not None
        if writable is None:
            self._writing.stop()
        else:
            self._writing.watch(writable)
        if has_more:
            loop.call_soon(self._go_on)
        return bool(woken)

    def _wake(self, tokens: list[int]) -> None:
        for token in tokens:
            _wake_all(self._waiters.pop(token, []))

    def _go_on(self) -> bool:
        """Is called when a descriptor is ready. Returns false if the event loop need not watch it any more."""
        if self._caller.closed:
            return False
        try:
            has_woken = self._advance()
        except (OSError, RuntimeError):
            # This is a forked child, in which each call says so.
            return False
        # Nobody waits: what arrives stays in the channel, and the end is found by the next call. The rest of a request
        # or of a cancellation is written nevertheless. A task that was woken may wait again.
        return has_woken or bool(self._waiters) or self._has_rest

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._caller).replace("parlour.", "parlour.aio.", 1)


class _ConnectCaller(Awaitable[Caller]):
    """A caller that is being connected: to be awaited, or entered by `async with`."""

    def __init__(self, address: str, options: CallerConnectOptions) -> None:
        self._address = address
        own = ("stream_buffer_max", "push_buffer_max")
        self._own: Any = {name: value for name, value in options.items() if name in own}
        self._options: Any = {name: value for name, value in options.items() if name not in own}
        self._caller: Caller | None = None

    async def _connect(self) -> Caller:
        from .aio import connect

        options: ConnectOptions = self._options
        return Caller(await connect(self._address, **options), **self._own)

    def __await__(self) -> Generator[Any, None, Caller]:
        return self._connect().__await__()

    async def __aenter__(self) -> Caller:
        self._caller = await self._connect()
        return self._caller

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._caller is not None:
            self._caller.close()


class CallStream:
    """The answers of a server to one request: an asynchronous iterator, and a context manager that ends the call."""

    def __init__(self, caller: Caller, stream: _parlour.CallStream) -> None:
        """Is called by `Caller.call_stream`."""
        self._caller = caller
        self._stream = stream

    async def recv(self) -> bytes:
        """Returns the next answer. Raises EOFError after the last one. A cancellation loses none."""
        return await self._caller._next(self._stream)

    async def recv_json(self) -> Any:
        """Returns the value of the next answer, which is JSON. Raises Encoding if it is none; it was taken then."""
        return _json.decode(await self.recv())

    def close(self) -> None:
        """Ends the call. The server is told if it has not ended. Tasks that wait for an answer get EOFError."""
        self._caller._end(self._stream)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.recv()
        except EOFError:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _wait_in(waiters: list[asyncio.Future[None]]) -> None:
    """Waits until `_wake_all` is called with this list."""
    waiter = asyncio.get_running_loop().create_future()
    waiters.append(waiter)
    try:
        await waiter
    finally:
        if waiter in waiters:
            waiters.remove(waiter)


def _wake_all(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()


class Call:
    """A request of a client, which is to be answered. See `parlour.Call`."""

    def __init__(self, server: CallServer, call: _parlour.Call) -> None:
        """Is called by `CallServer`."""
        self._server = server
        self._call = call

    @property
    def data(self) -> bytes:
        """The bytes of the request."""
        return self._call.data

    @property
    def message(self) -> Message:
        """The request, with what is attached to it."""
        return self._call.message

    @property
    def peer(self) -> Peer:
        """The identity of the client."""
        return self._call.peer

    @property
    def client(self) -> int:
        """The number of the client, which is unique within the server."""
        return self._call.client

    @property
    def cancelled(self) -> bool:
        """True if nobody waits for the answer any more, or the call was answered."""
        return self._call.cancelled

    def reply(self, data: Buffer, *more: Buffer) -> None:
        """Answers with one message. See `parlour.Call.reply`."""
        self._call.reply(data, *more)
        self._server._send()
        _wake_all(self._server._watching)

    async def item(self, data: Buffer, *more: Buffer) -> None:
        """Answers with one of several messages. Waits while too many bytes are queued for the client.

        If this is cancelled, the message was not sent.
        """
        while not self._server._answers.item(self._call, data, *more):
            await _wait_in(self._server._full)
        self._server._send()

    def json(self) -> Any:
        """Returns the value of the request, which is JSON. Raises Encoding if it is none; the call is still open."""
        return self._call.json()

    def reply_json(self, value: Any) -> None:
        """Answers with a value as JSON. Raises Encoding if it is none; the call is still open then."""
        self.reply(_json.encode(value))

    async def item_json(self, value: Any) -> None:
        """Answers with one of several values as JSON as `item` does. Raises Encoding if it is none."""
        await self.item(_json.encode(value))

    async def wait_cancelled(self) -> None:
        """Waits until nobody waits for the answer any more, or the call was answered. Another task serves meanwhile."""
        while not self._server._answers.cancelled(self._call):
            await _wait_in(self._server._watching)

    def end(self) -> None:
        """Ends the answers that `item` has sent."""
        self._call.end()
        self._server._send()
        _wake_all(self._server._watching)

    def fail(self, text: str) -> None:
        """Answers with an error. See `parlour.Call.fail`."""
        self._call.fail(text)
        self._server._send()
        _wake_all(self._server._watching)


class CallServer:
    """A server of calls in an event loop. Takes the arguments of `parlour.CallServer`.

    It is an asynchronous iterator over the calls of all clients, and an asynchronous context manager that closes it. It
    works while a task iterates or is in `serve`.
    """

    def __init__(self, address: str, **options: Unpack[CallServerOptions]) -> None:
        """Takes the name. With the option `take_over` this blocks."""
        self._wrap(_parlour.CallServer(address, **options))

    @classmethod
    def from_listen_fds(cls, fd_name: str | None = None, **options: Unpack[CallServerOptions]) -> Self:
        """Serves on the sockets that a service manager passed. See `parlour.Server.from_listen_fds`."""
        server = cls.__new__(cls)
        server._wrap(_parlour.CallServer.from_listen_fds(fd_name, **options))
        return server

    def _wrap(self, server: _parlour.CallServer) -> None:
        self._server = server
        self._reading = Watch()
        self._answers = _parlour.Answers()
        # The tasks that send items and wait for room.
        self._full: list[asyncio.Future[None]] = []
        # Those that wait for the end of a call.
        self._watching: list[asyncio.Future[None]] = []

    def __del__(self) -> None:
        if hasattr(self, "_reading"):
            self._reading.stop()

    async def next_call(self) -> Call:
        """Waits for the next request and returns it. Raises Shutdown at the end. A cancellation loses no request."""
        try:
            while True:
                call = self._try_next_call()
                if call is not None:
                    return Call(self, call)
                await self._reading.wait(self._server.fileno())
        finally:
            # One step finds several requests, which the descriptor does not show again to other tasks.
            self._reading.wake()

    async def serve(self, handler: Callable[[Call], Awaitable[Buffer | None]], grace: float = 5.0) -> None:
        """Calls `handler` with each call, in a task of its own.

        If the handler returns bytes, they are the answer. If it returns None, it has answered by itself, or somebody
        else will; a call that nobody keeps fails at its caller. An exception of a handler fails its call and is logged.
        Returns after a shutdown or a hand-over, when the last handler has returned, or after `grace` seconds, when
        those that are left are cancelled. `aclose` then sends the answers that clients have not read yet. If this is
        cancelled, the handlers are cancelled, too.
        """
        tasks: set[asyncio.Task[None]] = set()
        name = self._server.name

        async def attend(call: Call) -> None:
            try:
                answer = await handler(call)
                if answer is not None:
                    call.reply(answer)
            except Exception as error:
                # Otherwise nobody waits for the answer any more.
                if not isinstance(error, Disconnected) or not call.cancelled:
                    _log.exception("the handler of a call of %r has failed", name)
                    with contextlib.suppress(OSError, ValueError):
                        call.fail("the server has failed")
            finally:
                # A call that nobody keeps is answered when it is dropped.
                del call
                self._send()

        try:
            turns = 0
            async for call in self:
                task = asyncio.create_task(attend(call))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                # A call that its handler does not keep is to be dropped with the handler.
                del call
                turns += 1
                if turns % _TURNS == 0:
                    await asyncio.sleep(0)
            if tasks:
                await self._finish(tasks, grace)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def _finish(self, tasks: set[asyncio.Task[None]], grace: float) -> None:
        """Waits for the tasks. Sends their answers meanwhile, and begins no call."""

        async def drive() -> None:
            with contextlib.suppress(OSError, ValueError):
                while True:
                    self._try_end()
                    await self._reading.wait(self._server.fileno())

        driving = asyncio.create_task(drive())
        try:
            await asyncio.wait(tasks, timeout=grace)
        finally:
            driving.cancel()
            await asyncio.wait([driving])
            # The last answers.
            with contextlib.suppress(OSError, ValueError):
                self._try_end()

    def push(self, data: Buffer, *more: Buffer, client: int | None = None) -> None:
        """Sends one message that answers no call, to one client or to all. See `parlour.CallServer.push`."""
        self._server.push(data, *more, client=client)
        self._send()

    def push_json(self, value: Any, client: int | None = None) -> None:
        """Sends a value as JSON as `push` does. Raises Encoding if it is none."""
        self.push(_json.encode(value), client=client)

    def shutdown(self) -> None:
        """Requests the end: iterating ends. Requests that arrive later are refused."""
        self._server.shutdown()

    def close(self) -> None:
        """Ends the server and its connections at once. Calls that are open fail at their callers.

        Answers that a client has not read are lost: `aclose` waits for that. Does nothing if it is closed.
        """
        with contextlib.suppress(TimedOut):
            self._end()

    async def aclose(self, timeout: float = 5.0) -> None:
        """Ends the server: waits for the calls that tasks hold, writes their answers, and ends all connections.

        It waits for at most `timeout` seconds. Calls that are open after that fail at their callers. Raises TimedOut if
        some clients did not read all. If this is cancelled, the server ends at once. Does nothing if it is closed.
        """
        if self.closed:
            return
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    while not self._try_end():
                        # Other tasks find the end.
                        self._reading.wake()
                        await self._reading.wait(self._server.fileno())
        except BaseException:
            self.close()
            raise
        self._end()

    def _try_end(self) -> bool:
        try:
            return self._server._try_end()
        finally:
            self._wake_woken()

    def _end(self) -> None:
        self._reading.stop()
        self._reading.wake()
        try:
            self._server.close(timeout=0)
        finally:
            self._wake_woken()

    @property
    def closed(self) -> bool:
        """True if the server was closed."""
        return self._server.closed

    @property
    def name(self) -> str:
        """The name, without transport and directory."""
        return self._server.name

    @property
    def path(self) -> Path:
        """The directory of the name."""
        return self._server.path

    def stats(self) -> ServerStats:
        """Returns the counts of clients."""
        return self._server.stats()

    def _send(self) -> None:
        """Lets the task that waits for calls send the answers. The descriptor does not show those of this thread."""
        self._reading.wake()

    def _try_next_call(self) -> _parlour.Call | None:
        try:
            return self._server.try_next_call()
        finally:
            self._wake_woken()

    def _wake_woken(self) -> None:
        """Wakes the tasks that may go on after a step of the server. The others would try again and again."""
        has_room, has_cancelled = self._answers.woken()
        if has_room:
            _wake_all(self._full)
        if has_cancelled:
            _wake_all(self._watching)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Call:
        try:
            return await self.next_call()
        except (Shutdown, HandedOver):
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.aclose()
        else:
            self.close()

    def __repr__(self) -> str:
        return repr(self._server).replace("parlour.", "parlour.aio.", 1)
