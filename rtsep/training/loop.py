"""The training loop: resumable after any interruption with the same curve, logged as JSON lines.

The data, the dropout and the order of everything follow from (seed, step); a checkpoint holds the model, its
running mean, the optimizer and the step.
"""

from __future__ import annotations

import ctypes
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rtsep.errors import UsageError
from rtsep.training import losses
from rtsep.training.augment import Mixer
from rtsep.training.data import load
from rtsep.training.evaluate import score, summarize
from rtsep.training.folded import first_net
from rtsep.training.nets.koretzky import CONTEXT, Koretzky, NetConfig
from rtsep.training.precision import mixed
from rtsep.training.schedule import noted
from rtsep.training.songs import songs
from rtsep.training.tasks import TASKS, configured, find, with_settings

TARGETS = ("soft", "binary", "magnitude")
NETS = ("koretzky", "live", "monitor", "karaoke", "family", *TASKS)
SPLITS = ("train", "all_train")


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


def keep_memory() -> None:
    """Let the allocator keep large blocks: giving every feature map back to the system tripled the time of a step."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):
        pass  # another libc: slower, not wrong


def pick_device(device: str) -> torch.device:
    """The torch device of "cpu", "cuda" or "auto".

    Raises
    ------
    UsageError
        If "cuda" is asked for and there is none.
    """
    if device not in {"cpu", "cuda", "auto"}:
        raise UsageError(f"device {device!r}: expected cpu, cuda or auto")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda: torch sees no CUDA device; use --device cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


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


def rate(config: TrainConfig, now: Phase) -> float:
    """Learning rate of a step: linear warm-up, level, then a half cosine to zero."""
    if now.step < config.warmup:
        return config.lr * (now.step + 1) / config.warmup
    fall = max(0.0, now.step / now.steps - config.decay_from) / (1 - config.decay_from)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(fall, 1.0)))


class Run:
    """One training: the nets, the optimizer and where they are."""

    def __init__(self, net: NetConfig, config: TrainConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.net, self.config, self.device, self.step = net, config, device, 0
        self.model = Koretzky(net).to(device, memory_format=torch.channels_last)
        self.mean = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        if config.optimizer == "adamw":
            self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(
                self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay
            )
        elif config.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=config.lr, momentum=0.9, nesterov=True)
        else:
            raise UsageError(f"optimizer {config.optimizer!r}: expected adamw or sgd")

    def update(self, mixer: Mixer) -> dict[str, float]:
        """One step of the net whose phase it is, on the batch of that step."""
        config, now = self.config, phase(self.config, self.step)
        if now.net == "vad_net" and now.step == 0:
            self._begin_detector()
        for group in self.optimizer.param_groups:
            group["lr"] = rate(config, now)
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
        keep = min(config.ema, (1 + now.step) / (10 + now.step))
        with torch.no_grad():
            for k, v in net.state_dict().items():
                mean = self.mean[f"{now.net}.{k}"]
                if v.is_floating_point():
                    mean.lerp_(v, 1 - keep)
                else:  # the counters of batch normalisation
                    mean.copy_(v)
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

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        part = path.with_suffix(".part")
        torch.save(
            {
                "format": 1,
                "name": "koretzky",
                "net": self.net.to_dict(),
                "config": asdict(self.config),
                "step": self.step,
                "model": self.model.state_dict(),
                "mean": self.mean,
                "optimizer": self.optimizer.state_dict(),
            },
            part,
        )
        part.replace(path)

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Go on where a checkpoint stopped."""
        self.model.load_state_dict(checkpoint["model"])
        self.mean = {k: v.to(self.device) for k, v in checkpoint["mean"].items()}
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.step = checkpoint["step"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of this package.

    Raises
    ------
    UsageError
        If the file is missing or is no such checkpoint.
    """
    if not path.is_file():
        raise UsageError(f"no checkpoint {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler meets in a foreign file
        why = str(error).split("\n", maxsplit=1)[0].split(". ", maxsplit=1)[0]
        raise UsageError(f"{path} is not a checkpoint of rtsep train: {why}") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("name") not in NETS:
        raise UsageError(f"{path} is not a checkpoint of rtsep train")
    return checkpoint


def progress(quiet: bool) -> Progress:
    """A progress bar with a column `note`; nothing if `quiet`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, disable=quiet)


def evaluate(model: Koretzky, data: Path, cache: Path, split: str, lookahead: int, seconds: float | None) -> dict:
    """Mean scores per kind of song on a split."""

    def infer(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mask, vad = model.infer(torch.from_numpy(magnitude).to(next(model.parameters()).device))
        return mask.cpu().numpy(), vad.cpu().numpy()

    return summarize(score(song, infer, lookahead) for song in songs(data, cache, split, seconds))


def train(
    net: str = "koretzky",
    *,
    data: Path,
    runs: Path = Path("runs/koretzky"),
    minutes: float | None = None,
    steps: int | None = None,
    resume: bool = False,
    seed: int = 0,
    device: str = "auto",
    target: str = "soft",
    lookahead: int | None = None,
    lr: float | None = None,
    optimizer: str | None = None,
    settings: Sequence[str] = (),
    split: str = "train",
    init: Path | None = None,
    part: str = "all",
    preview: Path | None = None,
    cache: Path | None = None,
    sizes: NetConfig | None = None,
    config: TrainConfig | None = None,
    score_every: int = 1000,
    threads: int = 1,
    quiet: bool = False,
) -> Path:
    """Train a net and return the path of its last checkpoint.

    Parameters
    ----------
    net : str
        Which net: "koretzky", or "live", "monitor" or "karaoke" of the live family, or one of
        `rtsep.training.tasks.TASKS`.
    data : Path
        Folder of the sound (see `rtsep.training.data`).
    runs : Path
        Folder of this run: last.pt, log.jsonl, and unless `cache` says otherwise the decoded sound beside it.
    minutes : float, optional
        Stop after this time; `resume` goes on. The learning rate follows `steps`, not the clock.
    steps : int, optional
        Length of the whole training; 6000 if not given, or the task's own.
    resume : bool
        Go on from runs/last.pt with its own configuration.
    device : str
        "cpu", "cuda" or "auto".
    target : str
        koretzky: "soft", or "binary" (the source's: MSE to the binary mask), or "magnitude" (linear output, MSE to the
        magnitude of the vocals, which fails by the source; no look-ahead).
    lookahead : int, optional
        Hops that the net may look ahead: koretzky 0..24, karaoke 1..6.
    lr : float, optional
        Highest learning rate; 3e-3 if not given, 1e-2 for the live family without `init`.
    optimizer : str, optional
        Of a task: "adam", "adamw", "sgd" or "lbfgs"; of the live family: "adamw" or "muon".
    settings : sequence of str
        Any other settings of the training, as texts ``NAME=VALUE``: fields of `TrainConfig` (koretzky),
        `rtsep.training.remember.MemoryConfig` (its detector), `rtsep.training.live.LiveTraining` (the live family) or
        of the task's own.
    split : str
        "train", or "all_train": the dev songs too. Scores on these mean nothing then.
    init : Path, optional
        Begin with the weights of this checkpoint or model folder; in the live family whatever its profile.
    part : str
        "all"; of koretzky also "detector": only the memory of its voice detector (`rtsep.training.remember`), or
        "stems": only the head that divides the accompaniment (`rtsep.training.stems`).
    preview : Path, optional
        The live family: write what the net hears in the first batches there, as WAV and spectrograms (PNG).
        koretzky: the vocals of two dev songs at every scoring, as FLAC.

    Raises
    ------
    UsageError
        Unknown net, target or device; no data; a run that exists already without `resume`.
    """
    if net not in NETS:
        raise UsageError(f"no net {net!r} to train; there is: {', '.join(NETS)}")
    if optimizer and net == "koretzky" and part != "stems":
        raise UsageError("koretzky: --optimizer is not for this net")
    if target not in TARGETS:
        raise UsageError(f"target {target!r}: expected one of {', '.join(TARGETS)}")
    if split not in SPLITS:
        raise UsageError(f"split {split!r}: expected {' or '.join(SPLITS)}")
    if lr is not None and not 0 < lr <= 1:
        raise UsageError(f"lr {lr:g}: expected a learning rate above 0, at most 1")
    if part not in {"all", "detector", "stems"} or (part != "all" and net != "koretzky"):
        raise UsageError(f"part {part!r} of {net}: expected all, or detector or stems (koretzky only)")
    if net == "koretzky" and not 0 <= (lookahead or 0) <= 24:
        raise UsageError(f"lookahead {lookahead}: expected 0 to 24 hops")
    if target == "magnitude" and lookahead:
        raise UsageError(f"lookahead {lookahead}: the target magnitude has none, wanted 0")
    last = runs / "last.pt"
    if last.exists() and not resume:
        raise UsageError(f"{last} exists: give --resume to go on with it, or another --runs")
    if threads:
        torch.set_num_threads(threads)
    keep_memory()
    where = pick_device(device)
    runs.mkdir(parents=True, exist_ok=True)
    store = cache or runs.parent / "cache"
    common: dict[str, Any] = {"data": data, "cache": store, "runs": runs, "device": where, "init": init}
    common |= {"minutes": minutes, "resume": resume, "score_every": score_every, "quiet": quiet}
    if net in TASKS:
        from rtsep.training.trainer import train_task

        if target != "soft" or preview:
            raise UsageError(f"{net}: --target and --preview are not for this net")
        kind = find(net)
        options = {"seed": seed, "steps": steps, "lr": lr, "split": split, "lookahead": lookahead}
        return train_task(kind, configured(kind, settings, optimizer=optimizer, **options), **common)
    if part == "stems":
        from rtsep.training.stems import StemsTask, train_stems

        given = {"seed": seed, "steps": steps, "lr": lr, "split": split, "lookahead": lookahead, "target": target}
        return train_stems(configured(StemsTask, settings, optimizer=optimizer, **given), **common)
    steps = 6000 if steps is None else steps
    if net != "koretzky":
        from rtsep.training.live import settings_of, sizes_of, train_live

        if target != "soft":
            raise UsageError(f"{net}: --target is not for this net")
        return train_live(
            net,
            preview=preview,
            sizes=sizes_of(net, lookahead),
            config=settings_of(
                seed=seed,
                steps=steps,
                lr=lr,
                split=split,
                begun=init is not None,
                optimizer=optimizer,
                texts=settings,
            ),
            **common,
        )
    if part == "detector":
        from rtsep.training.remember import MemoryConfig, train_detector

        lesson = MemoryConfig(target=target, lookahead=lookahead or 0, seed=seed, steps=steps, split=split)
        lesson = with_settings(replace(lesson, lr=lr or lesson.lr), "the detector's memory", settings)
        return train_detector(
            data=data, runs=runs, cache=store, init=init, config=lesson, minutes=minutes, resume=resume
        )
    if resume and last.exists():
        checkpoint = read_checkpoint(last)
        if checkpoint.get("part"):
            raise UsageError(f"{last} is a run of the {checkpoint['part']} alone: give --part {checkpoint['part']}")
        shape = TrainConfig(**checkpoint["config"])
        run = Run(NetConfig.from_dict(checkpoint["net"]), shape, where)
        run.restore(checkpoint)
    else:
        shape = replace(config or TrainConfig(), target=target, lookahead=lookahead or 0, seed=seed, steps=steps)
        shape = replace(shape, lr=lr or shape.lr, split=split, vad_fresh=init is None)
        shape = with_settings(shape, net, settings)
        output = "magnitude" if target == "magnitude" else "mask"
        if init is None:
            run = Run(replace(sizes or NetConfig(), output=output), shape, where)
        else:  # without the detector's memory and the stems, which know another trunk: they are trained afterwards
            begin, folded = first_net(init)
            net_config = replace(begin.config, vad_memory=0, stem_frames=0, output=output)
            run = Run(net_config, replace(shape, fixed_norms=folded), where)
            weights = begin.state_dict()
            if shape.fresh_out or begin.config.output != output:
                weights = {k: v for k, v in weights.items() if not k.startswith("mask_net.out.")}
            run.model.load_state_dict(weights, strict=False)
            run.mean = {k: v.detach().clone() for k, v in run.model.state_dict().items()}
    mixer = Mixer(
        load(data, store, shape.split),
        seed=shape.seed,
        frames=shape.frames,
        sources=shape.sources,
        rolls=shape.rolls,
        lookahead=shape.lookahead,
    )
    begun = time.monotonic()
    sums: dict[str, float] = {}
    count = 0
    with (runs / "log.jsonl").open("a") as log, progress(quiet) as bar:

        def note(entry: dict[str, Any]) -> None:
            log.write(json.dumps({"step": run.step, "seconds": round(time.monotonic() - begun, 1), **entry}) + "\n")
            log.flush()

        note({"config": asdict(run.config), "net": run.net.to_dict()})
        task = bar.add_task(f"{net} {shape.target}", total=shape.steps, completed=run.step, note="")
        try:
            while run.step < shape.steps and (minutes is None or time.monotonic() - begun < minutes * 60):
                values = run.update(mixer)
                if set(values) != set(sums):  # another net's turn
                    sums, count = {}, 0
                for key, value in values.items():
                    sums[key] = sums.get(key, 0.0) + value
                count += 1
                bar.update(task, completed=run.step, note=f"loss {next(iter(sums.values())) / count:.4f}")
                if noted(run.step, shape.steps, 100):
                    note({key: round(value / count, 5) for key, value in sums.items()})
                    sums, count = {}, 0
                if run.step % 200 == 0:
                    run.save(last)
                if score_every and (run.step % score_every == 0 or run.step == shape.steps):
                    note({"dev": evaluate(run.averaged(), data, store, "dev", shape.lookahead, 20.0)})
                    if preview:
                        write_previews(run.averaged(), data, store, preview, run.step, shape.lookahead)
        finally:
            if count:
                note({key: round(value / count, 5) for key, value in sums.items()})
            run.save(last)
    return last


def write_previews(model: Koretzky, data: Path, cache: Path, folder: Path, step: int, lookahead: int) -> None:
    """Vocals of the first true pair and the first mash-up of dev, as FLAC, to listen to."""
    import soundfile

    from rtsep.training.data import CACHE_RATE
    from rtsep.training.evaluate import BINS, resynthesize, spectra, widen
    from rtsep.training.songs import mashup_songs, pair_songs

    folder.mkdir(parents=True, exist_ok=True)
    corpus = load(data, cache, "dev")
    for song in (next(pair_songs(corpus, 20.0)), next(mashup_songs(corpus))):
        x = spectra((song.vocals + song.accompaniment)[0])
        mask = model.infer(torch.from_numpy(np.abs(x[:, :BINS])))[0].numpy()
        x = x[: len(x) - lookahead]
        vocals = resynthesize(x * widen(mask[lookahead:]), song.vocals.shape[1] - lookahead * 512)
        name = song.name.replace(" ", "_")
        soundfile.write(folder / f"{step:06d}_{name}.flac", np.clip(vocals, -1, 1), CACHE_RATE)
