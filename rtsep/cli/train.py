"""`rtsep train`: train a net."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from rtsep.cli.options import Device
from rtsep.errors import UsageError

_Switch = Annotated[bool, Parameter(negative=(), show_default=False)]


@contextlib.contextmanager
def training_libraries() -> Iterator[None]:
    """Turn a missing library of the extra `train` into one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("torch", "onnx", "onnxruntime"):
            raise
        raise UsageError(f"{error.name} is not installed: pip install 'rtsep[train,cpu]'") from None


def train(
    net: Annotated[str, Parameter(name="NET")],
    /,
    *,
    data: Path,
    runs: Path | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    resume: _Switch = False,
    target: Literal["soft", "binary", "magnitude"] = "soft",
    lookahead: int | None = None,
    lr: float | None = None,
    optimizer: Literal["adam", "adamw", "sgd", "lbfgs", "muon"] | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    split: Literal["train", "all_train"] = "train",
    seed: int = 0,
    init: Path | None = None,
    part: Literal["all", "stems"] = "all",
    device: Device = "auto",
    threads: int = 1,
    preview: Path | None = None,
    cache: Path | None = None,
    quiet: Annotated[_Switch, Parameter(name=["--quiet", "-q"])] = False,
) -> int:
    """Train a net.

    On mash-ups that are made on the fly. Stop at any time, and go on with --resume.

    For example:
      rtsep train koretzky --data sounds
      rtsep train koretzky --data sounds --minutes 60         stops after an hour
      rtsep train koretzky --data sounds --resume
      rtsep train koretzky --data sounds --target binary --runs runs/binary
      rtsep train koretzky --data sounds --init models/koretzky --part stems
      rtsep train live --data sounds --init models/live       goes on from the shipped net
      rtsep train karaoke --data sounds --init models/live    another profile from it

    Parameters
    ----------
    net
        Which net: koretzky; live, monitor, karaoke, or family for all three at once;
        detector, a net of that family for koretzky (rtsep export --detector);
        or a net of the shared loop (docs/training.md).
    data
        Folder of the sound: vocals/, accompaniment/ and paired/ (docs/training.md).
    runs
        Folder of this run: checkpoint, log, cache of decoded sound; runs/NET if not given.
    steps
        Length of the whole training; the learning rate follows it. 6000 if not given, or the net's own.
    minutes
        Stop after this time; --resume goes on.
    resume
        Go on from the run's last checkpoint.
    target
        What koretzky learns: a soft mask, or the source's binary one, or the magnitude
        of the vocals, which the source says fails.
    lookahead
        Hops that the net may look ahead: koretzky 0 to 24, karaoke and family 1 to 6 (6 if not given), drnn, wvpnn
        and dnn 0 or 1, deep-karaoke 0 to 19 (19), nmf 0 to 19 (4).
    lr
        Highest learning rate; if not given 0.003 for koretzky, 0.01 for the live family
        (0.003 with --init), and what each other net has.
    optimizer
        Of a net of the shared loop: any (but nmf has none); of the live family: muon (if not given), which learns
        more in a step, or adamw.
    set_
        NAME=VALUE: any other setting of the net's training, such as units=256 of a net of the shared
        loop, or frames=256 or processes=2 of the live family; may be repeated.
    split
        all_train trains on the dev songs too: their scores mean nothing then.
    seed
        Of data, order and weights.
    init
        Checkpoint or model folder to take the first weights from; in the live family of any profile. Of a net of the
        shared loop a checkpoint.
    part
        stems: only what divides koretzky's accompaniment; needs stems/ in the data.
    device
        auto takes CUDA if it is there.
    threads
        Threads of torch; 0: as many as it likes.
    preview
        Folder for what the net hears in the first batches, as WAV and
        spectrograms; for koretzky the vocals of two songs at every scoring.
    cache
        Folder of the decoded sound; beside the run if not given.
    quiet
        No progress bar.
    """
    with training_libraries():
        from rtsep.training.train import train as learn

        checkpoint = learn(
            net,
            data=data,
            runs=runs or Path("runs") / net,
            steps=steps,
            minutes=minutes,
            resume=resume,
            target=target,
            lookahead=lookahead,
            lr=lr,
            optimizer=optimizer,
            settings=set_ or (),
            split=split,
            seed=seed,
            init=init,
            part=part,
            device=device,
            threads=threads,
            preview=preview,
            cache=cache,
            quiet=quiet,
        )
    which = " --part live" if net == "family" else ""
    print(f"{checkpoint}: `rtsep export {checkpoint}{which} -o models/mine` makes a model of it")
    return 0
