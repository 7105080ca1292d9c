"""What a training tells of its way: a progress bar for who watches, and lines of JSON that stay."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Journal:
    """The log of a run, which goes on where it was, and its progress bar and clock. For the thread that trains.

    Parameters
    ----------
    path : Path
        The log, whose folder is made if it is not there: one JSON object a line, with ``step`` and ``seconds`` since
        the training was begun or resumed.
    title : str
        Of the bar.
    done, steps : int
        Steps that are done already, and all of them.
    minutes : float, optional
        After which the training is `late`.
    quiet : bool
        No bar.
    """

    def __init__(
        self, path: Path, title: str, *, done: int, steps: int, minutes: float | None = None, quiet: bool = False
    ) -> None:
        self._path, self._minutes, self._begun = path, minutes, time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bar = Progress(*columns, disable=quiet)
        self._task = self._bar.add_task(title, total=steps, completed=done, note="")

    def __enter__(self) -> Journal:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._log = self._path.open("a")
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()
        self._log.close()

    @property
    def late(self) -> bool:
        """Whether its time is over."""
        return self._minutes is not None and time.monotonic() - self._begun >= self._minutes * 60

    def show(self, step: int, loss: float) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=step, note=f"loss {loss:.4f}")

    def note(self, step: int, **entry: Any) -> None:
        """Write a line, to the disk at once."""
        line = {"step": step, "seconds": round(time.monotonic() - self._begun, 1), **entry}
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()
