"""The MIR-1K protocol: trained on the singers abjones and amy alone, tested on all others, mixed at 0 dB.

The dev songs among the others (`rtsep.training.data.sources.is_dev`) are there to choose by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

from rtsep.dsp.windows import asymmetric_pair
from rtsep.errors import UsageError
from rtsep.training.data.augment import HOP, WINDOW, tilt
from rtsep.training.data.sources import CACHE_RATE, Clip, decode, is_dev
from rtsep.training.nets.narrow import BINS

SINGERS = ("abjones", "amy")
STREAM_RATE = 44100
HALF_RATE = STREAM_RATE // 2  # at half of the rate, window and hop the first bins are the same
_WINDOW, _HOP = WINDOW // 2, HOP // 2

Floats = NDArray[np.float32]
Infer = Callable[[Floats], Floats]
"""Magnitudes (T, F) of a whole stream to masks (T, F)."""


def singer_of(song: str) -> str:
    """Who sings a song of the pack, ``mir1k_SINGER_NUMBER``."""
    return song.split("_")[1] if song.count("_") > 1 else ""


def pairs(data: Path, cache: Path, wanted: Callable[[str, Path], bool]) -> Iterator[tuple[Clip, Clip]]:
    """Voice and accompaniment of the songs for which `wanted` (singer, file of the voice) holds."""
    for song in sorted((data / "paired16k").glob("mir1k_*")):
        if wanted(singer_of(song.name), song / "vocals.opus"):
            voice, music = (decode(song / f"{part}.opus", cache, data) for part in ("vocals", "accompaniment"))
            yield Clip(song.name, "mir1k", True, voice), Clip(song.name, "mir1k", True, music)


@dataclass(frozen=True, slots=True)
class Song:
    """Two parts (frames,) at `STREAM_RATE` whose sum is the mixture."""

    name: str
    vocals: Floats
    accompaniment: Floats


def dev_songs(data: Path, cache: Path, seconds: float = 20.0) -> Iterator[Song]:
    """So many seconds of the middle of each dev song."""
    for voice, music in pairs(data, cache, lambda _, path: is_dev(path)):
        frames = min(voice.frames, int(seconds * CACHE_RATE))
        start = (voice.frames - frames) // 2
        parts = (resampled(clip.read(start, frames), CACHE_RATE, STREAM_RATE) for clip in (voice, music))
        yield Song(voice.name, *parts)


def resampled(sound: Floats, rate: int, to: int) -> Floats:
    """Sound at another rate."""
    step = np.gcd(rate, to)
    return signal.resample_poly(sound, to // step, rate // step).astype(np.float32)


class Mir1kMixer:
    """Batches of the training songs, addressed by step: the same for the same seed and settings.

    Parameters
    ----------
    songs : list of (Clip, Clip)
        Voice and accompaniment.
    seed : int
    frames : int
        Of a sequence, with those before the first that has a target.
    sequences : int
        Of a batch.
    shift : bool
        Shift half of the voices against their own accompaniment, around the end of the song: the source's augmentation.
    speed : float
        Tape speed of the two parts, from ``1 / (1 + speed)`` to ``1 + speed``; ours: it makes other singers.
    equalize : float
        Spread in dB of a smooth curve over the bins of each part; ours: it makes other singers and instruments.

    Raises
    ------
    UsageError
        If there are no songs.
    """

    def __init__(
        self,
        songs: list[tuple[Clip, Clip]],
        *,
        seed: int,
        frames: int,
        sequences: int,
        shift: bool = False,
        speed: float = 0.0,
        equalize: float = 0.0,
    ) -> None:
        if not songs:
            raise UsageError(f"no songs of {' or '.join(SINGERS)}: wanted paired16k/mir1k_{SINGERS[0]}_*/vocals.opus")
        self.songs, self.seed, self.sequences = songs, seed, sequences
        self.shift, self.speed, self.equalize = shift, speed, equalize
        self.octaves = np.log2((np.arange(BINS) + 1) / 32)
        length = fft.next_fast_len((frames - 1) * _HOP + _WINDOW, real=True)
        self.frames, self.length = frames, length + length % 2
        self.window = asymmetric_pair(_WINDOW, _HOP)[0].astype(np.float32)
        weights = np.array([voice.frames for voice, _ in songs], np.float64)
        self.chances = weights / weights.sum()

    def batch(self, step: int) -> dict[str, Floats]:
        """Magnitudes of the mixture, start (level, weight); mixture, voice and music over the level of the sequence."""
        rng = np.random.default_rng([self.seed, step])
        rows = [self._row(rng) for _ in range(self.sequences)]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _row(self, rng: np.random.Generator) -> dict[str, Floats]:
        voice, music = self.songs[rng.choice(len(self.songs), p=self.chances)]
        begin = int(rng.integers(music.frames))
        shifted = self.shift and rng.random() < 0.5
        offset = int(rng.integers(voice.frames)) if shifted else 0
        own = rng.uniform(-1, 1, 2) if shifted else np.full(2, rng.uniform(-1, 1))
        v = self._spectra(voice, begin + offset, (1 + self.speed) ** own[0])
        a = self._spectra(music, begin, (1 + self.speed) ** own[1])
        if self.equalize:
            v, a = v * self._curve(rng), a * self._curve(rng)
        x = v + a
        scale = np.float32((np.abs(x) * tilt()[:BINS]).mean() + 1e-9)
        level = np.float32(10 ** rng.uniform(-1.5, 0.7))  # of the mean tilted magnitude; the stream's is about 1
        start = np.zeros(2, np.float32)
        if rng.random() < 0.7:
            start[:] = level * 10 ** (rng.normal(0, 3) / 20), 1.0
        over = {"mixture": np.abs(x), "voice": np.abs(v), "music": np.abs(a)}
        return {"magnitude": np.abs(x) * (level / scale), "start": start} | {k: m / scale for k, m in over.items()}

    def _curve(self, rng: np.random.Generator) -> Floats:
        """Gain of each bin: three bumps."""
        places, widths = rng.uniform(-4, 3.5, (3, 1)), rng.uniform(0.4, 1.5, (3, 1))
        bumps = rng.normal(0, self.equalize, (3, 1)) * np.exp(-0.5 * ((self.octaves - places) / widths) ** 2)
        gain: Floats = (10 ** (bumps.sum(0) / 20)).astype(np.float32)
        return gain

    def _spectra(self, clip: Clip, begin: int, speed: float) -> NDArray[np.complex64]:
        """Spectra (T, F) from a place of a song on, around its end, at another speed."""
        frames = fft.next_fast_len(int(self.length * speed * CACHE_RATE / HALF_RATE), real=True)
        frames += frames % 2
        begin %= clip.frames
        sound = clip.read(begin, frames)
        short = begin + frames - clip.frames
        if short > 0:
            sound[-short:] = np.resize(clip.read(0, min(short, clip.frames)), short)
        spectrum = fft.rfft(sound)[: self.length // 2 + 1]
        half = fft.irfft(spectrum, self.length) * np.float32(self.length / frames)
        pieces = np.lib.stride_tricks.sliding_window_view(half.astype(np.float32), _WINDOW)[::_HOP][: self.frames]
        return fft.rfft(pieces * self.window, axis=-1)[:, :BINS]
