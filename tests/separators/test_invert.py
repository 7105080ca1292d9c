"""Phase inversion: the instrumental is found, followed and taken away."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtsep.dsp.resample import Resampler
from rtsep.engine.offline import split
from rtsep.engine.stream import Controls
from rtsep.errors import UsageError
from rtsep.separators.invert import Invert
from rtsep.separators.registry import create
from rtsep.spec import StreamSpec
from tests.e2e.programs import rtsep
from tests.e2e.sound import song
from tests.engine.hosts import run


def played(sound: np.ndarray, samplerate: int, frames: int, gains: list[float], ppm: float = 300.0) -> np.ndarray:
    """`sound` (channels, frames) slowed down by `ppm`, 0.37 s and 0.4 frames late, with a gain for each channel."""
    slow = Resampler(len(sound), "sinc_best").push(np.ascontiguousarray(sound.T), 1.0 + ppm * 1e-6, last=True).T
    before = int(0.37 * samplerate)
    spectrum = np.fft.rfft(np.pad(slow, ((0, 0), (before, 4096))), axis=1)
    size = slow.shape[1] + before + 4096
    late = np.fft.irfft(spectrum * np.exp(-2j * np.pi * 0.4 * np.arange(spectrum.shape[1]) / size), size, axis=1)
    out = np.zeros((len(sound), frames), np.float32)
    count = min(frames, size)
    out[:, :count] = late[:, :count] * np.array(gains)[:, None]
    return out


def cancelled_db(music: np.ndarray, voice: np.ndarray, vocals: np.ndarray, part: slice) -> float:
    rest = vocals[:, part] - voice[:, part]
    return float(10 * np.log10(np.square(music[:, part]).sum() / (np.square(rest).sum() + 1e-20)))


def notes(seconds: int, samplerate: int, seed: int, decay: float) -> np.ndarray:
    """Random notes with harmonics and a little noise, shape (1, frames)."""
    draw = np.random.default_rng(seed)
    sound = 0.003 * draw.standard_normal(seconds * samplerate)
    t = np.arange(int(0.8 * samplerate)) / samplerate
    for at in range(0, len(sound) - len(t), int(0.2 * samplerate)):
        pitch = 110 * 2 ** (draw.uniform(0, 36) / 12)
        level = np.exp(-t / decay) * np.minimum(1, t / 0.01)
        sound[at : at + len(t)] += 0.05 * level * sum(np.sin(2 * np.pi * h * pitch * t) / h for h in range(1, 8))
    return sound[None].astype(np.float32)


@pytest.mark.parametrize(
    ("samplerate", "file_rate", "hop", "channels"),
    [(44100, 44100, 256, 2), (48000, 44100, 64, 1), (48000, 96000, 1024, 2), (96000, 44100, 256, 1)],
)
def test_an_instrumental_that_drifts_is_cancelled(
    tmp_path: Path, samplerate: int, file_rate: int, hop: int, channels: int
) -> None:
    voice = 0.7 * np.repeat(notes(6, samplerate, 6, 0.2), channels, axis=0)
    music = np.concatenate([notes(7, 96000, 7, 0.2), notes(7, 96000, 8, 0.2)]).T
    known = Resampler(2, "sinc_best").push(np.ascontiguousarray(music), file_rate / 96000, last=True)
    soundfile.write(tmp_path / "band.wav", known, file_rate, subtype="FLOAT")
    known = Resampler(2, "sinc_best").push(np.ascontiguousarray(music), samplerate / 96000, last=True).T
    if channels == 1:
        known = known.mean(axis=0, keepdims=True)
    band = played(known, samplerate, voice.shape[1], [-0.7, -0.5][:channels])
    vocals, _ = split(Invert(str(tmp_path / "band.wav")), voice + band, samplerate, hop)
    assert cancelled_db(band, voice, vocals, slice(3 * samplerate, -samplerate // 4)) > 20


def test_still_so_after_five_minutes(tmp_path: Path) -> None:
    samplerate, seconds = 16000, 300
    band, voice = notes(seconds, samplerate, 1, 0.2), notes(seconds, samplerate, 2, 0.2)
    voice *= 0.7
    soundfile.write(tmp_path / "band.wav", band[0], samplerate, subtype="FLOAT")
    band = played(band, samplerate, voice.shape[1], [-0.7])
    vocals, _ = split(Invert(str(tmp_path / "band.wav")), voice + band, samplerate, 1024)
    for start in (3, 60, 280):
        part = slice(start * samplerate, (start + 15) * samplerate)
        assert cancelled_db(band, voice, vocals, part) > 20, f"from {start} s on"


def test_it_is_found_from_the_middle_and_again_after_a_jump(tmp_path: Path) -> None:
    samplerate = 16000
    band = notes(30, samplerate, 3, 0.2)
    soundfile.write(tmp_path / "band.wav", band[0], samplerate, subtype="FLOAT")
    parts = band[:, 12 * samplerate : 18 * samplerate], band[:, 4 * samplerate : 12 * samplerate]
    heard = np.concatenate(parts, axis=1)
    vocals, _ = split(Invert(str(tmp_path / "band.wav")), heard, samplerate)
    for start, end in ((3, 6), (11, 13)):
        part = slice(start * samplerate, end * samplerate)
        assert cancelled_db(heard, 0 * heard, vocals, part) > 25


@pytest.mark.parametrize("pause", ["file", "line", "player"])
def test_a_pause_does_not_lose_it(tmp_path: Path, pause: str) -> None:
    """Silence in the file, on the line, or with the player halted; all of it beyond `search_s`."""
    samplerate = 16000
    start, end = 8 * samplerate, 12 * samplerate
    band, voice = notes(20, samplerate, 9, 0.2), 0.3 * notes(20, samplerate, 10, 0.2)
    if pause == "file":
        band[:, start:end] = 0.0
    soundfile.write(tmp_path / "band.wav", band[0], samplerate, subtype="FLOAT")
    if pause == "player":
        band[:, end:] = band[:, start : start - end]
    mixture = voice + band
    if pause != "file":
        mixture[:, start:end] = 0.0
    separator = Invert(str(tmp_path / "band.wav"))
    separator.params.set("search_s", 1.0)
    vocals, _ = split(separator, mixture, samplerate)
    heard = slice(15 * samplerate if pause == "player" else end + samplerate // 5, 19 * samplerate)
    assert cancelled_db(band, voice, vocals, heard) > 15


def test_it_is_found_when_it_begins_anew(tmp_path: Path) -> None:
    """After the end of the file silence is no pause."""
    samplerate = 16000
    band = notes(8, samplerate, 3, 0.2)
    soundfile.write(tmp_path / "band.wav", band[0], samplerate, subtype="FLOAT")
    heard = np.tile(band, 2)
    vocals, _ = split(Invert(str(tmp_path / "band.wav")), heard, samplerate)
    assert cancelled_db(heard, 0 * heard, vocals, slice(12 * samplerate, 15 * samplerate)) > 20


def test_another_song_is_left_alone(tmp_path: Path) -> None:
    samplerate = 16000
    soundfile.write(tmp_path / "band.wav", notes(20, samplerate, 4, 0.2)[0], samplerate, subtype="FLOAT")
    other = notes(12, samplerate, 5, 0.2)
    vocals, _ = split(Invert(str(tmp_path / "band.wav")), other, samplerate)
    assert cancelled_db(other, other, vocals, slice(0, None)) > 15


@pytest.mark.parametrize("masked", ["off", "on"])
def test_live_equals_offline(tmp_path: Path, masked: str) -> None:
    samplerate = 48000
    voice, music = song(2.0)
    soundfile.write(tmp_path / "band.wav", music.T, samplerate, subtype="FLOAT")
    parts = []
    for separator in (Invert(str(tmp_path / "band.wav")) for _ in range(3)):
        separator.params.set("masked", masked)
        parts.append(separator)
    vocals, _ = split(parts[0], voice + music, samplerate)
    mixture = np.ascontiguousarray((voice + music).T)
    live, stream = run(mixture, parts[1], controls=Controls(music_db=-np.inf))
    rest, _ = run(mixture, parts[2], controls=Controls(vocals_db=-np.inf))
    delay = stream.budget.total_frames
    assert parts[0].place_s is not None
    assert delay == 512
    assert np.abs(live[delay:].T - vocals[:, :-delay]).max() < 1e-6
    np.testing.assert_allclose((live + rest)[delay:], mixture[:-delay], atol=1e-6)


def test_what_a_user_may_do_wrong(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs the instrumental: invert:FILE"):
        create("invert").prepare(StreamSpec(48000, 2))
    with pytest.raises(UsageError, match="~no-such-user/band.wav does not exist"):
        create("invert:~no-such-user/band.wav").prepare(StreamSpec(48000, 2))
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 2)), 48000)
    soundfile.write(tmp_path / "short.wav", np.ones((4800, 2)) * 0.1, 48000)
    soundfile.write(tmp_path / "silent.wav", np.zeros((48000, 2)), 48000)
    soundfile.write(tmp_path / "six.wav", np.ones((48000, 6)) * 0.1, 48000)
    for name, line in (
        ("nothing.wav", "does not exist"),
        (".", "is a folder"),
        ("text.wav", "text.wav"),
        ("empty.wav", "holds no sound"),
        ("short.wav", "is 0.10 s long; at least 0.5 s are needed"),
        ("silent.wav", "is silent"),
        ("six.wav", "has 6 channels"),
    ):
        with pytest.raises(UsageError, match="instrumental of separator invert: ") as caught:
            create(f"invert:{tmp_path / name}").prepare(StreamSpec(48000, 2))
        assert line in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_command_separates_with_an_instrumental(tmp_path: Path) -> None:
    """`~` is the home folder, the configuration's table is that of all instrumentals, a missing one is one line."""
    samplerate = 44100
    band, voice = notes(5, samplerate, 1, 0.2), 0.5 * notes(5, samplerate, 2, 0.2)
    soundfile.write(tmp_path / "band.wav", band[0], samplerate, subtype="FLOAT")
    soundfile.write(tmp_path / "song.wav", (voice + band)[0], samplerate, subtype="FLOAT")
    (tmp_path / "config.toml").write_text("[separators.invert]\ndepth = 0.0\n")
    command = ("separate", tmp_path / "song.wav", "-o", tmp_path / "parts", "--overwrite", "-q")
    home = {**os.environ, "HOME": str(tmp_path)}
    for more, least, most in ((("--config", tmp_path / "config.toml"), -1, 1), (("--set", "search_s=5"), 15, 99)):
        done = rtsep(*command, "--separator", "invert:~/band.wav", *more, env=home)
        assert (done.returncode, done.stderr) == (0, b"")
        vocals = soundfile.read(tmp_path / "parts" / "song" / "vocals.wav", dtype="float32", always_2d=True)[0].T
        assert least < cancelled_db(band, voice, vocals, slice(3 * samplerate, -samplerate // 4)) < most
    done = rtsep(*command, "--separator", "invert:~/nothing.wav", env=home)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"nothing.wav does not exist" in done.stderr
