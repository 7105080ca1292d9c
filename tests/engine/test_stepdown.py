"""Under load the net rests: a fixed mask fades in, the net comes back, and all of it is counted."""

from __future__ import annotations

import time

import numpy as np
import pytest

from rtsep.engine import stepdown
from rtsep.engine.options import SessionOptions
from rtsep.engine.session import Session
from rtsep.engine.stepdown import STEP, StepDown, fade, plain_mask
from rtsep.engine.stream import Controls, Stream
from rtsep.io.null import NullDriver
from rtsep.io.signals import SignalSource
from rtsep.separators.base import Separator
from rtsep.separators.registry import create
from rtsep.spec import StreamSpec
from tests.faults import Faulty

pytestmark = pytest.mark.realtime


def test_it_rests_once_a_tenth_of_a_second_of_masks_is_late():
    watch = StepDown()
    for k in range(40):  # 9 % late
        assert not watch.look(0.05 * k, 100 * k, 9 * k)
    changes = [(k, watch.resting) for k in range(40, 200) if watch.look(0.05 * k, 100 * k, 360 + 12 * (k - 40))]
    first = changes[0][0]
    assert changes[0][1]
    assert 40 < first < 61
    assert [resting for _, resting in changes[:2]] == [True, False]
    assert (changes[1][0] - first) * 0.05 == pytest.approx(stepdown.REST_S, abs=0.06)
    assert watch.count == sum(resting for _, resting in changes)


def test_each_further_rest_is_twice_as_long_until_all_is_forgiven():
    watch, rests, now, late = StepDown(), [], 0.0, 0
    while len(rests) < 8:
        now += 0.05
        late += 0 if watch.resting else 10
        if watch.look(now, round(now * 200), late):
            rests.append(now if watch.resting else now - rests.pop())
    assert np.allclose(rests[:7], [5, 10, 20, 40, 80, 80, 80], atol=0.11)
    while watch.resting:
        now += 0.05
        watch.look(now, round(now * 200), late)
    for _ in range(1300):  # 65 s without a late mask
        now += 0.05
        assert not watch.look(now, round(now * 200), late)
    begun = None
    while begun is None or watch.resting:
        now, late = now + 0.05, late + 10
        if watch.look(now, round(now * 200), late) and watch.resting:
            begun = now
    assert now - begun == pytest.approx(5, abs=0.11)


def test_the_fade_goes_evenly_from_mask_to_mask_and_back():
    rng = np.random.default_rng(0)
    first, second, plain = (rng.random((2, 9), np.float32) for _ in range(3))
    mask, level = first.copy(), 0.0
    for k in range(1, 13):
        last = mask.copy()
        mask[:] = np.nan
        level = fade(mask, last, plain, level, True)
        share = min(1.0, k * STEP)
        assert np.allclose(mask, (1 - share) * first + share * plain, atol=1e-6)
    for k in range(1, 13):
        mask = second.copy()
        level = fade(mask, mask, plain, level, False)
        share = max(0.0, 1 - k * STEP)
        assert np.allclose(mask, (1 - share) * second + share * plain, atol=1e-6)


def test_the_fixed_mask_takes_the_voice_of_the_middle():
    spec = StreamSpec(48000, 2, 256)
    hz = np.fft.rfftfreq(spec.window, 1 / 48000)
    mask = plain_mask(spec, "mid_side")
    assert not mask[1].any()
    assert np.all(mask[0, (hz >= 180) & (hz <= 8000)] == 1)
    assert not mask[0, (hz < 90) | (hz > 14000)].any()
    assert np.array_equal(plain_mask(spec, "channels"), np.stack([0.5 * mask[0]] * 2))
    assert np.array_equal(plain_mask(spec, "complex")[:2], plain_mask(spec, "channels"))
    assert not plain_mask(spec, "complex")[2:].any()


@pytest.mark.parametrize("name", ["midside", "python"])
def test_a_separator_that_rests_is_not_called_and_comes_back(name: str):
    separator: Separator = create("midside") if name == "midside" else Faulty("nan", first=10**9)
    source = SignalSource("noise")
    source.open()
    stream = Stream(NullDriver(48000, 64), source, separator, 64, Controls())
    stream.feed()
    plain = plain_mask(stream.spec, separator.mask_kind)
    stream.start()
    try:
        for resting in (True, False, True):
            stream.rest(resting)
            limit = time.monotonic() + 10
            while time.monotonic() < limit:
                time.sleep(0.02)
                if all(np.array_equal(mask, plain) == resting for mask in stream.chain.memory.masks[:4]):
                    break
            assert all(np.array_equal(mask, plain) == resting for mask in stream.chain.memory.masks[:4])
    finally:
        stream.stop()


def test_a_session_steps_down_only_where_auto_chose(monkeypatch: pytest.MonkeyPatch):
    slow = Faulty("stall", first=0, count=10**9, seconds=0.02)
    monkeypatch.setattr("rtsep.engine.session.create", lambda name, device: slow)
    monkeypatch.setattr("rtsep.engine.session.resolve", lambda *wanted: ("slow", ""))
    for separator, steps in (("auto", 1), ("slow", 0)):
        session = Session(SessionOptions("test:noise", "null", separator=separator, duration_s=30.0))
        session.start()
        limit = time.monotonic() + (10.0 if steps else 3.0)
        while time.monotonic() < limit and session.snapshot().stepdowns == 0:
            time.sleep(0.05)
        stats = session.snapshot()
        session.stop(0)
        assert stats.stepdowns == steps
        assert any("too much load" in line for line in stats.messages) == bool(steps)
