"""A shipped koretzky can be trained on: its weights come back from the file, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'rtsep[train]'")

from rtsep.errors import UsageError  # noqa: E402
from rtsep.training.checkpoints import read_checkpoint  # noqa: E402
from rtsep.training.folded import first_net, unfold  # noqa: E402
from rtsep.training.graphs.koretzky import streaming_graph  # noqa: E402
from rtsep.training.graphs.proof import rounded  # noqa: E402
from rtsep.training.koretzky import TrainConfig  # noqa: E402
from rtsep.training.koretzky_export import deviation  # noqa: E402
from rtsep.training.train import train  # noqa: E402
from tests.training.test_koretzky import MAGNITUDE, REMEMBERING, SMALL, _model  # noqa: E402

SHIPPED = Path(__file__).parents[2] / "models" / "koretzky" / "model.onnx"


def _constants(proto: object) -> dict[str, np.ndarray]:
    return {i.name: onnx.numpy_helper.to_array(i) for i in proto.graph.initializer}  # type: ignore[attr-defined]


def _equal(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if name.endswith("silence"):  # computed, not trained
            np.testing.assert_allclose(ours[name], value, atol=1e-4)
        else:
            assert ours[name].tobytes() == value.tobytes(), name


def test_the_shipped_weights_come_back():
    model = unfold(SHIPPED.parent)
    _equal(_constants(streaming_graph(model)[0]), _constants(onnx.load(str(SHIPPED))))


def test_the_rebuilt_net_computes_what_the_shipped_file_does():
    pytest.importorskip("onnxruntime")
    model = unfold(SHIPPED)
    states = streaming_graph(model)[1]
    assert deviation(model, SHIPPED.read_bytes(), states) <= 1e-4


@pytest.mark.parametrize("config", [SMALL, REMEMBERING, MAGNITUDE])
def test_what_was_exported_comes_back(config, tmp_path: Path):
    model = _model(config)
    if model.vad_bands is not None:
        model.vad_bands = rounded(model.vad_bands)
    proto, _ = streaming_graph(model)
    onnx.save(proto, str(tmp_path / "model.onnx"))
    again, folded = first_net(tmp_path)
    assert folded
    magnitude = torch.rand(60, 513)
    for ours, theirs in zip(again.infer(magnitude), model.infer(magnitude), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    _equal(_constants(streaming_graph(again)[0]), _constants(proto))


def test_training_goes_on_from_a_model_folder(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    """A step at a rate of next to nothing leaves a net that computes the same: the folded norms stay as they are."""
    onnx.save(streaming_graph(_model(REMEMBERING))[0], str(tmp_path / "model.onnx"))
    config = TrainConfig(frames=20, sources=2, rolls=2, lr=1e-9, vad_share=0.0)
    options = {"steps": 2, "score_every": 0, "quiet": True, "device": "cpu", "config": config}
    last = train(data=corpus_folder, cache=cache_folder, runs=tmp_path / "run", init=tmp_path, **options)
    assert read_checkpoint(last)["config"]["fixed_norms"]
    model, folded = first_net(last)
    assert folded
    magnitude = torch.rand(60, 513)
    torch.testing.assert_close(model.infer(magnitude)[0], unfold(tmp_path).infer(magnitude)[0], atol=1e-4, rtol=0)


def test_foreign_files(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"no")
    with pytest.raises(UsageError, match="not a model"):
        first_net(tmp_path)
    with pytest.raises(UsageError, match="no checkpoint"):
        first_net(tmp_path / "x.pt")
