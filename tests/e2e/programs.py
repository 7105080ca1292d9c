"""The command line under test as a process of its own, and waiting for it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: A machine that also compiles, builds or trains is slow.
PATIENCE_S = 50.0


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> None:
    """Go on once `condition` holds; fail with `what` after `seconds`."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, what
        time.sleep(0.01)


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    return {**(os.environ if env is None else env), "PYTHONPATH": str(ROOT)}


def rtsep(
    *arguments: str | Path, env: Mapping[str, str] | None = None, data: bytes | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "rtsep", *map(str, arguments)]
    return subprocess.run(
        command, env=_environment(env), input=data, capture_output=True, timeout=PATIENCE_S, check=False, cwd=cwd
    )


class Program:
    """A running ``rtsep ... --json``.

    Attributes
    ----------
    lines : list of dict
        All that it has printed so far.
    """

    def __init__(self, arguments: tuple[str | Path, ...], env: Mapping[str, str] | None) -> None:
        command = [sys.executable, "-m", "rtsep", *map(str, arguments), "--json"]
        self.process = subprocess.Popen(
            command, env=_environment(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        self.lines: list[dict[str, Any]] = []
        self.errors = b""
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors += self.process.stderr.read()

    @property
    def now(self) -> dict[str, Any]:
        """The newest line."""
        return self.lines[-1] if self.lines else {}

    def until(self, condition: Callable[[dict[str, Any]], Any], what: str, seconds: float = PATIENCE_S) -> None:
        """Wait for a line that fulfils `condition`."""
        start = max(len(self.lines) - 1, 0)

        def seen() -> bool:
            assert self.process.poll() is None or self.lines, f"{what}: {self.errors.decode()}"
            return any(condition(line) for line in self.lines[start:])

        wait_for(seen, what, seconds)

    def plays(self) -> None:
        """Wait for the first hops."""
        self.until(lambda line: line["state"] == "playing" and line["hops"] > 0, "no sound")

    def end(self, how: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(how)
        return self.wait()

    def wait(self) -> int:
        """Exit code, once all that was printed has been read."""
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code


@contextlib.contextmanager
def running(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Iterator[Program]:
    """``rtsep ARGUMENTS --json``; killed at the end if it still runs."""
    program = Program(arguments, env)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
        program.process.wait()
