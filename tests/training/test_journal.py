"""What a training tells of its way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("rich")

from rtsep.training.journal import Journal


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_second_training_goes_on_with_the_log_of_the_first(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    for done in (0, 2):
        with Journal(path, "net", done=done, steps=4, quiet=True) as journal:
            journal.note(done + 1, loss=0.5)
            journal.show(done + 1, 0.5)
            assert len(_lines(path)) == done / 2 + 1  # on the disk at once
    assert [(line["step"], line["loss"]) for line in _lines(path)] == [(1, 0.5), (3, 0.5)]
    assert all(line["seconds"] >= 0 for line in _lines(path))


@pytest.mark.parametrize(("minutes", "late"), [(None, False), (60.0, False), (0.0, True)])
def test_it_knows_when_the_time_is_over(tmp_path: Path, minutes: float | None, late: bool):
    with Journal(tmp_path / "log.jsonl", "net", done=0, steps=1, minutes=minutes, quiet=True) as journal:
        assert journal.late is late


def test_an_error_closes_the_log_and_passes(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), Journal(tmp_path / "log.jsonl", "net", done=0, steps=1, quiet=True) as kept:
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="closed"):
        kept.note(1)
