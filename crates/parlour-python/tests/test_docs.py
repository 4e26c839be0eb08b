"""The programs of the documents, with the output that these show.

A block of Python runs as a program of its own, and prints what the block of text after it shows. A block that begins
with `# server.py` runs in the background until the next such block, or the end of the section.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import DEADLINE

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "docs" / name for name in ("cookbook.md", "python.md", "start.md", "stats.md")]
DOCUMENTS += [ROOT / "crates" / "parlour-python" / "README.md"]
# Modules that the package does not need.
OPTIONAL = ("zmq", "numpy")


class Block(NamedTuple):
    kind: str
    text: str
    line: int


class Program(NamedTuple):
    code: str
    is_server: bool
    expected: str | None
    line: int


def sections(text: str) -> dict[str, list[Block]]:
    """Returns the blocks of code below each heading."""
    found: dict[str, list[Block]] = {}
    blocks: list[Block] = []
    opened: tuple[str, int] | None = None
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if opened is not None:
            if line == "```":
                blocks.append(Block(opened[0], "\n".join(lines) + "\n", opened[1]))
                opened = None
            else:
                lines.append(line)
        elif line.startswith("```"):
            opened, lines = (line[3:], number), []
        elif line.startswith("#"):
            blocks = found.setdefault(line.lstrip("# "), [])
    return found


def programs(blocks: list[Block]) -> list[Program]:
    found: list[Program] = []
    for block in blocks:
        if block.kind == "python":
            found.append(Program(block.text, block.text.startswith("# server.py\n"), None, block.line))
        elif block.kind == "text" and found:
            found[-1] = found[-1]._replace(expected=block.text)
    return found


def cases() -> list[object]:
    return [
        pytest.param(programs(blocks), id=f"{path.name}-{title}")
        for path in DOCUMENTS
        if path.exists()
        for title, blocks in sections(path.read_text()).items()
        if programs(blocks)
    ]


def wait_for_socket(code: str, server: subprocess.Popen[bytes]) -> None:
    """Waits until a server that has a path listens there."""
    path = re.search(r'"(\w+\.sock)"', code)
    until = time.monotonic() + DEADLINE
    while path:
        assert server.poll() is None and time.monotonic() < until
        for line in Path("/proc/net/unix").read_text().splitlines():
            fields = line.split()
            # The flag tells that it listens.
            if fields[-1] == path[1] and int(fields[3], 16) & 0x10000:
                return
        time.sleep(0.01)


@pytest.mark.parametrize("shown", cases())
def test_the_programs_of_the_documents_print_what_is_shown(shown: list[Program], base: Path, tmp_path: Path) -> None:
    needed = {name for name in OPTIONAL for program in shown if re.search(rf"^import {name}$", program.code, re.M)}
    for name in needed:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    with contextlib.ExitStack() as servers:
        for number, program in enumerate(shown):
            path = tmp_path / f"program{number}.py"
            path.write_text(program.code)
            command = [sys.executable, "-W", "error", str(path)]
            if program.is_server:
                servers.close()
                (tmp_path / "echo.sock").unlink(missing_ok=True)
                process = subprocess.Popen(command, cwd=tmp_path)
                servers.callback(process.wait, DEADLINE)
                servers.callback(process.kill)
                wait_for_socket(program.code, process)
                continue
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE)
            assert (done.returncode, done.stderr) == (0, ""), f"line {program.line}"
            if program.expected is not None:
                assert done.stdout == program.expected, f"line {program.line}"


def test_no_block_of_a_document_is_left_out() -> None:
    for path in DOCUMENTS:
        if path.exists():
            text = path.read_text()
            count = sum(len(programs(blocks)) for blocks in sections(text).values())
            assert count == text.count("```python\n") > 0
