"""The streaming ONNX graph of koretzky: a frame and the states in, a mask, a voice probability and the states out.

The last frames of each layer are a tensor each, which the host binds once and which begins as endless silence leaves it
(`silent_runs` of the manifest); one of all of them would have to be taken apart and put together at every hop. What is
small lies together in ``state`` (1, S), as the difference to endless silence, and begins at zero. So the first frames
of a stream equal those of a sequence with 24 silent frames before it.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch.nn import functional as F

from rtsep.training.graphs import detector as detectors
from rtsep.training.graphs import stems as heads
from rtsep.training.graphs.graph import OPSET, Carried, Graph, Memory, affine, linear
from rtsep.training.nets.koretzky import LEAST, VOICE_DOUBT, VOICE_FLOOR, VOICE_FORGET, VOICE_RANGE, FrameNet, Koretzky
from rtsep.training.nets.spectrum import BINS, FEATURE_MEAN, FEATURE_SCALE, LEAK, SILENCE, tilt

#: Node that makes a mask of a magnitude of the vocals.
SHARE = "share_of_all"


def _rows(name: str, layer: torch.Tensor, rows: int) -> Memory:
    """Memory of a layer from its output for silence, (1, channels, any, bins)."""
    return Memory(name, np.repeat(layer[0, :, -1:].numpy(), rows, axis=1))


@torch.no_grad()
def memories(net: FrameNet, prefix: str) -> list[Memory]:
    """What one of the nets carries from frame to frame, with the values that silence gives."""
    first = net.conv1(torch.full((1, 1, 25, BINS), SILENCE))
    second = net.conv2(first)
    pooled = net.pool1(second)
    third = net.conv3(pooled)
    fourth = net.conv4(third)
    return [
        _rows(f"{prefix}_conv1", first, 2),
        _rows(f"{prefix}_conv2", F.max_pool2d(second, (1, 3)), 2),
        _rows(f"{prefix}_pool1", pooled, 6),
        _rows(f"{prefix}_conv3", third, 6),
        _rows(f"{prefix}_conv4", F.max_pool2d(fourth, (1, 3)), 6),
    ]


def _frame_net(graph: Graph, net: FrameNet, prefix: str, memory: list[Memory], features: str) -> str:
    """Features of three frames (1, 1, 3, 513) to the dense layer before the last, (1, dense)."""

    def conv(index: int, x: str, fold: bool) -> str:
        layer = net.convs[index]
        name = f"{prefix}_c{index + 1}"
        w, b = layer.weight.detach().contiguous().numpy(), layer.bias.detach().numpy()
        if fold:
            factor, offset = affine(net.norms[index])
            w, b = w * factor[:, None, None, None], b * factor + offset
        weight, bias = graph.constant(name + "_weight", w), graph.constant(name + "_bias", b)
        return graph.add(
            "Conv",
            [x, weight, bias],
            name,
            kernel_shape=[3, 3],
            dilations=list(layer.dilation),
            pads=[0, 1, 0, 1],
        )

    def leak(x: str) -> str:
        return graph.add("LeakyRelu", [x], x + "_leaky", alpha=LEAK)

    def normal(index: int, x: str) -> str:
        # A factor may be negative, so this cannot go before the pool, into the convolution.
        factor, offset = (value.reshape(1, -1, 1, 1) for value in affine(net.norms[index]))
        x = graph.add("Mul", [x, graph.constant(x + "_factor", factor)], x + "_scaled")
        return graph.add("Add", [x, graph.constant(x + "_offset", offset)], x + "_normal")

    def thirds(x: str, name: str) -> str:
        return graph.add("MaxPool", [x], name, kernel_shape=[1, 3], strides=[1, 3])

    x = leak(conv(0, features, True))
    x = conv(1, graph.carry(memory[0], x), False)
    x = graph.carry(memory[1], thirds(x, prefix + "_thirds1"))
    x = leak(normal(1, graph.add("MaxPool", [x], prefix + "_p1", kernel_shape=[3, 1], strides=[1, 1])))
    x = leak(conv(2, graph.carry(memory[2], x), True))
    x = conv(3, graph.carry(memory[3], x), False)
    x = graph.carry(memory[4], thirds(x, prefix + "_thirds2"))
    x = graph.add("MaxPool", [x], prefix + "_p2", kernel_shape=[3, 1], strides=[1, 1], dilations=[3, 1])
    x = leak(normal(3, x))
    x = graph.add("Transpose", [x], prefix + "_by_bin", perm=[0, 2, 3, 1])
    x = graph.add("Reshape", [x, graph.shape(1, -1)], prefix + "_flat")
    factor, offset = (torch.from_numpy(value) for value in affine(net.norm_dense))
    weight, bias = net.dense.weight * factor[:, None], net.dense.bias * factor + offset
    return leak(linear(graph, x, weight, bias, prefix + "_dense"))


def _opinion(graph: Graph, net: FrameNet, decay: float, hidden: str) -> str:
    """The running mean of the logit of the detector's CNN."""
    logit = linear(graph, hidden, net.out.weight, net.out.bias, "vad_logits")
    past = graph.add("Mul", ["opinion", graph.number(decay)], "opinion_past")
    share = graph.add("Mul", [logit, graph.number(1 - decay)], "opinion_share")
    return graph.add("Add", [past, share], "opinion_next")


def _doubt(graph: Graph, magnitude: str, mask: str) -> str:
    """`nets.koretzky.doubt` of a frame, (1, 1), with the loudest so far as memory."""
    voice = graph.add("Mul", [magnitude, mask], "heard")
    energy = graph.add("ReduceSumSquare", [voice], "heard_energy", axes=[1], keepdims=1)
    energy = graph.add("Log", [graph.add("Add", [energy, graph.number(VOICE_FLOOR)], "heard_floored")], "heard_log")
    past = graph.add("Sub", ["loudest", graph.number(VOICE_FORGET)], "loudest_past")
    graph.add("Max", [energy, past], "loudest_next")
    below = graph.add("Sub", [energy, "loudest_next"], "under_loudest")
    below = graph.add(
        "Min", [graph.add("Add", [below, graph.number(VOICE_RANGE)], "too_soft"), graph.number(0.0)], "soft"
    )
    return graph.add("Mul", [below, graph.number(VOICE_DOUBT)], "doubt")


def streaming_graph(model: Koretzky) -> tuple[onnx.ModelProto, Carried]:
    """The ONNX model of a trained net, and its states.

    With a head for stems the mask has two more rows: the shares of drums and bass in what the voice leaves.
    """
    config = model.config
    graph = Graph()
    recent = Memory("recent", np.full((1, 2, BINS), SILENCE, np.float32))
    of_mask = memories(model.mask_net, "mask")
    of_vad = memories(model.vad_net, "vad") if model.vad_net is not None else []
    frames = [recent, *of_mask, *of_vad]
    if model.stems is not None:
        frames.append(heads.memory(model.stems))
    small = {"level": [0.0, 0.0]}
    if model.vad_net is not None:
        small |= {"opinion": [model.silence_logit()], "loudest": [float(np.log(VOICE_FLOOR))]}
    settled = np.concatenate(list(small.values()))[None].astype(np.float32)
    silence = graph.constant("silence", settled)
    state = graph.add("Add", ["state", silence], "state_full")
    if len(small) > 1:
        sizes = graph.shape(*(len(values) for values in small.values()))
        graph.nodes.append(helper.make_node("Split", [state, sizes], list(small), name="split", axis=1))
    else:
        graph.add("Identity", [state], "level")
    # A damaged frame must not stay in the state: NaN counts as silence, infinity as very loud.
    clean = graph.add("Where", [graph.add("IsNaN", ["magnitude"], "is_nan"), graph.number(0.0), "magnitude"], "clean")
    bounded = graph.add("Min", [clean, graph.number(1e6)], "bounded")
    x = graph.add("Mul", [bounded, "tilt"], "tilted")
    graph.constant("tilt", tilt().numpy()[None])
    mean = graph.add("ReduceMean", [x], "mean", axes=[1], keepdims=1)
    fresh = graph.add("Concat", [mean, graph.constant("one", np.ones((1, 1), np.float32))], "fresh", axis=1)
    decayed = graph.add("Mul", ["level", graph.number(config.level_decay)], "decayed")
    share = graph.add("Mul", [fresh, graph.number(1 - config.level_decay)], "share")
    graph.add("Add", [decayed, share], "level_next")
    graph.nodes.append(
        helper.make_node("Split", ["level_next", graph.shape(1, 1)], ["total", "weight"], name="parts", axis=1)
    )
    running = graph.add("Div", ["total", "weight"], "running")
    running = graph.add("Add", [running, graph.number(config.level_floor)], "level_now")
    relative = graph.add("Div", [x, running], "relative")
    over = graph.add("Mul", [relative, graph.number(config.compression)], "over")
    feature = graph.add("Log", [graph.add("Add", [over, graph.number(1.0)], "plus_one")], "log")
    feature = graph.add("Sub", [feature, graph.number(FEATURE_MEAN)], "centred")
    feature = graph.add("Div", [feature, graph.number(FEATURE_SCALE)], "feature")
    feature = graph.add("Reshape", [feature, graph.shape(1, 1, 1, BINS)], "feature_map")
    three = graph.carry(recent, feature)
    hidden = _frame_net(graph, model.mask_net, "mask", of_mask, three)
    logits = linear(graph, hidden, model.mask_net.out.weight, model.mask_net.out.bias, "mask_logits")
    voice = "mask" if model.stems is None else "voice_mask"
    if config.output == "mask":
        graph.add("Sigmoid", [logits], voice)
    else:
        least = graph.add("Max", [relative, graph.number(LEAST)], "not_nothing")
        share = graph.add("Div", [logits, least], SHARE)
        graph.add("Clip", [share, graph.number(0.0), graph.number(1.0)], voice)
    if model.stems is not None:
        shares = heads.add_head(graph, model.stems, feature, hidden, frames[-1])
        graph.add("Concat", [voice, shares], "mask", axis=0)
    heard: Carried = {}
    if model.vad_bands is not None:
        heard = detectors.add_detector(graph, model.vad_bands)
    elif model.vad_net is not None:
        own = _frame_net(graph, model.vad_net, "vad", of_vad, three)
        logit = _opinion(graph, model.vad_net, config.vad_smooth, own)
        graph.add("Sigmoid", [graph.add("Add", [logit, _doubt(graph, bounded, voice)], "vad_sure")], "vad")
    after = graph.add("Concat", [name + "_next" for name in small], "state_after", axis=1)
    graph.add("Sub", [after, silence], "state_out")
    carried = {"state": ("state_out", np.zeros_like(settled))}
    carried |= {m.name: (m.name + "_next", m.silence[None]) for m in frames} | heard

    def value(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    proto = helper.make_graph(
        graph.nodes,
        "koretzky",
        [
            value("magnitude", 1, BINS),
            *([] if model.stems is None else [value(heads.WANTED, 1)]),
            *(value(name, *first.shape) for name, (_, first) in carried.items()),
        ],
        [
            value("mask", 1 if model.stems is None else 3, BINS),
            value("vad", 1, 1),
            *(value(name, *first.shape) for name, first in carried.values()),
        ],
        list(graph.constants.values()),
    )
    result = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="rtsep")
    result.ir_version = 8
    onnx.checker.check_model(result, full_check=True)
    return result, carried
