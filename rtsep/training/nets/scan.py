"""Gated running means over long sequences.

``h_t = n_t + z_t (h_(t-1) - n_t)``, where neither the gate z nor the new value n knows h: so all products with weights
are single operations over all frames, and only this line goes step by step (Bradbury and others, Quasi-recurrent
neural networks, 2017; Lei and others, Simple recurrent units for highly parallelizable recurrence, 2018). Training on
a CPU has its own form of it (`rtsep.training.nets.tiles`).
"""

from __future__ import annotations

import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor


@njit(cache=True, fastmath=True)
def _forward(gate: NDArray, new: NDArray, states: NDArray) -> None:
    """Fill states[1:] (T, N) from states[0]."""
    for t in range(len(gate)):
        z, n, before, after = gate[t], new[t], states[t], states[t + 1]
        for i in range(gate.shape[1]):
            after[i] = n[i] + z[i] * (before[i] - n[i])


def run(gate: Tensor, new: Tensor, start: Tensor) -> Tensor:
    """States (T, ...) of gates and new values (T, ...) float32, from `start` (...), through which no gradient goes."""
    gate, new, start = gate.float().contiguous(), new.float().contiguous(), start.detach().float().expand_as(gate[0])
    if not gate.is_cuda and not torch.is_grad_enabled():
        states = torch.cat([start[None], torch.empty_like(gate)])
        _forward(*(x.view(len(x), -1).numpy() for x in (gate, new, states)))
        return states[1:]
    found = []
    for z, n in zip(gate, new, strict=True):
        start = torch.lerp(n, start, z)
        found.append(start)
    return torch.stack(found)
