"""Messages that arrive together, and the capabilities of connections."""

from __future__ import annotations

import asyncio
from pathlib import Path

import parlour
import pytest
from conftest import DEADLINE, Link, in_thread, message, open_fds
from parlour import aio
from test_asyncio import ends, run


@pytest.fixture
def address(transport: str, base: Path) -> str:
    return f"{transport}:{base}/room"


def test_batches_bring_every_message_once_and_in_order(link: Link) -> None:
    sent = [message(number, number % 50) for number in range(1000)]

    def send() -> None:
        for one in sent:
            link.served.feed(one)
        link.served.finish()

    with in_thread(send):
        received: list[bytes] = []
        batches = 0
        while True:
            try:
                received += link.client.recv_batch(timeout=DEADLINE)
            except EOFError:
                break
            batches += 1
    assert received == sent
    # A datagram is a batch of its own, unless the peer puts several messages into one.
    assert batches < len(sent) or link.client.transport == "packet"


def test_a_batch_gives_up_at_its_deadline(link: Link) -> None:
    for timeout in (0, 0.01):
        with pytest.raises(parlour.TimedOut):
            link.client.recv_batch(timeout=timeout)
    link.served.send(b"later")
    assert link.client.recv_batch(timeout=DEADLINE) == [b"later"]
    link.served.close()
    with pytest.raises(EOFError):
        link.client.recv_batch(timeout=DEADLINE)


def test_a_message_that_was_kept_is_the_first_batch(link: Link) -> None:
    for one in (b"long", b"x"):
        link.served.send(one)
    with pytest.raises(parlour.BufferTooSmall):
        link.client.recv_into(bytearray(1), timeout=DEADLINE)
    assert link.client.recv_batch(timeout=DEADLINE) == [b"long"]
    assert link.client.recv(timeout=DEADLINE) == b"x"


def test_a_batch_closes_the_descriptors_of_its_messages() -> None:
    one, other = parlour.pair("unix", fds_max=1)
    before = open_fds()
    with open("/dev/null", "rb") as file:
        one.send(b"with a file", fds=[file])
    assert other.recv_batch(timeout=DEADLINE) == [b"with a file"]
    assert open_fds() == before


def test_threads_that_receive_batches_all_go_on(link: Link) -> None:
    with in_thread(lambda: link.client.recv_batch(timeout=DEADLINE)) as one:
        one.wait_until_asleep()
        with in_thread(lambda: link.client.recv(timeout=DEADLINE)) as other:
            other.wait_until_asleep()
            link.served.send(b"first")
            link.served.send(b"second")
            link.served.close()
    # A batch may have both messages, and the other thread sees the end then.
    seen = one() if one.results else []
    if other.results:
        seen.append(other())
    assert sorted(seen) == [b"first", b"second"]
    assert all(isinstance(failure, EOFError) for failure in one.failures + other.failures)


def test_a_task_receives_batches(address: str) -> None:
    async def main() -> None:
        async with ends(address) as (client, served):
            receiving = asyncio.ensure_future(served.recv_batch())
            await asyncio.sleep(0)
            for number in range(100):
                await client.feed(b"%d" % number)
            await client.flush()
            received = await receiving
            with pytest.raises(TimeoutError):
                while True:
                    async with asyncio.timeout(0.1 if len(received) == 100 else DEADLINE):
                        received += await served.recv_batch()
            assert received == [b"%d" % number for number in range(100)]
            await client.finish()
            with pytest.raises(EOFError):
                await served.recv_batch()

    run(main())


def test_a_connection_has_capabilities(link: Link) -> None:
    transport = link.client.transport
    all_of_it = link.client.capabilities
    assert all_of_it.message_max == link.client.message_max
    assert all_of_it.credentials == (transport != "fifo") and all_of_it.zero_copy == (transport != "fifo")
    assert all_of_it.descriptors == (transport in ("unix", "packet"))
    assert isinstance(all_of_it.boundaries, bool)
    assert all_of_it == link.client.capabilities and "message_max" in repr(all_of_it)


def test_a_hub_tells_the_capabilities_of_a_client(address: str) -> None:
    with parlour.Hub(address) as hub, in_thread(lambda: parlour.connect(address)) as connecting:
        client = hub.next_event(timeout=DEADLINE).client
        assert client is not None
        connecting.join()
        assert hub.capabilities(client) == connecting().capabilities
        assert hub.transport(client) == connecting().transport
        hub.disconnect(client)
        assert hub.next_event(timeout=DEADLINE).kind == "left"
        assert hub.capabilities(client) is None and hub.transport(client) is None


def test_connections_and_hubs_of_an_event_loop_have_capabilities(address: str) -> None:
    async def main() -> None:
        async with aio.Hub(address) as hub:
            connecting = asyncio.ensure_future(aio.connect(address))
            client = (await hub.next_event()).client
            assert client is not None
            async with await connecting as connection:
                assert hub.capabilities(client) == connection.capabilities
                assert hub.transport(client) == connection.transport

    run(main())
