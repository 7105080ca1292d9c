"""Which separator plays where a profile or `auto` is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtsep.errors import ModelError
from rtsep.separators import profiles, registry
from rtsep.separators.base import Separator
from rtsep.spec import PROFILES, StreamSpec
from tests.separators import tiny


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder of models that there is, empty."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setattr(registry, "model_folders", lambda: [folder])
    return folder


def measured(times_ms: dict[str, float], tried: list[str]) -> profiles.Measure:
    """In place of a clock: the time of each model, by its folder."""

    def measure(separator: Separator, spec: StreamSpec, seconds: float) -> float:
        name = separator.folder.name  # type: ignore[attr-defined]
        tried.append(name)
        return times_ms[name]

    return measure


def test_a_profile_has_the_model_of_its_name(models: Path) -> None:
    for profile in PROFILES:
        tiny.build(models / profile)
        assert profiles.resolve(None, profile) == (profile, "")
    assert profiles.resolve("adress", "live") == ("adress", "")


@pytest.mark.parametrize(
    ("there", "profile", "instead"),
    [
        (("koretzky", "monitor"), "live", "koretzky"),
        ((), "live", "midside"),
        (("koretzky", "live"), "monitor", "midside"),
        (("koretzky", "live"), "karaoke", "live"),
        (("koretzky",), "karaoke", "koretzky"),
    ],
)
def test_without_that_model_another_plays_and_it_is_said(
    models: Path, there: tuple[str, ...], profile: str, instead: str
) -> None:
    for name in there:
        tiny.build(models / name)
    name, note = profiles.resolve(None, profile)
    assert name == instead
    assert profile in note and instead in note


def test_auto_takes_the_largest_that_leaves_half_of_the_hop(models: Path) -> None:
    for name, more in (("live", 2000), ("live-small", 500), ("live-tiny", 0), ("lively", 5000), ("monitor", 9000)):
        tiny.build(models / name)
        (models / name / "more.onnx").write_bytes(bytes(more))
    assert profiles.variants("live") == ["live", "live-small", "live-tiny"]
    hop_ms = 1000 * tiny.HOP / 48000
    slow, fast = 0.51 * hop_ms, 0.49 * hop_ms
    for times, name, tried in (
        ((fast, fast, fast), "live", 1),
        ((slow, fast, fast), "live-small", 2),
        ((slow, slow, fast), "live-tiny", 3),
        ((slow, slow, slow), "midside", 3),
    ):
        seen: list[str] = []
        clock = measured(dict(zip(("live", "live-small", "live-tiny"), times, strict=True)), seen)
        found, note = profiles.fastest("live", "cpu", clock)
        assert found == name
        assert seen == ["live", "live-small", "live-tiny"][:tried]
        assert f"{name} plays" in note
        assert f"{times[0]:.2f} ms" in note


def test_auto_without_a_model_that_can_be_used(models: Path) -> None:
    assert profiles.resolve("auto", "karaoke") == (
        "midside",
        "auto: there is no model of the profile karaoke; midside plays.",
    )
    (tiny.build(models / "karaoke") / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="damaged"):
        registry.create("karaoke", device="cpu").prepare(StreamSpec(48000, 2, tiny.HOP, tiny.WINDOW))
    name, note = profiles.fastest("karaoke", "cpu", profiles.paced)
    assert name == "midside"
    assert "karaoke cannot be used" in note


def test_the_measure_counts_every_hop_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    class Sleepy(Separator):
        """Takes 1 ms for each hop but for every twentieth, which takes 3 ms."""

        name, summary = "sleepy", ""
        hops = 0

        def prepare(self, spec: StreamSpec) -> None:
            self.hops = 0

        def process(self, spectrum: np.ndarray, mask: np.ndarray) -> None:
            assert np.isfinite(spectrum).all()
            self.hops += 1
            now[0] += 0.003 if self.hops % 20 == 0 else 0.001

        def reset(self) -> None: ...

    monkeypatch.setattr(profiles.time, "sleep", sleep)
    monkeypatch.setattr(profiles.time, "perf_counter", lambda: now[0])
    separator = Sleepy()
    assert profiles.paced(separator, StreamSpec(48000, 2, 256), 1.0) == pytest.approx(3.0)
    assert separator.hops == pytest.approx(48000 / 256, abs=1)
