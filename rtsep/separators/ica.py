"""The voice is one of the two independent sounds that make up left and right, by a running FastICA."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numba import njit

from rtsep.separators.base import Mask, Param, Separator, Spectrum
from rtsep.separators.kernels import BASS, STRENGTH, TREBLE, guard, part_of, plausible, strengthen
from rtsep.spec import StreamSpec

#: Bins that the statistics are taken from, in Hz.
LOW_HZ, HIGH_HZ = 100.0, 10000.0
#: Bins of the voice, for `by_band`.
VOICE_LOW_HZ, VOICE_HIGH_HZ = 300.0, 3400.0
#: Time over which the level of a bin is averaged; every bin counts alike whatever its level.
LEVEL_S = 1.0
#: Power to which a single bin's sample is limited, in units of its average: onsets shall not decide alone.
LIMIT = 16.0
#: Fixed-point steps per hop.
ITERATIONS = 3
#: How much more the other component must look like the voice before the two change places, and the time that takes.
HYSTERESIS, SWAP_MS = 0.15, 100.0

# Statistics: second moments LL LR RR, fourth moments LLLL LLLR LLRR LRRR RRRR, weight so far,
# demixing row of component 0 (two numbers), role of component 0 (1: voice), energy in the voice's band and in all for
# both components.
M2, M4, WEIGHT, ROW, ROLE, BAND = 0, 3, 8, 9, 11, 12
SIZE = 16


@njit("void(complex64[:, ::1], float64, float64, float32[::1], float64[::1], int64, int64)", cache=True, nogil=True)
def gather(spectrum, keep, keep_level, levels, stats, first, last):
    """Take a frame into the running moments of left and right; real and imaginary parts are samples alike."""
    right = spectrum.shape[0] - 1
    ll = lr = rr = m0 = m1 = m2 = m3 = m4 = 0.0
    for k in range(first, last):
        a, b = spectrum[0, k], spectrum[right, k]
        power = float(a.real) ** 2 + float(a.imag) ** 2 + float(b.real) ** 2 + float(b.imag) ** 2
        level = keep_level * levels[k] + (1.0 - keep_level) * power
        levels[k] = level
        scale = min(1.0 / level, LIMIT / power) if power > 1e-20 else 0.0
        for x, y in ((a.real, b.real), (a.imag, b.imag)):
            xx, xy, yy = scale * x * x, scale * x * y, scale * y * y
            ll += xx
            lr += xy
            rr += yy
            m0 += xx * xx
            m1 += xx * xy
            m2 += xx * yy
            m3 += xy * yy
            m4 += yy * yy
    if ll + rr <= 0.0:
        return
    stats[WEIGHT] = keep * stats[WEIGHT] + 1.0
    share = 1.0 / (stats[WEIGHT] * 2 * (last - first))
    rest = 1.0 - 1.0 / stats[WEIGHT]
    for i, total in enumerate((ll, lr, rr, m0, m1, m2, m3, m4)):
        stats[M2 + i] = rest * stats[M2 + i] + share * total


@njit("void(float64[::1], float64[:, ::1])", cache=True, nogil=True)
def unmix(stats, demix):
    """A few fixed-point steps of FastICA (cubic nonlinearity) on the moments; demixing rows into `demix` (2, 2)."""
    trace = stats[0] + stats[2]
    a, b, d = stats[0] + 1e-4 * trace, stats[1], stats[2] + 1e-4 * trace
    m0, m1, m2, m3, m4 = stats[M4], stats[M4 + 1], stats[M4 + 2], stats[M4 + 3], stats[M4 + 4]
    root = math.sqrt(a * d - b * b)  # symmetric square root of the covariance, which whitens by its inverse
    norm = math.sqrt(a + d + 2.0 * root)
    sa, sb, sd = (a + root) / norm, b / norm, (d + root) / norm
    va, vb, vd = sd / root, -sb / root, sa / root
    w0 = sa * stats[ROW] + sb * stats[ROW + 1]
    w1 = sb * stats[ROW] + sd * stats[ROW + 1]
    length = math.hypot(w0, w1)
    w0, w1 = w0 / length, w1 / length
    for _ in range(ITERATIONS):
        x, y = va * w0 + vb * w1, vb * w0 + vd * w1
        left = x * x * x * m0 + 3.0 * x * x * y * m1 + 3.0 * x * y * y * m2 + y * y * y * m3
        right = x * x * x * m1 + 3.0 * x * x * y * m2 + 3.0 * x * y * y * m3 + y * y * y * m4
        # times what is left of the whitened covariance, which is 1 but for a pair that is (nearly) one sound
        cx, cy = stats[0] * x + stats[1] * y, stats[1] * x + stats[2] * y
        power = x * cx + y * cy
        left -= 3.0 * power * cx
        right -= 3.0 * power * cy
        n0, n1 = va * left + vb * right, vb * left + vd * right
        length = math.hypot(n0, n1)
        if length < 1e-9:
            break
        sign = 1.0 if n0 * w0 + n1 * w1 >= 0.0 else -1.0
        w0, w1 = sign * n0 / length, sign * n1 / length
    demix[0, 0], demix[0, 1] = va * w0 + vb * w1, vb * w0 + vd * w1
    demix[1, 0], demix[1, 1] = vb * w0 - va * w1, vd * w0 - vb * w1
    stats[ROW], stats[ROW + 1] = demix[0, 0], demix[0, 1]


@njit(
    "void(complex64[:, ::1], float64[::1], float64, float64, float64, float64, float32[::1], float64[::1],"
    " float64[:, ::1], float32[:, ::1])",
    cache=True,
    nogil=True,
)
def ica_mask(spectrum, values, bin_hz, hop_s, keep_level, swap, levels, stats, demix, mask):
    """Complex mask that leaves the component that is the voice, for each channel.

    What is no sound is music, and leaves no trace in the statistics.
    """
    if not plausible(spectrum):
        mask[:] = 0.0
        return
    memory_s, by_band, masked, binary, bass, treble, strength = values
    channels, bins = spectrum.shape
    right = channels - 1
    keep = math.exp(-hop_s / memory_s)
    first = max(int(LOW_HZ / bin_hz), 1)
    last = min(int(HIGH_HZ / bin_hz), bins)
    gather(spectrum, keep, keep_level, levels, stats, first, last)
    if stats[WEIGHT] > 0.0:
        unmix(stats, demix)
    p, q, r, s = demix[0, 0], demix[0, 1], demix[1, 0], demix[1, 1]
    det = p * s - q * r
    # columns of the mixing matrix: how component 0 and 1 stand in left and right
    l0, r0, l1, r1 = s / det, -r / det, -q / det, p / det
    for c in range(4):
        stats[BAND + c] *= keep
    for k in range(first, last):
        hz = k * bin_hz
        inside = VOICE_LOW_HZ <= hz <= VOICE_HIGH_HZ
        a, b = complex(spectrum[0, k]), complex(spectrum[right, k])
        y0, y1 = p * a + q * b, r * a + s * b
        e0 = (y0.real**2 + y0.imag**2) * (l0 * l0 + r0 * r0)
        e1 = (y1.real**2 + y1.imag**2) * (l1 * l1 + r1 * r1)
        stats[BAND + 1] += e0
        stats[BAND + 3] += e1
        if inside:
            stats[BAND] += e0
            stats[BAND + 2] += e1
    if by_band > 0.5:
        score = stats[BAND] / (stats[BAND + 1] + 1e-30) - stats[BAND + 2] / (stats[BAND + 3] + 1e-30)
    else:
        score = 2.0 * l0 * r0 / (l0 * l0 + r0 * r0) - 2.0 * l1 * r1 / (l1 * l1 + r1 * r1)
    threshold = HYSTERESIS if stats[ROLE] < 0.5 else -HYSTERESIS
    stats[ROLE] = min(stats[ROLE] + swap, 1.0) if score > threshold else max(stats[ROLE] - swap, 0.0)
    role = stats[ROLE]
    for k in range(bins):
        a, b = complex(spectrum[0, k]), complex(spectrum[right, k])
        y0, y1 = p * a + q * b, r * a + s * b
        room = guard(k * bin_hz, bass, treble)
        for c in range(channels):
            z0, z1 = (y0 * l0, y1 * l1) if c == 0 else (y0 * r0, y1 * r1)
            gain = 0.0 + 0.0j
            if masked < 1.0:
                gain += (1.0 - masked) * part_of(role * z0 + (1.0 - role) * z1, spectrum[c, k])
            if masked > 0.0:
                e0, e1 = z0.real**2 + z0.imag**2, z1.real**2 + z1.imag**2
                voice = role * e0 + (1.0 - role) * e1
                share = voice / (e0 + e1) if e0 + e1 > 0.0 else 0.0
                hard = 1.0 if share > 0.5 else 0.0
                share = strengthen(share, strength)
                gain += masked * (share + binary * (hard - share))
            gain *= room
            mask[c, k] = gain.real
            mask[channels + c, k] = gain.imag


class Ica(Separator):
    """Vocals are one of two independent sounds that left and right are mixed from.

    A mixture of two sounds at different levels left and right is undone by a matrix of four numbers. FastICA finds it:
    it turns the whitened pair until each output is as far from Gaussian as can be. Second and fourth moments of the
    last seconds are all that its fixed-point step with the cubic nonlinearity needs; they are kept running, over all
    bins at once, and a few steps are made each hop from where the last hop ended.

    Which output is the voice: the one that stands nearer to the middle or, with ``by_band``, has more of its energy at
    300 to 3400 Hz; they change places only where the other is clearly better, with a cross-fade.

    The mask is complex: each output is a weighted difference of left and right, which no mask of 0 to 1 can make. With
    ``masked`` it is the share of the output's power instead, which suits music of more than two sounds better. Only
    then do ``binary`` and ``strength`` change anything: differences have no share to shape. Mono sound is one
    component: everything between the guards is voice.

    Source: A. Hyvaerinen, E. Oja, "Independent component analysis: algorithms and applications", Neural Networks 13,
    2000.
    """

    name = "ica"
    summary = "the voice is one of two independent sounds in left and right (stereo; no net)"
    mask_kind = "complex"
    PARAMS = (
        Param("memory_s", "s", 0.5, 20.0, 4.0, "time that the statistics cover; higher is steadier, follows less"),
        Param(
            "by_band",
            "switch",
            0.0,
            1.0,
            0.0,
            "on: the voice has more at 300 to 3400 Hz; off: is nearer the middle",
        ),
        Param("masked", "switch", 0.0, 1.0, 0.0, "on: bins are shared by the power of the two; off: differences"),
        Param("binary", "switch", 0.0, 1.0, 0.0, "on: with masked, a bin is wholly voice or wholly music"),
        BASS,
        TREBLE,
        replace(STRENGTH, help=f"with masked: {STRENGTH.help}"),
    )

    def prepare(self, spec: StreamSpec) -> None:
        """Allocate the statistics for `spec` [main thread]."""
        self._bin_hz, self._hop_s = spec.bin_hz, spec.hop_ms / 1000.0
        self._keep_level = math.exp(-self._hop_s / LEVEL_S)
        self._swap = min(1.0, spec.hop_ms / SWAP_MS)
        self._levels = np.zeros(spec.bins, np.float32)
        self._stats = np.zeros(SIZE)
        self._demix = np.zeros((2, 2))
        self.params.prepare(spec.hop_ms)
        self.reset()

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        """Fill `mask` (2 x channels, bins) for the frame of `spectrum` [inference thread]; both C-contiguous."""
        self.params.ramp()
        ica_mask(
            spectrum, self.params.values, self._bin_hz, self._hop_s, self._keep_level, self._swap,
            self._levels, self._stats, self._demix, mask,
        )  # fmt: skip

    def reset(self) -> None:
        """Forget the sound, begin with mid and side, and jump to the wanted parameters."""
        self._levels.fill(0.0)
        self._stats.fill(0.0)
        self._stats[ROW : ROW + 2] = 1.0, 0.9
        self._stats[ROLE] = 1.0
        self._demix[:] = ((0.5, 0.5), (0.5, -0.5))
        self.params.settle()
