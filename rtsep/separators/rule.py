"""What separators share whose mask follows from the newest frame and their parameters alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from rtsep.separators.base import Compiled, Mask, Separator, Spectrum
from rtsep.separators.kernels import MEMORY
from rtsep.spec import StreamSpec


class Rule(Separator):
    """A separator without a past: a compiled rule, for Python and as a C function.

    Subclasses set `rule` and `function` beside what every `Separator` sets.
    """

    #: ``rule(spectrum, values, bin_hz, mask)`` fills the mask; `values` in the order of `PARAMS`.
    rule: ClassVar[Callable[..., None]]
    #: The same as a C function with the parameters' ramps, its memory a record of `kernels.MEMORY`.
    function: ClassVar[Any]

    def prepare(self, spec: StreamSpec) -> None:
        """Fix the bin width and the ramps for `spec` [main thread]."""
        self._spec = spec
        self.params.prepare(spec.hop_ms)

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        """Fill `mask` for the frame of `spectrum` [inference thread]; both arrays C-contiguous."""
        self.params.ramp()
        type(self).rule(spectrum, self.params.values, self._spec.bin_hz, mask)

    def reset(self) -> None:
        """Jump to the wanted parameters; there is no other past."""
        self.params.settle()

    def compiled(self) -> Compiled:
        spec = self._spec
        memory = np.array([(spec.channels, spec.bins, spec.bin_hz, self.params.state.ctypes.data)], MEMORY)
        return Compiled(self.function.address, memory.ctypes.data, (memory, self.params))
