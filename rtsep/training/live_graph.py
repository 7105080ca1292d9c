"""The streaming ONNX graph of the live family: one stereo field and the states in, two masks and the states out.

It is the graph of one copy of the net (`nets.live`): the host carries as many states as take turns. Level, memory and
the last frames of each layer are a tensor each, which the host binds once: a tensor of them all would have to be taken
apart and put together at every hop. The frames begin as endless silence leaves them, the rest at zero.
Every weight lies in the file under its own name, and batch normalisation is left to ONNX Runtime to fold, so that a
training can go on from the exported file alone (`rtsep.training.weights`).
"""

from __future__ import annotations

import json

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch.nn import functional as F

from rtsep.training import bands_graph
from rtsep.training.graph import OPSET, Carried, Graph, Memory
from rtsep.training.nets.live import FEATURES, RECENT, WIDE, Live
from rtsep.training.nets.spectrum import BINS, CONTEXT, FEATURE_MEAN, FEATURE_SCALE, LEAK, SILENCE


@torch.no_grad()
def memories(model: Live) -> list[Memory]:
    """The frames that a copy carries, as endless silence leaves them."""

    def rows(name: str, layer: torch.Tensor, count: int) -> Memory:
        return Memory(name, np.repeat(layer[0, :, -1:].numpy(), count, axis=1))

    silent = torch.zeros(1, FEATURES, CONTEXT, BINS)
    silent[:, :2] = SILENCE
    recent = rows("recent", silent, max(2, RECENT - 1 + model.config.ahead))
    if not model.config.dense:
        return [recent]
    first = F.leaky_relu(model.norms[0](model.convs[0](silent)), LEAK)
    second = model.convs[1](first)
    pooled = F.leaky_relu(model.norms[1](F.max_pool2d(second, 3, stride=(1, 3))), LEAK)
    third = F.leaky_relu(model.norms[2](model.convs[2](pooled)), LEAK)
    fourth = model.convs[3](third)
    return [
        recent,
        rows("first", first, 2),
        rows("second", F.max_pool2d(second, (1, 3)), 2),
        rows("pooled", pooled, 6),
        rows("third", third, 6),
        rows("fourth", F.max_pool2d(fourth, (1, 3)), 6),
    ]


def carried(model: Live) -> Carried:
    """All that a copy carries from frame to frame: level and memory, from zero, and `memories`."""
    sizes = {"level": 2} | ({"memory": model.config.units} if model.config.dense else {})
    first = {name: np.zeros((1, size), np.float32) for name, size in sizes.items()}
    first |= {m.name: m.silence[None] for m in memories(model)}
    found = {name: (f"{name}_next", value) for name, value in first.items()}
    return found | (bands_graph.carried(model.bands) if model.config.width else {})


class Builder:
    """A graph under construction with the weights of a net."""

    def __init__(self, model: Live, half: bool) -> None:
        self.graph = Graph()
        self.model = model
        self.half = half
        self._single: set[str] = set()
        self.memories = {m.name: m for m in memories(model)}
        self.weights = {k: v.detach().float().cpu().contiguous().numpy() for k, v in model.state_dict().items()}

    def weight(self, name: str) -> str:
        """A weight of the net under its own name; stored in half precision where that is wanted."""
        value: NDArray = self.weights[name]
        if not self.half or value.ndim < 2:
            return self.graph.constant(name, value)
        single = f"{name}_single"
        if single in self._single:
            return single
        self._single.add(single)
        return self.graph.add("Cast", [self.graph.constant(name, value.astype(np.float16))], single, to=1)

    def reshape(self, x: str, output: str, *shape: int) -> str:
        """`x` in another shape."""
        return self.graph.add("Reshape", [x, self.graph.shape(*shape)], output)

    def remember(self, name: str, new: str) -> str:
        """Past frames of a layer and the new one."""
        return self.graph.carry(self.memories[name], new)

    def norm(self, name: str, x: str) -> str:
        """Batch normalisation and leaky ReLU."""
        values = [self.weight(f"{name}.{k}") for k in ("weight", "bias", "running_mean", "running_var")]
        x = self.graph.add("BatchNormalization", [x, *values], f"{name}_normal", epsilon=1e-5)
        return self.graph.add("LeakyRelu", [x], f"{name}_leaky", alpha=LEAK)

    def conv(self, index: int, x: str) -> str:
        """One of the convolutions of the trunk."""
        layer, name = self.model.convs[index], f"convs.{index}"
        weights = [self.weight(f"{name}.{k}") for k in ("weight", "bias")]
        return self.graph.add("Conv", [x, *weights], name, dilations=list(layer.dilation), pads=[0, 1, 0, 1])

    def wide(self, name: str, x: str) -> str:
        """One of the convolutions that correct the masks."""
        weights = [self.weight(f"{name}.{k}") for k in ("weight", "bias") if f"{name}.{k}" in self.weights]
        return self.graph.add("Conv", [x, *weights], name, pads=[0, WIDE // 2, 0, WIDE // 2])

    def linear(self, name: str, x: str) -> str:
        """A dense layer on one row."""
        return self.gemm(x, f"{name}.weight", f"{name}.bias", name)

    def gemm(self, x: str, weight: str, bias: str, output: str) -> str:
        """``x W' + b``."""
        return self.graph.add("Gemm", [x, self.weight(weight), self.weight(bias)], output, transB=1)

    def split(self, x: str, sizes: list[int], names: list[str]) -> list[str]:
        """`x` in parts along its second axis."""
        node = helper.make_node("Split", [x, self.graph.shape(*sizes)], names, name=f"{x}_split", axis=1)
        self.graph.nodes.append(node)
        return names

    def gru(self, x: str) -> str:
        """One step of the memory: its new state (1, units)."""
        g, units = self.graph, self.model.config.units
        parts = []
        for side, source in (("ih", x), ("hh", "memory")):
            product = self.gemm(source, f"memory.weight_{side}_l0", f"memory.bias_{side}_l0", f"memory_{side}")
            parts.append(self.split(product, [2 * units, units], [f"memory_{side}_rz", f"memory_{side}_n"]))
        gates = g.add("Sigmoid", [g.add("Add", [parts[0][0], parts[1][0]], "memory_rz")], "memory_gates")
        r, z = self.split(gates, [units, units], ["memory_r", "memory_z"])
        new = g.add("Tanh", [g.add("Add", [parts[0][1], g.add("Mul", [r, parts[1][1]], "r_n")], "new_sum")], "new")
        step = g.add("Mul", [z, g.add("Sub", ["memory", new], "memory_change")], "memory_step")
        return g.add("Add", [new, step], "memory_next")


def _features(b: Builder) -> str:
    """The level normalisation: input to features (1, 4, 1, BINS)."""
    g, c = b.graph, b.model.config
    # A damaged frame must not stay in the state: NaN counts as silence, infinity as very loud.
    x = g.add("Where", [g.add("IsNaN", ["field"], "is_nan"), g.number(0.0), "field"], "whole")
    x = g.add("Clip", [x, g.number(-1.0), g.number(1e6)], "bounded")
    g.nodes.append(helper.make_node("Split", [x, g.shape(2, 2)], ["magnitudes", "relations"], name="parts", axis=0))
    tilted = g.add("Mul", ["magnitudes", g.constant("tilt", b.model.tilt.cpu().numpy()[None])], "tilted")
    mean = g.add("ReduceMean", [g.add("ReduceL2", [tilted], "both", axes=[0], keepdims=1)], "mean", axes=[1])
    fresh = g.add("Concat", [mean, g.constant("one", np.ones((1, 1), np.float32))], "fresh", axis=1)
    decayed = g.add("Mul", ["level", g.number(c.level_decay)], "decayed")
    share = g.constant("share", np.array(1 - c.level_decay, np.float32))
    level = g.add("Add", [decayed, g.add("Mul", [fresh, share], "added")], "level_next")
    total, weight = b.split(level, [1, 1], ["total", "weight"])
    now = g.add("Add", [g.add("Div", [total, weight], "running"), g.number(c.level_floor)], "level_now")
    over = g.add("Mul", [tilted, g.add("Div", [g.number(c.compression), now], "gain")], "over")
    log = g.add("Log", [g.add("Add", [over, g.number(1.0)], "plus_one")], "log")
    log = g.add("Sub", [log, g.number(FEATURE_MEAN)], "centred")
    log = g.add("Mul", [log, g.constant("feature_scale", np.array(1 / FEATURE_SCALE, np.float32))], "scaled")
    return b.reshape(g.add("Concat", [log, "relations"], "rows", axis=0), "features", 1, FEATURES, 1, BINS)


def _trunk(b: Builder, three: str) -> str:
    """`nets.live.Live.trunk` on the newest three frames of features."""
    g = b.graph

    def thirds(x: str, name: str) -> str:
        return g.add("MaxPool", [x], name, kernel_shape=[1, 3], strides=[1, 3])

    x = b.norm("norms.0", b.conv(0, three))
    x = b.remember("second", thirds(b.conv(1, b.remember("first", x)), "thirds1"))
    x = b.norm("norms.1", g.add("MaxPool", [x], "pool1", kernel_shape=[3, 1], strides=[1, 1]))
    x = b.norm("norms.2", b.conv(2, b.remember("pooled", x)))
    x = b.remember("fourth", thirds(b.conv(3, b.remember("third", x)), "thirds2"))
    x = b.norm("norms.3", g.add("MaxPool", [x], "pool2", kernel_shape=[3, 1], strides=[1, 1], dilations=[3, 1]))
    x = b.reshape(g.add("Transpose", [x], "by_bin", perm=[0, 2, 3, 1]), "flat", 1, -1)
    return b.norm("norm_dense", b.linear("dense", x))


def _by_trunk(b: Builder, recent: str) -> str:
    """`nets.live.Live._by_trunk`: the newest features to logits (1, 2, 1, BINS)."""
    g, ahead = b.graph, b.model.config.ahead
    three = recent
    if ahead:
        newest = [g.shape(ahead), g.shape(ahead + RECENT), g.shape(2)]
        three = g.add("Slice", [recent, *newest], "newest")
    hidden = _trunk(b, three)
    known = b.linear("recall", b.gru(hidden))
    logits = b.reshape(b.linear("out", g.add("Add", [hidden, known], "informed")), "logits", 1, 2, 1, BINS)
    late = recent if ahead == 0 else g.add("Slice", [recent, g.shape(0), g.shape(RECENT), g.shape(2)], "late")
    local = b.norm("norm_local", g.add("Add", [b.wide("seen", late), b.wide("drawn", logits)], "local"))
    return g.add("Add", [logits, b.wide("touch", local)], "corrected")


def streaming_graph(model: Live, half: bool = False) -> tuple[onnx.ModelProto, Carried]:
    """The ONNX model of a trained net, and the states of one copy; `half`: weights stored in float16."""
    b = Builder(model.eval(), half)
    g, config = b.graph, model.config
    recent = b.remember("recent", _features(b))
    drawn = _by_trunk(b, recent) if config.dense else None
    if config.width:
        drawn = bands_graph.drawn(b, model.bands, recent, drawn)
    assert drawn is not None
    g.add("Sigmoid", [b.reshape(drawn, "drawn_rows", 2, BINS)], "mask")
    states = carried(model)

    def value(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    proto = helper.make_graph(
        g.nodes,
        "live",
        [value("field", FEATURES, BINS), *(value(name, *first.shape) for name, (_, first) in states.items())],
        [
            value("mask", 2, BINS),
            *([value("vad", 1, 1)] if model.detects else []),
            *(value(name, *first.shape) for name, first in states.values()),
        ],
        list(g.constants.values()),
    )
    result = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="rtsep")
    result.ir_version = 8
    helper.set_model_props(result, {"net": json.dumps(model.config.to_dict())})
    onnx.checker.check_model(result, full_check=True)
    return result, states
