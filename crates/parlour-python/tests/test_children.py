"""Connections to programs that `subprocess` starts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import parlour
import pytest
from conftest import DEADLINE, message, open_fds, outcome, python
from parlour import aio
from test_asyncio import run

INHERITED = ("shm", "packet", "unix")

ECHO = """
import os, parlour

with parlour.from_env() as parent:
    parent.send(str(parent.peer.pid).encode())
    for message in parent:
        parent.send(message)
"""

AIO_ECHO = """
import asyncio, parlour.aio

async def main():
    async with parlour.aio.from_env() as parent:
        async for message in parent:
            await parent.send(message)

asyncio.run(main())
"""


def start(code: str, transport: str, **options: Any) -> tuple[parlour.Connection, subprocess.Popen[bytes]]:
    connection, end = parlour.child_end(transport, **options)
    with end:
        child = python(code, pass_fds=[end.fileno()], env=os.environ | end.env)
    return connection, child


@pytest.mark.parametrize("transport", INHERITED)
def test_a_child_talks_to_its_parent(transport: str) -> None:
    connection, child = start(ECHO, transport)
    with connection:
        assert connection.transport == transport
        assert connection.recv(timeout=DEADLINE) == str(os.getpid()).encode()
        for number, length in enumerate((0, 1, 300_000)):
            connection.send(message(number, length), timeout=DEADLINE)
            assert connection.recv(timeout=DEADLINE) == message(number, length)
        # The parent does not know who starts the child.
        assert (connection.peer.pid, connection.peer.uid) == (None, None)
        connection.finish()
        with pytest.raises(EOFError):
            connection.recv(timeout=DEADLINE)
    assert outcome(child) == (0, "", "")


@pytest.mark.parametrize("transport", INHERITED)
def test_the_end_of_the_child_ends_the_connection(transport: str) -> None:
    connection, child = start(ECHO, transport)
    connection.recv(timeout=DEADLINE)
    child.kill()
    outcome(child)
    with pytest.raises((EOFError, parlour.Disconnected)):
        connection.recv(timeout=DEADLINE)


def test_the_end_of_a_child_is_closed_in_the_parent() -> None:
    before = open_fds()
    connection, end = parlour.child_end("unix")
    assert end.env["PARLOUR_FD"] == str(end.fileno()) and end.env["PARLOUR_FD_TRANSPORT"] == "unix"
    assert not os.get_inheritable(end.fileno()) and str(end.fileno()) in repr(end)
    end.close()
    end.close()
    assert end.closed and "closed" in repr(end)
    with pytest.raises(ValueError, match="closed"):
        end.fileno()
    with pytest.raises(EOFError):
        connection.recv(timeout=DEADLINE)
    connection.close()
    assert open_fds() == before


def test_a_connection_that_no_child_can_inherit_is_an_error() -> None:
    with pytest.raises(parlour.Unsupported):
        parlour.child_end("fifo")
    with pytest.raises(parlour.InvalidOption):
        parlour.child_end("shm", ring_size=1)
    with pytest.raises(TypeError, match="nonsense"):
        parlour.child_end("unix", nonsense=1)  # type: ignore[call-arg]


def test_without_a_parent_there_is_no_connection() -> None:
    code = "import parlour.aio\ntry: parlour.aio.from_env()\nexcept parlour.Unsupported as error: print(error.kind)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PARLOUR_FD")}
    assert outcome(python(code, env=environment)) == (0, "Unsupported\n", "")


@pytest.mark.parametrize("transport", INHERITED)
def test_a_child_and_its_parent_run_event_loops(transport: str) -> None:
    async def main() -> None:
        connection, end = aio.child_end(transport)
        with end:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", AIO_ECHO, pass_fds=[end.fileno()], env=os.environ | end.env
            )
        async with connection:
            await connection.send(b"hello")
            assert await connection.recv() == b"hello"
            await connection.finish()
            with pytest.raises(EOFError):
                await connection.recv()
        assert await child.wait() == 0

    run(main())
