"""Input and output on clocks of their own, through the whole engine, in simulated time: minutes in seconds, and exact.

The stream is ticked by hand; the capture device's blocks are written, and stamped, for the time that it would then be.
So the controller sees what it would see in ten minutes; the only real time in it is what the worker needs to wake up.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import numpy as np
import pytest
from numba import njit

from rtsep.dsp.ring import Ring, ring_arrived
from rtsep.engine.stream import Controls, Stream
from rtsep.engine.worker import HOPS
from rtsep.io.base import Source
from rtsep.io.clock import sleep_us
from rtsep.native import load_acquire
from rtsep.separators.registry import create
from tests.engine.hosts import ArrayDriver

#: The tone whose phase tells the latency, to a small part of a frame and up to 20 ms.
TONE_HZ = 50
WINDOW_S = 1 / TONE_HZ


@njit(nogil=True)
def _await_hops(words, hops):  # type: ignore[no-untyped-def]
    """Until the worker has made all hops that are due: the next block must not come before that."""
    while load_acquire(words, HOPS) < hops:
        sleep_us(5)


class Capture(Source):
    """A device that is written by hand."""

    own_clock = True

    def __init__(self, samplerate: int, blocksize: int) -> None:
        self.samplerate, self.blocksize, self.channels = samplerate, blocksize, 1
        self.ring: Ring | None = None

    def open(self) -> None:
        pass

    def start(self, ring: Ring, samplerate: int) -> None:
        self.ring = ring

    def stop(self) -> None:
        pass


@dataclass
class Played:
    latency_ms: np.ndarray  # per window
    distortion_db: np.ndarray  # per window: what is not the tone
    stream: Stream


def play(
    seconds: float,
    ppm: float,
    rates: tuple[int, int] = (48000, 48000),
    blocks: tuple[int, int] = (480, 512),
    hop: int = 512,
    jitter_s: float = 0.0,
) -> Played:
    """A tone, recorded by a clock `ppm` too fast."""
    rate_in, rate_out = rates
    real_rate = rate_in * (1 + 1e-6 * ppm)
    source, driver = Capture(rate_in, blocks[0]), ArrayDriver(rate_out, blocks[1], inputs=0)
    stream = Stream(driver, source, create("passthrough"), hop, Controls())
    stream.feed()
    assert source.ring is not None
    stream.start()
    late = np.random.default_rng(0).uniform(0, jitter_s, 1009)
    heard = np.zeros((int(seconds * rate_out) // blocks[1] * blocks[1], 2), np.float32)
    silence = np.zeros((blocks[1], 2), np.float32)
    written, arrived = 0, 0.0
    try:
        for at in range(0, len(heard), blocks[1]):
            now = at / rate_out
            while (due := (written + 1) * blocks[0] / real_rate + late[written % 1009]) <= now:
                frames = np.arange(written * blocks[0], (written + 1) * blocks[0])
                source.ring.write((0.25 * np.sin(2 * np.pi * TONE_HZ * frames / real_rate)).astype(np.float32)[:, None])
                written, arrived = written + 1, due
            ring_arrived(source.ring.control, time.monotonic_ns() - int(1e9 * (now - arrived)))
            heard[at : at + blocks[1]] = driver.play(silence, [blocks[1]])
            _await_hops(stream.words, (at + blocks[1]) // hop)
    finally:
        stream.stop()
    return _measure(heard[:, 0], rate_out, stream)


def _measure(heard: np.ndarray, rate: int, stream: Stream) -> Played:
    frames = int(WINDOW_S * rate)
    windows = heard[: len(heard) // frames * frames].reshape(-1, frames).astype(float)
    turn = np.exp(-2j * np.pi * TONE_HZ * np.arange(frames) / rate)
    phasor = 2 * (windows * turn).mean(axis=1)
    tone = (phasor[:, None] * turn.conj()).real
    rest = np.sqrt(np.mean((windows - tone) ** 2, axis=1)) / np.sqrt(np.mean(tone**2, axis=1) + 1e-12)
    latency = -np.unwrap(np.angle(phasor * 1j)) / (2 * np.pi * TONE_HZ) * 1000
    return Played(latency, 20 * np.log10(rest + 1e-12), stream)


@pytest.mark.parametrize("ppm", [300.0, -300.0])
def test_ten_minutes_with_clocks_300_ppm_apart(ppm: float) -> None:
    seconds = 600.0 if ppm > 0 or os.environ.get("RTSEP_SOAK") == "1" else 60.0
    played = play(seconds, ppm)
    settled = slice(50, None)  # the fade-in, and what has been measured before the first correction
    latency = played.latency_ms[settled]
    assert np.abs(latency - latency[0]).max() < 1.0
    assert np.abs(latency[-1500:] - latency[-1]).max() < 0.2
    assert played.distortion_db[settled].max() < -60  # no drop-out, no jump, not even a small one
    assert played.stream.xruns == (0, 0)
    assert played.stream.drift_ppm == pytest.approx(ppm, abs=5 if seconds > 100 else 30)


@pytest.mark.parametrize(
    ("rates", "blocks", "hop"), [((44100, 48000), (441, 256), 256), ((16000, 44100), (256, 1024), 128)]
)
def test_clocks_of_other_rates_with_jitter(rates: tuple[int, int], blocks: tuple[int, int], hop: int) -> None:
    played = play(30.0, 150.0, rates, blocks, hop, jitter_s=0.002)
    latency = played.latency_ms[50:]
    assert np.abs(latency - latency[0]).max() < 1.0
    assert played.distortion_db[50:].max() < -55
    assert played.stream.xruns == (0, 0)


@pytest.mark.parametrize("blocks", [(256, 256), (480, 512), (1024, 128)])
def test_the_latency_told_is_the_latency(blocks: tuple[int, int]) -> None:
    played = play(3.0, 0.0, blocks=blocks)
    # A block that is played has been asked for one block before: that is the device's own part, not the stream's.
    told = 1000 * (played.stream.budget.total_frames + blocks[1]) / 48000
    error = (played.latency_ms[50:].mean() - told + 10) % 20 - 10
    assert abs(error) < 0.5
