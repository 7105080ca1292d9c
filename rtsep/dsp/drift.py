"""Matches two clocks: from the fill of a capture ring to the ratio of a variable-rate resampler.

The capture device writes whole blocks by its own clock, the engine takes a hop at a time by another. The fill then
tells the difference of the clocks, hidden under a sawtooth as high as a block. Two block patterns of nearly the same
length beat against each other, over minutes, and no filter can tell such a beat from a drift; so `steer` also takes the
age of the newest block: fill plus the frames captured since is the true distance between the clocks, smooth but for
jitter.

The controller is a second-order loop (proportional and integral) behind a two-pole low-pass. Its bandwidth starts wide
and narrows with time, as the gain of a Kalman filter for a constant drift does: it locks within seconds, and then lets
next to no jitter through. Where the distance sways, as with servers on a busy machine, the bandwidth stays as much
narrower: what a fast loop would follow there are not the clocks.

Source: F. Adriaensen, "Controlling adaptive resampling", Linux Audio Conference 2012 (time stamps, low-passed loop).
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

#: Clocks further apart than this are not followed.
MAX_PPM = 1500.0
#: Largest change of the ratio, in ppm per second: far below what is heard as a change of pitch.
MAX_PPM_PER_SECOND = 400.0
#: Seconds at nominal ratio in which the distance to be held is measured.
_MEASURE = 0.5
#: Bandwidth of the loop in rad/s: at start, and the narrowest; between them `_NARROWING` / time, as a Kalman filter's.
_FAST, _SLOW, _NARROWING = 0.4, 0.02, 2.5
#: An error that stays above this many seconds opens the bandwidth again: the clocks have changed, or are far apart.
_UNLOCKED = 0.7e-3
#: Sway: root mean square of the part of the error that is slower than `_SUDDEN` and faster than `_SWAYING`, in s. Up to
#: `_CALM` the loop may be as fast as `_FAST`. Measured over `_SWAY_TIME`. A drift, being a straight line, has none.
_CALM, _SWAYING, _SWAY_TIME = 0.15e-3, 0.5, 3.0
#: Low-pass poles over bandwidth: far enough for a stable loop.
_POLES = 8.0
#: Time constant in seconds of the error that decides on a jump.
_SUDDEN = 0.1

# Configuration: seconds per hop, input rate, nominal ratio, wanted distance in frames.
_DT, _RATE, _NOMINAL, _WANTED = range(4)
# State: seconds since (re)start, distance held, error after each low-pass pole, error that decides on a jump, integral
# and whole correction (relative), last distance, number of jumps asked for, two slower low-passes of the error,
# mean square of the sway in frames.
TIME, HELD, SMOOTH_1, SMOOTH_2, SUDDEN, INTEGRAL, CORRECTION, DISTANCE, JUMPS, SLOW_1, SLOW_2, SWAY = range(4, 16)
SIZE = 16

_State = types.Array(types.float64, 1, "C")


@njit(
    types.Tuple((types.float64, types.int64))(_State, types.int64, types.float64),
    nogil=True,
    cache=True,
    error_model="numpy",
)
def steer(state, fill, age):
    """Take the fill of the ring before a hop is pulled, return the ratio for that hop [worker, once a hop, no GIL].

    Parameters
    ----------
    state : ndarray of float64, shape (SIZE,)
        State of a `Drift`.
    fill : int64
        Frames in the ring.
    age : float64
        Seconds from the arrival of the newest block in the ring until now; 0 where it is not known.

    Returns
    -------
    ratio : float64
        Output rate / input rate, for the resampler.
    jump : int64
        0, or resync: the distance has gone wrong by more than half of what is wanted. So many frames are to be dropped
        from the ring (or, negative, silence to be played until they have come), then `relock` to be called.
    """
    dt, wanted = state[_DT], state[_WANTED]
    distance = fill + age * state[_RATE]
    state[DISTANCE] = distance
    state[TIME] += dt
    time = state[TIME]
    if time <= _MEASURE:
        # the running mean
        state[HELD] += (distance - state[HELD]) * dt / time
        if time + dt > _MEASURE and abs(state[HELD] - wanted) > 0.5 * wanted:
            state[JUMPS] += 1.0
            state[TIME] = 0.0
            return state[_NOMINAL] / (1.0 + state[CORRECTION]), np.int64(round(state[HELD] - wanted))
        return state[_NOMINAL] / (1.0 + state[CORRECTION]), 0

    error = distance - state[HELD]
    state[SUDDEN] += (error - state[SUDDEN]) * min(1.0, dt / _SUDDEN)
    if abs(state[SUDDEN]) > 0.5 * wanted:
        state[JUMPS] += 1.0
        state[SUDDEN] = 0.0
        return state[_NOMINAL] / (1.0 + state[CORRECTION]), np.int64(round(error))

    state[SLOW_1] += (state[SUDDEN] - state[SLOW_1]) * dt / _SWAYING
    state[SLOW_2] += (state[SLOW_1] - state[SLOW_2]) * dt / _SWAYING
    sway = state[SUDDEN] - 2.0 * state[SLOW_1] + state[SLOW_2]
    state[SWAY] += (sway * sway - state[SWAY]) * dt / min(time, _SWAY_TIME)
    sway = math.sqrt(state[SWAY]) / state[_RATE]
    fast = max(_FAST * min(1.0, _CALM / max(sway, 1e-9)), 2.0 * _SLOW)
    bandwidth = min(fast, max(_SLOW, _NARROWING / time))
    share = -math.expm1(-_POLES * bandwidth * dt)
    state[SMOOTH_1] += share * (error - state[SMOOTH_1])
    state[SMOOTH_2] += share * (state[SMOOTH_1] - state[SMOOTH_2])
    smooth = state[SMOOTH_2] / state[_RATE]
    if abs(smooth) > max(_UNLOCKED, sway):
        state[TIME] = min(time, _NARROWING / fast)
    limit = MAX_PPM * 1e-6
    integral = state[INTEGRAL] + bandwidth * bandwidth * dt * smooth
    state[INTEGRAL] = min(max(integral, -limit), limit)
    aim = min(max(state[INTEGRAL] + 2.0 * bandwidth * smooth, -limit), limit)
    reach = MAX_PPM_PER_SECOND * 1e-6 * dt
    state[CORRECTION] += min(max(aim - state[CORRECTION], -reach), reach)
    return state[_NOMINAL] / (1.0 + state[CORRECTION]), 0


@njit(types.void(_State), nogil=True, cache=True, error_model="numpy")
def relock(state):
    """Measure the distance again, after a jump, drop-out or pause; keep the drift that is known [worker, no GIL]."""
    state[TIME] = 0.0
    state[HELD] = 0.0
    state[SMOOTH_1] = 0.0
    state[SMOOTH_2] = 0.0
    state[SUDDEN] = 0.0
    state[SLOW_1] = 0.0
    state[SLOW_2] = 0.0
    state[CORRECTION] = state[INTEGRAL]


class Drift:
    """Controller between one capture ring and one resampler.

    Parameters
    ----------
    input_rate, output_rate : float
        Nominal rates of the capture device and of the engine, in Hz.
    hop : int
        Output frames between two calls of `steer`.
    wanted : float
        Distance to start from, in input frames, as `safe_distance` gives it. What is held is the distance that is found
        in the first half second, if it is within half of this.

    Attributes
    ----------
    state : ndarray of float64, shape (SIZE,)
        For `steer` and `relock`.
    """

    def __init__(self, input_rate: float, output_rate: float, hop: int, wanted: float) -> None:
        self.state = np.zeros(SIZE)
        self.state[: _WANTED + 1] = hop / output_rate, input_rate, output_rate / input_rate, wanted

    @property
    def ppm(self) -> float:
        """How much faster the input clock runs than the output clock, as now assumed, in ppm [any thread]."""
        return float(1e6 * self.state[CORRECTION])

    @property
    def latency_ms(self) -> float:
        """Age of the sound that leaves the ring, in milliseconds, without the resampler's own delay [any thread]."""
        return float(1000.0 * self.state[HELD] / self.state[_RATE])

    @property
    def jumps(self) -> int:
        """Number of jumps asked for so far [any thread]."""
        return int(self.state[JUMPS])


def safe_distance(input_block: int, output_block: int, hop: int, ratio: float, jitter_frames: int = 0) -> float:
    """Distance in input frames at which the ring does not run dry.

    Pull for the first time when ``fill + age * input_rate`` has reached this and the resampler's own delay on top.

    Parameters
    ----------
    input_block : int
        Frames that the capture device writes at once.
    output_block : int
        Frames that the playback device takes at once; several hops are then worked one right after the other.
    hop : int
        Frames of the engine's hop.
    ratio : float
        Output rate / input rate, nominal.
    jitter_frames : int
        How much later than its time a block may come, in input frames.
    """
    return input_block + (max(hop, output_block) + hop) / ratio + jitter_frames
