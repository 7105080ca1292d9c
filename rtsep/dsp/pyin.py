"""The pitch of a sound while it goes on: probabilistic YIN, step by step.

Every threshold of YIN, weighted by a prior, proposes a period; a hidden Markov model over pitches a tenth of a
semitone apart, each voiced or not, weighs what is proposed against what came before. It is filtered forwards: the
pitch of a step depends on nothing to come, so the tracker adds no delay.

Source: M. Mauch, S. Dixon, "pYIN: a fundamental frequency estimator using probabilistic threshold distributions",
ICASSP 2014; there the most likely path of the whole recording is searched for.
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: Range of the pitches, and states per semitone.
LOW_HZ, HIGH_HZ = 65.0, 1050.0
PER_SEMITONE = 10
#: Time between two steps: the parameters below are made for it.
STEP_MS = 5.8
#: Thresholds, and a and b of the beta distribution that weighs them.
THRESHOLDS, BETA = 100, (2, 18)
#: How fast later troughs lose against earlier ones, and the weight of the deepest where none is below a threshold.
BOLTZMANN, NO_TROUGH = 2.0, 0.01
#: Fastest glide, and chance per step that voiced becomes unvoiced or the other way round.
OCTAVES_PER_S, SWITCH = 35.92, 0.01
#: Longest time that is compared with its past, where the period is shorter; and power that counts as silence.
WIDTH_S, SILENCE = 0.03, 1e-10

# Rows of `lags` and of `states`; numbers of `found`.
DIFFERENCE, NORMAL, PLACE, HEIGHT, CHANCE = range(5)
VOICED, UNVOICED, WENT_VOICED, WENT_UNVOICED, SEEN, SEEN_HZ, SCALE = range(7)
HZ, PROBABILITY = range(2)


class Pyin(NamedTuple):
    """Arrays of a tracker, as compiled code takes them; made by `tracker`."""

    lags: NDArray[np.float64]  # (5, longest lag + 2)
    states: NDArray[np.float64]  # (7, states)
    beta: NDArray[np.float64]  # (THRESHOLDS,) weight of each threshold
    glide: NDArray[np.float64]  # (2 half + 1,) weight of a glide by so many states down or up
    wide: NDArray[np.float64]  # (states + 2 half,) scratch
    found: NDArray[np.float64]  # pitch in Hz, probability that the sound is voiced
    width: int  # frames that are compared with their past
    samplerate: float


def tracker(samplerate: int, frames: int, step_ms: float) -> Pyin:
    """Tracker for pieces of sound of `frames`, one every `step_ms` [main thread].

    Where half of a piece is shorter than the longest period, the lowest pitch is that of the half.
    """
    longest = min(math.ceil(samplerate / LOW_HZ) + 1, frames // 2)
    count = round(12 * PER_SEMITONE * math.log2(HIGH_HZ / LOW_HZ)) + 1
    x = np.arange(THRESHOLDS + 1) / THRESHOLDS
    n = sum(BETA) - 1
    cumulative = sum(math.comb(n, j) * x**j * (1 - x) ** (n - j) for j in range(BETA[0], n + 1))
    half = max(round(OCTAVES_PER_S * 12 * PER_SEMITONE * step_ms / 1000.0), 1)
    glide = 1.0 - np.abs(np.arange(-half, half + 1)) / (half + 1)
    made = Pyin(
        np.zeros((5, longest + 2)),
        np.zeros((7, count)),
        np.diff(cumulative),
        glide,
        np.zeros(count + 2 * half),
        np.zeros(2),
        max(min(frames - longest - 1, max(int(WIDTH_S * samplerate), longest)), 1),
        float(samplerate),
    )
    made.states[SCALE] = 1.0 / np.convolve(np.ones(count), glide)[half : half + count]
    forget(made)
    return made


@njit(nogil=True, cache=True)
def forget(p):
    """Begin again: any pitch, not voiced."""
    p.states[VOICED] = 0.0
    p.states[UNVOICED] = 1.0 / p.states.shape[1]
    p.found[:] = 0.0


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _difference(sound, width, lag):
    """Energy of what is left of the newest frames when those `lag` before are taken away."""
    start = sound.shape[0] - width
    newest, older = sound[start:], sound[start - lag : start - lag + width]
    total = np.float32(0.0)
    for i in range(width):
        rest = newest[i] - older[i]
        total += rest * rest
    return total


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _glide(p, row, wide, out):
    """Where the probabilities of a row of states may have gone within a step; `wide` is scratch, zero at its ends."""
    count, half = p.states.shape[1], p.glide.shape[0] // 2
    for s in range(count):
        wide[half + s] = p.states[row, s] * p.states[SCALE, s]
    for s in range(count):
        near = wide[s : s + p.glide.shape[0]]
        total = 0.0
        for d in range(p.glide.shape[0]):
            total += p.glide[d] * near[d]
        out[s] = total


@njit(nogil=True, cache=True)
def _troughs(p, low_hz, high_hz):
    """Local minima of the normalised difference with their place and height; returns how many, and the deepest."""
    normal = p.lags[NORMAL]
    first = max(int(p.samplerate / high_hz), 2)
    last = min(int(math.ceil(p.samplerate / low_hz)), normal.shape[0] - 2)
    count, deepest = 0, -1
    for lag in range(first, last + 1):
        before, here, after = normal[lag - 1], normal[lag], normal[lag + 1]
        if here >= before or here > after:
            continue
        bend = before + after - 2.0 * here
        shift = 0.5 * (before - after) / bend if bend > 0.0 else 0.0
        p.lags[PLACE, count] = lag + max(min(shift, 1.0), -1.0)
        p.lags[HEIGHT, count] = here
        p.lags[CHANCE, count] = 0.0
        if deepest < 0 or here < p.lags[HEIGHT, deepest]:
            deepest = count
        count += 1
    return count, deepest


@njit(nogil=True, cache=True)
def _weigh(p, count, deepest):
    """Chance of each trough over all thresholds: of those below one, earlier ones are likelier."""
    height, chance = p.lags[HEIGHT], p.lags[CHANCE]
    fall = math.exp(-BOLTZMANN)
    for t in range(THRESHOLDS):
        threshold = (t + 1) / THRESHOLDS
        below = 0
        for i in range(count):
            below += height[i] < threshold
        if below == 0:
            chance[deepest] += NO_TROUGH * p.beta[t]
            continue
        weight = p.beta[t] * (1.0 - fall) / (1.0 - fall**below)
        for i in range(count):
            if height[i] < threshold:
                chance[i] += weight
                weight *= fall


@njit(nogil=True, cache=True)
def _see(p, sound, low_hz, high_hz):
    """Fill what is seen of each pitch; returns the probability that any is there."""
    seen = p.states[SEEN]
    seen[:] = 0.0
    power = 0.0
    for i in range(sound.shape[0] - p.width, sound.shape[0]):
        power += float(sound[i]) ** 2
    if not power > SILENCE * p.width:
        return 0.0
    longest = p.lags.shape[1] - 1
    total = 0.0
    p.lags[NORMAL, 0] = 1.0
    for lag in range(1, longest + 1):
        p.lags[DIFFERENCE, lag] = _difference(sound, p.width, lag)
        total += p.lags[DIFFERENCE, lag]
        p.lags[NORMAL, lag] = p.lags[DIFFERENCE, lag] * lag / total if total > 0.0 else 1.0
    if not total < math.inf:  # NaN too: no sound
        return 0.0
    count, deepest = _troughs(p, low_hz, high_hz)
    if count == 0:
        return 0.0
    _weigh(p, count, deepest)
    voiced = 0.0
    for i in range(count):
        hz = p.samplerate / p.lags[PLACE, i]
        state = int(12 * PER_SEMITONE * math.log2(max(hz, LOW_HZ) / LOW_HZ) + 0.5)
        if state >= seen.shape[0]:
            continue
        if p.lags[CHANCE, i] >= seen[state]:
            p.states[SEEN_HZ, state] = hz
        seen[state] += p.lags[CHANCE, i]
        voiced += p.lags[CHANCE, i]
    return min(voiced, 1.0)


@njit(nogil=True, cache=True)
def track(p, sound, low_hz, high_hz):
    """Take the newest piece of sound, one step after the last; the pitch comes into `p.found` [no allocation].

    Parameters
    ----------
    p : Pyin
        The tracker.
    sound : ndarray of float32, shape (frames,)
        Newest frame last.
    low_hz, high_hz : float
        Only pitches between these are proposed.
    """
    voiced = _see(p, sound, low_hz, high_hz)
    states = p.states
    count = states.shape[1]
    _glide(p, VOICED, p.wide, states[WENT_VOICED])
    _glide(p, UNVOICED, p.wide, states[WENT_UNVOICED])
    total = sung = 0.0
    best = 0
    for s in range(count):
        stayed = (1.0 - SWITCH) * states[WENT_VOICED, s] + SWITCH * states[WENT_UNVOICED, s]
        states[VOICED, s] = states[SEEN, s] * stayed
        stayed = (1.0 - SWITCH) * states[WENT_UNVOICED, s] + SWITCH * states[WENT_VOICED, s]
        states[UNVOICED, s] = (1.0 - voiced) / count * stayed
        sung += states[VOICED, s]
        total += states[VOICED, s] + states[UNVOICED, s]
        if states[VOICED, s] > states[VOICED, best]:
            best = s
    if not total > 1e-30:
        forget(p)
        return
    for s in range(count):
        states[VOICED, s] /= total
        states[UNVOICED, s] /= total
    p.found[PROBABILITY] = min(sung / total, 1.0)
    if states[VOICED, best] > 0.0:
        p.found[HZ] = states[SEEN_HZ, best]
