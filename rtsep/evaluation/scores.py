"""Whole-song scores.

SDR here is the plain one of whole songs ("uSDR" in tables of the field): no filter is allowed between estimate
and reference, unlike BSS Eval. Never mix the two in one column.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TINY = 1e-12


def sdr(reference: NDArray[np.floating], estimate: NDArray[np.floating]) -> float:
    """Signal-to-distortion ratio of a whole song in dB: ``10 log10(sum s^2 / sum (s - e)^2)``.

    Parameters
    ----------
    reference, estimate : ndarray, same shape, (channels, frames) or (frames,)

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if reference.shape != estimate.shape:
        raise ValueError(f"sdr: reference has shape {reference.shape}, estimate {estimate.shape}")
    s = reference.astype(np.float64)
    error = s - estimate
    return float(10 * np.log10((np.vdot(s, s) + _TINY) / (np.vdot(error, error) + _TINY)))


def sdr_gain(reference: NDArray[np.floating], estimate: NDArray[np.floating], mixture: NDArray[np.floating]) -> float:
    """How many dB the estimate is nearer to the reference than the untouched mixture is."""
    return sdr(reference, estimate) - sdr(reference, mixture)


def frame_accuracy(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """Share of frames, 0..1, on which a detector is right. Shapes (frames,)."""
    if truth.shape != predicted.shape:
        raise ValueError(f"frame_accuracy: truth has shape {truth.shape}, prediction {predicted.shape}")
    return float((truth == predicted).mean())
