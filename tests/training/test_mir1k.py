"""drnn, wvpnn, cvpnn and dnn: layers against naive forms, the masking layer, training, and the exported streams."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import fft, signal

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
pytest.importorskip("onnx", reason="needs onnx: pip install 'rtsep[train]'")

from rtsep.errors import UsageError  # noqa: E402
from rtsep.training.checkpoints import read_checkpoint  # noqa: E402
from rtsep.training.data import mir1k  # noqa: E402
from rtsep.training.data.augment import tilt  # noqa: E402
from rtsep.training.data.mir1k import Mir1kMixer, dev_songs, pairs, singer_of  # noqa: E402
from rtsep.training.evaluate import separate, spectra  # noqa: E402
from rtsep.training.export import TOLERANCES, export  # noqa: E402
from rtsep.training.graphs.narrow import packed, stored, streaming_graph  # noqa: E402
from rtsep.training.graphs.proof import magnitude_deviation, noise  # noqa: E402
from rtsep.training.nets.drnn import Drnn, RecurrentLayer  # noqa: E402
from rtsep.training.nets.narrow import BINS, discriminative, masking, sources  # noqa: E402
from rtsep.training.nets.vpnn import COLOUR_BIAS, Cvpnn, Dnn, VectorLayer, Wvpnn, colours  # noqa: E402
from rtsep.training.tasks import TASKS, configured, find  # noqa: E402
from rtsep.training.train import train  # noqa: E402

NETS = ("drnn", "wvpnn", "cvpnn", "dnn")
SMALL = ("units=6", "frames=12", "sequences=2")


def _net(name: str, lookahead: int = 0) -> torch.nn.Module:
    torch.manual_seed(3)
    options = (f"units={7 if name == 'drnn' else 6}",)
    kind = find(name)
    return kind(configured(kind, options, lookahead=lookahead), Path(), Path()).model().eval()


FORMS = [("drnn", 0), ("drnn", 1), ("wvpnn", 0), ("wvpnn", 1), ("cvpnn", 0), ("dnn", 0), ("dnn", 1)]


def test_cross_products_against_a_loop():
    torch.manual_seed(0)
    layer, x = VectorLayer(5, 4), torch.randn(2, 3, 5)
    torch.nn.init.normal_(layer.bias)
    found = layer(x).detach().numpy()
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    for n in range(2):
        for j in range(4):
            wanted = bias[:, j] + sum(np.cross(x[n, :, i].numpy(), weight[:, j, i]) for i in range(5))
            np.testing.assert_allclose(found[n, :, j], wanted, atol=1e-5)


def test_the_recurrence_against_a_loop():
    torch.manual_seed(0)
    layer, x = RecurrentLayer(3, 4).double(), torch.randn(5, 2, 3, dtype=torch.float64)
    layer.weight.data.normal_()
    state, wanted = torch.zeros(2, 4, dtype=torch.float64), []
    for now in x:
        state = torch.relu(layer.input(now) + state @ layer.weight.t())
        wanted.append(state)
    torch.testing.assert_close(layer(x), torch.stack(wanted))
    (given,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    (loop,) = torch.autograd.grad(torch.stack(wanted).square().sum(), layer.weight)
    torch.testing.assert_close(given, loop)
    assert torch.autograd.gradcheck(layer, [x.requires_grad_()])


def test_colours_know_every_magnitude():
    levels = torch.linspace(-2, 2, 101)[None]
    found = colours(levels)[0]
    assert found.shape == (3, 101)
    torch.testing.assert_close(found[:, 0], torch.full((3,), COLOUR_BIAS))
    torch.testing.assert_close(found[:, -1], torch.full((3,), 1 + COLOUR_BIAS))
    assert (found.sum(0).diff() > 0).all()  # brighter throughout, so nothing is lost
    assert (found.diff(dim=0) <= 1e-6).all()  # red before green before blue


def test_masked_estimates_sum_to_the_mixture():
    torch.manual_seed(0)
    values, mixture = 20 * torch.randn(3, 2 * BINS), torch.rand(3, BINS)
    values[0] = -1e4  # both sources silent
    voice, music = sources(values)
    mask = masking(voice, music)
    assert ((mask >= 0) & (mask <= 1)).all()
    torch.testing.assert_close(mask * mixture + masking(music, voice) * mixture, mixture)
    torch.testing.assert_close(mask * (voice + music), voice)
    assert (mask[0] == 0.5).all()
    assert mask.min() < 1e-6


def test_gradients_of_masking_and_loss():
    torch.manual_seed(0)
    values = [torch.rand(2, 4, dtype=torch.float64) + 0.1 for _ in range(5)]
    outputs, (mixture, *truths) = [v.requires_grad_() for v in values[:2]], values[2:]

    def loss(voice, music):
        mask = masking(voice, music)
        return discriminative((mask * mixture, (1 - mask) * mixture), tuple(truths), 0.1)

    assert torch.autograd.gradcheck(loss, outputs)


def test_the_discriminative_term():
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])
    assert discriminative((a, b), (a, b), 0.0) == 0
    assert float(discriminative((a, b), (a, b), 0.1)) == pytest.approx(-0.1 * 2 * (4 + 9) / 2)


@pytest.mark.parametrize(("name", "lookahead"), FORMS)
def test_what_a_mask_depends_on(name: str, lookahead: int):
    net, magnitude = _net(name, lookahead), torch.from_numpy(noise(1, BINS, 40)[:, 0])
    marked = magnitude.clone()
    marked[15] *= 3
    moved = (net.infer(magnitude) - net.infer(marked)).abs().amax(1)
    assert moved[:15].max() < 1e-6 < moved[15]


def test_training_frames_are_those_of_the_stream():
    for name, lookahead in FORMS:
        net, magnitude = _net(name, lookahead), torch.rand(1, 30, BINS)
        with torch.no_grad():
            found = masking(*net(magnitude))[0]
        whole = net.infer(magnitude[0])[net.frames - 1 :]
        if name != "drnn":  # which remembers the silence before the stream
            torch.testing.assert_close(found, whole, rtol=0, atol=1e-5)
        assert found.shape == whole.shape


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
@pytest.mark.parametrize(("name", "lookahead"), FORMS)
def test_onnx_frame_by_frame_is_torch(name: str, lookahead: int, storage: str):
    pytest.importorskip("onnxruntime")
    net = stored(_net(name, lookahead), storage)
    proto, size = streaming_graph(net, storage)
    infer = lambda x: net.infer(torch.from_numpy(x)).numpy()  # noqa: E731
    assert magnitude_deviation(infer, proto.SerializeToString(), size, BINS) < TOLERANCES["float32"][0]


def test_packed_weights():
    torch.manual_seed(0)
    weight = torch.randn(3, 5, 7)
    values, scale = packed(weight)
    assert values.dtype == torch.int8
    assert scale.shape == (3, 5, 1)
    assert ((values * scale - weight).abs() <= 0.5001 * scale).all()


def test_the_shapes_of_the_source():
    count = {name: sum(p.numel() for p in kind().parameters()) for name, kind in _DEFAULT.items()}
    assert count["wvpnn"] == count["cvpnn"]
    assert count["dnn"] == pytest.approx(count["wvpnn"], rel=0.01)
    assert count["drnn"] * 2 < 4e6


_DEFAULT = {"drnn": Drnn, "wvpnn": Wvpnn, "cvpnn": Cvpnn, "dnn": Dnn}


def _songs(singers: Path, cache: Path) -> list:
    return list(pairs(singers, cache, lambda singer, _: singer in mir1k.SINGERS))


def test_only_the_training_singers_are_learned_from(singers: Path, tmp_path: Path):
    assert [voice.name for voice, _ in _songs(singers, tmp_path)] == ["mir1k_abjones_1", "mir1k_amy_1"]
    assert [song.name for song in dev_songs(singers, tmp_path)] == ["mir1k_bug_1"]
    assert (singer_of("mir1k_amy_12"), singer_of("x")) == ("amy", "")


def test_batches(singers: Path, tmp_path: Path):
    options: dict = {"frames": 20, "sequences": 6, "speed": 0.0}
    together = Mir1kMixer(_songs(singers, tmp_path), seed=1, shift=False, **options)
    shifted = Mir1kMixer(_songs(singers, tmp_path), seed=1, shift=True, **options)
    a, b = together.batch(3), shifted.batch(3)
    for name, value in together.batch(3).items():
        np.testing.assert_array_equal(value, a[name])
        assert value.shape == ((6, 2) if name == "start" else (6, 20, BINS))
    assert np.abs(a["music"] / a["mixture"] - b["music"] / b["mixture"]).mean() > 0.01
    assert (a["mixture"] <= a["voice"] + a["music"] + 1e-5).all()
    assert (a["mixture"] >= np.abs(a["voice"] - a["music"]) - 1e-5).all()
    for name in ("magnitude", "mixture"):  # the same sound at two levels
        level = (a[name] * tilt()[:BINS]).mean((1, 2), keepdims=True)
        np.testing.assert_allclose(a[name] / level, a["mixture"], rtol=1e-3, atol=1e-5)


def test_half_the_rate_sees_what_the_stream_sees(singers: Path, tmp_path: Path):
    mixer = Mir1kMixer(_songs(singers, tmp_path), seed=1, frames=40, sequences=1, shift=False, speed=0.0)
    clip = mixer.songs[0][0]
    found = np.abs(mixer._spectra(clip, 24000, 1.0))
    frames = fft.next_fast_len(int(mixer.length * 48000 / 22050), real=True)
    sound = signal.resample(clip.read(24000, frames + frames % 2), 2 * mixer.length)
    stream = np.abs(spectra(sound.astype(np.float32))[3:43, :BINS])  # from the first frame that is whole
    assert np.linalg.norm(2 * found - stream) < 0.01 * np.linalg.norm(stream)


def test_open_masks_give_the_mixture():
    sound = np.random.default_rng(0).standard_normal((2, 5000)).astype(np.float32)
    for lookahead in (0, 1):
        np.testing.assert_allclose(separate(np.ones_like, sound, BINS, lookahead), sound, atol=1e-5)


def _train(name: str, singers: Path, runs: Path, **more: object) -> Path:
    options: dict = {"steps": 3, "settings": SMALL, "score_every": 0, "quiet": True, "device": "cpu"} | more
    return train(name, data=singers, cache=singers.parent / "cache", runs=runs, **options)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_resumed_is_the_same(singers: Path, tmp_path: Path, name: str, optimizer: str):
    whole = read_checkpoint(_train(name, singers, tmp_path / "whole", optimizer=optimizer))
    again = read_checkpoint(_train(name, singers, tmp_path / "again", optimizer=optimizer))
    _train(name, singers, tmp_path / "part", optimizer=optimizer, minutes=1e-9)
    part = read_checkpoint(_train(name, singers, tmp_path / "part", resume=True))
    assert part["step"] == 3
    for key, value in whole["model"].items():
        assert torch.equal(value, part["model"][key]), key
        assert torch.equal(value, again["model"][key]), key


@pytest.mark.parametrize("variant", ["masking=off", "shift=off", "gamma=0", "speed=0.2", "equalize=6"])
def test_variants_train(singers: Path, tmp_path: Path, variant: str):
    plain = read_checkpoint(_train("drnn", singers, tmp_path / "plain"))
    other = read_checkpoint(_train("drnn", singers, tmp_path / "other", settings=(*SMALL, variant)))
    assert not all(torch.equal(value, other["model"][key]) for key, value in plain["model"].items())


def test_drnn_learns(singers: Path, tmp_path: Path):
    _train("drnn", singers, tmp_path, steps=150, settings=("units=24", "frames=24", "sequences=4", "lr=0.01"))
    losses = [
        row["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines() if "loss" in (row := json.loads(line))
    ]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(("name", "lookahead"), [("drnn", 0), ("drnn", 1), ("wvpnn", 0), ("cvpnn", 0)])
def test_exported_stream_is_offline(singers: Path, tmp_path: Path, name: str, lookahead: int):
    onnxruntime = pytest.importorskip("onnxruntime")
    from rtsep.separators.onnx import OnnxSeparator
    from rtsep.spec import StreamSpec

    last = _train(name, singers, tmp_path / "run", lookahead=lookahead or None)
    said: list[str] = []
    folder = export(last, tmp_path / "model", storage="float16", say=said.append)
    assert any(line.startswith("stream = offline") for line in said)
    separator = OnnxSeparator(folder, device="cpu")
    assert separator.latency == lookahead * 512
    separator.prepare(StreamSpec(samplerate=44100, channels=2, hop=512))
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    state = np.zeros(session.get_inputs()[1].shape, np.float32)
    spectrum, mask = np.zeros((2, 1025), np.complex64), np.empty((2, 1025), np.float32)
    for row in noise(1, BINS, 60)[:, 0]:
        spectrum[:, :BINS] = row
        separator.process(spectrum, mask)
        wanted, state = session.run(["mask", "state_out"], {"magnitude": row[None], "state": state})
        np.testing.assert_allclose(mask[:, :BINS], np.repeat(wanted, 2, axis=0), atol=1e-6)
        np.testing.assert_array_equal(mask[:, BINS:], np.repeat(mask[:, BINS - 1 : BINS], 1025 - BINS, axis=1))


def test_scores_of_dev(singers: Path, tmp_path: Path):
    _train("drnn", singers, tmp_path, score_every=3)
    found = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["dev"]
    assert set(found) == {"mixture", "vocals_gain", "accompaniment_gain"}


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("drnn", {"lookahead": 2}, "looks ahead by 0 or 1"),
        ("cvpnn", {"lookahead": 1}, "sees one frame only"),
        ("drnn", {"target": "binary"}, "not for this net"),
        ("drnn", {"settings": ("unit=3",)}, "no such setting"),
        ("live", {"settings": ("unit=3",)}, "--set unit: the live family has no such setting"),
        ("live", {"settings": ("frames=three",)}, "expected int"),
        ("live", {"settings": ("optimizer=sgd",)}, "expects muon or adamw"),
        ("koretzky", {"settings": ("unit=3",)}, "koretzky has no such setting"),
        ("koretzky", {"settings": ("target=binary",)}, "give --target binary"),
        ("live", {"settings": ("split=validation",)}, "give --split validation"),
        ("drnn", {"settings": ("split=validation",)}, "give --split validation"),
        ("drnn", {"settings": (), "split": "validation"}, "expected train or all_train"),
    ],
)
def test_wrong_options_are_said(singers: Path, tmp_path: Path, name: str, wrong: dict, message: str):
    with pytest.raises(UsageError, match=message):
        _train(name, singers, tmp_path, **({"settings": ()} | wrong))


def test_a_corpus_without_the_singers(corpus_folder: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="no songs of abjones or amy"):
        _train("drnn", corpus_folder, tmp_path)


def test_the_registry_names_tasks():
    assert all(find(name).name == name for name in TASKS)


def test_the_table(singers: Path, tmp_path: Path):
    pytest.importorskip("museval", reason="needs museval: pip install 'rtsep[eval]'")
    from benchmarks import mir1k as table

    folder = export(_train("drnn", singers, tmp_path / "run"), tmp_path / "model")
    options = ["--quick", "--data", str(singers), "--cache", str(tmp_path / "cache"), "--runs", str(tmp_path / "runs")]
    options += ["--models", str(folder), "--steps", "1", "--output", str(tmp_path)]
    assert table.main(options) == 0
    shipped, scale, variants = json.loads((tmp_path / "mir1k.json").read_text())["tables"]
    rows = {row["method"]: row for row in shipped["rows"]}
    assert rows["mixture (floor)"]["vocals GNSDR"] == 0
    assert rows["IRM"]["vocals GNSDR"] > rows[str(folder)]["vocals GNSDR"]
    assert len(scale["rows"]) == len(table.INFORMED) + 1  # the last one: drnn on the singers that it knows
    assert np.isfinite([row["vocals GNSDR"] for row in scale["rows"]]).all()
    assert len(variants["rows"]) == len(table.VARIANTS)
    assert table.main(["--data", str(tmp_path)]) == 2
