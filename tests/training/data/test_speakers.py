"""Voices out of packages of a distribution: whose are taken, what is cut away around a word, whom training hears."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtsep.training.data import speakers
from rtsep.training.data.augment import Mixer
from rtsep.training.data.singing import people
from rtsep.training.data.sources import CACHE_RATE, Clip, Corpus

NAME = "toy-voices"


def say(path: Path, hz: float, *, rate: int = 44100, said: float = 0.5, noise_db: float = -60.0) -> None:
    """A second of noise with a tone in its middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(rate) / rate
    noise = np.random.default_rng(int(hz)).standard_normal(rate) * 10 ** (noise_db / 20)
    tone = 0.3 * np.sqrt(2) * np.sin(2 * np.pi * hz * t) * (np.abs(t - 0.5) < said / 2)
    soundfile.write(path, tone + 0.3 * noise, rate, subtype="VORBIS", format="OGG")


@pytest.mark.parametrize("noise_db", [-70.0, -25.0])
def test_what_is_around_a_word_is_cut_away(tmp_path: Path, noise_db: float):
    say(tmp_path / "a.ogg", 440, noise_db=noise_db)
    sound = speakers.word(tmp_path / "a.ogg")
    assert sound is not None and sound.dtype == np.float32
    assert len(sound) / CACHE_RATE == pytest.approx(0.5 + 2 * speakers.HOLD / 100, abs=0.05)
    assert np.sqrt((sound**2).mean()) == pytest.approx(speakers.RMS, rel=0.01)
    assert np.abs(np.fft.rfft(sound, 10 * CACHE_RATE)).argmax() / 10 == pytest.approx(440, abs=1)


@pytest.mark.parametrize(
    "kind", [{"rate": 22050}, {"said": 0.05}, {"said": 0.0, "noise_db": -80.0}], ids=["coarse", "short", "silent"]
)
def test_what_is_no_word_is_left_out(tmp_path: Path, kind: dict[str, float]):
    say(tmp_path / "a.ogg", 440, **kind)  # type: ignore[arg-type]
    assert speakers.word(tmp_path / "a.ogg") is None


def test_speakers_are_told_apart_and_their_words_strung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speakers, "VOICES", {NAME: speakers.People(r"/voices/(.+)/[^/]+$", "anna de/bert")})
    monkeypatch.setattr(speakers, "SECONDS", 1.5)
    for i in range(6):
        say(tmp_path / f"usr/voices/anna/{i}.ogg", 300)
    say(tmp_path / "usr/voices/de/bert/1.ogg", 500)
    say(tmp_path / "usr/voices/robot/1.ogg", 700)
    found = speakers.files(NAME, tmp_path)
    assert {name: len(paths) for name, paths in found.items()} == {"anna": 6, "de/bert": 1}
    sound = speakers.strung(found["anna"])
    assert 1.5 <= len(sound) / CACHE_RATE < 2.6  # no more words than fill the time
    silent = speakers.runs(sound == 0)
    pauses = [(end - begin) / CACHE_RATE for begin, end in silent if end - begin > 0.04 * CACHE_RATE]
    assert len(pauses) >= 2 and all(speakers.PAUSE[0] <= p <= speakers.PAUSE[1] + 0.01 for p in pauses)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb, of Debian")
def test_a_package_gives_its_voices_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speakers, "VOICES", {NAME: speakers.People(r"/voices/(.+)/[^/]+$", "anna de/bert")})
    inside = tmp_path / NAME
    say(inside / "usr/share/voices/anna/1.ogg", 300)
    say(inside / "usr/share/voices/de/bert/1.ogg", 500)
    for path, text in (
        (inside / "DEBIAN/control", f"Package: {NAME}\nVersion: 1\nArchitecture: all\nMaintainer: a\nDescription: b\n"),
        (inside / "usr/share/doc" / NAME / "copyright", "License: GPL-2\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    subprocess.run(["dpkg-deb", "-Znone", "-b", str(inside), str(tmp_path / f"{NAME}_1_all.deb")], check=True)
    assert speakers.take(tmp_path, tmp_path, NAME) == 2
    names = [path.name for path in sorted((tmp_path / "vocals").glob("*"))]
    assert names == [f"deb-{NAME}_anna.opus", f"deb-{NAME}_de-bert.opus"]
    assert (tmp_path / "licences" / f"voices-{NAME}.txt").read_text() == "License: GPL-2\n"
    assert soundfile.info(tmp_path / "vocals" / names[0]).samplerate == CACHE_RATE
    assert speakers.take(tmp_path, tmp_path / "no packages here", NAME) == 2


def clip(name: str) -> Clip:
    return Clip(name, name.split("_", maxsplit=1)[0], False, np.ones((1, CACHE_RATE), np.int16))


def test_training_draws_them_beside_the_voices_that_sing():
    sung, spoken = [clip("kumi_1"), clip("kumi_2")], [clip("deb-toy_anna"), clip("deb-toy_bert")]
    mixer = Mixer(Corpus([*sung, *spoken], [clip("band_1")], []), seed=0)
    assert sorted([c.name for c in clips] for _, clips in mixer.voices) == [
        [c.name for c in spoken],
        [c.name for c in sung],
    ]
    persons = people([*sung, *spoken])
    assert {name: len(clips) for name, clips in persons.items()} == {"kumi": 2, "deb-toy_anna": 1, "deb-toy_bert": 1}
