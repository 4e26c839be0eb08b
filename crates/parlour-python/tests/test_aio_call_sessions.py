"""Sessions of calls in an event loop, whose servers are killed and restarted, over each transport."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import parlour
import pytest
from conftest import DEADLINE, SERVE_CALLS, Echo, open_fds, wait_until_held
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


@pytest.fixture
def server(transport: str, base: Path) -> Iterator[Echo]:
    made = Echo(f"{transport}:{base}/calls", SERVE_CALLS)
    yield made
    if made.process:
        made.kill()


async def restarts(server: Echo) -> None:
    async with aio.CallSession(server.address, timeout=DEADLINE) as session:
        assert session.transport is None
        server.start()
        for _ in range(3):
            assert await session.call(b"one ", b"two") == b"one two"
            assert session.transport == server.address.split(":")[0]
            holding = asyncio.create_task(session.call(b"hold"))
            await asyncio.to_thread(wait_until_held, server)
            server.kill()
            with pytest.raises(parlour.Lost):
                await holding
            server.start()
        # No call is open when this server is killed, so that nothing is lost.
        assert await session.call(b"before") == b"before"
        server.kill()
        after = asyncio.create_task(session.call(b"after"))
        await asyncio.to_thread(server.start)
        assert await after == b"after"
        stream = await session.call_stream(b"stream")
        assert [item async for item in stream] == [b"stream"]
    assert session.closed


def test_an_open_call_is_lost_once_and_the_next_goes_to_the_next_server(server: Echo) -> None:
    run(restarts(server))


def test_a_session_of_calls_works_on_uvloop(server: Echo) -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    run(restarts(server), uvloop.new_event_loop)


def test_many_tasks_wait_for_the_first_server_and_some_give_up(server: Echo) -> None:
    async def main() -> None:
        async with aio.CallSession(server.address, timeout=DEADLINE) as session:
            streams = partial(session.call_stream, b"x")
            for call in (session.connect, session.next_push, partial(session.call, b"x"), streams):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await call()
            calling = [asyncio.create_task(session.call(b"%d" % number)) for number in range(20)]
            cancelled = asyncio.create_task(session.call(b"cancelled"))
            await asyncio.sleep(0.01)
            cancelled.cancel()
            await asyncio.to_thread(server.start)
            assert await asyncio.gather(*calling) == [b"%d" % number for number in range(20)]

    run(main())


def test_a_call_that_is_cancelled_at_any_await_leaves_the_session_in_order(server: Echo) -> None:
    async def main() -> None:
        for steps in range(25):
            async with aio.CallSession(server.address, timeout=DEADLINE) as session:
                calling = asyncio.create_task(session.call(b"x" * 300_000))
                for _ in range(steps):
                    await asyncio.sleep(0)
                calling.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    assert await calling == b"x" * 300_000
                assert await session.call(b"next") == b"next"

    server.start()
    run(main())


def test_the_coroutine_on_connect_logs_in_over_each_connection(server: Echo, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "parlour")
    logins: list[bytes] = []
    failures: list[Exception] = [ConnectionError("not ready"), ZeroDivisionError("no login")]
    began = asyncio.Event()

    async def log_in(caller: aio.Caller) -> None:
        began.set()
        logins.append(await caller.call(b"log in"))
        if failures:
            raise failures.pop(0)

    async def main() -> None:
        server.start()
        async with aio.CallSession(server.address, log_in, timeout=DEADLINE) as session:
            with pytest.raises(ZeroDivisionError, match="no login"):
                await session.call(b"x")
            assert ["not ready" in record.getMessage() for record in caplog.records] == [True]
            for count in (3, 4):
                began.clear()
                # The login goes on without the call that is cancelled.
                connecting = asyncio.create_task(session.connect())
                await began.wait()
                connecting.cancel()
                assert await session.call(b"x") == b"x"
                assert logins == [b"log in"] * count
                server.kill()
                server.start()

        async def close(caller: aio.Caller) -> None:
            caller.close()

        async with aio.CallSession(server.address, close, timeout=DEADLINE) as closing:
            with pytest.raises(ValueError, match="has closed the caller"):
                await closing.connect()

        async def call(caller: aio.Caller) -> None:
            await itself.call(b"too early")

        async with aio.CallSession(server.address, call, timeout=DEADLINE) as itself:
            with pytest.raises(RuntimeError, match="use its connection or caller"):
                await itself.connect()
        with pytest.raises(TypeError, match="on_connect"):
            aio.CallSession(server.address, on_connect="log in")  # type: ignore[arg-type]

    run(main())


def test_pushed_messages_go_on_after_the_gap_is_reported_once(server: Echo) -> None:
    async def main() -> None:
        async with aio.CallSession(server.address, timeout=DEADLINE) as session:
            for _ in range(2):
                server.start()
                pushed = asyncio.create_task(session.next_push())
                assert await session.call(b"push") == b"push"
                assert await pushed == b"pushed"
                waiting = asyncio.create_task(session.next_push())
                await asyncio.sleep(0)
                server.kill()
                with pytest.raises(parlour.Lost):
                    await waiting
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await session.next_push()

    run(main())


def test_a_server_that_shuts_down_ends_the_wait_for_its_pushed_messages(transport: str, base: Path) -> None:
    async def main() -> None:
        address = f"{transport}:{base}/calls"
        held: list[aio.Call] = []

        async def hold(call: aio.Call) -> None:
            held.append(call)
            await call.wait_cancelled()

        async with aio.CallSession(address, timeout=DEADLINE) as session:
            async with aio.CallServer(address) as server:
                serving = asyncio.create_task(server.serve(hold))
                holding = asyncio.create_task(session.call(b"hold"))
                while not held:
                    await asyncio.sleep(0)
                waiting = asyncio.create_task(session.next_push())
                # The connection stays open for the call, but the session is asked to leave it.
                server.shutdown()
                with pytest.raises(parlour.Lost):
                    await waiting
                assert not holding.done()
                held[0].reply(b"held")
                assert await holding == b"held"
                await serving

    run(main())


def test_closing_a_session_of_calls_ends_every_wait(server: Echo) -> None:
    async def main() -> None:
        session = aio.CallSession(server.address, timeout=DEADLINE)
        waiting = asyncio.create_task(session.call(b"x"))
        await asyncio.sleep(0)
        await session.close()
        await session.close()
        with pytest.raises(ValueError, match="was closed"):
            await waiting
        for call in (session.connect, session.next_push, partial(session.call, b"x")):
            with pytest.raises(ValueError, match="this session was closed"):
                await call()
        server.start()
        cancelled = asyncio.Event()

        async def log_in(caller: aio.Caller) -> None:
            if began.is_set():
                try:
                    await caller.call(b"hold")
                finally:
                    cancelled.set()

        began = asyncio.Event()
        other = aio.CallSession(server.address, log_in, timeout=DEADLINE)
        holding = asyncio.create_task(other.call(b"hold"))
        pushed = asyncio.create_task(other.next_push())
        await asyncio.to_thread(wait_until_held, server)
        await other.close()
        for task in (holding, pushed):
            with pytest.raises(ValueError, match="was closed"):
                await task
        began.set()
        third = aio.CallSession(server.address, log_in, timeout=DEADLINE)
        connecting = asyncio.create_task(third.connect())
        await asyncio.to_thread(wait_until_held, server)
        await third.close()
        assert cancelled.is_set()
        with pytest.raises(ValueError, match="this session was closed"):
            await connecting

    run(main())


def test_sessions_of_calls_leave_no_descriptors_behind(server: Echo) -> None:
    async def log_in(caller: aio.Caller) -> None:
        pass

    async def once(is_closed: bool) -> None:
        session = aio.CallSession(server.address, log_in, timeout=DEADLINE)
        assert await session.call(b"hello") == b"hello"
        if is_closed:
            await session.close()

    async def main() -> None:
        await once(True)
        gc.collect()
        before = open_fds()
        for number in range(10):
            await once(number % 2 == 0)
        # The event loop calls what is left of the last ones.
        await asyncio.sleep(0)
        gc.collect()
        assert open_fds() <= before

    server.start()
    run(main())
