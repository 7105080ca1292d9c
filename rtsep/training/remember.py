"""Training of the memory of koretzky's detector; everything else in the net stays exactly as it is.

What the memory sees of long mixtures is computed once, without gradient, and kept on disk as float16 (5 MB for 16
mixtures of 15 s); it then learns from that in steps of a fraction of a second. All follows from the seed, and a run
that was stopped goes on with the same curve.

The nets have learned the training singers by heart and know no other as well. So the memory must not trust them: in
training they seem to see less of the voice than they do, by an amount drawn for each sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rtsep.errors import UsageError
from rtsep.training.augment import Mixer
from rtsep.training.checkpoints import read_checkpoint, write_checkpoint
from rtsep.training.data import load
from rtsep.training.folded import first_net
from rtsep.training.journal import Journal
from rtsep.training.long import LongMixer
from rtsep.training.nets.detector import BANDS, FLOOR, Detector
from rtsep.training.nets.koretzky import Koretzky
from rtsep.training.precision import mixed
from rtsep.training.schedule import follow, rate

Heard = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """Everything that shapes a run; saved in its checkpoints."""

    target: str = "soft"  # of the mask net, as it was trained
    lookahead: int = 0
    seed: int = 0
    steps: int = 300
    batches: int = 48  # of 16 mixtures to learn from
    frames: int = 1290  # of a mixture: 15 s
    sources: int = 8
    rolls: int = 2
    sequences: int = 16  # of a step
    lr: float = 4e-3
    weight_decay: float = 1e-2
    warmup: int = 30
    decay_from: float = 0.3
    ema: float = 0.99
    unheard: float = 0.3  # weight of frames whose voice is too far under the music to be heard
    units: int = 48
    look: int = 32
    dropout: float = 0.3
    weaker: float = 0.5  # the dense layers are scaled by 1 down to 1 minus this
    noise: float = 0.25  # spread of a constant error of each input
    lost_db: float = 10.0  # voice that the mask may seem to lose, at most
    voiced_weight: float = 2.0  # of a frame with voice: songs hold more of it than the mixtures made here
    fixed_norms: bool = False  # batch normalisation of the net is folded away
    split: str = "train"


@torch.no_grad()
def hear(model: Koretzky, mixer: Mixer, index: int) -> Heard:
    """What the memory sees of a batch of the mixer, and the targets."""
    batch = mixer.batch(index)
    rows = []
    for magnitude, start in zip(batch.magnitude, batch.start, strict=True):
        relative = model.level.relative(torch.from_numpy(magnitude)[None], torch.from_numpy(start)[None])
        with mixed(torch.device("cpu")):
            rows.append(model.senses(relative)[1][0].half().numpy())
    return {"seen": np.stack(rows), "vad": batch.vad.astype(np.uint8), "weight": batch.vad_weight.astype(np.uint8)}


@torch.no_grad()
def look_at(model: Koretzky, mixer: Mixer, size: int, sequences: int = 8) -> Tensor:
    """Combinations of the mask net's dense layer (dense, size): its principal components over some mixtures."""
    batch = mixer.batch(0)
    rows = []
    for magnitude in batch.magnitude[:sequences]:
        with mixed(torch.device("cpu")):
            features = model.level(torch.from_numpy(magnitude)[None])
            rows.append(model.mask_net.hidden(model.mask_net.maps(features))[0].float())
    return components(torch.cat(rows), size)


def components(x: Tensor, size: int) -> Tensor:
    """The first principal components of rows (N, D) as columns (D, size), so scaled that each varies by 1."""
    values, vectors = torch.linalg.eigh(torch.cov(x.t()))
    return vectors[:, -size:] / values[-size:].clamp_min(1e-6).sqrt()


def hear_all(
    model: Koretzky, mixer: Mixer, folder: Path, batches: int, more: Callable[[int], bool] | None = None
) -> list[Heard]:
    """`hear` of so many batches, through files in `folder`; stops early where `more` says no."""
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for index in range(batches):
        path = folder / f"{index:04d}.npz"
        if not path.exists():
            part = path.with_suffix(".part.npz")
            np.savez(part, **hear(model, mixer, index))
            part.replace(path)
        with np.load(path) as found:
            out.append(dict(found))
        if more is not None and not more(index + 1):
            break
    return out


def give_memory(model: Koretzky, config: MemoryConfig) -> Koretzky:
    """The same net with a memory that knows nothing yet; nothing but that is left to train."""
    torch.manual_seed(config.seed)
    net = replace(model.config, vad_memory=config.units, vad_look=config.look, vad_dropout=config.dropout)
    out = Koretzky(net)
    out.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("detector.")}, strict=False)
    for parameter in (*out.mask_net.parameters(), *out.vad_net.parameters()):
        parameter.requires_grad_(False)
    return out.eval()


class Lesson:
    """One training of the memory: net, optimizer, running mean, and where they are."""

    def __init__(self, model: Koretzky, config: MemoryConfig) -> None:
        assert model.detector is not None
        self.model, self.config, self.step = model, config, 0
        self.detector: Detector = model.detector
        self.optimizer = torch.optim.AdamW(self.detector.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.mean = {k: v.detach().clone() for k, v in self.detector.state_dict().items()}
        self.silence = model.silent()
        self.start: Tensor | None = None  # the state in silence, as far as it has settled

    def centre(self, heard: Heard) -> None:
        """Scale the inputs by a first batch."""
        seen = torch.from_numpy(heard["seen"].astype(np.float32))
        self.detector.shift.copy_(seen.mean((0, 1)))
        self.detector.scale.copy_(seen.std((0, 1)).clamp_min(0.1))
        self.mean |= {"shift": self.detector.shift.clone(), "scale": self.detector.scale.clone()}

    def _distrust(self, seen: Tensor) -> Tensor:
        """The inputs as nets that know the voice less well might give them."""
        config, width = self.config, self.detector.vad_dense
        n = len(seen)
        seen[..., :width] *= 1 - config.weaker * torch.rand(n, 1, 1)
        seen[..., width + 2 * BANDS :] *= 1 - config.weaker * torch.rand(n, 1, 1)
        lost = -torch.rand(n, 1, 1) * config.lost_db * np.log(10) / 10 + 0.4 * torch.randn(n, 1, BANDS)
        kept = seen[..., width + BANDS : width + 2 * BANDS]
        kept.add_(lost).clamp_(min=float(np.log(FLOOR)))
        return seen + config.noise * self.detector.scale * torch.randn(n, 1, seen.shape[-1])

    def update(self, heard: list[Heard]) -> dict[str, float]:
        """One step on sequences drawn from all that was heard."""
        config = self.config
        rng = np.random.default_rng([config.seed, self.step])
        torch.manual_seed(config.seed * 1_000_003 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(config, self.step)
        drawn = [
            (int(rng.integers(len(heard))), int(rng.integers(len(heard[0]["vad"])))) for _ in range(config.sequences)
        ]
        some = {k: torch.from_numpy(np.stack([heard[i][k][j] for i, j in drawn])).float() for k in heard[0]}
        self.start = start = self.detector.settled(self.silence, self.start, 1)
        self.detector.train()
        with mixed(torch.device("cpu")):
            logits = self.detector(self._distrust(some["seen"]), start).float()
        weight = config.unheard + (1 - config.unheard) * some["weight"]
        weight = weight * (1 + (config.voiced_weight - 1) * some["vad"])
        error = F.binary_cross_entropy_with_logits(logits, some["vad"], reduction="none")
        loss = (error * weight).sum() / weight.sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.detector.parameters(), 2.0)
        self.optimizer.step()
        self.detector.eval()
        follow(self.mean, self.detector, config.ema, self.step)
        self.step += 1
        right = ((logits > 0) == (some["vad"] > 0.5)).float() * weight
        return {"vad_loss": loss.item(), "vad_accuracy": (right.sum() / weight.sum()).item()}

    def save(self, path: Path) -> None:
        """Write a checkpoint that `rtsep export` reads, whole or not at all."""
        state = self.model.state_dict()
        values = {"name": "koretzky", "part": "detector", "net": self.model.config.to_dict(), "step": self.step}
        mean = state | {f"detector.{k}": v for k, v in self.mean.items()}
        values |= {"config": asdict(self.config), "model": state, "mean": mean, "start": self.start}
        write_checkpoint(path, values | {"optimizer": self.optimizer.state_dict()})

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Go on where a checkpoint stopped."""
        whose = "detector."
        own = {k: v for k, v in checkpoint["mean"].items() if k.startswith(whose)}
        self.mean = {k.removeprefix(whose): v for k, v in own.items()}
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.step, self.start, self.silence = checkpoint["step"], checkpoint["start"], self.model.silent()


def train_detector(
    *,
    data: Path,
    runs: Path,
    cache: Path,
    init: Path | None,
    config: MemoryConfig,
    minutes: float | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Path:
    """Train the memory of the detector of `init`; options as in `rtsep.training.train.train`.

    Raises
    ------
    UsageError
        No net to begin with, or a checkpoint to resume that is none of this.
    """
    last = runs / "last.pt"
    checkpoint = read_checkpoint(last) if resume and last.exists() else None
    if checkpoint is not None and checkpoint.get("part") != "detector":
        raise UsageError(f"{last} is not a run of the detector alone: give another --runs")
    if checkpoint is None and init is None:
        raise UsageError("--part detector needs --init: a model folder, or a checkpoint with a trained mask")
    if checkpoint is not None:
        config = MemoryConfig(**checkpoint["config"])
        model, _ = first_net(last)
    else:
        model, folded = first_net(init)  # type: ignore[arg-type]
        config = replace(config, fixed_norms=folded)
    lesson = Lesson(give_memory(model, config), config)
    if checkpoint is not None:
        lesson.restore(checkpoint)
    mixer = LongMixer(
        load(data, cache, config.split),
        seed=config.seed,
        frames=config.frames,
        sources=config.sources,
        rolls=config.rolls,
        lookahead=config.lookahead,
    )
    if checkpoint is None:
        lesson.detector.look.copy_(look_at(lesson.model, mixer, config.look))
        lesson.mean["look"] = lesson.detector.look.clone()
        lesson.silence = lesson.model.silent()
    title, log = "koretzky detector", runs / "log.jsonl"
    with Journal(log, title, done=lesson.step, steps=config.steps, minutes=minutes, quiet=quiet) as journal:
        heard = hear_all(lesson.model, mixer, runs / "heard", config.batches, lambda _: not journal.late)
        if checkpoint is None:
            lesson.centre(heard[0])
        journal.note(lesson.step, config=asdict(config), net=lesson.model.config.to_dict())
        sums: dict[str, float] = {}
        while len(heard) == config.batches and lesson.step < config.steps and not journal.late:
            values = lesson.update(heard)
            for key, value in values.items():
                sums[key] = sums.get(key, 0.0) + value / 50
            journal.show(lesson.step, values["vad_loss"])
            if lesson.step % 50 == 0:
                journal.note(lesson.step, **{key: round(value, 5) for key, value in sums.items()})
                sums = {}
                lesson.save(last)
    lesson.save(last)
    return last
