"""The life of a session in the foreground: signals, duration, view, figures at the end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtsep.cli.report import played_s, write_stats
from rtsep.cli.views import View

if TYPE_CHECKING:
    from rtsep.engine.options import SessionOptions

#: Length of the fade at the end.
FADE_MS = 50.0


class Stop:
    """A wish to end: by a signal, or by the key `q`."""

    def __init__(self) -> None:
        self.signal = 0
        self.wanted = False

    def request(self, number: int = 0, frame: Any = None) -> None:
        """Ask for the end; as a signal handler too. A second Ctrl-C does not wait for the fade."""
        if self.wanted and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.wanted = True
        self.signal = number or self.signal

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, otherwise 0: a daemon that is told to end has not failed."""
        return 130 if self.signal == signal.SIGINT else 0


@contextlib.contextmanager
def catching(stop: Stop) -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into a request to stop [main thread]."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop.request) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def play(options: SessionOptions, view: View, *, duration: float | None, stats: Path | None, note: str = "") -> int:
    """Run a session until its input ends, `duration` has been played or somebody stops it; return the exit code.

    Parameters
    ----------
    options : SessionOptions
        What to play.
    view : View
        Shows the session.
    duration : float, optional
        Seconds of sound after which to end.
    stats : Path, optional
        JSON file for the figures of the run.
    note : str
        Told at the start.

    Raises
    ------
    RtsepError
        What the session could not start with or broke off with.
    """
    from rtsep.engine import warm

    for line in note.splitlines():
        view.say(line)
    warm.ensure(view.say)

    from rtsep.engine.session import Session

    stop = Stop()
    session = Session(options)
    with contextlib.ExitStack() as stack:
        stack.enter_context(session)
        stack.enter_context(catching(stop))
        with view.showing(session, stop, duration):
            while not stop.wanted:
                now = session.snapshot()
                view.update(now)
                left = view.interval_s
                if duration is not None and not session.ends_itself:
                    left = min(left, duration - played_s(now))
                if left <= 0 or session.wait(left):
                    break
            session.stop(fade_ms=FADE_MS)
    final = session.snapshot()
    view.end(final)
    if stats is not None:
        write_stats(stats, final)
    if session.error is not None:
        raise session.error
    return stop.exit_code
