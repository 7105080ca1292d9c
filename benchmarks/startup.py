"""Start-up: time to the help text and to the first sound, and resident memory with a net loaded.

    python -m benchmarks.startup [--repeat N]

First sound: from the start of the process to the first sample that is not zero on its standard output, with the net
loaded (`rtsep --input test:sine --output -`). A device adds the stream's latency and its own buffers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks._page import Page, Row, Table, parser, program
from rtsep.errors import RtsepError, UsageError

RTSEP = (sys.executable, "-m", "rtsep")
SEPARATORS = ("passthrough", "midside", "live", "monitor", "karaoke", "koretzky")
TIMES = {
    "what": "what",
    "median_s": "median, s",
    "least_s": "least, s",
    "most_s": "most, s",
    "cpu_s": "CPU time, median, s",
}
MEMORY = {"separator": "separator", "rss_mb": "RSS, MB", "hops": "hops"}


def run_help() -> None:
    """Start `rtsep --help` and wait for its end."""
    subprocess.run([*RTSEP, "--help"], stdout=subprocess.DEVNULL, check=True)


def first_sound(separator: str = "live") -> None:
    """Start a stream to standard output, wait for the first sample that is not zero, and end it."""
    command = [*RTSEP, "--input", "test:sine", "--output", "-:float32", "--separator", separator, "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while data := process.stdout.read(4096):
            if any(data):
                break
        process.kill()
        if not data:
            raise RtsepError(f"no sound came: {process.stderr.read().decode(errors='replace').strip()}")


def timed(what: str, run: object, repeat: int) -> Row:
    """Wall and CPU time of `repeat` runs after one that is not counted."""
    assert callable(run)
    run()
    walls, cpus = [], []
    for _ in range(repeat):
        cpu, began = os.times(), time.perf_counter()
        run()
        walls.append(time.perf_counter() - began)
        after = os.times()
        cpus.append(after.children_user + after.children_system - cpu.children_user - cpu.children_system)
    return {
        "what": what,
        "median_s": statistics.median(walls),
        "least_s": min(walls),
        "most_s": max(walls),
        "cpu_s": statistics.median(cpus),
    }


def memory(separator: str, seconds: float) -> Row:
    """Resident memory that a session of the built-in song tells at its end."""
    with tempfile.TemporaryDirectory() as folder:
        stats = Path(folder) / "stats.json"
        options = ["--input", "demo", "--output", "null", "--separator", separator, "--duration", str(seconds)]
        subprocess.run([*RTSEP, *options, "--stats", str(stats), "--quiet"], check=True)
        found = json.loads(stats.read_text())
    return {"separator": separator, "rss_mb": float(found["rss_mb"]), "hops": found["hops"]}


def measure(chosen: argparse.Namespace) -> Page:
    """Both tables."""
    repeat, seconds = (1, 1.0) if chosen.quick else (chosen.repeat, 5.0)
    if repeat < 1:
        raise UsageError("--repeat must be at least 1")
    times = [timed("help", run_help, repeat), timed("first sound, live", first_sound, repeat)]
    sizes = [memory(name, seconds) for name in (SEPARATORS[-1:] if chosen.quick else SEPARATORS)]
    page = Page(
        "startup",
        "Start-up",
        "First sound: from the start of the process to the first sample that is not zero on its standard output, with "
        "the net loaded. A device adds the stream's latency and its own buffers.",
    )
    page.tables = [
        Table("Time", TIMES, times, f"Process start included; {repeat} runs after one that is not counted."),
        Table("Memory", MEMORY, sizes, f"At the end of {seconds:g} s of the built-in song, output null."),
    ]
    page.figures = {
        "help_s": times[0]["median_s"],
        "first_sound_s": times[1]["median_s"],
        "rss_mb": sizes[-1]["rss_mb"],
    }
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--repeat", type=int, default=5, help="runs of each command")
    return program(measure, options, arguments)


if __name__ == "__main__":
    sys.exit(main())
