"""A path by bands: what belongs together across the spectrum and over time, with weights that all bands share.

The spectrum is cut into bands, narrow ones where voices have their first harmonics. Each band becomes one vector; then
blocks take turns in looking along the bands (a GRU upwards and one downwards) and along time (a gated running mean
for each number of each band, from milliseconds to seconds). At the end each band draws its bins,
and all of them together tell whether anybody sings; where nobody does, that closes the masks.

Methods: Luo and Yu, Music source separation with band-split RNN, 2023; Le and others, DPCRN: dual-path convolution
recurrent network for single channel speech enhancement, 2021; the memory over time: `rtsep.training.nets.scan`.

Shapes: T frames, B sequences, K bands, W numbers a band.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rtsep.training.nets import scan, tiles
from rtsep.training.nets.spectrum import BINS

BANDS = ((20, 2), (14, 4), (8, 8), (6, 16), (5, 52))
"""Number and width in bins: 43 Hz up to 0.9 kHz, 1.1 kHz from 5.5 to 11 kHz at 44.1 kHz."""
COUNT = sum(number for number, _ in BANDS)
MARGIN = 2  # bins that a band sees of its neighbours
SHORTEST, LONGEST = 1.5, 256.0  # frames that the memories begin with
HEARD = 32  # numbers between what the bands tell and whether anybody sings
DOUBT = 2.0  # logit of no voice from which it closes the masks


@dataclass(frozen=True, slots=True)
class BandSizes:
    """Sizes of the path; `rows` of input features, `recent` frames of them."""

    rows: int
    recent: int
    width: int
    across: int
    slow: int
    blocks: int
    voice: int = 0  # numbers that each band tells of whether anybody sings; 0: nobody asks


def edges() -> list[tuple[int, int, int]]:
    """First bin, number and width of each kind of band; the last one reaches beyond the bins."""
    found, at = [], 0
    for number, width in BANDS:
        found.append((at, number, width))
        at += number * width
    return found


def cut(x: Tensor, first: int, number: int, width: int) -> Tensor:
    """The bins (..., F) that bands see, silence beyond the ends."""
    low, high = first - MARGIN, first + number * width + MARGIN
    part = x[..., max(low, 0) : min(high, BINS)]
    return F.pad(part, (max(-low, 0), max(high - BINS, 0)))


class Block(nn.Module):
    """Along the bands, then along time; what it finds is added to what was there."""

    def __init__(self, sizes: BandSizes) -> None:
        super().__init__()
        w = sizes.width
        self.norm_across = nn.LayerNorm(w, bias=False)
        self.up, self.down = nn.GRU(w, sizes.across), nn.GRU(w, sizes.across)
        self.joined = nn.Linear(2 * sizes.across, w)
        self.norm_time = nn.LayerNorm(w, bias=False)
        self.slow = nn.Linear(w, 2 * sizes.slow)
        self.known = nn.Linear(sizes.slow, w)
        for layer in (self.joined, self.known):
            nn.init.normal_(layer.weight, std=0.5 / layer.in_features**0.5)
            nn.init.zeros_(layer.bias)
        lengths = torch.logspace(math.log10(SHORTEST), math.log10(LONGEST), sizes.slow)
        with torch.no_grad():
            self.slow.bias[: sizes.slow] = torch.log(lengths - 1)

    def forward(self, x: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Bands x (T, B, K, W) and the memory (B, K, slow) before them; both after."""
        if x.is_cuda or not torch.is_grad_enabled():
            return self.plain(x, start)
        with torch.autocast("cpu", enabled=False):
            x = tiles.along(x.float(), self.norm_across, (self.up, self.down), self.joined)
            return tiles.remembered(x, start, self.norm_time, self.slow, self.known)

    def plain(self, x: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """The same, one operation after another."""
        t, b, k, w = x.shape
        along = self.norm_across(x).permute(2, 0, 1, 3).reshape(k, t * b, w)
        with torch.autocast(x.device.type, enabled=False):  # the state must keep small changes
            along = along.to(self.up.weight_hh_l0.dtype)
            both = torch.cat([self.up(along)[0], self.down(along.flip(0))[0].flip(0)], -1)
        x = x + self.joined(both).view(k, t, b, w).permute(1, 2, 0, 3)
        gate, new = self.slow(self.norm_time(x)).chunk(2, -1)
        states = scan.run(torch.sigmoid(gate), torch.tanh(new), start)
        return x + self.known(states), states[-1]


class Voice(nn.Module):
    """Whether anybody sings, as the bands have it."""

    def __init__(self, width: int, each: int) -> None:
        super().__init__()
        self.each = nn.Linear(width, each)
        self.all = nn.Linear(COUNT * each, HEARD)
        self.out = nn.Linear(HEARD, 1)
        self.closing = nn.Parameter(torch.zeros(1))  # of the masks' logits for a logit of no voice

    def forward(self, y: Tensor) -> Tensor:
        """Bands (T, B, K, W) to logits of voice (B, T)."""
        return self.out(F.silu(self.all(F.silu(self.each(y).flatten(2)))))[..., 0].t()

    def closed(self, logits: Tensor, voice: Tensor) -> Tensor:
        """Logits of masks (B, 2, T, F) where nobody sings, by the logits of voice (B, T)."""
        return logits - (self.closing * F.softplus(-voice - DOUBT))[:, None, :, None]


class Bands(nn.Module):
    """Features to masks."""

    def __init__(self, sizes: BandSizes) -> None:
        super().__init__()
        self.sizes = s = sizes
        seen = [s.recent * (width + 2 * MARGIN) for _, width in BANDS]
        self.seen = nn.ModuleList(nn.Linear(s.rows * n, s.width, bias=False) for n in seen)
        self.place = nn.Parameter(0.3 * torch.randn(COUNT, s.width))
        self.blocks = nn.ModuleList(Block(s) for _ in range(s.blocks))
        self.norm = nn.LayerNorm(s.width, bias=False)
        inner = [max(s.width, 2 * width) for _, width in BANDS]
        self.inner = nn.ModuleList(nn.Linear(s.width, n) for n in inner)
        self.draw = nn.ModuleList(nn.Linear(n, 2 * width) for n, (_, width) in zip(inner, BANDS, strict=True))
        self.bias = nn.Parameter(torch.full((2, 1, BINS), -1.0))
        self.voice = Voice(s.width, s.voice) if s.voice else None
        for layer in self.draw:
            nn.init.normal_(layer.weight, std=0.3 / layer.in_features**0.5)
            nn.init.zeros_(layer.bias)

    @property
    def state(self) -> tuple[int, int, int]:
        """Shape of the memory of one sequence."""
        return self.sizes.blocks, COUNT, self.sizes.slow

    def encoded(self, x: Tensor, recent: int) -> Tensor:
        """Features (B, rows, T + recent - 1, F) to bands (T, B, K, W).

        With fewer frames `recent` than the net was made for, the last ones count as silence.
        """
        s, out = self.sizes, []
        for i, (first, number, width) in enumerate(edges()):
            kernel, step = width + 2 * MARGIN, (1, width)
            weight = self.seen[i].weight.view(s.width, s.rows, s.recent, kernel)[:, :, :recent]
            out.append(F.conv2d(cut(x, first, number, width), weight, stride=step))
        return torch.cat(out, 3).permute(2, 0, 3, 1) + self.place

    def forward(self, x: Tensor, start: Tensor, recent: int, blocks: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """Logits of masks (B, 2, T, F) and of voice (B, T), and the memory after (B, blocks, K, slow).

        Inputs: `encoded`. Of its blocks the first ones take part, as many as `blocks` says.
        """
        y, ends = self.encoded(x, recent), list(start.float().unbind(1))
        for i in range(blocks):
            y, ends[i] = self.blocks[i](y, start[:, i])
        y, out, at = self.norm(y), [], 0
        for (_, number, width), inner, draw in zip(edges(), self.inner, self.draw, strict=True):
            drawn = draw(F.silu(inner(y[:, :, at : at + number])))
            out.append(drawn.unflatten(3, (2, width)).permute(1, 3, 0, 2, 4).flatten(3))
            at += number
        masks, memory = torch.cat(out, 3)[..., :BINS] + self.bias, torch.stack(ends, 1)
        if self.voice is None:
            return masks, None, memory
        voice = self.voice(y)
        return self.voice.closed(masks, voice), voice, memory

    @torch.no_grad()
    def temper(self, scale: float, shift: float) -> None:
        """What `nets.live.Live.temper` does."""
        for layer in self.draw:
            layer.weight.mul_(scale)
            layer.bias.mul_(scale)
        self.bias.mul_(scale).add_(shift)
        if self.voice is not None:
            self.voice.closing.mul_(scale)
