"""The program between files, pipes, the demo song and a clock without a device."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from rtsep.cli import main
from tests.e2e.programs import rtsep
from tests.e2e.sound import Sound, sdr_db, song

RATES = (8000, 22050, 44100, 96000)


def write_song(path: Path, samplerate: int, channels: int, seconds: float = 2.0) -> Sound:
    """A song whose highest octave is empty, so that no change of rate takes anything away."""
    from rtsep.dsp.resample import Resampler

    mixture = np.ascontiguousarray(sum(song(seconds + 0.2)).T[:, :channels])
    narrow = Resampler(channels, "sinc_best").push(mixture, samplerate / 2 / 48000, last=True)
    wide = Resampler(channels, "sinc_best").push(narrow, 2.0, last=True)[: int(seconds * samplerate)]
    soundfile.write(path, wide, samplerate, subtype="FLOAT")
    return wide.T


def figures(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    """Summary of a run of the command line in this process."""
    assert main.main([*map(str, arguments), "--json"]) == 0, capsys.readouterr().err
    told: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["event"] == "summary"
    return told


def read(path: Path) -> tuple[Sound, int]:
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return sound.T, rate


@pytest.mark.parametrize("samplerate", RATES)
@pytest.mark.parametrize("channels", [1, 2])
def test_file_to_file_is_aligned_and_as_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], samplerate: int, channels: int
) -> None:
    """Also where the net's rate is another: both conversions and the latency are taken out again."""
    sound = write_song(tmp_path / "in.wav", samplerate, channels)
    told = figures(capsys, "--input", tmp_path / "in.wav", "--output", tmp_path / "out.flac")
    out, rate = read(tmp_path / "out.flac")
    assert rate == told["device_samplerate"] == samplerate
    assert told["samplerate"] == (
        samplerate if samplerate in (44100, 48000) else 48000 if samplerate > 48000 else 44100
    )
    assert out.shape == sound.shape
    middle = slice(samplerate // 4, -samplerate // 4)
    assert sdr_db(sound[:, middle], out[:, middle]) > (90 if samplerate == 44100 else 25)
    assert (told["xruns_in"], told["xruns_out"], told["late"]) == (0, 0, 0)


def test_file_to_file_is_what_separate_writes(tmp_path: Path) -> None:
    write_song(tmp_path / "song.wav", 44100, 2)
    done = rtsep("--input", tmp_path / "song.wav", "--output", tmp_path / "karaoke.wav", "--karaoke", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert rtsep("separate", tmp_path / "song.wav", "-o", tmp_path, "--quiet").returncode == 0
    karaoke, accompaniment = read(tmp_path / "karaoke.wav")[0], read(tmp_path / "song" / "accompaniment.wav")[0]
    assert karaoke.shape == accompaniment.shape
    assert np.abs(karaoke - accompaniment).max() < 1e-6


def test_pipe_to_pipe(tmp_path: Path) -> None:
    sound = write_song(tmp_path / "song.wav", 44100, 2)
    done = rtsep("--input", "-", "--output", "-", "-s", "passthrough", "-q", data=(tmp_path / "song.wav").read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    out, rate = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    assert rate == 44100
    assert out.T.shape == sound.shape
    assert sdr_db(sound, out.T) > 120


def test_raw_pipe_of_one_channel(tmp_path: Path) -> None:
    sound = np.ascontiguousarray(sum(song(1.0))[:1])
    done = rtsep("--input", "-:float32:48000:1", "--output", "-:float32", "-s", "midside", "-q", data=sound.tobytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert np.abs(np.frombuffer(done.stdout, np.float32) - sound[0]).max() < 1e-6


@pytest.mark.parametrize(("duration", "samplerate"), [(0.5, 48000), (1.7, 96000)])
def test_a_file_is_as_long_as_the_duration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], duration: float, samplerate: int
) -> None:
    """Though without a clock the sound is made much faster than it plays; the recording is no longer either."""
    arguments = ("--duration", str(duration), "--samplerate", str(samplerate), "-s", "midside")
    told = figures(capsys, "-i", "test:noise", "-o", tmp_path / "out.wav", "--record", tmp_path / "take", *arguments)
    latency = told["latency_frames"]
    out, rate = read(tmp_path / "out.wav")
    assert (out.shape[1], rate) == (round(duration * samplerate), samplerate)
    assert out[:, 100:].std() > 0.09  # from the first frame on, no latency in front
    vocals, music = (read(tmp_path / "take" / f"{stem}.wav")[0] for stem in ("vocals", "accompaniment"))
    assert out.shape[1] <= music.shape[1] <= out.shape[1] + 2 * latency
    assert np.abs((vocals + music)[:, 256 : 256 + out.shape[1]] - out).max() < 1e-6


def test_hops_that_are_ahead_of_their_sound_do_not_end_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtsep.cli.play.played_s", lambda stats: 1e9)
    arguments = ("--duration", "0.5", "-s", "midside", "-q")
    assert main.main(["-i", "test:noise", "-o", str(tmp_path / "out.wav"), *arguments]) == 0
    assert read(tmp_path / "out.wav")[0].shape[1] == 24000


def test_what_is_cut_at_full_scale_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = 1.5 * np.sin(np.arange(RATES[2]) / 20.0)[:, None]
    soundfile.write(tmp_path / "loud.wav", sound, RATES[2], subtype="FLOAT")
    arguments = ("separate", str(tmp_path / "loud.wav"), "-s", "midside", "-o", str(tmp_path / "parts"))
    assert main.main([*arguments, "--format", "flac"]) == 0
    loud = int((np.abs(sound) > 1).sum())
    told = re.search(r"(\d+) samples above full scale are cut in flac", capsys.readouterr().err)
    assert told and int(told[1]) == pytest.approx(loud, rel=0.01)  # what the filterbank rounds lies on either side
    assert main.main([*arguments]) == 0
    assert "cut" not in capsys.readouterr().err


def test_demo_to_file_and_to_null(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = figures(capsys, "--input", "demo", "--output", tmp_path / "demo.wav", "--acapella")
    out, rate = read(tmp_path / "demo.wav")
    assert (told["state"], rate) == ("ended", 48000)
    assert out.shape == (2, 27 * 48000)
    told = figures(capsys, "--input", "demo", "--output", "null", "--duration", "1")
    assert 1.0 <= told["position_s"] < 2.0
    assert told["xruns_in"] == 0


@pytest.mark.parametrize("samplerate", [8000, 96000, 192000])
def test_a_clock_of_any_rate(capsys: pytest.CaptureFixture[str], samplerate: int) -> None:
    arguments = ("--samplerate", str(samplerate), "--duration", "0.5")
    told = figures(capsys, "--input", "test:noise", "--output", "null", *arguments)
    assert told["device_samplerate"] == samplerate
    assert told["samplerate"] in (44100, 48000)
    assert told["xruns_in"] == 0
