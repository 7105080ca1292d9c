"""Level meter: peak with a steady fall, and RMS, per channel in dBFS."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtsep.dsp.gain import db_to_linear, linear_to_db

#: Fall of the peak in dB per second (20 dB in 1.7 s: IEC 60268-18, type I).
FALL_DB = 20.0 / 1.7
#: Time constant of the mean square in seconds.
RMS_SECONDS = 0.3
#: Below this (-200 dBFS in peak) a value is 0, so that silence leaves no denormal numbers.
_FLOOR = 1e-10


@njit("void(float64[:,::1], float32[:,::1])", nogil=True, cache=True, error_model="numpy")
def meter(state: NDArray[np.float64], x: NDArray[np.float32]) -> None:
    """Take a block into a meter [worker thread, no GIL]; the reading does not depend on the size of the blocks.

    Parameters
    ----------
    state : ndarray of float64, shape (channels + 1, 2)
        Row 0: factor of the peak and share of the new mean square, per frame; then peak and mean square by channel.
    x : ndarray of float32, shape (channels, frames)
        The sound; NaN and infinity are passed over.
    """
    fall, share, silence = state[0, 0], state[0, 1], np.float64(0.0)
    for c in range(x.shape[0]):
        peak, square = state[c + 1, 0], state[c + 1, 1]
        for i in range(x.shape[1]):
            value = np.float64(x[c, i])
            if not math.isfinite(value):
                value = silence
            peak = max(abs(value), peak * fall)
            square += share * (value * value - square)
        state[c + 1, 0] = peak if peak > _FLOOR else 0.0
        state[c + 1, 1] = square if square > _FLOOR * _FLOOR else 0.0


@dataclass(frozen=True, slots=True)
class Levels:
    """One reading in dBFS per channel, ``-inf`` for silence; a full-scale sine has peak 0 and RMS -3.01."""

    peak_db: tuple[float, ...]
    rms_db: tuple[float, ...]


class Meter:
    """Meter of one stream.

    Parameters
    ----------
    samplerate : int
        Frames per second.
    channels : int
        Number of channels.

    Attributes
    ----------
    state : ndarray of float64, shape (channels + 1, 2)
        For `meter`.
    """

    def __init__(self, samplerate: int, channels: int) -> None:
        self.state = np.zeros((channels + 1, 2))
        self.state[0, 0] = db_to_linear(-FALL_DB / samplerate)
        self.state[0, 1] = -math.expm1(-1.0 / (RMS_SECONDS * samplerate))

    def update(self, x: NDArray[np.float32]) -> None:
        """Take a block of shape (channels, frames) [one thread at a time]."""
        meter(self.state, x)

    def read(self) -> Levels:
        """The levels now [any thread]; changes nothing."""
        values = self.state[1:].copy()
        return Levels(
            tuple(linear_to_db(peak) for peak in values[:, 0]),
            tuple(0.5 * linear_to_db(square) for square in values[:, 1]),
        )

    def reset(self) -> None:
        """Forget the past [stream stopped]."""
        self.state[1:] = 0.0
