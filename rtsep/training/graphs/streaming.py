"""Streaming ONNX graphs piece by piece: a frame and the state in, the mask and the state out.

The state is one tensor (1, S), zero at first. What comes before a stream is nothing at all: maps of zeros, which the
offline forms pad with, so that a reset needs no more than zeros.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from rtsep.training.graphs.graph import OPSET, Graph, Memory
from rtsep.training.nets.koretzky import NetConfig
from rtsep.training.nets.spectrum import tilt

LEVEL = NetConfig()  # how the running level is kept: as in koretzky


class Streaming:
    """A graph under construction with the weights of a net; `half`: they are stored in float16."""

    def __init__(self, model: nn.Module, half: bool) -> None:
        self.graph, self.half = Graph(), half
        self.weights = {k: v.detach().float().cpu().contiguous().numpy() for k, v in model.state_dict().items()}
        self.memories: list[Memory] = []

    def weight(self, name: str, value: NDArray | None = None) -> str:
        """A weight of the net under its own name, or `value` in its place."""
        value = self.weights[name] if value is None else value
        if not self.half or value.ndim < 2:
            return self.graph.constant(name, value)
        return self.graph.add("Cast", [self.graph.constant(name, value.astype(np.float16))], f"{name}_single", to=1)

    def remember(self, name: str, new: str, channels: int, rows: int, bins: int) -> str:
        """The last `rows` values of `new` (1, channels, 1, bins) and the newest: (1, channels, rows + 1, bins)."""
        if not rows:
            return new
        self.memories.append(Memory(name, np.zeros((channels, rows, bins), np.float32)))
        return self.graph.remember(self.memories[-1], name, new)

    def reshape(self, x: str, output: str, *shape: int) -> str:
        """`x` in another shape."""
        return self.graph.add("Reshape", [x, self.graph.shape(*shape)], output)

    def linear(self, name: str, x: str) -> str:
        """A dense layer on one row."""
        return self.graph.add("Gemm", [x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias")], name, transB=1)

    def over_level(self, magnitude: str, rows: int, bins: int) -> str:
        """Tilted magnitudes (rows, bins) over the running mean of their level, times the compression."""
        g = self.graph
        self.memories.append(Memory("level", np.zeros((1, 1, 2), np.float32)))
        # A damaged frame must not stay in the state: NaN counts as silence, infinity as very loud.
        x = g.add("Where", [g.add("IsNaN", [magnitude], "is_nan"), g.number(0.0), magnitude], "whole")
        x = g.add("Min", [x, g.number(1e6)], "bounded")
        x = g.add("Mul", [x, g.constant("tilt", tilt(bins).numpy()[None])], "tilted")
        both = g.add("ReduceL2", [x], "both", axes=[0], keepdims=1) if rows > 1 else x
        mean = g.add("ReduceMean", [both], "mean", axes=[1], keepdims=1)
        fresh = g.add("Concat", [mean, g.constant("one", np.ones((1, 1), np.float32))], "fresh", axis=1)
        decay = np.array(LEVEL.level_decay, np.float32)
        past = g.add("Mul", ["level", g.constant("decay", decay)], "level_past")
        added = g.add("Mul", [fresh, g.constant("share", np.array(1 - LEVEL.level_decay, np.float32))], "level_added")
        level = g.add("Add", [past, added], "level_next")
        g.nodes.append(helper.make_node("Split", [level, g.shape(1, 1)], ["total", "weight"], name="parts", axis=1))
        now = g.add("Add", [g.add("Div", ["total", "weight"], "running"), g.number(LEVEL.level_floor)], "level_now")
        return g.add("Mul", [x, g.add("Div", [g.number(LEVEL.compression), now], "gain")], "over")

    def finish(
        self,
        name: str,
        inputs: Mapping[str, tuple[int, ...]],
        mask: tuple[int, ...],
        settings: Mapping[str, object],
    ) -> tuple[bytes, int]:
        """The file, whose node ``mask`` has shape `mask`, and the size S of its state."""
        g = self.graph
        names, sizes = [m.name for m in self.memories], [m.silence.size for m in self.memories]
        g.nodes.insert(0, helper.make_node("Split", ["state", g.shape(*sizes)], names, name="split", axis=1))
        g.add("Concat", [f"{name}_next" for name in names], "state_out", axis=1)

        def values(shapes: Mapping[str, tuple[int, ...]]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(k, TensorProto.FLOAT, shape) for k, shape in shapes.items()]

        state = (1, int(sum(sizes)))
        graph = helper.make_graph(
            g.nodes,
            name,
            values({**inputs, "state": state}),
            values({"mask": mask, "state_out": state}),
            list(g.constants.values()),
        )
        result = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="rtsep")
        result.ir_version = 8
        helper.set_model_props(result, {"net": json.dumps(dict(settings))})
        onnx.checker.check_model(result, full_check=True)
        return result.SerializeToString(), state[1]
