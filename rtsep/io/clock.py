"""Time and waiting for compiled code: a monotonic clock, and a semaphore with a deadline.

Posting is safe in an audio callback (`sem_post` never blocks). On systems without unnamed semaphores (macOS) a wait
naps in steps of 0.2 ms instead.
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import ctypes
import sys
import time

import numpy as np
from numba import carray, njit, types

from rtsep.native import external, int_pointer

_libc = ctypes.CDLL(None)
_LINUX = sys.platform.startswith("linux")
_MONOTONIC = time.CLOCK_MONOTONIC
_NAP_US = 200

_clock_gettime = external(_libc, "clock_gettime", types.int32(types.int32, types.intp))
_usleep = external(_libc, "usleep", types.int32(types.uint32))
if _LINUX:
    _sem_post = external(_libc, "sem_post", types.int32(types.intp))
    _sem_clockwait = external(_libc, "sem_clockwait", types.int32(types.intp, types.int32, types.intp))

# A semaphore is an int64 array: sem_t first (at most 64 bytes), then scratch for a timespec.
_TIMESPEC, _SEMAPHORE_SIZE = 8, 16


@njit(types.int64(types.intp), nogil=True, cache=True)
def now_ns(scratch):
    """Monotonic time in nanoseconds; `scratch` is the address of two int64 of the calling thread's own."""
    _clock_gettime(_MONOTONIC, scratch)
    timespec = carray(int_pointer(scratch), 2)
    return timespec[0] * 1_000_000_000 + timespec[1]


@njit(types.void(types.int64), nogil=True, cache=True)
def sleep_us(microseconds):
    """Sleep; never in an audio callback outside freewheel mode."""
    _usleep(types.uint32(microseconds))


@njit(types.void(types.intp), nogil=True, cache=True)
def post(semaphore):
    """Wake one waiter [any thread, real-time safe]."""
    if _LINUX:
        _sem_post(semaphore)


@njit(types.int64(types.intp, types.int64), nogil=True, cache=True)
def wait_until(semaphore, deadline_ns):
    """Wait for a `post` until the monotonic time `deadline_ns`; 1 if posted, 0 if not [one waiter a semaphore].

    A return of 1 says only that something may have changed: look at the condition again.
    """
    if _LINUX:
        timespec = carray(int_pointer(semaphore + 8 * _TIMESPEC), 2)
        timespec[0] = deadline_ns // 1_000_000_000
        timespec[1] = deadline_ns % 1_000_000_000
        return 1 if _sem_clockwait(semaphore, _MONOTONIC, semaphore + 8 * _TIMESPEC) == 0 else 0
    left_us = (deadline_ns - now_ns(semaphore + 8 * _TIMESPEC)) // 1000
    if left_us <= 0:
        return 0
    _usleep(types.uint32(min(left_us, _NAP_US)))
    return 1


class Semaphore:
    """A counting semaphore that compiled code posts and waits on by address; starts at zero."""

    def __init__(self) -> None:
        self._memory = np.zeros(_SEMAPHORE_SIZE, dtype=np.int64)
        if _LINUX:
            _libc.sem_init(ctypes.c_void_p(self.address), 0, 0)

    @property
    def address(self) -> int:
        """What `post` and `wait_until` take."""
        return self._memory.ctypes.data

    def post(self) -> None:
        """Wake one waiter [any thread]."""
        post(self.address)

    def wait(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` seconds without the interpreter's lock; True if posted."""
        return bool(wait_until(self.address, time.monotonic_ns() + int(timeout_s * 1e9)))
