"""Weights of a net of the live family from a checkpoint or from a model folder, to go on training with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from rtsep.errors import UsageError
from rtsep.training.folded import unfold
from rtsep.training.nets.koretzky import Koretzky
from rtsep.training.nets.live import Live, LiveConfig

WEIGHTS = "weights.onnx"
"""What a training begins with where a model folder has it: the net of ``model.onnx`` before it was made int8."""


@torch.no_grad()
def of_koretzky(source: Koretzky, batches: Iterable[Tensor], config: LiveConfig | None = None) -> Live:
    """A net of the live family that draws koretzky's very masks, to begin a training with.

    What it has beside koretzky's layers begins with no effect: input from the side, memory, correction. The folded
    norms get the statistics of the sound, so that they go on as norms.

    Parameters
    ----------
    source : Koretzky
        As `rtsep.training.folded.unfold` gives it.
    batches : iterable of Tensor
        Stereo fields (B, T, 4, F) to take the statistics from; without any the norms stay folded.
    """
    net, old = Live(config), source.mask_net
    for new, layer in zip(net.convs, old.convs, strict=True):
        new.weight.zero_()
        new.weight[:, : layer.in_channels] = layer.weight
        new.bias.copy_(layer.bias)
    net.dense.load_state_dict(old.dense.state_dict())
    net.out.weight.copy_(old.out.weight.repeat(2, 1))
    net.out.bias.copy_(old.out.bias.repeat(2))
    pairs = list(zip((*net.norms, net.norm_dense), (*old.norms, old.norm_dense), strict=True))
    for new, layer in pairs:
        new.load_state_dict(layer.state_dict())
    sums = {new: torch.zeros(3, new.num_features, dtype=torch.float64) for new, _ in pairs}

    def count(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].transpose(0, 1).flatten(1).double()
        sums[norm] += torch.stack([torch.full_like(x[:, 0], x.shape[1]), x.sum(1), x.square().sum(1)])

    hooks = [new.register_forward_pre_hook(count) for new, _ in pairs]
    net.eval()
    for field in batches:
        net(field)
    for hook in hooks:
        hook.remove()
    for new, _ in pairs:
        number, total, squares = sums[new]
        if not number[0]:
            continue
        mean = total / number
        spread = (squares / number - mean.square()).clamp_min(1e-6)
        factor = new.weight / (new.running_var + new.eps).sqrt()
        new.bias += (factor * (mean - new.running_mean)).float()
        new.weight.copy_(factor * (spread + new.eps).sqrt())
        new.running_mean.copy_(mean)
        new.running_var.copy_(spread)
    return net


@torch.no_grad()
def grown(config: LiveConfig, weights: dict[str, Tensor], wanted: LiveConfig) -> tuple[LiveConfig, dict[str, Tensor]]:
    """A net with a larger dense layer, memory and correction, or a path by bands, that draws the same masks.

    What is new begins as in a new net, but for what follows from it: that begins at zero (as in Chen, Goodfellow and
    Shlens, Net2Net, 2016, without their copies).

    Parameters
    ----------
    config, weights
        Of the net as it is.
    wanted : LiveConfig
        Sizes to have at least, and those of the path by bands where there is none; its other values are not taken.

    Returns
    -------
    LiveConfig, dict of str to Tensor
        Its sizes and weights.
    """
    old = config
    if old.dense:
        larger = {name: max(getattr(old, name), getattr(wanted, name)) for name in ("dense", "units", "local")}
        config = replace(config, **larger)
    if not old.width:
        larger = {name: getattr(wanted, name) for name in ("width", "across", "slow", "blocks")}
        config = replace(config, **larger)
    if config == old:
        return config, weights
    out = {name: value.clone() for name, value in Live(config).state_dict().items()}
    for name in ("out.weight", "recall.weight", "recall.bias", "touch.weight"):
        out[name].zero_()
    for name, value in out.items():
        if name not in weights:
            continue
        room, given = value, weights[name]
        if name.startswith("memory."):  # three gates, one below the other
            room, given = value.unflatten(0, (3, config.units)), given.unflatten(0, (3, old.units))
            room[:, : old.units] = 0.0  # what was there hears nothing of what is new
        room[tuple(slice(n) for n in given.shape)] = given
    return config, out


def first_weights(source: Path, heard: Callable[[], Iterable[Tensor]] = tuple) -> tuple[LiveConfig, dict[str, Tensor]]:
    """Sizes and weights of a net.

    Parameters
    ----------
    source : Path
        A checkpoint of ``rtsep train`` live, monitor or karaoke, a model folder, or its ``model.onnx``: the exported
        file holds every weight under its own name. Of a folder that plays an int8 file, the ``weights.onnx`` beside
        it, which is float16. koretzky's folder or file too: `of_koretzky`.
    heard : callable
        Gives stereo fields to take statistics from, where koretzky's weights need some.

    Raises
    ------
    UsageError
        If it is none of these.
    """
    path = source
    if source.is_dir():
        path = source / (WEIGHTS if (source / WEIGHTS).exists() else "model.onnx")
    if path.suffix != ".onnx":
        from rtsep.training.live import PROFILES
        from rtsep.training.loop import read_checkpoint

        checkpoint = read_checkpoint(path)
        if checkpoint["name"] not in PROFILES:
            raise UsageError(f"{path} is a checkpoint of {checkpoint['name']}, not of {', '.join(PROFILES)}")
        return LiveConfig.from_dict(checkpoint["net"]), checkpoint["mean"]
    try:
        model = onnx.load(str(path))
        if model.graph.name == "koretzky":
            net = of_koretzky(unfold(path), heard())
            return net.config, net.state_dict()
        sizes = next(entry.value for entry in model.metadata_props if entry.key == "net")
        config = LiveConfig.from_dict(json.loads(sizes))
        found = {i.name: torch.from_numpy(numpy_helper.to_array(i).astype(np.float32)) for i in model.graph.initializer}
    except Exception as error:  # whatever the parser meets in a foreign file
        raise UsageError(f"{path} is not a model that `rtsep export` made of a live net: {error}") from error
    if any(name.endswith("_quantized") for name in found):
        raise UsageError(f"{path} is stored as int8: begin with its checkpoint, or with a float32 or float16 file")
    blank = Live(config).state_dict()
    missing = [name for name in blank if name not in found and not name.endswith("num_batches_tracked")]
    if missing:
        raise UsageError(f"{path} lacks weights of a live net: {', '.join(missing[:3])}")
    return config, {name: found.get(name, value).reshape(value.shape) for name, value in blank.items()}
