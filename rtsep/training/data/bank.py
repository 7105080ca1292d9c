"""Syllables of a recorded voice: consonant onsets and the vowels after them, in WORLD frames.

Made for voice banks (strings of sung syllables on one note); it also finds the syllables of speech.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtsep.training.data.sources import CACHE_RATE, CACHE_SCALE, Clip
from rtsep.training.data.world import FRAMES_PER_S, Floats, Frames, analyse

SECONDS = 40.0  # of a recording that are analysed
BLOCK = CACHE_RATE // FRAMES_PER_S
ONSET = 36  # frames: no consonant is longer than 180 ms
VOWEL = 14  # frames: no vowel is shorter than 70 ms


class Syllable(NamedTuple):
    """Frames of a bank: the consonant is [begin, vowel), the vowel [vowel, end)."""

    begin: int
    vowel: int
    end: int
    pitch: float  # as a MIDI note number
    power: float  # mean natural logarithm of the power of the vowel


@dataclass(frozen=True, slots=True)
class Bank:
    """One recording."""

    name: str
    frames: Frames
    syllables: list[Syllable]

    @property
    def pitch(self) -> float:
        """The middle of its syllables, as a MIDI note number."""
        return float(np.median([s.pitch for s in self.syllables]))


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Begin and end of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def excerpt(sound: NDArray[np.int16], seconds: float = SECONDS) -> Floats:
    """Strings of sound without the silence between them, drawn evenly from a recording (samples,)."""
    blocks = sound[: len(sound) // BLOCK * BLOCK].reshape(-1, BLOCK).astype(np.float32) / CACHE_SCALE
    level = 10 * np.log10((blocks**2).mean(1) + 1e-10)
    loud = level > np.percentile(level, 95) - 35
    near = np.convolve(loud, np.ones(25), "same") > 0  # pauses of up to 120 ms belong to a string
    strings = [(a, b) for a, b in runs(near) if b - a > 60]
    order = np.random.default_rng(0).permutation(len(strings))
    parts: list[Floats] = []
    left = int(seconds * FRAMES_PER_S)
    for index in order:
        if left <= 0:
            break
        a, b = strings[index]
        b = min(b, a + left, a + 8 * FRAMES_PER_S)
        parts.append(blocks[a:b].ravel())
        left -= b - a
    return np.concatenate(parts) if parts else np.zeros(BLOCK, np.float32)


def find_syllables(frames: Frames) -> list[Syllable]:
    """Steady loud voiced stretches are vowels; what leads to each of them is its consonant."""
    envelope = frames.envelope
    power = np.log(np.exp(envelope[:, :107]).mean(1) + 1e-13)  # up to 5 kHz
    low = envelope[:, 4:96:4]
    change = np.zeros(len(low), np.float32)
    change[3:-3] = np.abs(low[6:] - low[:-6]).mean(1)
    voiced = (frames.f0 > 0) & (frames.noise_db[:, 0] < -0.5)  # pitch was found, and harmonics
    if voiced.sum() < VOWEL:
        return []
    pitch = 69 + 12 * np.log2(np.maximum(frames.f0, 1.0) / 440)
    usual = float(np.median(pitch[voiced]))
    loud = power > np.percentile(power[voiced], 90) - 3.5
    steady = change < max(1.0, float(np.percentile(change[voiced & loud], 70)))
    vowels = [(a, b) for a, b in runs(voiced & loud & steady) if b - a >= VOWEL]
    found, before = [], 0
    for vowel, end in vowels:
        first = max(before, vowel - ONSET, 0)
        between = slice(first, vowel + 1)
        quiet = frames.f0[between] == 0
        begin = first + (int(quiet.argmax()) if quiet.any() else int(power[between].argmin()))
        own = float(np.median(pitch[vowel:end]))
        if np.abs(pitch[vowel:end] - own).max() < 2 and abs(own - usual) < 8:  # else an octave error
            found.append(Syllable(begin, vowel, end, own, float(power[vowel:end].mean())))
        before = end
    return found


def read_bank(clip: Clip, cache: Path) -> Bank:
    """The bank of a recording, analysed at the first call."""
    path = cache / "world" / f"{clip.name}.npz"
    if not path.exists():
        analyse(excerpt(clip.sound[0]), CACHE_RATE).save(path)
    frames = Frames.open(path)
    return Bank(clip.name, frames, find_syllables(frames))
