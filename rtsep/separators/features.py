"""What nets see of a spectrum, and how their masks are laid over it: a fixed list of kinds, named in manifests.

A kind is one class here: it says the shapes of the net's input and mask, writes the input, and spreads the mask over
channels and bins. All memory is allocated when it is made; `write` and `spread` are compiled [inference thread; no
allocation].
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtsep.dsp.denormals import flush_denormals
from rtsep.errors import ModelError, nearest
from rtsep.separators.base import Mask, Spectrum
from rtsep.separators.kernels import strengthen

Tensor = NDArray[np.float32]
Values = NDArray[np.float64]

#: Time constant of the smoothing, and least share of a bin that the vocals get, where a mask is fully protected.
SMOOTH_MS, FLOOR = 40.0, 0.03


class Feature(Protocol):
    """One kind of features."""

    #: Number of this kind, for `write_features`.
    code: ClassVar[int]

    def __init__(self, bins: int) -> None: ...

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the net's input."""

    @property
    def mask_shape(self) -> tuple[int, ...]:
        """Shape of the net's mask."""

    def write(self, spectrum: Spectrum, tensor: Tensor) -> None:
        """Write the net's input for a spectrum of shape (channels, bins)."""

    def spread(self, tensor: Tensor, gain: float, shape: Values, hop_ms: float, held: Mask, mask: Mask) -> None:
        """Write `mask`, of shape (channels, bins), from the net's.

        Parameters
        ----------
        tensor : ndarray
            The net's mask.
        gain : float
            Factor on all of it, 0 to 1.
        shape : ndarray of float64
            Strength: the soft mask is taken to the power of ``1 / strength``. Binary: cross-fade from the soft mask
            (0) to the binary one (1), which is 1 where the net's mask is above the threshold. Threshold. Protect: how
            far the mask is smoothed in time, and kept from closing wholly, 0 to 1. Perhaps part: 1 makes the binary
            mask what is left of the non-vocal one, which is 1 where the net's mask is below ``1 - threshold``.
        hop_ms : float
            Length of a hop.
        held : ndarray, shape of `tensor`
            The smoothed mask, from call to call; zeros at first.
        mask : ndarray
            To be filled; NaN of the net stay NaN.
        """


class MidMagnitude:
    """``mid_magnitude``: magnitude of the mean over channels, shape (1, bins); one mask (1, bins) for all channels.

    Above the net's highest bin its mask goes on (``extend = "hold"``).
    """

    code: ClassVar[int] = 0

    def __init__(self, bins: int) -> None:
        self.input_shape = (1, bins)
        self.mask_shape = (1, bins)

    def write(self, spectrum: Spectrum, tensor: Tensor) -> None:
        """See `Feature`."""
        mid_magnitude(spectrum, tensor)

    def spread(self, tensor: Tensor, gain: float, shape: Values, hop_ms: float, held: Mask, mask: Mask) -> None:
        """See `Feature`."""
        hold_mask(tensor, gain, shape, hop_ms, held, mask)


class StereoField:
    """``stereo_field``: how loud middle and side are and how they belong together, shape (4, bins); a mask (2, bins).

    With M and S half the sum and half the difference of left and right, the rows are ``|M|``, ``|S|``, and real and
    imaginary part of ``2 M conj(S) / (|M|^2 + |S|^2)``: the difference of level between left and right, and of phase.
    A mono stream has no side; its mask is the first row.
    """

    code: ClassVar[int] = 1

    def __init__(self, bins: int) -> None:
        self.input_shape = (4, bins)
        self.mask_shape = (2, bins)

    def write(self, spectrum: Spectrum, tensor: Tensor) -> None:
        """See `Feature`."""
        stereo_field(spectrum, tensor)

    def spread(self, tensor: Tensor, gain: float, shape: Values, hop_ms: float, held: Mask, mask: Mask) -> None:
        """See `Feature`."""
        hold_mask(tensor, gain, shape, hop_ms, held, mask)


_STEREO_FIELD = StereoField.code

KINDS: dict[str, type[Feature]] = {"mid_magnitude": MidMagnitude, "stereo_field": StereoField}


def make(kind: str, bins: int) -> Feature:
    """Features of a kind for so many bins; `ModelError` with the known kinds if it is none of them."""
    if kind not in KINDS:
        raise ModelError(f"features of kind '{kind}' are unknown to this version of rtsep: {nearest(kind, KINDS)}")
    return KINDS[kind](bins)


@njit("void(complex64[:, ::1], float32[:, ::1])", cache=True, nogil=True)
def mid_magnitude(spectrum, tensor):
    """``tensor[0] = |mean over channels of spectrum|`` for the first bins.

    Leaves the thread with denormals off for the net.
    """
    flush_denormals()
    last = spectrum.shape[0] - 1
    for k in range(tensor.shape[1]):
        mid = np.float32(0.5) * (spectrum[0, k] + spectrum[last, k])
        tensor[0, k] = np.sqrt(mid.real * mid.real + mid.imag * mid.imag)


@njit("void(complex64[:, ::1], float32[:, ::1])", cache=True, nogil=True)
def stereo_field(spectrum, tensor):
    """Rows of `StereoField` for the first bins of a spectrum (channels, bins).

    Leaves the thread with denormals off for the net.
    """
    flush_denormals()
    last = spectrum.shape[0] - 1
    half, least = np.float32(0.5), np.float32(1e-12)
    for k in range(tensor.shape[1]):
        left, right = spectrum[0, k], spectrum[last, k]
        mr, mi = half * (left.real + right.real), half * (left.imag + right.imag)
        sr, si = half * (left.real - right.real), half * (left.imag - right.imag)
        mid, side = mr * mr + mi * mi, sr * sr + si * si
        share = np.float32(2.0) / (mid + side + least)
        tensor[0, k] = np.sqrt(mid)
        tensor[1, k] = np.sqrt(side)
        tensor[2, k] = share * (mr * sr + mi * si)
        tensor[3, k] = share * (mi * sr - mr * si)


@njit("void(float32[:, ::1], int64, float64[::1], float64, float32[:, ::1], float32[:, ::1])", cache=True, nogil=True)
def share_out(tensor, rows, shape, hop_ms, held, mask):
    """Masks of the stems: their shares in what the mask of the voice leaves.

    Parameters
    ----------
    tensor : ndarray of float32, shape (stems, bins)
        The net's shares; bins above the net's hold the highest one.
    rows : int
        Of the mask of the voice: the first ones of `mask`, filled already.
    shape, hop_ms : ndarray, float
        As for `Feature.spread`; only protect says anything of stems, which it smooths as it does the mask.
    held : ndarray, shape of `tensor`
        The smoothed shares.
    mask : ndarray of float32, shape ((1 + stems) x rows, bins)
        Its further rows are filled, `rows` for each stem.
    """
    keep = shape[3] * np.exp(-hop_ms / SMOOTH_MS)
    for s in range(tensor.shape[0]):
        share = 0.0
        for k in range(mask.shape[1]):
            if k < tensor.shape[1]:
                share = float(tensor[s, k])
                if share < 0.0:
                    share = 0.0
                elif share > 1.0:
                    share = 1.0
                if share == share:  # NaN is passed on and does not stay
                    if keep > 0.0:
                        share += keep * (held[s, k] - share)
                    held[s, k] = share
            for row in range(rows):
                mask[(1 + s) * rows + row, k] = share * (1.0 - mask[row, k])


@njit("void(int64, complex64[:, ::1], float32[:, ::1])", cache=True, nogil=True)
def write_features(code, spectrum, tensor):
    """`Feature.write` of the kind with number `code`."""
    if code == _STEREO_FIELD:
        stereo_field(spectrum, tensor)
    else:
        mid_magnitude(spectrum, tensor)


@njit("void(float32[:, ::1], float64, float64[::1], float64, float32[:, ::1], float32[:, ::1])", cache=True, nogil=True)
def hold_mask(tensor, gain, shape, hop_ms, held, mask):
    """The net's mask, shaped, smoothed and gated, one row for all channels or one for each; bins above the net's hold
    its highest one.
    """
    rows, bins = tensor.shape
    strength, binary, threshold, protect = shape[0], shape[1], shape[2], shape[3]
    of_music = shape.size > 4 and shape[4] > 0.0
    keep, floor = protect * np.exp(-hop_ms / SMOOTH_MS), protect * FLOOR
    for channel in range(mask.shape[0]):
        if channel >= rows:
            mask[channel] = mask[0]
            continue
        share = 0.0
        for k in range(mask.shape[1]):
            if k < bins:
                net = float(tensor[channel, k])
                if net < 0.0:  # comparisons leave NaN as it is, min and max would not
                    net = 0.0
                elif net > 1.0:
                    net = 1.0
                share = (1.0 - binary) * strengthen(net, strength)
                if binary > 0.0 and (net >= 1.0 - threshold if of_music else net > threshold):
                    share += binary
                if share == share:  # NaN is passed on and does not stay
                    if keep > 0.0:
                        share += keep * (held[channel, k] - share)
                    held[channel, k] = share
                share = (floor + (1.0 - floor) * share) * gain
            mask[channel, k] = share
