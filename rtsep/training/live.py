"""Training of the live family: resumable after any interruption with the same curve, logged as JSON lines.

The data and the order of everything follow from (seed, step); a checkpoint holds the model, its running mean, the
optimizer and the step. `init` begins with the weights of a checkpoint or of a shipped model folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rtsep.dsp.windows import asymmetric_pair
from rtsep.errors import UsageError
from rtsep.evaluation.scores import sdr, sdr_gain
from rtsep.training import losses
from rtsep.training.checkpoints import Learner, read_checkpoint
from rtsep.training.data.songs import Song, songs
from rtsep.training.data.sources import Corpus, load
from rtsep.training.data.stereo import Floats, StereoMixer, fields
from rtsep.training.evaluate import WINDOW, resynthesize, spectra
from rtsep.training.family import DETECTOR, FAMILY, MEMBERS, PROFILES, Turns, members, mixer_of
from rtsep.training.journal import Journal
from rtsep.training.machine import keep_memory
from rtsep.training.nets.live import GRID, Live, LiveConfig
from rtsep.training.nets.spectrum import BINS
from rtsep.training.optimizers import make_optimizer
from rtsep.training.precision import mixed
from rtsep.training.schedule import follow, noted, rate
from rtsep.training.tasks import with_settings
from rtsep.training.team import Team, of
from rtsep.training.weights import first_weights, grown

MOST_PROCESSES = 64
MOST_FRAMES = 4096  # from sound to sound


@dataclass(frozen=True, slots=True)
class LiveTraining:
    """Everything that shapes a run; saved in its checkpoints."""

    seed: int = 0
    steps: int = 20000
    lr: float = 1e-2
    weight_decay: float = 1e-2
    warmup: int = 20
    decay_from: float = 0.3  # share of the steps after which the rate falls to zero, as a half cosine
    ema: float = 0.99
    frames: int = 512  # of a sequence, with a target: 6 s
    before: float = 0.0  # times as many go ahead of them and only fill the memory
    floor: float = losses.FLOOR  # of the relative error (`losses.heard_mask`)
    soft_voices: float = 0.0  # share of mixtures whose voice is far under the music (`StereoMixer`)
    sources: int = 4
    rolls: int = 1
    split: str = "train"
    chunk: int = 2  # sequences that go through the net at once: their maps fit the processor's cache
    carried: float = 0.7  # share of the sequences whose memory begins with the end of another one,
    louder_db: float = 6.0  # which was louder or softer than this one by so much (spread)
    optimizer: str = "muon"  # or "adamw"
    voice_share: float = 0.1  # of the loss of the voice detector beside that of the masks
    processes: int = 1  # on a CPU: each has a core and a batch of its own (`rtsep.training.team`)

    @property
    def filling(self) -> int:
        """Frames of a sequence that only fill the memory."""
        return int(self.before * self.frames)


class LiveRun(Learner):
    """One training: the net, the optimizer and where they are."""

    def __init__(self, net: LiveConfig, config: LiveTraining, device: torch.device, name: str = "live") -> None:
        torch.manual_seed(config.seed)
        self.net, self.config, self.device, self.step, self.name = net, config, device, 0, name
        self.ends = torch.zeros(0, net.carried, device=device)  # the memory's states after the last step
        self.model = Live(net).to(device, memory_format=torch.channels_last)
        self.members = members(name, net)
        played = (asymmetric_pair(WINDOW, m.hop)[1][-2 * m.hop :] for m in self.members)
        self.windows = [torch.from_numpy(window.astype(np.float32)).to(device) for window in played]
        self.mean = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.optimizer = make_optimizer(self.model, config.optimizer, config.lr, config.weight_decay)

    def begin_with(self, weights: dict[str, torch.Tensor]) -> None:
        """Take weights that are trained already."""
        self.model.load_state_dict(weights)
        self.mean = {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def update(self, mixer: StereoMixer | Turns, team: Team | None = None) -> float:
        """One step on the batch of that step, or on one for each of a team; the loss."""
        team = team or Team()
        place = team.turn(self.step)
        member, window = (x[place % len(self.members)] for x in (self.members, self.windows))
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.config, self.step)
        torch.manual_seed(self.config.seed * 1_000_003 + place)  # of the dropout
        batch = {k: torch.from_numpy(v).to(self.device) for k, v in mixer.batch(place).arrays().items()}
        self.model.train()
        n, size = len(batch["field"]), self.config.chunk
        (start, warm), total, ends, filling = self.starts(n), 0.0, [], self.config.filling
        self.optimizer.zero_grad(set_to_none=True)
        for at in range(0, n, size):
            some = {k: v[at : at + size] for k, v in batch.items()}
            with mixed(self.device):
                features = self.model.features(some["field"], warm[at : at + size])
                begin = self._filled(features, start[at : at + size], member)
                logits, voice, end = self.model.masks(features[:, :, filling:], begin, member)
            ends.append(end.detach().float())
            sound = some["sound"][:, filling:]
            loss = losses.heard_mask(logits.float(), sound, some["bins"], window, self.config.floor)
            if voice is not None:
                vad, weight = some["vad"][:, filling:], some["vad_weight"][:, filling:]
                loss = loss + self.config.voice_share * losses.voice_activity(voice.float(), vad, weight)
            loss = loss * (len(end) / n)
            loss.backward()
            total += loss.item()
        self.ends = team.joined(torch.cat(ends)[: self.config.sources * self.config.rolls])  # as many of each process
        team.average(self.model.parameters(), [b for b in self.model.buffers() if b.is_floating_point()])
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        follow(self.mean, self.model, self.config.ema, self.step)
        self.step += 1
        return team.mean(total)

    @torch.no_grad()
    def _filled(self, features: torch.Tensor, start: torch.Tensor, member: LiveConfig | None = None) -> torch.Tensor:
        """The memory as the first frames of sequences leave it, which began with `start`: as the net in use."""
        if not self.config.filling:
            return start
        self.model.eval()
        *_, end = self.model.masks(features[:, :, : self.config.filling + self.net.past], start, member)
        self.model.train()
        return end.float()

    def starts(self, sequences: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What each sequence begins with: the memory (sequences, units) and the level (`Live.features`).

        Both are as other music left them, or nothing.
        """
        carried = (torch.rand(sequences) < self.config.carried).to(self.ends)
        gain = 10 ** (self.config.louder_db * torch.randn(sequences) / 20)
        if not len(self.ends):
            return self.ends.new_zeros(sequences, self.net.carried), self.ends.new_zeros(sequences)
        other = self.ends[torch.randint(len(self.ends), (sequences,))]
        return other * carried[:, None], gain.to(carried) * carried

    def averaged(self) -> Live:
        """The model with the running mean of its weights, for scoring."""
        model = Live(self.net).to(self.device)
        model.load_state_dict(self.mean)
        return model.eval()

    def values(self) -> dict[str, Any]:
        """What a checkpoint holds: also the memory's states after the last step."""
        values = {"name": self.name, "net": self.net.to_dict(), "config": asdict(self.config), "ends": self.ends}
        return super().values() | values

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Go on where a checkpoint stopped."""
        super().restore(checkpoint)
        self.ends = checkpoint.get("ends", self.ends).to(self.device)


def separate(model: Live, mixture: Floats, autocast: bool = True) -> Floats:
    """Vocals of a song (channels, frames), aligned with it: an offline form of what the stream does."""
    hop, ahead = model.config.hop, model.config.lookahead
    padded = np.pad(mixture, ((0, 0), (0, ahead * hop)))
    left, right = padded[0], padded[-1]
    pair = np.stack([spectra(0.5 * (left + right), hop), spectra(0.5 * (left - right), hop)], 1)
    seen = np.ascontiguousarray(pair[..., :BINS], np.complex64)
    field, unused = np.empty((len(seen), 4, BINS), np.float32), np.empty((len(seen), 2, BINS), np.float32)
    fields(seen, seen, field, unused)
    device = next(model.parameters()).device
    with mixed(device, autocast):
        mask = model.infer(torch.from_numpy(field).to(device))[ahead:].cpu().numpy()
    pair = pair[: len(mask)]
    mask = np.concatenate([mask, np.repeat(mask[..., -1:], WINDOW // 2 + 1 - BINS, axis=-1)], axis=-1)
    mid, side = (resynthesize(pair[:, i] * mask[:, i], mixture.shape[1], hop) for i in (0, 1))
    return np.stack([mid + side, mid - side])[: len(mixture)]


def score(model: Live, found: Iterator[Song]) -> dict[str, dict[str, float]]:
    """Mean gains per kind of song, dB."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for song in found:
        mixture = song.vocals + song.accompaniment
        vocals = separate(model, mixture)
        gains = (
            sdr(song.vocals, mixture),
            sdr_gain(song.vocals, vocals, mixture),
            sdr_gain(song.accompaniment, mixture - vocals, mixture),
        )
        rows.setdefault(song.kind, []).append(gains)
    names = ("mixture", "vocals_gain", "accompaniment_gain")
    return {kind: dict(zip(names, np.mean(of, 0).tolist(), strict=True)) for kind, of in rows.items()}


def train_live(
    profile: str = "live",
    *,
    data: Path,
    runs: Path,
    minutes: float | None = None,
    resume: bool = False,
    init: Path | None = None,
    cache: Path | None = None,
    preview: Path | None = None,
    device: torch.device,
    sizes: LiveConfig | None = None,
    config: LiveTraining | None = None,
    score_every: int = 1000,
    save_every: int = 50,
    quiet: bool = False,
) -> Path:
    """Train a net of the family and return the path of its last checkpoint.

    `config` shapes the run and `sizes` the net, which has hop, look-ahead and dropout too; a net of `init` that is
    smaller grows to `sizes`, and one that is larger keeps its own. `rtsep.training.train.train` explains the rest.

    Raises
    ------
    UsageError
        No data; a run that exists already without `resume`; weights of another net.
    """
    from rtsep.training.data.preview import write_preview

    job = Job(
        profile,
        data,
        runs,
        cache or runs.parent / "cache",
        minutes,
        resume,
        init,
        sizes or sizes_of(profile),
        config or LiveTraining(),
        score_every,
        save_every,
    )
    run = _begun(job, device)
    settings = run.config
    if not 1 <= settings.processes <= MOST_PROCESSES or (settings.processes > 1 and device.type != "cpu"):
        raise UsageError(f"processes {settings.processes}: 1 to {MOST_PROCESSES} on a CPU, 1 on another device")
    corpus = load(data, job.store, settings.split)
    if preview:
        on_grid = replace(run.net, hop=GRID, lookahead=run.net.ahead)  # its windows add up to the sound again
        write_preview(mixer_of(corpus, settings, on_grid), preview, print)
    with of(settings.processes, partial(_beside, job)) as team:
        _learn(run, corpus, job, team, quiet)
    return job.last


@dataclass(frozen=True, slots=True)
class Job:
    """What a training is asked for; each process of a team is given it."""

    profile: str
    data: Path
    runs: Path
    store: Path
    minutes: float | None
    resume: bool
    init: Path | None
    sizes: LiveConfig
    config: LiveTraining
    score_every: int
    save_every: int

    @property
    def last(self) -> Path:
        """The checkpoint."""
        return self.runs / "last.pt"


def _begun(job: Job, device: torch.device) -> LiveRun:
    """The run as it begins, or as its checkpoint left it."""
    if job.resume and job.last.exists():
        checkpoint = read_checkpoint(job.last)
        if checkpoint["name"] != job.profile:
            raise UsageError(f"{job.last} is a run of {checkpoint['name']}, not of {job.profile}")
        net, settings = LiveConfig.from_dict(checkpoint["net"]), LiveTraining(**checkpoint["config"])
        run = LiveRun(net, settings, device, job.profile)
        run.restore(checkpoint)
        return run
    net, weights = job.sizes, None
    if job.init:
        net, weights = grown(*first_weights(job.init), job.sizes)
    run = LiveRun(net, job.config, device, job.profile)
    if weights is not None:
        run.begin_with(weights)
    return run


def _beside(job: Job, team: Team) -> None:
    """What the other processes of a training do."""
    keep_memory()
    run = _begun(job, torch.device("cpu"))
    _learn(run, load(job.data, job.store, run.config.split), job, team, quiet=True)


def _learn(run: LiveRun, corpus: Corpus, job: Job, team: Team, quiet: bool) -> None:
    """All steps that are left, or as many as there is time for; who leads the team writes log and checkpoints."""
    settings, past = run.config, []
    mixer = Turns(corpus, settings, run.name, run.net)
    log = job.runs / "log.jsonl" if team.leads else Path(os.devnull)
    with Journal(
        log, run.name, done=run.step, steps=settings.steps, minutes=job.minutes, quiet=quiet or not team.leads
    ) as journal:
        journal.note(run.step, config=asdict(settings), net=run.net.to_dict())
        try:
            while run.step < settings.steps and not team.any(journal.late):
                past.append(run.update(mixer, team))
                journal.show(run.step, float(np.mean(past)))
                if noted(run.step, settings.steps, job.save_every):
                    journal.note(run.step, loss=round(float(np.mean(past)), 5), rate=rate(settings, run.step))
                    past = []
                if run.step % job.save_every == 0 and team.leads:
                    run.save(job.last)
                if job.score_every and (run.step % job.score_every == 0 or run.step == settings.steps) and team.leads:
                    found = songs(job.data, job.store, "dev", 20.0, stereo=True)
                    journal.note(run.step, dev=score(run.averaged(), found))
        finally:
            if past:
                journal.note(run.step, loss=round(float(np.mean(past)), 5))
            if team.leads:
                run.save(job.last)


def sizes_of(profile: str, lookahead: int | None = None) -> LiveConfig:
    """The net of a profile, with another look-ahead if that is asked for.

    Raises
    ------
    UsageError
        If the profile does not look ahead, or not by so much.
    """
    net = MEMBERS[profile] if profile == DETECTOR else PROFILES["karaoke" if profile == FAMILY else profile]
    if lookahead is None:
        return net
    if not net.lookahead and lookahead:
        raise UsageError(f"--lookahead {lookahead}: {profile} does not look ahead; karaoke does")
    most = MOST_FRAMES // net.hop - 2
    if net.lookahead and not 1 <= lookahead <= most:
        raise UsageError(f"--lookahead {lookahead}: {profile} looks ahead by 1 to {most} hops")
    return replace(net, lookahead=lookahead)


OPTIMIZERS = ("muon", "adamw")


def settings_of(
    *,
    seed: int,
    steps: int,
    lr: float | None,
    split: str,
    begun: bool,
    optimizer: str | None = None,
    texts: Sequence[str] = (),
) -> LiveTraining:
    """The usual training of a profile; `begun`: from weights that are trained already; `texts`: ``NAME=VALUE``.

    Raises
    ------
    UsageError
        If there is no such optimizer or setting.
    """
    rate = lr if lr is not None else 3e-3 if begun else 1e-2
    usual = LiveTraining(seed=seed, steps=steps, lr=rate, split=split, optimizer=optimizer or OPTIMIZERS[0])
    chosen = with_settings(usual, "the live family", texts)
    if chosen.optimizer not in OPTIMIZERS:
        raise UsageError(f"optimizer {chosen.optimizer!r}: the live family expects {' or '.join(OPTIMIZERS)}")
    return chosen
