"""The shipped koretzky: small, whole, readable by the host, and quiet in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtsep.separators.onnx import OnnxSeparator
from rtsep.spec import StreamSpec

FOLDER = Path(__file__).parents[2] / "models" / "koretzky"


@pytest.fixture(scope="module")
def separator() -> OnnxSeparator:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'rtsep[cpu]'")
    separator = OnnxSeparator(FOLDER, device="cpu")
    separator.prepare(StreamSpec(samplerate=44100, channels=2, hop=512))
    return separator


def test_files():
    assert {path.name for path in FOLDER.iterdir()} == {"model.onnx", "manifest.toml", "CARD.md"}
    assert all(path.stat().st_size < 4_000_000 for path in FOLDER.iterdir())


@pytest.mark.parametrize("samplerate", [44100, 48000])
def test_both_rates(samplerate: int):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'rtsep[cpu]'")
    OnnxSeparator(FOLDER, device="cpu").prepare(StreamSpec(samplerate=samplerate, channels=1, hop=512))


def test_silence_and_damage_do_no_lasting_harm(separator: OnnxSeparator):
    rng = np.random.default_rng(0)
    mask = np.zeros((separator.mask_rows(2), 1025), np.float32)
    quiet = np.zeros((2, 1025), np.complex64)
    loud = (rng.standard_normal((2, 1025)) * 30).astype(np.complex64)
    separator.reset()
    for spectrum in [quiet] * 30 + [loud] * 30 + [loud * np.nan] * 2 + [quiet] * 30:
        separator.process(spectrum, mask)
        assert np.isfinite(mask).all()
        assert mask.min() >= 0
        assert mask.max() <= 1


def _notes(pitches: tuple[float, ...]) -> np.ndarray:
    """Plucked strings, a note every half second, 4 s."""
    u = np.arange(22050) / 44100
    envelope = np.exp(-1.5 * u) * np.minimum(1, u / 0.01)
    notes = [sum(np.sin(2 * np.pi * hz * k * u) / k for k in range(1, 12)) * envelope for hz in pitches]
    return np.concatenate([notes[i % len(notes)] for i in range(8)])


def test_it_tells_stems_apart(separator: OnnxSeparator):
    from rtsep.engine.offline import split_stems

    t = np.arange(4 * 44100) / 44100
    sounds = {
        "bass": 0.3 * _notes((55.0, 65.4, 82.4, 73.4)),
        "drums": 0.3 * np.random.default_rng(3).standard_normal(len(t)) * np.exp(-40 * (t % 0.5)),
        "other": 0.08 * sum(_notes((hz,)) for hz in (261.6, 329.6, 392.0, 523.3)),
    }
    for part, sound in sounds.items():
        found = split_stems(separator, np.stack([sound, sound]).astype(np.float32), 44100)
        energy = {name: float((stem[:, 44100:] ** 2).sum()) for name, stem in found.items()}
        assert energy[part] > 0.7 * sum(energy.values()), (part, energy)


def test_the_playing_level_does_not_matter(separator: OnnxSeparator):
    rng = np.random.default_rng(1)
    frames = rng.standard_normal((40, 2, 1025)) * np.geomspace(30, 0.3, 1025)
    masks = []
    for gain in (1.0, 0.03):
        separator.reset()
        mask = np.zeros((separator.mask_rows(2), 1025), np.float32)
        for frame in frames:
            separator.process((frame * gain).astype(np.complex64), mask)
        masks.append(mask)
    np.testing.assert_allclose(masks[0], masks[1], atol=0.02)
