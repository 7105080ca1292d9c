"""`rtsep separate`: files, with exactly the live chain, as fast as the machine can."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from rtsep.cli.options import (
    FILES,
    PARTS,
    SEPARATION,
    Device,
    Profile,
    Protect,
    Separator,
    Settings,
    Strength,
    settings,
    with_separator,
)
from rtsep.errors import RtsepError, UsageError, as_error

if TYPE_CHECKING:
    from rtsep.config import Stream

#: What a folder is searched for; a file that is named may have any ending.
ENDINGS = (
    ".wav",
    ".flac",
    ".ogg",
    ".opus",
    ".oga",
    ".mp3",
    ".aif",
    ".aiff",
    ".au",
    ".caf",
    ".w64",
    ".m4a",
    ".aac",
    ".wma",
    ".mp4",
)


def separate(
    inputs: Annotated[list[Path], Parameter(name="IN", negative=())],
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], group=FILES)],
    format: Annotated[Literal["wav", "flac"], Parameter(group=FILES)] = "wav",
    overwrite: Annotated[bool, Parameter(negative=(), show_default=False, group=FILES)] = False,
    separator: Separator = None,
    strength: Strength = None,
    protect: Protect = None,
    set_: Settings = None,
    profile: Profile = None,
    hop: Annotated[int | None, Parameter(group=SEPARATION)] = None,
    device: Annotated[Device | None, Parameter(group=SEPARATION)] = None,
    config: Annotated[Path | None, Parameter(group=FILES)] = None,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=(), show_default=False, group=FILES)] = False,
) -> int:
    """Separate sound files, faster than real time.

    With exactly the live chain. Writes vocals.wav and accompaniment.wav to
    FOLDER/NAME/ for each song, as long as it and aligned to the sample. A separator
    that tells stems apart writes these too.

    For example:
      rtsep separate song.flac -o parts
      rtsep separate ~/Music/album -o parts --format flac
      rtsep separate *.mp3 -o parts --separator midside --set width=0.2

    Parameters
    ----------
    inputs
        Sound files, or folders that are searched for them.
    output
        Folder for the parts.
    format
        wav (float32) or flac (24 bits).
    overwrite
        Replace parts that are already there.
    separator
        A name from `rtsep models`, a model folder, or auto: the largest
        model of the profile that this machine is fast enough for.
    strength
        How hard to separate: above 1 doubtful sound goes to the voice, below 1
        to the music.
    protect
        0 to 1: smoother vocals with less musical noise, separated less.
    set_
        NAME=VALUE: a parameter, as listed by `rtsep models NAME`.
    profile
        live, monitor or karaoke; karaoke looks ahead and sounds best.
    hop
        Frames per step, 16 to 1024, of a method without a net; the profile's if not given. A net takes its own.
    device
        Where the net runs; auto takes CUDA if it is there.
    config
        Instead of ~/.config/rtsep/config.toml.
    quiet
        Print errors only.
    """
    from rtsep import config as configuration
    from rtsep.engine import warm
    from rtsep.io.folders import made_folder

    given = {"stream.separator": separator, "stream.profile": profile, "stream.hop": hop, "stream.device": device}
    chosen = configuration.override(
        configuration.load(config), given, lambda key: f"--{key.partition('.')[2]}", UsageError
    )
    songs = find_songs(inputs, output)
    chosen, note = with_separator(chosen)
    params = settings(chosen, set_, strength=strength, protect=protect)
    if note and not quiet:
        print(note, file=sys.stderr)
    first: RtsepError | None = None
    with made_folder(output):
        warm.ensure(lambda text: None if quiet else print(text, file=sys.stderr))
        for number, song in enumerate(songs, 1):
            label = f"[{number}/{len(songs)}] {song.name}" if len(songs) > 1 else song.name
            try:
                _one(song, output, label, format, overwrite, chosen.stream, params, quiet)
            except (RtsepError, OSError) as problem:
                if len(songs) == 1:
                    raise
                error = as_error(problem)
                print(f"rtsep: {error}", file=sys.stderr)
                first = first or error
    return first.exit_code if first else 0


def find_songs(inputs: Iterable[Path], output: Path) -> list[Path]:
    """Files of a list of files and folders, in order, each once; in a folder, not the parts that are in `output`.

    Raises
    ------
    UsageError
        If something does not exist, a folder holds no sound, or two songs would be written to the same folder.
    """
    songs: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
            inside = [song for song in inside if not _is_part(song, output)]
            if not inside:
                raise UsageError(f"no sound file in the folder {path} (looked for {', '.join(ENDINGS)})")
            songs += inside
        elif path.exists():
            songs.append(path)
        else:
            raise UsageError(f"no such file: {path}")
    names: dict[str, Path] = {}
    for song in list(dict.fromkeys(songs)):
        other = names.setdefault(song.stem, song)
        if other != song:
            raise UsageError(
                f"{other} and {song} would both be written to {song.stem}/: separate them into two folders"
            )
    return list(names.values())


def _is_part(song: Path, output: Path) -> bool:
    """Whether a file is what an earlier run has written."""
    place = song.resolve()
    return place.parent.parent == output.resolve() and song.stem in ("vocals", "accompaniment", *PARTS)


def _one(
    song: Path,
    output: Path,
    label: str,
    format: Literal["wav", "flac"],
    overwrite: bool,
    stream: Stream,
    params: dict[str, str],
    quiet: bool,
) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from rtsep.engine.offline import separate_file
    from rtsep.spec import PROFILES

    warnings: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task(label.replace("[", r"\["), total=1.0)
        parts = separate_file(
            song,
            output,
            separator=stream.separator,
            hop=stream.hop or PROFILES[stream.profile],
            format=format,
            overwrite=overwrite,
            params=params,
            device=stream.device,
            progress=lambda share: bar.update(task, completed=share),
            warn=warnings.append,
        )
    for line in warnings:
        print(f"rtsep: {label}: {line}", file=sys.stderr)
    if not quiet:
        print(f"{label}: {', '.join(str(part) for part in parts)}", flush=True)
