"""A client of a `unix` server that uses only Python's standard library.

    client.py echo SOCKET SIZE...     sends messages of these sizes and checks that each is echoed
    client.py listen SOCKET           prints `message LENGTH CRC` for each message, and `end` at end of file
    client.py objects SOCKET          sends pickled objects and checks that each is echoed
"""

import random
import sys
import zlib
from multiprocessing.connection import Client

what, path, *sizes = sys.argv[1:]
connection = Client(path, "AF_UNIX")

if what == "echo":
    for size in map(int, sizes):
        message = random.Random(size).randbytes(size)
        connection.send_bytes(message)
        assert connection.recv_bytes() == message, size
    print("all came back", flush=True)
elif what == "listen":
    try:
        while True:
            message = connection.recv_bytes()
            print(f"message {len(message)} {zlib.crc32(message):08x}", flush=True)
    except EOFError:
        print("end", flush=True)
elif what == "objects":
    for thing in [None, "Größe", {"a": [1, 2.5, b"\0\1"]}, list(range(100_000))]:
        connection.send(thing)
        assert connection.recv() == thing
    print("all came back", flush=True)

connection.close()
