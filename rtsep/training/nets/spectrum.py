"""What the nets agree on: bins, frames, and features of magnitudes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BINS = 513
CONTEXT = 25  # frames
LEAK = 0.1  # of LeakyReLU
FEATURE_MEAN, FEATURE_SCALE = 3.0, 1.5
"""Of log1p magnitudes over the training data: features are near zero mean, unit variance."""
SILENCE = -FEATURE_MEAN / FEATURE_SCALE
"""The feature of digital silence."""


def tilt(bins: int = BINS) -> Tensor:
    """Fixed weight per bin, shape (bins,): lifts the treble, which music holds 30 to 50 dB lower than the bass."""
    return ((torch.arange(bins, dtype=torch.float32) + 4.0) / 64.0) ** 0.7


class SequenceDropout(nn.Module):
    """Dropout of cells (channel, bin) for a whole sequence at once: as hard on a window, far fewer draws."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, T, F), unchanged."""
        if not self.training or self.p <= 0:
            return x
        keep = torch.rand(x.shape[0], x.shape[1], 1, x.shape[3], device=x.device) >= self.p
        return x * (keep / (1 - self.p)).to(x.dtype).contiguous(memory_format=torch.channels_last)
