"""Compares the package with what Python programs use today, in one run. See README.md."""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from contenders import FRAME, LARGE, SMALL, Contender, contenders

ENDS = str(Path(__file__).with_name("contenders.py"))
# The longest time that a turn takes beyond its length.
PATIENCE = 120

# The bounds: a contender, the one that it is compared with, a size, and the highest ratio of median times. The report
# of parlour-bench has the same, in src/report/targets.rs.
BOUNDS = [
    ("python-parlour-shm", "python-multiprocessing", SMALL, 0.3),
    ("python-parlour-shm", "python-multiprocessing", LARGE, 0.25),
    ("python-parlour-aio-shm", "python-asyncio", SMALL, 0.6),
    ("python-parlour-frames", "python-queue-frames", FRAME, 0.1),
]

Cell = tuple[int, str]


def turn(contender: Contender, size: int, placement: str, milliseconds: int) -> dict[str, Any]:
    """Runs both ends of a contender in new processes, and returns the samples of the client."""
    cpus = [str(cpu) for cpu in sorted(os.sched_getaffinity(0))[-2:]] if placement == "two-cores" else ["-", "-"]
    with tempfile.TemporaryDirectory(prefix="parlour-bench-", dir="/dev/shm") as directory:
        what = [contender.name, directory, str(size)]
        server = None
        try:
            if contender.server is not None:
                server = subprocess.Popen([sys.executable, ENDS, "server", *what, cpus[0]], stdout=subprocess.PIPE)
                assert server.stdout
                if server.stdout.readline() != b"ready\n":
                    raise RuntimeError(f"the server of {contender.name} has not started")
            command = [sys.executable, ENDS, "client", *what, cpus[-1], str(milliseconds)]
            command.append(str(server.pid if server else 0))
            done = subprocess.run(command, stdout=subprocess.PIPE, timeout=PATIENCE, check=True)
        finally:
            if server is not None:
                server.kill()
                server.communicate()
        outcome: dict[str, Any] = json.loads(done.stdout)
        return outcome


def quantile(ordered: list[int], part: float) -> float:
    return ordered[max(1, math.ceil(len(ordered) * part)) - 1]


def row(contender: Contender, cell: Cell, turns: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    """Returns the results of a contender in a cell, as parlour-bench saves them."""
    every = sorted(sample for _, outcome in turns for sample in outcome["samples"])
    medians = [quantile(sorted(outcome["samples"]), 0.5) for _, outcome in turns]
    return {
        "work": {"round-trip": {"size": cell[0]}},
        "placement": cell[1],
        "contender": contender.name,
        "summary": {
            "best": float(min(medians)),
            "median": float(quantile(every, 0.5)),
            "p99": float(quantile(every, 0.99)),
            "samples": len(every),
        },
        "turns": [
            {
                "round": number,
                "median_ns": float(median),
                "mean_ns": outcome["elapsed_ns"] / len(outcome["samples"]),
                "cpu_ns": outcome["cpu_ns"] / len(outcome["samples"]),
                "allocations": None,
            }
            for (number, outcome), median in zip(turns, medians, strict=True)
        ],
    }


def machine() -> dict[str, Any]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "processor": models[0].partition(": ")[2] if models else "",
        "processors": len(os.sched_getaffinity(0)),
        "memory_mib": kib // 1024,
        "kernel": f"{platform.system()} {platform.release()}",
        "load": load(),
    }


def load() -> str:
    return " ".join(Path("/proc/loadavg").read_text().split()[:3])


def clock_cost() -> float:
    begin = time.perf_counter_ns()
    for _ in range(100_000):
        time.perf_counter_ns()
    return (time.perf_counter_ns() - begin) / 100_000


def ratio(rows: list[dict[str, Any]], name: str, base: str, cell: Cell) -> float | None:
    """Returns the median of the ratios of two contenders within rounds."""
    medians: list[dict[int, float]] = []
    for wanted in (name, base):
        found = [row for row in rows if (row["contender"], row["placement"]) == (wanted, cell[1])]
        found = [row for row in found if row["work"]["round-trip"]["size"] == cell[0]]
        if not found:
            return None
        medians.append({turn["round"]: turn["median_ns"] for turn in found[0]["turns"]})
    return statistics.median(medians[0][number] / medians[1][number] for number in medians[0])


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| size | placement | contender | median us | p99 us | processor us |", "|---:|---|---|---:|---:|---:|"]
    key = lambda row: (row["work"]["round-trip"]["size"], row["placement"], row["summary"]["median"])  # noqa: E731
    for each in sorted(rows, key=key):
        size, median, p99 = each["work"]["round-trip"]["size"], each["summary"]["median"], each["summary"]["p99"]
        cpu = statistics.median(turn["cpu_ns"] for turn in each["turns"])
        name, placement = each["contender"], each["placement"]
        lines.append(f"| {size} | {placement} | {name} | {median / 1e3:.1f} | {p99 / 1e3:.1f} | {cpu / 1e3:.1f} |")
    lines += ["", "| contender | relative to | size | placement | bound | ratio | |"]
    lines.append("|---|---|---:|---|---:|---:|---|")
    for name, base, size, bound in BOUNDS:
        for placement in sorted({row["placement"] for row in rows}):
            if (measured := ratio(rows, name, base, (size, placement))) is not None:
                verdict = "met" if round(measured, 2) <= bound else "missed"
                lines.append(f"| {name} | {base} | {size} | {placement} | {bound} | {measured:.2f} | {verdict} |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="the number of turns of each contender in each cell")
    parser.add_argument("--turn-ms", type=int, default=200, help="the length of a turn")
    parser.add_argument("--size", type=int, action="append", help="only these sizes, in bytes")
    parser.add_argument("--placement", action="append", choices=["unpinned", "two-cores"])
    parser.add_argument("--contender", action="append", help="only contenders whose names begin with this")
    parser.add_argument("--seed", type=int, default=time.time_ns() // 1_000_000)
    parser.add_argument("--json", type=Path, help="saves the results, for `parlour-bench report`")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    shuffle = random.Random(options.seed).shuffle
    wanted, skipped = [], []
    for contender in contenders():
        if options.contender and not contender.name.startswith(tuple(options.contender)):
            continue
        if "-zmq" in contender.name and importlib.util.find_spec("zmq") is None:
            skipped.append({"what": contender.name, "why": "pyzmq is not installed"})
            continue
        wanted.append(contender)
    placements = options.placement or ["unpinned", "two-cores"]
    if "two-cores" in placements and len(os.sched_getaffinity(0)) < 2:
        placements.remove("two-cores")
        skipped.append({"what": "two-cores", "why": "this machine has too few processors"})
    sizes = options.size or [SMALL, LARGE, FRAME]
    # The processes of a frame are more than two.
    cells = [(size, place) for size in sizes for place in placements if size != FRAME or place == "unpinned"]
    began = datetime.datetime.now(datetime.UTC)
    results: dict[str, Any] = {"machine": machine(), "date": began.strftime("%Y-%m-%dT%H:%M:%SZ")}
    outcomes: dict[tuple[str, Cell], list[tuple[int, dict[str, Any]]]] = {}
    for number in range(1, options.rounds + 1):
        print(f"round {number} of {options.rounds}", file=sys.stderr)
        shuffle(cells)
        for cell in cells:
            shuffle(wanted)
            for contender in wanted:
                if cell[0] in contender.sizes:
                    outcome = turn(contender, *cell, options.turn_ms)
                    outcomes.setdefault((contender.name, cell), []).append((number, outcome))
    measured = {name for name, _ in outcomes}
    ordered = [contender for contender in contenders() if contender.name in measured]
    rows = [
        row(contender, cell, outcomes[contender.name, cell])
        for contender in ordered
        for cell in sorted(cells)
        if (contender.name, cell) in outcomes
    ]
    results |= {
        "load_after": load(),
        "seed": options.seed,
        "rounds": options.rounds,
        "turn_ms": options.turn_ms,
        "clock_ns": clock_cost(),
        "contenders": [{"name": c.name, "version": c.version(), "advice": c.advice} for c in ordered],
        "rows": rows,
        "memory": [],
        "idle": [],
        "calls": [],
        "skipped": skipped,
    }
    if options.json:
        options.json.write_text(json.dumps(results) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
