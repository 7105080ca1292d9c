"""Asking the system for real-time treatment: priority, locked memory, a quiet interpreter. All optional, none
assumed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

#: SCHED_FIFO priorities, below an audio server's own (JACK: 80 and less for its clients).
WORKER, INFERENCE = 68, 66

#: The interpreter hands its lock on after this time when another thread waits; its default is 5 ms.
SWITCH_INTERVAL_S = 0.0005

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_MADV_DONTNEED = 4


def can_raise_priority() -> bool:
    """Whether `rtsep.io.realtime.raise_priority` would succeed; changes nothing [any thread]."""
    if not sys.platform.startswith("linux"):
        return False
    import resource

    return os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_RTPRIO)[1] >= WORKER


def can_lock_memory() -> bool:
    """Whether all memory may be locked: with a limit, a later allocation would fail instead [any thread]."""
    if not sys.platform.startswith("linux"):
        return False
    import resource

    return os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY


@contextlib.contextmanager
def locked_memory() -> Iterator[bool]:
    """Keep pages in memory once they have been touched, while a stream runs; gives False where that is not allowed
    [main thread].
    """
    if not can_lock_memory():
        yield False
        return
    libc = ctypes.CDLL(None)
    try:
        yield libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0
    finally:
        libc.munlockall()


def release_pages() -> int:
    """Give back resident memory that a running stream hardly touches; returns bytes [main thread, before
    `locked_memory`].

    Freed memory that the allocator still holds, and two things more. The compiler's machine code (50 MB), unchanged
    from its file and not needed once our code is loaded. And the memory that a JACK server shares with its clients,
    which its library locks as a whole (100 MB) though a client uses a few pages of it. Whatever is touched later
    comes back by itself.
    """
    if not sys.platform.startswith("linux"):
        return 0
    libc, released = ctypes.CDLL(None, use_errno=True), 0
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, flags, *_, name = line.split(maxsplit=5)
        shared = name.startswith("/dev/shm/jack") and "s" in flags
        if shared or ("libllvmlite" in name and "x" in flags):
            first, last = (int(word, 16) for word in span.split("-"))
            place = ctypes.c_void_p(first), ctypes.c_size_t(last - first)
            libc.munlock(*place)
            if libc.madvise(*place, _MADV_DONTNEED) == 0:
                released += last - first
    return released


@contextlib.contextmanager
def quiet_interpreter() -> Iterator[None]:
    """Keep the garbage collector away from all that exists, and shorten the switch interval, while a stream runs
    [main thread].

    The collector stays on for new objects (a screen makes many), which is quick: it no longer walks the modules and
    the net.
    """
    interval = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(min(interval, SWITCH_INTERVAL_S))
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
