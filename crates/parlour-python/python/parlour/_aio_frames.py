"""Frames for asyncio: memory that one process fills again and again, and its readers read without a copy."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from . import _parlour
from ._errors import TimedOut
from ._watch import Watch

if TYPE_CHECKING:
    from typing_extensions import Buffer, Unpack

    from ._parlour import Client, Frame, FramePoolOptions, Message, ReceivedFrame
    from .aio import Connection, Hub


class AdmittedReader:
    """A reader that a pool has admitted."""

    def __init__(self, reader: _parlour.AdmittedReader, source: Connection | Hub, returning: Watch) -> None:
        """Is called by `FramePool.admit`."""
        self._reader = reader
        self._source = source
        self._returning = returning

    @property
    def held(self) -> int:
        """The number of blocks that the reader holds: 0 after its end."""
        return self._reader.held

    def remove(self) -> None:
        """Sends it no further frames. The blocks that it keeps return when it releases them or dies."""
        self._reader.remove()
        # A send to it that waits fails.
        self._returning.wake()


class FramePool:
    """A pool of blocks for the tasks of one event loop. Takes the arguments of `parlour.FramePool`."""

    def __init__(self, frame_len_max: int, **options: Unpack[FramePoolOptions]) -> None:
        """Allocates the memory."""
        self._pool = _parlour.FramePool(frame_len_max, **options)
        self._returning = Watch()

    def __del__(self) -> None:
        # The event loop must not keep a descriptor that is about to be closed.
        if hasattr(self, "_returning"):
            self._returning.stop()

    @staticmethod
    def is_attach(message: Buffer) -> bool:
        """Returns true if a message is one of a reader that asks to be admitted."""
        return _parlour.FramePool.is_attach(message)

    def admit(self, message: Message, source: Connection | Hub, client: Client | None = None) -> AdmittedReader:
        """Admits a reader, whose message arrived over this connection, or from this client of a hub.

        See `parlour.FramePool.admit`.
        """
        # The module of both imports this one.
        from .aio import Connection

        if isinstance(source, Connection):
            return AdmittedReader(self._pool.admit(message, source._connection, client), source, self._returning)
        return AdmittedReader(self._pool.admit(message, source._hub, client), source, self._returning)

    async def loan(self) -> Frame:
        """Lends a block to be filled. Waits while every block is held. Nothing has happened if it is cancelled."""
        while (frame := self._pool.try_loan()) is None:
            await self._returning.wait(self._pool.fileno())
        return frame

    async def send(self, reader: AdmittedReader, frame: Frame, note: Buffer = b"") -> None:
        """Sends a frame to a reader, with a note. See `parlour.FramePool.send`.

        Waits while the channel is full, and while the reader holds its share with `at_share="wait"`. If the coroutine
        is cancelled, the frame was not sent, or the event loop sends the rest of its message.
        """
        from .aio import Connection

        source = reader._source
        while (waits := self._pool._try_send(reader._reader, frame, note)) != 0:
            if waits == 1:
                await self._returning.wait(self._pool.fileno())
            elif isinstance(source, Connection):
                await source._writable()
        if isinstance(source, Connection):
            await source._drain()
        else:
            # The task that waits for the next event writes.
            source._reading.wake()

    def close(self) -> None:
        """Closes the pool. Frames that were sent remain readable. Tasks that wait for it get ValueError."""
        self._returning.stop()
        self._pool.close()
        self._returning.wake()

    @property
    def closed(self) -> bool:
        """True if the pool was closed."""
        return self._pool.closed

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return self._pool.blocks

    @property
    def frame_len_max(self) -> int:
        """The length in bytes of the longest frame."""
        return self._pool.frame_len_max

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FrameReader:
    """Receives the frames of a pool over a connection: an asynchronous iterator over frames."""

    def __init__(self, reader: _parlour.FrameReader, connection: Connection) -> None:
        """Is called by `attach`."""
        self._reader = reader
        self._connection = connection

    @classmethod
    async def attach(
        cls, connection: Connection, *, frame_max: int | None = None, bytes_max: int | None = None
    ) -> FrameReader:
        """Asks the publisher at the other end to admit this reader. See `parlour.FrameReader`."""
        native = connection._connection
        while True:
            try:
                reader = _parlour.FrameReader(native, frame_max=frame_max, bytes_max=bytes_max, timeout=0)
            except TimedOut:
                await connection._writable()
            else:
                await connection._drain()
                return cls(reader, connection)

    def trust_publisher(self) -> None:
        """Trusts the publisher. See `parlour.FrameReader.trust_publisher` for the promise."""
        self._reader.trust_publisher()

    @staticmethod
    def is_frame(message: Buffer) -> bool:
        """Returns true if a message is a frame, to be passed to `open`."""
        return _parlour.FrameReader.is_frame(message)

    def open(self, message: Message) -> ReceivedFrame:
        """Makes a frame of a message of the publisher, once."""
        return self._reader.open(message)

    async def recv(self) -> ReceivedFrame:
        """Receives the next message, and opens it. Raises EOFError at the end, and Protocol if it is not a frame."""
        return self._reader.open(await self._connection.recv_message())

    def close(self) -> None:
        """Ends the reader. Frames that were opened remain valid."""
        self._reader.close()

    @property
    def closed(self) -> bool:
        """True if the reader was closed."""
        return self._reader.closed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedFrame:
        try:
            return await self.recv()
        except EOFError:
            raise StopAsyncIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
