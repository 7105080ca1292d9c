"""The detector's memory is trained alone: masks stay, a stopped run goes on with the same curve, and it does learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'rtsep[train]'")

from rtsep.errors import UsageError  # noqa: E402
from rtsep.training.checkpoints import read_checkpoint  # noqa: E402
from rtsep.training.data import load  # noqa: E402
from rtsep.training.export import export  # noqa: E402
from rtsep.training.folded import first_net  # noqa: E402
from rtsep.training.graph import streaming_graph  # noqa: E402
from rtsep.training.long import LongMixer  # noqa: E402
from rtsep.training.nets.detector import BANDS  # noqa: E402
from rtsep.training.remember import Lesson, MemoryConfig, components, give_memory, train_detector  # noqa: E402
from rtsep.training.train import train  # noqa: E402
from tests.training.test_koretzky import SMALL, _model  # noqa: E402

CONFIG = MemoryConfig(steps=4, batches=2, frames=30, sources=2, rolls=2, sequences=3, units=6, look=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder of a net without a memory."""
    path = tmp_path / "model"
    path.mkdir()
    onnx.save(streaming_graph(_model(SMALL))[0], str(path / "model.onnx"))
    return path


def test_only_the_memory_changes(folder: Path, corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    options = {"data": corpus_folder, "cache": cache_folder, "init": folder, "config": CONFIG}
    last = train_detector(runs=tmp_path / "run", **options)
    before, after = first_net(folder)[0], first_net(last)[0]
    for name, value in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], value), name
    magnitude = torch.rand(60, 513)
    assert torch.equal(before.infer(magnitude)[0], after.infer(magnitude)[0])
    made = export(last, tmp_path / "made")
    again, folded = first_net(made)
    assert folded
    torch.testing.assert_close(again.infer(magnitude)[1], after.infer(magnitude)[1], atol=1e-5, rtol=0)
    louder, _ = first_net(export(last, tmp_path / "louder", vad_bias=1.0))
    logits = [torch.logit(net.infer(magnitude)[1].double()) for net in (again, louder)]
    torch.testing.assert_close(logits[1], logits[0] + 1.0, atol=1e-3, rtol=0)
    assert (tmp_path / "run" / "log.jsonl").exists()


def test_resumed_is_the_same(folder: Path, corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    options = {"data": corpus_folder, "cache": cache_folder, "init": folder, "config": CONFIG}
    whole = train_detector(runs=tmp_path / "whole", **options)
    part = train_detector(runs=tmp_path / "part", minutes=1e-9, **options)  # stopped before all was heard
    assert read_checkpoint(part)["step"] == 0
    train_detector(runs=tmp_path / "part", resume=True, **options)
    a, b = read_checkpoint(whole), read_checkpoint(part)
    assert a["step"] == b["step"] == 4
    for name, tensor in a["mean"].items():
        assert torch.equal(tensor, b["mean"][name]), name


def test_it_learns_what_only_a_memory_can(folder: Path):
    """A cue in one input at one frame switches the target on for good; another later one switches it off."""
    config = MemoryConfig(
        steps=200, sequences=16, units=12, look=4, dropout=0.0, weaker=0.0, noise=0.0, lost_db=0.0, lr=0.02
    )
    lesson = Lesson(give_memory(first_net(folder)[0], config), config)
    rng = np.random.default_rng(0)
    n, frames, size = 32, 60, len(lesson.detector.shift)
    seen = np.zeros((n, frames, size), np.float16)
    vad = np.zeros((n, frames), np.uint8)
    for row in range(n):
        on, off = sorted(rng.choice(np.arange(5, 55), 2, replace=False))
        seen[row, on, 0] = seen[row, off, 1] = 4.0
        vad[row, on:off] = 1
    heard = {"seen": seen, "vad": vad, "weight": np.ones_like(vad)}
    lesson.centre(heard)
    right = [lesson.update([heard])["vad_accuracy"] for _ in range(config.steps)]
    assert np.mean(right[-10:]) > 0.95


def test_the_memory_sees_energies_before_and_after_the_mask():
    from tests.training.test_koretzky import REMEMBERING

    model = _model(REMEMBERING)
    assert model.detector is not None
    relative, mask = torch.ones(1, 1, 513), torch.full((1, 1, 513), 0.1)
    width = REMEMBERING.vad_dense
    seen = model.detector.gather(torch.zeros(1, 1, width), torch.zeros(1, 1, REMEMBERING.dense), relative, mask)[0, 0]
    before, after = seen[width : width + BANDS], seen[width + BANDS : width + 2 * BANDS]
    torch.testing.assert_close(before.exp(), torch.tensor([4.0, 5, 7, 12, 20, 35, 65, 363]), atol=0.01, rtol=0.01)
    torch.testing.assert_close(before - after, torch.full((BANDS,), 2 * np.log(10.0)).float(), atol=0.05, rtol=0)


def test_principal_components_have_no_common_part():
    x = torch.randn(2000, 6) @ torch.diag(torch.tensor([5.0, 4, 3, 0.1, 0.1, 0.1])) + 3.0
    torch.testing.assert_close(torch.cov((x @ components(x, 3)).t()), torch.eye(3), atol=1e-3, rtol=0)


def test_long_mixtures_have_rests_and_songs_without_a_voice(corpus_folder: Path, cache_folder: Path):
    mixer = LongMixer(load(corpus_folder, cache_folder), seed=1, frames=400, sources=4, rolls=2)
    batches = [mixer.batch(step) for step in range(6)]
    voiced = np.concatenate([batch.vad.mean(1) for batch in batches])
    assert (voiced == 0).any()
    assert (voiced > 0.7).any()
    assert np.array_equal(mixer.batch(3).magnitude, batches[3].magnitude)


def test_wrong_uses_are_said(folder: Path, corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    common = {"data": corpus_folder, "cache": cache_folder, "quiet": True, "device": "cpu"}
    with pytest.raises(UsageError, match="needs --init"):
        train("koretzky", runs=tmp_path / "a", part="detector", **common)
    with pytest.raises(UsageError, match="part 'detector' of live"):
        train("live", runs=tmp_path / "b", part="detector", **common)
    train_detector(
        data=corpus_folder, cache=cache_folder, runs=tmp_path / "c", init=folder, config=CONFIG, minutes=1e-9
    )
    with pytest.raises(UsageError, match="give --part detector"):
        train("koretzky", runs=tmp_path / "c", resume=True, **common)
