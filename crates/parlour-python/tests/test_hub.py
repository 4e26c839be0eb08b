"""Hubs, over each transport."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import parlour
import pytest
from conftest import DEADLINE, PPOLL, in_thread, message, wait_until_asleep


class Serving:
    """A hub whose events a thread takes, and clients of it."""

    def __init__(self, address: str) -> None:
        self.hub = parlour.Hub(address)
        self.address = address
        self.events: list[parlour.Event] = []
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        for event in self.hub:
            if event.data == b"echo":
                assert event.client is not None
                self.hub.send(event.client, b"an ", event.data)
            with self.changed:
                self.events.append(event)
                self.changed.notify_all()

    def wait_for(self, kind: str, count: int = 1) -> list[parlour.Event]:
        """Waits until so many events of a kind have happened, and returns them."""

        def found() -> list[parlour.Event]:
            return [event for event in self.events if event.kind == kind]

        with self.changed:
            assert self.changed.wait_for(lambda: len(found()) >= count, DEADLINE), self.events
            return found()


@pytest.fixture
def serving(transport: str, base: Path) -> Iterator[Serving]:
    made = Serving(f"{transport}:{base}/room")
    yield made
    made.hub.shutdown()
    made.thread.join(DEADLINE)
    assert not made.thread.is_alive()
    made.hub.close()
    assert not list(base.iterdir())


def test_a_hub_serves_many_clients_in_one_thread(serving: Serving) -> None:
    clients = [parlour.connect(serving.address) for _ in range(5)]
    for client in clients:
        client.send(b"echo")
        assert client.recv(timeout=DEADLINE) == b"an echo"
    joined = serving.wait_for("joined", 5)
    assert [event.client.number for event in joined if event.client] == [1, 2, 3, 4, 5]
    assert {event.peer.pid for event in joined if event.peer} == {os.getpid()}
    assert sorted(serving.hub.clients()) == [event.client for event in joined]
    clients[0].finish()
    serving.wait_for("finished")
    clients[1].close()
    (left,) = serving.wait_for("left")
    assert (left.reason, left.error, left.client) == ("closed", None, joined[1].client)
    assert len(serving.hub.clients()) == 4
    assert "client 2" in repr(left)


def test_other_threads_send_while_one_waits_for_events(serving: Serving) -> None:
    one, other = parlour.connect(serving.address), parlour.connect(serving.address)
    first, second = (event.client for event in serving.wait_for("joined", 2))
    assert first is not None and second is not None and first != second
    assert serving.hub.broadcast(b"to ", b"all") == []
    assert serving.hub.broadcast(b"to the other", exclude=first) == []
    serving.hub.send(first, b"to the first")
    assert [one.recv(timeout=DEADLINE) for _ in range(2)] == [b"to all", b"to the first"]
    assert [other.recv(timeout=DEADLINE) for _ in range(2)] == [b"to all", b"to the other"]
    serving.hub.subscribe(first, "weather/")
    assert serving.hub.publish("weather/today", b"rain") == []
    assert serving.hub.publish("news/today", b"none") == []
    serving.hub.unsubscribe(first, "weather/")
    assert serving.hub.publish("weather/today", b"sun") == []
    serving.hub.send(first, b"last")
    assert [one.recv(timeout=DEADLINE) for _ in range(2)] == [b"rain", b"last"]
    # More than the channel takes: the thread that waits sends the rest.
    big = [message(number, 90_000) for number in range(8)]
    for part in big:
        serving.hub.send(second, part)
    for part in big:
        assert other.recv(timeout=DEADLINE) == part
    serving.hub.finish(first)
    with pytest.raises(EOFError):
        one.recv(timeout=DEADLINE)
    serving.hub.disconnect(second)
    with pytest.raises((EOFError, parlour.Disconnected)):
        other.recv(timeout=DEADLINE)


def test_a_client_that_does_not_read_is_disconnected_or_refused(transport: str, base: Path) -> None:
    for policy in ("disconnect", "refuse"):
        address = f"{transport}:{base}/{policy}"
        with parlour.Hub(address, slow_client=policy, write_buffer_max=100_000) as hub:
            with in_thread(lambda address=address: parlour.connect(address)) as connecting:  # type: ignore[misc]
                joined = hub.next_event(timeout=DEADLINE)
            client = connecting()
            assert joined.client is not None
            missed: list[parlour.Client] = []
            while not missed and hub.clients():
                missed = hub.broadcast(bytes(50_000))
            if policy == "refuse":
                assert missed == [joined.client]
                with pytest.raises(parlour.Busy):
                    hub.send(joined.client, bytes(50_000))
                assert hub.write_buffer_len(joined.client) > 0
            else:
                left = hub.next_event(timeout=DEADLINE)
                assert (left.kind, left.reason) == ("left", "slow")
            client.abort()


@pytest.mark.skipif(PPOLL is None, reason="the number of ppoll is not known for this machine")
def test_waiting_for_events_ends_by_timeout_signal_and_closing(transport: str, base: Path) -> None:
    hub = parlour.Hub(f"{transport}:{base}/room")
    assert hub.try_next_event() is None
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError):
            hub.next_event(timeout=timeout)
    assert not select.select([hub], [], [], 0)[0]

    def interrupt(number: int, frame: object) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread()

    def disturb() -> None:
        wait_until_asleep(main)
        assert main.ident is not None
        signal.pthread_kill(main.ident, signal.SIGUSR1)

    try:
        with in_thread(disturb) as disturbed:
            with pytest.raises(InterruptedError):
                hub.next_event()
        disturbed()
    finally:
        signal.signal(signal.SIGUSR1, before)
    with in_thread(hub.next_event) as waiting:
        waiting.wait_until_asleep()
        hub.close()
    with pytest.raises(ValueError, match="closed"):
        waiting()
    with pytest.raises(ValueError, match="closed"):
        hub.broadcast(b"x")
    assert hub.closed
    assert not list(base.iterdir())


def test_a_value_that_was_forgotten_reaches_no_new_subscriber(base: Path) -> None:
    with parlour.Hub("unix:room", kept_values_max=4) as hub, parlour.connect("room") as client:
        joined = hub.next_event(timeout=DEADLINE).client
        assert joined is not None
        hub.publish("metals/gold", b"gold")
        hub.publish("metals/iron", b"iron")
        assert (hub.forget("metals/gold"), hub.forget("metals/gold"), hub.forget("metals/")) == (True, False, False)
        hub.subscribe(joined, "metals/")
        hub.disconnect(joined)
        assert hub.next_event(timeout=DEADLINE).kind == "left"
        assert list(client) == [b"iron"]


def test_a_refused_client_is_an_event(base: Path) -> None:
    with parlour.Hub("unix:room", connections_max=1) as hub:
        first = parlour.connect("unix:room")
        assert hub.next_event(timeout=DEADLINE).kind == "joined"
        second = parlour.connect("unix:room")
        refused = hub.next_event(timeout=DEADLINE)
        assert (refused.kind, refused.client) == ("refused", None)
        assert refused.refusal is not None and refused.refusal.transport == "unix"
        assert hub.stats().refused == 1
        first.close()
        second.close()
