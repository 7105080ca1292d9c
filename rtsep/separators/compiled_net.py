"""A net on the CPU that runs without the interpreter: from the spectrum to the mask in one C function."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import numpy as np
from numba import carray, cfunc, njit, types
from numpy.typing import NDArray

from rtsep.native import call, double_pointer, float_pointer, int_pointer
from rtsep.separators.base import Compiled, Mask, Parameters
from rtsep.separators.features import Feature, hold_mask, share_out, write_features
from rtsep.separators.gate import Gate, gate_step
from rtsep.separators.kernels import ramp, separate_signature
from rtsep.separators.manifest import MOST_TURNS, Manifest
from rtsep.separators.ort_session import Session
from rtsep.spec import StreamSpec

WARM_UP_RUNS = 8

# Words of a net: addresses of function and session, which binding comes next, how many there are, their addresses.
_FUNCTION, _SESSION, _NEXT, _COUNT, _BINDINGS = range(5)
_WORDS = _BINDINGS + 2 * MOST_TURNS

#: Memory of `separate`: sizes, and addresses of `CompiledNet.words`, of arrays, of `Parameters.state` and `Gate.state`.
MEMORY = np.dtype(
    [
        *((name, np.int64) for name in ("channels", "bins", "net", "feature", "input_rows", "mask_rows", "net_bins")),
        *((name, np.int64) for name in ("input", "mask", "held", "vad", "params", "params_count", "gate")),
        *((name, np.int64) for name in ("stems", "shares", "held_shares")),
        ("mask_params", np.int64),
        ("hop_ms", np.float64),
    ]
)


@njit(types.int64(types.int64[::1]), nogil=True, cache=True)
def run_net(words):
    """Run a net once on its bound buffers; 0, or the address of an `OrtStatus` that says what went wrong."""
    status = call(words[_FUNCTION], words[_SESSION], 0, words[_BINDINGS + words[_NEXT]])
    if status == 0:
        words[_NEXT] = (words[_NEXT] + 1) % words[_COUNT]
    return status


@njit(types.float64(types.float64[::1], types.float64, types.float64[::1], types.float64), nogil=True, cache=True)
def voice_gain(gate, voice, values, hop_ms):
    """Gain of the voice gate for this hop; `values` are those of `rtsep.separators.onnx.VAD_PARAMS`."""
    on, threshold, attack_ms, release_ms = values
    return 1.0 - on * (1.0 - gate_step(gate, voice, threshold, attack_ms / hop_ms, release_ms / hop_ms))


@cfunc(separate_signature(MEMORY), cache=True)
def separate(memory, spectrum, mask):
    """`OnnxSeparator.process` as a C function."""
    m = carray(memory, 1)[0]
    params = carray(double_pointer(m.params), (3, m.params_count))
    ramp(params)
    values = params[1]
    tensor = carray(float_pointer(m.input), (m.input_rows, m.net_bins))
    write_features(m.feature, carray(spectrum, (m.channels, m.bins)), tensor)
    status = run_net(carray(int_pointer(m.net), _WORDS))
    if status != 0:
        return status
    gain = 1.0
    if m.vad != 0:
        voice = carray(float_pointer(m.vad), 1)[0]
        gain = voice_gain(carray(double_pointer(m.gate), 1), voice, values[m.mask_params :], m.hop_ms)
    net_mask = carray(float_pointer(m.mask), (m.mask_rows, m.net_bins))
    held = carray(float_pointer(m.held), (m.mask_rows, m.net_bins))
    shape = values[: m.mask_params]
    hold_mask(net_mask, gain, shape, m.hop_ms, held, carray(mask, (m.channels, m.bins)))
    if m.stems > 0:
        shares = carray(float_pointer(m.shares), (m.stems, m.net_bins))
        held = carray(float_pointer(m.held_shares), (m.stems, m.net_bins))
        rows = (1 + m.stems) * m.channels
        share_out(shares, m.channels, shape, m.hop_ms, held, carray(mask, (rows, m.bins)))
    return 0


def after(index: int, turns: int) -> int:
    """Which set of state tensors the run that reads set `index` writes; runs read the sets in their order."""
    return (index + turns) % (2 * turns)


def silent_runs(manifest: Manifest) -> tuple[list[int], int]:
    """Which sets of states the runs read that give a net its first state, and which set holds it after them."""
    runs = max((state.silent_runs for state in manifest.state), default=0)
    pair = 0, manifest.tensors.turns  # either is written by the run that reads the other
    return [pair[run % 2] for run in range(runs)], pair[runs % 2]


class CompiledNet:
    """A net with its buffers and its state, all bound once; `rtsep.separators.session.Net` without the interpreter.

    Parameters
    ----------
    manifest : Manifest
        Names and shapes, which the session is known to have.
    session : Session
        Open session.
    feature : Feature
        Shape of the input.
    mask_shape : tuple of int
        Shape of the mask.
    stems_wanted : ndarray of float32, shape (1,), optional
        Input of a net that can leave out its stems, shared with whoever writes it; else they are always drawn.
    """

    device = "cpu"

    def __init__(
        self,
        manifest: Manifest,
        session: Session,
        feature: Feature,
        mask_shape: tuple[int, ...],
        stems_wanted: NDArray[np.float32] | None = None,
    ) -> None:
        self._session, self._feature, self._message = session, feature, session.library.message
        tensors = manifest.tensors
        #: Input of the next run, and mask and voice probability of the last one.
        self.input: NDArray[np.float32] = np.zeros(feature.input_shape, np.float32)
        self.mask: NDArray[np.float32] = np.zeros(mask_shape, np.float32)
        self.vad: NDArray[np.float32] | None = None if tensors.vad is None else np.zeros((1, 1), np.float32)
        turns = tensors.turns
        self._states = [[np.zeros(state.shape, np.float32) for state in manifest.state] for _ in range(2 * turns)]
        self._stems_wanted = np.ones(1, np.float32) if stems_wanted is None else stems_wanted

        inputs, outputs = {tensors.input: session.tensor(self.input)}, {tensors.mask: session.tensor(self.mask)}
        if tensors.stems_wanted is not None:
            inputs[tensors.stems_wanted] = session.tensor(self._stems_wanted)
        if tensors.vad is not None and self.vad is not None:
            outputs[tensors.vad] = session.tensor(self.vad)
        states = [[session.tensor(array) for array in arrays] for arrays in self._states]
        bindings = []
        for index, old in enumerate(states):
            new = states[after(index, turns)]
            read = {state.input: tensor for state, tensor in zip(manifest.state, old, strict=True)}
            written = {state.output: tensor for state, tensor in zip(manifest.state, new, strict=True)}
            bindings.append(session.bind(inputs | read, outputs | written))
        self._words = np.zeros(_WORDS, np.int64)
        self._words[: _BINDINGS + len(bindings)] = [session.library.run, session.address, 0, len(bindings), *bindings]
        runs, last = silent_runs(manifest)
        for index in runs:
            self._words[_NEXT] = index
            self.run()
        found = zip(manifest.state, self._states[last], strict=True)
        self._first = [array.copy() if state.silent_runs else np.zeros_like(array) for state, array in found]
        self.reset()

    def run(self) -> None:
        """Compute mask, voice probability and next state from `input`, with the GIL released [inference thread].

        `RuntimeError` if ONNX Runtime fails.
        """
        status = run_net(self._words)
        if status:
            raise RuntimeError(self._message(status))

    def reset(self) -> None:
        """Give the state its first value, so that the next run is like the first one."""
        for arrays in self._states:
            for array, first in zip(arrays, self._first, strict=True):
                np.copyto(array, first)
        self._words[_NEXT] = 0

    def warm_up(self) -> None:
        """Run on silence until memory and kernels are there, then reset [main thread]."""
        self.input.fill(0.0)
        for _ in range(WARM_UP_RUNS):
            self.run()
        self.reset()

    def compiled(
        self,
        spec: StreamSpec,
        params: Parameters,
        mask_params: int,
        gate: Gate,
        held: tuple[Mask, Mask],
        mask: Mask,
        shares: Mask,
    ) -> Compiled:
        """Give the C function that runs this net for a stream.

        With these parameters, of which the first `mask_params` shape the mask, this gate, this smoothed mask and these
        smoothed shares, those rows of the net's mask that are played, and its rows for the stems.
        """
        memory = np.zeros(1, MEMORY)
        facts = {
            "channels": spec.channels,
            "bins": spec.bins,
            "net": self._words.ctypes.data,
            "feature": self._feature.code,
            "input_rows": self.input.shape[0],
            "mask_rows": mask.shape[0],
            "net_bins": self.input.shape[1],
            "input": self.input.ctypes.data,
            "mask": mask.ctypes.data,
            "held": held[0].ctypes.data,
            "stems": len(shares),
            "shares": shares.ctypes.data,
            "held_shares": held[1].ctypes.data,
            "vad": 0 if self.vad is None else self.vad.ctypes.data,
            "params": params.state.ctypes.data,
            "params_count": params.state.shape[1],
            "mask_params": mask_params,
            "gate": gate.state.ctypes.data,
            "hop_ms": spec.hop_ms,
        }
        for name, value in facts.items():
            memory[name] = value
        return Compiled(separate.address, memory.ctypes.data, (memory, self, params, gate, held), self._message)
