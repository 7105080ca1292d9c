"""The running ICA undoes an instantaneous mixture of two independent sounds."""

from __future__ import annotations

import numpy as np
import pytest

from rtsep.engine.offline import split
from rtsep.separators.registry import create
from tests.e2e.sound import sdr_db, song


@pytest.mark.parametrize("samplerate", [16000, 44100, 96000])
@pytest.mark.parametrize("hop", [64, 256, 1024])
def test_a_mixture_of_two_sounds_is_undone(hop: int, samplerate: int) -> None:
    voice, music = (part.mean(axis=0) for part in song(9.0))
    music *= np.sqrt((voice**2).mean() / (music**2).mean())
    vocals = np.stack([voice, 0.9 * voice]).astype(np.float32)
    band = np.stack([0.3 * music, music]).astype(np.float32)
    separator = create("ica")
    separator.params.set("bass", 0)
    separator.params.set("treble", 24000)
    got, rest = split(separator, vocals + band, samplerate, hop)
    settled = slice(4 * 48000, None)
    assert sdr_db(vocals[:, settled], got[:, settled]) > 15
    assert sdr_db(band[:, settled], rest[:, settled]) > 15


@pytest.mark.parametrize("channels", [1, 2])
def test_mono_is_voice(channels: int) -> None:
    sound = np.repeat(sum(song(2.0)).mean(axis=0, keepdims=True), channels, axis=0).astype(np.float32)
    separator = create("ica")
    separator.params.set("bass", 0)
    separator.params.set("treble", 24000)
    vocals, _ = split(separator, sound, 48000)
    assert sdr_db(sound[:, 24000:], vocals[:, 24000:]) > 40


def test_the_rule_says_which_of_the_two_is_the_voice() -> None:
    """A low note in the middle, a higher one at the side: centre and band choose differently."""
    draw = np.random.default_rng(5)
    steps = np.repeat(draw.integers(0, 12, 64), 6000)[: 6 * 48000]
    low = np.sin(np.cumsum(2 * np.pi * 110 * 2 ** (steps / 12) / 48000)) * (1 - np.arange(len(steps)) % 6000 / 6000)
    steps = np.repeat(draw.integers(0, 12, 64), 5000)[: 6 * 48000]
    high = np.sin(np.cumsum(2 * np.pi * 880 * 2 ** (steps / 12) / 48000)) * (1 - np.arange(len(steps)) % 5000 / 5000)
    middle, side = np.stack([low, low]).astype(np.float32), np.stack([0.2 * high, high]).astype(np.float32)
    for by_band, wanted in (("off", middle), ("on", side)):
        separator = create("ica")
        separator.params.set("by_band", by_band)
        separator.params.set("bass", 0)
        vocals, _ = split(separator, middle + side, 48000)
        assert sdr_db(wanted[:, 96000:], vocals[:, 96000:]) > 6


def test_what_does_nothing_without_masked_says_so() -> None:
    params = create("ica").params.params
    for name in ("binary", "strength"):
        assert "with masked" in params[name].help
