"""Oracles over all separators: live equals offline, the parts add up, files come out as they went in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtsep.engine.offline import separate_file, split
from rtsep.engine.stream import Controls
from rtsep.separators.registry import create
from tests.conftest import need
from tests.e2e.sound import noise, sdr_db, song
from tests.engine.hosts import run

CLASSICAL = ("midside", "adress", "band", "repet", "ica", "pitch-rules")
SEPARATORS = ("passthrough", "delay:3", *CLASSICAL, "koretzky")
PARTS = {"vocals": Controls(music_db=-np.inf), "music": Controls(vocals_db=-np.inf)}


def separator(name: str):
    if name == "koretzky":
        try:
            import onnxruntime  # noqa: F401
        except ImportError:
            need(False, "onnxruntime is not installed")
    return create(name)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", SEPARATORS)
def test_live_equals_offline(name: str, channels: int) -> None:
    mixture = np.ascontiguousarray(sum(song(2.0))[:channels])
    offline = dict(zip(PARTS, split(separator(name), mixture, 48000), strict=True))
    for part, controls in PARTS.items():
        live, stream = run(np.ascontiguousarray(mixture.T), separator(name), blocksize=256, controls=controls)
        delay = stream.budget.total_frames
        assert stream.xruns == (0, 0)
        got = live[delay:, :channels].T
        assert np.abs(got - offline[part][:, :-delay]).max() < 1e-6


@pytest.mark.parametrize("samplerate", [16000, 22050, 32000, 44100, 48000, 88200, 96000])
@pytest.mark.parametrize("hop", [64, 128, 256, 512, 1024])
@pytest.mark.parametrize("name", ["passthrough", *CLASSICAL])
def test_what_is_heard_adds_up_to_the_delayed_input(name: str, hop: int, samplerate: int) -> None:
    channels = 1 + (hop // 64 + samplerate // 50) % 2
    sound = noise(12 * 1024, channels)
    parts = [
        run(np.ascontiguousarray(sound.T), create(name), samplerate=samplerate, hop=hop, controls=controls)
        for controls in PARTS.values()
    ]
    delay = parts[0][1].budget.total_frames
    both = (parts[0][0] + parts[1][0])[delay:, :channels].T
    assert sdr_db(sound[:, :-delay], both) >= 100


@pytest.mark.parametrize("samplerate", [44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_koretzky_adds_up_to_the_delayed_input(channels: int, samplerate: int) -> None:
    sound = np.ascontiguousarray(sum(song(1.0))[:channels])
    parts = [
        run(np.ascontiguousarray(sound.T), separator("koretzky"), samplerate=samplerate, blocksize=512, controls=c)
        for c in PARTS.values()
    ]
    delay = parts[0][1].budget.total_frames
    both = (parts[0][0] + parts[1][0])[delay:, :channels].T
    assert sdr_db(sound[:, :-delay], both) >= 100
    assert 1 < sdr_db(sound[:, :-delay], parts[1][0][delay:, :channels].T) < 40  # something was taken out


@pytest.mark.parametrize(
    ("name", "samplerate", "channels"),
    [
        ("passthrough", 48000, 2),
        ("midside", 96000, 2),
        ("adress", 22050, 1),
        ("koretzky", 44100, 2),
        ("koretzky", 48000, 1),
        ("koretzky", 8000, 1),
        ("koretzky", 96000, 2),
    ],
)
@pytest.mark.parametrize("frames", [30011, 777])
def test_parts_of_a_file_are_aligned_and_add_up(
    tmp_path: Path, name: str, samplerate: int, channels: int, frames: int
) -> None:
    separator(name)
    mixture = sum(song(3.0))[:channels, :frames]
    soundfile.write(tmp_path / "song.wav", mixture.T, samplerate, subtype="FLOAT")
    vocals, music, *stems = (
        soundfile.read(path, dtype="float32", always_2d=True)
        for path in separate_file(tmp_path / "song.wav", tmp_path / "parts", separator=name)
    )
    assert vocals[1] == music[1] == samplerate
    assert vocals[0].shape == music[0].shape == (frames, channels)
    assert sdr_db(mixture.T, vocals[0] + music[0]) >= 100
    assert len(stems) == len(create(name).parts)
    assert not stems or sdr_db(music[0], sum(stem for stem, _ in stems)) >= 100
    if name == "passthrough":
        assert sdr_db(mixture.T, vocals[0]) >= 100
