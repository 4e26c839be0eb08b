"""`python -m parlour demo` shows that the package works on this machine, in a few seconds."""

from __future__ import annotations

import argparse
import sys

import parlour


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m parlour", description="Local messaging by name.")
    parser.add_argument("--version", action="version", version=parlour.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="demo")
    demo = commands.add_parser("demo", help="check that every transport works here, in a few seconds")
    demo.add_argument(
        "--here",
        action="store_true",
        help="use the directories of this user's names ($PARLOUR_DIR) and not a temporary one",
    )
    arguments = parser.parse_args()
    from ._demo import run

    return run(arguments.here)


if __name__ == "__main__":
    sys.exit(main())
