"""What each source of sound, each change made to it and each size of the net is worth: small nets that lack one thing.

    python -m benchmarks.ablations --data DIR [--cache DIR] [--work DIR] [--variants NAME ...] [--steps N] [--seconds S]

Every variant is a small net of the live family, trained from random weights for the same few steps, with one thing
changed. Scored on dev songs, since variants are compared. Trained nets and scores are kept in `--work`, so that a run
that was stopped goes on, and several at once may share the variants between them. Compare them with each other only.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._page import Page, Table, program, variants_parser
from benchmarks.separators import SETS, kept_scores, some_of
from rtsep.errors import UsageError
from rtsep.training.checkpoints import read_checkpoint
from rtsep.training.data.songs import Song, songs
from rtsep.training.data.sources import Clip, Corpus, load
from rtsep.training.data.stereo import Floats, StereoMixer
from rtsep.training.family import mixer_of
from rtsep.training.live import LiveRun, LiveTraining, score
from rtsep.training.nets.live import LiveConfig
from rtsep.training.schedule import noted

NET = LiveConfig(width=24, across=12, slow=32, blocks=2)
TRAINING = LiveTraining(lr=3e-3, ema=0.98, frames=256, rolls=2, chunk=4)
QUICK = replace(TRAINING, frames=20, sources=2)
FIGURES = {"vocals_gain": "vocals", "accompaniment_gain": "accompaniment"}
#: Sources whose terms are not stated, or not wholly.
UNCLEAR = ("mir1k", "nitsong070", "yorg")


class Plainer(StereoMixer):
    """Mash-ups with some of the changes to the sound left out; `missing` names them."""

    def __init__(self, *arguments: Any, missing: str, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.missing = missing

    def _equalizer(self, rng: np.random.Generator) -> Floats:
        curve = super()._equalizer(rng)
        return np.ones_like(curve) if self.missing == "equalizer" else curve

    def _room(self, rng: np.random.Generator) -> Floats:
        response = super()._room(rng)
        if self.missing == "room":
            response[1:] = 0
        return response

    def _crop_frames(self, rng: np.random.Generator, low: float = 0.8, high: float = 1.25) -> int:
        return super()._crop_frames(rng, *((1.0, 1.0) if self.missing == "speed" else (low, high)))

    def _voice(self, rng: np.random.Generator, sound: Floats, plain: float) -> Floats:
        return super()._voice(rng, sound, 1.0 if self.missing == "voice" else plain)


@dataclass(frozen=True, slots=True)
class Variant:
    """One thing that is changed."""

    group: str
    what: str
    wanted: Callable[[Clip], bool] = lambda clip: True
    missing: str = ""
    net: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


def _unclear(clip: Clip) -> bool:
    return clip.group in UNCLEAR or any(f"_{group}_" in clip.name for group in UNCLEAR)


def _dry(clip: Clip) -> bool:
    return clip.group not in ("eir", "mir1k", "score", "cover")


SOURCES, CHANGES, SIZES = "Sources", "Changes to the sound", "Net and training"
VARIANTS = {
    "full": Variant(SOURCES, "all of it"),
    "again": Variant(SOURCES, "all of it, another seed: what chance does", training={"seed": 1001}),
    "no-mir1k": Variant(SOURCES, "without MIR-1K and covers of it", lambda c: "mir1k" not in c.name),
    "no-wide-songs": Variant(SOURCES, "without the wide-band songs and covers of them", lambda c: "eir" not in c.name),
    "no-score": Variant(SOURCES, "without songs made from scores", lambda c: c.group != "score"),
    "no-covers": Variant(SOURCES, "without covers by other voices", lambda c: c.group != "cover"),
    "no-dry": Variant(SOURCES, "without dry voices and recorded bands", lambda c: not _dry(c)),
    "clear-terms": Variant(SOURCES, f"without {', '.join(UNCLEAR)} (terms not clear)", lambda c: not _unclear(c)),
    "no-equalizer": Variant(CHANGES, "without equalizer", missing="equalizer"),
    "no-room": Variant(CHANGES, "without reverb", missing="room"),
    "no-speed": Variant(CHANGES, "without tape speed", missing="speed"),
    "no-voice-changes": Variant(CHANGES, "voices as sung: no place, doubles, reverb, saturation", missing="voice"),
    "no-rolls": Variant(
        CHANGES,
        "every voice on one song only, twice as many drawn",
        training={"rolls": 1, "sources": 8},
    ),
    "half": Variant(SIZES, "12 numbers a band", net={"width": 12, "across": 6, "slow": 16}),
    "double": Variant(SIZES, "48 numbers a band", net={"width": 48, "across": 24, "slow": 64}),
    "one-block": Variant(SIZES, "1 block", net={"blocks": 1}),
    "four-blocks": Variant(SIZES, "4 blocks", net={"blocks": 4}),
    "no-voice": Variant(SIZES, "without the voice detector", net={"voice": 0}),
    "short": Variant(SIZES, "sequences of 1.5 s, twice as many", training={"frames": 128, "rolls": 4}),
    "long": Variant(SIZES, "sequences of 6 s, half as many", training={"frames": 512, "rolls": 1}),
    "adamw": Variant(SIZES, "AdamW instead of Muon", training={"optimizer": "adamw"}),
    "forgets": Variant(SIZES, "memory and level always begin anew", training={"carried": 0.0}),
    "hop-128": Variant(SIZES, "hop 128: 5.8 ms", net={"hop": 128}),
    "hop-512": Variant(SIZES, "hop 512: 23.2 ms", net={"hop": 512}),
    "ahead-1": Variant(SIZES, "hop 512, 1 hop of look-ahead: 34.8 ms", net={"hop": 512, "lookahead": 1}),
    "ahead-3": Variant(SIZES, "hop 512, 3 hops of look-ahead: 58.0 ms", net={"hop": 512, "lookahead": 3}),
    "ahead-6": Variant(SIZES, "hop 512, 6 hops of look-ahead: 92.9 ms", net={"hop": 512, "lookahead": 6}),
}


def chosen_songs(arguments: Namespace) -> list[Song]:
    """The middle of the dev songs."""
    return some_of(songs(arguments.data, arguments.cache, "dev", stereo=True), arguments.songs, arguments.seconds)


def part(corpus: Corpus, wanted: Callable[[Clip], bool]) -> Corpus:
    """Those clips of a corpus, and pairs of such voices."""
    return Corpus(
        [clip for clip in corpus.voices if wanted(clip)],
        [clip for clip in corpus.accompaniments if wanted(clip)],
        [pair for pair in corpus.pairs if wanted(pair[0])],
    )


def place(name: str, arguments: Namespace) -> Path:
    """Folder of a variant."""
    folder: Path = arguments.work / f"{name}-{arguments.steps}-{arguments.seed}"
    return folder


def trained(name: str, arguments: Namespace) -> LiveRun:
    """A variant after all of its steps; begun or gone on with here where it lacks some."""
    variant = VARIANTS[name]
    changed = {"steps": arguments.steps, "seed": arguments.seed, **variant.training}
    settings = replace(QUICK if arguments.quick else TRAINING, **changed)
    run = LiveRun(replace(NET, **variant.net), settings, torch.device("cpu"))
    runs = place(name, arguments)
    last = runs / "last.pt"
    if last.is_file():
        run.restore(read_checkpoint(last))
    if run.step < settings.steps:
        runs.mkdir(parents=True, exist_ok=True)
        corpus = part(load(arguments.data, arguments.cache, settings.split), variant.wanted)
        mixer = mixer_of(corpus, settings, run.net, partial(Plainer, missing=variant.missing))
        past = []
        with (runs / "log.jsonl").open("a") as log:
            while run.step < settings.steps:
                past.append(run.update(mixer))
                if noted(run.step, settings.steps, 50):
                    log.write(json.dumps({"step": run.step, "loss": float(np.mean(past))}) + "\n")
                    log.flush()
                    run.save(last)
                    past = []
    return run


def measured(name: str, arguments: Namespace, found: Sequence[Song]) -> dict[str, Any]:
    """The row of a variant, kept in a file for these songs."""

    def make() -> dict[str, Any]:
        run = trained(name, arguments)
        weights = sum(p.numel() for p in run.model.parameters())
        return {"weights": weights, **score(run.averaged(), iter(found))}

    values = kept_scores(place(name, arguments), found, make)
    row = {f"{kind} {key}": values[kind][key] for kind in SETS if kind in values for key in FIGURES}
    print(name, {key: round(value, 2) for key, value in row.items()}, flush=True)
    return {"variant": VARIANTS[name].what, "weights": f"{values['weights'] / 1e6:.2f} M", **row}


def measure(arguments: Namespace) -> Page:
    """Train and score the variants."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if arguments.quick:
        arguments.seconds, arguments.songs, arguments.steps = 2.0, 1, 1
    found = chosen_songs(arguments)
    if not found:
        raise UsageError(f"no dev songs in {arguments.data}")
    names = [name for name in VARIANTS if name in arguments.variants]
    rows = {name: measured(name, arguments, found) for name in arguments.variants}
    kinds = [kind for kind in SETS if any(song.kind == kind for song in found)]
    columns = {f"{kind} {key}": f"{SETS[kind]}: {what}, dB" for kind in kinds for key, what in FIGURES.items()}
    tables = []
    for group in (SOURCES, CHANGES, SIZES):
        of = [name for name in names if VARIANTS[name].group == group]
        shown = [rows[name] for name in (["full"] if group != SOURCES and "full" in rows else []) + of]
        if of:
            tables.append(Table(group, {"variant": "variant", "weights": "weights"} | columns, shown))
    figures = {
        "songs": len(found),
        "seconds of each": arguments.seconds,
        "seed": arguments.seed,
        "steps": arguments.steps,
    }
    return Page(
        "ablations",
        "What each part of the training is worth",
        "Small nets of the live family (24 numbers a band, 2 blocks), each trained from random weights for the "
        "same steps on 8 sequences of 3 s, with one thing changed. Dev songs, some seconds of each, torch offline, "
        "which is what the export plays; hop 256 where nothing else is said. Gains in whole-song SDR over the mixture. "
        "They say which way a change goes, not what a net gains by it that was trained for hours; what is no "
        "larger than the distance between the two seeds says nothing.",
        figures,
        tables,
        [f"songs: {', '.join(song.name for song in found)}"],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = variants_parser(__doc__, "ablations", 400)
    options.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    return program(measure, options, arguments)


if __name__ == "__main__":
    sys.exit(main())
