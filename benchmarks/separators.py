"""All separators on both validation sets: score, latency, cost of a hop, size, memory.

    python -m benchmarks.separators --data DIR [--cache DIR] [--work DIR] [--separators NAME ...] [--seconds S]

The songs are the fixed validation songs of `rtsep.training.data.songs`, some seconds of each; every separator plays
them through the chain that plays live, with its own settings, and once more with a binary mask where it has one. Beside
them stand the mixture (the floor) and the ideal masks in the filterbank of each hop (the ceilings). What is scored is
kept in `--work`, so that a run that was stopped goes on; scores of other code are made anew. Costs are measured in one
process, the separators in turn; memory is that of the whole program, started once for each.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._page import OUTPUT, Page, Table, parser, program
from benchmarks.quality import Hops, mean_of, plot
from benchmarks.startup import memory
from rtsep.engine.offline import split
from rtsep.errors import UsageError
from rtsep.evaluation.methods import checksum, code_checksum
from rtsep.evaluation.metrics import si_sdr
from rtsep.evaluation.oracles import KINDS, Oracle
from rtsep.evaluation.scores import sdr, sdr_gain
from rtsep.separators.base import Separator
from rtsep.separators.registry import create, names
from rtsep.training.data.songs import Song, songs
from rtsep.training.data.sources import CACHE_RATE

Sound = NDArray[np.float32]
#: A song to its vocals.
Method = Callable[[Song], Sound]
Scored = dict[str, list[dict[str, Any]]]

#: Those that separate nothing, and the one that needs a file of its own for each song.
LEFT_OUT = ("passthrough", "delay", "invert")
NO_NET = ("nmf",)  # a model folder, but bases and no net
HOPS = (512, 256, 128)
BINARY = ", binary"
STEP = CACHE_RATE // 2  # in which a livelier place is looked for
SETS = {
    "mir1k": "MIR-1K singers",
    "mashup": "Wide-band: mash-ups",
    "wide": "Wide-band: true mixtures",
}
SCORES = {
    "method": "method",
    "vocals_gain": "vocals, gain in SDR, dB",
    "accompaniment_gain": "accompaniment, gain in SDR, dB",
    "vocals_si_gain": "vocals, gain in SI-SDR, dB",
    "least": "vocals, lowest song, dB",
    "above": "songs above the mixture",
}
COSTS = {
    "separator": "separator",
    "hop": "hop",
    "latency_ms": "latency, ms",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "share_p50": "p50, % of the hop",
    "share_p99": "p99, % of the hop",
    "size_mb": "model file, MB",
    "rss_mb": "RSS, MB",
}


def some_of(there: Iterable[Song], most: int, seconds: float) -> list[Song]:
    """The middle of the songs, or of `most` of each set, spread over it; more songs include fewer."""
    found = [middle(song, seconds) for song in there]
    keep: set[str] = set()
    for kind in SETS:
        of = [song.name for song in found if song.kind == kind]
        keep |= {of[i] for i in np.argsort(np.arange(len(of)) * 0.618034 % 1)[:most]}
    return [song for song in found if song.name in keep]


def middle(song: Song, seconds: float) -> Song:
    """So much of a song, as near to its middle as the voice has half of its mean energy."""
    total = song.vocals.shape[1]
    frames = min(total, int(seconds * CACHE_RATE))
    energy = np.concatenate([[0.0], np.cumsum((song.vocals.astype(np.float64) ** 2).sum(0))])
    starts = np.arange((total - frames) // 2 % STEP, total - frames + 1, STEP)
    lively = starts[energy[starts + frames] - energy[starts] >= 0.5 * energy[-1] * frames / total]
    start = int(lively[np.argmin(np.abs(lively - (total - frames) // 2))])
    part = slice(start, start + frames)
    return replace(song, vocals=song.vocals[:, part].copy(), accompaniment=song.accompaniment[:, part].copy())


def of_oracle(kind: str, hop: int) -> Method:
    """The ideal mask."""
    return lambda song: split(
        Oracle(kind, song.vocals, song.accompaniment), song.vocals + song.accompaniment, CACHE_RATE, hop
    )[0]


def of_separator(separator: Separator) -> Method:
    """The chain that plays live."""
    return lambda song: split(separator, song.vocals + song.accompaniment, CACHE_RATE)[0]


def methods(names: Sequence[str]) -> Iterator[tuple[str, Method, str]]:
    """Label, method, and what its scores depend on beside the chain."""
    yield "mixture (floor)", lambda song: song.vocals + song.accompaniment, ""
    yield "half of the mixture", lambda song: np.float32(0.5) * (song.vocals + song.accompaniment), ""
    for name in names:
        there = create(name, device="cpu").params.params
        masked = {"masked": "on"} if "masked" in there else {}  # without it there is no mask that could be binary
        forms = {name: {}, **({f"{name}, masked": masked} if masked else {})}
        if "binary" in there:
            forms[[*forms][-1] + BINARY] = masked | {"binary": "on"}
        for label, params in forms.items():
            separator = create(name, device="cpu")
            for param, value in params.items():
                separator.params.set(param, value)
            yield label, of_separator(separator), checksum(separator)
    for kind, name in KINDS.items():
        for hop in HOPS:
            yield f"{name}, hop {hop}", of_oracle(kind, hop), ""


def figures(song: Song, vocals: Sound) -> dict[str, Any]:
    """Scores of one song, dB."""
    mixture = song.vocals + song.accompaniment
    return {
        "song": song.name,
        "kind": song.kind,
        "mixture": sdr(song.vocals, mixture),
        "vocals_gain": sdr_gain(song.vocals, vocals, mixture),
        "accompaniment_gain": sdr_gain(song.accompaniment, mixture - vocals, mixture),
        "vocals_si_gain": si_sdr(song.vocals, vocals) - si_sdr(song.vocals, mixture),
    }


def scored(found: Sequence[Song], arguments: Namespace) -> Scored:
    """Scores of every method on every song, kept in a file for each method."""
    code = code_checksum()
    sounds = [f"{song.name} {hashlib.sha256(song.vocals.tobytes()).hexdigest()[:12]}" for song in found]
    rows: Scored = {}
    for label, method, facts in methods(arguments.separators):
        key = hashlib.sha256(f"{code} {facts}".encode()).hexdigest()
        path = arguments.work / f"{label.replace(' ', '_').replace(':', '_')}.json"
        kept = json.loads(path.read_text()) if path.is_file() else {}
        kept = kept["rows"] if kept.get("key") == key else {}
        for song, known in zip(found, sounds, strict=True):
            if known not in kept:
                kept[known] = figures(song, method(song))
        keep(path, {"key": key, "rows": kept})
        rows[label] = [kept[known] for known in sounds]
        print(label, {kind: round(mean_of(rows[label], kind)["vocals_gain"], 2) for kind in kinds(found)}, flush=True)
    return rows


def keep(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(value))
    part.replace(path)


def kept_scores(folder: Path, found: Sequence[Song], make: Callable[[], Any]) -> Any:
    """Scores of these songs: those in the folder, or what `make` finds, which is put there."""
    digest = hashlib.sha256(b"".join(song.vocals.tobytes() for song in found)).hexdigest()
    path = folder / f"scores-{digest[:12]}.json"
    if not path.is_file():
        keep(path, make())
    return json.loads(path.read_text())


def kinds(found: Sequence[Song]) -> list[str]:
    """Of the songs, in the order of `SETS`."""
    return [kind for kind in SETS if any(song.kind == kind for song in found)]


def costs(arguments: Namespace) -> list[dict[str, Any]]:
    """Latency, cost, size and memory of the separators."""
    rounds, hops = (1, 20) if arguments.quick else (arguments.rounds, arguments.hops)
    made = {name: create(name, device="cpu") for name in arguments.separators}
    players = {name: Hops(separator) for name, separator in made.items()}
    spent: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(rounds):
        for name, player in players.items():
            spent[name] += player.times(hops, 20, time.thread_time)
    rows = []
    for name, separator in made.items():
        row: dict[str, Any] = {"separator": name, **players[name].summary(spent[name])}
        row |= {f"share_{p}": 100 * row[f"{p}_ms"] / players[name].spec.hop_ms for p in ("p50", "p99")}
        folder = getattr(separator, "folder", None)
        size = (folder / "model.onnx").stat().st_size / 1e6 if folder else None
        rows.append(row | {"size_mb": size, "rss_mb": resident(name, checksum(separator), arguments)})
    return rows


def resident(name: str, facts: str, arguments: Namespace) -> float:
    """Memory of the whole program in MB, kept in a file."""
    path = arguments.work / f"rss-{name}-{facts[:12]}.json"
    if not path.is_file():
        keep(path, memory(name, 0.5 if arguments.quick else 3.0)["rss_mb"])
    return float(json.loads(path.read_text()))


def table_of(rows: Scored, kind: str) -> Table:
    """All methods on one set."""
    shown = []
    for label, found in rows.items():
        gains = [row["vocals_gain"] for row in found if row["kind"] == kind]
        above = f"{sum(gain > 0 for gain in gains)} of {len(gains)}"
        shown.append({"method": label, **mean_of(found, kind), "least": min(gains), "above": above})
    floor = mean_of(rows["mixture (floor)"], kind)["mixture"]
    text = f"{len(gains)} songs; SDR of the mixture as an estimate of the vocals: {floor:.2f} dB in the mean."
    return Table(SETS[kind], SCORES, shown, text)


def claims(rows: Scored, kinds: Sequence[str]) -> Table:
    """Whether nets score above the mixture, and soft masks above binary ones."""
    found = []
    for label in rows:
        if label + BINARY not in rows:
            continue
        row: dict[str, Any] = {"separator": label, "net": is_net(label)}
        for kind in kinds:
            soft, binary = (mean_of(rows[name], kind) for name in (label, label + BINARY))
            row |= {f"{kind} gain": soft["vocals_gain"] > 0, f"{kind} si": soft["vocals_si_gain"] > 0}
            row[f"{kind} soft"] = soft["vocals_gain"] - binary["vocals_gain"]
        found.append(row)
    columns = {"separator": "separator", "net": "a net"}
    for kind in kinds:
        columns |= {f"{kind} gain": f"{SETS[kind]}: above the mixture, SDR", f"{kind} si": "SI-SDR"}
        columns[f"{kind} soft"] = "soft above binary mask, dB SDR"
    text = "Vocals, means over each set. A mask that merely turns everything down gains SDR, but no SI-SDR."
    return Table("Above the mixture, and soft against binary masks", columns, found, text)


def is_net(name: str) -> bool:
    """Whether a separator is a trained net."""
    name = name.partition(", ")[0]
    return getattr(create(name, device="cpu"), "folder", None) is not None and name not in NO_NET


def in_short(rows: Scored, there: Sequence[str], table: Table, songs: int, seconds: float) -> dict[str, Any]:
    """The answers."""
    nets = [row for row in table.rows if row["net"]]
    figures: dict[str, Any] = {"songs": songs, "seconds_of_each": seconds, "nets": len(nets)}
    for key, what in (("gain", "SDR"), ("si", "SI-SDR")):
        below = [row["separator"] for row in nets if not all(row[f"{kind} {key}"] for kind in there)]
        figures[f"nets not above the mixture in {what} somewhere"] = ", ".join(below) or "none"
    worse = [row["separator"] for row in table.rows if not all(row[f"{kind} soft"] > 0 for kind in there)]
    figures["soft not above binary mask somewhere"] = ", ".join(worse) or "none"
    if {"acapella", "acapella-v2"} <= rows.keys():
        for kind in there:
            new, old = (mean_of(rows[name], kind)["vocals_gain"] for name in ("acapella-v2", "acapella"))
            figures[f"acapella-v2 above acapella, {SETS[kind]}, dB"] = new - old
    return figures


def measure(arguments: Namespace) -> Page:
    """Score and time everything."""
    if arguments.quick:
        arguments.seconds, arguments.songs = 2.0, 1
    there = songs(arguments.data, arguments.cache, "validation", stereo=True)
    found = some_of(there, arguments.songs, arguments.seconds)
    if not found:
        raise UsageError(f"no validation songs in {arguments.data}")
    rows, sets = scored(found, arguments), kinds(found)
    prices = costs(arguments)
    by_name = {row["separator"]: row for row in prices}
    arguments.output.mkdir(parents=True, exist_ok=True)
    plot({name: rows[name] for name in by_name}, by_name, arguments.output / "separators.png")
    claimed = claims(rows, sets)
    cost_text = (
        f"CPU time of the thread in `process`, of noise at 44.1 kHz, stereo, {arguments.rounds} rounds of "
        f"{arguments.hops} hops, the separators in turn in one process. Latency: two hops and the look-ahead. RSS: the "
        "whole program playing the built-in song."
    )
    return Page(
        "separators",
        "All separators",
        "Some seconds near the middle of validation songs, 48 kHz, stereo where a part is. Gain: SDR over that of the "
        "mixture. Compare within a table, not across.\n\n![score against latency and cost](separators.png)",
        in_short(rows, sets, claimed, len(found), arguments.seconds),
        [*(table_of(rows, kind) for kind in sets), claimed, Table("Latency, cost, size", COSTS, prices, cost_text)],
        [
            "no seed: nothing is drawn",
            "invert is left out: it needs a file of the accompaniment",
            "songs: " + ", ".join(song.name for song in found),
        ],
    )


def usual() -> list[str]:
    """All separators of rtsep itself that separate something by themselves."""
    return [entry.name for entry in names() if entry.kind != "plug-in" and entry.name not in LEFT_OUT]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the data pack")
    options.add_argument("--cache", type=Path, default=Path("runs/cache"), metavar="DIR", help="decoded sound")
    options.add_argument("--work", type=Path, default=OUTPUT / "separators", metavar="DIR", help="what is scored")
    options.add_argument("--separators", nargs="+", default=usual(), metavar="NAME")
    options.add_argument("--seconds", type=float, default=10.0, metavar="S", help="of each song")
    options.add_argument("--songs", type=int, default=100, metavar="N", help="of each set, at most")
    options.add_argument("--rounds", type=int, default=10, metavar="N", help="of the costs")
    options.add_argument("--hops", type=int, default=200, metavar="N", help="of a round")
    return program(measure, options, arguments)


if __name__ == "__main__":
    sys.exit(main())
