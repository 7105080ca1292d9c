"""Streaming resampler with a variable ratio: libsamplerate, called without the GIL.

Two ways to use it. A file reader pushes blocks through (`Resampler.push`) and gets what samplerate gives for the
whole. The worker pulls (`pull`): it wants exactly one hop, and takes no more input than that hop needs, so that the
latency stays the same from hop to hop.

Sound is interleaved here, (frames, channels), as libsamplerate and the rings have it. A ratio is output rate / input
rate.

Source of the method: J. O. Smith, "Digital audio resampling" (band-limited interpolation),
https://ccrma.stanford.edu/~jos/resample/.
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import ctypes
import math
import weakref

import numpy as np
import samplerate
from numba import njit, types
from numpy.typing import NDArray

from rtsep.errors import UsageError, nearest
from rtsep.native import external

_library = ctypes.CDLL(samplerate.__file__)
_library.src_new.restype = ctypes.c_void_p
_library.src_new.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_int)]
_library.src_delete.argtypes = [ctypes.c_void_p]
_library.src_strerror.restype = ctypes.c_char_p
_src_process = external(_library, "src_process", types.int32(types.intp, types.intp))
_src_reset = external(_library, "src_reset", types.int32(types.intp))

#: Quality: libsamplerate's number, and half the length of its filter in frames of the slower side.
QUALITIES: dict[str, tuple[int, float]] = {
    "sinc_best": (0, 340239 / 2381),
    "sinc_medium": (1, 22438 / 491),
    "sinc_fastest": (2, 2464 / 128),
}
#: libsamplerate's own limit of a ratio, and of its inverse.
MAX_RATIO = 256.0

# Fields of SRC_DATA in units of 8 bytes, where long has 64 bits.
_IN, _OUT, _IN_FRAMES, _OUT_FRAMES, _USED, _GENERATED, _END, _RATIO = range(8)
# State of `pull`: place of the next output frame, in input frames from the first one not yet taken; last ratio; half
# the filter.
_NEXT, _LAST, _HALF = range(3)

_Sound = types.Array(types.float32, 2, "C")
_Data = types.Array(types.int64, 1, "C")
_State = types.Array(types.float64, 1, "C")
_Pair = types.UniTuple(types.int64, 2)


@njit(
    _Pair(types.int64, _Data, _Sound, types.int64, types.int64, _Sound, types.int64, types.int64, types.float64),
    nogil=True,
    cache=True,
    error_model="numpy",
)
def _process(handle, data, x, x_start, n_in, y, y_start, n_out, ratio):
    """`resample` from frame `x_start` of `x` to frame `y_start` of `y`."""
    data[_IN] = x.ctypes.data + 4 * x_start * x.shape[1]
    data[_OUT] = y.ctypes.data + 4 * y_start * y.shape[1]
    data[_IN_FRAMES] = n_in
    data[_OUT_FRAMES] = n_out
    data.view(np.float64)[_RATIO] = ratio
    error = _src_process(handle, data.ctypes.data)
    if error != 0:
        return 0, -np.int64(error)
    return data[_USED], data[_GENERATED]


@njit(
    _Pair(types.int64, _Data, _Sound, types.int64, _Sound, types.int64, types.float64),
    nogil=True,
    cache=True,
    error_model="numpy",
)
def resample(handle, data, x, n_in, y, n_out, ratio):
    """Resample up to `n_in` frames of `x` into up to `n_out` frames of `y` [one thread at a time, no GIL].

    Parameters
    ----------
    handle : int64
        ``SRC_STATE *``: `Resampler.handle`.
    data : ndarray of int64, shape (8,)
        Memory of an SRC_DATA: `Resampler.data`.
    x, y : ndarray of float32, shape (frames, channels)
        Input and output, interleaved; they must not overlap.
    n_in, n_out : int64
        Frames of `x` that there are, room in `y`.
    ratio : float64
        Reached in a straight line over the `n_out` frames, from the ratio of the last call.

    Returns
    -------
    used, generated : int64
        Frames taken from `x`, frames written to `y`; ``(0, -error)`` with libsamplerate's error number.
    """
    return _process(handle, data, x, 0, n_in, y, 0, n_out, ratio)


@njit(types.int64(types.float64, types.float64), nogil=True, cache=True, error_model="numpy")
def _half_filter(half, ratio):
    """Input frames on either side of an output frame that libsamplerate wants to have at hand."""
    return np.int64(np.rint(half / min(1.0, ratio))) + 1


@njit(
    _Pair(types.int64, _Data, _State, _Sound, types.int64, _Sound, types.int64, types.float64),
    nogil=True,
    cache=True,
    error_model="numpy",
)
def pull(handle, data, state, x, n_in, y, n_out, ratio):
    """Like `resample`, but for exactly `n_out` frames, and takes no more input than they need [worker, no GIL].

    Parameters
    ----------
    state : ndarray of float64, shape (3,)
        `Resampler.pull_state`.
    handle, data, x, n_in, y, n_out, ratio
        As for `resample`. `x` holds the oldest `n_in` frames that wait; the frames used are to be skipped afterwards.

    Returns
    -------
    used, generated : int64
        `generated` is less than `n_out` only if `n_in` did not suffice; ``(used, -error)`` on an error.
    """
    used, generated = 0, 0
    last = state[_LAST] if state[_LAST] > 0.0 else ratio
    half = _half_filter(state[_HALF], min(ratio, last))
    mean = last + 0.5 * (ratio - last) * (n_out - 1) / max(1, n_out)
    newest = math.floor(state[_NEXT] + (n_out - 1) / mean + 1e-6)
    offer = np.int64(newest) + half + 1
    while generated < n_out:
        offer = min(max(offer, 0), n_in - used)
        took, gave = _process(handle, data, x, used, offer, y, generated, n_out - generated, ratio)
        if gave < 0:
            return used, gave
        used += took
        generated += gave
        if took == 0 and gave == 0 and used == n_in:
            break
        offer = 1
    state[_NEXT] += generated / mean - used
    state[_LAST] = ratio
    return used, generated


@njit(types.void(types.int64, _State), nogil=True, cache=True, error_model="numpy")
def restart(handle, state):
    """Forget the past sound and ratio [thread of `resample`, no GIL]."""
    _src_reset(handle)
    state[_NEXT] = 0.0
    state[_LAST] = 0.0


class Resampler:
    """One resampler of all channels of a stream; it owns and frees libsamplerate's state.

    Parameters
    ----------
    channels : int
        Number of channels.
    quality : str
        One of `QUALITIES`; better is longer (144, 47 or 20 input frames at a ratio of 1).

    Attributes
    ----------
    handle : int
        ``SRC_STATE *``, for the compiled functions; good as long as this object lives.
    data : ndarray of int64, shape (8,)
        For the compiled functions.
    pull_state : ndarray of float64, shape (3,)
        For `pull`.

    Raises
    ------
    UsageError
        For an unknown quality or no channel.
    """

    def __init__(self, channels: int, quality: str = "sinc_medium") -> None:
        if ctypes.sizeof(ctypes.c_long) != 8:
            raise UsageError("resampling needs a system with a 64-bit long (Linux or macOS, 64 bits)")
        if quality not in QUALITIES:
            raise UsageError(f"unknown resampler quality '{quality}': {nearest(quality, QUALITIES)}")
        if channels < 1:
            raise UsageError(f"a resampler for {channels} channels is not possible: 1 or more are")
        number, self._half = QUALITIES[quality]
        error = ctypes.c_int()
        handle = _library.src_new(number, channels, ctypes.byref(error))
        if not handle:
            raise UsageError(f"no resampler for {channels} channels: {_library.src_strerror(error.value).decode()}")
        self.channels = channels
        self.handle: int = handle
        self.data = np.zeros(8, dtype=np.int64)
        self.pull_state = np.array([0.0, 0.0, self._half])
        self._free = weakref.finalize(self, _library.src_delete, handle)

    def delay_frames(self, ratio: float) -> float:
        """Input frames by which the output lies behind the newest input taken, at `ratio` [any thread].

        The filter itself is centred: output frame n lies at input frame ``n / ratio``. The delay is the sound after it
        that the filter needs to see first. With `pull` it is constant to within one input frame.
        """
        return float(_half_filter(self._half, ratio)) + 1.0 - 1.0 / ratio

    def push(self, x: NDArray[np.float32], ratio: float, last: bool = False) -> NDArray[np.float32]:
        """Put a block in and take what comes out, for file readers [one thread at a time; allocates].

        Parameters
        ----------
        x : ndarray of float32, shape (frames, channels)
            Next block, of any length.
        ratio : float
            Output rate / input rate, the same in all calls.
        last : bool
            Whether nothing follows, so that the end of the sound comes out too; `reset` before the next use.

        Returns
        -------
        ndarray of float32, shape (frames, channels)
            Concatenated, the blocks equal ``samplerate.resample`` of the whole.
        """
        check_ratio(ratio)
        x = np.ascontiguousarray(x, dtype=np.float32)
        if x.ndim != 2 or x.shape[1] != self.channels:
            raise ValueError(f"a block of shape (frames, {self.channels}) is wanted, got {x.shape}")
        pieces: list[NDArray[np.float32]] = []
        y = np.empty((math.ceil(len(x) * ratio) + 256, self.channels), dtype=np.float32)
        self.data[_END] = last
        done = 0
        while True:
            used, generated = resample(self.handle, self.data, x[done:], len(x) - done, y, len(y), ratio)
            if generated < 0:
                raise RuntimeError(f"libsamplerate: {_library.src_strerror(-generated).decode()}")
            done += used
            pieces.append(y[:generated].copy())
            if done == len(x) and generated < len(y):
                break
        self.data[_END] = 0
        return np.concatenate(pieces)

    def reset(self) -> None:
        """Forget the past [stream stopped]."""
        self.data[_END] = 0
        restart(self.handle, self.pull_state)


def check_ratio(ratio: float) -> None:
    """UsageError if libsamplerate cannot do `ratio` (output rate / input rate)."""
    if not 1.0 / MAX_RATIO <= ratio <= MAX_RATIO:
        raise UsageError(f"a resampling ratio of {ratio:g} is not possible: 1/{MAX_RATIO:g} to {MAX_RATIO:g} are")
