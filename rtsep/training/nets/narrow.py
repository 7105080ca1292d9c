"""What the nets of the MIR-1K protocol share: the grid, the level, the masking layer and its loss.

The sources work at 16 kHz with a window of 1024: bins 15.6 Hz apart, up to 8 kHz. Here it is the stream's own
spectrum, window 2048 and hop 512 at 44.1 kHz: bins 21.5 Hz apart, of which the first `BINS` reach 8 kHz. Nothing is
resampled, and above 8 kHz the mask of the highest bin goes on.

Shapes: B sequences, T frames, F = `BINS`; the output for frame t is that of the mask of frame ``t - lookahead``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rtsep.training.nets.koretzky import Level, NetConfig
from rtsep.training.nets.spectrum import SILENCE, tilt

BINS = 372
TINY = 1e-6  # least output: the quotient of two of them stays a number


def masking(voice: Tensor, music: Tensor) -> Tensor:
    """The deterministic masking layer: which share of the mixture is voice, of two positive outputs of any shape.

    ``y1 / (y1 + y2)``; its complement is that of the music, so the estimates sum to the mixture.
    Source: P.-S. Huang, M. Kim, M. Hasegawa-Johnson, P. Smaragdis, "Singing-voice separation from monaural recordings
    using deep recurrent neural networks", ISMIR 2014, where the outputs are of any sign and their sizes count. Ours are
    positive (softplus): a mask near 0 then needs no output that is 0 to the last digit.
    """
    return voice / (voice + music)


def sources(values: Tensor) -> tuple[Tensor, Tensor]:
    """The positive outputs of both sources, (..., F) each, of a last layer's values (..., 2 F)."""
    voice, music = F.softplus(values).clamp_min(TINY).split(BINS, -1)
    return voice, music


def discriminative(estimates: tuple[Tensor, Tensor], truths: tuple[Tensor, Tensor], gamma: float) -> Tensor:
    """Squared error to the truth, less `gamma` times that to the other source's truth (same source)."""
    (voice, music), (true_voice, true_music) = estimates, truths
    loss = F.mse_loss(voice, true_voice) + F.mse_loss(music, true_music)
    if gamma:
        loss = loss - gamma * (F.mse_loss(voice, true_music) + F.mse_loss(music, true_voice))
    return loss


class NarrowNet(nn.Module):
    """A net from magnitudes to one value per source and bin, masked.

    Parameters
    ----------
    frames : int
        How many neighbouring frames it sees at once, the newest last.
    lookahead : int
        Hops that the newest is ahead of the frame whose mask it draws.
    """

    def __init__(self, frames: int, lookahead: int) -> None:
        super().__init__()
        self.frames, self.lookahead = frames, lookahead
        self.level = Level(NetConfig())
        self.level.register_buffer("tilt", tilt(BINS), persistent=False)

    def outputs(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, frames, F) to the two sources' outputs (B, T, F)."""
        raise NotImplementedError

    def forward(self, magnitude: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Magnitudes (B, T, F) to both outputs, (B, T - frames + 1, F).

        `start` (B, 2) is level and weight before the first frame; zeros if None.
        """
        features = self.level(magnitude, start)
        return self.outputs(features.unfold(1, self.frames, 1).transpose(2, 3))

    @torch.no_grad()
    def infer(self, magnitude: Tensor) -> Tensor:
        """Masks (T, F) of a whole stream's magnitudes (T, F), silence before its start."""
        features = self.level(magnitude[None])
        before = features.new_full((1, self.frames - 1, BINS), SILENCE)
        seen = torch.cat([before, features], 1).unfold(1, self.frames, 1).transpose(2, 3)
        return masking(*self.outputs(seen))[0]
