"""nmf: learning, taking apart, the mean over patches, and the exported stream."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
pytest.importorskip("onnx", reason="needs onnx: pip install 'rtsep[train]'")

from rtsep.errors import ModelError, UsageError  # noqa: E402
from rtsep.separators.registry import create  # noqa: E402
from rtsep.spec import StreamSpec  # noqa: E402
from rtsep.training.checkpoints import read_checkpoint  # noqa: E402
from rtsep.training.export import TOLERANCES, export  # noqa: E402
from rtsep.training.graphs.nmf import streaming_graph  # noqa: E402
from rtsep.training.graphs.proof import magnitude_deviation, noise  # noqa: E402
from rtsep.training.nets.nmf import BAND_OF_BIN, BANDS, BINS, Nmf, bands, emphasis  # noqa: E402
from rtsep.training.train import train  # noqa: E402

SMALL = ("bases=5", "patches=20", "learn_updates=4")


def _nmf(frames: int = 6, updates: int = 2, bases: int = 4) -> Nmf:
    torch.manual_seed(2)
    model = Nmf(bases, frames, updates, 0.1)
    drawn = torch.rand(model.bases.shape) ** 6
    model.bases.copy_(drawn / drawn.sum(-1, keepdim=True))
    return model


def test_bands_hold_all_bins_but_the_highest():
    magnitude = np.random.default_rng(0).random((3, BINS)).astype(np.float32)
    wanted = np.zeros((3, BANDS))
    np.add.at(wanted, (slice(None), BAND_OF_BIN[:-1]), magnitude[:, :-1])
    np.testing.assert_allclose(bands(magnitude), wanted * emphasis(), rtol=1e-5)
    assert BANDS == 256
    assert (np.diff(BAND_OF_BIN) >= 0).all()


def test_learning_finds_the_parts_of_a_sum():
    """Sums of three patterns: three bases come to hold one each, and the divergence falls to nothing."""
    random = np.random.default_rng(1)
    patterns = random.random((3, BANDS)) * (np.arange(BANDS) % 3 == np.arange(3)[:, None])
    torch.manual_seed(0)
    model = Nmf(3, 1, 2, 0.1)
    losses = []
    for _ in range(150):
        patches = random.dirichlet(np.ones(3) * 0.3, 60) @ (patterns / patterns.sum(1, keepdims=True))
        losses.append(model.learn(0, torch.from_numpy(patches.astype(np.float32)), 20, 0.9))
    assert losses[-1] < 0.01 * losses[0]
    torch.testing.assert_close(model.bases.sum(-1), torch.ones(2, 3))
    likeness = model.bases[0].numpy() @ patterns.T / np.linalg.norm(patterns, axis=1)
    likeness /= np.linalg.norm(model.bases[0].numpy(), axis=1)[:, None]
    assert (likeness.max(axis=0) > 0.99).all()


def test_an_update_never_raises_the_divergence():
    """The multiplicative update of the activations, against the divergence of its definition."""
    model, v = _nmf(), torch.rand(1, 6 * BANDS) + 0.01
    bases = model.bases.reshape(-1, 6 * BANDS)
    h, before = torch.full((1, len(bases)), 1.0), np.inf
    for _ in range(20):
        h = h * ((v / (h @ bases)) @ bases.T)
        wh = h @ bases
        now = float((v * torch.log(v / wh) - v + wh).sum())
        assert now <= before + 1e-3
        before = now


def naive(model: Nmf, magnitude: np.ndarray) -> np.ndarray:
    """Every patch's whole mask is kept, and those of a frame averaged."""
    frames, w = model.frames, model.bases.reshape(-1, model.bases.shape[-1]).numpy().astype(float)
    rows = np.concatenate([np.zeros((frames - 1, BANDS)), bands(magnitude)])
    h, kept = np.zeros(len(w)), []
    for t in range(len(magnitude)):
        v = rows[t : t + frames].reshape(-1)
        h = v.sum() * (0.9 * h / max(h.sum(), 1e-30) + 0.1 / len(w))
        for _ in range(model.updates):
            h = h * (w @ np.divide(v, h @ w, out=np.zeros_like(v), where=h @ w > 0))
        voice, music = (part @ half for part, half in zip(np.split(h, 2), np.split(w, 2), strict=True))
        both = voice + music
        kept.append(np.divide(voice, both, out=np.zeros_like(v), where=both > 0).reshape(frames, BANDS))
    masks = np.zeros((len(magnitude), frames, BANDS))
    for t in range(len(magnitude)):
        for ahead in range(min(frames, t + 1)):
            wanted = t - ahead  # the frame; patch k ends at frame k
            for k in range(wanted, t + 1):
                masks[t, ahead] += kept[k][frames - 1 - (k - wanted)] / (ahead + 1)
    return masks[:, :, BAND_OF_BIN]


@pytest.mark.parametrize("updates", [1, 3])
def test_masks_are_the_mean_over_the_patches(updates: int):
    model, magnitude = _nmf(updates=updates), noise(1, BINS, 30)[:, 0]
    found, wanted = model.infer(magnitude), naive(model, magnitude)
    assert found.shape == (30, 6, BINS)
    for t in range(30):  # before the stream there was silence
        np.testing.assert_allclose(found[t, : t + 1], wanted[t, : t + 1], atol=1e-4)
    assert ((found >= 0) & (found <= 1.00001)).all()


def test_a_mixture_of_known_bases_is_undone():
    model = _nmf(frames=20, updates=3, bases=5)
    even = torch.arange(20 * BANDS) % 2 == 0
    model.bases[0, :, ~even] = 0
    model.bases[1, :, even] = 0
    model.bases.copy_(model.bases / model.bases.sum(-1, keepdim=True))
    mask = model.infer(np.ones((60, BINS), np.float32))[-1, 0]
    wanted = (np.arange(BANDS) % 2 == 0)[BAND_OF_BIN]
    np.testing.assert_allclose(mask, wanted, atol=1e-5)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("frames", "updates"), [(20, 1), (5, 3)])
def test_onnx_frame_by_frame_is_torch(frames: int, updates: int, half: bool):
    pytest.importorskip("onnxruntime")
    model = _nmf(frames, updates)
    if half:
        size = model.bases.shape[-1]
        model.bases.copy_((model.bases * size).half().float() / size)
    data, state = streaming_graph(model, half)
    assert magnitude_deviation(model.infer, data, state, BINS) < TOLERANCES["float32"][0]


def _train(corpus: Path, cache: Path, runs: Path, **more: object) -> Path:
    options: dict = {"steps": 4, "settings": SMALL, "score_every": 0, "quiet": True, "device": "cpu"} | more
    return train("nmf", data=corpus, cache=cache, runs=runs, **options)


def test_resumed_is_the_same_and_the_loss_falls(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    whole = read_checkpoint(_train(corpus_folder, cache_folder, tmp_path / "whole"))
    _train(corpus_folder, cache_folder, tmp_path / "part", minutes=1e-9)
    part = read_checkpoint(_train(corpus_folder, cache_folder, tmp_path / "part", resume=True))
    assert part["step"] == whole["step"] == 4
    for key, value in whole["model"].items():
        assert torch.equal(value, part["model"][key]), key
    _train(corpus_folder, cache_folder, tmp_path / "long", steps=150)
    log = [json.loads(line) for line in (tmp_path / "long" / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_the_exported_folder_plays(corpus_folder: Path, cache_folder: Path, tmp_path: Path, storage: str):
    pytest.importorskip("onnxruntime")
    lines: list[str] = []
    folder = export(
        _train(corpus_folder, cache_folder, tmp_path / "run", lookahead=3),
        tmp_path / "nmf",
        storage=storage,
        say=lines.append,
    )
    assert any("stream = offline" in line for line in lines)
    separator = create(str(folder), device="cpu")
    separator.prepare(StreamSpec(44100, 2, 512))
    assert separator.latency == 3 * 512
    assert {"binary", "alpha", "part", "strength"} <= set(separator.params.params)
    with pytest.raises(UsageError, match="looks ahead by 0 to 19 hops, not by 20"):
        create(f"{folder}:20", device="cpu")
    far = create(f"{folder}:19", device="cpu")
    far.prepare(StreamSpec(44100, 2, 512))
    assert far.latency == 19 * 512
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(ModelError, match="damaged or another file") as caught:
        create(str(folder), device="cpu").prepare(StreamSpec(44100, 2, 512))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"lr": 0.1}, "--optimizer and --lr are not for it"),
        ({"optimizer": "sgd"}, "--optimizer and --lr are not for it"),
        ({"lookahead": 20}, "lookahead 20: expected 0 to 19 hops"),
        ({"settings": ("bases=0",)}, "must be 1 or more"),
        ({"settings": ("bass=3",)}, "nmf has no such setting: did you mean 'bases'"),
    ],
)
def test_what_a_user_may_do_wrong(corpus_folder: Path, cache_folder: Path, tmp_path: Path, more: dict, line: str):
    with pytest.raises(UsageError, match=line):
        _train(corpus_folder, cache_folder, tmp_path / "run", **more)
