"""The sound to train on: which files there are, which of them are held out, and a decoded cache of them.

The folder is the layout of the data pack: ``paired/SONG/{vocals,accompaniment}.opus`` (true pairs),
``paired16k/SINGER_SONG/...`` (true pairs with nothing above 8 kHz), ``vocals/*.opus`` and the like in ``vocals16k``,
``accompaniment/*.opus``; for `rtsep.training.stems` also ``stems/SONG/{drums,bass,other}.opus`` and ``loops/*.opus``.
`is_validation` says what is held out for the final report; `is_dev` what is cut from the training data to choose
between variants, so that nothing is ever chosen on the validation songs.
"""

from __future__ import annotations

import fnmatch
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from rtsep.errors import UsageError

CACHE_RATE = 48000
CACHE_SCALE = 16384.0  # int16 of 1.0: leaves 6 dB for the many peaks above 1
NARROW_HZ = 8000.0  # content of a 16 kHz source
PACKAGED = "deb-"  # names of music out of packages begin so (`rtsep.training.data.packages`)

VALIDATION = (
    "*/paired/eir_rubidium/*",
    "*/paired16k/*annar_*/*",
    "*/paired16k/*tammy_*/*",
    "*/paired16k/*khair_*/*",
    "*/vocals/vocadito_1.*",
    "*/vocals/smstools_singing.*",
    "*/vocals/yuki_root_*",
    "*/accompaniment/mdn_multitrack.*",
    "*/accompaniment/neverball_track3.*",
    "*/accompaniment/digabi_hyde_acoustic.*",
    "*/accompaniment/opensurge_citychill.*",
    "*/accompaniment/abeast_incub.*",
    "*/accompaniment/xmoto_foxrun.*",
    "*/accompaniment/spd_city_tense.*",
    "*/accompaniment/kmacleod_gold_rush.*",
    "*/accompaniment/valyria_sad_moment.*",
    "*/stems/score_??9/*",
)
DEV = (
    "*/paired/eir_potassium/*",
    "*/paired16k/*bug_*/*",
    "*/paired16k/*davidson_*/*",
    "*/vocals/nitsong070_*",
    "*/vocals/erithacus_*",
    "*/vocals/kumi_core_a4_*",
    "*/accompaniment/abeast_road_to_victory.*",
    "*/accompaniment/neverball_track5.*",
    "*/accompaniment/digabi_acoustic_uplifting.*",
    "*/accompaniment/opensurge_sunshine.*",
    "*/accompaniment/pixelwheels_menu.*",
    "*/accompaniment/openclonk_Offshore.*",
    "*/accompaniment/valyria_Caketown_1*",
    "*/accompaniment/yorg_chance.*",
    "*/stems/score_??8/*",
)
DEV_COVERS = ("*/cover_eir_potassium_*", "*/cover_*bug_*", "*/cover_*davidson_*")
"""Covers of dev vocals (`rtsep.training.data.covers`): whoever is trained on them knows those songs."""


def _matches(path: str | Path, patterns: tuple[str, ...]) -> bool:
    text = "/" + Path(path).as_posix()
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def is_validation(path: str | Path) -> bool:
    """Whether a file of the pack is held out for validation: never to be trained on, nor to choose anything by."""
    return _matches(path, VALIDATION)


def is_dev(path: str | Path) -> bool:
    """Whether a training file is kept aside to compare variants with."""
    return _matches(path, DEV) and not is_validation(path)


def is_new(path: str | Path) -> bool:
    """Whether a file tells a training nothing of validation and dev songs, by covers of them neither."""
    return not (is_validation(path) or is_dev(path) or _matches(path, DEV_COVERS))


@dataclass(frozen=True, slots=True)
class Clip:
    """One decoded file: mean of the channels and half their difference, int16 (1 or 2, frames), memory-mapped."""

    name: str
    group: str
    narrow: bool
    sound: NDArray[np.int16]

    @property
    def frames(self) -> int:
        """Length at `CACHE_RATE`."""
        return int(self.sound.shape[1])

    def read(self, start: int, frames: int, side: float = 0.0) -> NDArray[np.float32]:
        """``mid + side * side`` channel as mono float32, shape (frames,); silence outside the file."""
        out = np.zeros(frames, np.float32)
        begin, end = max(start, 0), min(start + frames, self.frames)
        if end > begin:
            part = self.sound[0, begin:end].astype(np.float32)
            if side and self.sound.shape[0] > 1:
                part += np.float32(side) * self.sound[1, begin:end]
            out[begin - start : end - start] = part / CACHE_SCALE
        return out

    def read_channels(self, start: int, frames: int) -> NDArray[np.float32]:
        """The channels as they were, shape (1 or 2, frames)."""
        rows = [self.read(start, frames, side) for side in ((1.0, -1.0) if self.sound.shape[0] > 1 else (0.0,))]
        return np.stack(rows)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Voices, accompaniments and true pairs (voice, accompaniment) of one split."""

    voices: list[Clip]
    accompaniments: list[Clip]
    pairs: list[tuple[Clip, Clip]]


def decode(path: Path, cache: Path, root: Path) -> NDArray[np.int16]:
    """Mid (and side) of a file as int16 at `CACHE_RATE`, through a file in `cache` made at the first call."""
    target = cache / path.relative_to(root).with_suffix(".npy")
    if not target.exists():
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        if rate != CACHE_RATE:
            import samplerate

            sound = samplerate.resample(sound, CACHE_RATE / rate, "sinc_medium").reshape(-1, sound.shape[1])
        left, right = sound[:, 0], sound[:, -1]
        rows = [0.5 * (left + right)]
        if sound.shape[1] > 1 and np.abs(left - right).max() > 1e-3:
            rows.append(0.5 * (left - right))
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(f".{os.getpid()}.part.npy")  # another training may decode it, too
        np.save(part, np.clip(np.rint(np.stack(rows) * CACHE_SCALE), -32768, 32767).astype(np.int16))
        part.replace(target)
    return np.load(target, mmap_mode="r")


def load(data: Path, cache: Path, split: str = "train") -> Corpus:
    """The corpus of a `split` (train, dev, all_train or validation), decoding what the cache lacks.

    Raises
    ------
    UsageError
        If `data` holds no such sound.
    """
    keep = {
        "train": is_new,
        "dev": is_dev,
        "all_train": lambda p: not is_validation(p),
        "validation": is_validation,
    }[split]

    def clip(path: Path) -> Clip:
        name = path.stem if path.parent.name in {"vocals", "vocals16k", "accompaniment"} else path.parent.name
        narrow = path.relative_to(data).parts[0].endswith("16k")
        return Clip(name, name.split("_")[0], narrow, decode(path, cache, data))

    pairs = [
        (clip(song / "vocals.opus"), clip(song / "accompaniment.opus"))
        for folder in ("paired", "paired16k")
        for song in sorted((data / folder).glob("*"))
        if keep(song / "vocals.opus")
    ]
    voices = [
        clip(path)
        for folder in ("vocals", "vocals16k")
        for path in sorted((data / folder).glob("*.opus"))
        if keep(path)
    ]
    accompaniments = [clip(path) for path in sorted((data / "accompaniment").glob("*.opus")) if keep(path)]
    if not (pairs or (voices and accompaniments)):
        raise UsageError(
            f"no {split} sound in {data}: wanted paired/*/vocals.opus, vocals/*.opus and accompaniment/*.opus"
        )
    return Corpus(voices, accompaniments, pairs)
