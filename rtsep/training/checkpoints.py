"""Checkpoints of all trainings: dictionaries with a ``name`` of `NETS` and what the training of that net needs."""

from __future__ import annotations

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
