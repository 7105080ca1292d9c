"""What file, pipe and recording share: a thread that empties a ring and never holds up who fills it."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rtsep.dsp.ring import Ring
from rtsep.errors import RtsepError
from rtsep.io.feed import Nap

_BLOCK_FRAMES = 8192
_PATIENCE_S = 10.0


class Drain:
    """A thread that takes blocks out of a ring; after a failure it goes on taking and throws them away.

    Parameters
    ----------
    longest_nap_s : float
        Time for which finished sound may wait in the ring.

    Attributes
    ----------
    error : RtsepError or None
        The first failure.
    """

    def __init__(self, longest_nap_s: float = 0.05) -> None:
        self.error: RtsepError | None = None
        self.samplerate = 48000
        self._longest_nap_s = longest_nap_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._over = self._begun = False

    @abstractmethod
    def write(self, block: NDArray[np.float32]) -> None:
        """Take a block of shape (frames, channels); an `RtsepError` if that fails [drain thread]."""

    @abstractmethod
    def close(self, failed: bool) -> None:
        """Finish; `failed`: after an error of `write` [drain thread]."""

    @abstractmethod
    def discard(self) -> None:
        """Undo what was opened: no sound has come [main thread or drain thread]."""

    def start(self, ring: Ring) -> None:
        """Begin to drain `ring` [main thread]."""
        self._thread = threading.Thread(target=self._run, args=(ring,), name="rtsep-drain", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Drain what is left, close, give files their final names; look at `error` afterwards [main thread].

        Where no sound has come at all, nothing is left behind.
        """
        self._stop.set()
        over, self._over = self._over, True
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)
            if self._thread.is_alive() and self.error is None:
                self.error = RtsepError(
                    f"what was to be written could not be in {_PATIENCE_S:.0f} s: the disk or reader does not answer"
                )
        elif not over:
            self.discard()

    def _run(self, ring: Ring) -> None:
        block = np.zeros((min(_BLOCK_FRAMES, ring.capacity), ring.channels), np.float32)
        nap = Nap(ring, self.samplerate, self._stop, self._longest_nap_s)
        while True:
            stopping = self._stop.is_set()
            count = ring.read(block)
            if count and self.error is None:
                self._begun = True
                self._attempt(lambda taken=count: self.write(block[:taken]))  # type: ignore[misc]
            if count == 0 and stopping:
                break
            if count < len(block) and not stopping:
                nap.take(hurry=count > ring.capacity // 2)
        if self._begun:
            self._attempt(lambda: self.close(self.error is not None))
        else:
            self._attempt(self.discard)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except RtsepError as error:
            self.error = self.error or error
        except (OSError, RuntimeError, AssertionError) as error:
            # What is left of a disk that fills up while a file is ended; the first failure is the one to tell.
            self.error = self.error or RtsepError(f"the file cannot be finished: {error}")
