"""The tap of a server, for an event loop."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Self

from . import _parlour
from ._errors import NoServer

if TYPE_CHECKING:
    from ._parlour import Owner, TapMessage

# The time between two looks at the messages, in seconds. No descriptor reports them, so that they cost the server
# nothing.
_POLL_EVERY = 0.02

# The number of calls in a row that find something to do before they let other tasks run.
_TURNS = 64


class Tap:
    """A tap of a server, which `parlour.aio.tap` begins.

    A tap is an asynchronous iterator over the messages, which ends with the server, and an asynchronous context manager
    that closes it. It looks for messages every 20 ms while a task waits. See `parlour.Tap`.
    """

    def __init__(self, tap: _parlour.Tap) -> None:
        """Wraps a blocking tap, which must not be used any more."""
        self._tap = tap
        self._turns = 0

    async def recv(self) -> TapMessage:
        """Receives one message. Raises NoServer after the end of the server. A cancellation loses no message."""
        self._turns += 1
        if self._turns >= _TURNS:
            self._turns = 0
            await asyncio.sleep(0)
        while (message := self._tap.try_recv()) is None:
            await asyncio.sleep(_POLL_EVERY)
        return message

    @property
    def owner(self) -> Owner:
        """The record of the server that is tapped."""
        return self._tap.owner

    def close(self) -> None:
        """Ends the tap. Tasks that wait for a message get ValueError. Does nothing if it is closed."""
        self._tap.close()

    @property
    def closed(self) -> bool:
        """True if the tap was closed."""
        return self._tap.closed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TapMessage:
        try:
            return await self.recv()
        except NoServer:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._tap).replace("parlour.", "parlour.aio.", 1)


def tap(address: str, *, server_uid: int | None = None) -> Tap:
    """Taps the server of an address. Takes the arguments of `parlour.tap`, and may block as it does."""
    return Tap(_parlour.tap(address, server_uid=server_uid))
