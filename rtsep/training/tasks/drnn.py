"""`rtsep train drnn`."""

from __future__ import annotations

from rtsep.training.nets.drnn import Drnn
from rtsep.training.nets.narrow import NarrowNet
from rtsep.training.tasks.mir1k import Mir1kTask


class DrnnTask(Mir1kTask):
    """Three recurrent layers; in eight to ten minutes of one core."""

    name = "drnn"
    summary = "three recurrent layers and a masking layer, discriminative loss; MIR-1K protocol, content up to 8 kHz"

    def net(self) -> NarrowNet:
        return Drnn(self.settings.units, self.settings.lookahead)
