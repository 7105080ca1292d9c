"""Muon: the steps of PyTorch's own Muon and AdamW, and a training that can be interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")

from rtsep.errors import UsageError  # noqa: E402
from rtsep.training.checkpoints import read_checkpoint  # noqa: E402
from rtsep.training.live import LiveTraining, train_live  # noqa: E402
from rtsep.training.muon import Muon  # noqa: E402
from rtsep.training.nets.live import LiveConfig  # noqa: E402
from rtsep.training.train import train  # noqa: E402

SMALL = LiveConfig(width=6, across=4, slow=5, blocks=2)
SHORT = LiveTraining(steps=3, frames=20, sources=2)


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (64, 64)])
def test_muon_turns_matrices_as_torch_does(shape: tuple[int, int]):
    """Three steps against PyTorch's own, which computes in bfloat16."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(shape[1], shape[0], bias=False)
    other = torch.nn.Linear(shape[1], shape[0], bias=False)
    other.load_state_dict(layer.state_dict())
    before = layer.weight.detach().clone()
    ours = Muon(layer, lr=0.01, weight_decay=0.1)
    theirs = torch.optim.Muon(other.parameters(), lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        layer.weight.grad = torch.randn(shape)
        other.weight.grad = layer.weight.grad.clone()
        ours.step()
        theirs.step()
    wanted = other.weight - before
    assert (layer.weight - other.weight).norm() < 0.03 * wanted.norm()


def test_muon_steps_each_gate_by_itself_and_the_rest_as_adam():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.GRU(12, 8), torch.nn.BatchNorm1d(8))
    adam = [p for p in net.parameters() if p.ndim == 1]
    copies = [p.detach().clone().requires_grad_() for p in adam]
    before = net[0].weight_ih_l0.detach().clone()
    ours = Muon(net, lr=0.01, weight_decay=0.1)
    theirs = torch.optim.AdamW(copies, lr=0.01, weight_decay=0.1)
    for _ in range(3):
        for p in net.parameters():
            p.grad = torch.randn_like(p)
        net[0].weight_ih_l0.grad[:8] *= 1e3  # one gate with a gradient that drowns the others
        for p, copy in zip(adam, copies, strict=True):
            copy.grad = p.grad.clone()
        ours.step()
        theirs.step()
    for p, copy in zip(adam, copies, strict=True):
        torch.testing.assert_close(p, copy)
    moved = (net[0].weight_ih_l0.detach() - before).unflatten(0, (3, 8)).flatten(1).norm(dim=1)
    assert moved.max() < 2 * moved.min()
    assert moved.max() == pytest.approx(0.01 * (8 * 12) ** 0.5 * 0.2 * 3, rel=0.7)


def test_a_training_with_muon_goes_on_alike(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    config = replace(SHORT, optimizer="muon")
    common = {"data": corpus_folder, "cache": cache_folder, "device": torch.device("cpu"), "quiet": True}
    common |= {"score_every": 0, "sizes": SMALL}
    for name in ("whole", "part", "plain"):
        (tmp_path / name).mkdir()
    whole = train_live(runs=tmp_path / "whole", config=config, save_every=1, **common)
    part = train_live(runs=tmp_path / "part", config=config, save_every=1, minutes=0.0001, **common)
    assert read_checkpoint(part)["step"] < config.steps
    train_live(runs=tmp_path / "part", resume=True, save_every=1, **common)
    a, b = read_checkpoint(whole)["mean"], read_checkpoint(part)["mean"]
    assert all(torch.equal(a[name], b[name]) for name in a)
    plain = train_live(runs=tmp_path / "plain", config=replace(SHORT, optimizer="adamw"), save_every=1, **common)
    assert not torch.equal(a["bands.place"], read_checkpoint(plain)["mean"]["bands.place"])


@pytest.mark.parametrize(
    ("net", "optimizer", "message"),
    [("live", "sgd", "expects muon or adamw"), ("koretzky", "muon", "not for this net"), ("nmf", "muon", "optimizer")],
)
def test_a_wrong_optimizer_is_said(net: str, optimizer: str, message: str, corpus_folder: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=message):
        train(net, data=corpus_folder, runs=tmp_path / "run", device="cpu", optimizer=optimizer)
