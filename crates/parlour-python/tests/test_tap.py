"""The messages of a server, as another process sees them pass."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import parlour
import pytest
from conftest import DEADLINE, Link, in_thread, outcome, python
from parlour import aio
from test_asyncio import run


@pytest.fixture
def tapped(transport: str, base: Path) -> Iterator[tuple[Link, parlour.Tap]]:
    link = Link(transport, base, {}, {})
    with parlour.tap(link.address) as tap:
        yield link, tap
    link.close()


def test_a_tap_sees_both_directions(tapped: tuple[Link, parlour.Tap]) -> None:
    link, tap = tapped
    before = time.time()
    link.client.send(b"hello")
    link.served.recv(timeout=DEADLINE)
    link.served.send(b"you")
    one, other = tap.recv(timeout=DEADLINE), tap.recv(timeout=DEADLINE)
    assert (one.direction, one.data, one.length, one.client, one.pid) == ("in", b"hello", 5, 1, os.getpid())
    assert (other.direction, other.data, other.length, other.client) == ("out", b"you", 3, 1)
    assert (one.lost, one.descriptors) == (0, 0)
    # The clock of the day and that of the machine are not read at once.
    assert before - 1 < one.at <= other.at < time.time() + 1
    assert "in of client 1, 5 bytes" in repr(one)
    assert tap.try_recv() is None
    assert tap.owner.pid == os.getpid() and str(os.getpid()) in repr(tap)


def test_a_tap_gives_up_at_its_deadline(tapped: tuple[Link, parlour.Tap]) -> None:
    _, tap = tapped
    for timeout in (0, 0.01, 0.1):
        with pytest.raises(parlour.TimedOut, match="no message"):
            tap.recv(timeout=timeout)


def test_iterating_over_a_tap_ends_with_the_server(base: Path) -> None:
    server = python(
        """
        import parlour

        with parlour.Server("unix:room") as server:
            print("ready", flush=True)
            client = server.accept()
            for message in client:
                client.send(message)
        """
    )
    assert server.stdout and server.stdout.readline() == b"ready\n"
    with parlour.connect("room") as client, parlour.tap("room") as tap:
        client.send(b"hello")
        assert client.recv(timeout=DEADLINE) == b"hello"
        # The memory with the messages goes with the server, so it is opened before.
        assert [tap.recv(timeout=DEADLINE).data for _ in range(2)] == [b"hello", b"hello"]
        client.close()
        assert list(tap) == []
        with pytest.raises(parlour.NoServer):
            tap.recv(timeout=DEADLINE)
    assert outcome(server) == (0, "", "")


def test_a_long_message_is_recorded_in_part(base: Path) -> None:
    link = Link("unix", base, {}, {})
    long = bytes(2 << 20)
    with parlour.tap(link.address) as tap, in_thread(lambda: link.client.send(long)):
        assert link.served.recv(timeout=DEADLINE) == long
        message = tap.recv(timeout=DEADLINE)
        assert message.length == len(long) and len(message.data) == 1 << 20
    link.close()


def test_messages_that_are_missed_are_counted(base: Path) -> None:
    link = Link("unix", base, {}, {})
    with parlour.tap(link.address) as tap:
        sent = 0
        # The ring of a tap has less room.
        for _ in range(64):
            with in_thread(lambda: link.client.send(bytes(1 << 20))):
                link.served.recv(timeout=DEADLINE)
            sent += 1
        link.client.send(b"last")
        link.served.recv(timeout=DEADLINE)
        seen = lost = 0
        while True:
            message = tap.recv(timeout=DEADLINE)
            seen, lost = seen + 1, lost + message.lost
            if message.data == b"last":
                break
        assert lost > 0 and seen + lost == sent + 1
    link.close()


def test_a_server_that_is_not_tapped_is_an_error(base: Path) -> None:
    with pytest.raises(parlour.NoServer, match="nobody"):
        parlour.tap("nobody")
    with parlour.Server("unix:room", tap=False), pytest.raises(parlour.Unsupported):
        parlour.tap("room")
    with parlour.Server("unix:room"):
        parlour.tap("room", server_uid=os.geteuid()).close()
        with pytest.raises((parlour.Denied, parlour.NoServer)):
            parlour.tap("room", server_uid=os.geteuid() + 1)


def test_closing_a_tap_ends_the_calls_of_other_threads(base: Path) -> None:
    with parlour.Server("unix:room"):
        tap = parlour.tap("room")
        begun = threading.Event()

        def receive() -> None:
            begun.set()
            tap.recv()

        with in_thread(receive) as receiving:
            assert begun.wait(DEADLINE)
            tap.close()
        assert isinstance(receiving.failures[0], ValueError)
        assert tap.closed and "closed" in repr(tap)
        with pytest.raises(ValueError, match="closed"):
            tap.try_recv()
        tap.close()


def test_a_signal_ends_a_tap_that_waits(base: Path) -> None:
    class Tick(Exception):
        pass

    def tick(*_: object) -> None:
        raise Tick

    with parlour.Server("unix:room"), parlour.tap("room") as tap:
        before = signal.signal(signal.SIGALRM, tick)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Tick):
                next(tap)
        finally:
            signal.signal(signal.SIGALRM, before)


def test_a_tap_stays_with_its_process(base: Path) -> None:
    process = python(
        """
        import os, parlour

        with parlour.Server("unix:room"), parlour.tap("room") as tap:
            child = os.fork()
            if child == 0:
                try:
                    tap.recv(timeout=60)
                except parlour.NameLost:
                    os._exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    assert outcome(process) == (0, "7\n", "")


def test_a_tap_of_an_event_loop_sees_both_directions(transport: str, base: Path) -> None:
    link = Link(transport, base, {}, {})

    async def main() -> None:
        async with aio.tap(link.address) as tap:
            assert tap.owner.pid == os.getpid() and "parlour.aio.Tap" in repr(tap)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await tap.recv()
            receiving = asyncio.ensure_future(tap.recv())
            await asyncio.sleep(0)
            link.client.send(b"hello")
            link.served.recv(timeout=DEADLINE)
            link.served.send(b"you")
            assert (await receiving).data == b"hello"
            assert (await tap.recv()).direction == "out"
            receiving = asyncio.ensure_future(tap.recv())
            await asyncio.sleep(0)
            tap.close()
            assert tap.closed
            with pytest.raises(ValueError, match="closed"):
                await receiving

    run(main())
    link.close()


def test_iterating_over_a_tap_of_an_event_loop_ends_with_the_server(base: Path) -> None:
    server = python(
        """
        import parlour

        with parlour.Server("unix:room") as server:
            print("ready", flush=True)
            for message in server.accept():
                pass
        """
    )
    assert server.stdout and server.stdout.readline() == b"ready\n"

    async def main() -> None:
        async with aio.connect("room") as client, aio.tap("room") as tap:
            await client.send(b"hello")
            assert (await tap.recv()).data == b"hello"
            await client.close()
            assert [message async for message in tap] == []

    run(main())
    assert outcome(server) == (0, "", "")
