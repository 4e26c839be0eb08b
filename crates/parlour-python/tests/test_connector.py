"""Connecting to one name many times."""

from __future__ import annotations

import asyncio
from pathlib import Path

import parlour
import pytest
from conftest import DEADLINE, Call, Echo, in_thread, open_fds, outcome, python
from parlour import aio
from test_asyncio import run


def talk(connection: parlour.Connection, text: bytes) -> None:
    with connection:
        connection.send(text)
        assert connection.recv(timeout=DEADLINE) == text


def test_a_connector_connects_again_and_again(echo: Echo) -> None:
    echo.start()
    connector = parlour.Connector(echo.address, wait=DEADLINE)
    assert connector.address == echo.address and echo.address in repr(connector)
    for number in range(3):
        talk(connector.connect(), b"%d" % number)


def test_a_connector_finds_the_next_server(base: Path) -> None:
    connector = parlour.Connector("unix:room")
    with pytest.raises(parlour.NoServer):
        connector.connect()
    for _ in range(2):
        with parlour.Server("unix:room") as server:
            with connector.connect(), server.accept(timeout=DEADLINE):
                pass
        with pytest.raises(parlour.NoServer):
            connector.connect()


def test_a_connector_waits_for_a_server_as_connect_does(base: Path) -> None:
    connector = parlour.Connector("unix:room", wait=DEADLINE)
    with in_thread(connector.connect) as connecting:
        connecting.wait_until_asleep()
        with parlour.Server("unix:room") as server:
            server.accept(timeout=DEADLINE).close()
            connecting.join()
    connecting().close()


def test_threads_share_a_connector(base: Path) -> None:
    connector = parlour.Connector("unix:room")
    with parlour.Server("unix:room") as server:
        calls = [Call(connector.connect) for _ in range(8)]
        served = [server.accept(timeout=DEADLINE) for _ in calls]
        for call in calls:
            call.join()
            call().close()
        assert all(list(one) == [] for one in served)


def test_a_connector_checks_its_options(base: Path) -> None:
    with pytest.raises(parlour.InvalidName):
        parlour.Connector("no/name")
    with pytest.raises(parlour.InvalidOption):
        parlour.Connector("room", ring_size=1)
    with pytest.raises(TypeError, match="nonsense"):
        parlour.Connector("room", nonsense=1)  # type: ignore[call-arg]


def test_a_connector_closes_its_descriptors(base: Path) -> None:
    with parlour.Server("unix:room") as server:
        connector = parlour.Connector("unix:room")
        connector.connect().close()
        server.accept(timeout=DEADLINE).close()
        before = open_fds()
        del connector
        assert open_fds() < before


def test_a_forked_child_uses_a_connector(base: Path) -> None:
    process = python(
        """
        import os, parlour

        with parlour.Server("unix:room") as server:
            connector = parlour.Connector("unix:room")
            connector.connect().close()
            server.accept(timeout=60).close()
            child = os.fork()
            if child == 0:
                connector.connect().send(b"from the child")
                os._exit(0)
            print(server.accept(timeout=60).recv(timeout=60))
            assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert outcome(process) == (0, "b'from the child'\n", "")


def test_a_connector_of_an_event_loop_connects_again_and_again(transport: str, base: Path) -> None:
    async def echo(client: aio.Connection) -> None:
        async for received in client:
            await client.send(received)

    async def main() -> None:
        async with aio.Server(f"{transport}:room") as server:
            serving = asyncio.create_task(server.serve(echo))
            connector = aio.Connector("room")
            assert connector.address == "room" and "parlour.aio.Connector" in repr(connector)
            for number in range(3):
                async with connector.connect() as room:
                    await room.send(b"%d" % number)
                    assert await room.recv() == b"%d" % number
            room = await connector.connect()
            await room.close()
            server.shutdown()
            await serving
            with pytest.raises(TypeError, match="nonsense"):
                aio.Connector("room", nonsense=1)  # type: ignore[call-arg]

    run(main())


def test_an_attempt_of_an_event_loop_is_cancelled_without_a_trace(base: Path) -> None:
    async def main() -> None:
        connector = aio.Connector("room", wait=DEADLINE)
        before = open_fds()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await connector.connect()
        assert open_fds() <= before + 5
        with parlour.Server("unix:room") as server:
            connecting = asyncio.ensure_future(connector.connect())
            await asyncio.sleep(0)
            served = await asyncio.to_thread(server.accept, DEADLINE)
            await (await connecting).close()
            served.close()

    run(main())
