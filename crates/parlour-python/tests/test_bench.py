"""The benchmark runs, and saves what the report of parlour-bench reads. Its figures are not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DEADLINE

COMPARE = Path(__file__).resolve().parents[1] / "bench" / "compare.py"


def test_the_benchmark_saves_its_results(tmp_path: Path) -> None:
    saved = tmp_path / "python.json"
    only = ["--contender", "python-parlour-shm", "--contender", "python-multi", "--size", "64"]
    command = [sys.executable, str(COMPARE), "--rounds", "1", "--turn-ms", "1", *only, "--placement", "unpinned"]
    done = subprocess.run(
        [*command, "--json", str(saved)], capture_output=True, text=True, timeout=2 * DEADLINE
    )
    assert done.returncode == 0, done.stderr
    assert "| python-parlour-shm | python-multiprocessing | 64 | unpinned | 0.3 |" in done.stdout
    results = json.loads(saved.read_text())
    assert [(row["contender"], row["work"]) for row in results["rows"]] == [
        (name, {"round-trip": {"size": 64}})
        for name in ("python-parlour-shm", "python-parlour-shm-into", "python-multiprocessing")
    ]
    for row in results["rows"]:
        assert row["summary"]["samples"] >= 3 and row["summary"]["median"] > 0
        assert row["turns"][0]["cpu_ns"] > 0


def test_calls_and_spinning_are_measured() -> None:
    names = ["python-parlour-calls-shm", "python-parlour-aio-calls-shm", "python-parlour-spin-shm"]
    only = [argument for name in names for argument in ("--contender", name)]
    command = [sys.executable, str(COMPARE), "--rounds", "1", "--turn-ms", "1", *only, "--size", "64"]
    done = subprocess.run(
        [*command, "--placement", "unpinned"], capture_output=True, text=True, timeout=2 * DEADLINE
    )
    assert done.returncode == 0, done.stderr
    for name in names:
        assert f"| 64 | unpinned | {name} |" in done.stdout


@pytest.mark.parametrize("contender", ["python-parlour-frames", "python-queue-frames", "python-zmq-frames"])
def test_every_frame_reaches_four_processes(contender: str) -> None:
    pytest.importorskip("numpy")
    if "zmq" in contender:
        pytest.importorskip("zmq")
    command = [sys.executable, str(COMPARE), "--rounds", "1", "--turn-ms", "1", "--contender", contender]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE)
    assert done.returncode == 0, done.stderr
    assert f"| 8388608 | unpinned | {contender} |" in done.stdout
