"""The voice is what does not repeat: each frame is compared with those of the last seconds that are most like it."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import math

import numpy as np
from numba import carray, cfunc, njit

from rtsep.dsp.denormals import flush_denormals
from rtsep.native import double_pointer, float_pointer, int_pointer
from rtsep.separators.base import Compiled, Mask, Param, Separator, Spectrum
from rtsep.separators.kernels import BASS, STRENGTH, TREBLE, guard, plausible, ramp, separate_signature, strengthen
from rtsep.spec import StreamSpec

#: Longest memory and time between two frames of it.
MEMORY_S = 10.0
STEP_MS = 20.0
#: Frames that the median is taken over, at most.
MOST = 25
#: Bands by which frames are compared, and their range.
BANDS = 64
LOW_HZ, HIGH_HZ = 60.0, 8000.0
#: Time over which likeness is averaged along both sound tracks: what repeats does so for longer than a frame.
LIKENESS_S = 0.3

# Words of the state: frames stored so far, place of the newest, hops since.
STORED, PLACE, SINCE = range(3)

#: Memory of the C function: sizes, and addresses of the arrays of `repet_mask`.
MEMORY = np.dtype(
    [
        *((name, np.int64) for name in ("channels", "bins", "slots", "every", "params", "words", "memory")),
        *((name, np.int64) for name in ("memory_bands", "past", "likeness", "magnitude", "bands", "edges")),
        *((name, np.int64) for name in ("chosen", "rows")),
        *((name, np.float64) for name in ("bin_hz", "step_s", "blend")),
    ]
)


@njit("int64[::1](int64, float64)", cache=True)
def band_edges(bins, bin_hz):
    """First bin of each band, spaced by equal ratios, at least one bin wide; one more for the end."""
    edges = np.zeros(BANDS + 1, np.int64)
    top = min(HIGH_HZ, (bins - 1) * bin_hz)
    for b in range(BANDS + 1):
        edges[b] = int(LOW_HZ * (top / LOW_HZ) ** (b / BANDS) / bin_hz)
        if b > 0 and edges[b] <= edges[b - 1]:
            edges[b] = edges[b - 1] + 1
        edges[b] = min(edges[b], bins)
    return edges


@njit("void(complex64[:, ::1], float32[:, ::1], int64[::1], float32[::1])", cache=True, nogil=True)
def describe(spectrum, magnitude, edges, bands):
    """Magnitudes of all channels, and the level of each band, without its mean and scaled to length 1.

    What is no sound counts as silence: its squares would overflow and stay in the memory.
    """
    if not plausible(spectrum):
        magnitude[:] = 0.0
        bands[:] = 0.0
        return
    channels, bins = spectrum.shape
    for c in range(channels):
        for k in range(bins):
            z = spectrum[c, k]
            magnitude[c, k] = math.sqrt(z.real * z.real + z.imag * z.imag)
    mean = np.float32(0.0)
    for b in range(BANDS):
        total = np.float32(0.0)
        for c in range(channels):
            for k in range(edges[b], edges[b + 1]):
                total += magnitude[c, k]
        bands[b] = math.sqrt(total)
        mean += bands[b] / np.float32(BANDS)
    length = np.float32(0.0)
    for b in range(BANDS):
        bands[b] -= mean
        length += bands[b] * bands[b]
    scale = np.float32(1.0) / math.sqrt(length) if length > 1e-20 else np.float32(0.0)
    for b in range(BANDS):
        bands[b] *= scale


@njit("int64(int64, int64, int64)", cache=True, nogil=True)
def slot_of(place, age, slots):
    """Slot of the frame that was stored `age` frames before the one in slot `place`."""
    return place - age if place >= age else place - age + slots


@njit(
    "void(int64, int64, float32[:, ::1], float32[::1], float32[::1], float64, float32[::1])",
    cache=True,
    nogil=True,
    fastmath={"reassoc", "contract"},
)
def compare(place, there, memory, bands, past, blend, likeness):
    """Likeness of the newest frame and each of the `there` last ones of `memory`, averaged along both tracks."""
    slots = memory.shape[0]
    for age in range(there):
        slot = slot_of(place, age, slots)
        total = np.float32(0.0)
        for b in range(BANDS):
            total += memory[slot, b] * bands[b]
        likeness[slot] = total + np.float32(blend) * (past[slot] - total)


@njit("int64(int64, int64, int64, int64, float32[::1], int64[::1])", cache=True, nogil=True)
def choose(place, there, apart, wanted, likeness, chosen):
    """The slots of greatest likeness, `apart` from now and from each other; returns how many. Uses up `likeness`."""
    slots = likeness.shape[0]
    count = 0
    while count < wanted:
        best, found = np.float32(-2.0), -1
        for age in range(apart, there):
            slot = slot_of(place, age, slots)
            if likeness[slot] > best:
                best, found = likeness[slot], age
        if found < 0:
            break
        chosen[count] = slot_of(place, found, slots)
        count += 1
        for age in range(max(found - apart + 1, 0), min(found + apart, there)):
            likeness[slot_of(place, age, slots)] = np.float32(-3.0)
    return count


@njit("void(float32[:, :, ::1], int64, int64[::1], int64, float32[:, ::1])", cache=True, nogil=True)
def median(memory, channel, chosen, count, rows):
    """Lower median of the chosen frames of `memory` (slots, channels, bins) into ``rows[(count - 1) // 2]``."""
    bins = rows.shape[1]
    for r in range(count):
        rows[r] = memory[chosen[r], channel]
    for turn in range(count):  # odd-even transposition sort: all bins at once, in vectors
        for r in range(turn % 2, count - 1, 2):
            upper, lower = rows[r], rows[r + 1]
            for k in range(bins):
                a, b = upper[k], lower[k]
                upper[k] = a if a < b else b
                lower[k] = b if a < b else a


@njit(
    "void(complex64[:, ::1], float64[::1], float64, int64[::1], int64, float64, float64, float32[:, :, ::1],"
    " float32[:, ::1], float32[::1], float32[::1], float32[:, ::1], float32[::1], int64[::1], int64[::1],"
    " float32[:, ::1], float32[:, ::1])",
    cache=True,
    nogil=True,
)
def repet_mask(
    spectrum, values, bin_hz, words, every, step_s, blend, memory, memory_bands, past, likeness, magnitude, bands,
    edges, chosen, rows, mask,
):  # fmt: skip
    """Share of each bin above the median of the most alike frames; stores the frame if its time has come."""
    flush_denormals()
    similar, memory_s, apart_s, binary, bass, treble, strength = values
    slots = memory.shape[0]
    describe(spectrum, magnitude, edges, bands)
    place = words[PLACE]
    there = min(words[STORED], int(memory_s / step_s))
    apart = max(int(apart_s / step_s), 1)
    compare(place, there, memory_bands, bands, past, blend, likeness)
    words[SINCE] += 1
    if words[SINCE] >= every:
        words[SINCE] = 0
        for age in range(there):  # what follows a frame of memory will be compared with what follows this one
            slot = slot_of(place, age, slots)
            past[slot_of(slot, slots - 1, slots)] = likeness[slot]
        new = slot_of(place, slots - 1, slots)
        memory[new] = magnitude
        memory_bands[new] = bands
        words[PLACE] = new
        words[STORED] = min(words[STORED] + 1, slots - 1)
    count = choose(place, there, apart, int(similar + 0.5), likeness, chosen)
    for c in range(mask.shape[0]):
        median(memory, c, chosen, count, rows)
        repeating = rows[(count - 1) // 2]
        for k in range(mask.shape[1]):
            share = 0.0
            level = float(magnitude[c, k])
            if count == 0:
                share = 1.0
            elif level > 0.0:
                share = 1.0 - min(float(repeating[k]) / level, 1.0)
            hard = 1.0 if share > 0.5 else 0.0
            share = strengthen(share, strength) + binary * (hard - strengthen(share, strength))
            mask[c, k] = share * guard(k * bin_hz, bass, treble)


@cfunc(separate_signature(MEMORY), cache=True)
def separate(memory, spectrum, mask):
    """`Repet.process` as a C function."""
    m = carray(memory, 1)[0]
    shape = (m.channels, m.bins)
    params = carray(double_pointer(m.params), (3, 7))
    ramp(params)
    repet_mask(
        carray(spectrum, shape), params[1], m.bin_hz, carray(int_pointer(m.words), 3), m.every, m.step_s, m.blend,
        carray(float_pointer(m.memory), (m.slots, m.channels, m.bins)),
        carray(float_pointer(m.memory_bands), (m.slots, BANDS)), carray(float_pointer(m.past), m.slots),
        carray(float_pointer(m.likeness), m.slots), carray(float_pointer(m.magnitude), shape),
        carray(float_pointer(m.bands), BANDS), carray(int_pointer(m.edges), BANDS + 1),
        carray(int_pointer(m.chosen), MOST), carray(float_pointer(m.rows), (MOST, m.bins)), carray(mask, shape),
    )  # fmt: skip
    return 0


class Repet(Separator):
    """Vocals are what rises above the repeating background, between two guards.

    The newest frame is compared, by the levels of its bands, with the frames of the last seconds. The median of those
    most like it, bin by bin, is the repeating background: what was the same each time stays, a voice that was there
    once does not. The mask is the share of the bin above that background. Each hop costs the same: the memory holds a
    frame every 20 ms, whatever the hop.

    Source: Z. Rafii, B. Pardo, "Online REPET-SIM for real-time speech enhancement", ICASSP 2013. Other than there:
    likeness is averaged over 0.3 s along both tracks, and taken from bands instead of bins.
    """

    name = "repet"
    summary = "the voice is what does not repeat within the last seconds (no net)"
    PARAMS = (
        Param("similar", "", 1.0, float(MOST), 10.0, "number of alike frames; higher takes a part for a voice sooner"),
        Param("memory_s", "s", 1.0, MEMORY_S, 10.0, "how far back frames are compared"),
        Param(
            "apart_s",
            "s",
            0.05,
            2.0,
            1.0,
            "distance of two alike frames, and from now; higher: long notes are voice",
        ),
        Param("binary", "switch", 0.0, 1.0, 0.0, "on: a bin is wholly voice or wholly music; off: a soft mask"),
        BASS,
        TREBLE,
        STRENGTH,
    )

    def prepare(self, spec: StreamSpec) -> None:
        """Allocate the memory for `spec`, up to 4 MB [main thread]."""
        self._spec, self._bin_hz = spec, spec.bin_hz
        self._every = max(1, round(STEP_MS / spec.hop_ms))
        self._step_s = self._every * spec.hop_ms / 1000.0
        self._blend = math.exp(-self._step_s / LIKENESS_S)
        slots = math.ceil(MEMORY_S / self._step_s) + 1
        shape = (spec.channels, spec.bins)
        self._words = np.zeros(3, np.int64)
        self._memory = np.zeros((slots, *shape), np.float32)
        self._memory_bands = np.zeros((slots, BANDS), np.float32)
        self._past, self._likeness = np.zeros(slots, np.float32), np.zeros(slots, np.float32)
        self._magnitude, self._bands = np.zeros(shape, np.float32), np.zeros(BANDS, np.float32)
        self._edges = band_edges(spec.bins, spec.bin_hz)
        self._chosen, self._rows = np.zeros(MOST, np.int64), np.zeros((MOST, spec.bins), np.float32)
        self.params.prepare(spec.hop_ms)

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        """Fill `mask` for the frame of `spectrum` [inference thread]; both arrays C-contiguous."""
        self.params.ramp()
        repet_mask(
            spectrum, self.params.values, self._bin_hz, self._words, self._every, self._step_s, self._blend,
            self._memory, self._memory_bands, self._past, self._likeness, self._magnitude, self._bands,
            self._edges, self._chosen, self._rows, mask,
        )  # fmt: skip

    def reset(self) -> None:
        """Forget the sound and jump to the wanted parameters."""
        self._words.fill(0)
        self._past.fill(0.0)
        self.params.settle()

    def compiled(self) -> Compiled:
        arrays = {name: getattr(self, f"_{name}") for name in MEMORY.names or () if hasattr(self, f"_{name}")}
        facts = {"channels": self._spec.channels, "bins": self._spec.bins, "slots": len(self._memory)}
        facts["params"] = self.params.state.ctypes.data
        memory = np.zeros(1, MEMORY)
        for name, value in (arrays | facts).items():
            memory[name] = value.ctypes.data if isinstance(value, np.ndarray) else value
        return Compiled(separate.address, memory.ctypes.data, (memory, self))
