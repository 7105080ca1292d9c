"""What divides the accompaniment for koretzky: the shares of drums, bass and the rest, bin by bin.

Ours; the source only says that the same logic was extended to more stems. The head stands on the trunk that draws the
vocal mask, which it leaves as it is. Drums are told from tones by how a bin rises and falls and by how smooth the
spectrum is around it, so the newest frames (0.19 s) are channels of a convolution over the bins; a dense layer sees
the whole spectrum of that and the trunk's own dense layer, and says what plays at all.

Shapes: B sequences, T frames, F = 513 bins; time is always the axis before frequency.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BINS = 513
LEAK = 0.1
POOL = 27  # bins that the dense layer sees as one
WIDTH, APART = 5, 3  # bins of a kernel, and how far apart those of the second one are
NAMES = ("drums", "bass", "other")


class StemHead(nn.Module):
    """Shares of the three parts of the accompaniment.

    Parameters
    ----------
    frames : int
        Newest frames that it sees.
    channels, dense : int
        Of the convolutions; units of the dense layer.
    hidden : int
        Units of the trunk's dense layer.
    """

    def __init__(self, frames: int, channels: int, dense: int, hidden: int) -> None:
        super().__init__()
        self.frames = frames
        self.near = nn.Conv1d(frames, channels, WIDTH, padding=WIDTH // 2)
        self.wide = nn.Conv1d(channels, channels, WIDTH, padding=APART * (WIDTH // 2), dilation=APART)
        self.last = nn.Conv1d(channels, channels, WIDTH, padding=WIDTH // 2)
        self.norms = nn.ModuleList(nn.BatchNorm1d(channels) for _ in range(3))
        self.place = nn.Parameter(torch.zeros(channels, BINS))  # which bin it is
        self.dense = nn.Linear(channels * (BINS // POOL) + hidden, dense)
        self.back = nn.Linear(dense, channels)
        self.bins = nn.Linear(dense, len(NAMES) * BINS, bias=False)
        self.out = nn.Conv1d(channels, len(NAMES), 1)
        self.drop = nn.Dropout(0.1)
        for layer in (self.near, self.wide, self.last, self.dense):
            nn.init.kaiming_normal_(layer.weight, a=LEAK)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.bins.weight, std=0.1 / dense**0.5)

    def forward(self, features: Tensor, hidden: Tensor) -> Tensor:
        """Features (B, T + frames - 1, F) or more before them, hidden (B, T, units) to logits (B, T, 3, F)."""
        batch, count = hidden.shape[:2]
        recent = features[:, features.shape[1] - count - self.frames + 1 :].unfold(1, self.frames, 1)
        x = recent.permute(0, 1, 3, 2).reshape(batch * count, self.frames, BINS)
        x = F.leaky_relu(self.norms[0](self.near(x)) + self.place, LEAK)
        x = F.leaky_relu(self.norms[1](self.wide(x)), LEAK)
        seen = torch.cat([F.avg_pool1d(x, POOL).flatten(1), hidden.flatten(0, 1)], 1)
        known = self.drop(F.leaky_relu(self.dense(seen), LEAK))
        x = F.leaky_relu(self.norms[2](self.last(x)) + self.back(known)[..., None], LEAK)
        return (self.out(x) + self.bins(known).view(-1, len(NAMES), BINS)).view(batch, count, len(NAMES), BINS)
