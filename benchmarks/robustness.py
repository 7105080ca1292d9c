"""Robustness: what must not change a separator's score, and what must pass through untouched.

    python -m benchmarks.robustness --data DIR [--cache DIR] [--separators live monitor karaoke] [--split validation]
        [--jobs N]

Through the chain that plays live: the same songs at 44.1 and 48 kHz, mono and stereo, from -40 to 0 dB of full
scale; the accompaniment alone and the voice alone; a stream of half an hour against the same started anew; the cost
of a hop of silence and of denormals. Several scores may be found at a time, costs are not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product, repeat
from pathlib import Path
from typing import Any

import numpy as np
import samplerate as libsamplerate

from benchmarks._page import Page, Table, parser, program
from benchmarks.quality import Sound, separate
from rtsep.engine.chain import Chain
from rtsep.evaluation.scores import sdr, sdr_gain
from rtsep.separators.base import Separator
from rtsep.separators.registry import create
from rtsep.spec import StreamSpec
from rtsep.training.data.songs import Song, songs
from rtsep.training.data.sources import CACHE_RATE

LEVELS_DB = (-40, -20, 0)  # of the mixture's peak
LOW_RATE = 44100


def gain(separator: Separator, song: Song, rate: int = CACHE_RATE, level_db: float | None = None) -> float:
    """Gain of the vocals' whole-song SDR over the mixture, dB; the mixture's peak brought to `level_db`."""
    vocals, accompaniment = song.vocals, song.accompaniment
    if rate != CACHE_RATE:
        vocals, accompaniment = (_converted(sound, rate) for sound in (vocals, accompaniment))
    mixture = vocals + accompaniment
    factor = np.float32(1.0 if level_db is None else 10 ** (level_db / 20) / max(float(np.abs(mixture).max()), 1e-9))
    return sdr_gain(vocals * factor, separate(separator, mixture * factor, rate)[0], mixture * factor)


def _converted(sound: Sound, rate: int) -> Sound:
    converted = libsamplerate.resample(sound.T, rate / CACHE_RATE, "sinc_best")
    return np.ascontiguousarray(converted.reshape(-1, sound.shape[0]).T, np.float32)


def mono(song: Song) -> Song:
    """The song as one channel."""
    vocals, accompaniment = (part.mean(0, keepdims=True) for part in (song.vocals, song.accompaniment))
    return Song(song.name, song.kind, vocals, accompaniment, song.loud)


def invariance(separator: Separator, found: Sequence[Song]) -> list[dict[str, Any]]:
    """Mean gain of the songs under each condition, and its distance from the first one."""
    conditions: dict[str, list[float]] = {"as it is, 48 kHz": [gain(separator, song) for song in found]}
    conditions["44.1 kHz"] = [gain(separator, song, LOW_RATE) for song in found]
    conditions["mono"] = [gain(separator, mono(song)) for song in found]
    for level in LEVELS_DB:
        conditions[f"peak at {level} dBFS"] = [gain(separator, song, level_db=level) for song in found]
    first = next(iter(conditions.values()))
    return [
        {"condition": name, "gain": float(np.mean(gains)), "change": float(np.mean(gains) - np.mean(first))}
        for name, gains in conditions.items()
    ]


def alone(separator: Separator, found: Sequence[Song]) -> dict[str, float]:
    """How far what is taken away lies under what should pass, dB: an accompaniment alone, and a voice alone."""
    rest = [sdr(s.accompaniment, s.accompaniment - separate(separator, s.accompaniment, CACHE_RATE)[0]) for s in found]
    voice = [sdr(s.vocals, separate(separator, s.vocals, CACHE_RATE)[0]) for s in found]
    return {
        "music": float(np.mean(rest)),
        "music_least": float(np.min(rest)),
        "voice": float(np.mean(voice)),
        "voice_least": float(np.min(voice)),
    }


def restarted(separator: Separator, found: Sequence[Song], minutes: float) -> list[dict[str, Any]]:
    """Scores of the songs of a long stream, from its start and with the separator begun anew at each fifth of it."""
    programme = list(_programme(found, minutes))
    whole = _songs_of(separator, programme)
    rows = []
    for part in range(1, 5):
        first = part * len(programme) // 5
        anew = _songs_of(separator, programme[first:])
        change = np.array(anew) - np.array(whole[first:])
        rows.append(
            {
                "begun": sum(song.vocals.shape[1] for song in programme[:first]) / CACHE_RATE / 60,
                "change": float(change.mean()),
                "largest": float(np.abs(change).max()),
            }
        )
    return rows


def costs(separator: Separator, song: Song, seconds: float = 6.0) -> list[dict[str, Any]]:
    """Time of separator and chain for a hop in ms, after two seconds of music each: of more of it, of silence, and of
    noise so soft that its numbers are denormal.
    """
    hop = separator.required_hop(CACHE_RATE) or StreamSpec(CACHE_RATE, 2).hop
    lead, frames = 2 * CACHE_RATE // hop * hop, int(seconds * CACHE_RATE)
    music = np.resize(_stereo(song.vocals + song.accompaniment).T, (lead + frames, 2)).T.astype(np.float32)
    noise = np.random.default_rng(0).uniform(-1e-39, 1e-39, (2, frames)).astype(np.float32)
    kinds = {"music": music[:, lead:], "silence": np.zeros_like(noise), "denormals": noise}
    rows: list[dict[str, Any]] = []
    for kind, sound in kinds.items():
        chain, times = Chain(separator, StreamSpec(CACHE_RATE, 2, hop)), []
        heard = np.concatenate([music[:, :lead], sound], 1)
        for at in range(0, heard.shape[1] - hop + 1, hop):
            block = np.ascontiguousarray(heard[:, at : at + hop])
            begun = time.perf_counter()
            chain.process(block)
            times.append(time.perf_counter() - begun)
        p50, p99 = 1e3 * np.percentile(times[lead // hop :], [50, 99])
        rows.append({"sound": kind, "p50": float(p50), "p99": float(p99)})
    return [row | {"share": row["p50"] / rows[0]["p50"]} for row in rows]


def _programme(found: Sequence[Song], minutes: float) -> Iterator[Song]:
    """The songs over and over, with silences between, until the time is filled."""
    frames, k = 0, 0
    while frames < minutes * 60 * CACHE_RATE:
        song = found[k % len(found)]
        silence = np.zeros((2, CACHE_RATE * (1 + 7 * k % 20)), np.float32)  # 1 to 20 s
        parts = (np.concatenate([_stereo(part), silence], 1) for part in (song.vocals, song.accompaniment))
        yield Song(song.name, song.kind, *parts, song.loud)
        frames += song.vocals.shape[1] + silence.shape[1]
        k += 1


def _stereo(sound: Sound) -> Sound:
    return np.broadcast_to(sound, (2, sound.shape[1]))


def _songs_of(separator: Separator, programme: Sequence[Song]) -> list[float]:
    """Gain of each song of one stream."""
    mixture = np.concatenate([song.vocals + song.accompaniment for song in programme], 1)
    vocals, _ = separate(separator, mixture, CACHE_RATE)
    gains, at = [], 0
    for song in programme:
        end = at + song.vocals.shape[1]
        gains.append(sdr_gain(song.vocals, vocals[:, at:end], mixture[:, at:end]))
        at = end
    return gains


def _songs(arguments: argparse.Namespace) -> list[Song]:
    found = list(songs(arguments.data, arguments.cache, arguments.split, 20.0, stereo=True))
    return found[:: max(1, len(found) // 4)] if arguments.quick else found


def _score(name: str, question: str, arguments: argparse.Namespace, minutes: float) -> Any:
    """What one separator says to one of the questions, in a process of its own."""
    separator, found = create(name, device="cpu"), _songs(arguments)
    if question == "restarted":
        return restarted(separator, found, minutes)
    return invariance(separator, found) if question == "invariance" else alone(separator, found)


def measure(arguments: argparse.Namespace) -> Page:
    """The whole page."""
    page = Page(
        "robustness",
        "What must not change the score",
        f"Whole-song SDR of the vocals over that of the mixture, dB, on the {arguments.split} songs, through the chain "
        "that plays live.",
    )
    minutes = 2.0 if arguments.quick else 30.0
    found = _songs(arguments)
    passes, anew, times = [], [], []
    with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
        asked = list(product(arguments.separators, ("invariance", "restarted", "alone")))
        scores = dict(
            zip(asked, pool.map(_score, *zip(*asked, strict=True), repeat(arguments), repeat(minutes)), strict=True)
        )
    for name in arguments.separators:
        columns = {"condition": "condition", "gain": "gain, dB", "change": "against the first, dB"}
        page.tables.append(Table(name, columns, scores[name, "invariance"]))
        passes.append({"separator": name, **scores[name, "alone"]})
        anew += [{"separator": name, **row} for row in scores[name, "restarted"]]
        times += [{"separator": name, **row} for row in costs(create(name, device="cpu"), found[0])]
    columns = {"separator": "separator", "music": "accompaniment alone, dB", "music_least": "least"}
    columns |= {"voice": "voice alone, dB", "voice_least": "least"}
    page.tables.append(Table("Alone", columns, passes, "How far the part that is taken away lies under the whole."))
    columns = {"separator": "separator", "begun": "begun anew at, min"}
    columns |= {"change": "change of the mean, dB", "largest": "largest of a song, dB"}
    text = f"{minutes:g} minutes of songs with 1 to 20 s of silence between, in one stream, and from a later start."
    page.tables.append(Table("Begun anew", columns, anew, text))
    columns = {"separator": "separator", "sound": "sound", "p50": "p50, ms", "p99": "p99, ms"}
    columns |= {"share": "p50 over that of music"}
    page.tables.append(Table("Cost of a hop", columns, times, "Separator and chain, hop after hop on one thread."))
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="folder of the data pack")
    options.add_argument("--cache", type=Path, default=Path("runs/cache"), help="folder of the decoded sound")
    options.add_argument("--separators", nargs="+", default=["live", "monitor", "karaoke"])
    options.add_argument("--jobs", type=int, default=1, help="scores that are found at a time")
    options.add_argument("--split", default="validation", choices=["validation", "dev"])
    return program(measure, options, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
