"""Frames of numpy for four worker processes, without a copy for any of them.

The parent borrows a block of a pool, fills it in place, and sends it to every worker. The workers read the same memory,
each sums a quarter, and the parent adds the sums. A block returns when the last worker has released it or was killed,
and is filled again: no memory is allocated for a frame. A worker attaches with two descriptors (`fds_max`).
"""

import subprocess
import sys

import numpy
import parlour

WORKERS = 4
FRAMES = 10
SHAPE = (1024, 1024)
BYTES = 8 * SHAPE[0] * SHAPE[1]


def work(name: str, index: int) -> None:
    with parlour.connect(name, wait=10) as parent, parlour.FrameReader(parent) as reader:
        # The parent is a program of ours, and nobody else sends over this connection.
        reader.trust_publisher()
        for frame in reader:
            with frame:
                array = numpy.frombuffer(memoryview(frame), dtype=numpy.float64).reshape(SHAPE)
                assert not array.flags.owndata and not array.flags.writeable
                part = numpy.array_split(array, WORKERS)[index].sum()
                # A view keeps the block.
                del array
            parent.send(numpy.float64(part).tobytes())


def main() -> None:
    name = "unix:frames"
    with parlour.Server(name, fds_max=2) as server, parlour.FramePool(BYTES, readers=WORKERS) as pool:
        code = [sys.executable, __file__]
        children = [subprocess.Popen([*code, str(index)]) for index in range(WORKERS)]
        workers = [server.accept(timeout=60) for _ in children]
        readers = [pool.admit(worker.recv_message(timeout=60), worker) for worker in workers]
        for number in range(FRAMES):
            with pool.loan(timeout=60) as frame:
                numpy.frombuffer(memoryview(frame), dtype=numpy.float64)[:] = number
                for reader in readers:
                    pool.send(reader, frame, timeout=60)
            parts = [numpy.frombuffer(worker.recv(timeout=60), dtype=numpy.float64)[0] for worker in workers]
            assert sum(parts) == number * SHAPE[0] * SHAPE[1]
        for worker in workers:
            worker.close()
        for child in children:
            assert child.wait(60) == 0
    print(f"{FRAMES} frames of {BYTES >> 20} MiB, {WORKERS} workers, no copies")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        work("unix:frames", int(sys.argv[1]))
    else:
        main()
