"""Compiled code never outlives the sources that it was compiled from."""

import os
from pathlib import Path

import pytest

from rtsep import _cache


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    inner = tmp_path / "dsp" / "__pycache__"
    inner.mkdir(parents=True)
    (tmp_path / "dsp" / "gain.py").write_text("x = 1\n")
    (inner / "gain.f-1.py311.nbi").write_text("index")
    (inner / "gain.cpython-311.pyc").write_text("bytecode")
    monkeypatch.setattr(_cache, "_PACKAGE", tmp_path)
    monkeypatch.setattr(_cache, "_STAMP", tmp_path / "__pycache__" / "compiled.stamp")
    return tmp_path


def test_a_changed_file_empties_the_whole_cache(package: Path) -> None:
    index = package / "dsp" / "__pycache__" / "gain.f-1.py311.nbi"
    assert _cache.discard_stale()
    assert not index.exists()
    index.write_text("index")
    assert not _cache.discard_stale()
    assert index.exists()
    os.utime(package / "dsp" / "gain.py", ns=(1, 1))
    assert _cache.discard_stale()
    assert not index.exists()
    assert (package / "dsp" / "__pycache__" / "gain.cpython-311.pyc").exists()


def test_a_package_that_cannot_be_written_is_no_error(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cache, "_STAMP", package / "dsp" / "gain.py" / "stamp")
    assert _cache.discard_stale()
