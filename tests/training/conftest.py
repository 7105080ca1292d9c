"""A little synthetic corpus in the layout of the data pack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 48000


def _voice(rng: np.random.Generator, seconds: float, hz: float) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(hz * (1 + 0.01 * np.sin(2 * np.pi * 5 * t))) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 20))
    return 0.1 * tone * (np.sin(2 * np.pi * 0.4 * t + rng.uniform(0, 6)) > -0.5)


def _music(rng: np.random.Generator, seconds: float) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    chord = sum(np.sin(2 * np.pi * hz * t) for hz in rng.uniform(60, 400, 3))
    drums = rng.standard_normal(len(t)) * np.exp(-30 * (t % 0.5))
    return 0.05 * chord + 0.1 * drums


def write_corpus(root: Path, seconds: float = 8.0) -> Path:
    """Two splits with pairs, dry voices and accompaniments."""
    rng = np.random.default_rng(0)
    for song in ("paired/eir_a", "paired/eir_potassium", "paired16k/mir1k_x_1", "paired16k/mir1k_bug_1"):
        folder = root / song
        folder.mkdir(parents=True)
        soundfile.write(folder / "vocals.opus", _voice(rng, seconds, 220), RATE, format="OGG", subtype="OPUS")
        soundfile.write(folder / "accompaniment.opus", _music(rng, seconds), RATE, format="OGG", subtype="OPUS")
    for kind in ("vocals", "accompaniment"):
        (root / kind).mkdir()
    for name, hz in (("bank_a", 200.0), ("erithacus_b", 300.0), ("yuki_root_00", 400.0)):
        soundfile.write(root / "vocals" / f"{name}.opus", _voice(rng, seconds, hz), RATE, format="OGG", subtype="OPUS")
    for name in ("band_a", "opensurge_sunshine", "mdn_multitrack"):
        stereo = np.stack([_music(rng, seconds), _music(rng, seconds)], 1)
        soundfile.write(root / "accompaniment" / f"{name}.opus", stereo, RATE, format="OGG", subtype="OPUS")
    return root


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the corpus, made once."""
    return write_corpus(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the decoded corpus."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def singers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One song each of the training singers, of a dev singer and of one that is neither."""
    root, rng = tmp_path_factory.mktemp("mir1k"), np.random.default_rng(5)
    for name, hz in (("abjones_1", 150.0), ("amy_1", 300.0), ("bug_1", 220.0), ("annar_1", 180.0)):
        folder = root / "paired16k" / f"mir1k_{name}"
        folder.mkdir(parents=True)
        for part, sound in (("vocals", _voice(rng, 4, hz)), ("accompaniment", _music(rng, 4))):
            soundfile.write(folder / f"{part}.opus", sound, RATE, format="OGG", subtype="OPUS")
    return root
