"""Model folders with tiny nets, built without torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from tests.conftest import need

BINS = 65
WINDOW = 256
HOP = 64

MANIFEST = """\
format = 1
name = "tiny"
summary = "a net for tests"
license = "MIT"
[file]
name = "model.onnx"
sha256 = "{sha256}"
opset = 17
[transform]
samplerates = [44100, 48000]
window = 256
hop = 64
synthesis = 128
[features]
kind = "mid_magnitude"
bins = 65
[tensors]
input = "magnitude"
mask = "mask"
{vad}extend = "hold"
lookahead = {lookahead}
[[state]]
input = "state"
output = "state_out"
shape = [1, 65]
"""


def build(folder: Path, kind: str = "leaky", lookahead: int = 0, vad: bool = False, extra_output: bool = False) -> Path:
    """Write a model folder.

    Kinds, with x for the input: ``leaky`` (state' = (state + x) / 2, mask = state'), ``previous`` (mask = x of the call
    before), ``nan`` (NaN from the first x = 1 on), ``denormal`` (state' = x * 1e-30, mask = state * 1e30),
    ``root`` (mask = state' = sqrt(1/2 - mean of x) + 0 * state: NaN from the first loud x on), ``refuse`` (mask = 1/4
    while the mean of x is below 1, 1/2 below 2, from then on ONNX Runtime refuses to run), ``count`` (mask = runs so
    far / 64, whatever x). The mean of x is the voice probability.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        need(False, f"{error.name} is not installed")
    h, float32 = onnx.helper, onnx.TensorProto.FLOAT

    def number(name: str, value: float) -> onnx.TensorProto:
        return onnx.numpy_helper.from_array(np.full((1, 1), value, np.float32), name)

    constants = [
        number("half", 0.5),
        number("one", 1.0),
        number("inf", np.inf),
        number("small", 1e-30),
        number("large", 1e30),
        number("zero", 0.0),
        number("part", 1 / 64),
        onnx.numpy_helper.from_array(np.array([0.25, 0.5], np.float32), "table"),
    ]
    nodes = {
        "leaky": [
            h.make_node("Add", ["state", "magnitude"], ["sum"]),
            h.make_node("Mul", ["sum", "half"], ["state_out"]),
            h.make_node("Identity", ["state_out"], ["mask"]),
        ],
        "previous": [
            h.make_node("Identity", ["magnitude"], ["state_out"]),
            h.make_node("Identity", ["state"], ["mask"]),
        ],
        "nan": [
            h.make_node("Sub", ["magnitude", "one"], ["less"]),
            h.make_node("Neg", ["less"], ["more"]),
            h.make_node("Abs", ["more"], ["far"]),
            h.make_node("Mul", ["far", "inf"], ["wild"]),
            h.make_node("Neg", ["wild"], ["down"]),
            h.make_node("Exp", ["down"], ["null"]),
            h.make_node("Add", ["state", "null"], ["state_out"]),
            h.make_node("Add", ["state_out", "half"], ["mask"]),
        ],
        "denormal": [
            h.make_node("Mul", ["magnitude", "small"], ["state_out"]),
            h.make_node("Mul", ["state", "large"], ["mask"]),
        ],
        "root": [
            h.make_node("ReduceMean", ["magnitude"], ["mean"], axes=[1], keepdims=1),
            h.make_node("Sub", ["half", "mean"], ["rest"]),
            h.make_node("Sqrt", ["rest"], ["root"]),
            h.make_node("Mul", ["state", "zero"], ["nothing"]),
            h.make_node("Add", ["nothing", "root"], ["state_out"]),
            h.make_node("Identity", ["state_out"], ["mask"]),
        ],
        "count": [
            h.make_node("Mul", ["magnitude", "zero"], ["nothing"]),
            h.make_node("Add", ["state", "one"], ["next"]),
            h.make_node("Add", ["next", "nothing"], ["state_out"]),
            h.make_node("Mul", ["state_out", "part"], ["mask"]),
        ],
        "refuse": [
            h.make_node("ReduceMean", ["magnitude"], ["mean"], axes=[1], keepdims=1),
            h.make_node("Cast", ["mean"], ["row"], to=onnx.TensorProto.INT64),
            h.make_node("Gather", ["table", "row"], ["share"]),
            h.make_node("Mul", ["state", "zero"], ["state_out"]),
            h.make_node("Add", ["state_out", "share"], ["mask"]),
        ],
    }[kind]
    outputs = [h.make_tensor_value_info(name, float32, [1, BINS]) for name in ("mask", "state_out")]
    if vad:
        nodes.append(h.make_node("ReduceMean", ["magnitude"], ["vad"], axes=[1], keepdims=1))
        outputs.append(h.make_tensor_value_info("vad", float32, [1, 1]))
    if extra_output:
        nodes.append(h.make_node("Identity", ["magnitude"], ["surplus"]))
        outputs.append(h.make_tensor_value_info("surplus", float32, [1, BINS]))
    inputs = [h.make_tensor_value_info(name, float32, [1, BINS]) for name in ("magnitude", "state")]
    graph = h.make_graph(nodes, "tiny", inputs, outputs, constants)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder, model.SerializeToString(), 'vad = "vad"\n' if vad else "", lookahead)
    return folder


def build_stereo(folder: Path, mid: float = 0.75, side: float = 0.25) -> Path:
    """Write a model folder whose masks are `mid` for the middle and `side` for the side, whatever it sees."""
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        need(False, f"{error.name} is not installed")
    h, float32 = onnx.helper, onnx.TensorProto.FLOAT
    masks = np.repeat(np.array([[mid], [side]], np.float32), BINS, axis=1)
    constants = [
        onnx.numpy_helper.from_array(np.zeros((1, 1), np.float32), "zero"),
        onnx.numpy_helper.from_array(masks, "masks"),
        onnx.numpy_helper.from_array(np.array([2, 2], np.int64), "halves"),
    ]
    nodes = [
        h.make_node("Mul", ["magnitude", "zero"], ["nothing"]),
        h.make_node("Split", ["nothing", "halves"], ["none", "rest"], axis=0),
        h.make_node("Add", ["none", "masks"], ["mask"]),
        h.make_node("Identity", ["state"], ["state_out"]),
    ]
    inputs = [
        h.make_tensor_value_info(name, float32, shape)
        for name, shape in (("magnitude", [4, BINS]), ("state", [1, BINS]))
    ]
    outputs = [
        h.make_tensor_value_info(name, float32, shape)
        for name, shape in (("mask", [2, BINS]), ("state_out", [1, BINS]))
    ]
    graph = h.make_graph(nodes, "tiny", inputs, outputs, constants)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder, h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8).SerializeToString())
    edit(folder, "mid_magnitude", "stereo_field")
    edit(folder, 'mask = "mask"', 'mask = "mask"\nmask_kind = "mid_side"')
    return folder


def build_stems(folder: Path, drums: float = 0.5, bass: float = 0.25, wanted: bool = False) -> Path:
    """Write a model folder with a mask of x, and shares of ``drums * x`` and ``bass`` of what it leaves; the mean of x
    is the voice probability. `wanted`: with an input that both shares are multiplied by.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        need(False, f"{error.name} is not installed")
    h, float32 = onnx.helper, onnx.TensorProto.FLOAT
    rows = np.repeat(np.array([[1.0], [drums], [0.0]], np.float32), BINS, axis=1)
    more = np.repeat(np.array([[0.0], [0.0], [bass]], np.float32), BINS, axis=1)
    constants = [onnx.numpy_helper.from_array(rows, "rows"), onnx.numpy_helper.from_array(more, "more")]
    constants.append(onnx.numpy_helper.from_array(np.ones(1, np.float32), "one"))
    switch = [h.make_node("Concat", ["one", "wanted", "wanted"], ["on"], axis=0)]
    switch += [h.make_node("Reshape", ["on", "column"], ["switch"]), h.make_node("Mul", ["all", "switch"], ["mask"])]
    if wanted:
        constants.append(onnx.numpy_helper.from_array(np.array([3, 1], np.int64), "column"))
    nodes = [
        h.make_node("Mul", ["magnitude", "rows"], ["scaled"]),
        h.make_node("Add", ["scaled", "more"], ["all" if wanted else "mask"]),
        *(switch if wanted else []),
        h.make_node("ReduceMean", ["magnitude"], ["vad"], axes=[1], keepdims=1),
        h.make_node("Identity", ["state"], ["state_out"]),
    ]
    inputs = [h.make_tensor_value_info(name, float32, [1, BINS]) for name in ("magnitude", "state")]
    if wanted:
        inputs.append(h.make_tensor_value_info("wanted", float32, [1]))
    shapes = (("mask", [3, BINS]), ("vad", [1, 1]), ("state_out", [1, BINS]))
    outputs = [h.make_tensor_value_info(name, float32, shape) for name, shape in shapes]
    graph = h.make_graph(nodes, "tiny", inputs, outputs, constants)
    folder.mkdir(parents=True, exist_ok=True)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    write_file(folder, model.SerializeToString(), 'vad = "vad"\n')
    more = '\nstems_wanted = "wanted"' if wanted else ""
    edit(folder, 'mask = "mask"', f'mask = "mask"\nstems = ["drums", "bass"]{more}')
    return folder


def write_file(folder: Path, data: bytes, vad: str = "", lookahead: int = 0) -> None:
    """Write a net's file with the manifest that fits it."""
    (folder / "model.onnx").write_bytes(data)
    text = MANIFEST.format(sha256=hashlib.sha256(data).hexdigest(), vad=vad, lookahead=lookahead)
    (folder / "manifest.toml").write_text(text)


def edit(folder: Path, old: str, new: str) -> None:
    """Replace a part of the manifest that must be there."""
    path = folder / "manifest.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
