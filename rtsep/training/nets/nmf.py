"""NMF with fixed bases: patches of 20 frames as sums of patches learned from voices alone and from music alone.

Source: the baseline of A. J. R. Simpson, G. Roma, M. D. Plumbley, "Deep karaoke: extracting vocals from musical
mixtures using a convolutional deep neural network", 2015: 20-frame patches, Kullback-Leibler updates, bases held at
test, a soft mask V_v / (V_v + V_nv), averaged over the patches that overlap. Ours: bands instead of bins above
2.8 kHz, a bounded number of updates a hop that begin where the last hop ended, and look-aheads: of the patches that
overlap, a stream has those that ended by now.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

BINS = 513
#: Bins of a band and number of such bands, from bin 0; the highest bin gets the mask of the last band.
WIDTHS = ((1, 128), (2, 64), (4, 64))
BANDS = sum(count for _, count in WIDTHS)
#: Which band a bin lies in.
BAND_OF_BIN = np.append(np.repeat(np.arange(BANDS), np.repeat(*np.array(WIDTHS).T)), BANDS - 1)
#: Keeps a quotient finite in silence.
TINY = 1e-20

Floats = NDArray[np.float32]


def emphasis() -> Floats:
    """Factor of each band, which lets the weaker high ones count: the root of its kHz at 44.1 kHz."""
    middle = np.array([np.flatnonzero(BAND_OF_BIN[:-1] == band).mean() for band in range(BANDS)])
    return np.sqrt(np.maximum(middle * 44100 / 2048, 100.0) / 1000.0).astype(np.float32)


def bands(magnitude: Floats) -> Floats:
    """Magnitudes (T, 513) summed to bands (T, 256), emphasised."""
    parts, first = [], 0
    for width, count in WIDTHS:
        parts.append(magnitude[:, first : first + width * count].reshape(-1, count, width).sum(-1))
        first += width * count
    return np.concatenate(parts, axis=1) * emphasis()


class Nmf(nn.Module):
    """Bases of voice and music, and how a stream is taken apart with them.

    Parameters
    ----------
    bases : int
        Of voice; as many of music.
    frames : int
        Of a patch.
    updates : int
        Multiplicative updates of the activations a hop.
    start : float
        Share of even activations that each hop begins with; the rest is what the last hop found.
    """

    def __init__(self, bases: int, frames: int, updates: int, start: float) -> None:
        super().__init__()
        self.frames, self.updates, self.start = frames, updates, start
        drawn = torch.rand(2, bases, frames * BANDS) + 0.5
        #: Voice, then music; each basis sums to 1.
        self.bases = nn.Parameter(drawn / drawn.sum(-1, keepdim=True), requires_grad=False)
        #: For the learning: numerators and weights of the bases so far.
        self.register_buffer("sums", torch.zeros(2, bases, frames * BANDS))
        self.register_buffer("counts", torch.zeros(2, bases, 1))

    def begin(self, patches: Tensor) -> None:
        """Begin the bases (2, bases, frames x bands) with patches, mixed with their mean."""
        some = 0.8 * patches[:, : self.bases.shape[1]] + 0.2 * patches.mean(1, keepdim=True)
        self.bases.copy_(some / some.sum(-1, keepdim=True))

    def learn(self, source: int, patches: Tensor, updates: int, keep: float) -> float:
        """One step of online NMF on patches (P, frames x bands) that sum to 1; their divergence from the model before.

        Source: A. Lefevre, F. Bach, C. Fevotte, "Online algorithms for nonnegative matrix factorization with the
        Itakura-Saito divergence", WASPAA 2011, here with the Kullback-Leibler divergence.
        """
        basis = self.bases[source]
        h = torch.full((len(patches), len(basis)), 1.0 / len(basis), device=patches.device)
        for _ in range(updates):
            h *= (patches / (h @ basis + TINY)) @ basis.T
        model = h @ basis
        ratio = patches / (model + TINY)
        loss = float((patches * torch.log(ratio + TINY)).sum(-1).mean())
        self.sums[source].mul_(keep).add_(basis * (h.T @ ratio))
        self.counts[source].mul_(keep).add_(h.sum(0)[:, None])
        new = self.sums[source] / (self.counts[source] + TINY) + 1e-3 * TINY
        self.bases[source].copy_(new / new.sum(-1, keepdim=True))
        return loss

    @torch.no_grad()
    def infer(self, magnitude: Floats) -> Floats:
        """Masks (T, frames, 513) of a stream of magnitudes (T, 513), hop by hop.

        Row n of hop t is for frame t - n: the mean over the n + 1 patches that hold it by then.
        """
        everything = self.bases.reshape(-1, self.bases.shape[-1])
        count = len(everything)
        patch, waiting = torch.zeros(self.frames, BANDS), torch.zeros(self.frames - 1, BANDS)
        patches = torch.arange(self.frames, 0, -1)[:, None]
        h = torch.zeros(1, count)
        found = []
        for row in torch.from_numpy(bands(magnitude)):
            patch = torch.cat([patch[1:], row[None]])
            v = patch.reshape(1, -1)
            h = ((1 - self.start) * h / (h.sum() + TINY) + self.start / count) * v.sum()
            for _ in range(self.updates):
                h = h * ((v / (h @ everything + TINY)) @ everything.T)
            voice, music = (part @ half for part, half in zip(h.split(count // 2, dim=1), self.bases, strict=True))
            masks = (voice / (voice + music + TINY)).reshape(self.frames, BANDS)
            sums = torch.cat([waiting, torch.zeros(1, BANDS)]) + masks
            waiting = sums[1:]
            found.append((sums / patches).flip(0))
        return torch.stack(found).numpy()[:, :, BAND_OF_BIN]
