"""Coroutines that wait for a descriptor, in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Watch:
    """The coroutines that wait until one descriptor is ready.

    The descriptor stays with the event loop while it is used, because adding and removing it costs more than a message.
    """

    def __init__(self, is_writer: bool = False, work: Callable[[], bool] = lambda: False) -> None:
        """`work` is called when the descriptor is ready, and returns true if there is more to do then."""
        self._is_writer = is_writer
        self._work = work
        self._waiters: list[asyncio.Future[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fd = -1

    async def wait(self, fd: int) -> None:
        """Waits until `fd` is ready. The caller then tries again, and must not assume that it can go on."""
        waiter = self.watch(fd).create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def watch(self, fd: int) -> asyncio.AbstractEventLoop:
        """Lets the running event loop watch `fd`."""
        loop = asyncio.get_running_loop()
        if self._fd != fd or self._loop is not loop:
            self.stop()
            if self._is_writer:
                loop.add_writer(fd, self._ready)
            else:
                loop.add_reader(fd, self._ready)
            self._fd, self._loop = fd, loop
        return loop

    def _ready(self) -> None:
        has_more = self._work()
        has_woken = self.wake()
        # Without that the loop would call this function again and again.
        if not has_more and not has_woken:
            self.stop()

    def wake(self) -> bool:
        """Wakes all. Returns true if somebody has waited."""
        if not self._waiters:
            return False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        return True

    def stop(self) -> None:
        """Takes the descriptor back from the event loop."""
        if self._loop is not None and not self._loop.is_closed():
            if self._is_writer:
                self._loop.remove_writer(self._fd)
            else:
                self._loop.remove_reader(self._fd)
        self._loop, self._fd = None, -1
