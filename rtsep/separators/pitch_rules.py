"""The voice is the harmonics of a sung pitch, and short bursts of hiss between them."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import carray, cfunc, njit
from numpy.typing import NDArray

from rtsep.dsp import pyin
from rtsep.dsp.denormals import flush_denormals
from rtsep.dsp.pyin import HIGH_HZ, HZ, LOW_HZ, PROBABILITY, STEP_MS, THRESHOLDS, Pyin, track
from rtsep.dsp.stft import aligned, inverse, plans
from rtsep.dsp.windows import asymmetric_pair
from rtsep.native import call, complex_pointer, double_pointer, float_pointer, int_pointer
from rtsep.separators.base import Compiled, Mask, Param, Separator, Spectrum
from rtsep.separators.gate import gate_step
from rtsep.separators.kernels import (
    BASS,
    STRENGTH,
    TREBLE,
    fade,
    guard,
    plausible,
    ramp,
    separate_signature,
    strengthen,
)
from rtsep.spec import StreamSpec

#: Band that the pitch is looked for in, and part of the window, by its height, that is sound enough to undo it.
HEARD_LOW_HZ, HEARD_HIGH_HZ, LEAST_WINDOW = 100.0, 4000.0, 0.25
#: Bins by which is judged how much of the sound belongs to the pitch.
JUDGE_LOW_HZ, JUDGE_HIGH_HZ = 150.0, 4000.0
#: Times in which the harmonics come and go.
ATTACK_MS, RELEASE_MS = 15.0, 40.0
#: Hiss: from where on, bands in which it has to stand out and must not, by how much (power), and in which share of
#: their bins at least and at most; its longest duration, the time that the background covers.
HISS_HZ, HISS_LOW_HZ, HISS_HIGH_HZ = 2500.0, 3000.0, 12000.0
BODY_LOW_HZ, BODY_HIGH_HZ = 100.0, 1000.0
HISS_ABOVE, HISS_SHARE, BODY_SHARE = 4.0, 0.6, 0.4
HISS_MOST_MS, HISS_ATTACK_MS, HISS_RELEASE_MS, BACKGROUND_MS = 200.0, 5.0, 30.0, 300.0

# Words: hops since the last pitch, hops that the hiss has lasted. Levels: gates of harmonics, region and hiss, and how
# much of the sound belongs to the pitch.
SINCE, LASTED = range(2)
HARMONICS, REGION, HISS, BELONGS = range(4)


#: Memory of the C function: the facts of `Memory` and `Pyin`, addresses and sizes of their arrays.
MEMORY = np.dtype(
    [
        *((name, np.int64) for name in ("channels", "bins", "window", "frames", "params", "params_count")),
        *((name, np.int64) for name in ("inverse_plan", "every", "words", "levels", "frame", "transform", "undo")),
        *((name, np.int64) for name in ("first", "sound", "weight", "magnitude", "background", "width")),
        *((name, np.int64) for name in ("lags", "lags_count", "states", "states_count", "beta")),
        *((name, np.int64) for name in ("glide", "glide_count", "wide", "wide_count", "found")),
        *((name, np.float64) for name in ("bin_hz", "hop_ms", "samplerate")),
    ]
)


class Memory(NamedTuple):
    """Everything that a hop touches."""

    inverse_plan: int
    every: int  # hops between two pitches
    bin_hz: float
    hop_ms: float
    words: NDArray[np.int64]
    levels: NDArray[np.float64]
    frame: NDArray[np.float32]  # (window,)
    bins: NDArray[np.complex64]
    undo: NDArray[np.float32]  # 1 / window where it is high enough
    first: int  # frame of the window that `undo` begins at
    sound: NDArray[np.float32]
    weight: NDArray[np.float32]  # (bins,) of the band that the pitch is looked for in
    magnitude: NDArray[np.float32]  # (bins,) of the mean of the channels
    background: NDArray[np.float32]  # (bins,)
    pyin: Pyin


@njit(nogil=True, cache=True)
def _listen(m, spectrum, low_hz, high_hz):
    """Magnitudes of the mean of the channels; the pitch, if its time has come."""
    last = spectrum.shape[0] - 1
    if plausible(spectrum):
        for k in range(spectrum.shape[1]):
            z = np.float32(0.5) * (spectrum[0, k] + spectrum[last, k])
            m.bins[k] = m.weight[k] * z
            m.magnitude[k] = math.sqrt(float(z.real) ** 2 + float(z.imag) ** 2)
    else:  # as silence: it would stay in the background
        m.bins[:] = 0.0
        m.magnitude[:] = 0.0
    m.words[SINCE] += 1
    if m.words[SINCE] < m.every:
        return
    m.words[SINCE] = 0
    inverse(m.inverse_plan, m.bins, m.frame)
    for i in range(m.sound.shape[0]):
        m.sound[i] = m.undo[i] * m.frame[m.first + i]
    track(m.pyin, m.sound, low_hz, high_hz)


@njit("float64(float64, float64, float64)", nogil=True, cache=True)
def comb(hz, pitch, width_hz):
    """How much of a bin belongs to the harmonics of `pitch`: 1 within `width_hz` of one, 0 beyond twice that."""
    number = max(math.floor(hz / pitch + 0.5), 1.0)
    width = min(width_hz, 0.25 * pitch)
    return fade(2.0 - abs(hz - number * pitch) / width)


@njit(nogil=True, cache=True)
def _judge(m, pitch, width_hz):
    """Share of the power that lies on the harmonics, beyond what any comb as wide would find."""
    on = total = covered = 0.0
    first = max(int(JUDGE_LOW_HZ / m.bin_hz), 1)
    last = min(int(JUDGE_HIGH_HZ / m.bin_hz) + 1, m.magnitude.shape[0])
    for k in range(first, last):
        part = comb(k * m.bin_hz, pitch, width_hz)
        power = float(m.magnitude[k]) ** 2
        on += part * power
        total += power
        covered += part
    chance = covered / max(last - first, 1)
    if total <= 0.0 or chance >= 1.0:
        return 0.0
    return max((on / total - chance) / (1.0 - chance), 0.0)


@njit(nogil=True, cache=True)
def _rise(m, low_hz, high_hz):
    """Power of a band over its background's, and the share of its bins that stand out by 3 dB."""
    power = before = 0.0
    count = out = 0
    for k in range(max(int(low_hz / m.bin_hz), 1), min(int(high_hz / m.bin_hz) + 1, m.magnitude.shape[0])):
        here, past = float(m.magnitude[k]) ** 2, float(m.background[k]) ** 2
        power += here
        before += past
        out += here > 2.0 * past
        count += 1
    if before <= 0.0 or power <= 0.0:
        return 0.0, 0.0
    return power / before, out / count


@njit(nogil=True, cache=True)
def _hiss(m):
    """1 while a burst of hiss sounds, else 0; takes the frame into the background."""
    rise, share = _rise(m, HISS_LOW_HZ, HISS_HIGH_HZ)
    _, body = _rise(m, BODY_LOW_HZ, BODY_HIGH_HZ)
    found = rise > HISS_ABOVE and share > HISS_SHARE and body < BODY_SHARE
    m.words[LASTED] = m.words[LASTED] + 1 if found else 0
    keep = np.float32(math.exp(-m.hop_ms / BACKGROUND_MS))
    for k in range(m.magnitude.shape[0]):
        m.background[k] = m.magnitude[k] + keep * (m.background[k] - m.magnitude[k])
    return 1.0 if found and m.words[LASTED] * m.hop_ms <= HISS_MOST_MS else 0.0


@njit(nogil=True, cache=True)
def rules_mask(m, spectrum, values, mask):
    """Mask of the newest frame; the same for all channels."""
    flush_denormals()
    low_hz, high_hz, region, width_hz, hold_ms, unvoiced, binary, bass, treble, strength = values
    _listen(m, spectrum, low_hz, high_hz)
    hop_ms, pitch = m.hop_ms, m.pyin.found[HZ]
    voiced = 0.0
    if m.pyin.found[PROBABILITY] > 0.5 and pitch > 0.0:
        voiced = m.pyin.found[PROBABILITY] * _judge(m, pitch, width_hz)
    m.levels[BELONGS] = voiced
    threshold = max(region, 1e-6)
    harmonics = gate_step(m.levels[HARMONICS:], voiced, threshold, ATTACK_MS / hop_ms, RELEASE_MS / hop_ms)
    inside = gate_step(m.levels[REGION:], voiced, threshold, ATTACK_MS / hop_ms, hold_ms / hop_ms)
    hiss = gate_step(m.levels[HISS:], _hiss(m), 0.5, HISS_ATTACK_MS / hop_ms, HISS_RELEASE_MS / hop_ms)
    hiss *= unvoiced * inside
    for k in range(mask.shape[1]):
        hz = k * m.bin_hz
        room = guard(hz, bass, treble)
        share = 0.0
        if room > 0.0 and harmonics > 0.0 and pitch > 0.0:
            share = harmonics * comb(hz, pitch, width_hz)
        if room > 0.0 and hiss > 0.0 and m.magnitude[k] > m.background[k]:
            above = 1.0 - float(m.background[k]) / float(m.magnitude[k])
            share = max(share, hiss * above * fade((hz - HISS_HZ) / HISS_HZ + 1.0))
        hard = 1.0 if share > 0.5 else 0.0
        soft = strengthen(share, strength)
        share = room * (soft + binary * (hard - soft))
        for channel in range(mask.shape[0]):
            mask[channel, k] = share


@cfunc(separate_signature(MEMORY), cache=True)
def separate(memory, spectrum, mask):
    """`PitchRules.process` as a C function."""
    f = carray(memory, 1)[0]
    params = carray(double_pointer(f.params), (3, f.params_count))
    ramp(params)
    heard = Pyin(
        carray(double_pointer(f.lags), (5, f.lags_count)), carray(double_pointer(f.states), (7, f.states_count)),
        carray(double_pointer(f.beta), THRESHOLDS), carray(double_pointer(f.glide), f.glide_count),
        carray(double_pointer(f.wide), f.wide_count), carray(double_pointer(f.found), 2), f.width, f.samplerate,
    )  # fmt: skip
    m = Memory(
        f.inverse_plan, f.every, f.bin_hz, f.hop_ms, carray(int_pointer(f.words), 2),
        carray(double_pointer(f.levels), 4), carray(float_pointer(f.frame), f.window),
        carray(complex_pointer(f.transform), f.bins), carray(float_pointer(f.undo), f.frames), f.first,
        carray(float_pointer(f.sound), f.frames), carray(float_pointer(f.weight), f.bins),
        carray(float_pointer(f.magnitude), f.bins), carray(float_pointer(f.background), f.bins), heard,
    )  # fmt: skip
    shape = (f.channels, f.bins)
    rules_mask(m, carray(spectrum, shape), params[1], carray(mask, shape))
    return 0


@njit("void(intp, intp, complex64[:, ::1], float32[:, ::1])", cache=True, nogil=True)
def _call(function, memory, spectrum, mask):
    call(function, memory, spectrum.ctypes.data, mask.ctypes.data)


class PitchRules(Separator):
    """Vocals are the harmonics of the pitch that is sung, and short bursts of hiss while somebody sings.

    1. Somebody sings where a pitch is found and enough of the sound belongs to it; the region goes on for `hold_ms`.
    2. Voiced or unvoiced, and the pitch, come from a streaming probabilistic YIN (`rtsep.dsp.pyin`), taken from the
       mean of the channels every 5.8 ms: the frame itself, its window undone.
    3. The mask is a comb over the harmonics of that pitch.
    4. Within a region, a short rise of everything above 3 kHz that the low end does not share is an unvoiced
       consonant: what stands out from the background there is voice.

    Each hop costs the same but for the pitch, which is looked for every 5.8 ms or, with longer hops, in each.

    Source: the rule-based first version in E. Koretzky, "Audio AI: isolating vocals from stereo music using
    convolutional neural networks", 2019; it names the rules, the numbers are ours.
    """

    name = "pitch-rules"
    summary = "the voice is the harmonics of a sung pitch, and hiss between them (no net)"
    PARAMS = (
        Param("low_hz", "hz", LOW_HZ, 400.0, 80.0, "lowest pitch; higher takes no low instrument for a voice"),
        Param("high_hz", "hz", 200.0, HIGH_HZ, 1000.0, "highest pitch; higher takes flutes and leads for a voice"),
        Param("region", "", 0.0, 1.0, 0.3, "share of the sound that must belong to the pitch; higher takes less"),
        Param("width_hz", "hz", 10.0, 150.0, 20.0, "half breadth of a harmonic; higher takes more"),
        Param("hold_ms", "ms", 0.0, 2000.0, 300.0, "time after a pitch in which hiss is a consonant"),
        Param("unvoiced", "", 0.0, 1.0, 1.0, "share of such hiss that is voice"),
        Param("binary", "switch", 0.0, 1.0, 0.0, "on: a bin is wholly voice or wholly music; off: a soft mask"),
        BASS,
        TREBLE,
        STRENGTH,
    )

    @property
    def pitch_hz(self) -> float | None:
        """Pitch of the newest frame, None where nobody sings [any thread]."""
        gates, found = self._memory.levels, self._memory.pyin.found
        return float(found[HZ]) if gates[HARMONICS] > 0.5 else None

    def prepare(self, spec: StreamSpec) -> None:
        """Allocate the memory for `spec` [main thread]."""
        window = asymmetric_pair(spec.window, spec.hop)[0]
        good = np.flatnonzero(window > LEAST_WINDOW)
        first, frames = int(good[0]), len(good)
        every = max(1, round(STEP_MS / spec.hop_ms))
        hz = np.arange(spec.bins) * spec.bin_hz
        weight = np.array([guard(f, HEARD_LOW_HZ, HEARD_HIGH_HZ) for f in hz], np.float32)
        m = self._memory = Memory(
            plans(spec.window)[1], every, spec.bin_hz, spec.hop_ms, np.zeros(2, np.int64), np.zeros(4),
            aligned(spec.window, np.float32), aligned(spec.bins, np.complex64),
            (1.0 / (spec.window * window[good])).astype(np.float32), first, np.zeros(frames, np.float32), weight,
            np.zeros(spec.bins, np.float32), np.zeros(spec.bins, np.float32),
            pyin.tracker(spec.samplerate, frames, every * spec.hop_ms),
        )  # fmt: skip
        facts = {
            "channels": spec.channels,
            "bins": spec.bins,
            "window": spec.window,
            "frames": frames,
            "lags_count": m.pyin.lags.shape[1],
            "states_count": m.pyin.states.shape[1],
            "glide_count": len(m.pyin.glide),
            "wide_count": len(m.pyin.wide),
            "params_count": self.params.state.shape[1],
            "params": self.params.state.ctypes.data,
            "transform": m.bins.ctypes.data,
        }
        self._facts = np.zeros(1, MEMORY)
        for name in MEMORY.names or ():
            value = facts[name] if name in facts else getattr(m, name, None)
            value = getattr(m.pyin, name) if value is None else value
            self._facts[name] = value.ctypes.data if isinstance(value, np.ndarray) else value
        self.params.prepare(spec.hop_ms)
        self.reset()

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        """Fill `mask` for the frame of `spectrum` [inference thread]; both arrays C-contiguous."""
        _call(separate.address, self._facts.ctypes.data, spectrum, mask)

    def reset(self) -> None:
        """Forget the sound and jump to the wanted parameters."""
        m = self._memory
        for array in (m.words, m.levels, m.background):
            array.fill(0)
        pyin.forget(m.pyin)
        self.params.settle()

    def compiled(self) -> Compiled:
        return Compiled(separate.address, self._facts.ctypes.data, (self._facts, self._memory, self.params))
