"""The package of docs/add-a-separator.md: shown as it is, installed by pip, and played live."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from rtsep.engine.offline import split
from tests.conftest import need
from tests.e2e.programs import PATIENCE_S, ROOT
from tests.e2e.sound import sdr_db
from tests.engine.hosts import run

PACKAGE = ROOT / "tests" / "third_party" / "rtsep-changes"
FILES = ("pyproject.toml", "rtsep_changes.py")


def test_the_page_shows_these_files() -> None:
    text = (ROOT / "docs" / "add-a-separator.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:toml|python)\n(.*?)```", text, re.S)
    assert blocks == [(PACKAGE / name).read_text(encoding="utf-8") for name in FILES]
    assert sorted(path.name for path in PACKAGE.iterdir() if path.is_file()) == sorted(FILES)
    assert sum(len(block.splitlines()) for block in blocks) < 60


def command(target: Path, *arguments: str, module: str = "rtsep") -> str:
    """What a command prints that finds the package in `target`."""
    path = os.pathsep.join((str(ROOT), str(target)))
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_S,  # the first command may have to compile
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_installed_and_plays(tmp_path: Path) -> None:
    for name in ("pip", "setuptools"):
        need(find_spec(name), f"{name} is not installed")
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name in FILES:  # a build leaves files beside them
        (source / name).write_bytes((PACKAGE / name).read_bytes())
    build = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(target))
    command(target, "install", *build, str(source), module="pip")
    assert "changes" in command(target, "models")
    assert "memory_ms" in command(target, "models", "changes")
    options = ("--separator", "changes", "--set", "memory_ms=900", "--duration", "2", "--json")
    lines = command(target, "--input", "demo", "--output", "null", *options)
    last = json.loads(lines.splitlines()[-1])
    assert last["separator"] == "changes"
    assert last["hops"] > 200


def test_its_live_sound_is_that_of_a_file(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(PACKAGE))
    from rtsep_changes import Changes

    draw = np.random.default_rng(6)
    sound = (0.1 * draw.standard_normal((2, 24000)) * np.linspace(0, 1, 24000) ** 2).astype(np.float32)
    vocals, _ = split(Changes(), sound, 48000)
    live, stream = run(np.ascontiguousarray(sound.T), Changes())
    delay = stream.budget.total_frames
    np.testing.assert_allclose(live[delay:].T, sound[:, :-delay], atol=1e-6)
    assert 0 < sdr_db(sound, vocals) < 20
