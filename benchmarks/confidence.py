"""SAR against SIR over the confidence alpha: the figure of deep-karaoke's source, with nmf and the ideal mask.

    python -m benchmarks.confidence --data DIR [--cache DIR] [--work DIR] [--songs N] [--seconds S]

Each separator plays each song through the chain that plays live, for each alpha; the vocals are those of
``part=vocals`` (S > alpha) and the accompaniment that of ``part=non-vocals`` (S < 1 - alpha), the two masks of the
source. Beside them stand the soft masks and the ideal binary mask (IBM) at the same hop. BSS Eval v3; MIR-1K and
wide-band mash-ups of the validation songs apart. What is scored is kept in `--work`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._page import OUTPUT, Page, Table, parser, program
from benchmarks.separators import SETS, keep, some_of
from rtsep.engine.offline import split
from rtsep.errors import UsageError
from rtsep.evaluation.methods import checksum, code_checksum
from rtsep.evaluation.metrics import bss_v3
from rtsep.evaluation.oracles import Oracle
from rtsep.evaluation.plots import pyplot
from rtsep.separators.base import Mask, Separator, Spectrum
from rtsep.separators.registry import create
from rtsep.spec import StreamSpec
from rtsep.training.data.songs import Song, songs
from rtsep.training.data.sources import CACHE_RATE

Sound = NDArray[np.float32]
Row = dict[str, Any]
KINDS = ("mir1k", "mashup")
PARTS = ("vocals", "accompaniment")
SCORES = ("sdr", "sir", "sar")
HOP = 512  # of both separators
UNTOUCHED_DB = 30.0  # SAR from which a part is all but the mixture itself
COLUMNS = {
    "separator": "separator",
    "alpha": "alpha",
    **{f"{part}_{score}": f"{part} {score.upper()}, dB" for part in PARTS for score in SCORES},
}
EQUAL_TEXT = (
    "Interpolated between the alphas of each that none of its own beats in both, where the ranges of SIR overlap."
)
EQUAL = {
    "songs": "songs",
    "part": "part",
    "sir": "SIR, dB",
    "first": "SAR of {}, dB",
    "second": "SAR of {}, dB",
    "more": "difference, dB",
}


class Kept(Separator):
    """Plays a separator and keeps its masks; then plays what `change` makes of them."""

    def __init__(self, inner: Separator) -> None:
        super().__init__()
        self._inner, self._masks, self._next = inner, [], 0  # type: ignore[var-annotated]
        self.change: Callable[[Mask], NDArray[Any]] | None = None

    @property
    def latency(self) -> int:
        return self._inner.latency

    def required_hop(self, samplerate: int) -> int | None:
        return self._inner.required_hop(samplerate)

    def prepare(self, spec: StreamSpec) -> None:
        """Begin anew [main thread]."""
        self._next = 0
        self._inner.prepare(spec)

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        """The inner one's mask at first, later the kept ones."""
        if self.change is None:
            self._inner.process(spectrum, mask)
            self._masks.append(mask.copy())
        else:
            mask[:] = self.change(self._masks[self._next])
            self._next += 1

    def reset(self) -> None:
        """Begin anew."""
        self._next = 0


def played(separator: Separator, mixture: Sound) -> tuple[Sound, Sound]:
    """Vocals and accompaniment."""
    return split(separator, mixture, CACHE_RATE, HOP)


def with_alphas(separator: Separator, mixture: Sound, alphas: Sequence[str]) -> dict[str, tuple[Sound, Sound]]:
    """Both of the source's masks at each confidence: what the parameters binary, alpha and part make of one run."""
    separator.params.set("strength", 1)  # the mask is S itself
    kept = Kept(separator)
    played(kept, mixture)
    found = {}
    for text in alphas:
        alpha = np.float32(text)
        kept.change = lambda mask, alpha=alpha: mask > alpha  # type: ignore[misc]
        vocals, _ = played(kept, mixture)
        kept.change = lambda mask, alpha=alpha: mask >= 1 - alpha  # type: ignore[misc]
        _, music = played(kept, mixture)
        found[text] = vocals, music
    return found


def scores(song: Song, parts: Sequence[Sound]) -> Row:
    """SDR, SIR and SAR of both parts; None of one that is silent, as at a high alpha."""
    truth, made = (
        np.stack([sound.mean(0, dtype=np.float64) for sound in sounds])
        for sounds in ((song.vocals, song.accompaniment), parts)
    )
    silent = ~made.any(1)
    found = bss_v3(truth, np.where(silent[:, None], truth, made))
    return {
        f"{part}_{score}": None if silent[j] else float(found[i, j])
        for j, part in enumerate(PARTS)
        for i, score in enumerate(SCORES)
    }


def scored(song: Song, name: str, alphas: Sequence[str]) -> dict[str, Row]:
    """Figures of a separator, or of the IBM, on a song, by alpha."""
    mixture = song.vocals + song.accompaniment
    if name == "IBM":
        return {"": scores(song, played(Oracle("ibm", song.vocals, song.accompaniment), mixture))}
    separator = create(name, device="cpu")
    found = {"soft": scores(song, played(separator, mixture))}
    return found | {alpha: scores(song, parts) for alpha, parts in with_alphas(separator, mixture, alphas).items()}


def kept(song: Song, name: str, alphas: Sequence[str], work: Path) -> dict[str, Row]:
    """`scored`, through a file."""
    own = "" if name == "IBM" else checksum(create(name, device="cpu"))
    code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    sound = hashlib.sha256(song.vocals.tobytes()).hexdigest()
    facts = [song.name, sound, name, alphas, own, code_checksum(), code]
    path = work / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]}.json"
    if not path.is_file():
        keep(path, scored(song, name, alphas))
    found: dict[str, Row] = json.loads(path.read_text())
    return found


def mean(rows: Sequence[Row]) -> Row:
    """Over songs; NaN unless all have the figure."""
    return {key: float(np.mean([np.nan if row[key] is None else row[key] for row in rows])) for key in rows[0]}


def known(row: Row) -> Row:
    """Without what is not defined for every song."""
    return {key: value for key, value in row.items() if not isinstance(value, float) or np.isfinite(value)}


def curve(rows: Sequence[Row], name: str, part: str) -> NDArray[np.float64]:
    """SIR and SAR over alpha, (2, alphas), without what is silent or the untouched mixture."""
    of = [row for row in rows if row["separator"] == name and row["alpha"] not in ("", "soft")]
    points = np.array([(row[f"{part}_sir"], row[f"{part}_sar"]) for row in of]).reshape(-1, 2)
    return points[np.isfinite(points).all(1) & (points[:, 1] < UNTOUCHED_DB)].T


def best(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Those of a curve that no other one beats in both, by rising SIR: far from 0.5, alpha may worsen both."""
    sir, sar = points
    beaten = ((sir >= sir[:, None]) & (sar >= sar[:, None]) & ((sir > sir[:, None]) | (sar > sar[:, None]))).any(1)
    left = points[:, ~beaten]
    return left[:, np.argsort(left[0])]


def at_equal_sir(rows: Sequence[Row], first: str, second: str, part: str) -> list[Row]:
    """SAR of both, interpolated, at five places of the range of SIR that both reach; then the median over it."""
    a, b = (best(curve(rows, name, part)) for name in (first, second))
    if not (a.size and b.size):
        return [{"part": part, "sir": "no curve", "first": None, "second": None, "more": None}]
    low, high = max(a[0, 0], b[0, 0]), min(a[0, -1], b[0, -1])
    if not low < high:
        return [{"part": part, "sir": "none in common", "first": None, "second": None, "more": None}]

    def at(sir: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([np.interp(sir, *of) for of in (a, b)])

    places = np.linspace(low, high, 5)
    made = [
        {"part": part, "sir": float(sir), "first": float(x), "second": float(y), "more": float(x - y)}
        for sir, x, y in zip(places, *at(places), strict=True)
    ]
    x, y = at(np.linspace(low, high, 101))
    over = f"median over {low:.1f} to {high:.1f}"
    return [*made, {"part": part, "sir": over, "first": None, "second": None, "more": float(np.median(x - y))}]


def draw(tables: dict[str, list[Row]], path: Path) -> None:
    """The figure: a row for each set, a column for each part."""
    plt = pyplot()
    figure, axes = plt.subplots(len(tables), 2, figsize=(10, 4.2 * len(tables)), squeeze=False, constrained_layout=True)
    for (kind, rows), line in zip(tables.items(), axes, strict=True):
        names = list(dict.fromkeys(row["separator"] for row in rows))
        for axis, part in zip(line, PARTS, strict=True):
            for number, name in enumerate(names):
                color = f"C{number}"
                points = curve(rows, name, part) if name != "IBM" else np.zeros((2, 0))
                if points.size:
                    axis.plot(*points, "o-", color=color, label=f"{name}, alpha")
                for row in rows:
                    place = row[f"{part}_sir"], row[f"{part}_sar"]
                    if row["separator"] == name and row["alpha"] in ("", "soft"):
                        label = f"{name} {row['alpha']}".strip()
                        axis.plot(*place, "*", color=color, markersize=11, label=label)
                    elif row["separator"] == name and np.isfinite(place).all() and place[1] < UNTOUCHED_DB:
                        axis.annotate(row["alpha"], place, xytext=(3, 3), textcoords="offset points", fontsize=7)
            axis.set(title=f"{SETS[kind]}: {part}", xlabel="SIR, dB", ylabel="SAR, dB")
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def chosen_songs(chosen: Any) -> dict[str, list[Song]]:
    """The middle of the songs of each set."""
    some = some_of(songs(chosen.data, chosen.cache, chosen.split, stereo=True), chosen.songs, chosen.seconds)
    found = {kind: [song for song in some if song.kind == kind] for kind in KINDS}
    return {kind: of for kind, of in found.items() if of}


def measure(chosen: Any) -> Page:
    """The tables and the figure."""
    alphas = ["0.1", "0.9"] if chosen.quick else [f"{0.1 * k:.1f}" for k in range(1, 10)]
    if chosen.quick:
        chosen.songs, chosen.seconds = 1, 3.0
    found = chosen_songs(chosen)
    if not found:
        raise UsageError(f"no {chosen.split} songs in {chosen.data}")
    tables: dict[str, list[Row]] = {}
    for kind, there in found.items():
        tables[kind] = []
        for name in ("IBM", *chosen.separators):
            of_songs = [kept(song, name, alphas, chosen.work) for song in there]
            for alpha in of_songs[0]:
                row = {"separator": name, "alpha": alpha} | mean([rows[alpha] for rows in of_songs])
                tables[kind].append(row)
                print(kind, name, alpha, {k: round(v, 2) for k, v in row.items() if isinstance(v, float)}, flush=True)
    first, second = chosen.separators
    equal = [
        {"songs": SETS[kind], **row}
        for kind, rows in tables.items()
        for part in PARTS
        for row in at_equal_sir(rows, first, second, part)
    ]
    columns = EQUAL | {"first": EQUAL["first"].format(first), "second": EQUAL["second"].format(second)}
    page = Page(
        "confidence",
        "Confidence: SAR against SIR",
        "The vocals are the cells with S > alpha, the accompaniment those with S < 1 - alpha. BSS Eval v3 of the mean "
        "of the channels, 48 kHz.\n\n![SAR against SIR](confidence.png)",
        {
            f"{row['part']}, {row['songs']}: SAR of {first} over {second} at equal SIR, dB": row["sir"]
            if row["more"] is None
            else row["more"]
            for row in equal
            if isinstance(row["sir"], str)
        },
        [Table("SAR at equal SIR", columns, equal, EQUAL_TEXT)],
        [f"{SETS[kind]}: {', '.join(song.name for song in some)}" for kind, some in found.items()],
    )
    page.tables += [
        Table(
            SETS[kind],
            COLUMNS,
            [known(row) for row in rows],
            f"Mean of {len(found[kind])} songs, {chosen.seconds:g} s of each.",
        )
        for kind, rows in tables.items()
    ]
    page.notes += ["no seed: nothing is drawn", "the source: about 3 dB more SAR at equal SIR, 5 dB for the vocals"]
    draw(tables, chosen.output / "confidence.png")
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the data pack")
    options.add_argument("--cache", type=Path, default=Path("runs/cache"), metavar="DIR", help="decoded sound")
    options.add_argument("--work", type=Path, default=OUTPUT / "confidence", metavar="DIR", help="what is scored")
    options.add_argument("--separators", nargs=2, default=["deep-karaoke", "nmf"], metavar="NAME", help="with an alpha")
    options.add_argument("--split", default="validation", choices=["validation", "dev"])
    options.add_argument("--songs", type=int, default=5, metavar="N", help="of each set")
    options.add_argument("--seconds", type=float, default=10.0, metavar="S", help="of each song")
    return program(measure, options, arguments)


if __name__ == "__main__":
    sys.exit(main())
