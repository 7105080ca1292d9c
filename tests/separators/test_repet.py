"""The repeating-pattern separator: what repeats goes to the music."""

from __future__ import annotations

import numpy as np
import pytest

from rtsep.engine.offline import split
from rtsep.separators.registry import create
from tests.e2e.sound import sdr_db


def notes(pitches: np.ndarray, frames: int, samplerate: int, decay: float) -> np.ndarray:
    """Notes of five harmonics, each `frames` long."""
    t = np.arange(frames) / samplerate
    envelope = np.minimum(1.0, t / 0.01) * np.exp(-t / decay)
    return np.concatenate(
        [envelope * sum(np.sin(2 * np.pi * h * pitch * t) / h for h in range(1, 6)) for pitch in pitches]
    )


def stems(samplerate: int, seconds: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """A melody that never repeats and a loop of 1.5 s with chords and a noise drum, shape (2, frames)."""
    draw = np.random.default_rng(8)
    frames = seconds * samplerate
    step = int(0.25 * samplerate)
    voice = notes(220 * 2 ** (draw.uniform(0, 24, 4 * seconds) / 12), step, samplerate, 0.4)[:frames]
    loop = sum(notes(110 * 2 ** (draw.integers(0, 24, 6) / 12), step, samplerate, 0.2) for _ in range(3))
    for hit in range(3):
        at = hit * len(loop) // 3
        loop[at : at + step] += draw.standard_normal(step) * np.exp(-np.arange(step) / (0.03 * samplerate))
    music = np.tile(loop, seconds)[:frames]
    music *= np.sqrt((voice**2).mean() / (music**2).mean())
    place = np.array([[1.0], [0.7]])
    return (0.1 * voice * np.ones((2, 1))).astype(np.float32), (0.1 * music * place).astype(np.float32)


@pytest.mark.parametrize(("samplerate", "hop", "channels"), [(44100, 256, 2), (48000, 1024, 1), (16000, 64, 2)])
@pytest.mark.parametrize("binary", ["off", "on"])
def test_a_loop_under_a_melody_is_found(samplerate: int, hop: int, channels: int, binary: str) -> None:
    voice, music = (part[:channels] for part in stems(samplerate))
    separator = create("repet")
    separator.params.set("bass", 0)
    separator.params.set("binary", binary)
    vocals, rest = split(separator, voice + music, samplerate, hop)
    heard = slice(5 * samplerate, None)
    assert sdr_db(voice[:, heard], vocals[:, heard]) - sdr_db(voice[:, heard], (voice + music)[:, heard]) > 4.5
    assert sdr_db(music[:, heard], rest[:, heard]) - sdr_db(music[:, heard], (voice + music)[:, heard]) > 4.5


def test_what_was_never_heard_is_voice_and_what_stays_is_music() -> None:
    voice, music = stems(44100, 8)
    separator = create("repet")
    separator.params.set("bass", 0)
    separator.params.set("treble", 24000)
    vocals, _ = split(separator, music, 44100)
    assert sdr_db(music[:, :4000], vocals[:, :4000]) > 60
    assert np.square(vocals[:, 3 * 44100 :]).sum() < 0.05 * np.square(music[:, 3 * 44100 :]).sum()
