"""A gate that opens while somebody sings."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import numpy as np
from numba import njit


@njit("float64(float64[::1], float64, float64, float64, float64)", cache=True, nogil=True)
def gate_step(state, voice, threshold, attack_hops, release_hops):
    """`Gate.step`; `state` holds the gain."""
    if voice != voice:
        return voice
    if voice >= threshold:
        state[0] = min(1.0, state[0] + 1.0 / max(attack_hops, 1.0))
    else:
        state[0] = max(0.0, state[0] - 1.0 / max(release_hops, 1.0))
    return state[0]


class Gate:
    """Gain from 0 (closed) to 1 (open), moved in straight lines so that neither way clicks [inference thread].

    The gate opens when the probability of voice reaches the threshold, within the attack time, and closes below
    it, within the release time.
    """

    def __init__(self) -> None:
        #: The gain, for `gate_step`.
        self.state = np.zeros(1)

    @property
    def gain(self) -> float:
        """Gain of the last hop."""
        return float(self.state[0])

    def reset(self) -> None:
        """Close at once."""
        self.state[0] = 0.0

    def step(self, voice: float, threshold: float, attack_hops: float, release_hops: float) -> float:
        """Move on by one hop.

        Parameters
        ----------
        voice : float
            Probability of voice, 0 to 1.
        threshold : float
            Probability from which the gate opens.
        attack_hops, release_hops : float
            Hops from closed to open and from open to closed; below 1 means at once.

        Returns
        -------
        float
            The gain. NaN for a NaN, which is passed on so that the engine sees it, and does not stay in the gate.
        """
        return float(gate_step(self.state, voice, threshold, attack_hops, release_hops))
