"""The robustness program on separators of which all is known."""

from __future__ import annotations

import numpy as np
import pytest

from rtsep.separators.registry import create
from rtsep.training.data.songs import Song
from tests.e2e.sound import song

pytest.importorskip("samplerate")

from benchmarks import robustness


@pytest.fixture(scope="module")
def found() -> list[Song]:
    return [Song("a", "wide", *song(3.0), 0.1), Song("b", "wide", *(part[:1] for part in song(2.0)), 0.1)]


def test_what_has_no_past_does_not_change(found: list[Song]) -> None:
    separator = create("midside")
    rows = {row["condition"]: row["change"] for row in robustness.invariance(separator, found)}
    assert rows.pop("as it is, 48 kHz") == 0
    assert all(abs(rows[f"peak at {level} dBFS"]) < 1e-3 for level in robustness.LEVELS_DB)
    assert abs(rows["mono"]) > 0
    for row in robustness.restarted(separator, found, 0.5):
        assert row["largest"] < 1e-3


def test_alone(found: list[Song]) -> None:
    rows = robustness.alone(create("passthrough"), found)  # all is voice
    assert rows["voice_least"] > 100
    assert abs(rows["music_least"]) < 0.01


def test_costs(found: list[Song]) -> None:
    rows = robustness.costs(create("passthrough"), found[0], 0.5)
    assert [row["sound"] for row in rows] == ["music", "silence", "denormals"]
    assert rows[0]["share"] == 1
    assert all(0 < row["p50"] <= row["p99"] for row in rows)
    assert np.isfinite([row["share"] for row in rows]).all()
