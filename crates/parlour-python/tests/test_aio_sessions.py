"""Sessions in an event loop, whose servers are killed and restarted, over each transport."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Coroutine
from typing import Any

import parlour
import pytest
from conftest import DEADLINE, Echo, message, open_fds
from parlour import aio


def run(main: Coroutine[Any, Any, None], loop_factory: Any = None) -> None:
    """Runs a test, which fails if it takes too long or leaves a task behind."""

    async def within() -> None:
        async with asyncio.timeout(DEADLINE):
            await main
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(within())


async def ask(session: aio.Session, request: bytes) -> bytes:
    """Sends a request that may be executed twice, until it is answered."""
    while True:
        try:
            await session.send(request)
            return await session.recv()
        except parlour.Lost:
            continue


async def restarts(echo: Echo) -> None:
    async with aio.Session(echo.address, timeout=DEADLINE) as session:
        assert (session.connected, session.transport) == (False, None)
        echo.start()
        for restart in range(3):
            data = message(restart, 1000)
            await session.send(data)
            assert await session.recv() == data
            assert session.transport == echo.address.split(":")[0]
            receiving = asyncio.create_task(session.recv())
            await session.send(b"silence")
            echo.kill()
            with pytest.raises(parlour.Error) as lost:
                await receiving
            assert lost.value.kind in ("Lost", "Truncated")
            loss = lost.value.loss
            assert loss and (loss.sent, loss.received, loss.sent_since_received) == (2, 1, 1)
            assert not session.connected
            echo.start()
        assert await ask(session, b"after") == b"after"
    assert session.closed
    assert session.messages_taken >= 7


def test_a_session_goes_on_with_the_next_server_and_reports_the_end_once(echo: Echo) -> None:
    run(restarts(echo))


def test_a_session_works_on_uvloop(echo: Echo) -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    run(restarts(echo), uvloop.new_event_loop)


def test_several_tasks_wait_for_the_first_server(echo: Echo) -> None:
    async def main() -> None:
        async with aio.Session(echo.address, timeout=DEADLINE) as session:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await session.recv()
            receiving = asyncio.create_task(session.recv())
            sending = asyncio.create_task(session.send(b"hello"))
            cancelled = asyncio.create_task(session.connect())
            await asyncio.sleep(0.01)
            cancelled.cancel()
            await asyncio.to_thread(echo.start)
            await sending
            assert await receiving == b"hello"

    run(main())


def test_a_request_is_asked_again_while_servers_come_and_go(echo: Echo) -> None:
    async def main() -> None:
        async with aio.Session(echo.address, timeout=DEADLINE) as session:
            echo.start()
            for number in range(6):
                if number % 2:
                    echo.kill()
                    echo.start()
                assert await ask(session, message(number, 500)) == message(number, 500)

    run(main())


def test_the_coroutine_on_connect_runs_for_each_connection_also_if_its_call_is_cancelled(echo: Echo) -> None:
    logins: list[bytes] = []
    began = asyncio.Event()

    async def log_in(connection: aio.Connection) -> None:
        # The session sends what is only buffered here.
        await connection.feed(b"fed")
        await connection.send(b"log in")
        began.set()
        await asyncio.sleep(0.01)
        for _ in range(2):
            logins.append(await connection.recv())

    async def main() -> None:
        async with aio.Session(echo.address, log_in, timeout=DEADLINE) as session:
            for count in (1, 2, 3):
                echo.start()
                began.clear()
                connecting = asyncio.create_task(session.connect())
                await began.wait()
                connecting.cancel()
                assert await ask(session, b"hello") == b"hello"
                assert logins == [b"fed", b"log in"] * count
                echo.kill()
                with pytest.raises(parlour.Error) as lost:
                    await session.recv()
                assert lost.value.loss and lost.value.loss.sent == 1

    run(main())


def test_an_exception_of_on_connect_is_raised_or_tried_again_and_logged(
    echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "parlour")
    failures: list[Exception] = [ConnectionError("not ready"), EOFError(), ZeroDivisionError("no login")]

    async def fail(connection: aio.Connection) -> None:
        if failures:
            raise failures.pop(0)

    async def main() -> None:
        echo.start()
        async with aio.Session(echo.address, on_connect=fail, timeout=DEADLINE) as session:
            with pytest.raises(ZeroDivisionError, match="no login"):
                await session.connect()
            assert await ask(session, b"hello") == b"hello"
        assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
            "ConnectionError('not ready')",
            "EOFError()",
        ]
        async with aio.Session(echo.address, aio.Connection.close, timeout=DEADLINE) as closing:
            with pytest.raises(ValueError, match="has closed the connection"):
                await closing.connect()

        async def send(connection: aio.Connection) -> None:
            await itself.send(b"too early")

        async with aio.Session(echo.address, send, timeout=DEADLINE) as itself:
            with pytest.raises(RuntimeError, match="use its connection"):
                await itself.recv()

    run(main())
    with pytest.raises(TypeError, match="on_connect"):
        aio.Session(echo.address, on_connect="log in")  # type: ignore[arg-type]


def test_a_session_that_is_cancelled_at_any_await_while_it_connects_goes_on(echo: Echo) -> None:
    hooks = 0

    async def log_in(connection: aio.Connection) -> None:
        nonlocal hooks
        await connection.send(b"log in")
        assert await connection.recv() == b"log in"
        hooks += 1

    async def main() -> None:
        echo.start()
        for steps in range(20):
            async with aio.Session(echo.address, log_in, timeout=DEADLINE) as session:
                sending = asyncio.create_task(session.send(b"first"))
                for _ in range(steps):
                    await asyncio.sleep(0)
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending
                expected = [b"first"] * session.messages_taken + [b"second"]
                await session.send(b"second")
                assert [await session.recv() for _ in expected] == expected
            assert hooks == steps + 1

    run(main())


def test_calls_that_are_cancelled_at_any_await_lose_double_and_tear_nothing(echo: Echo) -> None:
    async def main() -> None:
        echo.start()
        async with aio.Session(echo.address, timeout=DEADLINE) as session:
            for length in (100, 1_000_000):
                for steps in range(20):
                    data = message(steps, length)
                    before = session.messages_taken
                    sending = asyncio.create_task(session.send(data))
                    receiving = asyncio.create_task(session.recv())
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    sending.cancel()
                    receiving.cancel()
                    received = []
                    with contextlib.suppress(asyncio.CancelledError):
                        received.append(await receiving)
                    with contextlib.suppress(asyncio.CancelledError):
                        await sending
                    expected = [data] * (session.messages_taken - before)
                    while len(received) < len(expected):
                        received.append(await session.recv())
                    assert received == expected
                    assert await ask(session, b"between") == b"between"

    run(main())


def test_the_rest_of_a_cancelled_message_is_lost_with_its_server_and_reported(echo: Echo) -> None:
    async def main() -> None:
        echo.start()
        async with aio.Session(echo.address, timeout=DEADLINE) as session:
            # The server does not read the second message while nobody takes the first.
            big = message(1, 8_000_000)
            sending = asyncio.create_task(session.send(big))
            await sending
            taken = session.messages_taken
            while session.messages_taken < taken + 2:
                sending = asyncio.create_task(session.send(big))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await sending
                if sending.cancelled():
                    break
            echo.kill()
            # The event loop finds the end, and the next call reports it.
            losses = 0
            echo.start()
            while True:
                try:
                    if await session.recv() == big:
                        continue
                except parlour.Error as lost:
                    assert lost.loss
                    losses += 1
                    break
            assert losses == 1
            assert await ask(session, b"after") == b"after"

    run(main())


def test_a_session_can_be_closed_at_any_time(echo: Echo) -> None:
    hanging = asyncio.Event()

    async def hang(connection: aio.Connection) -> None:
        hanging.set()
        await connection.recv()

    async def main() -> None:
        session = aio.Session(echo.address)
        waiting = asyncio.create_task(session.recv())
        await asyncio.sleep(0)
        await session.close()
        await session.close()
        for call in (waiting, session.recv(), session.connect(), session.send(b"x")):
            with pytest.raises(ValueError, match="this session was closed"):
                await call
        await asyncio.to_thread(echo.start)
        other = aio.Session(echo.address, timeout=DEADLINE)
        await other.connect()
        receiving = asyncio.create_task(other.recv())
        await asyncio.sleep(0.01)
        await other.close()
        with pytest.raises(ValueError, match="this session was closed"):
            await receiving
        with pytest.raises(ZeroDivisionError):
            async with aio.Session(echo.address, hang, timeout=DEADLINE) as third:
                connecting = asyncio.create_task(third.connect())
                await hanging.wait()
                raise ZeroDivisionError
        with pytest.raises(ValueError, match="this session was closed"):
            await connecting

    run(main())


def test_sessions_leave_no_descriptors_behind(echo: Echo) -> None:
    echo.start()

    async def log_in(connection: aio.Connection) -> None:
        await connection.send(b"log in")
        await connection.recv()

    async def main() -> None:
        async with aio.Session(echo.address, log_in, timeout=DEADLINE) as session:
            assert await ask(session, b"hello") == b"hello"
        # Without a server, and without an end in order.
        dialing = aio.Session(echo.address + "-absent")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await dialing.recv()

    run(main())
    gc.collect()
    before = open_fds()
    for _ in range(10):
        run(main())
    gc.collect()
    assert open_fds() <= before
