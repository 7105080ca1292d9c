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
    mask = np.zeros((2, 1025), np.float32)
    quiet = np.zeros((2, 1025), np.complex64)
    loud = (rng.standard_normal((2, 1025)) * 30).astype(np.complex64)
    separator.reset()
    for spectrum in [quiet] * 30 + [loud] * 30 + [loud * np.nan] * 2 + [quiet] * 30:
        separator.process(spectrum, mask)
        assert np.isfinite(mask).all()
        assert mask.min() >= 0
        assert mask.max() <= 1


def test_the_playing_level_does_not_matter(separator: OnnxSeparator):
    rng = np.random.default_rng(1)
    frames = rng.standard_normal((40, 2, 1025)) * np.geomspace(30, 0.3, 1025)
    masks = []
    for gain in (1.0, 0.03):
        separator.reset()
        mask = np.zeros((2, 1025), np.float32)
        for frame in frames:
            separator.process((frame * gain).astype(np.complex64), mask)
        masks.append(mask)
    np.testing.assert_allclose(masks[0], masks[1], atol=0.02)
