"""Stems: what separators make of drums, bass and the rest of songs that are known apart, in the chain that plays live.

    python -m benchmarks.stems --data DIR [--cache DIR] [--separators koretzky] [--split validation]

The songs are `DIR/stems/SONG/{drums,bass,other}.opus` (`python -m rtsep.training.data.scores ... --stems`) with a voice
of the pack on top, 3 dB under the accompaniment: those of the split "validation" are neither trained on nor chosen by.
Beside the separators stand silence, which deep parts gain much by, and a rule without a net: the bass is all below
150 Hz, drums all above 5 kHz.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._page import Page, Table, parser, program
from rtsep.engine.offline import split_stems
from rtsep.errors import UsageError
from rtsep.evaluation.scores import sdr, sdr_gain
from rtsep.separators.base import OTHER, STEMS, Mask, Separator, Spectrum
from rtsep.separators.registry import create
from rtsep.spec import StreamSpec
from rtsep.training.data.sources import CACHE_RATE, load
from rtsep.training.data.stems_mixer import stem_songs
from rtsep.training.stems import Mixture, mixtures

PARTS = ("vocals", *STEMS, OTHER)


class Bands(Separator):
    """The rule without a net; it finds no voice."""

    name = "bands"
    summary = "bass below 150 Hz, drums above 5 kHz"
    stems = STEMS

    def prepare(self, spec: StreamSpec) -> None:
        """Draw the masks."""
        hz = np.fft.rfftfreq(spec.window, 1 / spec.samplerate)
        rows = np.stack([np.zeros_like(hz), hz > 5000, hz < 150]).astype(np.float32)
        self._mask = np.repeat(rows, spec.channels, 0)

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        """The same masks at each hop."""
        mask[:] = self._mask

    def reset(self) -> None:
        """There is nothing to forget."""


def scores(song: Mixture, separator: Separator) -> dict[str, Any]:
    """Gains in dB over the mixture of all parts of one song."""
    sound = song.sound
    found = split_stems(separator, sound, CACHE_RATE)
    truth = {"vocals": song.vocals, **song.parts}
    row: dict[str, Any] = {"song": song.name}
    for part in PARTS:
        row[f"{part}_mixture"] = sdr(truth[part], sound)
        row[part] = sdr_gain(truth[part], found[part], sound)
    return row


def measure(arguments: argparse.Namespace) -> Page:
    """Score everything."""
    place = (arguments.data, arguments.cache, arguments.split)
    songs, voices = stem_songs(*place), load(*place)
    if not voices.voices:
        raise UsageError(f"no {arguments.split} voices: wanted {arguments.data}/vocals/*.opus")
    seconds = 2.0 if arguments.quick else arguments.seconds
    found = mixtures(songs[:1] if arguments.quick else songs, voices.voices, seconds, stereo=True)
    separators = {"bands (a rule)": Bands(), **{name: create(name, device="cpu") for name in arguments.separators}}
    rows = {label: [scores(song, separator) for song in found] for label, separator in separators.items()}

    def means(of: Sequence[dict[str, Any]], ending: str) -> dict[str, float]:
        return {part: float(np.mean([row[part + ending] for row in of])) for part in PARTS}

    first = next(iter(rows.values()))
    floor = means(first, "_mixture")
    table = [{"separator": "SDR of the mixture itself", **floor}]
    table.append({"separator": "silence", **{part: -level for part, level in floor.items()}})
    table += [{"separator": label, **means(of, "")} for label, of in rows.items()]
    columns = {part: f"{part}, dB" for part in PARTS}
    tables = [Table("Means", {"separator": "gain over the mixture"} | columns, table)]
    for label in arguments.separators:
        tables.append(Table(f"Gains of {label}", {"song": "song"} | columns, rows[label]))
    return Page(
        "stems",
        "Stems",
        "Whole-song SDR of each part, and how much the separated part is nearer to the true one than the mixture is.",
        {"songs": len(found), "seconds_of_each": seconds},
        tables,
        [f"split: {arguments.split}; accompaniments played from scores with a General MIDI font, not recordings"],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="folder of the sound")
    options.add_argument("--cache", type=Path, default=Path("runs/cache"), help="folder of the decoded sound")
    options.add_argument("--split", choices=("validation", "dev"), default="validation")
    options.add_argument("--seconds", type=float, default=25.0, help="of each song, at most")
    options.add_argument("--separators", nargs="+", default=["koretzky"], help="separators with stems")
    return program(measure, options, arguments)


if __name__ == "__main__":
    sys.exit(main())
