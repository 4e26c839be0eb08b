"""Requests and answers in an event loop, over each transport."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import parlour
import pytest
from conftest import DEADLINE, in_thread, message, open_fds
from parlour import aio


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a test, which fails if it takes too long or leaves a task behind."""

    async def within() -> None:
        async with asyncio.timeout(DEADLINE):
            await main
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    asyncio.run(within(), debug=False)


Handler = Callable[[aio.Call], Awaitable[bytes | None]]


@contextlib.asynccontextmanager
async def room(address: str, handler: Handler, **options: Any) -> AsyncIterator[tuple[aio.Caller, aio.CallServer]]:
    """Yields a caller, and the server, which serves in a task."""
    async with aio.CallServer(address, **options) as server:
        serving = asyncio.create_task(server.serve(handler))
        async with aio.Caller.connect(address, timeout=DEADLINE) as caller:
            yield caller, server
        server.shutdown()
        await serving


@pytest.fixture
def address(transport: str, base: Path) -> str:
    return f"{transport}:{base}/calls"


async def echo(call: aio.Call) -> bytes:
    return call.data


def test_each_call_gets_its_answer(address: str, base: Path) -> None:
    async def main() -> None:
        async with room(address, echo) as (caller, server):
            for length in (0, 1, 100, 70_000, 4 << 20):
                data = message(length, length)
                assert await caller.call(data) == data
            assert await caller.call(b"one ", bytearray(b"two")) == b"one two"
            assert caller.transport == address.split(":")[0]
            assert (server.name, server.stats().accepted) == ("calls", 1)

    run(main())
    assert not list(base.iterdir())


def test_many_tasks_call_over_one_connection(address: str) -> None:
    async def backwards(call: aio.Call) -> bytes:
        # The last requests are answered first.
        await asyncio.sleep(0.001 * (200 - int.from_bytes(call.data[:4], "little")) / 10)
        return call.data

    async def main() -> None:
        async with room(address, backwards) as (caller, _):
            requests = [message(number, 200) for number in range(200)]
            assert await asyncio.gather(*(caller.call(data) for data in requests)) == requests

    run(main())


def test_a_cancelled_call_is_told_to_the_server_and_the_next_gets_its_own_answer(address: str) -> None:
    held: list[aio.Call] = []

    async def hold(call: aio.Call) -> bytes | None:
        if call.data == b"hold":
            held.append(call)
            return None
        return call.data

    async def main() -> None:
        async with room(address, hold) as (caller, _):
            calling = asyncio.create_task(caller.call(b"hold"))
            while not held:
                await asyncio.sleep(0)
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            while not held[0].cancelled:
                await asyncio.sleep(0.001)
            assert await caller.call(b"next") == b"next"
            with pytest.raises(parlour.Disconnected):
                held[0].reply(b"late")
            held.clear()

    run(main())


async def give_up(begin: Callable[[], Coroutine[Any, Any, object]], steps: int = 1) -> None:
    """Cancels a coroutine that waits."""
    task = asyncio.create_task(begin())
    for _ in range(steps):
        await asyncio.sleep(0)
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_tasks_that_give_up_leave_nothing_to_wake(address: str) -> None:
    async def main() -> None:
        # It never greets, so each call waits.
        async with aio.Server(address) as server:
            accepting = asyncio.create_task(server.accept())
            async with aio.Caller.connect(address, timeout=DEADLINE) as caller:
                client = await accepting
                for _ in range(200):
                    await give_up(lambda: caller.call(b"a request"))
                    await give_up(caller.next_push)
                assert not caller._waiters
                # The event loop must not take what this test counts.
                caller._reading.stop()
                await client.close()
                # The end of the connection wakes everything that is kept.
                while not (woken := caller._attempts.advance()[0]):
                    await asyncio.sleep(0.001)
                assert len(woken) == 2

    run(main())


def test_a_stream_that_is_dropped_takes_nothing_from_a_task_that_waits(address: str) -> None:
    async def main() -> None:
        async with room(address, echo) as (caller, _):
            stream = (await caller.call_stream(b"dropped"))._stream
            asking = asyncio.create_task(caller.call(b"asked"))
            await asyncio.sleep(0)
            # The answer arrives while the event loop does not look.
            caller._reading.stop()
            for _ in range(20):
                await asyncio.sleep(0.001)
            del stream
            caller._reading.watch(caller._attempts.fileno())
            assert await asking == b"asked"

    run(main())


def test_tasks_that_share_a_stream_and_the_pushed_messages_get_all_of_them(address: str) -> None:
    async def items(call: aio.Call) -> None:
        for number in range(60):
            await call.item(b"%d" % number)
            await asyncio.sleep(0)
        call.end()

    async def main() -> None:
        async with room(address, items) as (caller, server):
            stream = await caller.call_stream(b"many")

            async def collect() -> list[bytes]:
                return [item async for item in stream]

            pushed = [asyncio.create_task(caller.next_push()) for _ in range(20)]
            await give_up(caller.next_push, steps=3)
            collected = await asyncio.gather(*(collect() for _ in range(3)))
            assert sorted(int(item) for part in collected for item in part) == list(range(60))
            for number in range(20):
                server.push(b"push %d" % number)
            assert sorted(await asyncio.gather(*pushed)) == sorted(b"push %d" % number for number in range(20))

    run(main())


def test_closing_a_stream_ends_the_tasks_that_wait_for_it(address: str) -> None:
    async def hold(call: aio.Call) -> None:
        await call.wait_cancelled()

    async def main() -> None:
        async with room(address, hold) as (caller, _):
            stream = await caller.call_stream(b"many")
            receiving = [asyncio.create_task(stream.recv()) for _ in range(2)]
            await asyncio.sleep(0)
            stream.close()
            ends = await asyncio.gather(*receiving, return_exceptions=True)
            assert [type(end) for end in ends] == [EOFError] * 2

    run(main())


def test_a_call_that_is_cancelled_at_any_await_leaves_the_connection_in_order(address: str) -> None:
    async def main() -> None:
        async with room(address, echo) as (caller, _):
            big = message(7, 3_000_000)
            for data in (b"short", big):
                for steps in range(60):
                    calling = asyncio.create_task(caller.call(data))
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    calling.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        assert await calling == data
                    check = message(steps, 100)
                    assert await caller.call(check) == check

    run(main())


def test_streams_and_their_cancellation(address: str) -> None:
    ended: list[str] = []

    async def items(call: aio.Call) -> bytes | None:
        if call.data == b"one":
            return b"alone"
        try:
            for number in range(80):
                await call.item(message(number, 100_000))
            call.end()
        except parlour.Disconnected:
            ended.append("cancelled")
        return None

    async def main() -> None:
        async with room(address, items) as (caller, _):
            number = 0
            async for item in await caller.call_stream(b"many"):
                assert item == message(number, 100_000)
                number += 1
            assert number == 80
            assert [item async for item in await caller.call_stream(b"one")] == [b"alone"]
            async with await caller.call_stream(b"many") as stream:
                assert await stream.recv() == message(0, 100_000)
                # A receive that is cancelled loses no item.
                receiving = asyncio.create_task(stream.recv())
                await asyncio.sleep(0)
                receiving.cancel()
                expected = 1
                with contextlib.suppress(asyncio.CancelledError):
                    assert await receiving == message(1, 100_000)
                    expected = 2
                assert await stream.recv() == message(expected, 100_000)
            while not ended:
                await asyncio.sleep(0.001)
            with pytest.raises(EOFError):
                await stream.recv()
            assert [item async for item in await caller.call_stream(b"one")] == [b"alone"]

    run(main())


def test_pushed_messages_and_failures(address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(call: aio.Call) -> bytes | None:
        if call.data == b"who":
            return str(call.client).encode()
        if call.data == b"fail":
            call.fail("a note has a text")
        elif call.data == b"raise":
            raise ZeroDivisionError
        return None

    async def main() -> None:
        async with room(address, fail) as (caller, server):
            client = int(await caller.call(b"who"))
            pushing = asyncio.create_task(caller.next_push())
            await asyncio.sleep(0)
            server.push(b"for all")
            server.push(b"for one", client=client)
            assert await pushing == b"for all"
            assert await caller.next_push() == b"for one"
            texts = {b"fail": "a note has a text", b"drop": None, b"raise": "the server has failed"}
            for request, text in texts.items():
                with pytest.raises(parlour.CallFailed) as caught:
                    await caller.call(request)
                if text is not None:
                    assert caught.value.failure == text

    run(main())
    (record,) = caplog.records
    assert (record.name, record.exc_info and record.exc_info[0]) == ("parlour", ZeroDivisionError)


def test_the_end_of_the_server_ends_every_call(address: str) -> None:
    async def main() -> None:
        held: list[aio.Call] = []

        async def hold(call: aio.Call) -> None:
            held.append(call)

        async with aio.CallServer(address) as server:
            serving = asyncio.create_task(server.serve(hold))
            caller = await aio.Caller.connect(address)
            calls = [asyncio.create_task(caller.call(b"x")) for _ in range(3)]
            while len(held) < 3:
                await asyncio.sleep(0)
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            # Leaving the block would wait for the calls.
            server.close()
        for call in calls:
            with pytest.raises((parlour.Disconnected, parlour.Truncated, parlour.CallFailed)):
                await call
        with pytest.raises((parlour.Disconnected, parlour.Truncated)):
            await caller.call(b"x")
        caller.close()

    run(main())


def test_closing_a_caller_ends_its_tasks(address: str) -> None:
    held: list[aio.Call] = []

    async def keep(call: aio.Call) -> None:
        held.append(call)

    async def main() -> None:
        async with room(address, keep) as (caller, _):
            tasks = [asyncio.create_task(caller.call(b"x")), asyncio.create_task(caller.next_push())]
            await asyncio.sleep(0.01)
            caller.close()
            for task in tasks:
                with pytest.raises(ValueError, match="this caller was closed"):
                    await task
            assert caller.closed

    run(main())


def test_a_loop_that_has_nothing_to_do_sleeps(address: str) -> None:
    """The end of a connection that nobody awaits does not keep the loop awake."""

    async def main() -> None:
        async with room(address, echo) as (caller, server):
            await caller.call(b"x")
            other = await aio.Caller.connect(address)
            await other.call(b"x")
            loop = asyncio.get_running_loop()
            steps = 0
            original = loop._run_once  # type: ignore[attr-defined]

            def count() -> None:
                nonlocal steps
                steps += 1
                original()

            waiting = asyncio.create_task(caller.next_push())
            server.push(b"one")
            server.push(b"two")
            await waiting
            await asyncio.sleep(0.01)
            loop._run_once = count  # type: ignore[attr-defined]
            await asyncio.sleep(0.2)
            assert steps < 50
            other.close()

    run(main())


def test_a_blocking_caller_of_a_loop_and_the_reverse(address: str) -> None:
    async def main() -> None:
        async with aio.CallServer(address) as server:
            serving = asyncio.create_task(server.serve(echo))

            def call() -> bytes:
                with parlour.Caller.connect(address, timeout=DEADLINE) as caller:
                    return caller.call(b"from a thread", timeout=DEADLINE)

            assert await asyncio.to_thread(call) == b"from a thread"
            server.shutdown()
            await serving

    run(main())
    with parlour.CallServer(address) as server:
        with in_thread(lambda: server.serve(lambda call: call.data)) as serving:

            async def calls() -> None:
                async with aio.Caller.connect(address) as caller:
                    assert await caller.call(b"from a loop") == b"from a loop"
                server.shutdown()

            run(calls())
        serving()


def test_calls_leave_no_descriptors_behind(address: str) -> None:
    async def main() -> None:
        async with room(address, echo) as (caller, _):
            await caller.call(b"x")
            await caller.call_stream(b"y")

    run(main())
    gc.collect()
    before = open_fds()
    for _ in range(10):
        run(main())
    gc.collect()
    assert open_fds() <= before


@pytest.mark.skipif(sys.platform != "linux", reason="uvloop is tested on Linux")
def test_calls_work_on_uvloop(address: str) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with room(address, echo) as (caller, _):
            requests = [message(number, 50_000) for number in range(50)]
            assert await asyncio.gather(*(caller.call(data) for data in requests)) == requests

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_caller_that_nobody_keeps_is_freed(address: str) -> None:
    async def main() -> None:
        async with room(address, echo) as (_, server):

            async def use() -> None:
                caller = await aio.Caller.connect(address, timeout=DEADLINE)
                assert await caller.call(b"a request") == b"a request"
                with contextlib.suppress(TimeoutError):
                    # A task waits for the connection.
                    await asyncio.wait_for(caller.next_push(), 0.001)

            counts: list[int] = []
            for _ in range(4):
                await use()
                gc.collect()
                # The server learns of it in its own time.
                while server.stats().open > 1:
                    await asyncio.sleep(0.001)
                counts.append(open_fds())
            assert counts[-1] <= counts[0], counts

    run(main())


class CountingLoop(asyncio.SelectorEventLoop):
    """An event loop that counts its steps."""

    steps = 0

    def _run_once(self) -> None:
        self.steps += 1
        super()._run_once()  # type: ignore[misc]


def test_a_task_that_waits_for_room_does_not_keep_the_event_loop_busy(address: str) -> None:
    sent: list[int] = []

    async def items(call: aio.Call) -> None:
        for number in range(100):
            await call.item(message(number, 100_000))
            sent.append(number)
        call.end()

    async def main() -> None:
        async with room(address, items) as (caller, _):
            loop = asyncio.get_running_loop()
            assert isinstance(loop, CountingLoop)
            stream = await caller.call_stream(b"many")
            while len(sent) < 10:
                await asyncio.sleep(0.001)
            # The client does not read meanwhile. A slow machine needs a moment until the channel is full.
            queued = -1
            while len(sent) != queued:
                before, queued = loop.steps, len(sent)
                await asyncio.sleep(0.2)
            assert loop.steps - before < 100
            assert queued < 100
            assert [item async for item in stream] == [message(number, 100_000) for number in range(100)]

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        runner.run(asyncio.wait_for(main(), DEADLINE))


def test_a_task_waits_for_the_cancellation_of_a_call(address: str) -> None:
    events: list[str] = []

    async def work(call: aio.Call) -> bytes | None:
        if call.data == b"answer":
            waiting = asyncio.create_task(call.wait_cancelled())
            await asyncio.sleep(0)
            call.reply(b"answered")
            await waiting
            events.append("answered")
            return None
        events.append("begun")
        await call.wait_cancelled()
        events.append("cancelled")
        return None

    async def main() -> None:
        async with room(address, work) as (caller, _):
            calling = asyncio.create_task(caller.call(b"work"))
            while not events:
                await asyncio.sleep(0.001)
            calling.cancel()
            while len(events) < 2:
                await asyncio.sleep(0.001)
            assert await caller.call(b"answer") == b"answered"
            while len(events) < 3:
                await asyncio.sleep(0.001)
            assert events == ["begun", "cancelled", "answered"]

    run(main())


def test_a_stream_that_is_open_at_the_shutdown_goes_on(address: str) -> None:
    sent: list[int] = []
    refused = asyncio.Event()

    async def items(call: aio.Call) -> None:
        for number in range(40):
            await call.item(message(number, 100_000))
            sent.append(number)
        await refused.wait()
        call.end()

    async def main() -> None:
        async with aio.CallServer(address) as server:
            serving = asyncio.create_task(server.serve(items, grace=DEADLINE))
            caller = await aio.Caller.connect(address, timeout=DEADLINE, stream_buffer_max=8 << 20)
            stream = await caller.call_stream(b"many")
            while not sent:
                await asyncio.sleep(0.001)
            server.shutdown()
            await asyncio.sleep(0.01)
            with pytest.raises((parlour.Busy, parlour.Disconnected)):
                await caller.call(b"too late")
            refused.set()

            async def collect() -> list[bytes]:
                return [item async for item in stream]

            collecting = asyncio.create_task(collect())
            await serving
        assert await collecting == [message(number, 100_000) for number in range(40)]
        caller.close()

    run(main())


def test_answers_longer_than_the_channel_are_written_before_the_end(address: str) -> None:
    async def main() -> None:
        data = message(1, 3 << 20)
        async with aio.CallServer(address) as server:
            with in_thread(lambda: parlour.Caller.connect(address, timeout=DEADLINE).call(data)) as calling:
                call = await server.next_call()
                call.reply(data)
                del call
                await server.aclose(DEADLINE)
                assert server.closed
            assert calling() == data
            # Leaving the block does nothing more.

    run(main())


def test_the_end_does_not_wait_for_a_client_that_does_not_read(address: str) -> None:
    async def main() -> None:
        server = aio.CallServer(address)
        serving = asyncio.create_task(server.serve(echo))
        caller = await aio.Caller.connect(address, timeout=DEADLINE)
        stream = await caller.call_stream(message(1, 4 << 20))
        server.shutdown()
        await serving
        with contextlib.suppress(parlour.TimedOut):
            await server.aclose(0.01)
        assert server.closed
        stream.close()
        caller.close()

    run(main())


def test_the_rest_of_a_request_is_written_when_nobody_waits_for_the_answer(address: str) -> None:
    async def main() -> None:
        data = message(1, 6 << 20)
        async with aio.CallServer(address) as server:
            # Some transports need the server for connecting.
            taking = asyncio.create_task(server.next_call())
            async with aio.Caller.connect(address, timeout=DEADLINE) as caller:
                stream = await caller.call_stream(data)
                call = await taking
                assert call.data == data
                del call, taking
                stream.close()

    run(main())
