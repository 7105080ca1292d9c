"""An empty JACK client in a process of its own: for each line on standard input it prints what it has counted so far.

A process can be a client of one JACK server only, so this is how a second one is watched.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path


class Apart:
    """The process, seen from the benchmark.

    Parameters
    ----------
    server : str
        Name of the JACK server.
    """

    def __init__(self, server: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.counts()

    def counts(self) -> dict[str, int]:
        """Cycles, gaps and xruns so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, int] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=10)


def main() -> None:
    """Count until standard input ends."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests.e2e.jack_probe import EmptyClient

    with contextlib.closing(EmptyClient(sys.argv[1])) as empty:
        for _ in sys.stdin:
            print(json.dumps({"cycles": empty.cycles, "gaps": empty.gaps, "xruns": empty.xruns}), flush=True)


if __name__ == "__main__":
    main()
