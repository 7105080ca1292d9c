"""MIR-1K: the table of the sources of drnn and vpnn, from the shipped models and from nets that this program trains.

    python -m benchmarks.mir1k --data DIR [--cache DIR] [--runs DIR] [--steps N] [--seconds S]

The protocol: nets that know the singers abjones and amy alone, scored on all others that the pack holds, voice and
accompaniment at 0 dB as stored. Models from `models/` are heard through the chain that plays live, at 44.1 kHz; all
sound is then scored at 16 kHz with BSS Eval v3 (`rtsep.evaluation.metrics`), weighted by length. The variants of drnn
are trained for a few steps each, all alike, where `--runs` does not hold them yet.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._page import Page, Table, parser, program
from rtsep.engine.offline import split
from rtsep.errors import UsageError
from rtsep.evaluation.metrics import METRICS, TARGETS, over_songs, score
from rtsep.evaluation.metrics import add_mir1k as as_gains
from rtsep.evaluation.oracles import Oracle
from rtsep.evaluation.sound import Song
from rtsep.separators.registry import create
from rtsep.training.data.mir1k import SINGERS, STREAM_RATE, pairs, resampled, singer_of
from rtsep.training.data.sources import CACHE_RATE
from rtsep.training.evaluate import separate
from rtsep.training.nets.narrow import BINS

Sound = NDArray[np.float32]
#: Mono sound at `STREAM_RATE`, (1, frames): the true parts to an estimate of the voice.
Method = Callable[[Sound, Sound], Sound]

SCORE_RATE = 16000
SCALE = "No part of the protocol: the first three were trained on other singers too, most of them of these very songs."
MODELS = ("drnn", "wvpnn", "cvpnn", "dnn")
#: Nets of another protocol, which know most of the test songs themselves: what can be had on these songs at all.
INFORMED = ("koretzky", "live", "karaoke")
PUBLISHED = {"drnn, published (other clips, whole protocol, 1000 units, both neighbours)": (7.45, 13.08, 9.68)}
#: Settings of the trained variants of drnn, over its own: all are small, so that each takes a minute or two.
SMALL = ("units=128",)
VARIANTS = {
    "with all of them": (),
    "without the masking layer in training": ("masking=off",),
    "without the discriminative term": ("gamma=0",),
    "without circular shifts": ("shift=off",),
}


def songs(
    data: Path, cache: Path, seconds: float, most: int, known: bool = False
) -> Iterator[tuple[str, Sound, Sound]]:
    """Name, voice and accompaniment (1, frames) at `STREAM_RATE`: the middle of each test singer's first songs.

    `known`: of the singers that the nets were trained on.
    """
    counts: Counter[str] = Counter()

    def wanted(singer: str, _: Path) -> bool:
        counts[singer] += 1
        return (singer in SINGERS) == known and counts[singer] <= most

    for voice, music in pairs(data, cache, wanted):
        frames = min(voice.frames, int(seconds * CACHE_RATE))
        start = (voice.frames - frames) // 2
        parts = (resampled(clip.read(start, frames), CACHE_RATE, STREAM_RATE)[None] for clip in (voice, music))
        yield (voice.name, *parts)


def shipped(name: str) -> Method:
    """A model through the live chain."""
    separator = create(name, device="cpu")
    return lambda voice, music: split(separator, voice + music, STREAM_RATE)[0]


def oracle(kind: str) -> Method:
    """The ideal mask in the filterbank of the stream."""
    return lambda voice, music: split(Oracle(kind, voice, music), voice + music, STREAM_RATE, 512)[0]


def trained(settings: Sequence[str], arguments: Namespace) -> Method:
    """A variant of drnn by torch, which is what its export plays; trained first where it is not there."""
    import torch

    from rtsep.training.checkpoints import read_checkpoint
    from rtsep.training.tasks import find
    from rtsep.training.train import train

    runs = arguments.runs / ("drnn-" + ("-".join(settings).replace("=", "-") or "plain"))
    if not (runs / "last.pt").is_file() or read_checkpoint(runs / "last.pt")["step"] < arguments.steps:
        train(
            "drnn",
            data=arguments.data,
            cache=arguments.cache,
            runs=runs,
            steps=arguments.steps,
            seed=arguments.seed,
            settings=(*SMALL, *settings),
            resume=True,
            score_every=0,
            device="cpu",
        )
    net = find("drnn").restored(read_checkpoint(runs / "last.pt"))

    def infer(magnitude: Sound) -> Sound:
        return net.infer(torch.from_numpy(magnitude)).numpy()

    return lambda voice, music: separate(infer, voice + music, BINS)


class Test:
    """A song to score on: its parts at the rate of the stream, and the figures of its mixture."""

    def __init__(self, name: str, voice: Sound, music: Sound) -> None:
        self.name, self.parts = name, (voice, music)
        parts = [resampled(sound[0], STREAM_RATE, SCORE_RATE)[None] for sound in self.parts]
        self.song = Song(name, SCORE_RATE, parts[0] + parts[1], *parts)
        self.floor = score(["mir1k"], self.song, self.song.mixture, self.song.mixture)

    def figures(self, method: Method | None) -> dict[str, Any]:
        """GNSDR, GSIR and GSAR for both targets; of the mixture itself without a method."""
        rows = {target: dict(row) for target, row in self.floor.items()}
        if method is not None:
            vocals = resampled(method(*self.parts)[0], STREAM_RATE, SCORE_RATE)[None]
            rows = score(["mir1k"], self.song, vocals, self.song.mixture - vocals)
        as_gains(rows, self.floor, keep_v3=False)
        return rows


def row_of(label: str, method: Method | None, tests: Sequence[Test]) -> dict[str, Any]:
    """One row of the table."""
    scored = [test.figures(method) for test in tests]
    row: dict[str, Any] = {"method": label}
    for target in TARGETS:
        for column in METRICS["mir1k"].columns:
            values = [rows[target][column] for rows in scored]
            row[f"{target} {column}"] = over_songs(METRICS["mir1k"], values, [test.song.seconds for test in tests])
    print(label, {key: round(value, 2) for key, value in row.items() if isinstance(value, float)}, file=sys.stderr)
    return row


def for_scale(arguments: Namespace, found: Sequence[Test], seconds: float) -> list[dict[str, Any]]:
    """What nets reach that know the songs: others on the test songs, drnn on its own training songs."""
    rows = [row_of(f"{name}, knows most of these songs", shipped(name), found) for name in INFORMED]
    most = 1 if arguments.quick else 4
    own = [Test(*song) for song in songs(arguments.data, arguments.cache, seconds, most, known=True)]
    if own:
        rows.append(row_of(f"drnn on {len(own)} songs that it was trained on", shipped("drnn"), own))
    return rows


def measure(arguments: Namespace) -> Page:
    """Score everything."""
    seconds = 2.0 if arguments.quick else arguments.seconds
    most = 1 if arguments.quick else arguments.songs
    found = [Test(*song) for song in songs(arguments.data, arguments.cache, seconds, most)]
    if not found:
        raise UsageError(f"no test songs: wanted {arguments.data}/paired16k/mir1k_SINGER_NUMBER/vocals.opus")
    methods: dict[str, Method | None] = {"mixture (floor)": None, "IBM": oracle("ibm"), "IRM": oracle("irm")}
    methods |= {name: shipped(name) for name in arguments.models}
    rows = [row_of(label, method, found) for label, method in methods.items()]
    names = ("vocals GNSDR", "vocals GSIR", "vocals GSAR")
    rows += [{"method": label} | dict(zip(names, of, strict=True)) for label, of in PUBLISHED.items()]
    columns = {"method": "method"} | {key: f"{key}, dB" for key in rows[0] if key != "method"}
    tables = [Table("Shipped models", columns, rows, "Mixture and ideal masks use the same filterbank.")]
    if not arguments.no_scale:
        tables.append(Table("For scale", columns, for_scale(arguments, found, seconds), SCALE))
    if not arguments.no_variants:
        text = f"Small nets ({', '.join(SMALL)}), {arguments.steps} steps each: compare them with each other only."
        variants = [row_of(label, trained(sets, arguments), found) for label, sets in VARIANTS.items()]
        tables.append(Table("What the parts of drnn are worth", columns, variants, text))
    singers = sorted({singer_of(test.name) for test in found})
    return Page(
        "mir1k",
        "MIR-1K, 0 dB",
        "Nets that were trained on the singers abjones and amy alone, on all other singers of the pack.",
        {"songs": len(found), "seconds_of_each": seconds, "singers": len(singers), "seed": arguments.seed},
        tables,
        [
            f"singers: {', '.join(singers)}; some of them are the project's validation and dev singers",
            "not the 825 clips of the papers: some songs, their clips joined, of which the middle is scored",
            "estimates are causal: a window of 46 ms, no frame ahead (the sources: 64 ms, one frame ahead)",
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="folder of the data pack")
    options.add_argument("--cache", type=Path, default=Path("runs/cache"), help="folder of the decoded sound")
    options.add_argument("--runs", type=Path, default=Path("runs/mir1k"), help="folder of the trained variants")
    options.add_argument("--steps", type=int, default=200, help="of each variant")
    options.add_argument("--seed", type=int, default=0, help="of each variant")
    options.add_argument("--seconds", type=float, default=8.0, help="of each song")
    options.add_argument("--songs", type=int, default=100, help="of each singer, at most")
    options.add_argument("--models", nargs="+", default=list(MODELS), help="model folders by name or path")
    options.add_argument("--no-scale", action="store_true", help="without the nets that know more singers")
    options.add_argument("--no-variants", action="store_true", help="shipped models only")
    return program(measure, options, arguments)


if __name__ == "__main__":
    sys.exit(main())
