"""The host of neural separators, against nets of two or three operators."""

from __future__ import annotations

import builtins
import threading
from pathlib import Path

import numpy as np
import pytest

from rtsep.engine.chain import Chain
from rtsep.errors import ModelError, UsageError
from rtsep.separators import features, ort
from rtsep.separators.compiled_net import CompiledNet
from rtsep.separators.onnx import OnnxSeparator
from rtsep.separators.session import Net
from rtsep.spec import StreamSpec
from tests.conftest import need
from tests.separators import tiny

pytestmark = pytest.mark.usefixtures("binding")

SPEC = StreamSpec(48000, 2, tiny.HOP, tiny.WINDOW)


@pytest.fixture(params=["c", "python"])
def binding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the net is run: through ONNX Runtime's C library, or through its Python module for want of that."""
    if request.param == "python":
        monkeypatch.setattr(ort, "library", lambda: None)
    else:
        need(ort.library() is not None, "onnxruntime is not installed, or without its C library")
    return str(request.param)


@pytest.fixture
def cuda(binding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime that says that it has CUDA."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    library = ort.library()
    if library is not None:
        monkeypatch.setattr(library, "providers", lambda: ["CUDAExecutionProvider"])


def opened(folder: Path, spec: StreamSpec = SPEC, **options: object) -> OnnxSeparator:
    separator = OnnxSeparator(folder, **{"device": "cpu", **options})
    separator.prepare(spec)
    return separator


def run(separator: OnnxSeparator, spectra: np.ndarray) -> np.ndarray:
    """Masks of spectra (hops, channels, bins), one by one."""
    masks = np.empty(spectra.shape, np.float32)
    for spectrum, mask in zip(spectra, masks, strict=True):
        separator.process(spectrum, mask)
    return masks


def noise(hops: int, channels: int = 2, level: float = 0.3) -> np.ndarray:
    draw = np.random.default_rng(1)
    shape = (hops, channels, tiny.WINDOW // 2 + 1)
    return (level * (draw.standard_normal(shape) + 1j * draw.standard_normal(shape))).astype(np.complex64)


@pytest.mark.parametrize("channels", [1, 2])
def test_state_is_carried_and_features_are_the_mid_magnitude(tmp_path: Path, channels: int) -> None:
    separator = opened(tiny.build(tmp_path), StreamSpec(48000, channels, tiny.HOP, tiny.WINDOW))
    spectra = noise(20, channels)
    masks = run(separator, spectra)
    state = np.zeros(tiny.BINS)
    for spectrum, mask in zip(spectra, masks, strict=True):
        state = 0.5 * (state + np.abs(spectrum.mean(axis=0))[: tiny.BINS])
        expected = np.concatenate([state, np.full(mask.shape[1] - tiny.BINS, state[-1])])
        for row in mask:
            np.testing.assert_allclose(row, np.clip(expected, 0, 1), atol=1e-6)


def test_reset_forgets_everything(tmp_path: Path) -> None:
    separator = opened(tiny.build(tmp_path, vad=True))
    spectra = noise(21, level=0.6)
    first = run(separator, spectra)
    separator.reset()
    np.testing.assert_array_equal(run(separator, spectra), first)
    separator.prepare(SPEC)
    np.testing.assert_array_equal(run(separator, spectra), first)


@pytest.mark.parametrize("binding", ["python"], indirect=True)
def test_staged_buffers_give_the_same_masks(tmp_path: Path) -> None:
    """The path of a GPU (input copied to it, outputs copied back), on the CPU."""
    plain, staged = (opened(tiny.build(tmp_path / name)) for name in "ab")
    assert isinstance(staged._net, Net)
    staged._net._input = staged._net._tensor(staged._net.input.copy())
    staged._net._outputs = [(name, host, staged._net._tensor(host.copy())) for name, host, _ in staged._net._outputs]
    staged._net._runs = [staged._net._bind(staged.manifest, parity) for parity in range(2)]
    staged._net._staged = staged._net._copied_back = True
    spectra = noise(10)
    np.testing.assert_array_equal(run(staged, spectra), run(plain, spectra))


@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("runs", [0, 1, 2, 5])
def test_the_state_begins_as_so_many_silent_runs_leave_it(tmp_path: Path, runs: int, turns: int) -> None:
    folder = tiny.build(tmp_path, "count")
    tiny.edit(folder, "shape = [1, 65]", f"shape = [1, 65]\nsilent_runs = {runs}")
    tiny.edit(folder, "lookahead = 0", f"lookahead = 0\nturns = {turns}")
    separator = opened(folder)
    for _ in range(2):
        masks = run(separator, noise(3 * turns))
        np.testing.assert_array_equal(64 * masks[:, 0, 0], runs + 1 + np.arange(3 * turns) // turns)
        separator.reset()


def test_lookahead_is_reported_in_frames(tmp_path: Path) -> None:
    separator = opened(tiny.build(tmp_path, "previous", lookahead=1))
    assert separator.latency == tiny.HOP
    spectra = noise(5)
    masks = run(separator, spectra)
    wanted = np.clip(np.abs(spectra.mean(axis=1))[:-1, : tiny.BINS], 0, 1)
    np.testing.assert_allclose(masks[1:, 0, : tiny.BINS], wanted, atol=1e-6)


def test_nan_stays_in_the_mask_and_leaves_with_reset(tmp_path: Path) -> None:
    separator = opened(tiny.build(tmp_path, "nan"))
    plain = np.zeros((1, 2, tiny.WINDOW // 2 + 1), np.complex64)
    assert np.isfinite(run(separator, plain)).all()
    assert np.isnan(run(separator, plain + 1)).any()
    assert np.isnan(run(separator, plain)).any(), "the net's state holds NaN by now"
    for name in ("binary", "strength", "protect"):
        separator.params.set(name, 1)
        separator.params.settle()
        assert np.isnan(run(separator, plain)).any()
    separator.reset()
    assert np.isfinite(run(separator, plain)).all()


def test_denormals_are_zero_in_any_thread(tmp_path: Path) -> None:
    """A thread that is older than the first session does not inherit its setting."""
    found = []
    go = threading.Event()

    def work() -> None:
        go.wait()
        found.append(run(separator, np.full((3, 2, tiny.WINDOW // 2 + 1), 1e-10, np.complex64)))

    folder = tiny.build(tmp_path, "denormal")
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    separator = opened(folder)
    go.set()
    thread.join()
    assert (found[0] == 0).all()


def test_voice_gate(tmp_path: Path) -> None:
    separator = opened(tiny.build(tmp_path, vad=True))
    hop_ms = SPEC.hop_ms
    separator.params.set("gate_attack_ms", 4 * hop_ms)
    separator.params.set("gate_release_ms", 10 * hop_ms)
    separator.params.set("vad_threshold", 0.5)
    separator.reset()
    loud = np.full((6, 2, tiny.WINDOW // 2 + 1), 0.9, np.complex64)
    soft = np.full((20, 2, tiny.WINDOW // 2 + 1), 0.4, np.complex64)
    sound = np.concatenate([loud, soft])
    gated = run(separator, sound)[:, 0, 0]
    separator.params.set("vad_gate", "off")
    separator.reset()
    free = run(separator, sound)[:, 0, 0]
    np.testing.assert_allclose(gated[:6] / free[:6], [0.25, 0.5, 0.75, 1, 1, 1], rtol=1e-5)
    np.testing.assert_allclose(gated[6:] / free[6:], np.maximum(0, 1 - 0.1 * np.arange(1, 21)), atol=1e-5)


def test_binary_and_strength(tmp_path: Path) -> None:
    separator = opened(tiny.build(tmp_path))
    spectra = noise(10)
    soft = run(separator, spectra)
    separator.params.set("strength", 2)
    separator.reset()
    np.testing.assert_allclose(run(separator, spectra), np.sqrt(soft), atol=1e-6)
    separator.params.set("binary", "on")
    separator.params.set("threshold", 0.3)
    separator.reset()
    np.testing.assert_array_equal(run(separator, spectra), soft > 0.3)


def test_protect_smooths_the_mask_and_keeps_it_open(tmp_path: Path) -> None:
    separator = opened(tiny.build(tmp_path, "previous"))
    loud = np.full((200, 2, tiny.WINDOW // 2 + 1), 1.0, np.complex64)
    sound = np.concatenate([loud, 0 * loud])
    separator.params.set("protect", 0.5)
    separator.reset()
    found = run(separator, sound)[:, 0, 0]
    keep, floor, wanted, held = 0.5 * np.exp(-SPEC.hop_ms / 40), 0.5 * 0.03, [], 0.0
    for hop in range(400):
        held += (1 - keep) * (float(0 < hop <= 200) - held)
        wanted.append(floor + (1 - floor) * held)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    separator.params.set("protect", 0)
    separator.reset()
    np.testing.assert_array_equal(run(separator, sound)[:, 0, 0], (np.arange(400) > 0) & (np.arange(400) <= 200))


def test_defaults_of_the_manifest(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path)
    tiny.edit(folder, "[[state]]", '[[parameters]]\nname = "threshold"\ndefault = 0.7\n[[state]]')
    assert OnnxSeparator(folder).params.get("threshold") == 0.7
    tiny.edit(folder, "0.7", "7.0")
    with pytest.raises(ModelError, match=r"threshold=7.0 is not possible: 0 to 1"):
        OnnxSeparator(folder)
    tiny.edit(folder, '"threshold"', '"treshold"')
    with pytest.raises(ModelError, match="unknown parameter 'treshold': did you mean 'threshold'"):
        OnnxSeparator(folder)


def test_what_the_net_needs_of_the_stream(tmp_path: Path) -> None:
    separator = OnnxSeparator(tiny.build(tmp_path))
    assert separator.required_hop(44100) == tiny.HOP
    assert separator.supported_samplerates() == (44100, 48000)
    with pytest.raises(UsageError, match="tiny does not run at samplerate 96000: 44100 or 48000"):
        separator.prepare(StreamSpec(96000, 2, tiny.HOP, tiny.WINDOW))
    with pytest.raises(UsageError, match="does not run at hop 128: 64"):
        separator.prepare(StreamSpec(48000, 2, 128, tiny.WINDOW))


def test_damaged_files(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path)
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(data[:-20])
    with pytest.raises(ModelError, match="damaged or another file: its SHA-256 is"):
        opened(folder)
    tiny.write_file(folder, data[:-20])
    with pytest.raises(ModelError, match=r"onnxruntime .* refuses model.onnx \(opset 17\)"):
        opened(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match="model.onnx cannot be read"):
        opened(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('mask = "mask"', 'mask = "maske"', "output 'mask' of model.onnx is not named in the manifest"),
        ('input = "state"', 'input = "memory"', "input 'state' of model.onnx is not named in the manifest"),
        ("shape = [1, 65]", "shape = [1, 64]", r"input 'state' must have shape \(1, 64\), has \(1, 65\)"),
        ("bins = 65", "bins = 66", r"input 'magnitude' must have shape \(1, 66\), has \(1, 65\)"),
        ('extend = "hold"', 'vad = "vad"\nextend = "hold"', r"output 'vad' of the manifest is not in model.onnx"),
    ],
)
def test_tensors_that_do_not_fit_the_manifest(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = tiny.build(tmp_path)
    tiny.edit(folder, old, new)
    with pytest.raises(ModelError, match=message):
        opened(folder)


def test_unknown_tensor_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="output 'surplus' of model.onnx is not named in the manifest"):
        opened(tiny.build(tmp_path, extra_output=True))


def test_cuda_that_is_not_there_is_one_note(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path)
    import onnxruntime

    need("CUDAExecutionProvider" not in onnxruntime.get_available_providers(), "this ONNX Runtime has CUDA")
    separator = opened(folder, device="cuda")
    assert separator.runs_on == "cpu"
    assert len(separator.notes) == 1
    assert "CUDA is not used: onnxruntime" in separator.notes[0]
    assert "\n" not in separator.notes[0]
    assert run(separator, noise(1)).any()
    assert opened(folder, device="auto").notes == []
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        opened(folder, device="gpu")


@pytest.mark.usefixtures("cuda")
def test_cuda_that_does_not_start_is_one_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.build(tmp_path)
    import onnxruntime

    real = onnxruntime.InferenceSession

    def session(data: bytes, options: object, providers: list) -> object:
        if providers != ["CPUExecutionProvider"]:
            raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected\nand more")
        return real(data, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    for device in ("cuda", "auto"):
        separator = opened(folder, device=device, cuda_graph=True)
        wanted = "CUDA is not used: CUDA failure 100: no CUDA-capable device is detected; tiny runs on the CPU"
        assert (separator.runs_on, separator.notes) == ("cpu", [wanted])


@pytest.mark.usefixtures("cuda")
def test_a_net_that_leaves_out_its_stems_is_no_cuda_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU plays the GPU: what is asked of ONNX Runtime, and what is said."""
    import onnxruntime

    real, asked = onnxruntime.InferenceSession, []

    def session(data: bytes, options: object, providers: list) -> object:
        made = real(data, options, providers=["CPUExecutionProvider"])
        if providers != ["CPUExecutionProvider"]:
            asked.append(providers[0][1]["enable_cuda_graph"])
            made.get_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
        return made

    monkeypatch.setattr(Net, "_tensor", lambda self, host, place=None: onnxruntime.OrtValue.ortvalue_from_numpy(host))
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    for name, wanted in (("told", True), ("always", False)):
        separator = opened(tiny.build_stems(tmp_path / name, wanted=wanted), device="cuda", cuda_graph=True)
        line = "no CUDA graph is used: tiny leaves out its stems while nobody hears them"
        assert (separator.runs_on, separator.notes) == ("cuda", [line] if wanted else [])
    assert asked == ["0", "1"]


@pytest.mark.parametrize("binding", ["python"], indirect=True)
def test_missing_onnxruntime_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.build(tmp_path)
    real = builtins.__import__

    def missing(name: str, *args: object, **kwargs: object) -> object:
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ModelError, match=r"pip install 'rtsep\[cpu\]'"):
        opened(folder)


@pytest.mark.usefixtures("cuda")
def test_cuda_that_opens_but_does_not_run_is_one_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU without memory, a driver too old, a net that no graph can hold: all show only at the first runs."""
    folder = tiny.build(tmp_path)
    import onnxruntime

    real = onnxruntime.InferenceSession

    def session(data: bytes, options: object, providers: list) -> object:
        made = real(data, options, providers=["CPUExecutionProvider"])
        if providers != ["CPUExecutionProvider"]:
            made.get_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
        return made

    def full(self: Net) -> None:
        if self.device == "cuda":
            raise RuntimeError("CUDA failure 2: out of memory")
        run_on_cpu(self)

    run_on_cpu = Net.run
    monkeypatch.setattr(Net, "run", full)
    monkeypatch.setattr(Net, "_tensor", lambda self, host, place=None: onnxruntime.OrtValue.ortvalue_from_numpy(host))
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    separator = opened(folder, device="auto")
    assert separator.notes == ["CUDA is not used: CUDA failure 2: out of memory; tiny runs on the CPU"]
    assert (separator.runs_on, run(separator, noise(2)).any()) == ("cpu", True)


def test_what_the_net_runs_on(tmp_path: Path, binding: str) -> None:
    separator = opened(tiny.build(tmp_path))
    assert (isinstance(separator._net, CompiledNet), separator.compiled() is not None) == (binding == "c",) * 2


def test_a_net_that_refuses_to_run_says_why_and_runs_again(tmp_path: Path) -> None:
    separator = opened(tiny.build(tmp_path, "refuse"))
    quiet, loud = (np.full((1, 2, tiny.WINDOW // 2 + 1), level, np.complex64) for level in (0.5, 3.0))
    assert (run(separator, quiet) == 0.25).all()
    with pytest.raises(Exception, match="out of data bounds"):
        run(separator, loud)
    separator.reset()
    assert (run(separator, quiet) == 0.25).all()


def stereo_spectra(hops: int = 6) -> np.ndarray:
    draw = np.random.default_rng(2)
    shape = (hops, 2, tiny.WINDOW // 2 + 1)
    return (draw.standard_normal(shape) + 1j * draw.standard_normal(shape)).astype(np.complex64)


def test_stereo_field() -> None:
    spectrum = stereo_spectra(1)[0]
    feature = features.make("stereo_field", tiny.BINS)
    tensor = np.empty(feature.input_shape, np.float32)
    feature.write(spectrum, tensor)
    mid, side = 0.5 * (spectrum[0] + spectrum[1])[: tiny.BINS], 0.5 * (spectrum[0] - spectrum[1])[: tiny.BINS]
    relation = 2 * mid * side.conj() / (np.abs(mid) ** 2 + np.abs(side) ** 2)
    np.testing.assert_allclose(tensor, [np.abs(mid), np.abs(side), relation.real, relation.imag], atol=1e-5)
    power = np.abs(spectrum[:, : tiny.BINS]) ** 2
    np.testing.assert_allclose(tensor[2], (power[0] - power[1]) / power.sum(0), atol=1e-5)


def test_stereo_field_of_mono_and_silence() -> None:
    feature = features.make("stereo_field", tiny.BINS)
    tensor = np.empty(feature.input_shape, np.float32)
    spectrum = stereo_spectra(1)[0][:1]
    feature.write(spectrum, tensor)
    np.testing.assert_allclose(tensor[0], np.abs(spectrum[0, : tiny.BINS]), rtol=1e-6)
    assert not tensor[1:].any()
    feature.write(np.zeros_like(spectrum), tensor)
    assert not tensor.any()


@pytest.mark.parametrize("channels", [1, 2])
def test_a_mask_for_middle_and_side(tmp_path: Path, channels: int) -> None:
    """The chain lays a net's two masks over half the sum and half the difference of left and right."""
    folder = tiny.build_stereo(tmp_path)
    spec = StreamSpec(48000, channels, tiny.HOP, tiny.WINDOW)
    separator = OnnxSeparator(folder, device="cpu")
    assert separator.mask_kind == "mid_side"
    chain = Chain(separator, spec)
    sound = 0.3 * np.random.default_rng(3).standard_normal((channels, 40 * tiny.HOP)).astype(np.float32)
    vocals = np.concatenate(
        [chain.process(block)[0].copy() for block in map(np.ascontiguousarray, np.split(sound, 40, axis=1))], axis=1
    )
    mid = np.broadcast_to(sound.mean(axis=0), sound.shape)  # the masks of the net: 0.75 and 0.25
    wanted = 0.75 * mid + 0.25 * (sound - mid)
    delay = chain.latency
    np.testing.assert_allclose(vocals[:, delay:], wanted[:, :-delay], atol=1e-4)


def test_a_mask_for_middle_and_side_needs_two_masks(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path)
    tiny.edit(folder, 'mask = "mask"', 'mask = "mask"\nmask_kind = "mid_side"')
    with pytest.raises(ModelError, match="mask_kind mid_side needs features with two masks, mid_magnitude has one"):
        OnnxSeparator(folder)
    tiny.edit(folder, "mid_side", "sideways")
    with pytest.raises(ModelError, match="mask_kind"):
        OnnxSeparator(folder)
