"""What file, pipe and recording share: a thread that empties a ring and never holds up who fills it."""

from __future__ import annotations

import threading
from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from rtsep.dsp.ring import Ring
from rtsep.errors import RtsepError
from rtsep.io.base import Sink
from rtsep.io.feed import Nap

_BLOCK_FRAMES = 8192


class DrainSink(Sink):
    """A sink whose thread takes blocks out of the ring; after a failure it goes on taking and throws them away."""

    #: Longest time for which finished sound may wait in the ring.
    longest_nap_s = 0.05

    def __init__(self) -> None:
        self.error: RtsepError | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._samplerate = 48000

    @abstractmethod
    def write(self, block: NDArray[np.float32]) -> None:
        """Take a block of shape (frames, channels); an `RtsepError` if that fails [sink thread]."""

    @abstractmethod
    def close(self, failed: bool) -> None:
        """Finish; `failed`: after an error of `write` [sink thread, or main thread if never started]."""

    def start(self, ring: Ring) -> None:
        """See `Sink.start` [main thread]."""
        self._thread = threading.Thread(target=self._run, args=(ring,), name="rtsep-sink", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Drain what is left, close, give the file its final name; look at `error` afterwards [main thread]."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(10.0)

    def _run(self, ring: Ring) -> None:
        block = np.zeros((min(_BLOCK_FRAMES, ring.capacity), ring.channels), np.float32)
        nap = Nap(ring, self._samplerate, self._stop, self.longest_nap_s)
        while True:
            stopping = self._stop.is_set()
            count = ring.read(block)
            if count and self.error is None:
                self._attempt(lambda taken=count: self.write(block[:taken]))
            if count == 0 and stopping:
                break
            if count < len(block) and not stopping:
                nap.take(hurry=count > ring.capacity // 2)
        self._attempt(lambda: self.close(self.error is not None))

    def _attempt(self, action) -> None:  # type: ignore[no-untyped-def]
        try:
            action()
        except RtsepError as error:
            self.error = self.error or error
