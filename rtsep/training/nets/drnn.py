"""drnn: three recurrent layers over the neighbouring frames, one output per source, and the masking layer on top.

Source: P.-S. Huang et al., "Singing-voice separation from monaural recordings using deep recurrent neural networks",
ISMIR 2014. Ours: the layers are GRUs instead of plain relu ones (1000 units there). At a hop of 11.6 ms a phrase is
hundreds of steps long: gates carry it, and they neither fade nor explode, so that few units and Adam are enough.
"""

from __future__ import annotations

from torch import Tensor, nn

from rtsep.training import gru
from rtsep.training.nets.narrow import BINS, NarrowNet, sources


class Drnn(NarrowNet):
    """Shapes as in `NarrowNet`; `units` in each of the three layers.

    It sees the previous and the current frame, and with a look-ahead of 1 the next one.
    """

    def __init__(self, units: int = 256, lookahead: int = 0) -> None:
        super().__init__(2 + lookahead, lookahead)
        self.layers = nn.ModuleList(nn.GRU(size, units) for size in (self.frames * BINS, units, units))
        self.out = nn.Linear(units, 2 * BINS)
        for layer in self.layers:
            for gate in layer.weight_hh_l0.data.split(units):
                nn.init.orthogonal_(gate)
            layer.bias_hh_l0.data[units : 2 * units] = -1.0  # what is new counts more than what was, at first

    def outputs(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        x = seen.flatten(2).transpose(0, 1)
        for layer in self.layers:
            x = gru.run(layer, x)
        return sources(self.out(x).transpose(0, 1))
