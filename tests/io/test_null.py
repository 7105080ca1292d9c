"""Clocks without a device: right number of ticks, and every frame passes."""

from __future__ import annotations

import time

import numpy as np
import pytest

from rtsep.dsp.ring import Ring
from rtsep.errors import UsageError
from rtsep.io import tick as t
from rtsep.io.clock import Semaphore
from rtsep.io.null import FreeDriver, NullDriver

pytestmark = pytest.mark.realtime


def context(capacity: int = 8192, sink: Ring | None = None) -> tuple[t.StreamContext, Ring]:
    output = Ring(capacity, 2)
    return t.StreamContext(2, Ring(capacity, 2), output, Semaphore(), sink), output


@pytest.mark.parametrize("speed", [1.0, 8.0])
def test_null_clock_runs_at_its_rate(speed: float) -> None:
    ctx, _ = context()
    ctx.open()
    driver = NullDriver(48000, 128, speed)
    driver.open()
    began = time.monotonic()
    driver.start(ctx.address)
    while ctx.words[t.CLOCK] < 12000 * speed and time.monotonic() - began < 20:
        time.sleep(0.005)
    driver.stop()
    clock = int(ctx.words[t.CLOCK])
    assert clock >= 12000 * speed and clock % 128 == 0
    # never ahead of the true time, however late the system is
    assert clock <= (time.monotonic() - began) * 48000 * speed
    assert ctx.words[t.TICKS] == clock // 128
    driver.stop()
    assert int(ctx.words[t.CLOCK]) == clock


def test_free_clock_passes_every_frame() -> None:
    sink = Ring(1 << 16, 2)
    ctx, output = context(1024, sink)
    ctx.set_freewheel(True)
    ctx.open()
    driver = FreeDriver(48000, 64)
    assert not driver.realtime
    driver.start(ctx.address)
    sound = np.random.default_rng(0).standard_normal((40000, 2)).astype(np.float32)
    done = 0
    while done < len(sound):
        done += output.write(sound[done : done + 700])
    while sink.fill < len(sound) - 64:
        time.sleep(0.001)
    ctx.close()
    driver.stop()
    got = np.zeros((len(sound), 2), np.float32)
    count = sink.read(got)
    assert count >= len(sound) - 64
    np.testing.assert_array_equal(got[:count], sound[:count])
    assert ctx.words[t.UNDERRUNS] <= 1


def test_impossible_clocks_are_refused() -> None:
    with pytest.raises(UsageError, match="0 Hz"):
        NullDriver(0).open()
    with pytest.raises(UsageError, match="blocks of 0 frames"):
        FreeDriver(48000, 0)
    with pytest.raises(UsageError, match="times real time"):
        NullDriver(48000, 64, 0.0)
