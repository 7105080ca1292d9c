"""Durations counted in bins of 2 %, so that percentiles of hours cost a fixed memory and no allocation."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

#: Bins per octave, and their number: from 0.1 microseconds to about 7 seconds.
_PER_OCTAVE, _BINS = 36, 936
#: Layout: the bins, then sum and maximum in nanoseconds.
_SUM, _MAX = _BINS, _BINS + 1


@njit(types.void(types.int64[::1], types.int64), nogil=True, cache=True)
def count_duration(histogram, nanoseconds):  # type: ignore[no-untyped-def]
    """Add one duration [one writing thread]."""
    position = int(math.log2(max(nanoseconds, 100) / 100.0) * _PER_OCTAVE)
    histogram[min(position, _BINS - 1)] += 1
    histogram[_SUM] += nanoseconds
    histogram[_MAX] = max(histogram[_MAX], nanoseconds)


class Histogram:
    """Durations of one kind; `counts` is what `count_duration` takes."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(_BINS + 2, dtype=np.int64)

    def percentile_ms(self, percent: float) -> float:
        """Duration in ms that `percent` of the values do not exceed, to 2 %; 0.0 before the first [any thread]."""
        cumulative = np.cumsum(self.counts[:_BINS])
        if not cumulative[-1]:
            return 0.0
        position = int(np.searchsorted(cumulative, percent / 100.0 * cumulative[-1]))
        return min(100.0 * 2.0 ** ((position + 0.5) / _PER_OCTAVE), float(self.counts[_MAX])) / 1e6

    @property
    def max_ms(self) -> float:
        """Longest duration in ms [any thread]."""
        return float(self.counts[_MAX]) / 1e6

    def reset(self) -> None:
        """Forget all values."""
        self.counts.fill(0)
