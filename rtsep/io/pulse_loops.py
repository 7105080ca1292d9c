"""The compiled loops of the PulseAudio backend, and libpulse-simple itself; OSError on import where that is missing."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import ctypes

import numpy as np
from numba import njit, types

from rtsep.dsp.ring import Block, Control, ring_arrived, ring_write
from rtsep.io.clock import now_ns
from rtsep.io.tick import tick
from rtsep.native import external, load_acquire, store_release
from rtsep.spec import LOUDEST

#: Control array of a loop: stop request, error number, latency in frames, xruns, time of the last block, samples that
#: were no numbers, scratch.
STOP, ERROR, LATENCY, XRUNS, STAMP, BAD, TIME, CONTROL_SIZE = 0, 1, 2, 3, 4, 5, 8, 12
_LATENCY_EVERY_NS = 500_000_000
_FAILED = 10

library = ctypes.CDLL("libpulse-simple.so.0")
library.pa_simple_new.restype = ctypes.c_void_p
library.pa_simple_free.argtypes = [ctypes.c_void_p]
library.pa_simple_flush.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_read = external(library, "pa_simple_read", types.int32(types.intp, types.intp, types.uintp, types.intp))
_write = external(library, "pa_simple_write", types.int32(types.intp, types.intp, types.uintp, types.intp))
_latency = external(library, "pa_simple_get_latency", types.uint64(types.intp, types.intp))


@njit(types.void(Control, types.int64, Control, Block, Block, types.int64), nogil=True, cache=True)
def capture(control, stream, ring, block, mixed, samplerate):
    """Read block after block into `ring` until stopped or cut off; NaN, Inf and what is beyond `LOUDEST` become 0.

    `mixed` has the channels of the ring: mono fills both, stereo is averaged into mono.
    """
    frames, channels = block.shape
    here = control.ctypes.data
    asked = 0
    while load_acquire(control, STOP) == 0:
        if _read(stream, block.ctypes.data, 4 * frames * channels, here + 8 * ERROR) < 0:
            control[ERROR] = max(control[ERROR], _FAILED)
            break
        if load_acquire(control, STOP) != 0:  # while it waited: nobody reads the ring any more
            break
        for i in range(frames):
            for c in range(channels):
                if not abs(block[i, c]) <= LOUDEST:
                    block[i, c] = 0.0
                    control[BAD] += 1
            for c in range(mixed.shape[1]):
                if mixed.shape[1] >= channels:
                    mixed[i, c] = block[i, min(c, channels - 1)]
                else:
                    mixed[i, c] = np.float32(0.5) * (block[i, 0] + block[i, 1])
        if ring_write(ring, mixed, frames) < frames:
            store_release(control, XRUNS, control[XRUNS] + 1)
        now = now_ns(here + 8 * TIME)
        ring_arrived(ring, now)
        store_release(control, STAMP, now)
        if now - asked > _LATENCY_EVERY_NS:
            asked = now
            control[LATENCY] = _latency(stream, here + 8 * (TIME + 2)) * samplerate // 1_000_000


@njit(types.void(Control, types.int64, types.int64, Block, types.int64, types.int64), nogil=True, cache=True)
def play(control, stream, context, block, samplerate, queued_ns):
    """Tick and write block after block until stopped or cut off; the server's demand is the clock.

    `queued_ns` is what the server holds when its queue is full: a tick that comes later than that after the last one
    was too late (the simple interface does not tell of underruns itself).
    """
    frames, channels = block.shape
    here, there = control.ctypes.data, block.ctypes.data
    asked, last = 0, 0
    while load_acquire(control, STOP) == 0:
        tick(context, 0, 0, 0, there, there + 4 if channels == 2 else 0, channels, frames)
        if _write(stream, there, 4 * frames * channels, here + 8 * ERROR) < 0:
            control[ERROR] = max(control[ERROR], _FAILED)
            break
        now = now_ns(here + 8 * TIME)
        if last != 0 and now - last > queued_ns:
            store_release(control, XRUNS, control[XRUNS] + 1)
        last = now
        store_release(control, STAMP, now)
        if now - asked > _LATENCY_EVERY_NS:
            asked = now
            control[LATENCY] = _latency(stream, here + 8 * (TIME + 2)) * samplerate // 1_000_000
