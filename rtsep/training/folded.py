"""Weights of koretzky from a shipped model folder: batch normalisation is folded away there, and stays so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from rtsep.errors import UsageError
from rtsep.training.checkpoints import read_checkpoint
from rtsep.training.graphs.detector import PREFIX, blocks_of
from rtsep.training.graphs.koretzky import SHARE
from rtsep.training.graphs.stems import fill
from rtsep.training.nets.koretzky import FrameNet, Koretzky, NetConfig
from rtsep.training.nets.live import Live

Constants = dict[str, NDArray[np.float32]]


def _sizes(found: Constants, prefix: str) -> tuple[tuple[int, int, int, int], int]:
    c1, c2, c3, c4 = (len(found[f"{prefix}_c{i}_bias"]) for i in (1, 2, 3, 4))
    return (c1, c2, c3, c4), len(found[f"{prefix}_dense_bias"])


def _fill(net: FrameNet, found: Constants, prefix: str) -> None:
    """Layers as in the file; a norm that was folded does nothing, one after a pool is a factor and an offset."""

    def put(target: Tensor, name: str, turn: bool = False) -> None:
        value = torch.from_numpy(found[f"{prefix}_{name}"].copy())
        target.copy_((value.t() if turn else value).reshape(target.shape))

    for i, layer in enumerate(net.convs, 1):
        put(layer.weight, f"c{i}_weight")
        put(layer.bias, f"c{i}_bias")
    put(net.dense.weight, "dense_weight", turn=True)
    put(net.dense.bias, "dense_bias")
    put(net.out.weight, "logits_weight", turn=True)
    put(net.out.bias, "logits_bias")
    for norm in (*net.norms, net.norm_dense):
        norm.running_var.fill_(1 - norm.eps)  # in float32 its sum with eps is exactly 1
    for i, pool in ((1, "p1"), (3, "p2")):
        put(net.norms[i].weight, f"{pool}_factor")
        put(net.norms[i].bias, f"{pool}_scaled_offset")


def _fill_detector(net: Live, found: Constants) -> None:
    """The detector's weights; what it would draw masks with is not in the file, and zero here."""
    state = net.state_dict()
    for name, value in state.items():
        given = found.get(PREFIX + name)
        if name != "tilt":
            value.copy_(torch.zeros(()) if given is None else torch.from_numpy(given.astype(np.float32)))


@torch.no_grad()
def unfold(source: Path) -> Koretzky:
    """The net of a model folder that `rtsep export` made, ready to infer.

    Export of it gives the very weights of the file again. Its norms must stay as they are in further training: the
    statistics of the sound are in the weights.

    Parameters
    ----------
    source : Path
        The folder, or its ``model.onnx``.

    Raises
    ------
    UsageError
        If it is no such model.
    """
    path = source / "model.onnx" if source.is_dir() else source
    try:
        graph = onnx.load(str(path)).graph
        found = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        sizes = _sizes(found, "mask")
        output = "magnitude" if any(node.name == SHARE for node in graph.node) else "mask"
        config = NetConfig(*sizes, vad_blocks=blocks_of(found), output=output)
        if not config.vad_blocks:
            vad_channels, vad_dense = _sizes(found, "vad")
            config = replace(config, vad_channels=vad_channels, vad_dense=vad_dense)
        if "stems_near_weight" in found:
            channels, frames = found["stems_near_weight"].shape[:2]
            dense = len(found["stems_dense_bias"])
            config = replace(config, stem_frames=frames, stem_channels=channels, stem_dense=dense)
        model = Koretzky(config)
        _fill(model.mask_net, found, "mask")
        if model.vad_net is not None:
            _fill(model.vad_net, found, "vad")
        if model.vad_bands is not None:
            _fill_detector(model.vad_bands, found)
        if model.stems is not None:
            fill(model.stems, found)
    except Exception as error:  # whatever the parser meets in a foreign file
        raise UsageError(f"{path} is not a model that `rtsep export` made of koretzky: {error}") from error
    return model.eval()


def first_net(source: Path) -> tuple[Koretzky, bool]:
    """The net of a model folder, its ``model.onnx`` or a checkpoint, to go on with; and whether its norms are folded.

    Raises
    ------
    UsageError
        If it is none of these.
    """
    if source.is_dir() or source.suffix == ".onnx":
        return unfold(source), True
    checkpoint = read_checkpoint(source)
    if checkpoint["name"] != "koretzky":
        raise UsageError(f"{source} is a checkpoint of {checkpoint['name']}, not of koretzky")
    model = Koretzky(NetConfig.from_dict(checkpoint["net"]))
    model.load_state_dict(checkpoint["mean"])
    return model.eval(), bool(checkpoint["config"].get("fixed_norms", False))
