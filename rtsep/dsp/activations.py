"""Activations of nets that compiled loops over many numbers are made of: no branches, no tables, so that they become
vector instructions. [any thread]
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import numpy as np
from numba import njit


@njit(error_model="numpy", inline="always")
def tanh(x):
    """Hyperbolic tangent of a float32 to some 1e-7 (a quotient of polynomials, as in Eigen)."""
    x = min(max(x, np.float32(-7.9)), np.float32(7.9))
    q = x * x
    top = np.float32(-2.76076847742355e-16)
    top = top * q + np.float32(2.00018790482477e-13)
    top = top * q + np.float32(-8.60467152213735e-11)
    top = top * q + np.float32(5.12229709037114e-08)
    top = top * q + np.float32(1.48572235717979e-05)
    top = top * q + np.float32(6.37261928875436e-04)
    top = top * q + np.float32(4.89352455891786e-03)
    low = np.float32(1.19825839466702e-06)
    low = low * q + np.float32(1.18534705686654e-04)
    low = low * q + np.float32(2.26843463243900e-03)
    low = low * q + np.float32(4.89352518554385e-03)
    return x * top / low


@njit(error_model="numpy", inline="always")
def sigmoid(x):
    """Logistic function of a float32 to some 1e-7."""
    return np.float32(0.5) + np.float32(0.5) * tanh(np.float32(0.5) * x)
