"""Cards: the tables of scores in the cards of the shipped nets, from the file that `benchmarks.quality` wrote.

    python -m benchmarks.cards [--quality benchmarks/quality.json] [--models models]

Renews in `MODEL/CARD.md` what stands between "## Scores" and "## Cost": the table of the means, the table of the songs,
and the line of what was lowest, with the songs on which a simpler method is ahead. Other lines stay.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality import mean_of

Rows = Sequence[Mapping[str, Any]]

NETS = ("live", "monitor", "karaoke", "live-small", "monitor-small")
RIVALS = ("koretzky", "midside", "adress")
KINDS = {
    "wide": "wide-band, true mixture (eir_rubidium, and with its voice raised by 10 dB)",
    "mashup": "wide-band mash-ups, voice 3 dB under the band",
    "mir1k": "MIR-1K, singers annar, khair, tammy (mono)",
}


def means(name: str, scores: Mapping[str, Rows]) -> list[str]:
    """Lines of the table of means: a column for each net and rival, that of `name` in bold."""
    columns = (*NETS, *RIVALS)
    lines = [f"| songs | n | mixture | {' | '.join(columns)} |", "|---" * (3 + len(columns)) + "|"]
    for kind, text in KINDS.items():
        found = {column: mean_of(list(scores[column]), kind) for column in columns}  # type: ignore[arg-type]
        cells = [f"{row['vocals_gain']:+.2f} / {row['accompaniment_gain']:+.2f}" for row in found.values()]
        cells = [f"**{cell}**" if column == name else cell for column, cell in zip(columns, cells, strict=True)]
        count = sum(row["kind"] == kind for row in scores[name])
        lines.append(f"| {text} | {count} | {found[name]['mixture']:.2f} | {' | '.join(cells)} |")
    return lines


def by_song(rows: Rows) -> list[str]:
    """Lines of the table of songs."""
    lines = ["| song | mixture | vocals | accompaniment |", "|---|---|---|---|"]
    for row in rows:
        gains = f"{row['vocals_gain']:+.2f} | {row['accompaniment_gain']:+.2f}"
        lines.append(f"| {row['song']} | {row['mixture']:.2f} | {gains} |")
    return lines


def lowest(name: str, scores: Mapping[str, Rows]) -> str:
    """The lowest gains, and where a rival has more of the vocals."""
    rows = scores[name]
    least = (min(row[key] for row in rows) for key in ("vocals_gain", "accompaniment_gain"))
    text = "Lowest: vocals {:+.2f} dB, accompaniment {:+.2f} dB.".format(*least)
    for rival in RIVALS:
        pairs = zip(rows, scores[rival], strict=True)
        ahead = [row["song"] for row, other in pairs if other["vocals_gain"] > row["vocals_gain"]]
        if ahead:
            text += f" Behind {rival} on {len(ahead)} of {len(rows)} songs: {', '.join(ahead)}."
    return text


def renewed(card: str, name: str, scores: Mapping[str, Rows]) -> str:
    """The text of a card with its tables made anew.

    Raises
    ------
    ValueError
        If it lacks the headings or one of the two tables.
    """
    before, begin, rest = card.partition("## Scores\n")
    inside, end, after = rest.partition("## Cost\n")
    parts = [part for part in re.split(r"\n\n+", inside.strip("\n")) if not part.startswith("Lowest:")]
    places = [number for number, part in enumerate(parts) if part.startswith("|")]
    if not (begin and end and len(places) == 2):
        raise ValueError("wanted '## Scores' with two tables, then '## Cost'")
    parts[places[0]] = "\n".join(means(name, scores))
    parts[places[1]] = "\n".join([*by_song(scores[name]), "", lowest(name, scores)])
    return before + begin + "\n" + "\n\n".join(parts) + "\n\n" + end + after


def main(tokens: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quality", type=Path, default=Path("benchmarks/quality.json"))
    parser.add_argument("--models", type=Path, default=Path("models"))
    arguments = parser.parse_args(tokens)
    try:
        scores = json.loads(arguments.quality.read_text(encoding="utf-8"))["scores"]
        for name in NETS:
            path = arguments.models / name / "CARD.md"
            path.write_text(renewed(path.read_text(encoding="utf-8"), name, scores), encoding="utf-8")
    except (OSError, KeyError, ValueError) as error:
        print(f"benchmarks.cards: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
