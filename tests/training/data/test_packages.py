"""Music out of packages of a distribution: what is cut, what is left out, what is said when a package is missing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtsep.errors import UsageError
from rtsep.training.data import packages
from rtsep.training.data.sources import CACHE_RATE

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb, of Debian")
NAME = "toy-music"


def tone(path: Path, seconds: float, hz: float, rate: int = 44100) -> None:
    """A tone whose level grows from piece to piece, so that they can be told apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(int(seconds * rate)) / rate
    sound = 0.4 * (0.2 + 0.8 * t / seconds) * np.sin(2 * np.pi * hz * t)
    with soundfile.SoundFile(path, "w", rate, 2, format="OGG", subtype="VORBIS") as file:
        for part in np.array_split(np.stack([sound, 0.5 * sound], 1), 20):
            file.write(part)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one package: a long track, a short one, one with voices, a sound that is no music."""
    root = tmp_path_factory.mktemp("toy")
    inside, games = root / NAME, root / NAME / "usr/share/games/toy"
    tone(games / "music/theme one.ogg", 170, 440)
    tone(games / "music/jingle.ogg", 10, 880)
    tone(games / "music/coarse.ogg", 60, 660, rate=22050)
    tone(games / "music/choir.ogg", 60, 550)
    tone(games / "sfx/wind.ogg", 60, 330)
    for path, text in (
        (inside / "DEBIAN/control", f"Package: {NAME}\nVersion: 1\nArchitecture: all\nMaintainer: a\nDescription: b\n"),
        (inside / "usr/share/doc" / NAME / "copyright", "License: CC0-1.0\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    subprocess.run(["dpkg-deb", "-Znone", "-b", str(inside), str(root / f"{NAME}_1_all.deb")], check=True)
    return root


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy package instead of the real ones."""
    monkeypatch.setattr(packages, "PACKAGES", {NAME: "*/music/*"})
    monkeypatch.setattr(packages, "SUNG", ("*/choir.*",))


@pytest.mark.usefixtures("known")
def test_long_tracks_without_voices_are_cut(built: Path, tmp_path: Path):
    assert packages.cut(tmp_path, built, NAME) == 2
    found = sorted((tmp_path / "accompaniment").glob("*"))
    assert [path.name for path in found] == [f"deb-{NAME}_music-theme-one_{i}.opus" for i in (0, 1)]
    levels = []
    for path in found:
        sound, rate = soundfile.read(path)
        assert rate == CACHE_RATE
        assert sound.shape == (packages.SECONDS * rate, 2)
        spectrum = np.abs(np.fft.rfft(sound[:, 0] * np.hanning(len(sound))))
        assert spectrum.argmax() / packages.SECONDS == pytest.approx(440, abs=0.5)
        assert np.std(sound[:, 1]) / np.std(sound[:, 0]) == pytest.approx(0.5, abs=0.05)
        levels.append(np.std(sound[:, 0]))
    middle = [0.2 + 0.8 * ((170 - 50) * place + 25) / 170 for place in (0.25, 0.75)]
    assert levels[1] / levels[0] == pytest.approx(middle[1] / middle[0], rel=0.05)
    assert (tmp_path / "licences" / f"{NAME}.txt").read_text() == "License: CC0-1.0\n"


@pytest.mark.usefixtures("known")
def test_what_is_there_is_kept(built: Path, tmp_path: Path):
    packages.cut(tmp_path, built, NAME)
    first = next((tmp_path / "accompaniment").glob("*_0.opus"))
    first.write_bytes(b"")
    assert packages.cut(tmp_path, tmp_path / "no packages here", NAME) == 2
    assert not first.read_bytes()


@pytest.mark.usefixtures("known")
def test_a_broken_package_is_said(tmp_path: Path):
    (tmp_path / f"{NAME}_1_all.deb").write_bytes(b"not a package")
    with pytest.raises(UsageError, match=f"wanted a Debian package, cannot read .*{NAME}"):
        packages.cut(tmp_path / "out", tmp_path, NAME)
    assert not (tmp_path / "out" / "licences").exists()


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt-get, of Debian")
def test_a_package_that_nobody_has_is_said(tmp_path: Path):
    with pytest.raises(UsageError, match="cannot fetch the package no-such-package-of-games: E: .*no-such"):
        packages.fetched("no-such-package-of-games", tmp_path)
