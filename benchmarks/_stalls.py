"""Moments at which the machine stood still, and whether a late mask fell into one.

A thread on each core does nothing but sleep for a millisecond, with a priority above all of the program's own. Where it
wakes much too late, nobody could have run there: a stall of the machine (its hypervisor, its kernel).
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import os
import threading

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtsep.engine.worker import LATE
from rtsep.io.clock import now_ns, sleep_us
from rtsep.io.realtime import raise_priority
from rtsep.native import load_acquire

PRIORITY = 80
NAP_US = 1000
#: Time by which a nap is too long from which on it is a stall.
STALL_NS = 2_000_000
#: A hop is late in a stall, or by what it had to catch up with afterwards.
BEFORE_NS, AFTER_NS = 1_000_000, 30_000_000
_KEPT = 1 << 14
_COUNT, _STOP, _SCRATCH = 0, 1, 2


@njit(nogil=True, cache=True)
def _watch(words, late, events, control, scratch):
    """Note in `events` (kept, 2) each stall, from and to, or with `late` each late mask, at and how many."""
    before, seen = now_ns(scratch), load_acquire(words, LATE)
    while load_acquire(control, _STOP) == 0:
        sleep_us(NAP_US)
        now = now_ns(scratch)
        at, found = control[_COUNT], load_acquire(words, LATE)
        if late:
            if found > seen and at < len(events):
                events[at, 0], events[at, 1] = now, found - seen
                control[_COUNT] = at + 1
        elif now - before > NAP_US * 1000 + STALL_NS and at < len(events):
            events[at, 0], events[at, 1] = before, now
            control[_COUNT] = at + 1
        before, seen = now, found


class Stalls:
    """Watches the cores and the late masks of a stream from its making to `stop` [main thread].

    Parameters
    ----------
    words : ndarray of int64
        Of the stream's worker (`rtsep.engine.stream.Stream.words`).
    """

    def __init__(self, words: NDArray[np.int64]) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self._events = [np.zeros((_KEPT, 2), np.int64) for _ in range(len(cores) + 1)]
        self._controls = [np.zeros(4, np.int64) for _ in self._events]
        _watch(words, True, self._events[0], np.array([0, 1, 0, 0]), self._controls[0][_SCRATCH:].ctypes.data)
        self._threads = [
            threading.Thread(target=self._run, args=(words, k, core), daemon=True)
            for k, core in enumerate([None, *cores])
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, words: NDArray[np.int64], k: int, core: int | None) -> None:
        if core is not None:
            os.sched_setaffinity(threading.get_native_id(), {core})
        raise_priority(PRIORITY)
        control = self._controls[k]
        _watch(words, core is None, self._events[k], control, control[_SCRATCH:].ctypes.data)

    def stop(self) -> tuple[int, int]:
        """End, and tell how many stalls there were, and how many late masks when no core stood still."""
        for control in self._controls:
            control[_STOP] = 1
        for thread in self._threads:
            thread.join()
        late, *stalls = (
            events[: control[_COUNT]] for events, control in zip(self._events, self._controls, strict=True)
        )
        return sum(map(len, stalls)), outside(late, np.concatenate(stalls))


def outside(late: NDArray[np.int64], stalls: NDArray[np.int64]) -> int:
    """How many of the late masks (n, 2: when, how many) lie in none of the stalls (m, 2: from, to), times in ns."""
    near = (late[:, :1] > stalls[:, 0] - BEFORE_NS) & (late[:, :1] < stalls[:, 1] + AFTER_NS)
    return int(late[~near.any(1), 1].sum())
