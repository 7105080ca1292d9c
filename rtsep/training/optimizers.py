"""The optimizers of the trainings, by name."""

from __future__ import annotations

import torch
from torch import nn

from rtsep.errors import UsageError
from rtsep.training.muon import Muon

OPTIMIZERS = ("adam", "adamw", "sgd", "lbfgs", "muon")


def make_optimizer(
    model: nn.Module, name: str, lr: float, weight_decay: float, iterations: int = 1
) -> torch.optim.Optimizer:
    """An optimizer of all weights of a model.

    Parameters
    ----------
    model : Module
    name : str
        One of `OPTIMIZERS`.
    lr, weight_decay : float
        Learning rate and decay; L-BFGS knows neither, its steps are as long as the line search finds good.
    iterations : int
        Of L-BFGS, in a step.

    Raises
    ------
    UsageError
        If there is none of this name.
    """
    if name == "lbfgs":
        return torch.optim.LBFGS(model.parameters(), max_iter=iterations, line_search_fn="strong_wolfe")
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    if name == "muon":
        return Muon(model, lr, weight_decay)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    if name not in kinds:
        raise UsageError(f"optimizer {name!r}: expected {' or '.join(OPTIMIZERS)}")
    return kinds[name](model.parameters(), lr=lr, weight_decay=weight_decay)
