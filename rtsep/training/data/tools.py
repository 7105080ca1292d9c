"""What the makers of sound need around them: other programs and libraries, and errors said in one line."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soundfile

from rtsep.errors import RtsepError, UsageError


def require(*libraries: str, font: Path | None = None) -> None:
    """Check that libraries, and for a `font` FluidSynth and this font, are there.

    Raises
    ------
    UsageError
        Naming the first that is missing and how to get it.
    """
    for name in libraries:
        if find_spec(name) is None:
            raise UsageError(f"{name} is missing: pip install 'rtsep[train]'")
    if font is not None:
        if shutil.which("fluidsynth") is None:
            raise UsageError("the program fluidsynth is missing: apt-get install fluidsynth fluid-soundfont-gm")
        if not font.exists():
            raise UsageError(f"no sound font {font}: apt-get install fluid-soundfont-gm, or --font FONT.sf2")


def scores_in(archive: Path) -> tuple[zipfile.ZipFile, list[str]]:
    """An archive of MIDI files and their names in it.

    Raises
    ------
    UsageError
        If it cannot be read or holds none.
    """
    try:
        opened = zipfile.ZipFile(archive)
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"wanted a zip archive of MIDI files, cannot read {archive}: {error}") from None
    names = sorted(name for name in opened.namelist() if name.endswith(".mid"))
    if not names:
        raise UsageError(f"wanted a zip archive of MIDI files, found no *.mid in {archive}")
    return opened, names


def write_opus(path: Path, sound: np.ndarray, rate: int) -> None:
    """Write sound (samples,) or (channels, samples); the file appears when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    soundfile.write(part, sound.T, rate, format="OGG", subtype="OPUS")
    part.replace(path)


def run(main: Callable[[], None]) -> None:
    """Call `main`; an error that a user can meet ends the program with one line and its exit code."""
    try:
        main()
    except RtsepError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
