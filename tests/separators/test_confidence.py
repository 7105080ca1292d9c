"""Nets whose mask is a probability (alpha, part), and nets that offer several look-aheads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rtsep.errors import ModelError, UsageError
from rtsep.separators import ort, registry
from rtsep.separators.base import Separator
from rtsep.separators.onnx import OnnxSeparator
from rtsep.spec import StreamSpec
from tests.conftest import need
from tests.separators import tiny
from tests.separators.test_compiled import call_it

SPEC = StreamSpec(48000, 1, tiny.HOP, tiny.WINDOW)
ROWS = 3
Masks = Callable[[Separator, np.ndarray], np.ndarray]


def build(folder: Path, more: str = f"lookaheads = {ROWS}\nconfidence = true\n", lookahead: int = 2) -> Path:
    """A net whose row n says the magnitude of n hops ago."""
    try:
        import onnx
    except ImportError as error:
        need(False, f"{error.name} is not installed")
    h, float32 = onnx.helper, onnx.TensorProto.FLOAT
    ends = {f"at_{i}": onnx.numpy_helper.from_array(np.array([i], np.int64), f"at_{i}") for i in (0, 1, ROWS)}
    nodes = [
        h.make_node("Reshape", ["state", "rows"], ["past"]),
        h.make_node("Concat", ["magnitude", "past"], ["all"], axis=0),
        h.make_node("Slice", ["all", "at_0", f"at_{ROWS}", "at_0"], ["mask"]),
        h.make_node("Reshape", ["mask", "flat"], ["state_out"]),
    ]
    shapes = [
        onnx.numpy_helper.from_array(np.array(v, np.int64), k) for k, v in (("rows", [ROWS, -1]), ("flat", [1, -1]))
    ]
    state = [1, ROWS * tiny.BINS]
    inputs = [h.make_tensor_value_info(k, float32, s) for k, s in (("magnitude", [1, tiny.BINS]), ("state", state))]
    outputs = [h.make_tensor_value_info(k, float32, s) for k, s in (("mask", [ROWS, tiny.BINS]), ("state_out", state))]
    graph = h.make_graph(nodes, "rows", inputs, outputs, [*ends.values(), *shapes])
    folder.mkdir(parents=True, exist_ok=True)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    tiny.write_file(folder, model.SerializeToString(), lookahead=lookahead)
    tiny.edit(folder, 'extend = "hold"\n', f'extend = "hold"\n{more}')
    tiny.edit(folder, "shape = [1, 65]", f"shape = [1, {ROWS * tiny.BINS}]")
    return folder


def in_python(separator: Separator, spectra: np.ndarray) -> np.ndarray:
    """Masks by `process`."""
    masks = np.full(spectra.shape, np.nan, np.float32)
    for spectrum, mask in zip(spectra, masks, strict=True):
        separator.process(spectrum, mask)
    return masks


def in_c(separator: Separator, spectra: np.ndarray) -> np.ndarray:
    """Masks by the compiled form."""
    compiled = separator.compiled()
    assert compiled is not None
    masks = np.full(spectra.shape, np.nan, np.float32)
    for spectrum, mask in zip(spectra, masks, strict=True):
        assert call_it(compiled.function, compiled.memory, spectrum, mask) == 0
    return masks


@pytest.fixture(params=[in_python, in_c])
def masks_of(request: pytest.FixtureRequest) -> Masks:
    """Both forms of a separator."""
    need(ort.library() is not None, "onnxruntime is not installed, or without its C library")
    return request.param


def probabilities(hops: int = 12) -> np.ndarray:
    """Tenths, so that a probability often lies on a threshold, as the spectra that the net answers them to."""
    draw = np.random.default_rng(4).integers(0, 11, (hops, 1, SPEC.bins)) / np.float32(10)
    draw[..., tiny.BINS :] = draw[..., tiny.BINS - 1 : tiny.BINS]  # above the net's bins its highest one is held
    return draw.astype(np.complex64)


def test_masks_are_those_of_their_definition(tmp_path: Path, masks_of: Masks) -> None:
    separator = registry.create(f"{build(tmp_path)}:0", device="cpu")
    separator.prepare(SPEC)
    spectra = probabilities()
    s = spectra.real.astype(np.float64)
    for alpha in (0.1, 0.3, 0.5, 0.8, 0.9):
        for part, wanted in (("vocals", s > alpha), ("non-vocals", ~(s < 1 - alpha))):
            for name, value in {"binary": 1, "alpha": alpha, "part": part}.items():
                separator.params.set(name, value)
            separator.reset()
            np.testing.assert_array_equal(masks_of(separator, spectra), wanted)
    separator.params.set("binary", "off")
    separator.reset()
    np.testing.assert_array_equal(masks_of(separator, spectra), spectra.real)  # the soft mask is S


def test_a_lookahead_is_chosen_by_name(tmp_path: Path, masks_of: Masks) -> None:
    folder, spectra = build(tmp_path / "rows"), probabilities()
    for name, hops in ((f"{folder}", 2), (f"{folder}:0", 0), (f"{folder}:1", 1)):
        separator = registry.create(name, device="cpu")
        assert separator.latency == hops * tiny.HOP
        separator.prepare(SPEC)
        masks = masks_of(separator, spectra)
        np.testing.assert_array_equal(masks[hops:], spectra.real[: len(spectra) - hops])
        assert not masks[:hops].any()


def test_a_folder_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    build(tmp_path / "models" / "deep")
    for name, hops in (("~/models/deep", 2), ("~/models/deep:1", 1)):
        assert registry.create(name, device="cpu").latency == hops * tiny.HOP
    with pytest.raises(ModelError, match="no model in ~no-such-user/deep"):
        registry.create("~no-such-user/deep")


def test_lookaheads_that_there_are_not(tmp_path: Path) -> None:
    folder = build(tmp_path / "rows")
    with pytest.raises(UsageError, match="looks ahead by 0 to 2 hops, not by 3"):
        registry.create(f"{folder}:3")
    with pytest.raises(UsageError, match="has one look-ahead, 0 hops"):
        registry.create(f"{tiny.build(tmp_path / 'one')}:1")
    with pytest.raises(ModelError, match="lookaheads 3 is not 1, or not above lookahead"):
        OnnxSeparator(build(tmp_path / "late", lookahead=3))
    tiny.edit(tiny.build_stereo(tmp_path / "two"), "lookahead = 0", "lookahead = 0\nlookaheads = 2")
    with pytest.raises(ModelError, match="needs features with one mask"):
        OnnxSeparator(tmp_path / "two")


def test_parameters(tmp_path: Path) -> None:
    names = list(OnnxSeparator(build(tmp_path)).params.params)
    assert names == ["strength", "binary", "alpha", "protect", "part"]
    with pytest.raises(UsageError, match="0.1 to 0.9"):
        OnnxSeparator(tmp_path).params.set("alpha", 0.05)
