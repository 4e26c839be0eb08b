"""The blocking API, over each transport."""

from __future__ import annotations

import array
import contextlib
import multiprocessing.connection
import os
import select
import selectors
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import parlour
import pytest
from conftest import DEADLINE, Call, Link, fill, in_thread, message


def test_messages_arrive_whole_and_in_order_each_way(link: Link) -> None:
    lengths = [0, 1, 3, 1000, 70_000, 0, 3_000_000, 5]

    def send_all(sender: parlour.Connection) -> None:
        for number, size in enumerate(lengths):
            sender.send(message(number, size), timeout=DEADLINE)

    for sender, receiver in [(link.client, link.served), (link.served, link.client)]:
        with in_thread(partial(send_all, sender)) as sent:
            for number, size in enumerate(lengths):
                assert receiver.recv(timeout=DEADLINE) == message(number, size)
        sent()


def test_an_echo_server_in_fifteen_lines(transport: str, base: Path) -> None:
    def serve() -> None:
        with server:
            for client in server:
                with client:
                    for received in client:
                        client.send(received)

    server = parlour.Server(f"{transport}:{base}/echo")
    with in_thread(serve) as served:
        with parlour.connect(f"{transport}:{base}/echo", wait=DEADLINE) as room:
            room.send(b"hello")
            assert room.recv(timeout=DEADLINE) == b"hello"
        server.shutdown()
    served()
    assert not list(base.iterdir())


def test_anything_with_the_buffer_protocol_can_be_sent(link: Link) -> None:
    numbers = array.array("i", range(100))
    for data in (b"bytes", bytearray(b"bytearray"), memoryview(b"view"), numbers, memoryview(numbers)):
        link.client.send(data)
        assert link.served.recv(timeout=DEADLINE) == bytes(data)
    link.client.send(b"in ", bytearray(b"several "), memoryview(b"parts"))
    assert link.served.recv(timeout=DEADLINE) == b"in several parts"
    with pytest.raises(TypeError):
        link.client.send("text")  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        link.client.send(memoryview(b"every second byte")[::2])
    link.client.send(b"still usable")
    assert link.served.recv(timeout=DEADLINE) == b"still usable"


def test_recv_into_fills_a_buffer_and_keeps_a_message_that_does_not_fit(link: Link) -> None:
    buffer = bytearray(8)
    link.client.send(b"12345")
    assert link.served.recv_into(buffer, timeout=DEADLINE) == 5
    assert buffer == b"12345\0\0\0"
    numbers = array.array("d", [0.0] * 3)
    link.client.send(array.array("d", [1.0, 2.0, 3.0]))
    assert link.served.recv_into(numbers, timeout=DEADLINE) == 24
    assert list(numbers) == [1.0, 2.0, 3.0]
    link.client.send(b"too long for it")
    with pytest.raises(parlour.BufferTooSmall, match="15 bytes") as caught:
        link.served.recv_into(buffer, timeout=DEADLINE)
    assert caught.value.needed == 15
    assert link.served.has_message()
    assert link.served.recv(timeout=0) == b"too long for it"
    with pytest.raises((BufferError, TypeError)):
        link.served.recv_into(b"read-only")


def test_a_message_that_does_not_fit_stays_the_next_one_for_every_thread(link: Link) -> None:
    count = 2000
    received: list[int] = []

    def take() -> None:
        # One at a time, so that the list has the order in which the messages were received.
        while len(received) < count:
            with guard:
                try:
                    got = link.served.recv(timeout=0)
                except TimeoutError:
                    continue
                received.append(int.from_bytes(got[:4], "little"))

    def probe() -> None:
        buffer = bytearray(3)
        while len(received) < count:
            with contextlib.suppress(parlour.BufferTooSmall, TimeoutError):
                link.served.recv_into(buffer, timeout=0.001)

    guard = threading.Lock()
    threads = [threading.Thread(target=call, daemon=True) for call in (take, take, probe, probe, probe)]
    for thread in threads:
        thread.start()
    for number in range(count):
        link.client.send(message(number, 8), timeout=DEADLINE)
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert received == list(range(count))


def test_timeouts_raise_and_lose_nothing(link: Link) -> None:
    for timeout in (0, 0.01, -1):
        with pytest.raises(parlour.TimedOut) as caught:
            link.client.recv(timeout=timeout)
        assert isinstance(caught.value, TimeoutError)
        with pytest.raises(TimeoutError):
            link.server.accept(timeout=timeout)
    assert link.client.try_recv() is None
    assert link.server.try_accept() is None
    sent = fill(link.client)
    taken = link.client.messages_taken
    assert taken == len(sent)
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError):
            link.client.send(message(1000, 100_000), timeout=timeout)
        if not link.client.try_flush():
            with pytest.raises(TimeoutError):
                link.client.flush(timeout=timeout)
    assert not link.client.try_send(message(1000, 100_000))
    assert link.client.messages_taken == taken
    with in_thread(lambda: link.client.flush(timeout=DEADLINE)) as flushed:
        for expected in sent:
            assert link.served.recv(timeout=DEADLINE) == expected
    flushed()
    assert link.client.try_flush()
    link.client.send(b"last")
    assert link.served.recv(timeout=DEADLINE) == b"last"
    with pytest.raises(ValueError, match="not a number"):
        link.client.recv(timeout=float("nan"))


def test_a_blocked_send_goes_on_when_the_peer_reads(link: Link) -> None:
    big = message(7, 12_000_000)
    with in_thread(lambda: link.client.send(big, timeout=DEADLINE)) as sent:
        assert link.served.recv(timeout=DEADLINE) == big
    sent()


def test_the_end_is_an_eof_error_and_ends_iteration(link: Link) -> None:
    link.client.send(b"one")
    link.client.finish()
    assert list(link.served) == [b"one"]
    for receive in (link.served.recv, link.served.try_recv, link.served.recv_message, link.served.try_recv_message):
        with pytest.raises(EOFError):
            receive()
    with pytest.raises(parlour.Disconnected, match="finish"):
        link.client.send(b"after the end")
    # The other direction goes on.
    link.served.send(b"two")
    assert link.client.recv(timeout=DEADLINE) == b"two"
    link.served.close()
    with pytest.raises(EOFError):
        link.client.recv(timeout=DEADLINE)
    link.client.wait_peer_closed(timeout=DEADLINE)
    assert link.client.peer_closed


def test_sending_to_a_peer_that_has_gone_raises_disconnected(link: Link) -> None:
    assert not link.client.peer_closed
    with pytest.raises(TimeoutError):
        link.client.wait_peer_closed(timeout=0.01)
    link.served.close()
    with pytest.raises(ConnectionResetError) as caught:
        for _ in range(100):
            link.client.send(b"?")
    assert isinstance(caught.value, parlour.Disconnected)
    assert caught.value.kind == "Disconnected"


def test_fed_messages_are_written_before_recv_waits(link: Link) -> None:
    link.client.feed(b"one")
    link.client.feed(b"t", b"wo")
    with in_thread(lambda: link.client.recv(timeout=DEADLINE)) as answer:
        assert link.served.recv(timeout=DEADLINE) == b"one"
        assert link.served.recv(timeout=DEADLINE) == b"two"
        link.served.send(b"answer")
    assert answer() == b"answer"
    assert link.client.messages_taken == 2


def test_abort_shows_the_peer_that_something_is_missing(link: Link) -> None:
    link.client.send(b"the first half")
    link.client.abort()
    assert link.served.recv(timeout=DEADLINE) == b"the first half"
    with pytest.raises((parlour.Truncated, parlour.Disconnected)):
        link.served.recv(timeout=DEADLINE)


def test_a_closed_connection_raises_value_error(link: Link) -> None:
    with link.client:
        pass
    assert link.client.closed
    link.client.close()
    for call in (link.client.recv, link.client.fileno, link.client.flush, link.client.has_message):
        with pytest.raises(ValueError, match="closed"):
            call()
    with pytest.raises(ValueError, match="closed"):
        link.client.send(b"x")
    assert "closed" in repr(link.client)


@pytest.mark.parametrize("is_asleep", [True, False])
def test_closing_wakes_the_threads_that_wait(link: Link, is_asleep: bool) -> None:
    sent = fill(link.client)
    assert sent
    calls: list[Callable[[], object]] = [link.client.recv, link.client.wait_peer_closed]
    calls.append(lambda: link.client.send(message(0, 100_000)))
    if not link.client.try_flush():
        calls.append(link.client.flush)
    # Also a thread that has not begun to wait must find it closed.
    made = [Call(call) for call in calls]
    if is_asleep:
        for call in made:
            call.wait_until_asleep()
    link.client.abort()
    for call in made:
        call.join()
        with pytest.raises(ValueError, match="closed"):
            call()


@pytest.mark.parametrize("is_asleep", [True, False])
def test_closing_a_server_wakes_the_threads_that_accept(transport: str, base: Path, is_asleep: bool) -> None:
    server = parlour.Server(f"{transport}:{base}/room")
    with in_thread(server.accept) as accepted:
        if is_asleep:
            accepted.wait_until_asleep()
        server.close()
    with pytest.raises((ValueError, parlour.Shutdown, parlour.NameLost)):
        accepted()
    assert not list(base.iterdir())


def test_an_error_that_ends_the_connection_ends_every_call(transport: str, base: Path) -> None:
    link = Link(transport, base, {"message_max": 1000}, {"message_max": 2000})
    made = [Call(link.served.recv) for _ in range(3)]
    for call in made:
        call.wait_until_asleep()
    # One of the threads takes all of it out of the channel.
    link.client.send(bytes(1001))
    for call in made:
        call.join()
        with pytest.raises((parlour.MessageTooLong, parlour.Disconnected)):
            call()
    link.close()


@pytest.mark.parametrize("send", ["try_send", "send", "feed"])
def test_a_thread_that_sleeps_in_recv_writes_what_another_one_leaves_in_the_buffer(link: Link, send: str) -> None:
    big = message(1, 8_000_000)
    with in_thread(lambda: link.served.recv(timeout=DEADLINE)) as answer:
        answer.wait_until_asleep()
        if send == "try_send":
            assert link.served.try_send(big)
        else:
            getattr(link.served, send)(big, timeout=0)
        assert link.client.recv(timeout=DEADLINE) == big
        link.client.send(b"the answer")
    assert answer() == b"the answer"


def test_many_threads_share_a_connection(link: Link) -> None:
    count, threads = 200, 4
    received: list[bytes] = []
    guard = threading.Lock()

    def receive() -> None:
        while True:
            try:
                got = link.served.recv(timeout=DEADLINE)
            except EOFError:
                return
            with guard:
                received.append(got)
            link.served.send(got[:4])

    def send(sender: int) -> None:
        for number in range(count):
            link.client.send(message(sender * count + number, 4 + number % 7 * 5000), timeout=DEADLINE)

    def collect() -> None:
        for _ in range(count * threads):
            answers.append(link.client.recv(timeout=DEADLINE))

    answers: list[bytes] = []
    receivers = [threading.Thread(target=receive, daemon=True) for _ in range(threads)]
    senders = [threading.Thread(target=send, args=(sender,), daemon=True) for sender in range(threads)]
    collector = threading.Thread(target=collect, daemon=True)
    for thread in [*receivers, *senders, collector]:
        thread.start()
    for thread in [*senders, collector]:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    link.client.finish()
    for thread in receivers:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    expected = sorted(message(number, 4) for number in range(count * threads))
    assert sorted(answers) == expected
    assert sorted(got[:4] for got in received) == expected
    for got in received:
        number = int.from_bytes(got[:4], "little")
        assert got == message(number, len(got))


def test_select_selectors_and_multiprocessing_wait_work(link: Link) -> None:
    assert not select.select([link.client], [], [], 0)[0]
    waitable: list[Any] = [link.client]
    assert multiprocessing.connection.wait(waitable, timeout=0) == []
    # The last attempt to receive prepares for the wait.
    assert link.client.try_recv() is None
    link.served.send(b"hello")
    assert select.select([link.client], [], [], DEADLINE)[0] == [link.client]
    assert multiprocessing.connection.wait(waitable, timeout=DEADLINE) == waitable
    with selectors.DefaultSelector() as selector:
        selector.register(link.client, selectors.EVENT_READ, "client")
        assert [key.data for key, _ in selector.select(DEADLINE)] == ["client"]
    assert link.client.try_recv() == b"hello"
    assert link.client.send_fileno() is not None
    link.client.finish()
    assert link.client.send_fileno() is None


def test_both_ends_know_each_other(link: Link) -> None:
    assert link.client.transport == link.address.split(":")[0]
    assert link.served.transport == link.client.transport
    assert link.client.message_max == 16 << 20
    peer = link.served.peer
    assert peer.uid == os.getuid()
    assert peer.uid_provenance >= parlour.Provenance.FILE_OWNER
    assert peer.pid == os.getpid()
    if link.client.transport != "fifo":
        assert (peer.gid, peer.gid_provenance) == (os.getgid(), parlour.Provenance.KERNEL)
        assert peer.pid_provenance is parlour.Provenance.KERNEL
    assert peer == link.served.peer
    assert link.client.transport in repr(link.client)


def test_messages_longer_than_the_limit_are_refused_and_the_connection_goes_on(transport: str, base: Path) -> None:
    link = Link(transport, base, {"message_max": 1000}, {"message_max": 1000})
    with pytest.raises(parlour.MessageTooLong, match="1001 bytes") as caught:
        link.client.send(bytes(1001))
    assert isinstance(caught.value, ValueError)
    link.client.send(bytes(1000))
    assert len(link.served.recv(timeout=DEADLINE)) == 1000
    link.close()


@pytest.mark.parametrize("transport", parlour.TRANSPORTS)
def test_a_pair_needs_no_server(transport: str) -> None:
    one, other = parlour.pair(transport, message_max=100)
    with one, other:
        one.send(b"hello")
        assert other.recv(timeout=DEADLINE) == b"hello"
        assert one.message_max == 100
