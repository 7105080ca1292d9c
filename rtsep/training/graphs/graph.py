"""What the streaming graphs are made of: nodes, constants, and what is carried from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from rtsep.separators.manifest import State

OPSET = 17

Carried = dict[str, tuple[str, NDArray[np.float32]]]
"""Output and first value of each state, by its input."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A piece of the state: `rows` past frames of a layer, shape (channels, rows, bins), and its value in silence."""

    name: str
    silence: NDArray[np.float32]  # (channels, rows, bins)


def states(carried: Carried, runs: int) -> list[State]:
    """The states as a manifest has them: frames (1, channels, rows, bins) begin as so many silent runs leave them."""
    return [
        State(name, output, list(first.shape), runs if first.ndim == 4 else 0)
        for name, (output, first) in carried.items()
    ]


class Graph:
    """Nodes and constants of an ONNX graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def branch(self) -> Graph:
        """A graph for a branch of this one: nodes of its own, the constants lie in this one."""
        inner = Graph()
        inner.constants = self.constants
        return inner

    def add(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        """Append a node with one output and return its name."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: NDArray) -> str:
        """A named constant, stored once."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(f"number_{value:g}", np.array(value, np.float32))

    def shape(self, *values: int) -> str:
        """An int64 vector."""
        return self.constant("ints_" + "_".join(str(v) for v in values), np.array(values, np.int64))

    def carry(self, memory: Memory, new: str) -> str:
        """Past frames, which are an input, and the new one, (1, channels, rows + 1, bins); the newest are NAME_next."""
        both = self.add("Concat", [memory.name, new], memory.name + "_all", axis=2)
        rows = memory.silence.shape[1]
        self.add("Slice", [both, self.shape(1), self.shape(rows + 1), self.shape(2)], memory.name + "_next")
        return both

    def remember(self, memory: Memory, past: str, new: str) -> str:
        """`carry` of frames that lie flat in a larger tensor: `past` and NAME_next are (1, size)."""
        channels, rows, bins = memory.silence.shape
        before = self.add("Reshape", [past, self.shape(1, channels, rows, bins)], memory.name + "_past")
        both = self.add("Concat", [before, new], memory.name + "_all", axis=2)
        kept = self.add("Slice", [both, self.shape(1), self.shape(rows + 1), self.shape(2)], memory.name + "_kept")
        self.add("Reshape", [kept, self.shape(1, -1)], memory.name + "_next")
        return both


def linear(graph: Graph, x: str, weight: torch.Tensor, bias: torch.Tensor, name: str) -> str:
    """A dense layer on (1, inputs)."""
    w, b = weight.detach().numpy().T, bias.detach().numpy()
    return graph.add("Gemm", [x, graph.constant(name + "_weight", w), graph.constant(name + "_bias", b)], name)


def affine(norm: torch.nn.Module) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Batch normalisation in use, as factor and offset of each channel."""
    factor = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()
    return factor.numpy(), (norm.bias - norm.running_mean * factor).detach().numpy()
