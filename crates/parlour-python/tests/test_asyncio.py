"""The API for asyncio, over each transport."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import parlour
import pytest
from conftest import DEADLINE, message
from parlour import aio


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a test, which fails if it takes too long or leaves a task behind."""

    async def within() -> None:
        async with asyncio.timeout(DEADLINE):
            await main
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    asyncio.run(within(), debug=False)


@contextlib.asynccontextmanager
async def ends(address: str, **options: Any) -> AsyncIterator[tuple[aio.Connection, aio.Connection]]:
    """Yields both ends of a connection: the client's and the server's."""
    async with aio.Server(address, **options) as server:
        connecting = asyncio.ensure_future(aio.connect(address, **options))
        served = await server.accept()
        client = await connecting
        yield client, served
        client.abort()
        served.abort()


@pytest.fixture
def address(transport: str, base: Path) -> str:
    return f"{transport}:{base}/room"


def test_an_echo_server_and_its_client(address: str, base: Path) -> None:
    async def echo(client: aio.Connection) -> None:
        async for received in client:
            await client.send(received)

    async def main() -> None:
        async with aio.Server(address) as server:
            serving = asyncio.create_task(server.serve(echo))
            async with aio.connect(address) as room:
                await room.send(b"hello ", bytearray(b"world"))
                assert await room.recv() == b"hello world"
                assert room.peer.uid_provenance >= parlour.Provenance.FILE_OWNER
                assert room.transport == address.split(":")[0]
            server.shutdown()
            await serving
            assert server.stats().accepted == 1

    run(main())
    assert not list(base.iterdir())


def test_a_server_counts_for_each_client(address: str) -> None:
    async def main() -> None:
        async with aio.Server(address, yields=True, stats=True) as server:
            accepting = asyncio.create_task(server.accept())
            async with aio.connect(address) as room, await accepting as client:
                await room.send(b"hello")
                assert await client.recv() == b"hello"
                (stats,) = server.client_stats()
                assert (stats.number, stats.received.messages, stats.received.bytes) == (1, 1, 5)

    run(main())


def test_ten_thousand_messages_each_way(address: str) -> None:
    count = 10_000

    async def send(connection: aio.Connection) -> None:
        for number in range(count):
            await connection.send(message(number, number % 500))
        await connection.finish()

    async def receive(connection: aio.Connection) -> None:
        number = 0
        async for received in connection:
            assert received == message(number, number % 500)
            number += 1
        assert number == count

    async def main() -> None:
        async with ends(address) as (client, served):
            await asyncio.gather(send(client), send(served), receive(client), receive(served))

    run(main())


def test_a_message_longer_than_the_channel_gets_through(address: str) -> None:
    async def main() -> None:
        async with ends(address) as (client, served):
            big = message(1, 12_000_000)
            _, received = await asyncio.gather(client.send(big), served.recv())
            assert received == big
            buffer = bytearray(1_000_000)
            _, length = await asyncio.gather(client.send(message(2, 999_999)), served.recv_into(buffer))
            assert buffer[:length] == message(2, 999_999)

    run(main())


def test_several_tasks_may_send_and_receive(address: str) -> None:
    async def main() -> None:
        async with ends(address) as (client, served):
            received: list[bytes] = []

            async def send(sender: int) -> None:
                for number in range(50):
                    await client.send(message(sender * 50 + number, 4 + number % 5 * 60_000))

            async def receive() -> None:
                async for got in served:
                    received.append(got)

            async def send_all() -> None:
                await asyncio.gather(*map(send, range(4)))
                await client.finish()

            # Also the end, which one of them finds, ends all of them.
            await asyncio.gather(send_all(), *(receive() for _ in range(3)))
            assert sorted(got[:4] for got in received) == sorted(message(number, 4) for number in range(200))
            for got in received:
                assert got == message(int.from_bytes(got[:4], "little"), len(got))

    run(main())


@pytest.mark.parametrize("first", ["recv", "recv_message", "recv_into", "too small"])
def test_messages_that_were_read_at_once_wake_the_other_tasks_that_receive(address: str, first: str) -> None:
    async def main() -> None:
        async with ends(address) as (client, served):
            waiting = asyncio.create_task(served.recv())
            await asyncio.sleep(0)
            await client.feed(b"one")
            await client.feed(b"two")
            await client.flush()
            # This reads both messages, before the event loop sees the descriptor.
            if first == "too small":
                with pytest.raises(parlour.BufferTooSmall):
                    await served.recv_into(bytearray(1))
                assert await waiting == b"one"
                assert await served.recv() == b"two"
            else:
                buffer = bytearray(3)
                if first == "recv_into":
                    assert await served.recv_into(buffer) == 3
                else:
                    buffer[:] = await getattr(served, first)()
                assert buffer == b"one"
                assert await waiting == b"two"

    run(main())


async def after_steps(steps: int, call: Awaitable[Any]) -> bool:
    """Cancels a call after so many turns of the event loop. Returns true if it was done before."""
    task = asyncio.ensure_future(call)
    for _ in range(steps):
        if task.done():
            break
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
        return True
    except asyncio.CancelledError:
        return False


# More turns of the loop than any call of these tests takes when nothing holds it up.
STEPS = 12


@pytest.mark.parametrize("length", [10, 300_000])
def test_receiving_may_be_cancelled_at_each_await(address: str, length: int) -> None:
    async def main() -> None:
        async with ends(address) as (client, served):
            received: list[bytes] = []

            async def receive() -> None:
                received.append(await served.recv())

            for number in range(STEPS * 3):
                sending = asyncio.create_task(client.send(message(number, length)))
                steps = 0
                while len(received) <= number:
                    await after_steps(steps % STEPS, receive())
                    steps += 1
                await sending
                assert received[number] == message(number, length)
            assert served._connection.try_recv() is None

    run(main())


@pytest.mark.parametrize("length", [10, 300_000])
def test_sending_may_be_cancelled_at_each_await(address: str, length: int) -> None:
    async def main() -> None:
        async with ends(address) as (client, served):
            # So that sending has to wait.
            expected: list[bytes] = []
            while client._connection.try_send(message(0, 50_000)):
                expected.append(message(0, 50_000))
            received: list[bytes] = []

            async def receive() -> None:
                async for got in served:
                    received.append(got)
                    for _ in range(STEPS // 2):
                        await asyncio.sleep(0)

            receiving = asyncio.create_task(receive())
            for number in range(STEPS * 3):
                taken = client.messages_taken
                steps = number
                while client.messages_taken == taken:
                    done = await after_steps(steps % STEPS, client.send(message(number, length)))
                    assert client.messages_taken - taken in ((1,) if done else (0, 1))
                    steps += 1
                expected.append(message(number, length))
            # The loop has written the rest of each message whose sending was cancelled.
            await client.finish()
            await receiving
            assert received == expected

    run(main())


def test_other_calls_may_be_cancelled_at_each_await(address: str) -> None:
    async def main() -> None:
        async with ends(address) as (client, served):
            for steps in range(STEPS):
                await after_steps(steps, client.feed(b"fed"))
                taken = client.messages_taken
                await after_steps(steps, client.flush())
                await after_steps(steps, served.wait_peer_closed())
                assert client.messages_taken == taken
            for _ in range(client.messages_taken):
                assert await served.recv() == b"fed"
            await client.finish()
            with pytest.raises(EOFError):
                await served.recv()

    run(main())


def test_accepting_and_connecting_may_be_cancelled_at_each_await(address: str, base: Path) -> None:
    async def main() -> None:
        connected = 0
        for steps in range(STEPS):
            assert not await after_steps(steps, aio.connect(address, wait=DEADLINE))
            async with aio.Server(address) as server:
                assert not await after_steps(steps, server.accept())

                async def connect() -> None:
                    nonlocal connected
                    async with aio.connect(address) as room:
                        connected += 1
                        await room.send(b"hello")

                async def serve() -> None:
                    with contextlib.suppress(ConnectionError, EOFError):
                        async for client in server:
                            async with client:
                                async for received in client:
                                    assert received == b"hello"

                serving = asyncio.create_task(serve())
                await after_steps(steps, connect())
                async with asyncio.timeout(DEADLINE), aio.connect(address) as room:
                    await room.send(b"hello")
                server.shutdown()
                await serving
            assert not list(base.iterdir()), steps
        assert connected > 0

    run(main())


def test_the_end_and_errors_are_those_of_the_blocking_api(address: str, base: Path) -> None:
    async def main() -> None:
        with pytest.raises(parlour.NoServer):
            await aio.connect(address)
        async with ends(address) as (client, served):
            await client.send(b"last")
            await client.close()
            await client.close()
            await served.wait_peer_closed()
            assert [received async for received in served] == [b"last"]
            with pytest.raises(EOFError):
                await served.recv()
            with pytest.raises(ConnectionError):
                for _ in range(100):
                    await served.send(b"?")
            with pytest.raises(ValueError, match="closed"):
                await client.recv()

    run(main())


@pytest.mark.parametrize("closes", ["close", "abort"])
def test_closing_wakes_the_tasks_that_wait(address: str, closes: str) -> None:
    async def main() -> None:
        async with ends(address) as (client, _):
            calls: list[Callable[[], Coroutine[Any, Any, object]]] = [client.recv, *[client.wait_peer_closed] * 2]
            waiting = [asyncio.create_task(call()) for call in calls]
            await asyncio.sleep(0)
            if closes == "close":
                await client.close()
            else:
                client.abort()
            for task in waiting:
                with pytest.raises(ValueError, match="closed"):
                    await task

    run(main())


def test_closing_waits_until_everything_is_written(address: str) -> None:
    async def main() -> None:
        async with ends(address) as (client, served):
            big = message(5, 8_000_000)
            assert client._connection.try_send(big)
            _, received = await asyncio.gather(client.close(), served.recv())
            assert received == big

    run(main())


def test_closing_may_be_cancelled_at_each_await_and_an_exception_does_not_wait(address: str) -> None:
    async def main() -> None:
        for steps in range(STEPS):
            async with ends(address) as (client, served):
                client._connection.try_send(message(5, 8_000_000))
                is_full = not client._connection.try_flush()
                done = await after_steps(steps, client.close())
                assert client.closed or steps == 0
                assert not (is_full and done)
        async with ends(address) as (client, served):
            with pytest.raises(ZeroDivisionError):
                async with served:
                    served._connection.try_send(message(5, 8_000_000))
                    raise ZeroDivisionError
            assert served.closed

    run(main())


def test_an_exception_of_a_handler_ends_its_client_only(address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(client: aio.Connection) -> None:
        if await client.recv() == b"fail":
            raise ZeroDivisionError
        await client.send(b"fine")

    async def main() -> None:
        async with aio.Server(address) as server:
            serving = asyncio.create_task(server.serve(handler))
            async with aio.connect(address) as one, aio.connect(address) as other:
                await one.send(b"fail")
                with pytest.raises((EOFError, ConnectionError)):
                    await one.recv()
                await other.send(b"go on")
                assert await other.recv() == b"fine"
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving

    with caplog.at_level(logging.ERROR, "parlour"):
        run(main())
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


def test_a_handler_that_fails_after_the_server_was_closed_is_logged(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        server = aio.Server(address)

        async def handler(client: aio.Connection) -> None:
            server.close()
            raise ZeroDivisionError

        serving = asyncio.create_task(server.serve(handler))
        room = await aio.connect(address)
        with pytest.raises((EOFError, ConnectionError)):
            await room.recv()
        room.abort()
        with pytest.raises((ValueError, parlour.Shutdown)):
            await serving

    with caplog.at_level(logging.ERROR, "parlour"):
        run(main())
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]
    assert "'room'" in caplog.text


def test_a_descriptor_of_a_dropped_connection_can_be_used_again(address: str) -> None:
    async def main() -> None:
        async with aio.Server(address) as server:
            for _ in range(20):
                connecting = asyncio.ensure_future(aio.connect(address))
                served = await server.accept()
                client = await connecting
                del connecting
                # The loop watches the descriptor when the connection is dropped.
                assert not await after_steps(3, client.recv())
                del client
                await served.wait_peer_closed()
                del served

    run(main())


def test_uvloop_works(address: str) -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")

    async def main() -> None:
        async with ends(address) as (client, served):
            big = message(1, 3_000_000)
            for number in range(100):
                await client.send(message(number, number))
                assert await served.recv() == message(number, number)
            _, received = await asyncio.gather(client.send(big), served.recv())
            assert received == big
            receiving = asyncio.ensure_future(served.recv())
            await asyncio.sleep(0)
            await client.close()
            with pytest.raises(EOFError):
                await receiving

    if sys.version_info >= (3, 12):
        asyncio.run(main(), loop_factory=uvloop.new_event_loop)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())


def test_a_hub_serves_clients_in_one_task(address: str, base: Path) -> None:
    async def serve(hub: aio.Hub) -> None:
        async for event in hub:
            if event.kind == "message" and event.client is not None:
                hub.send(event.client, b"to you: ", event.data)
                hub.broadcast(b"to the others: ", event.data, exclude=event.client)

    async def main() -> None:
        async with aio.Hub(address) as hub:
            serving = asyncio.create_task(serve(hub))
            async with aio.connect(address) as one, aio.connect(address) as other:
                while len(hub.clients()) < 2:
                    await asyncio.sleep(0)
                await one.send(b"hello")
                assert await one.recv() == b"to you: hello"
                assert await other.recv() == b"to the others: hello"
                # Other tasks send while one waits for events, also more than the channel takes.
                big = [message(number, 90_000) for number in range(8)]
                for part in big:
                    assert hub.broadcast(part) == []
                for part in big:
                    assert await one.recv() == part
                    assert await other.recv() == part
            hub.shutdown()
            await serving
            assert hub.name in repr(hub)

    run(main())
    assert not list(base.iterdir())


def test_a_subscriber_gets_the_kept_values_while_a_task_waits_for_events(address: str) -> None:
    async def main() -> None:
        async with aio.Hub(address, kept_values_max=10) as hub:
            hub.publish("weather/vienna", b"19 degrees")
            hub.publish("weather/graz", b"20 degrees")
            assert (hub.forget("weather/graz"), hub.forget("weather/graz")) == (True, False)

            async def serve() -> None:
                async for _ in hub:
                    pass

            serving = asyncio.create_task(serve())
            async with aio.connect(address) as room:
                while not hub.clients():
                    await asyncio.sleep(0)
                # The task waits for events again.
                while not hub._reading._waiters:
                    await asyncio.sleep(0)
                hub.subscribe(hub.clients()[0], "weather/")
                assert await room.recv() == b"19 degrees"
                hub.publish("weather/rome", b"25 degrees")
                assert await room.recv() == b"25 degrees"
            hub.shutdown()
            await serving

    run(main())


def test_waiting_for_events_may_be_cancelled_at_each_await(address: str) -> None:
    async def main() -> None:
        async with aio.Hub(address) as hub:
            events: list[parlour.Event] = []

            async def take() -> None:
                events.append(await hub.next_event())

            async def until(count: int) -> None:
                steps = 0
                while len(events) < count:
                    await after_steps(steps % STEPS, take())
                    steps += 1

            connecting = asyncio.ensure_future(aio.connect(address))
            await until(1)
            async with await connecting as room:
                for number in range(STEPS * 3):
                    await room.send(message(number, 100))
                    await until(number + 2)
            assert [event.data for event in events[1:]] == [message(number, 100) for number in range(STEPS * 3)]

    run(main())


def test_a_hub_aborts_a_client_and_tells_what_is_buffered_for_it(address: str) -> None:
    async def main() -> None:
        async with aio.Hub(address, write_buffer_max=64 << 20) as hub:
            connecting = asyncio.ensure_future(aio.connect(address))
            joined = await hub.next_event()
            assert joined.client is not None
            async with await connecting as room:
                assert hub.write_buffer_len(joined.client) == 0
                hub.send(joined.client, message(1, 8 << 20))
                assert hub.write_buffer_len(joined.client) > 0
                hub.abort(joined.client)
                assert (await hub.next_event()).kind == "left"
                with pytest.raises((parlour.Truncated, parlour.Disconnected)):
                    await room.recv()

    run(main())


def test_a_task_gets_a_pidfd_of_its_peer(base: Path) -> None:
    async def main() -> None:
        async with ends("unix:room") as (client, _):
            try:
                fd = client.peer_pidfd()
            except OSError:
                pytest.skip("the kernel has no pidfds of peers")
            try:
                assert os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[pidfd]"
                assert client.peer.pid == os.getpid()
            finally:
                os.close(fd)

    run(main())
