"""acapella and acapella-v2: fully convolutional encoders and decoders from the mixture to the voice.

Source: the acapella extraction prototype of madebyollin (2017): convolutions, two steps down by 2 and two up again,
with the maps of the way down joined on the way up, to the magnitude of the voice; mean squared error.

Ours: every layer looks into the past only, and steps by 2 go in frequency alone. Where the source halves the time as
well, the layers between take every second (fourth) frame of the past (dilation), which hears as much of it (48 frames)
and gives one frame for each that comes: a stream is the same arithmetic as a whole song. What comes before a stream is
maps of zeros. Magnitudes are logarithms over a running level, 16 channels stand for 64.

acapella-v2 answers the weak points that the author names: the stereo field, one more step down, whose layers reach back
2 s (172 frames), a dense layer over all frequencies, and masks of middle and side, learned by the error of the sound.

Each net is described once, by `Layers`, and drawn in torch (`Torch`) or as a streaming graph
(`rtsep.training.tasks.acapella`). Shapes: B sequences, T frames, C channels, F bins; maps are (B, C, T, F).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rtsep.training.nets.koretzky import Level, NetConfig
from rtsep.training.nets.live import running_mean
from rtsep.training.nets.spectrum import FEATURE_MEAN, FEATURE_SCALE, tilt

BINS = 512
FIELD = 4  # rows of a stereo field
DEEP = (4, 8, 16, 32)  # dilations of acapella-v2's deepest layers
QUIET = 0.1  # of the mixture over the level, 60 dB under it: less counts as so much
LOOKS = 4  # numbers per bin that its layer over all frequencies takes and gives
X = TypeVar("X")


class Layers(Protocol[X]):
    """What a net is made of, on maps of kind X; layers by name."""

    def conv(self, name: str, x: X) -> X:
        """One of the net's convolutions."""

    def norm(self, name: str, x: X) -> X:
        """Batch normalisation."""

    def relu(self, x: X) -> X:
        """Negative values to 0."""

    def double(self, x: X) -> X:
        """Every bin twice."""

    def join(self, x: X, y: X) -> X:
        """Channels of both."""

    def add(self, x: X, y: X) -> X:
        """Sum."""

    def across(self, name: str, x: X) -> X:
        """Dense layers ``NAME_in`` (relu) and ``NAME_out`` over all channels and bins of a frame."""


class Past(nn.Conv2d):
    """A convolution that sees this frame and earlier ones, zeros before the first; all 3 or 4 bins around it."""

    def __init__(
        self, inputs: int, outputs: int, size: int = 3, step: int = 1, every: int = 1, bias: bool = True
    ) -> None:
        super().__init__(
            inputs, outputs, size, stride=(1, step), dilation=(every, 1), padding=(0, int(size > 1)), bias=bias
        )
        self.rows = (size - 1) * every

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) to (B, C', T, F / step)."""
        return super().forward(F.pad(x, (0, 0, self.rows, 0)))


class Torch:
    """`Layers` on tensors."""

    def __init__(self, net: Encoder) -> None:
        self.net = net

    def conv(self, name: str, x: Tensor) -> Tensor:
        """See `Layers`."""
        return self.net.convs[name](x)

    def norm(self, name: str, x: Tensor) -> Tensor:
        """See `Layers`."""
        return self.net.norms[name](x)

    def relu(self, x: Tensor) -> Tensor:
        """See `Layers`."""
        return F.relu(x)

    def double(self, x: Tensor) -> Tensor:
        """See `Layers`."""
        return F.interpolate(x, scale_factor=(1.0, 2.0))

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        """See `Layers`."""
        return torch.cat([x, y], 1)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """See `Layers`."""
        return x + y

    def across(self, name: str, x: Tensor) -> Tensor:
        """See `Layers`."""
        rows = x.transpose(1, 2).flatten(2)
        rows = self.net.dense[f"{name}_out"](F.relu(self.net.dense[f"{name}_in"](rows)))
        return rows.unflatten(2, (x.shape[1], x.shape[3])).transpose(1, 2)


class Encoder(nn.Module):
    """Layers of a net by name, and how they hang together (`draw`)."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        self.dense = nn.ModuleDict()

    def _add(
        self, name: str, inputs: int, outputs: int, size: int = 3, step: int = 1, every: int = 1, norm: bool = False
    ) -> None:
        layer = Past(inputs, outputs, size, step, every, bias=not norm)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        self.convs[name] = layer
        if norm:
            self.norms[name] = nn.BatchNorm2d(outputs)

    def _ways(self, inputs: int, c: int, outputs: int, deep: int) -> None:
        """The two steps down and up, around what gives `deep` channels in their middle."""
        self._add("whole", inputs, c)
        self._add("to_half", c, c, size=4, step=2, norm=True)
        self._add("at_half", c, c, every=2)
        self._add("to_quarter", c, c, size=4, step=2, every=2, norm=True)
        self._add("up_half1", deep + c, c, every=2)
        self._add("up_half2", c, c, every=2, norm=True)
        self._add("up1", 2 * c, c)
        self._add("up2", c, c)
        self._add("up3", c, c // 2)
        self._add("out", c // 2, outputs)

    def _down(self, on: Layers[X], x: X) -> tuple[X, X, X]:
        a = on.relu(on.conv("whole", x))
        x = on.norm("to_half", on.relu(on.conv("to_half", a)))
        b = on.relu(on.conv("at_half", x))
        return a, b, on.norm("to_quarter", on.relu(on.conv("to_quarter", b)))

    def _up(self, on: Layers[X], x: X, a: X, b: X) -> X:
        x = on.relu(on.conv("up_half1", on.join(on.double(x), b)))
        x = on.norm("up_half2", on.relu(on.conv("up_half2", x)))
        x = on.relu(on.conv("up1", on.join(on.double(x), a)))
        return on.conv("out", on.relu(on.conv("up3", on.relu(on.conv("up2", x)))))


class Acapella(Encoder):
    """Magnitude of the mixture to that of the voice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        c = channels
        self.level = Level(NetConfig())
        self.level.tilt = tilt(BINS)
        self._ways(1, c, 1, 2 * c)
        self._add("deep1", c, 2 * c, every=4)
        self._add("deep2", 2 * c, 2 * c, every=4, norm=True)
        nn.init.constant_(self.convs["out"].bias, 1.0)  # begins above 0, where it can learn

    def draw(self, on: Layers[X], x: X) -> X:
        """Features (B, 1, T, F) to those of the voice."""
        a, b, x = self._down(on, x)
        x = on.relu(on.conv("deep1", x))
        x = on.norm("deep2", on.relu(on.conv("deep2", x)))
        return on.relu(self._up(on, x, a, b))

    def over(self, magnitude: Tensor, start: Tensor | None = None) -> Tensor:
        """Magnitude (B, T, F) over the running level; `start` (B, 2), level and weight before it, or None."""
        with torch.no_grad():
            return self.level.compression * self.level.relative(magnitude, start)

    def forward(self, over: Tensor) -> Tensor:
        """What `over` gives, (B, T, F): log1p of the voice's."""
        return self.draw(Torch(self), torch.log1p(over)[:, None].contiguous(memory_format=torch.channels_last))[:, 0]

    @torch.no_grad()
    def infer(self, magnitude: Tensor) -> Tensor:
        """Mask (T, F) of one whole stream of magnitudes (T, F): voice over mixture, at most 1."""
        over = self.over(magnitude[None])
        return ((torch.exp(self(over)) - 1.0) / over.clamp_min(QUIET)).clamp_max(1.0)[0]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where `rtsep.training.live.separate` finds hop and look-ahead."""

    hop: int = 512
    lookahead: int = 0


class AcapellaV2(Encoder):
    """Stereo field to masks of middle and side."""

    config = Grid()

    def __init__(self, channels: int, across: int) -> None:
        super().__init__()
        c, d = channels, 2 * channels
        self._ways(FIELD, c, 2, d)
        self._add("to_eighth", c, d, size=4, step=2, every=4, norm=True)
        for i, every in enumerate(DEEP):
            self._add(f"deep{i}", d, d, every=every, norm=True)
        self._add("look", d, LOOKS, size=1)
        self._add("tell", LOOKS, d, size=1)
        self._add("up_quarter", d + c, d, every=4, norm=True)
        self.dense["across_in"] = nn.Linear(LOOKS * (BINS // 8), across)
        self.dense["across_out"] = nn.Linear(across, LOOKS * (BINS // 8))
        self.register_buffer("tilt", tilt(BINS), persistent=False)
        nn.init.normal_(self.convs["out"].weight, std=0.05)
        nn.init.constant_(self.convs["out"].bias, -1.0)

    def draw(self, on: Layers[X], x: X) -> X:
        """Features (B, 4, T, F) to logits (B, 2, T, F)."""
        a, b, c = self._down(on, x)
        x = on.norm("to_eighth", on.relu(on.conv("to_eighth", c)))
        for i in range(len(DEEP)):
            x = on.add(x, on.norm(f"deep{i}", on.relu(on.conv(f"deep{i}", x))))
            if i == 0:
                x = on.add(x, on.conv("tell", on.relu(on.across("across", on.conv("look", x)))))
        x = on.norm("up_quarter", on.relu(on.conv("up_quarter", on.join(on.double(x), c))))
        return self._up(on, x, a, b)

    def features(self, field: Tensor) -> Tensor:
        """Stereo field (B, T, 4, F) to maps (B, 4, T, F) that do not depend on the playing level."""
        c = NetConfig()
        magnitude = field[:, :, :2] * self.tilt
        level = running_mean(magnitude.square().sum(2).sqrt().mean(-1), c.level_decay) + c.level_floor
        scaled = torch.log1p(magnitude * (c.compression / level)[..., None, None])
        x = torch.cat([(scaled - FEATURE_MEAN) / FEATURE_SCALE, field[:, :, 2:]], 2)
        return x.transpose(1, 2).contiguous(memory_format=torch.channels_last)

    def forward(self, field: Tensor) -> Tensor:
        """Stereo field (B, T, 4, F) to logits (B, T, 2, F)."""
        return self.draw(Torch(self), self.features(field)).transpose(1, 2)

    @torch.no_grad()
    def infer(self, field: Tensor) -> Tensor:
        """Masks (T, 2, F') of one whole stream of fields (T, 4, F'); beyond bin `BINS` the last one goes on."""
        mask = torch.sigmoid(self(field[None, ..., :BINS])[0].float())
        return torch.cat([mask, mask[..., -1:].expand(-1, -1, field.shape[2] - BINS)], -1)
