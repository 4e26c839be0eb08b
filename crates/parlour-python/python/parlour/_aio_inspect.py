"""Taps of servers and watches of names, for an event loop."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Self

from . import _parlour
from ._errors import NoServer
from ._watch import Watch as FdWatch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._parlour import Owner, Resolution, TapMessage

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


class Watch:
    """A watch on one name, which `parlour.aio.watch` returns.

    A watch is an asynchronous iterator over the Resolution of the name: the present one at first, and another one after
    each change. It is an asynchronous context manager that closes it. See `parlour.Watch`.
    """

    def __init__(self, watch: _parlour.Watch) -> None:
        """Wraps a blocking watch, which must not be used any more."""
        self._watch = watch
        self._reading = FdWatch()
        self._has_looked = False

    def __del__(self) -> None:
        # The event loop must not keep a descriptor that is about to be closed.
        if hasattr(self, "_reading"):
            self._reading.stop()

    async def wait(self) -> None:
        """Waits until one should look at the name again. A cancellation loses no change."""
        while not self._watch.changed():
            await self._reading.wait(self._watch.fileno())

    def look(self) -> Resolution:
        """Looks at the name, as `parlour.resolve` does."""
        self._has_looked = True
        return self._watch.look()

    @property
    def address(self) -> str:
        """The address, as it was given."""
        return self._watch.address

    def close(self) -> None:
        """Ends the watch. Tasks that wait get ValueError. Does nothing if it is closed."""
        self._reading.stop()
        self._reading.wake()
        self._watch.close()

    @property
    def closed(self) -> bool:
        """True if the watch was closed."""
        return self._watch.closed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Resolution:
        if self._has_looked:
            await self.wait()
        return self.look()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._watch).replace("parlour.", "parlour.aio.", 1)


def watch(address: str, *, server_uid: int | None = None) -> Watch:
    """Watches a name. Takes the arguments of `parlour.watch`."""
    return Watch(_parlour.watch(address, server_uid=server_uid))


class Watches:
    """A watch on any number of names. Takes the arguments of `parlour.Watches`.

    It is an asynchronous iterator over the addresses of the names at which one should look again, and an asynchronous
    context manager that closes it.
    """

    def __init__(self, addresses: Iterable[str] | None = None) -> None:
        """Begins to watch these names."""
        self._watches = _parlour.Watches(addresses)
        self._reading = FdWatch()
        # The names that have changed, and that the iterator has not returned yet.
        self._changed: list[str] = []

    def __del__(self) -> None:
        # The event loop must not keep a descriptor that is about to be closed.
        if hasattr(self, "_reading"):
            self._reading.stop()

    def add(self, address: str) -> None:
        """Begins to watch a name. Does nothing if it is watched."""
        self._watches.add(address)

    def remove(self, address: str) -> bool:
        """Ends the watch on a name. Returns False if it is not watched."""
        self._changed = [changed for changed in self._changed if changed != address]
        return self._watches.remove(address)

    async def wait(self) -> list[str]:
        """Waits until one should look at names again, and returns their addresses. A cancellation loses no change."""
        while not (changed := self._take()):
            await self._reading.wait(self._watches.fileno())
        return changed

    def _take(self) -> list[str]:
        changed = self._watches.changed()
        earlier, self._changed = self._changed, []
        return [*earlier, *(address for address in changed if address not in earlier)]

    def close(self) -> None:
        """Ends the watch. Tasks that wait get ValueError. Does nothing if it is closed."""
        self._reading.stop()
        self._reading.wake()
        self._watches.close()

    @property
    def closed(self) -> bool:
        """True if the watch was closed."""
        return self._watches.closed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        first, *self._changed = await self.wait()
        return first

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._watches).replace("parlour.", "parlour.aio.", 1)
