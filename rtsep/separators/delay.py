"""The test oracle for look-ahead: a separator that only looks ahead."""

from __future__ import annotations

from rtsep.errors import UsageError
from rtsep.separators.base import Mask, Separator, Spectrum
from rtsep.spec import StreamSpec

MAX_HOPS = 256


class Delay(Separator):
    """Mask 1 that needs `hops` hops of look-ahead: the vocals are the input, `hops` hops later than with `Passthrough`.

    Parameters
    ----------
    hops : int or str
        Look-ahead in hops, 0 to 256; ``delay:4`` on the command line. Not a live parameter, as it sets the latency.

    Raises
    ------
    UsageError
        If `hops` is not such a number.
    """

    name = "delay"
    summary = "takes everything for voice and looks ahead N hops: delay:N (to test the latency)"

    def __init__(self, hops: int | str = 4) -> None:
        super().__init__()
        try:
            self.hops = int(hops)
        except ValueError:
            self.hops = -1
        if not 0 <= self.hops <= MAX_HOPS:
            raise UsageError(f"look-ahead '{hops}' of separator delay is not possible: 0 to {MAX_HOPS} hops are")
        self._latency = 0

    @property
    def latency(self) -> int:
        """Look-ahead in frames; known after `prepare`."""
        return self._latency

    def prepare(self, spec: StreamSpec) -> None:
        """Fix the latency for the hop of `spec` [main thread]."""
        self._latency = self.hops * spec.hop

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        """Fill `mask` with 1 [inference thread]."""
        mask.fill(1.0)

    def reset(self) -> None:
        """Nothing to forget."""
