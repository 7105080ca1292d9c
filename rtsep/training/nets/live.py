"""live: features of the stereo field, a path by bands, masks for the middle and the side, and whether anybody sings.

`nets.bands` draws the masks; here are its features, its level and its time grid.

One net for all profiles: it is trained on frames `GRID` samples apart. A stream with a hop of ``GRID / k`` runs k
interleaved copies of it that share the weights, each on every k-th frame: a mask per hop, with the same context in
seconds, and training costs the same whatever the hop. With a look-ahead of n hops the masks are those of the frame
n hops ago.

Shapes: B sequences, T frames, C channels, F = 513 bins; maps are (B, C, T, F), channels-last in memory.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rtsep.errors import UsageError
from rtsep.training.nets.bands import COUNT, Bands, BandSizes
from rtsep.training.nets.spectrum import FEATURE_MEAN, FEATURE_SCALE, SILENCE, tilt

FEATURES = 4  # |mid|, |side|, and the two parts of their normalised product (`features.stereo_field`)
GRID = 512  # samples between the frames of one copy
RECENT = 3  # frames that the bands see, up to that of the mask


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """Sizes of the net, its time grid and its level normalisation; saved in every checkpoint and exported file."""

    width: int = 64  # numbers a band
    across: int = 32  # units along the bands, each way
    slow: int = 96  # numbers that each band remembers in each block
    blocks: int = 3
    voice: int = 8  # numbers a band tells of whether anybody sings; 0: no detector
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
        return self.blocks * COUNT * self.slow

    @property
    def past(self) -> int:
        """Frames of a sequence that have no mask: those that the net sees beside the newest one."""
        return RECENT - 1 + self.ahead

    def to_dict(self) -> dict[str, object]:
        """The plain form, for a checkpoint or a log."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, object]) -> LiveConfig:
        """The inverse of `to_dict`; `UsageError` for a net of another kind.

        What only older nets had is left out: a trunk of convolutions (``dense``), where it was none, and dropout.
        """
        if values.get("dense", 0) or not values.get("width", 0):
            raise UsageError("it is a net of before, with a trunk of convolutions: train it anew")
        known = {field.name for field in fields(LiveConfig)}
        return LiveConfig(**{"voice": 0, **{name: value for name, value in values.items() if name in known}})  # type: ignore[arg-type]


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
        self.bands = Bands(BandSizes(FEATURES, RECENT + c.ahead, c.width, c.across, c.slow, c.blocks, c.voice))
        self.register_buffer("tilt", tilt(), persistent=False)

    @property
    def detects(self) -> bool:
        """Whether it tells if anybody sings."""
        return self.config.voice > 0

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
        """Features (B, 4, T, F) with the silence before them that a stream begins with."""
        past = x.new_zeros(len(x), FEATURES, self.config.past, x.shape[3])
        past[:, :2] = SILENCE
        return torch.cat([past, x], 2).contiguous(memory_format=torch.channels_last)

    def masks(
        self, x: Tensor, start: Tensor | None = None, member: LiveConfig | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Features (B, 4, T, F) to logits of masks (B, T', 2, F), of voice (B, T'), and all that is remembered.

        T' is T less the `past`. What is remembered at the end is (B, carried), as is `start`: what it begins with;
        zeros if not given. A `member` of the family hears only what lies ahead of that one, and has as many blocks;
        the masks are for the same frames.
        """
        c = self.config
        member = member or c
        start = x.new_zeros(len(x), c.carried) if start is None else start
        seen = x[:, :, : x.shape[2] - (c.ahead - member.ahead)]
        before = start.unflatten(1, self.bands.state)
        logits, voice, end = self.bands(seen, before, RECENT + member.ahead, member.blocks)
        return logits.transpose(1, 2), voice, end.flatten(1)

    @torch.no_grad()
    def temper(self, scale: float, shift: float) -> None:
        """Let the logits of the masks be ``scale * logit + shift`` from now on; only weights change.

        A net is surer of songs that it has seen than of others: a scale under 1 takes that back, a shift above 0 keeps
        more of the voice (Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, 2017).
        """
        self.bands.temper(scale, shift)

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
