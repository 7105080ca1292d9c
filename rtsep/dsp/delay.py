"""A delay line: whole frames are copied bit by bit, fractions go through a short interpolation filter.

Source of the fractional part: windowed-sinc interpolation, T. I. Laakso et al., "Splitting the unit delay",
IEEE Signal Processing Magazine 13(1), 1996; here with a Kaiser window centred on the fractional point.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: Length of the interpolation filter in frames.
TAPS = 32
#: Shortest delay with a fraction, in frames; whole delays start at 0.
MIN_FRACTIONAL = TAPS // 2 - 1
#: Shape of the Kaiser window: the error of a tone is below -75 dB up to 0.8 of the Nyquist frequency.
_BETA = 8.0
#: Longest piece that is handled at once; longer blocks are cut.
_PIECE = 1024

#: Indices into the state: delay wanted, delay now, delay that is being faded to, frames of the fade left,
#: frames of a whole fade, frames written so far.
TARGET, NOW, NEXT, LEFT, FADE, WRITTEN = range(6)


@njit("float64(float64)", nogil=True, cache=True, error_model="numpy")
def _bessel_i0(x: float) -> float:
    """Modified Bessel function of order 0, by its power series."""
    term = total = 1.0
    for k in range(1, 40):
        term *= (0.5 * x / k) ** 2
        total += term
    return total


@njit("void(float32[::1], float64)", nogil=True, cache=True, error_model="numpy")
def _interpolator(taps: NDArray[np.float32], fraction: float) -> None:
    """Write the filter that delays by ``MIN_FRACTIONAL + fraction`` frames, with a gain of 1 at 0 Hz."""
    total = 0.0
    for k in range(TAPS):
        t = k - MIN_FRACTIONAL - fraction
        inside = max(0.0, 1.0 - (t / (TAPS / 2)) ** 2)
        weight = np.sinc(t) * _bessel_i0(_BETA * math.sqrt(inside))
        taps[k] = weight
        total += weight
    for k in range(TAPS):
        taps[k] /= total


@njit(
    "void(float32[::1], float64, float32[::1], int64, float32[::1])",
    nogil=True,
    cache=True,
    error_model="numpy",
)
def _read(
    line: NDArray[np.float32], delay: float, taps: NDArray[np.float32], written: int, out: NDArray[np.float32]
) -> None:
    """Read `out` as it was `delay` frames before frame number `written`; `line` holds its ring twice in a row."""
    mask = line.shape[0] // 2 - 1
    whole = int(delay)
    frames = out.shape[0]
    if delay == whole:
        start = (written - whole) & mask
        for i in range(frames):
            out[i] = line[start + i]
        return
    for i in range(frames):
        out[i] = 0.0
    for k in range(TAPS):
        start = (written - whole + MIN_FRACTIONAL - k) & mask
        tap = taps[k]
        for i in range(frames):
            out[i] += tap * line[start + i]


@njit(
    "void(float32[:,::1], float64[::1], float32[:,::1], float32[:,::1], float32[:,::1])",
    nogil=True,
    cache=True,
    error_model="numpy",
)
def delay_process(
    ring: NDArray[np.float32],
    state: NDArray[np.float64],
    taps: NDArray[np.float32],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
) -> None:
    """Delay a block [worker thread, no GIL].

    Parameters
    ----------
    ring : ndarray of float32, shape (channels, 2 * size)
        The past, each sample twice, so that any stretch of it lies in one piece.
    state : ndarray of float64, shape (6,)
        Indices as named in this module.
    taps : ndarray of float32, shape (3, piece)
        Rows: filter of the delay now, filter of the next delay, room for a piece of sound.
    x, y : ndarray of float32, shape (channels, frames)
        Input and output; they may be the same array.
    """
    channels, frames = x.shape
    size = ring.shape[1] // 2
    done = 0
    while done < frames:
        target = state[TARGET]
        if state[LEFT] == 0.0 and target != state[NOW]:
            state[NEXT] = target
            state[LEFT] = state[FADE]
            _interpolator(taps[1, :TAPS], target - math.floor(target))
        left = int(state[LEFT])
        piece = min(frames - done, _PIECE)
        if left > 0:
            piece = min(piece, left)
        written = int(state[WRITTEN])
        for c in range(channels):
            for i in range(piece):
                place = (written + i) & (size - 1)
                ring[c, place] = x[c, done + i]
                ring[c, place + size] = x[c, done + i]
            out = y[c, done : done + piece]
            _read(ring[c], state[NOW], taps[0, :TAPS], written, out)
            if left > 0:
                new = taps[2, :piece]
                _read(ring[c], state[NEXT], taps[1, :TAPS], written, new)
                for i in range(piece):
                    share = np.float32(1.0 - (left - 1 - i) / state[FADE])
                    out[i] += share * (new[i] - out[i])
        state[WRITTEN] += piece
        done += piece
        if left > 0:
            state[LEFT] -= piece
            if state[LEFT] == 0.0:
                state[NOW] = state[NEXT]
                taps[0, :TAPS] = taps[1, :TAPS]


class DelayLine:
    """A delay for all channels of a stream, changed with a cross-fade.

    Parameters
    ----------
    channels : int
        Number of channels.
    max_frames : int
        Longest delay in frames.
    frames : float
        Delay at start.
    fade_frames : int
        Length of the linear cross-fade from one delay to another, at least 1.

    Attributes
    ----------
    ring, state, taps : ndarray
        For `delay_process`.
    """

    def __init__(self, channels: int, max_frames: int, frames: float = 0.0, fade_frames: int = 256) -> None:
        if fade_frames < 1:
            raise ValueError(f"a cross-fade needs at least 1 frame, got {fade_frames}")
        self.max_frames = max_frames
        size = 1 << (max_frames + TAPS + _PIECE - 1).bit_length()
        self.ring = np.zeros((channels, 2 * size), dtype=np.float32)
        self.state = np.zeros(6)
        self.state[FADE] = fade_frames
        self.taps = np.zeros((3, max(TAPS, _PIECE)), dtype=np.float32)
        self.set(frames)
        self.reset()

    @property
    def frames(self) -> float:
        """Delay that was last set, in frames [any thread]."""
        return float(self.state[TARGET])

    def set(self, frames: float) -> None:
        """Set the delay [any thread]; the next block starts the cross-fade, or a running one ends first.

        Raises
        ------
        ValueError
            Outside 0 to `max_frames`, or with a fraction and shorter than `MIN_FRACTIONAL`.
        """
        frames = float(frames)
        if not 0 <= frames <= self.max_frames:
            raise ValueError(f"a delay of {frames:g} frames is not possible: 0 to {self.max_frames} are")
        if frames != int(frames) and frames < MIN_FRACTIONAL:
            raise ValueError(
                f"a delay of {frames:g} frames is not possible: below {MIN_FRACTIONAL} only whole frames are"
            )
        self.state[TARGET] = frames

    def process(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Delayed copy of `x`, shape (channels, frames) [one thread at a time; allocates]."""
        y = np.empty_like(x)
        delay_process(self.ring, self.state, self.taps, x, y)
        return y

    def reset(self) -> None:
        """Forget the sound and take the delay that was last set without a fade [stream stopped]."""
        self.ring[:] = 0.0
        self.state[NOW] = self.state[NEXT] = self.state[TARGET]
        self.state[LEFT] = self.state[WRITTEN] = 0.0
        _interpolator(self.taps[0, :TAPS], self.frames - math.floor(self.frames))
