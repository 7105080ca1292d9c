"""`rtsep train nmf`: bases of voices and of music, learned by multiplicative updates; no gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rtsep.errors import UsageError
from rtsep.training.data.sources import Clip, load
from rtsep.training.nets.nmf import BINS, Floats, Nmf, bands
from rtsep.training.trainer import Run, Settings, Task

if TYPE_CHECKING:
    from rtsep.training.made import Made

WINDOW, HOP = 2048, 512
#: Frames of a piece of sound and patches that are taken from it.
PIECE, FROM_PIECE = 100, 10
#: Speeds that the sound is played at, and level under the loudest patch of a piece below which one is left out.
SPEEDS, QUIET = (0.85, 1.2), 0.05


@dataclass(frozen=True, slots=True)
class NmfSettings(Settings):
    """Of bases and learning; what `Settings` says of an optimizer does not apply."""

    steps: int = 2000
    bases: int = 190  # of voice; as many of music
    frames: int = 20  # of a patch
    updates: int = 1  # of the activations, a hop, while playing
    lookahead: int = 4  # hops, where a user asks for no other; 0 to frames - 1
    start: float = 0.1  # share of even activations that a hop begins with
    patches: int = 400  # of a step, of either source
    learn_updates: int = 10  # of the activations of a step's patches
    forget: float = 0.03  # share of what was learned that a step forgets


class NmfTask(Task):
    """See `rtsep.training.nets.nmf`."""

    name = "nmf"
    settings_kind = NmfSettings

    def __init__(self, settings: NmfSettings, data: Path, cache: Path) -> None:
        super().__init__(settings, data, cache)
        plain = Settings()
        if (settings.optimizer, settings.lr) != (plain.optimizer, plain.lr):
            raise UsageError("nmf learns by multiplicative updates: --optimizer and --lr are not for it")
        if not 0 <= settings.lookahead < settings.frames:
            raise UsageError(f"lookahead {settings.lookahead}: expected 0 to {settings.frames - 1} hops")
        if min(settings.bases, settings.updates, settings.learn_updates, settings.patches) < 1:
            raise UsageError("bases, updates, learn_updates and patches of nmf must be 1 or more")
        self._sources: list[tuple[list[Clip], Floats]] | None = None

    def model(self) -> Nmf:
        s = self.settings
        return Nmf(s.bases, s.frames, s.updates, s.start)

    def run(self, device: torch.device) -> Run:
        return NmfRun(self, device)

    def batch(self, step: int) -> Mapping[str, Any]:
        """Patches (patches, frames x bands) of ``voice`` and ``music``; each sums to 1."""
        if self._sources is None:
            corpus = load(self.data, self.cache, self.settings.split)
            both = (
                [*corpus.voices, *(v for v, _ in corpus.pairs)],
                [*corpus.accompaniments, *(a for _, a in corpus.pairs)],
            )
            self._sources = [(clips, _shares(clips)) for clips in both]
        random = np.random.default_rng((self.settings.seed, step))
        # The bases begin with patches of the first step.
        least = max(self.settings.patches, self.settings.bases if step == 0 else 0)
        return {
            name: _patches(clips, shares, least, self.settings.frames, random)
            for name, (clips, shares) in zip(("voice", "music"), self._sources, strict=True)
        }

    @classmethod
    def made(cls, checkpoint: Mapping[str, Any], storage: str) -> Made:
        from rtsep.training.graphs.nmf import made

        model = cls.restored(checkpoint)
        assert isinstance(model, Nmf)
        return made(model, storage, checkpoint["config"]["lookahead"])


class NmfRun(Run):
    """Steps without gradients."""

    def update(self) -> float:
        """One step of both bases; the mean of their divergences before it."""
        task = self.task
        batch = {k: torch.as_tensor(v).to(self.device) for k, v in task.batch(self.step).items()}
        s, model = task.settings, self.model
        assert isinstance(model, Nmf)
        if self.step == 0:
            model.begin(torch.stack([batch[name][: s.bases] for name in ("voice", "music")]))
        losses = [
            model.learn(source, batch[name], s.learn_updates, 1 - s.forget)
            for source, name in enumerate(("voice", "music"))
        ]
        for k, v in model.state_dict().items():
            self.mean[k].copy_(v)
        self.step += 1
        return float(np.mean(losses))


def _shares(clips: list[Clip]) -> Floats:
    """Chance of each recording: its length."""
    frames = np.array([clip.frames for clip in clips], float)
    return frames / frames.sum()


def _patches(clips: list[Clip], shares: Floats, least: int, frames: int, random: np.random.Generator) -> Floats:
    """`least` patches (least, frames x bands) of pieces drawn from the recordings; each sums to 1."""
    from rtsep.dsp.windows import asymmetric_pair

    window = asymmetric_pair(WINDOW, HOP)[0].astype(np.float32)
    size = WINDOW + (PIECE - 1) * HOP
    found: list[Floats] = []
    while sum(map(len, found)) < least:
        clip = clips[random.choice(len(clips), p=shares)]
        speed = np.exp(random.uniform(*np.log(SPEEDS)))
        length = int(size * speed) + 2
        sound = clip.read(int(random.integers(max(clip.frames - length, 1))), length)
        sound = np.interp(np.arange(size) * speed, np.arange(length), sound).astype(np.float32)
        views = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
        rows = bands(np.abs(np.fft.rfft(views * window, axis=-1)[:, :BINS]).astype(np.float32))
        starts = random.integers(0, len(rows) - frames + 1, FROM_PIECE)
        taken = np.stack([rows[start : start + frames].reshape(-1) for start in starts])
        level = taken.sum(-1)
        taken, level = taken[level > max(QUIET * level.max(), 1.0)], level[level > max(QUIET * level.max(), 1.0)]
        found.append(taken / level[:, None])
    return np.concatenate(found)[:least]
