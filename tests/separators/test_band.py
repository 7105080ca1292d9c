"""The band separator against the gains that its parameters say."""

from __future__ import annotations

import numpy as np
import pytest

from rtsep.separators.registry import create
from rtsep.spec import StreamSpec


def mask_of(spec: StreamSpec, **values: float | str) -> np.ndarray:
    separator = create("band")
    for name, value in values.items():
        separator.params.set(name, value)
    separator.prepare(spec)
    mask = np.full((spec.channels, spec.bins), np.nan, np.float32)
    separator.process(np.zeros(mask.shape, np.complex64), mask)
    return mask


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("samplerate", [16000, 44100, 96000])
def test_slopes_are_those_asked_for(samplerate: int, channels: int) -> None:
    spec = StreamSpec(samplerate, channels)
    mask = mask_of(spec, low_hz=400, high_hz=2000, slope_db=18)
    hz = np.arange(1, spec.bins) * spec.bin_hz
    octaves = np.maximum(np.log2(400 / hz), np.log2(hz / 2000)).clip(0)
    np.testing.assert_allclose(mask[:, 1:], np.broadcast_to(10 ** (-18 * octaves / 20), mask[:, 1:].shape), rtol=1e-5)
    assert (mask[:, 0] == 0).all()


def test_binary_is_all_or_nothing() -> None:
    spec = StreamSpec(44100, 1)
    hz = np.arange(spec.bins) * spec.bin_hz
    mask = mask_of(spec, low_hz=400, high_hz=2000, binary="on")[0]
    np.testing.assert_array_equal(mask, (hz >= 400) & (hz <= 2000))
