"""One device period: the compiled step that every clock owner calls, from an audio callback or a compiled loop.

`tick` moves frames from the device into the input ring and from the output ring to the device, advances the stream's
clock and wakes the worker. It takes no lock, allocates nothing, and never touches the interpreter.

The engine is always driven by one clock. A device that only plays has no input here: a *source* fills the input ring
by itself. A driver without outputs (null, free) has its frames passed on to a *sink* ring, if there is one.
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import numpy as np
from numba import carray, njit, types

from rtsep.dsp.ring import Ring, ring_arrived, ring_fill, ring_read, ring_space, ring_write
from rtsep.io.clock import Semaphore, now_ns, post, sleep_us
from rtsep.native import float_pointer, int_pointer, load_acquire, store_release
from rtsep.spec import LOUDEST

# Layout of the context. Written by the tick alone; `BEGAN` is when the newest tick began, stored before all else,
# `STAMP` the same once the tick is over, `HELD_BACK` the frames kept from the sink so far, `SINK_LOST` those for which
# it had no room.
CLOCK, STAMP, PERIOD, UNDERRUNS, OVERRUNS, BAD_SAMPLES, TICKS, LOST, OVERRUN_FRAMES, HELD_BACK, BEGAN, SINK_LOST = (
    range(12)
)
# By the worker: the clock at which the last frame has been played (0: not known yet).
END = 12
OPEN, FREEWHEEL, SINK_SKIP = 16, 17, 18
INPUT_RING, OUTPUT_RING, SINK_RING, SEMAPHORE, CHANNELS, BLOCK, TIMES, SCRATCH, PERIOD_NS, PATIENCE_NS = range(32, 42)
CONTEXT_SIZE = 64

#: Frames that one pass of a tick moves; a larger period takes several passes.
BLOCK_FRAMES = 1024
#: Durations of the newest ticks that are kept for the statistics.
TIMES_KEPT = 4096
#: `FREEWHEEL` where no device waits for the tick, and so nothing hurries; 1 is a device's own freewheel mode.
PATIENT = 2
#: Share of a regular period for which a tick waits for frames that are not there yet, and the longest such wait.
_PATIENCE_SHARE, _PATIENCE_MOST_NS = 0.375, 1_000_000
#: Longest time for which a freewheeling tick of a device waits for the worker.
_FREEWHEEL_WAIT_NS = 10_000_000_000


@njit(nogil=True, cache=True)
def _take(ctx, block, in0, in1, stride, done, count, now):
    """Device input to input ring; NaN, Inf and what is beyond `LOUDEST` become 0 and are counted."""
    channels = block.shape[1]
    left = carray(float_pointer(in0), (done + count) * stride)
    right = carray(float_pointer(in1 if in1 != 0 else in0), (done + count) * stride)
    bad = 0
    for i in range(count):
        a = left[(done + i) * stride]
        b = right[(done + i) * stride]
        if not abs(a) <= LOUDEST:
            a = np.float32(0.0)
            bad += 1
        if not abs(b) <= LOUDEST:
            b = np.float32(0.0)
            bad += 1
        if channels == 2:
            block[i, 0] = a
            block[i, 1] = b
        else:
            block[i, 0] = a if in1 == 0 else np.float32(0.5) * (a + b)
    if bad:
        store_release(ctx, BAD_SAMPLES, ctx[BAD_SAMPLES] + bad)
    ring = carray(int_pointer(ctx[INPUT_RING]), 40)
    written = ring_write(ring, block, count)
    ring_arrived(ring, now)
    if written < count:
        store_release(ctx, OVERRUNS, ctx[OVERRUNS] + 1)
        store_release(ctx, OVERRUN_FRAMES, ctx[OVERRUN_FRAMES] + count - written)


@njit(nogil=True, cache=True)
def _give(block, channels, out0, out1, stride, done, count):
    """Block to device output: mono goes to both channels, stereo to a mono device as its mean."""
    left = carray(float_pointer(out0), (done + count) * stride)
    right = carray(float_pointer(out1 if out1 != 0 else out0), (done + count) * stride)
    for i in range(count):
        a = block[i, 0]
        b = block[i, channels - 1]
        if out1 != 0:
            left[(done + i) * stride] = a
            right[(done + i) * stride] = b
        else:
            left[(done + i) * stride] = a if channels == 1 else np.float32(0.5) * (a + b)


@njit(nogil=True, cache=True)
def _await(ctx, ring, frames):
    """Freewheel only: wait until `frames` frames can be read, the stream closes, or a device's ten seconds are over."""
    limit = now_ns(ctx[SCRATCH]) + _FREEWHEEL_WAIT_NS
    while ring_fill(ring) < frames and load_acquire(ctx, OPEN) != 0:
        if load_acquire(ctx, FREEWHEEL) != PATIENT and now_ns(ctx[SCRATCH]) >= limit:
            break
        sleep_us(20)


@njit(nogil=True, cache=True)
def _await_space(ctx, ring, frames):
    """Freewheel only: wait likewise until the sink has room."""
    limit = now_ns(ctx[SCRATCH]) + _FREEWHEEL_WAIT_NS
    while ring_space(ring) < frames and load_acquire(ctx, OPEN) != 0:
        if load_acquire(ctx, FREEWHEEL) != PATIENT and now_ns(ctx[SCRATCH]) >= limit:
            break
        sleep_us(20)


@njit(nogil=True, cache=True)
def _to_sink(ctx, block, frames):
    """Pass frames on, less those before the first of the input and after its last, where these are known."""
    sink = carray(int_pointer(ctx[SINK_RING]), 40)
    first = min(ctx[SINK_SKIP] - ctx[HELD_BACK], frames)
    ctx[HELD_BACK] += first
    end = load_acquire(ctx, END)
    last = frames if end == 0 else max(min(frames, end - (ctx[CLOCK] - frames)), 0)
    if last > first:
        if load_acquire(ctx, FREEWHEEL) != 0:
            _await_space(ctx, sink, last - first)
        missing = last - first - ring_write(sink, block[first:], last - first)
        if missing > 0 and load_acquire(ctx, OPEN) != 0:
            store_release(ctx, SINK_LOST, ctx[SINK_LOST] + missing)


@njit(nogil=True, cache=True)
def _await_worker(ctx, ring, frames, began):
    """Give the worker a moment more, of the time that the device has for its period: a mask that takes a little longer
    than a period is neither late nor lost then.

    And make up for a period that came early, because the one before came late: the worker still has the period that it
    was promised. A server that was late asks twice in short order, and without this the second time would be an
    underrun that the device itself does not have. The server had planned the full time until its next period anyway.
    """
    limit = max(ctx[STAMP] + ctx[PERIOD_NS] * 15 // 16, began) + ctx[PATIENCE_NS]
    while ring_fill(ring) < frames and now_ns(ctx[SCRATCH]) < limit:
        sleep_us(30)


_TICK = types.int64(types.intp, types.intp, types.intp, types.int64, types.intp, types.intp, types.int64, types.int64)


@njit(_TICK, nogil=True, cache=True)
def tick(context, in0, in1, in_stride, out0, out1, out_stride, frames):
    """Move `frames` frames in and out [audio thread].

    Parameters
    ----------
    context : address
        `StreamContext.address`.
    in0, in1 : address of float32
        First sample of the left and right input; `in0` 0: the device has no input, `in1` 0: it has one channel.
    in_stride : int
        Distance between two frames of one channel, in samples (1 for separate buffers, the channel count where
        interleaved).
    out0, out1 : address of float32
        Likewise for the output; 0: the frames go to the sink ring only.
    out_stride : int
        As `in_stride`.
    frames : int
        Frames of this period.

    Returns
    -------
    int
        1 while the stream is open, else 0 (the output was silence).
    """
    ctx = carray(int_pointer(context), CONTEXT_SIZE)
    scratch = ctx[SCRATCH]
    began = now_ns(scratch)
    store_release(ctx, BEGAN, began)
    opened = load_acquire(ctx, OPEN)
    channels = ctx[CHANNELS]
    block = carray(float_pointer(ctx[BLOCK]), (BLOCK_FRAMES, channels))
    done = 0
    while done < frames:
        count = min(frames - done, BLOCK_FRAMES)
        if opened != 0:
            if in0 != 0:
                _take(ctx, block, in0, in1, in_stride, done, count, began)
            store_release(ctx, CLOCK, ctx[CLOCK] + count)
        if opened != 0 and ctx[OUTPUT_RING] != 0:
            output = carray(int_pointer(ctx[OUTPUT_RING]), 40)
            if load_acquire(ctx, FREEWHEEL) != 0:
                post(ctx[SEMAPHORE])
                _await(ctx, output, count)
            elif ring_fill(output) < count:
                _await_worker(ctx, output, count, began)
            got = ring_read(output, block, count)
            if got < count:
                store_release(ctx, UNDERRUNS, ctx[UNDERRUNS] + 1)
                store_release(ctx, LOST, ctx[LOST] + count - got)
        else:
            got = 0
        for i in range(got, count):
            for c in range(channels):
                block[i, c] = 0.0
        if out0 != 0:
            _give(block, channels, out0, out1, out_stride, done, count)
        if opened != 0 and ctx[SINK_RING] != 0:
            _to_sink(ctx, block, count)
        done += count
    ended = now_ns(scratch)
    if opened != 0:
        ctx[PERIOD] = frames
        store_release(ctx, STAMP, began)
        times = carray(int_pointer(ctx[TIMES]), TIMES_KEPT)
        times[ctx[TICKS] % TIMES_KEPT] = ended - began
        store_release(ctx, TICKS, ctx[TICKS] + 1)
        end = load_acquire(ctx, END)
        if end != 0 and ctx[CLOCK] >= end and load_acquire(ctx, FREEWHEEL) != 0:
            # As fast as it runs, it would go on for seconds until somebody looked.
            store_release(ctx, OPEN, 0)
        post(ctx[SEMAPHORE])
    return 1 if opened != 0 else 0


class StreamContext:
    """Memory that a driver's callback works on; built by the engine, given to the driver as an address.

    Parameters
    ----------
    channels : int
        Channels of the engine, 1 or 2.
    input_ring : Ring
        Written by the tick where the driver has inputs, else by a source.
    output_ring : Ring
        Read by the tick.
    semaphore : Semaphore
        Posted once a tick: the worker waits on it.
    sink_ring : Ring, optional
        Gets a copy of all that is played.
    """

    def __init__(
        self, channels: int, input_ring: Ring, output_ring: Ring, semaphore: Semaphore, sink_ring: Ring | None = None
    ) -> None:
        self.words = np.zeros(CONTEXT_SIZE, dtype=np.int64)
        self._times = np.zeros(TIMES_KEPT, dtype=np.int64)
        self._scratch = np.zeros(2, dtype=np.int64)
        self._block = np.zeros((BLOCK_FRAMES, channels), dtype=np.float32)
        self._keep = (input_ring, output_ring, semaphore, sink_ring)
        self.words[CHANNELS] = channels
        self.words[INPUT_RING] = input_ring.address
        self.words[OUTPUT_RING] = output_ring.address
        self.words[SINK_RING] = sink_ring.address if sink_ring else 0
        self.words[SEMAPHORE] = semaphore.address
        self.words[BLOCK] = self._block.ctypes.data
        self.words[TIMES] = self._times.ctypes.data
        self.words[SCRATCH] = self._scratch.ctypes.data

    @property
    def address(self) -> int:
        """What `tick` takes."""
        return self.words.ctypes.data

    def set_period(self, frames: int, samplerate: int) -> None:
        """Tell the regular distance of two ticks; before `open` [main thread]."""
        period_ns = 1_000_000_000 * frames // samplerate
        self.words[PERIOD_NS] = period_ns
        self.words[PATIENCE_NS] = min(int(_PATIENCE_SHARE * period_ns), _PATIENCE_MOST_NS)

    def open(self) -> None:
        """Let sound through from the next tick on [any thread]."""
        self.words[OPEN] = 1

    def close(self) -> None:
        """Silence from the next tick on [any thread]."""
        self.words[OPEN] = 0

    def set_freewheel(self, on: bool) -> None:
        """Ticks wait for the worker, as long as it takes, instead of meeting a deadline [any thread but the audio
        thread].
        """
        self.words[FREEWHEEL] = PATIENT if on else 0

    def tick_ms(self) -> np.ndarray:
        """Durations of the newest ticks in milliseconds, unordered [any thread]."""
        return self._times[: min(int(self.words[TICKS]), TIMES_KEPT)] / 1e6


def input_context(ring: Ring) -> StreamContext:
    """Open context of a device that only records: its tick fills `ring`, drops NaN and waits for nobody [main thread].

    The caller keeps it as long as the device may tick.
    """
    context = StreamContext(ring.channels, ring, Ring(1, ring.channels), Semaphore())
    context.words[OUTPUT_RING] = 0
    context.open()
    return context
