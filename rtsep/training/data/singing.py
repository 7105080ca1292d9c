"""Songs made from scores, with a sung voice, and other singers made of those there are.

    python -m rtsep.training.data.singing pop909.zip DATA OUTPUT --count 100 --covers 60

A song is a part of a song of the POP909 set: its MELODY sung by the syllables of a voice of DATA through the WORLD
vocoder, its accompaniment arranged and played as in `rtsep.training.data.scores`: OUTPUT/paired/score_SONG_VOICE.
A cover is a part of a real vocals track of DATA with other formants and in another key: OUTPUT/vocals/cover_*, or
OUTPUT/vocals16k/cover_* if nothing is above 8 kHz. Files that are there already are kept. Only training sounds are
used. Needs `mido`, `pyworld` and the program `fluidsynth` with a General MIDI font.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from rtsep.errors import UsageError
from rtsep.training.data.bank import Bank, read_bank
from rtsep.training.data.covers import make_covers
from rtsep.training.data.performance import Sung, backing, phrases
from rtsep.training.data.scores import FONT, LEAD, Note, arrange, read_song, render, write_midi
from rtsep.training.data.singer import Singer, sing
from rtsep.training.data.sources import CACHE_RATE, PACKAGED, Clip, load
from rtsep.training.data.tools import require, run, scores_in, write_opus
from rtsep.training.data.world import FRAMES_PER_S, Floats

SECONDS = 40.0
PEAK = 0.8
LEAST_SUNG = 0.3  # share of the time


def speaks(group: str) -> bool:
    """Whether the recordings of a source are speech, each file somebody else's."""
    return group == "tsp" or group.startswith(PACKAGED)


def people(voices: list[Clip]) -> dict[str, list[Clip]]:
    """Recordings of each person: a voice bank is one, a speaker another."""
    found: dict[str, list[Clip]] = {}
    for clip in voices:
        if clip.group != "cover":
            found.setdefault(clip.name if speaks(clip.group) else clip.group, []).append(clip)
    return found


def draw_banks(rng: np.random.Generator, persons: dict[str, list[Clip]], cache: Path) -> tuple[str, list[Bank]]:
    """Name and up to three recordings of a person; speakers half as often."""
    names = sorted(persons)
    weights = np.array([0.5 if speaks(persons[name][0].group) else 1.0 for name in names])
    name = names[rng.choice(len(names), p=weights / weights.sum())]
    clips = persons[name]
    chosen = rng.permutation(len(clips))[:3]
    return name, [bank for bank in (read_bank(clips[i], cache) for i in chosen) if len(bank.syllables) > 8]


def draw_part(rng: np.random.Generator, melody: list[Note]) -> tuple[float, list[Sung]]:
    """Where a part of a song begins in which enough is sung, and its melody; no notes if there is none."""
    room = max(melody[-1][1] - SECONDS, 1e-3) if melody else 1e-3
    for _ in range(8):
        begin = float(rng.uniform(0, room))
        notes = phrases(melody, begin - LEAD, SECONDS)
        if sum(n.end - n.begin for n in notes) > LEAST_SUNG * SECONDS * FRAMES_PER_S:
            return begin, notes
    return 0.0, []


def rms(sound: Floats) -> float:
    """Of the blocks of 50 ms of mono sound that are within 30 dB of the loudest."""
    blocks = sound[: len(sound) // 2400 * 2400].reshape(-1, 2400)
    power = (blocks**2).mean(1)
    return float(np.sqrt(power[power > 1e-3 * power.max()].mean())) if power.max() > 0 else 0.0


def vocals(rng: np.random.Generator, banks: list[Bank], notes: list[Sung]) -> Floats:
    """Mono (1, samples) of a melody, or stereo (2, samples) with a backing voice to one side."""
    singer, frames = Singer.draw(rng, banks), int(SECONDS * FRAMES_PER_S)
    octave = singer.octave(notes)
    notes = [replace(n, pitch=n.pitch + octave) for n in notes]
    lead = sing(rng, singer, notes, frames)
    sound = lead[None]
    if rng.random() < 0.35:
        other = replace(singer, formants=singer.formants * float(rng.uniform(0.93, 1.07)))
        second = backing(rng, notes)
        if second:
            extra = sing(rng, other, second, frames)
            extra *= rms(lead) / (rms(extra) + 1e-9) * 10 ** (rng.uniform(-14, -6) / 20)
            pan = rng.uniform(0.15, 0.85)
            sound = lead + np.stack([np.sqrt(1 - pan) * extra, np.sqrt(pan) * extra]).astype(np.float32)
    return sound


def make_song(
    seed: list[int], data: bytes, persons: dict[str, list[Clip]], cache: Path, font: Path, folder: Path
) -> tuple[str, Floats, Floats] | None:
    """Who sings, vocals (1 or 2, samples) and accompaniment (2, samples) of a MIDI file; None if hardly sung."""
    rng = np.random.default_rng(seed)
    tracks, beat = read_song(data)
    begin, notes = draw_part(rng, tracks.get("MELODY", []))
    name, banks = draw_banks(rng, persons, cache)
    if not (notes and banks):
        return None
    parts = arrange(rng, tracks, beat)
    if rng.random() < 0.8:  # else an instrument may play along with the singer
        parts = [part for part in parts if part[2] is not tracks["MELODY"]]
    shift, midi = int(rng.integers(-4, 5)), folder / "song.mid"
    write_midi(rng, parts, begin, midi, shift=shift, seconds=SECONDS)
    music = render(midi, font, folder, SECONDS)
    voice = vocals(rng, banks, [replace(n, pitch=n.pitch + shift) for n in notes])
    music = np.pad(music, ((0, 0), (0, voice.shape[1] - music.shape[1])))
    if min(rms(music.mean(0)), rms(voice.mean(0))) < 1e-4:
        return None
    voice *= rms(music.mean(0)) / rms(voice.mean(0)) * 10 ** (rng.normal(0.5, 3) / 20)
    scale = PEAK / max(float(np.abs(s).max()) for s in (voice, music, voice + music))
    return name, voice * np.float32(scale), music * np.float32(scale)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--covers", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--font", type=Path, default=FONT)
    arguments = parser.parse_args()
    require("mido", "pyworld", "scipy", font=arguments.font)
    archive, names = scores_in(arguments.archive)
    corpus = load(arguments.data, arguments.cache, "train")
    persons = people(corpus.voices)
    if arguments.count and not persons:
        raise UsageError(f"wanted voices to sing with, found no {arguments.data}/vocals/*.opus of the training split")
    order = np.random.default_rng(arguments.seed).permutation(len(names))
    made = 0
    with tempfile.TemporaryDirectory() as folder:
        for index in order:
            if made >= arguments.count:
                break
            stem = f"score_{Path(names[index]).stem}"
            if not any((arguments.output / "paired").glob(f"{stem}_*/vocals.opus")):
                seed, score = [arguments.seed, int(index)], archive.read(names[index])
                song = make_song(seed, score, persons, arguments.cache, arguments.font, Path(folder))
                if song is None:
                    continue
                name, voice, music = song
                target = arguments.output / "paired" / f"{stem}_{name}"
                write_opus(target / "accompaniment.opus", music, CACHE_RATE)
                write_opus(target / "vocals.opus", voice, CACHE_RATE)
            made += 1
    covers = make_covers(corpus, arguments.output, arguments.covers, arguments.seed)
    print(f"{made} songs of {SECONDS:.0f} s and {covers} covers in {arguments.output}")


if __name__ == "__main__":
    run(main)
