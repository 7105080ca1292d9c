"""The ceilings against a computation of their own, in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from rtsep.engine.offline import split
from rtsep.evaluation.oracles import Oracle
from rtsep.evaluation.scores import sdr_gain

from . import songs

WINDOW = 2048


def by_hand(kind: str, voice: np.ndarray, band: np.ndarray, hop: int) -> np.ndarray:
    """Masked voice of one channel, (frames,), in float64: frame by frame, with the windows as they are defined."""
    rise = WINDOW - hop
    analysis = np.concatenate([np.sin(np.pi / 2 * np.arange(rise) / rise), np.cos(np.pi / 2 * np.arange(hop) / hop)])
    newest = np.arange(WINDOW - 2 * hop, WINDOW)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2 * hop) / (2 * hop))
    weights = np.divide(hann, analysis[newest], out=np.zeros(2 * hop), where=analysis[newest] > 1e-9)
    n = len(voice)
    padded = [np.concatenate([np.zeros(WINDOW), sound.astype(float), np.zeros(WINDOW)]) for sound in (voice, band)]
    out = np.zeros(n + 2 * WINDOW)
    for end in range(WINDOW + hop, WINDOW + n + 2 * hop, hop):
        v, a = (np.fft.rfft(analysis * sound[end - WINDOW : end]) for sound in padded)
        power_v, power_a = abs(v) ** 2, abs(a) ** 2
        mask = power_v > power_a if kind == "ibm" else power_v / np.maximum(power_v + power_a, 1e-30)
        out[end - 2 * hop : end] += weights * np.fft.irfft(mask * (v + a))[-2 * hop :]
    return out[WINDOW : WINDOW + n]


@pytest.mark.parametrize("hop", [128, 256, 512])
@pytest.mark.parametrize("kind", ["irm", "ibm"])
def test_equals_an_independent_computation(kind: str, hop: int) -> None:
    voice, band = songs.make(1, 1.5)
    found, _ = split(Oracle(kind, voice, band), voice + band, songs.RATE, hop)
    wanted = np.stack([by_hand(kind, voice[c], band[c], hop) for c in (0, 1)])
    gains = [sdr_gain(voice, estimate, voice + band) for estimate in (found, wanted)]
    assert gains[0] == pytest.approx(gains[1], abs=0.01)
    assert gains[0] > 5
    if kind == "irm":
        np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize("kind", ["irm", "ibm"])
def test_one_part_alone(kind: str) -> None:
    voice, _ = songs.make(0, 1.0)
    silence = np.zeros_like(voice)
    np.testing.assert_allclose(split(Oracle(kind, voice, silence), voice, songs.RATE)[0], voice, atol=1e-6)
    np.testing.assert_allclose(split(Oracle(kind, silence, voice), voice, songs.RATE)[0], 0, atol=1e-6)
