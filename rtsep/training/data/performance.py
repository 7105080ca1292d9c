"""How a singer performs a melody: pitch and loudness over time, where breath is taken.

Rates and depths follow J. Sundberg, "The Science of the Singing Voice", 1987, and measurements of pop singers:
vibrato of 4.5 to 6.5 Hz that grows in long notes, glides of 60 to 120 ms, scoops into the first note of a phrase.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from rtsep.training.data.scores import Note
from rtsep.training.data.world import FRAMES_PER_S, Floats

LEAST = 0.06  # seconds: shorter notes are ornaments, left out
MOST = 4.0  # seconds: longer notes are cut, as breath ends
PAUSE = 0.25  # seconds: a longer rest ends a phrase


@dataclass(frozen=True, slots=True)
class Sung:
    """A note as it is sung: frames [begin, end), a MIDI note number, whether a phrase begins or ends with it."""

    begin: int
    end: int
    pitch: int
    velocity: int
    first: bool
    last: bool


def phrases(melody: list[Note], begin: float, seconds: float) -> list[Sung]:
    """The one-voiced melody of a part of a song, `begin` being frame 0."""
    window = [n for n in melody if begin <= n[0] < begin + seconds - LEAST]
    single = [n for i, n in enumerate(window) if i + 1 == len(window) or window[i + 1][0] - n[0] > LEAST]
    notes: list[tuple[float, float, int, int]] = []
    for i, (start, end, pitch, velocity) in enumerate(single):
        limit = single[i + 1][0] if i + 1 < len(single) else begin + seconds - 0.05
        sung_through = 0 < limit - end < 0.12  # a small gap
        stop = min(limit if sung_through else end, limit, start + MOST)
        notes.append((start - begin, max(stop, start + LEAST) - begin, pitch, velocity))
    out = []
    for i, (start, end, pitch, velocity) in enumerate(notes):
        first = i == 0 or start - notes[i - 1][1] > PAUSE
        last = i + 1 == len(notes) or notes[i + 1][0] - end > PAUSE
        out.append(Sung(round(start * FRAMES_PER_S), round(end * FRAMES_PER_S), pitch, velocity, first, last))
    return out


def pitch_curve(rng: np.random.Generator, notes: list[Sung], frames: int) -> Floats:
    """Pitch (frames,) as MIDI note numbers."""
    steps = np.full(frames, float(notes[0].pitch if notes else 60), np.float32)
    ornaments = np.zeros(frames, np.float32)
    at = np.arange(frames) / FRAMES_PER_S
    depth, rate, wait = rng.uniform(0.1, 0.55), rng.uniform(4.5, 6.5), rng.uniform(0.15, 0.4)
    scoops = rng.uniform(0.0, 0.6)
    for i, note in enumerate(notes):
        steps[note.begin :] = note.pitch + rng.normal(0, 0.06)
        if i and not note.first:  # a glide, for the most part before the new note's beat
            glide = int(rng.uniform(12, 24))
            a = max(note.begin - int(0.7 * glide), notes[i - 1].begin + 2)
            b = min(note.begin + int(0.3 * glide), note.end - 1)
            steps[a:b] = steps[a - 1] + (steps[note.begin] - steps[a - 1]) * _ease(b - a)
        elif rng.random() < scoops:
            length = min(int(rng.uniform(14, 30)), (note.end - note.begin) // 2)
            ornaments[note.begin : note.begin + length] -= rng.uniform(0.5, 2.0) * (1 - _ease(length))
        long = (note.end - note.begin) / FRAMES_PER_S
        if long > wait + 0.2:
            span = slice(note.begin, note.end)
            t = at[span] - at[note.begin]
            grown = np.clip((t - wait) / rng.uniform(0.3, 0.8), 0, 1)
            turns = rate * rng.uniform(0.94, 1.06) * t * (1 + 0.03 * t)
            ornaments[span] += depth * rng.uniform(0.6, 1.3) * grown * np.sin(2 * np.pi * turns)
        if note.last and long > 0.3 and rng.random() < 0.25:  # lets the pitch fall at the end
            length = int(rng.uniform(10, 24))
            ornaments[note.end - length : note.end] -= rng.uniform(0.5, 2.5) * np.linspace(0, 1, length) ** 2
    drift = gaussian_filter1d(rng.standard_normal(frames), 40) * np.sqrt(2 * np.sqrt(np.pi) * 40) * 0.08
    jitter = gaussian_filter1d(rng.standard_normal(frames), 2) * 0.05
    return (steps + ornaments + drift + jitter).astype(np.float32)


def _ease(count: int) -> Floats:
    """From 0 to 1 along half a cosine, (count,)."""
    return (0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / max(count, 1))).astype(np.float32)


def loudness_db(rng: np.random.Generator, notes: list[Sung], frames: int) -> Floats:
    """Level (frames,) in dB around 0: arcs over phrases, higher is louder, long notes swell or fade."""
    level = np.zeros(frames, np.float32)
    middle = float(np.mean([n.pitch for n in notes])) if notes else 60.0
    slope, arc, i = rng.uniform(0.0, 0.4), rng.uniform(0.0, 4.0), 0
    while i < len(notes):
        last = next(k for k in range(i, len(notes)) if notes[k].last)
        begin, end, phrase = notes[i].begin, notes[last].end, rng.normal(0, 1.5)
        for note in notes[i : last + 1]:
            span = np.arange(note.begin, min(note.end, frames))
            where = (span - begin) / max(end - begin, 1)
            within = (span - note.begin) / max(note.end - note.begin, 1)
            level[span] = phrase + slope * np.clip(note.pitch - middle, -10, 10) + rng.normal(0, 1.0)
            level[span] += (note.velocity - 90) / 20 + arc * (np.sin(np.pi * np.clip(where, 0, 1)) - 0.7)
            level[span] += rng.uniform(-3, 1.5) * within
        i = last + 1
    return gaussian_filter1d(level, 6).astype(np.float32)


def breaths(rng: np.random.Generator, notes: list[Sung]) -> list[tuple[int, int]]:
    """Begin and end of the breaths taken before phrases."""
    found, free = [], 0
    for note in notes:
        length, ahead = int(rng.uniform(40, 100)), int(rng.uniform(20, 45))
        if note.first and rng.random() < 0.7 and note.begin - ahead - length > free + 8:
            found.append((note.begin - ahead - length, note.begin - ahead))
        free = note.end
    return found


def backing(rng: np.random.Generator, notes: list[Sung]) -> list[Sung]:
    """A second voice to some phrases of a melody: a third above in its scale, or an octave away."""
    if not notes:
        return []
    heard = np.bincount([n.pitch % 12 for n in notes], [n.end - n.begin for n in notes], 12)
    scale = sorted(np.argsort(-heard, kind="stable")[:7].tolist())
    steps = int(rng.choice([2, 2, 2, -3, 7, -7]))
    out, on = [], False
    for note in notes:
        on = rng.random() < 0.6 if note.first else on
        if on:
            ladder = [p for p in range(24, 110) if p % 12 in scale or p == note.pitch]
            pitch = ladder[ladder.index(note.pitch) + steps]
            shift = int(rng.integers(-2, 5))
            out.append(Sung(max(note.begin + shift, 0), note.end + shift, pitch, note.velocity, note.first, note.last))
    return out
