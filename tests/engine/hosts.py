"""A driver for tests that plays an array through a stream, period by period, in freewheel mode: exact, repeatable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rtsep.engine.stream import Controls, Stream
from rtsep.io.base import Driver
from rtsep.io.tick import tick
from rtsep.separators.base import Separator


class ArrayDriver(Driver):
    """Ticks only when told to, from the test's own thread."""

    realtime = False

    def __init__(self, samplerate: int, blocksize: int, inputs: int = 2, variable: bool = False) -> None:
        self.samplerate, self.blocksize, self.inputs, self.outputs = samplerate, blocksize, inputs, 2
        self.variable = variable
        self._context = 0

    def open(self) -> None:
        pass

    def start(self, context: int) -> None:
        self._context = context

    def stop(self) -> None:
        pass

    def play(self, sound: NDArray[np.float32], periods: Sequence[int]) -> NDArray[np.float32]:
        """Put `sound` (frames, channels) in, one period after another; returns what comes out, (frames, 2)."""
        sound = np.ascontiguousarray(sound, np.float32)
        out = np.zeros((len(sound), 2), np.float32)
        channels = sound.shape[1]
        at = turn = 0
        while at < len(sound):
            count = min(periods[turn % len(periods)], len(sound) - at)
            turn += 1
            source = sound.ctypes.data + 4 * channels * at if self.inputs else 0
            right = source + 4 if channels == 2 and source else 0
            target = out.ctypes.data + 8 * at
            tick(self._context, source, right, channels, target, target + 4, 2, count)
            at += count
        return out


def run(
    sound: NDArray[np.float32],
    separator: Separator,
    *,
    samplerate: int = 48000,
    blocksize: int = 256,
    periods: Sequence[int] | None = None,
    hop: int = 256,
    controls: Controls | None = None,
    between: Callable[[Stream], None] | None = None,
) -> tuple[NDArray[np.float32], Stream]:
    """All of `sound` (frames, channels) through a stream; returns the output (frames, 2) and the stopped stream."""
    driver = ArrayDriver(samplerate, blocksize, sound.shape[1], variable=periods is not None)
    stream = Stream(driver, None, separator, hop, controls or Controls())
    stream.start()
    try:
        if between is not None:
            between(stream)
        return driver.play(sound, periods or [blocksize]), stream
    finally:
        stream.stop()
