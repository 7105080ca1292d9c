"""`rtsep evaluate` from end to end: three short songs, bad ones among them, a second run."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile

from rtsep.cli import main
from rtsep.errors import UsageError
from rtsep.evaluation import estimates, run, song, tables

from ..conftest import need
from . import songs

SEPARATORS = "midside,passthrough"


def needed() -> None:
    import importlib.util

    for name in ("museval", "matplotlib"):
        need(importlib.util.find_spec(name), f"{name} is not installed")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three songs")
    for seed in range(3):
        songs.write_song(folder / f"song {seed}", seed)
    return folder


@pytest.fixture(scope="module")
def scores(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a whole run in two processes; without v4, which is slow."""
    needed()
    out = tmp_path_factory.mktemp("scores")
    metrics = ["--metrics", "usdr,si-sdr", "--metrics", "v3,mir1k"]
    assert main.main(["evaluate", str(data), "-s", SEPARATORS, "-o", str(out), "-j", "2", "-q", *metrics]) == 0
    return out


def load(out: Path) -> dict[str, Any]:
    return json.loads((out / "scores.json").read_text())


def test_end_to_end(scores: Path) -> None:
    results = load(scores)
    assert [entry["song"] for entry in results["songs"]] == ["song 0", "song 1", "song 2"]
    assert [method["label"] for method in results["methods"]] == [
        *("mixture", "midside", "passthrough", "IBM, hop 256", "IRM, hop 256")
    ]
    summary = results["summary"]
    assert summary["mixture"]["vocals"]["uSDR gain"] == 0.0
    assert summary["passthrough"]["vocals"]["uSDR gain"] == pytest.approx(0.0, abs=0.001)
    assert summary["passthrough"]["accompaniment"]["SDR v3"] is None
    # The voice is in the middle and the band is not: midside finds it, and stays under the ceiling of its filterbank.
    for column in ("uSDR", "SDR v3", "GNSDR", "SI-SDR"):
        row = [summary[name]["vocals"][column] for name in ("mixture", "midside", "IRM, hop 256")]
        assert row[0] < row[1] < row[2], column
    assert summary["midside"]["latency_ms"] == pytest.approx(1000 * 512 / songs.RATE)
    assert 0 < summary["midside"]["p50_ms"] <= summary["midside"]["p99_ms"]


def test_all_usual_metrics(data: Path, tmp_path: Path) -> None:
    needed()
    results = run.evaluate(data, tmp_path, ["midside"], songs=["song 0"], seconds=1.5, audio_songs=0)
    assert list(results["metrics"]) == ["usdr", "si-sdr", "v3", "v4"]
    rows = [results["summary"][name]["vocals"] for name in ("mixture", "midside", "IRM, hop 256")]
    assert rows[0]["SDR v4"] < rows[1]["SDR v4"] < rows[2]["SDR v4"]
    assert (tmp_path / "plots" / "sar-sir-v4.svg").is_file()


def test_tables_say_the_same(scores: Path) -> None:
    results = load(scores)
    page = (scores / "scores.md").read_text()
    rows = list(csv.DictReader((scores / "scores.csv").read_text().splitlines()))
    assert len(rows) == 3 * 5 * 2 * len(tables.columns(results))
    one = next(
        row
        for row in rows
        if (row["song"], row["method"], row["target"], row["metric"]) == ("song 1", "midside", "vocals", "SDR v3")
    )
    assert float(one["value_db"]) == pytest.approx(
        results["songs"][1]["methods"]["midside"]["scores"]["vocals"]["SDR v3"], abs=1e-4
    )
    assert f"| midside | 3 | {results['summary']['midside']['vocals']['uSDR']:.2f} |" in page
    for label in ("mixture (floor)", "IBM, hop 256 (ceiling)", "IRM, hop 256 (ceiling)"):
        assert page.count(f"| {label} | 3 |") == 2  # in the table of each part
    for name in results["metrics"]:
        assert f"(`{name}`)" in page


def test_report_stands_alone(scores: Path) -> None:
    page = (scores / "report.html").read_text()
    assert "<!--" not in page
    links = [unquote(link) for link in re.findall(r'(?:src|href)="([^"]+)"', page)]
    assert not [link for link in links if link.startswith(("http", "/", ".."))]
    assert all((scores / link).is_file() for link in links)
    assert len([link for link in links if link.endswith(".flac")]) == 2 * (6 * 2 - 1)
    pictures = {Path(link).name for link in links if "plots" in link}
    assert pictures >= {*("latency.svg", "cost.svg", "sar-sir-v3.svg")}
    assert [name for name in pictures if name.startswith("spectrogram-midside-song_0")]
    truth, rate = soundfile.read(scores / next(link for link in links if link.endswith("truth-vocals.flac")))
    assert rate == songs.RATE
    np.testing.assert_allclose(truth.T, songs.make(0)[0], atol=1e-4)


@pytest.mark.parametrize("change", ["nothing", "a method more", "a parameter", "a file", "an interrupted song"])
def test_a_second_run_does_what_is_missing(
    scores: Path, data: Path, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, copy = tmp_path / "out", tmp_path / data.name
    shutil.copytree(scores, out)
    shutil.copytree(data, copy)  # with the times of the files, but in another place
    for path in (out / "songs").iterdir():
        path.unlink()
    options: dict[str, Any] = {"metric_names": ["usdr"]}
    first = run.evaluate(copy, out, ["midside"], **options)
    done: list[tuple[str, str]] = []
    estimate = song.estimate

    def watched(method: Any, sounds: Any, *rest: Any) -> Any:
        done.append((sounds.name, method.label))
        return estimate(method, sounds, *rest)

    monkeypatch.setattr(song, "estimate", watched)
    names, wanted = ["midside"], []
    if change == "a method more":
        names = ["midside", "passthrough"]
        wanted = [(f"song {k}", "passthrough") for k in range(3)]
    elif change == "a parameter":
        options["settings"] = ["width=0.3"]
        wanted = [(f"song {k}", "midside") for k in range(3)]
    elif change == "a file":
        songs.write_song(copy / "song 1", 7)
        wanted = [("song 1", method["label"]) for method in first["methods"]]
    elif change == "an interrupted song":
        next(path for path in (out / "songs").iterdir() if "song_2" in path.name).write_text('{"song": "song 2", "met')
        wanted = [("song 2", method["label"]) for method in first["methods"]]
    second = run.evaluate(copy, out, names, **options)
    assert done == wanted
    if change in ("nothing", "an interrupted song"):
        assert [entry["methods"]["midside"]["scores"] for entry in second["songs"]] == [
            entry["methods"]["midside"]["scores"] for entry in first["songs"]
        ]


def test_bad_songs_are_listed_and_the_others_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needed()
    data = tmp_path / "data"
    songs.write_song(data / "good", 0, 2.0)
    voice, band = songs.make(0, 2.0)
    bad = {
        "lengths": (voice, band[:, :-1], "lengths differ: vocals.wav has 32000 frames, accompaniment.wav has 31999"),
        "silent": (0 * voice, band, "the vocals are silent"),
        "silent band": (voice, 0 * band, "the accompaniment is silent"),
        "mono": (voice[:1], band, "channels differ: vocals.wav has 1 channel (mono), accompaniment.wav has 2 channels"),
        "one sample": (voice[:, :1], band[:, :1], "1 frames long"),
    }
    for name, (v, a, _) in bad.items():
        songs.write(data / name / "vocals.wav", v)
        songs.write(data / name / "accompaniment.wav", a)
    songs.write(data / "missing" / "vocals.wav", voice)
    songs.write(data / "rates" / "vocals.wav", voice)
    songs.write(data / "rates" / "accompaniment.wav", band, 22050)
    songs.write_song(data / "no sound", 0, 1.0)
    (data / "no sound" / "vocals.wav").write_bytes(b"no sound at all")
    wanted = {name: text for name, (_, _, text) in bad.items()} | {
        "missing": "accompaniment.* missing in",
        "rates": "samplerates differ: vocals.wav has 16000 Hz, accompaniment.wav has 22050 Hz",
        "no sound": "vocals.wav",
    }
    out = tmp_path / "out"
    command = ["evaluate", str(data), "-s", "midside", "-o", str(out), "--metrics", "usdr,si-sdr", "--quiet"]
    assert main.main(command) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == len(wanted)
    results = load(out)
    faults = {entry["song"]: entry["fault"] for entry in results["songs"] if "fault" in entry}
    assert faults.keys() == wanted.keys()
    for name, text in wanted.items():
        assert text in faults[name]
        assert [line for line in lines if line.startswith(f"rtsep: {name}: ") and text in line]
        assert f"- {name}: {faults[name]}" in (out / "scores.md").read_text()
    assert results["summary"]["midside"]["songs"] == 1
    assert results["summary"]["midside"]["vocals"]["uSDR gain"] > 3


def test_what_a_library_refuses_costs_only_that(tmp_path: Path) -> None:
    """A voice whose channels cancel in their mean has no BSS figures; dollars in a name are no formula."""
    needed()
    data = tmp_path / "data"
    songs.write_song(data / "b A$AP_x_ $ong", 0, 2.0)
    voice, band = songs.make(1, 2.0)
    songs.write(data / "a cancelled" / "vocals.wav", np.stack([voice[0], -voice[0]]))
    songs.write(data / "a cancelled" / "accompaniment.wav", band)
    out = tmp_path / "out"
    assert main.main(["evaluate", str(data), "-s", "midside", "-o", str(out), "-q", "--metrics", "usdr,v3,v4"]) == 0
    results = load(out)
    cancelled = results["songs"][0]["methods"]["midside"]["scores"]["vocals"]
    assert cancelled["uSDR"] is not None and cancelled["SDR v3"] is None
    assert results["summary"]["midside"]["counts"]["vocals"]["SDR v3"] == 1
    assert "| midside | 1 to 2 |" in (out / "scores.md").read_text()


def test_an_error_that_nobody_thought_of(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed()
    load_song = song.load

    def failing(files: Any, seconds: float | None) -> Any:
        if files.name == "song 1":
            raise ZeroDivisionError("in a\nlibrary")
        return load_song(files, seconds)

    monkeypatch.setattr(song, "load", failing)
    found = run.evaluate(data, tmp_path, ["midside"], metric_names=["usdr"])
    assert tables.faults(found) == [("song 1", "ZeroDivisionError: in a library")]
    assert found["summary"]["midside"]["songs"] == 2


def test_results_outlive_a_song_that_cannot_be_read_for_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed()
    copy, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(data, copy)
    options: dict[str, Any] = {"metric_names": ["usdr"]}
    first = run.evaluate(copy, out, ["midside"], **options)
    (copy / "song 1" / "vocals.wav").rename(tmp_path / "away.wav")
    assert tables.faults(run.evaluate(copy, out, ["midside"], **options))
    (tmp_path / "away.wav").rename(copy / "song 1" / "vocals.wav")
    monkeypatch.setattr(song, "estimate", None)  # nothing is computed anew
    again = run.evaluate(copy, out, ["midside"], **options)
    assert again["songs"] == first["songs"]


def test_sound_and_pictures_belong_to_the_scores(data: Path, tmp_path: Path) -> None:
    needed()
    options: dict[str, Any] = {"metric_names": ["usdr"], "audio_songs": 1}
    run.evaluate(data, tmp_path, ["midside"], **options)
    heard = next(tmp_path.glob("audio/song_0*/midside-vocals.flac"))
    before = heard.read_bytes()
    run.evaluate(data, tmp_path, ["midside"], metric_names=["usdr"], audio_songs=0, settings=["width=0.05"])
    run.evaluate(data, tmp_path, ["midside"], **options, settings=["width=0.05"])
    assert heard.read_bytes() != before
    run.evaluate(data, tmp_path, ["midside"], **options, settings=["width=0.05"], songs=["song 1"])
    page = (tmp_path / "report.html").read_text()
    assert re.findall(r"spectrogram-midside-song_\d", page) == ["spectrogram-midside-song_1"]


def test_settings_reach_a_separator_that_is_only_swept(data: Path, tmp_path: Path) -> None:
    needed()
    options: dict[str, Any] = {"metric_names": ["usdr"], "audio_songs": 0, "songs": ["song 0"]}
    found = run.evaluate(data, tmp_path, [], sweeps=["midside:strength=0.5..1/2"], settings=["width=0.3"], **options)
    rows = [dict(method["params"]) for method in found["methods"] if method["sweep"]]
    assert [row["width"] for row in rows] == ["0.3", "0.3"]
    with pytest.raises(UsageError, match="two rows would be called midside strength=1"):
        sweeps = ["midside:strength=0.5..1/2", "midside:strength=1..2/2"]
        run.evaluate(data, tmp_path, [], sweeps=sweeps, **options)


def test_nothing_but_bad_songs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needed()
    songs.write(tmp_path / "data" / "song" / "vocals.wav", songs.make(0, 1.0)[0])
    assert main.main(["evaluate", str(tmp_path / "data"), "-s", "midside", "-o", str(tmp_path / "out"), "-q"]) == 2
    assert capsys.readouterr().err.startswith("rtsep: song: accompaniment.* missing in")
    assert "accompaniment.* missing" in (tmp_path / "out" / "scores.md").read_text()
    assert "accompaniment.* missing" in (tmp_path / "out" / "report.html").read_text()
    # A second run after the repair scores it.
    songs.write_song(tmp_path / "data" / "song", 0, 1.0)
    repaired = run.evaluate(tmp_path / "data", tmp_path / "out", ["midside"], metric_names=["usdr"], audio_songs=0)
    assert tables.faults(repaired) == []


def test_a_process_that_dies_costs_its_songs_only(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed()
    monkeypatch.setattr(song, "run", _die)
    results = run.evaluate(data, tmp_path, ["midside"], metric_names=["usdr"], audio_songs=0, jobs=2)
    assert [fault.partition(":")[0] for _, fault in tables.faults(results)] == [
        "a process ended unexpectedly (memory?)"
    ] * 3


def _die(job: song.Job) -> dict[str, Any]:
    os._exit(1)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--metrics", "usdr,sdr5"], ["unknown metric 'sdr5'", "si-sdr, usdr, v3, v4"]),
        (["--layout", "musdb"], ["unknown layout 'musdb'", "did you mean 'musdb18'?"]),
        (["--set", "width=9"], ["width=9"]),
        (["--set", "alpha=0.5"], ["--set alpha=0.5: none of midside has a parameter 'alpha'"]),
        (["--sweep", "midside:width=0..1"], ["--sweep midside:width=0..1", "LOW..HIGH/COUNT"]),
        (["--sweep", "midside:alpha=0..1/3"], ["unknown parameter 'alpha'"]),
        (["-s", "midside"], ["midside", "a name of its own"]),
        (["-s", "misdide"], ["unknown separator 'misdide'", "midside"]),
        (["--jobs", "0"], ["--jobs 0"]),
        (["--hop", "300"], ["hop 300"]),
    ],
)
def test_wrong_requests(
    data: Path, tmp_path: Path, arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    needed()
    out = tmp_path / "out"
    assert main.main(["evaluate", str(data), "-s", "midside", "-o", str(out), "--quiet", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rtsep: ") and error.count("\n") == 1
    for part in parts:
        assert part in error
    assert not out.exists()


def test_a_missing_library_is_one_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import builtins

    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "museval":
            raise ModuleNotFoundError(f"No module named '{name}'", name="museval")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main.main(["evaluate", str(data), "-s", "midside", "-o", str(tmp_path / "out"), "--quiet"]) == 2
    assert capsys.readouterr().err == "rtsep: museval is not installed: pip install 'rtsep[eval]'\n"


def test_sweep_is_a_curve(data: Path, tmp_path: Path) -> None:
    needed()
    results = run.evaluate(
        data,
        tmp_path / "out",
        ["midside"],
        songs=["song 0"],
        metric_names=["v3"],
        seconds=2.0,
        sweeps=["midside:width=0.1..0.5/3"],
        settings=["softness=0.4"],
        audio_songs=0,
    )
    points = [method for method in results["methods"] if method["sweep"]]
    assert [method["value"] for method in points] == [0.1, 0.3, 0.5]
    assert [dict(method["params"]) for method in points] == [
        {"softness": "0.4", "width": value} for value in ("0.1", "0.3", "0.5")
    ]
    assert len({results["summary"][method["label"]]["vocals"]["SIR v3"] for method in points}) == 3
    assert "midside, width" in (tmp_path / "out" / "plots" / "sar-sir-v3.svg").read_text()


def test_a_separator_that_fails_costs_its_own_row_only(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed()
    from rtsep.separators.passthrough import Passthrough

    def process(self: Passthrough, spectrum: Any, mask: Any) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(Passthrough, "process", process)
    results = run.evaluate(
        data, tmp_path / "out", ["passthrough", "midside"], songs=["song 0"], metric_names=["usdr"], audio_songs=0
    )
    assert tables.faults(results) == [
        ("song 0, passthrough", "separator passthrough failed: ZeroDivisionError: by design")
    ]
    assert results["summary"]["passthrough"]["songs"] == 0
    assert results["summary"]["midside"]["songs"] == 1


def test_another_rate_than_the_nets(tmp_path: Path) -> None:
    """A separator made for 44.1 kHz alone gets songs of 16 kHz resampled, and back, aligned."""
    from rtsep.evaluation.methods import Method
    from rtsep.evaluation.scores import sdr
    from rtsep.evaluation.sound import Song
    from rtsep.separators.passthrough import Passthrough

    class Narrow(Passthrough):
        def supported_samplerates(self) -> tuple[int, ...]:
            return (44100,)

    voice, band = songs.make(0, 1.5)
    sounds = Song("song", songs.RATE, voice + band, voice, band)
    back = estimates.separate(Narrow(), sounds.mixture, songs.RATE, 256)["vocals"]
    assert back.shape == sounds.mixture.shape
    inner = slice(800, -800)
    error = back[:, inner] - sounds.mixture[:, inner]
    assert 10 * np.log10((error**2).sum() / (sounds.mixture[:, inner] ** 2).sum()) < -25  # noise near 8 kHz is lost
    same = Method("IRM", "ceiling", "irm", hop=256)
    other = Method("IRM", "ceiling", "irm", hop=256, rates=(44100,))
    gains = [sdr(voice, estimates.estimate(method, sounds, "cpu")[0]["vocals"]) for method in (same, other)]
    assert min(gains) > 8
