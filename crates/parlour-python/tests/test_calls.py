"""Requests and answers: a caller with many threads, and a server of calls."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import parlour
import pytest
from conftest import (
    DEADLINE,
    PPOLL,
    Call,
    eventually,
    in_thread,
    message,
    open_fds,
    outcome,
    python,
    wait_until_asleep,
)


Handler = Callable[[parlour.Call], "bytes | None"]


class Room:
    """A server of calls that serves in a thread, and a caller."""

    def __init__(self, transport: str, base: Path, handler: Handler, **options: Any) -> None:
        self.address = f"{transport}:{base}/calls"
        self.server = parlour.CallServer(self.address, fds_max=4, **options)
        self.handler = handler
        self.serving = Call(self.serve)
        self.caller = parlour.Caller.connect(self.address, timeout=DEADLINE)

    def serve(self) -> None:
        self.server.serve(self.handler)

    def end(self) -> None:
        self.caller.close()
        self.server.shutdown()
        self.serving.join()
        self.serving()
        # Some tests keep calls that are open.
        self.server.close(timeout=0.1)


@pytest.fixture
def room(transport: str, base: Path) -> Iterator[Callable[..., Room]]:
    rooms: list[Room] = []

    def make(handler: Handler, **options: Any) -> Room:
        rooms.append(Room(transport, base, handler, **options))
        return rooms[-1]

    yield make
    for made in rooms:
        made.end()
    assert not list(base.iterdir())


Make = Callable[..., Room]


def echo(call: parlour.Call) -> None:
    call.reply(call.data)


def test_each_call_gets_its_answer(room: Make) -> None:
    caller = room(echo).caller
    for length in (0, 1, 100, 70_000, 4 << 20):
        data = message(length, length)
        assert caller.call(data, timeout=DEADLINE) == data
    assert caller.call(b"one ", bytearray(b"two"), timeout=DEADLINE) == b"one two"
    assert caller.peer.uid == os.getuid()
    assert caller.late_answers == 0


def test_many_threads_call_over_one_connection(room: Make) -> None:
    caller = room(echo).caller

    def calls(thread: int) -> None:
        for number in range(300):
            data = message(thread * 1000 + number, 50)
            assert caller.call(data, timeout=DEADLINE) == data

    threads = [Call(partial(calls, thread)) for thread in range(8)]
    for thread in threads:
        thread.join()
        thread()


def test_answers_come_in_any_order(room: Make) -> None:
    held: list[parlour.Call] = []

    def hold(call: parlour.Call) -> None:
        held.append(call)
        if len(held) == 4:
            for one in reversed(held):
                one.reply(one.data.upper())

    caller = room(hold).caller
    texts = (b"a", b"b", b"c", b"d")
    calls = [Call(partial(caller.call, text, timeout=DEADLINE)) for text in texts]
    for call in calls:
        call.join()
    assert [call() for call in calls] == [b"A", b"B", b"C", b"D"]


def test_a_late_answer_is_dropped_and_the_next_call_gets_its_own(room: Make) -> None:
    held: list[parlour.Call] = []

    def slow(call: parlour.Call) -> None:
        if call.data == b"slow":
            held.append(call)
        else:
            call.reply(call.data)

    caller = room(slow).caller
    while not held:
        with pytest.raises(parlour.TimedOut) as timed_out:
            caller.call(b"slow", timeout=0.05)
    assert "may have executed the call" in str(timed_out.value)
    assert caller.call(b"next", timeout=DEADLINE) == b"next"
    assert held[0].cancelled
    with pytest.raises(parlour.Disconnected):
        held[0].reply(b"too late")


def test_a_call_that_fails_raises_the_text_of_the_server(room: Make) -> None:
    def fail(call: parlour.Call) -> None:
        if call.data == b"fail":
            call.fail("a note has a text")
        # Another one is dropped.

    caller = room(fail).caller
    with pytest.raises(parlour.CallFailed) as caught:
        caller.call(b"fail", timeout=DEADLINE)
    assert caught.value.failure == "a note has a text"
    with pytest.raises(parlour.CallFailed, match="dropped the call"):
        caller.call(b"drop", timeout=DEADLINE)


def test_an_exception_of_a_handler_fails_its_call_and_is_logged(room: Make, caplog: pytest.LogCaptureFixture) -> None:
    def divide(call: parlour.Call) -> bytes:
        return str(1 // int(call.data)).encode()

    caller = room(divide).caller
    with pytest.raises(parlour.CallFailed) as caught:
        caller.call(b"0", timeout=DEADLINE)
    assert caught.value.failure == "the server has failed"
    assert caller.call(b"1", timeout=DEADLINE) == b"1"
    (record,) = caplog.records
    assert (record.name, record.message) == ("parlour", "the handler of a call has failed")
    assert record.exc_info and record.exc_info[0] is ZeroDivisionError


def test_a_call_is_answered_once(room: Make) -> None:
    outcomes: list[str] = []

    def twice(call: parlour.Call) -> None:
        call.reply(b"once")
        attempts = (partial(call.reply, b"twice"), call.end, partial(call.fail, "no"), partial(call.item, b"item"))
        for again in attempts:
            with pytest.raises(ValueError, match="was answered"):
                again()
            outcomes.append("refused")
        assert call.cancelled

    made = room(twice)
    assert made.caller.call(b"x", timeout=DEADLINE) == b"once"
    made.caller.call(b"x", timeout=DEADLINE)
    assert outcomes[:4] == ["refused"] * 4


def test_streams_have_all_answers_in_order(room: Make) -> None:
    def items(call: parlour.Call) -> bytes | None:
        if call.data == b"one":
            return b"alone"
        for number in range(100):
            call.item(message(number, 1000))
        call.end()
        return None

    caller = room(items).caller
    assert list(caller.call_stream(b"many")) == [message(number, 1000) for number in range(100)]
    assert list(caller.call_stream(b"one")) == [b"alone"]
    with caller.call_stream(b"many") as stream:
        assert stream.recv(timeout=DEADLINE) == message(0, 1000)
    with pytest.raises(EOFError):
        stream.recv()
    with pytest.raises(parlour.Unsupported):
        caller.call(b"many", timeout=DEADLINE)
    assert list(caller.call_stream(b"one")) == [b"alone"]


def test_long_streams_wait_for_their_client_in_another_thread(room: Make) -> None:
    threads: list[Call[None]] = []

    def produce(call: parlour.Call) -> None:
        for number in range(80):
            call.item(message(number, 100_000), timeout=DEADLINE)
        call.end()

    def begin(call: parlour.Call) -> None:
        threads.append(Call(lambda: produce(call)))

    caller = room(begin).caller
    stream = caller.call_stream(b"many")
    for number in range(80):
        assert stream.recv(timeout=DEADLINE) == message(number, 100_000)
    assert list(stream) == []
    threads[0].join()
    threads[0]()


def test_closing_a_stream_tells_the_server(room: Make) -> None:
    waits: list[Call[None]] = []

    def begin(call: parlour.Call) -> None:
        waits.append(Call(lambda: call.wait_cancelled(timeout=DEADLINE)))

    caller = room(begin).caller
    stream = caller.call_stream(b"x")
    while not waits:
        with pytest.raises(parlour.TimedOut):
            stream.recv(timeout=0.01)
    stream.close()
    waits[0].join()
    waits[0]()


class Holding:
    """A handler that answers no call, and tells when it has the one for a stream."""

    def __init__(self) -> None:
        self.held: dict[bytes, parlour.Call] = {}
        self.has_stream = threading.Event()

    def hold(self, call: parlour.Call) -> None:
        self.held[call.data] = call
        if call.data == b"stream":
            self.has_stream.set()


@pytest.mark.parametrize("ending", ["items", "end", "fail", "close"])
def test_threads_that_receive_from_one_stream_all_go_on(room: Make, ending: str) -> None:
    holding = Holding()
    caller = room(holding.hold).caller
    # This thread is the one that sleeps on the connection, and wakes the others.
    with in_thread(lambda: caller.call(b"other", timeout=DEADLINE)) as other:
        other.wait_until_asleep()
        stream = caller.call_stream(b"stream", timeout=DEADLINE)
        assert holding.has_stream.wait(DEADLINE)
        receiving = []
        for _ in range(3):
            receiving.append(Call(lambda: stream.recv(timeout=DEADLINE)))
            receiving[-1].wait_until_asleep()
        call = holding.held[b"stream"]
        if ending == "items":
            for number in range(3):
                call.item(b"%d" % number, timeout=DEADLINE)
        elif ending == "end":
            call.end()
        elif ending == "fail":
            call.fail("nothing left")
        else:
            stream.close()
        for one in receiving:
            one.join()
        holding.held[b"other"].reply(b"")
    if ending == "items":
        assert sorted(one() for one in receiving) == [b"0", b"1", b"2"]
        call.end()
    else:
        failures = sorted(type(one.failures[0]).__name__ for one in receiving)
        assert failures == (["CallFailed"] if ending == "fail" else ["EOFError"]) + ["EOFError"] * 2


def test_a_thread_that_gives_up_leaves_a_stream_to_the_others(room: Make) -> None:
    holding = Holding()
    caller = room(holding.hold).caller
    with in_thread(lambda: caller.call(b"other", timeout=DEADLINE)) as other:
        other.wait_until_asleep()
        with caller.call_stream(b"stream", timeout=DEADLINE) as stream:
            assert holding.has_stream.wait(DEADLINE)
            one = Call(lambda: stream.recv(timeout=DEADLINE))
            one.wait_until_asleep()
            with pytest.raises(parlour.TimedOut):
                stream.recv(timeout=0.01)
            holding.held[b"stream"].item(b"1", timeout=DEADLINE)
            one.join()
        holding.held[b"other"].reply(b"")
    assert one() == b"1"


def test_pushed_messages_reach_one_client_or_all(room: Make) -> None:
    made = room(lambda call: call.reply(str(call.client).encode()))
    other = parlour.Caller.connect(made.address)
    numbers = [int(caller.call(b"who", timeout=DEADLINE)) for caller in (made.caller, other)]
    assert numbers[0] != numbers[1]
    made.server.push(b"for all")
    made.server.push(b"for ", b"one", client=numbers[1])
    assert made.caller.next_push(timeout=DEADLINE) == b"for all"
    assert [other.next_push(timeout=DEADLINE) for _ in range(2)] == [b"for all", b"for one"]
    with pytest.raises(parlour.TimedOut):
        made.caller.next_push(timeout=0)
    other.close()


def test_descriptors_and_blocks_go_with_requests(room: Make, transport: str) -> None:
    def read(call: parlour.Call) -> None:
        if call.data == b"block":
            (block,) = call.message.take_shared()
            return call.reply(block)
        (fd,) = call.message.take_fds()
        with open(fd, "rb") as file:
            call.reply(file.read())

    caller = room(read).caller
    if transport == "fifo":
        with pytest.raises(parlour.Unsupported):
            caller.call(b"block", shared=[parlour.SharedBytes(b"shared")], timeout=DEADLINE)
        return
    if transport != "shm":
        reader, writer = os.pipe()
        os.write(writer, b"through a pipe")
        os.close(writer)
        with open(reader, "rb") as file:
            assert caller.call(b"fd", fds=[file], timeout=DEADLINE) == b"through a pipe"
    assert caller.call(b"block", shared=[parlour.SharedBytes(b"shared")], timeout=DEADLINE) == b"shared"


def test_limits_of_open_calls_are_answered_with_busy(room: Make) -> None:
    held: list[parlour.Call] = []
    caller = room(held.append, calls_max=1).caller
    with in_thread(lambda: caller.call(b"first", timeout=DEADLINE)) as first:
        while not held:
            pass
        with pytest.raises(parlour.Busy):
            caller.call(b"second", timeout=DEADLINE)
        held[0].reply(b"done")
    assert first() == b"done"


def test_close_ends_the_calls_of_other_threads(room: Make) -> None:
    held: list[parlour.Call] = []
    made = room(held.append)
    with (
        in_thread(lambda: made.caller.call(b"x")) as calling,
        in_thread(lambda: made.caller.next_push()) as pushing,
    ):
        for thread in (calling, pushing):
            thread.wait_until_asleep()
        made.caller.close()
    for thread in (calling, pushing):
        with pytest.raises(ValueError, match="this caller was closed"):
            thread()
    with pytest.raises(ValueError, match="this caller was closed"):
        made.caller.call(b"x")
    assert made.caller.closed


def test_the_end_of_a_server_ends_every_call(transport: str, base: Path) -> None:
    address = f"{transport}:{base}/calls"
    server = python(
        """
        import sys, parlour
        with parlour.CallServer(sys.argv[1]) as server:
            held = []
            print("ready", flush=True)
            for call in server:
                held.append(call)
                print("held", flush=True)
        """,
        address,
    )
    assert server.stdout and server.stdout.readline() == b"ready\n"
    caller = parlour.Caller.connect(address, timeout=DEADLINE)
    with in_thread(lambda: caller.call(b"x")) as one, in_thread(lambda: list(caller.call_stream(b"y"))) as other:
        assert [server.stdout.readline() for _ in range(2)] == [b"held\n"] * 2
        server.kill()
    outcome(server)
    for call in (one, other):
        with pytest.raises((parlour.Disconnected, parlour.Truncated)):
            call()
    with pytest.raises((parlour.Disconnected, parlour.Truncated)):
        caller.call(b"x")
    caller.close()


def test_a_server_that_does_not_answer_calls_gets_no_request(transport: str, base: Path) -> None:
    address = f"{transport}:{base}/echo"
    with parlour.Server(address) as server:

        def serve() -> list[bytes]:
            with server.accept(timeout=DEADLINE) as client:
                got = client.recv(timeout=DEADLINE)
                client.send(got)
                return [got, *client]

        with in_thread(serve) as served:
            with parlour.Caller.connect(address, timeout=DEADLINE) as caller:
                with pytest.raises(parlour.Protocol):
                    caller.call(b"secret", timeout=DEADLINE)
        assert served() == [bytes.fromhex("c100000000000001")]


def test_a_caller_takes_its_connection() -> None:
    one, other = parlour.pair()
    caller = parlour.Caller(one, push_buffer_max=None)
    with pytest.raises(ValueError, match="this connection was closed"):
        one.send(b"x")
    assert other.recv(timeout=DEADLINE) == bytes.fromhex("c100000000000001")
    with pytest.raises(parlour.TimedOut, match="no request was sent"):
        caller.call(b"x", timeout=0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        parlour.Caller(other, colour="red")  # type: ignore[call-arg]
    caller.close()
    with pytest.raises(EOFError):
        other.recv(timeout=DEADLINE)


def test_a_server_ends_when_its_calls_are_answered(transport: str, base: Path) -> None:
    address = f"{transport}:{base}/calls"
    server = parlour.CallServer(address)
    with in_thread(lambda: parlour.Caller.connect(address, timeout=DEADLINE).call(b"x", timeout=DEADLINE)) as calling:
        held = server.next_call(timeout=DEADLINE)
        server.shutdown()
        with pytest.raises(parlour.Shutdown):
            server.next_call()
        with in_thread(lambda: server.close(timeout=DEADLINE)) as closing:
            closing.wait_until_asleep()
            held.reply(b"at the end")
        closing()
    assert calling() == b"at the end"
    assert server.closed
    assert not list(base.iterdir())


@pytest.mark.skipif(PPOLL is None, reason="the number of ppoll is not known for this machine")
def test_a_signal_ends_every_call_that_waits(room: Make, transport: str, base: Path) -> None:
    class Interrupt(Exception):
        pass

    def raise_interrupt(number: int, frame: object) -> None:
        raise Interrupt

    main = threading.main_thread()

    def interrupted(call: Callable[[], Any]) -> None:
        def send() -> None:
            assert main.ident is not None
            wait_until_asleep(main)
            signal.pthread_kill(main.ident, signal.SIGINT)

        with in_thread(send) as sent:
            with pytest.raises(Interrupt):
                call()
        sent()

    held: list[parlour.Call] = []
    made = room(lambda call: held.append(call) if call.data == b"hold" else call.data)
    before = signal.signal(signal.SIGINT, raise_interrupt)
    try:
        for timeout in (None, DEADLINE):
            interrupted(partial(made.caller.call, b"hold", timeout=timeout))
            interrupted(partial(made.caller.next_push, timeout=timeout))
            stream = made.caller.call_stream(b"hold")
            interrupted(partial(next, stream))
            stream.close()
            assert made.caller.call(b"after", timeout=DEADLINE) == b"after"
        # The server may have dropped each of these calls, because it was cancelled before the handler began.
        count = len(held)
        stream = made.caller.call_stream(b"hold")
        deadline = time.monotonic() + DEADLINE
        while len(held) == count:
            assert time.monotonic() < deadline, "the handler has not begun"
            time.sleep(0.001)
        interrupted(held[-1].wait_cancelled)
        with in_thread(lambda: held[-1].wait_cancelled(timeout=DEADLINE)) as cancelled:
            stream.close()
        cancelled()
        with parlour.CallServer(f"{transport}:{base}/other") as other:
            interrupted(other.next_call)
            interrupted(lambda: next(other))
    finally:
        signal.signal(signal.SIGINT, before)


def test_threads_that_give_up_leave_no_descriptors_behind(room: Make) -> None:
    made = room(lambda call: call.data)
    assert made.caller.call(b"first", timeout=DEADLINE) == b"first"
    before = open_fds()

    def give_up() -> None:
        with pytest.raises(parlour.TimedOut):
            made.caller.next_push(timeout=0.0001)

    for _ in range(50):
        with in_thread(give_up) as gave_up:
            pass
        gave_up()
    # A thread that has ended closes its own a moment later.
    eventually(lambda: open_fds() <= before + 3)


def test_a_thread_that_stops_receiving_leaves_nothing_to_one_that_sleeps(room: Make) -> None:
    held: list[parlour.Call] = []

    def handle(call: parlour.Call) -> bytes | None:
        if call.data == b"hold":
            held.append(call)
            return None
        # More than one step of a caller receives, and the last answer is that of the thread that sleeps.
        for number in range(150):
            made.server.push(b"%d" % number)
        held.pop().reply(b"released")
        return call.end()

    made = room(handle)
    for _ in range(20):
        with in_thread(lambda: made.caller.call(b"hold", timeout=DEADLINE)) as sleeping:
            sleeping.wait_until_asleep()
            while not held:
                time.sleep(0.0001)
            stream = made.caller.call_stream(b"release", timeout=DEADLINE)
            # Takes some messages beside the thread that sleeps on the descriptor.
            while True:
                try:
                    assert made.caller.next_push(timeout=0) == b"0"
                    break
                except parlour.TimedOut:
                    pass
        assert sleeping() == b"released"
        assert list(stream) == []
        for number in range(1, 150):
            assert made.caller.next_push(timeout=DEADLINE) == b"%d" % number


def test_a_signal_handler_may_call_while_a_call_waits(room: Make) -> None:
    held: list[parlour.Call] = []
    made = room(lambda call: held.append(call) if call.data == b"hold" else call.data)
    main = threading.main_thread()
    answers: list[bytes] = []

    def handle(number: int, frame: object) -> None:
        answers.append(made.caller.call(b"from the handler", timeout=DEADLINE))
        held[0].reply(b"released")

    def send() -> None:
        assert main.ident is not None
        wait_until_asleep(main)
        while not held:
            pass
        signal.pthread_kill(main.ident, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with in_thread(send) as sent:
            assert made.caller.call(b"hold", timeout=DEADLINE) == b"released"
        sent()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert answers == [b"from the handler"]


def test_after_a_fork_a_caller_and_a_server_belong_to_the_parent(room: Make) -> None:
    made = room(echo)
    assert made.caller.call(b"x", timeout=DEADLINE) == b"x"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for call in (
                lambda: made.caller.call(b"x", timeout=5),
                lambda: made.caller.next_push(timeout=5),
                lambda: made.server.next_call(timeout=5),
            ):
                try:
                    call()
                except (parlour.NameLost, RuntimeError):
                    continue
                os._exit(2)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert made.caller.call(b"y", timeout=DEADLINE) == b"y"


def test_calls_leave_no_descriptors_behind(transport: str, base: Path) -> None:
    def once() -> None:
        address = f"{transport}:{base}/calls"
        with parlour.CallServer(address) as server:
            with in_thread(lambda: server.serve(echo)):
                with parlour.Caller.connect(address, timeout=DEADLINE) as caller:
                    assert caller.call(b"x", timeout=DEADLINE) == b"x"
                    caller.call_stream(b"y")
                server.shutdown()

    once()
    gc.collect()
    before = open_fds()
    for _ in range(10):
        once()
    gc.collect()
    assert open_fds() <= before


def test_the_interpreter_ends_while_threads_call_and_serve(transport: str, base: Path) -> None:
    code = """
    import sys, threading, parlour
    server = parlour.CallServer(sys.argv[1])
    def serve():
        for call in server:
            if call.data == b"echo":
                call.reply(call.data)
            else:
                held.append(call)
    held = []
    threading.Thread(target=serve, daemon=True).start()
    caller = parlour.Caller.connect(sys.argv[1])
    assert caller.call(b"echo", timeout=60) == b"echo"
    threading.Thread(target=lambda: caller.call(b"hold"), daemon=True).start()
    while not held:
        pass
    """
    assert outcome(python(code, f"{transport}:{base}/calls")) == (0, "", "")
    assert not list(base.iterdir())


def test_the_thread_that_serves_does_not_wait_for_itself(room: Make) -> None:
    failures: list[parlour.Error] = []

    def handle(call: parlour.Call) -> bytes | None:
        try:
            if call.data == b"wait":
                call.wait_cancelled(timeout=DEADLINE)
            for number in range(40 if call.data == b"list" else 1):
                call.item(message(number, 100_000))
            call.end()
            return None
        except parlour.Busy as error:
            failures.append(error)
            raise

    made = room(handle)
    # More than a client may have queued.
    for request in (b"list", b"wait"):
        with pytest.raises(parlour.CallFailed):
            list(made.caller.call_stream(request))
    assert ["thread" in str(error) for error in failures] == [True, True]
    assert len(list(made.caller.call_stream(b"one"))) == 1


def test_a_thread_sends_more_items_than_are_queued(room: Make) -> None:
    def send(call: parlour.Call) -> None:
        for number in range(40):
            call.item(message(number, 100_000), timeout=DEADLINE)
        call.end()

    sending: list[Call[None]] = []
    made = room(lambda call: sending.append(Call(partial(send, call))))
    assert list(made.caller.call_stream(b"list")) == [message(number, 100_000) for number in range(40)]
    sending[0].join()
    sending[0]()


def test_closing_sends_the_items_of_other_threads(transport: str, base: Path) -> None:
    address = f"{transport}:{base}/calls"
    server = parlour.CallServer(address)
    opened = threading.Event()

    def stream() -> list[bytes]:
        with parlour.Caller.connect(address, timeout=DEADLINE) as caller:
            items = caller.call_stream(b"many")
            assert opened.wait(DEADLINE)
            return list(items)

    def send(call: parlour.Call) -> None:
        for number in range(40):
            call.item(message(number, 100_000), timeout=DEADLINE)
        call.end()

    with in_thread(stream) as calling:
        with in_thread(partial(send, server.next_call(timeout=DEADLINE))) as sending:
            # More than the channel and the server take.
            sending.wait_until_asleep()
            opened.set()
            server.close(timeout=DEADLINE)
        sending()
    assert calling() == [message(number, 100_000) for number in range(40)]


def test_an_exception_in_the_loop_ends_the_server_at_once(transport: str, base: Path) -> None:
    address = f"{transport}:{base}/calls"

    def call() -> bytes:
        with parlour.Caller.connect(address, timeout=DEADLINE) as caller:
            return caller.call(b"a request", timeout=DEADLINE)

    began = 0.0
    with pytest.raises(KeyError, match="the body"):
        with parlour.CallServer(address) as server:
            calling = Call(call)
            for _held in server:
                began = time.monotonic()
                raise KeyError("the body")
    # It would wait for the call for 5 seconds.
    assert time.monotonic() - began < 4
    del _held
    calling.join()
    with pytest.raises((parlour.Disconnected, parlour.CallFailed)):
        calling()


def test_a_thread_that_waits_for_the_cancellation_does_not_prevent_the_answer(room: Make) -> None:
    waiting: list[Call[None]] = []

    def handle(call: parlour.Call) -> bytes:
        waiting.append(Call(partial(call.wait_cancelled, timeout=DEADLINE)))
        waiting[-1].wait_until_asleep()
        return b"answered"

    made = room(handle)
    assert made.caller.call(b"a request", timeout=DEADLINE) == b"answered"
    waiting[0].join()
    waiting[0]()


def test_an_answer_that_comes_too_late_is_not_logged(
    transport: str, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"{transport}:{base}/calls"
    server = parlour.CallServer(address)
    left = threading.Event()

    def call() -> None:
        with parlour.Caller.connect(address, timeout=DEADLINE) as caller:
            with pytest.raises(parlour.TimedOut):
                caller.call(b"a request", timeout=0.5)
        left.set()

    def handle(call: parlour.Call) -> bytes:
        # Another thread serves, and so finds that the client has left.
        with in_thread(lambda: server.next_call(timeout=DEADLINE)) as serving:
            assert left.wait(DEADLINE)
            while not call.cancelled:
                time.sleep(0.001)
            server.shutdown()
        with pytest.raises(parlour.Shutdown):
            serving()
        # The answer takes the call away, and raises Disconnected.
        return b"an answer"

    with in_thread(call) as calling:
        server.serve(handle)
    calling()
    server.close()
    assert not caplog.records


def test_a_request_of_a_stream_is_written_as_a_whole_before_anybody_asks_for_an_answer(
    transport: str, base: Path
) -> None:
    address = f"{transport}:{base}/calls"
    data = message(1, 6 << 20)
    begun = threading.Event()

    def call() -> None:
        with parlour.Caller.connect(address, timeout=DEADLINE) as caller:
            with caller.call_stream(data, timeout=DEADLINE):
                # This thread does nothing more for the request.
                assert begun.wait(DEADLINE)

    with parlour.CallServer(address) as server, in_thread(call) as calling:
        call_of_server = server.next_call(timeout=DEADLINE)
        begun.set()
        assert call_of_server.data == data
        del call_of_server
    calling()
