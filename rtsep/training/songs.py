"""The songs that a net is scored on: true mixtures, and fixed mash-ups of parts that training never sees.

The same recipe makes the validation songs (for the final report only) and the dev songs (to choose by).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtsep.training.augment import loud_level
from rtsep.training.data import CACHE_RATE, Clip, Corpus, load

MASHUP_SECONDS = 25.0
MASHUP_BALANCE_DB = -3.0  # voice against accompaniment, RMS over the excerpt


@dataclass(frozen=True, slots=True)
class Song:
    """A mixture with known parts, mono (the nets see the mean of the channels) at `CACHE_RATE`."""

    name: str
    kind: str  # "wide", "mashup" or "mir1k"
    vocals: NDArray[np.float32]  # (1, frames)
    accompaniment: NDArray[np.float32]
    loud: float  # RMS of the loud frames of the voice


def _whole(clip: Clip) -> NDArray[np.float32]:
    return clip.read(0, clip.frames)[None]


def pair_songs(corpus: Corpus, limit_seconds: float | None = None) -> Iterator[Song]:
    """The true mixtures of a split; a wide one with a buried voice also with it raised by 10 dB."""
    for voice, music in corpus.pairs:
        v, a = _whole(voice), _whole(music)
        if limit_seconds is not None:
            start = max(0, (v.shape[1] - int(limit_seconds * CACHE_RATE)) // 2)
            stop = start + int(limit_seconds * CACHE_RATE)
            v, a = v[:, start:stop], a[:, start:stop]
        kind = "mir1k" if voice.narrow else "wide"
        loud = loud_level(voice)
        yield Song(voice.name, kind, v, a, loud)
        if kind == "wide" and (v**2).sum() * 10 < (a**2).sum():
            up = np.float32(10**0.5)
            yield Song(voice.name + "+10dB", kind, v * up, a, float(loud * up))


def mashup_songs(corpus: Corpus, per_accompaniment: int = 2) -> Iterator[Song]:
    """Fixed mash-ups of the voices (dry ones, and the voices of wide true pairs) on the accompaniments."""
    voices = [clip for clip in corpus.voices if not clip.name.endswith("_01")]
    voices += [pair[0] for pair in corpus.pairs if not pair[0].narrow]
    for i, music in enumerate(corpus.accompaniments):
        for j in range(per_accompaniment):
            voice = voices[(i + 2 * j) % len(voices)]
            frames = min(int(MASHUP_SECONDS * CACHE_RATE), voice.frames, music.frames)
            start = (voice.frames - frames) // 3
            v, a = voice.read(start, frames)[None], music.read((music.frames - frames) // 2, frames)[None]
            gain = np.sqrt((a**2).mean() / ((v**2).mean() + 1e-12)) * 10 ** (MASHUP_BALANCE_DB / 20)
            peak = max(np.abs(gain * v + a).max(), 1.0)  # as a file would hold it, unclipped
            v, a = (v * (gain / peak)).astype(np.float32), (a / peak).astype(np.float32)
            yield Song(f"{voice.name} x {music.name}", "mashup", v, a, loud_level(voice) * float(gain / peak))


def songs(data: Path, cache: Path, split: str, limit_seconds: float | None = None) -> Iterator[Song]:
    """All songs of a split ("dev" or "validation")."""
    corpus = load(data, cache, split)
    yield from pair_songs(corpus, limit_seconds)
    yield from mashup_songs(corpus)
