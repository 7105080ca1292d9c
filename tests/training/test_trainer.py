"""The shared loop: resumable with the same curve, the same seed gives the same losses, whatever the optimizer."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
pytest.importorskip("onnx", reason="needs onnx: pip install 'rtsep[train]'")

from rtsep.errors import UsageError  # noqa: E402
from rtsep.training import checkpoints  # noqa: E402
from rtsep.training.optimizers import OPTIMIZERS  # noqa: E402
from rtsep.training.tasks import configured  # noqa: E402
from rtsep.training.trainer import Run, Settings, Task, train_task  # noqa: E402

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class ToySettings(Settings):
    steps: int = 12
    warmup: int = 2
    units: int = 4
    wide: bool = False


class Toy(Task):
    """Learns the sum of its inputs; with dropout, so that torch's own numbers matter too."""

    name = "toy"
    settings_kind = ToySettings

    def model(self):
        units = self.settings.units
        return torch.nn.Sequential(torch.nn.Linear(3, units), torch.nn.Dropout(0.2), torch.nn.Linear(units, 1))

    def batch(self, step):
        x = np.random.default_rng([self.settings.seed, step]).standard_normal((16, 3)).astype(np.float32)
        return {"x": x, "y": x.sum(1, keepdims=True)}

    def loss(self, model, batch):
        return torch.nn.functional.mse_loss(model(batch["x"]), batch["y"])

    def score(self, model):
        return {"here": float(model(torch.ones(1, 3)))}


class Broken(Toy):
    def loss(self, model, batch):
        return super().loss(model, batch) * (float("nan") if batch["x"].isfinite().all() else 1.0)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(checkpoints, "NETS", (*checkpoints.NETS, "toy"))


def _train(runs: Path, settings: Settings | None = None, kind: type[Task] = Toy, **more: object) -> dict:
    runs.mkdir(exist_ok=True)
    options: dict = {"data": runs, "cache": runs, "device": CPU, "quiet": True, "note_every": 2} | more
    return checkpoints.read_checkpoint(train_task(kind, settings or ToySettings(lr=1e-2), runs=runs, **options))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resumed_is_the_same(tmp_path: Path, optimizer: str):
    settings = ToySettings(lr=1e-2, optimizer=optimizer)
    whole = _train(tmp_path / "whole", settings)
    run = Run(Toy(settings, tmp_path, tmp_path), CPU)
    for _ in range(5):
        run.update()
    (tmp_path / "part").mkdir()
    run.save(tmp_path / "part" / "last.pt")
    part = _train(tmp_path / "part", resume=True)  # the settings come from the checkpoint
    assert whole["step"] == part["step"] == 12
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, part["model"][name]), name
        assert torch.equal(whole["mean"][name], part["mean"][name]), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_learns_and_a_seed_tells_all(tmp_path: Path, optimizer: str):
    settings = ToySettings(lr=3e-2, steps=60, optimizer=optimizer)
    runs = [Run(Toy(replace(settings, seed=seed), tmp_path, tmp_path), CPU) for seed in (3, 3, 4)]
    losses = [[run.update() for _ in range(60)] for run in runs]
    assert losses[0] == losses[1] != losses[2]
    assert np.mean(losses[0][-5:]) < 0.5 * losses[0][0]


def test_the_log(tmp_path: Path):
    _train(tmp_path, minutes=None, score_every=6)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[0]["config"]["units"] == 4
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8, 10, 12]
    assert [line["step"] for line in lines if "dev" in line] == [6, 12]
    assert not list(tmp_path.glob("*.part"))


def test_the_clock_stops_it(tmp_path: Path):
    assert _train(tmp_path, minutes=1e-9)["step"] == 0


def test_a_loss_that_is_no_number_leaves_the_weights_alone(tmp_path: Path):
    with pytest.raises(UsageError, match="the loss is nan at step 0"):
        _train(tmp_path, kind=Broken)
    saved = checkpoints.read_checkpoint(tmp_path / "last.pt")
    assert all(value.isfinite().all() for value in saved["model"].values())


def test_first_weights(tmp_path: Path):
    first = _train(tmp_path / "a")
    run = Run(Toy(ToySettings(), tmp_path, tmp_path), CPU)
    run.begin_with(first)
    assert all(torch.equal(value, first["mean"][name]) for name, value in run.model.state_dict().items())
    with pytest.raises(UsageError, match="do not fit"):
        Run(Toy(ToySettings(units=5), tmp_path, tmp_path), CPU).begin_with(first)


def test_settings_from_texts():
    found = configured(Toy, ["units=7", "wide=on"], lr=0.5, steps=None)
    assert found == ToySettings(units=7, wide=True, lr=0.5)
    for texts, options, message in (
        (["unit=7"], {}, "no such setting: did you mean 'units'"),
        (["units=x"], {}, "expected int"),
        (["wide=1"], {}, "expected on or off"),
        (["units"], {}, "not understood"),
        ([], {"lookahead": 1}, "--lookahead is not for toy"),
    ):
        with pytest.raises(UsageError, match=message):
            configured(Toy, texts, **options)
    with pytest.raises(UsageError, match="optimizer 'x'"):
        Run(Toy(ToySettings(optimizer="x"), Path(), Path()), CPU)
