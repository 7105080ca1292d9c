"""koretzky: soft against binary mask, look-ahead against score, and the magnitude regression of which its source says
that it fails.

    python -m benchmarks.koretzky --data DIR [--cache DIR] [--work DIR] [--steps N] [--seed N] [--seconds S]

The variants are trained here, all alike and for a few steps, from the weights of the shipped net; those of the targets
with a last layer that begins anew, since a linear output cannot use that of a mask. Scored on dev songs, since variants
are compared. Trained nets and scores are kept in `--work`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._page import Page, Table, program, variants_parser
from benchmarks.separators import SETS, kept_scores, some_of
from rtsep.errors import UsageError
from rtsep.evaluation.plots import pyplot
from rtsep.training.checkpoints import read_checkpoint
from rtsep.training.data.songs import Song, songs
from rtsep.training.evaluate import score
from rtsep.training.folded import unfold
from rtsep.training.koretzky import TrainConfig
from rtsep.training.koretzky_export import restore
from rtsep.training.nets.koretzky import Koretzky
from rtsep.training.train import TARGETS, train

Mask = NDArray[np.float32]
MODEL = Path(__file__).parents[1] / "models" / "koretzky"
HOP_MS = 512 / 44.1
#: Of the variants: a short training that begins with trained weights.
CONFIG = TrainConfig(warmup=20, ema=0.98, vad_share=0.0, sources=4)
QUICK = replace(CONFIG, frames=20)
FIGURES = {"vocals_gain": "vocals", "accompaniment_gain": "accompaniment", "binary_gain": "vocals, binary mask"}


def chosen_songs(arguments: Namespace) -> list[Song]:
    """The middle of the dev songs, as mono as the net hears them."""
    return some_of(songs(arguments.data, arguments.cache, "dev"), arguments.songs, arguments.seconds)


def masks_of(model: Koretzky) -> Callable[[Mask], tuple[Mask, Mask]]:
    """Magnitudes to masks, without the voice detector."""

    @torch.no_grad()
    def infer(magnitude: Mask) -> tuple[Mask, Mask]:
        relative = model.level.relative(torch.from_numpy(magnitude)[None])
        said = model.mask_net(model._padded(relative, True))
        return model.masks(said, relative)[0].numpy(), np.ones(len(magnitude), np.float32)

    return infer


def scored(model: Koretzky, found: Sequence[Song], lookahead: int, folder: Path) -> dict[str, float]:
    """Mean gains by set, kept in a file for these songs."""

    def make() -> list[dict[str, Any]]:
        torch.set_num_threads(1)
        return [asdict(score(song, masks_of(model), lookahead)) for song in found]

    rows = kept_scores(folder, found, make)
    kinds = [kind for kind in SETS if any(row["kind"] == kind for row in rows)]
    return {
        f"{kind} {figure}": float(np.mean([row[figure] for row in rows if row["kind"] == kind]))
        for kind in kinds
        for figure in FIGURES
    }


def variant(name: str, arguments: Namespace, found: Sequence[Song], **of: Any) -> dict[str, Any]:
    """Train a variant, where it is not trained yet, and score it."""
    lookahead, target = of.get("lookahead", 0), of.get("target", "soft")
    anew = of.get("anew", False)
    runs = arguments.work / f"{name}-{arguments.steps}-{arguments.seed}"
    if not (runs / "last.pt").is_file() or read_checkpoint(runs / "last.pt")["step"] < arguments.steps:
        train(
            "koretzky",
            data=arguments.data,
            cache=arguments.cache,
            runs=runs,
            steps=arguments.steps,
            seed=arguments.seed,
            lr=arguments.lr,
            target=target,
            lookahead=lookahead,
            config=replace(QUICK if arguments.quick else CONFIG, fresh_out=anew),
            init=arguments.init,
            resume=True,
            score_every=0,
            device="cpu",
            quiet=True,
        )
    row = scored(restore(read_checkpoint(runs / "last.pt")), found, lookahead, runs)
    losses = [json.loads(line) for line in (runs / "log.jsonl").read_text().splitlines()]
    print(name, {key: round(value, 2) for key, value in row.items()}, flush=True)
    return {"variant": name, **row, "loss": next((line["loss"] for line in losses[::-1] if "loss" in line), None)}


def draw(rows: Sequence[dict[str, Any]], kinds: Sequence[str], path: Path) -> None:
    """Score against look-ahead."""
    plt = pyplot()
    figure, axes = plt.subplots(1, len(kinds), figsize=(4 * len(kinds), 3.4), squeeze=False, constrained_layout=True)
    for axis, kind in zip(axes[0], kinds, strict=True):
        for key, label in (("vocals_gain", "soft mask"), ("binary_gain", "binary mask")):
            axis.plot([row["lookahead"] for row in rows], [row[f"{kind} {key}"] for row in rows], "o-", label=label)
        axis.set(title=SETS[kind], xlabel="look-ahead, hops of 512", ylabel="vocals, gain in SDR, dB")
        axis.grid(alpha=0.3)
        axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def measure(arguments: Namespace) -> Page:
    """Train and score the variants."""
    if arguments.quick:
        arguments.seconds, arguments.songs, arguments.steps = 2.0, 1, 1
    found = chosen_songs(arguments)
    if not found:
        raise UsageError(f"no dev songs in {arguments.data}")
    kinds = [kind for kind in SETS if any(song.kind == kind for song in found)]
    columns = {f"{kind} {key}": f"{SETS[kind]}: {name}, dB" for kind in kinds for key, name in FIGURES.items()}
    model = unfold(arguments.init)
    weights = hashlib.sha256((arguments.init / "model.onnx").read_bytes()).hexdigest()[:12]
    shipped = {"variant": "shipped", **scored(model, found, 0, arguments.work / f"shipped-{weights}")}
    targets = [variant(f"target-{target}", arguments, found, target=target, anew=True) for target in TARGETS]
    ahead = []
    for hops in arguments.lookaheads:
        row = variant(f"lookahead-{hops}", arguments, found, lookahead=hops)
        ahead.append(row | {"lookahead": hops, "latency_ms": (hops + 2) * HOP_MS})
    draw(ahead, kinds, arguments.output / "koretzky.png")
    figures: dict[str, Any] = {"songs": len(found), "seconds_of_each": arguments.seconds, "seed": arguments.seed}
    figures |= {"steps": arguments.steps, "lr": arguments.lr}
    by_target = dict(zip(TARGETS, targets, strict=True))
    for kind in kinds:
        figures[f"{SETS[kind]}: soft over binary mask, shipped, dB"] = (
            shipped[f"{kind} vocals_gain"] - shipped[f"{kind} binary_gain"]
        )
        figures[f"{SETS[kind]}: {ahead[-1]['lookahead']} over {ahead[0]['lookahead']} hops of look-ahead, dB"] = (
            ahead[-1][f"{kind} vocals_gain"] - ahead[0][f"{kind} vocals_gain"]
        )
        figures[f"{SETS[kind]}: magnitude regression below binary target, both as masks of 0 and 1, dB"] = (
            by_target["binary"][f"{kind} binary_gain"] - by_target["magnitude"][f"{kind} binary_gain"]
        )
        figures[f"{SETS[kind]}: magnitude regression below soft target, dB"] = (
            by_target["soft"][f"{kind} vocals_gain"] - by_target["magnitude"][f"{kind} vocals_gain"]
        )
    budget = f"{arguments.steps} steps of 8 sequences of 3 s each, the same mixtures in all; gains in whole-song SDR."
    return Page(
        "koretzky",
        "koretzky: mask, look-ahead, target",
        "Dev songs, some seconds of each, mono, the mask net alone (no voice gate), torch offline, which is what "
        "the export plays. Gains in whole-song SDR over the mixture. Binary: the same mask, thresholded at 0.5.\n\n"
        "![score against look-ahead](koretzky.png)",
        figures,
        [
            Table(
                "Soft against binary mask", {"variant": "net"} | columns, [shipped], "The shipped net, no look-ahead."
            ),
            Table(
                "Look-ahead",
                {"lookahead": "hops", "latency_ms": "latency at 44.1 kHz, ms"} | columns,
                ahead,
                f"All begin with the shipped weights, which know no look-ahead. {budget}",
            ),
            Table(
                "What is learned",
                {"variant": "target", "loss": "loss, last 100 steps"} | columns,
                targets,
                f"All begin with the shipped weights but for the last layer. {budget} The losses are of three kinds.",
            ),
        ],
        [f"songs: {', '.join(song.name for song in found)}"],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = variants_parser(__doc__, "koretzky", 100)
    options.add_argument("--init", type=Path, default=MODEL, metavar="DIR", help="model folder to begin with")
    options.add_argument("--lookaheads", type=int, nargs="+", default=[0, 3, 6, 12], metavar="HOPS")
    options.add_argument("--lr", type=float, default=2e-3, help="highest learning rate of each variant")
    return program(measure, options, arguments)


if __name__ == "__main__":
    sys.exit(main())
