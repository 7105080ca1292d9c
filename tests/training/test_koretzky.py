"""The three forms of the net agree: sliding windows, one pass over a sequence, and frame by frame in ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
pytest.importorskip("onnx", reason="needs onnx: pip install 'rtsep[train]'")

from rtsep.separators.features import stereo_field  # noqa: E402
from rtsep.training.graphs.koretzky import streaming_graph  # noqa: E402
from rtsep.training.graphs.proof import Stepper, rounded  # noqa: E402
from rtsep.training.koretzky_export import deviation  # noqa: E402
from rtsep.training.nets.koretzky import Koretzky, Level, NetConfig, doubt, field_of  # noqa: E402
from rtsep.training.nets.spectrum import BINS, CONTEXT, SILENCE  # noqa: E402

SMALL = NetConfig(channels=(3, 4, 5, 6), dense=20, vad_channels=(2, 3, 2, 3), vad_dense=8)
REMEMBERING = replace(SMALL, vad_blocks=1)
MAGNITUDE = replace(SMALL, output="magnitude")


def _model(config: NetConfig = SMALL) -> Koretzky:
    torch.manual_seed(1)
    model = Koretzky(config).eval()
    for parameter in model.parameters():  # biases too: silence must not give zeros inside
        parameter.data += 0.05 * torch.randn_like(parameter)
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer += 0.5 * torch.rand_like(buffer)
    model.mask_net.norms[1].weight.data[0] = -1.0  # a factor below zero must not pass the pool
    return model


def test_25_frames_give_one():
    mask, vad = _model()(torch.rand(2, CONTEXT, BINS))
    assert mask.shape == (2, 1, BINS)
    assert vad.shape == (2, 1)


def test_sequence_equals_sliding_windows():
    model = _model()
    magnitude = torch.rand(1, 60, BINS) * torch.rand(1, 60, 1) * 10
    features = model.level(magnitude)
    whole = model.mask_net(features)[0]
    slid = torch.cat([model.mask_net(features[:, t : t + CONTEXT])[0] for t in range(60 - CONTEXT + 1)])
    assert torch.allclose(whole, slid, atol=1e-5)


@pytest.mark.parametrize("config", [SMALL, REMEMBERING, MAGNITUDE, NetConfig(), NetConfig(vad_blocks=2)])
def test_streaming_onnx_equals_sequence(config: NetConfig):
    pytest.importorskip("onnxruntime")
    model = _model(config)
    if model.vad_bands is not None:
        model.vad_bands = rounded(model.vad_bands)  # as it is stored
    proto, states = streaming_graph(model)
    assert deviation(model, proto.SerializeToString(), states) <= 1e-4


@pytest.mark.parametrize("config", [SMALL, REMEMBERING])
def test_the_future_does_not_reach_the_past(config: NetConfig):
    model = _model(config)
    magnitude = torch.rand(80, BINS)
    before = model.infer(magnitude)
    magnitude[50:] *= 100
    after = model.infer(magnitude)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a[:50], b[:50])
        assert not torch.allclose(a[50:], b[50:])


def test_the_detector_remembers_more_than_25_frames():
    model = _model(REMEMBERING)
    magnitude = torch.rand(80, BINS)
    model.level.decay = 0.0  # nothing but the memory reaches further back than the window
    mask, vad = model.infer(magnitude)
    magnitude[:10] = torch.rand(10, BINS) * 20
    other_mask, other_vad = model.infer(magnitude)
    assert torch.equal(mask[40:], other_mask[40:])
    assert not torch.allclose(vad[40:], other_vad[40:], rtol=0, atol=1e-7)


def test_a_detector_of_the_live_family_hears_a_mono_stream():
    model, magnitude = _model(REMEMBERING), torch.rand(60, BINS)
    assert model.vad_bands is not None
    spectrum = np.repeat(magnitude.numpy()[:, None].astype(np.complex64), 2, axis=1)
    field = np.empty((60, 4, BINS), np.float32)
    for left_right, row in zip(spectrum, field, strict=True):
        stereo_field(left_right, row)
    torch.testing.assert_close(field_of(magnitude), torch.from_numpy(field))
    assert torch.equal(model.infer(magnitude)[1], model.vad_bands.hear(torch.from_numpy(field))[1][:, 0, 0])


def test_a_magnitude_is_the_share_of_the_mixture():
    model = _model(MAGNITUDE)
    relative = torch.rand(1, 30, BINS) + 0.1
    share = torch.linspace(-0.5, 1.5, BINS)
    assert torch.allclose(model.masks(share * relative, relative), share.clamp(0, 1).expand(1, 30, BINS), atol=1e-6)


def test_what_is_far_softer_than_the_voice_was_is_doubted():
    voice = torch.ones(2700, BINS)
    voice[100:200] *= 10 ** (-12 / 20)
    voice[200:300] *= 10 ** (-40 / 20)
    voice[300:] *= 10 ** (-23 / 20)
    found = doubt(voice)
    assert torch.all(found[:200] == 0)  # 12 dB softer is singing
    assert float(found[250]) == pytest.approx(-0.05 * (4 * np.log(10) - 3), abs=0.02)
    assert float(found[300]) < 0
    assert float(found[-1]) == 0  # after 28 s
    assert torch.allclose(doubt(voice * 30), found, atol=1e-6)  # whatever the level
    assert torch.all(doubt(torch.zeros(9, BINS)) == 0)


def test_level_forgets_the_gain():
    level = Level(NetConfig())
    magnitude = torch.rand(1, 40, BINS) * 10
    assert torch.allclose(level(magnitude), level(magnitude * 100), atol=2e-2)


@pytest.mark.parametrize("config", [SMALL, REMEMBERING, MAGNITUDE])
def test_silence_and_damage_stay_finite(config: NetConfig):
    ort = pytest.importorskip("onnxruntime")
    proto, states = streaming_graph(_model(config))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    step = Stepper(session, "magnitude", ("mask", "vad"), states)
    frames = [np.zeros((1, BINS), np.float32)] * 3
    frames += [np.full((1, BINS), np.nan, np.float32), np.full((1, BINS), np.inf, np.float32)]
    frames += [np.full((1, BINS), 1e-30, np.float32), np.zeros((1, BINS), np.float32)]
    for frame in frames:
        mask, vad = step(frame)
        assert np.isfinite(mask).all()
        assert np.isfinite(vad).all()
        assert all(np.isfinite(state).all() for state in step.states.values())


def test_silence_leaves_the_states_as_they_begin():
    ort = pytest.importorskip("onnxruntime")
    proto, states = streaming_graph(_model(SMALL))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    step, silent = Stepper(session, "magnitude", ("mask", "vad"), states), np.zeros((1, BINS), np.float32)
    first = step(silent)[0]
    for _ in range(30):
        np.testing.assert_allclose(step(silent)[0], first, atol=1e-5)
    step.states["state"][0, :2] = 0.0  # the level: how much was heard
    for name, (_, begun) in states.items():
        np.testing.assert_allclose(step.states[name], begun, atol=1e-4, err_msg=name)
    assert not states["state"][1].any()
    assert torch.all(Level(NetConfig())(torch.zeros(1, 3, BINS)) == SILENCE)
