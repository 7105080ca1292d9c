"""Proofs that an exported net of the live family does what torch does: frame by frame, and through the whole host."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rtsep.training.nets.live import BINS, FEATURES, Live

Floats = NDArray[np.float32]


def rounded(model: Live) -> Live:
    """The net with the weights that `half` storage keeps."""
    out = copy.deepcopy(model)
    for parameter in out.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.half().float()
    return out


def noise(frames: int, seed: int) -> Floats:
    """Stereo field (frames, 4, BINS) of noise at changing level, digital silence at the start and in the middle."""
    rng = np.random.default_rng(seed)
    field = rng.standard_normal((frames, FEATURES, BINS)).astype(np.float32)
    field[:, :2] = np.abs(field[:, :2]) * 10 ** rng.uniform(-3, 2, (frames, 1, 1))
    field[:, 2:] = np.clip(field[:, 2:], -1, 1)
    field[:3] = field[frames // 2 : frames // 2 + 10] = 0
    return field


@torch.no_grad()
def moved(model: Live, other: Live, frames: int = 60, seed: int = 0) -> Floats:
    """Differences (frames, 2, BINS) of the masks of two nets on the same noise."""
    field = torch.from_numpy(noise(frames, seed))
    return (model.eval().infer(field) - other.eval().infer(field)).abs().numpy()


def chain_deviation_db(model: Live, folder: Path, seconds: float = 1.5, seed: int = 0) -> float:
    """Energy of the difference between the vocals of a model folder in the host and of torch, against the latter's.

    The sound is stereo noise that swells; the host takes it hop by hop, torch all at once.
    """
    from rtsep.engine.offline import split
    from rtsep.separators.onnx import OnnxSeparator
    from rtsep.training.live import separate

    rng = np.random.default_rng(seed)
    frames = int(seconds * 44100)
    swell = 0.02 + 0.2 * np.sin(np.arange(frames) * 2e-4) ** 2
    sound = (rng.standard_normal((2, frames)) * swell).astype(np.float32)
    sound[1] += 0.7 * sound[0]
    wanted = separate(model, sound, autocast=False)
    found, _ = split(OnnxSeparator(folder, device="cpu"), sound, 44100)
    energy = float((wanted.astype(np.float64) ** 2).sum()) + 1e-20
    return 10 * float(np.log10(((found - wanted).astype(np.float64) ** 2).sum() / energy + 1e-20))


@torch.no_grad()
def deviation(model: Live, data: bytes, size: int, frames: int = 60, seed: int = 0) -> float:
    """Largest difference of the masks of `noise` between ONNX Runtime, frame by frame, and torch, in one pass."""
    import onnxruntime

    field = noise(frames, seed)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    states = [np.zeros((1, size), np.float32) for _ in range(model.config.apart)]
    worst = 0.0
    for t, mask in enumerate(model.eval().infer(torch.from_numpy(field)).numpy()):
        turn = t % len(states)
        got, states[turn] = session.run(["mask", "state_out"], {"field": field[t], "state": states[turn]})
        worst = max(worst, float(np.abs(got - mask).max()))
    return worst
