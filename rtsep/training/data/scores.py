"""Accompaniments made from scores, because real ones without a voice are scarce.

    python -m rtsep.training.data.scores pop909.zip DATA/accompaniment --count 100 [--font FONT.sf2]
    python -m rtsep.training.data.scores pop909.zip DATA/stems --stems --count 80

Each is a part of a song of the POP909 set (MIDI; tracks MELODY, BRIDGE, PIANO) in an arrangement of its own, played by
FluidSynth: the piano part on any chord instruments, its lowest notes on a bass, drums in a drawn pattern, the bridge
and now and then the melody on a solo instrument. With --stems each has drums and a bass, and drums, bass and all else
are played apart, into ``score_NAME/{drums,bass,other}.opus``, which add up to the arrangement. Needs `mido` and the
program `fluidsynth` with a General MIDI font.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from rtsep.training.data.sources import CACHE_RATE
from rtsep.training.data.tools import require, run, scores_in, write_opus

SECONDS = 45.0
BASS, DRUMS = 3, 9  # channels
LEAD = 0.02  # seconds of silence before the first note
FONT = Path("/usr/share/sounds/sf2/default-GM.sf2")
CHORDS = (0, 1, 2, 4, 5, 6, 7, 11, 15, 16, 17, 18, 19, 24, 25, 26, 27, 28, 29, 30, 46, 48, 50, 62, 63, 81, 88, 90)
PADS = (16, 18, 19, 44, 48, 49, 50, 51, 61, 62, 88, 89, 90, 91, 92, 93, 94, 95)
BASSES = (32, 33, 34, 35, 36, 37, 38, 39, 43, 58, 87)
SOLOS = (0, 4, 11, 12, 21, 22, 24, 26, 27, 29, 30, 40, 41, 42, 56, 57, 59, 60, 64, 65, 66, 68, 71, 73, 75, 79, 80, 81)
KICK, SNARE, CLAP, HAT, OPEN_HAT, RIDE, CRASH = (35, 36), (38, 40), 39, 42, 46, 51, 49

STEM_FILES = ("drums", "bass", "other")

Note = tuple[float, float, int, int]  # start and end in seconds, pitch, velocity
Part = tuple[int, int, list[Note]]  # channel, program, notes


def read_song(data: bytes) -> tuple[dict[str, list[Note]], float]:
    """Notes of each named track of a MIDI file, and the length of a beat in seconds."""
    import mido

    song = mido.MidiFile(file=io.BytesIO(data))
    tempo = next((m.tempo for track in song.tracks for m in track if m.type == "set_tempo"), 500000)
    tracks: dict[str, list[Note]] = {}
    for track in song.tracks:
        ticks, on, notes = 0, {}, []
        for message in track:
            ticks += message.time
            now = mido.tick2second(ticks, song.ticks_per_beat, tempo)
            if message.type == "note_on" and message.velocity:
                on[message.note] = (now, message.velocity)
            elif message.type in ("note_on", "note_off") and message.note in on:
                start, velocity = on.pop(message.note)
                notes.append((start, now, message.note, velocity))
        tracks[track.name.strip("\0 ").upper()] = sorted(notes)
    return tracks, tempo / 1e6


def drums(rng: np.random.Generator, beat: float, seconds: float) -> list[Note]:
    """A pattern of one bar over and over, with fills."""
    kick, snare = int(rng.choice(KICK)), int(rng.choice(SNARE))
    steps = rng.random(16) < np.where(np.arange(16) % 4 == 0, 0.45, 0.12)
    steps[0] = True
    every = int(rng.choice([1, 2, 2, 4]))
    hat = int(rng.choice([HAT, HAT, RIDE, OPEN_HAT]))
    four = rng.random() < 0.3
    clap = rng.random() < 0.3
    sixteenth, notes = beat / 4, []
    swing = rng.uniform(0, 0.25) if rng.random() < 0.3 else 0.0
    for i in range(int(seconds / sixteenth)):
        at, step, bar = (i + (swing if i % 2 else 0)) * sixteenth, i % 16, i // 16
        fill = bar % 4 == 3 and step >= 12 and rng.random() < 0.5
        hits = [kick] if steps[step] or (four and step % 4 == 0) else []
        hits += [snare] if step in (4, 12) or fill else []
        hits += [CLAP] if clap and step in (4, 12) else []
        hits += [hat] if step % every == 0 else []
        hits += [CRASH] if step == 0 and bar % 8 == 0 else []
        notes += [(at, at + 0.1, hit, int(np.clip(rng.normal(95, 12), 30, 127))) for hit in hits]
    return notes


def arrange(rng: np.random.Generator, tracks: dict[str, list[Note]], beat: float) -> list[Part]:
    """Parts (channel, program, notes) of one accompaniment; `BASS` and `DRUMS` are channels of their own."""
    piano = tracks.get("PIANO", [])
    groups: dict[int, list[Note]] = {}
    for note in piano:
        groups.setdefault(round(note[0] / (beat / 8)), []).append(note)
    lowest = [min(group, key=lambda note: note[2]) for group in groups.values()]
    bass = [(s, max(e, s + 0.3), p - 12 * max(0, (p - 40) // 12), v) for s, e, p, v in lowest if p < 60]
    parts = [(0, int(rng.choice(CHORDS)), piano)]
    if rng.random() < 0.5:
        parts.append((1, int(rng.choice(CHORDS)), [n for n in piano if rng.random() < 0.8]))
    if rng.random() < 0.5:
        parts.append((2, int(rng.choice(PADS)), [(s, e + beat, p, v) for s, e, p, v in piano if p > 50]))
    if rng.random() < 0.8:
        parts.append((BASS, int(rng.choice(BASSES)), bass))
    if rng.random() < 0.6:
        parts.append((4, int(rng.choice(SOLOS)), tracks.get("BRIDGE", [])))
    if rng.random() < 0.25:
        parts.append((5, int(rng.choice(SOLOS)), tracks.get("MELODY", [])))
    end = max((note[1] for _, _, notes in parts for note in notes), default=0.0)
    if rng.random() < 0.8:
        parts.append((DRUMS, int(rng.choice([0, 0, 8, 16, 24, 25, 32, 40])), drums(rng, beat, end)))
    return parts


def arrange_stems(rng: np.random.Generator, tracks: dict[str, list[Note]], beat: float) -> dict[str, list[Part]]:
    """The parts of an accompaniment that has drums and a bass, by stem; none of a song that gives no such."""
    for _ in range(50):
        parts = arrange(rng, tracks, beat)
        found: dict[str, list[Part]] = {stem: [] for stem in STEM_FILES}
        for part in parts:
            found[{DRUMS: "drums", BASS: "bass"}.get(part[0], "other")].append(part)
        if all(found.values()):
            return found
    return {}


def write_midi(
    rng: np.random.Generator,
    parts: list[Part],
    begin: float,
    path: Path,
    *,
    shift: int = 0,
    seconds: float = SECONDS,
) -> None:
    """The part of an arrangement from `begin` on, `shift` semitones higher, with a place and an effect per channel."""
    import mido

    song = mido.MidiFile(ticks_per_beat=480)  # at the standard tempo: 960 ticks a second
    for channel, program, notes in parts:
        events: list[tuple[float, Any]] = []
        pitch_shift = 0 if channel == DRUMS else shift
        for start, end, pitch, velocity in notes:
            if begin <= start < begin + seconds:
                key = int(np.clip(pitch + pitch_shift, 0, 127))
                at = start - begin + float(rng.normal(0, 0.004)) + LEAD
                strength = int(np.clip(velocity + rng.normal(0, 6), 10, 127))
                events.append((at, mido.Message("note_on", channel=channel, note=key, velocity=strength)))
                events.append((end - begin + LEAD, mido.Message("note_off", channel=channel, note=key)))
        track = mido.MidiTrack([mido.Message("program_change", channel=channel, program=program)])
        pan = 64 if channel in (BASS, DRUMS) else int(np.clip(rng.normal(64, 30), 0, 127))
        values = {7: int(rng.uniform(70, 120)), 10: pan, 91: int(rng.uniform(0, 90))}
        track += [mido.Message("control_change", channel=channel, control=k, value=v) for k, v in values.items()]
        ticks = 0
        for at, message in sorted(events, key=lambda event: event[0]):
            now = max(ticks, round(at * 960))
            track.append(message.copy(time=now - ticks))
            ticks = now
        song.tracks.append(track)
    song.save(str(path))


def render(midi: Path, font: Path, folder: Path, seconds: float = SECONDS) -> np.ndarray:
    """Sound (2, frames) of a MIDI file, its first `seconds`."""
    wav = folder / "out.wav"
    command = [
        "fluidsynth",
        "-ni",
        "-q",
        "-r",
        str(CACHE_RATE),
        "-C",
        "0",
        "-g",
        "0.2",
        "-F",
        str(wav),
        str(font),
        str(midi),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    sound, _ = soundfile.read(wav, dtype="float32", always_2d=True)
    return sound[: int(seconds * CACHE_RATE)].T


def as_long(sounds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Sounds (2, frames) with silence at their ends, so that all are as long as the longest."""
    frames = max(sound.shape[1] for sound in sounds)
    return [np.pad(sound, ((0, 0), (0, frames - sound.shape[1]))) for sound in sounds]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--font", type=Path, default=FONT)
    parser.add_argument("--stems", action="store_true", help="drums, bass and the rest apart")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    arguments = parser.parse_args()
    require("mido", font=arguments.font)
    archive, names = scores_in(arguments.archive)
    arguments.output.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(arguments.seed).permutation(len(names))[: arguments.count]
    with tempfile.TemporaryDirectory() as folder:
        for index in order:
            rng = np.random.default_rng([arguments.seed, int(index)])
            tracks, beat = read_song(archive.read(names[index]))
            name = f"score_{Path(names[index]).stem}"
            if arguments.stems:
                groups = arrange_stems(rng, tracks, beat)
                places = {stem: arguments.output / name / f"{stem}.opus" for stem in groups}
            else:
                groups, places = {"all": arrange(rng, tracks, beat)}, {"all": arguments.output / f"{name}.opus"}
            notes = [note for parts in groups.values() for _, _, part in parts for note in part]
            end, seconds = max((note[1] for note in notes), default=0.0), arguments.seconds
            midi = Path(folder) / "song.mid"
            begin, shift = float(rng.uniform(0, max(end - seconds, 1e-3))), int(rng.integers(-4, 5))
            sounds = []
            for parts in groups.values():
                write_midi(rng, parts, begin, midi, shift=shift, seconds=seconds)
                sounds.append(render(midi, arguments.font, Path(folder), seconds))
            if min((float(np.abs(sound).max()) for sound in sounds), default=0.0) < 1e-3:
                continue
            sounds = as_long(sounds)
            gain = 0.7 / float(np.abs(sum(sounds)).max())
            for place, sound in zip(places.values(), sounds, strict=True):
                write_opus(place, gain * sound, CACHE_RATE)


if __name__ == "__main__":
    run(main)
