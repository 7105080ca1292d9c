"""Single keys from the terminal, without waiting for the enter key."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator

#: What terminals send for the keys that have no character.
SEQUENCES = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1b[C": "right",
    b"\x1b[D": "left",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1bOC": "right",
    b"\x1bOD": "left",
}


def split(data: bytes) -> list[str]:
    """Names of the keys in what a terminal has sent: ``"up"``, ``"k"``; unknown sequences are left out."""
    keys: list[str] = []
    while data:
        if data[:1] != b"\x1b":
            keys.append(data[:1].decode("latin-1"))
            data = data[1:]
            continue
        name = SEQUENCES.get(data[:3])
        if name:
            keys.append(name)
        # An unknown sequence ends with its first letter or tilde.
        end = (
            3
            if name
            else next((i + 1 for i in range(2, len(data)) if chr(data[i]).isalpha() or data[i] == 0x7E), len(data))
        )
        data = data[end:]
    return keys


class Keyboard:
    """Keys that have been pressed; none where stdin is no terminal or belongs to another job.

    Used as a context: the terminal is put back as it was, whatever happens.
    """

    def __init__(self) -> None:
        self._open = False

    def __enter__(self) -> Keyboard:
        with contextlib.ExitStack() as stack:
            if _ours():
                stack.enter_context(_single_keys(sys.stdin.fileno()))
                self._open = True
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._open = False
        self._stack.close()

    def read(self) -> list[str]:
        """Keys since the last call; never waits."""
        if not self._open or not select.select([sys.stdin], [], [], 0)[0]:
            return []
        data = os.read(sys.stdin.fileno(), 256)
        self._open = bool(data)  # at its end a terminal is readable for ever
        return split(data)


def _ours() -> bool:
    """Whether stdin is a terminal that this job may read from."""
    try:
        return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False


@contextlib.contextmanager
def _single_keys(terminal: int) -> Iterator[None]:
    import termios
    import tty

    before = termios.tcgetattr(terminal)
    # Ctrl-Z would leave the shell with our screen and our terminal settings, and the device with no sound.
    suspend = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        tty.setcbreak(terminal)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTSTP, suspend)
