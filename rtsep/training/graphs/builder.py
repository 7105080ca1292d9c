"""A streaming graph under construction together with the weights of its net."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import helper
from torch import nn

from rtsep.training.graphs.graph import Graph


class Builder:
    """A graph under construction with the weights of a net; `half`: they are stored in float16."""

    def __init__(self, model: nn.Module, half: bool) -> None:
        self.graph = Graph()
        self.half = half
        self._single: set[str] = set()
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

    def linear(self, name: str, x: str) -> str:
        """A dense layer: ``x W' + b``."""
        weights = [self.weight(f"{name}.{kind}") for kind in ("weight", "bias")]
        return self.graph.add("Gemm", [x, *weights], name, transB=1)

    def split(self, x: str, sizes: list[int], names: list[str]) -> list[str]:
        """`x` in parts along its second axis."""
        node = helper.make_node("Split", [x, self.graph.shape(*sizes)], names, name=f"{x}_split", axis=1)
        self.graph.nodes.append(node)
        return names
