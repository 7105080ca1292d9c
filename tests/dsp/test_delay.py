"""The delay line: whole frames bit by bit, fractions against a shifted sine, changes without a click."""

import numpy as np
import pytest

from rtsep.dsp.delay import MIN_FRACTIONAL, DelayLine


def noise(frames: int, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (channels, frames)).astype(np.float32)


def run(line: DelayLine, x: np.ndarray, block: int) -> np.ndarray:
    pieces = [line.process(np.ascontiguousarray(x[:, s : s + block])) for s in range(0, x.shape[1], block)]
    return np.concatenate(pieces, axis=1)


@pytest.mark.parametrize("delay", [0, 1, 17, 256, 1000])
@pytest.mark.parametrize("block", [1, 64, 100, 5000])
@pytest.mark.parametrize("channels", [1, 2])
def test_whole_frames_keep_every_bit(delay: int, block: int, channels: int) -> None:
    x = noise(5000, channels)
    y = run(DelayLine(channels, 1000, delay), x, block)
    np.testing.assert_array_equal(y[:, delay:], x[:, : 5000 - delay])
    assert not y[:, :delay].any()


@pytest.mark.parametrize("delay", [MIN_FRACTIONAL + 0.01, 20.5, 64.25, 99.999])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.8])
def test_fractions_shift_a_tone(delay: float, share: float) -> None:
    t = np.arange(4000)
    x = np.cos(np.pi * share * t)[None].astype(np.float32)
    y = run(DelayLine(1, 100, delay), x, 128)[0, 200:]
    assert np.max(np.abs(y - np.cos(np.pi * share * (t - delay))[200:])) < 2e-4


def test_fractional_delay_does_not_depend_on_block_size() -> None:
    x = noise(3000)
    np.testing.assert_array_equal(run(DelayLine(2, 300, 200.3), x, 77), run(DelayLine(2, 300, 200.3), x, 3000))


@pytest.mark.parametrize(("before", "after"), [(0, 500), (500, 20), (100, 300.5), (33.3, 44.4)])
@pytest.mark.parametrize("block", [32, 256, 10000])
def test_change_is_a_cross_fade(before: float, after: float, block: int) -> None:
    x = np.sin(2 * np.pi * 200 / 48000 * np.arange(20000))[None].astype(np.float32)
    line = DelayLine(1, 600, before, fade_frames=256)
    head = run(line, x[:, :10000], block)
    line.set(after)
    assert line.frames == after
    tail = run(line, x[:, 10000:], block)
    y = np.concatenate([head, tail], axis=1)
    old, new = run(DelayLine(1, 600, before), x, 1000), run(DelayLine(1, 600, after), x, 1000)
    share = np.clip((np.arange(20000) - 9999) / 256, 0, 1)
    np.testing.assert_allclose(y, old * (1 - share) + new * share, atol=1e-5)
    np.testing.assert_array_equal(y[:, 10256:], new[:, 10256:])
    steps = np.abs(np.diff(y[0, 700:]))
    assert steps.max() < 2 * 2 * np.pi * 200 / 48000  # the tone's own steps, and the fade's


def test_change_during_a_fade_comes_after_it() -> None:
    x, line = noise(4000, 1), DelayLine(1, 100, 0, fade_frames=256)
    line.set(50)
    line.process(np.ascontiguousarray(x[:, :100]))
    line.set(7)
    y = line.process(np.ascontiguousarray(x[:, 100:]))
    np.testing.assert_array_equal(y[:, 512:], x[:, 100 + 512 - 7 : -7])


def test_in_place_and_reset() -> None:
    from rtsep.dsp.delay import delay_process

    x, line = noise(500), DelayLine(2, 100, 30)
    y = x.copy()
    delay_process(line.ring, line.state, line.taps, y, y)
    np.testing.assert_array_equal(y[:, 30:], x[:, :-30])
    line.set(10)
    line.reset()
    assert not line.process(x)[:, :10].any()


@pytest.mark.parametrize("bad", [-1, 101, 3.5, float("nan")])
def test_impossible_delays_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not possible"):
        DelayLine(1, 100).set(bad)


def test_fade_needs_a_frame() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        DelayLine(1, 100, fade_frames=0)
