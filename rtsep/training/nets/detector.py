"""The memory of koretzky's voice detector: a GRU over what both nets make of each frame.

A CNN of 0.3 s takes a violin for a singer for a whole phrase. The GRU sees the dense layers of both CNNs and how much
of the frame's energy the mask keeps, in bands, and carries what it has heard from frame to frame.

Shapes: B sequences, T frames, F = 513 bins, H units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rtsep.training import gru

EDGES = (2, 6, 11, 18, 30, 50, 85, 150, 513)  # bins: 43 Hz to 11 kHz at 44.1 kHz
BANDS = len(EDGES) - 1
FLOOR = 1e-3  # of the energy of a band, of tilted magnitudes over the running level
SETTLED = 1e-6  # change of the state per frame at which it counts as that of endless silence
BLOCK = 256  # frames of silence between two looks at it
BLOCKS = 1024  # and at most so many


def band_matrix(bins: int) -> Tensor:
    """Which bins belong to a band, shape (bins, `BANDS`)."""
    index = torch.arange(bins)
    return torch.stack([(index >= a) & (index < b) for a, b in zip(EDGES[:-1], EDGES[1:], strict=True)], 1).float()


class Detector(nn.Module):
    """One voice logit a frame from the dense layers of both nets, the mask, and all frames before.

    Parameters
    ----------
    vad_dense, mask_dense : int
        Width of the dense layers.
    look : int
        Numbers that it takes of the mask net's: fixed combinations (`look`), which hold most of what varies in them.
    units : int
        Of the GRU.
    bins : int
    dropout : float
        Of the inputs, drawn per sequence.
    """

    def __init__(self, vad_dense: int, mask_dense: int, look: int, units: int, bins: int, dropout: float) -> None:
        super().__init__()
        self.vad_dense, self.dropout = vad_dense, dropout
        size = vad_dense + 2 * BANDS + look
        self.gru = nn.GRU(size, units)
        self.out = nn.Linear(units, 1)
        self.register_buffer("bands", band_matrix(bins), persistent=False)
        self.register_buffer("look", torch.randn(mask_dense, look) / mask_dense**0.5)
        self.register_buffer("shift", torch.zeros(size))  # mean and spread of the inputs
        self.register_buffer("scale", torch.ones(size))

    def gather(self, of_vad: Tensor, of_mask: Tensor, relative: Tensor, mask: Tensor) -> Tensor:
        """What it sees, (B, T, vad_dense + 2 BANDS + look).

        Of the dense layers (B, T, ...) and the log energy per band before and after the mask: magnitudes over the
        level and mask, both (B, T, F).
        """
        power = torch.cat([relative.square() @ self.bands, (relative * mask).square() @ self.bands], -1)
        return torch.cat([of_vad, torch.log(power + FLOOR), of_mask @ self.look], -1)

    def forward(self, seen: Tensor, start: Tensor) -> Tensor:
        """What `gather` gives, state before it (H): logits (B, T)."""
        return self.out(self.states(seen, start))[..., 0].t()

    def states(self, seen: Tensor, start: Tensor) -> Tensor:
        """The states of the GRU, (T, B, H)."""
        x = (seen - self.shift) / self.scale
        if self.training:
            x = self._disturb(x)
        return gru.run(self.gru, x.transpose(0, 1).contiguous(), start)

    def _disturb(self, x: Tensor) -> Tensor:
        """Dropout of inputs for a whole sequence; never of the energies."""
        keep = (torch.rand(len(x), 1, x.shape[-1], device=x.device) >= self.dropout) / (1 - self.dropout)
        keep[..., self.vad_dense : self.vad_dense + 2 * BANDS] = 1.0
        return x * keep

    @torch.no_grad()
    def settled(self, silence: Tensor, start: Tensor | None = None, blocks: int = BLOCKS) -> Tensor:
        """State (H) after endless silence, which is seen as `silence` (1, 1, ...); `start` may be near it."""
        was = self.training
        self.eval()
        seen = silence.expand(1, BLOCK, -1)
        state = self.gru.weight_hh_l0.new_zeros(self.gru.hidden_size) if start is None else start
        for _ in range(blocks):
            last, state = self.states(seen, state)[-2:, 0]
            if (state - last).abs().max() < SETTLED:
                break
        self.train(was)
        return state
