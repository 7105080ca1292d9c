"""The profiles of the live family: one architecture and one set of weights at another hop, or with a look-ahead."""

from __future__ import annotations

import json
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
pytest.importorskip("onnx", reason="needs onnx: pip install 'rtsep[train]'")

from rtsep.errors import ModelError, UsageError  # noqa: E402
from rtsep.training import export as exporting  # noqa: E402
from rtsep.training.checkpoints import read_checkpoint  # noqa: E402
from rtsep.training.data.preview import write_preview  # noqa: E402
from rtsep.training.data.sources import load  # noqa: E402
from rtsep.training.data.stereo import StereoMixer, stft  # noqa: E402
from rtsep.training.export import export  # noqa: E402
from rtsep.training.family import DETECTOR, FAMILY, MEMBERS, TURNS, Turns, member, sequences  # noqa: E402
from rtsep.training.graphs.proof import rounded  # noqa: E402
from rtsep.training.live import LiveRun, LiveTraining, separate, settings_of, sizes_of, train_live  # noqa: E402
from rtsep.training.nets.live import FEATURES, Live, LiveConfig  # noqa: E402
from rtsep.training.nets.spectrum import BINS  # noqa: E402
from rtsep.training.train import train  # noqa: E402
from rtsep.training.weights import first_weights, grown, part  # noqa: E402

SMALL = LiveConfig(width=6, across=4, slow=5, blocks=2)
KARAOKE = replace(SMALL, lookahead=4)
MONITOR = replace(SMALL, hop=128)
WHOLE = LiveConfig(width=6, across=4, slow=5, blocks=6, hop=512, lookahead=6)
SHORT = LiveTraining(steps=3, frames=20, sources=2)
CPU = torch.device("cpu")


def _model(config: LiveConfig, whole: bool = True) -> Live:
    """A net with weights drawn alike for every profile; unless `whole`, it hears the frame of the mask and those before
    it, and remembers nothing.
    """
    torch.manual_seed(1)
    now = config if whole else replace(config, lookahead=0)
    model = Live(now).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    if whole:
        return model
    for block in model.bands.blocks:
        block.known.weight.data.zero_()
    config, weights = grown(now, model.state_dict(), config)
    late = Live(config).eval()
    late.load_state_dict(weights)
    return late


def _field(frames: int) -> torch.Tensor:
    torch.manual_seed(2)
    field = torch.rand(frames, FEATURES, BINS)
    field[:, 2:] = 2 * field[:, 2:] - 1
    return field


def _train(profile: str, corpus: Path, cache: Path, runs: Path, **more: object) -> Path:
    runs.mkdir(parents=True, exist_ok=True)
    options: dict = {"config": SHORT, "score_every": 0, "quiet": True, "device": CPU}
    return train_live(profile, data=corpus, cache=cache, runs=runs, **(options | more))


def test_a_net_that_looks_ahead_masks_the_frame_of_so_long_ago():
    now, late = _model(SMALL, whole=False), _model(KARAOKE, whole=False)
    field = _field(40)
    settled = 10  # frames until nothing is left of how the stream began
    torch.testing.assert_close(late.infer(field)[4 + settled :], now.infer(field)[settled:-4], rtol=0, atol=1e-5)


def test_a_net_that_looks_ahead_hears_what_follows_and_nothing_more():
    field = _field(40)
    marked = field.clone()
    marked[20, :2] *= 5
    for config, whole, first in ((SMALL, True, 20), (KARAOKE, False, 24), (KARAOKE, True, 20)):
        model = _model(config, whole)
        moved = (model.infer(field) - model.infer(marked)).abs().amax((1, 2))
        assert moved[:first].max() < 1e-6
        assert moved[first] > 1e-6


def test_offline_vocals_are_aligned_at_any_lookahead():
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal((2, 60 * 256))).astype(np.float32)
    now, late = (separate(_model(c, whole=False), sound, autocast=False) for c in (SMALL, KARAOKE))
    assert now.shape == late.shape == sound.shape
    np.testing.assert_allclose(late[:, 12 * 256 :], now[:, 12 * 256 :], atol=1e-5)
    assert np.abs(now).max() > 0.01


def test_turns():
    assert [replace(SMALL, hop=hop).apart for hop in (512, 256, 128)] == [1, 2, 4]
    assert (KARAOKE.ahead, replace(KARAOKE, hop=128).ahead) == (2, 1)


def test_targets_of_context_and_lookahead(corpus_folder: Path, cache_folder: Path):
    corpus = load(corpus_folder, cache_folder)
    whole = StereoMixer(corpus, seed=3, frames=24, sources=2, rolls=1).batch(1)
    late = StereoMixer(corpus, seed=3, frames=24, sources=2, rolls=1, context=6, lookahead=4).batch(1)
    np.testing.assert_array_equal(late.field, whole.field)
    np.testing.assert_array_equal(late.sound, whole.sound[:, 2:20])
    np.testing.assert_array_equal(late.cross, whole.cross[:, 2:20])
    assert (late.voice <= whole.voice).all()


def test_the_window_is_that_of_the_stream(corpus_folder: Path, cache_folder: Path):
    corpus = load(corpus_folder, cache_folder)
    sizes = {"seed": 3, "sources": 1, "rolls": 1}
    wide = StereoMixer(corpus, frames=11, hop=512, window_hop=256, **sizes).batch(1)
    fine = StereoMixer(corpus, frames=21, hop=256, **sizes).batch(1)
    np.testing.assert_allclose(wide.field[0], fine.field[0, ::2], rtol=1e-3, atol=1e-4)


def test_half_the_hop_is_the_same_sound_on_a_finer_grid(corpus_folder: Path, cache_folder: Path):
    mixer = StereoMixer(load(corpus_folder, cache_folder), seed=1, frames=40, sources=2, rolls=1, hop=128)
    batch = mixer.batch(2)
    assert batch.field.shape == (2, 40, FEATURES, BINS)
    for row, (mixture, vocals) in enumerate(mixer.sounds(2)):
        assert mixture.shape == vocals.shape == (2, 39 * 128)
        middle = 0.5 * (mixture[:1] + mixture[1:])
        seen = np.abs(stft(middle, mixer.window, 128))[:, 0]  # frame k ends with frame k + 15 of the batch
        wanted = batch.field[row, 15 : 15 + len(seen), 0]
        error = np.linalg.norm(seen[1:-1] - wanted[1 : len(seen) - 1]) / np.linalg.norm(wanted)
        assert error < 0.1


def test_preview_is_what_the_net_hears(
    corpus_folder: Path, cache_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    folder, none = tmp_path / "heard", replace(SHORT, steps=0)
    _train("karaoke", corpus_folder, cache_folder, tmp_path / "run", sizes=KARAOKE, config=none, preview=folder)
    assert "pip install 'rtsep[eval]'" in capsys.readouterr().out
    assert {p.suffix for p in folder.iterdir()} == {".wav"}
    corpus, past = load(corpus_folder, cache_folder), KARAOKE.past  # as in training
    mixer = StereoMixer(corpus, seed=0, frames=20 + past, sources=2, hop=512, lookahead=2, context=past)
    for row, (mixture, vocals) in enumerate(mixer.sounds(1)):
        parts = {p: soundfile.read(folder / f"01_{row}_{p}.wav")[0].T for p in ("mixture", "vocals", "accompaniment")}
        np.testing.assert_allclose(parts["mixture"], mixture, atol=1e-6)
        np.testing.assert_allclose(parts["vocals"], vocals, atol=1e-6)
        np.testing.assert_allclose(parts["vocals"] + parts["accompaniment"], parts["mixture"], atol=1e-6)


def test_spectrograms(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'rtsep[eval]'")
    mixer = StereoMixer(load(corpus_folder, cache_folder), seed=1, frames=23, sources=1, rolls=1)
    said: list[str] = []
    write_preview(mixer, tmp_path, said.append, batches=1)
    assert said == []
    pictures = sorted(tmp_path.glob("*.png"))
    assert [p.name for p in pictures] == ["00_0_accompaniment.png", "00_0_mixture.png", "00_0_vocals.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)


@pytest.mark.parametrize(("profile", "sizes"), [("monitor", MONITOR), ("karaoke", KARAOKE)])
def test_resumed_and_repeated_is_the_same(
    profile: str, sizes: LiveConfig, corpus_folder: Path, cache_folder: Path, tmp_path: Path
):
    folders = [tmp_path / name for name in ("whole", "again", "part")]
    for folder in folders[:2]:
        _train(profile, corpus_folder, cache_folder, folder, sizes=sizes, save_every=1)
    _train(profile, corpus_folder, cache_folder, folders[2], sizes=sizes, save_every=1, minutes=1e-9)
    _train(profile, corpus_folder, cache_folder, folders[2], save_every=1, resume=True)
    logs = [[json.loads(line) for line in (f / "log.jsonl").read_text().splitlines()] for f in folders]
    losses = [[line["loss"] for line in log if "loss" in line] for log in logs]
    assert len(losses[0]) == 3
    assert losses[0] == losses[1] == losses[2]
    whole, again, part = (read_checkpoint(folder / "last.pt") for folder in folders)
    assert part["name"] == profile
    assert LiveConfig.from_dict(part["net"]) == sizes
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, again["model"][name]), name
        assert torch.equal(tensor, part["model"][name]), name
    with pytest.raises(UsageError, match=f"a run of {profile}, not of live"):
        _train("live", corpus_folder, cache_folder, folders[2], resume=True)


def test_every_profile_begins_with_the_weights_of_any(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    none = replace(SHORT, steps=0)
    first = _train("live", corpus_folder, cache_folder, tmp_path / "live", sizes=SMALL, config=none)
    folder = export(first, tmp_path / "model", check=False)
    for profile, init in (("monitor", folder), ("karaoke", tmp_path / "monitor" / "last.pt")):
        wanted = sizes_of(profile)
        sizes = replace(SMALL, hop=wanted.hop, lookahead=wanted.lookahead)
        _train(profile, corpus_folder, cache_folder, tmp_path / profile, init=init, config=none, sizes=sizes)
        found = read_checkpoint(tmp_path / profile / "last.pt")
        assert LiveConfig.from_dict(found["net"]) == sizes
        for name, tensor in read_checkpoint(first)["mean"].items():
            if not (sizes.lookahead and name.startswith("bands.seen.")):  # these hear more frames
                assert torch.equal(tensor, found["model"][name]), name


@pytest.mark.parametrize(("profile", "sizes"), [("live", SMALL), ("monitor", MONITOR), ("karaoke", KARAOKE)])
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_exported_is_proved_in_the_host(
    profile: str, sizes: LiveConfig, storage: str, corpus_folder: Path, cache_folder: Path, tmp_path: Path
):
    pytest.importorskip("onnxruntime")
    from rtsep.separators.onnx import OnnxSeparator

    none = replace(SHORT, steps=0)
    last = _train(profile, corpus_folder, cache_folder, tmp_path / "run", sizes=sizes, config=none)
    values = read_checkpoint(last)
    values["mean"] = _model(sizes).state_dict()
    torch.save(values, last)
    said: list[str] = []
    folder = export(last, tmp_path / "model", storage=storage, say=said.append)
    assert [line.split(":")[0] for line in said][-2:] == ["ONNX = torch", "stream = offline"]
    manifest = tomllib.loads((folder / "manifest.toml").read_text())
    assert manifest["name"] == profile
    assert (manifest["transform"]["hop"], manifest["transform"]["synthesis"]) == (sizes.hop, 2 * sizes.hop)
    assert manifest["tensors"]["turns"] == sizes.apart
    assert OnnxSeparator(folder, device="cpu").latency == sizes.lookahead * sizes.hop
    found, weights = first_weights(folder)
    assert found == sizes
    wanted = (rounded(_model(sizes)) if storage == "float16" else _model(sizes)).state_dict()
    for name, tensor in wanted.items():
        if tensor.ndim:
            assert torch.equal(tensor, weights[name]), name


def test_export_tempers_the_masks(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    none = replace(SHORT, steps=0)
    last = _train("live", corpus_folder, cache_folder, tmp_path / "run", sizes=SMALL, config=none)
    folders = [
        export(last, tmp_path / str(scale), check=False, mask_scale=scale, mask_shift=shift)
        for scale, shift in ((1.0, 0.0), (0.8, 0.5))
    ]
    plain, tempered = (first_weights(folder)[1] for folder in folders)
    assert torch.allclose(tempered["bands.bias"], 0.8 * plain["bands.bias"] + 0.5)
    assert torch.allclose(tempered["bands.draw.0.weight"], 0.8 * plain["bands.draw.0.weight"])
    with pytest.raises(UsageError, match="mask_scale 0 is not possible"):
        export(last, tmp_path / "none", mask_scale=0.0)


def test_float16_takes_half_the_room(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    none, sizes = replace(SHORT, steps=0), LiveConfig()
    last = _train("live", corpus_folder, cache_folder, tmp_path / "run", sizes=sizes, config=none)
    wide, half = (
        export(last, tmp_path / storage, storage=storage, check=False) / "model.onnx"
        for storage in ("float32", "float16")
    )
    small = 16 * 1024 * sizes.blocks  # names and nodes, and what has one dimension
    assert half.stat().st_size < 0.53 * wide.stat().st_size + small


def test_int8_is_not_for_this_family(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    last = _train("live", corpus_folder, cache_folder, tmp_path, sizes=SMALL, config=replace(SHORT, steps=0))
    with pytest.raises(UsageError, match="storage int8: live is stored as float32 or float16"):
        export(last, tmp_path / "model", storage="int8")
    assert not (tmp_path / "model").exists()


def test_a_training_can_begin_with_what_is_shipped():
    for name in ("live", "monitor", "karaoke"):
        sizes, weights = first_weights(Path(__file__).parents[2] / "models" / name)
        assert sizes == sizes_of(name)
        Live(sizes).load_state_dict(weights)


def test_a_stream_that_is_not_torch_is_refused(
    corpus_folder: Path, cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("onnxruntime")
    none = replace(SHORT, steps=0)
    last = _train("karaoke", corpus_folder, cache_folder, tmp_path / "run", sizes=KARAOKE, config=none)
    text = exporting._MANIFEST.replace("lookahead = {lookahead}", "lookahead = 2")
    monkeypatch.setattr(exporting, "_MANIFEST", text)
    with pytest.raises(ModelError, match="the stream differs from torch"):
        export(last, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_usual_training_of_a_profile():
    assert (sizes_of("karaoke").lookahead + 2) * sizes_of("karaoke").hop == 4096
    assert sizes_of("karaoke", 2).lookahead == 2
    assert (sizes_of("monitor").hop, sizes_of("live").hop) == (128, 256)
    assert settings_of(seed=1, steps=9, lr=None, split="train", begun=False).lr == 1e-2
    assert settings_of(seed=1, steps=9, lr=None, split="train", begun=True).lr == 3e-3
    chosen = settings_of(seed=1, steps=9, lr=2e-4, split="all_train", begun=True)
    assert (chosen.lr, chosen.split) == (2e-4, "all_train")


def test_no_steps_are_none(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    """How `monitor` is made of live's weights."""
    first = _train(
        "live", corpus_folder, cache_folder, tmp_path / "run", sizes=sizes_of("live"), config=replace(SHORT, steps=0)
    )
    common = {"data": corpus_folder, "cache": cache_folder, "device": "cpu", "quiet": True}
    found = read_checkpoint(train("monitor", runs=tmp_path / "monitor", init=first, steps=0, **common))
    assert (found["step"], found["net"]["hop"]) == (0, 128)
    assert all(torch.equal(value, found["mean"][name]) for name, value in read_checkpoint(first)["mean"].items())


@pytest.mark.parametrize(
    ("net", "wrong", "message"),
    [
        ("karaoke", {"lookahead": 7}, "looks ahead by 1 to 6 hops"),
        ("karaoke", {"lookahead": 0}, "looks ahead by 1 to 6 hops"),
        ("monitor", {"lookahead": 2}, "monitor does not look ahead"),
        ("live", {"lr": -1.0}, "lr -1"),
        ("live", {"split": "dev"}, "split 'dev'"),
        ("monitor", {"target": "binary"}, "not for this net"),
    ],
)
def test_wrong_options_are_said(
    net: str, wrong: dict, message: str, corpus_folder: Path, cache_folder: Path, tmp_path: Path
):
    with pytest.raises(UsageError, match=message):
        train(net, data=corpus_folder, cache=cache_folder, runs=tmp_path / "run", device="cpu", **wrong)


def test_a_wrong_storage_is_said(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    last = _train("live", corpus_folder, cache_folder, tmp_path, sizes=SMALL, config=replace(SHORT, steps=0))
    with pytest.raises(UsageError, match="float32 or float16 or int8"):
        export(last, tmp_path / "model", storage="int4")


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_of_the_family_is_what_its_turns_have_trained(name: str):
    """Its masks are those that the whole net draws in its turn, for the frame of so long ago."""
    whole = _model(WHOLE)
    wanted = member(WHOLE, name)
    config, weights = part(WHOLE, whole.state_dict(), wanted)
    assert (config.hop, config.ahead, config.blocks) == (wanted.hop, wanted.ahead, wanted.blocks)
    alone = Live(config).eval()
    alone.load_state_dict(weights)
    x = whole.features(_field(70)[None])
    heard = x[:, :, : x.shape[2] - (WHOLE.ahead - config.ahead)]
    start = torch.rand(1, WHOLE.carried)
    drawn, _, end = whole.masks(x, start, wanted)
    masks, _, memory = alone.masks(heard, start[:, : config.carried])
    torch.testing.assert_close(masks, drawn, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(memory, end[:, : config.carried], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(end[:, config.carried :], start[:, config.carried :])  # left as it was


def test_members_with_fewer_blocks_have_larger_batches():
    found = {name: sequences(LiveTraining(), sizes_of(FAMILY), of) for name, of in MEMBERS.items()}
    assert found == {"karaoke": 4, "live": 4, "monitor": 6, "live-small": 12, "monitor-small": 12, DETECTOR: 12}
    assert sequences(LiveTraining(sources=1), sizes_of(FAMILY), MEMBERS["karaoke"]) == 1


def test_a_batch_of_the_family_is_that_of_the_member_whose_turn_it_is(corpus_folder: Path, cache_folder: Path):
    corpus, run = load(corpus_folder, cache_folder), LiveRun(WHOLE, SHORT, CPU, FAMILY)
    mixer, ahead = Turns(corpus, SHORT, FAMILY, WHOLE), []
    for step, name in enumerate(TURNS):
        turn = MEMBERS[name]
        sizes = {"frames": 28, "sources": 4 if turn.blocks == 2 else 2, "hop": 512, "lookahead": 6, "context": 8}
        plain = StereoMixer(corpus, seed=0, window_hop=turn.hop, **sizes)
        for key, value in mixer.batch(step).arrays().items():
            assert np.array_equal(value, plain.batch(step).arrays()[key]), (step, key)
        run.optimizer.zero_grad()
        run.update(mixer)
        grad = run.model.bands.seen[0].weight.grad.unflatten(1, (FEATURES, 9, -1))
        ahead.append(bool(grad[:, :, 3:].any()))
        later = run.model.bands.blocks[2].slow.weight.grad
        assert (later is not None and bool(later.any())) == (turn.blocks > 2)
    assert ahead == [name == "karaoke" for name in TURNS]


def test_members_are_cut_out_at_the_export(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    last = _train(FAMILY, corpus_folder, cache_folder, tmp_path / "run", sizes=WHOLE)
    folder = export(last, tmp_path / "small", part="monitor-small")
    manifest = tomllib.loads((folder / "manifest.toml").read_text())
    assert manifest["name"] == "monitor-small" and first_weights(folder)[0].blocks == 2
    assert "`rtsep train family`" in (folder / "CARD.md").read_text()
    nearer = _train(FAMILY, corpus_folder, cache_folder, tmp_path / "near", sizes=replace(WHOLE, lookahead=2))
    assert first_weights(export(nearer, tmp_path / "karaoke", part="karaoke"))[0].lookahead == 2
    with pytest.raises(UsageError, match="no --part: .* live, monitor, karaoke"):
        export(last, tmp_path / "none")
    with pytest.raises(UsageError, match="--part loud"):
        export(last, tmp_path / "none", part="loud")
    alone = _train("live", corpus_folder, cache_folder, tmp_path / "live", sizes=WHOLE, init=last)
    with pytest.raises(UsageError, match="--part live: the checkpoint is one of live"):
        export(alone, tmp_path / "none", part="live")
    assert not (tmp_path / "none").exists()
