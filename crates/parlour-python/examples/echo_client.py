"""Sends each line of its input as a message and prints the replies."""

import sys

import parlour


def main() -> None:
    with parlour.connect("echo", wait=10) as room:
        for line in sys.stdin:
            room.send(line.rstrip("\n").encode())
            print(room.recv(timeout=5).decode())


if __name__ == "__main__":
    main()
