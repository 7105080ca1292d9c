"""The voice is what comes from one direction of the stereo field."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

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

#: Fade of the soft mask on each side of the window, in units of azimuth.
SOFT_EDGE = 0.15


@njit("void(complex64[:, ::1], float64[::1], float64, float32[:, ::1])", cache=True, nogil=True)
def adress_mask(spectrum, values, bin_hz, mask):
    """Share of each bin whose azimuth lies in the window; the same mask for both channels.

    With A the louder and B the quieter channel, ``|B - g A|`` is least at ``g = Re(A B*) / |A|^2``, clipped to 0..1:
    the null that the paper finds on a grid of g, in closed form. Azimuth is ``1 - g`` towards the louder side; what
    is left at the null tells how pure the bin is.
    """
    position, width, binary, bass, treble, strength = values
    right = spectrum.shape[0] - 1
    for k in range(spectrum.shape[1]):
        a = spectrum[0, k]
        b = spectrum[right, k]
        left_power = float(a.real) ** 2 + float(a.imag) ** 2
        right_power = float(b.real) ** 2 + float(b.imag) ** 2
        common = float(a.real) * float(b.real) + float(a.imag) * float(b.imag)
        louder = max(left_power, right_power)
        quieter = min(left_power, right_power)
        total = left_power + right_power
        gain = purity = 1.0  # silence counts as the middle
        if total > 0.0:
            gain = max(common / louder, 0.0)
            null = quieter - gain * (2.0 * common - gain * louder)
            purity = 1.0 - 2.0 * max(null, 0.0) / total
        azimuth = 1.0 - gain if right_power > left_power else gain - 1.0
        outside = abs(azimuth - position) - 0.5 * width
        share = 0.0
        if binary < 1.0:
            share += (1.0 - binary) * strengthen((1.0 - fade(outside / SOFT_EDGE)) * purity, strength)
        if binary > 0.0 and outside <= 1e-6:
            share += binary
        share *= guard(k * bin_hz, bass, treble)
        for channel in range(mask.shape[0]):
            mask[channel, k] = share


@cfunc(separate_signature(MEMORY), cache=True)
def separate(memory, spectrum, mask):
    """`Adress.process` as a C function."""
    m = carray(memory, 1)[0]
    shape = (m.channels, m.bins)
    params = carray(double_pointer(m.params), (3, 6))
    ramp(params)
    adress_mask(carray(spectrum, shape), params[1], m.bin_hz, carray(mask, shape))
    return 0


class Adress(Rule):
    """Vocals are the bins whose azimuth lies in a window around a position.

    The soft mask fades at the edges of the window and shares a bin by how much of it the null cancels; the binary
    mask takes the whole bin or nothing. The guards keep the low and the high end in the music. Mono sound comes from
    position 0 alone: everything between the guards is voice if the window holds 0, nothing is if not.

    Source: D. Barry, B. Lawlor, E. Coyle, "Sound source separation: azimuth discrimination and resynthesis", DAFx 2004.
    """

    name = "adress"
    summary = "the voice is what comes from one direction of the stereo field (stereo; no net)"
    PARAMS = (
        Param("position", "", -1.0, 1.0, 0.0, "where the voice stands: -1 left, 0 middle, 1 right"),
        Param("width", "", 0.0, 2.0, 0.6, "breadth of the window around the position; higher takes more"),
        Param("binary", "switch", 0.0, 1.0, 0.0, "on: a bin is wholly voice or wholly music; off: a soft mask"),
        BASS,
        TREBLE,
        STRENGTH,
    )
    rule, function = staticmethod(adress_mask), separate
