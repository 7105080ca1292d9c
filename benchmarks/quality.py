"""Quality: whole-song scores of separators on the validation songs, through the chain that plays live.

    python -m benchmarks.quality --data DIR [--cache DIR] [--separators live koretzky midside] [--split validation]
        [--ceiling] [--keep quality.json] [--output DIR]

The songs are those of `rtsep.training.data.songs`: none of them is trained on, and nothing is chosen by the validation
songs. Beside the scores stand what each separator costs per hop and how late it plays, the mixture itself (the
floor), and the ideal ratio mask of powers (IRM) in the filterbank of each hop (the ceiling). Prints a Markdown page,
and writes it, a JSON file and a plot to `build/bench/`. `--keep` takes what an earlier JSON file says of those that
are not scored now; all costs are measured now, side by side.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._page import cpu_class
from rtsep.engine.chain import Chain
from rtsep.evaluation.oracles import Oracle
from rtsep.evaluation.scores import frame_accuracy, sdr, sdr_gain
from rtsep.separators.base import Separator
from rtsep.separators.registry import create
from rtsep.spec import PROFILES, StreamSpec
from rtsep.training.data.augment import HOP
from rtsep.training.data.songs import Song, songs
from rtsep.training.data.sources import CACHE_RATE
from rtsep.training.evaluate import vad_truth

Sound = NDArray[np.float32]

DEFAULT = ["live", "monitor", "karaoke", "koretzky", "midside", "adress"]


def separate(separator: Separator, mixture: Sound, samplerate: int) -> tuple[Sound, list[float]]:
    """Vocals of a song (channels, frames), aligned with it, and the voice probability of each hop if there is one."""
    hop = separator.required_hop(samplerate) or PROFILES["live"]
    chain = Chain(separator, StreamSpec(samplerate, mixture.shape[0], hop))
    frames = mixture.shape[1]
    hops = -(-(frames + chain.latency) // hop)
    padded = np.zeros((mixture.shape[0], hops * hop), np.float32)
    padded[:, :frames] = mixture
    out = np.zeros_like(padded)
    net = getattr(separator, "_net", None)
    voice: list[float] = []
    for k in range(hops):
        vocals, _ = chain.process(np.ascontiguousarray(padded[:, k * hop : (k + 1) * hop]))
        out[:, k * hop : (k + 1) * hop] = vocals
        if net is not None and net.vad is not None:
            voice.append(float(net.vad[0, 0]))
    return out[:, chain.latency : chain.latency + frames], voice


def measure(song: Song, separator: Separator | None) -> dict[str, Any]:
    """Scores of one song in dB; without a separator, of the mixture itself."""
    mixture = song.vocals + song.accompaniment
    row: dict[str, Any] = {"song": song.name, "kind": song.kind, "mixture": sdr(song.vocals, mixture)}
    if separator is None:
        return row
    vocals, voice = separate(separator, mixture, CACHE_RATE)
    row["vocals_gain"] = sdr_gain(song.vocals, vocals, mixture)
    row["accompaniment_gain"] = sdr_gain(song.accompaniment, mixture - vocals, mixture)
    # The truth is known at koretzky's hops, of the frame that is heard.
    if voice and separator.required_hop(CACHE_RATE) == HOP and not separator.latency:
        truth = vad_truth(song.vocals.mean(0), song.loud)
        row["vad"] = frame_accuracy(truth[: len(voice)], np.array(voice[: len(truth)]) > 0.5)
        row["voiced"] = float(truth.mean())
    return row


class Hops:
    """A prepared separator that plays noise, stereo, at 44.1 kHz, and the time of `process` in s for each hop."""

    def __init__(self, separator: Separator) -> None:
        rate = 44100
        self._separator = separator
        self.spec = spec = StreamSpec(rate, 2, separator.required_hop(rate) or PROFILES["live"])
        separator.prepare(spec)
        random = np.random.default_rng(0)
        self._spectra = [
            (random.standard_normal((2, spec.bins)) + 1j * random.standard_normal((2, spec.bins))).astype(np.complex64)
            for _ in range(16)
        ]
        self._mask = np.zeros((separator.mask_rows(2), spec.bins), np.float32)

    def times(self, hops: int, warm_up: int, clock: Callable[[], float] = time.perf_counter) -> list[float]:
        """Of so many hops after `warm_up` hops that do not count."""
        times = []
        for k in range(warm_up + hops):
            begun = clock()
            self._separator.process(self._spectra[k % 16], self._mask)
            times.append(clock() - begun)
        return times[warm_up:]

    def summary(self, times: Sequence[float]) -> dict[str, float]:
        """Latency of the stream, and percentiles of the times."""
        p50, p99 = np.percentile(np.array(times) * 1e3, [50, 99])
        latency = 2 * self.spec.hop + self._separator.latency
        ms = latency / self.spec.samplerate * 1e3
        return {"hop": self.spec.hop, "latency_ms": ms, "p50_ms": float(p50), "p99_ms": float(p99)}


def cost(separator: Separator) -> dict[str, float]:
    """Latency of the stream, and time of `process` in ms on one thread: of noise, hop after hop, at 44.1 kHz."""
    hops = Hops(separator)
    return hops.summary(hops.times(1800, 200))


def ceilings(found: Iterable[Song]) -> dict[str, list[dict[str, Any]]]:
    """Scores of the ideal ratio mask at the hop of each profile."""
    rows: dict[str, list[dict[str, Any]]] = {f"IRM, hop {hop}": [] for hop in dict.fromkeys(PROFILES.values())}
    for song in found:
        for hop in dict.fromkeys(PROFILES.values()):
            oracle = Oracle("irm", song.vocals, song.accompaniment)
            oracle.required_hop = lambda rate, hop=hop: hop  # type: ignore[method-assign, misc]
            rows[f"IRM, hop {hop}"].append(measure(song, oracle))
    return rows


def kinds_of(rows: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Kinds of songs, in their order."""
    return list(dict.fromkeys(row["kind"] for row in next(iter(rows.values()))))


def mean_of(found: list[dict[str, Any]], kind: str) -> dict[str, float]:
    """Means of the numbers of the songs of a kind."""
    some = [row for row in found if row["kind"] == kind]
    return {key: float(np.mean([row[key] for row in some])) for key in some[0] if key not in {"song", "kind"}}


def page(rows: dict[str, list[dict[str, Any]]], costs: dict[str, dict[str, float]], split: str) -> str:
    """Markdown: means of each kind of song, then each song."""
    text = "Gain: whole-song SDR over that of the mixture, dB; the mixture's own gain is 0. Mean (lowest song)."
    about = f"`python -m benchmarks.quality --data PACK`, {datetime.date.today()}, 48 kHz; one thread of {cpu_class()}."
    if any(name.startswith("IRM") for name in rows):
        about += " IRM: the ideal ratio mask of the true parts, the ceiling (`--ceiling`)."
    lines = [f"# Quality on the {split} songs", "", text, "", about, ""]
    for kind in kinds_of(rows):
        some = [row for row in next(iter(rows.values())) if row["kind"] == kind]
        lines += [f"## {kind}: {len(some)} songs, mixture {np.mean([row['mixture'] for row in some]):.2f} dB", ""]
        lines += ["| separator | vocals | accompaniment | voice frames right | latency, ms | p50 / p99 per hop, ms |"]
        lines += ["|---|---|---|---|---|---|"]
        for name, found in rows.items():
            mean = mean_of(found, kind)
            least = {key: min(row[key] for row in found if row["kind"] == kind) for key in mean}
            vad = f"{100 * mean['vad']:.1f} %" if "vad" in mean else ""
            of = costs.get(name)
            price = f"{of['latency_ms']:.1f} | {of['p50_ms']:.2f} / {of['p99_ms']:.2f}" if of else " | "
            gains = " | ".join(f"{mean[key]:+.2f} ({least[key]:+.2f})" for key in ("vocals_gain", "accompaniment_gain"))
            lines.append(f"| {name} | {gains} | {vad} | {price} |")
        lines += [""]
    lines += ["![score against latency and cost](quality.png)", "", "## Song by song: vocals / accompaniment", ""]
    lines += ["| song | mixture | " + " | ".join(rows) + " |", "|---" * (2 + len(rows)) + "|"]
    for of_song in zip(*rows.values(), strict=True):
        cells = [f"{row['vocals_gain']:+.2f} / {row['accompaniment_gain']:+.2f}" for row in of_song]
        lines.append(f"| {of_song[0]['song']} | {of_song[0]['mixture']:.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _label(axis: Any, places: dict[str, tuple[float, float]]) -> None:
    """Names beside their points, where they hide nothing; a thin line leads to those that lie farther away."""
    to_points = 72 / axis.figure.dpi
    left, bottom, right, top = to_points * axis.bbox.extents
    points = {name: to_points * axis.transData.transform(place) for name, place in places.items()}
    taken = [(x - 4, x + 4, y) for x, y in points.values()]
    for name, (x, y) in sorted(points.items(), key=lambda item: -float(item[1][1])):
        width = 3.7 * len(name)

        def free(begin: float, at: float, width: float = width) -> bool:
            inside = left < begin and begin + width < right and bottom + 4 < at < top - 4
            return inside and not any(
                begin < b + 1 and a - 1 < begin + width and abs(at - high) < 8 for a, b, high in taken
            )

        tries = [(side, y + up) for up in (0, 9, -9, 18, -18, 27, -27, 36, -36) for side in (x + 6, x - 6 - width)]
        begin, at = next((place for place in tries if free(*place)), tries[0])
        taken.append((begin, begin + width, at))
        line = {"arrowstyle": "-", "lw": 0.4, "color": "0.5", "shrinkA": 0, "shrinkB": 3} if abs(at - y) > 8 else None
        axis.annotate(
            name,
            places[name],
            xytext=(begin - x, at - y),
            textcoords="offset points",
            fontsize=7,
            va="center",
            arrowprops=line,
            in_layout=False,
        )


def plot(rows: dict[str, list[dict[str, Any]]], costs: dict[str, dict[str, float]], path: Path) -> None:
    """Vocals gain against latency and against the cost of a hop, each kind of song by itself."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown: list[tuple[Any, dict[str, tuple[float, float]]]] = []
    kinds, labels = kinds_of(rows), {"latency_ms": "latency, ms", "p50_ms": "median cost of a hop, ms"}
    figure, axes = pyplot.subplots(len(kinds), 2, figsize=(10, 3.2 * len(kinds)), squeeze=False, layout="constrained")
    for kind, row in zip(kinds, axes, strict=True):
        for axis, (key, label) in zip(row, labels.items(), strict=True):
            places = {name: (of[key], mean_of(rows[name], kind)["vocals_gain"]) for name, of in costs.items()}
            axis.plot(*np.array(list(places.values())).T, "o", color="C0", alpha=0.8)
            axis.set(xlabel=label, title=f"{kind} songs", xscale="log")
            axis.margins(0.15)
            axis.grid(alpha=0.3)
            shown.append((axis, places))
        row[0].set_ylabel("vocals, gain, dB")
    figure.canvas.draw()  # names need the places that the layout gives
    for axis, places in shown:
        _label(axis, places)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data pack")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="folder of the decoded sound")
    parser.add_argument("--separators", nargs="+", default=DEFAULT)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="parameters, where a separator has them"
    )
    parser.add_argument("--split", default="validation", choices=["validation", "dev"])
    parser.add_argument("--seconds", type=float, help="only so much of each true mixture")
    parser.add_argument("--ceiling", action="store_true", help="the ideal ratio mask too")
    parser.add_argument("--keep", type=Path, help="quality.json with the scores of other separators")
    parser.add_argument("--output", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    earlier: dict[str, Any] = json.loads(arguments.keep.read_text()) if arguments.keep else {"scores": {}}
    if earlier.get("split", arguments.split) != arguments.split:
        parser.error(f"{arguments.keep} holds scores of the {earlier['split']} songs, not of {arguments.split}")
    rows: dict[str, list[dict[str, Any]]] = dict(earlier["scores"])
    made: dict[str, Separator] = {}
    for name in arguments.separators:
        made[name] = separator = create(name, device="cpu")
        for setting in arguments.set:
            key, _, value = setting.partition("=")
            if key in separator.params.params:
                separator.params.set(key, value)
        found = songs(arguments.data, arguments.cache, arguments.split, arguments.seconds, stereo=True)
        rows[name] = [measure(song, separator) for song in found]
    if arguments.ceiling:
        rows |= ceilings(songs(arguments.data, arguments.cache, arguments.split, arguments.seconds, stereo=True))
    rows = {name: rows[name] for name in sorted(rows, key=lambda name: name.startswith("IRM"))}
    costs = {name: cost(made.get(name) or create(name, device="cpu")) for name in rows if not name.startswith("IRM")}
    text = page(rows, costs, arguments.split)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "quality.md").write_text(text)
    values = {"split": arguments.split, "scores": rows, "costs": costs}
    (arguments.output / "quality.json").write_text(json.dumps(values, indent=1))
    plot(rows, costs, arguments.output / "quality.png")
    print(text)


if __name__ == "__main__":
    main()
