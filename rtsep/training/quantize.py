"""Dense layers of an exported net as 8-bit integers: the values that come in are scaled anew at every hop."""

from __future__ import annotations

import logging
import math
import tempfile
from pathlib import Path

import onnx

DENSE = ["Gemm", "MatMul"]
LEAST = 1 << 16  # weights of a layer that is worth it: smaller ones take longer to scale than to compute


def quantized(model: onnx.ModelProto) -> bytes:
    """The file of the net with int8 dense layers; convolutions and small layers stay float32, which is faster.

    Weights have 7 bits, so that the products do not saturate on processors without VNNI.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    sizes = {i.name: math.prod(i.dims) for i in model.graph.initializer}
    small = [
        node.name
        for node in model.graph.node
        if node.op_type in DENSE and all(sizes.get(name, 0) < LEAST for name in node.input)
    ]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends preparations that change nothing here
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
            onnx.save(model, str(source))
            quantize_dynamic(
                source,
                target,
                op_types_to_quantize=DENSE,
                nodes_to_exclude=small,
                weight_type=QuantType.QInt8,
                reduce_range=True,
                per_channel=True,
            )
            return target.read_bytes()
    finally:
        root.setLevel(level)
