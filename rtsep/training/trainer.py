"""One training loop for every net that is a `Task`: resumable with the same curve, logged as JSON lines.

A further net is a file in ``rtsep/training/nets/`` (the torch module) and one in ``rtsep/training/tasks/`` that holds

- a frozen dataclass of settings, a child of `Settings`: everything that shapes net and run. It is saved in the
  checkpoint under ``"config"``; ``rtsep train NAME --set units=256`` sets any of its fields.
- a child of `Task`: `model`, `batch`, `loss`, `score`, and `made` for ``rtsep export``.

and a line in `rtsep.training.tasks.TASKS`. Whatever a batch or a loss draws must follow from (settings.seed, step):
`batch` makes its own generator of these two, and before `loss` the loop seeds torch with them, for dropout.
A checkpoint (last.pt) holds ``format, name, config, step, model, mean, optimizer``; `mean` is the running mean of the
weights, which is what is scored and exported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from rtsep.errors import UsageError
from rtsep.training.checkpoints import Learner, read_checkpoint
from rtsep.training.journal import Journal
from rtsep.training.optimizers import make_optimizer
from rtsep.training.schedule import follow, noted, rate

if TYPE_CHECKING:
    from rtsep.training.made import Made


@dataclass(frozen=True, slots=True)
class Settings:
    """What every task has; children add their own fields, and change these defaults."""

    seed: int = 0
    steps: int = 4000
    optimizer: str = "adam"  # one of `OPTIMIZERS`
    lr: float = 1e-3
    weight_decay: float = 0.0
    warmup: int = 100
    decay_from: float = 0.3  # share of the steps after which the rate falls to zero, as a half cosine
    ema: float = 0.998
    clip: float = 5.0  # largest norm of a gradient
    iterations: int = 8  # of L-BFGS on a batch
    split: str = "train"  # of the sound; "all_train": the dev songs too


class Task:
    """A net that can be trained.

    Parameters
    ----------
    settings : Settings
        Of the task's own kind, `Task.settings_kind`.
    data, cache : Path
        Folder of the sound, and of what is decoded of it (`rtsep.training.data.sources.load`).
    """

    name: ClassVar[str]
    settings_kind: ClassVar[type[Settings]] = Settings

    def __init__(self, settings: Any, data: Path, cache: Path) -> None:
        self.settings, self.data, self.cache = settings, data, cache

    def model(self) -> nn.Module:
        """A fresh net of these settings, its weights drawn by torch's generator; it must not touch the sound."""
        raise NotImplementedError

    def batch(self, step: int) -> Mapping[str, Any]:
        """Arrays (float32) or tensors of a step by name: the same for the same settings and step."""
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """What to make small, of a batch on the net's device; autocast is the task's own affair."""
        raise NotImplementedError

    def run(self, device: torch.device) -> Run:
        """The training at its start; a task that does not learn by gradients brings its own."""
        return Run(self, device)

    def score(self, model: nn.Module) -> dict[str, Any]:
        """Scores on the dev songs, for the log; never of validation songs."""
        return {}

    @classmethod
    def made(cls, checkpoint: Mapping[str, Any], storage: str) -> Made:
        """What ``rtsep export`` writes of a checkpoint. `restored` gives its net."""
        raise UsageError(f"{cls.name} cannot be exported")

    @classmethod
    def restored(cls, checkpoint: Mapping[str, Any]) -> nn.Module:
        """The net of a checkpoint with the running mean of its weights, ready to infer."""
        model = cls(cls.settings_kind(**checkpoint["config"]), Path(), Path()).model()
        model.load_state_dict(checkpoint["mean"])
        return model.eval()


class Run(Learner):
    """One training: the net, the optimizer and where they are."""

    def __init__(self, task: Task, device: torch.device) -> None:
        s = task.settings
        torch.manual_seed(s.seed)
        self.task, self.device, self.step = task, device, 0
        self.model = task.model().to(device)
        self.mean = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.optimizer = make_optimizer(self.model, s.optimizer, s.lr, s.weight_decay, s.iterations)

    def update(self) -> float:
        """One step on the batch of that step; its loss before the step.

        L-BFGS takes several iterations on the batch. Its history begins anew with each: gradients of other batches
        say nothing of the curvature of this one.
        """
        s: Settings = self.task.settings
        batch = {k: torch.as_tensor(v).to(self.device) for k, v in self.task.batch(self.step).items()}
        self.model.train()
        first: list[float] = []

        def closure() -> Tensor:
            torch.manual_seed(s.seed * 1_000_003 + self.step)
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.task.loss(self.model, batch)
            if not math.isfinite(loss.item()):
                raise UsageError(f"{self.task.name}: the loss is {loss.item()} at step {self.step}; try a lower --lr")
            loss.backward()
            if s.optimizer != "lbfgs":
                nn.utils.clip_grad_norm_(self.model.parameters(), s.clip)
            first.append(loss.item())
            return loss

        if s.optimizer == "lbfgs":
            self.optimizer.state.clear()
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = rate(s, self.step)
        self.optimizer.step(closure)
        follow(self.mean, self.model, s.ema, self.step)
        self.step += 1
        return first[0]

    def averaged(self) -> nn.Module:
        """The net with the running mean of its weights, for scoring."""
        model = self.task.model().to(self.device)
        model.load_state_dict(self.mean)
        return model.eval()

    def values(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return super().values() | {"name": self.task.name, "config": asdict(self.task.settings)}

    def begin_with(self, checkpoint: Mapping[str, Any]) -> None:
        """Take the weights of another run of the same net; `UsageError` if they do not fit."""
        if checkpoint["name"] != self.task.name:
            raise UsageError(f"the first weights are of {checkpoint['name']}, not of {self.task.name}")
        try:
            self.model.load_state_dict(checkpoint["mean"])
        except RuntimeError as error:
            raise UsageError(f"the first weights do not fit: {str(error).splitlines()[-1].strip()}") from None
        self.mean = {k: v.detach().clone() for k, v in self.model.state_dict().items()}


def train_task(
    kind: type[Task],
    settings: Settings,
    *,
    data: Path,
    cache: Path,
    runs: Path,
    device: torch.device,
    minutes: float | None = None,
    resume: bool = False,
    init: Path | None = None,
    score_every: int = 1000,
    note_every: int = 50,
    save_every: int = 200,
    quiet: bool = False,
) -> Path:
    """Train a task and return the path of its last checkpoint.

    With `resume` the settings are those of the checkpoint. `rtsep.training.train.train` explains the rest.

    Raises
    ------
    UsageError
        No sound; an unknown optimizer; a checkpoint of another net; a loss that is no number.
    """
    last = runs / "last.pt"
    checkpoint = read_checkpoint(last) if resume and last.exists() else None
    if checkpoint is not None:
        if checkpoint["name"] != kind.name:
            raise UsageError(f"{last} is a run of {checkpoint['name']}, not of {kind.name}")
        settings = kind.settings_kind(**checkpoint["config"])
    task = kind(settings, data, cache)
    run = task.run(device)
    if checkpoint is not None:
        run.restore(checkpoint)
    elif init is not None:
        run.begin_with(read_checkpoint(init))
    past, log = [], runs / "log.jsonl"
    with Journal(log, kind.name, done=run.step, steps=settings.steps, minutes=minutes, quiet=quiet) as journal:
        journal.note(run.step, config=asdict(settings), weights=sum(p.numel() for p in run.model.parameters()))
        try:
            while run.step < settings.steps and not journal.late:
                now = rate(settings, run.step)
                past.append(run.update())
                journal.show(run.step, float(np.mean(past)))
                if noted(run.step, settings.steps, note_every):
                    journal.note(run.step, loss=round(float(np.mean(past)), 6), rate=now)
                    past = []
                if run.step % save_every == 0:
                    run.save(last)
                if score_every and (run.step % score_every == 0 or run.step == settings.steps):
                    with torch.no_grad():
                        journal.note(run.step, dev=task.score(run.averaged()))
        finally:
            if past:
                journal.note(run.step, loss=round(float(np.mean(past)), 6))
            run.save(last)
    return last
