"""live: features of the stereo field, a path by bands, masks for the middle and the side, and whether anybody sings.

What is shipped draws its masks by `nets.bands` alone. A net may have a trunk as well, as all had before: koretzky's
four convolutions and two pools over 25 frames and a dense layer; a GRU after it, which adds to it what it remembers;
and a small convolution that sees the newest three frames and the drawn masks, and corrects them bin by bin. The path
by bands then corrects them once more.

One net for all profiles: it is trained on frames `GRID` samples apart. A stream with a hop of ``GRID / k`` runs k
interleaved copies of it that share the weights, each on every k-th frame: a mask per hop, with the same context in
seconds, and training costs the same whatever the hop. With a look-ahead of n hops the masks are those of the frame
n hops ago.

Shapes: B sequences, T frames, C channels, F = 513 bins; maps are (B, C, T, F), channels-last in memory.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rtsep.training import gru
from rtsep.training.nets.bands import COUNT, Bands, BandSizes
from rtsep.training.nets.spectrum import (
    BINS,
    CONTEXT,
    FEATURE_MEAN,
    FEATURE_SCALE,
    LEAK,
    SILENCE,
    SequenceDropout,
    tilt,
)

FEATURES = 4  # |mid|, |side|, and the two parts of their normalised product (`features.stereo_field`)
GRID = 512  # samples between the frames of one copy
RECENT = 3  # frames that the last convolution sees
WIDE = 5  # and bins


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """Sizes of the net, its time grid and its level normalisation; saved in every checkpoint and exported file."""

    channels: tuple[int, int, int, int] = (16, 16, 16, 16)
    dense: int = 0  # of the trunk; 0 for a net without
    units: int = 384  # of the trunk's memory
    local: int = 24
    width: int = 64  # of the path by bands: numbers a band; 0 for a net without
    across: int = 32  # units along the bands, each way
    slow: int = 96  # numbers that each band remembers in each block
    blocks: int = 3
    voice: int = 8  # numbers a band tells of whether anybody sings; 0: no detector
    dropout_pool: float = 0.04  # the mash-ups are endless: more made the net too small for them
    dropout_dense: float = 0.12
    level_decay: float = 0.995  # per `GRID` samples: 2.3 s at 44.1 kHz
    level_floor: float = 1e-3
    compression: float = 100.0
    hop: int = 256
    lookahead: int = 0  # hops, a multiple of `apart`

    @property
    def apart(self) -> int:
        """Copies that take turns: hops between two frames of one of them."""
        return GRID // self.hop

    @property
    def ahead(self) -> int:
        """Look-ahead in frames of one copy."""
        return self.lookahead // self.apart

    @property
    def carried(self) -> int:
        """Size of what a copy remembers: `Live.masks`."""
        return (self.units if self.dense else 0) + (self.blocks * COUNT * self.slow if self.width else 0)

    def to_dict(self) -> dict[str, object]:
        """The plain form, for a checkpoint or a log."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, object]) -> LiveConfig:
        """The inverse of `to_dict`."""
        values = {"width": 0, "voice": 0, **values}  # nets from before there was one
        return LiveConfig(**{k: tuple(v) if isinstance(v, list | tuple) else v for k, v in values.items()})  # type: ignore[arg-type]


def running_mean(x: Tensor, decay: float, before: Tensor | None = None, block: int = 256) -> Tensor:
    """Mean of the past and present of x (B, T), older values fading by `decay` a frame; the start is not padded.

    `before` (B, 2) is what went before: the mean at the first frame, and its weight, 0 for nothing to 1 for endless.
    """
    n = torch.arange(block, device=x.device)
    weights = torch.where(n[:, None] <= n, (1 - decay) * decay ** (n - n[:, None]).clamp_min(0).float(), 0.0)
    total, out = x.new_zeros(len(x), 1), []
    for part in x.split(block, 1):
        t = part.shape[1]
        sums = part @ weights[:t, :t] + total * decay ** (n[:t] + 1.0)
        total = sums[:, -1:]
        out.append(sums)
    fading = decay ** torch.arange(1.0, x.shape[1] + 1, device=x.device)
    if before is None:
        return torch.cat(out, 1) / (1 - fading)
    mean, weight = before[:, :1], before[:, 1:] * fading
    return (torch.cat(out, 1) + weight * mean) / (1 - fading + weight)


class Live(nn.Module):
    """Features of the stereo field to masks of middle and side, frame by frame."""

    def __init__(self, config: LiveConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or LiveConfig()
        if not (c.dense or c.width):
            raise ValueError("a net without trunk and without path by bands draws nothing")
        if c.dense:
            self._add_trunk()
        if c.width:
            sizes = BandSizes(FEATURES, RECENT + c.ahead, c.width, c.across, c.slow, c.blocks, c.voice)
            self.bands = Bands(sizes, told=c.dense > 0)
        self.register_buffer("tilt", tilt(), persistent=False)

    def _add_trunk(self) -> None:
        c = self.config
        sizes = (FEATURES, *c.channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=(0, 1), dilation=(1 if i < 2 else 3, 1))
            for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in c.channels)
        self.dense = nn.Linear(c.channels[-1] * (BINS // 9), c.dense)
        self.norm_dense = nn.BatchNorm1d(c.dense)
        self.memory = nn.GRU(c.dense, c.units)
        self.recall = nn.Linear(c.units, c.dense)
        self.out = nn.Linear(c.dense, 2 * BINS)
        self.seen = nn.Conv2d(FEATURES, c.local, (RECENT, WIDE), padding=(0, WIDE // 2))
        self.drawn = nn.Conv2d(2, c.local, (1, WIDE), padding=(0, WIDE // 2), bias=False)
        self.norm_local = nn.BatchNorm2d(c.local)
        self.touch = nn.Conv2d(c.local, 2, (1, WIDE), padding=(0, WIDE // 2))
        self.drop = SequenceDropout(c.dropout_pool)
        self.drop_dense = nn.Dropout(c.dropout_dense)
        for layer in (*self.convs, self.dense):  # torch's own default shrinks the signal 25 times on the way
            nn.init.kaiming_normal_(layer.weight, a=LEAK)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.out.weight, std=0.3 / c.dense**0.5)
        nn.init.constant_(self.out.bias, -1.0)
        for last in (self.recall, self.touch):  # memory and correction begin with nothing to say
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    @property
    def detects(self) -> bool:
        """Whether it tells if anybody sings."""
        return self.config.width > 0 and self.config.voice > 0

    def features(self, field: Tensor, warm: Tensor | None = None) -> Tensor:
        """Stereo field (B, T, 4, F) to maps (B, 4, T, F) that do not depend on the playing level.

        `warm` (B) tells how many times as loud as the sequence the music before it was; 0 for none.
        """
        c = self.config
        magnitude = field[:, :, :2] * self.tilt
        level = magnitude.square().sum(2).sqrt().mean(-1)
        before = None if warm is None else torch.stack([warm * level.mean(1), (warm > 0).to(level)], 1)
        level = running_mean(level, c.level_decay, before) + c.level_floor
        scaled = torch.log1p(magnitude * (c.compression / level)[..., None, None])
        x = torch.cat([(scaled - FEATURE_MEAN) / FEATURE_SCALE, field[:, :, 2:]], 2)
        return x.transpose(1, 2).contiguous(memory_format=torch.channels_last)

    def after_silence(self, x: Tensor) -> Tensor:
        """Features (B, 4, T, F) with the context of silence before them that a stream begins with."""
        past = x.new_zeros(len(x), FEATURES, CONTEXT - 1, x.shape[3])
        past[:, :2] = SILENCE
        return torch.cat([past, x], 2).contiguous(memory_format=torch.channels_last)

    def trunk(self, x: Tensor) -> Tensor:
        """Features (B, 4, T, F) to the dense layer (B, T - 24, dense)."""
        x = F.leaky_relu_(self.norms[0](self.convs[0](x)), LEAK)
        x = F.max_pool2d(self.convs[1](x), 3, stride=(1, 3))
        x = self.drop(F.leaky_relu_(self.norms[1](x), LEAK))
        x = F.leaky_relu_(self.norms[2](self.convs[2](x)), LEAK)
        x = F.max_pool2d(self.convs[3](x), 3, stride=(1, 3), dilation=(3, 1))
        x = self.drop(F.leaky_relu_(self.norms[3](x), LEAK))
        x = self.dense(x.permute(0, 2, 3, 1).flatten(2))
        return F.leaky_relu(self.norm_dense(x.transpose(1, 2)).transpose(1, 2), LEAK)

    def masks(
        self, x: Tensor, start: Tensor | None = None, member: LiveConfig | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Features (B, 4, T, F) to logits of masks (B, T - 24, 2, F), of voice (B, T - 24), and all that is remembered.

        What is remembered at the end is (B, carried), as is `start`: what it begins with; zeros if not given. With a
        `member` of the family the path by bands hears only what lies ahead of that one, and has as many blocks; the
        masks are for the same frames.
        """
        c, logits, voice = self.config, None, None
        member = member or c
        start = x.new_zeros(len(x), c.carried) if start is None else start
        ends = []
        if c.dense:
            logits, end = self._by_trunk(x, start[:, : c.units])
            ends.append(end)
        if c.width:
            seen = x[:, :, CONTEXT - RECENT - c.ahead : x.shape[2] - (c.ahead - member.ahead)]
            before = start[:, -self.bands.size :].unflatten(1, self.bands.state)
            more, voice, slow = self.bands(seen, logits, before, RECENT + member.ahead, member.blocks)
            logits = more if logits is None else logits + more
            ends.append(slow.flatten(1))
        assert logits is not None
        return logits.transpose(1, 2), voice, torch.cat(ends, 1)

    def _by_trunk(self, x: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Features to the logits (B, 2, T - 24, F) of the trunk, and its memory (B, units)."""
        first, ahead = CONTEXT - RECENT, self.config.ahead
        hidden = self.drop_dense(self.trunk(x))
        states = gru.run(self.memory, hidden.transpose(0, 1), start)
        recalled = self.recall(states.transpose(0, 1))
        logits = self.out(hidden + recalled).unflatten(2, (2, BINS)).transpose(1, 2)
        late = x[:, :, first - ahead : x.shape[2] - ahead]
        local = F.leaky_relu_(self.norm_local(self.seen(late) + self.drawn(logits)), LEAK)
        return logits + self.touch(local), states[-1]

    def forward(self, field: Tensor) -> Tensor:
        """Stereo field (B, T, 4, F) of frames `GRID` apart to logits (B, T - 24, 2, F).

        Row t has heard the frames t .. t + 24; it is for the last of them, or for that `ahead` frames before.
        """
        return self.masks(self.features(field))[0]

    @torch.no_grad()
    def temper(self, scale: float, shift: float) -> None:
        """Let the logits of the masks be ``scale * logit + shift`` from now on; only weights change.

        A net is surer of songs that it has seen than of others: a scale under 1 takes that back, a shift above 0 keeps
        more of the voice (Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, 2017).
        """
        if self.config.dense:
            for layer in (self.out, self.touch):
                layer.weight.mul_(scale)
                layer.bias.mul_(scale)
            self.drawn.weight.div_(scale)
        if self.config.width:
            self.bands.temper(scale, shift)
        else:
            self.touch.bias.add_(shift)

    def infer(self, field: Tensor) -> Tensor:
        """Masks (T, 2, F) of one whole stream of fields (T, 4, F), hop by hop."""
        return self.hear(field)[0]

    @torch.no_grad()
    def hear(self, field: Tensor) -> tuple[Tensor, ...]:
        """`infer`; and where there is a detector, the probabilities of voice (T, 1, 1)."""
        k, t = self.config.apart, len(field)
        turns = F.pad(field, (0, 0, 0, 0, 0, -t % k)).unflatten(0, (-1, k)).transpose(0, 1)  # (k, T / k, 4, F)
        x = self.features(turns)
        logits, voice, _ = self.masks(self.after_silence(x))
        found = [logits] if voice is None else [logits, voice[..., None, None]]
        return tuple(torch.sigmoid(of.float()).transpose(0, 1).flatten(0, 1)[:t] for of in found)
