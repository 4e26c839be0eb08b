"""A client of a `unix` server that uses only Python's standard library.

    client.py echo SOCKET SIZE...     sends messages of these sizes and checks that each is echoed
    client.py listen SOCKET           prints `message LENGTH CRC` for each message, and `end` at end of file, or
                                      `cut` if the stream ends inside a frame
    client.py objects SOCKET          sends pickled objects and checks that each is echoed
    client.py json SOCKET             sends requests in JSON and checks the answers
"""

import json
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
    except OSError:
        print("cut", flush=True)
elif what == "objects":
    for thing in [None, "Größe", {"a": [1, 2.5, b"\0\1"]}, list(range(100_000))]:
        connection.send(thing)
        assert connection.recv() == thing
    print("all came back", flush=True)
elif what == "json":

    def ask(request):
        connection.send_bytes(json.dumps(request).encode())
        return json.loads(connection.recv_bytes())

    assert ask({"Add": [2, 3]}) == {"number": 1, "sum": 5}
    assert ask({"Join": {"parts": ["Größe", "\U0001f600", "\0"], "between": None}}) == {"number": 2, "text": "Größe\U0001f600\0"}
    assert "error" in ask({"Add": [2, "3"]})
    assert "error" in ask(["no", {"request": 1.5}])
    assert ask("Stop") == {"number": 3}
    print("all answers are right", flush=True)

connection.close()
