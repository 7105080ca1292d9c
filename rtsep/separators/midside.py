"""The voice is what is common to left and right."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import math

from numba import carray, cfunc, njit

from rtsep.native import double_pointer
from rtsep.separators.base import Param
from rtsep.separators.kernels import (
    BASS,
    MEMORY,
    STRENGTH,
    TREBLE,
    fade,
    guard,
    ramp,
    separate_signature,
    strengthen,
)
from rtsep.separators.rule import Rule


@njit("void(complex64[:, ::1], float64[::1], float64, float32[:, ::1])", cache=True, nogil=True)
def midside_mask(spectrum, values, bin_hz, mask):
    """Share of each bin that lies in the middle, by its ratio of side to mid; the same mask for both channels."""
    width, softness, bass, treble, strength = values
    right = spectrum.shape[0] - 1
    for k in range(spectrum.shape[1]):
        a = spectrum[0, k]
        b = spectrum[right, k]
        mid = float(a.real + b.real) ** 2 + float(a.imag + b.imag) ** 2
        side = float(a.real - b.real) ** 2 + float(a.imag - b.imag) ** 2
        # 0 in the middle, 1 at one side only, above 1 out of phase; silence counts as the middle
        offset = 0.0 if side == 0.0 else math.sqrt(side / mid) if mid > 0.0 else math.inf
        share = 1.0 - fade((offset - width) / softness)
        share = strengthen(share, strength) * guard(k * bin_hz, bass, treble)
        for channel in range(mask.shape[0]):
            mask[channel, k] = share


@cfunc(separate_signature(MEMORY), cache=True)
def separate(memory, spectrum, mask):
    """`MidSide.process` as a C function."""
    m = carray(memory, 1)[0]
    shape = (m.channels, m.bins)
    params = carray(double_pointer(m.params), (3, 5))
    ramp(params)
    midside_mask(carray(spectrum, shape), params[1], m.bin_hz, carray(mask, shape))
    return 0


class MidSide(Rule):
    """Vocals are what is common to left and right, between two guards.

    The ratio of side ``L - R`` to mid ``L + R`` of a bin says how far off-centre it lies: 0 in the middle, 1 for one
    side only. A soft mask over this ratio takes the middle. The bass guard keeps the low end, which is in the middle
    too, in the music; the treble guard does so for cymbals. Mono sound has no sides: everything between the guards
    counts as voice.

    Source: the L - R method that everybody knows from hardware and forums, as a time-frequency mask after C. Avendano,
    "Frequency-domain source identification and manipulation in stereo mixes", WASPAA 2003.
    """

    name = "midside"
    summary = "the voice is what is common to left and right (stereo; no net)"
    PARAMS = (
        Param(
            "width", "", 0.0, 1.0, 0.0, "how far off-centre is still wholly voice: 1 up to one side; higher takes more"
        ),
        Param(
            "softness", "", 0.02, 1.0, 0.6, "breadth of the way from voice to music; lower takes less, sounds rougher"
        ),
        BASS,
        TREBLE,
        STRENGTH,
    )
    rule, function = staticmethod(midside_mask), separate
