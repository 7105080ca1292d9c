"""Accompaniments from scores: notes are read as written, arranged, and played."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from rtsep.training.data.scores import FONT, arrange, drums, read_song, render, write_midi
from rtsep.training.data.sources import CACHE_RATE

mido = pytest.importorskip("mido", reason="needs mido: pip install mido")


def _song() -> bytes:
    """Two tracks at 120 beats a minute: a chord every beat, and a melody of half notes."""
    song = mido.MidiFile(ticks_per_beat=480)
    song.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500000)]))
    for name, pitches, length in (("PIANO", (40, 52, 55), 480), ("MELODY", (72,), 960)):
        track = mido.MidiTrack([mido.MetaMessage("track_name", name=name)])
        for _ in range(16):
            track += [mido.Message("note_on", note=p, velocity=80) for p in pitches]
            track += [mido.Message("note_on", note=p, velocity=0, time=length * (p == pitches[0])) for p in pitches]
        song.tracks.append(track)
    file = io.BytesIO()
    song.save(file=file)
    return file.getvalue()


def test_notes_are_read():
    tracks, beat = read_song(_song())
    assert beat == 0.5
    assert len(tracks["PIANO"]) == 48
    assert tracks["MELODY"][1] == (1.0, 2.0, 72, 80)


def test_arrangements_follow_from_the_seed(tmp_path: Path):
    tracks, beat = read_song(_song())
    kinds = set()
    for seed in range(12):
        rng, again = np.random.default_rng(seed), np.random.default_rng(seed)
        parts = arrange(rng, tracks, beat)
        assert parts == arrange(again, tracks, beat)
        kinds |= {channel for channel, _, _ in parts}
        write_midi(rng, parts, 1.0, tmp_path / "a.mid")
        written = mido.MidiFile(str(tmp_path / "a.mid"))
        assert written.length < 30
        assert any(message.type == "note_on" for track in written.tracks for message in track)
    assert kinds == {0, 1, 2, 3, 4, 5, 9}


def test_drums_keep_the_beat():
    notes = drums(np.random.default_rng(0), 0.5, 8.0)
    kicks = [start for start, _, pitch, _ in notes if pitch in (35, 36)]
    assert {0.0, 2.0, 4.0, 6.0} <= set(kicks)


def test_played(tmp_path: Path):
    if not (shutil.which("fluidsynth") and FONT.exists()):
        pytest.skip("needs fluidsynth and a General MIDI font: apt-get install fluidsynth fluid-soundfont-gm")
    tracks, beat = read_song(_song())
    rng = np.random.default_rng(0)
    write_midi(rng, arrange(rng, tracks, beat), 0.0, tmp_path / "a.mid")
    sound = render(tmp_path / "a.mid", FONT, tmp_path)
    assert sound.shape[0] == 2
    assert sound.shape[1] > 4 * CACHE_RATE
    assert 0.01 < np.abs(sound).max() < 1
