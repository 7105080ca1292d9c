"""Nets opened on the CPU or a GPU by ONNX Runtime, and checked against the manifest.

On the CPU a net is run through ONNX Runtime's C library, without the interpreter (`rtsep.separators.compiled_net`). On
CUDA, and where the package has no C library, it is run through the Python module (`Net`).
"""

from __future__ import annotations

import contextlib
import io
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtsep.errors import ModelError, first_line
from rtsep.separators import ort as c_library
from rtsep.separators.compiled_net import WARM_UP_RUNS, CompiledNet, after, silent_runs
from rtsep.separators.features import Feature
from rtsep.separators.manifest import Manifest
from rtsep.separators.ort_session import CONFIG, Session

CUDA = "CUDAExecutionProvider"


def onnxruntime() -> ModuleType:
    """The onnxruntime module; `ModelError` that names the extra to install if it is missing."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise ModelError(
            f"neural separators need ONNX Runtime ({error}): pip install 'rtsep[cpu]', or 'rtsep[gpu]' for CUDA"
        ) from error
    return ort


def open_net(
    manifest: Manifest,
    data: bytes,
    feature: Feature,
    device: str,
    cuda_graph: bool,
    notes: list[str],
    stems_wanted: NDArray[np.float32] | None = None,
) -> Net | CompiledNet:
    """Open a net, check it against its manifest and warm it up [main thread].

    Parameters
    ----------
    manifest : Manifest
        What the net should be.
    data : bytes
        The net's file.
    feature : Feature
        Shapes of input and mask.
    device : {"auto", "cpu", "cuda"}
        ``auto`` takes CUDA where ONNX Runtime has it.
    cuda_graph : bool
        On CUDA, replay the net as one graph; not for a net that can leave out its stems, for no graph has branches.
    notes : list of str
        One line is appended if CUDA was wanted and does not work; the CPU is used then. One line if it works, but not
        as a graph.
    stems_wanted : ndarray of float32, shape (1,), optional
        `rtsep.separators.base.Separator.stems_wanted`; else stems are always drawn.

    Raises
    ------
    ModelError
        If ONNX Runtime is missing, refuses the file, or finds other tensors in it than the manifest names.
    """
    library = c_library.library()
    if library is not None:
        version, has_cuda = library.version, CUDA in library.providers()
    else:
        version, has_cuda = onnxruntime().__version__, CUDA in onnxruntime().get_available_providers()
    if device == "cuda" and not has_cuda:
        reason = f"onnxruntime {version} is built without it (pip install 'rtsep[gpu]' in place of [cpu])"
        notes.append(f"CUDA is not used: {reason}; {manifest.name} runs on the CPU")
    elif device != "cpu" and has_cuda:
        as_graph = cuda_graph and manifest.tensors.stems_wanted is None
        try:
            on_cuda = _cuda_session(onnxruntime(), data, as_graph)
            net = Net(manifest, on_cuda, feature, True, as_graph, stems_wanted)
            net.warm_up()
            if cuda_graph and not as_graph:
                notes.append(f"no CUDA graph is used: {manifest.name} leaves out its stems while nobody hears them")
            return net
        except ModelError:
            raise
        except Exception as error:  # ONNX Runtime has no common root of its errors
            notes.append(f"CUDA is not used: {_first_line(error)}; {manifest.name} runs on the CPU")
    try:
        open_cpu = _net_in_python if library is None else partial(_net_in_c, library)
        on_cpu = open_cpu(manifest, data, feature, stems_wanted)
        on_cpu.warm_up()
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"model {manifest.name}: onnxruntime {version} refuses {manifest.file.name} "
            f"(opset {manifest.file.opset}): {_first_line(error)}"
        ) from error
    return on_cpu


def _net_in_c(
    library: c_library.Library,
    manifest: Manifest,
    data: bytes,
    feature: Feature,
    stems_wanted: NDArray[np.float32] | None,
) -> CompiledNet:
    session = Session(library, data)
    check_tensors(manifest, session, feature)
    return CompiledNet(manifest, session, feature, mask_shape(manifest, feature), stems_wanted)


def _net_in_python(manifest: Manifest, data: bytes, feature: Feature, stems_wanted: NDArray[np.float32] | None) -> Net:
    ort = onnxruntime()
    session = ort.InferenceSession(data, _options(ort), providers=["CPUExecutionProvider"])
    return Net(manifest, session, feature, stems_wanted=stems_wanted)


def _options(ort: ModuleType) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # errors come as exceptions; the same text on stderr would be said twice
    for key, value in CONFIG.items():
        options.add_session_config_entry(key, value)
    return options


def _cuda_session(ort: ModuleType, data: bytes, cuda_graph: bool) -> Any:
    """Session on CUDA; any exception says in its first line why there is none."""
    # TF32 would round products to 10 bits: a mask must not depend on where it was computed.
    settings = {"enable_cuda_graph": "1" if cuda_graph else "0", "use_tf32": "0"}
    ort.set_default_logger_severity(4)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            if hasattr(ort, "preload_dlls"):
                ort.preload_dlls()
            session = ort.InferenceSession(data, _options(ort), providers=[(CUDA, settings), "CPUExecutionProvider"])
    finally:
        ort.set_default_logger_severity(2)
    if CUDA not in session.get_providers():
        raise RuntimeError("ONNX Runtime finds no working NVIDIA driver, CUDA or cuDNN library (see nvidia-smi)")
    return session


def mask_shape(manifest: Manifest, feature: Feature) -> tuple[int, ...]:
    """Shape of the net's mask: that of the features, or a row for each look-ahead; rows of the stems after them."""
    rows, bins = feature.mask_shape
    if manifest.tensors.lookaheads > 1:
        return (manifest.tensors.lookaheads, bins)
    return (rows + len(manifest.tensors.stems), bins)


def check_tensors(manifest: Manifest, session: Any, feature: Feature) -> None:
    """Compare every input and output of the net with the manifest, in both directions.

    `ModelError` that names the first difference.
    """
    tensors, states = manifest.tensors, manifest.state
    inputs: dict[str, tuple[int, ...]] = {tensors.input: feature.input_shape}
    outputs: dict[str, tuple[int, ...]] = {tensors.mask: mask_shape(manifest, feature)}
    if tensors.vad is not None:
        outputs[tensors.vad] = (1, 1)
    if tensors.stems_wanted is not None:
        inputs[tensors.stems_wanted] = (1,)
    inputs |= {state.input: tuple(state.shape) for state in states}
    outputs |= {state.output: tuple(state.shape) for state in states}
    for side, wanted, found in (
        ("input", inputs, {tensor.name: tensor for tensor in session.get_inputs()}),
        ("output", outputs, {tensor.name: tensor for tensor in session.get_outputs()}),
    ):
        where = f"model {manifest.name}: {side}"
        for name in found:
            if name not in wanted:
                raise ModelError(f"{where} '{name}' of {manifest.file.name} is not named in the manifest")
        for name, shape in wanted.items():
            if name not in found:
                raise ModelError(
                    f"{where} '{name}' of the manifest is not in {manifest.file.name} (it has: {', '.join(found)})"
                )
            if found[name].type != "tensor(float)":
                raise ModelError(f"{where} '{name}' must be a tensor(float), is a {found[name].type}")
            if tuple(found[name].shape) != shape:
                raise ModelError(f"{where} '{name}' must have shape {shape}, has {tuple(found[name].shape)}")


class Net:
    """A net with its buffers and its state, all bound once, run through ONNX Runtime's Python module.

    The state lies in two sets of tensors. Even runs read the first and write the second, odd runs the other way
    round, so nothing is copied between runs; on CUDA the state never leaves the GPU.

    Parameters
    ----------
    manifest : Manifest
        Names and shapes.
    session : onnxruntime.InferenceSession
        Open session.
    feature : Feature
        Shapes of input and mask.
    on_cuda, cuda_graph : bool
        Where the session runs, and whether it replays CUDA graphs.
    stems_wanted : ndarray of float32, shape (1,), optional
        Input of a net that can leave out its stems, shared with whoever writes it; else they are always drawn.

    Raises
    ------
    ModelError
        If the session has other tensors than the manifest names.
    """

    def __init__(
        self,
        manifest: Manifest,
        session: Any,
        feature: Feature,
        on_cuda: bool = False,
        cuda_graph: bool = False,
        stems_wanted: NDArray[np.float32] | None = None,
    ) -> None:
        check_tensors(manifest, session, feature)
        self._ort = onnxruntime()
        self._session = session
        #: Where it runs: ``"cpu"`` or ``"cuda"``.
        self.device = "cuda" if on_cuda else "cpu"
        self._staged = on_cuda
        self._copied_back = on_cuda and cuda_graph
        #: Input of the next run, and mask and voice probability of the last one.
        self.input: NDArray[np.float32] = np.zeros(feature.input_shape, np.float32)
        self.mask: NDArray[np.float32] = np.zeros(mask_shape(manifest, feature), np.float32)
        self.vad: NDArray[np.float32] | None = None if manifest.tensors.vad is None else np.zeros((1, 1), np.float32)

        wanted = np.ones(1, np.float32) if stems_wanted is None else stems_wanted
        names = manifest.tensors.inputs()
        self._inputs = [(n, host, self._tensor(host)) for n, host in zip(names, (self.input, wanted), strict=False)]
        outputs = {manifest.tensors.mask: self.mask}
        if manifest.tensors.vad is not None and self.vad is not None:
            outputs[manifest.tensors.vad] = self.vad
        # A captured graph writes to the GPU alone; else ONNX Runtime itself brings the outputs to the CPU.
        place = self.device if self._copied_back else "cpu"
        self._outputs = [(name, host, self._tensor(host, place)) for name, host in outputs.items()]
        self._first = [np.zeros(state.shape, np.float32) for state in manifest.state]
        turns = manifest.tensors.turns
        self._states = [[self._tensor(first.copy()) for first in self._first] for _ in range(2 * turns)]
        self._runs = [self._bind(manifest, index) for index in range(2 * turns)]
        self._next = 0
        runs, last = silent_runs(manifest)
        for index in runs:
            self._next = index
            self.run()
        for state, first, tensor in zip(manifest.state, self._first, self._states[last], strict=True):
            if state.silent_runs:
                np.copyto(first, tensor.numpy())
        self.reset()

    def _tensor(self, host: NDArray[np.float32], place: str | None = None) -> Any:
        """OrtValue that shares the memory of `host` on the CPU, or is a copy of it on the GPU."""
        return self._ort.OrtValue.ortvalue_from_numpy(host, place or self.device, 0)

    def _bind(self, manifest: Manifest, index: int) -> tuple[Any, Any]:
        binding = self._session.io_binding()
        for name, _, tensor in self._inputs:
            binding.bind_ortvalue_input(name, tensor)
        for name, _, tensor in self._outputs:
            binding.bind_ortvalue_output(name, tensor)
        for state, old, new in zip(
            manifest.state, self._states[index], self._states[after(index, manifest.tensors.turns)], strict=True
        ):
            binding.bind_ortvalue_input(state.input, old)
            binding.bind_ortvalue_output(state.output, new)
        options = self._ort.RunOptions()
        if self._copied_back:
            options.add_run_config_entry("gpu_graph_id", str(index + 1))
        return binding, options

    def run(self) -> None:
        """Compute mask, voice probability and next state from `input`, with the GIL released [inference thread]."""
        if self._staged:
            for _, host, tensor in self._inputs:
                tensor.update_inplace(host)
        self._session.run_with_iobinding(*self._runs[self._next])
        self._next = (self._next + 1) % len(self._runs)
        if self._copied_back:
            for _, host, tensor in self._outputs:
                np.copyto(host, tensor.numpy())

    def reset(self) -> None:
        """Give the state its first value, so that the next run is like the first one."""
        for states in self._states:
            for tensor, first in zip(states, self._first, strict=True):
                tensor.update_inplace(first)
        self._next = 0

    def warm_up(self) -> None:
        """Run on silence until memory, kernels and graphs are there, then reset [main thread]."""
        self.input.fill(0.0)
        for _ in range(WARM_UP_RUNS):
            self.run()
        self.reset()


def _first_line(error: Exception) -> str:
    return first_line(str(error)) or type(error).__name__
