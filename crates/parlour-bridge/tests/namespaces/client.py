"""Sends one message to a server with Python's standard library, expects it back, and reports how the connection ends."""

import os
from multiprocessing.connection import Client

connection = Client(os.path.join(os.environ["PARLOUR_DIR"], "wc", "unix"), "AF_UNIX")
connection.send_bytes(b"hello")
assert connection.recv_bytes() == b"hello"
print("served", flush=True)
try:
    connection.recv_bytes()
    print("message", flush=True)
except EOFError:
    print("clean", flush=True)
except OSError:
    print("error", flush=True)
