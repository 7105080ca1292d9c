"""Real-time priority for a thread that owns a clock."""

from __future__ import annotations

import os


def raise_priority(level: int) -> bool:
    """Give the calling thread SCHED_FIFO with `level` where the system allows it; says whether it did.

    A higher level goes first: clock owners must come before the worker.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(level))
    except (AttributeError, OSError):
        return False
    return True
