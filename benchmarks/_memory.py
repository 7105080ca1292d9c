"""What a running stream allocates: Python objects, numpy arrays, compiled code's arrays, resident memory."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks._host import FreeRunning, HandMade
from rtsep.engine.options import SessionOptions
from rtsep.engine.session import Session
from rtsep.engine.stats import rss_mb
from rtsep.separators.registry import create

#: tracemalloc's number for the memory of numpy's arrays.
_NUMPY_DOMAIN = 389047
#: Hops before the count begins: threads, caches and the interpreter's free lists have settled.
_WARM_UP = 500


def allocations(name: str, hops: int, hop: int = 256) -> dict[str, Any]:
    """Run `hops` hops of separator `name` in the stream's own threads and count what is left of them.

    Growth per hop is that of `hops` hops less that of a tenth of them: what the measurement itself leaves goes out.
    ``blocks_per_hop`` and ``bytes_per_hop`` are Python's memory (`sys.getallocatedblocks`, tracemalloc),
    ``numpy_bytes_per_hop`` numpy's share of it. ``peak_bytes`` is the most in use at one moment above the start: an
    array made and dropped within a hop would show with its size. ``compiled_per_hop`` counts what callback and worker
    take from Numba's allocator, ``handles_per_hop`` what the calls from the inference thread take: a handle per array
    argument, freed at the return.
    """
    with _numba_counter():
        with FreeRunning(create(name, device="cpu"), hop=hop) as running:
            running.run(_WARM_UP)
            tracemalloc.start(1)
            try:
                running.run(_WARM_UP)
                few, many = _growth(running, hops // 10), _growth(running, hops)
            finally:
                tracemalloc.stop()
        spec = running.stream.spec
        compiled = _compiled_per_hop(name, spec.hop)
    per_hop = [_rounded((b - a) / (hops - hops // 10)) for a, b in zip(few, many, strict=True)]
    return {
        "separator": name,
        "hops": hops,
        "blocks_per_hop": per_hop[0],
        "bytes_per_hop": per_hop[1],
        "numpy_bytes_per_hop": per_hop[2],
        "compiled_per_hop": compiled,
        "handles_per_hop": per_hop[3],
        "peak_bytes": many[4],
        "mask_bytes": 4 * spec.channels * spec.bins,
    }


def _growth(running: FreeRunning, hops: int) -> tuple[int, int, int, int, int]:
    """Growth of blocks, bytes, numpy's bytes and Numba's count over `hops` hops, and the peak of bytes."""
    with _settled():
        arrays, numba = _numpy_bytes(), _numba_count()
        blocks, size = sys.getallocatedblocks(), tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        running.run(hops)
        size_after, peak = tracemalloc.get_traced_memory()
        blocks_after, numba_after = sys.getallocatedblocks(), _numba_count()
        return blocks_after - blocks, size_after - size, _numpy_bytes() - arrays, numba_after - numba, peak - size


def _compiled_per_hop(name: str, hop: int, hops: int = 2000) -> float:
    """What callback and worker take from Numba's allocator in a hop; the call itself always takes the same."""
    made = HandMade(create(name, device="cpu"), hop=hop)
    counts = []
    for count in (hops, hops, 2 * hops):
        before = _numba_count()
        made.run(count)
        counts.append(_numba_count() - before)
    return _rounded((counts[2] - counts[1]) / hops)


def _rounded(per_hop: float) -> float:
    """To a thousandth: single objects in thousands of hops are those that hold the counts."""
    return round(per_hop, 3) + 0.0


@contextmanager
def _numba_counter() -> Iterator[None]:
    """Let Numba count its allocations."""
    from numba.core.runtime import _nrt_python, rtsys

    rtsys.initialize(None)
    _nrt_python.memsys_enable_stats()
    try:
        yield
    finally:
        _nrt_python.memsys_disable_stats()


def _numba_count() -> int:
    from numba.core.runtime import rtsys

    return int(rtsys.get_allocation_stats().alloc)


def _numpy_bytes() -> int:
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, _NUMPY_DOMAIN)])
    return sum(trace.size for trace in snapshot.traces)


@contextmanager
def _settled() -> Iterator[None]:
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def resident(name: str, minutes: float, speed: float = 8.0) -> dict[str, Any]:
    """Memory over a session of `minutes` at `speed` times real time, once its first tenth (or 5 s) is over.

    Growth is that of the memory which the process has made: pages of libraries come and go as the system likes.
    """
    samples: list[tuple[float, float]] = []
    seconds = 60 * minutes
    options = SessionOptions(input="test:noise", output="null", separator=name, device="cpu", speed=speed)
    with Session(options) as session:
        began = time.monotonic()
        while (spent := time.monotonic() - began) < seconds:
            time.sleep(min(0.5, seconds / 40))
            if spent >= min(5.0, seconds / 10):
                samples.append((rss_mb(), own_mb()))
        stats = session.snapshot()
    return {
        "separator": name,
        "minutes": minutes,
        "speed": speed,
        "hops": stats.hops,
        "late": stats.late,
        "xruns": stats.xruns_in + stats.xruns_out,
        "rss_mb_first": samples[0][0],
        "rss_mb_last": samples[-1][0],
        "own_mb": samples[-1][1],
        "growth_mb": samples[-1][1] - samples[0][1],
        "spread_mb": max(own for _, own in samples) - min(own for _, own in samples),
    }


def own_mb() -> float:
    """Memory that the process has made (RssAnon of Linux), MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1000
