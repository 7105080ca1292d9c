"""The guard's yardstick: work of the hot path's character that shares none of its code.

Two channels through a real transform of 2048 points and back, windows, a product with a mask, a recursion that no
compiler can make parallel, and copies: by FFTW itself and loops of this file, so that a faster machine or library moves
both alike.
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from rtsep.native import external

_SIZE, _HOP, _CHANNELS = 2048, 256, 2
_ESTIMATE, _ALIGNMENT = 64, 64

_package = importlib.util.find_spec("pyfftw")
assert _package is not None
assert _package.origin is not None
_fftw = ctypes.CDLL(str(next(Path(_package.origin).parent.glob("pyfftw.*.so"))))
_forward = external(_fftw, "fftwf_execute_dft_r2c", types.void(types.intp, types.intp, types.intp))
_inverse = external(_fftw, "fftwf_execute_dft_c2r", types.void(types.intp, types.intp, types.intp))


class Memory(NamedTuple):
    """Arrays of the reference work."""

    forward: int
    inverse: int
    window: NDArray[np.float32]
    sound: NDArray[np.float32]
    frame: NDArray[np.float32]
    bins: NDArray[np.complex64]
    mask: NDArray[np.float32]
    product: NDArray[np.complex64]
    out: NDArray[np.float32]
    copy: NDArray[np.float32]


def memory() -> Memory:
    """Plans and arrays; keep them: the plans are bound to them."""
    random = np.random.default_rng(3)
    frame, bins = _aligned(_SIZE, np.float32), _aligned(_SIZE // 2 + 1, np.complex64)
    plans = []
    for name, first, second in (("fftwf_plan_dft_r2c_1d", frame, bins), ("fftwf_plan_dft_c2r_1d", bins, frame)):
        plan = getattr(_fftw, name)
        plan.restype = ctypes.c_void_p
        plan.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint]
        plans.append(plan(_SIZE, first.ctypes.data, second.ctypes.data, _ESTIMATE))
    return Memory(
        plans[0],
        plans[1],
        np.hanning(_SIZE).astype(np.float32),
        random.standard_normal((_CHANNELS, _SIZE)).astype(np.float32),
        frame,
        bins,
        random.uniform(0, 1, (_CHANNELS, _SIZE // 2 + 1)).astype(np.float32),
        np.zeros((_CHANNELS, _SIZE // 2 + 1), np.complex64),
        np.zeros((_CHANNELS, _HOP), np.float32),
        np.zeros((_HOP, _CHANNELS), np.float32),
    )


def _aligned(size: int, dtype: type) -> NDArray:
    itemsize = np.dtype(dtype).itemsize
    raw = np.zeros(size * itemsize + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size * itemsize].view(dtype)


@njit(nogil=True, cache=True)
def reference(m, hops):
    """Do the work of `hops` hops."""
    level = 0.0
    for _ in range(hops):
        for c in range(_CHANNELS):
            for i in range(_SIZE):
                m.frame[i] = m.window[i] * m.sound[c, i]
            _forward(m.forward, m.frame.ctypes.data, m.bins.ctypes.data)
            for b in range(m.bins.shape[0]):
                m.product[c, b] = m.mask[c, b] * m.bins[b]
            for b in range(m.bins.shape[0]):
                m.bins[b] = m.product[c, b]
            _inverse(m.inverse, m.bins.ctypes.data, m.frame.ctypes.data)
            for i in range(_HOP):
                m.out[c, i] = m.window[i] * m.frame[_SIZE - _HOP + i]
        for i in range(_HOP):
            loudest = max(abs(m.out[0, i]), abs(m.out[1, i]))
            level = max(float(loudest), 0.999 * level)
            gain = np.float32(1.0 if level <= 1.0 else 1.0 / level)
            for c in range(_CHANNELS):
                m.copy[i, c] = gain * m.out[c, i]
    return level
