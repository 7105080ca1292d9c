"""Compiled loops of the benchmarks: hops through the worker's own code, and periods into a running stream."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

from numba import njit, types

from rtsep.engine import worker
from rtsep.engine.chain import give
from rtsep.engine.worker import HOPS, INPUT_RATE, LOOKAHEAD, RATE
from rtsep.io.clock import now_ns
from rtsep.io.tick import tick
from rtsep.native import call, store_release

_fill, _publish, _mask_for = worker._fill, worker._publish, worker._mask_for
_mix, _output = worker._mix, worker._output


@njit(nogil=True, cache=True)
def run_hops(w, chain, context, left, right, out, first, count, tick_ns, host_ns):
    """Make hops `first` to ``first + count - 1`` as audio callback and worker do, one after the other in this thread.

    Each hop is one device period. The masks are there already (`MASKED` says so), so nothing is waited for. `tick_ns`
    and `host_ns` (count,) take the duration of the callback and of the worker's part.
    """
    words, frames = w.words, w.block.shape[1]
    clock = w.scratch.ctypes.data
    for i in range(count):
        hop = first + i
        at = 4 * frames * (hop & 15)
        began = now_ns(clock)
        tick(context, left + at, 0 if right == 0 else right + at, 1, out, out + 4 * frames, 1, frames)
        ticked = now_ns(clock)
        if not _fill(w, words[RATE] / words[INPUT_RATE]):
            return i
        _publish(w, chain, hop)
        mask, _ = _mask_for(w, hop)
        give(chain, hop, mask, words[LOOKAHEAD])
        _mix(w, chain)
        _output(w)
        store_release(words, HOPS, hop + 1)
        tick_ns[i] = ticked - began
        host_ns[i] = now_ns(clock) - ticked
    return count


@njit(
    types.void(types.int64, types.int64, types.int64, types.int64, types.int64, types.int64, types.int64),
    nogil=True,
    cache=True,
)
def run_periods(context, left, right, out, frames, length, count):
    """Tick `count` periods of a freewheeling stream, each of which waits, going round in `length` frames of sound."""
    for i in range(count):
        at = 4 * ((i * frames) % length)
        tick(context, left + at, 0 if right == 0 else right + at, 1, out, out + 4 * frames, 1, frames)


@njit(nogil=True, cache=True)
def run_separator(function, memory, spectra, masks, scratch, durations):
    """Call the C function of a separator once for each of `durations` (count,), which take how long it took in ns."""
    clock, slots = scratch.ctypes.data, masks.shape[0]
    for i in range(len(durations)):
        began = now_ns(clock)
        call(function, memory, spectra[i % slots].ctypes.data, masks[i % slots].ctypes.data)
        durations[i] = now_ns(clock) - began
