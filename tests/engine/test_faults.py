"""A separator that stalls, raises or gives NaN leaves the sound going; a stalled clock leaves the latency as it was."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from rtsep.engine import worker
from rtsep.engine.stream import Controls, Stream
from rtsep.io import tick
from rtsep.io.null import NullDriver
from rtsep.io.signals import SignalSource
from rtsep.separators.base import Separator
from rtsep.separators.registry import create
from tests.engine.hosts import ArrayDriver, run
from tests.faults import Faulty, FaultyInC

pytestmark = pytest.mark.realtime

both_paths = pytest.mark.parametrize("kind", [Faulty, FaultyInC])


def wait_for(condition, timeout_s: float = 10.0) -> bool:
    limit = time.monotonic() + timeout_s
    while time.monotonic() < limit:
        if condition():
            return True
        time.sleep(0.01)
    return False


class Live:
    """A stream on the computer's clock that plays noise and keeps what comes out."""

    def __init__(self, separator: Separator) -> None:
        source = SignalSource("noise")
        source.open()
        driver = NullDriver(48000, 256)
        self.stream = Stream(driver, source, separator, 256, Controls(vocals_db=-np.inf), with_sink=True)
        assert self.stream.sink_ring is not None
        self.stream.feed()
        self.stream.start()

    def heard(self, frames: int) -> np.ndarray:
        ring = self.stream.sink_ring
        assert ring is not None
        ring.skip(ring.fill)
        assert wait_for(lambda: ring.fill >= frames)
        block = np.zeros((frames, 2), np.float32)
        ring.read(block)
        return block

    def level(self, frames: int = 9600) -> float:
        """RMS of what sounds: a busy machine may cut silence into it, which is no matter of faults."""
        block = self.heard(frames)
        sounding = block[block.any(axis=1)]
        assert len(sounding) > frames // 3
        return float(np.sqrt(np.mean(sounding**2)))

    @property
    def fault(self) -> str:
        return self.stream.inference.fault


@pytest.fixture
def play() -> Iterator:
    streams: list[Stream] = []

    def start(separator: Separator) -> Live:
        live = Live(separator)
        streams.append(live.stream)
        return live

    yield start
    for stream in streams:
        stream.stop()


@both_paths
def test_a_stall_uses_the_last_mask_and_is_counted(play, kind: type[Faulty]) -> None:
    live = play(kind("stall", first=50, seconds=0.2))
    words = live.stream.words
    assert wait_for(lambda: words[worker.LATE] >= 20)
    assert wait_for(lambda: words[worker.MASKED] >= words[worker.HOPS])
    late = int(words[worker.LATE])
    # 0.2 s are 37 hops; all but a few around the edges are late, and none after the separator has caught up.
    assert 20 <= late <= 120
    level = live.level()
    assert level == pytest.approx(0.05, rel=0.15)
    assert live.stream.xruns[0] == 0
    assert not live.fault


@both_paths
@pytest.mark.parametrize("fault", ["nan", "raise"])
def test_a_failure_is_bypassed_and_tried_again(play, kind: type[Faulty], fault: str) -> None:
    separator = kind(fault, first=60, count=1)
    live = play(separator)
    assert wait_for(lambda: live.fault)
    assert "separator faulty failed" in live.fault
    assert live.level(4800) == pytest.approx(0.1, rel=0.15)  # the mixture as it is
    assert wait_for(lambda: not live.fault)
    assert separator.resets >= 1
    assert live.level() == pytest.approx(0.05, rel=0.15)  # half of it again
    assert live.stream.xruns[0] == 0


@both_paths
@pytest.mark.parametrize("fault", ["raise", "crash"])
def test_a_separator_that_never_recovers_stays_bypassed(play, kind: type[Faulty], fault: str) -> None:
    live = play(kind(fault, first=10, count=10**9))
    assert wait_for(lambda: live.stream.inference.faults >= 2)
    assert live.level() == pytest.approx(0.1, rel=0.15)
    assert live.stream.words[worker.LATE] < 30


@both_paths
def test_bypass_by_fault_is_a_cross_fade(kind: type[Faulty]) -> None:
    """No step in the sound where the fault sets in: a constant stays a constant but for the fade's own slope."""
    sound = np.full((48000, 1), 0.5, np.float32)
    out, stream = run(sound, kind("raise", first=40, count=10**9), controls=Controls(vocals_db=-np.inf))
    settled = out[stream.budget.total_frames + 2048 :, 0]
    assert settled.min() == pytest.approx(0.25, abs=1e-3)
    assert settled.max() == pytest.approx(0.5, abs=1e-3)
    assert np.abs(np.diff(settled)).max() < 0.25 / (0.02 * 48000) * 1.5


def test_a_drop_out_leaves_the_latency_as_it_was() -> None:
    """A period for which the worker was too late is silence; its frames are dropped when they come, not played late."""
    sound = np.zeros((20 * 256, 2), np.float32)
    sound[10 * 256] = 1.0
    driver = ArrayDriver(48000, 256)
    stream = Stream(driver, None, create("passthrough"), 256, Controls())
    stream.start()
    try:
        driver.play(sound[:1024], [256])
        context = stream.context.words
        ring, context[tick.OUTPUT_RING] = int(context[tick.OUTPUT_RING]), 0
        driver.play(sound[1024:1280], [256])
        context[tick.LOST] += 256
        context[tick.OUTPUT_RING] = ring
        assert wait_for(lambda: stream.words[worker.HOPS] == 5)
        out = driver.play(sound[1280:], [256])
    finally:
        stream.stop()
    assert int(np.argmax(np.abs(out[:, 0]))) + 1280 - 2560 == stream.budget.total_frames
    assert stream.words[worker.DROPPED] == 256
