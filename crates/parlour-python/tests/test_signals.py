"""Signals: a handler runs while a call blocks, and if it raises, the call ends and no message is lost."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import parlour
import pytest
from conftest import DEADLINE, PPOLL, Link, fill, in_thread, message, wait_until_asleep

pytestmark = pytest.mark.skipif(PPOLL is None, reason="the number of ppoll is not known for this machine")


class Interrupt(Exception):
    """Raised by the handler of the tests."""


@pytest.fixture
def interrupt() -> Iterator[Callable[[Callable[[], Any]], None]]:
    """Returns a function that makes a call, and checks that a signal ends it once it sleeps."""
    before = signal.getsignal(signal.SIGINT)
    main = threading.main_thread()

    def raise_interrupt(number: int, frame: object) -> None:
        raise Interrupt

    def send() -> None:
        assert main.ident is not None
        wait_until_asleep(main)
        signal.pthread_kill(main.ident, signal.SIGINT)

    def check(call: Callable[[], Any]) -> None:
        with in_thread(send) as sent:
            with pytest.raises(Interrupt):
                call()
        sent()

    signal.signal(signal.SIGINT, raise_interrupt)
    yield check
    signal.signal(signal.SIGINT, before)


Check = Callable[[Callable[[], Any]], None]


def test_a_signal_ends_every_call_that_receives(link: Link, interrupt: Check) -> None:
    for receive in (
        link.client.recv,
        lambda: link.client.recv(timeout=DEADLINE),
        link.client.recv_message,
        lambda: link.client.recv_into(bytearray(100)),
        lambda: next(link.client),
        link.client.wait_peer_closed,
    ):
        interrupt(receive)
        link.served.send(b"after")
        assert link.client.recv(timeout=DEADLINE) == b"after"


def test_a_signal_that_another_thread_gets_ends_a_call_of_the_main_thread(link: Link, interrupt: Check) -> None:
    def send() -> None:
        wait_until_asleep(threading.main_thread())
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    for receive in (link.client.recv, lambda: link.client.recv(timeout=DEADLINE)):
        with in_thread(send) as sent:
            with pytest.raises(Interrupt):
                receive()
        sent()
    link.served.send(b"after")
    assert link.client.recv(timeout=DEADLINE) == b"after"


def test_a_signal_in_the_middle_of_a_message_loses_no_part_of_it(link: Link, interrupt: Check) -> None:
    big = message(3, 8_000_000)
    if not link.served.try_send(big) or link.served.try_flush():
        pytest.skip("the channel has room for the whole message")
    interrupt(link.client.recv)
    with in_thread(lambda: link.served.flush(timeout=DEADLINE)) as flushed:
        assert link.client.recv(timeout=DEADLINE) == big
    flushed()


def test_a_signal_ends_every_call_that_sends(link: Link, interrupt: Check) -> None:
    sent = fill(link.client)
    calls: list[tuple[Callable[..., None], bytes | None]] = [
        (link.client.send, message(1, 100_000)),
        (link.client.feed, message(2, 100_000)),
    ]
    if not link.client.try_flush():
        calls += [(link.client.flush, None), (link.client.finish, None)]
    for call, data in calls:
        taken = link.client.messages_taken
        interrupt(call if data is None else partial(call, data))
        if link.client.messages_taken > taken:
            assert data is not None
            sent.append(data)
    with in_thread(lambda: link.client.close(timeout=DEADLINE)) as closed:
        assert [link.served.recv(timeout=DEADLINE) for _ in sent] == sent
        with pytest.raises(EOFError):
            link.served.recv(timeout=DEADLINE)
    closed()


def test_a_signal_ends_close_and_the_connection_is_closed(link: Link, interrupt: Check) -> None:
    fill(link.client)
    if link.client.try_flush():
        pytest.skip("nothing is buffered")
    interrupt(link.client.close)
    assert link.client.closed


def test_a_signal_ends_the_close_of_a_hub_and_it_is_closed(transport: str, base: Path, interrupt: Check) -> None:
    address = f"{transport}:{base}/room"
    for timeout in (None, DEADLINE):
        hub = parlour.Hub(address)
        with in_thread(lambda: parlour.connect(address)) as connecting:
            client = hub.next_event(timeout=DEADLINE).client
        room = connecting()
        assert client is not None
        while hub.write_buffer_len(client) == 0:
            hub.send(client, bytes(100_000))
            assert hub.try_next_event() is None
        interrupt(partial(hub.close, timeout))
        assert hub.closed
        assert not list(base.iterdir())
        room.abort()


def test_a_signal_ends_accepting_and_no_client_is_lost(transport: str, base: Path, interrupt: Check) -> None:
    with parlour.Server(f"{transport}:{base}/room") as server:
        interrupt(server.accept)
        interrupt(lambda: server.accept(timeout=DEADLINE))
        interrupt(lambda: next(server))
        with in_thread(lambda: parlour.connect(f"{transport}:{base}/room")) as connected:
            with server.accept(timeout=DEADLINE) as served:
                served.send(b"hello")
        assert connected().recv(timeout=DEADLINE) == b"hello"


def test_a_signal_ends_connecting(transport: str, base: Path, interrupt: Check) -> None:
    interrupt(lambda: parlour.connect(f"{transport}:{base}/room", wait=DEADLINE))
    with parlour.Server(f"{transport}:{base}/room"):
        if transport in ("shm", "fifo"):
            # The server does not answer the handshake.
            interrupt(lambda: parlour.connect(f"{transport}:{base}/room", timeout=DEADLINE))


def test_a_signal_ends_taking_a_name_over(base: Path, interrupt: Check) -> None:
    with parlour.Server("unix:room") as server, parlour.Hub("unix:hub") as hub:
        # Nobody waits for clients, so nobody answers.
        interrupt(lambda: parlour.Server("unix:room", take_over=DEADLINE))
        interrupt(lambda: parlour.Hub("unix:hub", take_over=DEADLINE))
        with pytest.raises(parlour.Busy):
            parlour.Server("unix:room", take_over=0.05)
        # Both still have their names.
        with parlour.connect("unix:room"), parlour.connect("unix:hub"):
            server.accept(timeout=DEADLINE)
            assert hub.next_event(timeout=DEADLINE).kind == "joined"


def test_a_handler_that_returns_does_not_end_the_call(link: Link) -> None:
    handled: list[int] = []
    main = threading.main_thread()

    def disturb() -> None:
        assert main.ident is not None
        for count in range(3):
            wait_until_asleep(main)
            signal.pthread_kill(main.ident, signal.SIGUSR1)
            while len(handled) == count:
                time.sleep(0.001)
        link.served.send(b"after the signals")

    before = signal.signal(signal.SIGUSR1, lambda number, frame: handled.append(number))
    try:
        with in_thread(disturb) as disturbed:
            assert link.client.recv(timeout=DEADLINE) == b"after the signals"
        disturbed()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled == [signal.SIGUSR1] * 3


def test_a_handler_may_use_the_connection(link: Link) -> None:
    main = threading.main_thread()

    def answer(number: int, frame: object) -> None:
        link.client.send(b"from the handler")

    def disturb() -> None:
        assert main.ident is not None
        wait_until_asleep(main)
        signal.pthread_kill(main.ident, signal.SIGUSR1)
        link.served.send(link.served.recv(timeout=DEADLINE))

    before = signal.signal(signal.SIGUSR1, answer)
    try:
        with in_thread(disturb) as disturbed:
            assert link.client.recv(timeout=DEADLINE) == b"from the handler"
        disturbed()
    finally:
        signal.signal(signal.SIGUSR1, before)
