"""Clocks without a device: the computer's own, and none at all.

Each is one compiled loop in a thread of its own that calls `tick` and never takes the interpreter's lock.
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import threading

import numpy as np
from numba import njit, types

from rtsep.dsp.ring import Control
from rtsep.errors import UsageError
from rtsep.io.base import Driver
from rtsep.io.clock import now_ns, sleep_us
from rtsep.io.realtime import raise_priority
from rtsep.io.tick import tick
from rtsep.native import load_acquire, store_release

# Control array of a loop; the last two words are scratch for the clock.
_STOP, _XRUNS, _TIME, _CONTROL_SIZE = 0, 1, 8, 10
_CLOCK_PRIORITY = 80


@njit(types.void(Control, types.int64, types.int64, types.float64), nogil=True, cache=True)
def _run_clock(control, context, frames, period_ns):
    """Tick every `period_ns` nanoseconds, counted from the start, so that no error adds up.

    Nobody hears this clock: where the system was late, it goes on from there, instead of asking for two at once.
    """
    scratch = control.ctypes.data + 8 * _TIME
    start = now_ns(scratch)
    periods = 0
    while load_acquire(control, _STOP) == 0:
        periods += 1
        deadline = start + np.int64(periods * period_ns)
        left = deadline - now_ns(scratch)
        while left > 1000 and load_acquire(control, _STOP) == 0:
            sleep_us(min(left // 1000, 100_000))
            left = deadline - now_ns(scratch)
        tick(context, 0, 0, 0, 0, 0, 0, frames)
        late = now_ns(scratch) - deadline
        if late > period_ns:
            store_release(control, _XRUNS, control[_XRUNS] + 1)
        if late > period_ns / 2:
            start += late


@njit(types.void(Control, types.int64, types.int64), nogil=True, cache=True)
def _run_free(control, context, frames):
    """Tick without pause; the waiting is inside the tick, for the worker."""
    while load_acquire(control, _STOP) == 0:
        if tick(context, 0, 0, 0, 0, 0, 0, frames) == 0:
            sleep_us(500)


class _LoopDriver(Driver):
    def __init__(self, samplerate: int, blocksize: int) -> None:
        if samplerate < 0 or blocksize < 1:
            raise UsageError(f"a clock of {samplerate} Hz with blocks of {blocksize} frames is not possible")
        self.samplerate = samplerate
        self.blocksize = blocksize
        self._control = np.zeros(_CONTROL_SIZE, np.int64)
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Check that there is a rate [main thread]."""
        if self.samplerate < 1:
            raise UsageError(f"a clock of {self.samplerate} Hz is not possible")

    def start(self, context: int) -> None:
        """Begin to tick [main thread]."""
        self._control[:] = 0
        self._thread = threading.Thread(target=self._run, args=(context,), name="rtsep-clock", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End ticking; harmless when already stopped [main thread]."""
        self._control[_STOP] = 1
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _run(self, context: int) -> None:
        raise NotImplementedError


class NullDriver(_LoopDriver):
    """The computer's clock in place of a device's: nothing is played, in real time.

    Parameters
    ----------
    samplerate : int
        Frames per second of the stream; 0: set the attribute before `open`.
    blocksize : int
        Frames per tick.
    speed : float
        Stream seconds per second; more than 1 for long tests in a short time.
    """

    def __init__(self, samplerate: int, blocksize: int = 256, speed: float = 1.0) -> None:
        super().__init__(samplerate, blocksize)
        if not 0.01 <= speed <= 1000:
            raise UsageError(f"a clock of {speed:g} times real time is not possible: 0.01 to 1000 are")
        self.speed = speed

    @property
    def xruns(self) -> int:
        """Ticks that came more than a period late: the system's own lateness [any thread]."""
        return int(self._control[_XRUNS])

    def _run(self, context: int) -> None:
        raise_priority(_CLOCK_PRIORITY)
        period_ns = 1e9 * self.blocksize / self.samplerate / self.speed
        _run_clock(self._control, context, self.blocksize, period_ns)


class FreeDriver(_LoopDriver):
    """No clock: as fast as the worker can, without loss; the engine sets the context's freewheel flag.

    Parameters
    ----------
    samplerate : int
        Of the stream; 0: set the attribute before `open`.
    blocksize : int
        Frames per tick.
    """

    realtime = False

    def __init__(self, samplerate: int, blocksize: int = 256) -> None:
        super().__init__(samplerate, blocksize)

    def _run(self, context: int) -> None:
        _run_free(self._control, context, self.blocksize)
