"""A peak limiter without latency: the gain falls at once, holds, and rises smoothly.

Without look-ahead the attack must be instant; the hold keeps the gain still from one peak of a low note to
the next, so that the limiter does not trace its waveform.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtsep.dsp.gain import db_to_linear, linear_to_db

#: Indices into the state: ceiling (linear), release per frame, hold in frames | gain now, frames of hold left,
#: lowest gain since it was last asked for, number of samples that were not finite.
CEILING, RELEASE, HOLD, GAIN, LEFT, LOWEST, BAD = range(7)

#: The release heads for a little more than 1, so that it arrives at exactly 1 in finite time.
_BEYOND = 1.01
#: A peak within this factor of the ceiling renews the hold.
_NEAR = 0.999


@njit("boolean(float32[:,::1], float32)", nogil=True, cache=True, error_model="numpy")
def _within(x: NDArray[np.float32], ceiling: float) -> bool:
    """Whether all samples are finite and not above `ceiling` in magnitude."""
    outside = 0
    for c in range(x.shape[0]):
        for i in range(x.shape[1]):
            # negated, so that NaN counts as outside; no early exit, so that the loop is vectorised
            outside += not abs(x[c, i]) <= ceiling
    return outside == 0


@njit("void(float64[::1], float32[:,::1])", nogil=True, cache=True, error_model="numpy")
def limit(state: NDArray[np.float64], x: NDArray[np.float32]) -> None:
    """Limit a block in place [worker thread, no GIL].

    Parameters
    ----------
    state : ndarray of float64, shape (7,)
        State of a `Limiter`.
    x : ndarray of float32, shape (channels, frames)
        The sound. All channels get the same gain; at rest, a sample not above the ceiling keeps its bits.
        NaN and infinity become 0 and are counted.
    """
    ceiling = np.float32(state[CEILING])
    gain = state[GAIN]
    if gain == 1.0 and _within(x, ceiling):
        return
    release, hold, left, lowest = state[RELEASE], state[HOLD], state[LEFT], state[LOWEST]
    channels, frames = x.shape
    for i in range(frames):
        peak = 0.0
        for c in range(channels):
            if not math.isfinite(x[c, i]):
                x[c, i] = 0.0
                state[BAD] += 1.0
            peak = max(peak, abs(np.float64(x[c, i])))
        if peak * gain > ceiling:
            gain = ceiling / peak
            left = hold
        elif gain < 1.0 and peak * gain > ceiling * _NEAR:
            left = hold
        elif left > 0.0:
            left -= 1.0
        elif gain < 1.0:
            # never so far up that this very sample would pass the ceiling
            gain = min(1.0, gain + (_BEYOND - gain) * release)
            if peak * gain > ceiling:
                gain = ceiling / peak
        lowest = min(lowest, gain)
        if gain < 1.0:
            for c in range(channels):
                # the product is rounded to float32, which may end one step above the ceiling
                x[c, i] = min(max(np.float32(x[c, i] * gain), -ceiling), ceiling)
    state[GAIN], state[LEFT], state[LOWEST] = gain, left, lowest


class Limiter:
    """State of a limiter for all channels of one stream.

    Parameters
    ----------
    samplerate : int
        Frames per second.
    ceiling_db : float
        Highest level that leaves the limiter, in dBFS.
    release_ms : float
        Time constant of the gain's way back, in milliseconds.
    hold_ms : float
        Time for which the gain stands still after a peak, in milliseconds; 12 ms spans half a period of 42 Hz.

    Attributes
    ----------
    state : ndarray of float64, shape (7,)
        For `limit`.
    """

    def __init__(
        self, samplerate: int, ceiling_db: float = 0.0, release_ms: float = 100.0, hold_ms: float = 12.0
    ) -> None:
        self.state = np.zeros(7)
        # the float32 below: a ceiling rounded up would let samples pass that are above the wanted one
        ceiling = np.float32(db_to_linear(ceiling_db))
        if float(ceiling) > db_to_linear(ceiling_db):
            ceiling = np.nextafter(ceiling, np.float32(0))
        self.state[CEILING] = ceiling
        self.state[RELEASE] = -math.expm1(-1000.0 / (release_ms * samplerate))
        self.state[HOLD] = round(hold_ms * samplerate / 1000.0)
        self.reset()

    def process(self, x: NDArray[np.float32]) -> None:
        """Limit `x`, shape (channels, frames), in place [one thread at a time]."""
        limit(self.state, x)

    def reset(self) -> None:
        """Gain 1, counters 0 [stream stopped]."""
        self.state[GAIN] = self.state[LOWEST] = 1.0
        self.state[LEFT] = self.state[BAD] = 0.0

    def reduction_db(self) -> float:
        """Largest gain reduction since the last call, in dB, 0 or more [one reading thread]."""
        lowest = min(self.state[LOWEST], self.state[GAIN])
        self.state[LOWEST] = 1.0
        return abs(linear_to_db(lowest))

    @property
    def bad_samples(self) -> int:
        """Number of samples so far that were NaN or infinite [any thread]."""
        return int(self.state[BAD])
