"""Our own operator GRU against ONNX Runtime's, and what is left to that one."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit

from rtsep.native import call
from rtsep.separators import gru, ort, ort_session
from rtsep.separators.ort_gru import operator
from rtsep.separators.ort_session import Session
from tests.conftest import need

onnx = pytest.importorskip("onnx")
package = pytest.importorskip("onnxruntime")
h, FLOAT = onnx.helper, onnx.TensorProto.FLOAT


def net(
    bands: int | str = 53,
    inputs: int = 64,
    units: int = gru.UNITS,
    ways: int = 2,
    constant: bool = True,
    first: bool = False,
    last: bool = False,
    **attributes: Any,
) -> bytes:
    """A net of one GRU; weights may be an input, the first states other than zeros, the last ones an output."""
    draw = np.random.default_rng(3)
    shapes = {"w": (ways, 3 * units, inputs), "r": (ways, 3 * units, units), "b": (ways, 6 * units)}
    weights = {name: 0.3 * draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    given = {"x": [bands, 1, inputs]} | ({} if constant else {"w": shapes["w"]})
    kept = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items() if name not in given]
    names = ["x", "w", "r", "b"]
    if first:
        kept.append(onnx.numpy_helper.from_array(np.ones((ways, 1, units), np.float32), "h"))
        names += ["", "h"]
    settings = {"direction": "bidirectional", "hidden_size": units, "linear_before_reset": 1} | attributes
    graph = h.make_graph(
        [h.make_node("GRU", names, ["y", "last"] if last else ["y"], **settings)],
        "gru",
        [h.make_tensor_value_info(name, FLOAT, shape) for name, shape in given.items()],
        [h.make_tensor_value_info("y", FLOAT, [bands, ways, 1, units])],
        kept,
    )
    made: bytes = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return made


@pytest.fixture
def library() -> ort.Library:
    found = ort.library()
    need(found is not None, "onnxruntime has no C library")
    assert found is not None
    return found


def kernels(library: ort.Library) -> int:
    found = operator(library)
    return 0 if found is None else len(found._kernels)


def player(library: ort.Library, data: bytes) -> Callable[..., np.ndarray]:
    """A session, as a function from its inputs to its output."""
    session = Session(library, data)

    def play(**given: np.ndarray) -> np.ndarray:
        bands = len(given["x"])
        ways, units = session.get_outputs()[0].shape[1], session.get_outputs()[0].shape[3]
        out = np.full((bands, ways, 1, units), 7.0, np.float32)  # type: ignore[arg-type]
        values = {name: session.tensor(value) for name, value in given.items()}
        binding = session.bind(values, {"y": session.tensor(out)})
        assert call_it(library.run, session.address, binding) == 0
        return out

    return play


@njit
def call_it(function, session, binding):  # type: ignore[no-untyped-def]
    return call(function, session, 0, binding)


def sound(bands: int = 53, inputs: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((bands, 1, inputs)).astype(np.float32)


def stock(data: bytes, **given: np.ndarray) -> np.ndarray:
    session = package.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, given)[0])


@pytest.mark.parametrize("bands, inputs", [(53, 64), (1, 4), (3, 8), (4, 32), (30, 100)])
def test_as_onnx_runtime_does_it(library: ort.Library, bands: int, inputs: int) -> None:
    data, before = net(bands, inputs), kernels(library)
    play = player(library, data)
    assert kernels(library) == before + 1
    for seed in range(3):  # nothing is left of the run before
        x = sound(bands, inputs, seed)
        np.testing.assert_allclose(play(x=x), stock(data, x=x), rtol=0, atol=2e-6)


def test_large_numbers(library: ort.Library) -> None:
    data, x = net(), sound()
    play = player(library, data)
    np.testing.assert_allclose(play(x=100 * x), stock(data, x=100 * x), rtol=0, atol=1e-3)  # sums of 300, rounded
    assert np.abs(play(x=np.float32(1e30) * x)).max() < 1 + 1e-6


def test_what_is_no_number_is_gone_with_its_frame(library: ort.Library) -> None:
    data, x = net(), sound()
    play, wanted = player(library, data), stock(data, x=x)
    for bad in (np.nan, np.inf):
        play(x=np.where(np.arange(64) == 5, np.float32(bad), x))
        np.testing.assert_allclose(play(x=x), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"units": 16},
        {"inputs": 6},
        {"ways": 1, "direction": "forward"},
        {"ways": 1, "direction": "reverse"},
        {"linear_before_reset": 0},
        {"clip": 0.1},
        {"activations": ["HardSigmoid", "Tanh"] * 2},
        {"first": True},
        {"last": True},
        {"constant": False},
        {"bands": "any"},
    ],
    ids=str,
)
def test_other_kinds_are_left_to_onnx_runtime(library: ort.Library, settings: dict[str, Any]) -> None:
    data, before = net(**settings), kernels(library)
    play = player(library, data)
    assert kernels(library) == before
    given = {"x": sound(inputs=settings.get("inputs", 64))}
    if "constant" in settings:
        given["w"] = 0.3 * np.random.default_rng(1).standard_normal((2, 96, 64)).astype(np.float32)
    np.testing.assert_array_equal(play(**given), stock(data, **given))


def test_a_net_with_both_kinds_is_left_to_onnx_runtime(library: ort.Library) -> None:
    one, other = onnx.load_from_string(net()), onnx.load_from_string(net(linear_before_reset=0))
    both = onnx.compose.merge_models(
        onnx.compose.add_prefix(one, "a_"), onnx.compose.add_prefix(other, "b_"), io_map=[]
    )
    before = kernels(library)
    session = Session(library, both.SerializeToString())
    assert len(session.get_outputs()) == 2
    assert kernels(library) == before


def test_kernels_go_with_their_session(library: ort.Library) -> None:
    before = kernels(library)
    session = Session(library, net())
    assert kernels(library) == before + 1
    del session
    gc.collect()
    assert kernels(library) == before


def test_without_a_place_for_operators(library: ort.Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort_session, "operator", lambda _: None)
    data, x = net(), sound()
    np.testing.assert_array_equal(player(library, data)(x=x), stock(data, x=x))


def test_what_is_no_net_is_refused(library: ort.Library) -> None:
    with pytest.raises(RuntimeError, match="[Pp]rotobuf|[Mm]odel"):
        Session(library, b"GRU, but no net")
