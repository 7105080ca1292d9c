"""Listening: scores and spectrograms of the three demo songs, which the program itself makes.

    python -m benchmarks.listening [--separators live monitor karaoke koretzky midside] [--output docs]

Writes ``listening.md`` and its pictures (needs matplotlib). Nobody's songs: a synthesized voice and band, to see and
to hear what each separator does; how well they do on real songs is the matter of `quality`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.quality import Sound, separate
from rtsep.evaluation.plots import pyplot
from rtsep.evaluation.scores import sdr, sdr_gain
from rtsep.io.demo import PIECES, demo_stems
from rtsep.separators.registry import create

RATE = 44100
ABOUT = {
    "song": "an alto over drums, bass, a plucked arpeggio and pads",
    "ballad": "a man over pads, bass and arpeggio, without drums",
    "dance": "a soprano, 3 dB quieter, over a beat of four bass drums a bar",
}
TEXT = """# Listening

What the separators make of the three songs that the program carries with it (`demo`, `demo:ballad`, `demo:dance`).
Hear it:

    rtsep --input demo:ballad --output speakers --acapella
    rtsep --input demo:dance --output null --record parts

The voice and the band are synthesized: no net was trained on them, and their scores say little about real songs
([quality](../benchmarks/quality.md) does). They are the same on every machine, so that a change of the sound shows.
Scores: whole-song SDR over that of the mixture in dB, vocals / accompaniment, at 44.1 kHz, through the chain that
plays live; `python -m benchmarks.listening --output docs` makes this page anew.
"""


def scores(vocals: Sound, accompaniment: Sound, estimate: Sound) -> str:
    """Gains of vocals and accompaniment, dB."""
    mixture = vocals + accompaniment
    gains = sdr_gain(vocals, estimate, mixture), sdr_gain(accompaniment, mixture - estimate, mixture)
    return f"{gains[0]:+.2f} / {gains[1]:+.2f}"


def picture(parts: dict[str, Sound], path: Path) -> None:
    """Spectrograms one under the other, 12 s from the first note on, up to 8 kHz."""
    plt = pyplot()
    figure, axes = plt.subplots(len(parts), 1, figsize=(9, 1.5 * len(parts)), sharex=True, layout="constrained")
    for axis, (name, sound) in zip(axes, parts.items(), strict=True):
        mono = sound.mean(0)[2 * RATE : 14 * RATE]
        axis.specgram(mono + 1e-7, NFFT=2048, Fs=RATE, noverlap=1536, vmin=-130, vmax=-40, cmap="magma")
        axis.set_ylim(0, 8000)
        axis.set_ylabel("Hz", fontsize=7)
        axis.tick_params(labelsize=7)
        axis.set_title(name, fontsize=8, loc="left", pad=2)
    axes[-1].set_xlabel("s", fontsize=7)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def page(names: list[str], folder: Path) -> str:
    """Separate, draw, and write it all down."""
    rows: list[str] = []
    sections: list[str] = []
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for piece in PIECES:
        vocals, accompaniment = demo_stems(RATE, piece)
        mixture = vocals + accompaniment
        parts: dict[str, Any] = {"mixture": mixture, "vocals, as they are": vocals}
        cells = []
        for name in names:
            estimate, _ = separate(create(name, device="cpu"), mixture, RATE)
            parts[f"vocals, {name}"] = estimate
            cells.append(scores(vocals, accompaniment, estimate))
        file = folder / "pictures" / f"listening-{piece}.png"
        picture(parts, file)
        rows.append(f"| {piece} | {sdr(vocals, mixture):.2f} | " + " | ".join(cells) + " |")
        sections += [f"\n## {piece}: {ABOUT[piece]}\n", f"![spectrograms of {piece}](pictures/{file.name})"]
    table = ["| song | mixture | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|", *rows]
    return TEXT + "\n" + "\n".join(table + sections) + "\n"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--separators", nargs="+", default=["live", "monitor", "karaoke", "koretzky", "midside"])
    parser.add_argument("--output", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    text = page(arguments.separators, arguments.output)
    (arguments.output / "listening.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
