"""Proofs that an exported net does what torch does: frame by frame, and through the whole host."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rtsep.training.graphs.graph import Carried

Floats = NDArray[np.float32]
Infer = Callable[[Floats], Floats]
"""Inputs (T, ...) of a whole stream to masks (T, ...)."""

Net = TypeVar("Net", bound=nn.Module)


def rounded(model: Net) -> Net:
    """The net with the weights that `half` storage keeps."""
    out = copy.deepcopy(model)
    for parameter in out.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.half().float()
    return out


def as_arrays(function: Callable[[Tensor], Tensor]) -> Infer:
    """A function of tensors as one of arrays, without gradients."""

    @torch.no_grad()
    def infer(x: Floats) -> Floats:
        return function(torch.from_numpy(x)).cpu().numpy()

    return infer


def noise(rows: int, bins: int, frames: int = 120, seed: int = 0) -> Floats:
    """Input (frames, rows, bins): magnitudes at changing level, digital silence at the start and in the middle.

    With 4 rows they are those of a stereo field.
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((frames, rows, bins)).astype(np.float32)
    x[:, :2] = np.abs(x[:, :2]) * 10 ** rng.uniform(-3, 2, (frames, 1, 1))
    x[:, 2:] = np.clip(x[:, 2:], -1, 1)
    x[:3] = x[frames // 2 : frames // 2 + 10] = 0
    return x


class Stepper:
    """An exported file run frame by frame: a frame to its outputs, the states carried along.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    name : str
        Of its input.
    outputs : sequence of str
        What a call returns.
    carried : Carried
        Its states.
    fixed : dict of str to sequence of float, optional
        Further inputs, which begin so.
    """

    def __init__(
        self,
        session: Any,
        name: str,
        outputs: Sequence[str],
        carried: Carried,
        fixed: Mapping[str, Sequence[float]] = MappingProxyType({}),
    ) -> None:
        self._session, self._name, self._count = session, name, len(outputs)
        #: Further inputs, by name.
        self.fixed = {key: np.array(value, np.float32) for key, value in fixed.items()}
        self._outputs = [*outputs, *(output for output, _ in carried.values())]
        #: By the names of the inputs.
        self.states = {key: first for key, (_, first) in carried.items()}

    def __call__(self, frame: Floats) -> list[Floats]:
        found = self._session.run(self._outputs, {self._name: frame, **self.fixed, **self.states})
        self.states = dict(zip(self.states, found[self._count :], strict=True))
        return list(found[: self._count])


def deviation(
    infer: Infer,
    data: bytes,
    size: int | Carried,
    name: str,
    frames: Floats,
    turns: int = 1,
    output: str = "mask",
) -> float:
    """Largest difference of the masks of `frames` (T, rows, bins): ONNX Runtime frame by frame, `infer` all at once.

    Parameters
    ----------
    infer : callable
    data : bytes
        The exported file.
    size : int or Carried
        Of its one state, which begins at zero; or all of its states.
    name : str
        Of its input.
    frames : ndarray of float32
    turns : int
        Copies of the state that take turns.
    output : str
        What to look at instead of the masks; `infer` gives that.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    carried = {"state": ("state_out", np.zeros((1, size), np.float32))} if isinstance(size, int) else size
    copies, worst = [Stepper(session, name, (output,), carried) for _ in range(turns)], 0.0
    for t, (frame, wanted) in enumerate(zip(frames, infer(frames), strict=True)):
        (got,) = copies[t % turns](frame)
        worst = max(worst, float(np.abs(got - wanted).max()))
    return worst


def magnitude_deviation(infer: Infer, data: bytes, size: int, bins: int) -> float:
    """`deviation` of noise for a net of magnitudes; `infer` takes (T, bins)."""
    return deviation(lambda x: infer(x[:, 0]), data, size, "magnitude", noise(1, bins))


def chain_deviation_db(offline: Infer, folder: Path, seconds: float = 1.5, seed: int = 0) -> float:
    """Energy of the difference between the vocals of a model folder in the host and `offline`, against the latter's.

    The sound (channels, frames) is stereo noise that swells; the host takes it hop by hop, `offline` all at once.
    """
    from rtsep.engine.offline import split
    from rtsep.separators.onnx import OnnxSeparator

    rng = np.random.default_rng(seed)
    frames = int(seconds * 44100)
    swell = 0.02 + 0.2 * np.sin(np.arange(frames) * 2e-4) ** 2
    sound = (rng.standard_normal((2, frames)) * swell).astype(np.float32)
    sound[1] += 0.7 * sound[0]
    wanted = offline(sound)
    found, _ = split(OnnxSeparator(folder, device="cpu"), sound, 44100)
    energy = float((wanted.astype(np.float64) ** 2).sum()) + 1e-20
    return 10 * float(np.log10(((found - wanted).astype(np.float64) ** 2).sum() / energy + 1e-20))
