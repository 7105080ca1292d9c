"""Folders for what is written: made when needed, gone again if nothing came into them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from rtsep.errors import UsageError


@contextlib.contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make `folder` and its parents; at the end remove those of them that are still empty [any thread].

    Raises
    ------
    UsageError
        If the folder cannot be made, or nothing can be written there.
    """
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be made: {error.strerror}") from error
    try:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"the folder {folder} is not writable")
        yield
    finally:
        with contextlib.suppress(OSError):
            for place in new:
                place.rmdir()
