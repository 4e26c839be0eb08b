"""The same for asyncio, without threads.

A connection, and an attempt to connect, have descriptors that the event loop watches. Every coroutine may be cancelled
at any await: no message is lost, doubled or torn. Several tasks may use a connection at the same time::

    async with parlour.aio.connect("echo") as room:
        await room.send(b"hello")
        async for message in room:
            print(message)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
from collections.abc import Awaitable, Callable, Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from . import _json, _parlour
from ._aio_call_session import CallSession
from ._aio_calls import Call, Caller, CallServer, CallStream
from ._aio_frames import AdmittedReader, FramePool, FrameReader
from ._aio_inspect import Tap, Watch, Watches, tap, watch
from ._aio_session import Session
from ._errors import HandedOver, Shutdown, TimedOut
from ._watch import Watch as FdWatch

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Buffer, Unpack

    from ._parlour import (
        Capabilities,
        ChildEnd,
        Client,
        ClientStats,
        ConnectOptions,
        Event,
        HasFileno,
        HubOptions,
        Message,
        Peer,
        Refusal,
        ServerOptions,
        ServerStats,
        SharedBytes,
    )

__all__ = [
    "AdmittedReader",
    "Call",
    "CallServer",
    "CallSession",
    "CallStream",
    "Caller",
    "Connection",
    "Connector",
    "FramePool",
    "FrameReader",
    "Hub",
    "Server",
    "Session",
    "Tap",
    "Watch",
    "Watches",
    "child_end",
    "connect",
    "from_env",
    "pair",
    "tap",
    "watch",
]

# The number of calls in a row that find something to do before they let other tasks run.
_TURNS = 64

_log = logging.getLogger("parlour")


class Connection:
    """A private two-way channel of messages with one peer, for the tasks of one event loop.

    `parlour.aio.connect` and `Server.accept` return connections. A connection is an asynchronous iterator over the
    messages that it receives, and an asynchronous context manager that closes it. Timeouts are those of asyncio:
    `async with asyncio.timeout(1)`.
    """

    def __init__(self, connection: _parlour.Connection) -> None:
        """Wraps a blocking connection, which must not be used any more."""
        self._connection = connection
        self._reading = FdWatch()
        self._writing = FdWatch(is_writer=True, work=lambda: not _has_flushed(connection))
        # Those of the tasks in `wait_peer_closed`, each of which has a descriptor of its own.
        self._closing: set[FdWatch] = set()
        self._turns = 0

    def __del__(self) -> None:
        # The event loop must not keep a descriptor that is about to be closed. While something is to be written, the
        # loop keeps the connection.
        if hasattr(self, "_writing"):
            self._reading.stop()
            if _has_flushed(self._connection):
                self._writing.stop()

    async def send(
        self,
        data: Buffer,
        *more: Buffer,
        fds: Iterable[int | HasFileno] | None = None,
        shared: Iterable[SharedBytes] | None = None,
    ) -> None:
        """Sends one message. Waits while the channel is full.

        If the coroutine is cancelled when a part was sent, the event loop sends the rest. `messages_taken` counts the
        message then; otherwise nothing of it was sent.
        """
        await self._give_way()
        fds = None if fds is None else list(fds)
        shared = None if shared is None else list(shared)
        while not self._connection.try_send(data, *more, fds=fds, shared=shared):
            await self._writable()
        await self._drain()

    async def feed(self, data: Buffer, *more: Buffer) -> None:
        """Buffers one message, to be written together with the next ones. See `parlour.Connection.feed`."""
        while True:
            try:
                return self._connection.feed(data, *more, timeout=0)
            except TimedOut:
                await self._writable()

    async def flush(self) -> None:
        """Writes all buffered messages. Waits while the channel is full. Continues in the event loop if cancelled."""
        await self._drain()

    async def recv(self) -> bytes:
        """Receives one message and returns its bytes. Raises EOFError at the end."""
        await self._give_way()
        try:
            while (message := self._connection.try_recv()) is None:
                await self._readable()
            return message
        finally:
            self._let_others_receive()

    async def recv_message(self) -> Message:
        """Receives one message as `recv` does, with what is attached to it."""
        await self._give_way()
        try:
            while (message := self._connection.try_recv_message()) is None:
                await self._readable()
            return message
        finally:
            self._let_others_receive()

    async def recv_batch(self) -> list[bytes]:
        """Receives the messages that one read brings, and returns a list of their bytes, each a copy.

        Raises EOFError at the end. See `parlour.Connection.recv_batch`.
        """
        await self._give_way()
        try:
            while True:
                try:
                    return self._connection.recv_batch(timeout=0)
                except TimedOut:
                    await self._readable()
        finally:
            self._let_others_receive()

    async def recv_into(self, buffer: Buffer) -> int:
        """Receives one message into a writable buffer, and returns its length. See `parlour.Connection.recv_into`."""
        await self._give_way()
        try:
            while True:
                try:
                    return self._connection.recv_into(buffer, timeout=0)
                except TimedOut:
                    await self._readable()
        finally:
            self._let_others_receive()

    async def send_json(self, value: Any) -> None:
        """Sends one value as JSON, in UTF-8. Raises Encoding if it is none; nothing was sent then."""
        await self.send(_json.encode(value))

    async def recv_json(self) -> Any:
        """Receives one message as `recv` does, and returns the value that it is in JSON.

        Raises Encoding if it is none. The message was taken then, and the connection can be used further.
        """
        return _json.decode(await self.recv())

    async def finish(self) -> None:
        """Ends sending, after all buffered messages were written. Receiving goes on, and the peer sees the end."""
        await self._drain()
        self._connection.finish(timeout=0)

    async def wait_peer_closed(self) -> None:
        """Waits until the peer has closed the connection. Receives nothing."""
        while (fd := self._connection.closed_fileno()) is not None:
            # The descriptor is readable while messages wait, so an epoll instance reports its end alone.
            with select.epoll() as epoll:
                epoll.register(fd, 0)
                watch = FdWatch()
                self._closing.add(watch)
                try:
                    await watch.wait(epoll.fileno())
                finally:
                    self._closing.discard(watch)
                    watch.stop()

    async def close(self) -> None:
        """Writes all buffered messages and closes the connection, also if it is cancelled meanwhile.

        Tasks that wait for the connection get ValueError. Does nothing if it is closed.
        """
        try:
            if not self._connection.closed:
                await self._drain()
        except BaseException:
            self._drop()
            raise
        self._end()
        self._connection.close(timeout=0)

    def _release(self) -> _parlour.Connection:
        """Gives the connection to a caller."""
        self._end()
        return self._connection

    def _drop(self) -> None:
        """Closes the connection without waiting for a full channel."""
        self._end()
        # The messages that cannot be written are lost, as the caller knows.
        with contextlib.suppress(OSError):
            self._connection.close(timeout=0)

    def abort(self) -> None:
        """Ends the connection with an error for the peer. See `parlour.Connection.abort`."""
        self._end()
        self._connection.abort()

    @property
    def closed(self) -> bool:
        """True if this side has closed the connection."""
        return self._connection.closed

    @property
    def peer_closed(self) -> bool:
        """True if the peer has closed the connection."""
        return self._connection.peer_closed

    @property
    def messages_taken(self) -> int:
        """The number of messages that `send` and `feed` have taken, also those whose coroutine was cancelled."""
        return self._connection.messages_taken

    @property
    def peer(self) -> Peer:
        """The identity of the peer, with what vouches for each part of it."""
        return self._connection.peer

    def peer_pidfd(self) -> int:
        """Returns a new pidfd of the peer's process. See `parlour.Connection.peer_pidfd`."""
        return self._connection.peer_pidfd()

    @property
    def transport(self) -> str:
        """The transport: "shm", "packet", "unix" or "fifo"."""
        return self._connection.transport

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the connection."""
        return self._connection.capabilities

    @property
    def message_max(self) -> int:
        """The length of the longest message in bytes."""
        return self._connection.message_max

    async def _give_way(self) -> None:
        """Lets other tasks run once in a number of calls, because a call that need not wait does not."""
        self._turns += 1
        if self._turns >= _TURNS:
            self._turns = 0
            await asyncio.sleep(0)

    async def _readable(self) -> None:
        # The peer may wait for what is buffered.
        if not _has_flushed(self._connection):
            self._flush_later()
        await self._reading.wait(self._connection.fileno())

    def _let_others_receive(self) -> None:
        """Wakes the other tasks that receive.

        One read takes several messages, the end, or an error out of the descriptor, which does not show them again.
        """
        self._reading.wake()

    async def _writable(self) -> None:
        fd = self._connection.send_fileno()
        if fd is not None:
            await self._writing.wait(fd)

    async def _drain(self) -> None:
        while not self._connection.try_flush():
            # If this coroutine is cancelled, the event loop goes on without it.
            await self._writable()

    def _flush_later(self) -> None:
        fd = self._connection.send_fileno()
        if fd is not None:
            self._writing.watch(fd)

    def _end(self) -> None:
        for watch in (self._reading, self._writing, *self._closing):
            watch.stop()
            watch.wake()

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
        if kind is None:
            await self.close()
        else:
            self._drop()

    def __repr__(self) -> str:
        return repr(self._connection).replace("parlour.", "parlour.aio.", 1)


def _has_flushed(connection: _parlour.Connection) -> bool:
    """Writes what is buffered, without waiting. Returns true if nothing is left that could be written."""
    try:
        return connection.try_flush()
    except (OSError, ValueError):
        # The next call that sends raises it.
        return True


class _Connect(Awaitable[Connection]):
    """A connection that is being made: to be awaited, or entered by `async with`."""

    def __init__(self, begin: Callable[[], _parlour.Pending]) -> None:
        self._begin = begin
        self._connection: Connection | None = None

    async def _connect(self) -> Connection:
        pending = self._begin()
        watch = FdWatch()
        try:
            while (connection := pending.try_finish()) is None:
                await watch.wait(pending.fileno())
                # The next step closes this descriptor.
                watch.stop()
            return Connection(connection)
        finally:
            watch.stop()
            pending.close()

    def __await__(self) -> Generator[Any, None, Connection]:
        return self._connect().__await__()

    async def __aenter__(self) -> Connection:
        self._connection = await self._connect()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.__aexit__(kind, value, trace)


def connect(address: str, **options: Unpack[ConnectOptions]) -> _Connect:
    """Connects to the server of this name. Takes the arguments of `parlour.connect`.

    Await the result, or enter it: `async with parlour.aio.connect("echo") as room`. Nothing is left behind if that is
    cancelled.
    """
    return _Connect(lambda: _parlour.begin(address, **options))


class Connector:
    """Connects to one name many times, for less than `connect`. Takes the arguments of `parlour.Connector`."""

    def __init__(self, address: str, **options: Unpack[ConnectOptions]) -> None:
        """Makes no connection yet."""
        self._connector = _parlour.Connector(address, **options)

    def connect(self) -> _Connect:
        """Connects to the server. Await the result, or enter it, as that of `parlour.aio.connect`."""
        return _Connect(self._connector.begin)

    @property
    def address(self) -> str:
        """The address of the server."""
        return self._connector.address

    def __repr__(self) -> str:
        return repr(self._connector).replace("parlour.", "parlour.aio.", 1)


def pair(transport: str = "unix", **options: Unpack[ConnectOptions]) -> tuple[Connection, Connection]:
    """Returns both ends of a connection, without a server. Takes the arguments of `parlour.pair`."""
    one, other = _parlour.pair(transport, **options)
    return Connection(one), Connection(other)


def child_end(transport: str = "unix", **options: Unpack[ConnectOptions]) -> tuple[Connection, ChildEnd]:
    """Returns a connection to a program that is about to be started, and its end. See `parlour.child_end`."""
    connection, end = _parlour.child_end(transport, **options)
    return Connection(connection), end


def from_env(**options: Unpack[ConnectOptions]) -> Connection:
    """Takes the connection that the parent of this process passed to it. Takes the arguments of `parlour.from_env`."""
    return Connection(_parlour.from_env(**options))


class Server:
    """Takes a name and accepts clients, in an event loop. Takes the arguments of `parlour.Server`.

    A server is an asynchronous iterator over its clients, and an asynchronous context manager that closes it.
    """

    def __init__(self, address: str, **options: Unpack[ServerOptions]) -> None:
        """Takes the name. With the option `take_over` this blocks."""
        self._wrap(_parlour.Server(address, **options))

    @classmethod
    def from_listen_fds(cls, fd_name: str | None = None, **options: Unpack[ServerOptions]) -> Self:
        """Serves on the sockets that a service manager passed. See `parlour.Server.from_listen_fds`."""
        server = cls.__new__(cls)
        server._wrap(_parlour.Server.from_listen_fds(fd_name, **options))
        return server

    def _wrap(self, server: _parlour.Server) -> None:
        self._server = server
        self._reading = FdWatch()

    def __del__(self) -> None:
        # The event loop must not keep a descriptor that is about to be closed.
        if hasattr(self, "_reading"):
            self._reading.stop()

    async def accept(self) -> Connection:
        """Accepts a client. A client is not lost if this is cancelled."""
        while (connection := self._server.try_accept()) is None:
            await self._reading.wait(self._server.fileno())
        return Connection(connection)

    async def serve(self, handler: Callable[[Connection], Awaitable[None]]) -> None:
        """Calls `handler` with each client, in a task of its own, and closes the client after it.

        Returns after a shutdown or hand-over, when the last handler has returned. An exception of a handler ends its
        client only, and is logged. If this is cancelled, the handlers are cancelled, too.
        """
        tasks: set[asyncio.Task[None]] = set()
        # A server that was closed meanwhile has none.
        name = self._server.name

        async def attend(client: Connection) -> None:
            try:
                async with client:
                    await handler(client)
            except Exception:
                _log.exception("the handler of a client of %r has failed", name)

        try:
            async for client in self:
                task = asyncio.create_task(attend(client))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                # A stream of new clients must not keep their handlers from running.
                await asyncio.sleep(0)
            if tasks:
                await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    def shutdown(self) -> None:
        """Requests the end: clients that have connected are still accepted, then iterating ends."""
        self._server.shutdown()

    def close(self) -> None:
        """Releases the name and removes its files. Connections go on. Does nothing if it is closed."""
        self._reading.stop()
        self._reading.wake()
        self._server.close()

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
        """The directory of the name, in which clients find the server."""
        return self._server.path

    @property
    def transports(self) -> list[str]:
        """The transports on offer, best first."""
        return self._server.transports

    def stats(self) -> ServerStats:
        """Returns the counts of clients."""
        return self._server.stats()

    def client_stats(self) -> list[ClientStats]:
        """Returns the counters of each client that is connected. See `parlour.Server.client_stats`."""
        return self._server.client_stats()

    def next_refusal(self) -> Refusal | None:
        """Returns the next client that was refused, or None."""
        return self._server.next_refusal()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Connection:
        try:
            return await self.accept()
        except (Shutdown, HandedOver):
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._server).replace("parlour.", "parlour.aio.", 1)


class Hub:
    """A server and all its clients in one task: an asynchronous iterator over events.

    Takes the arguments of `parlour.Hub`.
    Nothing is sent to or received from clients while no task waits for events. The other methods never wait, and are
    those of `parlour.Hub`. A hub is an asynchronous context manager that closes it.
    """

    def __init__(self, address: str, **options: Unpack[HubOptions]) -> None:
        """Takes the name. With the option `take_over` this blocks."""
        self._wrap(_parlour.Hub(address, **options))

    @classmethod
    def from_listen_fds(cls, fd_name: str | None = None, **options: Unpack[HubOptions]) -> Self:
        """Serves on the sockets that a service manager passed. See `parlour.Server.from_listen_fds`."""
        hub = cls.__new__(cls)
        hub._wrap(_parlour.Hub.from_listen_fds(fd_name, **options))
        return hub

    def _wrap(self, hub: _parlour.Hub) -> None:
        self._hub = hub
        self._reading = FdWatch()
        self._turns = 0

    def __del__(self) -> None:
        # The event loop must not keep a descriptor that is about to be closed.
        if hasattr(self, "_reading"):
            self._reading.stop()

    async def next_event(self) -> Event:
        """Waits for the next event and returns it. Raises Shutdown at the end. A cancellation loses no event."""
        self._turns += 1
        if self._turns >= _TURNS:
            self._turns = 0
            await asyncio.sleep(0)
        try:
            while (event := self._hub.try_next_event()) is None:
                await self._reading.wait(self._hub.fileno())
            return event
        finally:
            # One step finds several events, which the descriptor does not show again to other tasks.
            self._reading.wake()

    def send(
        self,
        client: Client,
        data: Buffer,
        *more: Buffer,
        fds: Iterable[int | HasFileno] | None = None,
        shared: Iterable[SharedBytes] | None = None,
    ) -> None:
        """Sends one message to a client. See `parlour.Hub.send`."""
        self._hub.send(client, data, *more, fds=fds, shared=shared)
        self._reading.wake()

    def broadcast(
        self,
        data: Buffer,
        *more: Buffer,
        shared: Iterable[SharedBytes] | None = None,
        exclude: Client | None = None,
    ) -> list[Client]:
        """Sends one message to all clients, or to all but `exclude`. Returns the clients that miss it."""
        missed = self._hub.broadcast(data, *more, shared=shared, exclude=exclude)
        self._reading.wake()
        return missed

    def publish(
        self, topic: str, data: Buffer, *more: Buffer, shared: Iterable[SharedBytes] | None = None
    ) -> list[Client]:
        """Sends one message to the clients that have subscribed to the topic. Returns the clients that miss it."""
        missed = self._hub.publish(topic, data, *more, shared=shared)
        self._reading.wake()
        return missed

    def send_json(self, client: Client, value: Any) -> None:
        """Sends a value as JSON to a client as `send` does. Raises Encoding if it is none."""
        self.send(client, _json.encode(value))

    def broadcast_json(self, value: Any, exclude: Client | None = None) -> list[Client]:
        """Sends a value as JSON to all clients as `broadcast` does. Raises Encoding if it is none."""
        return self.broadcast(_json.encode(value), exclude=exclude)

    def publish_json(self, topic: str, value: Any) -> list[Client]:
        """Sends a value as JSON to the subscribers of a topic as `publish` does. Raises Encoding if it is none."""
        return self.publish(topic, _json.encode(value))

    def subscribe(self, client: Client, prefix: str) -> None:
        """Subscribes a client to the topics that begin with `prefix`."""
        self._hub.subscribe(client, prefix)
        # The client is sent the values that are kept.
        self._reading.wake()

    def unsubscribe(self, client: Client, prefix: str) -> None:
        """Ends a subscription."""
        self._hub.unsubscribe(client, prefix)

    def forget(self, topic: str) -> bool:
        """Forgets the last value of a topic. Returns true if there was one. See `parlour.Hub.forget`."""
        return self._hub.forget(topic)

    def finish(self, client: Client) -> None:
        """Ends sending to a client, after what is buffered for it."""
        self._hub.finish(client)
        self._reading.wake()

    def disconnect(self, client: Client) -> None:
        """Ends the connection of a client."""
        self._hub.disconnect(client)
        self._reading.wake()

    def abort(self, client: Client) -> None:
        """Ends the connection of a client with an error for it. See `parlour.Connection.abort`."""
        self._hub.abort(client)
        self._reading.wake()

    def write_buffer_len(self, client: Client) -> int:
        """Returns the number of bytes that are buffered for a client."""
        return self._hub.write_buffer_len(client)

    def clients(self) -> list[Client]:
        """Returns the clients that are connected."""
        return self._hub.clients()

    def peer(self, client: Client) -> Peer | None:
        """Returns the identity of a client, or None if it has left."""
        return self._hub.peer(client)

    def capabilities(self, client: Client) -> Capabilities | None:
        """Returns the capabilities of the connection of a client, or None if it has left."""
        return self._hub.capabilities(client)

    def transport(self, client: Client) -> str | None:
        """Returns the transport of a client, or None if it has left."""
        return self._hub.transport(client)

    def stats(self) -> ServerStats:
        """Returns the counts of clients."""
        return self._hub.stats()

    def shutdown(self) -> None:
        """Requests the end: iterating ends."""
        self._hub.shutdown()
        self._reading.wake()

    def close(self) -> None:
        """Ends all connections and the name, without waiting for clients that do not read."""
        self._reading.stop()
        self._reading.wake()
        with contextlib.suppress(TimedOut):
            self._hub.close()

    @property
    def closed(self) -> bool:
        """True if the hub was closed."""
        return self._hub.closed

    @property
    def name(self) -> str:
        """The name, without transport and directory."""
        return self._hub.name

    @property
    def path(self) -> Path:
        """The directory of the name."""
        return self._hub.path

    @property
    def transports(self) -> list[str]:
        """The transports on offer, best first."""
        return self._hub.transports

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self.next_event()
        except (Shutdown, HandedOver):
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._hub).replace("parlour.", "parlour.aio.", 1)
