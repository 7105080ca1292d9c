"""koretzky may be given the voice detector of a net of the live family; its masks and stems stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'rtsep[train]'")

from rtsep.errors import UsageError  # noqa: E402
from rtsep.separators.onnx import OnnxSeparator  # noqa: E402
from rtsep.spec import StreamSpec  # noqa: E402
from rtsep.training.checkpoints import read_checkpoint, write_checkpoint  # noqa: E402
from rtsep.training.data.sources import load  # noqa: E402
from rtsep.training.export import export  # noqa: E402
from rtsep.training.family import mixer_of  # noqa: E402
from rtsep.training.folded import first_net  # noqa: E402
from rtsep.training.koretzky import TrainConfig  # noqa: E402
from rtsep.training.live import LiveRun, LiveTraining, sizes_of, train_live  # noqa: E402
from rtsep.training.nets.live import Live, LiveConfig  # noqa: E402
from rtsep.training.train import train  # noqa: E402
from tests.training.test_koretzky import SMALL  # noqa: E402

SHORT = LiveTraining(steps=2, frames=30, sources=2, warmup=1)


@pytest.fixture
def koretzky(corpus_folder: Path, cache_folder: Path, tmp_path: Path) -> Path:
    """A model folder with a CNN as detector."""
    pytest.importorskip("onnxruntime")
    config = TrainConfig(frames=20, sources=2, rolls=2)
    options = {"steps": 2, "score_every": 0, "quiet": True, "device": "cpu", "config": config, "sizes": SMALL}
    last = train(data=corpus_folder, cache=cache_folder, runs=tmp_path / "koretzky", **options)
    return export(last, tmp_path / "model")


@pytest.fixture
def detector(corpus_folder: Path, cache_folder: Path, tmp_path: Path) -> Path:
    """A checkpoint of `rtsep train detector`."""
    options = {"data": corpus_folder, "cache": cache_folder, "device": torch.device("cpu"), "score_every": 0}
    return train_live("detector", runs=tmp_path / "detector", config=SHORT, quiet=True, **options)


def _played(folder: Path, hops: int = 60) -> tuple[np.ndarray, list[float]]:
    """Masks of noise and what the gate does, hop by hop in the host."""
    separator = OnnxSeparator(folder, device="cpu")
    separator.prepare(StreamSpec(44100, 2, 512))
    separator.params.set("vad_gate", 0.0)
    rng, masks, voice = np.random.default_rng(0), [], []
    for _ in range(hops):
        spectrum = (rng.standard_normal((2, 1025)) + 1j * rng.standard_normal((2, 1025))).astype(np.complex64)
        mask = np.zeros((separator.mask_rows(2), 1025), np.float32)
        separator.process(spectrum, mask)
        masks.append(mask)
        voice.append(float(separator._net.vad[0, 0]))
    return np.stack(masks), voice


def test_masks_stay_and_the_other_net_says_who_sings(koretzky: Path, detector: Path, tmp_path: Path):
    made = export(koretzky, tmp_path / "made", detector=detector)
    (masks, voice), (before, cnn) = _played(made), _played(koretzky)
    np.testing.assert_array_equal(masks, before)
    assert not np.allclose(voice, cnn, atol=1e-3)
    assert "now that of another net" in (made / "CARD.md").read_text()
    again = export(made, tmp_path / "again", detector=detector, vad_bias=1.0)  # and once more, more willing
    louder = _played(again)[1]
    np.testing.assert_allclose(np.log(np.divide(louder, np.subtract(1, louder))), _logits(voice) + 1.0, atol=1e-3)
    assert first_net(made)[0].vad_net is None


def _logits(probabilities: list[float]) -> np.ndarray:
    p = np.array(probabilities)
    return np.log(p / (1 - p))


def test_training_the_mask_again_begins_a_cnn(koretzky: Path, detector: Path, corpus_folder, cache_folder, tmp_path):
    made = export(koretzky, tmp_path / "made", detector=detector)
    config = TrainConfig(frames=20, sources=2, rolls=2)
    options = {"steps": 2, "score_every": 0, "quiet": True, "device": "cpu", "config": config, "init": made}
    last = train(data=corpus_folder, cache=cache_folder, runs=tmp_path / "on", **options)
    assert first_net(last)[0].vad_net is not None


def test_any_net_of_the_family_may_be_the_detector(koretzky: Path, tmp_path: Path):
    """One that looks ahead, too: what it hears of that is left out."""
    torch.manual_seed(3)
    net = LiveConfig(hop=512, lookahead=2, blocks=3)
    model = Live(net)
    values = {"name": "family", "net": net.to_dict(), "mean": model.state_dict(), "config": {}, "step": 0}
    write_checkpoint(tmp_path / "family.pt", values)
    made = export(koretzky, tmp_path / "made", detector=tmp_path / "family.pt")
    found = first_net(made)[0]
    assert found.config.vad_blocks == 2
    weight = model.bands.voice.out.weight.half().float()
    assert torch.equal(found.vad_bands.bands.voice.out.weight, weight)


def test_wrong_uses_are_said(koretzky: Path, detector: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="it is for koretzky"):
        export(detector, tmp_path / "a", detector=detector)
    mute = LiveConfig(hop=512, blocks=2, voice=0)
    values = {"name": "detector", "net": mute.to_dict(), "mean": Live(mute).state_dict(), "config": {}, "step": 0}
    write_checkpoint(tmp_path / "mute.pt", values)
    with pytest.raises(UsageError, match="does not tell"):
        export(koretzky, tmp_path / "b", detector=tmp_path / "mute.pt")
    wide = replace(mute, voice=8, width=32)
    values = {**values, "net": wide.to_dict(), "mean": Live(wide).state_dict()}
    write_checkpoint(tmp_path / "wide.pt", values)
    with pytest.raises(UsageError, match="other sizes"):
        export(koretzky, tmp_path / "c", detector=tmp_path / "wide.pt")
    ahead = read_checkpoint(tmp_path / "koretzky" / "last.pt")
    ahead["config"]["lookahead"] = 2
    write_checkpoint(tmp_path / "ahead.pt", ahead)
    with pytest.raises(UsageError, match="looks ahead"):
        export(tmp_path / "ahead.pt", tmp_path / "d", detector=detector)


def test_where_somebody_sings_is_told_and_learnt(corpus_folder: Path, cache_folder: Path):
    settings = LiveTraining(seed=2, steps=60, frames=60, sources=4, warmup=5, lr=2e-2, voice_share=5.0)
    run = LiveRun(replace(sizes_of("detector"), blocks=1), settings, torch.device("cpu"), "detector")
    mixer = mixer_of(load(corpus_folder, cache_folder), settings, run.net)
    batch = mixer.batch(0)
    assert set(np.unique(batch.vad)) <= {0.0, 1.0}
    for sound, vad in zip(batch.sound, batch.vad, strict=True):
        energy = (np.abs(sound[:, 1]) ** 2).sum((1, 2))
        if 0 < vad.mean() < 1:
            assert energy[vad > 0].mean() > energy[vad == 0].mean()
    losses = []
    for _ in range(30):
        run.update(mixer)
        run.step = 0  # the same batch again
        with torch.no_grad():
            fields = run.model.features(torch.from_numpy(batch.field))
            voice = run.model.masks(fields)[1]
        losses.append(torch.nn.functional.binary_cross_entropy_with_logits(voice, torch.from_numpy(batch.vad)).item())
    assert losses[-1] < 0.6 * losses[0], losses
