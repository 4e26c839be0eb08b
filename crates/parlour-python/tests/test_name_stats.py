"""The counters of servers: of one's own, and of those of a name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import parlour
import pytest
from conftest import DEADLINE, Echo, Link


def until(what: str, is_right: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not is_right():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_the_counters_of_a_name_are_those_of_its_server(base: Path, transport: str) -> None:
    link = Link(transport, base, {}, {})
    link.client.send(b"hello")
    assert link.served.recv(timeout=DEADLINE) == b"hello"
    link.served.send(b"you")
    assert link.client.recv(timeout=DEADLINE) == b"you"
    stats = parlour.name_stats(link.address)
    assert (stats.open, stats.accepted, stats.refused, stats.refused_by, stats.unlisted) == (1, 1, 0, {}, 0)
    assert stats.exact
    assert (stats.received.messages, stats.received.bytes) == (1, 5)
    assert (stats.sent.messages, stats.sent.bytes) == (1, 3)
    assert stats.owner.pid == os.getpid() and stats.uptime > 0
    (client,) = stats.clients
    assert (client.number, client.transport, client.received, client.sent) == (1, transport, stats.received, stats.sent)
    assert (client.pid, client.uid, client.held) == (os.getpid(), os.getuid(), 0)
    assert 0 < client.connected <= stats.uptime and client.stuck is None
    (same,) = link.server.client_stats()
    assert (same.number, same.pid, same.received, same.sent) == (1, client.pid, client.received, client.sent)
    own = link.server.stats()
    assert (own.received, own.sent) == (stats.received, stats.sent)
    assert "1 messages, 5 bytes" in repr(own.received) and "1 open" in repr(stats) and "pid" in repr(client)
    link.close()


def test_a_client_that_does_not_read_is_stuck(base: Path) -> None:
    with parlour.Hub("unix:room") as hub, parlour.connect("room"):
        assert hub.next_event(timeout=DEADLINE).kind == "joined"
        assert parlour.name_stats("room").clients[0].stuck is None
        hub.broadcast(bytes(1 << 20))

        def is_stuck() -> bool:
            waiting = parlour.name_stats("room").clients[0].stuck
            return waiting is not None and waiting.seconds > 0

        until("a stuck client", is_stuck)
        (stats,) = parlour.name_stats("room").clients
        assert 0 < stats.held < 1 << 21 and stats.stuck is not None and stats.sending is not None
        assert stats.stuck.reason == stats.sending.reason == "space"
        assert "space for" in repr(stats.stuck)


def test_the_counters_of_a_server_have_its_limits_and_the_last_refusal(base: Path) -> None:
    limits = {"connections_max": 7, "connections_per_uid_max": 1, "memory_max": 1 << 30, "memory_per_uid_max": 1 << 29}
    with parlour.Server("unix:room", **limits) as server, parlour.connect("room"):
        stats = server.stats()
        assert {name: getattr(stats, name) for name in limits} == limits
        assert stats.last_refusal is None
        with server.accept(timeout=DEADLINE), parlour.connect("room") as refused:
            with pytest.raises(parlour.TimedOut):
                server.accept(timeout=0)
            with pytest.raises(parlour.Error):
                refused.recv(timeout=DEADLINE)
            last = server.stats().last_refusal
            assert last is not None and last.peer is not None and last.peer.pid == os.getpid()


def test_the_record_of_a_server_identifies_its_process(base: Path) -> None:
    with parlour.Server("unix:room", yields=True):
        (status,) = parlour.names()
        owner = status.owner
        assert owner is not None and owner.yields and owner.protocol >= 1
        # The 22nd field of the file is the 20th one after the name of the program.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        assert owner.start_time == int(fields[19])
        assert owner.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_the_record_of_a_server_tells_whether_it_is_stopped(base: Path) -> None:
    echo = Echo("unix:room")
    echo.start()
    assert echo.process
    (status,) = parlour.names()
    owner = status.owner
    assert owner is not None and owner.is_stopped() is False
    echo.process.send_signal(signal.SIGSTOP)
    until("a stopped server", lambda: owner.is_stopped() is True)
    echo.kill()
    assert owner.is_stopped() is None


def test_a_server_may_keep_its_counters_to_itself(base: Path) -> None:
    link = Link("unix", base, {"stats": False}, {})
    link.client.send(b"hello")
    assert link.served.recv(timeout=DEADLINE) == b"hello"
    assert link.server.client_stats() == []
    assert link.server.stats().open == 1
    with pytest.raises(parlour.Unsupported):
        parlour.name_stats(link.address)
    link.close()


def test_a_name_without_a_server_is_an_error(base: Path) -> None:
    with pytest.raises(parlour.NoServer, match="nobody"):
        parlour.name_stats("nobody")
    with pytest.raises(parlour.InvalidName):
        parlour.name_stats("no/name")


def test_the_counters_tell_the_host_of_a_client_of_a_bridge(base: Path, transport: str) -> None:
    link = Link(transport, base, {}, {"origin": "far.example"})
    (client,) = parlour.name_stats(link.address).clients
    assert client.origin is not None and client.origin.host == "far.example"
    assert link.server.client_stats()[0].origin == client.origin
    link.close()
    link = Link(transport, base, {}, {})
    assert parlour.name_stats(link.address).clients[0].origin is None
    link.close()


def test_the_counters_of_the_server_of_another_user_are_refused(base: Path) -> None:
    with parlour.Server("unix:room"):
        assert parlour.name_stats("room", server_uid=os.geteuid()).open == 0
        with pytest.raises(parlour.Error) as caught:
            parlour.name_stats("room", server_uid=os.geteuid() + 1)
        assert isinstance(caught.value, (parlour.Denied, parlour.NoServer))
