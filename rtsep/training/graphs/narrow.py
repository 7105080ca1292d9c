"""The streaming ONNX graph of the nets of the MIR-1K protocol: one frame and the state in, one mask and the state out.

The state is one tensor (1, S) of zeros at first: the running level, the last frames' features (as the difference to
those of silence), and the recurrent layers. Weights are stored as float32, as float16, or as int8 with a factor for
each row; ONNX Runtime unpacks them when the file is opened, and the net computes in float32.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from rtsep.training.data.augment import HOP
from rtsep.training.evaluate import separate
from rtsep.training.graphs.graph import OPSET, Graph
from rtsep.training.graphs.proof import as_arrays, chain_deviation_db, magnitude_deviation
from rtsep.training.made import Made
from rtsep.training.nets.drnn import Drnn
from rtsep.training.nets.narrow import BINS, TINY, NarrowNet
from rtsep.training.nets.spectrum import FEATURE_MEAN, FEATURE_SCALE, LEAK, SILENCE
from rtsep.training.nets.vpnn import COLOUR_BIAS, COLOUR_RANGE, Cvpnn, Dnn, Wvpnn


def packed(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight (..., inputs) as int8 and a factor for each row (..., 1)."""
    scale = weight.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127
    return torch.round(weight / scale).to(torch.int8), scale


def stored(model: NarrowNet, storage: str) -> NarrowNet:
    """The net with the weights that a storage keeps."""
    out = copy.deepcopy(model).eval()
    for name, parameter in out.named_parameters():
        if "weight" not in name:
            continue
        if storage == "float16":
            parameter.data = parameter.data.half().float()
        elif storage == "int8":
            values, scale = packed(parameter.data)
            parameter.data = values.float() * scale
    return out


class _Builder:
    """A graph under construction with the weights of a net, which are `stored`'s."""

    def __init__(self, model: NarrowNet, storage: str) -> None:
        self.graph, self.model, self.storage = Graph(), model, storage
        self.weights = dict(model.named_parameters())

    def weight(self, name: str) -> str:
        """A weight of the net under its own name."""
        g, value = self.graph, self.weights[name].detach()
        if "weight" not in name or self.storage == "float32":
            return g.constant(name, value.numpy())
        if self.storage == "float16":
            return g.add("Cast", [g.constant(name, value.half().numpy())], f"{name}_single", to=1)
        values, scale = packed(value)
        single = g.add("Cast", [g.constant(name, values.numpy())], f"{name}_single", to=1)
        return g.add("Mul", [single, g.constant(f"{name}_scale", scale.numpy())], f"{name}_scaled")

    def linear(self, x: str, weight: str, bias: str, output: str) -> str:
        """``x W' + b`` of one row."""
        return self.graph.add("Gemm", [x, self.weight(weight), self.weight(bias)], output, transB=1)

    def split(self, x: str, sizes: list[int], names: list[str], axis: int = 1) -> list[str]:
        """`x` in parts along an axis."""
        node = helper.make_node("Split", [x, self.graph.shape(*sizes)], names, name=f"{x}_split", axis=axis)
        self.graph.nodes.append(node)
        return names

    def number(self, value: float, name: str) -> str:
        """A scalar, exactly."""
        return self.graph.constant(name, np.array(value, np.float32))


def _features(b: _Builder) -> str:
    """The level normalisation: magnitude (1, F) to features (1, F)."""
    g, level = b.graph, b.model.level
    # A damaged frame must not stay in the state: NaN counts as silence, infinity as very loud.
    clean = g.add("Where", [g.add("IsNaN", ["magnitude"], "is_nan"), g.number(0.0), "magnitude"], "clean")
    x = g.add("Min", [clean, g.number(1e6)], "bounded")
    x = g.add("Mul", [x, g.constant("tilt", level.tilt.numpy()[None])], "tilted")
    mean = g.add("ReduceMean", [x], "mean", axes=[1], keepdims=1)
    fresh = g.add("Concat", [mean, g.constant("one", np.ones((1, 1), np.float32))], "fresh", axis=1)
    decayed = g.add("Mul", ["level", b.number(level.decay, "decay")], "decayed")
    g.add("Add", [decayed, g.add("Mul", [fresh, b.number(1 - level.decay, "new_share")], "share")], "level_next")
    total, weight = b.split("level_next", [1, 1], ["total", "weight"])
    now = g.add("Add", [g.add("Div", [total, weight], "running"), b.number(level.floor, "floor")], "level_now")
    over = g.add("Mul", [g.add("Div", [x, now], "relative"), g.number(level.compression)], "over")
    log = g.add("Log", [g.add("Add", [over, g.number(1.0)], "plus_one")], "log")
    return g.add("Div", [g.add("Sub", [log, g.number(FEATURE_MEAN)], "centred"), g.number(FEATURE_SCALE)], "feature")


def _recurrent(b: _Builder, index: int, x: str) -> str:
    """One step of a recurrent layer: x (1, inputs) to its new state (1, units)."""
    g, name = b.graph, f"layers.{index}"
    heard = b.linear(x, f"{name}.input.weight", f"{name}.input.bias", f"{name}_heard")
    kept = g.add("Gemm", [f"hidden{index}", b.weight(f"{name}.weight"), heard], f"{name}_kept", transB=1)
    return g.add("Relu", [kept], f"hidden{index}_next")


def _vectors(b: _Builder, x: str, layers: int) -> str:
    """Vector layers: x (3, inputs) to (3, outputs)."""
    g = b.graph
    for index in range(layers):
        name = f"layers.{index}"
        _, outputs, inputs = b.weights[f"{name}.weight"].shape
        # All nine products of components at once, so that each weight is read once; three of them go unused.
        rows = g.add("Reshape", [b.weight(f"{name}.weight"), g.shape(3 * outputs, inputs)], f"{name}_rows")
        products = g.add("Gemm", [x, rows], f"{name}_products", transB=1)
        products = g.add("Reshape", [products, g.shape(9, outputs)], f"{name}_pairs")
        pick = {side: g.constant(f"pick_{side}", np.array(rows, np.int64)) for side, rows in _CROSS.items()}
        plus, minus = (g.add("Gather", [products, pick[side]], f"{name}_{side}") for side in _CROSS)
        cross = g.add("Sub", [plus, minus], f"{name}_cross")
        x = g.add("Add", [cross, b.weight(f"{name}.bias")], f"{name}_vectors")
        if index + 1 < layers:
            x = g.add("LeakyRelu", [x], f"{name}_active", alpha=LEAK)
    return x


#: Rows 3 a + b of the products of component a of the input and b of the weight that add to, and take from, each output.
_CROSS = {"plus": (3 * 1 + 2, 3 * 2 + 0, 3 * 0 + 1), "minus": (3 * 2 + 1, 3 * 0 + 2, 3 * 1 + 0)}


def _outputs(b: _Builder, seen: str) -> str:
    """Features (frames, F) to both sources' values (1, 2 F)."""
    g, model = b.graph, b.model
    if isinstance(model, Wvpnn):
        return g.add("Gather", [_vectors(b, seen, len(model.layers)), g.shape(1)], "middle")
    if isinstance(model, Cvpnn):
        log = g.add("Mul", [seen, b.number(3 * FEATURE_SCALE / COLOUR_RANGE, "bright_scale")], "bright_scaled")
        bright = g.add("Add", [log, b.number(3 * FEATURE_MEAN / COLOUR_RANGE, "bright_shift")], "bright")
        thirds = g.add("Sub", [bright, g.constant("thirds", np.arange(3, dtype=np.float32)[:, None])], "above")
        colour = g.add("Clip", [thirds, g.number(0.0), g.number(1.0)], "colour")
        vectors = _vectors(
            b, g.add("Add", [colour, b.number(COLOUR_BIAS, "colour_bias")], "colours"), len(model.layers)
        )
        return g.add("ReduceMean", [vectors], "middle", axes=[0], keepdims=1)
    x = g.add("Reshape", [seen, g.shape(1, -1)], "flat")
    if isinstance(model, Drnn):
        for index in range(len(model.layers)):
            x = _recurrent(b, index, x)
        return b.linear(x, "out.weight", "out.bias", "values")
    assert isinstance(model, Dnn)
    for index in range(len(model.layers)):
        x = b.linear(x, f"layers.{index}.weight", f"layers.{index}.bias", f"dense{index}")
        if index + 1 < len(model.layers):
            x = g.add("LeakyRelu", [x], f"dense{index}_active", alpha=LEAK)
    return x


def streaming_graph(model: NarrowNet, storage: str = "float32") -> tuple[onnx.ModelProto, int]:
    """The ONNX model of a trained net whose weights are `stored`, and the size S of its state."""
    b = _Builder(model, storage)
    g, past = b.graph, model.frames - 1
    hidden = [layer.input.out_features for layer in model.layers] if isinstance(model, Drnn) else []
    names = ["level", *(["before"] if past else []), *(f"hidden{i}" for i in range(len(hidden)))]
    sizes = [2, *([past * BINS] if past else []), *hidden]
    b.split("state", sizes, names)
    seen, after = _features(b), ["level_next"]
    if past:
        silence = b.number(SILENCE, "silence")
        rows = g.add("Reshape", [g.add("Add", ["before", silence], "past"), g.shape(past, BINS)], "past_rows")
        seen = g.add("Concat", [rows, seen], "seen", axis=0)
        newest = g.add("Slice", [seen, g.shape(1), g.shape(past + 1), g.shape(0)], "newest")
        over = g.add("Sub", [g.add("Reshape", [newest, g.shape(1, -1)], "newest_row"), silence], "before_next")
        after.append(over)
    values = g.add("Max", [g.add("Softplus", [_outputs(b, seen)], "soft"), b.number(TINY, "tiny")], "positive")
    voice, music = b.split(values, [BINS, BINS], ["voice", "music"])
    g.add("Div", [voice, g.add("Add", [voice, music], "both")], "mask")
    after += [f"hidden{i}_next" for i in range(len(hidden))]
    if len(after) > 1:
        g.add("Concat", after, "state_out", axis=1)
    else:
        g.add("Identity", after, "state_out")

    def value(name: str, width: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width])

    size = sum(sizes)
    inputs, outputs = [value("magnitude", BINS), value("state", size)], [value("mask", BINS), value("state_out", size)]
    proto = helper.make_graph(g.nodes, type(model).__name__.lower(), inputs, outputs, list(g.constants.values()))
    result = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="rtsep")
    result.ir_version = 8
    onnx.checker.check_model(result, full_check=True)
    return result, size


def made(model: NarrowNet, summary: str, storage: str) -> Made:
    """What `rtsep export` writes of a trained net."""
    kept = stored(model, storage)
    proto, size = streaming_graph(kept, storage)
    data = proto.SerializeToString()

    infer = as_arrays(kept.infer)

    def chain(folder: Path) -> float:
        return chain_deviation_db(lambda sound: separate(infer, sound, BINS, model.lookahead), folder)

    moved = magnitude_deviation(as_arrays(model.infer), data, size, BINS) if storage != "float32" else 0.0
    return Made(
        data,
        size,
        lambda: magnitude_deviation(infer, data, size, BINS),
        summary + (" (looks a hop ahead)" if model.lookahead else ""),
        HOP,
        "mid_magnitude",
        BINS,
        "magnitude",
        "",
        model.lookahead,
        chain,
        [f"{storage}: masks move by {moved:.1e} at most"] if storage != "float32" else [],
    )
