"""The guard passes what is as fast as its baseline, fails what is slower, and is not fooled by a passing neighbour."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from benchmarks import guard
from benchmarks.guard import Baseline, check, ratio

CPU = "this one"
BASELINE = Baseline(CPU, {"host": 1.2, "midside": 0.3}, 0.25, 0.6)


class Time:
    """A clock that goes on only by work; some of it may be disturbed."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def work(self, cost: Callable[[int], float]) -> Callable[[], None]:
        """Work whose cost depends on how often it was done."""
        times = 0

        def do() -> None:
            nonlocal times
            self.now += int(1000 * cost(times))
            times += 1

        return do


def verdict(host: Callable[[int], float], cpu: str = CPU) -> list[str]:
    clock = Time()
    works = {"host": clock.work(host), "midside": clock.work(lambda _: 0.3)}
    return check(works, clock.work(lambda _: 1.0), BASELINE, cpu, clock, pairs=20)


def test_the_same_speed_passes() -> None:
    assert verdict(lambda _: 1.2) == []


def test_a_slower_part_fails_by_name() -> None:
    assert verdict(lambda _: 1.2 * 1.3) == ["host"]


def test_another_processor_has_a_wider_margin() -> None:
    assert verdict(lambda _: 1.2 * 1.3, "another") == []
    assert verdict(lambda _: 1.2 * 1.7, "another") == ["host"]


def test_single_disturbed_pairs_do_not_count() -> None:
    assert verdict(lambda n: 20.0 if n % 3 == 0 else 1.2) == []


def test_a_disturbed_round_is_measured_again() -> None:
    assert verdict(lambda n: 3.0 if n < 30 else 1.2) == []


def test_ratio_is_the_median_of_pairs() -> None:
    clock = Time()
    assert ratio(clock.work(lambda n: 2.0 + (n == 5)), clock.work(lambda _: 1.0), clock, 11) == pytest.approx(2.0)


def test_the_hot_path_itself_passes_its_own_baseline_and_fails_when_slowed() -> None:
    works, reference = guard.parts()
    assert set(works) == set(Baseline.read().ratios)
    clock = Time()
    work = works["host, hop 256"]

    def counted(done: Callable[[], object], cost: int) -> Callable[[], None]:
        """Work that is really done once; each time it takes as long as is said."""
        once = [done]

        def do() -> None:
            if once:
                once.pop()()
            clock.now += cost

        return do

    baseline = Baseline(CPU, {"host": 1.2}, 0.25, 0.6)
    assert check({"host": counted(work, 1200)}, counted(reference, 1000), baseline, CPU, clock, 5) == []
    assert check({"host": counted(work, 1700)}, counted(reference, 1000), baseline, CPU, clock, 5) == ["host"]


def test_the_exit_code_tells(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(guard, "parts", lambda: ({"host": lambda: None}, lambda: None))
    monkeypatch.setattr(Baseline, "read", classmethod(lambda cls, path=None: BASELINE))
    for found, code in ((1.2, 0), (2.4, 1)):
        monkeypatch.setattr(guard, "ratio", lambda *_, found=found: found)
        assert guard.main([]) == code
    assert "slower than the baseline: host" in capsys.readouterr().out


def test_the_committed_baseline_is_whole() -> None:
    found = json.loads(guard.BASELINE.read_text())
    assert 0 < found["margin"] < found["margin_elsewhere"]
    assert all(value > 0 for value in found["ratios"].values())
    assert found["how"]
