"""Asymmetric analysis and synthesis windows: a long look back, a short delay.

The analysis window is `window` samples long with its peak near the newest end; the synthesis window is
zero except for its newest ``2 * hop`` samples. Their product is a periodic Hann window of ``2 * hop``
samples, so overlap-add at `hop` is exact and the delay is set by the hop alone. The frequency resolution
is that of the long window.

Source: D. Mauler and R. Martin, "A low delay, variable resolution, perfect reconstruction spectral
analysis-synthesis system for speech enhancement", EUSIPCO 2007.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def asymmetric_pair(window: int, hop: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Analysis and synthesis window of length `window` for overlap-add at `hop`.

    Parameters
    ----------
    window : int
        Length of the transform in samples; at least ``2 * hop``. ``2 * hop`` gives the symmetric square-root Hann pair.
    hop : int
        Step in samples.

    Returns
    -------
    analysis, synthesis : ndarray, shape (window,)
        ``analysis * synthesis`` is 0 except for a periodic Hann window over the newest ``2 * hop`` samples.

    Raises
    ------
    ValueError
        If ``hop < 1`` or ``window < 2 * hop``.
    """
    if hop < 1 or window < 2 * hop:
        raise ValueError(f"windows need hop >= 1 and window >= 2 * hop, got window {window}, hop {hop}")
    rise = window - hop
    short = np.sin(np.pi * np.arange(2 * hop) / (2 * hop))
    analysis = np.empty(window)
    analysis[:rise] = np.sin(0.5 * np.pi * np.arange(rise) / rise)
    analysis[rise:] = short[hop:]
    synthesis = np.zeros(window)
    synthesis[rise:] = short[hop:]
    synthesis[rise - hop : rise] = short[:hop] ** 2 / np.maximum(analysis[rise - hop : rise], 1e-12)
    return analysis, synthesis
