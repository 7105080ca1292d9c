"""`rtsep evaluate`: scores of separators on a data set."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from rtsep.cli.options import FILES, OUTPUT, SEPARATION, Device

_Texts = list[str] | None


def words(texts: Sequence[str] | None) -> list[str]:
    """Elements of options that may be repeated and hold several names with commas between them."""
    return [word.strip() for text in texts or () for word in text.split(",") if word.strip()]


def split_of(name: str) -> str:
    """Which split a file of the data pack belongs to, as training keeps it."""
    from rtsep.training.data.sources import is_dev, is_validation

    path = f"pack/{name}"
    return "test" if is_validation(path) else "dev" if is_dev(path) else "train"


def evaluate(
    data: Annotated[Path, Parameter(name="DATA")],
    /,
    *,
    separator: Annotated[_Texts, Parameter(name=["--separator", "-s"], negative=(), group=SEPARATION)] = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"], group=FILES)],
    metrics: Annotated[_Texts, Parameter(negative=(), group=OUTPUT)] = None,
    layout: Annotated[str, Parameter(group=FILES)] = "auto",
    split: Annotated[str | None, Parameter(group=FILES)] = None,
    songs: Annotated[_Texts, Parameter(negative=(), group=FILES)] = None,
    seconds: Annotated[float | None, Parameter(group=FILES)] = None,
    set_: Annotated[_Texts, Parameter(name="--set", negative=(), group=SEPARATION)] = None,
    sweep: Annotated[_Texts, Parameter(negative=(), group=SEPARATION)] = None,
    hop: Annotated[int, Parameter(group=SEPARATION)] = 256,
    device: Annotated[Device, Parameter(group=SEPARATION)] = "cpu",
    jobs: Annotated[int, Parameter(name=["--jobs", "-j"], group=OUTPUT)] = 1,
    audio: Annotated[Literal["flac", "opus"], Parameter(group=OUTPUT)] = "flac",
    audio_songs: Annotated[int, Parameter(group=OUTPUT)] = 2,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=(), show_default=False, group=OUTPUT)] = False,
) -> int:
    """Score separators on a data set.

    Through the live chain, beside the untouched mixture (floor) and ideal masks
    (ceilings). Writes scores.json, scores.md, scores.csv and report.html; a
    second run goes on where the first one stopped.

    For example:
      rtsep evaluate musdb18 --separator koretzky,midside -o scores
      rtsep evaluate MIR-1K --separator koretzky -o scores --jobs 4
      rtsep evaluate songs -s midside -o scores --metrics usdr,si-sdr --seconds 30
      rtsep evaluate songs --sweep koretzky:strength=0.5..2/7 -o curve

    Parameters
    ----------
    data
        Folder of the data set (docs/evaluate.md lists the layouts).
    separator
        Names from `rtsep models`, or model folders, with commas between them.
    output
        Folder for the results.
    metrics
        usdr, si-sdr, v3, v4, mir1k; those that are usual for the layout if not given.
    layout
        folder, musdb18, dsd100, mir1k or pack, instead of looking.
    split
        test, train, dev or all; test where the data set is split.
    songs
        Only songs of these names; * and ? stand for anything.
    seconds
        Only so much of the middle of each song.
    set_
        NAME=VALUE for all separators that have it, or SEPARATOR:NAME=VALUE.
    sweep
        SEPARATOR:NAME=LOW..HIGH/COUNT: a curve over a parameter.
    hop
        Frames per step of separators that take any, 16 to 1024.
    device
        Where nets run.
    jobs
        Songs at a time, each in a process.
    audio
        Format of the sound in the report.
    audio_songs
        How many songs can be heard in the report; 0 for none.
    quiet
        Print errors only.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from rtsep.engine import warm

    warm.ensure(lambda text: None if quiet else print(text, file=sys.stderr))

    from rtsep.errors import UsageError
    from rtsep.evaluation import run, tables

    for name, number, least in (("--jobs", jobs, 1), ("--audio-songs", audio_songs, 0)):
        if number < least:
            raise UsageError(f"{name} {number} is not possible: {least} or more is")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task("songs", total=None)
        results = run.evaluate(
            data,
            output,
            words(separator),
            layout=layout,
            split=split,
            songs=words(songs),
            split_of=split_of,
            metric_names=words(metrics),
            settings=set_ or (),
            sweeps=sweep or (),
            hop=hop,
            device=device,
            jobs=jobs,
            seconds=seconds,
            audio=audio,
            audio_songs=audio_songs,
            command=shlex.join(["rtsep", *_arguments()]),
            progress=lambda done, total, name: bar.update(
                task, completed=done, total=total, description=name.replace("[", r"\[")
            ),
        )
    found = tables.faults(results)
    for name, fault in found:
        print(f"rtsep: {name}: {fault}", file=sys.stderr)
    if not quiet:
        print(f"{output / 'scores.md'}, {output / 'report.html'}: {tables.heading(results)}")
    return UsageError.exit_code if found else 0


def _arguments() -> list[str]:
    """The command line as it was given; nothing where rtsep is not the program."""
    return sys.argv[1:] if Path(sys.argv[0]).stem in ("rtsep", "__main__") else []
