"""The demo: a server in a child process, clients of both APIs over every transport, a crash, and shared memory."""

from __future__ import annotations

import asyncio
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import parlour

# The longest time that a step takes, also on a busy machine.
_PATIENCE = 20.0

_ROUND_TRIPS = 300

# The program of the server: it serves one client after the other, and answers a shared block with its sum.
_SERVER = """
import sys, parlour
with parlour.Server("demo", transports=parlour.TRANSPORTS, fds_max=1) as server:
    print("ready", flush=True)
    for client in server:
        try:
            while True:
                message = client.recv_message()
                for block in message.take_shared():
                    client.send(str(sum(memoryview(block)[::4096])).encode())
                    break
                else:
                    client.send(message)
        except (EOFError, ConnectionError):
            client.close()
"""


class _Server:
    """A server in a child process."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", _SERVER]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdout and self.process.stderr
        if self.process.stdout.readline() != b"ready\n":
            reason = self.process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
            self.kill()
            raise RuntimeError(f"the server has not started: {reason}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()


class _Stage:
    """The server that the steps use. Each step starts it if it does not run."""

    def __init__(self) -> None:
        self._server: _Server | None = None

    def server(self) -> _Server:
        if self._server is None:
            self._server = _Server()
        return self._server

    def kill(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server = None


_Step = tuple[str, Callable[[_Stage], str]]


def run(here: bool) -> int:
    """Runs the demo, and returns the exit code: 0, or 1 after a failure."""
    began = time.monotonic()
    steps: list[_Step] = [
        (f"a server in another process, and a client, over {transport}", functools.partial(_blocking, transport))
        for transport in parlour.TRANSPORTS
    ]
    steps += [
        ("twenty clients in one event loop of asyncio", _asyncio),
        ("a shared block of 8 MiB that is sent and not copied", _shared),
        ("kill -9 of the server, and the next one takes its name", _crash),
    ]
    try:
        if here:
            failed = _run(steps)
        else:
            with tempfile.TemporaryDirectory(prefix="parlour-demo-") as base:
                os.environ["PARLOUR_DIR"] = base
                failed = _run(steps)
    except OSError as failure:
        print(f"failed: {failure}")
        return 1
    if failed:
        print(f"{failed} of {len(steps)} steps failed")
        return 1
    print(f"everything works, in {time.monotonic() - began:.1f} s")
    return 0


def _run(steps: list[_Step]) -> int:
    failed, stage = 0, _Stage()
    try:
        for title, step in steps:
            print(f"{title}: ", end="", flush=True)
            try:
                print(step(stage), flush=True)
            except Exception as failure:
                failed += 1
                print(f"failed: {failure}", flush=True)
    finally:
        stage.kill()
        # Removes the files of the killed server.
        for status in parlour.names():
            if status.name == "demo":
                parlour.clean(status)
    return failed


def _expect(what: bool, otherwise: str) -> None:
    if not what:
        raise RuntimeError(otherwise)


def _blocking(transport: str, stage: _Stage) -> str:
    stage.server()
    with parlour.connect(f"{transport}:demo", timeout=_PATIENCE) as room:
        _expect(room.peer.uid == os.geteuid(), "the server is that of another user")
        for length in (0, 1, 4096, 1 << 20):
            data = bytes([length % 251]) * length
            room.send(data)
            _expect(room.recv(timeout=_PATIENCE) == data, "a message was changed")
        times = []
        for _ in range(_ROUND_TRIPS):
            start = time.perf_counter()
            room.send(b"hello")
            room.recv(timeout=_PATIENCE)
            times.append(time.perf_counter() - start)
    return f"a round trip in {statistics.median(times) * 1e6:.0f} us"


def _asyncio(_stage: _Stage) -> str:
    async def handle(client: parlour.aio.Connection) -> None:
        async for message in client:
            await client.send(message)

    async def talk(number: int) -> None:
        async with parlour.aio.connect("demo-aio", timeout=_PATIENCE) as room:
            for turn in range(10):
                data = f"{number} {turn}".encode()
                await room.send(data)
                _expect(await asyncio.wait_for(room.recv(), _PATIENCE) == data, "a message was lost")

    async def all_of_them() -> None:
        async with parlour.aio.Server("demo-aio") as server:
            serving = asyncio.create_task(server.serve(handle))
            await asyncio.gather(*(talk(number) for number in range(20)))
            server.shutdown()
            await serving

    asyncio.run(all_of_them())
    return "200 messages came back"


def _shared(stage: _Stage) -> str:
    stage.server()
    with parlour.connect("unix:demo", timeout=_PATIENCE) as room:
        block = parlour.SharedBytes(b"\1" * (8 << 20))
        start = time.perf_counter()
        room.send(b"", shared=[block])
        answer = room.recv(timeout=_PATIENCE)
        took = time.perf_counter() - start
        _expect(int(answer) == len(block) // 4096, "the server has read something else")
    return f"read by the server after {took * 1e3:.1f} ms, and nothing is left in /dev/shm"


def _crash(stage: _Stage) -> str:
    stage.server()
    with parlour.connect("unix:demo", timeout=_PATIENCE) as room:
        room.send(b"before")
        room.recv(timeout=_PATIENCE)
        stage.kill()
        start = time.perf_counter()
        try:
            room.recv(timeout=_PATIENCE)
        except (EOFError, ConnectionError):
            noticed = time.perf_counter() - start
        else:
            raise RuntimeError("the client has not noticed it")
    stage.server()
    with parlour.connect("unix:demo", timeout=_PATIENCE) as room:
        room.send(b"after")
        _expect(room.recv(timeout=_PATIENCE) == b"after", "a message was changed")
    return f"noticed by the client within {max(noticed * 1e3, 0.1):.1f} ms"
