"""Mixtures for the head that divides the accompaniment: drums, bass and the rest of songs made from scores, and voices.

The folder of the sound holds ``stems/score_NAME/{drums,bass,other}.opus`` (`rtsep.training.data.scores --stems`) beside
voices and pairs; loops of drums in ``loops/`` take the place of the drums now and then.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtsep.errors import UsageError
from rtsep.training.data.augment import CONTEXT, WINDOW, Floats, Mixer, stft, tilt
from rtsep.training.data.sources import CACHE_RATE, Clip, Corpus, decode, is_dev, is_new, is_validation
from rtsep.training.nets.stems import NAMES

#: Loops of Sonic Pi that hold nothing but drums.
LOOPS = (
    *("amen", "amen_full", "breakbeat", "electric", "industrial"),
    *("mehackit1", "mehackit2", "perc1", "perc2", "tabla"),
)
#: A loop is repeated to at least so many seconds.
LOOPED_S = 12.0


@dataclass(frozen=True, slots=True)
class StemSong:
    """An accompaniment whose parts are apart and add up to it."""

    name: str
    parts: tuple[Clip, Clip, Clip]  # in the order of `NAMES`


def stem_songs(data: Path, cache: Path, split: str) -> list[StemSong]:
    """The songs of a split: train, dev or validation.

    Raises
    ------
    UsageError
        If `data` holds none.
    """
    keep = {"dev": is_dev, "validation": is_validation}.get(split, is_new)
    found = []
    for folder in sorted((data / "stems").glob("*")):
        paths = [folder / f"{name}.opus" for name in NAMES]
        if all(path.is_file() for path in paths) and keep(paths[0]):
            drums, bass, other = (Clip(folder.name, "stems", False, decode(path, cache, data)) for path in paths)
            found.append(StemSong(folder.name, (drums, bass, other)))
    if not found:
        raise UsageError(
            f"no {split} sound in {data}/stems: wanted SONG/{{{','.join(NAMES)}}}.opus "
            "(python -m rtsep.training.data.scores pop909.zip DATA/stems --stems)"
        )
    return found


def drum_loops(data: Path, cache: Path) -> list[Clip]:
    """The loops that `data` has, repeated."""
    found = []
    for name in LOOPS:
        path = data / "loops" / f"sonicpi_loop_{name}.opus"
        if path.is_file():
            sound = decode(path, cache, data)
            times = -(-int(LOOPED_S * CACHE_RATE) // sound.shape[1])
            found.append(Clip(path.stem, "loops", False, np.tile(sound, (1, times))))
    return found


class StemMixer(Mixer):
    """Batches of mixtures with known stems, addressed by step.

    Parameters
    ----------
    corpus : Corpus
        Its voices are sung on top.
    songs, loops : list
        Of `stem_songs` and `drum_loops`.
    seed, frames, sources, rolls, lookahead
        As for `Mixer`: roll 0 keeps the parts of a song together, the others put those of three songs together.
    """

    def __init__(
        self,
        corpus: Corpus,
        songs: list[StemSong],
        loops: list[Clip],
        *,
        seed: int,
        frames: int,
        sources: int,
        rolls: int,
        lookahead: int = 0,
    ) -> None:
        super().__init__(corpus, seed=seed, frames=frames, sources=sources, rolls=rolls, lookahead=lookahead)
        self.songs, self.loops = songs, loops

    def stems_batch(self, step: int) -> dict[str, Floats]:
        """Arrays of a step: the same for the same seed, corpus and sizes.

        Returns
        -------
        dict of str to ndarray
            ``magnitude`` (B, T, F) of the mixture, ``start`` (B, 2) as in `Batch`, ``cross`` (B, T', 3, F), which is
            Re(S X*) of each part S of the accompaniment, and its energy ``energy`` (B, 3) over the T' frames.
        """
        rng = np.random.default_rng([self.seed, step])
        sounds = [self._song(rng) for _ in range(self.sources)]
        parts = np.stack([[stft(part, self.window)[: self.total] for part in song] for song in sounds])
        voices = np.stack([stft(self._voice(rng), self.window)[: self.total] for _ in range(self.sources)])
        rolls = [self._put_together(rng, parts, voices, roll) for roll in range(self.rolls)]
        return {name: np.concatenate([found[name] for found in rolls]) for name in rolls[0]}

    def _song(self, rng: np.random.Generator) -> list[Floats]:
        """The three parts of an excerpt, each (length,), equalized each for itself."""
        song = self.songs[rng.integers(len(self.songs))]
        frames = self._crop_frames(rng)
        start = self._start(rng, song.parts[0], frames, 0.7)
        side = rng.uniform(-1, 1) if rng.random() < 0.3 else 0.0
        clips, starts = list(song.parts), [start] * len(NAMES)
        if self.loops and rng.random() < 0.2:
            clips[0] = self.loops[rng.integers(len(self.loops))]
            starts[0] = int(rng.integers(max(clips[0].frames - frames, 1)))
        return [
            self._process(rng, clip.read(at, frames, side), voice=False)[0]
            for clip, at in zip(clips, starts, strict=True)
        ]

    def _voice(self, rng: np.random.Generator) -> Floats:
        clip: Clip = self._pick(rng, self.voices)
        frames = self._crop_frames(rng, 0.68, 1.4)
        sound = self._process(rng, clip.read(self._start(rng, clip, frames, 0.9), frames), voice=True)[0]
        return self._rests(rng, sound)

    def _put_together(
        self, rng: np.random.Generator, parts: NDArray[np.complex64], voices: NDArray[np.complex64], roll: int
    ) -> dict[str, Floats]:
        n = self.sources
        chosen = np.stack([parts[np.roll(np.arange(n), roll * k), k] for k in range(len(NAMES))], 1)
        gain = 10 ** (rng.normal(0, 4.0, (n, len(NAMES))) / 20) * (rng.random((n, len(NAMES))) > 0.07)
        chosen = chosen * gain.astype(np.float32)[:, :, None, None]
        music = chosen.sum(1)
        voice = voices[np.roll(np.arange(n), -roll)]
        energies = [(np.abs(x) ** 2).mean((1, 2)) + 1e-12 for x in (voice, music)]
        balance = 10 ** (np.clip(rng.normal(-3.0, 5.0, n), -18, 12) / 20) * (rng.random(n) < 0.85)
        level = np.where(energies[0] > 1e-9, np.sqrt(energies[1] / energies[0]), 1.0) * balance
        mixture = music + voice * level.astype(np.float32)[:, None, None]
        rms = np.sqrt((np.abs(mixture) ** 2).mean((1, 2))) + 1e-9
        overall = (0.2 * np.sqrt(WINDOW) * 10 ** (rng.uniform(-40, 3, n) / 20) / rms).astype(np.float32)
        mixture, chosen = mixture * overall[:, None, None], chosen * overall[:, None, None, None]
        cut = slice(CONTEXT - 1 - self.lookahead, self.total - self.lookahead)
        seen, wanted = mixture[:, cut, None], chosen[:, :, cut].transpose(0, 2, 1, 3)
        magnitude = np.abs(mixture)
        mean = (magnitude * tilt()).mean((-1, -2))
        warm = (rng.random(n) < 0.7).astype(np.float32)
        start = np.stack([warm * mean * 10 ** (rng.normal(0, 4, n) / 20), warm], 1)
        return {
            "magnitude": magnitude.astype(np.float32),
            "start": start.astype(np.float32),
            "cross": (seen.real * wanted.real + seen.imag * wanted.imag).astype(np.float32),
            "energy": (np.abs(wanted) ** 2).sum((1, 3)).astype(np.float32),
        }
