"""Separators that fail on purpose, for the tests of the engine."""

from __future__ import annotations

import time

import numpy as np

from rtsep.separators.base import Mask, Separator, Spectrum
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
