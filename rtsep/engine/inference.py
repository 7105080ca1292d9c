"""The inference thread: spectra in, masks out, in order; a separator that fails is bypassed and tried again."""

from __future__ import annotations

import threading
import time

import numpy as np
from numba import njit, types

from rtsep.dsp.denormals import flush_denormals
from rtsep.engine import realtime
from rtsep.engine.chain import Chain
from rtsep.engine.histogram import Histogram, count_duration
from rtsep.engine.stepdown import fade, plain_mask
from rtsep.engine.worker import FAULT, MASKED, PUBLISHED, REST, RUN, SKIPPED
from rtsep.io.clock import Semaphore, now_ns, post, wait_until
from rtsep.io.realtime import raise_priority
from rtsep.native import call, load_acquire, store_release
from rtsep.separators.base import Compiled

#: Time for which a separator stays bypassed after its first failure; doubled at each further one, up to the last.
_RETRY_S, _RETRY_MOST_S = 0.5, 8.0
#: Time without failure after which the first of them counts again.
_FORGIVE_S = 30.0
#: How often the thread looks whether it should end.
_NAP_S = 0.1

_NAP_NS = int(_NAP_S * 1e9)
#: What a compiled separator is said to have returned when its mask was not finite.
_NOT_FINITE = -1

_Mask = types.Array(types.float32, 2, "C")
_Words = types.Array(types.int64, 1, "C")
_Level = types.Array(types.float64, 1, "C")
_Spectra, _Masks = types.Array(types.complex64, 3, "C"), types.Array(types.float32, 3, "C")


@njit(types.int64(_Words, types.int64, types.intp, types.int64), nogil=True, cache=True)
def _await_spectrum(words, done, semaphore, deadline_ns):  # type: ignore[no-untyped-def]
    """Number of spectra published, once it is above `done`, or at the deadline."""
    while load_acquire(words, PUBLISHED) <= done and load_acquire(words, RUN) != 0:
        if wait_until(semaphore, deadline_ns) == 0:
            break
    return load_acquire(words, PUBLISHED)


@njit(types.int64(_Words, types.int64, types.int64, types.int64), nogil=True, cache=True)
def _next(words, index, published, slots):  # type: ignore[no-untyped-def]
    """Spectrum to go on with: `index`, or the newest where those before it are about to be overwritten."""
    if published - index <= slots // 2:
        return index
    store_release(words, SKIPPED, words[SKIPPED] + published - 1 - index)
    return published - 1


@njit(types.void(_Words, types.int64, types.int64), nogil=True, cache=True)
def _set(words, index, value):  # type: ignore[no-untyped-def]
    """Release store, callable from Python."""
    store_release(words, index, value)


@njit(types.boolean(_Mask), nogil=True, cache=True)
def _finite(mask):  # type: ignore[no-untyped-def]
    """Whether no value of the mask is NaN or infinite."""
    total = np.float32(0.0)
    for c in range(mask.shape[0]):
        for b in range(mask.shape[1]):
            total += mask[c, b] * np.float32(0.0)
    return total == 0.0


@njit(
    types.UniTuple(types.int64, 2)(
        _Words,
        _Spectra,
        _Masks,
        _Mask,
        _Level,
        _Words,
        _Words,
        types.intp,
        types.intp,
        types.intp,
        types.intp,
        types.int64,
    ),
    nogil=True,
    cache=True,
)
def infer(  # type: ignore[no-untyped-def]
    words, spectra, masks, plain, level, times, scratch, spectrum_ready, mask_ready, function, memory, index
):
    """Make masks without the interpreter, from spectrum `index` on, until `RUN` is cleared or the separator fails.

    Parameters
    ----------
    words, spectra, masks, times : ndarray
        As for `Inference`.
    plain : ndarray of float32, shape (rows, bins)
        What plays while the separator rests.
    level : ndarray of float64, shape (1,)
        How much of it plays.
    scratch : ndarray of int64
        Two words for the clock.
    spectrum_ready, mask_ready : int
        Addresses of the semaphores.
    function, memory : int
        See `rtsep.separators.base.Compiled`.
    index : int
        Number of masks made so far.

    Returns
    -------
    tuple of int
        Number of masks made, the one that failed included (it is the one before it once more), and what the function
        returned for it: 0 after `RUN` was cleared.
    """
    flush_denormals()
    clock, slots = scratch.ctypes.data, masks.shape[0]
    while load_acquire(words, RUN) != 0:
        published = _await_spectrum(words, index, spectrum_ready, now_ns(clock) + _NAP_NS)
        if published <= index:
            continue
        index = _next(words, index, published, slots)
        began = now_ns(clock)
        mask = masks[index % slots]
        rests, fault = load_acquire(words, REST) != 0, 0
        if not rests:
            fault = call(function, memory, spectra[index % slots].ctypes.data, mask.ctypes.data)
            if fault == 0 and not _finite(mask):
                fault = _NOT_FINITE
        if fault != 0:
            mask[:] = masks[(index - 1) % slots]
            store_release(words, FAULT, 1)
        elif rests or level[0] > 0.0:
            level[0] = fade(mask, masks[(index - 1) % slots], plain, level[0], rests)
        count_duration(times, now_ns(clock) - began)
        index += 1
        store_release(words, MASKED, index)
        post(mask_ready)
        if fault != 0:
            return index, fault
    return index, 0


class Inference:
    """Runs the separator of a chain in a thread of its own.

    A separator with a compiled form runs in one compiled loop, which does not care who holds the interpreter's lock;
    the loop hands over to Python when the separator fails, until it works again. Any other is called hop by hop.

    Parameters
    ----------
    chain : Chain
        Its separator is called here and nowhere else while the stream runs.
    words : ndarray of int64
        Shared with the worker.
    mask_ready, spectrum_ready : Semaphore
        Posted by this thread and by the worker.
    times : Histogram
        Counts the duration of each call of the separator.

    Attributes
    ----------
    fault : str
        Why the separator is bypassed; empty while it works.
    faults : int
        Number of failures since the start.
    """

    def __init__(
        self, chain: Chain, words: np.ndarray, mask_ready: Semaphore, spectrum_ready: Semaphore, times: Histogram
    ) -> None:
        self.times = times
        self.fault = ""
        self.faults = 0
        self._chain = chain
        self._words = words
        self._mask_ready = mask_ready
        self._spectrum_ready = spectrum_ready
        # Views made once: indexing an array makes a new object.
        self._spectra = list(chain.memory.spectra)
        self._masks = list(chain.memory.masks)
        self._compiled = chain.separator.compiled()
        self._scratch = np.zeros(2, np.int64)
        self._plain = plain_mask(chain.spec, chain.separator.mask_kind, len(chain.separator.stems))
        self._level = np.zeros(1)
        self._retry_at = 0.0
        self._retry_s = _RETRY_S
        self._failed_at = -np.inf
        self._thread = threading.Thread(target=self._run, name="rtsep-inference", daemon=True)

    def start(self) -> None:
        """Begin [main thread]."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end after `RUN` was cleared; False if the separator is still stuck in a call [main thread]."""
        self._spectrum_ready.post()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        raise_priority(realtime.INFERENCE)
        words, slots = self._words, len(self._masks)
        spectrum_ready, mask_ready = self._spectrum_ready.address, self._mask_ready.address
        counts = self.times.counts
        index = 0
        while words[RUN]:
            if self._compiled is not None and not self.fault:
                index = self._infer(self._compiled, index)
                continue
            published = _await_spectrum(words, index, spectrum_ready, time.monotonic_ns() + _NAP_NS)
            if published <= index:
                continue
            index = _next(words, index, published, slots)
            began = time.monotonic_ns()
            self._process(index, slots)
            count_duration(counts, time.monotonic_ns() - began)
            index += 1
            _set(words, MASKED, index)
            post(mask_ready)

    def _infer(self, compiled: Compiled, index: int) -> int:
        """Stay in the compiled loop as long as it goes; the number of masks made."""
        memory, ready, done = self._chain.memory, self._spectrum_ready.address, self._mask_ready.address
        index, fault = infer(
            self._words,
            memory.spectra,
            memory.masks,
            self._plain,
            self._level,
            self.times.counts,
            self._scratch,
            ready,
            done,
            compiled.function,
            compiled.memory,
            index,
        )
        if fault:
            self._fail("its mask is not finite" if fault == _NOT_FINITE else compiled.explain(fault))
        return index

    def _process(self, index: int, slots: int) -> None:
        """Fill the mask of one spectrum; the last mask again where the separator fails or is on hold."""
        mask, last = self._masks[index % slots], self._masks[(index - 1) % slots]
        if self._words[REST]:
            self._level[0] = fade(mask, last, self._plain, self._level[0], True)
            return
        if self.fault and time.monotonic() < self._retry_at:
            mask[:] = last
            return
        why = ""
        try:
            if self.fault:
                self._chain.separator.reset()
            self._chain.separator.process(self._spectra[index % slots], mask)
            if not _finite(mask):
                why = "its mask is not finite"
        except Exception as error:  # any failure of a plug-in must leave the sound going
            why = f"{type(error).__name__}: {error}".splitlines()[0]
        if why:
            mask[:] = last
            self._fail(why)
        elif self.fault:
            self.fault = ""
            _set(self._words, FAULT, 0)
        if not why and self._level[0] > 0.0:
            self._level[0] = fade(mask, last, self._plain, self._level[0], False)

    def _fail(self, why: str) -> None:
        """Bypass the separator for a while, longer each time."""
        now = time.monotonic()
        self._retry_s = _RETRY_S if now - self._failed_at > _FORGIVE_S else min(2 * self._retry_s, _RETRY_MOST_S)
        self._failed_at = now
        self._retry_at = now + self._retry_s
        self.faults += 1
        self.fault = f"separator {self._chain.separator.name} failed: {why}"
        _set(self._words, FAULT, 1)
