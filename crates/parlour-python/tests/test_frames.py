"""Frames: memory that one process fills again and again, and its readers read without a copy."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import parlour
import pytest
from conftest import DEADLINE, in_shm, in_thread, open_fds, outcome, python
from parlour import aio

CARRIERS = ["shm", "packet", "unix"]
LENGTH = 10_000
HAS_NUMPY = importlib.util.find_spec("numpy") is not None


class Ends:
    """A publisher and its reader, with a connection between them."""

    def __init__(self, transport: str, **options: Any) -> None:
        self.pool = parlour.FramePool(LENGTH, **{"readers": 1, **options})
        self.served, self.client = parlour.pair(transport, fds_max=2)
        self.reader = parlour.FrameReader(self.client)
        message = self.served.recv_message(timeout=DEADLINE)
        assert parlour.FramePool.is_attach(message)
        assert not parlour.FrameReader.is_frame(message)
        self.admitted = self.pool.admit(message, self.served)

    def filled(self, byte: int) -> parlour.Frame:
        frame = self.pool.loan(timeout=DEADLINE)
        memoryview(frame)[:] = bytes([byte]) * LENGTH
        return frame

    def publish(self, byte: int, timeout: float | None = DEADLINE) -> None:
        with self.filled(byte) as frame:
            self.pool.send(self.admitted, frame, b"note", timeout=timeout)

    def close(self) -> None:
        self.reader.close()
        self.pool.close()
        self.client.close()
        self.served.close()


@pytest.fixture(params=CARRIERS)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    made = Ends(request.param)
    yield made
    made.close()


def test_a_frame_is_copied_out_and_returns_when_it_is_released(ends: Ends) -> None:
    ends.publish(7)
    assert ends.admitted.held == 1
    with ends.reader.recv(timeout=DEADLINE) as frame:
        assert (len(frame), frame.note, frame.lent, frame.released) == (LENGTH, b"note", True, False)
        assert frame.copy() == b"\7" * LENGTH
        room = bytearray(LENGTH + 1)
        assert frame.copy_into(room) == LENGTH
        assert room == b"\7" * LENGTH + b"\0"
        with pytest.raises(parlour.BufferTooSmall) as too_small:
            frame.copy_into(bytearray(LENGTH - 1))
        assert too_small.value.needed == LENGTH
        with pytest.raises(BufferError, match="trust_publisher"):
            memoryview(frame)
    assert frame.released and ends.admitted.held == 0
    with pytest.raises(ValueError, match="released"):
        frame.copy()
    ends.publish(8)
    frame = ends.reader.recv(timeout=DEADLINE)
    assert ends.admitted.held == 1
    del frame
    assert ends.admitted.held == 0


def test_a_trusted_frame_is_read_in_place_until_its_last_view_is_gone(ends: Ends) -> None:
    ends.reader.trust_publisher()
    ends.publish(7)
    with ends.reader.recv(timeout=DEADLINE) as frame:
        view = memoryview(frame)
        assert view.readonly and view == b"\7" * LENGTH == frame.copy()
        with pytest.raises(TypeError):
            view[0] = 1
    assert frame.released and ends.admitted.held == 1
    with pytest.raises(ValueError, match="released"):
        memoryview(frame)
    assert view[-1] == 7
    view.release()
    assert ends.admitted.held == 0


@pytest.mark.skipif(not HAS_NUMPY, reason="numpy is not installed")
def test_numpy_fills_and_reads_a_frame_without_a_copy(ends: Ends) -> None:
    import numpy

    ends.reader.trust_publisher()
    with ends.pool.loan() as frame:
        array = numpy.frombuffer(memoryview(frame), dtype=numpy.int32)
        array[:] = numpy.arange(len(array))
        assert array.flags.writeable and not array.flags.owndata
        # The array could change the frame later.
        with pytest.raises(BufferError, match="del"):
            ends.pool.send(ends.admitted, frame)
        assert ends.admitted.held == 0
        del array
        ends.pool.send(ends.admitted, frame, timeout=DEADLINE)
        sent = numpy.frombuffer(memoryview(frame), dtype=numpy.int32)
        assert not sent.flags.writeable
    received = numpy.frombuffer(memoryview(ends.reader.recv(timeout=DEADLINE)), dtype=numpy.int32)
    assert not received.flags.writeable and not received.flags.owndata
    assert (received == numpy.arange(LENGTH // 4)).all() and (sent == received).all()
    # Both are the same memory, at different addresses.
    assert ends.admitted.held == 1
    del received
    assert ends.admitted.held == 0


def test_a_frame_is_written_until_it_is_sent_and_may_be_shorter(ends: Ends) -> None:
    with ends.pool.loan() as frame:
        view = memoryview(frame)
        assert not view.readonly and len(frame) == LENGTH
        with pytest.raises(BufferError):
            frame.truncate(1)
        view.release()
        frame.truncate(3)
        memoryview(frame)[:] = b"abc"
        ends.pool.send(ends.admitted, frame, timeout=DEADLINE)
        with pytest.raises(ValueError, match="sent"):
            frame.truncate(1)
        assert bytes(memoryview(frame)) == b"abc"
    with pytest.raises(ValueError, match="released"):
        ends.pool.send(ends.admitted, frame)
    with pytest.raises(ValueError, match="released"):
        len(frame)
    assert ends.reader.recv(timeout=DEADLINE).copy() == b"abc"


def test_a_reader_beyond_its_share_gets_copies(ends: Ends) -> None:
    for byte in range(3):
        ends.publish(byte)
    frames = [ends.reader.recv(timeout=DEADLINE) for _ in range(3)]
    assert [frame.lent for frame in frames] == [True, True, False]
    assert [frame.copy()[0] for frame in frames] == [0, 1, 2]


@pytest.mark.parametrize("transport", CARRIERS)
def test_a_publisher_waits_for_a_reader_that_holds_its_share_or_goes_on(transport: str) -> None:
    refusing = Ends(transport, share=1, at_share="refuse")
    refusing.publish(1)
    with pytest.raises(parlour.Busy):
        refusing.publish(2)
    refusing.close()
    waiting = Ends(transport, share=1, at_share="wait")
    waiting.publish(1)
    for timeout in (0, 0.01):
        with pytest.raises(parlour.TimedOut):
            waiting.publish(2, timeout=timeout)
    with in_thread(lambda: waiting.publish(2)) as publishing:
        publishing.wait_until_asleep()
        waiting.reader.recv(timeout=DEADLINE).release()
    publishing()
    assert waiting.reader.recv(timeout=DEADLINE).copy()[0] == 2
    waiting.close()


@pytest.mark.parametrize("ending", ["close", "remove"])
@pytest.mark.parametrize("is_hub", [False, True])
def test_a_send_that_waits_for_a_reader_ends_with_its_pool_and_with_the_reader(
    ending: str, is_hub: bool, base: Path
) -> None:
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(parlour.FramePool(100, readers=1, share=1, at_share="wait"))
        if is_hub:
            hub = stack.enter_context(parlour.Hub("unix:room", fds_max=2))
            client = stack.enter_context(parlour.connect("unix:room", wait=DEADLINE))
            reader = parlour.FrameReader(client)
            while (event := hub.next_event(timeout=DEADLINE)).kind != "message":
                pass
            assert event.message is not None
            admitted = pool.admit(event.message, hub, event.client)
        else:
            one, client = parlour.pair("unix", fds_max=2)
            reader = parlour.FrameReader(client)
            admitted = pool.admit(one.recv_message(timeout=DEADLINE), one)
        pool.send(admitted, pool.loan(), timeout=DEADLINE)
        frame = pool.loan(timeout=DEADLINE)
        with in_thread(lambda: pool.send(admitted, frame, timeout=DEADLINE)) as sending:
            sending.wait_until_asleep()
            if ending == "close":
                pool.close()
            else:
                admitted.remove()
        with pytest.raises(ValueError if ending == "close" else parlour.Disconnected):
            sending()
        reader.close()


def test_a_loan_waits_until_a_block_returns() -> None:
    with parlour.FramePool(100, readers=1, share=1) as pool:
        assert (pool.blocks, pool.frame_len_max) == (2, 100)
        one, other = pool.loan(), pool.loan()
        assert pool.try_loan() is None
        assert not select.select([pool.fileno()], [], [], 0)[0]
        for timeout in (0, 0.01):
            with pytest.raises(parlour.TimedOut):
                pool.loan(timeout=timeout)
        with in_thread(lambda: pool.loan(timeout=DEADLINE)) as lending:
            lending.wait_until_asleep()
            one.release()
        assert len(lending()) == 100
        with in_thread(lambda: pool.loan(timeout=DEADLINE)) as ended:
            ended.wait_until_asleep()
            pool.close()
        with pytest.raises(ValueError, match="closed"):
            ended()
        other.release()
    assert pool.closed
    with pytest.raises(ValueError, match="closed"):
        pool.loan()


def test_mistakes_are_errors_and_lose_nothing(ends: Ends) -> None:
    with pytest.raises(ValueError, match="at_share"):
        parlour.FramePool(1, at_share="drop")
    with pytest.raises(parlour.InvalidOption):
        parlour.FramePool(0)
    with parlour.FramePool(LENGTH) as another, another.loan() as foreign:
        with pytest.raises(ValueError, match="another pool"):
            another.send(ends.admitted, foreign)
        with pytest.raises(parlour.Unsupported):
            ends.pool.send(ends.admitted, foreign)
    ends.publish(1)
    message = ends.client.recv_message(timeout=DEADLINE)
    with pytest.raises(parlour.Protocol):
        ends.pool.admit(message, ends.served)
    with pytest.raises(TypeError):
        ends.pool.admit(message, "room")  # type: ignore[arg-type]
    ends.publish(2)
    message = ends.client.recv_message(timeout=DEADLINE)
    assert parlour.FrameReader.is_frame(message)
    assert ends.reader.open(message).copy()[0] == 2
    with pytest.raises(ValueError, match="before"):
        ends.reader.open(message)
    ends.served.send(b"other")
    with pytest.raises(parlour.Protocol):
        ends.reader.open(ends.client.recv_message(timeout=DEADLINE))
    ends.admitted.remove()
    with pytest.raises(parlour.Disconnected):
        ends.publish(3)


def test_attaching_over_fifo_is_unsupported() -> None:
    one, other = parlour.pair("fifo")
    with pytest.raises(parlour.Unsupported):
        parlour.FrameReader(one)
    one.close()
    other.close()


def test_an_iterator_over_frames_ends_with_the_connection(ends: Ends) -> None:
    for byte in range(2):
        ends.publish(byte)
    ends.served.close()
    assert [frame.copy()[0] for frame in ends.reader] == [0, 1]


@pytest.mark.parametrize("transport", CARRIERS)
def test_the_clients_of_a_hub_are_readers(transport: str, base: Path) -> None:
    with parlour.Hub(f"{transport}:room", fds_max=2) as hub, parlour.FramePool(LENGTH) as pool:
        stop = False
        admitted: dict[parlour.Client, parlour.AdmittedReader] = {}

        def serve() -> None:
            while not stop:
                with contextlib.suppress(parlour.TimedOut):
                    event = hub.next_event(timeout=0.05)
                    if event.kind == "message":
                        assert event.client is not None and event.message is not None
                        admitted[event.client] = pool.admit(event.message, hub, event.client)
                        if len(admitted) == 2:
                            with pool.loan() as frame:
                                memoryview(frame)[:] = b"x" * LENGTH
                                for reader in admitted.values():
                                    pool.send(reader, frame)

        with in_thread(serve) as serving:
            clients = [parlour.connect(f"{transport}:room", wait=DEADLINE) for _ in range(2)]
            readers = [parlour.FrameReader(client) for client in clients]
            for reader in readers:
                with reader.recv(timeout=DEADLINE) as frame:
                    assert frame.lent and frame.copy() == b"x" * LENGTH
            stop = True
        serving()
        assert [reader.held for reader in admitted.values()] == [0, 0]
        for client in clients:
            client.close()


PUBLISH = """
import parlour
address = "{address}"
room = parlour.connect(address, wait=60, fds_max=2)
pool = parlour.FramePool(10_000, readers=1)
admitted = pool.admit(room.recv_message(), room)
with pool.loan() as frame:
    memoryview(frame)[:] = b"x" * 10_000
    pool.send(admitted, frame)
room.send(b"sent")
room.recv()
"""

READ = """
import sys, parlour
room = parlour.connect("{address}", wait=60)
reader = parlour.FrameReader(room)
reader.trust_publisher()
frame = reader.recv()
view = memoryview(frame)
assert view == b"x" * 10_000
room.send(b"held")
sys.stdin.read()
"""


def kill(process: Any) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


@pytest.mark.parametrize("transport", CARRIERS)
def test_a_killed_publisher_leaves_its_frames_to_their_readers(transport: str, base: Path) -> None:
    shared = in_shm()
    with parlour.Server(f"{transport}:room") as server:
        process = python(PUBLISH.format(address=f"{transport}:room"))
        with server.accept(timeout=DEADLINE) as room, parlour.FrameReader(room) as reader:
            reader.trust_publisher()
            frame = reader.recv(timeout=DEADLINE)
            assert room.recv(timeout=DEADLINE) == b"sent"
            kill(process)
            assert memoryview(frame) == b"x" * 10_000
            with pytest.raises((EOFError, ConnectionError)):
                room.recv(timeout=DEADLINE)
    assert memoryview(frame) == b"x" * 10_000
    assert in_shm() == shared


@pytest.mark.parametrize("transport", CARRIERS)
def test_a_killed_reader_returns_everything(transport: str, base: Path) -> None:
    with parlour.Server(f"{transport}:room", fds_max=2) as server, parlour.FramePool(LENGTH, readers=1) as pool:
        process = python(READ.format(address=f"{transport}:room"))
        with server.accept(timeout=DEADLINE) as room:
            admitted = pool.admit(room.recv_message(timeout=DEADLINE), room)
            with pool.loan() as frame:
                memoryview(frame)[:] = b"x" * LENGTH
                pool.send(admitted, frame, timeout=DEADLINE)
            assert room.recv(timeout=DEADLINE) == b"held"
            with pool.loan() as frame:
                # A message that nobody has received.
                pool.send(admitted, frame, timeout=DEADLINE)
            assert admitted.held == 2
            kill(process)
            # All three blocks are free again.
            frames = [pool.loan(timeout=DEADLINE) for _ in range(pool.blocks)]
            assert admitted.held == 0
            for frame in frames:
                frame.release()


def test_the_interpreter_ends_cleanly_with_frames_and_views() -> None:
    process = python(
        """
        import parlour
        one, other = parlour.pair("unix", fds_max=2)
        pool = parlour.FramePool(100)
        reader = parlour.FrameReader(other)
        reader.trust_publisher()
        admitted = pool.admit(one.recv_message(), one)
        frame = pool.loan()
        pool.send(admitted, frame)
        kept = memoryview(reader.recv())
        other_frame = pool.loan()
        writing = memoryview(other_frame)
        """
    )
    assert outcome(process) == (0, "", "")


def test_every_call_returns_in_a_forked_child_and_takes_nothing_from_the_parent() -> None:
    process = python(
        """
        import os, warnings, parlour
        one, other = parlour.pair("unix", fds_max=2)
        pool = parlour.FramePool(100, readers=1)
        reader = parlour.FrameReader(other)
        reader.trust_publisher()
        admitted = pool.admit(one.recv_message(), one)
        with pool.loan() as frame:
            memoryview(frame)[:] = b"x" * 100
            pool.send(admitted, frame)
            pool.send(admitted, frame)
        received = reader.recv()
        message = other.recv_message()

        def fails(call, *arguments):
            try:
                call(*arguments)
            except parlour.Unsupported:
                return
            raise AssertionError(call)

        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if child == 0:
            fails(pool.loan)
            fails(pool.try_loan)
            fails(reader.open, message)
            fails(received.copy)
            fails(received.copy_into, bytearray(100))
            assert admitted.held == 0 and len(memoryview(received)) == 0
            admitted.remove()
            received.release()
            reader.close()
            pool.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert admitted.held == 1 and memoryview(received) == b"x" * 100
        received.release()
        reader.open(message).release()
        assert admitted.held == 0
        """
    )
    assert outcome(process) == (0, "", "")


def test_frames_leave_nothing_behind() -> None:
    def work(count: int) -> None:
        for _ in range(count):
            ends = Ends("unix")
            ends.reader.trust_publisher()
            for byte in range(5):
                ends.publish(byte)
                view = memoryview(ends.reader.recv(timeout=DEADLINE))
                assert view[0] == byte
            ends.close()

    work(5)
    gc.collect()
    before = open_fds()
    work(50)
    gc.collect()
    assert open_fds() == before


@pytest.mark.parametrize("transport", CARRIERS)
def test_tasks_lend_and_receive_frames(transport: str) -> None:
    async def run() -> None:
        one, other = aio.pair(transport, fds_max=2)
        with aio.FramePool(LENGTH, readers=1, share=1, at_share="wait") as pool:
            reader = await aio.FrameReader.attach(other)
            reader.trust_publisher()
            message = await one.recv_message()
            assert aio.FramePool.is_attach(message)
            admitted = pool.admit(message, one)

            async def publish() -> None:
                for byte in range(20):
                    with await pool.loan() as frame:
                        memoryview(frame)[:] = bytes([byte]) * LENGTH
                        await pool.send(admitted, frame, b"note")
                await one.close()

            publishing = asyncio.create_task(publish())
            seen = []
            async for frame in reader:
                with frame:
                    seen.append(bytes(memoryview(frame)[:1]) + frame.note)
            await publishing
            assert seen == [bytes([byte]) + b"note" for byte in range(20)]
            assert admitted.held == 0
        await other.close()

    asyncio.run(asyncio.wait_for(run(), DEADLINE))


def test_a_cancelled_loan_and_a_cancelled_send_take_nothing() -> None:
    async def run() -> None:
        one, other = aio.pair("unix", fds_max=2)
        with aio.FramePool(LENGTH, readers=1, share=1, at_share="wait") as pool:
            reader = await aio.FrameReader.attach(other)
            admitted = pool.admit(await one.recv_message(), one)
            first = await pool.loan()
            await pool.send(admitted, first)
            first.release()
            second = await pool.loan()
            for coroutine in (pool.loan(), pool.send(admitted, second)):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(coroutine, 0.01)
            (await reader.recv()).release()
            await pool.send(admitted, second)
            assert (await reader.recv()).lent
        await one.close()
        await other.close()

    asyncio.run(asyncio.wait_for(run(), DEADLINE))


def test_a_task_that_waits_for_events_writes_the_frames_of_another_task(base: Path) -> None:
    # Longer than what the kernel takes at once, and sent by value.
    length = 8 << 20

    async def run() -> None:
        async with aio.Hub("unix:room", fds_max=2) as hub:
            client = await aio.connect("unix:room", wait=DEADLINE)
            attaching = asyncio.create_task(aio.FrameReader.attach(client, bytes_max=0))
            while (event := await hub.next_event()).kind != "message":
                pass
            reader = await attaching
            assert event.message is not None
            with aio.FramePool(length) as pool:
                admitted = pool.admit(event.message, hub, event.client)
                serving = asyncio.create_task(hub.next_event())
                await asyncio.sleep(0)
                with await pool.loan() as frame:
                    await pool.send(admitted, frame)
                assert len(await reader.recv()) == length
                serving.cancel()
            await client.close()

    asyncio.run(asyncio.wait_for(run(), DEADLINE))
