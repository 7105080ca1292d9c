"""Streams for the benchmarks: one whose hops are made on call, and one that runs in its threads as fast as it can."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks._kernels import run_hops, run_periods, run_separator
from rtsep.engine import worker
from rtsep.engine.stream import Controls, Stream, Timing
from rtsep.io.base import Driver
from rtsep.separators.base import Separator

#: Hops of sound that are gone round in.
_LOOP = 16


class IdleDriver(Driver):
    """A duplex device that ticks only when the benchmark does."""

    def __init__(self, samplerate: int, blocksize: int, channels: int, realtime: bool) -> None:
        self.samplerate, self.blocksize, self.inputs, self.outputs = samplerate, blocksize, channels, 2
        self.realtime = realtime
        self.context = 0

    def open(self) -> None:
        """Nothing to open."""

    def start(self, context: int) -> None:
        """Remember the context."""
        self.context = context

    def stop(self) -> None:
        """Nothing to end."""


def sound(channels: int, frames: int) -> NDArray[np.float32]:
    """Noise at -20 dBFS, shape (channels, frames), part of it common to both channels."""
    random = np.random.default_rng(1)
    common = random.standard_normal((1, frames))
    return (0.07 * (common + random.standard_normal((channels, frames)))).astype(np.float32)


class HandMade:
    """A stream without threads: callback and worker's code, hop by hop in the calling thread.

    Parameters
    ----------
    separator : Separator
        Prepared here; its masks are filled once and then left alone.
    samplerate, channels, hop : int
        Of the stream; the device period is the hop.
    """

    def __init__(self, separator: Separator, samplerate: int = 48000, channels: int = 2, hop: int = 256) -> None:
        hop = separator.required_hop(samplerate) or hop
        self.separator = separator
        self.driver = IdleDriver(samplerate, hop, channels, realtime=True)
        self.stream = Stream(self.driver, None, separator, hop, Controls())
        self._sound = sound(channels, _LOOP * hop)
        self._out = np.zeros((2, hop), np.float32)
        self._hops = 0
        self.stream.context.open()
        self.stream.words[worker.MASKED] = np.iinfo(np.int64).max
        masks = self.stream.chain.memory.masks
        masks[:] = np.random.default_rng(2).uniform(0, 1, masks.shape).astype(np.float32)

    @property
    def hop_s(self) -> float:
        """Duration of a hop in seconds."""
        return self.stream.spec.hop / self.stream.spec.samplerate

    def run(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Make `count` hops; durations of callback and worker's part in ns, shape (count,) each."""
        ticks, hosts = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.make(count, ticks, hosts)
        return ticks, hosts

    def make(self, count: int, ticks: NDArray[np.int64], hosts: NDArray[np.int64]) -> None:
        """As `run`, into arrays that are there already."""
        stream, left = self.stream, self._sound.ctypes.data
        right = left + self._sound.strides[0] if len(self._sound) == 2 else 0
        done = run_hops(
            stream._memory,
            stream.chain.memory,
            stream.context.address,
            left,
            right,
            self._out.ctypes.data,
            self._hops,
            count,
            ticks,
            hosts,
        )
        assert done == count, f"the input ring ran dry after {done} of {count} hops"
        self._hops += count

    def separate(self, count: int, durations: NDArray[np.int64] | None = None) -> None:
        """Call the separator `count` times, as the inference thread does; durations in ns into `durations`."""
        from time import perf_counter_ns

        memory, compiled = self.stream.chain.memory, self.separator.compiled()
        found = np.zeros(count, np.int64) if durations is None else durations[:count]
        if compiled is not None:
            clock = np.zeros(2, np.int64)
            run_separator(compiled.function, compiled.memory, memory.spectra, memory.masks, clock, found)
            return
        spectra, masks, process = list(memory.spectra), list(memory.masks), self.separator.process
        for i in range(count):
            slot = i & (len(masks) - 1)
            began = perf_counter_ns()
            process(spectra[slot], masks[slot])
            found[i] = perf_counter_ns() - began


class FreeRunning:
    """A stream in its own threads, freewheeling: the device asks for the next period as soon as it has one.

    Parameters
    ----------
    separator : Separator
        Prepared here.
    samplerate, channels, hop : int
        Of the stream; the device period is the hop.
    """

    def __init__(self, separator: Separator, samplerate: int = 48000, channels: int = 2, hop: int = 256) -> None:
        hop = separator.required_hop(samplerate) or hop
        self.timing = Timing()
        self._driver = IdleDriver(samplerate, hop, channels, realtime=False)
        self.stream = Stream(self._driver, None, separator, hop, Controls(), self.timing)
        self._sound = sound(channels, _LOOP * hop)
        self._out = np.zeros((2, hop), np.float32)

    def __enter__(self) -> FreeRunning:
        self.stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.stop()

    @property
    def hop_s(self) -> float:
        """Duration of a hop in seconds."""
        return self.stream.spec.hop / self.stream.spec.samplerate

    def run(self, count: int) -> None:
        """Make `count` hops; the calling thread is the device and does not take the interpreter's lock meanwhile."""
        left = self._sound.ctypes.data
        right = left + self._sound.strides[0] if len(self._sound) == 2 else 0
        frames, length = self.stream.spec.hop, self._sound.shape[1]
        run_periods(self._driver.context, left, right, self._out.ctypes.data, frames, length, count)
