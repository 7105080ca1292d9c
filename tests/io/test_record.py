"""Recordings: three aligned files, a full disk that ends only the recording, nothing overwritten."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rtsep.dsp.ring import Ring
from rtsep.errors import RtsepError, UsageError
from rtsep.io.record import FILES, Recorder


def stems(frames: int = 50000, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(2).uniform(-0.9, 0.9, (frames, 3 * channels)).astype(np.float32)


def fill(ring: Ring, sound: np.ndarray) -> None:
    done = 0
    while done < len(sound):
        done += ring.write(sound[done : done + 256])
        if ring.space < 256:
            time.sleep(0.001)


@pytest.mark.parametrize(("file_format", "tolerance"), [("wav", 0.0), ("flac", 2e-7)])
@pytest.mark.parametrize("channels", [1, 2])
def test_three_files(tmp_path: Path, file_format: str, tolerance: float, channels: int) -> None:
    recorder, ring = Recorder(tmp_path / "new" / "take", 44100, channels, file_format), Ring(8192, 3 * channels)
    recorder.start(ring)
    fill(ring, stems(channels=channels))
    recorder.stop()
    assert recorder.error is None and recorder.frames == 50000
    names = sorted(path.name for path in (tmp_path / "new" / "take").iterdir())
    assert names == sorted(f"{name}.{file_format}" for name in FILES)
    for k, path in enumerate(recorder.paths):
        got, samplerate = soundfile.read(path, dtype="float32", always_2d=True)
        np.testing.assert_allclose(got, stems(channels=channels)[:, k * channels : (k + 1) * channels], atol=tolerance)
        assert samplerate == 44100


def test_full_disk_ends_the_recording_and_keeps_what_there_is(tmp_path: Path) -> None:
    recorder, ring = Recorder(tmp_path, 44100, 2), Ring(8192, 6)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        recorder.start(ring)
        fill(ring, stems(200000))  # would hang if the ring were not drained any more
        recorder.stop()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(recorder.error, RtsepError) and "with the suffix .part" in str(recorder.error)
    for k, path in enumerate(recorder.paths):
        assert path.suffix == ".part"
        got = soundfile.read(path, dtype="float32")[0]
        assert len(got) > 15000
        np.testing.assert_array_equal(got, stems(200000)[: len(got), 2 * k : 2 * k + 2])


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "vocals.wav").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"vocals\.wav exists"):
        Recorder(tmp_path, 44100, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vocals.wav"]
    recorder, ring = Recorder(tmp_path, 44100, 2, overwrite=True), Ring(1024, 6)
    recorder.start(ring)
    recorder.stop()  # no sound has come
    assert (tmp_path / "vocals.wav").read_bytes() == b"mine"
    recorder, ring = Recorder(tmp_path, 44100, 2, overwrite=True), Ring(1024, 6)
    recorder.start(ring)
    fill(ring, stems(300))
    recorder.stop()
    assert soundfile.info(tmp_path / "vocals.wav").frames == 300


def test_a_recording_that_never_began_leaves_nothing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "x" / "y", 44100, 2)
    recorder.stop()
    recorder.stop()
    assert not list(tmp_path.iterdir())
    recorder = Recorder(tmp_path, 44100, 2)
    recorder.start(Ring(1024, 6))
    recorder.stop()
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made"):
        Recorder(tmp_path / "file" / "x", 44100, 2)
    with pytest.raises(UsageError, match="did you mean 'flac'"):
        Recorder(tmp_path, 44100, 2, "flacc")
