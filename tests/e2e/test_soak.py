"""Hours in minutes: nothing grows, nothing drifts, nothing is lost. The whole two hours with RTSEP_SOAK=1."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks._memory import own_mb
from rtsep.engine import worker
from rtsep.engine.session import Session, SessionOptions
from rtsep.engine.stream import Controls, Stream
from tests.conftest import need
from tests.e2e.programs import wait_for
from tests.engine.hosts import ArrayDriver

SOAK = os.environ.get("RTSEP_SOAK") == "1"
#: Set for the process that each test gets of its own.
ALONE = "RTSEP_SOAK_ALONE"
GROWTH_MB = 1.0
RATE, BLOCK = 48000, 1024

pytestmark = pytest.mark.timeout(1800 if SOAK else 120)


def in_a_process_of_its_own(test: Callable[..., None]) -> Callable[..., None]:
    """Memory is measured to a megabyte: what a thousand other tests left in this process still moves by more."""

    @functools.wraps(test)
    def outer(**parameters: object) -> None:
        if os.environ.get(ALONE) == "1":
            test(**parameters)
            return
        name = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
        folder = Path(__file__).resolve().parents[2]
        done = subprocess.run(
            command, cwd=folder, env=os.environ | {ALONE: "1"}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:]
        assert "1 passed" in done.stdout

    return outer


def load(name: str):  # type: ignore[no-untyped-def]
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        need(name != "koretzky", "onnxruntime is not installed")
    from rtsep.separators.registry import create

    return create(name)


@pytest.mark.parametrize(("name", "minutes"), [("midside", 120 if SOAK else 6), ("koretzky", 120 if SOAK else 2)])
@in_a_process_of_its_own
def test_hours_as_fast_as_they_go(name: str, minutes: int) -> None:
    """In freewheel, where no mask is late: after two hours the same delay, to the frame, and the same memory."""
    driver = ArrayDriver(RATE, BLOCK)
    stream = Stream(driver, None, load(name), 512, Controls(bypass=False))
    stream.recording = True
    blocks = 100
    piece = np.random.default_rng(0).uniform(-0.3, 0.3, (blocks * BLOCK, 2)).astype(np.float32)
    delay = stream.budget.total_frames
    rounds = minutes * 60 * RATE // len(piece)
    memory = []
    stream.start()
    try:
        for turn in range(rounds):
            heard = driver.play(piece, [BLOCK])
            stream.record_ring.skip(stream.record_ring.fill)
            # Played at full level the parts add up to the input, which is the same in every round.
            if turn:
                assert np.abs(np.roll(piece, delay, axis=0) - heard).max() < 1e-5, f"round {turn}"
            memory.append(own_mb())
        hops = rounds * len(piece) // 512
        wait_for(
            lambda: stream.words[worker.HOPS] >= hops, "the last hop is not done", 5
        )  # its sound is not waited for
    finally:
        stream.stop()
    words = stream.words
    assert (words[worker.LATE], words[worker.DROPPED], words[worker.RECORD_LOST]) == (0, 0, 0)
    assert stream.xruns == (0, 0)
    assert words[worker.HOPS] == hops
    settled = memory[len(memory) // 3 :]
    assert max(settled) - settled[0] < GROWTH_MB, f"{settled[0]:.2f} MB have become {max(settled):.2f} MB"


@pytest.mark.realtime
@in_a_process_of_its_own
def test_minutes_at_eight_times_the_speed_in_a_session() -> None:
    """With deadlines, supervisor, faders and snapshots, and the memory flat within 1 MB."""
    seconds = 7200 if SOAK else 60
    with Session(SessionOptions(input="test:noise", output="null", separator="midside", speed=8.0)) as session:
        wait_for(lambda: session.snapshot().position_s > seconds / 4, "the clock stands still", 1700)
        before = session.snapshot()
        level = 0

        def at_end() -> bool:
            nonlocal level
            level = (level + 1) % 12
            session.set("vocals_db", -level)
            return session.snapshot().position_s > seconds

        wait_for(at_end, "the clock stands still", 1700)
        after = session.snapshot()
    assert after.rss_mb - before.rss_mb < GROWTH_MB
    assert after.state == "playing"
    assert after.latency_frames == before.latency_frames == 512
    # Late only because the machine is busy: not more and more of them.
    late = before.late / before.hops, (after.late - before.late) / (after.hops - before.hops)
    assert late[1] <= max(3 * late[0], 0.05)
    assert session.error is None
