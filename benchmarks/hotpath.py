"""Hot path: host cost per hop with each separator, and what it allocates.

    python -m benchmarks.hotpath [--minutes M] [--separators NAME ...]

Host cost is all but the separator: input ring, analysis, mask, synthesis, faders, limiter, meters, output ring.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._host import HandMade
from benchmarks._memory import allocations, resident
from benchmarks._page import Page, Table, parser, program
from rtsep.engine.options import SessionOptions
from rtsep.engine.session import Session
from rtsep.errors import UsageError
from rtsep.separators.registry import create

SEPARATORS = ("passthrough", "midside", "live", "monitor", "karaoke", "live-small", "monitor-small", "koretzky")
HOPS, CHANNELS = (128, 256, 512), (1, 2)

COST = {
    "separator": "separator",
    "channels": "channels",
    "hop": "hop",
    "host_us_p50": "host p50, us",
    "host_us_p99": "host p99, us",
    "host_share": "host p50, % of the hop",
    "callback_us_p50": "callback p50, us",
    "callback_us_p99": "callback p99, us",
    "separator_us_p50": "separator p50, us",
    "separator_us_p99": "separator p99, us",
}
LIVE = {
    "separator": "separator",
    "hop": "hop",
    "hops": "hops",
    "host_ms_p50": "host p50, ms",
    "host_ms_p99": "host p99, ms",
    "infer_ms_p50": "separator p50, ms",
    "infer_ms_p99": "separator p99, ms",
    "callback_ms_p99": "callback p99, ms",
    "late": "late",
    "xruns": "xruns",
}
MADE = {
    "separator": "separator",
    "hops": "hops",
    "blocks_per_hop": "blocks per hop",
    "bytes_per_hop": "bytes per hop",
    "numpy_bytes_per_hop": "numpy's bytes per hop",
    "compiled_per_hop": "by callback and worker",
    "handles_per_hop": "handles of arguments",
    "peak_bytes": "peak, bytes",
    "mask_bytes": "one mask, bytes",
}
RESIDENT = {
    "separator": "separator",
    "minutes": "minutes",
    "speed": "times real time",
    "hops": "hops",
    "late": "late",
    "xruns": "xruns",
    "rss_mb_first": "RSS first, MB",
    "rss_mb_last": "RSS last, MB",
    "own_mb": "of its own making, MB",
    "growth_mb": "growth of that, MB",
    "spread_mb": "its most - least, MB",
}


def percentiles(durations_ns: NDArray[np.int64]) -> tuple[float, float]:
    """Median and 99th percentile in microseconds."""
    p50, p99 = np.percentile(durations_ns, [50, 99]) / 1000.0
    return float(p50), float(p99)


def cost(name: str, channels: int, hop: int, count: int) -> dict[str, Any]:
    """Callback, host and separator one after the other in this thread, over `count` hops each."""
    made = HandMade(create(name, device="cpu"), channels=channels, hop=hop)
    made.run(min(count, 200))
    ticks, hosts = made.run(count)
    durations = np.zeros(count, np.int64)
    made.separate(min(count, 50))
    made.separate(count, durations)
    (callback_p50, callback_p99), (host_p50, host_p99) = percentiles(ticks), percentiles(hosts)
    separator_p50, separator_p99 = percentiles(durations)
    return {
        "separator": name,
        "channels": channels,
        "hop": made.stream.spec.hop,
        "host_us_p50": host_p50,
        "host_us_p99": host_p99,
        "host_share": 1e-4 * host_p50 / made.hop_s,
        "callback_us_p50": callback_p50,
        "callback_us_p99": callback_p99,
        "separator_us_p50": separator_p50,
        "separator_us_p99": separator_p99,
    }


def live(name: str, hop: int, seconds: float) -> dict[str, Any]:
    """The built-in song through a whole session against the computer's clock."""
    options = SessionOptions(input="demo", output="null", separator=name, hop=hop, device="cpu")
    with Session(options) as session:
        time.sleep(seconds)
        stats = session.snapshot()
    row: dict[str, Any] = {key: getattr(stats, key) for key in LIVE if hasattr(stats, key)}
    return row | {"separator": name, "hop": stats.hop_frames, "xruns": stats.xruns_in + stats.xruns_out}


def measure(chosen: argparse.Namespace) -> Page:
    """All four tables."""
    quick = chosen.quick
    count, seconds = (200, 1.0) if quick else (4000, chosen.seconds)
    hops = chosen.hops or (600 if quick else 10_000)
    if chosen.minutes <= 0 or seconds <= 0 or hops <= 0:
        raise UsageError("--minutes, --seconds and --hops must be above 0")
    kept = resident(chosen.separators[-1], chosen.minutes)  # first, while the process is as a user's would be
    costs, lives = [], []
    for name in chosen.separators:
        required = create(name, device="cpu").required_hop(48000)
        for hop in (required,) if required else HOPS:
            costs += [cost(name, channels, hop, count) for channels in CHANNELS]
            lives.append(live(name, hop, seconds))
    made = [allocations(name, hops) for name in chosen.separators]
    page = Page("hotpath", "Hot path", "Host cost: all but the separator, per hop, at 48 kHz.")
    page.tables = [
        Table(
            "Cost of one hop, synchronous",
            COST,
            costs,
            f"Callback, worker's code and separator one after the other in one thread, {count} hops each, "
            "a device period of one hop.",
        ),
        Table(
            "Cost of one hop, live",
            LIVE,
            lives,
            f"The built-in song (stereo) for {seconds:g} s in its own threads, against the computer's clock: "
            "each hop starts from sleep, with cold caches.",
        ),
        Table(
            "Allocations",
            MADE,
            made,
            "Callback, worker and inference thread in steady state. Blocks and bytes: growth of Python's memory per "
            "hop (sys.getallocatedblocks, tracemalloc with numpy's domain). Peak: the most above the start at any "
            "moment; an array made and dropped within a hop would show with its size. By callback and worker: "
            "allocations of compiled code per hop. Handles: Numba's, 48 bytes for each array argument of a call from "
            "the inference thread, freed when the call returns.",
        ),
        Table(
            "Resident memory",
            RESIDENT,
            [kept],
            "Noise through a session at several times real time. RSS holds pages of libraries, too, which the system "
            "takes and gives back.",
        ),
    ]
    base = next((row for row in costs if (row["channels"], row["hop"]) == (2, 256)), costs[-1])
    base_live = next((row for row in lives if row["hop"] == 256), lives[-1])
    page.figures = {
        "host_us_p50": base["host_us_p50"],
        "host_us_p99": base["host_us_p99"],
        "host_live_ms_p50": base_live["host_ms_p50"],
        "callback_us_p99": max(row["callback_us_p99"] for row in costs),
        "callback_live_us_p99": 1000 * max(row["callback_ms_p99"] for row in lives),
        "allocations_per_hop": max(max(row["blocks_per_hop"], 0.0) + row["compiled_per_hop"] for row in made),
        "memory_growth_mb": kept["growth_mb"],
    }
    page.notes.append("the first two figures are those of stereo, hop 256, separator passthrough")
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--minutes", type=float, default=0.25, help="length of the run for the resident memory")
    options.add_argument("--seconds", type=float, default=5.0, help="length of each live run")
    options.add_argument("--hops", type=int, help="hops over which allocations are counted (10,000)")
    options.add_argument("--separators", nargs="+", default=list(SEPARATORS), metavar="NAME")
    return program(measure, options, arguments)


if __name__ == "__main__":
    sys.exit(main())
