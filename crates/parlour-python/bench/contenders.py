"""The contenders: both ends of each, in processes of their own.

`compare.py` starts `contenders.py server NAME DIRECTORY SIZE CPU` and then
`contenders.py client NAME DIRECTORY SIZE CPU TURN_MS SERVER_PID`. The client prints its samples as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.metadata
import json
import multiprocessing
import os
import platform
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import parlour

WARM_UP_NS = 20_000_000
WORKERS = 4
SMALL, LARGE, FRAME = 64, 1 << 20, 8 << 20
# The longest time that a step takes.
PATIENCE = 60
# How often a contender that spins looks before it sleeps: longer than an answer takes.
SPINS = 100_000

Sample = Callable[[], None]


class Contender(NamedTuple):
    name: str
    version: Callable[[], str]
    advice: str
    sizes: tuple[int, ...]
    server: Callable[[str], None] | None
    client: Callable[..., None]


def parlour_echo(transport: str, into: bool, spin_limit: int | None, directory: str) -> None:
    with parlour.Server(f"{transport}:{directory}/echo", spin_limit=spin_limit) as server:
        ready()
        for client in server:
            with contextlib.suppress(ConnectionError), client:
                if into:
                    room = memoryview(bytearray(LARGE))
                    while True:
                        try:
                            client.send(room[: client.recv_into(room)])
                        except EOFError:
                            break
                else:
                    for message in client:
                        client.send(message)


def parlour_ask(
    transport: str, into: bool, spin_limit: int | None, directory: str, size: int, turn: Turn
) -> None:
    data = pattern(size)
    with parlour.connect(f"{transport}:{directory}/echo", spin_limit=spin_limit) as room:
        answer = bytearray(size)

        def sample() -> None:
            room.send(data)
            check(size, room.recv_into(answer) if into else len(room.recv()))

        room.send(data)
        assert room.recv() == data
        turn.run(sample)


def calls_serve(transport: str, directory: str) -> None:
    with parlour.CallServer(f"{transport}:{directory}/calls") as server:
        ready()
        server.serve(lambda call: call.data)


def calls_ask(transport: str, directory: str, size: int, turn: Turn) -> None:
    data = pattern(size)
    with parlour.Caller.connect(f"{transport}:{directory}/calls") as caller:

        def sample() -> None:
            check(size, len(caller.call(data)))

        assert caller.call(data) == data
        turn.run(sample)


def connection_echo(directory: str) -> None:
    from multiprocessing.connection import Listener

    with Listener(f"{directory}/s", "AF_UNIX") as listener:
        ready()
        while True:
            with listener.accept() as client, contextlib.suppress(EOFError, OSError):
                while True:
                    client.send_bytes(client.recv_bytes())


def connection_ask(directory: str, size: int, turn: Turn) -> None:
    from multiprocessing.connection import Client

    data = pattern(size)
    with Client(f"{directory}/s", "AF_UNIX") as room:

        def sample() -> None:
            room.send_bytes(data)
            check(size, len(room.recv_bytes()))

        room.send_bytes(data)
        assert room.recv_bytes() == data
        turn.run(sample)


def zmq_echo(directory: str) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        socket.bind(f"ipc://{directory}/z")
        ready()
        while True:
            socket.send(socket.recv())


def zmq_ask(directory: str, size: int, turn: Turn) -> None:
    import zmq

    data = pattern(size)
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(f"ipc://{directory}/z")

        def sample() -> None:
            socket.send(data)
            check(size, len(socket.recv()))

        socket.send(data)
        assert socket.recv() == data
        turn.run(sample)


def aio_echo(transport: str, directory: str) -> None:
    async def handle(client: parlour.aio.Connection) -> None:
        async for message in client:
            await client.send(message)

    async def serve() -> None:
        async with parlour.aio.Server(f"{transport}:{directory}/echo") as server:
            ready()
            await server.serve(handle)

    asyncio.run(serve())


def aio_ask(transport: str, directory: str, size: int, turn: Turn) -> None:
    data = pattern(size)

    async def ask() -> None:
        async with parlour.aio.connect(f"{transport}:{directory}/echo") as room:

            async def sample() -> None:
                await room.send(data)
                check(size, len(await room.recv()))

            await room.send(data)
            assert await room.recv() == data
            await turn.run_async(sample)

    asyncio.run(ask())


def aio_calls_serve(transport: str, directory: str) -> None:
    async def handle(call: parlour.aio.Call) -> bytes:
        return call.data

    async def serve() -> None:
        async with parlour.aio.CallServer(f"{transport}:{directory}/calls") as server:
            ready()
            await server.serve(handle)

    asyncio.run(serve())


def aio_calls_ask(transport: str, directory: str, size: int, turn: Turn) -> None:
    data = pattern(size)

    async def ask() -> None:
        async with parlour.aio.Caller.connect(f"{transport}:{directory}/calls") as caller:

            async def sample() -> None:
                check(size, len(await caller.call(data)))

            assert await caller.call(data) == data
            await turn.run_async(sample)

    asyncio.run(ask())


def streams_echo(directory: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                prefix = await reader.readexactly(4)
                writer.write(prefix + await reader.readexactly(int.from_bytes(prefix, "big")))
                await writer.drain()
        writer.close()

    async def serve() -> None:
        async with await asyncio.start_unix_server(handle, f"{directory}/a") as server:
            ready()
            await server.serve_forever()

    asyncio.run(serve())


def streams_ask(directory: str, size: int, turn: Turn) -> None:
    data = pattern(size)

    async def ask() -> None:
        reader, writer = await asyncio.open_unix_connection(f"{directory}/a")

        async def exchange() -> bytes:
            writer.write(struct.pack("!I", size) + data)
            await writer.drain()
            return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))

        async def sample() -> None:
            check(size, len(await exchange()))

        assert await exchange() == data
        await turn.run_async(sample)
        writer.close()

    asyncio.run(ask())


def touch(buffer: Any) -> bytes:
    """Reads a number of each page of a frame, as every worker does."""
    import numpy

    return numpy.float64(numpy.frombuffer(buffer, dtype=numpy.float64)[::512].sum()).tobytes()


def frame_of(size: int) -> Any:
    import numpy

    return numpy.ones(size // 8)


def check_sum(size: int, answer: bytes) -> None:
    (total,) = struct.unpack("=d", answer)
    if total != size // 8 // 512:
        raise ValueError(f"the sum is {total}")


def spawn(target: Callable[..., None], *arguments: Any) -> Any:
    worker = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
    worker.start()
    return worker


def parlour_worker(address: str) -> None:
    with parlour.connect(address, wait=PATIENCE, timeout=PATIENCE, fds_max=1) as parent:
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                (block,) = parent.recv_message().take_shared()
                parent.send(touch(block))


def parlour_frames(directory: str, size: int, turn: Turn) -> None:
    address = f"unix:{directory}/frames"
    with parlour.Server(address) as server:
        workers = [spawn(parlour_worker, address) for _ in range(WORKERS)]
        clients = [server.accept(timeout=PATIENCE) for _ in workers]
        frame = frame_of(size)

        def sample() -> None:
            block = parlour.SharedBytes.from_buffer(frame)
            for client in clients:
                client.send(b"", shared=[block])
            for client in clients:
                check_sum(size, client.recv())

        turn.run(sample, [worker.pid for worker in workers])
        for worker in workers:
            worker.kill()


def queue_worker(frames: Any, answers: Any) -> None:
    while True:
        answers.put(touch(frames.get()))


def queue_frames(_directory: str, size: int, turn: Turn) -> None:
    context = multiprocessing.get_context("spawn")
    queues, answers = [context.Queue() for _ in range(WORKERS)], context.Queue()
    workers = [spawn(queue_worker, queue, answers) for queue in queues]
    frame = frame_of(size)

    def sample() -> None:
        for queue in queues:
            queue.put(frame)
        for _ in queues:
            check_sum(size, answers.get())

    turn.run(sample, [worker.pid for worker in workers])
    for worker in workers:
        worker.kill()


def zmq_worker(address: str) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        socket.connect(address)
        while True:
            socket.send(touch(socket.recv(copy=False).buffer))


def zmq_frames(directory: str, size: int, turn: Turn) -> None:
    import zmq

    frame = frame_of(size)
    with zmq.Context() as context, contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(context.socket(zmq.PAIR)) for _ in range(WORKERS)]
        workers = []
        for number, socket in enumerate(sockets):
            socket.linger = 0
            socket.bind(f"ipc://{directory}/f{number}")
            workers.append(spawn(zmq_worker, f"ipc://{directory}/f{number}"))

        def sample() -> None:
            for socket in sockets:
                socket.send(frame, copy=False)
            for socket in sockets:
                check_sum(size, socket.recv())

        turn.run(sample, [worker.pid for worker in workers])
        for worker in workers:
            worker.kill()


def of_parlour() -> str:
    return f"{parlour.__version__}, Python {platform.python_version()}"


def of_zmq() -> str:
    import zmq

    return f"pyzmq {importlib.metadata.version('pyzmq')}, libzmq {zmq.zmq_version()}"


def contenders() -> list[Contender]:
    both, small = (SMALL, LARGE), (SMALL,)
    python = f"Python {platform.python_version()}"
    found = []
    for transport in parlour.TRANSPORTS:
        for into in (False, True):
            found.append(
                Contender(
                    f"python-parlour-{transport}" + ("-into" if into else ""),
                    of_parlour,
                    "defaults; send, and recv_into a buffer of the caller" if into else "defaults; send and recv",
                    both,
                    functools.partial(parlour_echo, transport, into, None),
                    functools.partial(parlour_ask, transport, into, None),
                )
            )
        found.append(
            Contender(
                f"python-parlour-spin-{transport}",
                of_parlour,
                f"spin_limit={SPINS}; send, and recv_into a buffer of the caller",
                small,
                functools.partial(parlour_echo, transport, True, SPINS),
                functools.partial(parlour_ask, transport, True, SPINS),
            )
        )
        found.append(
            Contender(
                f"python-parlour-calls-{transport}",
                of_parlour,
                "Caller.call and CallServer.serve, defaults",
                both,
                functools.partial(calls_serve, transport),
                functools.partial(calls_ask, transport),
            )
        )
        found.append(
            Contender(
                f"python-parlour-aio-calls-{transport}",
                of_parlour,
                "parlour.aio, defaults; Caller.call and CallServer.serve, on the event loop of asyncio",
                small,
                functools.partial(aio_calls_serve, transport),
                functools.partial(aio_calls_ask, transport),
            )
        )
        found.append(
            Contender(
                f"python-parlour-aio-{transport}",
                of_parlour,
                "parlour.aio, defaults; Server.serve, send and recv, on the event loop of asyncio",
                small,
                functools.partial(aio_echo, transport),
                functools.partial(aio_ask, transport),
            )
        )
    no_pickle = "multiprocessing.connection with AF_UNIX; send_bytes and recv_bytes, which do not pickle (its docs)"
    prefix = "open_unix_connection and start_unix_server; 4 bytes of length, readexactly, drain after each message"
    work = f"one frame of float64 to {WORKERS} processes, each reads every page and answers with a sum"
    return [
        *found,
        Contender("python-multiprocessing", lambda: python, no_pickle, both, connection_echo, connection_ask),
        Contender("python-zmq", of_zmq, "REQ and REP over ipc, one I/O thread (The Guide)", both, zmq_echo, zmq_ask),
        Contender("python-asyncio", lambda: python, prefix, small, streams_echo, streams_ask),
        Contender("python-parlour-frames", of_parlour, f"{work}; a SharedBytes", (FRAME,), None, parlour_frames),
        Contender("python-queue-frames", lambda: python, f"{work}; a Queue for each", (FRAME,), None, queue_frames),
        Contender("python-zmq-frames", of_zmq, f"{work}; PAIR, copy=False", (FRAME,), None, zmq_frames),
    ]


class Turn:
    """Takes samples for a time, and prints them."""

    def __init__(self, milliseconds: int, server: int) -> None:
        self._length = milliseconds * 1_000_000
        self._pids = [server] if server else []

    def run(self, sample: Sample, workers: list[int] | None = None) -> None:
        self._pids += workers or []
        clock = time.perf_counter_ns
        until = clock() + WARM_UP_NS
        for _ in range(3):
            sample()
        while clock() < until:
            sample()
        samples: list[int] = []
        cpu, begin = self._cpu(), clock()
        last, until = begin, begin + self._length
        while last < until or len(samples) < 3:
            sample()
            now = clock()
            samples.append(now - last)
            last = now
        self._print(samples, last - begin, self._cpu() - cpu)

    async def run_async(self, sample: Callable[[], Awaitable[None]]) -> None:
        clock = time.perf_counter_ns
        until = clock() + WARM_UP_NS
        for _ in range(3):
            await sample()
        while clock() < until:
            await sample()
        samples: list[int] = []
        cpu, begin = self._cpu(), clock()
        last, until = begin, begin + self._length
        while last < until or len(samples) < 3:
            await sample()
            now = clock()
            samples.append(now - last)
            last = now
        self._print(samples, last - begin, self._cpu() - cpu)

    def _cpu(self) -> int:
        """Returns the processor time of all processes that take part."""
        total = time.process_time_ns()
        for pid in self._pids:
            for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                total += int(stat.read_text().split()[0])
        return total

    def _print(self, samples: list[int], elapsed: int, cpu: int) -> None:
        print(json.dumps({"samples": samples, "elapsed_ns": elapsed, "cpu_ns": cpu}), flush=True)


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def check(size: int, length: int) -> None:
    if length != size:
        raise ValueError(f"the answer has {length} bytes, the message {size}")


def ready() -> None:
    print("ready", flush=True)


def main() -> None:
    side, name, directory, size, cpu, *rest = sys.argv[1:]
    if cpu != "-":
        os.sched_setaffinity(0, {int(cpu)})
    (contender,) = [contender for contender in contenders() if contender.name == name]
    if side == "client":
        milliseconds, server = map(int, rest)
        contender.client(directory, int(size), Turn(milliseconds, server))
    elif contender.server is not None:
        contender.server(directory)


if __name__ == "__main__":
    main()
