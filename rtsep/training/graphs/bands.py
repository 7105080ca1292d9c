"""The path by bands (`nets.bands`) in the streaming graph of the live family, one frame at a time."""

from __future__ import annotations

import numpy as np
from onnx import helper

from rtsep.training.graphs.builder import Builder
from rtsep.training.graphs.graph import Carried
from rtsep.training.nets.bands import BANDS, COUNT, DOUBT, MARGIN, Bands, edges
from rtsep.training.nets.spectrum import BINS


def carried(net: Bands) -> Carried:
    """What each block remembers, (K, slow), from zero."""
    shape = (COUNT, net.sizes.slow)
    return {f"slow_{i}": (f"slow_{i}_next", np.zeros(shape, np.float32)) for i in range(net.sizes.blocks)}


def drawn(b: Builder, net: Bands, newest: str) -> str:
    """Features of the newest frames (1, rows, recent, F) to logits (1, 2, 1, F)."""
    g = b.graph
    x = g.add("Add", [_encoded(b, net, newest), b.weight("bands.place")], "places")
    for i in range(net.sizes.blocks):
        x = _block(b, net, i, x)
    x = _norm(b, "bands.norm", x)
    logits = _drawn(b, net, x)
    return logits if net.voice is None else g.add("Sub", [logits, _closing(b, _voice(b, x))], "closed")


def _silu(b: Builder, x: str) -> str:
    """``x * sigmoid(x)``."""
    return b.graph.add("Mul", [x, b.graph.add("Sigmoid", [x], f"{x}_open")], f"{x}_silu")


def _voice(b: Builder, x: str) -> str:
    """`nets.bands.Voice` of the bands (K, W): its logit (1, 1); the probability is the output ``vad``."""
    told = b.reshape(b.linear("bands.voice.each", x), "told_by_bands", 1, -1)
    heard = b.linear("bands.voice.all", _silu(b, told))
    logit = b.linear("bands.voice.out", _silu(b, heard))
    b.graph.add("Sigmoid", [logit], "vad")
    return logit


def _closing(b: Builder, voice: str) -> str:
    """`nets.bands.Voice.closed`: what comes off the masks' logits, (1, 1)."""
    g = b.graph
    none = g.add("Sub", [g.number(-DOUBT), voice], "no_voice")
    return g.add("Mul", [g.add("Softplus", [none], "no_voice_sure"), b.weight("bands.voice.closing")], "closing")


def _encoded(b: Builder, net: Bands, newest: str) -> str:
    """The vector of each band, (K, W)."""
    g, s = b.graph, net.sizes
    total = sum(number * width for number, width in BANDS)
    around = g.shape(0, 0, 0, MARGIN, 0, 0, 0, total + MARGIN - BINS)
    x, out = g.add("Pad", [newest, around], "seen_around"), []
    for i, (first, number, width) in enumerate(edges()):
        ends = [g.shape(first), g.shape(first + number * width + 2 * MARGIN), g.shape(3)]
        part, flat = g.add("Slice", [x, *ends], f"seen_{i}_bins"), b.weight(f"bands.seen.{i}.weight")
        kernels = b.reshape(flat, f"seen_{i}_kernel", s.width, s.rows, s.recent, width + 2 * MARGIN)
        out.append(g.add("Conv", [part, kernels], f"encoded_{i}", strides=[1, width]))
    encoded = b.reshape(g.add("Concat", out, "encoded", axis=3), "encoded_rows", s.width, COUNT)
    return g.add("Transpose", [encoded], "bands", perm=[1, 0])


def _norm(b: Builder, name: str, x: str) -> str:
    """Layer normalisation of (K, W)."""
    return b.graph.add("LayerNormalization", [x, b.weight(f"{name}.weight")], f"{name}_normal", axis=-1, epsilon=1e-5)


def _gates(b: Builder, name: str) -> str:
    """Weights of a GRU of torch's (r, z, n) in the order of ONNX (z, r, n), with the direction as first axis."""
    g, n = b.graph, len(b.weights[name]) // 3
    ends = [(g.shape(i * n), g.shape((i + 1) * n)) for i in (1, 0, 2)]
    parts = [g.add("Slice", [b.weight(name), *of, g.shape(0)], f"{name}_gate{i}") for i, of in enumerate(ends)]
    return g.add("Unsqueeze", [g.add("Concat", parts, f"{name}_turned", axis=0), g.shape(0)], f"{name}_one_way")


def _block(b: Builder, net: Bands, i: int, x: str) -> str:
    """`nets.bands.Block` on (K, W)."""
    g, s, name = b.graph, net.sizes, f"bands.blocks.{i}"
    along = b.reshape(_norm(b, f"{name}.norm_across", x), f"{name}.along", COUNT, 1, s.width)
    ways = [f"{name}.up", f"{name}.down"]
    weights = [
        g.add("Concat", [_gates(b, f"{way}.{kind}") for way in ways], f"{name}.{kind}", axis=0)
        for kind in ("weight_ih_l0", "weight_hh_l0")
    ]
    biases = [
        g.add("Concat", [_gates(b, f"{way}.{kind}") for kind in ("bias_ih_l0", "bias_hh_l0")], f"{way}.bias", axis=1)
        for way in ways
    ]
    weights.append(g.add("Concat", biases, f"{name}.bias", axis=0))
    g.nodes.append(
        helper.make_node(
            "GRU",
            [along, *weights],
            [f"{name}.ways"],
            name=f"{name}.ways",
            direction="bidirectional",
            hidden_size=s.across,
            linear_before_reset=1,
        )
    )  # (K, 2, 1, across)
    found = b.reshape(f"{name}.ways", f"{name}.both", COUNT, 2 * s.across)
    x = g.add("Add", [x, b.linear(f"{name}.joined", found)], f"{name}.across")
    parts = b.linear(f"{name}.slow", _norm(b, f"{name}.norm_time", x))
    gate, new = b.split(parts, [s.slow, s.slow], [f"{name}.gate", f"{name}.new"])
    gate, new = g.add("Sigmoid", [gate], f"{name}.open"), g.add("Tanh", [new], f"{name}.value")
    kept = g.add("Mul", [gate, g.add("Sub", [f"slow_{i}", new], f"{name}.change")], f"{name}.kept")
    after = g.add("Add", [new, kept], f"slow_{i}_next")
    return g.add("Add", [x, b.linear(f"{name}.known", after)], f"{name}.out")


def _drawn(b: Builder, net: Bands, x: str) -> str:
    """Logits (1, 2, 1, F) of the bands (K, W)."""
    g, out, at = b.graph, [], 0
    for i, (number, width) in enumerate(BANDS):
        part = g.add("Slice", [x, g.shape(at), g.shape(at + number), g.shape(0)], f"drawn_{i}_bands")
        inner = b.linear(f"bands.inner.{i}", part)
        inner = g.add("Mul", [inner, g.add("Sigmoid", [inner], f"drawn_{i}_gate")], f"drawn_{i}_inner")
        drawn = b.reshape(b.linear(f"bands.draw.{i}", inner), f"drawn_{i}_masks", number, 2, width)
        turned = g.add("Transpose", [drawn], f"drawn_{i}_turned", perm=[1, 0, 2])
        out.append(b.reshape(turned, f"drawn_{i}", 1, 2, 1, number * width))
        at += number
    whole = g.add("Concat", out, "drawn_all", axis=3)
    bins = g.add("Slice", [whole, g.shape(0), g.shape(BINS), g.shape(3)], "drawn_bins")
    return g.add("Add", [bins, b.weight("bands.bias")], "drawn_logits")
