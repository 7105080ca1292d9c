"""Levels in decibels, gains that move without a click, and the final mix of vocals and music."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: Indices into a ramp's state: the gain now, the gain wanted, the largest change per frame.
CURRENT, TARGET, STEP = 0, 1, 2


@njit("float64(float64)", nogil=True, cache=True, error_model="numpy")
def db_to_linear(level_db: float) -> float:
    """Linear gain of a level in dB; ``-inf`` gives exactly 0 and 0 exactly 1. Any thread, no GIL."""
    return 10.0 ** (level_db / 20.0)


@njit("float64(float64)", nogil=True, cache=True, error_model="numpy")
def linear_to_db(gain: float) -> float:
    """Level in dB of the magnitude of a linear gain; 0 gives ``-inf``. Any thread, no GIL."""
    magnitude = abs(gain)
    return 20.0 * math.log10(magnitude) if magnitude > 0.0 else -math.inf


@njit("float64(float64[::1], int64)", nogil=True, cache=True, error_model="numpy")
def ramp_next(ramp: NDArray[np.float64], frames: int) -> float:
    """Move a ramp on by `frames` and return the gain it then has [worker thread, no GIL]."""
    current, target = ramp[CURRENT], ramp[TARGET]
    reach = ramp[STEP] * frames
    distance = target - current
    if abs(distance) <= reach:
        current = target
    else:
        current += math.copysign(reach, distance)
    ramp[CURRENT] = current
    return current


@njit(
    "void(float32[:,::1], float32[:,::1], float32[:,::1], float64[::1], float64[::1])",
    nogil=True,
    cache=True,
    error_model="numpy",
)
def mix(
    vocals: NDArray[np.float32],
    music: NDArray[np.float32],
    out: NDArray[np.float32],
    vocal_ramp: NDArray[np.float64],
    music_ramp: NDArray[np.float64],
) -> None:
    """Write ``vocal_gain * vocals + music_gain * music``, both gains ramped frame by frame [worker thread, no GIL].

    Parameters
    ----------
    vocals, music, out : ndarray of float32, shape (channels, frames)
        `out` may be one of the inputs. With both gains settled at 1 it is the plain float32 sum.
    vocal_ramp, music_ramp : ndarray of float64, shape (3,)
        State of a `Ramp` each; moved on by the number of frames. They must be two arrays.
    """
    channels, frames = out.shape
    settled = vocal_ramp[CURRENT] == vocal_ramp[TARGET] and music_ramp[CURRENT] == music_ramp[TARGET]
    if not settled:
        for i in range(frames):
            vocal = np.float32(ramp_next(vocal_ramp, 1))
            other = np.float32(ramp_next(music_ramp, 1))
            for c in range(channels):
                out[c, i] = vocal * vocals[c, i] + other * music[c, i]
        return
    vocal = np.float32(vocal_ramp[CURRENT])
    other = np.float32(music_ramp[CURRENT])
    for c in range(channels):
        if vocal == 1.0 and other == 1.0:
            for i in range(frames):
                out[c, i] = vocals[c, i] + music[c, i]
        else:
            for i in range(frames):
                out[c, i] = vocal * vocals[c, i] + other * music[c, i]


@njit(
    "void(float32[:,::1], float32[:,:,::1], float32[:,::1], float64[:,::1])",
    nogil=True,
    cache=True,
    error_model="numpy",
)
def balance(
    music: NDArray[np.float32], stems: NDArray[np.float32], out: NDArray[np.float32], ramps: NDArray[np.float64]
) -> None:
    """Write the music with a gain for each stem and one for the rest, ramped frame by frame [worker thread, no GIL].

    Parameters
    ----------
    music, out : ndarray of float32, shape (channels, frames)
        With all gains at 1 `out` is `music`, to the bit.
    stems : ndarray of float32, shape (stems, channels, frames)
        Parts of the music.
    ramps : ndarray of float64, shape (stems + 1, 3)
        State of a `Ramp` each, the one of the rest last; moved on by the number of frames.
    """
    count, channels, frames = stems.shape
    for i in range(frames):
        rest = np.float32(ramp_next(ramps[count], 1))
        for c in range(channels):
            out[c, i] = rest * music[c, i]
        for s in range(count):
            more = np.float32(ramp_next(ramps[s], 1)) - rest
            for c in range(channels):
                out[c, i] += more * stems[s, c, i]


@njit("boolean(float64[:,::1])", nogil=True, cache=True)
def at_unity(ramps: NDArray[np.float64]) -> bool:
    """Whether all of these ramps stay at a gain of 1 [worker thread, no GIL]."""
    away = 0.0
    for s in range(ramps.shape[0]):
        away += abs(ramps[s, CURRENT] - 1.0) + abs(ramps[s, TARGET] - 1.0)
    return away == 0.0


class Ramp:
    """A gain that any thread may set and that the worker thread follows in a straight line.

    Only the target is written from outside, so that no lock is needed; the speed is constant.

    Parameters
    ----------
    samplerate : int
        Frames per second.
    gain_db : float
        Level at start, without a ramp.
    ramp_ms : float
        Time from silence to 0 dB, in milliseconds.
    state : ndarray of float64, shape (3,), optional
        Where to keep the state.

    Attributes
    ----------
    state : ndarray of float64, shape (3,)
        ``[current, target, step]``, for the compiled functions.
    """

    def __init__(
        self,
        samplerate: int,
        gain_db: float = 0.0,
        ramp_ms: float = 50.0,
        state: NDArray[np.float64] | None = None,
    ) -> None:
        step = 1000.0 / (ramp_ms * samplerate) if ramp_ms > 0 else np.inf
        self.state = np.empty(3) if state is None else state
        self.state[:] = 1.0, 1.0, step
        self.set_db(gain_db)
        self.jump()

    def set_db(self, gain_db: float) -> None:
        """Set the wanted level in dB, ``-inf`` allowed [any thread]; ValueError for NaN and +inf."""
        if math.isnan(gain_db) or gain_db == math.inf:
            raise ValueError(f"a gain of {gain_db} dB is not possible: -inf or a finite number is")
        self.state[TARGET] = db_to_linear(gain_db)

    def jump(self) -> None:
        """Take the wanted level at once [worker thread, or stream stopped]."""
        self.state[CURRENT] = self.state[TARGET]

    @property
    def target_db(self) -> float:
        """Wanted level in dB [any thread]."""
        return linear_to_db(self.state[TARGET])
