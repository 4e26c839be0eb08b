"""Servers on sockets that a service manager created, which is played by the test."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import parlour
import pytest
from conftest import DEADLINE, in_thread, outcome, python

# Takes the sockets as sd_listen_fds(3) passes them: from descriptor 3 on, for this process.
START = """
import asyncio, fcntl, os, sys, parlour
from parlour import aio

names, *passed = sys.argv[1:]
above = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in passed]
for place, number in enumerate(above):
    os.dup2(number, 3 + place)
    os.close(number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(passed)), LISTEN_FDNAMES=names)

def ready(server):
    print("ready", server.name, flush=True)
    return server
"""

SERVE = {
    "server": """
with ready(parlour.Server.from_listen_fds("room")) as server:
    for client in server:
        for message in client:
            client.send(message)
""",
    "hub": """
with ready(parlour.Hub.from_listen_fds("room")) as hub:
    for event in hub:
        if event.kind == "message":
            hub.send(event.client, event.data)
""",
    "calls": """
with ready(parlour.CallServer.from_listen_fds("room")) as server:
    server.serve(lambda call: call.data)
""",
    "aio server": """
async def echo(client):
    async for message in client:
        await client.send(message)

async def main():
    async with ready(aio.Server.from_listen_fds("room")) as server:
        await server.serve(echo)

asyncio.run(main())
""",
    "aio calls": """
async def answer(call):
    return call.data

async def main():
    async with ready(aio.CallServer.from_listen_fds("room")) as server:
        await server.serve(answer)

asyncio.run(main())
""",
}


class Manager:
    """Listens on the socket of a name, and starts servers with it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o755)
        kind = socket.SOCK_STREAM if path.name == "unix" else socket.SOCK_SEQPACKET
        self.socket = socket.socket(socket.AF_UNIX, kind)
        self.socket.bind(str(path))
        path.chmod(0o600)
        self.socket.listen(100)

    @contextlib.contextmanager
    def start(self, code: str) -> Iterator[subprocess.Popen[bytes]]:
        """Starts a server, and kills it at the end."""
        fd = self.socket.fileno()
        process = python(START + code, "room", str(fd), pass_fds=[fd])
        try:
            yield process
        finally:
            process.kill()
            outcome(process)


def ask(kind: str, address: str) -> bytes:
    if "calls" in kind:
        with parlour.Caller.connect(address, timeout=DEADLINE) as caller:
            return caller.call(b"hello", timeout=DEADLINE)
    with parlour.connect(address, timeout=DEADLINE) as client:
        client.send(b"hello", timeout=DEADLINE)
        return client.recv(timeout=DEADLINE)


@pytest.fixture
def manager(transport: str, base: Path) -> Iterator[Manager]:
    if transport == "fifo":
        pytest.skip("a service manager passes no FIFO")
    made = Manager(base / "room" / transport)
    yield made
    made.socket.close()


@pytest.mark.parametrize("kind", SERVE)
def test_clients_that_came_before_the_start_and_between_starts_are_served(
    kind: str, transport: str, base: Path, manager: Manager
) -> None:
    address = f"{transport}:{base}/room"
    for _ in range(2):
        # The first client asks before there is a server.
        with in_thread(lambda: ask(kind, address)) as asked:
            asked.wait_until_asleep()
            with manager.start(SERVE[kind]) as process:
                assert process.stdout and process.stdout.readline() == b"ready room\n"
                asked.join()
                assert ask(kind, address) == b"hello"
        assert asked() == b"hello"
        assert (base / "room" / transport).is_socket()


def test_a_descriptor_name_selects_the_sockets_and_an_unknown_one_is_an_error(base: Path) -> None:
    manager = Manager(base / "room" / "unix")
    code = """
for kind in (parlour.Server, parlour.Hub, parlour.CallServer, aio.Server, aio.CallServer):
    try:
        kind.from_listen_fds("another")
    except parlour.Unsupported as error:
        assert "another" in str(error), error
with ready(parlour.Server.from_listen_fds(transports=["unix"])):
    pass
"""
    with manager.start(code) as process:
        assert outcome(process) == (0, "ready room\n", "")
    manager.socket.close()
