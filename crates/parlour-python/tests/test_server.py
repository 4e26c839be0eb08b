"""Servers: names, options, policies, counts, and names of the machine."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import parlour
import pytest
from conftest import DEADLINE, Call, Link, in_thread, open_fds, outcome, python


def test_a_server_offers_several_transports_under_one_name(base: Path) -> None:
    with parlour.Server("room", transports=["shm", "unix", "fifo"]) as server:
        assert server.name == "room"
        assert server.path == base / "room"
        assert server.transports == ["shm", "unix", "fifo"]
        for transport in ("shm", "unix", "fifo"):
            with in_thread(partial(parlour.connect, f"{transport}:room")) as connecting:
                served = server.accept(timeout=DEADLINE)
            assert connecting().transport == served.transport == transport
        stats = server.stats()
        assert (stats.accepted, stats.refused) == (3, 0)
        assert "room" in repr(server)
    assert server.closed
    with pytest.raises(ValueError, match="closed"):
        server.accept()


def test_names_lists_servers_and_clean_removes_what_dead_ones_left(base: Path) -> None:
    assert parlour.names() == []
    with parlour.Server("room"):
        (status,) = parlour.names()
        assert (status.name, status.state, status.transports) == ("room", "live", ["unix"])
        assert (status.path, status.base) == (base / "room", base)
        assert status.owner is not None and status.owner.pid == os.getpid()
        assert not parlour.clean(status)
    assert parlour.names() == []
    (base / "dead").mkdir(mode=0o700)
    (base / "dead" / "lock").touch(mode=0o600)
    (status,) = parlour.names()
    assert status.state == "dead"
    assert parlour.clean(status)
    assert parlour.names() == []


def test_a_policy_decides_about_each_client(base: Path) -> None:
    seen: list[parlour.Peer] = []

    def allow(peer: parlour.Peer) -> bool:
        seen.append(peer)
        return len(seen) > 1

    with parlour.Server("unix:room", allow=allow) as server:
        # Refusals are kept from the first call on.
        assert server.next_refusal() is None
        first = parlour.connect("unix:room")
        second = parlour.connect("unix:room")
        served = server.accept(timeout=DEADLINE)
        served.send(b"welcome")
        assert second.recv(timeout=DEADLINE) == b"welcome"
        with pytest.raises((parlour.Refused, EOFError)):
            first.recv(timeout=DEADLINE)
        assert [peer.uid for peer in seen] == [os.getuid()] * 2
        assert server.stats().refused == 1
        assert sum(server.stats().refused_by.values()) == 1
        refusal = server.next_refusal()
        assert refusal is not None and refusal.peer is not None
        assert refusal.peer.uid == os.getuid()
        assert refusal.transport == "unix"
        assert server.next_refusal() is None


def test_a_policy_that_raises_refuses_the_client_and_is_logged(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    with parlour.Server("unix:room", allow=lambda peer: 1 / 0) as server:
        client = parlour.connect("unix:room")
        with pytest.raises(TimeoutError):
            server.accept(timeout=0.05)
        with pytest.raises((parlour.Refused, EOFError)):
            client.recv(timeout=DEADLINE)
        assert server.stats().refused == 1
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("parlour", "ERROR")
    assert record.exc_info and record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("kind", [parlour.Server, parlour.Hub])
def test_a_policy_that_uses_its_own_server_gets_an_error(kind: Any, base: Path) -> None:
    failures: list[str] = []

    def allow(peer: parlour.Peer) -> bool:
        calls = [server.close]
        if kind is parlour.Hub:
            calls += [server.clients, server.try_next_event, server.next_event, lambda: server.broadcast(b"x")]
        else:
            calls += [server.try_accept, server.accept]
        for call in calls:
            with pytest.raises(RuntimeError, match="allow") as caught:
                call()
            failures.append(str(caught.value))
        # A server may use the calls that change nothing.
        assert kind is parlour.Hub or server.stats().accepted == 0
        return True

    with kind("unix:room", allow=allow) as server:
        client = parlour.connect("unix:room")
        with in_thread(lambda: (server.next_event if kind is parlour.Hub else server.accept)(DEADLINE)) as taken:
            pass
        assert taken() is not None
        assert len(failures) >= 3
        assert not server.closed
        client.close()


def test_ctrl_c_while_a_policy_decides_ends_the_call(base: Path) -> None:
    process = python(
        """
        import os, signal, parlour

        def allow(peer):
            os.kill(os.getpid(), signal.SIGINT)
            return True

        with parlour.Server("unix:room", allow=allow) as server:
            client = parlour.connect("unix:room")
            try:
                server.accept()
            except KeyboardInterrupt:
                print("interrupted", server.stats().refused)
        """
    )
    assert outcome(process) == (0, "interrupted 1\n", "")


def test_shutdown_serves_those_who_had_connected_and_then_ends(base: Path) -> None:
    with parlour.Server("unix:room") as server:
        clients = [parlour.connect("unix:room") for _ in range(3)]
        server.shutdown()
        served = list(server)
        assert len(served) == 3
        with pytest.raises(parlour.Shutdown):
            server.accept()
        with pytest.raises(parlour.NoServer):
            parlour.connect("unix:room")
        for client in clients:
            client.close()


def test_a_server_takes_a_name_over(base: Path) -> None:
    with parlour.Server("unix:room") as old:
        with in_thread(lambda: list(old)) as accepting:
            with parlour.Server("unix:room", take_over=DEADLINE) as new:
                client = parlour.connect("unix:room")
                new.accept(timeout=DEADLINE).send(b"from the new one")
                assert client.recv(timeout=DEADLINE) == b"from the new one"
        assert accepting() == []


@pytest.mark.parametrize("step", ["recv", "send", "flush", "wait_peer_closed"])
def test_a_server_that_waits_for_a_client_hands_its_name_over(step: str, transport: str, base: Path) -> None:
    link = Link(transport, base, {}, {})
    big = bytes(8_000_000)
    if step == "flush":
        while link.served.try_send(bytes(100_000)):
            pass
        if link.served.try_flush():
            pytest.skip("nothing is buffered")
    calls: dict[str, Callable[[], object]] = {
        "recv": link.served.recv,
        "send": lambda: link.served.send(big),
        "flush": link.served.flush,
        "wait_peer_closed": link.served.wait_peer_closed,
    }
    waiting = Call(calls[step])
    waiting.wait_until_asleep()
    with parlour.Server(link.address, take_over=DEADLINE):
        with pytest.raises(parlour.HandedOver):
            link.server.accept(timeout=DEADLINE)
        # The conversation goes on.
        if step == "send":
            assert link.client.recv(timeout=DEADLINE) == big
        elif step == "recv":
            link.client.send(b"go on")
        elif step == "flush":
            while waiting.thread.is_alive():
                link.client.try_recv()
        else:
            link.client.close()
        waiting.join()
        assert waiting() == (b"go on" if step == "recv" else None)
    link.close()


def test_a_server_of_a_busy_client_hands_its_name_over(transport: str, base: Path) -> None:
    link = Link(transport, base, {}, {})
    stop = threading.Event()

    def echo() -> None:
        for received in link.served:
            link.served.send(received)

    def ask() -> None:
        while not stop.is_set():
            link.client.send(b"again")
            assert link.client.recv(timeout=DEADLINE) == b"again"
        link.client.finish()

    with in_thread(echo) as echoed, in_thread(ask) as asked:
        try:
            parlour.Server(link.address, take_over=DEADLINE).close()
        finally:
            stop.set()
    echoed()
    asked()
    link.close()


def test_a_server_that_yields_gives_its_name_to_any_other(base: Path) -> None:
    with parlour.Server("unix:room", yields=True) as stand_in:

        def accept() -> None:
            with pytest.raises(parlour.HandedOver):
                stand_in.accept(timeout=DEADLINE)

        with in_thread(accept) as accepting:
            accepting.wait_until_asleep()
            with parlour.Server("unix:room"):
                with pytest.raises(parlour.NameInUse):
                    parlour.Server("unix:room", yields=True)
        accepting()
    with pytest.raises(parlour.InvalidOption):
        parlour.Server("unix:room", yields=True, take_over=1)


@pytest.mark.parametrize("kind", [parlour.Hub, parlour.CallServer])
def test_clients_are_served_for_the_given_time_after_a_hand_over(kind: Any, base: Path) -> None:
    began = time.monotonic()
    with kind("unix:room", hand_over_grace=0.0) as former, in_thread(lambda: list(former)) as serving:
        with parlour.connect("room") as client:
            with kind("unix:room", take_over=DEADLINE):
                # Without the option the client would be served for 30 seconds.
                serving.join()
                former.close()
                client.wait_peer_closed(timeout=DEADLINE)
    serving()
    assert time.monotonic() - began < 25


def test_without_a_service_manager_there_are_no_sockets_to_take(base: Path) -> None:
    with pytest.raises(parlour.Unsupported):
        parlour.Server.from_listen_fds()


def test_connections_and_servers_leave_no_descriptor(transport: str, base: Path) -> None:
    def once() -> None:
        link = Link(transport, base, {}, {})
        link.client.send(b"x")
        link.served.recv()
        # Half of them are closed by the garbage collector.
        link.server.close()

    once()
    before = open_fds()
    for _ in range(200):
        once()
    assert open_fds() == before


def test_a_server_sees_the_host_that_a_bridge_connects_for(transport: str, base: Path) -> None:
    address = f"{transport}:{base}/room"
    with parlour.Server(address) as server:
        for origin in ("b.example", None):
            with in_thread(partial(parlour.connect, address, origin=origin)) as connecting:
                client = server.accept(timeout=DEADLINE)
            seen = client.peer.origin
            assert (seen and seen.host) == origin
            if seen:
                assert (seen.uid, seen.pid, seen.program) == (None, None, None)
                assert "b.example" in repr(seen) and seen == client.peer.origin
            client.close()
            connecting().close()
