"""The separator that takes everything for voice: the whole chain with nothing separated."""

from __future__ import annotations

from rtsep.separators.base import Mask, Separator, Spectrum
from rtsep.spec import StreamSpec


class Passthrough(Separator):
    """Mask 1 everywhere: the vocals are the delayed input, the accompaniment is silence."""

    name = "passthrough"
    summary = "takes everything for voice (to test and to measure the chain)"

    def prepare(self, spec: StreamSpec) -> None:
        """Nothing to allocate [main thread]."""

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        """Fill `mask` with 1 [inference thread]."""
        mask.fill(1.0)

    def reset(self) -> None:
        """Nothing to forget."""
