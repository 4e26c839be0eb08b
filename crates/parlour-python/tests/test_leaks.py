"""Memory and descriptors over many connections, messages and calls.

`$PARLOUR_LEAK_COUNT` is the number of each, over all transports together. `.ci/python` counts to 100,000.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import parlour
from conftest import DEADLINE, eventually, in_thread, message, open_fds
from parlour import aio

TOTAL = int(os.environ.get("PARLOUR_LEAK_COUNT", "4000"))
COUNT = max(TOTAL // len(parlour.TRANSPORTS), 1)
# The shares of the connections, in percent: over some transports they take much longer.
SHARES = {"unix": 50, "packet": 30, "fifo": 15, "shm": 5}
# The memory that the allocator and the interpreter keep, in bytes. A call that leaks 100 bytes each time exceeds it at
# 100,000.
SLACK = 2 << 20


def resident() -> int:
    """Returns the bytes of memory that this process has in use, without files that it has mapped."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not tell")


def counted(work: Callable[[int], None], count: int = COUNT) -> None:
    """Works so many times, and checks that nothing is left behind, after the first part, which fills what is kept."""
    work(count // 10 + 200)
    gc.collect()
    fds, memory, threads = open_fds(), resident(), threading.active_count()
    work(count)
    gc.collect()
    # A thread that has ended closes its own a moment later.
    eventually(lambda: open_fds() <= fds + 3)
    assert threading.active_count() == threads
    assert resident() - memory < SLACK


def test_connections_leave_nothing_behind(transport: str, base: Path) -> None:
    address = f"{transport}:{base}/room"
    with parlour.Server(address, backlog=16) as server:

        def work(count: int) -> None:
            def serve() -> None:
                for _ in range(count):
                    with server.accept(timeout=DEADLINE) as client:
                        client.send(client.recv(timeout=DEADLINE))

            with in_thread(serve) as served:
                for _ in range(count):
                    with parlour.connect(address, timeout=DEADLINE) as room:
                        room.send(b"hello")
                        assert room.recv(timeout=DEADLINE) == b"hello"
            served()

        counted(work, TOTAL * SHARES[transport] // 100)
    assert not list(base.iterdir())


def test_messages_leave_nothing_behind(transport: str, base: Path) -> None:
    one, other = parlour.pair(transport)
    data = message(1, 1000)
    buffer = bytearray(1000)

    def work(count: int) -> None:
        for number in range(count):
            one.send(data)
            if number % 3 == 0:
                assert other.recv() == data
            elif number % 3 == 1:
                assert other.recv_into(buffer) == len(data)
            else:
                assert len(other.recv_message()) == len(data)

    counted(work)
    one.close()
    other.close()


def test_shared_blocks_leave_nothing_behind() -> None:
    one, other = parlour.pair("unix", fds_max=1)

    def work(count: int) -> None:
        for number in range(count):
            one.send(b"", shared=[parlour.SharedBytes(message(number, 100))])
            (block,) = other.recv_message().take_shared()
            assert len(memoryview(block)) == 100

    counted(work)
    one.close()
    other.close()


def test_calls_leave_nothing_behind(transport: str, base: Path) -> None:
    address = f"{transport}:{base}/calls"
    with parlour.CallServer(address) as server:
        with in_thread(lambda: server.serve(lambda call: call.data)) as serving:
            with parlour.Caller.connect(address, timeout=DEADLINE) as caller:

                def work(count: int) -> None:
                    for number in range(count):
                        assert caller.call(b"x", timeout=DEADLINE) == b"x"
                        if number % 10 == 0:
                            caller.call_stream(b"dropped", timeout=DEADLINE)

                counted(work)
            server.shutdown()
        serving()


def test_coroutines_that_are_cancelled_leave_nothing_behind(transport: str, base: Path) -> None:
    async def give_up(begin: Callable[[], Coroutine[Any, Any, object]]) -> None:
        task = asyncio.create_task(begin())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            enter = stack.enter_async_context
            server = await enter(aio.Server(f"{transport}:{base}/room"))
            accepting = asyncio.create_task(server.accept())
            # The server never greets, so every call waits.
            caller = await enter(aio.Caller.connect(f"{transport}:{base}/room", timeout=DEADLINE))
            served = await enter(await accepting)
            while len(await served.recv()) != 8:
                pass
            full, idle = aio.pair(transport)
            await enter(idle)
            stack.callback(full.abort)
            while full._connection.try_send(bytes(1000)):
                pass
            hub = await enter(aio.Hub(f"{transport}:{base}/hub"))
            calls = await enter(aio.CallServer(f"{transport}:{base}/calls"))
            nobody = await enter(aio.Session(f"{transport}:{base}/nobody"))
            waits: list[Callable[[], Coroutine[Any, Any, object]]] = [
                lambda: caller.call(b"a request"),
                caller.next_push,
                served.recv,
                served.wait_peer_closed,
                lambda: full.send(b"x"),
                server.accept,
                hub.next_event,
                calls.next_call,
                nobody.recv,
            ]

            async def work(count: int) -> None:
                for number in range(count):
                    await give_up(waits[number % len(waits)])

            await work(COUNT // 10 + 200)
            gc.collect()
            fds, memory = open_fds(), resident()
            await work(COUNT)
            gc.collect()
            assert open_fds() <= fds + 3
            assert resident() - memory < SLACK

    asyncio.run(main())
