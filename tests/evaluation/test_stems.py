"""Songs whose drums, bass and rest are known: separators that tell them apart are scored on each."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from rtsep.engine.offline import split_stems
from rtsep.evaluation import metrics, run, tables
from rtsep.evaluation.layouts import find_songs
from rtsep.evaluation.methods import Method
from rtsep.evaluation.scores import sdr
from rtsep.evaluation.sound import Song, Sound, load
from rtsep.separators.base import OTHER, STEMS, Mask, Separator, Spectrum
from rtsep.spec import StreamSpec

from . import songs
from .test_run import needed

PARTS = (*STEMS, OTHER)


class Bands(Separator):
    """Voice in the middle of the spectrum, bass below, drums above."""

    name, summary = "bands", "three bands"
    stems = STEMS

    def prepare(self, spec: StreamSpec) -> None:
        hz = np.fft.rfftfreq(spec.window, 1 / spec.samplerate)
        rows = [(hz > 200) & (hz < 2000), hz > 4000, hz < 200][: 1 + len(self.stems)]
        self.rows = np.repeat(np.stack(rows).astype(np.float32), spec.channels, 0)

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        mask[:] = self.rows[: len(mask)]

    def reset(self) -> None:
        pass


def parts_of(seed: int, seconds: float = 3.0) -> dict[str, Sound]:
    voice, band = songs.make(seed, seconds)
    rng, t = np.random.default_rng(seed + 9), np.arange(voice.shape[1]) / songs.RATE
    hits = np.exp(-30 * (t % 0.5)) * rng.standard_normal(t.shape)
    bass = 0.2 * np.sin(2 * np.pi * (55 + seed) * t)
    made = {"vocals": voice, "drums": 0.2 * np.stack([hits, hits]), "bass": np.stack([bass, bass]), "other": band}
    return {name: sound.astype(np.float32) for name, sound in made.items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("musdb")
    for seed in range(2):
        parts = parts_of(seed)
        if seed:
            parts["drums"][:] = 0  # a song without drums
        for name, sound in parts.items():
            songs.write(folder / "test" / f"song {seed}" / f"{name}.wav", sound)
    return folder


@pytest.fixture
def bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Bands` under the name of a separator that there is."""
    make = Method.make
    monkeypatch.setattr(
        Method, "make", lambda self, device: Bands() if self.label == "passthrough" else make(self, device)
    )


def test_the_layout_names_them(data: Path) -> None:
    song = load(find_songs(data)[1][0], 2.0)
    assert tuple(song.stems) == PARTS
    np.testing.assert_allclose(sum(song.stems.values()), song.accompaniment, atol=1e-6)
    assert song.stems["bass"].shape == (2, 2 * songs.RATE)


@pytest.mark.usefixtures("bands")
def test_scores_of_stems(data: Path, tmp_path: Path) -> None:
    needed()
    results = run.evaluate(
        data, tmp_path, ["passthrough", "midside"], metric_names=["usdr", "si-sdr", "v3"], audio_songs=1
    )
    assert not tables.faults(results)
    first, second = (song["methods"]["passthrough"]["scores"] for song in results["songs"])
    parts = parts_of(0)
    mixture = np.sum(list(parts.values()), axis=0, dtype=np.float32)
    found = split_stems(Bands(), mixture, songs.RATE)
    for part in PARTS:
        value = sdr(parts[part], found[part])
        assert first[part]["uSDR"] == pytest.approx(value, abs=1e-3), part
        assert first[part]["uSDR gain"] == pytest.approx(value - sdr(parts[part], mixture), abs=1e-3)
        assert first[part]["SIR v3"] is not None
    assert "drums" not in second  # silent there
    assert second["bass"]["uSDR gain"] > 3
    assert results["summary"]["passthrough"]["drums"]["uSDR"] == pytest.approx(first["drums"]["uSDR"])
    assert set(results["songs"][0]["methods"]["midside"]["scores"]) == {"vocals", "accompaniment"}
    page = (tmp_path / "scores.md").read_text()
    table = page.partition("## Drums")[2].partition("## Bass")[0]
    assert "| passthrough |" in table
    assert "| mixture (floor) |" in table
    assert "midside" not in table
    assert "<h2>Bass</h2>" in (tmp_path / "report.html").read_text()
    with (tmp_path / "scores.csv").open() as lines:
        assert {row["target"] for row in csv.DictReader(lines)} >= {"vocals", "accompaniment", *PARTS}


def test_bss_eval_knows_the_stems_beside_the_vocals() -> None:
    needed()
    parts = parts_of(0, 1.5)
    mixture = np.sum(list(parts.values()), axis=0, dtype=np.float32)
    stems = {name: parts[name] for name in PARTS}
    song = Song("song", songs.RATE, mixture, parts["vocals"], mixture - parts["vocals"], stems)
    guess = {name: sound + np.float32(0.1) * mixture for name, sound in parts.items()}
    rows = metrics.score(["v3"], song, accompaniment=mixture - guess["vocals"], **guess)
    truth, estimates = (np.stack([s.mean(0) for s in sounds.values()]).astype(float) for sounds in (parts, guess))
    import museval

    wanted = museval.metrics.bss_eval_sources(truth, estimates, compute_permutation=False)[0][:, 0]
    for value, part in zip(wanted, parts, strict=True):
        if part != "vocals":
            assert rows[part]["SDR v3"] == pytest.approx(value, abs=1e-6)
