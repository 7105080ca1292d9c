"""The songs that a net is scored on: true mixtures, and fixed mash-ups of parts that training never sees.

The same recipe makes the validation songs (for the final report only) and the dev songs (to choose by). A mash-up
stands for a mixture that nobody has: it keeps a recording of a voice and one of a band at a fixed balance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtsep.training.data.augment import loud_level
from rtsep.training.data.sources import CACHE_RATE, Clip, Corpus, load

MASHUP_SECONDS = 25.0
MASHUP_BALANCE_DB = -3.0  # voice against accompaniment, RMS over the excerpt
RAISED_DB = 10.0  # a voice buried by more than this is scored a second time, raised by as much


@dataclass(frozen=True, slots=True)
class Song:
    """A mixture with known parts at `CACHE_RATE`; vocals + accompaniment is the mixture."""

    name: str
    kind: str  # "wide", "mashup" or "mir1k"
    vocals: NDArray[np.float32]  # (channels, frames)
    accompaniment: NDArray[np.float32]  # the same shape
    loud: float  # RMS of the loud frames of the voice


def _read(clip: Clip, start: int, frames: int, stereo: bool) -> NDArray[np.float32]:
    """Sound of shape (channels, frames): as recorded with `stereo`, else the mean of the channels."""
    return clip.read_channels(start, frames) if stereo else clip.read(start, frames)[None]


def _as_wide(sound: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.broadcast_to(sound, (max(len(sound), len(other)), sound.shape[1])).copy()


def pair_songs(corpus: Corpus, seconds: float | None = None, stereo: bool = False) -> Iterator[Song]:
    """The true mixtures of a split, or `seconds` from the middle of each."""
    for voice, music in corpus.pairs:
        frames = voice.frames if seconds is None else min(voice.frames, int(seconds * CACHE_RATE))
        start = (voice.frames - frames) // 2
        v, a = _read(voice, start, frames, stereo), _read(music, start, frames, stereo)
        v, a = _as_wide(v, a), _as_wide(a, v)
        kind, loud = "mir1k" if voice.narrow else "wide", loud_level(voice)
        yield Song(voice.name, kind, v, a, loud)
        up = 10 ** (RAISED_DB / 20)
        if (v**2).sum() * up**2 < (a**2).sum():
            yield Song(f"{voice.name} +{RAISED_DB:g} dB", kind, v * np.float32(up), a, loud * up)


def mashup_songs(corpus: Corpus, per_accompaniment: int = 2, stereo: bool = False) -> Iterator[Song]:
    """Fixed mash-ups of the voices (dry ones, and the voices of wide true pairs) on the accompaniments."""
    voices = [clip for clip in corpus.voices if not clip.name.endswith("_01")]
    voices += [pair[0] for pair in corpus.pairs if not pair[0].narrow]
    for i, music in enumerate(corpus.accompaniments):
        for j in range(per_accompaniment):
            voice = voices[(i + 2 * j) % len(voices)]
            frames = min(int(MASHUP_SECONDS * CACHE_RATE), voice.frames, music.frames)
            v = _read(voice, (voice.frames - frames) // 3, frames, stereo)
            a = _read(music, (music.frames - frames) // 2, frames, stereo)
            v, a = _as_wide(v, a), _as_wide(a, v)
            gain = np.sqrt((a**2).mean() / ((v**2).mean() + 1e-12)) * 10 ** (MASHUP_BALANCE_DB / 20)
            peak = max(float(np.abs(gain * v + a).max()), 1.0)  # as a file would hold it, unclipped
            gain = float(gain) / peak
            name = f"{voice.name} x {music.name}"
            yield Song(name, "mashup", v * np.float32(gain), a / np.float32(peak), loud_level(voice) * gain)


def songs(data: Path, cache: Path, split: str, seconds: float | None = None, stereo: bool = False) -> Iterator[Song]:
    """All songs of a split ("dev" or "validation").

    Parameters
    ----------
    data, cache : Path
        As in `rtsep.training.data.sources.load`.
    split : str
    seconds : float, optional
        Only so much of the middle of each true mixture.
    stereo : bool
        Keep two channels where a part of the mixture has them.
    """
    corpus = load(data, cache, split)
    yield from pair_songs(corpus, seconds, stereo)
    yield from mashup_songs(corpus, stereo=stereo)
