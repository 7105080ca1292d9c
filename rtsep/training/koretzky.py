"""Training of koretzky: resumable after any interruption with the same curve, logged as JSON lines.

The data, the dropout and the order of everything follow from (seed, step); a checkpoint holds the model, its
running mean, the optimizer and the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from rtsep.errors import UsageError
from rtsep.training import losses
from rtsep.training.checkpoints import Learner, read_checkpoint
from rtsep.training.data.augment import Mixer
from rtsep.training.data.songs import mashup_songs, pair_songs, songs
from rtsep.training.data.sources import CACHE_RATE, load
from rtsep.training.evaluate import BINS, resynthesize, score, spectra, summarize, widen
from rtsep.training.folded import first_net
from rtsep.training.journal import Journal
from rtsep.training.nets.koretzky import Koretzky, NetConfig
from rtsep.training.nets.spectrum import CONTEXT
from rtsep.training.optimizers import make_optimizer
from rtsep.training.precision import mixed
from rtsep.training.schedule import follow, noted, rate
from rtsep.training.tasks import with_settings

OPTIMIZERS = ("adamw", "sgd")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that shapes a run; saved in its checkpoints."""

    target: str = "soft"  # "binary": MSE to the binary mask, as the source; "soft": `losses.soft_mask`; "magnitude"
    lookahead: int = 0  # hops
    seed: int = 0
    steps: int = 6000
    optimizer: str = "adamw"  # or "sgd": lr 1e-3, momentum 0.9, Nesterov, as the source
    lr: float = 3e-3
    weight_decay: float = 1e-2
    warmup: int = 100
    decay_from: float = 0.4  # share of the steps after which the rate falls to zero, as a half cosine
    ema: float = 0.998
    frames: int = 256  # output frames of a sequence
    sources: int = 8
    rolls: int = 2
    vad_share: float = 0.15  # share of the steps, the last ones, that train the detector
    vad_fresh: bool = True  # begin the detector with the convolutions of the mask net; off where it is trained already
    fresh_out: bool = False  # begin the last layer of the mask net anew where the others begin with trained ones
    fixed_norms: bool = False  # the net began with a model folder: its batch normalisation is folded away
    split: str = "train"


@dataclass(frozen=True, slots=True)
class Phase:
    """Which net a step trains, how many steps that net has had and gets.

    The mask net comes first. The detector then begins with its convolutions, where the sizes allow, and learns in
    a seventh of the steps what takes it far longer from nothing.
    """

    net: str
    step: int
    steps: int


def phase(config: TrainConfig, step: int) -> Phase:
    """The phase of a step."""
    first = config.steps - round(config.steps * config.vad_share)
    return Phase("mask_net", step, first) if step < first else Phase("vad_net", step - first, config.steps - first)


class Run(Learner):
    """One training: the nets, the optimizer and where they are."""

    def __init__(self, net: NetConfig, config: TrainConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.net, self.config, self.device, self.step = net, config, device, 0
        self.model = Koretzky(net).to(device, memory_format=torch.channels_last)
        self.mean = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        if config.optimizer not in OPTIMIZERS:
            raise UsageError(f"optimizer {config.optimizer!r}: expected {' or '.join(OPTIMIZERS)}")
        decay = config.weight_decay if config.optimizer == "adamw" else 0.0  # the source's has none
        self.optimizer = make_optimizer(self.model, config.optimizer, config.lr, decay)

    def update(self, mixer: Mixer) -> dict[str, float]:
        """One step of the net whose phase it is, on the batch of that step."""
        config, now = self.config, phase(self.config, self.step)
        if now.net == "vad_net" and now.step == 0:
            self._begin_detector()
        for group in self.optimizer.param_groups:
            group["lr"] = rate(replace(config, steps=now.steps), now.step)
        torch.manual_seed(config.seed * 1_000_003 + self.step)
        batch = {k: torch.from_numpy(v).to(self.device) for k, v in mixer.batch(self.step).arrays().items()}
        net = getattr(self.model, now.net)
        self.model.train()
        if config.fixed_norms:
            for module in self.model.modules():
                if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                    module.eval()
        relative = self.model.level.relative(batch["magnitude"], batch["start"])
        with mixed(self.device):
            logits = net(self.model.level.features(relative))
        loss, report = self._loss(now, logits.float(), batch, relative)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        self.optimizer.step()
        follow({k: self.mean[f"{now.net}.{k}"] for k in net.state_dict()}, net, config.ema, now.step)
        self.step += 1
        return report

    def _loss(
        self, now: Phase, logits: torch.Tensor, batch: dict[str, torch.Tensor], relative: torch.Tensor
    ) -> tuple[torch.Tensor, dict]:
        if now.net == "vad_net":
            loss = losses.voice_activity(logits[..., 0], batch["vad"], batch["vad_weight"])
            right = ((logits[..., 0] > 0) == (batch["vad"] > 0.5)).float() * batch["vad_weight"]
            return loss, {"vad_loss": loss.item(), "vad_accuracy": (right.sum() / batch["vad_weight"].sum()).item()}
        begin = CONTEXT - 1 - self.config.lookahead
        cut = slice(begin, begin + self.config.frames)
        seen = batch["magnitude"][:, cut]
        if self.config.target == "binary":
            loss = losses.binary_mask(logits, batch["binary"], batch["bins"])
        elif self.config.target == "magnitude":
            loss = losses.magnitude(logits, batch["voice"] * relative[:, cut] / (seen + 1e-9), batch["bins"])
        else:
            loss = losses.soft_mask(logits, seen, batch["ratio"], batch["voice"], batch["bins"])
        return loss, {"loss": loss.item()}

    def _begin_detector(self) -> None:
        """Give the detector the convolutions of the mask net, where the sizes allow."""
        if self.config.vad_fresh and self.net.channels == self.net.vad_channels:
            weights = {
                k.removeprefix("mask_net."): v
                for k, v in self.mean.items()
                if k.startswith(("mask_net.convs", "mask_net.norms"))
            }
            self.model.vad_net.load_state_dict(weights, strict=False)
        for k, v in self.model.vad_net.state_dict().items():
            self.mean[f"vad_net.{k}"].copy_(v)

    def averaged(self) -> Koretzky:
        """The model with the running mean of its weights, for scoring."""
        model = Koretzky(self.net).to(self.device)
        model.load_state_dict(self.mean)
        return model.eval()

    def values(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return super().values() | {"name": "koretzky", "net": self.net.to_dict(), "config": asdict(self.config)}


def evaluate(model: Koretzky, data: Path, cache: Path, split: str, lookahead: int, seconds: float | None) -> dict:
    """Mean scores per kind of song on a split."""

    def infer(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mask, vad = model.infer(torch.from_numpy(magnitude).to(next(model.parameters()).device))
        return mask.cpu().numpy(), vad.cpu().numpy()

    return summarize(score(song, infer, lookahead) for song in songs(data, cache, split, seconds))


def train_koretzky(
    *,
    data: Path,
    runs: Path,
    cache: Path,
    device: torch.device,
    config: TrainConfig,
    sizes: NetConfig | None = None,
    settings: Sequence[str] = (),
    init: Path | None = None,
    preview: Path | None = None,
    minutes: float | None = None,
    resume: bool = False,
    score_every: int = 1000,
    quiet: bool = False,
) -> Path:
    """Train both nets, one after the other; options as in `rtsep.training.train.train`.

    Raises
    ------
    UsageError
        No data; an unknown setting; weights or a checkpoint of something else.
    """
    last = runs / "last.pt"
    if resume and last.exists():
        run = _resumed(last, device)
    else:
        run = _begun(with_settings(config, "koretzky", settings), sizes, init, device)
    shape, title = run.config, f"koretzky {run.config.target}"
    mixer = Mixer(
        load(data, cache, shape.split),
        seed=shape.seed,
        frames=shape.frames,
        sources=shape.sources,
        rolls=shape.rolls,
        lookahead=shape.lookahead,
    )
    sums: dict[str, float] = {}
    count = 0
    log = runs / "log.jsonl"
    with Journal(log, title, done=run.step, steps=shape.steps, minutes=minutes, quiet=quiet) as journal:
        journal.note(run.step, config=asdict(shape), net=run.net.to_dict())
        try:
            while run.step < shape.steps and not journal.late:
                values = run.update(mixer)
                if set(values) != set(sums):  # another net's turn
                    sums, count = {}, 0
                for key, value in values.items():
                    sums[key] = sums.get(key, 0.0) + value
                count += 1
                journal.show(run.step, next(iter(sums.values())) / count)
                if noted(run.step, shape.steps, 100):
                    journal.note(run.step, **{key: round(value / count, 5) for key, value in sums.items()})
                    sums, count = {}, 0
                if run.step % 200 == 0:
                    run.save(last)
                if score_every and (run.step % score_every == 0 or run.step == shape.steps):
                    journal.note(run.step, dev=evaluate(run.averaged(), data, cache, "dev", shape.lookahead, 20.0))
                    if preview:
                        write_previews(run.averaged(), data, cache, preview, run.step, shape.lookahead)
        finally:
            if count:
                journal.note(run.step, **{key: round(value / count, 5) for key, value in sums.items()})
            run.save(last)
    return last


def _resumed(last: Path, device: torch.device) -> Run:
    """The run of a checkpoint, with its own configuration."""
    checkpoint = read_checkpoint(last)
    if checkpoint.get("part"):
        raise UsageError(f"{last} is a run of the {checkpoint['part']} alone: give --part {checkpoint['part']}")
    run = Run(NetConfig.from_dict(checkpoint["net"]), TrainConfig(**checkpoint["config"]), device)
    run.restore(checkpoint)
    return run


def _begun(config: TrainConfig, sizes: NetConfig | None, init: Path | None, device: torch.device) -> Run:
    """A run as it begins: with random weights, or with those of `init`.

    Of these without the stems, which know another trunk and are trained afterwards, and without a detector that is a
    net of the live family: it gets a CNN again.
    """
    output = "magnitude" if config.target == "magnitude" else "mask"
    if init is None:
        return Run(replace(sizes or NetConfig(), output=output), config, device)
    begin, folded = first_net(init)
    net = replace(begin.config, vad_blocks=0, stem_frames=0, output=output)
    config = replace(config, fixed_norms=folded, vad_fresh=config.vad_fresh or begin.vad_net is None)
    run = Run(net, config, device)
    weights = begin.state_dict()
    if config.fresh_out or begin.config.output != output:
        weights = {k: v for k, v in weights.items() if not k.startswith("mask_net.out.")}
    run.model.load_state_dict(weights, strict=False)
    run.mean = {k: v.detach().clone() for k, v in run.model.state_dict().items()}
    return run


def write_previews(model: Koretzky, data: Path, cache: Path, folder: Path, step: int, lookahead: int) -> None:
    """Vocals of the first true pair and the first mash-up of dev, as FLAC, to listen to."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = load(data, cache, "dev")
    for song in (next(pair_songs(corpus, 20.0)), next(mashup_songs(corpus))):
        x = spectra((song.vocals + song.accompaniment)[0])
        mask = model.infer(torch.from_numpy(np.abs(x[:, :BINS])))[0].numpy()
        x = x[: len(x) - lookahead]
        vocals = resynthesize(x * widen(mask[lookahead:]), song.vocals.shape[1] - lookahead * 512)
        name = song.name.replace(" ", "_")
        soundfile.write(folder / f"{step:06d}_{name}.flac", np.clip(vocals, -1, 1), CACHE_RATE)
