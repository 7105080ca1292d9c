"""Muon: steps of matrices whose singular values are all alike, and Adam for everything else.

PyTorch has Muon for matrices alone, in bfloat16, which processors without it work out by software; this one is in
float32, takes the gates of a GRU one by one, and is one optimizer for the whole net.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
LIKE_ADAM = 0.2  # root mean square of the steps that Adam usually makes, in learning rates


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix with all its singular values brought near 1 (0.7 to 1.2), by Newton-Schulz iterations.

    Jordan and others, Muon: an optimizer for hidden layers in neural networks, 2024.
    """
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (x.norm() + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


class Muon(torch.optim.Optimizer):
    """Both optimizers in one, at one rate: as long a step as Adam's (Liu and others, Muon is scalable, 2025).

    Parameters
    ----------
    model : nn.Module
        Its weights with two axes are matrices; those of a GRU or an LSTM are one matrix for each gate.
    lr : float
        Highest rate, as for AdamW.
    weight_decay, momentum, betas
        As in AdamW; `momentum` is that of the matrices.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        weight_decay: float = 1e-2,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        gates: dict[int, list[Tensor]] = {3: [], 4: []}
        for part in model.modules():
            if isinstance(part, nn.GRU | nn.LSTM):
                gates[3 if isinstance(part, nn.GRU) else 4] += [p for p in part.parameters() if p.ndim == 2]
        taken = {id(p) for some in gates.values() for p in some}
        rest = [p for p in model.parameters() if id(p) not in taken]
        groups: list[dict[str, Any]] = [{"params": some, "parts": n} for n, some in gates.items() if some]
        groups.append({"params": [p for p in rest if p.ndim == 2], "parts": 1})
        groups.append({"params": [p for p in rest if p.ndim != 2], "parts": 0})
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step by the gradients that are there."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            move = self._turn if group["parts"] else self._adam
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    move(p, p.grad, self.state[p], group)
        return loss

    def _turn(self, p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["mean"] = torch.zeros_like(p)
        mean = state["mean"].lerp_(grad, 1 - group["momentum"])
        for part, step in zip(
            p.chunk(group["parts"]), grad.lerp(mean, group["momentum"]).chunk(group["parts"]), strict=True
        ):
            part.add_(orthogonal(step), alpha=-group["lr"] * LIKE_ADAM * max(part.shape) ** 0.5)

    def _adam(self, p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state |= {"mean": torch.zeros_like(p), "square": torch.zeros_like(p), "steps": 0}
        state["steps"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(grad, 1 - first)
        state["square"].mul_(second).addcmul_(grad, grad, value=1 - second)
        scale = (state["square"] / (1 - second ** state["steps"])).sqrt_().add_(1e-8)
        p.addcdiv_(state["mean"], scale, value=-group["lr"] / (1 - first ** state["steps"]))
