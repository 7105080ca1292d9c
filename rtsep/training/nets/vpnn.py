"""vpnn: dense layers whose inputs, weights and biases are 3-vectors joined by cross products; and a plain dense net.

Source: Z.-C. Fan, T.-S. Chan, Y.-H. Yang, J.-S. R. Jang, "Music signal processing using vector product neural
networks", 2017. Three layers of 512 vectors. `Wvpnn`: the three components are three neighbouring frames, and the
middle component is the output. `Cvpnn`: each magnitude becomes a colour. Masking on top.

Ours, where the source is silent: leaky relu on each component; the colours are those of a glowing body (red, then
green, then blue rise, each over a third), all raised by the bias 0.0938 so that silence is no zero vector; the output
of a colour is the mean of its components. Without a look-ahead the three frames are the newest ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rtsep.training.nets.narrow import BINS, NarrowNet, sources
from rtsep.training.nets.spectrum import FEATURE_MEAN, FEATURE_SCALE, LEAK

COLOUR_BIAS = 0.0938
COLOUR_RANGE = 2 * FEATURE_MEAN  # log magnitude of the brightest colour


class VectorLayer(nn.Module):
    """``z_j = sum_i x_i x w_ij + b_j``: vectors (..., 3, inputs) to vectors (..., 3, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, outputs, inputs) / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(3, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        w = self.weight
        outputs = w.shape[1]
        # x_a with the two other components of the weights, at once
        p, q, r = (F.linear(x[..., a, :], torch.cat([w[(a + 1) % 3], w[(a + 2) % 3]])) for a in range(3))
        first = q[..., :outputs] - r[..., outputs:]
        second = r[..., :outputs] - p[..., outputs:]
        third = p[..., :outputs] - q[..., outputs:]
        return torch.stack([first, second, third], -2) + self.bias


def colours(features: Tensor) -> Tensor:
    """Features (..., F) as colours (..., 3, F)."""
    bright = 3 / COLOUR_RANGE * (features * FEATURE_SCALE + FEATURE_MEAN)
    return torch.stack([(bright - part).clamp(0, 1) for part in range(3)], -2) + COLOUR_BIAS


class Vpnn(NarrowNet):
    """What both forms share: the layers."""

    def __init__(self, units: int = 512, frames: int = 3, lookahead: int = 0) -> None:
        super().__init__(frames, lookahead)
        sizes = (BINS, units, units, units, 2 * BINS)
        self.layers = nn.ModuleList(VectorLayer(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))

    def vectors(self, x: Tensor) -> Tensor:
        """Vectors (..., 3, F) to vectors (..., 3, 2 F)."""
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), LEAK)
        return self.layers[-1](x)  # type: ignore[no-any-return]


class Wvpnn(Vpnn):
    """Window vectors."""

    def outputs(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        return sources(self.vectors(seen)[..., 1, :])


class Cvpnn(Vpnn):
    """Colour vectors: it sees one frame."""

    def __init__(self, units: int = 512) -> None:
        super().__init__(units, 1, 0)

    def outputs(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        return sources(self.vectors(colours(seen[:, :, 0])).mean(-2))


class Dnn(NarrowNet):
    """A plain dense net on three frames; 896 units make as many weights as 512 vectors."""

    def __init__(self, units: int = 896, lookahead: int = 0) -> None:
        super().__init__(3, lookahead)
        sizes = (3 * BINS, units, units, units, 2 * BINS)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight, a=LEAK)

    def outputs(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        x = seen.flatten(2)
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), LEAK)
        return sources(self.layers[-1](x))
