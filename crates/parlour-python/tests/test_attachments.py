"""Descriptors and blocks of shared memory that travel with messages."""

from __future__ import annotations

import mmap
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import parlour
import pytest
from conftest import DEADLINE, Link, in_shm, open_fds, outcome, python


@pytest.fixture
def link(request: pytest.FixtureRequest, base: Path) -> Link:
    made = Link(request.param, base, {"fds_max": 8}, {"fds_max": 8})
    request.addfinalizer(made.close)
    return made


# `shm` carries blocks, and no other descriptors.
over_sockets = pytest.mark.parametrize("link", ["packet", "unix"], indirect=True)
with_blocks = pytest.mark.parametrize("link", ["shm", "packet", "unix"], indirect=True)


@over_sockets
def test_files_sockets_and_numbers_are_sent_as_descriptors(link: Link) -> None:
    one, other = socket.socketpair()
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as file, one, other:
        file.write(b"in the file")
        file.flush()
        link.client.send(b"three", fds=[file, one, writing])
        received = link.served.recv_message(timeout=DEADLINE)
        assert (bytes(received), len(received), received.fd_count) == (b"three", 5, 3)
        assert memoryview(received).readonly
        assert memoryview(received) == b"three"
        fds = received.take_fds()
        assert received.fd_count == 0 and received.take_fds() == []
        assert os.pread(fds[0], 100, 0) == b"in the file"
        with socket.socket(fileno=fds[1]) as copy:
            copy.sendall(b"hello")
            assert other.recv(100) == b"hello"
        os.write(fds[2], b"x")
        assert os.read(reading, 1) == b"x"
        assert not os.get_inheritable(fds[0])
    for fd in (fds[0], fds[2], reading, writing):
        os.close(fd)


@over_sockets
def test_files_that_only_an_iterator_has_stay_open_until_they_are_sent(link: Link) -> None:
    def files() -> Iterator[BinaryIO]:
        for number in range(3):
            file = tempfile.TemporaryFile()
            file.write(b"file %d" % number)
            file.flush()
            yield file

    link.client.send(b"three", fds=files())
    assert link.client.try_send(b"three", fds=files())
    for _ in range(2):
        fds = link.served.recv_message(timeout=DEADLINE).take_fds()
        assert [os.pread(fd, 100, 0) for fd in fds] == [b"file 0", b"file 1", b"file 2"]
        for fd in fds:
            os.close(fd)


@over_sockets
def test_descriptors_that_nobody_takes_are_closed(link: Link) -> None:
    before = open_fds()
    with tempfile.TemporaryFile() as file:
        for _ in range(100):
            link.client.send(b"with one", fds=[file])
            link.client.send(b"with two", fds=[file, file.fileno()])
            assert link.served.recv(timeout=DEADLINE) == b"with one"
            assert link.served.recv_message(timeout=DEADLINE).fd_count == 2
    assert open_fds() == before


@with_blocks
def test_a_block_is_shared_without_a_copy(link: Link) -> None:
    data = bytes(range(256)) * 4096
    block = parlour.SharedBytes.from_buffer(data)
    assert len(block) == len(data)
    for _ in range(3):
        link.client.send(b"the frame", shared=[block])
    for _ in range(3):
        received = link.served.recv_message(timeout=DEADLINE)
        (copy,) = received.take_shared()
        assert bytes(received) == b"the frame"
        view = memoryview(copy)
        assert view.readonly and view == data
        # It is the same memory, not equal memory.
        assert os.fstat(copy.fileno()).st_ino == os.fstat(block.fileno()).st_ino
        del copy
        assert view[-1] == 255
    with pytest.raises(TypeError):
        memoryview(block)[0] = 1
    with pytest.raises((OSError, ValueError)):
        mmap.mmap(block.fileno(), len(block))


@with_blocks
def test_numpy_uses_a_block_and_a_message_without_a_copy(link: Link) -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    frame = numpy.arange(1_000_000, dtype=numpy.float32).reshape(1000, 1000)
    block = parlour.SharedBytes(frame)
    link.client.send(b"frame", shared=[block])
    (received,) = link.served.recv_message(timeout=DEADLINE).take_shared()
    seen = numpy.frombuffer(received, dtype=numpy.float32).reshape(frame.shape)
    assert (seen == frame).all()
    assert not seen.flags.writeable and not seen.flags.owndata
    del received
    assert seen[999, 999] == 999_999
    link.client.send(frame[:10])
    message = link.served.recv_message(timeout=DEADLINE)
    assert (numpy.frombuffer(message, dtype=numpy.float32) == frame[:10].reshape(-1)).all()
    target = numpy.zeros((10, 1000), dtype=numpy.float32)
    link.client.send(frame[:10])
    assert link.served.recv_into(target, timeout=DEADLINE) == target.nbytes
    assert (target == frame[:10]).all()
    with pytest.raises((BufferError, ValueError)):
        link.client.send(frame[:, ::2])


@over_sockets
def test_what_is_no_descriptor_is_refused(link: Link) -> None:
    with pytest.raises(ValueError, match="negative"):
        link.client.send(b"x", fds=[-1])
    with pytest.raises(AttributeError):
        link.client.send(b"x", fds=["file"])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        link.client.send(b"x", shared=[b"no block"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="not both"):
        link.client.send(b"x", shared=[parlour.SharedBytes(b"x")], fds=[0])
    with pytest.raises(OSError) as caught:
        link.client.send(b"x", fds=[1_000_000])
    assert caught.value.errno is not None
    link.client.send(b"still usable", fds=[link.client])
    received = link.served.recv_message(timeout=DEADLINE)
    with pytest.raises(parlour.Error):
        received.take_shared()


@pytest.mark.parametrize("transport", ["shm", "fifo"])
def test_other_transports_refuse_descriptors(transport: str, base: Path) -> None:
    link = Link(transport, base, {"fds_max": 1}, {"fds_max": 1})
    with pytest.raises(parlour.Unsupported):
        link.client.send(b"x", fds=[0])
    link.close()


def test_a_peer_that_allows_none_is_not_sent_any(base: Path) -> None:
    link = Link("unix", base, {}, {})
    with pytest.raises((parlour.Refused, parlour.Error)):
        link.client.send(b"x", fds=[0])
        # An old kernel cannot refuse; the peer then ends the connection.
        link.served.recv(timeout=DEADLINE)
    link.close()


def test_blocks_are_freed_however_their_processes_end(base: Path) -> None:
    before = in_shm()
    child = python(
        """
        import parlour, signal, os
        with parlour.connect("unix:room", wait=60, fds_max=4) as room:
            message = room.recv_message()
            (block,) = message.take_shared()
            own = parlour.SharedBytes(bytes(1 << 20))
            room.send(b"back", shared=[own])
            print(len(block), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    with parlour.Server("unix:room", fds_max=4) as server, server.accept(timeout=DEADLINE) as client:
        client.send(b"here", shared=[parlour.SharedBytes(bytes(1 << 20))])
        (block,) = client.recv_message(timeout=DEADLINE).take_shared()
        code, out, err = outcome(child)
        assert (code, out) == (-9, "1048576\n"), err
        assert bytes(block) == bytes(1 << 20)
    assert in_shm() == before
    assert not list(base.iterdir())
