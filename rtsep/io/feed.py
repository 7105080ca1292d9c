"""What file, pipe and signal sources share: a thread that makes blocks, converts them, keeps the input ring full."""

from __future__ import annotations

import itertools
import threading
from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rtsep.dsp.resample import Resampler, check_ratio
from rtsep.dsp.ring import Ring
from rtsep.errors import RtsepError
from rtsep.io.base import Source

#: Frames per block of a source; short enough that the conversion of one never holds up the start.
BLOCK_FRAMES = 4096
_SHORTEST_NAP_S, _LONGEST_NAP_S = 0.0002, 0.05


class Nap:
    """Waiting for the other end of a ring, without a signal from it: naps that grow and shrink with its speed.

    The other end is an audio callback or the worker, which shall not spend time on waking a file reader. In real time a
    ring is visited a few times while it drains once; a worker that runs faster than real time makes the naps short.

    Parameters
    ----------
    ring : Ring
        What is waited for.
    samplerate : int
        Frames per second of the ring.
    stop : Event
        Ends a nap at once.
    longest_s : float
        Upper limit of a nap.
    """

    def __init__(self, ring: Ring, samplerate: int, stop: threading.Event, longest_s: float = _LONGEST_NAP_S) -> None:
        self._stop = stop
        self._longest_s = max(_SHORTEST_NAP_S, min(longest_s, ring.capacity / samplerate / 4))
        self._length_s = _SHORTEST_NAP_S

    def take(self, hurry: bool) -> None:
        """Nap once; `hurry`: the other end moved more than half the ring during the last nap [source or sink]."""
        self._length_s = max(_SHORTEST_NAP_S, self._length_s / 2) if hurry else min(self._longest_s, self._length_s * 2)
        self._stop.wait(self._length_s)


def match_channels(block: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Block (frames, 1 or 2) as (frames, channels): mono fills both channels, stereo is averaged into mono."""
    if block.shape[1] == channels:
        return np.ascontiguousarray(block, dtype=np.float32)
    if channels == 1:
        return np.ascontiguousarray(block.mean(axis=1, keepdims=True), dtype=np.float32)
    return np.ascontiguousarray(np.repeat(block, channels, axis=1), dtype=np.float32)


class FeedSource(Source):
    """A source without a clock: waits for room in the ring; converts to the engine's rate in its own thread.

    Attributes
    ----------
    error : RtsepError or None
        Why the source broke off; the sound before it is in the ring. Opening anew does not help.
    """

    #: Whether `start` waits until sound is in the ring (False for a pipe, whose writer may take its time).
    prefetch = True

    def __init__(self) -> None:
        self.error: RtsepError | None = None
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._moves = False  # to another ring: the thread ends, the sound does not
        self._native: Iterator[NDArray[np.float32]] | None = None
        self._ring: Ring | None = None
        self._rate = 0
        self._unwritten: NDArray[np.float32] | None = None

    @abstractmethod
    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Blocks of shape (frames, channels) at the native rate, finite; an `RtsepError` ends it [source thread]."""

    def close(self) -> None:
        """Release what `open` took; called once, by the source thread or by `stop`."""

    def start(self, ring: Ring, samplerate: int) -> None:
        """See `Source.start`; waits for a full ring or the end, one second at most [main thread].

        Called again, with another ring whose reader is of another rate, it goes on there with what nobody has read.
        """
        check_ratio(samplerate / self.samplerate)
        rest = self._left_over(samplerate)
        self._native = self._native or self.blocks()
        self._ring, self._rate = ring, samplerate
        blocks = itertools.chain(rest, convert(self._native, self.channels, self.samplerate, samplerate))
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, args=(ring, blocks), name="rtsep-source", daemon=True)
        self._thread.start()
        if self.prefetch:
            self._ready.wait(1.0)

    def stop(self) -> None:
        """End and release; harmless when already stopped [main thread]."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is None:
            self.close()
        else:
            thread.join(2.0)

    @property
    def finished(self) -> bool:
        """True once the last frame is in the ring, or the source has broken off [any thread]."""
        return self._done.is_set()

    @property
    def lost(self) -> str:
        """Why the source broke off: the text of `error` [any thread]."""
        return str(self.error) if self.error else ""

    def _left_over(self, samplerate: int) -> Iterator[NDArray[np.float32]]:
        """End the thread of an earlier `start`, if there was one; what it had made and nobody has read, converted."""
        thread, ring = self._thread, self._ring
        if thread is None or ring is None:
            return iter(())
        self._moves = True
        self._stop.set()
        thread.join(2.0)
        if thread.is_alive():
            raise RtsepError("the input cannot go on at another rate: whoever gives the sound is silent")
        self._moves, self._stop = False, threading.Event()
        rest = np.zeros((ring.fill, ring.channels), np.float32)
        ring.read(rest)
        if self._unwritten is not None:
            rest = np.concatenate([rest, self._unwritten])
        self._unwritten = None
        return convert(iter([rest]), ring.channels, self._rate, samplerate)

    def _run(self, ring: Ring, blocks: Iterator[NDArray[np.float32]]) -> None:
        nap = Nap(ring, self._rate, self._stop)
        try:
            for block in blocks:
                self._put(ring, match_channels(block, ring.channels), nap)
                if self._stop.is_set():
                    return
        except RtsepError as error:
            self.error = error
        finally:
            if not self._moves:
                self._done.set()
                self.close()
            self._ready.set()

    def _put(self, ring: Ring, block: NDArray[np.float32], nap: Nap) -> None:
        done = 0
        while not self._stop.is_set():
            done += ring.write(block[done:])
            if done == len(block):
                return
            self._ready.set()
            nap.take(hurry=ring.space > ring.capacity // 2)
        self._unwritten = block[done:]


def convert(
    blocks: Iterator[NDArray[np.float32]], channels: int, source_rate: int, target_rate: int
) -> Iterator[NDArray[np.float32]]:
    """Blocks (frames, channels) at `source_rate` as blocks at `target_rate`, aligned in time; unchanged if equal."""
    if source_rate == target_rate:
        for block in blocks:  # unlike `yield from` this leaves them open for whoever goes on
            yield block
        return
    ratio = target_rate / source_rate
    resampler = Resampler(channels)
    for block in blocks:
        yield resampler.push(block, ratio)
    yield resampler.push(np.zeros((0, channels), np.float32), ratio, last=True)
