"""deep-karaoke: the sliding mean, the same frame by frame in ONNX Runtime and in the host, resumable."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
pytest.importorskip("onnx", reason="needs onnx: pip install 'rtsep[train]'")

from rtsep.errors import UsageError  # noqa: E402
from rtsep.training.checkpoints import read_checkpoint  # noqa: E402
from rtsep.training.data.sources import load  # noqa: E402
from rtsep.training.export import export  # noqa: E402
from rtsep.training.graphs import proof  # noqa: E402
from rtsep.training.nets.deep_karaoke import (  # noqa: E402
    BANDS,
    BINS,
    FINE,
    FRAMES,
    DeepKaraoke,
    band_matrix,
    band_of,
    sliding_mean,
)
from rtsep.training.tasks.deep_karaoke import DeepKaraokeSettings, DeepKaraokeTask, streaming_graph  # noqa: E402
from rtsep.training.train import train  # noqa: E402

SMALL = DeepKaraokeSettings(steps=4, warmup=1, hidden=7, frames=30, every=3, sources=2, rolls=1)
TEXTS = [f"{name}={getattr(SMALL, name)}" for name in ("warmup", "hidden", "frames", "every", "sources", "rolls")]


def _model(hidden: int = 7, layers: int = 2) -> DeepKaraoke:
    torch.manual_seed(1)
    model = DeepKaraoke(hidden, layers).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def _magnitude(frames: int) -> torch.Tensor:
    return torch.from_numpy(proof.noise(1, BINS, frames)[:, 0])


def test_bands_hold_every_bin_once():
    bands = band_of()
    assert torch.equal(bands[:FINE], torch.arange(FINE))
    assert bands[0] == 0
    assert bands[-1] == BANDS - 1
    assert set((bands[1:] - bands[:-1]).tolist()) == {0, 1}
    assert torch.allclose(band_matrix().sum(0), torch.ones(BANDS))


def test_sliding_mean_is_that_of_a_plain_loop():
    said = torch.rand(50, FRAMES, 3, dtype=torch.double)  # window that ends at t, its row i: frame t - 19 + i
    found = sliding_mean(said)
    for t in (0, 5, 19, 30, 49):
        for ahead in (0, 1, 7, 19):
            frame = t - ahead
            if frame < 0:
                continue
            there = [said[end, frame - (end - FRAMES + 1)] for end in range(frame, t + 1)]
            assert len(there) == ahead + 1
            torch.testing.assert_close(found[t, ahead], torch.stack(there).mean(0))


def test_without_lookahead_there_is_one_prediction():
    model, x = _model(), _magnitude(40)
    torch.testing.assert_close(model.infer(x)[:, 0], model.predictions(x)[:, -1][:, model.band_of])


@pytest.mark.parametrize("layers", [1, 2])
def test_streaming_onnx_equals_sequence(layers: int):
    pytest.importorskip("onnxruntime")
    model = _model(layers=layers)
    data, size = streaming_graph(model, SMALL)
    infer = proof.as_arrays(lambda x: model.infer(x[:, 0]))
    assert proof.deviation(infer, data, size, "magnitude", proof.noise(1, BINS)) <= 1e-4
    assert model.infer(_magnitude(60)).std(0).mean() > 1e-3  # the masks do move


def test_the_future_does_not_reach_the_past():
    model, x = _model(), _magnitude(60)
    before = model.infer(x)
    x[40:] *= torch.linspace(0.01, 3, BINS)
    after = model.infer(x)
    torch.testing.assert_close(before[:40], after[:40], rtol=0, atol=1e-6)
    assert not torch.allclose(before[40:], after[40:], atol=1e-4)


def test_targets_are_the_ideal_binary_mask(corpus_folder: Path, cache_folder: Path):
    task = DeepKaraokeTask(SMALL, corpus_folder, cache_folder)
    found, plain = task.batch(3), task.mixer.batch(3)
    sure = np.abs(found["more"]) > 1e-2 * plain.voice**2 + 1e-6  # but for ties
    np.testing.assert_array_equal((found["more"] > 0)[sure], (plain.binary > 0)[sure])
    assert 0.02 < plain.binary.mean() < 0.98
    again = DeepKaraokeTask(SMALL, corpus_folder, cache_folder).batch(3)
    assert all(np.array_equal(value, again[name]) for name, value in found.items())


def test_it_learns(corpus_folder: Path, cache_folder: Path):
    task = DeepKaraokeTask(SMALL, corpus_folder, cache_folder)
    batch = {name: torch.as_tensor(value) for name, value in task.batch(0).items()}
    torch.manual_seed(0)
    model = task.model()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = task.loss(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def _train(corpus: Path, cache: Path, runs: Path, **more: object) -> Path:
    options = {"steps": SMALL.steps, "settings": TEXTS, "device": "cpu", "score_every": 0, "quiet": True}
    return train("deep-karaoke", data=corpus, cache=cache, runs=runs, **(options | more))


def test_resumed_is_the_same(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    whole = _train(corpus_folder, cache_folder, tmp_path / "whole")
    part = _train(corpus_folder, cache_folder, tmp_path / "part", minutes=1e-9)
    assert read_checkpoint(part)["step"] < SMALL.steps
    _train(corpus_folder, cache_folder, tmp_path / "part", resume=True)
    a, b = read_checkpoint(whole), read_checkpoint(part)
    assert a["step"] == b["step"] == SMALL.steps
    assert a["config"] == asdict(SMALL)
    assert all(torch.equal(tensor, b["mean"][name]) for name, tensor in a["mean"].items())


def test_exported_folder_is_proved_in_the_host(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    from rtsep.separators.onnx import OnnxSeparator

    last = _train(corpus_folder, cache_folder, tmp_path / "run", lookahead=5)
    said: list[str] = []
    folder = export(last, tmp_path / "model", storage="float16", say=said.append)
    assert any(line.startswith("stream = offline") for line in said)
    assert OnnxSeparator(folder).latency == 5 * 512
    assert OnnxSeparator(folder, lookahead=19).latency == 19 * 512
    assert OnnxSeparator(folder).params.get("alpha") == 0.5
    with pytest.raises(UsageError, match="0 to 19 hops"):
        _train(corpus_folder, cache_folder, tmp_path / "far", lookahead=20)


def test_scores_are_of_dev(corpus_folder: Path, cache_folder: Path):
    task = DeepKaraokeTask(SMALL, corpus_folder, cache_folder)
    scores = task.score(_model())
    assert set(scores) == {"lookahead 0", "lookahead 19"}
    assert set(scores["lookahead 19"]) == {"wide", "mir1k", "mashup"}
    assert load(corpus_folder, cache_folder, "dev").pairs
