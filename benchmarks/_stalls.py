"""Moments at which the machine stood still or the server missed a cycle, and whether a late mask fell into one.

A thread on each core does nothing but sleep for a quarter of a millisecond, with a priority above all of the program's
own. Where it wakes much too late, nobody could have run there: a stall of the machine (its hypervisor, its kernel). A
mask over JACK with blocks of 128 has a millisecond or two to spare, so stalls from 1 ms on count. After a cycle
that came too late a server makes up for it by short ones, in which there is no time for a mask.
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
NAP_US = 250
#: Time by which a nap is too long from which on it is a stall.
STALL_NS = 1_000_000
#: A hop is late in a stall, or by what it had to catch up with afterwards.
BEFORE_NS, AFTER_NS = 1_000_000, 30_000_000
#: A gap is seen at the next cycle, which may be so much later than what it is a gap in.
GAP_NS = 15_000_000
_KEPT = 1 << 14
_COUNT, _STOP, _SCRATCH = 0, 1, 2


@njit(nogil=True, cache=True)
def _watch(words, index, events, control, scratch):
    """Note in `events` (kept, 2) each rise of ``words[index]``, when and by how much; below 0: stalls, from and to."""
    before, seen = now_ns(scratch), load_acquire(words, max(index, 0))
    while load_acquire(control, _STOP) == 0:
        sleep_us(NAP_US)
        now = now_ns(scratch)
        at, found = control[_COUNT], load_acquire(words, max(index, 0))
        if index >= 0:
            if found > seen and at < len(events):
                events[at, 0], events[at, 1] = now, found - seen
                control[_COUNT] = at + 1
        elif now - before > NAP_US * 1000 + STALL_NS and at < len(events):
            events[at, 0], events[at, 1] = before, now
            control[_COUNT] = at + 1
        before, seen = now, found


class Stalls:
    """Watches the cores, the late masks of a stream and the gaps of a server from its making to `stop` [main thread].

    Parameters
    ----------
    words : ndarray of int64
        Of the stream's worker (`rtsep.engine.stream.Stream.words`).
    gaps : tuple of ndarray of int64 and int
        Where the gaps that a client of the server meets are counted.
    """

    def __init__(self, words: NDArray[np.int64], gaps: tuple[NDArray[np.int64], int]) -> None:
        cores = sorted(os.sched_getaffinity(0))
        watched: list[tuple[NDArray[np.int64], int, int | None]] = [(words, LATE, None), (*gaps, None)]
        watched += [(words, -1, core) for core in cores]
        self._events = [np.zeros((_KEPT, 2), np.int64) for _ in watched]
        self._controls = [np.zeros(4, np.int64) for _ in watched]
        _watch(words, LATE, self._events[0], np.array([0, 1, 0, 0]), self._controls[0][_SCRATCH:].ctypes.data)
        self._threads = [
            threading.Thread(target=self._run, args=(k, *what), daemon=True) for k, what in enumerate(watched)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, k: int, words: NDArray[np.int64], index: int, core: int | None) -> None:
        if core is not None:
            os.sched_setaffinity(threading.get_native_id(), {core})
        raise_priority(PRIORITY)
        control = self._controls[k]
        _watch(words, index, self._events[k], control, control[_SCRATCH:].ctypes.data)

    def stop(self) -> tuple[int, int]:
        """End, and tell how many stalls there were, and how many late masks in none of them and beside no gap."""
        for control in self._controls:
            control[_STOP] = 1
        for thread in self._threads:
            thread.join()
        late, gaps, *stalls = (
            events[: control[_COUNT]] for events, control in zip(self._events, self._controls, strict=True)
        )
        held_up = np.concatenate([*stalls, gaps[:, :1] - [GAP_NS, 0]])
        return sum(map(len, stalls)), outside(late, held_up)


def outside(late: NDArray[np.int64], stalls: NDArray[np.int64]) -> int:
    """How many of the late masks (n, 2: when, how many) lie in none of the stalls (m, 2: from, to), times in ns."""
    near = (late[:, :1] > stalls[:, 0] - BEFORE_NS) & (late[:, :1] < stalls[:, 1] + AFTER_NS)
    return int(late[~near.any(1), 1].sum())
