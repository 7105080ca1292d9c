"""The compiled step of a device period: what it does where the worker's frames are not there yet."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from rtsep.dsp.ring import Ring
from rtsep.io.clock import Semaphore
from rtsep.io.tick import LOST, PATIENCE_NS, PERIOD_NS, UNDERRUNS, StreamContext, tick

FRAMES = 64


class Device:
    """An open stream of one channel whose output ring is empty."""

    def __init__(self) -> None:
        self.output = Ring(1024, 1)
        self.context = StreamContext(1, Ring(1024, 1), self.output, Semaphore())
        self.context.set_period(FRAMES, 48000)
        self.context.open()
        self.played = np.full(FRAMES, 9.0, np.float32)

    def tick(self) -> None:
        """One period without input."""
        tick(self.context.address, 0, 0, 1, self.played.ctypes.data, 0, 1, FRAMES)


@pytest.mark.parametrize(("frames", "patience_us"), [(64, 499), (128, 999), (256, 1000), (4096, 1000)])
def test_patience_is_three_eighths_of_a_period_and_a_millisecond_at_most(frames: int, patience_us: int) -> None:
    device = Device()
    device.context.set_period(frames, 48000)
    assert device.context.words[PATIENCE_NS] // 1000 == patience_us
    assert device.context.words[PERIOD_NS] == 1_000_000_000 * frames // 48000


def test_frames_that_come_a_moment_late_are_played() -> None:
    device = Device()
    device.context.words[PATIENCE_NS] = 20_000_000_000
    sound = np.arange(1, FRAMES + 1, dtype=np.float32)[:, None]
    period = threading.Thread(target=device.tick)
    period.start()
    time.sleep(0.05)
    assert period.is_alive()
    device.output.write(sound)
    period.join(20)
    assert not period.is_alive()
    np.testing.assert_array_equal(device.played, sound[:, 0])
    assert device.context.words[UNDERRUNS] == 0


def test_frames_that_do_not_come_are_silence_and_counted() -> None:
    device = Device()
    device.output.write(np.ones((10, 1), np.float32))
    began = time.monotonic()
    device.tick()
    assert time.monotonic() - began >= device.context.words[PATIENCE_NS] / 1e9
    np.testing.assert_array_equal(device.played, np.r_[np.ones(10), np.zeros(FRAMES - 10)])
    assert device.context.words[UNDERRUNS] == 1
    assert device.context.words[LOST] == FRAMES - 10


def test_without_a_regular_period_nothing_is_waited_for() -> None:
    device = Device()
    device.context.words[PERIOD_NS] = device.context.words[PATIENCE_NS] = 0
    device.tick()
    assert device.context.words[UNDERRUNS] == 1
