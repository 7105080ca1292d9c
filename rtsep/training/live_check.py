"""`rtsep.training.proof` for the live family, whose copies of the net take turns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rtsep.training import proof
from rtsep.training.graph import Carried
from rtsep.training.nets.live import BINS, FEATURES, Live


@torch.no_grad()
def moved(model: Live, other: Live, frames: int = 60, seed: int = 0) -> NDArray[np.float32]:
    """Differences (frames, 2, BINS) of the masks of two nets on the same noise."""
    field = torch.from_numpy(proof.noise(FEATURES, BINS, frames, seed))
    return (model.eval().infer(field) - other.eval().infer(field)).abs().numpy()


def deviation(model: Live, data: bytes, states: Carried, frames: int = 60, seed: int = 0) -> float:
    """Largest difference of the masks of noise between ONNX Runtime, frame by frame, and torch, in one pass."""
    field = proof.noise(FEATURES, BINS, frames, seed)
    return proof.deviation(proof.as_arrays(model.eval().infer), data, states, "field", field, model.config.apart)


def chain_deviation_db(model: Live, folder: Path) -> float:
    """`proof.chain_deviation_db` against the family's offline form."""
    from rtsep.training.live import separate

    return proof.chain_deviation_db(lambda sound: separate(model, sound, autocast=False), folder)
