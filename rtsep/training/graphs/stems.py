"""The head for the stems as a branch of koretzky's streaming graph, and back from its file.

It is worth a fifth of the net's time, so it is worked out only while `WANTED` says that somebody hears the stems. What
it carries from frame to frame are features alone, which the net makes anyway: it can be left out at any hop.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from rtsep.training.graphs.graph import Graph, Memory, affine, linear
from rtsep.training.nets.spectrum import BINS, LEAK, SILENCE
from rtsep.training.nets.stems import APART, NAMES, POOL, WIDTH, StemHead

#: Input (1,) of a net with a head: above 0, its rows of the mask are drawn; else they are 0.
WANTED = "stems_wanted"
#: Weights that lie in the file as float16: together nearly all of them.
HALF = ("place", "dense.weight", "bins.weight")


def rounded(head: StemHead) -> StemHead:
    """The head with the weights that the file keeps."""
    out = copy.deepcopy(head)
    for name, parameter in out.named_parameters():
        if name in HALF:
            parameter.data = parameter.data.half().float()
    return out


def memory(head: StemHead) -> Memory:
    """The frames of features that it carries along."""
    return Memory("stems_recent", np.full((1, head.frames - 1, BINS), SILENCE, np.float32))


def _half(graph: Graph, name: str, value: torch.Tensor) -> str:
    stored = graph.constant(name, value.detach().half().numpy())
    return graph.add("Cast", [stored], f"{name}_single", to=1)


def add_head(graph: Graph, head: StemHead, feature: str, hidden: str, past: Memory) -> str:
    """The newest features (1, 1, 1, 513) and the trunk's dense layer (1, units) to shares of drums, bass (2, 513)."""
    recent = graph.carry(past, feature)
    drawn, nothing = graph.branch(), graph.branch()
    none = graph.constant("stems_none", np.zeros((2, BINS), np.float32))
    rows = [_shares(drawn, head, recent, hidden), nothing.add("Identity", [none], "stems_unheard")]
    branches = [
        helper.make_graph(part.nodes, name, [], [helper.make_tensor_value_info(row, TensorProto.FLOAT, (2, BINS))])
        for part, row, name in zip((drawn, nothing), rows, ("stems_drawn", "stems_left_out"), strict=True)
    ]
    graph.add("Reshape", [WANTED, graph.shape()], "stems_switch")
    graph.add("Greater", ["stems_switch", graph.number(0.0)], "stems_heard")
    return graph.add("If", ["stems_heard"], "stems_rows", then_branch=branches[0], else_branch=branches[1])


def _shares(graph: Graph, head: StemHead, recent: str, hidden: str) -> str:
    """`add_head` of the features of all frames that it sees."""

    def conv(name: str, x: str, norm: torch.nn.Module, apart: int = 1) -> str:
        layer = getattr(head, name)
        factor, offset = affine(norm)
        weight = layer.weight.detach().numpy() * factor[:, None, None]
        bias = layer.bias.detach().numpy() * factor + offset
        values = [graph.constant(f"stems_{name}_{kind}", value) for kind, value in (("weight", weight), ("bias", bias))]
        pad = apart * (WIDTH // 2)
        return graph.add("Conv", [x, *values], f"stems_{name}", dilations=[apart], pads=[pad, pad])

    def leak(x: str) -> str:
        return graph.add("LeakyRelu", [x], x + "_leaky", alpha=LEAK)

    x = graph.add("Reshape", [recent, graph.shape(1, head.frames, BINS)], "stems_frames")
    x = conv("near", x, head.norms[0])
    x = leak(graph.add("Add", [x, _half(graph, "stems_place", head.place)], "stems_placed"))
    x = leak(conv("wide", x, head.norms[1], APART))
    seen = graph.add("AveragePool", [x], "stems_pooled", kernel_shape=[POOL], strides=[POOL])
    seen = graph.add("Reshape", [seen, graph.shape(1, -1)], "stems_pooled_flat")
    seen = graph.add("Concat", [seen, hidden], "stems_seen", axis=1)
    weight = _half(graph, "stems_dense_weight", head.dense.weight)
    bias = graph.constant("stems_dense_bias", head.dense.bias.detach().numpy())
    known = leak(graph.add("Gemm", [seen, weight, bias], "stems_dense", transB=1))
    back = linear(graph, known, head.back.weight, head.back.bias, "stems_back")
    back = graph.add("Reshape", [back, graph.shape(1, -1, 1)], "stems_back_column")
    x = leak(graph.add("Add", [conv("last", x, head.norms[2]), back], "stems_told"))
    values = [graph.constant(f"stems_out_{k}", getattr(head.out, k).detach().numpy()) for k in ("weight", "bias")]
    x = graph.add("Conv", [x, *values], "stems_out")
    bins = graph.add("Gemm", [known, _half(graph, "stems_bins_weight", head.bins.weight)], "stems_bins", transB=1)
    bins = graph.add("Reshape", [bins, graph.shape(1, len(NAMES), BINS)], "stems_by_bin")
    shares = graph.add("Softmax", [graph.add("Add", [x, bins], "stems_logits")], "stems_shares", axis=1)
    kept = graph.add("Slice", [shares, graph.shape(0), graph.shape(2), graph.shape(1)], "stems_kept")
    return graph.add("Reshape", [kept, graph.shape(2, BINS)], "stems_both")


@torch.no_grad()
def fill(head: StemHead, found: dict[str, NDArray[np.float32]]) -> None:
    """Give a head the weights of a file; batch normalisation is folded away there, and does nothing then."""
    for name, parameter in head.named_parameters():
        stored = found.get("stems_" + name.replace(".", "_"))
        if stored is not None:
            value = torch.from_numpy(stored.astype(np.float32))
            parameter.copy_((value.t() if name == "back.weight" else value).reshape(parameter.shape))
    for norm in head.norms:
        norm.running_var.fill_(1 - norm.eps)  # in float32 its sum with eps is exactly 1
