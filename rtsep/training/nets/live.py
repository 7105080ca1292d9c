"""live: a causal convolutional U-Net over folded bands with recurrent memory, masks for the middle and the side.

768 bins (up to 16.5 kHz at 44.1 kHz) become 64 rows: 32 of 6 bins, then 32 of 18, neighbouring bins folded into
channels. Convolutions see the newest two frames and three rows; they halve the rows twice. In the middle a small GRU
is shared by the 16 rows, and one global GRU sees them all. The way up adds what the way down had at each size. Two
masks come out, for (L + R) / 2 and (L - R) / 2: a voice in the middle lets the whole side go.

Profiles of one family share the weights' shapes: `monitor` has half the hop, `karaoke` looks ahead by n frames. Then
every map on the way across is kept back by n frames, so that the masks are made of the very frame that they are for,
and only what the GRU has heard since then is new.

Shapes: B sequences, T frames, C channels, R rows; maps are (B, C, T, R), channels-last in memory.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rtsep.training import gru

BINS = 768
FEATURES = 4  # |mid|, |side|, and the two parts of their normalised product (`features.stereo_field`)
LOW, HIGH, ROWS = 6, 18, 32  # bins of a low and of a high row; rows of each
SPLIT = LOW * ROWS
FEATURE_MEAN, FEATURE_SCALE = 3.0, 1.5  # of log1p(100 x / level)


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """Sizes of the net, its time grid and its level normalisation; saved in every checkpoint and exported file."""

    channels: tuple[int, int, int] = (48, 64, 96)
    row_units: int = 48
    squeeze: int = 32  # channels of each row that the global GRU sees
    units: int = 256
    leak: float = 0.1
    level_decay: float = 0.9975  # per 256 samples: 2.3 s at 44.1 kHz
    level_floor: float = 1e-3
    compression: float = 100.0
    hop: int = 256
    lookahead: int = 0  # frames: the mask given out is for the frame that came so many frames ago

    @property
    def decay(self) -> float:
        """Level decay per frame."""
        return self.level_decay ** (self.hop / 256)

    def to_dict(self) -> dict[str, object]:
        """The plain form, for a checkpoint or a log."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, object]) -> LiveConfig:
        """The inverse of `to_dict`."""
        return LiveConfig(**{k: tuple(v) if isinstance(v, list | tuple) else v for k, v in values.items()})  # type: ignore[arg-type]


def tilt(bins: int = BINS) -> Tensor:
    """Fixed weight per bin: lifts the treble, which music holds 30 to 50 dB lower than the bass."""
    return ((torch.arange(bins, dtype=torch.float32) + 4.0) / 64.0) ** 0.7


def running_mean(x: Tensor, decay: float, block: int = 256) -> Tensor:
    """Mean of the past and present of x (B, T), older values fading by `decay` a frame; the start is not padded."""
    n = torch.arange(block, device=x.device)
    weights = torch.where(n[:, None] <= n, (1 - decay) * decay ** (n - n[:, None]).clamp_min(0).float(), 0.0)
    total, out = x.new_zeros(len(x), 1), []
    for part in x.split(block, 1):
        t = part.shape[1]
        sums = part @ weights[:t, :t] + total * decay ** (n[:t] + 1.0)
        total = sums[:, -1:]
        out.append(sums)
    return torch.cat(out, 1) / (1 - decay ** torch.arange(1.0, x.shape[1] + 1, device=x.device))


def kept_back(x: Tensor, frames: int, dim: int) -> Tensor:
    """`x`, so many frames late along `dim`; zeros come first."""
    if not frames:
        return x
    rest = x.shape[dim] - min(frames, x.shape[dim])
    none = torch.zeros_like(x.narrow(dim, 0, x.shape[dim] - rest))
    return torch.cat([none, x.narrow(dim, 0, rest)], dim)


class Conv(nn.Module):
    """Causal convolution over two frames and three rows, batch normalisation, leaky ReLU; `stride` in rows."""

    def __init__(self, inputs: int, outputs: int, leak: float, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, (2, 3), (1, stride), bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.leak = leak

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, R) to (B, C', T, R / stride); zeros before the first frame."""
        return F.leaky_relu_(self.norm(self.conv(F.pad(x, (1, 1, 1, 0)))), self.leak)


class Up(nn.Module):
    """Twice the rows, by a product with 1 x 1 weights."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 2 * outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, R) to (B, C', T, 2 R)."""
        x = self.conv(x).permute(0, 2, 3, 1)  # (B, T, R, 2 C'): as it lies in memory
        return x.reshape(x.shape[0], x.shape[1], 2 * x.shape[2], -1).permute(0, 3, 1, 2)


class Memory(nn.Module):
    """The recurrent middle: a GRU shared by the rows, then one over all of them; both add to what they see."""

    def __init__(self, channels: int, rows: int, config: LiveConfig) -> None:
        super().__init__()
        self.row = nn.GRU(channels, config.row_units)
        self.row_out = nn.Linear(config.row_units, channels)
        self.squeeze = nn.Linear(channels, config.squeeze)
        self.all = nn.GRU(rows * config.squeeze, config.units)
        self.all_out = nn.Linear(config.units, rows * channels)
        self.lookahead = config.lookahead

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, R), unchanged in shape."""
        b, c, t, r = x.shape
        flat = x.permute(2, 0, 3, 1).reshape(t, b * r, c)
        flat = flat + self.row_out(gru.run(self.row, flat))
        seen = self.squeeze(flat).reshape(t, b, -1)
        late = kept_back(flat, self.lookahead, 0)
        out = (late.reshape(t, b, -1) + self.all_out(gru.run(self.all, seen))).reshape(t, b, r, c)
        return out.permute(1, 3, 0, 2).contiguous(memory_format=torch.channels_last)


class Live(nn.Module):
    """Features of the stereo field to masks of middle and side, frame by frame."""

    def __init__(self, config: LiveConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or LiveConfig()
        first, second, third = c.channels
        self.low = nn.Linear(FEATURES * LOW, first)
        self.high = nn.Linear(FEATURES * HIGH, first)
        self.place = nn.Parameter(torch.zeros(2 * ROWS, first))  # tells the rows apart
        self.norm = nn.BatchNorm2d(first)
        self.enter = Conv(first, first, c.leak)
        self.down1 = Conv(first, second, c.leak, 2)
        self.mid1 = Conv(second, second, c.leak)
        self.down2 = Conv(second, third, c.leak, 2)
        self.mid2 = Conv(third, third, c.leak)
        self.memory = Memory(third, ROWS // 2, c)
        self.deep = Conv(third, third, c.leak)
        self.up2 = Up(third, second)
        self.wide2 = Conv(second, second, c.leak)
        self.up1 = Up(second, first)
        self.wide1 = Conv(first, first, c.leak)
        self.out_low = nn.Linear(first, 2 * LOW)
        self.out_high = nn.Linear(first, 2 * HIGH)
        self.register_buffer("tilt", tilt(), persistent=False)
        for layer in (self.out_low, self.out_high):
            nn.init.normal_(layer.weight, std=0.05)
            nn.init.constant_(layer.bias, -1.0)

    def normalise(self, field: Tensor) -> Tensor:
        """Stereo field (B, T, 4, BINS) to features of the same shape that do not depend on the playing level."""
        c = self.config
        magnitude = field[:, :, :2] * self.tilt
        level = running_mean(magnitude.square().sum(2).sqrt().mean(-1), c.decay) + c.level_floor
        scaled = torch.log1p(magnitude * (c.compression / level)[..., None, None])
        return torch.cat([(scaled - FEATURE_MEAN) / FEATURE_SCALE, field[:, :, 2:]], 2)

    def forward(self, field: Tensor) -> Tensor:
        """Stereo field (B, T, 4, BINS) to logits of the masks (B, T, 2, BINS), those of frame t - n at t."""
        b, t = field.shape[:2]
        x = self.normalise(field)
        low = x[..., :SPLIT].reshape(b, t, FEATURES, ROWS, LOW).transpose(2, 3).reshape(b, t, ROWS, -1)
        high = x[..., SPLIT:].reshape(b, t, FEATURES, ROWS, HIGH).transpose(2, 3).reshape(b, t, ROWS, -1)
        x = (torch.cat([self.low(low), self.high(high)], 2) + self.place).permute(0, 3, 1, 2)
        x0 = self.enter(F.leaky_relu_(self.norm(x), self.config.leak))
        x1 = self.mid1(self.down1(x0))
        x2 = self.mid2(self.down2(x1))
        x = self.deep(self.memory(x2))
        n = self.config.lookahead
        x = self.wide2(self.up2(x) + kept_back(x1, n, 2))
        x = (self.wide1(self.up1(x) + kept_back(x0, n, 2))).permute(0, 2, 3, 1)  # (B, T, R, C)
        low = self.out_low(x[:, :, :ROWS]).reshape(b, t, ROWS, 2, LOW).transpose(2, 3).reshape(b, t, 2, -1)
        high = self.out_high(x[:, :, ROWS:]).reshape(b, t, ROWS, 2, HIGH).transpose(2, 3).reshape(b, t, 2, -1)
        return torch.cat([low, high], -1)

    @torch.no_grad()
    def infer(self, field: Tensor) -> Tensor:
        """Masks (T, 2, BINS) of one whole stream of fields (T, 4, BINS)."""
        return torch.sigmoid(self(field[None])[0].float())
