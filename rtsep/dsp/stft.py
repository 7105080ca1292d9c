"""The streaming filterbank: one spectrum a hop, and sound back from it, with asymmetric windows.

`Stft` holds windows, FFTW plans, history and overlap; `analyse` and `synthesise` are the same compiled code for a
live stream and a file, so streaming equals offline. One plan for one channel serves all: scratch arrays are bound to
it once.

FFTW plans are estimated, not measured: a measured plan may differ from run to run, and its rounding with it.
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import ctypes
import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from rtsep.dsp.windows import asymmetric_pair
from rtsep.native import external
from rtsep.spec import StreamSpec


def _library() -> ctypes.CDLL:
    """FFTW as pyfftw brings it. The package is not imported: that would import all of scipy.fft, and only the library
    is needed.
    """
    package = importlib.util.find_spec("pyfftw")
    if package is None or package.origin is None:
        raise ImportError("FFTW is missing: pip install pyfftw")
    return ctypes.CDLL(str(next(Path(package.origin).parent.glob("pyfftw.*.so"))))


_fftw = _library()
_forward = external(_fftw, "fftwf_execute_dft_r2c", types.void(types.intp, types.intp, types.intp))
_inverse = external(_fftw, "fftwf_execute_dft_c2r", types.void(types.intp, types.intp, types.intp))
_ESTIMATE = 64
#: Bytes to which FFTW's arrays are aligned, for its vector code.
_ALIGNMENT = 64


def aligned(size: int, dtype: type) -> NDArray:
    """Zeros, shape (size,), aligned for FFTW."""
    itemsize = np.dtype(dtype).itemsize
    memory = np.zeros(size * itemsize + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size * itemsize].view(dtype)


@lru_cache(maxsize=8)
def plans(window: int) -> tuple[int, int]:
    """Addresses of the forward and inverse plan of a real transform of `window` points, kept for the life of the
    process.
    """
    frame, bins = aligned(window, np.float32), aligned(window // 2 + 1, np.complex64)
    made = []
    for name, first, second in (("fftwf_plan_dft_r2c_1d", frame, bins), ("fftwf_plan_dft_c2r_1d", bins, frame)):
        plan = getattr(_fftw, name)
        plan.restype = ctypes.c_void_p
        plan.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint]
        made.append(plan(window, first.ctypes.data, second.ctypes.data, _ESTIMATE))
    return made[0], made[1]


@njit(nogil=True, cache=True)
def forward(plan, frame, bins):
    """Spectrum `bins` of the real `frame`, both made by `aligned`, with the forward plan of their size."""
    _forward(plan, frame.ctypes.data, bins.ctypes.data)


@njit(nogil=True, cache=True)
def inverse(plan, bins, frame):
    """Real `frame`, times its length, of the spectrum `bins`, which is lost; the inverse of `forward`."""
    _inverse(plan, bins.ctypes.data, frame.ctypes.data)


@njit(nogil=True, cache=True)
def analyse(plan, window, recent, frame, bins, spectrum):
    """Spectrum of the newest ``len(window)`` frames of `recent` (channels, frames) into `spectrum` (channels, bins)."""
    size = window.shape[0]
    start = recent.shape[1] - size
    for c in range(recent.shape[0]):
        for i in range(size):
            frame[i] = window[i] * recent[c, start + i]
        _forward(plan, frame.ctypes.data, bins.ctypes.data)
        for b in range(bins.shape[0]):
            spectrum[c, b] = bins[b]


@njit(nogil=True, cache=True)
def synthesise(plan, window, spectrum, frame, bins, tail, sound):
    """One hop of sound (channels, hop) from `spectrum` (channels, bins); `tail` (channels, hop) carries the overlap
    on.
    """
    hop = tail.shape[1]
    start = frame.shape[0] - 2 * hop
    for c in range(spectrum.shape[0]):
        for b in range(bins.shape[0]):
            bins[b] = spectrum[c, b]
        _inverse(plan, bins.ctypes.data, frame.ctypes.data)
        for i in range(hop):
            sound[c, i] = tail[c, i] + window[i] * frame[start + i]
            tail[c, i] = window[hop + i] * frame[start + hop + i]


@njit(nogil=True, cache=True)
def shift_in(recent, block):
    """Append `block` (channels, hop) to `recent` (channels, frames), whose oldest frames fall out."""
    hop = block.shape[1]
    keep = recent.shape[1] - hop
    for c in range(recent.shape[0]):
        for i in range(keep):
            recent[c, i] = recent[c, i + hop]
        for i in range(hop):
            recent[c, keep + i] = block[c, i]


class Stft:
    """Streaming analysis and synthesis for one stream.

    What comes out of `synthesise` at a call is the sound that went into `analyse` one call before: a delay of one hop.

    Parameters
    ----------
    spec : StreamSpec
        Channels, hop and window.
    history : int
        Frames of sound to keep in `recent`; at least the window.
    """

    def __init__(self, spec: StreamSpec, history: int = 0) -> None:
        analysis, synthesis = asymmetric_pair(spec.window, spec.hop)
        self.spec = spec
        self.forward_plan, self.inverse_plan = plans(spec.window)
        self.analysis_window = analysis.astype(np.float32)
        self.synthesis_window = (synthesis[-2 * spec.hop :] / spec.window).astype(np.float32)
        self.frame: NDArray[np.float32] = aligned(spec.window, np.float32)
        self.bins: NDArray[np.complex64] = aligned(spec.bins, np.complex64)
        self.recent = np.zeros((spec.channels, max(spec.window, history)), dtype=np.float32)
        self.tail = np.zeros((spec.channels, spec.hop), dtype=np.float32)

    def analyse(self, block: NDArray[np.float32], spectrum: NDArray[np.complex64]) -> None:
        """Take one hop of sound (channels, hop), write its spectrum (channels, bins), unnormalised like numpy's rfft
        [worker].
        """
        shift_in(self.recent, block)
        analyse(self.forward_plan, self.analysis_window, self.recent, self.frame, self.bins, spectrum)

    def synthesise(self, spectrum: NDArray[np.complex64], sound: NDArray[np.float32]) -> None:
        """Write one hop of sound (channels, hop) for `spectrum` (channels, bins) [worker]."""
        synthesise(self.inverse_plan, self.synthesis_window, spectrum, self.frame, self.bins, self.tail, sound)

    def reset(self) -> None:
        """Forget all sound."""
        self.recent.fill(0.0)
        self.tail.fill(0.0)
