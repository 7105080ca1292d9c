"""Training and streaming graph of deep-karaoke (`rtsep.training.nets.deep_karaoke`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rtsep.errors import UsageError
from rtsep.training.data.augment import CONTEXT, HOP, Mixer
from rtsep.training.data.songs import songs
from rtsep.training.data.sources import load
from rtsep.training.evaluate import score, separate, summarize
from rtsep.training.graphs import proof, streaming
from rtsep.training.made import Made
from rtsep.training.nets.deep_karaoke import BANDS, BINS, FRAMES, MEAN, SPREAD, UNIT, DeepKaraoke
from rtsep.training.precision import mixed
from rtsep.training.trainer import Settings, Task


@dataclass(frozen=True, slots=True)
class DeepKaraokeSettings(Settings):
    """Size of the net, its usual look-ahead, and its batches."""

    steps: int = 900
    optimizer: str = "muon"  # the frames of a window agree: a step of Adam is far too long, or too short
    lr: float = 1e-2
    warmup: int = 20
    ema: float = 0.99
    weight_decay: float = 1e-2
    hidden: int = 344  # units of a hidden layer; the source: 20500
    layers: int = 2  # hidden ones
    lookahead: int = FRAMES - 1  # hops, where the user asks for no other
    frames: int = 256  # of a sequence
    every: int = 3  # of its windows, one in so many is learned from
    sources: int = 6
    rolls: int = 4


class DeepKaraokeTask(Task):
    """20 frames to the ideal binary mask of all 20."""

    name = "deep-karaoke"
    settings_kind = DeepKaraokeSettings

    @cached_property
    def mixer(self) -> Mixer:
        """The mash-ups."""
        s = self.settings
        return Mixer(
            load(self.data, self.cache, s.split), seed=s.seed, frames=s.frames, sources=s.sources, rolls=s.rolls
        )

    def model(self) -> DeepKaraoke:
        """See `Task`; `UsageError` for a look-ahead that a window does not hold."""
        s = self.settings
        if not 0 <= s.lookahead < FRAMES:
            raise UsageError(f"--lookahead {s.lookahead}: deep-karaoke looks ahead by 0 to {FRAMES - 1} hops")
        return DeepKaraoke(s.hidden, s.layers)

    def batch(self, step: int) -> Mapping[str, Any]:
        """Magnitudes, and which of voice and music is louder in each band."""
        b = self.mixer.batch(step)
        power, voice = b.magnitude[:, CONTEXT - 1 :] ** 2, b.voice**2
        music = np.maximum(power - 2 * b.ratio * power + voice, 0)
        first = np.random.default_rng([self.settings.seed, step, 1]).integers(self.settings.every)
        return {"magnitude": b.magnitude, "start": b.start, "more": voice - music, "bins": b.bins, "first": first}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Cross-entropy to the ideal binary mask; a cell counts by the square of its feature."""
        net = cast(DeepKaraoke, model)
        x = net.features(batch["magnitude"], batch["start"])[:, CONTEXT - 1 :]
        target = (batch["more"] @ net.bands > 0).float()
        some = slice(int(batch["first"]), None, self.settings.every)
        x, target = (a.unfold(1, FRAMES, 1)[:, some].transpose(2, 3) for a in (x, target))
        with mixed(x.device):
            logits = net.logits(x).float()
        weight = x.square() * (batch["bins"] @ net.bands > 0.5).float()[:, None, None]
        error = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return (error * weight).sum() / weight.sum()

    def score(self, model: nn.Module) -> dict[str, Any]:
        """Means over the dev songs without look-ahead and with all of it."""
        return {
            f"lookahead {n}": summarize(
                score(song, infer_at(cast(DeepKaraoke, model), n), n)
                for song in songs(self.data, self.cache, "dev", 20.0)
            )
            for n in (0, FRAMES - 1)
        }

    @classmethod
    def made(cls, checkpoint: Mapping[str, Any], storage: str) -> Made:
        """See `Task`."""
        if storage == "int8":
            raise UsageError("storage int8: deep-karaoke is stored as float32 or float16")
        model = cast(DeepKaraoke, cls.restored(checkpoint))
        stored = proof.rounded(model) if storage == "float16" else model
        settings = DeepKaraokeSettings(**checkpoint["config"])
        data, state = streaming_graph(stored, settings, half=storage == "float16")
        infer = proof.as_arrays(stored.infer)
        ahead = settings.lookahead

        def offline(sound: proof.Floats) -> proof.Floats:
            return separate(lambda x: infer(x)[:, ahead], sound, BINS, ahead)

        return Made(
            data,
            state,
            lambda: proof.magnitude_deviation(infer, data, state, BINS),
            f"sigmoid layers over {FRAMES} frames (0.23 s) say how likely each cell is voice, up to {FRAMES} times",
            HOP,
            "mid_magnitude",
            BINS,
            "magnitude",
            f"lookaheads = {FRAMES}\nconfidence = true\n",
            ahead,
            lambda folder: proof.chain_deviation_db(offline, folder),
            [f"{sum(p.numel() for p in model.parameters()):,} weights, hidden layers of {settings.hidden} units"],
            {"binary": 0.0, "alpha": 0.5},
        )


def infer_at(model: DeepKaraoke, lookahead: int) -> Any:
    """For `rtsep.training.evaluate.score`: magnitudes to masks of the frame `lookahead` hops ago, no voice detector."""

    def infer(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        device = next(model.parameters()).device
        mask = model.infer(torch.from_numpy(magnitude).to(device))[:, lookahead].cpu().numpy()
        return mask, np.ones(len(mask), np.float32)

    return infer


def streaming_graph(model: DeepKaraoke, settings: DeepKaraokeSettings, half: bool = False) -> tuple[bytes, int]:
    """The ONNX file, whose mask (20, 513) has a row for each look-ahead, and the size of its state."""
    s = streaming.Streaming(model, half)
    g = s.graph
    over = s.over_level("magnitude", 1, BINS)
    belongs = g.constant("bands", (model.bands > 0).numpy().astype(np.float16 if half else np.float32))
    belongs = g.add("Cast", [belongs], "belongs", to=1)
    power = g.add("MatMul", [g.add("Mul", [over, over], "power"), belongs], "summed")
    power = g.add("Mul", [power, g.constant("per_bin", model.bands.amax(0, keepdim=True).numpy())], "folded")
    log = g.add("Log", [g.add("Add", [g.add("Sqrt", [power], "banded"), g.number(1.0)], "plus_one")], "log")
    unit = g.add("Min", [g.add("Mul", [log, g.number(1 / UNIT)], "scaled"), g.number(1.0)], "unit")
    window = s.remember("window", s.reshape(unit, "newest", 1, 1, 1, BANDS), 1, FRAMES - 1, BANDS)
    x = s.reshape(window, "inputs", 1, -1)
    x = g.add("Sub", [x, g.number(MEAN)], "centred_inputs")
    x = g.add("Mul", [x, g.number(1 / SPREAD)], "spread_inputs")
    for i in range(len(model.dense) - 1):
        x = g.add("Mul", [g.add("Sigmoid", [s.linear(f"dense.{i}", x)], f"sigmoid{i}"), g.number(4.0)], f"fourfold{i}")
        x = g.add("Sub", [x, g.number(2.0)], f"hidden{i}")
    # Rows of the last layer from the newest frame to the oldest: the order in which the sums move on.
    last = f"dense.{len(model.dense) - 1}"
    flipped = {
        key: value.reshape(FRAMES, BANDS, -1)[::-1].reshape(value.shape)
        for key, value in ((k, s.weights[f"{last}.{k}"]) for k in ("weight", "bias"))
    }
    weights = [s.weight(f"{last}.{key}", np.ascontiguousarray(value)) for key, value in flipped.items()]
    said = g.add("Sigmoid", [g.add("Gemm", [x, *weights], "logits", transB=1)], "said")
    s.memories.append(streaming.Memory("sums", np.zeros((1, FRAMES - 1, BANDS), np.float32)))
    before = g.add("Concat", [g.constant("none", np.zeros((1, BANDS), np.float32)), "sums"], "before", axis=1)
    total = g.add("Add", [before, said], "total_said")
    g.add("Slice", [total, g.shape(0), g.shape((FRAMES - 1) * BANDS), g.shape(1)], "sums_next")
    count = 1.0 / np.arange(1, FRAMES + 1, dtype=np.float32)[:, None]
    mean = g.add("Mul", [s.reshape(total, "by_age", FRAMES, BANDS), g.constant("per_count", count)], "means")
    g.add("Gather", [mean, g.constant("band_of", model.band_of.numpy())], "mask", axis=1)
    return s.finish("deep-karaoke", {"magnitude": (1, BINS)}, (FRAMES, BINS), asdict(settings))
