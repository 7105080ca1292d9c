"""Scale: cost per hop and real-time factor over hops, channels, and several streams in one process.

python -m benchmarks.scale [--seconds S] [--streams N ...] [--separators NAME ...]
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from benchmarks._host import FreeRunning, HandMade
from benchmarks._page import Page, Row, Table, parser, program
from rtsep.errors import UsageError
from rtsep.separators.registry import create

HOPS, CHANNELS = (64, 128, 256, 512, 1024), (1, 2)

SIZES = {
    "hop": "hop",
    "channels": "channels",
    "hop_ms": "hop, ms",
    "host_us": "host, us",
    "midside_us": "midside, us",
    "realtime": "times real time",
}
STREAMS = {
    "separator": "separator",
    "hop": "hop",
    "streams": "streams",
    "cpu_us": "CPU time per hop, us",
    "infer_us_p50": "separator p50, us",
    "realtime": "times real time, each",
    "total": "times real time, all together",
}


def size(hop: int, channels: int, count: int) -> Row:
    """Callback, worker's code and midside in one thread."""
    made = HandMade(create("midside"), channels=channels, hop=hop)
    made.run(100)
    made.separate(100)
    ticks, hosts = made.run(count)
    durations = np.zeros(count, np.int64)
    made.separate(count, durations)
    host_us, separator_us = float(np.median(ticks + hosts)) / 1e3, float(np.median(durations)) / 1e3
    return {
        "hop": hop,
        "channels": channels,
        "hop_ms": 1e3 * made.hop_s,
        "host_us": host_us,
        "midside_us": separator_us,
        "realtime": 1e6 * made.hop_s / (host_us + separator_us),
    }


def streams(name: str, number: int, seconds: float) -> Row:
    """`number` streams of one separator at once in this process, each as fast as it can for about `seconds`."""
    with ExitStack() as stack:
        running = [stack.enter_context(FreeRunning(create(name, device="cpu"))) for _ in range(number)]
        began = time.perf_counter()
        running[0].run(50)
        count = max(int(50 * seconds / (time.perf_counter() - began) / number), 20)
        threads = [threading.Thread(target=stream.run, args=(count,)) for stream in running]
        for stream in running:
            stream.timing.infer.reset()
        began, cpu = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spent, cpu = time.perf_counter() - began, time.process_time() - cpu
        realtime = count * running[0].hop_s / spent
        return {
            "separator": name,
            "hop": running[0].stream.spec.hop,
            "streams": number,
            "cpu_us": 1e6 * cpu / (count * number),
            "infer_us_p50": 1e3 * float(np.median([stream.timing.infer.percentile_ms(50) for stream in running])),
            "realtime": realtime,
            "total": realtime * number,
        }


def measure(chosen: argparse.Namespace) -> Page:
    """Both tables."""
    count, seconds = (100, 0.2) if chosen.quick else (3000, chosen.seconds)
    if min(chosen.streams) < 1 or seconds <= 0:
        raise UsageError("--streams must be at least 1 and --seconds above 0")
    sizes = [size(hop, channels, count) for channels in CHANNELS for hop in HOPS]
    many = [streams(name, number, seconds) for name in chosen.separators for number in chosen.streams]
    page = Page("scale", "Scale", "Sizes of a stream, and several streams in one process, at 48 kHz.")
    page.tables = [
        Table(
            "Hop and channels",
            SIZES,
            sizes,
            "Medians in one thread. Real time: duration of a hop over the cost of host and midside together.",
        ),
        Table(
            "Streams in one process",
            STREAMS,
            many,
            "Stereo; every stream has its own device thread, worker and inference thread, and goes as fast as it can. "
            "CPU time is that of the whole process.",
        ),
    ]
    page.figures = {
        "least_times_real_time": min(row["realtime"] for row in sizes),
        **{f"{row['separator']}_{row['streams']}_streams_times_real_time": row["realtime"] for row in many},
    }
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=5.0, help="length of each run of several streams")
    options.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4], metavar="N")
    options.add_argument("--separators", nargs="+", default=["passthrough", "midside", "koretzky"], metavar="NAME")
    return program(measure, options, arguments)


if __name__ == "__main__":
    sys.exit(main())
