"""Songs made up for the tests: a gliding voice in the middle, chords and noise at the sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16000


def make(seed: int, seconds: float = 5.0, rate: int = RATE) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Voice and accompaniment, shape (2, frames)."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    t = np.arange(n) / rate
    phase = 2 * np.pi * np.cumsum(220 + 30 * seed + 15 * np.sin(2 * np.pi * 5 * t)) / rate
    sung = sum(np.sin(k * phase) / k for k in range(1, 9)) * (np.sin(2 * np.pi * 0.6 * t + seed) > -0.5)
    voice = np.stack([sung, sung]) * 0.1
    chord = np.stack([sum(np.sin(2 * np.pi * f * d * t + seed) for f in (131, 330, 392)) for d in (1.0, 1.004)])
    band = 0.05 * chord * np.array([[0.5 + 0.2 * seed], [1.0]]) + 0.01 * rng.standard_normal((2, n))
    return voice.astype(np.float32), band.astype(np.float32)


def write(path: Path, sound: NDArray[np.floating], rate: int = RATE) -> None:
    """Write sound (channels, frames) as float32 WAV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound.T, rate, subtype="FLOAT")


def write_song(folder: Path, seed: int, seconds: float = 5.0) -> None:
    """A folder with vocals.wav and accompaniment.wav."""
    voice, band = make(seed, seconds)
    write(folder / "vocals.wav", voice)
    write(folder / "accompaniment.wav", band)
