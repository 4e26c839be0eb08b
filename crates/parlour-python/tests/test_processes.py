"""Processes: forks, kills, the end of the interpreter, and leaks."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import warnings
from pathlib import Path

import parlour
import pytest
from conftest import DEADLINE, Link, in_shm, open_fds, outcome, python


@pytest.mark.parametrize(
    "code",
    [
        "",
        "client.send(b'x'); served.recv()",
        "thread(client.recv)",
        "thread(server.accept)",
        "hub = parlour.Hub('unix:hub'); thread(lambda: list(hub)); parlour.connect('unix:hub').send(b'x')",
        "thread(lambda: [client.send(bytes(100_000)) for _ in range(1000)])",
        "thread(lambda: parlour.connect('unix:nobody', wait=100))",
        "while client.try_send(bytes(100_000)): pass",
        "def task():\n    asyncio.run(parlour.aio.Connection(client).recv())\nthread(task)",
        "loop = asyncio.new_event_loop()\nt = loop.create_task(parlour.aio.Connection(client).recv())\n"
        "try: loop.run_until_complete(asyncio.wait_for(asyncio.shield(t), 0.01))\nexcept TimeoutError: pass\n"
        "t._log_destroy_pending = False",
        "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
        "threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start(); client.recv()",
        "parlour.SharedBytes(bytes(1 << 20)); view = memoryview(parlour.SharedBytes(b'kept'))",
    ],
)
@pytest.mark.parametrize("transport", ["shm", "fifo"])
def test_the_interpreter_ends_cleanly_and_silently(code: str, transport: str, base: Path) -> None:
    process = python(
        f"""
import asyncio, os, sys, threading, parlour

def thread(call):
    started = threading.Event()
    def run():
        started.set()
        try:
            call()
        except (ValueError, OSError, EOFError):
            pass
    threading.Thread(target=run, daemon=True).start()
    started.wait()

server = parlour.Server("{transport}:room")
made = []
connecting = threading.Thread(target=lambda: made.append(parlour.connect("{transport}:room")))
connecting.start()
served = server.accept()
connecting.join()
client = made[0]
exec({code!r})
print("done")
"""
    )
    code_, out, err = outcome(process)
    assert (code_, err) == (0, "")
    assert out == "done\n" or "SIGTERM" in code
    assert not list(base.iterdir())


@pytest.mark.parametrize("kind", ["Server", "Hub"])
def test_the_interpreter_ends_while_a_policy_decides(kind: str, base: Path) -> None:
    process = python(
        f"""
        import threading, time, parlour

        decides = threading.Event()

        def allow(peer):
            decides.set()
            # Without the interpreter, which the main thread takes to end.
            time.sleep(0.5)
            return True

        def serve():
            try:
                for _ in server:
                    pass
            except (OSError, ValueError):
                pass

        server = parlour.{kind}("unix:room", allow=allow)
        threading.Thread(target=serve, daemon=True).start()
        client = parlour.connect("unix:room")
        decides.wait()
        """
    )
    assert outcome(process) == (0, "", "")
    assert not list(base.iterdir())


@pytest.mark.parametrize("victim", ["client", "server"])
def test_a_killed_process_leaves_nothing_and_its_peer_learns_it(victim: str, transport: str, base: Path) -> None:
    address = f"{transport}:room"
    shared = in_shm()
    if victim == "server":
        process = python(
            f"""
            import parlour
            client = parlour.Server("{address}").accept()
            client.send(b"ready")
            client.recv()
            """
        )
        survivor = parlour.connect(address, wait=DEADLINE)
        assert survivor.recv(timeout=DEADLINE) == b"ready"
        process.kill()
        process.wait()
        with pytest.raises((EOFError, ConnectionError)):
            survivor.recv(timeout=DEADLINE)
        survivor.close()
        # The next server removes what the dead one has left.
        parlour.Server(address).close()
    else:
        with parlour.Server(address) as server:
            process = python(
                f"""
                import parlour
                room = parlour.connect("{address}")
                room.send(b"ready")
                room.recv()
                """
            )
            survivor = server.accept(timeout=DEADLINE)
            assert survivor.recv(timeout=DEADLINE) == b"ready"
            process.kill()
            process.wait()
            with pytest.raises((EOFError, ConnectionError)):
                survivor.recv(timeout=DEADLINE)
            survivor.wait_peer_closed(timeout=DEADLINE)
            survivor.close()
    for stream in (process.stdin, process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    assert not list(base.iterdir())
    assert in_shm() == shared


def in_child(call: object) -> int:
    """Forks, calls a function in the child, and returns the exit code of the child: that which it returns, or 99."""
    assert callable(call)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os._exit(int(call()))
        except BaseException as failure:
            os.write(2, f"{failure!r}\n".encode())
            os._exit(99)
    until = time.monotonic() + DEADLINE
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child does not end")
        time.sleep(0.005)


def test_a_forked_child_may_use_a_connection_and_not_the_server(link: Link) -> None:
    def child() -> int:
        try:
            link.server.accept(timeout=DEADLINE)
        except parlour.NameLost:
            pass
        link.server.close()
        link.client.send(b"from the child")
        return 0 if link.client.recv(timeout=DEADLINE) == b"for the child" else 1

    # So that the parent has slept before the fork.
    with pytest.raises(TimeoutError):
        link.client.recv(timeout=0.001)
    link.served.send(b"for the child")
    assert in_child(child) == 0
    assert link.served.recv(timeout=DEADLINE) == b"from the child"
    # The child has closed its copies, and the parent goes on.
    link.client.send(b"from the parent")
    assert link.served.recv(timeout=DEADLINE) == b"from the parent"
    assert link.server.try_accept() is None


def test_the_end_of_a_forked_child_does_not_end_the_servers_of_its_parent(base: Path) -> None:
    process = python(
        """
        import os, sys, warnings, parlour
        warnings.simplefilter("ignore")
        server, hub = parlour.Server("unix:server"), parlour.Hub("unix:hub")
        if (child := os.fork()) == 0:
            sys.exit(0)
        os.waitpid(child, 0)
        with parlour.connect("unix:server") as one, server.accept() as other:
            one.send(b"still")
            other.recv()
        with parlour.connect("unix:hub") as one:
            one.send(b"here")
            assert [next(hub).kind for _ in range(2)] == ["joined", "message"]
        """
    )
    assert outcome(process) == (0, "", "")
    assert not list(base.iterdir())


def test_every_call_returns_in_a_child_that_was_forked_while_threads_worked(link: Link) -> None:
    import threading

    stop = threading.Event()

    def work(sender: parlour.Connection, receiver: parlour.Connection) -> None:
        while not stop.is_set():
            sender.try_send(bytes(1000))
            receiver.try_recv()
            link.server.try_accept()
            time.sleep(0)

    threads = [
        threading.Thread(target=work, args=ends, daemon=True)
        for ends in ((link.client, link.served), (link.served, link.client))
    ]
    for thread in threads:
        thread.start()

    def child() -> int:
        for call in (link.client.try_recv, link.client.has_message, link.server.try_accept, link.client.fileno):
            try:
                call()
            except (OSError, EOFError, RuntimeError):
                pass
        return 0

    try:
        for _ in range(5):
            assert in_child(child) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)


def memory() -> int:
    """Returns the resident memory of this process in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError


def test_many_connections_and_messages_leave_no_memory_and_no_descriptor(transport: str) -> None:
    data = bytes(4000)

    def connections(count: int) -> None:
        for _ in range(count):
            one, other = parlour.pair(transport)
            one.send(data)
            other.recv()
            one.feed(data)

    def messages(count: int) -> None:
        one, other = parlour.pair(transport)
        for _ in range(count):
            one.send(data)
            other.recv()
            other.try_recv()

    def failures(count: int) -> None:
        one, other = parlour.pair(transport)
        for _ in range(count):
            for call in (lambda: one.recv(timeout=0), lambda: one.recv_into(bytearray(1)), lambda: one.send(0)):
                other.send(data)
                try:
                    call()  # type: ignore[no-untyped-call]
                except (OSError, BufferError, TypeError):
                    pass
                while one.try_recv() is not None:
                    pass

    kinds = [(connections, 300), (messages, 3_000), (failures, 300)]
    for make, count in kinds:
        make(count // 4)
    gc.collect()
    fds, before = open_fds(), memory()
    for make, count in kinds:
        make(count)
    gc.collect()
    assert open_fds() == fds
    # A leak of one message, exception or connection each time would be more.
    assert memory() - before < 1500, f"{memory() - before} KiB"
