"""How a session shows itself: a live screen, lines of text, JSON, or nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from rtsep.cli.report import as_json, news, stream_line, summary

if TYPE_CHECKING:
    from rtsep.cli.play import Stop
    from rtsep.engine.session import Session, Stats


class View:
    """Shows nothing; what the others have in common. All methods are for the main thread, `say` for any.

    Parameters
    ----------
    stream : file
        Where it writes: not stdout if the sound goes there.
    """

    #: Time between two updates.
    interval_s = 0.2

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def say(self, text: str) -> None:
        """Tell something before the session shows itself."""

    @contextlib.contextmanager
    def showing(self, session: Session, stop: Stop, duration: float | None) -> Iterator[None]:
        """Show `session` as long as the context lasts."""
        yield

    def update(self, stats: Stats) -> None:
        """Show the newest figures."""

    def end(self, stats: Stats) -> None:
        """Show the figures of the whole run; here only what went wrong."""
        with contextlib.suppress(OSError):
            for line in stats.losses:
                print(f"rtsep: {line}", file=sys.stderr)

    def print(self, text: str) -> None:
        """Write a line at once."""
        # Nobody may read any more (a closed pipe, a full disk): the sound goes on all the same.
        with contextlib.suppress(OSError):
            print(text, file=self.stream, flush=True)


class Lines(View):
    """Text for a log: what plays, every change of state, every message, a summary."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._state = "playing"
        self._told: Sequence[str] = ()

    def say(self, text: str) -> None:
        self.print(text)

    @contextlib.contextmanager
    def showing(self, session: Session, stop: Stop, duration: float | None) -> Iterator[None]:
        now = session.snapshot()
        self.print(f"{now.input} > {now.separator} > {now.output}, {stream_line(now)}")
        yield

    def update(self, stats: Stats) -> None:
        for message in news(self._told, stats.messages):
            self.print(message)
        self._told = stats.messages
        if stats.state not in (self._state, "ended"):
            self._state = stats.state
            self.print(stats.state)

    def end(self, stats: Stats) -> None:
        self.update(stats)
        self.print(summary(stats))


class JsonLines(View):
    """One JSON object per second (``"event": "stats"``) and one at the end (``"event": "summary"``)."""

    interval_s = 1.0

    def update(self, stats: Stats) -> None:
        self.print(as_json(stats, event="stats").decode())

    def end(self, stats: Stats) -> None:
        self.print(as_json(stats, event="summary").decode())


def view_for(output: str, *, quiet: bool, json: bool) -> View:
    """Choose the view: JSON or nothing if asked for, the screen in a terminal, lines elsewhere.

    Parameters
    ----------
    output : str
        Where the sound goes; with ``"-"`` or ``"-:ENCODING"`` it has stdout for itself, and the view goes to stderr.
    """
    stream = sys.stderr if output.partition(":")[0] == "-" else sys.stdout
    if json:
        return JsonLines(stream)
    if quiet:
        return View(stream)
    if stream.isatty():
        from rtsep.cli.screen import Screen

        return Screen(stream)
    return Lines(stream)
