"""The meter against levels known in closed form."""

import math

import numpy as np
import pytest

from rtsep.dsp.meter import FALL_DB, Meter


def test_a_full_scale_sine() -> None:
    meter = Meter(48000, 2)
    wave = np.sin(2 * np.pi * 997 / 48000 * np.arange(4 * 48000)).astype(np.float32)
    meter.update(np.stack([wave, 0.1 * wave]))
    levels = meter.read()
    assert levels.peak_db == pytest.approx((0.0, -20.0), abs=0.1)
    assert levels.rms_db == pytest.approx((-3.01, -23.01), abs=0.05)


def test_peak_falls_at_its_rate_and_rms_with_its_time_constant() -> None:
    meter = Meter(8000, 1)
    meter.update(np.full((1, 8 * 8000), 1.0, np.float32))
    assert meter.read().rms_db[0] == pytest.approx(0.0, abs=1e-3)
    meter.update(np.zeros((1, 2400), np.float32))
    assert meter.read().peak_db[0] == pytest.approx(-0.3 * FALL_DB, abs=0.01)
    assert meter.read().rms_db[0] == pytest.approx(10 * math.log10(math.exp(-1)), abs=0.01)


@pytest.mark.parametrize("block", [1, 16, 1000])
def test_block_size_does_not_matter(block: int) -> None:
    x = np.random.default_rng(0).normal(0, 0.1, (2, 8000)).astype(np.float32)
    whole, parts = Meter(44100, 2), Meter(44100, 2)
    whole.update(x)
    for start in range(0, 8000, block):
        parts.update(np.ascontiguousarray(x[:, start : start + block]))
    np.testing.assert_allclose(parts.state, whole.state, rtol=1e-12)


def test_silence_ends_at_minus_infinity_and_nan_is_passed_over() -> None:
    meter = Meter(8000, 1)
    assert meter.read().peak_db == (-math.inf,)
    meter.update(np.array([[0.5, math.nan, math.inf]], np.float32))
    assert meter.read().peak_db[0] == pytest.approx(-6.02, abs=0.01)
    for _ in range(200):
        meter.update(np.zeros((1, 8000), np.float32))
    assert meter.read() == Meter(8000, 1).read()
    assert not meter.state[1:].any()


def test_reset() -> None:
    meter = Meter(8000, 2)
    meter.update(np.ones((2, 10), np.float32))
    meter.reset()
    assert meter.read().rms_db == (-math.inf, -math.inf)
