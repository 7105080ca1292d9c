"""The streaming ONNX graph of the live family: one stereo field and the states in, two masks and the states out.

It is the graph of one copy of the net (`nets.live`): the host carries as many states as take turns. Level, memory and
the last frames of each layer are a tensor each, which the host binds once: a tensor of them all would have to be taken
apart and put together at every hop. The frames begin as endless silence leaves them, the rest at zero.
Every weight lies in the file under its own name, so that a training can go on from the exported file alone
(`rtsep.training.weights`).
"""

from __future__ import annotations

import json

import numpy as np
import onnx
from onnx import TensorProto, helper

from rtsep.training.graphs import bands
from rtsep.training.graphs.builder import Builder
from rtsep.training.graphs.graph import OPSET, Carried, Memory
from rtsep.training.nets.live import FEATURES, Live
from rtsep.training.nets.spectrum import BINS, FEATURE_MEAN, FEATURE_SCALE, SILENCE


def recent(model: Live) -> Memory:
    """The frames that a copy carries, as endless silence leaves them."""
    silent = np.zeros((FEATURES, model.config.past, BINS), np.float32)
    silent[:2] = SILENCE
    return Memory("recent", silent)


def carried(model: Live) -> Carried:
    """All that a copy carries from frame to frame: the level, the newest frames, and what the bands remember."""
    first = {"level": np.zeros((1, 2), np.float32), "recent": recent(model).silence[None]}
    return {name: (f"{name}_next", value) for name, value in first.items()} | bands.carried(model.bands)


def _features(b: Builder, model: Live) -> str:
    """The level normalisation: input to features (1, 4, 1, BINS)."""
    g, c = b.graph, model.config
    # A damaged frame must not stay in the state: NaN counts as silence, infinity as very loud.
    x = g.add("Where", [g.add("IsNaN", ["field"], "is_nan"), g.number(0.0), "field"], "whole")
    x = g.add("Clip", [x, g.number(-1.0), g.number(1e6)], "bounded")
    g.nodes.append(helper.make_node("Split", [x, g.shape(2, 2)], ["magnitudes", "relations"], name="parts", axis=0))
    tilted = g.add("Mul", ["magnitudes", g.constant("tilt", model.tilt.cpu().numpy()[None])], "tilted")
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


def streaming_graph(model: Live, half: bool = False) -> tuple[onnx.ModelProto, Carried]:
    """The ONNX model of a trained net, and the states of one copy; `half`: weights stored in float16."""
    b = Builder(model.eval(), half)
    g = b.graph
    drawn = bands.drawn(b, model.bands, g.carry(recent(model), _features(b, model)))
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
