"""Values as JSON in messages."""

from __future__ import annotations

import asyncio
import logging
import math
from pathlib import Path
from typing import Any

import parlour
import pytest
from conftest import DEADLINE, Echo, Link, in_thread
from parlour import aio

VALUES: list[Any] = [None, True, 0, -1.5, "", "a\n\u2028ü€😀", [], {}, [1, [2, {"three": None}]], {"ключ": [1, 2]}]

# What `json` of Python writes or reads, and what is no JSON, or no value that Python has.
BAD_VALUES: list[Any] = [math.nan, math.inf, {1, 2}, b"bytes", object(), "\ud800", {(1, 2): 3}]
BAD_MESSAGES = [b"", b"{", b"NaN", b"[-Infinity]", b"\xff", b"1 2", b"[" * 100_000, b"9" * 100_000]


def nested() -> list[Any]:
    """Returns a list that contains itself."""
    value: list[Any] = []
    value.append(value)
    return value


def test_values_arrive_as_they_were_sent(link: Link) -> None:
    for value in VALUES:
        link.client.send_json(value, timeout=DEADLINE)
        assert link.served.recv_json(timeout=DEADLINE) == value
    link.client.send_json({"b": [1, "ü"]})
    assert link.served.recv(timeout=DEADLINE) == '{"b":[1,"ü"]}'.encode()
    with pytest.raises(parlour.TimedOut):
        link.served.recv_json(timeout=0)
    link.client.close()
    with pytest.raises(EOFError):
        link.served.recv_json(timeout=DEADLINE)


def test_what_is_no_json_is_an_error_and_the_connection_goes_on(link: Link) -> None:
    for value in [*BAD_VALUES, nested()]:
        with pytest.raises(parlour.Encoding, match="not JSON"):
            link.client.send_json(value)
    for bad in BAD_MESSAGES:
        link.client.send(bad, timeout=DEADLINE)
        link.client.send_json("next", timeout=DEADLINE)
        with pytest.raises(ValueError, match="not JSON") as error:
            link.served.recv_json(timeout=DEADLINE)
        assert isinstance(error.value, parlour.Encoding)
        assert len(str(error.value)) < 300
        assert link.served.recv_json(timeout=DEADLINE) == "next"


def test_sessions_and_coroutines_send_and_receive_values(echo: Echo) -> None:
    async def main() -> None:
        async with asyncio.timeout(DEADLINE), aio.Session(echo.address, timeout=DEADLINE) as session:
            for value in VALUES:
                await session.send_json(value)
                assert await session.recv_json() == value
        one, other = aio.pair()
        async with asyncio.timeout(DEADLINE), one, other:
            await one.send_json({"ü": 1})
            assert await other.recv_json() == {"ü": 1}
            await one.send(b"{")
            with pytest.raises(parlour.Encoding):
                await other.recv_json()
            with pytest.raises(parlour.Encoding):
                await one.send_json(math.nan)

    echo.start()
    with parlour.Session(echo.address, timeout=DEADLINE) as session:
        for value in VALUES:
            session.send_json(value, timeout=DEADLINE)
            assert session.recv_json(timeout=DEADLINE) == value
    asyncio.run(main())


def test_calls_carry_values(transport: str, base: Path) -> None:
    address = f"{transport}:{base}/calls"

    def handle(call: parlour.Call) -> None:
        value = call.json()
        for item in value if isinstance(value, list) else []:
            call.item_json(item)
        if isinstance(value, list):
            call.end()
        elif value == "push":
            server.push_json({"pushed": value}, client=call.client)
            call.reply(b"{")
        else:
            with pytest.raises(parlour.Encoding):
                call.reply_json(math.nan)
            call.reply_json(value)

    with parlour.CallServer(address) as server, in_thread(lambda: server.serve(handle)) as serving:
        with parlour.Caller.connect(address, timeout=DEADLINE) as caller:
            for value in VALUES[:6]:
                assert caller.call_json(value, timeout=DEADLINE) == value
            with pytest.raises(parlour.Encoding):
                caller.call_json(math.nan)
            stream = caller.call_stream_json([1, "two", None], timeout=DEADLINE)
            assert [stream.recv_json(timeout=DEADLINE) for _ in range(3)] == [1, "two", None]
            with pytest.raises(EOFError):
                stream.recv_json(timeout=DEADLINE)
            with pytest.raises(parlour.Encoding):
                caller.call_json("push", timeout=DEADLINE)
            assert caller.next_push_json(timeout=DEADLINE) == {"pushed": "push"}
        with parlour.CallSession(address, timeout=DEADLINE) as session:
            assert session.call_json({"a": 1}, timeout=DEADLINE) == {"a": 1}
            assert session.call_stream_json([5], timeout=DEADLINE).recv_json(timeout=DEADLINE) == 5
            with pytest.raises(parlour.Encoding):
                session.call_json("push", timeout=DEADLINE)
            assert session.next_push_json(timeout=DEADLINE) == {"pushed": "push"}
        server.shutdown()
    serving()


def test_a_request_that_is_no_json_fails_at_its_caller(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "parlour")
    with parlour.CallServer("unix:calls") as server:
        with in_thread(lambda: server.serve(lambda call: call.reply_json(call.json()))) as serving:
            with parlour.Caller.connect("calls", timeout=DEADLINE) as caller:
                with pytest.raises(parlour.CallFailed, match="the server has failed"):
                    caller.call(b"{", timeout=DEADLINE)
                assert caller.call_json("after", timeout=DEADLINE) == "after"
            server.shutdown()
        serving()
    assert len(caplog.records) == 1


def test_calls_of_tasks_carry_values(transport: str, base: Path) -> None:
    address = f"{transport}:{base}/calls"

    async def handle(call: aio.Call) -> None:
        value = call.json()
        if isinstance(value, list):
            for item in value:
                await call.item_json(item)
            return call.end()
        server.push_json({"pushed": value})
        call.reply_json(value)

    async def ask(caller: aio.Caller | aio.CallSession) -> None:
        for value in VALUES[:6]:
            assert await caller.call_json(value) == value
            assert await caller.next_push_json() == {"pushed": value}
        stream = await caller.call_stream_json([1, "two"])
        assert [await stream.recv_json(), await stream.recv_json()] == [1, "two"]
        with pytest.raises(EOFError):
            await stream.recv_json()
        with pytest.raises(parlour.Encoding):
            await caller.call_json(math.nan)

    async def main() -> None:
        nonlocal server
        async with asyncio.timeout(DEADLINE), aio.CallServer(address) as server:
            serving = asyncio.create_task(server.serve(handle))
            async with aio.Caller.connect(address, timeout=DEADLINE) as caller:
                await ask(caller)
            async with aio.CallSession(address, timeout=DEADLINE) as session:
                await ask(session)
            server.shutdown()
            await serving

    server: aio.CallServer
    asyncio.run(main())


def test_a_hub_sends_and_receives_values(base: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(DEADLINE), aio.Hub("unix:room") as hub, aio.connect("room") as room:
            assert (await hub.next_event()).kind == "joined"
            await room.send_json({"a": 1})
            event = await hub.next_event()
            assert event.client is not None and event.json() == {"a": 1}
            hub.subscribe(event.client, "")
            hub.send_json(event.client, 1)
            assert hub.broadcast_json([2]) == hub.publish_json("topic", {"three": 3}) == []
            assert hub.broadcast_json("not you", exclude=event.client) == []
            hub.disconnect(event.client)
            assert (await hub.next_event()).kind == "left"
            assert [await room.recv_json() for _ in range(3)] == [1, [2], {"three": 3}]

    asyncio.run(main())
    with parlour.Hub("unix:room") as hub, parlour.connect("room") as room:
        joined = hub.next_event(timeout=DEADLINE)
        assert joined.client is not None
        with pytest.raises(parlour.Encoding):
            joined.json()
        room.send_json("value")
        assert hub.next_event(timeout=DEADLINE).json() == "value"
        hub.subscribe(joined.client, "")
        hub.send_json(joined.client, 1)
        assert hub.broadcast_json([2]) == hub.publish_json("topic", {"three": 3}) == []
        assert hub.broadcast_json("not you", exclude=joined.client) == []
        for send in (
            lambda: hub.send_json(joined.client, math.nan),
            lambda: hub.broadcast_json(math.nan),
            lambda: hub.publish_json("topic", math.nan),
        ):
            with pytest.raises(parlour.Encoding):
                send()
        hub.disconnect(joined.client)
        assert hub.next_event(timeout=DEADLINE).kind == "left"
        assert [room.recv_json(timeout=DEADLINE) for _ in range(3)] == [1, [2], {"three": 3}]
