"""Weights of a net of the live family from a checkpoint or from a model folder, to go on training with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from rtsep.errors import UsageError
from rtsep.training.checkpoints import read_checkpoint
from rtsep.training.family import DETECTOR, FAMILY, PROFILES
from rtsep.training.nets.live import FEATURES, RECENT, Live, LiveConfig


@torch.no_grad()
def grown(config: LiveConfig, weights: dict[str, Tensor], wanted: LiveConfig) -> tuple[LiveConfig, dict[str, Tensor]]:
    """A net as it is wanted that draws the masks of another one, as far as its look-ahead lets it.

    What is new begins as in a new net, but for what follows from it: that begins at zero (as in Chen, Goodfellow and
    Shlens, Net2Net, 2016, without their copies). Of look-ahead that the other net had not it begins to hear nothing.

    Parameters
    ----------
    config, weights
        Of the net as it is.
    wanted : LiveConfig
        Hop and look-ahead; the number of blocks to have at least.

    Returns
    -------
    LiveConfig, dict of str to Tensor
        Its sizes and weights.
    """
    old = config
    voice = old.voice or wanted.voice
    blocks = max(old.blocks, wanted.blocks)
    config = replace(old, hop=wanted.hop, lookahead=wanted.lookahead, blocks=blocks, voice=voice)
    out = {name: value.clone() for name, value in Live(config).state_dict().items()}
    for name, value in out.items():
        if name not in weights:
            if ".blocks." in name and name.split(".")[-2] in ("joined", "known"):
                value.zero_()  # a block that only passes on what it is given
            continue
        room, given = value, weights[name]
        if name.startswith("bands.seen."):  # frames: those up to that of the mask, then those that lie ahead
            room, given = (x.unflatten(1, (FEATURES, RECENT + c.ahead, -1)) for x, c in ((value, config), (given, old)))
            room.zero_()
            given = given[:, :, : room.shape[2]]
        room[tuple(slice(n) for n in given.shape)] = given
    return config, out


def part(config: LiveConfig, weights: dict[str, Tensor], wanted: LiveConfig) -> tuple[LiveConfig, dict[str, Tensor]]:
    """Sizes and weights of a member of the family, cut out of the net (`config`, `weights`) that was trained for all.

    `wanted` is `rtsep.training.family.member` of that net.
    """
    return grown(replace(config, blocks=wanted.blocks), weights, wanted)


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
        checkpoint = read_checkpoint(path)
        if checkpoint["name"] not in (*PROFILES, FAMILY, DETECTOR):
            raise UsageError(f"{path} is a checkpoint of {checkpoint['name']}, not of {', '.join(PROFILES)}")
        return LiveConfig.from_dict(checkpoint["net"]), checkpoint["mean"]
    try:
        model = onnx.load(str(path))
        text = next(entry.value for entry in model.metadata_props if entry.key == "net")
        config = LiveConfig.from_dict(json.loads(text))
        found = {i.name: torch.from_numpy(numpy_helper.to_array(i).astype(np.float32)) for i in model.graph.initializer}
    except Exception as error:  # whatever the parser meets in a foreign file
        raise UsageError(f"{path} is not a model that `rtsep export` made of a live net: {error}") from error
    blank = Live(config).state_dict()
    missing = [name for name in blank if name not in found]
    if missing:
        raise UsageError(f"{path} lacks weights of a live net: {', '.join(missing[:3])}")
    return config, {name: found[name].reshape(value.shape) for name, value in blank.items()}
