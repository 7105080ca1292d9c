"""Inference: time of one run of each model, batch 1, on CPU threads and on CUDA.

    python -m benchmarks.inference [--runs N] [--models NAME ...]

On the CPU a live stream runs a net through ONNX Runtime's C library; "bound" and "handed over" are runs through its
Python module, with buffers bound once or handed over each time. Back to back: one run after the other. Paced: one run
per hop, as in a live stream, from sleep and with cold caches.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks._page import Page, Row, Table, parser, program
from rtsep.errors import UsageError
from rtsep.separators import features, ort, session
from rtsep.separators.compiled_net import CompiledNet
from rtsep.separators.manifest import Manifest
from rtsep.separators.onnx import OnnxSeparator
from rtsep.separators.ort_session import Session
from rtsep.separators.registry import create, names

_SAMPLERATE = 48000

IN_C = "C library"

COLUMNS = {
    "model": "model",
    "device": "device",
    "threads": "threads",
    "binding": "buffers",
    "hop_ms": "hop, ms",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "max_ms": "max, ms",
    "paced_p50_ms": "paced p50, ms",
    "paced_p99_ms": "paced p99, ms",
    "paced_max_ms": "paced max, ms",
    "share_p99": "paced p99, % of the hop",
}


def models() -> list[str]:
    """Names of the model folders that can be used."""
    return [entry.name for entry in names() if entry.kind == "model" and not entry.fault]


def durations_ms(run: Callable[[], object], count: int, pace_s: float = 0.0) -> np.ndarray:
    """Durations of `count` runs, back to back or begun every `pace_s` seconds."""
    found = np.zeros(count)
    due = time.perf_counter()
    for i in range(count):
        if pace_s:
            due = max(due + pace_s, time.perf_counter())
            time.sleep(max(due - time.perf_counter(), 0.0))
        began = time.perf_counter_ns()
        run()
        found[i] = (time.perf_counter_ns() - began) / 1e6
    return found


def row(run: Callable[[], object], hop_s: float, runs: int, paced: int, **about: Any) -> Row:
    """Percentiles of one way to run one model."""
    durations_ms(run, min(runs, 50))
    fast, slow = durations_ms(run, runs), durations_ms(run, paced, hop_s)
    found: dict[str, Any] = {**about, "hop_ms": 1000 * hop_s}
    for prefix, times in (("", fast), ("paced_", slow)):
        found[f"{prefix}p50_ms"], found[f"{prefix}p99_ms"] = map(float, np.percentile(times, [50, 99]))
        found[f"{prefix}max_ms"] = float(times.max())
    return found | {"share_p99": 0.1 * found["paced_p99_ms"] / hop_s}


def _without_binding(net: session.Net, manifest: Manifest) -> Callable[[], object]:
    """Run with arrays handed over and returned at each call, the state too."""
    state = {tensor.input: np.zeros(tensor.shape, np.float32) for tensor in manifest.state}
    wanted = manifest.tensors.stems_wanted
    fixed = {} if wanted is None else {wanted: np.zeros(1, np.float32)}
    outputs = [manifest.tensors.mask, *(tensor.output for tensor in manifest.state)]

    def run() -> None:
        found = net._session.run(outputs, {manifest.tensors.input: net.input, **fixed, **state})
        state.update(zip(state, found[1:], strict=True))

    return run


def rows(name: str, runs: int, paced: int) -> list[Row]:
    """Every way to run one model on this machine; stems that can be left out are."""
    separator = create(name)
    assert isinstance(separator, OnnxSeparator)
    manifest, package, library = separator.manifest, session.onnxruntime(), ort.library()
    data = (separator.folder / manifest.file.name).read_bytes()
    feature = features.make(manifest.features.kind, manifest.features.bins)
    hop_s = manifest.transform.hop / _SAMPLERATE
    nets: list[tuple[dict[str, Any], session.Net | CompiledNet]] = []
    wanted = np.zeros(1, np.float32)
    if library is not None:
        opened_in_c, shape = Session(library, data), session.mask_shape(manifest, feature)
        net = CompiledNet(manifest, opened_in_c, feature, shape, wanted)
        nets.append(({"device": "cpu", "threads": 1, "binding": IN_C}, net))
    for threads in (1, 2):
        options = session._options(package)
        options.intra_op_num_threads = threads
        opened = package.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        on_cpu = session.Net(manifest, opened, feature, stems_wanted=wanted)
        nets.append(({"device": "cpu", "threads": threads, "binding": "bound"}, on_cpu))
    if session.CUDA in package.get_available_providers():
        for graph in (False, True) if manifest.tensors.stems_wanted is None else (False,):  # a branch is no graph
            opened = session._cuda_session(package, data, graph)
            on_cuda = session.Net(manifest, opened, feature, True, graph, wanted)
            device = "cuda, graph" if graph else "cuda"
            nets.append(({"device": device, "threads": 1, "binding": "bound"}, on_cuda))
    found = []
    noise = np.abs(np.random.default_rng(1).standard_normal(feature.input_shape)).astype(np.float32)
    for about, net in nets:
        net.warm_up()
        net.input[:] = 10 * noise
        about |= {"model": name}
        found.append(row(net.run, hop_s, runs, paced, **about))
        if isinstance(net, session.Net) and about["threads"] == 1 and "graph" not in about["device"]:
            about |= {"binding": "handed over"}
            found.append(row(_without_binding(net, manifest), hop_s, runs, paced, **about))
    return found


def measure(chosen: argparse.Namespace) -> Page:
    """All models."""
    runs, paced = (50, 20) if chosen.quick else (chosen.runs, min(chosen.runs, chosen.paced))
    if runs < 1 or paced < 1:
        raise UsageError("--runs and --paced must be at least 1")
    page = Page("inference", "Inference", f"One run of a model, batch 1; {runs} runs back to back, {paced} paced.")
    found = [row for name in chosen.models or models() for row in rows(name, runs, paced)]
    page.tables = [Table("Runs", COLUMNS, found)]
    live = IN_C if ort.library() is not None else "bound"
    for entry in found:
        if (entry["device"], entry["threads"], entry["binding"]) == ("cpu", 1, live):
            page.figures |= {f"{entry['model']}_{key}": entry[key] for key in ("p50_ms", "paced_p99_ms", "share_p99")}
    if not any("cuda" in entry["device"] for entry in found):
        version = session.onnxruntime().__version__
        page.notes.append(f"CUDA: not measured, onnxruntime {version} here has no {session.CUDA}")
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=5000, help="runs back to back")
    options.add_argument("--paced", type=int, default=1000, help="runs at the pace of a live stream")
    options.add_argument("--models", nargs="+", metavar="NAME", help="default: all model folders")
    return program(measure, options, arguments)


if __name__ == "__main__":
    sys.exit(main())
