"""Sessions of calls, whose servers are killed and restarted, over each transport."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import parlour
import pytest
from conftest import DEADLINE, SERVE_CALLS, Echo, in_thread, open_fds, wait_until_held


@pytest.fixture
def server(transport: str, base: Path) -> Iterator[Echo]:
    made = Echo(f"{transport}:{base}/calls", SERVE_CALLS)
    yield made
    if made.process:
        made.kill()


def test_an_open_call_is_lost_once_and_the_next_goes_to_the_next_server(server: Echo) -> None:
    with parlour.CallSession(server.address, timeout=DEADLINE) as session:
        assert session.transport is None
        server.start()
        for _ in range(3):
            assert session.call(b"one ", b"two", timeout=DEADLINE) == b"one two"
            assert session.transport == server.address.split(":")[0]
            with in_thread(lambda: session.call(b"hold", timeout=DEADLINE)) as holding:
                wait_until_held(server)
                server.kill()
                holding.join()
            with pytest.raises(parlour.Lost):
                holding()
            server.start()
        # No call is open when this server is killed, so that nothing is lost.
        assert session.call(b"before", timeout=DEADLINE) == b"before"
        server.kill()
        with in_thread(lambda: session.call(b"after", timeout=DEADLINE)) as calling:
            server.start()
        assert calling() == b"after"
        assert list(session.call_stream(b"stream", timeout=DEADLINE)) == [b"stream"]
    assert session.closed


def test_many_threads_wait_for_the_first_server_and_each_keeps_its_timeout(server: Echo) -> None:
    with parlour.CallSession(server.address, timeout=DEADLINE) as session:
        streams = partial(session.call_stream, b"x")
        for call in (session.connect, session.next_push, partial(session.call, b"x"), streams):
            with pytest.raises(parlour.TimedOut):
                call(timeout=0.02)
        answers: list[bytes] = []
        calling = [
            threading.Thread(target=lambda n=n: answers.append(session.call(b"%d" % n, timeout=DEADLINE)))
            for n in range(8)
        ]
        for thread in calling:
            thread.start()
        server.start()
        for thread in calling:
            thread.join()
        assert sorted(answers) == [b"%d" % n for n in range(8)]


def test_the_function_on_connect_logs_in_over_each_connection(server: Echo) -> None:
    logins: list[bytes] = []
    failures: list[Exception] = [ConnectionError("not ready"), ZeroDivisionError("no login")]

    def log_in(caller: parlour.Caller) -> None:
        logins.append(caller.call(b"log in", timeout=DEADLINE))
        if failures:
            raise failures.pop(0)

    server.start()
    with parlour.CallSession(server.address, log_in, timeout=DEADLINE) as session:
        with pytest.raises(ZeroDivisionError, match="no login"):
            session.call(b"x", timeout=DEADLINE)
        for count in (3, 4):
            assert session.call(b"x", timeout=DEADLINE) == b"x"
            assert logins == [b"log in"] * count
            server.kill()
            server.start()
    with parlour.CallSession(server.address, parlour.Caller.close, timeout=DEADLINE) as closing:
        with pytest.raises(ValueError, match="has closed the caller"):
            closing.connect(timeout=DEADLINE)
    with pytest.raises(TypeError, match="on_connect"):
        parlour.CallSession(server.address, on_connect="log in")  # type: ignore[arg-type]


def test_pushed_messages_go_on_after_the_gap_is_reported_once(server: Echo) -> None:
    with parlour.CallSession(server.address, timeout=DEADLINE) as session:
        for _ in range(2):
            server.start()
            assert session.call(b"push", timeout=DEADLINE) == b"push"
            assert session.next_push(timeout=DEADLINE) == b"pushed"
            server.kill()
            with pytest.raises(parlour.Lost):
                session.next_push(timeout=DEADLINE)
        with pytest.raises(parlour.TimedOut):
            session.next_push(timeout=0.02)


def test_a_session_of_calls_can_be_closed_at_any_time(server: Echo) -> None:
    session = parlour.CallSession(server.address, timeout=DEADLINE)
    with in_thread(lambda: session.call(b"x")) as waiting:
        time.sleep(0.01)
        session.close()
        session.close()
    with pytest.raises(ValueError, match="was closed"):
        waiting()
    for call in (session.connect, session.next_push, partial(session.call, b"x")):
        with pytest.raises(ValueError, match="this session was closed"):
            call()
    server.start()
    other = parlour.CallSession(server.address, timeout=DEADLINE)
    with in_thread(lambda: other.call(b"hold")) as holding:
        wait_until_held(server)
        other.close()
    with pytest.raises(ValueError, match="was closed"):
        holding()


def test_a_session_of_calls_can_be_closed_while_another_thread_is_in_on_connect(server: Echo) -> None:
    failures: list[Exception] = []

    def hold(caller: parlour.Caller) -> None:
        try:
            caller.call(b"hold")
        except ValueError as failure:
            failures.append(failure)
            raise ZeroDivisionError("of on_connect") from failure

    server.start()
    session = parlour.CallSession(server.address, hold, timeout=DEADLINE)
    with in_thread(lambda: session.call(b"x")) as connecting:
        wait_until_held(server)
        session.close()
    # The exception is that of the function, and not that of a session that was closed.
    with pytest.raises(ZeroDivisionError, match="of on_connect"):
        connecting()
    assert "was closed" in str(failures[0])

    # The function closes the session of its own connection.
    def close(caller: parlour.Caller) -> None:
        sessions[0].close()

    sessions = [parlour.CallSession(server.address, close, timeout=DEADLINE)]
    with pytest.raises(ValueError, match="this session was closed"):
        sessions[0].connect(timeout=DEADLINE)


def test_the_function_on_connect_learns_that_it_cannot_use_its_session_of_calls(server: Echo) -> None:
    def use(caller: parlour.Caller) -> None:
        uses.pop()()

    server.start()
    session = parlour.CallSession(server.address, use, timeout=DEADLINE)
    uses: list[Callable[[], object]] = [
        partial(session.call, b"x", timeout=DEADLINE),
        partial(session.next_push, timeout=DEADLINE),
        partial(session.connect, timeout=DEADLINE),
    ]
    for _ in range(3):
        with pytest.raises(RuntimeError, match="use the caller"):
            session.connect(timeout=DEADLINE)
    uses.append(lambda: None)
    assert session.call(b"x", timeout=DEADLINE) == b"x"
    session.close()


def test_a_handler_of_signals_learns_that_its_thread_connects(server: Echo) -> None:
    def use(number: int, frame: object) -> None:
        session.connect(timeout=DEADLINE)

    before = signal.signal(signal.SIGALRM, use)
    try:
        with parlour.CallSession(server.address, timeout=DEADLINE) as session:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(RuntimeError, match="while their thread connects"):
                session.connect(timeout=DEADLINE)
            server.start()
            assert session.call(b"after", timeout=DEADLINE) == b"after"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_signal_ends_a_call_that_connects(server: Echo) -> None:
    class Interrupt(Exception):
        pass

    def raise_interrupt(number: int, frame: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, raise_interrupt)
    try:
        with parlour.CallSession(server.address, timeout=DEADLINE) as session:
            for call in (session.connect, session.next_push, partial(session.call, b"x")):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                with pytest.raises(Interrupt):
                    call()
            server.start()
            assert session.call(b"after", timeout=DEADLINE) == b"after"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_sessions_of_calls_leave_no_descriptors_behind(server: Echo) -> None:
    server.start()

    def once() -> None:
        with parlour.CallSession(server.address, lambda caller: None, timeout=DEADLINE) as session:
            assert session.call(b"hello", timeout=DEADLINE) == b"hello"

    once()
    before = open_fds()
    for _ in range(10):
        once()
    assert open_fds() <= before
