"""The streaming ONNX graph of nmf: a frame and the state in, a mask for each look-ahead and the state out.

The state (1, S) holds the last frames of bands, the activations, and the masks that wait for further patches.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from rtsep.errors import UsageError
from rtsep.training.evaluate import separate
from rtsep.training.graphs.graph import OPSET, Graph
from rtsep.training.graphs.proof import chain_deviation_db, magnitude_deviation
from rtsep.training.made import Made
from rtsep.training.nets.nmf import BAND_OF_BIN, BANDS, BINS, TINY, WIDTHS, Nmf, emphasis

HOP = 512


def made(model: Nmf, storage: str, lookahead: int) -> Made:
    """What ``rtsep export`` writes; with "float16" the bases are rounded, in the model too."""
    if storage == "int8":
        raise UsageError("storage int8: nmf is stored as float32 or float16")
    size, notes = float(model.bases.shape[-1]), []
    if storage == "float16":
        rounded = (model.bases * size).half().float() / size
        notes.append(
            f"float16: bases move by {float((rounded - model.bases).abs().sum(-1).max()):.1e} of their sum at most"
        )
        model.bases.copy_(rounded)
    data, state = streaming_graph(model, storage == "float16")
    count = 2 * model.bases.shape[1]
    return Made(
        data=data,
        state=state,
        deviation=lambda: magnitude_deviation(model.infer, data, state, BINS),
        summary=f"NMF with {count} fixed bases of {model.frames} frames, updates a hop: {model.updates}",
        hop=HOP,
        kind="mid_magnitude",
        bins=BINS,
        input="magnitude",
        more=f"lookaheads = {model.frames}\nconfidence = true\n",
        lookahead=lookahead,
        chain=lambda folder: chain_deviation_db(
            lambda sound: separate(lambda x: model.infer(x)[:, lookahead] ** 2, sound, BINS, lookahead), folder
        ),
        notes=notes,
        # the mask of amplitudes squared: on dev songs better than as it is (benchmarks/experiments.md)
        parameters={"strength": 0.5, "binary": 0.0, "alpha": 0.5},
    )


def streaming_graph(model: Nmf, half: bool = False) -> tuple[bytes, int]:
    """ONNX file and size of the state."""
    g = Graph()
    frames = model.frames
    both, size = model.bases.shape[1], frames * BANDS
    count = 2 * both

    def part(source: str, first: int, last: int, name: str, axis: int = 1) -> str:
        return g.add("Slice", [source, g.shape(first), g.shape(last), g.shape(axis)], name)

    stored = g.constant(
        "stored", (model.bases.reshape(count, size) * size).numpy().astype(np.float16 if half else np.float32)
    )
    if half:
        stored = g.add("Cast", [stored], "stored_32", to=TensorProto.FLOAT)
    bases = g.add("Mul", [stored, g.constant("unit", np.array(1 / size, np.float32))], "bases")
    turned = g.add("Transpose", [bases], "turned", perm=[1, 0])

    rows, first = [], 0
    for width, number in WIDTHS:
        band = part("magnitude", first, first + width * number, f"bins_{width}")
        band = g.add("Reshape", [band, g.shape(number, width)], f"bands_{width}")
        band = g.add("ReduceSum", [band, g.shape(1)], f"sums_{width}", keepdims=0)
        rows.append(g.add("Reshape", [band, g.shape(1, number)], f"row_{width}"))
        first += width * number
    new = g.add("Mul", [g.add("Concat", rows, "row", axis=1), g.constant("emphasis", emphasis()[None])], "newest")
    v = g.add("Concat", [part("state", BANDS, size, "kept"), new], "patch", axis=1)

    h = part("state", size, size + count, "before")
    total = g.add("ReduceSum", [v, g.shape(1)], "total", keepdims=1)
    scale = g.add("Add", [g.add("ReduceSum", [h, g.shape(1)], "activity", keepdims=1), _tiny(g)], "activity_some")
    share = g.add("Mul", [g.add("Div", [h, scale], "shares"), g.number(1 - model.start)], "shares_kept")
    share = g.add("Add", [share, g.constant("even", np.array(model.start / count, np.float32))], "shares_begun")
    h = g.add("Mul", [share, total], "begun")
    for turn in range(model.updates):
        found = g.add("Add", [g.add("MatMul", [h, bases], f"model_{turn}"), _tiny(g)], f"model_some_{turn}")
        ratio = g.add("Div", [v, found], f"ratio_{turn}")
        h = g.add("Mul", [h, g.add("MatMul", [ratio, turned], f"factor_{turn}")], f"activations_{turn}")

    parts = []
    for source, name in enumerate(("voice", "music")):
        of_source = part(h, source * both, (source + 1) * both, f"{name}_activations")
        half_of = part(bases, source * both, (source + 1) * both, f"{name}_bases", 0)
        parts.append(g.add("MatMul", [of_source, half_of], name))
    whole = g.add("Add", [g.add("Add", parts, "both"), _tiny(g)], "both_some")
    waiting = part("state", size + count, 2 * size + count - BANDS, "waiting")
    nothing = g.constant("nothing", np.zeros((1, BANDS), np.float32))
    sums = g.add("Concat", [waiting, nothing], "waiting_all", axis=1)
    sums = g.add("Add", [sums, g.add("Div", [parts[0], whole], "masks")], "sums")
    kept = [v, h, part(sums, BANDS, size, "waiting_on")]
    rows_of = g.add("Reshape", [sums, g.shape(frames, BANDS)], "sums_of_frames")
    share = g.constant("patches", (1 / np.arange(frames, 0, -1, dtype=np.float32))[:, None])
    means = g.add("Mul", [rows_of, share], "means")
    newest = g.add("Gather", [means, g.constant("backwards", np.arange(frames)[::-1].astype(np.int64))], "newest_first")
    g.add("Gather", [newest, g.constant("band_of_bin", BAND_OF_BIN.astype(np.int64))], "mask", axis=1)
    g.add("Concat", kept, "state_out", axis=1)

    state = 2 * size + count - BANDS

    def value(name: str, width: int, height: int = 1) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [height, width])

    graph = helper.make_graph(
        g.nodes,
        "nmf",
        [value("magnitude", BINS), value("state", state)],
        [value("mask", BINS, frames), value("state_out", state)],
        list(g.constants.values()),
    )
    result = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="rtsep")
    result.ir_version = 8
    onnx.checker.check_model(result, full_check=True)
    return result.SerializeToString(), state


def _tiny(g: Graph) -> str:
    return g.constant("tiny", np.array(TINY, np.float32))
