"""The worker: one compiled loop from the input ring to the output ring, hop by hop, without the interpreter.

It waits for a hop, hands its spectrum to the inference thread, waits for the mask until its deadline and takes the
last mask if there is none, splits, mixes, limits, meters and passes the sound on. Python threads may hold the
interpreter's lock meanwhile: nothing here needs it.
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtsep.dsp.denormals import flush_denormals
from rtsep.dsp.drift import relock, steer
from rtsep.dsp.gain import TARGET, at_unity, balance, mix, ramp_next
from rtsep.dsp.limiter import limit
from rtsep.dsp.meter import meter
from rtsep.dsp.resample import pull, resample, restart
from rtsep.dsp.ring import ring_distance, ring_fill, ring_peek, ring_read, ring_skip, ring_space, ring_write
from rtsep.engine.chain import give, take
from rtsep.engine.histogram import count_duration
from rtsep.io import tick
from rtsep.io.clock import now_ns, post, wait_until
from rtsep.native import load_acquire, store_release

# Words that the two threads and the control side share. Written by the worker:
PUBLISHED, HOPS, LATE, STARVED, DROPPED, RESYNCS, RECORD_LOST, PRIMED, PARTIAL = range(9)
# by the inference thread:
MASKED, FAULT, SKIPPED = 16, 17, 18
# by the control side:
RUN, BYPASS, FINISHED, RECORD, REST = 32, 33, 34, 35, 36
# and constants:
(
    RATE,
    DEVICE_RATE,
    INPUT_RATE,
    LOOKAHEAD,
    SPLIT,
    OWN_CLOCK,
    FILL_TARGET,
    MARGIN_NS,
    MASK_READY,
    SPECTRUM_READY,
    CONVERT_IN,
    CONVERT_OUT,
    DELAY_IN,
    LATENCY,
    CLOCK_RATE,
) = range(48, 63)
WORDS = 64

#: Longest nap without news, so that the loop sees RUN change.
_NAP_NS = 20_000_000
#: Longest wait for a mask where there is no deadline (freewheel).
_PATIENCE_NS = 10_000_000_000
#: Largest piece that a conversion between rates works on, in frames.
PIECE = 16384


class WorkerMemory(NamedTuple):
    """Everything that the worker touches besides the chain."""

    words: NDArray[np.int64]
    context: NDArray[np.int64]  # of the tick
    semaphore: int
    input: NDArray[np.int64]  # ring
    output: NDArray[np.int64]  # ring
    record: NDArray[np.int64]  # ring of `recorded`'s channels
    raw: NDArray[np.float32]  # (PIECE, channels), from the input ring
    converted: NDArray[np.float32]  # (PIECE, channels), at engine or device rate
    block: NDArray[np.float32]  # (channels, hop), input
    balanced: NDArray[np.float32]  # (channels, hop), the music after the faders of its stems
    out: NDArray[np.float32]  # (channels, hop)
    played: NDArray[np.float32]  # (hop, channels)
    recorded: NDArray[np.float32]  # (hop, 3 x channels), with stems (hop, (4 + stems) x channels)
    vocal_ramp: NDArray[np.float64]
    music_ramp: NDArray[np.float64]
    stem_ramps: NDArray[np.float64]  # (stems + 1, 3), the rest of the music last; (0, 3) without stems
    bypass_ramp: NDArray[np.float64]
    master_ramp: NDArray[np.float64]
    limiter: NDArray[np.float64]
    input_meter: NDArray[np.float64]
    vocal_meter: NDArray[np.float64]
    music_meter: NDArray[np.float64]
    output_meter: NDArray[np.float64]
    drift: NDArray[np.float64]
    convert_in: NDArray[np.int64]  # SRC_DATA
    convert_in_state: NDArray[np.float64]
    convert_out: NDArray[np.int64]  # SRC_DATA
    hop_times: NDArray[np.int64]
    host_times: NDArray[np.int64]
    scratch: NDArray[np.int64]  # (2,), for the clock


@njit(nogil=True, cache=True)
def _due(w, hop):
    """Whether hop number `hop` may be made by the clock of a device that only plays: as if it had recorded, too."""
    clock = load_acquire(w.context, tick.CLOCK)
    return clock * w.words[RATE] >= (hop + 1) * w.block.shape[1] * w.words[DEVICE_RATE]


@njit(nogil=True, cache=True)
def _fill(w, ratio):
    """Go on filling `w.block` from the input ring, at the engine's rate; True once it holds a whole hop."""
    words, channels, wanted = w.words, w.block.shape[0], w.block.shape[1]
    done = words[PARTIAL]
    if words[CONVERT_IN] == 0:
        if ring_fill(w.input) >= wanted - done:
            count = ring_read(w.input, w.raw, wanted - done)
            for i in range(count):
                for c in range(channels):
                    w.block[c, done + i] = w.raw[i, c]
            done += count
    else:
        offer = min(int((wanted - done) / ratio + 128.0 * max(1.0, 1.0 / ratio)), PIECE)
        count = ring_peek(w.input, w.raw, offer)
        used, made = pull(
            words[CONVERT_IN], w.convert_in, w.convert_in_state, w.raw, count, w.converted, wanted - done, ratio
        )
        ring_skip(w.input, used)
        for i in range(max(made, 0)):
            for c in range(channels):
                w.block[c, done + i] = w.converted[i, c]
        done += max(made, 0)
    words[PARTIAL] = 0 if done == wanted else done
    return done == wanted


@njit(nogil=True, cache=True)
def _pad(w):
    """Fill the rest of `w.block` with silence; returns its frames."""
    done, frames = w.words[PARTIAL], w.block.shape[1]
    if w.words[CONVERT_IN] == 0 and done < frames:
        count = ring_read(w.input, w.raw, frames - done)
        for i in range(count):
            for c in range(w.block.shape[0]):
                w.block[c, done + i] = w.raw[i, c]
        done += count
    w.block[:, done:] = 0.0
    w.words[PARTIAL] = 0
    return frames - done


@njit(nogil=True, cache=True)
def _deadline(w):
    """Time at which the output ring runs dry and the device's patience ends, less a margin for the rest of the hop."""
    stamp = load_acquire(w.context, tick.STAMP)
    period = max(w.context[tick.PERIOD], 1)
    periods = ring_fill(w.output) // period + 1
    dry = stamp + periods * period * 1_000_000_000 // w.words[CLOCK_RATE]
    return dry + w.context[tick.PATIENCE_NS] - w.words[MARGIN_NS]


@njit(nogil=True, cache=True)
def _await_input(w):
    """Wait for a source that is behind: until it has a hop, has ended, or the deadline has come, if there is one."""
    words = w.words
    need = w.block.shape[1]
    patience = now_ns(w.scratch.ctypes.data) + _PATIENCE_NS
    while ring_fill(w.input) < need and load_acquire(words, FINISHED) == 0 and load_acquire(words, RUN) != 0:
        now = now_ns(w.scratch.ctypes.data)
        freewheel = load_acquire(w.context, tick.FREEWHEEL)
        limit = patience if freewheel != 0 else _deadline(w)
        if freewheel == tick.PATIENT:
            limit = now + 1_000_000
        if now >= limit:
            return
        wait_until(w.semaphore, min(limit, now + 1_000_000))


@njit(nogil=True, cache=True)
def _matched_ratio(w):
    """Ratio that holds the fill of the capture ring; 0 while there is silence to be played until it has filled up."""
    words = w.words
    fill, arrival = ring_distance(w.input)
    if arrival == 0:
        return 0.0
    # At the time of the tick: when this thread woke up is no part of either clock. A block may have come since.
    age = (load_acquire(w.context, tick.BEGAN) - arrival) * 1e-9
    if words[PRIMED] == 0:
        # The first hop takes `DELAY_IN` frames more than it gives, for the resampler's filter.
        excess = int(fill + age * words[INPUT_RATE]) - words[FILL_TARGET] - words[DELAY_IN]
        if excess < 0:
            return 0.0
        fill -= ring_skip(w.input, excess) + words[DELAY_IN]
        restart(words[CONVERT_IN], w.convert_in_state)
        relock(w.drift)
        words[PRIMED] = 1
    ratio, jump = steer(w.drift, fill, age)
    if jump != 0:
        store_release(words, RESYNCS, words[RESYNCS] + 1)
        relock(w.drift)
        ring_skip(w.input, max(jump, 0))
        if jump < 0:
            words[PRIMED] = 0
            return 0.0
    return ratio


@njit(nogil=True, cache=True)
def _from_source(w):
    """Next hop of a source into `w.block`, with silence where the source has none."""
    words = w.words
    if words[OWN_CLOCK] != 0:
        ratio = _matched_ratio(w)
        if ratio == 0.0:
            w.block[:] = 0.0
            return
    else:
        ratio = 1.0
        _await_input(w)
    if _fill(w, ratio):
        return
    missing = _pad(w)
    if load_acquire(words, FINISHED) != 0:
        total = (words[HOPS] + 1) * w.block.shape[1] - missing
        end = (total * words[DEVICE_RATE] + words[RATE] // 2) // words[RATE] + words[LATENCY]
        if w.context[tick.END] == 0 or end < w.context[tick.END]:
            store_release(w.context, tick.END, end)
    else:
        store_release(words, STARVED, words[STARVED] + 1)
        words[PRIMED] = 0


@njit(nogil=True, cache=True)
def _publish(w, chain, hop):
    """Hand the spectrum of `w.block` to the inference thread, and whether the stems are heard or recorded."""
    words = w.words
    if w.stem_ramps.shape[0] > 0:
        heard = load_acquire(words, RECORD) != 0 or not at_unity(w.stem_ramps)
        chain.stems_wanted[0] = 1.0 if heard else 0.0
    take(chain, w.block, hop)
    store_release(words, PUBLISHED, hop + 1)
    post(words[SPECTRUM_READY])


@njit(nogil=True, cache=True)
def _mask_for(w, hop):
    """Number of the mask to use for hop `hop`; waits for its own until the deadline. Returns (mask, nanoseconds
    waited).
    """
    words = w.words
    began = now_ns(w.scratch.ctypes.data)
    now = began
    while load_acquire(words, MASKED) <= hop:
        limit = began + _PATIENCE_NS if load_acquire(w.context, tick.FREEWHEEL) != 0 else _deadline(w)
        if load_acquire(words, RUN) == 0:
            break
        if now >= limit:
            store_release(words, LATE, words[LATE] + 1)
            break
        wait_until(words[MASK_READY], min(limit, now + _NAP_NS))
        now = now_ns(w.scratch.ctypes.data)
    return min(load_acquire(words, MASKED) - 1, hop), now - began


@njit(nogil=True, cache=True)
def _record(w, chain):
    """Mixture, vocals and music side by side into `w.recorded`, then the stems and what they leave of the music."""
    channels, frames = w.out.shape
    stems = chain.stems.shape[0]
    for i in range(frames):
        for c in range(channels):
            w.recorded[i, c] = chain.mixture[c, i]
            w.recorded[i, channels + c] = chain.vocals[c, i]
            rest = w.recorded[i, 2 * channels + c] = chain.music[c, i]
            for s in range(stems):
                w.recorded[i, (3 + s) * channels + c] = chain.stems[s, c, i]
                rest -= chain.stems[s, c, i]
            if stems > 0:
                w.recorded[i, (3 + stems) * channels + c] = rest


@njit(nogil=True, cache=True)
def _mix(w, chain):
    """Faders, bypass, master fade and limiter into `w.out`; meters; recorder."""
    words, channels, frames = w.words, w.out.shape[0], w.out.shape[1]
    if at_unity(w.stem_ramps):
        mix(chain.vocals, chain.music, w.out, w.vocal_ramp, w.music_ramp)
    else:
        balance(chain.music, chain.stems, w.balanced, w.stem_ramps)
        mix(chain.vocals, w.balanced, w.out, w.vocal_ramp, w.music_ramp)
    w.bypass_ramp[TARGET] = 1.0 if load_acquire(words, BYPASS) != 0 or load_acquire(words, FAULT) != 0 else 0.0
    if w.bypass_ramp[0] != 0.0 or w.bypass_ramp[TARGET] != 0.0:
        for i in range(frames):
            share = np.float32(ramp_next(w.bypass_ramp, 1))
            for c in range(channels):
                w.out[c, i] = (
                    chain.mixture[c, i] if share == 1.0 else w.out[c, i] + share * (chain.mixture[c, i] - w.out[c, i])
                )
    if w.master_ramp[0] != 1.0 or w.master_ramp[TARGET] != 1.0:
        for i in range(frames):
            gain = np.float32(ramp_next(w.master_ramp, 1))
            for c in range(channels):
                w.out[c, i] *= gain
    limit(w.limiter, w.out)
    meter(w.input_meter, w.block)
    meter(w.vocal_meter, chain.vocals)
    meter(w.music_meter, chain.music)
    meter(w.output_meter, w.out)
    if load_acquire(words, RECORD) != 0:
        _record(w, chain)
        if ring_space(w.record) < frames:
            store_release(words, RECORD_LOST, words[RECORD_LOST] + frames)
        else:
            ring_write(w.record, w.recorded, frames)


@njit(nogil=True, cache=True)
def _send(w, block, frames):
    """Frames (frames, channels) to the output ring, less those whose time has passed: the latency never grows."""
    words = w.words
    late = load_acquire(w.context, tick.LOST) - load_acquire(w.context, tick.OVERRUN_FRAMES) - words[DROPPED]
    skip = min(max(late, 0), frames)
    words[DROPPED] += skip
    if skip == 0:
        ring_write(w.output, block, frames)
    elif skip < frames:
        ring_write(w.output, block[skip:], frames - skip)


@njit(nogil=True, cache=True)
def _output(w):
    """`w.out` to the output ring at the rate of the device."""
    words, channels, frames = w.words, w.out.shape[0], w.out.shape[1]
    for i in range(frames):
        for c in range(channels):
            w.played[i, c] = w.out[c, i]
    if words[CONVERT_OUT] == 0:
        _send(w, w.played, frames)
        return
    ratio = words[DEVICE_RATE] / words[RATE]
    done = 0
    while done < frames:
        used, made = resample(
            words[CONVERT_OUT], w.convert_out, w.played[done:], frames - done, w.converted, PIECE, ratio
        )
        _send(w, w.converted, made)
        done += used
        if used == 0 and made == 0:
            return


@njit(nogil=True, cache=True)
def work(w, chain):
    """Run until `RUN` is cleared [worker thread, without the interpreter's lock].

    Parameters
    ----------
    w : WorkerMemory
        The stream.
    chain : ChainMemory
        The chain.
    """
    flush_denormals()
    words = w.words
    clock = w.scratch.ctypes.data
    hop = words[HOPS]
    while load_acquire(words, RUN) != 0:
        due = _due(w, hop) if words[SPLIT] != 0 else _fill(w, words[RATE] / words[INPUT_RATE])
        if not due:
            wait_until(w.semaphore, now_ns(clock) + _NAP_NS)
            continue
        if words[SPLIT] != 0:
            _from_source(w)
        began = now_ns(clock)
        _publish(w, chain, hop)
        mask, nanoseconds = _mask_for(w, hop)
        give(chain, hop, mask, words[LOOKAHEAD])
        _mix(w, chain)
        _output(w)
        hop += 1
        store_release(words, HOPS, hop)
        spent = now_ns(clock) - began
        count_duration(w.hop_times, spent)
        count_duration(w.host_times, spent - nanoseconds)
