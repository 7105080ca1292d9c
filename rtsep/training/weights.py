"""Weights of a net of the live family from a checkpoint or from a model folder, to go on training with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from rtsep.errors import UsageError
from rtsep.training.nets.live import Live, LiveConfig


def first_weights(source: Path) -> tuple[LiveConfig, dict[str, Tensor]]:
    """Sizes and weights of a net.

    Parameters
    ----------
    source : Path
        A checkpoint of ``rtsep train`` live, monitor or karaoke, a model folder, or its ``model.onnx``: the exported
        file holds every weight under its own name.

    Raises
    ------
    UsageError
        If it is none of these.
    """
    path = source / "model.onnx" if source.is_dir() else source
    if path.suffix != ".onnx":
        from rtsep.training.live import PROFILES
        from rtsep.training.loop import read_checkpoint

        checkpoint = read_checkpoint(path)
        if checkpoint["name"] not in PROFILES:
            raise UsageError(f"{path} is a checkpoint of {checkpoint['name']}, not of {', '.join(PROFILES)}")
        return LiveConfig.from_dict(checkpoint["net"]), checkpoint["mean"]
    try:
        model = onnx.load(str(path))
        sizes = next(entry.value for entry in model.metadata_props if entry.key == "net")
        config = LiveConfig.from_dict(json.loads(sizes))
        found = {i.name: torch.from_numpy(numpy_helper.to_array(i).astype(np.float32)) for i in model.graph.initializer}
    except Exception as error:  # whatever the parser meets in a foreign file
        raise UsageError(f"{path} is not a model that `rtsep export` made of a live net: {error}") from error
    blank = Live(config).state_dict()
    missing = [name for name in blank if name not in found and not name.endswith("num_batches_tracked")]
    if missing:
        raise UsageError(f"{path} lacks weights of a live net: {', '.join(missing[:3])}")
    return config, {name: found.get(name, value).reshape(value.shape) for name, value in blank.items()}
