"""Files read and written against soundfile's own reading; each bad file refused in one clear line."""

from __future__ import annotations

import gc
import resource
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import samplerate as libsamplerate
import soundfile

from rtsep.dsp.ring import Ring
from rtsep.errors import RtsepError, UsageError
from rtsep.io.file import FileSink, FileSource, SoundWriter, read_blocks
from rtsep.io.wav import WavWriter
from tests.conftest import need


def sound(frames: int = 30000, channels: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.8, 0.8, (channels, frames)).astype(np.float32)


def read_all(path: Path, samplerate: int | None = None) -> np.ndarray:
    with read_blocks(path, samplerate, 777) as reader:
        return np.concatenate(list(reader), axis=1)


def play(path: Path, samplerate: int, channels: int) -> np.ndarray:
    source, ring, parts = FileSource(path), Ring(1000, channels), []
    source.open()
    source.start(ring, samplerate)
    assert ring.fill > 0  # sound is there before anybody asks for it
    block, deadline = np.zeros((300, channels), np.float32), time.monotonic() + 20
    while not (source.finished and ring.fill == 0) and time.monotonic() < deadline:
        if count := ring.read(block):
            parts.append(block[:count].copy())
        else:
            time.sleep(0.0005)
    source.stop()
    got = np.concatenate(parts).T
    assert abs(got.shape[1] - source.total_frames) <= 1
    return got


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        *(("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "FLOAT"), ("flac", None)),
        *((suffix, "PCM_16") for suffix in ("aiff", "w64", "au", "caf")),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_reading_equals_soundfile(tmp_path: Path, suffix: str, subtype: str | None, channels: int) -> None:
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, sound(channels=channels).T, 44100, subtype)
    wanted = soundfile.read(path, dtype="float32", always_2d=True)[0].T
    np.testing.assert_array_equal(read_all(path), wanted)
    np.testing.assert_array_equal(play(path, 44100, channels), wanted)


def test_channels_match_the_engine(tmp_path: Path) -> None:
    mono, stereo = tmp_path / "m.wav", tmp_path / "s.wav"
    soundfile.write(mono, sound(channels=1).T, 48000, "FLOAT")
    soundfile.write(stereo, sound().T, 48000, "FLOAT")
    np.testing.assert_array_equal(play(mono, 48000, 2), np.repeat(sound(channels=1), 2, axis=0))
    np.testing.assert_allclose(play(stereo, 48000, 1), sound().mean(axis=0, keepdims=True), atol=1e-7)


@pytest.mark.parametrize(("source", "target"), [(44100, 48000), (8000, 48000), (192000, 44100)])
def test_rate_conversion_equals_one_shot(tmp_path: Path, source: int, target: int) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, sound().T, source, "FLOAT")
    wanted = libsamplerate.resample(sound().T, target / source, "sinc_medium").T
    for got in (read_all(path, target), play(path, target, 2)):
        assert abs(got.shape[1] - 30000 * target / source) <= 2
        shared = min(got.shape[1], wanted.shape[1])
        np.testing.assert_allclose(got[:, :shared], wanted[:, :shared], atol=1e-6)


def test_ffmpeg_reads_the_rest(tmp_path: Path) -> None:
    need(shutil.which("ffmpeg"), "ffmpeg is not installed")
    wav, m4a = tmp_path / "x.wav", tmp_path / "x: 1.m4a"
    time_s = np.arange(96000) / 48000
    soundfile.write(wav, 0.5 * np.sin(2 * np.pi * 440 * time_s), 48000)
    subprocess.run(["ffmpeg", "-v", "error", "-i", wav, f"file:{m4a}"], check=True)
    with read_blocks(m4a) as reader:
        got = np.concatenate(list(reader), axis=1)
        assert (reader.samplerate, reader.channels) == (48000, 1) and abs(reader.frames - 96000) < 3000
    assert abs(got.shape[1] - 96000) < 3000
    spectrum = np.abs(np.fft.rfft(got[0, 10000:58000]))
    assert np.argmax(spectrum) == 440


def test_a_truncated_file_of_ffmpeg_is_no_shorter_song(tmp_path: Path) -> None:
    need(shutil.which("ffmpeg"), "ffmpeg is not installed")
    wav, m4a = tmp_path / "x.wav", tmp_path / "x.m4a"
    soundfile.write(wav, sound(400000).T, 44100)
    subprocess.run(["ffmpeg", "-v", "error", "-i", wav, "-movflags", "+faststart", m4a], check=True)
    data = m4a.read_bytes()
    m4a.write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match="x.m4a is (truncated|damaged)"):
        read_all(m4a)


def test_flac_that_was_written_to_a_pipe(tmp_path: Path) -> None:
    need(shutil.which("ffmpeg"), "ffmpeg is not installed")
    path = tmp_path / "x.flac"
    soundfile.write(path, sound().T, 44100)
    data = bytearray(path.read_bytes())
    assert data[:4] == b"fLaC" and data[4] & 127 == 0  # then STREAMINFO, with 36 bits for the number of frames
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    wanted = read_all(path)
    path.write_bytes(data)
    np.testing.assert_array_equal(read_all(path), wanted)


def bad_files(folder: Path) -> Iterator[tuple[Path, str]]:
    good = folder / "good.wav"
    soundfile.write(good, sound().T, 44100, "PCM_16")
    data = good.read_bytes()

    def file(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    yield folder / "missing.wav", "does not exist: sound files there: good.wav"
    yield folder / "no" / "x.wav", "there is no folder"
    yield folder, "is a folder"
    yield file("empty.wav", b""), "is empty: 0 bytes"
    yield file("truncated.wav", data[:50000]), "is truncated: 0.68 s are promised, 0.28 s are there"
    yield file("header.wav", data[:20]), "ends within its WAV header, after 20 bytes"
    yield file("nothing.wav", data[:40] + bytes(4)), "holds no sound: 0 frames"
    yield file("text.wav", b"This is a shopping list.\n" * 40), "no sound file.*text was found"
    yield file("noise.flac", bytes(range(256)) * 20), "no sound file"
    yield file("zero.wav", data[:22] + struct.pack("<H", 0) + data[24:]), "has 0 channels"
    soundfile.write(folder / "eight.wav", sound(channels=8).T, 44100)
    yield folder / "eight.wav", "has 8 channels: 1 .mono. or 2 .stereo. are possible"
    soundfile.write(folder / "slow.wav", sound().T, 4000)
    yield folder / "slow.wav", "has 4000 Hz: 8000 to 192000 Hz are possible"
    for name, value in (("nan", np.nan), ("inf", -np.inf), ("absurd", 1e20)):
        x = sound()
        x[1, 22050] = value
        soundfile.write(folder / f"{name}.wav", x.T, 44100, "FLOAT")
        yield folder / f"{name}.wav", r"NaN or Inf.*0\.500 s"
    soundfile.write(folder / "long.flac", sound(400000).T, 44100)
    flac = (folder / "long.flac").read_bytes()
    yield file("cut.flac", flac[: len(flac) // 2]), "is truncated|is damaged"
    for kind in ("aiff", "w64", "au", "caf"):
        soundfile.write(folder / f"long.{kind}", sound().T, 44100, "PCM_16")
        whole = (folder / f"long.{kind}").read_bytes()
        yield file(f"cut.{kind}", whole[: len(whole) // 2]), "is truncated: .* bytes are promised"


def test_bad_files_are_refused(tmp_path: Path) -> None:
    for path, message in bad_files(tmp_path):
        with pytest.raises(UsageError, match=message) as caught:
            read_all(path)
        assert "\n" not in str(caught.value), path
        if path.name != "cut.flac":
            with pytest.raises(UsageError, match=message):
                FileSource(path).open()


def test_a_file_that_breaks_off_says_so_after_its_sound(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    soundfile.write(path, sound(400000).T, 44100)
    path.write_bytes(path.read_bytes()[:-400000])
    source, ring = FileSource(path), Ring(1 << 20, 2)
    source.open()
    source.start(ring, 44100)
    while not source.finished:
        time.sleep(0.01)
    source.stop()
    assert isinstance(source.error, UsageError) and source.lost == str(source.error)
    assert ring.fill > 100000


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [("wav", 0.0), ("flac", 2e-7), ("aiff", 2e-7), ("ogg", None), ("mp3", None)]
)
def test_writing_and_reading_back(tmp_path: Path, suffix: str, tolerance: float | None) -> None:
    path = tmp_path / f"x.{suffix}"
    with SoundWriter(path, 44100, 2) as writer:
        for start in range(0, 30000, 1111):
            writer.write(sound()[:, start : start + 1111])
        assert not path.exists() and writer.part.exists()
    assert path.exists() and not writer.part.exists()
    got, samplerate = soundfile.read(path, dtype="float32")
    assert samplerate == 44100 and abs(len(got) - 30000) < 2000
    if tolerance is not None:
        np.testing.assert_allclose(got.T, sound(), atol=tolerance)


def test_a_large_wav_becomes_rf64(tmp_path: Path) -> None:
    with (tmp_path / "x.wav").open("w+b") as file:
        writer = WavWriter(file, 48000, 2, largest=100000)
        writer.write(sound().T)
        writer.close()
    assert (tmp_path / "x.wav").read_bytes()[:4] == b"RF64"
    assert soundfile.info(tmp_path / "x.wav").frames == 30000
    np.testing.assert_array_equal(read_all(tmp_path / "x.wav"), sound())


def test_what_a_killed_writer_leaves_still_plays(tmp_path: Path) -> None:
    writer = SoundWriter(tmp_path / "x.wav", 44100, 2)
    writer.write(sound())
    writer._file.flush()  # the process would be gone now
    shutil.copy(writer.part, tmp_path / "left.wav")
    np.testing.assert_array_equal(read_all(tmp_path / "left.wav"), sound())
    writer.abort()
    assert not writer.part.exists() and not writer.path.exists()


def test_targets_that_cannot_be_written(tmp_path: Path) -> None:
    old = tmp_path / "old.wav"
    old.write_bytes(b"mine")
    (tmp_path / "left.wav.part").write_bytes(b"x")
    (tmp_path / "sub.wav").mkdir()
    for path, message in (
        (old, "exists: choose another name, or add --overwrite"),
        (tmp_path / "x.wave", "did you mean 'wav'"),
        (tmp_path / "x", "no suffix of a sound file"),
        (tmp_path / "no" / "x.wav", "there is no folder"),
        (tmp_path / "sub.wav", "is a folder"),
        (tmp_path / "left.wav", "is left from another run"),
        (Path("/proc/x.wav"), "cannot be written"),
    ):
        with pytest.raises(UsageError, match=message):
            SoundWriter(path, 44100, 2)
    with pytest.raises(UsageError, match="cannot be written with 11000 Hz"):
        SoundWriter(tmp_path / "x.opus", 11000, 2)
    assert old.read_bytes() == b"mine" and not (tmp_path / "x.opus.part").exists()
    with SoundWriter(old, 44100, 2, overwrite=True) as writer:
        writer.write(sound())
        assert old.read_bytes() == b"mine"
    np.testing.assert_array_equal(read_all(old), sound())


@contextmanager
def small_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond `limit` bytes: what a full disk looks like."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", ["flac", "ogg", "wav"])
def test_what_is_given_up_leaves_nothing_and_prints_nothing(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    writer = SoundWriter(tmp_path / f"x.{suffix}", 44100, 2)
    writer.write(sound())
    writer.abort()
    writer = SoundWriter(tmp_path / f"y.{suffix}", 44100, 2)
    with small_disk(10_000), pytest.raises(RtsepError, match="File too large"):
        for seed in range(20):
            writer.write(sound(seed=seed))
        writer.close()
    writer.abort()
    del writer
    gc.collect()
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_amid_a_write_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SoundWriter(tmp_path / "x.flac", 44100, 2)

    class Interrupted:
        def __getattr__(self, name: str) -> object:
            return getattr(file, name)

        def write(self, data: bytes) -> int:
            raise KeyboardInterrupt

    file = writer._file._file
    monkeypatch.setattr(writer._file, "_file", Interrupted())
    with pytest.raises(KeyboardInterrupt), writer:
        for _ in range(20):
            writer.write(sound())
    assert not list(tmp_path.iterdir())


def test_samples_above_full_scale_are_counted_where_they_are_cut(tmp_path: Path) -> None:
    loud = 2 * sound()
    for suffix, cut in (("flac", int((np.abs(loud) > 1).sum())), ("wav", 0)):
        with SoundWriter(tmp_path / f"x.{suffix}", 44100, 2) as writer:
            writer.write(loud)
        assert writer.clipped == cut


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_full_disk(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    sink, ring = FileSink(path), Ring(1 << 17, 2)
    with small_disk(300_000):
        sink.open(44100, 2)
        sink.start(ring)
        for seed in range(10):
            block = np.ascontiguousarray(sound(seed=seed).T)
            while ring.space < len(block):  # drains on after the failure
                time.sleep(0.001)
            ring.write(block)
        sink.stop()
    assert isinstance(sink.error, RtsepError) and "cannot be written on after" in str(sink.error)
    assert "File too large" in str(sink.error)
    assert not path.exists() and (tmp_path / f"x.{suffix}.part").exists()
    if suffix == "wav":
        shutil.move(f"{path}.part", path)
        assert read_all(path).shape[1] > 20000


def test_file_sink_keeps_every_frame(tmp_path: Path) -> None:
    sink, ring = FileSink(tmp_path / "x.wav"), Ring(1 << 15, 2)
    sink.open(48000, 2)
    sink.start(ring)
    block = np.ascontiguousarray(sound(200000).T)
    done = 0
    while done < len(block):
        done += ring.write(block[done : done + 1000])
    sink.stop()
    assert sink.error is None
    np.testing.assert_array_equal(read_all(tmp_path / "x.wav"), sound(200000))
