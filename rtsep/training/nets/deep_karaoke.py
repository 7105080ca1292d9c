"""deep-karaoke: a feed-forward net of sigmoids that says, for each cell of 20 frames at once, whether voice prevails.

Source: A. J. R. Simpson, G. Roma, M. D. Plumbley, "Deep Karaoke: extracting vocals from musical mixtures using a
convolutional deep neural network" (2015). His: windows of 20 frames at unit scale, sigmoid layers, the ideal binary
mask as target, and the sliding of the window by one frame, which makes up to 20 predictions of each cell; their mean S
is thresholded by a confidence.

Ours, to play on one CPU core and fit in 4 MB: the lower 513 bins folded into `BANDS` bands, hidden layers of a few
hundred units instead of 20,500, magnitudes over a running level. Of a look-ahead of n frames the cells of the frame
n hops ago have n + 1 predictions; `DeepKaraoke.infer` gives the means for every n at once.

Shapes: B sequences, T frames, F = 513 bins, K = `BANDS`, N = `FRAMES`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rtsep.training.nets.koretzky import Level, NetConfig

BINS = 513
BANDS = 128
FRAMES = 20
FINE = 64  # bins, from 0, that are bands of their own: up to 1.4 kHz at 44.1 kHz
UNIT = 8.0  # log1p of the loudest cells over the level: features lie between 0 and 1
MEAN, SPREAD = 0.54, 0.2  # of the features over music: what is centred is learned faster


def band_of() -> Tensor:
    """Band of each bin, (F,) of int64: single bins at first, then ever wider bands."""
    edges = FINE * (BINS / FINE) ** (torch.arange(BANDS - FINE + 1, dtype=torch.float64) / (BANDS - FINE))
    edges = edges.round().long()
    for i in range(1, len(edges)):  # none is empty
        edges[i] = max(int(edges[i]), int(edges[i - 1]) + 1)
    low = torch.arange(FINE)
    return torch.cat([low, FINE + torch.searchsorted(edges, torch.arange(FINE, BINS), right=True) - 1])


def band_matrix() -> Tensor:
    """Mean over the bins of each band, (F, K)."""
    share = F.one_hot(band_of(), BANDS).float()
    return share / share.sum(0)


class DeepKaraoke(nn.Module):
    """Magnitudes to the probability of voice in each cell of the last 20 frames."""

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        self.level = Level(NetConfig())
        sizes = [FRAMES * BANDS, *[hidden] * layers, FRAMES * BANDS]
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
        self.register_buffer("bands", band_matrix(), persistent=False)
        self.register_buffer("band_of", band_of(), persistent=False)
        for layer in self.dense:
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.dense[-1].weight, std=0.5 / hidden**0.5)
        nn.init.constant_(self.dense[-1].bias, -1.0)

    @torch.no_grad()
    def features(self, magnitude: Tensor, start: Tensor | None = None) -> Tensor:
        """Magnitude (B, T, F), level and weight before it (B, 2) or None: (B, T, K) between 0 and 1."""
        over = self.level.relative(magnitude, start)
        return (torch.log1p(self.level.compression * self.fold(over)) / UNIT).clamp_max(1.0)

    def fold(self, x: Tensor) -> Tensor:
        """Root of the mean square of each band, (..., F) to (..., K)."""
        return (x.square() @ self.bands).sqrt()

    def logits(self, windows: Tensor) -> Tensor:
        """Features of windows (..., N, K) to logits of the same shape."""
        x = (windows.flatten(-2) - MEAN) / SPREAD
        for layer in self.dense[:-1]:
            x = 4.0 * torch.sigmoid(layer(x)) - 2.0
        return self.dense[-1](x).unflatten(-1, (FRAMES, BANDS))

    def predictions(self, magnitude: Tensor) -> Tensor:
        """Of one whole stream (T, F): what the window that ends at each frame says of its frames, (T, N, K)."""
        x = F.pad(self.features(magnitude[None])[0], (0, 0, FRAMES - 1, 0))
        return torch.sigmoid(self.logits(x.unfold(0, FRAMES, 1).transpose(1, 2)))

    @torch.no_grad()
    def infer(self, magnitude: Tensor) -> Tensor:
        """Mean predictions of one whole stream (T, F): row n of (T, N, F) is for the frame n hops ago."""
        return sliding_mean(self.predictions(magnitude))[..., self.band_of]


def sliding_mean(predictions: Tensor) -> Tensor:
    """Means of the predictions (T, N, K) that there are of a frame at its n-th hop, for each n: (T, N, K).

    The window that ends at frame t says of frame t - n what lies in its row N - 1 - n.
    """
    by_age = predictions.flip(1)
    total, out = torch.zeros_like(by_age[0]), []
    for now in by_age:
        total = torch.cat([torch.zeros_like(total[:1]), total[:-1]]) + now
        out.append(total)
    count = torch.arange(1, by_age.shape[1] + 1, device=by_age.device)
    return torch.stack(out) / count[:, None]
