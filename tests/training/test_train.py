"""Training is resumable with the same curve, and its checkpoints export to a folder."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
pytest.importorskip("onnx", reason="needs onnx: pip install 'rtsep[train]'")

from rtsep.engine.offline import split  # noqa: E402
from rtsep.errors import UsageError  # noqa: E402
from rtsep.separators.onnx import OnnxSeparator  # noqa: E402
from rtsep.training.checkpoints import read_checkpoint  # noqa: E402
from rtsep.training.evaluate import separate  # noqa: E402
from rtsep.training.export import export  # noqa: E402
from rtsep.training.koretzky import TrainConfig  # noqa: E402
from rtsep.training.koretzky_export import restore  # noqa: E402
from rtsep.training.nets.koretzky import NetConfig  # noqa: E402
from rtsep.training.nets.spectrum import BINS  # noqa: E402
from rtsep.training.train import train  # noqa: E402

SIZES = NetConfig(channels=(2, 2, 2, 2), dense=8, vad_channels=(2, 2, 2, 2), vad_dense=4)
CONFIG = TrainConfig(frames=20, sources=2, rolls=2)


def _train(corpus: Path, cache: Path, runs: Path, **more: object) -> Path:
    options: dict = {"steps": 4, "score_every": 0, "sizes": SIZES, "config": CONFIG, "quiet": True, "device": "cpu"}
    return train(data=corpus, cache=cache, runs=runs, **(options | more))


@pytest.mark.parametrize("target", ["binary", "soft", "magnitude"])
def test_resumed_is_the_same(corpus_folder: Path, cache_folder: Path, tmp_path: Path, target: str):
    whole = _train(corpus_folder, cache_folder, tmp_path / "whole", target=target)
    # stopped at once by the clock, then resumed: the configuration comes from the checkpoint
    part = _train(corpus_folder, cache_folder, tmp_path / "part", target=target, minutes=1e-9)
    assert read_checkpoint(part)["step"] < 4
    _train(corpus_folder, cache_folder, tmp_path / "part", resume=True)
    a, b = read_checkpoint(whole), read_checkpoint(part)
    assert a["step"] == b["step"] == 4
    for name, tensor in a["model"].items():
        assert torch.equal(tensor, b["model"][name]), name
        assert torch.equal(a["mean"][name], b["mean"][name]), name
    assert all("step" in json.loads(line) for line in (tmp_path / "part" / "log.jsonl").read_text().splitlines())


def test_dev_scores_and_previews(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    _train(corpus_folder, cache_folder, tmp_path, steps=1, score_every=1, preview=tmp_path / "listen", lookahead=2)
    scores = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["dev"]
    assert set(scores) == {"wide", "mir1k", "mashup"}
    assert len(list((tmp_path / "listen").glob("*.flac"))) == 2


def test_export(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    last = _train(corpus_folder, cache_folder, tmp_path / "run", steps=2, lookahead=3)
    folder = export(last, tmp_path / "model")
    manifest = tomllib.loads((folder / "manifest.toml").read_text())
    assert manifest["tensors"]["lookahead"] == 3
    assert (folder / "CARD.md").exists()
    with pytest.raises(UsageError, match="holds a model already"):
        export(last, tmp_path / "model")
    (folder / "CARD.md").write_text("mine")
    export(last, tmp_path / "model", overwrite=True)
    assert (folder / "CARD.md").read_text() == "mine"


def test_exported_folder_is_read_by_the_host(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    from rtsep.separators.onnx import OnnxSeparator
    from rtsep.spec import StreamSpec

    last = _train(corpus_folder, cache_folder, tmp_path / "run", steps=1)
    separator = OnnxSeparator(export(last, tmp_path / "model"), device="cpu")
    separator.prepare(StreamSpec(samplerate=44100, channels=2, hop=512))


@pytest.mark.parametrize(("lookahead", "target"), [(0, "soft"), (12, "soft"), (0, "magnitude")])
def test_exported_stream_is_offline(
    corpus_folder: Path, cache_folder: Path, tmp_path: Path, lookahead: int, target: str
):
    pytest.importorskip("onnxruntime")
    last = _train(corpus_folder, cache_folder, tmp_path / "run", lookahead=lookahead, target=target)
    separator = OnnxSeparator(export(last, tmp_path / "model"), device="cpu")
    separator.params.set("vad_gate", 0)
    model = restore(read_checkpoint(last))
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal((2, 44100)) * np.hanning(44100)).astype(np.float32)
    wanted = separate(lambda x: model.infer(torch.from_numpy(x))[0].numpy(), sound, BINS, lookahead)
    vocals, _ = split(separator, sound, 44100)
    assert separator.latency == lookahead * 512
    assert 1e-3 < np.abs(vocals).max() < np.abs(sound).max()
    np.testing.assert_allclose(vocals, wanted, atol=1e-6)


def test_last_layer_begun_anew(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    first = read_checkpoint(_train(corpus_folder, cache_folder, tmp_path / "first", steps=1))["mean"]
    for name, more in {
        "on": {},
        "anew": {"config": replace(CONFIG, fresh_out=True)},
        "magnitude": {"target": "magnitude"},
    }.items():
        runs = tmp_path / name
        last = _train(corpus_folder, cache_folder, runs, steps=1, minutes=1e-9, init=tmp_path / "first/last.pt", **more)
        begun = read_checkpoint(last)["mean"]
        assert torch.equal(begun["mask_net.dense.weight"], first["mask_net.dense.weight"])
        assert torch.equal(begun["mask_net.out.weight"], first["mask_net.out.weight"]) == (name == "on")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"net": "x"}, "no net 'x'"),
        ({"target": "x"}, "target 'x'"),
        ({"lookahead": 99}, "lookahead 99"),
        ({"device": "x"}, "device 'x'"),
        ({"target": "magnitude", "lookahead": 1}, "the target magnitude has none"),
    ],
)
def test_wrong_options_are_said(corpus_folder: Path, cache_folder: Path, tmp_path: Path, wrong: dict, message: str):
    with pytest.raises(UsageError, match=message):
        _train(corpus_folder, cache_folder, tmp_path, **wrong)


def test_an_old_run_is_not_overwritten(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    _train(corpus_folder, cache_folder, tmp_path, steps=1)
    with pytest.raises(UsageError, match="exists"):
        _train(corpus_folder, cache_folder, tmp_path, steps=1)
    init = _train(corpus_folder, cache_folder, tmp_path / "next", steps=1, init=tmp_path / "last.pt")
    assert init.exists()


def test_foreign_checkpoint(tmp_path: Path):
    path = tmp_path / "x.pt"
    path.write_text("no")
    with pytest.raises(UsageError, match="not a checkpoint"):
        read_checkpoint(path)
    torch.save({"name": "live", "step": np.float64(1.0)}, path)  # what torch has much to say about
    with pytest.raises(UsageError, match="not a checkpoint of rtsep train: [^\n]{,80}$"):
        read_checkpoint(path)
    with pytest.raises(UsageError, match="no checkpoint"):
        read_checkpoint(tmp_path / "y.pt")
