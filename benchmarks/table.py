"""Table: the figures of the README, taken from the pages of the other programs.

    python -m benchmarks.table [--output DIR] [--quality quality.json] [--readme README.md]

Reads the JSON files in DIR (`build/bench`) and writes `table.md` beside them. With `--readme` it also replaces what
stands between the marks `bench:begin` and `bench:end`. `--quality` is the file that `benchmarks.quality` wrote.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._page import parser, show
from rtsep.errors import RtsepError, UsageError

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
NEEDED = ("hotpath", "latency", "startup", "stress")
#: Heading, separator, hop and the device's period of each column.
COLUMNS = (
    ("monitor", "monitor", 128, 128),
    ("live", "live", 256, 128),
    ("karaoke", "karaoke", 512, 128),
)
_RATE = 44100
#: What the kinds of songs are called.
KINDS = {"mir1k": "songs of new singers (MIR-1K)", "mashup": "mash-ups of new voices and bands"}

Pages = Mapping[str, Mapping[str, Any]]


def read(folder: Path) -> Pages:
    """Pages by program; `UsageError` that names the first that is missing."""
    for name in NEEDED:
        if not (folder / f"{name}.json").is_file():
            raise UsageError(
                f"{folder / name}.json is missing: run python -m benchmarks.{name} --output {folder} first"
            )
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in NEEDED}


def find(pages: Pages, page: str, title: str, **wanted: Any) -> Mapping[str, Any]:
    """First row of a table that has these values; `UsageError` if there is none."""
    for table in pages[page]["tables"]:
        if table["title"] == title:
            for row in table["rows"]:
                if all(row.get(key) == value for key, value in wanted.items()):
                    return row
    raise UsageError(f"{page}.json has no row in '{title}' with {wanted}")


def gains(quality: Mapping[str, Any]) -> dict[str, list[str]]:
    """Rows of the mean gain of vocals and accompaniment, a row for each kind of songs."""
    out: dict[str, list[str]] = {}
    for kind, title in KINDS.items():
        for _, separator, *_ in COLUMNS:
            some = [row for row in quality["scores"].get(separator, []) if row["kind"] == kind]
            if not some:
                raise UsageError(f"the quality file has no {kind} songs of {separator}: run benchmarks.quality with it")
            vocals, music = (sum(row[key] for row in some) / len(some) for key in ("vocals_gain", "accompaniment_gain"))
            name = f"{len(some)} {title}: vocals / accompaniment gain in SDR"
            out.setdefault(name, []).append(f"{vocals:+.1f} / {music:+.1f} dB")
    return out


def markdown(pages: Pages, quality: Mapping[str, Any] | None = None) -> str:
    """The table and what stands under it."""
    rows: dict[str, list[str]] = gains(quality) if quality else {}
    for _, separator, hop, blocksize in COLUMNS:
        latency = find(pages, "latency", "JACK", samplerate=_RATE, blocksize=blocksize, separator=separator)
        live = find(pages, "hotpath", "Cost of one hop, live", separator=separator, hop=hop)
        memory = find(pages, "startup", "Memory", separator=separator)
        frames = latency["measured_frames"]
        known = isinstance(frames, int)
        cells = {
            "latency at 44.1 kHz, click in to click out": f"{frames} frames, {1000 * frames / _RATE:.1f} ms"
            if known
            else "not constant",
            "with a device period of": f"{blocksize} frames",
            "latency printed": f"{latency['printed_frames']} frames",
            "one hop lasts, at 48 kHz": f"{hop / 48:.2f} ms",
            "host per hop, p50 / p99": f"{show(live['host_ms_p50'])} / {show(live['host_ms_p99'])} ms",
            "separator per hop, p50 / p99": f"{show(live['infer_ms_p50'])} / {show(live['infer_ms_p99'])} ms",
            "memory": f"{memory['rss_mb']:.0f} MB",
        }
        for name, text in cells.items():
            rows.setdefault(name, []).append(text)
    lines = ["| | " + " | ".join(heading for heading, *_ in COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(texts) + " |" for name, texts in rows.items()]
    return "\n".join([*lines, "", below(pages)])


def below(pages: Pages) -> str:
    """What does not depend on the column, and where it was measured."""
    startup, machine = pages["startup"]["figures"], pages["hotpath"]["machine"]
    beside = find(pages, "stress", "Drop-outs", load="thread")
    dropped = beside["xruns_out"] + beside["xruns_in"]
    lost = f"{dropped} drop-out" + ("" if dropped == 1 else "s")
    stolen = beside.get("stolen_s", 0.0)
    there = pages["stress"]["machine"]["cpu"]
    where = "" if there == machine["cpu"] else f", on {there.partition(' (')[0]}"
    held_up = f" (the hypervisor kept {stolen:.0f} s of CPU time from the machine meanwhile)" if stolen >= 1.0 else ""
    return (
        f"First sound {startup['first_sound_s']:.1f} s after the start, help {startup['help_s']:.2f} s. koretzky "
        f"beside a busy Python thread in the same process, JACK at 48 kHz, block 128, {beside['minutes']:g} min"
        f"{where}: {lost}, and {beside['empty_gaps']} of a JACK client that does nothing{held_up}. "
        f"Measured on {machine['cpu'].partition(' (')[0]}, {machine['cores']} cores, by the programs in "
        "[benchmarks](benchmarks/README.md); device buffers come on top of the latency."
    )


def fill(readme: str, table: str) -> str:
    """Text of the README with a new table between the marks."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"the README has not got the marks {BEGIN} and {END}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--quality", type=Path, help="scores to put in, too")
    options.add_argument("--readme", type=Path, help="file to fill")
    chosen = options.parse_args(arguments)
    try:
        quality = json.loads(chosen.quality.read_text(encoding="utf-8")) if chosen.quality else None
        table = markdown(read(chosen.output), quality)
        if chosen.readme:
            text = fill(chosen.readme.read_text(encoding="utf-8"), table)
            chosen.readme.write_text(text, encoding="utf-8")
    except RtsepError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return error.exit_code
    (chosen.output / "table.md").write_text(table + "\n", encoding="utf-8")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
