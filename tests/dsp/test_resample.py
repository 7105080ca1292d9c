"""The resampler against samplerate's own one-shot result, its delay against a click, and pulls of exact length."""

import numpy as np
import pytest
import samplerate

from rtsep.dsp.resample import QUALITIES, Resampler, pull, resample, restart
from rtsep.errors import UsageError

RATES = [8000, 11025, 16000, 22050, 44100, 48000, 88200, 96000, 192000]


def noise(frames: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.7, 0.7, (frames, channels)).astype(np.float32)


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize(("source", "target"), [(44100, 48000), (48000, 44100), (8000, 192000), (192000, 8000)])
@pytest.mark.parametrize("channels", [1, 2])
def test_push_equals_one_shot(quality: str, source: int, target: int, channels: int) -> None:
    frames = 30000 if source > target else 6000
    x, ratio = noise(frames, channels), target / source
    whole = samplerate.resample(x, ratio, quality).reshape(-1, channels)
    rng, made, start, resampler = np.random.default_rng(1), [], 0, Resampler(channels, quality)
    while start < frames:
        stop = start + int(rng.integers(0, 4000))
        made.append(resampler.push(x[start:stop], ratio, last=stop >= frames))
        start = stop
    parts = np.concatenate(made)
    assert abs(len(parts) - frames * ratio) <= 1 + 1 / min(1, ratio) * ratio
    assert abs(len(parts) - len(whole)) <= 1
    shared = min(len(parts), len(whole))
    np.testing.assert_allclose(parts[:shared], whole[:shared], atol=1e-6)


@pytest.mark.parametrize("source", RATES)
@pytest.mark.parametrize("target", [44100, 48000])
def test_any_rate_keeps_a_tone(source: int, target: int) -> None:
    ratio, hz = target / source, 1000.0
    x = np.sin(2 * np.pi * hz / source * np.arange(source // 4), dtype=np.float64).astype(np.float32)[:, None]
    y = Resampler(1).push(x, ratio, last=True)[:, 0]
    inner = slice(len(y) // 4, 3 * len(y) // 4)
    wanted = np.sin(2 * np.pi * hz / target * np.arange(len(y)))
    assert np.max(np.abs(y[inner] - wanted[inner])) < 2e-4


def run_pull(resampler: Resampler, x: np.ndarray, hop: int, ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pull hop after hop; returns the sound and the number of input frames taken after each hop."""
    y, taken, done = np.zeros((len(ratios) * hop, x.shape[1]), np.float32), [], 0
    for k, ratio in enumerate(ratios):
        block = np.zeros((hop, x.shape[1]), np.float32)
        used, made = pull(
            resampler.handle, resampler.data, resampler.pull_state, x[done:], len(x) - done, block, hop, ratio
        )
        assert made == hop
        done += used
        taken.append(done)
        y[k * hop : (k + 1) * hop] = block
    return y, np.array(taken)


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("ratio", [1.0, 48000 / 44100, 44100 / 48000, 44100 / 192000, 1 / 24, 5.5])
@pytest.mark.parametrize("hop", [64, 256])
def test_click_shows_the_declared_delay(quality: str, ratio: float, hop: int) -> None:
    resampler, hops = Resampler(1, quality), 40
    x = np.zeros((int(hops * hop / ratio) + 5000, 1), np.float32)
    click = int(20 * hop / ratio)
    x[click] = 1.0
    y, taken = run_pull(resampler, x, hop, np.full(hops, ratio))
    # where the click is in the output (its energy's centre), against where it was in the input
    place = np.sum(np.arange(len(y)) * y[:, 0] ** 2) / np.sum(y[:, 0] ** 2)
    assert abs(place / ratio - click) < max(0.1, 0.1 / ratio)
    # how far the input had to run ahead, hop for hop: constant, and as declared
    ahead = taken - hop * np.arange(1, hops + 1) / ratio
    assert np.all(np.abs(ahead - resampler.delay_frames(ratio)) <= 1.0)


def test_pull_takes_no_more_than_it_needs_over_a_long_time_with_a_wandering_ratio() -> None:
    hops, hop = 4000, 128
    ratios = 48000 / 44100 * (1 + 300e-6 * np.sin(np.arange(hops) / 50))
    x = noise(int(hops * hop * 0.93), 1)
    resampler = Resampler(1)
    _, taken = run_pull(resampler, x, hop, ratios)
    ideal = np.cumsum(hop / ratios)
    ahead = taken - ideal - resampler.delay_frames(48000 / 44100)
    assert np.max(np.abs(ahead)) < 1.1


def test_pull_gives_the_same_sound_as_push() -> None:
    x, ratio = noise(20000), 48000 / 44100
    pulled, _ = run_pull(Resampler(2), x, 100, np.full(200, ratio))
    np.testing.assert_array_equal(pulled, Resampler(2).push(x, ratio)[:20000])


def test_pull_from_a_dry_ring_gives_less_and_goes_on_later() -> None:
    x, ratio, resampler = noise(9000, 1), 1.001, Resampler(1)
    wanted = Resampler(1).push(x, ratio)
    made, done = [], 0
    for there in (0, 30, 100, 101, 700, 2500, 2500, 9000):
        y = np.zeros((512, 1), np.float32)
        while True:
            used, count = pull(
                resampler.handle, resampler.data, resampler.pull_state, x[done:], there - done, y, 512, ratio
            )
            done += used
            made.append(y[:count].copy())
            if count < 512:
                break
    sound = np.concatenate(made)
    np.testing.assert_array_equal(sound, wanted[: len(sound)])
    assert len(wanted) - len(sound) <= 1


def test_reset() -> None:
    x, resampler, y = noise(3000, 1), Resampler(1), np.zeros((4000, 1), np.float32)
    first = resampler.push(x, 1.25)
    resampler.reset()
    np.testing.assert_array_equal(resampler.push(x, 1.25), first)
    restart(resampler.handle, resampler.pull_state)
    used, made = resample(resampler.handle, resampler.data, x, len(x), y, len(y), 1.25)
    assert used == len(x)
    np.testing.assert_array_equal(y[:made], first)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'sinc_medium'"):
        Resampler(2, "sinc_medum")
    with pytest.raises(UsageError, match="0 channels"):
        Resampler(0)
    with pytest.raises(UsageError, match="ratio of 1000"):
        Resampler(1).push(noise(10, 1), 1000.0)
    with pytest.raises(ValueError, match="shape"):
        Resampler(2).push(noise(10, 1), 1.0)
    resampler, y = Resampler(1), np.zeros((10, 1), np.float32)
    used, made = resample(resampler.handle, resampler.data, noise(10, 1), 10, y, 10, -1.0)
    assert used == 0 and made < 0
