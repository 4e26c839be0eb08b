"""Sessions: clients that outlive servers, which are killed and restarted here."""

from __future__ import annotations

import gc
import logging
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import parlour
import pytest
from conftest import DEADLINE, PPOLL, Echo, in_thread, message, open_fds, wait_until_asleep

def ask(session: parlour.Session, request: bytes) -> bytes:
    """Sends a request that may be executed twice, until it is answered."""
    while True:
        try:
            session.send(request, timeout=DEADLINE)
            return session.recv(timeout=DEADLINE)
        except parlour.Lost:
            continue


def test_a_session_goes_on_with_the_next_server_and_reports_the_end_once(echo: Echo) -> None:
    with parlour.Session(echo.address, timeout=DEADLINE) as session:
        assert (session.connected, session.transport) == (False, None)
        echo.start()
        for restart in range(3):
            data = message(restart, 1000)
            session.send(data, timeout=DEADLINE)
            assert session.recv(timeout=DEADLINE) == data
            assert session.transport == echo.address.split(":")[0]
            session.send(b"silence", timeout=DEADLINE)
            echo.kill()
            with pytest.raises(parlour.Error) as lost:
                session.recv(timeout=DEADLINE)
            assert lost.value.kind in ("Lost", "Truncated")
            loss = lost.value.loss
            assert loss and (loss.sent, loss.received, loss.sent_since_received) == (2, 1, 1)
            assert not session.connected
            echo.start()
        assert ask(session, b"after") == b"after"
    assert session.closed


def test_a_session_waits_for_its_first_server(echo: Echo) -> None:
    with parlour.Session(echo.address, timeout=DEADLINE) as session:
        with pytest.raises(parlour.TimedOut):
            session.recv(timeout=0.05)
        with pytest.raises(parlour.TimedOut):
            session.connect(timeout=0)
        with in_thread(lambda: session.send(b"hello", timeout=DEADLINE)) as sent:
            echo.start()
        sent()
        assert session.recv(timeout=DEADLINE) == b"hello"


def test_a_request_is_asked_again_while_servers_come_and_go(echo: Echo) -> None:
    with parlour.Session(echo.address, timeout=DEADLINE) as session:
        echo.start()
        for number in range(6):
            if number % 2:
                echo.kill()
                echo.start()
            assert ask(session, message(number, 500)) == message(number, 500)


def test_the_function_on_connect_is_called_for_each_connection(echo: Echo) -> None:
    logins: list[bytes] = []

    def log_in(connection: parlour.Connection) -> None:
        connection.send(b"log in")
        logins.append(connection.recv(timeout=DEADLINE))

    with parlour.Session(echo.address, log_in, timeout=DEADLINE) as session:
        for count in (1, 2):
            echo.start()
            assert ask(session, b"hello") == b"hello"
            assert logins == [b"log in"] * count
            echo.kill()


def test_an_exception_of_on_connect_is_raised_or_tried_again_and_logged(
    echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "parlour")
    failures: list[Exception] = [ConnectionError("not ready"), EOFError(), ZeroDivisionError("no login")]

    def fail(connection: parlour.Connection) -> None:
        if failures:
            raise failures.pop(0)

    echo.start()
    with parlour.Session(echo.address, on_connect=fail, timeout=DEADLINE) as session:
        with pytest.raises(ZeroDivisionError, match="no login"):
            session.connect(timeout=DEADLINE)
        assert ask(session, b"hello") == b"hello"
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "ConnectionError('not ready')",
        "EOFError()",
    ]
    with parlour.Session(echo.address, parlour.Connection.close, timeout=DEADLINE) as closing:
        with pytest.raises(ValueError, match="has closed the connection"):
            closing.connect(timeout=DEADLINE)
    with pytest.raises(TypeError, match="on_connect"):
        parlour.Session(echo.address, on_connect="log in")  # type: ignore[arg-type]


def test_a_long_message_gets_through(echo: Echo) -> None:
    echo.start()
    with parlour.Session(echo.address, timeout=DEADLINE) as session:
        big = message(5, 6_000_000)
        session.send(big, timeout=DEADLINE)
        assert bytes(session.recv_message(timeout=DEADLINE)) == big


def test_a_session_can_be_closed_at_any_time(echo: Echo) -> None:
    session = parlour.Session(echo.address)
    session.close()
    session.close()
    for call in (session.recv, session.connect, partial(session.send, b"x"), session.take_unreceived):
        with pytest.raises(ValueError, match="this session was closed"):
            call()
    echo.start()
    other = parlour.Session(echo.address, timeout=DEADLINE)
    other.connect(timeout=DEADLINE)
    with in_thread(other.recv) as receiving:
        receiving.wait_until_asleep()
        other.close()
    with pytest.raises(ValueError, match="this session was closed"):
        receiving()


@pytest.mark.skipif(PPOLL is None, reason="the number of ppoll is not known for this machine")
def test_a_signal_ends_every_call_that_waits(echo: Echo) -> None:
    class Interrupt(Exception):
        pass

    def raise_interrupt(number: int, frame: object) -> None:
        raise Interrupt

    main = threading.main_thread()

    def interrupted(call: Callable[[], Any]) -> None:
        def send() -> None:
            assert main.ident is not None
            wait_until_asleep(main)
            signal.pthread_kill(main.ident, signal.SIGINT)

        with in_thread(send) as sent:
            with pytest.raises(Interrupt):
                call()
        sent()

    before = signal.signal(signal.SIGINT, raise_interrupt)
    try:
        with parlour.Session(echo.address, timeout=DEADLINE) as session:
            # There is no server.
            for call in (session.connect, session.recv, partial(session.send, b"x")):
                interrupted(call)
            echo.start()
            session.connect(timeout=DEADLINE)
            interrupted(session.recv)
            assert ask(session, b"after") == b"after"
    finally:
        signal.signal(signal.SIGINT, before)


def test_sessions_leave_no_descriptors_behind(echo: Echo) -> None:
    echo.start()

    def once() -> None:
        with parlour.Session(echo.address, lambda connection: None, timeout=DEADLINE) as session:
            assert ask(session, b"hello") == b"hello"

    once()
    gc.collect()
    before = open_fds()
    for _ in range(10):
        once()
    gc.collect()
    assert open_fds() <= before


def test_a_receive_writes_the_rest_of_a_message(transport: str, base: Path) -> None:
    address = f"{transport}:{base}/room"
    data = message(1, 8 << 20)

    def serve() -> None:
        with parlour.Server(address) as server, server.accept(timeout=DEADLINE) as client:
            sent.wait(DEADLINE)
            client.send(client.recv(timeout=DEADLINE)[:10])

    sent = threading.Event()
    with in_thread(serve) as serving:
        with parlour.Session(address) as session:
            session.connect(timeout=DEADLINE)
            # The message is taken in part, and its rest stays buffered.
            session.send(data, timeout=0.05)
            sent.set()
            assert session.recv(timeout=DEADLINE) == data[:10]
    serving()


def test_a_session_can_be_closed_and_interrupted_while_another_thread_is_in_on_connect(base: Path) -> None:
    address = f"unix:{base}/room"
    inside, leave = threading.Event(), threading.Event()

    def hook(connection: parlour.Connection) -> None:
        inside.set()
        assert leave.wait(DEADLINE)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with parlour.Server(address) as server, in_thread(lambda: server.accept(timeout=DEADLINE)):
            session = parlour.Session(address, on_connect=hook)
            with in_thread(lambda: session.connect(timeout=DEADLINE)):
                assert inside.wait(DEADLINE)
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                with pytest.raises(KeyboardInterrupt):
                    session.recv(timeout=DEADLINE)
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                with pytest.raises(KeyboardInterrupt):
                    session.close()
                leave.set()
            session.close()
    finally:
        signal.signal(signal.SIGALRM, before)
        leave.set()


def test_the_function_on_connect_learns_that_it_cannot_use_its_session(base: Path) -> None:
    address = f"unix:{base}/room"

    def hook(connection: parlour.Connection) -> None:
        sessions[0].send(b"hello")

    with parlour.Server(address) as server, in_thread(lambda: server.accept(timeout=DEADLINE)):
        sessions = [parlour.Session(address, on_connect=hook)]
        with pytest.raises(RuntimeError, match="on_connect"):
            sessions[0].connect(timeout=DEADLINE)
        sessions[0].close()
