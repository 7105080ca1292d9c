"""Stress: jitter and drop-outs beside load, against an empty JACK client that runs beside the engine.

    python -m benchmarks.stress [--minutes M] [--loads NAME ...] [--separator NAME] [--profile NAME] [--fast]

JACK2, dummy driver, 48 kHz, block 128; music goes into the engine's ports. Loads: none; thread (a busy Python thread in
the same process); processes (a busy process per core); all (both).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import _servers
from benchmarks._page import Page, Row, Table, parser, program
from rtsep.engine.session import Session, SessionOptions
from rtsep.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from benchmarks._apart import Apart
    from tests.e2e.jack_probe import EmptyClient

LOADS = ("none", "thread", "processes", "all")
_SETTLE_S = 1.0
LOSSES = {
    "load": "load",
    "minutes": "minutes",
    "hops": "hops",
    "late": "late masks",
    "xruns_out": "our drop-outs out",
    "xruns_in": "our drop-outs in",
    "empty_gaps": "empty client: gaps",
    "empty_xruns": "empty client: xruns",
    "apart_gaps": "empty client apart: gaps",
    "apart_xruns": "empty client apart: xruns",
    "cycles": "cycles",
    "stolen_s": "taken by the hypervisor, s of CPU",
}
JITTER = {
    "load": "load",
    "hop_ms_p50": "hop p50, ms",
    "hop_ms_p99": "hop p99, ms",
    "hop_ms_max": "hop max, ms",
    "host_ms_p50": "host p50, ms",
    "host_ms_p99": "host p99, ms",
    "infer_ms_p50": "separator p50, ms",
    "infer_ms_p99": "separator p99, ms",
    "callback_us_p50": "callback p50, us",
    "callback_us_p99": "callback p99, us",
}


@contextlib.contextmanager
def busy(load: str) -> Iterator[None]:
    """Keep the interpreter's lock, the cores, or both busy."""
    processes = []
    stop = threading.Event()

    def spin() -> None:
        count = 0
        while not stop.is_set():
            count += 1

    try:
        if load in ("processes", "all"):
            for _ in range(os.cpu_count() or 1):
                processes.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
        if load in ("thread", "all"):
            threading.Thread(target=spin, name="busy", daemon=True).start()
        yield
    finally:
        stop.set()
        for process in processes:
            process.kill()
            process.wait()


def music(seconds: float, samplerate: int) -> NDArray[np.float32]:
    """The beginning of the built-in song, shape (2, frames)."""
    from rtsep.io.demo import demo_stems

    vocals, accompaniment = demo_stems(samplerate)
    return np.ascontiguousarray((vocals + accompaniment)[:, : int(seconds * samplerate)], np.float32)


def one(server: Any, apart: Any, sound: NDArray[np.float32], load: str, minutes: float, options: SessionOptions) -> Row:
    """One session beside one load, on `server`, which has an empty client too, as has the server `apart`.

    Counts begin once all has started.
    """
    from benchmarks._apart import Apart
    from benchmarks._player import Player
    from tests.e2e.jack_probe import EmptyClient

    with (
        contextlib.closing(Apart(apart.name)) as alone,
        contextlib.closing(EmptyClient(server.name)) as empty,
        Session(options) as session,
        Player(sound, ["rtsep:in_1", "rtsep:in_2"], server.name),
        busy(load),
    ):
        time.sleep(_SETTLE_S)
        session._timing.hop.reset()
        session._timing.host.reset()
        session._timing.infer.reset()
        before, counts = session.snapshot(), _counts(empty, alone)
        time.sleep(60 * minutes)
        after, ended = session.snapshot(), _counts(empty, alone)
    losses = {key: getattr(after, key) - getattr(before, key) for key in ("hops", "late", "xruns_out", "xruns_in")}
    return {
        "load": load,
        "minutes": minutes,
        **losses,
        **{key: ended[key] - counts[key] for key in ended},
        **{key: getattr(after, key) for key in JITTER if key.startswith(("hop_ms", "host_ms", "infer_ms"))},
        "callback_us_p50": 1000 * after.callback_ms_p50,
        "callback_us_p99": 1000 * after.callback_ms_p99,
        "latency_frames": after.latency_frames,
    }


def _stolen_s() -> float:
    """CPU time of all cores that a hypervisor has given to others, s; 0 where the system does not tell."""
    try:
        every = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return 0.0
    return int(every[8]) / os.sysconf("SC_CLK_TCK")


def _counts(empty: EmptyClient, alone: Apart) -> dict[str, float]:
    apart = alone.counts()
    return {
        "stolen_s": _stolen_s(),
        "cycles": empty.cycles,
        "empty_gaps": empty.gaps,
        "empty_xruns": empty.xruns,
        "apart_gaps": apart["gaps"],
        "apart_xruns": apart["xruns"],
    }


def measure(chosen: argparse.Namespace) -> Page:
    """All loads, one after the other."""
    from rtsep.engine.realtime import can_raise_priority

    _servers.require_clone()
    minutes = 0.02 if chosen.quick else 0.1 if chosen.fast else chosen.minutes
    if minutes <= 0:
        raise UsageError("--minutes must be above 0")
    options = SessionOptions(
        input="jack:none", output="jack:none", separator=chosen.separator, profile=chosen.profile, device="cpu"
    )
    page = Page("stress", "Stress", f"Separator {chosen.separator}: jitter and drop-outs beside load.")
    rows: list[Row] = []
    try:
        with _servers.jack(48000, 128) as apart, _servers.jack(48000, 128) as server:
            sound = music(2.0 if chosen.quick else 10.0, 48000)
            rows = [one(server, apart, sound, load, minutes, options) for load in chosen.loads]
    except DeviceError as error:
        page.notes.append(f"not measured, {error}")
    page.tables = [
        Table(
            "Drop-outs",
            LOSSES,
            rows,
            "Ours: periods in which the engine had no sound to give (out) or no room to take (in). The empty client: "
            "gaps in the server's frame count, and xruns that the server told it, whoever caused them. The empty "
            "client apart is alone on a server of its own at the same time: what it meets is the machine's doing.",
        ),
        Table("Jitter", JITTER, rows, "Hop: from a hop's last frame to its output, the wait for the mask included."),
    ]
    for row in rows:
        ours = row["xruns_out"] + row["xruns_in"]
        page.figures |= {
            f"{row['load']}_drop_outs": ours,
            f"{row['load']}_empty_client_gaps": row["empty_gaps"],
            f"{row['load']}_empty_client_xruns": row["empty_xruns"],
            f"{row['load']}_empty_client_apart_xruns": row["apart_xruns"],
            f"{row['load']}_late_per_10000": 1e4 * row["late"] / max(row["hops"], 1),
        }
    page.notes.append(f"real-time priority: {'allowed' if can_raise_priority() else 'not allowed'}")
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--minutes", type=float, default=1.0, help="length of the run beside each load")
    options.add_argument("--fast", action="store_true", help="6 s beside each load")
    options.add_argument("--loads", nargs="+", default=list(LOADS), choices=LOADS)
    options.add_argument("--separator", default="koretzky", metavar="NAME")
    options.add_argument("--profile", default="live", choices=("live", "monitor"))
    return program(measure, options, arguments)


if __name__ == "__main__":
    sys.exit(main())
