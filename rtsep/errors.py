"""Errors that a user can meet, each with the exit code of the command line.

The message of an error says what was wanted, what was found and what to try, in one line. Lists of
choices (device names, model names, configuration keys) belong in the message too.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable


class RtsepError(Exception):
    """Root of all errors that rtsep raises on purpose; exit code 1."""

    exit_code = 1


class UsageError(RtsepError):
    """A wrong option, file or argument; exit code 2."""

    exit_code = 2


class DeviceError(RtsepError):
    """An audio device or server that is missing, ambiguous, busy or lost; exit code 3."""

    exit_code = 3


class ModelError(RtsepError):
    """A model folder that is missing, damaged or not understood; exit code 4."""

    exit_code = 4


class ConfigError(RtsepError):
    """A configuration file or key that is not valid; exit code 5."""

    exit_code = 5


class OverloadError(RtsepError):
    """The machine is too slow for what was asked; exit code 6."""

    exit_code = 6


def as_error(problem: RtsepError | OSError) -> RtsepError:
    """What the system refused, such as a path that is too long, as an error with a clear line."""
    if isinstance(problem, RtsepError):
        return problem
    why = problem.strerror or str(problem)
    if problem.filename is None:
        return RtsepError(f"the system refused: {why}")
    return UsageError(f"{os.fsdecode(problem.filename)} cannot be used: {why}")


def one_line(error: Exception) -> str:
    """What an exception of another package says: its kind and its text, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def first_line(text: str) -> str:
    """First line of a text, without what is empty before it; nothing of an empty one."""
    return next(iter(text.strip().splitlines()), "")


def nearest(wanted: str, choices: Iterable[str]) -> str:
    """Return a hint such as ``"did you mean 'hop'? (choices: hop, window)"`` for an unknown name."""
    names = sorted(choices)
    close = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    guess = f"did you mean '{close[0]}'? " if close else ""
    return f"{guess}(choices: {', '.join(names) or 'none'})"
