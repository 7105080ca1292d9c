"""The streaming ONNX graph of a live net: one stereo field and the state in, two masks and the state out.

The state is one tensor (1, S): the last frame of every convolution's input, the two recurrent states, the running
level with its weight, and what a look-ahead keeps back. Zeros are what comes before the first frame, so a reset needs
nothing else. Every weight lies in the file under its own name and batch normalisation is left to ONNX Runtime to fold,
so that a training can go on from the exported file alone (`rtsep.training.weights`).
"""

from __future__ import annotations

import json

import numpy as np
import onnx
from onnx import TensorProto, helper

from rtsep.training.graph import OPSET, Graph
from rtsep.training.nets.live import BINS, FEATURE_MEAN, FEATURE_SCALE, FEATURES, HIGH, LOW, ROWS, SPLIT, Live


class _Builder:
    """A graph under construction with the weights of a net and the pieces of its state."""

    def __init__(self, model: Live, half: bool) -> None:
        self.graph = Graph()
        self.model = model
        self.half = half
        self.weights = {k: v.detach().float().cpu().numpy() for k, v in model.state_dict().items() if v.ndim}
        self.pieces: list[tuple[str, int]] = []  # name and size of each piece of the state

    def weight(self, name: str) -> str:
        """A weight of the net, stored under its own name."""
        value = self.weights[name]
        if not (self.half and value.ndim > 1):
            return self.graph.constant(name, value)
        self.graph.constant(name, value.astype(np.float16))
        return self.graph.add("Cast", [name], f"{name}_wide", to=TensorProto.FLOAT)

    def reshape(self, x: str, output: str, *shape: int) -> str:
        """`x` in another shape."""
        return self.graph.add("Reshape", [x, self.graph.shape(*shape)], output)

    def past(self, name: str, *shape: int) -> str:
        """A piece of the state, in the shape that is wanted."""
        self.pieces.append((name, int(np.prod(shape))))
        return self.reshape(f"{name}_flat", f"{name}_past", *shape)

    def keep(self, name: str, x: str) -> None:
        """Carry `x` on as the piece `name`."""
        self.reshape(x, f"{name}_next", 1, -1)

    def kept_back(self, name: str, x: str, *shape: int) -> str:
        """`nets.live.kept_back` by the look-ahead: the oldest of the frames in the state."""
        n, size, g = self.model.config.lookahead, int(np.prod(shape)), self.graph
        if not n:
            return x
        all_of = g.add("Concat", [self.past(name, 1, n * size), self.reshape(x, f"{name}_new", 1, size)], name, axis=1)
        axis, first, end = g.shape(1), g.shape(size), g.shape((n + 1) * size)
        g.add("Slice", [all_of, first, end, axis], f"{name}_next")
        return self.reshape(g.add("Slice", [all_of, g.shape(0), first, axis], f"{name}_oldest"), f"{name}_late", *shape)

    def norm(self, x: str, name: str) -> str:
        """Batch normalisation and leaky ReLU."""
        values = [self.weight(f"{name}.{k}") for k in ("weight", "bias", "running_mean", "running_var")]
        x = self.graph.add("BatchNormalization", [x, *values], name, epsilon=1e-5)
        return self.graph.add("LeakyRelu", [x], f"{name}_leaky", alpha=self.model.config.leak)

    def conv(self, name: str, x: str, channels: int, rows: int, stride: int = 1) -> str:
        """`nets.live.Conv` on the frame `x` (1, channels, 1, rows)."""
        both = self.graph.add("Concat", [self.past(name, 1, channels, 1, rows), x], f"{name}_both", axis=2)
        self.keep(name, x)
        x = self.graph.add(
            "Conv", [both, self.weight(f"{name}.conv.weight")], name, strides=[1, stride], pads=[0, 1, 0, 1]
        )
        return self.norm(x, f"{name}.norm")

    def linear(self, name: str, x: str) -> str:
        """A dense layer on rows (N, inputs)."""
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.graph.add("Gemm", [x, weight, bias], f"{name}_dense", transB=1)

    def gru(self, name: str, x: str, rows: int, units: int) -> str:
        """One step of a GRU on rows (N, inputs): the new state (N, units)."""
        g = self.graph
        before = self.past(name, rows, units)
        products = [
            g.add(
                "Gemm",
                [x, self.weight(f"{name}.weight_ih_l0"), self.weight(f"{name}.bias_ih_l0")],
                f"{name}_i",
                transB=1,
            ),
            g.add(
                "Gemm",
                [before, self.weight(f"{name}.weight_hh_l0"), self.weight(f"{name}.bias_hh_l0")],
                f"{name}_h",
                transB=1,
            ),
        ]
        parts = []
        for side, product in zip("ih", products, strict=True):
            names = [f"{name}_{side}_rz", f"{name}_{side}_n"]
            g.nodes.append(
                helper.make_node(
                    "Split", [product, g.shape(2 * units, units)], names, name=f"{name}_{side}_split", axis=1
                )
            )
            parts.append(names)
        gates = g.add("Sigmoid", [g.add("Add", [parts[0][0], parts[1][0]], f"{name}_rz")], f"{name}_gates")
        g.nodes.append(
            helper.make_node(
                "Split", [gates, g.shape(units, units)], [f"{name}_r", f"{name}_z"], name=f"{name}_rz_split", axis=1
            )
        )
        new = g.add("Add", [parts[0][1], g.add("Mul", [f"{name}_r", parts[1][1]], f"{name}_rn")], f"{name}_pre")
        new = g.add("Tanh", [new], f"{name}_new")
        step = g.add("Mul", [f"{name}_z", g.add("Sub", [before, new], f"{name}_diff")], f"{name}_step")
        after = g.add("Add", [new, step], f"{name}_after")
        self.keep(name, after)
        return after


def _features(b: _Builder) -> str:
    """The level normalisation: input to features (4, BINS)."""
    g, c = b.graph, b.model.config
    # A damaged frame must not stay in the state: NaN counts as silence, infinity as very loud.
    x = g.add("Where", [g.add("IsNaN", ["field"], "is_nan"), g.number(0.0), "field"], "whole")
    x = g.add("Clip", [x, g.number(-1.0), g.number(1e6)], "bounded")
    g.nodes.append(helper.make_node("Split", [x, g.shape(2, 2)], ["magnitudes", "relations"], name="parts", axis=0))
    tilted = g.add("Mul", ["magnitudes", g.constant("tilt", b.model.tilt.cpu().numpy()[None])], "tilted")
    both = g.add("ReduceL2", [tilted], "both", axes=[0], keepdims=1)
    mean = g.add("ReduceMean", [both], "mean", axes=[1], keepdims=1)
    fresh = g.add("Concat", [mean, g.constant("one", np.ones((1, 1), np.float32))], "fresh", axis=1)
    decayed = g.add("Mul", [b.past("level", 1, 2), g.constant("decay", np.array(c.decay, np.float32))], "decayed")
    share = g.constant("share", np.array(1 - c.decay, np.float32))
    level = g.add("Add", [decayed, g.add("Mul", [fresh, share], "added")], "level")
    b.keep("level", level)
    g.nodes.append(helper.make_node("Split", [level, g.shape(1, 1)], ["total", "weight"], name="level_parts", axis=1))
    now = g.add("Add", [g.add("Div", ["total", "weight"], "running"), g.number(c.level_floor)], "level_now")
    over = g.add("Mul", [tilted, g.add("Div", [g.number(c.compression), now], "gain")], "over")
    log = g.add("Log", [g.add("Add", [over, g.number(1.0)], "plus_one")], "log")
    log = g.add("Sub", [log, g.number(FEATURE_MEAN)], "centred")
    log = g.add("Mul", [log, g.constant("feature_scale", np.array(1 / FEATURE_SCALE, np.float32))], "scaled")
    return g.add("Concat", [log, "relations"], "features", axis=0)


def _fold(b: _Builder, x: str) -> str:
    """Features (4, BINS) to rows: (1, C, 1, 2 ROWS)."""
    g = b.graph
    g.nodes.append(helper.make_node("Split", [x, g.shape(SPLIT, BINS - SPLIT)], ["lows", "highs"], name="fold", axis=1))
    rows = []
    for name, part, width in (("low", "lows", LOW), ("high", "highs", HIGH)):
        folded = b.reshape(part, f"{name}_folded", FEATURES, ROWS, width)
        turned = g.add("Transpose", [folded], f"{name}_rows", perm=[1, 0, 2])
        rows.append(b.linear(name, b.reshape(turned, f"{name}_in", ROWS, FEATURES * width)))
    x = g.add("Add", [g.add("Concat", rows, "rows", axis=0), b.weight("place")], "placed")
    x = g.add("Transpose", [x], "by_channel", perm=[1, 0])
    return b.reshape(x, "map", 1, -1, 1, 2 * ROWS)


def _memory(b: _Builder, x: str, channels: int, rows: int) -> str:
    """`nets.live.Memory` on (1, C, 1, R)."""
    g, c = b.graph, b.model.config
    x = g.add("Transpose", [b.reshape(x, "memory_flat_in", channels, rows)], "memory_rows", perm=[1, 0])
    each = b.gru("memory.row", x, rows, c.row_units)
    x = g.add("Add", [x, b.linear("memory.row_out", each)], "memory_flat")
    seen = b.reshape(b.linear("memory.squeeze", x), "memory_seen", 1, -1)
    whole = b.linear("memory.all_out", b.gru("memory.all", seen, 1, c.units))
    late = b.kept_back("memory_late", x, rows, channels)
    x = g.add("Add", [late, b.reshape(whole, "memory_whole", rows, channels)], "memory")
    return b.reshape(g.add("Transpose", [x], "memory_turned", perm=[1, 0]), "memory_map", 1, channels, 1, rows)


def _up(b: _Builder, name: str, x: str, outputs: int, rows: int) -> str:
    """`nets.live.Up` on (1, C, 1, rows): (1, outputs, 1, 2 rows)."""
    g = b.graph
    x = g.add("Conv", [x, b.weight(f"{name}.conv.weight"), b.weight(f"{name}.conv.bias")], name)
    x = g.add("Transpose", [b.reshape(x, f"{name}_pairs", 2, outputs, rows)], f"{name}_turned", perm=[1, 2, 0])
    return b.reshape(x, f"{name}_map", 1, outputs, 1, 2 * rows)


def streaming_graph(model: Live, half: bool = False) -> tuple[onnx.ModelProto, int]:
    """The ONNX model of a trained net, and the size S of its state.

    With `half` matrices are stored as float16 and cast when the file is loaded: ONNX Runtime folds that away.
    """
    b = _Builder(model.eval(), half)
    g, (first, second, third) = b.graph, model.config.channels
    x0 = b.conv("enter", b.norm(_fold(b, _features(b)), "norm"), first, 2 * ROWS)
    x1 = b.conv("mid1", b.conv("down1", x0, first, 2 * ROWS, 2), second, ROWS)
    x2 = b.conv("mid2", b.conv("down2", x1, second, ROWS, 2), third, ROWS // 2)
    x = b.conv("deep", _memory(b, x2, third, ROWS // 2), third, ROWS // 2)
    late1, late0 = b.kept_back("across1", x1, 1, second, 1, ROWS), b.kept_back("across0", x0, 1, first, 1, 2 * ROWS)
    x = b.conv("wide2", g.add("Add", [_up(b, "up2", x, second, ROWS // 2), late1], "join2"), second, ROWS)
    x = b.conv("wide1", g.add("Add", [_up(b, "up1", x, first, ROWS), late0], "join1"), first, 2 * ROWS)
    x = g.add("Transpose", [b.reshape(x, "wide1_rows", first, 2 * ROWS)], "by_row", perm=[1, 0])
    g.nodes.append(helper.make_node("Split", [x, g.shape(ROWS, ROWS)], ["row_low", "row_high"], name="unfold", axis=0))
    outs = []
    for name, part, width in (("out_low", "row_low", LOW), ("out_high", "row_high", HIGH)):
        split = b.reshape(b.linear(name, part), f"{name}_split", ROWS, 2, width)
        turned = g.add("Transpose", [split], f"{name}_turned", perm=[1, 0, 2])
        outs.append(b.reshape(turned, f"{name}_bins", 2, ROWS * width))
    g.add("Sigmoid", [g.add("Concat", outs, "logits", axis=1)], "mask")
    first_node = helper.make_node(
        "Split",
        ["state", g.shape(*(size for _, size in b.pieces))],
        [f"{name}_flat" for name, _ in b.pieces],
        name="state_split",
        axis=1,
    )
    g.add("Concat", [f"{name}_next" for name, _ in b.pieces], "state_out", axis=1)
    size = sum(size for _, size in b.pieces)

    def value(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    proto = helper.make_graph(
        [first_node, *g.nodes],
        "live",
        [value("field", FEATURES, BINS), value("state", 1, size)],
        [value("mask", 2, BINS), value("state_out", 1, size)],
        list(g.constants.values()),
    )
    result = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="rtsep")
    result.ir_version = 8
    helper.set_model_props(result, {"net": json.dumps(model.config.to_dict())})
    onnx.checker.check_model(result, full_check=True)
    return result, size
