"""koretzky's voice detector where it is a net of the live family, in koretzky's streaming graph; without its masks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import compose, helper

from rtsep.training.graphs import live
from rtsep.training.graphs.graph import Carried, Graph
from rtsep.training.nets.live import FEATURES, Live
from rtsep.training.nets.spectrum import BINS

PREFIX = "detector_"
"""Of the names of all that belongs to the detector."""


def add_detector(graph: Graph, net: Live) -> Carried:
    """The nodes that make ``vad`` of ``magnitude``, and the states they carry; weights are stored in float16."""
    proto, carried = live.streaming_graph(net, half=True)
    part = compose.add_prefix_graph(proto.graph, PREFIX)
    states = {PREFIX + name: (PREFIX + output, first) for name, (output, first) in carried.items()}
    vad, wanted, kept = PREFIX + "vad", set(), []
    wanted.update([vad, *(output for output, _ in states.values())])
    for node in reversed(part.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    nothing = graph.constant("no_side", np.zeros((FEATURES - 1, BINS), np.float32))
    graph.add("Concat", ["magnitude", nothing], PREFIX + "field", axis=0)
    graph.nodes.extend(reversed(kept))
    graph.constants.update({value.name: value for value in part.initializer if value.name in wanted})
    graph.nodes.append(helper.make_node("Identity", [vad], ["vad"], name="vad"))
    return states


def blocks_of(found: Mapping[str, NDArray]) -> int:
    """How many blocks the detector of an exported file has, by its constants; 0: it is the CNN."""
    names = [name for name in found if name.startswith(f"{PREFIX}bands.blocks.") and name.endswith("joined.bias")]
    return len(names)
