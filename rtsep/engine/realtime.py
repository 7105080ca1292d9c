"""Asking the system for real-time treatment: priority, locked memory, a quiet interpreter. All optional, none assumed."""

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


def raise_priority(priority: int) -> bool:
    """Put the calling thread under SCHED_FIFO; False where the system does not allow it [the thread itself]."""
    if not hasattr(os, "sched_setscheduler"):
        return False
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))  # 0: the calling thread
    except OSError:
        return False
    return True


def can_raise_priority() -> bool:
    """Whether `raise_priority` would succeed; changes nothing [any thread]."""
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


def lock_memory() -> bool:
    """Keep pages in memory once they have been touched; False where that is not allowed [main thread]."""
    if not can_lock_memory():
        return False
    return ctypes.CDLL(None).mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0


def release_compiler() -> int:
    """Give back the memory pages of the compiler, which is not needed once its code is loaded; returns bytes [main thread].

    About 50 MB of machine code, unchanged from its file: should the compiler be called again, the pages come back by themselves. (Its
    read-only data was changed by the loader and has to stay.) To be called before `lock_memory`.
    """
    if not sys.platform.startswith("linux"):
        return 0
    libc, released = ctypes.CDLL(None, use_errno=True), 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, flags, *_, name = line.split(maxsplit=5)
        if "libllvmlite" in name and "x" in flags:
            first, last = (int(word, 16) for word in span.split("-"))
            if libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _MADV_DONTNEED) == 0:
                released += last - first
    return released


@contextlib.contextmanager
def quiet_interpreter() -> Iterator[None]:
    """Keep the garbage collector away from all that exists, and shorten the switch interval, while a stream runs [main thread].

    The collector stays on for new objects (a screen makes many), which is quick: it no longer walks the modules and the net.
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
