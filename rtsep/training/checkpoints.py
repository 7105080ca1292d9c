"""Checkpoints of all trainings: dictionaries with a ``name`` of `NETS` and what the training of that net needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rtsep.errors import UsageError
from rtsep.training.tasks import TASKS

NETS = ("koretzky", "live", "monitor", "karaoke", "family", "detector", *TASKS)
"""All that can be trained."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of this package.

    Raises
    ------
    UsageError
        If the file is missing or is no such checkpoint.
    """
    if not path.is_file():
        raise UsageError(f"no checkpoint {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler meets in a foreign file
        why = str(error).split("\n", maxsplit=1)[0].split(". ", maxsplit=1)[0]
        raise UsageError(f"{path} is not a checkpoint of rtsep train: {why}") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("name") not in NETS:
        raise UsageError(f"{path} is not a checkpoint of rtsep train")
    return checkpoint


def write_checkpoint(path: Path, values: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    part = path.with_suffix(".part")
    torch.save({"format": 1, **values}, part)
    part.replace(path)


class Learner:
    """A net that learns: its weights, their running mean, the optimizer and the step; children make them."""

    model: torch.nn.Module
    mean: dict[str, torch.Tensor]
    optimizer: torch.optim.Optimizer
    device: torch.device
    step: int

    def values(self) -> dict[str, Any]:
        """What a checkpoint holds; children add name and settings."""
        values = {"step": self.step, "model": self.model.state_dict(), "mean": self.mean}
        return values | {"optimizer": self.optimizer.state_dict()}

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        write_checkpoint(path, self.values())

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Go on where a checkpoint stopped."""
        self.model.load_state_dict(checkpoint["model"])
        self.mean = {k: v.to(self.device) for k, v in checkpoint["mean"].items()}
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.step = checkpoint["step"]
