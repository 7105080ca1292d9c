"""Gated running means over long sequences, fast to train on one CPU thread.

``h_t = n_t + z_t (h_(t-1) - n_t)``, where neither the gate z nor the new value n knows h: so all products with weights
are single operations over all frames, and only this line goes step by step (Bradbury and others, Quasi-recurrent
neural networks, 2017; Lei and others, Simple recurrent units for highly parallelizable recurrence, 2018).
"""

from __future__ import annotations

from typing import Any

import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 4096  # numbers that go through time together, in the processor's cache


@njit(cache=True, fastmath=True)
def _forward(gate: NDArray, new: NDArray, states: NDArray, block: int) -> None:
    """Fill states[1:] (T, N) from states[0]."""
    for first in range(0, gate.shape[1], block):
        last = min(gate.shape[1], first + block)
        for t in range(len(gate)):
            z, n = gate[t, first:last], new[t, first:last]
            before, after = states[t, first:last], states[t + 1, first:last]
            for i in range(last - first):
                after[i] = n[i] + z[i] * (before[i] - n[i])


@njit(cache=True, fastmath=True)
def _backward(grad: NDArray, gate: NDArray, total: NDArray, block: int) -> None:
    """Fill total (T, N) with the gradient of each state, of itself and of all that follow from it."""
    end = len(gate) - 1
    for first in range(0, gate.shape[1], block):
        last = min(gate.shape[1], first + block)
        total[end, first:last] = grad[end, first:last]
        for t in range(end - 1, -1, -1):
            own, z = grad[t, first:last], gate[t + 1, first:last]
            later, out = total[t + 1, first:last], total[t, first:last]
            for i in range(last - first):
                out[i] = own[i] + z[i] * later[i]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, new: Tensor, start: Tensor) -> Tensor:  # type: ignore[override]
        """States (T, ...) on the CPU."""
        states = torch.cat([start[None], torch.empty_like(gate)])
        _forward(*(x.view(len(x), -1).numpy() for x in (gate, new, states)), BLOCK)
        ctx.save_for_backward(gate, new, states)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        """Gradients of gate and new value; the start is taken as given."""
        gate, new, states = ctx.saved_tensors
        total = torch.empty_like(gate)
        _backward(*(x.reshape(len(x), -1).numpy() for x in (grad, gate, total)), BLOCK)
        return (states[:-1] - new).mul_(total), (1 - gate).mul_(total), None


def run(gate: Tensor, new: Tensor, start: Tensor) -> Tensor:
    """States (T, ...) of gates and new values (T, ...) float32, from `start` (...), through which no gradient goes."""
    gate, new, start = gate.float().contiguous(), new.float().contiguous(), start.detach().float().expand_as(gate[0])
    if not gate.is_cuda:
        return _Scan.apply(gate, new, start)  # type: ignore[no-untyped-call, no-any-return]
    states = []
    for z, n in zip(gate, new, strict=True):
        start = torch.lerp(n, start, z)
        states.append(start)
    return torch.stack(states)
