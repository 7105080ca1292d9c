"""The voice is what lies between two frequencies."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import math

from numba import carray, cfunc, njit

from rtsep.native import double_pointer
from rtsep.separators.base import Param
from rtsep.separators.kernels import MEMORY, ramp, separate_signature
from rtsep.separators.rule import Rule


@njit("void(complex64[:, ::1], float64[::1], float64, float32[:, ::1])", cache=True, nogil=True)
def band_mask(spectrum, values, bin_hz, mask):
    """1 from the low to the high end, falling by a number of dB per octave outside; nothing outside if binary.

    The spectrum is not looked at.
    """
    low, high, slope_db, binary = values
    power = slope_db / (20.0 * math.log10(2.0))
    for k in range(mask.shape[1]):
        hz = k * bin_hz
        distance = 1.0  # 1 inside, the ratio to the nearer end outside
        if hz < low:
            distance = hz / low
        elif hz > high:
            distance = high / hz
        share = 1.0 if distance == 1.0 else (1.0 - binary) * distance**power
        for channel in range(mask.shape[0]):
            mask[channel, k] = share


@cfunc(separate_signature(MEMORY), cache=True)
def separate(memory, spectrum, mask):
    """`Band.process` as a C function."""
    m = carray(memory, 1)[0]
    shape = (m.channels, m.bins)
    params = carray(double_pointer(m.params), (3, 4))
    ramp(params)
    band_mask(carray(spectrum, shape), params[1], m.bin_hz, carray(mask, shape))
    return 0


class Band(Rule):
    """Vocals are all sound between two frequencies, with a slope on both sides.

    What singers and instruments have there is not told apart: this is the floor that any other method has to beat.

    Source: the band-pass and band-stop "vocal remover" of editors, hardware mixers and forums.
    """

    name = "band"
    summary = "the voice is what lies between two frequencies (no net)"
    PARAMS = (
        Param("low_hz", "hz", 20.0, 2000.0, 200.0, "low end of the voice's band; higher takes less"),
        Param("high_hz", "hz", 1000.0, 24000.0, 4000.0, "high end of the voice's band; higher takes more"),
        Param("slope_db", "db", 3.0, 96.0, 24.0, "fall per octave outside the band; higher takes less there"),
        Param("binary", "switch", 0.0, 1.0, 0.0, "on: nothing outside the band; off: the slope"),
    )
    rule, function = staticmethod(band_mask), separate
