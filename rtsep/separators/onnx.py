"""Any neural separator: a model folder run by ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from rtsep.errors import ModelError, UsageError, nearest
from rtsep.separators import features, manifest
from rtsep.separators.base import Compiled, Mask, Param, Parameters, Separator, Spectrum
from rtsep.separators.compiled_net import CompiledNet, voice_gain
from rtsep.separators.features import share_out
from rtsep.separators.gate import Gate
from rtsep.separators.kernels import STRENGTH
from rtsep.separators.session import Net, open_net
from rtsep.spec import StreamSpec

DEVICES = ("auto", "cpu", "cuda")
#: A net takes about a millisecond when it runs once a hop, now and then two; longer where it needs the interpreter's
#: lock, which other threads may hold.
WORK_MS, LOCKED_WORK_MS = 2.5, 4.0

_BINARY = Param(
    "binary", "switch", 0.0, 1.0, 0.0, "on: a bin is wholly voice or wholly music; off: the net's soft mask"
)
_PROTECT = Param(
    "protect",
    "",
    0.0,
    1.0,
    0.0,
    "smooths the mask in time and keeps it from closing wholly: higher has less musical noise and separates less",
)
MASK_PARAMS = (
    STRENGTH,
    _BINARY,
    Param("threshold", "", 0.0, 1.0, 0.5, "mask from which a bin is voice where binary is on; higher takes less"),
    _PROTECT,
)
#: In place of `MASK_PARAMS` where the mask is a probability.
CONFIDENCE_PARAMS = (
    STRENGTH,
    _BINARY,
    Param("alpha", "", 0.1, 0.9, 0.5, "confidence that a bin needs where binary is on; higher takes less for the part"),
    _PROTECT,
    Param(
        "part",
        "choice",
        0.0,
        1.0,
        0.0,
        "which part alpha draws where binary is on: voice above alpha, or music below 1 - alpha",
        ("vocals", "non-vocals"),
    ),
)
VAD_PARAMS = (
    Param("vad_gate", "switch", 0.0, 1.0, 1.0, "on: nothing is taken as voice while the net hears nobody sing"),
    Param(
        "vad_threshold", "", 0.0, 1.0, 0.5, "probability of voice from which the gate opens; higher opens less often"
    ),
    Param(
        "gate_attack_ms", "ms", 0.0, 500.0, 10.0, "time in which the gate opens; higher is smoother, cuts into onsets"
    ),
    Param(
        "gate_release_ms", "ms", 0.0, 3000.0, 250.0, "time in which the gate closes; higher keeps more of the reverb"
    ),
)


class OnnxSeparator(Separator):
    """A net from a model folder, whose manifest says all that the host knows of it.

    The manifest is read at once; the net's file is read, checked and opened in `prepare`.

    Parameters
    ----------
    folder : Path or str
        Holds ``manifest.toml`` and the net's file.
    device : {"auto", "cpu", "cuda"}
        ``auto`` takes CUDA where ONNX Runtime has it. Where CUDA was wanted and does not work, the net runs on the
        CPU and `notes` says why.
    cuda_graph : bool
        On CUDA, replay the net as one graph.
    lookahead : int, optional
        Hops to look ahead, of a net whose manifest offers several; else as the manifest says.

    Raises
    ------
    UsageError
        If `device` is none of the three, or the net does not look ahead by so much.
    ModelError
        If the manifest is missing or not understood.
    """

    def __init__(
        self, folder: Path | str, device: str = "auto", cuda_graph: bool = False, lookahead: int | None = None
    ) -> None:
        if device not in DEVICES:
            raise UsageError(f"unknown device '{device}': {nearest(device, DEVICES)}")
        self.folder = Path(folder)
        self.manifest = manifest.read(self.folder)
        self.name = self.manifest.name
        self.summary = self.manifest.summary
        self.mask_kind = self.manifest.tensors.mask_kind
        self.stems = tuple(self.manifest.tensors.stems)
        super().__init__()
        self._has_vad = self.manifest.tensors.vad is not None
        mask_params = CONFIDENCE_PARAMS if self.manifest.tensors.confidence else MASK_PARAMS
        self.params = Parameters(self._with_defaults(mask_params + (VAD_PARAMS if self._has_vad else ())))
        self._mask_params = len(mask_params)
        self.work_ms = LOCKED_WORK_MS
        self._device = device
        self._cuda_graph = cuda_graph
        self._feature = features.make(self.manifest.features.kind, self.manifest.features.bins)
        if self.mask_kind == "mid_side" and self._feature.mask_shape[0] != 2:
            raise ModelError(
                f"{self.folder / manifest.NAME}: tensors.mask_kind mid_side needs features with two masks, "
                f"{self.manifest.features.kind} has one"
            )
        self._lookahead, self._rows = self._chosen(lookahead)
        self._gate = Gate()
        self._held = np.zeros(self._feature.mask_shape, np.float32)
        self._held_shares = np.zeros((len(self.stems), self._feature.mask_shape[1]), np.float32)
        self._net: Net | CompiledNet | None = None
        #: Where the net runs, ``"cpu"`` or ``"cuda"``; known after `prepare`.
        self.runs_on = "cpu"

    def _chosen(self, lookahead: int | None) -> tuple[int, slice]:
        """Hops to look ahead, and the rows of the net's mask that are played."""
        tensors = self.manifest.tensors
        if tensors.lookaheads == 1:
            if lookahead is not None:
                raise UsageError(f"separator {self.name} has one look-ahead, {tensors.lookahead} hops: give no other")
            return tensors.lookahead, slice(self._feature.mask_shape[0])
        if self._feature.mask_shape[0] != 1:
            raise ModelError(
                f"{self.folder / manifest.NAME}: tensors.lookaheads needs features with one mask, "
                f"{self.manifest.features.kind} has {self._feature.mask_shape[0]}"
            )
        row = tensors.lookahead if lookahead is None else lookahead
        if not 0 <= row < tensors.lookaheads:
            raise UsageError(f"separator {self.name} looks ahead by 0 to {tensors.lookaheads - 1} hops, not by {row}")
        return row, slice(row, row + 1)

    def _with_defaults(self, params: tuple[Param, ...]) -> tuple[Param, ...]:
        """Parameters with the manifest's own defaults."""
        found = {param.name: param for param in params}
        for wanted in self.manifest.parameters:
            where = f"{self.folder / manifest.NAME}"
            if wanted.name not in found:
                raise ModelError(f"{where}: unknown parameter '{wanted.name}': {nearest(wanted.name, found)}")
            try:
                value = found[wanted.name].parse(wanted.default)
            except UsageError as error:
                raise ModelError(f"{where}: {error}") from error
            found[wanted.name] = replace(found[wanted.name], default=value)
        return tuple(found.values())

    @property
    def latency(self) -> int:
        """Look-ahead in frames."""
        return self._lookahead * self.manifest.transform.hop

    def required_hop(self, samplerate: int) -> int | None:
        """Hop that the net was trained with, in frames."""
        return self.manifest.transform.hop

    def supported_samplerates(self) -> tuple[int, ...]:
        """Engine rates that the net was trained for, in Hz."""
        return tuple(self.manifest.transform.samplerates)

    def prepare(self, spec: StreamSpec) -> None:
        """Open the net, check it against the manifest, bind its buffers and warm it up [main thread].

        Raises
        ------
        UsageError
            If the net was not made for `spec`.
        ModelError
            If ONNX Runtime is missing, or the file is missing, damaged, or not what the manifest says.
        """
        transform = self.manifest.transform
        for what, found, wanted in (
            ("samplerate", spec.samplerate, transform.samplerates),
            ("window", spec.window, [transform.window]),
            ("hop", spec.hop, [transform.hop]),
        ):
            if found not in wanted:
                allowed = " or ".join(str(value) for value in wanted)
                raise UsageError(f"separator {self.name} does not run at {what} {found}: {allowed} is what it needs")
        if self._net is None:
            data = manifest.read_file(self.folder, self.manifest)
            self._net = open_net(
                self.manifest, data, self._feature, self._device, self._cuda_graph, self.notes, self.stems_wanted
            )
            self.runs_on = self._net.device
            self.work_ms = WORK_MS if isinstance(self._net, CompiledNet) else LOCKED_WORK_MS
        self._spec = spec
        self.params.prepare(spec.hop_ms)
        self.reset()

    def process(self, spectrum: Spectrum, mask: Mask) -> None:
        """Run the net on `spectrum` and fill `mask` [inference thread]; both arrays C-contiguous.

        NaN of the net stay in the mask. One without rows for the stems gets none.
        """
        net = self._net
        assert net is not None, "prepare comes before process"
        self.params.ramp()
        self._feature.write(spectrum, net.input)
        net.run()
        shape = self.params.values[: self._mask_params]
        rows, hop_ms = len(spectrum), self._spec.hop_ms
        self._feature.spread(net.mask[self._rows], self._gain(net), shape, hop_ms, self._held, mask[:rows])
        if len(mask) > rows:
            share_out(net.mask[self._feature.mask_shape[0] :], rows, shape, hop_ms, self._held_shares, mask)

    def _gain(self, net: Net | CompiledNet) -> float:
        """Gain of the voice gate for this hop."""
        if net.vad is None:
            return 1.0
        values = self.params.values[self._mask_params :]
        return float(voice_gain(self._gate.state, float(net.vad[0, 0]), values, self._spec.hop_ms))

    def reset(self) -> None:
        """Zero the net's state, close the gate and jump to the wanted parameters."""
        if self._net is not None:
            self._net.reset()
        self._gate.reset()
        self._held.fill(0.0)
        self._held_shares.fill(0.0)
        self.params.settle()

    def compiled(self) -> Compiled | None:
        """Give the net as a C function; None on CUDA, and where ONNX Runtime has no C library."""
        if not isinstance(self._net, CompiledNet):
            return None
        mask, shares = self._net.mask[self._rows], self._net.mask[self._feature.mask_shape[0] :]
        if not self.stems:
            shares = shares[:0]
        held = (self._held, self._held_shares)
        return self._net.compiled(self._spec, self.params, self._mask_params, self._gate, held, mask, shares)
