"""Training and streaming graphs of acapella and acapella-v2 (`rtsep.training.nets.acapella`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from rtsep.errors import UsageError
from rtsep.training import live, losses
from rtsep.training.data.augment import CONTEXT, HOP, Mixer
from rtsep.training.data.songs import songs
from rtsep.training.data.sources import load
from rtsep.training.data.stereo import StereoMixer
from rtsep.training.evaluate import score, separate, summarize
from rtsep.training.graphs import proof, streaming
from rtsep.training.made import Made
from rtsep.training.nets.acapella import BINS, FIELD, QUIET, Acapella, AcapellaV2, Encoder, Past
from rtsep.training.nets.spectrum import FEATURE_MEAN, FEATURE_SCALE
from rtsep.training.precision import mixed
from rtsep.training.trainer import Settings, Task


@dataclass(frozen=True, slots=True)
class AcapellaSettings(Settings):
    """Size of the net, and its batches."""

    steps: int = 700
    lr: float = 2e-3
    channels: int = 16  # the source: 64
    frames: int = 104  # of a sequence, with a target
    sources: int = 4
    rolls: int = 2


class AcapellaTask(Task):
    """Magnitude of the mixture to that of the voice."""

    name = "acapella"
    settings_kind = AcapellaSettings

    @cached_property
    def mixer(self) -> Mixer:
        """The mash-ups."""
        s = self.settings
        return Mixer(
            load(self.data, self.cache, s.split), seed=s.seed, frames=s.frames, sources=s.sources, rolls=s.rolls
        )

    def model(self) -> Acapella:
        """See `Task`."""
        return Acapella(self.settings.channels).to(memory_format=torch.channels_last)

    def batch(self, step: int) -> Mapping[str, Any]:
        """Magnitudes of mixture and voice."""
        b = self.mixer.batch(step)
        values = {"magnitude": b.magnitude, "voice": b.voice, "bins": b.bins}
        return {k: v[..., :BINS] for k, v in values.items()} | {"start": b.start}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Mean squared error of the voice's log magnitude, over the bins that have content."""
        net, x = cast(Acapella, model), batch["magnitude"]
        over = net.over(x, batch["start"])
        late, gain = over[:, CONTEXT - 1 :], x[:, CONTEXT - 1 :]
        target = torch.log1p(late / (gain + 1e-12) * batch["voice"])
        with mixed(over.device):
            found = net(over)[:, CONTEXT - 1 :].float()
        error = (found - target).square().mean(1)
        return (error * batch["bins"]).sum() / batch["bins"].sum()

    def score(self, model: nn.Module) -> dict[str, Any]:
        """Means over the dev songs."""
        infer = proof.as_arrays(cast(Acapella, model).infer)

        def widened(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            mask = infer(magnitude[:, :BINS])
            return np.concatenate([mask, mask[:, -1:]], 1), np.ones(len(mask), np.float32)

        return summarize(score(song, widened) for song in songs(self.data, self.cache, "dev", 20.0))

    @classmethod
    def made(cls, checkpoint: Mapping[str, Any], storage: str) -> Made:
        """See `Task`."""
        stored, settings = cast(Acapella, _stored(cls, checkpoint, storage)), checkpoint["config"]
        data, state = streaming_graph(stored, settings, half=storage == "float16")
        infer = proof.as_arrays(stored.infer)
        return Made(
            data,
            state,
            lambda: proof.magnitude_deviation(infer, data, state, BINS),
            "convolutions down and up in frequency over 48 frames (0.56 s) estimate the magnitude of the voice",
            HOP,
            "mid_magnitude",
            BINS,
            "magnitude",
            "",
            0,
            lambda folder: proof.chain_deviation_db(lambda sound: separate(infer, sound, BINS), folder),
            [_size(stored)],
        )


@dataclass(frozen=True, slots=True)
class AcapellaV2Settings(AcapellaSettings):
    """The same, and the layer over all frequencies; the first frames of a sequence have no target."""

    steps: int = 500
    optimizer: str = "adamw"
    weight_decay: float = 1e-2
    frames: int = 192
    context: int = 64
    across: int = 128


class AcapellaV2Task(Task):
    """Stereo field to masks of middle and side."""

    name = "acapella-v2"
    settings_kind = AcapellaV2Settings

    @cached_property
    def mixer(self) -> StereoMixer:
        """The mash-ups."""
        s, corpus = self.settings, load(self.data, self.cache, self.settings.split)
        sizes = {"frames": s.frames, "sources": s.sources, "rolls": s.rolls, "context": s.context}
        return StereoMixer(corpus, seed=s.seed, hop=HOP, **sizes)

    def model(self) -> AcapellaV2:
        """See `Task`."""
        return AcapellaV2(self.settings.channels, self.settings.across).to(memory_format=torch.channels_last)

    def batch(self, step: int) -> Mapping[str, Any]:
        """Stereo field and the targets of `rtsep.training.losses.field_mask`."""
        b = self.mixer.batch(step)
        values = {"field": b.field, "cross": b.cross, "bins": b.bins}
        return {k: v[..., :BINS] for k, v in values.items()} | {"voice": b.voice}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Logarithm of the energy of what is wrong in the sound, and a squared error to the best mask."""
        context = self.settings.context
        with mixed(batch["field"].device):
            logits = model(batch["field"])[:, context:].float()
        return losses.field_mask(logits, batch["field"][:, context:], batch["cross"], batch["voice"], batch["bins"])

    def score(self, model: nn.Module) -> dict[str, Any]:
        """Mean gains over the dev songs."""
        return live.score(cast(Any, model), songs(self.data, self.cache, "dev", 20.0, stereo=True))

    @classmethod
    def made(cls, checkpoint: Mapping[str, Any], storage: str) -> Made:
        """See `Task`."""
        stored, settings = cast(AcapellaV2, _stored(cls, checkpoint, storage)), checkpoint["config"]
        data, state = streaming_graph_v2(stored, settings, half=storage == "float16")
        infer = proof.as_arrays(stored.infer)

        def offline(sound: proof.Floats) -> proof.Floats:
            return live.separate(cast(Any, stored), sound, autocast=False)

        return Made(
            data,
            state,
            lambda: proof.deviation(infer, data, state, "field", proof.noise(FIELD, BINS)),
            "convolutions down and up in frequency over 2 s of the stereo field draw masks for middle and side",
            HOP,
            "stereo_field",
            BINS,
            "field",
            'mask_kind = "mid_side"\n',
            0,
            lambda folder: proof.chain_deviation_db(offline, folder),
            [_size(stored)],
        )


def _stored(task: type[Task], checkpoint: Mapping[str, Any], storage: str) -> nn.Module:
    """The net of a checkpoint with the weights that the file keeps."""
    if storage == "int8":
        raise UsageError(f"storage int8: {task.name} is stored as float32 or float16")
    model = task.restored(checkpoint)
    return proof.rounded(model) if storage == "float16" else model


def _size(net: Encoder) -> str:
    """Weights, and multiplications of one frame."""
    products, hooks = [0], []

    def count(layer: nn.Module, _: Any, out: Tensor) -> None:
        products[0] += out[0].numel() // out.shape[2] * layer.weight[0].numel()  # type: ignore[index,operator]

    for layer in net.convs.values():
        hooks.append(layer.register_forward_hook(count))
    shape = (4, FIELD, BINS) if isinstance(net, AcapellaV2) else (4, BINS)
    net.infer(torch.zeros(shape))  # type: ignore[operator]
    for hook in hooks:
        hook.remove()
    dense = sum(layer.weight.numel() for layer in net.dense.values())  # type: ignore[union-attr,operator]
    weights = sum(p.numel() for p in net.parameters())
    return f"{weights:,} weights, {(products[0] + dense) / 1e6:.1f} million multiplications a hop"


class _Drawn:
    """`rtsep.training.nets.acapella.Layers` on the names of nodes of a streaming graph; maps are (1, C, 1, F)."""

    def __init__(self, net: Encoder, half: bool) -> None:
        self.net, self.s = net, streaming.Streaming(net, half)
        self.sizes: dict[str, tuple[int, int]] = {}  # channels and bins of each map
        self.unnamed = 0

    def _made(self, op: str, inputs: list[str], size: tuple[int, int], **attributes: object) -> str:
        self.unnamed += 1
        return self._sized(self.s.graph.add(op, inputs, f"{op.lower()}_{self.unnamed}", **attributes), *size)

    def _sized(self, name: str, channels: int, bins: int) -> str:
        self.sizes[name] = channels, bins
        return name

    def conv(self, name: str, x: str) -> str:
        """See `Layers`."""
        layer = cast(Past, self.net.convs[name])
        channels, bins = self.sizes[x]
        rows = self.s.remember(f"past_{name}", x, channels, layer.rows, bins)
        inputs = [rows, self.s.weight(f"convs.{name}.weight")]
        inputs += [self.s.weight(f"convs.{name}.bias")] if layer.bias is not None else []
        step, pad = layer.stride[1], int(layer.padding[1])
        size = layer.out_channels, bins // step
        pads = [0, pad, 0, pad]
        return self._made("Conv", inputs, size, dilations=list(layer.dilation), strides=[1, step], pads=pads)

    def norm(self, name: str, x: str) -> str:
        """See `Layers`."""
        values = [self.s.weight(f"norms.{name}.{k}") for k in ("weight", "bias", "running_mean", "running_var")]
        return self._made("BatchNormalization", [x, *values], self.sizes[x], epsilon=1e-5)

    def relu(self, x: str) -> str:
        """See `Layers`."""
        return self._made("Relu", [x], self.sizes[x])

    def double(self, x: str) -> str:
        """See `Layers`."""
        channels, bins = self.sizes[x]
        column = self._reshaped(x, 1, channels, bins, 1)
        pairs = self._made("Concat", [column, column], (channels, 2 * bins), axis=3)
        return self._sized(self._reshaped(pairs, 1, channels, 1, 2 * bins), channels, 2 * bins)

    def _reshaped(self, x: str, *shape: int) -> str:
        self.unnamed += 1
        return self.s.reshape(x, f"reshape_{self.unnamed}", *shape)

    def join(self, x: str, y: str) -> str:
        """See `Layers`."""
        size = self.sizes[x][0] + self.sizes[y][0], self.sizes[x][1]
        return self._made("Concat", [x, y], size, axis=1)

    def add(self, x: str, y: str) -> str:
        """See `Layers`."""
        return self._made("Add", [x, y], self.sizes[x])

    def across(self, name: str, x: str) -> str:
        """See `Layers`."""
        row = self._reshaped(x, 1, -1)
        hidden = self.s.graph.add("Relu", [self.s.linear(f"dense.{name}_in", row)], f"{name}_hidden")
        told = self.s.linear(f"dense.{name}_out", hidden)
        channels, bins = self.sizes[x]
        return self._sized(self._reshaped(told, 1, channels, 1, bins), channels, bins)

    def draw(self, features: str, rows: int) -> str:
        """The whole net on features (rows, BINS)."""
        draw = cast(Callable[[Any, str], str], self.net.draw)
        return draw(self, self._sized(self._reshaped(features, 1, rows, 1, BINS), rows, BINS))


def streaming_graph(model: Acapella, settings: Mapping[str, object], half: bool = False) -> tuple[bytes, int]:
    """The ONNX file of acapella and the size of its state."""
    drawn = _Drawn(model, half)
    s, g = drawn.s, drawn.s.graph
    over = s.over_level("magnitude", 1, BINS)
    voice = drawn.draw(g.add("Log", [g.add("Add", [over, g.number(1.0)], "plus_one")], "log"), 1)
    less = g.add("Sub", [g.add("Exp", [s.reshape(voice, "voice", 1, BINS)], "exp"), g.number(1.0)], "voice_over")
    share = g.add("Div", [less, g.add("Max", [over, g.number(QUIET)], "some")], "share_of")
    g.add("Min", [share, g.number(1.0)], "mask")
    return s.finish("acapella", {"magnitude": (1, BINS)}, (1, BINS), settings)


def streaming_graph_v2(model: AcapellaV2, settings: Mapping[str, object], half: bool = False) -> tuple[bytes, int]:
    """The ONNX file of acapella-v2 and the size of its state."""
    drawn = _Drawn(model, half)
    s, g = drawn.s, drawn.s.graph
    for name, first in (("magnitudes", 0), ("raw_relations", 2)):
        g.add("Slice", ["field", g.shape(first), g.shape(first + 2), g.shape(0)], name)
    none = g.add("IsNaN", ["raw_relations"], "no_relation")
    relations = g.add("Where", [none, g.number(0.0), "raw_relations"], "some_relation")
    relations = g.add("Clip", [relations, g.number(-1.0), g.number(1.0)], "relations")
    over = s.over_level("magnitudes", 2, BINS)
    log = g.add("Log", [g.add("Add", [over, g.number(1.0)], "plus_one")], "log")
    log = g.add("Sub", [log, g.number(FEATURE_MEAN)], "centred")
    log = g.add("Mul", [log, g.constant("feature_scale", np.array(1 / FEATURE_SCALE, np.float32))], "scaled")
    logits = drawn.draw(g.add("Concat", [log, relations], "features", axis=0), FIELD)
    g.add("Sigmoid", [s.reshape(logits, "logits", 2, BINS)], "mask")
    return s.finish("acapella-v2", {"field": (FIELD, BINS)}, (2, BINS), settings)
