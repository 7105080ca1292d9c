"""Finding and following one sound in another: where it begins, and how the two clocks drift apart.

`find` looks for a short piece of sound in a long recording, a block of places a call. `delay_of` measures the delay
that is left between two sounds from their cross-spectrum, to a fraction of a frame; `follow` steers place and speed by
it. `render` plays a recording from any place at nearly its own speed.

Sources: C. H. Knapp, G. C. Carter, "The generalized correlation method for estimation of time delay", IEEE ASSP 24(4),
1976 (here with the spectrum's envelope alone flattened); the steering is a Kalman filter of two states.
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtsep.dsp.stft import forward, inverse

#: Taps and phases of the interpolation filter.
TAPS, PHASES = 32, 512
#: Bins that are scaled alike by `whiten`.
_FLAT = 64
#: Largest difference of two clocks that is followed.
MAX_DRIFT = 1500e-6
#: What `follow` knows at first: delay in frames, drift, and how well a delay is measured.
_DELAY_SPREAD, _DRIFT_SPREAD, _MEASURE_SPREAD = 10.0, 400e-6, 0.1
#: Random walk of the drift, per square root of frames, and least spread of a measured delay.
_DRIFT_WALK, _LEAST_SPREAD = 1e-9, 0.02

# State of `follow`: place of the newest frame in the recording, its frames per frame of the stream, covariance of the
# errors of both, mean square of the scatter of what is measured, last delay.
PLACE, SPEED, P00, P01, P11, SQUARE, BEFORE = range(7)


def interpolation_table() -> NDArray[np.float32]:
    """Kaiser-windowed sinc filters, shape (PHASES + 1, TAPS); row p reads p / PHASES frames after tap TAPS / 2 - 1."""
    offset = np.arange(TAPS)[None] - (TAPS // 2 - 1) - np.arange(PHASES + 1)[:, None] / PHASES
    window = np.i0(8.0 * np.sqrt(np.maximum(0.0, 1.0 - (offset / (TAPS // 2)) ** 2))) / np.i0(8.0)
    table = np.sinc(offset) * window
    return np.ascontiguousarray(table / table.sum(axis=1, keepdims=True), np.float32)


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def render(recording, table, place, speed, out, first):
    """Write frames `first` and on of `out` (channels, frames), whose last is at `place` of `recording`; else silence.

    Parameters
    ----------
    recording : ndarray of float32, shape (channels, frames)
    table : ndarray of float32
        `interpolation_table`.
    place, speed : float64
        In frames of the recording, and those per frame of `out`.
    """
    frames, length = out.shape[1], recording.shape[1]
    for i in range(first, frames):
        at = place - (frames - 1 - i) * speed
        whole = math.floor(at)
        row = int((at - whole) * PHASES + 0.5)
        start = int(whole) - (TAPS // 2 - 1)
        for c in range(out.shape[0]):
            total = np.float32(0.0)
            if start >= 0 and start + TAPS <= length:
                for k in range(TAPS):
                    total += table[row, k] * recording[c, start + k]
            out[c, i] = total


@njit(nogil=True, cache=True)
def whiten(bins, first, last):
    """Scale the bins from `first` to `last` by the mean magnitude of each 64 of them; the others become 0.

    Within the 64, what stands out still does: between partials there is only leakage.
    """
    bins[:first] = 0.0
    bins[last:] = 0.0
    for start in range(first, last, _FLAT):
        end = min(start + _FLAT, last)
        total = 0.0
        for k in range(start, end):
            total += abs(bins[k])
        scale = np.float32((end - start) / total) if total > 1e-9 else np.float32(0.0)
        for k in range(start, end):
            bins[k] *= scale


@njit(nogil=True, cache=True)
def find(forward_plan, inverse_plan, recording, start, piece, first, last, frame, bins):
    """Where `piece` fits best in the recording, from `start` on, within half the length of `frame`.

    Parameters
    ----------
    forward_plan, inverse_plan : int
        Of the transform of ``len(frame)``.
    piece : ndarray of complex64
        Whitened spectrum of the piece: half a frame of sound, then zeros.
    first, last : int
        Bins that count.
    frame, bins : ndarray of float32 and complex64
        Scratch, made by `rtsep.dsp.stft.aligned`.

    Returns
    -------
    place, height : int, float
        Place of the piece's first frame; height of the correlation's peak over its root mean square.
    """
    size = frame.shape[0]
    channels, length = recording.shape
    for i in range(size):
        total = np.float32(0.0)
        if 0 <= start + i < length:
            for c in range(channels):
                total += recording[c, start + i]
        frame[i] = total
    forward(forward_plan, frame, bins)
    whiten(bins, first, last)
    for k in range(bins.shape[0]):
        bins[k] *= piece[k].conjugate()
    inverse(inverse_plan, bins, frame)
    best, square, at = np.float32(0.0), 0.0, 0
    for i in range(size // 2):
        height = abs(frame[i])
        square += height * height
        if height > best:
            best, at = height, i
    return start + at, best / math.sqrt(square / (size // 2) + 1e-30)


@njit(nogil=True, cache=True)
def delay_of(plan, cross, reach, frame, bins):
    """Delay in frames at which the correlation of two sounds is greatest, by magnitude.

    Parameters
    ----------
    plan : int
        Inverse plan of ``len(frame)``.
    cross : ndarray of complex64, shape (bins,)
        Sum of ``late * conj(early)``.
    reach : int
        Largest delay, either way.

    Returns
    -------
    delay, height : float
        Height of the peak, -1 to 1; negative where one sound is the other upside down.
    """
    size = frame.shape[0]
    total = 0.0
    for k in range(bins.shape[0]):
        bins[k] = cross[k]
        total += abs(cross[k])
    inverse(plan, bins, frame)
    at = 0
    for lag in range(-reach, reach + 1):
        if abs(frame[lag % size]) > abs(frame[at % size]):
            at = lag
    delay = float(at)
    height = 0.0
    for _ in range(4):  # Newton's steps to the top of the band-limited correlation
        slope = curve = height = 0.0
        step = 2.0 * math.pi * delay / size
        for k in range(1, bins.shape[0] - 1):
            turned = cross[k] * complex(math.cos(step * k), math.sin(step * k))
            omega = 2.0 * math.pi * k / size
            height += turned.real
            slope -= omega * turned.imag
            curve -= omega * omega * turned.real
        if curve == 0.0:
            break
        delay -= max(min(slope / curve, 0.5), -0.5)
    return delay, height / (total + 1e-30)


@njit(nogil=True, cache=True)
def follow(state, delay, frames):
    """Take a measured delay of the stream into place and speed, `frames` after the last one; False if it is far off.

    It may be NaN, where nothing could be measured: then place and speed stay, and are known less well.
    """
    p00 = state[P00] + frames * (2.0 * state[P01] + frames * state[P11])
    p01 = state[P01] + frames * state[P11]
    p11 = state[P11] + frames * _DRIFT_WALK**2
    spread = max(state[SQUARE], _LEAST_SPREAD**2)
    state[P00], state[P01], state[P11] = p00, p01, p11
    if not delay * delay <= 25.0 * (p00 + spread) + 1.0:
        return False
    # from one to the next: what lasts is no scatter, but an error to be steered out
    scatter = min(0.5 * (delay - state[BEFORE]) ** 2, 9.0 * spread)
    state[SQUARE] += 0.1 * (scatter - state[SQUARE])
    state[BEFORE] = delay
    gain, turn = p00 / (p00 + spread), p01 / (p00 + spread)
    state[PLACE] -= gain * delay
    state[SPEED] = min(max(state[SPEED] - turn * delay, 1.0 - MAX_DRIFT), 1.0 + MAX_DRIFT)
    state[P00] = (1.0 - gain) * p00
    state[P01] = (1.0 - gain) * p01
    state[P11] = p11 - turn * p01
    return True


@njit(nogil=True, cache=True)
def begin(state, place):
    """Start to follow from a place that was found, to some frames."""
    state[PLACE], state[SPEED] = place, 1.0
    state[P00], state[P01], state[P11] = _DELAY_SPREAD**2, 0.0, _DRIFT_SPREAD**2
    state[SQUARE], state[BEFORE] = _MEASURE_SPREAD**2, 0.0
