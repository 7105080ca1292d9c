"""A singer: the syllables of a voice bank put to the notes of a melody, in WORLD frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtsep.training.data.bank import Bank, Syllable
from rtsep.training.data.performance import Sung, breaths, loudness_db, pitch_curve
from rtsep.training.data.sources import CACHE_RATE
from rtsep.training.data.world import SILENCE, Floats, Frames, grid, synthesize

NEPER = np.log(10) / 10  # natural logarithm of the power, of a dB
BLEND = 8  # frames over which a vowel turns into what follows it
CHOICES = 4  # syllables drawn for a note; the one whose own pitch is nearest is sung
GRID = grid(CACHE_RATE)


@dataclass(frozen=True, slots=True)
class Singer:
    """Banks of one person, and what makes another person of them."""

    banks: list[Bank]
    formants: float  # factor of all formants
    breathy_db: float  # added to the aperiodicity
    tilt_db: float  # per octave above 1 kHz
    press_db: float  # per octave above 1 kHz and 10 dB of loudness

    @classmethod
    def draw(cls, rng: np.random.Generator, banks: list[Bank]) -> Singer:
        """Anyone."""
        formants = float(np.exp(rng.uniform(np.log(0.85), np.log(1.2))))
        breathy = float(rng.choice([-4.0, 0.0, 0.0, 3.0, 6.0])) + rng.normal(0, 1)
        return cls(banks, formants, breathy, float(rng.normal(0, 1.0)), float(rng.uniform(0.5, 2.5)))

    def octave(self, notes: list[Sung]) -> int:
        """Octaves in semitones that bring a melody near to the pitch of the banks, or what `formants` make of it."""
        own = np.mean([bank.pitch for bank in self.banks]) + 12 * np.log2(self.formants) + 3
        return 12 * round(float(own - np.median([n.pitch for n in notes])) / 12)


@dataclass(slots=True)
class Score:
    """Frames to be sung: written syllable by syllable."""

    f0: Floats
    envelope: Floats
    noise_db: Floats


def sing(rng: np.random.Generator, singer: Singer, notes: list[Sung], frames: int) -> Floats:
    """Sound (samples,) at `CACHE_RATE` of a melody, as high as written; about -20 dB at its loudest."""
    bands = singer.banks[0].frames.noise_db.shape[1]
    out = Score(
        np.zeros(frames, np.float32),
        np.full((frames, len(GRID)), SILENCE, np.float32),
        np.zeros((frames, bands), np.float32),
    )
    pitch, level = pitch_curve(rng, notes, frames), loudness_db(rng, notes, frames)
    chosen = [_choose(rng, singer, note.pitch) for note in notes]
    for i, (note, (bank, syllable)) in enumerate(zip(notes, chosen, strict=True)):
        following = notes[i + 1].begin if i + 1 < len(notes) else frames
        lead = _lead(chosen[i + 1][1], notes[i + 1]) if i + 1 < len(notes) else 0
        end = min(note.end, max(following - lead, note.begin + 8), frames)
        _write(rng, out, bank.frames, syllable, note, _lead(syllable, note), end)
    for i, note in enumerate(notes[1:], 1):
        if not note.first:
            _join(out, note.begin - _lead(chosen[i][1], note))
    octaves = np.log2(np.maximum(GRID, 250.0) / 1000).astype(np.float32)
    colour = singer.tilt_db + singer.press_db * level[:, None] / 10
    sounding = out.envelope[:, :1] > SILENCE + 1
    out.envelope += np.where(sounding, NEPER * (level[:, None] + colour * octaves), 0).astype(np.float32)
    voiced = out.f0 > 0
    out.f0[voiced] = 440 * 2 ** ((pitch[voiced] - 69) / 12)
    out.noise_db[voiced] = np.minimum(out.noise_db[voiced] + singer.breathy_db, 0)
    for begin, end in breaths(rng, notes):
        _breathe(rng, out, begin, end)
    sound = synthesize(Frames(CACHE_RATE, out.f0, out.envelope, out.noise_db), singer.formants)
    return sound[: frames * CACHE_RATE // 200]


def _choose(rng: np.random.Generator, singer: Singer, pitch: int) -> tuple[Bank, Syllable]:
    drawn = []
    for _ in range(CHOICES):
        bank = singer.banks[rng.integers(len(singer.banks))]
        drawn.append((bank, bank.syllables[rng.integers(len(bank.syllables))]))
    return min(drawn, key=lambda pair: abs(pair[1].pitch - pitch))


def _lead(syllable: Syllable, note: Sung) -> int:
    """Frames of the consonant, which is sung before the beat; fast notes take no more than a third of their length."""
    most = note.begin if note.first else max((note.end - note.begin) // 3, 6)
    return min(syllable.vowel - syllable.begin, most, note.begin)


def _write(
    rng: np.random.Generator, out: Score, bank: Frames, syllable: Syllable, note: Sung, lead: int, end: int
) -> None:
    """The last `lead` frames of the consonant as they are, then the vowel stretched over [note.begin, end)."""
    length, own = end - note.begin, syllable.end - syllable.vowel
    place = np.arange(length, dtype=np.float64)
    if length > own - 2:  # to and fro between drawn places in the middle of the vowel, slower than it was sung
        turns, times = [0.0, 0.85 * own], [0.0, 0.85 * own]
        while times[-1] < length:
            turns.append(own * rng.uniform(0.25, 0.85))
            times.append(times[-1] + 1 + abs(turns[-1] - turns[-2]) / rng.uniform(0.3, 0.8))
        place = np.interp(place, times, turns)
    place += syllable.vowel
    first = place.astype(int)
    share = (place - first).astype(np.float32)[:, None]
    gain = -syllable.power
    vowel = slice(note.begin, end)
    out.f0[vowel] = 1.0
    out.envelope[vowel] = bank.envelope[first] * (1 - share) + bank.envelope[first + 1] * share + gain
    out.noise_db[vowel] = bank.noise_db[first]
    attack = min(5, length)
    if lead < 4:
        out.envelope[note.begin : note.begin + attack] += _fade(attack)[:, None]
    if end == note.end:  # a rest follows
        release = min(int(rng.uniform(10, 30)), length // 2)
        out.envelope[end - release : end] += _fade(release)[::-1, None]
    before, source = slice(note.begin - lead, note.begin), slice(syllable.vowel - lead, syllable.vowel)
    out.f0[before] = bank.f0[source] > 0
    out.envelope[before] = np.maximum(bank.envelope[source] + gain, SILENCE + 2)
    out.noise_db[before] = bank.noise_db[source]
    if lead and note.first:
        count = min(lead, 4)
        out.envelope[note.begin - lead : note.begin - lead + count] += _fade(count)[:, None]


def _fade(count: int) -> Floats:
    """Natural logarithm of a power that comes up along a quarter of a sine."""
    return 2 * np.log(np.sin(0.5 * np.pi * (np.arange(count) + 0.5) / max(count, 1))).astype(np.float32)


def _join(out: Score, at: int) -> None:
    """What sounds before frame `at` turns into what begins there."""
    begin = max(at - BLEND, 0)
    share = ((np.arange(begin, at) - begin + 1) / (at - begin + 1)).astype(np.float32)[:, None]
    out.envelope[begin:at] += share * (np.maximum(out.envelope[at], -18) - out.envelope[begin:at])


def _breathe(rng: np.random.Generator, out: Score, begin: int, end: int) -> None:
    """Noise of an inhalation, 22 to 36 dB under the voice: a few broad resonances."""
    count = end - begin
    shape = np.full(len(GRID), -14.0)
    for centre in (0.6, 1.7, 3.6, 6.5):
        hz = 1000 * centre * rng.uniform(0.8, 1.25)
        shape += rng.uniform(6, 13) * np.exp(-0.5 * (np.log2(np.maximum(GRID, 60) / hz) / rng.uniform(0.2, 0.4)) ** 2)
    rise = np.interp(np.arange(count), [0, 0.7 * count, count], [-14, 0, -18])
    level = -rng.uniform(22, 36) + rise[:, None] + shape
    out.f0[begin:end], out.noise_db[begin:end] = 0.0, 0.0
    out.envelope[begin:end] = (NEPER * level).astype(np.float32)
