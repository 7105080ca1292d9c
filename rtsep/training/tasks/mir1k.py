"""What the nets of the MIR-1K protocol share: sound, loss, scores and export. They are trained alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from rtsep.errors import UsageError
from rtsep.evaluation.scores import sdr, sdr_gain
from rtsep.training.data.mir1k import SINGERS, Floats, Mir1kMixer, dev_songs, pairs
from rtsep.training.evaluate import separate
from rtsep.training.nets.narrow import BINS, NarrowNet, discriminative, masking
from rtsep.training.precision import mixed
from rtsep.training.trainer import Settings, Task

if TYPE_CHECKING:
    from rtsep.training.made import Made


@dataclass(frozen=True, slots=True)
class Mir1kSettings(Settings):
    """Of all these nets."""

    steps: int = 400
    lr: float = 2e-3
    warmup: int = 20
    ema: float = 0.98
    units: int = 256
    lookahead: int = 0  # hops: 1 shows the next frame too, as the sources do
    frames: int = 128  # of a sequence
    sequences: int = 16  # of a batch
    masking: bool = True  # the masking layer is trained through; off: the outputs learn the magnitudes themselves
    gamma: float = 0.05  # weight of the discriminative term
    shift: bool = True  # augmentation: half of the voices shifted around the end of their songs
    speed: float = 0.0  # augmentation: tape speed up to 1 + speed
    equalize: float = 0.0  # augmentation: dB of a smooth curve over the bins of each part


class Mir1kTask(Task):
    """A net of `NarrowNet`'s kind."""

    settings_kind = Mir1kSettings
    summary: ClassVar[str]

    def net(self) -> NarrowNet:
        """The net with random weights."""
        raise NotImplementedError

    def model(self) -> nn.Module:
        if self.settings.lookahead not in (0, 1):
            raise UsageError(f"--lookahead {self.settings.lookahead}: {self.name} looks ahead by 0 or 1 hops")
        return self.net()

    @cached_property
    def mixer(self) -> Mir1kMixer:
        """The sound."""
        s = self.settings
        songs = list(pairs(self.data, self.cache, lambda singer, _: singer in SINGERS))
        return Mir1kMixer(
            songs,
            seed=s.seed,
            frames=s.frames,
            sequences=s.sequences,
            shift=s.shift,
            speed=s.speed,
            equalize=s.equalize,
        )

    def batch(self, step: int) -> Mapping[str, Any]:
        return self.mixer.batch(step)

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        s: Mir1kSettings = self.settings
        with mixed(batch["magnitude"].device):
            voice, music = (y.float() for y in model(batch["magnitude"], batch["start"]))
        assert isinstance(model, NarrowNet)
        begin = model.frames - 1 - s.lookahead
        mixture, *truths = (batch[key][:, begin : begin + voice.shape[1]] for key in ("mixture", "voice", "music"))
        if s.masking:
            mask = masking(voice, music)
            voice, music = mask * mixture, (1 - mask) * mixture
        return discriminative((voice, music), (truths[0], truths[1]), s.gamma)

    def score(self, model: nn.Module) -> dict[str, Any]:
        """Mean gains in whole-song SDR on the dev songs, dB."""
        assert isinstance(model, NarrowNet)
        device = next(model.parameters()).device

        def infer(magnitude: Floats) -> Floats:
            mask: Floats = model.infer(torch.from_numpy(magnitude).to(device)).cpu().numpy()
            return mask

        rows = []
        for song in dev_songs(self.data, self.cache):
            mixture = song.vocals + song.accompaniment
            vocals = separate(infer, mixture[None], BINS, self.settings.lookahead)[0]
            music = mixture - vocals
            gains = (sdr_gain(song.vocals, vocals, mixture), sdr_gain(song.accompaniment, music, mixture))
            rows.append((sdr(song.vocals, mixture), *gains))
        names = ("mixture", "vocals_gain", "accompaniment_gain")
        return dict(zip(names, np.mean(rows, 0).round(3).tolist(), strict=True)) if rows else {}

    @classmethod
    def made(cls, checkpoint: Mapping[str, Any], storage: str) -> Made:
        from rtsep.training.graphs.narrow import made

        return made(cls.restored(checkpoint), cls.summary, storage)
