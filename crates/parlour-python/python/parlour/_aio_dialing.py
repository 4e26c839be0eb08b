"""Connecting of the sessions for an event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from ._errors import NOT_READY
from ._watch import Watch

T = TypeVar("T")
New = TypeVar("New", covariant=True)

_log = logging.getLogger("parlour")


class Steps(Protocol[New]):
    """The steps of a session, which never block."""

    @property
    def closed(self) -> bool: ...
    def dial_fileno(self) -> int: ...
    def reject(self, reason: str) -> None: ...
    def try_dial(self) -> New | None: ...


class Dialing(Generic[T]):
    """The part of a session that connects. Its function after connecting runs in a task of its own.

    A coroutine that is cancelled does not interrupt that task.
    """

    def __init__(
        self, steps: Steps[T], log_in: Callable[[T], Coroutine[Any, Any, None]] | None, use: Callable[[T], object]
    ) -> None:
        """`use` gets each new connection if there is no `log_in`, which uses it at its end."""
        self._steps = steps
        self._log_in = log_in
        self._use = use
        # The task that runs `log_in`.
        self._greeting: asyncio.Task[None] | None = None
        # What no call has raised yet.
        self.failure: Exception | None = None
        self._watch = Watch()

    def raise_failure(self) -> None:
        """Raises the exception that no call has raised yet."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    async def advance(self) -> None:
        """Advances connecting, or waits for something to change."""
        if self._greeting is not None:
            if self._greeting is asyncio.current_task():
                raise RuntimeError("on_connect is called before the session is used; use its connection or caller")
            # If this coroutine is cancelled, the task goes on.
            await asyncio.wait([self._greeting])
            return
        # The step closes the descriptor.
        self._watch.stop()
        fd = None
        try:
            new = self._steps.try_dial()
            if new is None:
                fd = self._steps.dial_fileno()
            else:
                self._greet(new)
        finally:
            if fd is None:
                # Other tasks wait for the descriptor that is closed now.
                self._watch.wake()
        if fd is not None:
            await self._watch.wait(fd)

    def _greet(self, new: T) -> None:
        if self._log_in is None:
            self._use(new)
        else:
            self._greeting = asyncio.get_running_loop().create_task(self._log_in(new))
            # Also if it is cancelled before it begins.
            self._greeting.add_done_callback(self._greeted)

    def _greeted(self, greeting: asyncio.Task[None]) -> None:
        self._greeting = None
        failure = asyncio.CancelledError() if greeting.cancelled() else greeting.exception()
        if failure is None or self._steps.closed:
            return
        self._steps.reject(f"on_connect has failed: {failure!r}")
        if isinstance(failure, Exception) and not isinstance(failure, NOT_READY):
            self.failure = failure
        else:
            _log.info("on_connect has failed, and the session tries again: %r", failure)

    def stop(self) -> None:
        """Takes the descriptor back from the event loop."""
        self._watch.stop()

    def cancel(self) -> asyncio.Task[None] | None:
        """Ends connecting. Returns the task that ends now."""
        greeting = self._greeting
        if greeting is not None:
            greeting.cancel()
        self._watch.stop()
        return greeting

    def wake(self) -> None:
        """Lets the coroutines that wait for a connection look again."""
        self._watch.wake()
