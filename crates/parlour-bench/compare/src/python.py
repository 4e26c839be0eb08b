"""Both ends of multiprocessing.connection, started by python.rs with the side, the directory and the work."""

import json
import os
import sys
import threading
import time
from multiprocessing.connection import Client, Listener

WARM_UP_NS = 10_000_000
WARM_UP_SAMPLES = 3


def pattern(size):
    return bytes(index % 251 for index in range(251)) * (size // 251 + 1)


def answer():
    """Answers requests for counters, which this server does not have. Ends the process at the end of stdin."""
    for _ in sys.stdin:
        print('{"allocations": null, "allocated_bytes": null, "resident_bytes": 0}', flush=True)
    os._exit(0)


def converse(client, batch):
    received = 0
    while True:
        message = client.recv_bytes()
        received += 1
        if batch is None:
            client.send_bytes(message)
        elif received % batch == 0:
            client.send_bytes(b"done")


def serve(path, work):
    [(kind, work)] = work.items()
    threading.Thread(target=answer, daemon=True).start()
    with Listener(path, "AF_UNIX", backlog=16) as listener:
        print("ready", flush=True)
        while True:
            with listener.accept() as client:
                try:
                    converse(client, work["batch"] if kind == "stream" else None)
                # A client that disconnects is not an error of the server.
                except (EOFError, OSError):
                    pass


def operation(path, kind, work):
    """Returns a function that takes one sample."""
    message = pattern(work["size"])[: work["size"]]

    def check(reply):
        if len(reply) != len(message):
            raise ValueError(f"the answer has {len(reply)} bytes, the message {len(message)}")

    def connect():
        with Client(path, "AF_UNIX") as client:
            client.send_bytes(message)
            check(client.recv_bytes())

    if kind == "connect":
        return connect

    client = Client(path, "AF_UNIX")

    def round_trip():
        client.send_bytes(message)
        check(client.recv_bytes())

    def stream():
        for _ in range(work["batch"]):
            client.send_bytes(message)
        client.recv_bytes()

    if kind == "stream":
        return stream
    client.send_bytes(message)
    if client.recv_bytes() != message:
        raise ValueError("the answer differs from the message")
    return round_trip


def drive(path, turn):
    [(kind, work)] = turn["work"].items()
    [(unit, amount)] = turn["amount"].items()
    sample = operation(path, kind, work)
    clock = time.monotonic_ns
    begin = clock()
    warmed = 0
    while warmed < WARM_UP_SAMPLES or clock() - begin < WARM_UP_NS:
        sample()
        warmed += 1
    print("warm", flush=True)
    if sys.stdin.readline() != "go\n":
        sys.exit("the benchmark ended before the turn began")
    samples = {}
    cpu = time.process_time_ns()
    begin = last = clock()
    taken = 0
    while True:
        sample()
        now = clock()
        samples[now - last] = samples.get(now - last, 0) + 1
        last = now
        taken += 1
        if unit == "samples":
            if taken >= amount:
                break
        elif taken >= 3 and now - begin >= amount * 1_000_000:
            break
    cpu = time.process_time_ns() - cpu
    outcome = {"samples": sorted(samples.items()), "elapsed_ns": last - begin, "cpu_ns": cpu, "allocations": None}
    print(json.dumps(outcome), flush=True)


side, place, what = sys.argv[1:]
path = os.path.join(place, "p")
if side == "server":
    serve(path, json.loads(what))
else:
    drive(path, json.loads(what))
