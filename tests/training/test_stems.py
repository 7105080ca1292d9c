"""The head that divides koretzky's accompaniment: three forms agree, the voice stays, a stopped run goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'rtsep[train]'")

from benchmarks import stems  # noqa: E402
from rtsep.engine.offline import split, split_stems  # noqa: E402
from rtsep.errors import UsageError  # noqa: E402
from rtsep.separators.onnx import OnnxSeparator  # noqa: E402
from rtsep.training.checkpoints import read_checkpoint  # noqa: E402
from rtsep.training.data.sources import is_dev, is_validation, load  # noqa: E402
from rtsep.training.data.stems_mixer import StemMixer, drum_loops, stem_songs  # noqa: E402
from rtsep.training.export import export  # noqa: E402
from rtsep.training.folded import first_net, unfold  # noqa: E402
from rtsep.training.graphs.koretzky import streaming_graph  # noqa: E402
from rtsep.training.graphs.proof import Stepper  # noqa: E402
from rtsep.training.graphs.stems import WANTED, rounded  # noqa: E402
from rtsep.training.koretzky_export import deviation  # noqa: E402
from rtsep.training.nets.koretzky import Koretzky  # noqa: E402
from rtsep.training.nets.spectrum import BINS  # noqa: E402
from rtsep.training.stems import mean_gains, mixtures, stems_loss  # noqa: E402
from rtsep.training.train import train  # noqa: E402
from tests.training.conftest import RATE, write_corpus  # noqa: E402
from tests.training.test_koretzky import REMEMBERING, SMALL, _model  # noqa: E402

HEAD = {"stem_frames": 6, "stem_channels": 5, "stem_dense": 7}
SETTINGS = ("frames=10", "sources=3", "recent=6", "channels=5", "units=7")


def _with_head(config) -> Koretzky:
    model = _model(replace(config, **HEAD))
    torch.manual_seed(3)
    assert model.stems is not None
    for parameter in model.stems.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus with songs in stems: of each split one, and a loop."""
    root = write_corpus(tmp_path_factory.mktemp("stems"), 4.0)
    rng, t = np.random.default_rng(2), np.arange(4 * RATE) / RATE
    for number in (1, 2, 8, 9):
        folder = root / "stems" / f"score_00{number}"
        folder.mkdir(parents=True)
        drums = 0.2 * rng.standard_normal(len(t)) * np.exp(-30 * (t % 0.5))
        bass = 0.2 * np.sin(2 * np.pi * (50 + 5 * number) * t)
        other = 0.1 * sum(np.sin(2 * np.pi * hz * t) for hz in rng.uniform(400, 2000, 3))
        for name, sound in (("drums", drums), ("bass", bass), ("other", other)):
            soundfile.write(folder / f"{name}.opus", sound, RATE, format="OGG", subtype="OPUS")
    (root / "loops").mkdir()
    loop = 0.2 * rng.standard_normal(RATE) * np.exp(-20 * (t[:RATE] % 0.25))
    soundfile.write(root / "loops" / "sonicpi_loop_amen.opus", loop, RATE, format="OGG", subtype="OPUS")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a net without a head."""
    path = tmp_path_factory.mktemp("model")
    onnx.save(streaming_graph(_model(SMALL))[0], str(path / "model.onnx"))
    return path


@pytest.mark.parametrize("config", [SMALL, REMEMBERING])
def test_streaming_onnx_equals_torch(config):
    pytest.importorskip("onnxruntime")
    model = _with_head(config)
    model.stems = rounded(model.stems)
    proto, states = streaming_graph(model)
    assert deviation(model, proto.SerializeToString(), states) <= 1e-4
    shares = model.infer_shares(torch.rand(60, BINS) * 10)
    assert shares.std() > 0.02 and shares.min() >= 0 and shares.sum(1).max() <= 1 + 1e-6  # rounded


@pytest.mark.parametrize("config", [SMALL, REMEMBERING])
def test_the_voice_is_the_same_bits_with_and_without_the_head(config):
    """Nobody hears the stems at every third frame: they are nothing then, and as before from the next frame on."""
    ort = pytest.importorskip("onnxruntime")
    model, plain = _with_head(config), _model(config)
    model.stems = rounded(model.stems)
    plain.load_state_dict(model.state_dict(), strict=False)
    rng, found = np.random.default_rng(0), []
    frames = (np.abs(rng.standard_normal((50, 1, BINS))) * 5).astype(np.float32)
    shares = model.infer_shares(torch.from_numpy(frames[:, 0])).numpy()
    for net, wanted in ((model, 1), (model, 0), (plain.eval(), None)):
        proto, states = streaming_graph(net)
        session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        fixed = {} if wanted is None else {WANTED: [1.0]}
        step, rows = Stepper(session, "magnitude", ("mask", "vad"), states, fixed), []
        for t, frame in enumerate(frames):
            heard = wanted == 1 or t % 3 != 0
            if wanted is not None:
                step.fixed[WANTED][0] = heard
            mask, vad = step(frame)
            rows.append(np.append(mask[0], vad))
            np.testing.assert_allclose(mask[1:], heard * shares[t][: len(mask) - 1], atol=1e-4)
        found.append(np.array(rows))
    assert found[0].std() > 0.01
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_the_future_does_not_reach_the_past():
    model = _with_head(SMALL)
    magnitude = torch.rand(60, BINS)
    before = model.infer_shares(magnitude)
    magnitude[40:] *= torch.rand(20, BINS) * 50
    after = model.infer_shares(magnitude)
    assert torch.equal(before[:40], after[:40])
    assert not torch.allclose(before[40:], after[40:], atol=1e-3)


def test_a_file_gives_the_very_weights_again(tmp_path: Path):
    first = streaming_graph(_with_head(SMALL))[0]
    onnx.save(first, str(tmp_path / "model.onnx"))
    again = streaming_graph(unfold(tmp_path))[0]
    stored = [{i.name: onnx.numpy_helper.to_array(i) for i in proto.graph.initializer} for proto in (first, again)]
    assert stored[0].keys() == stored[1].keys()
    for name, value in stored[0].items():
        # What silence gives is computed anew, in another order.
        np.testing.assert_allclose(stored[1][name], value, atol=1e-6 * (name == "silence"), rtol=0, err_msg=name)


def test_the_loss_is_the_distortion_of_known_parts():
    rng = np.random.default_rng(1)
    parts = rng.standard_normal((2, 4, 3, 9)) + 1j * rng.standard_normal((2, 4, 3, 9))
    voice = rng.standard_normal((2, 4, 9)) + 0j
    x, logits, mask = parts.sum(2) + voice, rng.standard_normal((2, 4, 3, 9)), rng.random((2, 4, 9))
    own = torch.from_numpy(logits).softmax(2).numpy() * (1 - mask)[:, :, None]
    power = np.abs(x) ** 2
    relative = (np.abs(own * x[:, :, None] - parts) ** 2).sum((1, 3)) / power.sum((1, 2))[:, None]
    weight = np.sqrt(np.abs(x))[:, :, None]
    cross = (parts * x.conj()[:, :, None]).real
    squared = (weight * (own - np.clip(cross / power[:, :, None], 0, 1)) ** 2).sum((1, 3)) / weight.sum((1, 3))
    wanted = (0.5 * np.log(relative + 3e-3) + 5 * squared).mean()
    energy = (np.abs(parts) ** 2).sum((1, 3))
    found = stems_loss(*map(torch.from_numpy, (logits, mask, np.abs(x), cross, energy)))
    assert float(found) == pytest.approx(wanted, abs=1e-6)


def test_batches_hold_what_they_say(sounds: Path, cache_folder: Path):
    cache = cache_folder / "stems"
    mixer = StemMixer(
        load(sounds, cache), stem_songs(sounds, cache, "train"), drum_loops(sounds, cache),
        seed=4, frames=12, sources=3, rolls=2,
    )  # fmt: skip
    assert [song.name for song in mixer.songs] == ["score_001", "score_002"]
    assert len(mixer.loops) == 1 and mixer.loops[0].frames >= 12 * RATE
    batch, again = mixer.stems_batch(5), mixer.stems_batch(5)
    assert all(np.array_equal(batch[name], again[name]) for name in batch)
    assert batch["magnitude"].shape == (6, 36, BINS) and batch["cross"].shape == (6, 12, 3, BINS)
    power = batch["magnitude"][:, 24:] ** 2
    # |Re(S X*)| is at most |S| |X|, in each cell, and so in the sum.
    assert (np.abs(batch["cross"]).sum((1, 3)) <= np.sqrt(batch["energy"] * power.sum((1, 2))[:, None]) * 1.001).all()


def test_songs_are_held_out_by_their_number(sounds: Path, cache_folder: Path):
    assert is_validation("x/stems/score_019/drums.opus") and not is_dev("x/stems/score_019/drums.opus")
    assert is_dev("x/stems/score_318/bass.opus") and not is_validation("x/stems/score_317/bass.opus")
    names = {split: [s.name for s in stem_songs(sounds, cache_folder, split)] for split in ("dev", "validation")}
    assert names == {"dev": ["score_008"], "validation": ["score_009"]}
    with pytest.raises(UsageError, match="--stems"):
        stem_songs(sounds / "paired", cache_folder, "train")


def test_trained_resumed_exported_and_played(folder: Path, sounds: Path, cache_folder: Path, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    common = {"data": sounds, "cache": cache_folder / "stems", "part": "stems", "steps": 6, "device": "cpu"}
    common |= {"settings": SETTINGS, "quiet": True, "score_every": 0}
    whole = train("koretzky", runs=tmp_path / "whole", init=folder, **common)
    train("koretzky", runs=tmp_path / "part", init=folder, minutes=1e-9, **common)
    assert read_checkpoint(tmp_path / "part" / "last.pt")["step"] == 0
    part = train("koretzky", runs=tmp_path / "part", resume=True, **common)
    a, b = read_checkpoint(whole), read_checkpoint(part)
    assert a["step"] == b["step"] == 6
    for name, tensor in a["mean"].items():
        assert torch.equal(tensor, b["mean"][name]), name
    before, after = first_net(folder)[0], first_net(whole)[0]
    for name, tensor in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], tensor), name
    made = export(whole, tmp_path / "made")
    separator = OnnxSeparator(made, device="cpu")
    assert separator.stems == ("drums", "bass")
    sound = np.random.default_rng(0).standard_normal((2, 30000)).astype(np.float32) * 0.2
    parts = split_stems(separator, sound, 44100)
    np.testing.assert_allclose(sum(parts.values()), sound, atol=1e-5)
    assert min(part.std() for part in parts.values()) > 1e-3
    vocals, _ = split(OnnxSeparator(made, device="cpu"), sound, 44100)
    np.testing.assert_array_equal(parts["vocals"], vocals)
    songs = mixtures(stem_songs(sounds, common["cache"], "dev"), load(sounds, common["cache"], "dev").voices, 2.0)
    assert set(mean_gains(after, songs)) == {"drums", "bass", "other"}
    np.testing.assert_allclose(songs[0].sound, songs[0].vocals + sum(songs[0].parts.values()), atol=1e-6)
    options = ["--quick", "--data", str(sounds), "--cache", str(common["cache"]), "--separators", str(made)]
    assert stems.main([*options, "--output", str(tmp_path)]) == 0
    page = json.loads((tmp_path / "stems.json").read_text())
    mixture, silence, *rest = page["tables"][0]["rows"]
    assert page["figures"]["songs"] == 1 and len(rest) == 2
    assert silence["drums"] == pytest.approx(-mixture["drums"], abs=1e-3)
    assert mixture["vocals"] == pytest.approx(-3.0, abs=0.01)


def test_wrong_uses_are_said(folder: Path, sounds: Path, cache_folder: Path, tmp_path: Path):
    common = {"data": sounds, "cache": cache_folder / "stems", "quiet": True, "device": "cpu"}
    with pytest.raises(UsageError, match="needs --init"):
        train("koretzky", runs=tmp_path / "a", part="stems", **common)
    with pytest.raises(UsageError, match="part 'stems' of live"):
        train("live", runs=tmp_path / "b", part="stems", **common)
    options = {"init": folder, "minutes": 1e-9, "settings": SETTINGS}
    train("koretzky", runs=tmp_path / "c", part="stems", **options, **common)
    with pytest.raises(UsageError, match="give --part stems"):
        train("koretzky", runs=tmp_path / "c", resume=True, **common)
