"""`rtsep.training.graphs.proof` for the live family, whose copies of the net take turns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rtsep.training.graphs import proof
from rtsep.training.graphs.graph import Carried
from rtsep.training.nets.live import FEATURES, Live
from rtsep.training.nets.spectrum import BINS


@torch.no_grad()
def moved(model: Live, other: Live, frames: int = 60, seed: int = 0) -> NDArray[np.float32]:
    """Differences (frames, 2, BINS) of the masks of two nets on the same noise."""
    field = torch.from_numpy(proof.noise(FEATURES, BINS, frames, seed))
    return (model.eval().infer(field) - other.eval().infer(field)).abs().numpy()


def deviation(model: Live, data: bytes, states: Carried, frames: int = 60, seed: int = 0) -> float:
    """Largest difference of masks and voice for noise: ONNX Runtime, frame by frame, and torch, in one pass."""
    field = proof.noise(FEATURES, BINS, frames, seed)
    model.eval()

    def worst(index: int, output: str) -> float:
        infer = proof.as_arrays(lambda x: model.hear(x)[index])
        return proof.deviation(infer, data, states, "field", field, model.config.apart, output)

    return max(worst(0, "mask"), worst(1, "vad") if model.detects else 0.0)


def chain_deviation_db(model: Live, folder: Path) -> float:
    """`proof.chain_deviation_db` against the family's offline form."""
    from rtsep.training.live import separate

    return proof.chain_deviation_db(lambda sound: separate(model, sound, autocast=False), folder)
