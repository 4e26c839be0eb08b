"""Sends every message back, with a thread for each client. Run this, then `python echo_client.py`."""

import contextlib
import threading

import parlour


def echo(client: parlour.Connection) -> None:
    # The client may disconnect at any time, which ends its thread only.
    with contextlib.suppress(ConnectionError), client:
        for message in client:
            client.send(message)


def main() -> None:
    with parlour.Server("echo") as server, contextlib.suppress(KeyboardInterrupt):
        print(f"ready: {server.path}", flush=True)
        for client in server:
            print(f"a client: {client.peer}", flush=True)
            threading.Thread(target=echo, args=[client], daemon=True).start()


if __name__ == "__main__":
    main()
