"""`rtsep train drnn`."""

from __future__ import annotations

from dataclasses import dataclass

from rtsep.training.nets.drnn import Drnn
from rtsep.training.nets.narrow import NarrowNet
from rtsep.training.tasks.mir1k import Mir1kSettings, Mir1kTask


@dataclass(frozen=True, slots=True)
class DrnnSettings(Mir1kSettings):
    """Half of the source's units; fast enough to play, and under 4 MB in float16."""

    units: int = 448
    frames: int = 65
    lr: float = 1e-3


class DrnnTask(Mir1kTask):
    """Three recurrent layers; in eight to ten minutes of one core."""

    name = "drnn"
    settings_kind = DrnnSettings
    summary = "three recurrent layers and a masking layer, discriminative loss; MIR-1K protocol, content up to 8 kHz"

    def net(self) -> NarrowNet:
        return Drnn(self.settings.units, self.settings.lookahead)
