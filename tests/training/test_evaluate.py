"""The offline transform of the scores is exact, and the scores are what their formulas say."""

from __future__ import annotations

import numpy as np
import pytest

from rtsep.training.data.songs import Song
from rtsep.training.evaluate import BINS, resynthesize, score, spectra


def test_transform_is_exact():
    rng = np.random.default_rng(0)
    for frames in (700, 5000, 512 * 20):
        sound = rng.standard_normal(frames).astype(np.float32)
        np.testing.assert_allclose(resynthesize(spectra(sound), frames), sound, atol=1e-5)


def test_frame_ends_at_its_hop():
    sound = np.zeros(4096, np.float32)
    sound[512] = 1  # the first sample of the second hop
    energy = (np.abs(spectra(sound)) ** 2).sum(1)
    assert energy[0] == 0
    assert energy[1] > 0


@pytest.mark.parametrize("lookahead", [0, 3])
def test_oracle_mask_scores_high(lookahead: int):
    rng = np.random.default_rng(0)
    t = np.arange(48000) / 48000
    voice = (0.3 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)[None]
    noise = (0.05 * rng.standard_normal(48000)).astype(np.float32)[None]

    def infer(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        best = np.abs(spectra(voice[0])[:, :BINS]) / np.maximum(magnitude, 1e-9)
        best = np.clip(best, 0, 1)
        return np.roll(best, lookahead, axis=0), np.ones(len(magnitude), np.float32)

    got = score(Song("x", "wide", voice, noise, 0.2), infer, lookahead)
    assert got.vocals_gain > 8
    assert got.vad > 0.9
