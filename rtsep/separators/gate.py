"""A gate that opens while somebody sings."""

from __future__ import annotations


class Gate:
    """Gain from 0 (closed) to 1 (open), moved in straight lines so that neither way clicks [inference thread].

    The gate opens when the probability of voice reaches the threshold, within the attack time, and closes below
    it, within the release time.
    """

    def __init__(self) -> None:
        self.gain = 0.0

    def reset(self) -> None:
        """Close at once."""
        self.gain = 0.0

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
        if voice != voice:
            return voice
        if voice >= threshold:
            self.gain = min(1.0, self.gain + 1.0 / max(attack_hops, 1.0))
        else:
            self.gain = max(0.0, self.gain - 1.0 / max(release_hops, 1.0))
        return self.gain
