"""Python with Rust: the program `parlour` is the server or the client at the other end, over each transport.

`$PARLOUR_PROGRAM` names the program. Without it, that of the workspace is used if it is built.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import parlour
import pytest
from conftest import DEADLINE, in_thread, message, outcome, python


def program() -> str | None:
    """Returns the path of the program, or None if it is not built."""
    target = Path(__file__).resolve().parents[3] / "target"
    places = [os.environ.get("PARLOUR_PROGRAM"), target / "debug" / "parlour", target / "release" / "parlour"]
    return next((str(place) for place in places if place and os.access(place, os.X_OK)), None)


PROGRAM = program() or ""
pytestmark = pytest.mark.skipif(not PROGRAM, reason="the program parlour is not built (cargo build -p parlour-cli)")

LONGEST = 16 << 20
# Around each length at which a transport changes its way: prefixes, pipes, buffers, datagrams and rings.
LENGTHS = sorted(
    {0, 1, 2, 3, 4, 5, 100, 1000, LONGEST}
    | {(1 << power) + off for power in range(6, 21) for off in (-5, -4, -1, 0, 1, 4)}
)
COUNT = 10_000


class Program:
    """A process of the program, whose input and output carry messages behind their lengths."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.input: IO[bytes] = self.process.stdin
        self.output: IO[bytes] = self.process.stdout

    def send(self, data: bytes) -> None:
        self.input.write(len(data).to_bytes(4, "big") + data)
        self.input.flush()

    def recv(self) -> bytes:
        """Receives a message, or raises EOFError."""
        prefix = self.output.read(4)
        if not prefix:
            raise EOFError
        length = int.from_bytes(prefix, "big")
        data = self.output.read(length)
        assert len(data) == length
        return data

    def wait(self) -> int:
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def run(*arguments: str) -> Iterator[Program]:
    started = Program(*arguments)
    try:
        yield started
    finally:
        started.kill()
        for stream in (started.process.stdin, started.process.stdout, started.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                if stream:
                    stream.close()


@contextlib.contextmanager
def rust_server(address: str, *how: str) -> Iterator[Program]:
    """A server of the program that takes the options `how`: `--echo`, or a program for each client at the end."""
    with run("serve", address, *how) as server:
        assert server.output.readline().startswith(b"ready room ")
        yield server


@contextlib.contextmanager
def rust_client(server: parlour.Server, address: str) -> Iterator[tuple[Program, parlour.Connection]]:
    """A client of the program, and the end of this process."""
    with run("connect", "--frames", "--timeout", f"{DEADLINE:.0f}s", address) as client:
        yield client, server.accept(timeout=DEADLINE)


def both_ways(
    send: Callable[[bytes], None], end: Callable[[], None], recv: Callable[[], bytes], messages: list[bytes]
) -> None:
    """Sends messages in one thread, and expects them all in this order, and the end."""

    def sending() -> None:
        for data in messages:
            send(data)
        end()

    with in_thread(sending) as sent:
        for number, data in enumerate(messages):
            assert recv() == data, number
        with pytest.raises(EOFError):
            recv()
    sent()


def echo(connection: parlour.Connection) -> None:
    with connection:
        for data in connection:
            connection.send(data)


def lengths() -> list[bytes]:
    return [message(length, length) for length in LENGTHS]


def numbers() -> list[bytes]:
    return [number.to_bytes(4, "little") * (number % 40) for number in range(COUNT)]


@pytest.mark.parametrize("messages", [lengths, numbers])
def test_a_rust_client_gets_every_message_back_from_python(
    messages: Callable[[], list[bytes]], transport: str, base: Path
) -> None:
    address = f"{transport}:room"
    with parlour.Server(address) as server, rust_client(server, address) as (client, served):
        with in_thread(lambda: echo(served)) as echoed:
            both_ways(client.send, client.input.close, client.recv, messages())
            assert client.wait() == 0
        echoed()
    assert not list(base.iterdir())


@pytest.mark.parametrize("messages", [lengths, numbers])
def test_a_rust_client_gets_every_message_back_from_asyncio(
    messages: Callable[[], list[bytes]], transport: str, base: Path
) -> None:
    address = f"{transport}:room"

    async def handle(client: parlour.aio.Connection) -> None:
        async for data in client:
            await client.send(data)

    async def serve() -> None:
        async with parlour.aio.Server(address) as server:
            loop = asyncio.get_running_loop()
            # The client ends the server.
            serving = asyncio.create_task(server.serve(handle))
            await loop.run_in_executor(None, talk)
            server.shutdown()
            await serving

    def talk() -> None:
        with run("connect", "--frames", "--timeout", f"{DEADLINE:.0f}s", address) as client:
            both_ways(client.send, client.input.close, client.recv, messages())
            assert client.wait() == 0

    asyncio.run(serve())
    assert not list(base.iterdir())


@pytest.mark.parametrize("messages", [lengths, numbers])
def test_a_python_client_gets_every_message_back_from_rust(
    messages: Callable[[], list[bytes]], transport: str, base: Path
) -> None:
    address = f"{transport}:room"
    with rust_server(address, "--echo"), parlour.connect(address, timeout=DEADLINE) as client:
        both_ways(client.send, client.finish, lambda: client.recv(timeout=DEADLINE), messages())


@pytest.mark.parametrize("messages", [lengths, numbers])
def test_an_asyncio_client_gets_every_message_back_from_rust(
    messages: Callable[[], list[bytes]], transport: str, base: Path
) -> None:
    address, sent = f"{transport}:room", messages()

    async def talk() -> None:
        async with parlour.aio.connect(address, timeout=DEADLINE) as client:

            async def sending() -> None:
                for data in sent:
                    await client.send(data)
                await client.finish()

            task = asyncio.create_task(sending())
            for number, data in enumerate(sent):
                assert await asyncio.wait_for(client.recv(), DEADLINE) == data, number
            with pytest.raises(EOFError):
                await asyncio.wait_for(client.recv(), DEADLINE)
            await task

    with rust_server(address, "--echo"):
        asyncio.run(talk())


def test_python_answers_a_rust_client_that_has_ended_sending(transport: str, base: Path) -> None:
    address = f"{transport}:room"
    with parlour.Server(address) as server, rust_client(server, address) as (client, served):
        client.send(b"the last")
        client.input.close()
        assert served.recv(timeout=DEADLINE) == b"the last"
        with pytest.raises(EOFError):
            served.recv(timeout=DEADLINE)
        served.send(b"the answer")
        served.feed(b"")
        served.close()
        assert [client.recv(), client.recv()] == [b"the answer", b""]
        assert client.wait() == 0


def test_rust_answers_a_python_client_that_has_ended_sending(transport: str, base: Path) -> None:
    address = f"{transport}:room"
    answers = r"cat >/dev/null; printf '\0\0\0\6answer\0\0\0\0'"
    with rust_server(address, "--frames", "--", "sh", "-c", answers):
        with parlour.connect(address, timeout=DEADLINE) as client:
            client.send(b"the last")
            client.finish()
            assert client.recv(timeout=DEADLINE) == b"answer"
            assert client.recv(timeout=DEADLINE) == b""
            with pytest.raises(EOFError):
                client.recv(timeout=DEADLINE)


def test_python_learns_of_a_killed_rust_client_and_serves_the_next(transport: str, base: Path) -> None:
    address = f"{transport}:room"
    with parlour.Server(address) as server:
        for _ in range(3):
            with rust_client(server, address) as (client, served):
                client.send(b"before")
                assert served.recv(timeout=DEADLINE) == b"before"
                client.kill()
                with pytest.raises((EOFError, ConnectionError)):
                    served.recv(timeout=DEADLINE)
                served.wait_peer_closed(timeout=DEADLINE)
                with contextlib.suppress(ConnectionError):
                    served.close()
    assert not list(base.iterdir())


def test_python_learns_of_a_killed_rust_server_and_takes_its_name(transport: str, base: Path) -> None:
    address = f"{transport}:room"
    with rust_server(address, "--echo") as killed:
        with parlour.connect(address, timeout=DEADLINE) as client:
            client.send(b"before")
            assert client.recv(timeout=DEADLINE) == b"before"
            killed.kill()
            with pytest.raises((EOFError, ConnectionError)):
                client.recv(timeout=DEADLINE)
    with pytest.raises(parlour.NoServer):
        parlour.connect(address)
    parlour.Server(address).close()
    assert not list(base.iterdir())


SERVER = """
    import sys, parlour
    with parlour.Server(sys.argv[1]) as server:
        print("ready", flush=True)
        client = server.accept()
        for data in client:
            client.send(data)
"""


def test_rust_learns_of_a_killed_python_server_and_takes_its_name(transport: str, base: Path) -> None:
    address = f"{transport}:room"
    killed = python(SERVER, address)
    try:
        assert killed.stdout and killed.stdout.readline() == b"ready\n"
        with run("connect", "--frames", "--timeout", f"{DEADLINE:.0f}s", address) as client:
            client.send(b"before")
            assert client.recv() == b"before"
            killed.kill()
            with pytest.raises(EOFError):
                client.recv()
            assert client.wait() == 7
    finally:
        killed.kill()
        outcome(killed)
    with run("call", address, "hello") as call:
        assert call.wait() == 3
    with rust_server(address, "--echo"), parlour.connect(address, timeout=DEADLINE) as next_client:
        next_client.send(b"after")
        assert next_client.recv(timeout=DEADLINE) == b"after"


def test_rust_learns_of_a_killed_python_client_and_serves_the_next(transport: str, base: Path) -> None:
    address = f"{transport}:room"
    code = """
        import sys, parlour
        room = parlour.connect(sys.argv[1], timeout=60)
        room.send(b"before")
        assert room.recv(timeout=60) == b"before"
        print("ready", flush=True)
        room.recv()
    """
    with rust_server(address, "--echo"):
        for _ in range(3):
            with contextlib.ExitStack() as ended:
                killed = python(code, address)
                ended.callback(outcome, killed)
                ended.callback(killed.kill)
                assert killed.stdout and killed.stdout.readline() == b"ready\n"
            with parlour.connect(address, wait=DEADLINE, timeout=DEADLINE) as client:
                client.send(b"after")
                assert client.recv(timeout=DEADLINE) == b"after"
                client.finish()
                with pytest.raises(EOFError):
                    client.recv(timeout=DEADLINE)


def test_a_rust_call_to_a_silent_python_server_times_out(transport: str, base: Path) -> None:
    address = f"{transport}:room"
    with parlour.Server(address) as server:
        with run("call", "--answer-timeout", "100ms", address, "hello") as call:
            with server.accept(timeout=DEADLINE) as served:
                assert served.recv(timeout=DEADLINE) == b"hello"
                assert call.wait() == 6


def test_a_receive_from_a_silent_rust_server_times_out_and_loses_nothing(transport: str, base: Path) -> None:
    address = f"{transport}:room"
    with rust_server(address, "--echo"), parlour.connect(address, timeout=DEADLINE) as client:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                client.recv(timeout=0.01)
        client.send(b"late")
        assert client.recv(timeout=DEADLINE) == b"late"

        async def silent() -> None:
            async with parlour.aio.connect(address, timeout=DEADLINE) as room:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(room.recv(), 0.01)
                await room.send(b"late")
                assert await asyncio.wait_for(room.recv(), DEADLINE) == b"late"

        asyncio.run(silent())


def test_an_aborted_connection_is_an_error_for_a_rust_client(transport: str, base: Path) -> None:
    address = f"{transport}:room"
    with parlour.Server(address) as server, rust_client(server, address) as (client, served):
        client.send(b"x")
        assert served.recv(timeout=DEADLINE) == b"x"
        served.abort()
        assert client.wait() == 7


def test_a_message_over_the_limit_is_an_error_on_both_sides(transport: str, base: Path) -> None:
    address = f"{transport}:room"
    with rust_server(address, "--message-max", "1K", "--echo"):
        with parlour.connect(address, timeout=DEADLINE) as client:
            client.send(bytes(1024))
            assert client.recv(timeout=DEADLINE) == bytes(1024)
            with pytest.raises((OSError, EOFError)):
                client.send(bytes(1025))
                client.recv(timeout=DEADLINE)


def test_many_rust_clients_at_once_are_served_by_python(transport: str, base: Path) -> None:
    address = f"{transport}:room"

    def call(number: int) -> None:
        done = subprocess.run(
            [PROGRAM, "call", "--timeout", f"{DEADLINE:.0f}s", address, f"number {number}"],
            capture_output=True,
            timeout=2 * DEADLINE,
        )
        assert (done.returncode, done.stdout) == (0, f"number {number}\n".encode()), done.stderr

    with parlour.Server(address) as server, ThreadPoolExecutor(16) as pool:

        def serve() -> None:
            for client in server:
                pool.submit(echo, client)

        with in_thread(serve):
            for calling in [pool.submit(call, number) for number in range(12)]:
                calling.result()
            server.shutdown()
        assert server.stats().accepted == 12


@pytest.mark.parametrize("tap", [None, False])
def test_a_server_may_keep_its_messages_to_itself(tap: bool | None, base: Path) -> None:
    command = [PROGRAM, "tap", "--count", "1", "unix:room"]
    with parlour.Server("unix:room", tap=tap) as server:
        client = parlour.connect("unix:room", timeout=DEADLINE)
        with client, server.accept(timeout=DEADLINE) as served, subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as tapping:
            until = time.monotonic() + DEADLINE
            # The program sees the messages from the moment on at which it taps.
            while tapping.poll() is None:
                assert time.monotonic() < until, "the program does not end"
                client.send(b"a secret")
                assert served.recv(timeout=DEADLINE) == b"a secret"
                time.sleep(0.001)
            out, err = tapping.communicate()
    assert (tapping.returncode == 0, b"a secret" in out) == ((tap is None,) * 2), err


def test_many_python_clients_at_once_are_served_by_rust(transport: str, base: Path) -> None:
    address, barrier = f"{transport}:room", threading.Barrier(24)

    def talk(number: int) -> None:
        with parlour.connect(address, timeout=DEADLINE) as client:
            barrier.wait(DEADLINE)
            for turn in range(20):
                data = message(number * 100 + turn, 1 + number * turn * 37)
                client.send(data)
                assert client.recv(timeout=DEADLINE) == data

    with rust_server(address, "--echo"), ThreadPoolExecutor(24) as pool:
        for talking in [pool.submit(talk, number) for number in range(24)]:
            talking.result()


def test_a_rust_program_runs_a_python_script_for_each_client(transport: str, base: Path) -> None:
    address = f"{transport}:room"
    upper = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)"
    with rust_server(address, "--", sys.executable, "-c", upper):
        with parlour.connect(address, timeout=DEADLINE) as client:
            client.send(b"hello")
            assert client.recv(timeout=DEADLINE) == b"HELLO"


def test_json_of_a_rust_call_is_read_by_python(transport: str, base: Path) -> None:
    address = f"{transport}:sums"
    with parlour.Server(address) as server:
        with run("call", "--json", address, '{"Add": [2, 3]}') as call:
            with server.accept(timeout=DEADLINE) as served:
                one, other = json.loads(served.recv(timeout=DEADLINE))["Add"]
                served.send(json.dumps({"Sum": one + other}).encode())
            assert call.wait() == 0
            assert json.loads(call.output.read()) == {"Sum": 5}


def test_each_sees_the_names_of_the_other(base: Path) -> None:
    with parlour.Server("unix:of-python"), run("serve", "unix:of-rust", "--echo") as server:
        assert server.output.readline().startswith(b"ready of-rust ")
        holders = {status.name: status.owner for status in parlour.names()}
        assert {name: owner and owner.pid for name, owner in holders.items()} == {
            "of-python": os.getpid(),
            "of-rust": server.process.pid,
        }
        with run("list") as listed:
            assert listed.wait() == 0
            text = listed.output.read()
        assert b"of-python" in text and b"of-rust" in text
        with pytest.raises(parlour.NameInUse) as taken:
            parlour.Server("unix:of-rust")
        assert taken.value.holder and taken.value.holder.pid == server.process.pid
        with run("serve", "unix:of-python", "--echo") as second:
            assert second.wait() == 4


def test_a_rust_server_takes_the_name_of_a_python_server_over(base: Path) -> None:
    with parlour.Server("unix:room") as former:
        seen: list[str] = []

        def accept() -> None:
            for client in former:
                seen.append("client")
                client.close()

        with in_thread(accept):
            with run("serve", "--take-over=60s", "unix:room", "--echo") as next_server:
                assert next_server.output.readline().startswith(b"ready room ")
                with parlour.connect("unix:room", timeout=DEADLINE) as client:
                    client.send(b"hello")
                    assert client.recv(timeout=DEADLINE) == b"hello"
                next_server.process.send_signal(signal.SIGTERM)
                assert next_server.wait() == 0
        assert seen == []


def test_the_program_calls_a_python_server(transport: str, base: Path) -> None:
    address = f"{transport}:{base}/calls"

    def answer(call: parlour.Call) -> bytes | None:
        if call.data == b"fail":
            call.fail("no")
            return None
        if call.data == b"list":
            for number in range(3):
                call.item(str(number).encode())
            call.end()
            return None
        return call.data.upper()

    with parlour.CallServer(address) as server, in_thread(lambda: server.serve(answer)) as serving:
        for request, code, expected in (
            ("hello", 0, b"HELLO\n"),
            ("list", 0, b"0\n1\n2\n"),
            ("fail", 11, b""),
        ):
            with run("call", "--id", "--timeout", f"{DEADLINE:.0f}s", address, request) as call:
                assert call.wait() == code
                assert call.output.read() == expected
        server.shutdown()
    serving()


def test_python_calls_the_notes_server_of_the_examples(base: Path, tmp_path: Path) -> None:
    notes = Path(PROGRAM).parent / "examples" / "notes"
    if not notes.exists():
        pytest.skip("the example is not built (cargo build -p parlour --example notes)")
    server = subprocess.Popen([notes, str(tmp_path / "notes.json")])
    try:
        with (
            parlour.Caller.connect("notes", wait=DEADLINE) as caller,
            parlour.Caller.connect("notes", wait=DEADLINE) as other,
        ):
            assert json.loads(other.call(b'"List"', timeout=DEADLINE)) == []
            assert json.loads(caller.call(b'{"Add":"buy milk"}', timeout=DEADLINE)) == ["buy milk"]
            assert other.next_push(timeout=DEADLINE) == b"buy milk"
            assert json.loads(other.call(b'"List"', timeout=DEADLINE)) == ["buy milk"]
            with pytest.raises(parlour.CallFailed):
                caller.call(b"no JSON", timeout=DEADLINE)

        async def notice() -> None:
            async with parlour.aio.Caller.connect("notes") as caller:
                assert json.loads(await caller.call(b'"List"')) == ["buy milk"]

        asyncio.run(notice())
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(DEADLINE) == 0
