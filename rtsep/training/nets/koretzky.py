"""koretzky: two small CNNs over 25 frames, one says whether there is a voice, one draws the mask of one frame.

A head beside the mask may divide what the voice leaves into stems (`rtsep.training.nets.stems`). Instead of the CNN a
net of the live family may say whether there is a voice: it remembers seconds, not 0.3 s.

Source: E. Koretzky, "Audio AI: isolating vocals from stereo music using convolutional neural networks" (2019);
layers, activations and the binary-mask target are his. The layers, per net, on 25 frames by 513 bins::

    conv 3x3, conv 3x3, max pool 3x3, conv 3x3, conv 3x3, max pool 3x3, flatten, dense, dense (1 or 513, sigmoid)

Ours: convolutions are "same" in frequency but *valid* in time, so that exactly 25 frames collapse to one
(25, 23, 21, 7, 5, 3, 1). Sliding that window by one frame is then the same arithmetic as one pass in which
everything after the first pool is dilated by 3 in time. `Koretzky.forward` is that pass: each frame is computed
once (a few MMAC) instead of 25 times. The streaming export keeps the last frames of each layer as its state.

Also ours: batch normalisation after each convolution (or its pool) and the first dense layer, which is folded into
them for use; without it the same loss took about four times the steps.

Shapes: B sequences, T frames, F = 513 bins; time is always the axis before frequency.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rtsep.training.nets.live import GRID, Live, LiveConfig
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
from rtsep.training.nets.stems import StemHead

LEAST = 0.1  # of a magnitude over the level where a magnitude of the vocals is divided by it
# A voice that goes on is not 13 dB (3 nepers of energy) softer than it was in the last half minute: below that
# the logit of voice loses 0.05 a neper. What was loudest is forgotten by 1 dB in 3 s.
VOICE_RANGE, VOICE_DOUBT, VOICE_FORGET = 3.0, 0.05, 8.9e-4
VOICE_FLOOR = 1e-9  # energy of nothing


@dataclass(frozen=True, slots=True)
class NetConfig:
    """Sizes of the nets and of the level normalisation; saved in every checkpoint."""

    channels: tuple[int, int, int, int] = (16, 16, 16, 16)
    dense: int = 512
    vad_channels: tuple[int, int, int, int] = (16, 16, 16, 16)
    vad_dense: int = 64
    dropout_pool: float = 0.05  # the source: 0.25 and 0.5, for one fixed set of songs; mash-ups need less
    dropout_dense: float = 0.2
    level_decay: float = 0.995  # per frame: 2.3 s at hop 512, 44.1 kHz
    level_floor: float = 1e-3  # of the mean magnitude of a frame: below 16-bit dither
    compression: float = 100.0
    vad_smooth: float = 0.8  # the logit of the detector's CNN is a running mean with this decay: 52 ms
    vad_blocks: int = 0  # of a net of the live family that is the detector instead of the CNN; 0: the CNN
    output: str = "mask"  # of the mask net; "magnitude": of the vocals, over the level, linear
    stem_frames: int = 0  # newest frames that the head for the stems sees; 0: there is none
    stem_channels: int = 24
    stem_dense: int = 64

    def to_dict(self) -> dict[str, object]:
        """The plain form, for a checkpoint or a log."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, object]) -> NetConfig:
        """The inverse of `to_dict`."""
        lists = {key: tuple(value) if isinstance(value, list | tuple) else value for key, value in values.items()}
        return NetConfig(**lists)  # type: ignore[arg-type]


class Level(nn.Module):
    """Magnitudes to features: their log over a running level, so that the playing level does not matter.

    The level is an exponential mean, over the past only, of the mean tilted magnitude of a frame. Its weight is
    carried beside it, so that the first frames after a reset are not judged against a level of zero. Digital
    silence gives features of exactly `SILENCE`.
    """

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.decay, self.floor, self.compression = config.level_decay, config.level_floor, config.compression
        self.register_buffer("tilt", tilt(), persistent=False)

    def forward(self, magnitude: Tensor, start: Tensor | None = None) -> Tensor:
        """Magnitude (B, T, F), start (B, 2) level and weight before it, or None for zeros: features (B, T, F)."""
        return self.features(self.relative(magnitude, start))

    def features(self, relative: Tensor) -> Tensor:
        """Features of magnitudes over the level."""
        return (torch.log1p(self.compression * relative) - FEATURE_MEAN) / FEATURE_SCALE

    def relative(self, magnitude: Tensor, start: Tensor | None = None) -> Tensor:
        """Tilted magnitudes over the running level, (B, T, F)."""
        x = magnitude * self.tilt
        mean = x.mean(-1)
        level = torch.empty_like(mean)
        total = mean.new_zeros(mean.shape[0]) if start is None else start[:, 0]
        weight = mean.new_zeros(mean.shape[0]) if start is None else start[:, 1]
        for t in range(mean.shape[1]):
            total = self.decay * total + (1 - self.decay) * mean[:, t]
            weight = self.decay * weight + (1 - self.decay)
            level[:, t] = total / weight
        return x / (level + self.floor)[..., None]


class FrameNet(nn.Module):
    """One of the two nets: 25 frames of features to `outputs` logits, evaluated on all frames of a sequence at once."""

    def __init__(self, channels: tuple[int, int, int, int], dense: int, outputs: int, config: NetConfig) -> None:
        super().__init__()
        sizes = (1, *channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=(0, 1), dilation=(1 if i < 2 else 3, 1))
            for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in channels)
        self.dense = nn.Linear(channels[-1] * (BINS // 9), dense)
        self.norm_dense = nn.BatchNorm1d(dense)
        self.out = nn.Linear(dense, outputs)
        self.drop = SequenceDropout(config.dropout_pool)
        self.drop_dense = nn.Dropout(config.dropout_dense)
        for layer in (*self.convs, self.dense):  # torch's own default shrinks the signal 25 times on the way
            nn.init.kaiming_normal_(layer.weight, a=LEAK)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.out.weight, std=0.3 / dense**0.5)
        nn.init.constant_(self.out.bias, -1.0 if outputs > 1 and config.output == "mask" else 0.0)

    # The layers one by one, so that the streaming export can ask each for its value in silence.
    # LeakyReLU comes after the pool instead of before it: the same values (it is monotonic) on a ninth of the cells.

    def conv1(self, x: Tensor) -> Tensor:
        """(B, 1, T, 513) to (B, C, T - 2, 513)."""
        return F.leaky_relu_(self.norms[0](self.convs[0](x)), LEAK)

    def conv2(self, x: Tensor) -> Tensor:
        """(B, C, T, 513) to (B, C, T - 2, 513), before the pool."""
        return self.convs[1](x)

    def pool1(self, x: Tensor) -> Tensor:
        """(B, C, T, 513) to (B, C, T - 2, 171)."""
        return F.leaky_relu_(self.norms[1](F.max_pool2d(x, 3, stride=(1, 3))), LEAK)

    def conv3(self, x: Tensor) -> Tensor:
        """(B, C, T, 171) to (B, C, T - 6, 171)."""
        return F.leaky_relu_(self.norms[2](self.convs[2](x)), LEAK)

    def conv4(self, x: Tensor) -> Tensor:
        """(B, C, T, 171) to (B, C, T - 6, 171), before the pool."""
        return self.convs[3](x)

    def pool2(self, x: Tensor) -> Tensor:
        """(B, C, T, 171) to (B, C, T - 6, 57)."""
        return F.leaky_relu_(self.norms[3](F.max_pool2d(x, 3, stride=(1, 3), dilation=(3, 1))), LEAK)

    def maps(self, features: Tensor) -> Tensor:
        """Features (B, T, F) to what the convolutions make of them, (B, T - 24, 57 * C), bins outermost."""
        x = features.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        x = self.drop(self.pool1(self.conv2(self.conv1(x))))
        x = self.drop(self.pool2(self.conv4(self.conv3(x))))
        return x.permute(0, 2, 3, 1).flatten(2)

    def hidden(self, maps: Tensor) -> Tensor:
        """`maps` to the dense layer before the last, (B, T, dense)."""
        return F.leaky_relu(self.norm_dense(self.dense(maps).transpose(1, 2)).transpose(1, 2), LEAK)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, T, F) to logits (B, T - 24, outputs): row t has seen the features t .. t + 24."""
        return self.out(self.drop_dense(self.hidden(self.maps(features))))


def field_of(magnitude: Tensor) -> Tensor:
    """Magnitudes (..., F) of a mono stream as a stereo field (..., 4, F)."""
    return torch.stack([magnitude, *[torch.zeros_like(magnitude)] * 3], -2)


def doubt(voice: Tensor) -> Tensor:
    """What magnitudes of a stream's vocals (T, F) add to the logits of voice (T,): 0 where they are loud, else less."""
    energy = (voice.double().square().sum(-1) + VOICE_FLOOR).log()
    risen = VOICE_FORGET * torch.arange(len(energy), device=energy.device)
    loudest = (energy + risen).cummax(0).values - risen
    return VOICE_DOUBT * (energy - loudest + VOICE_RANGE).clamp_max(0).to(voice)


class Koretzky(nn.Module):
    """Voice detector and mask net behind one level normalisation; perhaps a head that divides the accompaniment."""

    def __init__(self, config: NetConfig | None = None) -> None:
        super().__init__()
        self.config = config or NetConfig()
        c = self.config
        self.level = Level(c)
        self.mask_net = FrameNet(c.channels, c.dense, BINS, c)
        self.vad_net = None if c.vad_blocks else FrameNet(c.vad_channels, c.vad_dense, 1, c)
        self.vad_bands = Live(LiveConfig(hop=GRID, blocks=c.vad_blocks)) if c.vad_blocks else None
        self.stems = StemHead(c.stem_frames, c.stem_channels, c.stem_dense, c.dense) if c.stem_frames else None

    def forward(self, magnitude: Tensor, start: Tensor | None = None, pad: bool = False) -> tuple[Tensor, Tensor]:
        """Magnitude (B, T, F) to what the mask net says (B, T', F; see `masks`) and logits of voice (B, T').

        T' is T - 24, or T with `pad`, which puts 24 silent frames before the sequence, as a stream starts.
        """
        features = self._padded(self.level.relative(magnitude, start), pad)
        outputs = self.mask_net(features)
        if self.vad_bands is None:
            return outputs, self.cnn(features)
        seen = self.vad_bands.features(field_of(magnitude))
        voice = self.vad_bands.masks(self.vad_bands.after_silence(seen) if pad else seen)[1]
        assert voice is not None
        return outputs, voice[:, -outputs.shape[1] :]

    def cnn(self, features: Tensor) -> Tensor:
        """Logits of voice (B, T - 24) of the detector that is a CNN, for features (B, T, F)."""
        assert self.vad_net is not None
        return self.vad_net(features)[..., 0]

    def _padded(self, relative: Tensor, pad: bool) -> Tensor:
        features = self.level.features(relative)
        return F.pad(features, (0, 0, CONTEXT - 1, 0), value=SILENCE) if pad else features

    def masks(self, outputs: Tensor, relative: Tensor) -> Tensor:
        """Masks of what the mask net says and the magnitudes over the level of the same frames, all (B, T, F)."""
        if self.config.output == "mask":
            return torch.sigmoid(outputs)
        return (outputs / relative.clamp_min(LEAST)).clamp(0, 1)

    @torch.no_grad()
    def infer(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """Mask (T, F) and voice probability (T,) of one whole stream of magnitudes (T, F)."""
        mask, vad = self(magnitude[None], pad=True)
        mask = self.masks(mask, self.level.relative(magnitude[None]))[0]
        logit = vad[0] if self.vad_bands is not None else self.smooth(vad[0]) + doubt(magnitude * mask)
        return mask, torch.sigmoid(logit)

    @torch.no_grad()
    def infer_shares(self, magnitude: Tensor) -> Tensor:
        """Shares of drums and bass in the accompaniment, (T, 2, F), of one whole stream of magnitudes (T, F)."""
        assert self.stems is not None
        features = self._padded(self.level.relative(magnitude[None]), True)
        logits = self.stems(features, self.mask_net.hidden(self.mask_net.maps(features)))
        return logits[0].softmax(1)[:, :2]

    @torch.no_grad()
    def silence_logit(self) -> float:
        """What the detector's CNN says of endless silence."""
        return float(self.cnn(torch.full((1, CONTEXT, BINS), SILENCE, device=self.level.tilt.device)))

    def smooth(self, logits: Tensor) -> Tensor:
        """Running mean of the CNN's logits (..., T), which begins with that of silence."""
        decay, value = self.config.vad_smooth, torch.full_like(logits[..., 0], self.silence_logit())
        out = []
        for logit in logits.unbind(-1):
            value = decay * value + (1 - decay) * logit
            out.append(value)
        return torch.stack(out, -1)
