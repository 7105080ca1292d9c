"""Proofs that an exported net of one mask does what torch does: frame by frame, and through the whole host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtsep.training.mir1k import separate
from rtsep.training.nets.narrow import BINS

Floats = NDArray[np.float32]
Infer = Callable[[Floats], Floats]
"""Magnitudes (T, F) of a whole stream to masks (T, F), or (T, rows, F)."""


def noise(frames: int, bins: int, seed: int = 0) -> Floats:
    """Magnitudes of noise at changing level, digital silence at the start and in the middle."""
    rng = np.random.default_rng(seed)
    magnitude = np.abs(rng.standard_normal((frames, bins))) * 10 ** rng.uniform(-3, 2, (frames, 1))
    magnitude[:3] = magnitude[frames // 2 : frames // 2 + 10] = 0
    return magnitude.astype(np.float32)


def frame_deviation(data: bytes, size: int, bins: int, infer: Infer, frames: int = 120) -> float:
    """Largest difference of the masks of `noise` between ONNX Runtime, frame by frame, and `infer`, in one pass."""
    import onnxruntime

    magnitude = noise(frames, bins)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    state, worst = np.zeros((1, size), np.float32), 0.0
    for row, mask in zip(magnitude, infer(magnitude), strict=True):
        got, state = session.run(["mask", "state_out"], {"magnitude": row[None], "state": state})
        worst = max(worst, float(np.abs(got - mask).max()))
    return worst


def chain_deviation_db(
    folder: Path, infer: Infer, lookahead: int, seconds: float = 1.5, seed: int = 0, bins: int = BINS
) -> float:
    """Energy of the difference between the vocals of a model folder in the host and of `infer`, against the latter's.

    The sound is stereo noise that swells; the host takes it hop by hop, `infer` all at once.
    """
    from rtsep.engine.offline import split
    from rtsep.separators.onnx import OnnxSeparator

    rng = np.random.default_rng(seed)
    frames = int(seconds * 44100)
    swell = 0.02 + 0.2 * np.sin(np.arange(frames) * 2e-4) ** 2
    sound = (rng.standard_normal((2, frames)) * swell).astype(np.float32)
    sound[1] += 0.7 * sound[0]
    wanted = separate(infer, sound, lookahead, bins)
    found, _ = split(OnnxSeparator(folder, device="cpu"), sound, 44100)
    energy = float((wanted.astype(np.float64) ** 2).sum()) + 1e-20
    return 10 * float(np.log10(((found - wanted).astype(np.float64) ** 2).sum() / energy + 1e-20))
