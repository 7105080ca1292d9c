"""The drift controller between two simulated devices, blocks and jitter and all, at accelerated clock."""

import numpy as np
import pytest
from numba import njit

from rtsep.dsp.drift import HELD, Drift, relock, safe_distance, steer

HOP = 256


@njit
def simulate(state, seconds, input_rate, output_rate, ppm, input_block, output_block, hop, late, start, with_age):
    """True latency in frames, ratio, and fill before each hop; the count of hops that found too little, and of jumps.

    Capture block j, of exact sample times, arrives ``late[j]`` s late; the playback callback comes half as late
    and works off all the hops that it needs. `ppm` holds the capture clock's deviation from second to second.
    """
    hops = int(seconds * output_rate / hop)
    latency, ratios, fills = np.empty(hops), np.empty(hops), np.empty(hops)
    first = start / input_rate  # the true distance at the first hop
    captured = 0.0  # continuous position of the capture clock, moved along with the loop's time
    clock = 0.0
    arrivals = np.zeros(8 + int((seconds + 2) * input_rate * (1 + 2e-3) / input_block))
    for j in range(len(arrivals)):
        left = float(input_block)
        while left > 0.0:  # the time in which this block is captured, clock speed changing each second
            second = int(clock)
            speed = input_rate * (1 + 1e-6 * ppm[min(second, len(ppm) - 1)])
            step = min(left, (second + 1 - clock) * speed + 1e-9)
            clock += step / speed
            left -= step
        arrivals[j] = max(arrivals[j - 1] if j else 0.0, clock + late[j % len(late)])
    second_start = np.zeros(len(ppm) + 1)  # captured position at each full second
    for s in range(len(ppm)):
        second_start[s + 1] = second_start[s] + input_rate * (1 + 1e-6 * ppm[s])
    blocks, read, read_whole, k, tick, dry, jumps = 0, 0.0, 0, 0, 0, 0, 0
    while k < hops:
        now = first + tick * output_block / output_rate + 0.5 * late[-1 - tick % len(late)]
        while blocks < len(arrivals) and arrivals[blocks] <= now:
            blocks += 1
        tick += 1
        while k < hops and k * hop < tick * output_block:
            fills[k] = blocks * input_block - read_whole
            age = now - arrivals[blocks - 1] if with_age and blocks else 0.0
            ratios[k], jump = steer(state, int(fills[k]), age)
            jumps += jump != 0
            read += hop / ratios[k]
            read_whole = int(np.floor(read))
            dry += read_whole > blocks * input_block
            k += 1
            played = first + k * hop / output_rate
            s = min(int(played), len(ppm) - 1)
            captured = second_start[s] + (played - s) * input_rate * (1 + 1e-6 * ppm[s])
            latency[k - 1] = captured - read
    return latency, ratios, fills, dry, jumps


def play(
    ppm: float | np.ndarray,
    input_block: int = 256,
    output_block: int = 256,
    *,
    rates: tuple[int, int] = (48000, 48000),
    hop: int = HOP,
    jitter: float = 0.0,
    seconds: int = 600,
    with_age: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Drift]:
    """Deviation of the latency from its start in ms, correction in ppm, mean fill per second; no drop-out, no jump."""
    source, target = rates
    start = safe_distance(input_block, output_block, hop, target / source, int(1.5 * jitter * source))
    drift = Drift(source, target, hop, start)
    clock = np.broadcast_to(np.asarray(ppm, dtype=float), (seconds + 2,)).copy()
    late = np.random.default_rng(1).uniform(0, jitter, 99991)
    latency, ratios, fills, dry, jumps = simulate(
        drift.state, seconds, source, target, clock, input_block, output_block, hop, late, start, with_age
    )
    assert dry == 0
    assert jumps == 0
    second = target // hop
    means = fills[: len(fills) // second * second].reshape(-1, second).mean(axis=1)
    return 1e3 * (latency - latency[0]) / source, 1e6 * (target / source / ratios - 1), means, drift


def after(values: np.ndarray, seconds: float, total: float = 600) -> np.ndarray:
    return values[int(len(values) * seconds / total) :]


@pytest.mark.parametrize("input_block", [64, 256, 441, 1024])
@pytest.mark.parametrize("output_block", [64, 256, 480, 1024])
@pytest.mark.parametrize("jitter", [0.0, 0.0005, 0.002])
def test_ten_minutes_at_300_ppm(input_block: int, output_block: int, jitter: float) -> None:
    deviation, correction, _, drift = play(300.0, input_block, output_block, jitter=jitter)
    assert np.max(np.abs(deviation)) < 1.0
    # what is held is a mean over half a second of jittered blocks, and as exact as that
    assert np.max(np.abs(after(deviation, 60))) < (0.6 if jitter > 0.001 else 0.5)
    assert np.ptp(after(correction, 60)) < 20.0
    assert np.ptp(after(correction, 300)) < (10.0 if jitter else 1.0)
    assert abs(np.mean(after(correction, 60)) - 300) < 1.0
    assert abs(drift.ppm - 300) < 10


@pytest.mark.parametrize("ppm", [-1000.0, -300.0, -10.0, 0.0, 50.0, 1000.0])
@pytest.mark.parametrize("hop", [64, 256, 1024])
def test_clocks_up_to_1000_ppm_apart_are_locked(ppm: float, hop: int) -> None:
    deviation, correction, _, _ = play(ppm, 480, 512, hop=hop, jitter=0.001, seconds=180)
    assert np.max(np.abs(after(deviation, 90, 180))) < 0.5
    assert np.max(np.abs(after(correction, 90, 180) - ppm)) < 10.0
    assert np.max(np.abs(deviation)) < 0.6 + 2e-3 * abs(ppm)


@pytest.mark.parametrize("rates", [(44100, 48000), (48000, 44100), (96000, 48000), (192000, 44100), (16000, 48000)])
def test_other_rates(rates: tuple[int, int]) -> None:
    deviation, correction, _, _ = play(-300.0, 512, 256, rates=rates, jitter=0.001)
    assert np.max(np.abs(deviation)) < 1.0
    assert np.max(np.abs(after(deviation, 60))) < 0.5
    assert np.ptp(after(correction, 60)) < 20.0


def test_starts_at_the_nominal_ratio_and_without_a_swoop() -> None:
    _, correction, _, _ = play(300.0, 1024, 1024, jitter=0.002, seconds=60)
    assert np.all(np.abs(correction[: int(0.4 * 48000 / HOP)]) < 1e-6)
    assert np.max(np.abs(correction)) < 900  # 1.6 cents
    assert np.max(np.abs(np.diff(correction))) <= 400.1 * HOP / 48000  # 0.7 cents per second


def test_mean_fill_stays_where_it_began() -> None:
    _, _, means, _ = play(300.0, 64, 256, jitter=0.001)
    assert np.max(np.abs(means[60:] - means[0])) < 0.5 * 48


def test_without_the_age_of_the_blocks_small_blocks_still_lock() -> None:
    deviation, correction, means, _ = play(300.0, 64, 256, with_age=False)
    assert np.max(np.abs(after(deviation, 60))) < 1.4  # half a block more, from the beat of the blocks
    assert np.max(np.abs(means[60:] - means[:3].mean())) < 64
    assert abs(np.mean(after(correction, 60)) - 300) < 2.0


def test_a_clock_that_warms_up_and_one_that_changes_at_once() -> None:
    warm = np.interp(np.arange(602), [0, 100, 400, 602], [100, 100, 120, 120])
    deviation, _, _, _ = play(warm, 256, 256, jitter=0.001)
    assert np.max(np.abs(after(deviation, 60))) < 0.5
    sudden = np.where(np.arange(602) < 300, 100.0, 200.0)
    deviation, correction, _, _ = play(sudden, 256, 256, jitter=0.001)
    assert np.max(np.abs(deviation)) < 2.0
    assert np.max(np.abs(after(deviation, 360))) < 0.5
    assert abs(np.mean(after(correction, 500)) - 200) < 1.0


def settled(wanted: float = 1000.0) -> Drift:
    drift = Drift(48000, 48000, HOP, wanted)
    for _ in range(40000):
        assert steer(drift.state, int(wanted), 0.0) == (1.0, 0)
    return drift


def test_one_wrong_reading_is_hardly_heard() -> None:
    drift = settled()
    ratio, jump = steer(drift.state, 2024, 0.0)
    assert jump == 0
    changes = [abs(ratio - 1.0)] + [abs(steer(drift.state, 1000, 0.0)[0] - 1.0) for _ in range(2000)]
    assert max(changes) < 2e-6


@pytest.mark.parametrize("error", [-600, 600, 5000])
def test_a_large_error_asks_for_a_jump(error: int) -> None:
    drift = settled()
    asked = 0
    for k in range(100):
        _, asked = steer(drift.state, 1000 + error, 0.0)
        if asked:
            assert k * HOP / 48000 < 0.3
            break
    assert asked == error
    assert drift.jumps == 1
    relock(drift.state)
    for _ in range(500):
        assert steer(drift.state, 1000 + error - asked, 0.0) == (pytest.approx(1.0, abs=1e-6), 0)
    assert drift.state[HELD] == pytest.approx(1000)


def test_a_wrong_start_asks_for_a_jump_and_a_small_error_does_not() -> None:
    drift, asked = Drift(48000, 48000, HOP, 1000.0), []
    for _ in range(100):
        asked.append(steer(drift.state, 1800, 0.0)[1])
    assert [jump for jump in asked if jump] == [800]
    drift = settled()
    assert not any(steer(drift.state, 1450, 0.0)[1] for _ in range(20))


def test_relock_keeps_the_drift_that_is_known() -> None:
    _, _, _, drift = play(300.0, seconds=120)
    relock(drift.state)
    assert drift.ppm == pytest.approx(300, abs=3)
    ratio, _ = steer(drift.state, 700, 0.0)
    assert ratio == pytest.approx(1 / 1.0003, abs=3e-6)
    assert drift.latency_ms == pytest.approx(700 / 48)


@pytest.mark.parametrize("ppm", [0.0, 300.0])
def test_a_distance_that_sways_is_not_followed(ppm: float) -> None:
    """As where a server's pieces beat against its clients': 5 ms up and down, twice in four seconds."""
    drift, read, corrections = Drift(48000, 48000, 512, 1472.0), 0.0, []
    jitter = np.random.default_rng(0).uniform(-24, 24, 6000)
    for k, late in enumerate(jitter):
        seconds = k * 512 / 48000
        sway = 240 * ((seconds * 0.54) % 1.0 - 0.5)
        ratio, jump = steer(drift.state, int(1472 + 0.048 * ppm * seconds - read + sway + late), 0.0)
        assert jump == 0
        corrections.append(1e6 * (1 / ratio - 1))
        read += (1 / ratio - 1) * 512
    assert np.max(np.abs(after(np.array(corrections), 5, 64) - ppm)) < 400
    assert np.max(np.abs(after(np.array(corrections), 30, 64) - ppm)) < 100
