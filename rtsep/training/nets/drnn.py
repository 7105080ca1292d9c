"""drnn: three recurrent layers over the neighbouring frames, one output per source, and the masking layer on top.

Source: P.-S. Huang et al., "Singing-voice separation from monaural recordings using deep recurrent neural networks",
ISMIR 2014: relu layers of 1000 units. They are plain relu layers here too: GRUs were tried, and in the same few hundred
steps came to lower scores than a dense net without any memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rtsep.training.nets.narrow import BINS, NarrowNet, sources

CARRIED = 0.3  # of its own last value, each unit begins with: what is new counts more than what was


class _Recurrence(torch.autograd.Function):
    """``h_t = relu(x_t + W h_(t-1))``, an operation a step each way; torch's own adds up W's gradient at every step."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
        """Inputs x (T, B, H), recurrent weight (H, H): states (T, B, H)."""
        states = x.new_empty(x.shape[0] + 1, *x.shape[1:])
        states[0] = 0
        turned = weight.t()
        for now, before, after in zip(x.unbind(0), states.unbind(0), states[1:].unbind(0), strict=False):
            torch.addmm(now, before, turned, out=after).relu_()
        ctx.save_for_backward(weight, states)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Gradients of x and weight."""
        weight, states = ctx.saved_tensors
        total, live = grad.contiguous().clone(), (states[1:] > 0).to(grad.dtype)
        rows = list(zip(total.unbind(0), live.unbind(0), strict=True))
        for (now, on), before in zip(reversed(rows), [row for row, _ in rows[-2::-1]] + [None], strict=True):
            now.mul_(on)
            if before is not None:
                before.addmm_(now, weight)
        units = weight.shape[0]
        return total, total.reshape(-1, units).t() @ states[:-1].reshape(-1, units)


class RecurrentLayer(nn.Module):
    """A plain recurrent layer: (T, B, inputs) to (T, B, units), from zeros on."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, units)
        nn.init.kaiming_normal_(self.input.weight, nonlinearity="relu")
        nn.init.zeros_(self.input.bias)
        self.weight = nn.Parameter(CARRIED * torch.eye(units))

    def forward(self, x: Tensor) -> Tensor:
        """See the class; the recurrence is in the precision of the weights, also under autocast."""
        products = self.input(x).to(self.weight.dtype)
        with torch.autocast(x.device.type, enabled=False):
            return _Recurrence.apply(products, self.weight)  # type: ignore[no-untyped-call, no-any-return]


class Drnn(NarrowNet):
    """Shapes as in `NarrowNet`; `units` in each of the three layers.

    It sees the previous and the current frame, and with a look-ahead of 1 the next one.
    """

    def __init__(self, units: int = 448, lookahead: int = 0) -> None:
        super().__init__(2 + lookahead, lookahead)
        sizes = (self.frames * BINS, units, units, units)
        self.layers = nn.ModuleList(RecurrentLayer(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.out = nn.Linear(units, 2 * BINS)

    def outputs(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        x = seen.flatten(2).transpose(0, 1)
        for layer in self.layers:
            x = layer(x)
        return sources(self.out(x).transpose(0, 1))
