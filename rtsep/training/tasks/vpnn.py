"""`rtsep train wvpnn`, `cvpnn`, and `dnn` to compare them with."""

from __future__ import annotations

from dataclasses import dataclass

from rtsep.errors import UsageError
from rtsep.training.nets.narrow import NarrowNet
from rtsep.training.nets.vpnn import Cvpnn, Dnn, Wvpnn
from rtsep.training.tasks.mir1k import Mir1kSettings, Mir1kTask


@dataclass(frozen=True, slots=True)
class VpnnSettings(Mir1kSettings):
    """The source's size and its plain squared error; shorter sequences, for the nets remember nothing."""

    units: int = 512
    frames: int = 66
    gamma: float = 0.0
    lr: float = 1e-3


@dataclass(frozen=True, slots=True)
class DnnSettings(VpnnSettings):
    """As many weights as `VpnnSettings` makes."""

    units: int = 896


class WvpnnTask(Mir1kTask):
    """Window vectors."""

    name = "wvpnn"
    settings_kind = VpnnSettings
    summary = "vectors of three neighbouring frames joined by cross products; MIR-1K protocol, content up to 8 kHz"

    def net(self) -> NarrowNet:
        return Wvpnn(self.settings.units, lookahead=self.settings.lookahead)


class CvpnnTask(Mir1kTask):
    """Colour vectors."""

    name = "cvpnn"
    settings_kind = VpnnSettings
    summary = "magnitudes as colours joined by cross products; MIR-1K protocol, content up to 8 kHz"

    def net(self) -> NarrowNet:
        if self.settings.lookahead:
            raise UsageError("--lookahead 1: cvpnn sees one frame only")
        return Cvpnn(self.settings.units)


class DnnTask(Mir1kTask):
    """The plain net of the same size."""

    name = "dnn"
    settings_kind = DnnSettings
    summary = "dense layers on three frames, as large as wvpnn; MIR-1K protocol, content up to 8 kHz"

    def net(self) -> NarrowNet:
        return Dnn(self.settings.units, self.settings.lookahead)
