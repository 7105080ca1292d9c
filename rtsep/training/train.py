"""`train`: checks what is asked for, and hands it to the training of that net.

The trainings themselves are `rtsep.training.koretzky` and `stems`, `rtsep.training.live` (the live family), and
`rtsep.training.trainer` (every other net).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rtsep.errors import UsageError
from rtsep.training.checkpoints import NETS
from rtsep.training.koretzky import TrainConfig, train_koretzky
from rtsep.training.live import settings_of, sizes_of, train_live
from rtsep.training.machine import keep_memory, pick_device
from rtsep.training.nets.koretzky import NetConfig
from rtsep.training.stems import StemsTask, train_stems
from rtsep.training.tasks import TASKS, configured, find
from rtsep.training.trainer import train_task

TARGETS = ("soft", "binary", "magnitude")
SPLITS = ("train", "all_train")


def train(
    net: str = "koretzky",
    *,
    data: Path,
    runs: Path = Path("runs/koretzky"),
    minutes: float | None = None,
    steps: int | None = None,
    resume: bool = False,
    seed: int = 0,
    device: str = "auto",
    target: str = "soft",
    lookahead: int | None = None,
    lr: float | None = None,
    optimizer: str | None = None,
    settings: Sequence[str] = (),
    split: str = "train",
    init: Path | None = None,
    part: str = "all",
    preview: Path | None = None,
    cache: Path | None = None,
    sizes: NetConfig | None = None,
    config: TrainConfig | None = None,
    score_every: int = 1000,
    threads: int = 1,
    quiet: bool = False,
) -> Path:
    """Train a net and return the path of its last checkpoint.

    Parameters
    ----------
    net : str
        Which net: "koretzky", or "live", "monitor", "karaoke" or "detector" of the live family or all of it, "family",
        or one of `rtsep.training.tasks.TASKS`.
    data : Path
        Folder of the sound (see `rtsep.training.data.sources`).
    runs : Path
        Folder of this run: last.pt, log.jsonl, and unless `cache` says otherwise the decoded sound beside it.
    minutes : float, optional
        Stop after this time; `resume` goes on. The learning rate follows `steps`, not the clock.
    steps : int, optional
        Length of the whole training; if not given 6000, or the task's own.
    resume : bool
        Go on from runs/last.pt with its own configuration.
    device : str
        "cpu", "cuda" or "auto".
    target : str
        koretzky: "soft", or "binary" (the source's: MSE to the binary mask), or "magnitude" (linear output, MSE to the
        magnitude of the vocals, which fails by the source; no look-ahead).
    lookahead : int, optional
        Hops that the net may look ahead: koretzky 0..24, karaoke 1..6.
    lr : float, optional
        Highest learning rate; 3e-3 if not given, 1e-2 for the live family without `init`.
    optimizer : str, optional
        Of a task: "adam", "adamw", "sgd" or "lbfgs"; of the live family: "adamw" or "muon".
    settings : sequence of str
        Any other settings of the training, as texts ``NAME=VALUE``: fields of `TrainConfig` (koretzky),
        `rtsep.training.live.LiveTraining` (the live family) or of the task's own.
    split : str
        "train", or "all_train": the dev songs too. Scores on these mean nothing then.
    init : Path, optional
        Begin with the weights of this checkpoint or model folder; in the live family whatever its profile.
    part : str
        "all"; of koretzky also "stems": only the head that divides the accompaniment (`rtsep.training.stems`).
    preview : Path, optional
        The live family: write what the net hears in the first batches there, as WAV and spectrograms (PNG).
        koretzky: the vocals of two dev songs at every scoring, as FLAC.

    Raises
    ------
    UsageError
        Unknown net, target or device; no data; a run that exists already without `resume`.
    """
    _refuse(net, target, split, part, lr=lr, lookahead=lookahead, optimizer=optimizer)
    last = runs / "last.pt"
    if last.exists() and not resume:
        raise UsageError(f"{last} exists: give --resume to go on with it, or another --runs")
    if threads:
        torch.set_num_threads(threads)
    keep_memory()
    where = pick_device(device)
    runs.mkdir(parents=True, exist_ok=True)
    store = cache or runs.parent / "cache"
    common: dict[str, Any] = {"data": data, "cache": store, "runs": runs, "device": where, "init": init}
    common |= {"minutes": minutes, "resume": resume, "score_every": score_every, "quiet": quiet}
    if net in TASKS:
        if target != "soft" or preview:
            raise UsageError(f"{net}: --target and --preview are not for this net")
        kind = find(net)
        options = {"seed": seed, "steps": steps, "lr": lr, "split": split, "lookahead": lookahead}
        return train_task(kind, configured(kind, settings, optimizer=optimizer, **options), **common)
    if part == "stems":
        given = {"seed": seed, "steps": steps, "lr": lr, "split": split, "lookahead": lookahead, "target": target}
        return train_stems(configured(StemsTask, settings, optimizer=optimizer, **given), **common)
    steps = 6000 if steps is None else steps
    if net != "koretzky":
        if target != "soft":
            raise UsageError(f"{net}: --target is not for this net")
        return train_live(
            net,
            preview=preview,
            sizes=sizes_of(net, lookahead),
            config=settings_of(
                seed=seed,
                steps=steps,
                lr=lr,
                split=split,
                begun=init is not None,
                optimizer=optimizer,
                texts=settings,
            ),
            **common,
        )
    shape = replace(config or TrainConfig(), target=target, lookahead=lookahead or 0, seed=seed, steps=steps)
    shape = replace(shape, lr=lr or shape.lr, split=split, vad_fresh=init is None)
    return train_koretzky(config=shape, sizes=sizes, settings=settings, preview=preview, **common)


def _refuse(
    net: str, target: str, split: str, part: str, *, lr: float | None, lookahead: int | None, optimizer: str | None
) -> None:
    """`UsageError` for what no training can do."""
    if net not in NETS:
        raise UsageError(f"no net {net!r} to train; there is: {', '.join(NETS)}")
    if optimizer and net == "koretzky" and part != "stems":
        raise UsageError("koretzky: --optimizer is not for this net")
    if target not in TARGETS:
        raise UsageError(f"target {target!r}: expected one of {', '.join(TARGETS)}")
    if split not in SPLITS:
        raise UsageError(f"split {split!r}: expected {' or '.join(SPLITS)}")
    if lr is not None and not 0 < lr <= 1:
        raise UsageError(f"lr {lr:g}: expected a learning rate above 0, at most 1")
    if part not in {"all", "stems"} or (part != "all" and net != "koretzky"):
        raise UsageError(f"part {part!r} of {net}: expected all, or stems (koretzky only)")
    if net == "koretzky" and not 0 <= (lookahead or 0) <= 24:
        raise UsageError(f"lookahead {lookahead}: expected 0 to 24 hops")
    if target == "magnitude" and lookahead:
        raise UsageError(f"lookahead {lookahead}: the target magnitude has none, wanted 0")
