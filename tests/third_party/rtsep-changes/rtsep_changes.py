"""The voice is what has just become louder."""

import numpy as np

from rtsep.separators.base import Mask, Param, Separator, Spectrum
from rtsep.spec import StreamSpec


class Changes(Separator):
    """Each bin is compared with its own mean level; what rises above it is voice."""

    name = "changes"
    summary = "the voice is what has just become louder"
    PARAMS = (
        Param("memory_ms", "ms", 50.0, 5000.0, 500.0, "time that the mean covers; higher takes longer notes"),
        Param("amount", "", 0.0, 1.0, 1.0, "share of it that is voice"),
    )

    def prepare(self, spec: StreamSpec) -> None:
        self._hop_ms = spec.hop_ms
        self._level = np.zeros((spec.channels, spec.bins), np.float32)
        self._mean = np.zeros_like(self._level)
        self.params.prepare(spec.hop_ms)

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        self.params.ramp()
        memory_ms, amount = self.params.values
        np.abs(spectrum, out=self._level)
        np.subtract(self._level, self._mean, out=mask)  # how far the level is above its mean
        self._level += 1e-9
        self._mean += np.float32(min(self._hop_ms / memory_ms, 1.0)) * mask
        mask /= self._level
        np.clip(mask, 0.0, 1.0, out=mask)
        mask *= np.float32(amount)

    def reset(self) -> None:
        self._mean.fill(0.0)
        self.params.settle()
