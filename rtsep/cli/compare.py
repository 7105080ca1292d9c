"""`rtsep compare`: a page for blind listening."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from rtsep.cli.evaluate import words
from rtsep.cli.options import FILES, OUTPUT, SEPARATION, Device

_Texts = list[str] | None


def compare(
    source: Annotated[Path, Parameter(name="SONG")],
    /,
    *,
    separator: Annotated[_Texts, Parameter(name=["--separator", "-s"], negative=(), group=SEPARATION)] = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"], group=FILES)],
    part: Annotated[Literal["both", "vocals", "accompaniment"], Parameter(group=OUTPUT)] = "both",
    start: Annotated[float | None, Parameter(group=OUTPUT)] = None,
    seconds: Annotated[float, Parameter(group=OUTPUT)] = 12.0,
    truth: Annotated[bool, Parameter(negative=(), show_default=False, group=OUTPUT)] = False,
    songs: Annotated[_Texts, Parameter(negative=(), group=FILES)] = None,
    layout: Annotated[str, Parameter(group=FILES)] = "auto",
    set_: Annotated[_Texts, Parameter(name="--set", negative=(), group=SEPARATION)] = None,
    hop: Annotated[int, Parameter(group=SEPARATION)] = 256,
    device: Annotated[Device, Parameter(group=SEPARATION)] = "cpu",
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=(), show_default=False, group=OUTPUT)] = False,
) -> int:
    """Make a page for blind listening (A/B/X).

    Separators against each other on the same excerpts, at the same loudness. The
    page works offline, switches without a gap, draws the order anew each time,
    and shows names and tally at the end.

    For example:
      rtsep compare song.flac --separator koretzky,midside -o listen
      rtsep compare album/ --separator koretzky,midside -o listen --part vocals
      rtsep compare musdb18 --separator koretzky --truth -o listen --songs 'test/A*'

    Parameters
    ----------
    source
        A song, a folder of songs, or a data set (docs/evaluate.md lists the layouts).
    separator
        Names from `rtsep models`, or model folders, with commas between them.
    output
        Folder for the page: index.html and sounds/.
    part
        vocals, accompaniment or both.
    start
        Where the excerpts begin, in seconds; in the middle if not given.
    seconds
        Length of the excerpts.
    truth
        The true parts of a data set take part too.
    songs
        Only songs of these names; * and ? stand for anything.
    layout
        folder, musdb18, dsd100, mir1k or pack, instead of looking.
    set_
        NAME=VALUE for all separators that have it, or SEPARATOR:NAME=VALUE.
    hop
        Frames per step of separators that take any, 16 to 1024.
    device
        Where nets run.
    quiet
        Print errors only.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from rtsep.engine import warm

    warm.ensure(lambda text: None if quiet else print(text, file=sys.stderr))

    from rtsep.errors import UsageError
    from rtsep.evaluation import compare as listening

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task("songs", total=None)
        page = listening.compare(
            source,
            output,
            words(separator),
            parts=("vocals", "accompaniment") if part == "both" else (part,),
            start=start,
            seconds=seconds,
            songs=words(songs),
            layout=layout,
            truth=truth,
            settings=set_ or (),
            hop=hop,
            device=device,
            progress=lambda done, total, name: bar.update(
                task, completed=done, total=total, description=name.replace("[", r"\[")
            ),
        )
    for name, fault in page["faults"]:
        print(f"rtsep: {name}: {fault}", file=sys.stderr)
    if not quiet:
        print(f"{output / 'index.html'}: {len(page['trials'])} comparisons of {', '.join(page['methods'])}")
    return UsageError.exit_code if page["faults"] else 0
