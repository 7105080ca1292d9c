"""Levels, ramps and the mix, against straight lines and plain sums."""

import math

import numpy as np
import pytest

from rtsep.dsp.gain import (
    CURRENT,
    TARGET,
    Ramp,
    at_unity,
    balance,
    db_to_linear,
    linear_to_db,
    mix,
    ramp_next,
)


def sound(frames: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (channels, frames)).astype(np.float32)


def test_decibels() -> None:
    assert db_to_linear(0.0) == 1.0
    assert db_to_linear(-math.inf) == 0.0
    assert linear_to_db(0.0) == -math.inf
    assert linear_to_db(-1.0) == 0.0
    for level in (-120.0, -6.0, 3.3, 12.0):
        assert linear_to_db(db_to_linear(level)) == pytest.approx(level, abs=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_impossible_gains_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not possible"):
        Ramp(48000).set_db(bad)


def test_ramp_is_a_straight_line_and_ends_exactly() -> None:
    ramp = Ramp(1000, 0.0, ramp_ms=50.0)
    ramp.set_db(-math.inf)
    gains = [ramp_next(ramp.state, 1) for _ in range(60)]
    np.testing.assert_allclose(gains, np.maximum(0, 1 - np.arange(1, 61) / 50), atol=1e-6)
    assert ramp.state[CURRENT] == 0.0
    assert ramp.target_db == -math.inf


@pytest.mark.parametrize("sizes", [(100,), (1, 99), (7, 13, 40, 40), (50, 50)])
def test_ramp_does_not_depend_on_block_sizes(sizes: tuple[int, ...]) -> None:
    ramp = Ramp(1000, 6.0, ramp_ms=200.0)
    ramp.set_db(-20.0)
    for size in sizes:
        last = ramp_next(ramp.state, size)
    assert last == pytest.approx(db_to_linear(6.0) - 100 / 200)


def test_no_ramp_time_means_at_once() -> None:
    ramp = Ramp(48000, -math.inf, ramp_ms=0.0)
    ramp.set_db(12.0)
    assert ramp_next(ramp.state, 1) == ramp.state[TARGET]


def test_mix_at_unity_is_the_plain_sum() -> None:
    vocals, music = sound(256), sound(256, seed=1)
    out = np.empty_like(vocals)
    mix(vocals, music, out, Ramp(48000).state, Ramp(48000).state)
    np.testing.assert_array_equal(out, vocals + music)


def test_settled_mix_and_in_place() -> None:
    vocals, music = sound(300), sound(300, seed=1)
    wanted = vocals * np.float32(db_to_linear(-6.0)) + music * np.float32(db_to_linear(3.0))
    mix(vocals, music, vocals, Ramp(48000, -6.0).state, Ramp(48000, 3.0).state)
    np.testing.assert_allclose(vocals, wanted, atol=1e-6)


@pytest.mark.parametrize("block", [1, 64, 1000])
def test_ramped_mix_frame_by_frame(block: int) -> None:
    vocals, music, frames = sound(4000), sound(4000, seed=1), 4000
    up, down = Ramp(48000, -math.inf), Ramp(48000, 12.0)
    up.set_db(0.0)
    down.set_db(-math.inf)
    out = np.empty_like(vocals)
    for start in range(0, frames, block):
        piece = np.empty((2, min(block, frames - start)), np.float32)
        part = slice(start, start + piece.shape[1])
        mix(np.ascontiguousarray(vocals[:, part]), np.ascontiguousarray(music[:, part]), piece, up.state, down.state)
        out[:, part] = piece
    line = np.arange(1, frames + 1) / 2400
    wanted = np.minimum(1, line) * vocals + np.maximum(0, db_to_linear(12.0) - line) * music
    np.testing.assert_allclose(out, wanted, atol=2e-6)


@pytest.mark.parametrize("block", [1, 96, 4000])
def test_balance_moves_each_stem_and_the_rest_in_a_straight_line(block: int) -> None:
    frames = 4000
    music, stems = sound(frames), np.stack([sound(frames, seed=1), sound(frames, seed=2)])
    ramps = np.zeros((3, 3))
    drums, bass, rest = (Ramp(48000, level, state=ramps[k]) for k, level in enumerate((0.0, -math.inf, 0.0)))
    drums.set_db(-math.inf)
    bass.set_db(6.0)
    rest.set_db(-20.0)
    out = np.empty_like(music)
    for start in range(0, frames, block):
        part = slice(start, min(start + block, frames))
        piece = np.empty((2, part.stop - start), np.float32)
        balance(np.ascontiguousarray(music[:, part]), np.ascontiguousarray(stems[:, :, part]), piece, ramps)
        out[:, part] = piece
    line = np.arange(1, frames + 1) / 2400
    gains = np.maximum(0, 1 - line), np.minimum(db_to_linear(6.0), line), np.maximum(0.1, 1 - line)
    wanted = gains[0] * stems[0] + gains[1] * stems[1] + gains[2] * (music - stems[0] - stems[1])
    np.testing.assert_allclose(out, wanted, atol=3e-6)


def test_balance_at_unity_is_the_music_to_the_bit() -> None:
    ramps = np.zeros((3, 3))
    faders = [Ramp(48000, 0.0, state=row) for row in ramps]
    music, stems, out = sound(100), np.stack([sound(100, seed=1)] * 2), np.empty((2, 100), np.float32)
    assert at_unity(ramps) and at_unity(np.zeros((0, 3)))
    balance(music, stems, out, ramps)
    np.testing.assert_array_equal(out, music)
    faders[1].set_db(-1.0)
    assert not at_unity(ramps)
