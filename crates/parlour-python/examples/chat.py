"""A chat room in one event loop. Run `python chat.py serve`, then `python chat.py NAME` in several terminals.

A member that does not read must not hold up the others or fill the memory: each has a queue of limited length, and is
disconnected when that is full.
"""

import asyncio
import contextlib
import sys

import parlour.aio

QUEUE_MAX = 100

members: dict[parlour.aio.Connection, asyncio.Queue[bytes]] = {}


def say(text: str) -> None:
    for member, queue in list(members.items()):
        try:
            queue.put_nowait(text.encode())
        except asyncio.QueueFull:
            del members[member]
            member.abort()


async def write(member: parlour.aio.Connection, queue: asyncio.Queue[bytes]) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            await member.send(await queue.get())


async def attend(member: parlour.aio.Connection) -> None:
    try:
        name = printable(await member.recv())
    except (EOFError, OSError):
        return  # it has left without a word
    queue = members[member] = asyncio.Queue(QUEUE_MAX)
    writer = asyncio.create_task(write(member, queue))
    say(f"{name} has come")
    try:
        async for message in member:
            say(f"{name}: {printable(message)}")
    except OSError:
        pass  # its process was killed
    except ValueError:
        if not member.closed:  # `say` has disconnected it
            raise
    finally:
        writer.cancel()
        members.pop(member, None)
        say(f"{name} has left")


def printable(message: bytes) -> str:
    """Returns the text of a message without characters that control a terminal."""
    return "".join(char if char.isprintable() else "?" for char in message.decode(errors="replace"))


async def serve() -> None:
    async with parlour.aio.Server("chat") as server:
        print("ready", flush=True)
        await server.serve(attend)


async def join(name: str) -> None:
    async with parlour.aio.connect("chat", wait=10) as room:
        await room.send(name.encode())
        lines = asyncio.create_task(send_lines(room))
        async for message in room:
            print(printable(message), flush=True)
        lines.cancel()


async def send_lines(room: parlour.aio.Connection) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        await room.send(line.rstrip())
    await room.finish()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve() if sys.argv[1] == "serve" else join(sys.argv[1]))
