"""The compiled form of separators: the same bits as their Python form; nets through ONNX Runtime's C library."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from rtsep.io.demo import demo_stems
from rtsep.native import call
from rtsep.separators import kernels, ort, ort_session, registry
from rtsep.separators.base import Mask, Separator, Spectrum
from rtsep.separators.compiled_net import CompiledNet
from rtsep.separators.midside import MidSide
from rtsep.separators.session import Net
from rtsep.spec import StreamSpec
from tests.conftest import need
from tests.separators import tiny
from tests.separators.test_models import MODELS
from tests.separators.test_models import NAMES as SHIPPED

pytestmark = pytest.mark.realtime

NETS = ["tiny", "turns", "stereo", "stems", *SHIPPED]


@njit
def call_it(function, memory, spectrum, mask):  # type: ignore[no-untyped-def]
    return call(function, memory, spectrum.ctypes.data, mask.ctypes.data)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str, int], tuple[Separator, StreamSpec]]:
    """A prepared separator of a name, for so many channels."""
    has_library = ort.library() is not None

    def made(name: str, channels: int) -> tuple[Separator, StreamSpec]:
        path, spec = name, StreamSpec(48000, channels, tiny.HOP, tiny.WINDOW)
        if name in NETS:
            need(has_library, "onnxruntime is not installed, or without its C library")
        if name == "tiny":
            path = str(tiny.build(tmp_path / name, vad=True))
        elif name == "turns":
            tiny.edit(tiny.build(tmp_path / name), "lookahead = 0", "lookahead = 0\nturns = 3")
            path = str(tmp_path / name)
        elif name == "stems":
            path = str(tiny.build_stems(tmp_path / name))
        elif name == "stereo":
            path = str(tiny.build_stereo(tmp_path / name))
        elif name in SHIPPED:
            path = str(MODELS / name)
        separator = registry.create(path, device="cpu")
        if name in SHIPPED:
            spec = StreamSpec(48000, channels, separator.required_hop(48000) or 0)
        separator.prepare(spec)
        return separator, spec

    return made


@cache
def sung_once(samplerate: int) -> np.ndarray:
    """The voice of the demo song, mono."""
    return demo_stems(samplerate)[0][0]


def sung(spec: StreamSpec, hops: int) -> np.ndarray:
    """Spectra (hops, bins) of the demo song's voice from its loudest place on, for nets to hear one."""
    voice = sung_once(spec.samplerate)
    window = 2 * (spec.bins - 1)
    start = min(int(np.abs(voice).argmax()), len(voice) - window - hops * spec.hop)
    frames = np.lib.stride_tricks.sliding_window_view(voice[start:], window)[: hops * spec.hop : spec.hop]
    return np.asarray(np.fft.rfft(frames * np.hanning(window)))


def spectra_of(spec: StreamSpec, hops: int = 60) -> np.ndarray:
    draw = np.random.default_rng(7)
    shape = (hops, spec.channels, spec.bins)
    spectra = 0.4 * draw.standard_normal((hops, 1, spec.bins)) + 0.2 * draw.standard_normal(shape) + 0.3j
    spectra += sung(spec, hops)[:, None]
    spectra[hops // 3 : hops // 2] *= 0.1  # the voice gate closes
    return spectra.astype(np.complex64)


def run(separator: Separator, spectra: np.ndarray, one: Callable[[Spectrum, Mask], object]) -> np.ndarray:
    """Masks of spectra, while all parameters go from their lower to their upper ends."""
    params = separator.params
    for name, param in params.params.items():
        params.set(name, param.low)
    separator.reset()
    hops, channels, bins = spectra.shape
    masks = np.full((hops, separator.mask_rows(channels), bins), np.nan, np.float32)
    for hop, (spectrum, mask) in enumerate(zip(spectra, masks, strict=True)):
        if hop == len(spectra) // 4:
            for name, param in params.params.items():
                params.set(name, param.high)
        one(spectrum, mask)
    return masks


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", ["midside", "adress", "band", "repet", *NETS])
def test_the_same_bits_as_in_python(make: Callable, name: str, channels: int) -> None:
    separator, spec = make(name, channels)
    compiled = separator.compiled()
    assert compiled is not None
    spectra = spectra_of(spec)
    wanted = run(separator, spectra, separator.process)
    found = run(separator, spectra, lambda *arrays: call_it(compiled.function, compiled.memory, *arrays))
    assert np.ptp(wanted) > 0.1
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", NETS)
def test_the_c_library_gives_the_same_bits_as_the_python_package(
    make: Callable, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gru, spec = make(name, 2)
    monkeypatch.setattr(ort_session, "operator", lambda _: None)  # ours rounds otherwise
    separator, _ = make(name, 2)
    assert isinstance(separator._net, CompiledNet)
    monkeypatch.setattr(ort, "library", lambda: None)
    other, _ = make(name, 2)
    assert isinstance(other._net, Net)
    spectra = spectra_of(spec, 200)
    wanted = run(other, spectra, other.process)
    np.testing.assert_array_equal(run(separator, spectra, separator.process), wanted)
    np.testing.assert_allclose(run(with_gru, spectra, with_gru.process), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("library", [True, False])
def test_states_take_turns(tmp_path: Path, library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    need(ort.library() is not None, "onnxruntime is not installed, or without its C library")
    if not library:
        monkeypatch.setattr(ort, "library", lambda: None)
    folder = tiny.build(tmp_path, "previous")  # the mask is the input of the call before
    tiny.edit(folder, "lookahead = 0", "lookahead = 0\nturns = 3")
    separator = registry.create(str(folder), device="cpu")
    separator.prepare(StreamSpec(48000, 1, tiny.HOP, tiny.WINDOW))
    mask = np.zeros((1, tiny.WINDOW // 2 + 1), np.float32)
    for _ in range(2):
        found = []
        for hop in range(11):
            separator.process(np.full(mask.shape, (hop + 1) / 16, np.complex64), mask)
            found.append(float(mask[0, 0]) * 16)
        np.testing.assert_allclose(found, [0, 0, 0, *range(1, 9)], atol=1e-6)
        separator.reset()


def test_tensors_are_described_as_by_the_python_package() -> None:
    onnx = pytest.importorskip("onnx")
    package = pytest.importorskip("onnxruntime")
    library = ort.library()
    need(library is not None, "onnxruntime has no C library")
    h, kinds = onnx.helper, onnx.TensorProto
    inputs = [
        h.make_tensor_value_info("a", kinds.FLOAT, ["batch", 3, None]),
        h.make_tensor_value_info("b", kinds.INT64, []),
        h.make_tensor_value_info("c", kinds.FLOAT16, [2]),
        h.make_tensor_value_info("d", kinds.BOOL, [1, 1]),
    ]
    outputs = [
        h.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("x", kinds.FLOAT, ["batch", 3, None]),
            ("y", kinds.DOUBLE, []),
            ("z", kinds.UINT8, [2]),
        )
    ]
    nodes = [
        h.make_node("Identity", ["a"], ["x"]),
        h.make_node("Cast", ["b"], ["y"], to=kinds.DOUBLE),
        h.make_node("Cast", ["c"], ["z"], to=kinds.UINT8),
    ]
    graph = h.make_graph(nodes, "types", inputs, outputs)
    data = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8).SerializeToString()
    session, other = (
        ort_session.Session(library, data),
        package.InferenceSession(data, providers=["CPUExecutionProvider"]),
    )
    for found, wanted in ((session.get_inputs(), other.get_inputs()), (session.get_outputs(), other.get_outputs())):
        assert [(t.name, t.type, list(t.shape)) for t in found] == [(t.name, t.type, t.shape) for t in wanted]
    assert library.version == package.__version__
    assert library.providers() == package.get_available_providers()


def test_the_python_package_is_not_loaded(tmp_path: Path) -> None:
    need(ort.library() is not None, "onnxruntime is not installed, or without its C library")
    folder = tiny.build(tmp_path)
    tiny.edit(folder, "window = 256", "window = 2048")
    code = (
        "import sys, numpy; from rtsep.separators.registry import create; from rtsep.spec import StreamSpec; "
        f"create({str(folder)!r}).prepare(StreamSpec(48000, 2, {tiny.HOP})); "
        "print('onnxruntime' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("content", ["nothing", "text", "another library"])
def test_no_c_library_that_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    folder = tmp_path / "onnxruntime"
    (folder / "capi").mkdir(parents=True)
    (folder / "__init__.py").touch()
    file = folder / "capi" / "libonnxruntime.so.1.18.0"
    if content == "text":
        file.write_text("not a library")
    elif content == "another library":
        shutil.copy(np._core._multiarray_umath.__file__, file)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    assert ort.library.__wrapped__() is None


def test_parameters_move_as_in_python() -> None:
    plain, other = MidSide(), MidSide()
    for separator in (plain, other):
        separator.params.prepare(7.3)
        for name, param in separator.params.params.items():
            separator.params.set(name, param.low if name == "treble" else param.high)
    steps = 0
    while plain.params.ramp():
        kernels.ramp(other.params.state)
        np.testing.assert_array_equal(other.params.values, plain.params.values)
        steps += 1
    assert steps == 7
    kernels.ramp(other.params.state)
    np.testing.assert_array_equal(other.params.values, plain.params.values)


def test_a_class_that_replaces_process_does_not_inherit_the_compiled_form() -> None:
    class Other(MidSide):
        def process(self, spectrum: Spectrum, mask: Mask) -> None:
            mask.fill(0.5)

    class Renamed(MidSide):
        name = "renamed"

    spec = StreamSpec(48000, 2, 256)
    other, renamed = Other(), Renamed()
    other.prepare(spec)
    renamed.prepare(spec)
    assert other.compiled() is None
    assert renamed.compiled() is not None
