"""What PortAudio's threads run: a compiled callback on one array of words, which never meets the interpreter's lock."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

from numba import carray, cfunc, types

from rtsep.io.clock import now_ns
from rtsep.io.tick import tick
from rtsep.native import float_pointer, int_pointer, load_acquire, store_release

# Words of the array that the callback shares with the stream.
CONTEXT, INPUTS, OUTPUTS, FRAME_PS, SCRATCH = 0, 1, 2, 3, 4
CALLS, LAST, BURST, LARGEST, XRUNS_IN, XRUNS_OUT, FINISHED = range(8, 15)
WORDS = 16

_INPUT_FLAGS, _OUTPUT_FLAGS = 0b0011, 0b1100
_SAMPLE_BYTES = 4


@cfunc(
    types.int32(types.intp, types.intp, types.uint32, types.intp, types.uint32, types.intp),
    cache=True,
)
def on_stream(source, target, frames, times, flags, arg):
    """One block: count what PortAudio reports, then the tick; silence while there is no stream [audio thread]."""
    state = carray(int_pointer(arg), WORDS)
    count = types.int64(frames)
    if flags & _INPUT_FLAGS:
        store_release(state, XRUNS_IN, state[XRUNS_IN] + 1)
    if flags & _OUTPUT_FLAGS:
        store_release(state, XRUNS_OUT, state[XRUNS_OUT] + 1)
    # Blocks that follow each other much faster than they sound are one burst: the stream must have as much in store.
    now = now_ns(arg + 8 * SCRATCH)
    together = (now - state[LAST]) * 4000 < state[FRAME_PS] * count
    state[BURST] = state[BURST] + count if together else count
    state[LARGEST] = max(state[LARGEST], state[BURST])
    store_release(state, LAST, now)
    inputs, outputs = state[INPUTS], state[OUTPUTS]
    context = load_acquire(state, CONTEXT)
    if context != 0:
        in1 = source + _SAMPLE_BYTES if inputs == 2 else 0
        out1 = target + _SAMPLE_BYTES if outputs == 2 else 0
        tick(context, source, in1, inputs, target, out1, outputs, count)
    elif outputs > 0:
        carray(float_pointer(target), count * outputs)[:] = 0.0
    store_release(state, CALLS, state[CALLS] + 1)
    return 0


@cfunc(types.void(types.intp), cache=True)
def on_finished(arg):
    """Note that no more blocks will come."""
    store_release(carray(int_pointer(arg), WORDS), FINISHED, types.int64(1))
