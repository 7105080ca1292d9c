"""Separators that fail on purpose, for the tests of the engine."""

from __future__ import annotations

import time

import numpy as np
from numba import carray, cfunc, types

from rtsep.io.clock import sleep_us
from rtsep.native import int_pointer
from rtsep.separators.base import Compiled, Mask, Separator, Spectrum
from rtsep.spec import StreamSpec


class Faulty(Separator):
    """Mask 0.5, but from hop `first` on, for `count` hops, something goes wrong.

    Parameters
    ----------
    fault : {"stall", "nan", "raise", "crash"}
        Sleep for `seconds`; write NaN into the mask; raise; raise in `reset` too.
    first, count : int
        When, in hops since the separator was made (`reset` does not start the count again).
    seconds : float
        Length of a stall.
    """

    name = "faulty"
    summary = "fails on purpose"

    def __init__(self, fault: str, first: int = 100, count: int = 1, seconds: float = 0.2) -> None:
        super().__init__()
        self.fault, self.first, self.count, self.seconds = fault, first, count, seconds
        self.hops = self.resets = self.prepared = 0

    def prepare(self, spec: StreamSpec) -> None:
        self.prepared += 1

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        failing = self.first <= self.hops < self.first + self.count
        self.hops += 1
        mask.fill(0.5)
        if not failing:
            return
        if self.fault == "stall":
            time.sleep(self.seconds)
        elif self.fault == "nan":
            mask[:, mask.shape[1] // 2] = np.nan
        else:
            raise RuntimeError("the net broke on purpose")

    def reset(self) -> None:
        self.resets += 1
        if self.fault == "crash" and self.hops > self.first:
            raise RuntimeError("reset broke on purpose")


_HOPS, _FIRST, _COUNT, _FAULT, _STALL_US, _ROWS, _BINS, _WORDS = range(8)
_FAULTS = ("stall", "nan", "raise", "crash")


@cfunc(types.int64(types.intp, types.CPointer(types.complex64), types.CPointer(types.float32)))
def _fail_in_c(memory, spectrum, mask):  # type: ignore[no-untyped-def]
    words = carray(int_pointer(memory), _WORDS)
    failing = words[_FIRST] <= words[_HOPS] < words[_FIRST] + words[_COUNT]
    words[_HOPS] += 1
    filled = carray(mask, (words[_ROWS], words[_BINS]))
    filled[:] = 0.5
    if not failing:
        return 0
    if words[_FAULT] == 0:
        sleep_us(words[_STALL_US])
    elif words[_FAULT] == 1:
        filled[:, words[_BINS] // 2] = np.nan
    else:
        return 7
    return 0


class FaultyInC(Faulty):
    """The same with a compiled form."""

    def __init__(self, fault: str, first: int = 100, count: int = 1, seconds: float = 0.2) -> None:
        self._words = np.array([0, first, count, _FAULTS.index(fault), 1e6 * seconds, 0, 0], np.int64)
        super().__init__(fault, first, count, seconds)

    @property
    def hops(self) -> int:  # type: ignore[override]
        return int(self._words[_HOPS])

    @hops.setter
    def hops(self, value: int) -> None:
        self._words[_HOPS] = value

    def prepare(self, spec: StreamSpec) -> None:
        super().prepare(spec)
        self._words[_ROWS], self._words[_BINS] = self.mask_rows(spec.channels), spec.bins

    def compiled(self) -> Compiled:
        memory = self._words
        return Compiled(_fail_in_c.address, memory.ctypes.data, memory, lambda code: f"it broke on purpose ({code})")
