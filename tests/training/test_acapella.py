"""acapella and acapella-v2: causal, the same frame by frame in ONNX Runtime and in the host, resumable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
pytest.importorskip("onnx", reason="needs onnx: pip install 'rtsep[train]'")

from rtsep.training.checkpoints import read_checkpoint  # noqa: E402
from rtsep.training.export import export  # noqa: E402
from rtsep.training.graphs import proof  # noqa: E402
from rtsep.training.nets.acapella import BINS, FIELD, Acapella, AcapellaV2, Encoder, Past  # noqa: E402
from rtsep.training.tasks import configured, find  # noqa: E402
from rtsep.training.tasks.acapella import streaming_graph, streaming_graph_v2  # noqa: E402
from rtsep.training.train import train  # noqa: E402

NAMES = ("acapella", "acapella-v2")
SIZES = {"acapella": ["channels=4", "frames=12"], "acapella-v2": ["channels=4", "across=5", "frames=30", "context=8"]}
TEXTS = {name: [*sizes, "warmup=1", "sources=2", "rolls=1"] for name, sizes in SIZES.items()}


def _model(name: str, channels: int = 4) -> Encoder:
    torch.manual_seed(1)
    model: Encoder = Acapella(channels) if name == "acapella" else AcapellaV2(channels, 5)
    for buffer_name, buffer in model.named_buffers():
        if "running" in buffer_name:
            buffer += 0.5 * torch.rand_like(buffer)
    if name == "acapella-v2":
        model.convs["out"].weight.data *= 20
    return model.eval()


def _input(name: str, frames: int) -> torch.Tensor:
    if name == "acapella":
        return torch.from_numpy(proof.noise(1, BINS, frames)[:, 0])
    return torch.from_numpy(proof.noise(FIELD, BINS, frames))


def test_a_layer_sees_the_past_alone():
    torch.manual_seed(0)
    layer = Past(2, 3, size=4, step=2, every=2)
    x = torch.randn(1, 2, 12, 8)
    out = layer(x)
    assert out.shape == (1, 3, 12, 4)
    wanted = layer.bias + sum(
        (layer.weight[:, :, i, j] @ x[0, :, 11 - 2 * (3 - i), 2 * k + j - 1]) * (0 <= 2 * k + j - 1 < 8)
        for k in (1,)
        for i in range(4)
        for j in range(4)
    )
    torch.testing.assert_close(out[0, :, 11, 1], wanted)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [2, 4])
def test_streaming_onnx_equals_sequence(name: str, channels: int):
    pytest.importorskip("onnxruntime")
    model = _model(name, channels)
    if isinstance(model, Acapella):
        data, size = streaming_graph(model, {})
        infer, key, rows = proof.as_arrays(lambda x: model.infer(x[:, 0])), "magnitude", 1
    else:
        data, size = streaming_graph_v2(model, {})
        infer, key, rows = proof.as_arrays(model.infer), "field", FIELD
    noise = proof.noise(rows, BINS, 160)
    assert proof.deviation(infer, data, size, key, noise) <= 1e-4
    assert infer(noise).std(0).mean() > 1e-4  # the masks do move


@pytest.mark.parametrize("name", NAMES)
def test_the_future_does_not_reach_the_past(name: str):
    model, x = _model(name), _input(name, 60)
    before = model.infer(x)
    x[40:] *= torch.linspace(0.01, 1, BINS)
    after = model.infer(x)
    torch.testing.assert_close(before[:40], after[:40], rtol=0, atol=1e-6)
    assert not torch.allclose(before[40:], after[40:], atol=1e-4)


@pytest.mark.parametrize(("name", "reach"), [("acapella", 48), ("acapella-v2", 172)])
def test_how_far_back_it_hears(name: str, reach: int):
    """The newest frame hears `reach` frames, itself among them, as the source's layers do (48)."""
    model = _model(name)
    for layer in model.convs.values():
        layer.weight.data = layer.weight.data.abs() + 1e-2  # no relu hides what comes through
    x = torch.rand(1, 1 if name == "acapella" else FIELD, reach + 20, BINS, requires_grad=True)
    from rtsep.training.nets.acapella import Torch

    model.draw(Torch(model), x)[0, :, -1].sum().backward()
    heard = x.grad.abs().sum((0, 1, 3)) > 0
    assert heard[-reach:].all()
    assert not heard[:-reach].any()


def test_mask_is_the_voice_over_the_mixture():
    model, x = _model("acapella"), _input("acapella", 30)
    over = model.over(x[None])
    voice = torch.exp(model(over)) - 1
    mask = model.infer(x)
    loud = over[0] > 1
    torch.testing.assert_close(mask[loud], (voice / over)[0].clamp(max=1)[loud], rtol=0.02, atol=0)
    assert ((mask >= 0) & (mask <= 1)).all()
    assert 0 < (mask == 1).float().mean() < 1


def test_target_is_the_voice(corpus_folder: Path, cache_folder: Path):
    """A net that says what the voice is has no loss."""
    kind = find("acapella")
    task = kind(configured(kind, TEXTS["acapella"]), corpus_folder, cache_folder)
    batch = {name: torch.as_tensor(value) for name, value in task.batch(2).items()}

    class Knows(Acapella):
        def forward(self, over):
            level = over / (batch["magnitude"] + 1e-12)
            voice = torch.nn.functional.pad(batch["voice"], (0, 0, 24, 0))
            return torch.log1p(level * voice)

    assert task.loss(Knows(4), batch) < 1e-4
    assert task.loss(Acapella(4), batch) > 0.1


def _train(name: str, corpus: Path, cache: Path, runs: Path, **more: object) -> Path:
    options = {"steps": 3, "settings": TEXTS[name], "device": "cpu", "score_every": 0, "quiet": True}
    return train(name, data=corpus, cache=cache, runs=runs, **(options | more))


@pytest.mark.parametrize("name", NAMES)
def test_resumed_is_the_same_and_the_export_is_proved(
    name: str, corpus_folder: Path, cache_folder: Path, tmp_path: Path
):
    pytest.importorskip("onnxruntime")
    whole = _train(name, corpus_folder, cache_folder, tmp_path / "whole")
    part = _train(name, corpus_folder, cache_folder, tmp_path / "part", minutes=1e-9)
    assert read_checkpoint(part)["step"] < 3
    _train(name, corpus_folder, cache_folder, tmp_path / "part", resume=True)
    a, b = read_checkpoint(whole), read_checkpoint(part)
    assert all(torch.equal(tensor, b["mean"][key]) for key, tensor in a["mean"].items())
    said: list[str] = []
    export(whole, tmp_path / "model", storage="float16", say=said.append)
    assert any(line.startswith("stream = offline") for line in said)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name: str, corpus_folder: Path, cache_folder: Path):
    kind = find(name)
    task = kind(configured(kind, TEXTS[name]), corpus_folder, cache_folder)
    batch = {key: torch.as_tensor(value) for key, value in task.batch(0).items()}
    torch.manual_seed(0)
    model = task.model()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = task.loss(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < losses[0] - 0.1 * abs(losses[0])
