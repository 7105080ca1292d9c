"""The limiter: nothing above the ceiling, nothing touched below it, no NaN, and no rough gain."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtsep.dsp.gain import db_to_linear
from rtsep.dsp.limiter import GAIN, Limiter


def sine(level: float, hz: float, frames: int = 48000, channels: int = 2) -> np.ndarray:
    wave = level * np.sin(2 * np.pi * hz / 48000 * np.arange(frames))
    return np.tile(wave, (channels, 1)).astype(np.float32)


def test_below_the_ceiling_every_bit_stays() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (2, 4096)).astype(np.float32)
    x[0, 5] = 1.0
    x[1, 6] = 1e-42
    y, limiter = x.copy(), Limiter(48000)
    limiter.process(y)
    np.testing.assert_array_equal(y.view(np.int32), x.view(np.int32))
    assert limiter.reduction_db() == 0.0
    assert limiter.bad_samples == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(width=32), min_size=1, max_size=200),
    st.floats(-30, 6),
    st.integers(1, 2),
    st.integers(1, 64),
)
def test_never_above_the_ceiling_whatever_comes(
    values: list[float], ceiling_db: float, channels: int, block: int
) -> None:
    x = np.resize(np.array(values, dtype=np.float32), (channels, len(values)))
    bad, limiter = np.count_nonzero(~np.isfinite(x)), Limiter(1000, ceiling_db)
    for start in range(0, x.shape[1], block):
        piece = np.ascontiguousarray(x[:, start : start + block])
        limiter.process(piece)
        assert np.all(np.isfinite(piece))
        assert np.max(np.abs(piece).astype(np.float64)) <= db_to_linear(ceiling_db)
    assert limiter.bad_samples == bad


def test_block_size_does_not_matter() -> None:
    x = np.random.default_rng(1).normal(0, 0.6, (2, 8192)).astype(np.float32)
    whole, one, many = x.copy(), Limiter(48000), Limiter(48000)
    one.process(whole)
    for start in range(0, 8192, 96):
        piece = np.ascontiguousarray(x[:, start : start + 96])
        many.process(piece)
        np.testing.assert_array_equal(piece, whole[:, start : start + 96])


@pytest.mark.parametrize("hz", [50.0, 1000.0])
def test_a_steady_tone_gets_a_steady_gain(hz: float) -> None:
    x, limiter = sine(2.0, hz), Limiter(48000)
    y = x.copy()
    limiter.process(y)
    assert limiter.reduction_db() == pytest.approx(6.02, abs=0.01)
    np.testing.assert_allclose(y[:, 4800:], x[:, 4800:] / 2, atol=2e-3)


def test_release_is_smooth_and_ends_at_exactly_1() -> None:
    limiter = Limiter(48000)
    limiter.process(np.full((2, 1), 4.0, np.float32))
    quiet = sine(0.1, 440.0)
    y = quiet.copy()
    limiter.process(y)
    gains = y[0] / np.where(quiet[0] == 0, 1, quiet[0])
    moved = gains[quiet[0] != 0]
    assert np.max(np.diff(moved)) < 1e-3
    assert np.all(np.diff(moved) > -1e-6)
    assert limiter.state[GAIN] == 1.0
    np.testing.assert_array_equal(y[:, -4800:], quiet[:, -4800:])


def test_channels_are_linked() -> None:
    x = np.array([[2.0] * 8, [0.5] * 8], np.float32)
    Limiter(48000).process(x)
    np.testing.assert_allclose(x, [[1.0] * 8, [0.25] * 8])


def test_reduction_is_the_largest_since_it_was_asked_for() -> None:
    limiter = Limiter(48000, -6.0)
    limiter.process(np.full((1, 10), 1.0, np.float32))
    assert limiter.reduction_db() == pytest.approx(6.0, abs=1e-3)
    limiter.process(np.zeros((1, 96000), np.float32))
    limiter.reduction_db()
    limiter.process(np.zeros((1, 10), np.float32))
    assert limiter.reduction_db() == 0.0
    limiter.process(np.array([[math.nan, math.inf, -math.inf]], np.float32))
    assert limiter.bad_samples == 3
    limiter.reset()
    assert limiter.bad_samples == 0
