"""Training of the head that divides the accompaniment; the voice's mask and detector stay exactly as they are.

    rtsep train koretzky --part stems --data DATA --init models/koretzky

The trunk only listens: the head gets its features, its dense layer and its mask of the voice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rtsep.errors import UsageError
from rtsep.evaluation.scores import sdr_gain
from rtsep.training.checkpoints import read_checkpoint
from rtsep.training.data.sources import CACHE_RATE, Clip, load
from rtsep.training.data.stems_mixer import StemMixer, StemSong, drum_loops, stem_songs
from rtsep.training.evaluate import BINS, resynthesize, spectra, widen
from rtsep.training.folded import first_net
from rtsep.training.losses import FLOOR
from rtsep.training.nets.koretzky import Koretzky, NetConfig
from rtsep.training.nets.spectrum import CONTEXT
from rtsep.training.nets.stems import NAMES, StemHead
from rtsep.training.precision import mixed
from rtsep.training.trainer import Run, Settings, Task, train_task

#: Voice against accompaniment in the songs that are scored, dB.
BALANCE_DB = -3.0


@dataclass(frozen=True, slots=True)
class StemSettings(Settings):
    """Everything that shapes a run; saved in its checkpoints."""

    steps: int = 1500
    optimizer: str = "adamw"
    lr: float = 3e-3
    weight_decay: float = 1e-2
    warmup: int = 50
    ema: float = 0.99
    frames: int = 48  # of a sequence
    sources: int = 8
    rolls: int = 2
    recent: int = 16  # newest frames that the head sees
    channels: int = 24
    units: int = 64
    begin: str = ""  # model folder or checkpoint with the trunk
    target: str = "soft"  # of the trunk's mask
    lookahead: int = 0  # of the trunk
    fixed_norms: bool = True  # the trunk's batch normalisation is folded away


def stems_loss(logits: Tensor, mask: Tensor, magnitude: Tensor, cross: Tensor, energy: Tensor) -> Tensor:
    """`losses.soft_mask` of each part of the accompaniment, whose masks are shares of what the voice leaves.

    Parameters
    ----------
    logits : Tensor, shape (B, T, 3, F)
    mask, magnitude : Tensor, shape (B, T, F)
        Of the voice; of the mixture.
    cross, energy : Tensor, shapes (B, T, 3, F) and (B, 3)
        As `StemMixer.stems_batch` gives them.
    """
    power = magnitude.square()[:, :, None]
    own = logits.softmax(2) * (1 - mask)[:, :, None]
    error = (own * (own * power - 2 * cross)).sum((1, 3)) + energy
    relative = error.clamp_min(0) / (power.sum((1, 3)) + 1e-9)
    weight = magnitude.sqrt()[:, :, None]
    best = (cross / (power + 1e-12)).clamp(0, 1)
    squared = (weight * (own - best).square()).sum((1, 3)) / (weight.sum((1, 3)) + 1e-9)
    return (0.5 * torch.log(relative + FLOOR) + 5.0 * squared).mean()


class StemsTask(Task):
    """The head; the trunk is named by the settings."""

    name = "koretzky"
    settings_kind = StemSettings

    @cached_property
    def trunk(self) -> Koretzky:
        """The net that draws the mask of the voice, without a head."""
        return without_head(first_net(Path(self.settings.begin))[0])

    @cached_property
    def mixer(self) -> StemMixer:
        """The sound."""
        s: StemSettings = self.settings
        return StemMixer(
            load(self.data, self.cache, s.split),
            stem_songs(self.data, self.cache, "train"),
            drum_loops(self.data, self.cache),
            seed=s.seed,
            frames=s.frames,
            sources=s.sources,
            rolls=s.rolls,
            lookahead=s.lookahead,
        )

    def model(self) -> nn.Module:
        s: StemSettings = self.settings
        return StemHead(s.recent, s.channels, s.units, self.trunk.config.dense)

    def whole(self, head: nn.Module) -> Koretzky:
        """Trunk and head as one net, ready to infer."""
        s: StemSettings = self.settings
        out = Koretzky(replace(self.trunk.config, stem_frames=s.recent, stem_channels=s.channels, stem_dense=s.units))
        state = self.trunk.state_dict() | {f"stems.{k}": v.cpu() for k, v in head.state_dict().items()}
        out.load_state_dict(state)
        return out.eval()

    def run(self, device: torch.device) -> Run:
        return StemsRun(self, device)

    def batch(self, step: int) -> Mapping[str, Any]:
        return self.mixer.stems_batch(step)

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        magnitude, count = batch["magnitude"], self.settings.frames
        trunk = self.trunk.to(magnitude.device)
        with mixed(magnitude.device):
            with torch.no_grad():
                relative = trunk.level.relative(magnitude, batch["start"])
                features = trunk.level.features(relative)
                hidden = trunk.mask_net.hidden(trunk.mask_net.maps(features))
                mask = trunk.masks(trunk.mask_net.out(hidden).float(), relative[:, CONTEXT - 1 :])
            logits = model(features, hidden).float()
        begin = CONTEXT - 1 - self.settings.lookahead
        return stems_loss(logits, mask, magnitude[:, begin : begin + count], batch["cross"], batch["energy"])

    def score(self, model: nn.Module) -> dict[str, Any]:
        """Mean gains in SDR over the mixture on dev songs with dev voices, dB."""
        voices = load(self.data, self.cache, "dev").voices
        songs = stem_songs(self.data, self.cache, "dev")
        return mean_gains(self.whole(model), mixtures(songs, voices, 12.0), self.settings.lookahead)


class StemsRun(Run):
    """A training whose checkpoints hold trunk and head, as `rtsep export` and `first_net` read them."""

    task: StemsTask

    def values(self) -> dict[str, Any]:
        found, mean = super().values(), self.task.model()
        mean.load_state_dict(self.mean)
        whole = self.task.whole(mean)
        return found | {"part": "stems", "net": whole.config.to_dict(), "mean": whole.state_dict()}

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        whole = Koretzky(NetConfig.from_dict(checkpoint["net"]))
        whole.load_state_dict(checkpoint["mean"])
        self.task.trunk = without_head(whole)
        head = {k.removeprefix("stems."): v for k, v in checkpoint["mean"].items() if k.startswith("stems.")}
        super().restore({**checkpoint, "mean": head})


def without_head(model: Koretzky) -> Koretzky:
    """The same net without a head for stems."""
    out = Koretzky(replace(model.config, stem_frames=0))
    out.load_state_dict(model.state_dict(), strict=False)
    return out.eval().requires_grad_(False)


@dataclass(frozen=True, slots=True)
class Mixture:
    """A song with a voice on it; each part (channels, frames), their sum is the song."""

    name: str
    vocals: NDArray[np.float32]
    parts: dict[str, NDArray[np.float32]]

    @property
    def sound(self) -> NDArray[np.float32]:
        """The song."""
        return self.vocals + np.sum(list(self.parts.values()), axis=0)


def mixtures(songs: list[StemSong], voices: list[Clip], seconds: float, stereo: bool = False) -> list[Mixture]:
    """Fixed mixtures to score: song i with voice i, `seconds` of the middle of each, the voice at `BALANCE_DB`."""
    found = []
    for i, song in enumerate(songs):
        voice = voices[i % len(voices)]
        frames = min(int(seconds * CACHE_RATE), voice.frames, *(clip.frames for clip in song.parts))
        start = (song.parts[0].frames - frames) // 2
        sounds = [
            clip.read_channels(start, frames) if stereo else clip.read(start, frames)[None] for clip in song.parts
        ]
        channels = max(len(sound) for sound in sounds)
        parts = {name: np.repeat(s, channels // len(s), 0) for name, s in zip(NAMES, sounds, strict=True)}
        vocals = np.repeat(voice.read((voice.frames - frames) // 3, frames)[None], channels, 0)
        music = np.sum(list(parts.values()), axis=0)
        gain = np.sqrt((music**2).mean() / ((vocals**2).mean() + 1e-12)) * 10 ** (BALANCE_DB / 20)
        peak = max(1.0, float(np.abs(music + gain * vocals).max()))
        parts = {name: part / np.float32(peak) for name, part in parts.items()}
        found.append(Mixture(f"{voice.name} x {song.name}", vocals * np.float32(gain / peak), parts))
    return found


def mean_gains(model: Koretzky, songs: list[Mixture], lookahead: int = 0) -> dict[str, float]:
    """Gain in SDR over the mixture of each part of mono mixtures, dB, means; by a short offline form of the stream."""
    rows = []
    for song in songs:
        sound = song.sound
        x = spectra(np.pad(sound[0], (0, lookahead * 512)))
        magnitude = torch.from_numpy(np.abs(x[:, :BINS]))
        mask, shares = model.infer(magnitude)[0].numpy(), model.infer_shares(magnitude).numpy()
        left = sound[0] - resynthesize(x * widen(mask[lookahead:]), sound.shape[1])
        found = {}
        for k, name in enumerate(NAMES[:2]):
            found[name] = resynthesize(x * widen((1 - mask[lookahead:]) * shares[lookahead:, k]), sound.shape[1])
        found["other"] = left - found["drums"] - found["bass"]
        rows.append([sdr_gain(song.parts[name], found[name][None], sound) for name in NAMES])
    return dict(zip(NAMES, np.mean(rows, 0).round(3).tolist(), strict=True))


def train_stems(settings: Settings, *, init: Path | None, runs: Path, resume: bool, **options: Any) -> Path:
    """Train the head of `init`; options as in `rtsep.training.trainer.train_task`.

    Raises
    ------
    UsageError
        No net to begin with, or a checkpoint to resume that is none of this.
    """
    last = runs / "last.pt"
    if resume and last.exists():
        if read_checkpoint(last).get("part") != "stems":
            raise UsageError(f"{last} is not a run of the stems: give another --runs")
    elif init is None:
        raise UsageError("--part stems needs --init: a model folder, or a checkpoint with a trained mask")
    else:
        assert isinstance(settings, StemSettings)
        settings = replace(settings, begin=str(init.resolve()), fixed_norms=first_net(init)[1])
    return train_task(StemsTask, settings, runs=runs, resume=resume, **options)
