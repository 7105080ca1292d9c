"""Compiled pieces that the masks of several separators share [inference thread; no allocation]."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import from_dtype, njit, types

from rtsep.separators.base import Param

#: Memory of the C function of a separator without a net; `params` is the address of `Parameters.state`.
MEMORY = np.dtype([("channels", np.int64), ("bins", np.int64), ("bin_hz", np.float64), ("params", np.int64)])

#: Ratio of the frequencies between which a guard fades.
GUARD_SLOPE = 1.5

#: Real or imaginary part of a bin from which it is no sound: 120 dB above a tone at full scale.
LOUDEST_BIN = 1e9

#: Largest magnitude of a complex mask: 12 dB, where two sounds cancel each other in the mixture.
MOST_GAIN = 4.0

BASS = Param(
    "bass",
    "hz",
    0.0,
    1000.0,
    150.0,
    "frequency in Hz below which sound stays in the music (all of it below 2/3); higher keeps more kick and bass",
)
TREBLE = Param(
    "treble",
    "hz",
    1000.0,
    24000.0,
    16000.0,
    "frequency in Hz above which sound stays in the music (all of it above 3/2); lower keeps more cymbals",
)
STRENGTH = Param(
    "strength", "", 0.25, 4.0, 1.0, "share of doubtful bins: above 1 more of them for the voice, below 1 less"
)


def separate_signature(memory: np.dtype) -> Any:
    """Type of the C function of a separator whose memory is one record of type `memory`."""
    pointers = [types.CPointer(kind) for kind in (from_dtype(memory), types.complex64, types.float32)]
    return types.int64(*pointers)


@njit("void(float64[:, ::1])", cache=True, nogil=True)
def ramp(state):
    """Move all parameters one hop towards their targets: `Parameters.ramp` for compiled code."""
    for i in range(state.shape[1]):
        state[1, i] += max(min(state[0, i] - state[1, i], state[2, i]), -state[2, i])


@njit("boolean(complex64[:, ::1])", cache=True, nogil=True)
def plausible(spectrum):
    """Whether all bins can be of sound: what is NaN, infinite or absurdly loud must not stay in a memory."""
    most, beyond = np.float32(LOUDEST_BIN), 0
    for c in range(spectrum.shape[0]):
        for k in range(spectrum.shape[1]):
            z = spectrum[c, k]
            if not (abs(z.real) < most and abs(z.imag) < most):
                beyond += 1
    return beyond == 0


@njit("float64(float64)", cache=True, nogil=True)
def fade(x):
    """Smooth step from 0 at ``x <= 0`` to 1 at ``x >= 1``."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    return x * x * (3.0 - 2.0 * x)


@njit("float64(float64, float64, float64)", cache=True, nogil=True)
def guard(hz, bass, treble):
    """Share of a bin at `hz` that may be voice: 1 from `bass` to `treble`, 0 beyond a fade on both sides."""
    if hz < bass:
        return fade((hz * GUARD_SLOPE - bass) / (bass * (GUARD_SLOPE - 1.0)))
    if hz > treble:
        return fade((treble * GUARD_SLOPE - hz) / (treble * (GUARD_SLOPE - 1.0)))
    return 1.0


@njit("float64(float64, float64)", cache=True, nogil=True)
def strengthen(share, strength):
    """``share ** (1 / strength)`` for a share of 0 to 1, at no cost for a strength of 1; NaN stays NaN."""
    if strength == 1.0:
        return share
    return share ** (1.0 / strength)


@njit("complex128(complex128, complex64)", cache=True, nogil=True)
def part_of(voice, mixture):
    """Complex mask that makes `voice` from `mixture`, as far as `MOST_GAIN` allows; 0 in silence."""
    power = float(mixture.real) ** 2 + float(mixture.imag) ** 2
    if power < 1e-30:
        return 0.0 + 0.0j
    gain = voice * complex(mixture).conjugate() / power
    size = abs(gain)
    return gain * (MOST_GAIN / size) if size > MOST_GAIN else gain
