"""Quality: whole-song scores of separators on the validation songs, through the chain that plays live.

    python -m benchmarks.quality --data DIR [--cache DIR] [--separators koretzky midside adress] [--split validation]

The songs are those of `rtsep.training.songs`: none of them is trained on, and nothing is chosen by the validation
songs. Prints a Markdown page, and writes it with a JSON file beside it to `build/bench/`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtsep.engine.chain import Chain
from rtsep.evaluation.scores import frame_accuracy, sdr, sdr_gain
from rtsep.separators.base import Separator
from rtsep.separators.registry import create
from rtsep.spec import PROFILES, StreamSpec
from rtsep.training.data import CACHE_RATE
from rtsep.training.evaluate import vad_truth
from rtsep.training.songs import Song, songs

Sound = NDArray[np.float32]


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
    if voice:
        truth = vad_truth(song.vocals.mean(0), song.loud)
        row["vad"] = frame_accuracy(truth[: len(voice)], np.array(voice[: len(truth)]) > 0.5)
        row["voiced"] = float(truth.mean())
    return row


def page(rows: dict[str, list[dict[str, Any]]], split: str) -> str:
    """Markdown: means of each kind of song, then each song."""
    kinds = list(dict.fromkeys(row["kind"] for row in next(iter(rows.values()))))
    lines = [f"# Quality on the {split} songs", "", "Gain: whole-song SDR over that of the mixture, dB.", ""]
    lines += ["| separator | songs | n | mixture | vocals gain | accompaniment gain | voice frames right |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, found in rows.items():
        for kind in kinds:
            some = [row for row in found if row["kind"] == kind]
            mean = {key: float(np.mean([row[key] for row in some])) for key in some[0] if key not in {"song", "kind"}}
            vad = f"{100 * mean['vad']:.1f} %" if "vad" in mean else ""
            lines.append(
                f"| {name} | {kind} | {len(some)} | {mean['mixture']:.2f} | {mean['vocals_gain']:+.2f} "
                f"| {mean['accompaniment_gain']:+.2f} | {vad} |"
            )
    for name, found in rows.items():
        lines += ["", f"## {name}", "", "| song | mixture | vocals gain | accompaniment gain | voice frames right |"]
        lines += ["|---|---|---|---|---|"]
        for row in found:
            vad = f"{100 * row['vad']:.1f} %" if "vad" in row else ""
            lines.append(
                f"| {row['song']} | {row['mixture']:.2f} | {row['vocals_gain']:+.2f} "
                f"| {row['accompaniment_gain']:+.2f} | {vad} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data pack")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="folder of the decoded sound")
    parser.add_argument("--separators", nargs="+", default=["koretzky", "midside", "adress"])
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="parameters, where a separator has them"
    )
    parser.add_argument("--split", default="validation", choices=["validation", "dev"])
    parser.add_argument("--seconds", type=float, help="only so much of each true mixture")
    parser.add_argument("--output", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in arguments.separators:
        separator = create(name, device="cpu")
        for setting in arguments.set:
            key, _, value = setting.partition("=")
            if key in separator.params.params:
                separator.params.set(key, value)
        found = songs(arguments.data, arguments.cache, arguments.split, arguments.seconds, stereo=True)
        rows[name] = [measure(song, separator) for song in found]
    text = page(rows, arguments.split)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "quality.md").write_text(text)
    (arguments.output / "quality.json").write_text(json.dumps({"split": arguments.split, "scores": rows}, indent=1))
    print(text)


if __name__ == "__main__":
    main()
