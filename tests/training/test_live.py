"""The live net: causal, the same frame by frame in ONNX Runtime, resumable, and trainable on from the exported file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
pytest.importorskip("onnx", reason="needs onnx: pip install 'rtsep[train]'")

from rtsep.dsp.windows import asymmetric_pair  # noqa: E402
from rtsep.errors import UsageError  # noqa: E402
from rtsep.training.checkpoints import read_checkpoint  # noqa: E402
from rtsep.training.data.augment import WINDOW  # noqa: E402
from rtsep.training.data.sources import load  # noqa: E402
from rtsep.training.data.stereo import StereoMixer  # noqa: E402
from rtsep.training.export import export  # noqa: E402
from rtsep.training.family import mixer_of  # noqa: E402
from rtsep.training.graphs.live import carried, streaming_graph  # noqa: E402
from rtsep.training.graphs.live_proof import deviation  # noqa: E402
from rtsep.training.live import LiveRun, LiveTraining, separate, train_live  # noqa: E402
from rtsep.training.losses import field_mask, heard, heard_mask  # noqa: E402
from rtsep.training.nets import scan  # noqa: E402
from rtsep.training.nets.bands import COUNT, BandSizes, Block  # noqa: E402
from rtsep.training.nets.live import FEATURES, Live, LiveConfig, running_mean  # noqa: E402
from rtsep.training.nets.spectrum import BINS  # noqa: E402
from rtsep.training.team import Team  # noqa: E402
from rtsep.training.train import train  # noqa: E402
from rtsep.training.weights import first_weights, grown  # noqa: E402

SMALL = LiveConfig(width=6, across=4, slow=5, blocks=2)
SHORT = LiveTraining(steps=4, frames=20, sources=2)
CPU = torch.device("cpu")


def _model(config: LiveConfig = SMALL) -> Live:
    torch.manual_seed(1)
    model = Live(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def _field(frames: int) -> torch.Tensor:
    field = torch.rand(frames, FEATURES, BINS)
    field[:, 2:] = 2 * field[:, 2:] - 1
    return field


def test_a_net_that_looks_ahead_begins_with_masks_that_do_not():
    model, field = _model(replace(SMALL, hop=512)), _field(40)
    config, weights = grown(model.config, model.state_dict(), replace(SMALL, hop=512, lookahead=3))
    later = Live(config)
    later.load_state_dict(weights)
    # the level that the features lie over is that of the newest frame
    assert (later.eval().infer(field)[3 + 24 :] - model.infer(field)[24:-3]).abs().mean() < 0.02
    back = grown(config, weights, model.config)[1]
    assert all(torch.equal(back[name], value) for name, value in model.state_dict().items())


def test_a_further_block_begins_by_passing_on_what_it_is_given():
    model, field = _model(SMALL), _field(40)
    config, weights = grown(SMALL, model.state_dict(), replace(SMALL, blocks=SMALL.blocks + 2))
    assert config.blocks == SMALL.blocks + 2
    deeper = Live(config)
    deeper.load_state_dict(weights)
    assert torch.equal(deeper.eval().infer(field), model.infer(field))
    assert grown(config, weights, SMALL)[0] == config  # none is taken away


def test_nets_of_before_are_refused_and_what_they_shared_is_read():
    with pytest.raises(UsageError, match="trunk of convolutions"):
        LiveConfig.from_dict({"channels": [16, 16, 16, 16], "dense": 768, "units": 384})
    assert LiveConfig.from_dict({"dense": 0, "dropout_pool": 0.1, "width": 12}) == LiveConfig(width=12, voice=0)
    assert LiveConfig.from_dict(SMALL.to_dict()) == SMALL


def test_tempered_masks_are_those_of_other_logits():
    model, field = _model(), _field(40)
    before = torch.logit(model.infer(field).double())
    model.temper(0.7, 0.4)
    assert torch.allclose(torch.logit(model.infer(field).double()), 0.7 * before + 0.4, atol=1e-3)


def test_running_mean_goes_on_from_what_went_before():
    x = torch.rand(3, 700)
    whole = running_mean(x, 0.97)
    weight = 1 - 0.97**300.0  # of what was heard, against endless
    before = torch.stack([whole[:, 299], torch.full((3,), weight)], 1)
    assert torch.allclose(running_mean(x[:, 300:], 0.97, before), whole[:, 300:], atol=1e-6)
    assert torch.equal(running_mean(x, 0.97, torch.zeros(3, 2)), whole)


def test_warm_features_are_those_of_a_stream_that_was_as_loud():
    model, field = _model(), _field(600)[None]
    steady = field.clone()
    steady[:, :, :2] = steady[:, :1, :2]
    long = torch.cat([steady.expand(1, -1, -1, -1)] * 3, 1)
    assert torch.allclose(model.features(steady, torch.ones(1)), model.features(long)[:, :, -600:], atol=1e-5)
    half = model.features(steady, torch.tensor([4.0]))
    assert half[:, :2, :5].mean() < model.features(steady)[:, :2, :5].mean()
    assert torch.equal(model.features(field, torch.zeros(1)), model.features(field))


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, lookahead=4)])
def test_memory_begins_with_what_is_given(config: LiveConfig):
    model = _model(config)
    x = model.features(_field(60)[None])
    whole, _, end = model.masks(x)
    first, _, state = model.masks(x[:, :, :40])
    rest, _, same = model.masks(x[:, :, 40 - config.past :], state)
    assert torch.allclose(torch.cat([first, rest], 1), whole, atol=1e-5)
    assert torch.allclose(end, same, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        LiveConfig(),
        LiveConfig(lookahead=4),
        replace(SMALL, hop=128),
        replace(SMALL, hop=512, lookahead=2),
        replace(SMALL, voice=0),
    ],
)
def test_streaming_onnx_equals_sequence(config: LiveConfig):
    pytest.importorskip("onnxruntime")
    model = _model(config)
    proto, states = streaming_graph(model)
    assert deviation(model, proto.SerializeToString(), states, frames=120) <= 1e-4
    assert model.infer(_field(30)).std(0).mean() > 1e-4  # the masks do move


def test_the_future_does_not_reach_the_past():
    model, field = _model(), _field(60)
    before = model.infer(field)
    field[40:] *= 0.1
    after = model.infer(field)
    torch.testing.assert_close(before[:40], after[:40], rtol=0, atol=1e-6)
    assert not torch.allclose(before[40:], after[40:], atol=1e-4)


def test_the_playing_level_does_not_matter():
    model, field = _model(), _field(50)
    field[:, :2] *= 10
    quiet = field.clone()
    quiet[:, :2] *= 0.01
    torch.testing.assert_close(model.infer(field), model.infer(quiet), rtol=0, atol=0.03)


def test_running_mean():
    x = torch.rand(2, 30, dtype=torch.float64)
    total, weight, wanted = torch.zeros(2), 0.0, []
    for t in range(30):
        total, weight = 0.9 * total + 0.1 * x[:, t], 0.9 * weight + 0.1
        wanted.append(total / weight)
    torch.testing.assert_close(running_mean(x.float(), 0.9, block=8), torch.stack(wanted, 1).float())


def test_gated_running_mean_is_the_plain_loop():
    torch.manual_seed(0)
    gate, new, start = torch.rand(9, 3, 7), torch.randn(9, 3, 7), torch.randn(3, 7)
    h, plain = start, []
    for z, n in zip(gate, new, strict=True):
        h = z * h + (1 - z) * n
        plain.append(h)
    torch.testing.assert_close(scan.run(gate, new, start), torch.stack(plain))
    with torch.no_grad():
        torch.testing.assert_close(scan.run(gate, new, start), torch.stack(plain))


@pytest.mark.parametrize("frames", [3, 19])  # of two sequences: less than a tile; some tiles and a rest
def test_a_block_in_tiles_is_the_plain_block(frames: int):
    """Values and gradients of the form that trains on a CPU are those that torch finds by itself."""
    torch.manual_seed(0)
    block = Block(BandSizes(rows=4, recent=3, width=12, across=5, slow=7, blocks=1))
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    x, start = torch.randn(frames, 2, COUNT, 12, requires_grad=True), torch.randn(2, COUNT, 7)
    weight = torch.randn_like(x)
    found = []
    for form in (block, block.plain):
        out, end = form(x, start)
        found.append((out, end, *torch.autograd.grad((out * weight).sum(), [x, *block.parameters()])))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5 * float(b.detach().abs().max()))


def test_loss_is_the_error_of_the_signal():
    torch.manual_seed(0)
    x, v = torch.randn(2, 8, 2, BINS, dtype=torch.cfloat), torch.randn(2, 8, 2, BINS, dtype=torch.cfloat)
    field = torch.cat([x.abs(), torch.zeros(2, 8, 2, BINS)], 2)
    cross, voice, bins = (x.conj() * v).real, v.abs().square().sum((1, 2, 3)), torch.ones(2, BINS)
    logits = torch.randn(2, 8, 2, BINS)
    mask = torch.sigmoid(logits)
    relative = (mask * x - v).abs().square().sum((1, 2, 3)) / x.abs().square().sum((1, 2, 3))
    weight = x.abs().sqrt()
    best = (cross / x.abs().square()).clamp(0, 1)
    squared = (weight * (mask - best).square()).sum((1, 2, 3)) / weight.sum((1, 2, 3))
    wanted = (0.5 * torch.log(relative + 3e-3) + 5 * squared).mean()
    torch.testing.assert_close(field_mask(logits, field, cross, voice, bins), wanted)


def test_frames_ahead_fill_the_memory_and_nothing_else():
    """Masks of the last frames are those of the whole sequence; no gradient goes further back."""
    run = LiveRun(SMALL, replace(SHORT, before=1.5), CPU)
    run.begin_with(_model().state_dict())
    features = run.model.features(torch.stack([_field(20 + 30 + SMALL.past), _field(20 + 30 + SMALL.past)]))
    start = torch.rand(2, SMALL.carried)
    run.model.eval()
    whole, *_ = run.model.masks(features, start)
    assert run.config.filling == 30
    begin = run._filled(features, start)
    assert run.model.training and not begin.requires_grad
    run.model.eval()
    torch.testing.assert_close(run.model.masks(features[:, :, 30:], begin)[0], whole[:, 30:], atol=1e-5, rtol=1e-5)
    without = LiveRun(SMALL, replace(SHORT, before=0.0), CPU)
    assert without._filled(features, start) is start
    assert not torch.allclose(run.model.masks(features[:, :, 30:], start)[0], whole[:, 30:], atol=1e-3)


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, -20, 13), (1.0, -20.1, -7.9)])
def test_soft_voices_lie_far_under_the_music(
    corpus_folder: Path, cache_folder: Path, share: float, low: float, high: float
):
    mixer = StereoMixer(load(corpus_folder, cache_folder), seed=1, frames=30, sources=2, rolls=2, soft_voices=share)
    found = []
    for step in range(8):
        batch = mixer.batch(step)
        mixture, vocals = batch.sound[:, :, 0], batch.sound[:, :, 1]
        both = [np.square(np.abs(part)).sum((1, 2, 3)) for part in (vocals, mixture - vocals)]
        rows = (both[0] > 1e-12) & (both[1] > 1e-12) & (batch.bins.sum(1) == BINS)
        found += (10 * np.log10(both[0][rows] / both[1][rows])).tolist()
    inside = [low <= level <= high for level in found]
    assert len(found) > 5 and np.mean(inside) > 0.9  # codecs and mono change a few
    assert (max(found) > -7.9) == (share == 0)


def test_loss_of_what_is_heard():
    """Through a window that hears whole frames the error is that of the spectra; else what overlap-add adds up."""
    torch.manual_seed(0)
    x, v = torch.randn(2, 8, 2, BINS, dtype=torch.cfloat), torch.randn(2, 8, 2, BINS, dtype=torch.cfloat)
    x[..., 0] = v[..., 0] = 0  # counts once, the others twice
    field = torch.cat([x.abs(), torch.zeros(2, 8, 2, BINS)], 2)
    cross, voice, bins = (x.conj() * v).real, v.abs().square().sum((1, 2, 3)), torch.ones(2, BINS)
    logits, sound = torch.randn(2, 8, 2, BINS), torch.stack([x, v], 2)
    wanted = field_mask(logits, field, cross, voice, bins)
    torch.testing.assert_close(heard_mask(logits, sound, bins, torch.ones(WINDOW)), wanted)
    sound[:, :, 1] = 0  # nobody sings, and nothing is let through: the floor is all there is
    silent = heard_mask(logits - 1e3, sound, bins, torch.ones(WINDOW), 1e-4)
    torch.testing.assert_close(silent, torch.tensor(0.5 * np.log(1e-4), dtype=torch.float32), atol=1e-4, rtol=1e-4)
    sound[:, :, 1] = v
    synthesis = asymmetric_pair(WINDOW, 128)[1]
    assert not synthesis[:-256].any()
    played = np.fft.irfft(np.pad(x.numpy(), ((0, 0),) * 3 + ((0, WINDOW // 2 + 1 - BINS),))) * synthesis
    found = heard(x, torch.from_numpy(synthesis[-256:]).float())
    np.testing.assert_allclose(found, played[..., -256:], atol=1e-6)


def test_batches_follow_from_seed_and_step(corpus_folder: Path, cache_folder: Path):
    corpus = load(corpus_folder, cache_folder)
    first, again = (StereoMixer(corpus, seed=3, frames=20, sources=2, rolls=2) for _ in range(2))
    first.batch(0)
    for name, value in first.batch(5).arrays().items():
        np.testing.assert_array_equal(value, again.batch(5).arrays()[name])
    assert not np.array_equal(first.batch(6).field, again.batch(5).field)


def test_streams_of_both_rates_are_learnt(corpus_folder: Path, cache_folder: Path):
    """As long as a sequence at 44.1 kHz or at 48 kHz, the rate of the cache."""
    mixer = StereoMixer(load(corpus_folder, cache_folder), seed=1, frames=20, sources=2, rolls=1)
    rng = np.random.default_rng(0)
    drawn = np.array([mixer._crop_frames(rng, 1.0, 1.0) for _ in range(64)]) / mixer.length
    low = drawn < 1.04
    assert 16 < low.sum() < 48
    assert drawn[low] == pytest.approx(1.0, abs=0.03)
    assert drawn[~low] == pytest.approx(48000 / 44100, abs=0.03)


def test_targets(corpus_folder: Path, cache_folder: Path):
    mixer = StereoMixer(load(corpus_folder, cache_folder), seed=1, frames=20, sources=2, rolls=2)
    wide = False
    for step in range(6):
        b = mixer.batch(step)
        assert b.field.shape == (4, 20, FEATURES, BINS)
        assert b.cross.shape == (4, 20, 2, BINS)
        assert all(np.isfinite(value).all() for value in b.arrays().values())
        assert np.abs(b.field[:, :, 2:]).max() <= 1 + 1e-5
        power = (b.field[:, :, :2] ** 2 * b.bins[:, None, None]).sum((1, 2, 3))
        cross = (b.cross * b.bins[:, None, None]).sum((1, 2, 3))
        assert (cross**2 <= power * b.voice * 1.001 + 1e-6).all()  # Cauchy and Schwarz: they belong together
        wide |= bool((b.field[:, :, 1].max((1, 2)) > 0).any())
    assert wide


def _train(corpus: Path, cache: Path, runs: Path, **more: object) -> Path:
    runs.mkdir(parents=True, exist_ok=True)
    options: dict = {"sizes": SMALL, "config": SHORT, "score_every": 0, "quiet": True, "device": CPU}
    return train_live(data=corpus, cache=cache, runs=runs, **(options | more))


def test_resumed_is_the_same(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    whole = _train(corpus_folder, cache_folder, tmp_path / "whole")
    part = _train(corpus_folder, cache_folder, tmp_path / "part", minutes=1e-9)
    assert read_checkpoint(part)["step"] < 4
    _train(corpus_folder, cache_folder, tmp_path / "part", resume=True)
    a, b = read_checkpoint(whole), read_checkpoint(part)
    assert a["step"] == b["step"] == 4
    for name, tensor in a["model"].items():
        assert torch.equal(tensor, b["model"][name]), name
        assert torch.equal(a["mean"][name], b["mean"][name]), name


class _Member(Team):
    """One of two, in this process: keeps its gradients, or goes on with those that it is given."""

    def __init__(self, rank: int, given: list[torch.Tensor] | None = None) -> None:
        super().__init__()
        self.place, self.given, self.found = rank, given, []

    def turn(self, step: int) -> int:
        return 2 * step + self.place

    def average(self, parameters, buffers=()) -> None:
        parameters = list(parameters)
        self.found = [p.grad.clone() for p in parameters]
        for p, grad in zip(parameters, self.given or self.found, strict=True):
            p.grad.copy_(grad)


def test_a_team_takes_one_step_by_the_mean_of_its_gradients(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    settings = replace(SHORT, processes=2, steps=1)
    last = _train(corpus_folder, cache_folder, tmp_path / "team", sizes=SMALL, config=settings)
    found = read_checkpoint(last)
    assert len(found["ends"]) == 4  # two sequences of each

    mixer, members = mixer_of(load(corpus_folder, cache_folder, "train"), settings, SMALL), []
    for rank in range(2):
        members.append(_Member(rank))
        LiveRun(SMALL, settings, CPU).update(mixer, members[-1])
    mean = [(a + b) / 2 for a, b in zip(members[0].found, members[1].found, strict=True)]
    run = LiveRun(SMALL, settings, CPU)
    run.update(mixer, _Member(0, mean))
    for name, value in run.model.state_dict().items():
        torch.testing.assert_close(found["model"][name], value, rtol=1e-4, atol=1e-6, msg=name)
    with pytest.raises(UsageError, match="processes 0"):
        _train(corpus_folder, cache_folder, tmp_path / "none", config=replace(SHORT, processes=0))


@pytest.mark.parametrize(("config", "turns"), [(SMALL, 1), (SMALL, 4), (replace(SMALL, lookahead=4), 2)])
def test_states_begin_as_endless_silence_leaves_them(
    tmp_path: Path, config: LiveConfig, turns: int, monkeypatch: pytest.MonkeyPatch
):
    """In the host, at once and after a reset, run by ONNX Runtime's C library and by its Python module."""
    pytest.importorskip("onnxruntime")
    from rtsep.separators import session
    from rtsep.separators.compiled_net import CompiledNet
    from rtsep.separators.onnx import OnnxSeparator

    run = LiveRun(replace(config, hop=512 // turns), SHORT, CPU)
    run.begin_with(_model(run.net).state_dict())
    run.save(tmp_path / "last.pt")
    folder = export(tmp_path / "last.pt", tmp_path / "model", check=False)
    wanted = [first for _, first in carried(run.averaged().eval()).values()]
    assert max(np.abs(first).max() for first in wanted) > 0.1
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(session.c_library, "library", lambda: None)
        made = OnnxSeparator(folder, device="cpu")
        data = (folder / "model.onnx").read_bytes()
        net = session.open_net(made.manifest, data, made._feature, "cpu", False, [])
        assert isinstance(net, CompiledNet) == compiled
        for again in range(2):
            for states in net._states:
                for first, state in zip(wanted, states, strict=True):
                    np.testing.assert_allclose(state if compiled else state.numpy(), first, atol=1e-5)
            if not again:
                net.input[:] = np.abs(np.random.default_rng(0).standard_normal(net.input.shape))
                net.run()
                net.reset()


def _checkpoint(path: Path, config: LiveConfig, seed: int) -> Path:
    torch.manual_seed(seed)
    run = LiveRun(config, SHORT, CPU)
    run.begin_with({name: torch.randn_like(value.float()).abs() for name, value in run.mean.items()})
    run.save(path)
    return path


def test_the_mean_of_several_trainings_is_exported(tmp_path: Path):
    paths = [_checkpoint(tmp_path / f"{seed}.pt", SMALL, seed) for seed in (1, 2, 3)]
    found = first_weights(export(paths[0], tmp_path / "model", check=False, further=paths[1:]))[1]
    each = [first_weights(path)[1] for path in paths]
    for name, value in found.items():
        if value.ndim:
            torch.testing.assert_close(value, (each[0][name] + each[1][name] + each[2][name]) / 3)
    other = _checkpoint(tmp_path / "other.pt", replace(SMALL, slow=6), 4)
    with pytest.raises(UsageError, match="other sizes"):
        export(paths[0], tmp_path / "none", further=[other])
    assert not (tmp_path / "none").exists()


def test_exported_folder_plays_and_trains_on(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    from rtsep.engine.chain import Chain
    from rtsep.separators.onnx import OnnxSeparator
    from rtsep.spec import StreamSpec

    last = _train(corpus_folder, cache_folder, tmp_path / "run", sizes=SMALL)
    folder = export(last, tmp_path / "model")
    sizes, weights = first_weights(folder)
    assert sizes == SMALL
    for name, tensor in read_checkpoint(last)["mean"].items():
        if tensor.ndim:
            assert torch.equal(tensor, weights[name]), name
    _train(corpus_folder, cache_folder, tmp_path / "next", init=folder, sizes=SMALL)

    # the song offline in torch, and hop by hop through the host
    run = LiveRun(SMALL, SHORT, CPU)
    run.begin_with(weights)
    rng = np.random.default_rng(0)
    hop, hops = 256, 40
    sound = (0.2 * rng.standard_normal((2, hop * hops))).astype(np.float32)
    offline = separate(run.averaged(), sound)
    chain = Chain(OnnxSeparator(folder, device="cpu"), StreamSpec(samplerate=44100, channels=2, hop=hop))
    blocks = [chain.process(np.ascontiguousarray(sound[:, k * hop : (k + 1) * hop]))[0].copy() for k in range(hops)]
    streamed = np.concatenate(blocks, 1)[:, chain.latency :]
    error = streamed - offline[:, : streamed.shape[1]]
    assert (error**2).mean() < 1e-4 * (offline**2).mean()  # bfloat16 offline


def test_scores_are_logged(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    config = LiveTraining(steps=1, frames=20, sources=1)
    _train(corpus_folder, cache_folder, tmp_path, config=config, score_every=1)
    scores = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["dev"]
    assert set(scores) == {"wide", "mir1k", "mashup"}


def test_wrong_beginnings_are_said(corpus_folder: Path, cache_folder: Path, tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"no")
    with pytest.raises(UsageError, match="not a model"):
        first_weights(tmp_path)
    with pytest.raises(UsageError, match="not for this net"):
        train("live", data=corpus_folder, cache=cache_folder, runs=tmp_path / "x", target="binary", device="cpu")
