"""Fixtures of the tests: a base directory for each, and connections over each transport."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import parlour
import pytest

# Much more than any step takes on a busy machine.
DEADLINE = 60.0

# A shell starts background jobs with SIGINT ignored, which the programs of the tests would inherit. A signal that has a
# handler here has its default action there.
signal.signal(signal.SIGINT, signal.default_int_handler)

T = TypeVar("T")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base directory of names, which is empty again at the end."""
    path = tmp_path / "base"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("PARLOUR_DIR", str(path))
    return path


@pytest.fixture(params=parlour.TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    name = request.param
    assert isinstance(name, str)
    return name


class Link:
    """A server, and both ends of a connection to it."""

    def __init__(self, transport: str, base: Path, server: dict[str, Any], client: dict[str, Any]) -> None:
        self.address = f"{transport}:{base}/room"
        self.server = parlour.Server(self.address, **server)
        # Some transports need the server for connecting.
        with in_thread(lambda: parlour.connect(self.address, **client)) as connecting:
            self.served = self.server.accept(timeout=DEADLINE)
        self.client = connecting()

    def close(self) -> None:
        for end in (self.client, self.served):
            end.abort()
        self.server.close()


@pytest.fixture
def link(transport: str, base: Path) -> Iterator[Link]:
    made = Link(transport, base, {}, {})
    yield made
    made.close()
    assert not list(base.iterdir())


# The number of the system call in which a blocking call sleeps, ppoll(2), if it is known for this machine.
PPOLL = {"x86_64": "271", "aarch64": "73"}.get(platform.machine())


def is_asleep(thread: threading.Thread) -> bool:
    """Returns true if a thread of this process sleeps in ppoll(2), or has ended."""
    try:
        return Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()[0] == PPOLL
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_asleep(thread: threading.Thread) -> None:
    until = time.monotonic() + DEADLINE
    while PPOLL is not None and not is_asleep(thread):
        assert time.monotonic() < until, "the call does not sleep"
        time.sleep(0.001)


def eventually(holds: Callable[[], bool]) -> None:
    """Waits until a condition holds that nothing reports."""
    until = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < until, "it still does not hold"
        time.sleep(0.001)


class Call(Generic[T]):
    """A call in another thread. It returns the result after its end, or raises."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.call = call
        self.results: list[T] = []
        self.failures: list[BaseException] = []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        try:
            self.results.append(self.call())
        except BaseException as failure:
            self.failures.append(failure)

    def wait_until_asleep(self) -> None:
        wait_until_asleep(self.thread)

    def join(self) -> None:
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()

    def __call__(self) -> T:
        if self.failures:
            raise self.failures[0]
        return self.results[0]


@contextlib.contextmanager
def in_thread(call: Callable[[], T]) -> Iterator[Call[T]]:
    """Calls a function in another thread, which has ended after the block."""
    made = Call(call)
    yield made
    made.join()


def python(code: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Starts an interpreter with this code."""
    command = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def outcome(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Waits for an interpreter, and returns its exit code and what it has written."""
    out, err = process.communicate(timeout=DEADLINE)
    return process.returncode, out.decode(), err.decode()


ECHO = """
import sys, parlour
with parlour.Server(sys.argv[1]) as server:
    print("ready", flush=True)
    for client in server:
        with client:
            for message in client:
                if message != b"silence":
                    client.send(message)
"""


class Echo:
    """A process that echoes, or serves in another way, which can be killed and started again."""

    def __init__(self, address: str, code: str = ECHO) -> None:
        self.address = address
        self.code = code
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = python(self.code, self.address)
        assert self.process.stdout and self.process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        outcome(self.process)
        self.process = None


SERVE_CALLS = """
import sys, parlour

def answer(call):
    if call.data == b"hold":
        held.append(call)
        print("held", flush=True)
        return None
    if call.data == b"push":
        server.push(b"pushed")
    return call.data

held = []
with parlour.CallServer(sys.argv[1]) as server:
    print("ready", flush=True)
    server.serve(answer)
"""


def wait_until_held(server: Echo) -> None:
    """Waits until the server of calls has begun the call that it does not answer."""
    assert server.process and server.process.stdout and server.process.stdout.readline() == b"held\n"


@pytest.fixture
def echo(transport: str, base: Path) -> Iterator[Echo]:
    made = Echo(f"{transport}:{base}/room")
    yield made
    if made.process:
        made.kill()


def message(number: int, length: int) -> bytes:
    """Returns a message that shows its number everywhere."""
    pattern = number.to_bytes(4, "little") * 64
    return (pattern * (length // len(pattern) + 1))[:length]


def fill(connection: parlour.Connection) -> list[bytes]:
    """Sends until the channel is full and something is buffered, and returns the messages."""
    sent: list[bytes] = []
    while connection.try_flush():
        sent.append(message(len(sent), 100_000))
        if not connection.try_send(sent[-1]):
            sent.pop()
            break
    return sent


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def in_shm() -> set[str]:
    """Returns the files of the library in /dev/shm. Other programs have theirs there."""
    return {entry.name for entry in os.scandir("/dev/shm") if "parlour" in entry.name and not entry.is_dir()}
