"""Signals against their formulas, and the demo song: deterministic, in range, made of its stems."""

from __future__ import annotations

import time

import numpy as np
import pytest
import samplerate as libsamplerate

from rtsep.dsp.ring import Ring
from rtsep.errors import UsageError
from rtsep.io.base import Source
from rtsep.io.demo import PIECES, DemoSource, demo_stems
from rtsep.io.signals import SignalSource


def collect(source: Source, samplerate: int, frames: int, channels: int = 2, capacity: int = 4096) -> np.ndarray:
    """Up to `frames` frames that `source` gives through a ring."""
    ring = Ring(capacity, channels)
    source.open()
    source.start(ring, samplerate)
    out, done, deadline = np.zeros((frames, channels), np.float32), 0, time.monotonic() + 30
    while done < frames and time.monotonic() < deadline:
        count = ring.read(out[done:])
        done += count
        if count == 0:
            if source.finished and ring.fill == 0:
                break
            time.sleep(0.0005)
    source.stop()
    return out[:done]


@pytest.mark.parametrize("samplerate", [8000, 44100, 48000, 96000])
def test_sine(samplerate: int) -> None:
    frames = 20000
    got = collect(SignalSource("test:sine:1000"), samplerate, frames)
    wanted = 0.25 * np.sin(2 * np.pi * 1000 / samplerate * np.arange(frames))
    np.testing.assert_allclose(got[:, 0], wanted, atol=1e-6)
    np.testing.assert_array_equal(got[:, 0], got[:, 1])


def test_click() -> None:
    got = collect(SignalSource("click:100"), 44100, 4410 * 3 + 10)[:, 0]
    assert np.flatnonzero(got).tolist() == [4410, 8820, 13230] and got.max() == 0.5


def test_sweep_stays_below_half_the_rate_and_repeats() -> None:
    got = collect(SignalSource("sweep:1"), 8000, 16000)[:, 0]
    np.testing.assert_array_equal(got[:8000], got[8000:])
    crossings = np.sum(np.diff(np.signbit(got[7600:8000])))
    assert 0.8 * 0.45 * 8000 < crossings / 2 / 0.05 <= 0.45 * 8000


def test_noise_and_silence() -> None:
    first, second = (collect(SignalSource("noise:3"), 48000, 30000) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(np.corrcoef(first.T)[0, 1]) < 0.05
    assert np.abs(first.std() - 0.1) < 0.005
    assert not collect(SignalSource("silence"), 48000, 5000, channels=1).any()


def test_duration_ends_a_signal() -> None:
    source = SignalSource("sine", duration_s=0.25)
    assert len(collect(source, 48000, 48000)) == 12000
    assert source.finished and source.total_frames == 12000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("test:sin", "did you mean 'sine'"),
        ("test:sine:high", "wants a number, got 'high'"),
        ("test:sine:0", "1 to 96000"),
        ("test:silence:3", "takes no parameter"),
    ],
)
def test_wrong_signals(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SignalSource(text)


def test_demo_stems() -> None:
    vocals, accompaniment = demo_stems(44100)
    again = demo_stems(44100)
    np.testing.assert_array_equal(vocals, again[0])
    np.testing.assert_array_equal(accompaniment, again[1])
    assert vocals.dtype == accompaniment.dtype == np.float32 and vocals.shape == accompaniment.shape
    assert vocals.shape[0] == 2 and 20 * 44100 <= vocals.shape[1] <= 30 * 44100
    assert 0.5 < np.abs(vocals + accompaniment).max() < 1.0
    level = [20 * np.log10(np.sqrt(np.mean(x[:, 3 * 44100 : 24 * 44100] ** 2))) for x in (vocals, accompaniment)]
    assert abs(level[0] - level[1]) < 3.0
    assert not vocals[:, : 44100 // 2].any()  # the band begins alone
    # the same song at the other rate
    other = libsamplerate.resample(demo_stems(48000)[0][0][: 48000 * 6], 44100 / 48000, "sinc_fastest")
    middle = slice(3 * 44100, 5 * 44100)
    loud = np.abs(np.fft.rfft(other[middle])), np.abs(np.fft.rfft(vocals[0][middle]))
    assert np.corrcoef(*loud)[0, 1] > 0.8


@pytest.mark.parametrize("name", PIECES)
def test_every_demo_song_has_its_key_and_its_level(name: str) -> None:
    vocals, accompaniment = demo_stems(48000, name)
    assert 0.5 < np.abs(vocals + accompaniment).max() < 1.0
    assert not vocals[:, :24000].any()
    loud = np.abs(np.fft.rfft(vocals.mean(0)))
    tonic = 261.63 * 2 ** (PIECES[name].shift / 12)  # the last note of the tune, long: its octave's semitones
    hz = np.fft.rfftfreq(vocals.shape[1], 1 / 48000)
    semitone = [
        sum(loud[1:][np.abs(12 * np.log2(hz[1:] / tonic) - k - 12 * o) < 0.3].sum() for o in (-1, 0, 1))
        for k in range(12)
    ]
    assert {int(k) for k in np.argsort(semitone)[-7:]} >= {
        0,
        4,
        7,
        9,
    }  # a major scale's steps, not those of another key


def test_an_unknown_demo_song() -> None:
    with pytest.raises(UsageError, match="no demo song 'balad'.*ballad"):
        DemoSource("balad")


@pytest.mark.parametrize("samplerate", [44100, 16000])
def test_demo_source_plays_the_mixture(samplerate: int) -> None:
    source = DemoSource()
    got = collect(source, samplerate, samplerate * 40, capacity=1 << 16)
    assert source.finished and abs(len(got) - source.total_frames) <= 1
    if samplerate == 44100:
        np.testing.assert_array_equal(got.T, sum(demo_stems(44100)))


def test_demo_source_goes_round_where_the_duration_asks() -> None:
    song = sum(demo_stems(48000)).T
    source = DemoSource(duration_s=30.0)
    got = collect(source, 48000, 48000 * 40, capacity=1 << 16)
    assert len(got) == 30 * 48000 == source.total_frames
    np.testing.assert_array_equal(got, np.concatenate([song, song])[: len(got)])
    assert len(collect(DemoSource(duration_s=1.0), 48000, 96000)) == 48000
