"""What every training does at each step: the learning rate, and the running mean of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn


class Schedule(Protocol):
    """The settings that this needs."""

    @property
    def steps(self) -> int:
        """Length of the training."""

    @property
    def lr(self) -> float:
        """Highest rate."""

    @property
    def warmup(self) -> int:
        """Steps until it is reached."""

    @property
    def decay_from(self) -> float:
        """Share of the steps after which it falls."""


def rate(s: Schedule, step: int) -> float:
    """Learning rate of a step: linear warm-up, level, then a half cosine to zero."""
    fall = max(0.0, step / s.steps - s.decay_from) / (1 - s.decay_from)
    return s.lr * min(1.0, (step + 1) / max(s.warmup, 1)) * 0.5 * (1 + math.cos(math.pi * min(fall, 1.0)))


@torch.no_grad()
def follow(mean: Mapping[str, Tensor], net: nn.Module, ema: float, step: int) -> None:
    """Move a running mean of the weights, in place; it follows faster at first."""
    keep = min(ema, (1 + step) / (10 + step))
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            mean[name].lerp_(value, 1 - keep)
        else:  # the counters of batch normalisation
            mean[name].copy_(value)


def noted(step: int, steps: int, every: int) -> bool:
    """Whether the log gets the mean loss after a step: every so many, at the end, and twice early for short runs."""
    return step % every == 0 or step in (10, 25) or step == steps
