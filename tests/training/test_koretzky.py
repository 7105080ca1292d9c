"""The three forms of the net agree: sliding windows, one pass over a sequence, and frame by frame in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'rtsep[train]'")
pytest.importorskip("onnx", reason="needs onnx: pip install 'rtsep[train]'")

from rtsep.training.export import deviation  # noqa: E402
from rtsep.training.graph import streaming_graph  # noqa: E402
from rtsep.training.nets.koretzky import BINS, CONTEXT, SILENCE, Koretzky, Level, NetConfig  # noqa: E402

SMALL = NetConfig(channels=(3, 4, 5, 6), dense=20, vad_channels=(2, 3, 2, 3), vad_dense=8)


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


@pytest.mark.parametrize("config", [SMALL, NetConfig()])
def test_streaming_onnx_equals_sequence(config: NetConfig):
    pytest.importorskip("onnxruntime")
    model = _model(config)
    proto, size = streaming_graph(model)
    assert deviation(model, proto.SerializeToString(), size) <= 1e-4


def test_the_future_does_not_reach_the_past():
    model = _model()
    magnitude = torch.rand(80, BINS)
    before = model.infer(magnitude)[0]
    magnitude[50:] *= 100
    after = model.infer(magnitude)[0]
    assert torch.equal(before[:50], after[:50])
    assert not torch.allclose(before[50:], after[50:])


def test_level_forgets_the_gain():
    level = Level(NetConfig())
    magnitude = torch.rand(1, 40, BINS) * 10
    assert torch.allclose(level(magnitude), level(magnitude * 100), atol=2e-2)


def test_silence_and_damage_stay_finite():
    ort = pytest.importorskip("onnxruntime")
    proto, size = streaming_graph(_model())
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    state = np.zeros((1, size), np.float32)
    frames = [np.zeros((1, BINS), np.float32)] * 3
    frames += [np.full((1, BINS), np.nan, np.float32), np.full((1, BINS), np.inf, np.float32)]
    frames += [np.full((1, BINS), 1e-30, np.float32), np.zeros((1, BINS), np.float32)]
    for frame in frames:
        mask, vad, state = session.run(["mask", "vad", "state_out"], {"magnitude": frame, "state": state})
        assert np.isfinite(mask).all()
        assert np.isfinite(vad).all()
        assert np.isfinite(state).all()


def test_silence_is_a_state_of_zeros():
    ort = pytest.importorskip("onnxruntime")
    proto, size = streaming_graph(_model())
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    state = np.zeros((1, size), np.float32)
    first = None
    for _ in range(30):
        mask, _, state = session.run(
            ["mask", "vad", "state_out"], {"magnitude": np.zeros((1, BINS), np.float32), "state": state}
        )
        first = mask if first is None else first
        np.testing.assert_allclose(mask, first, atol=1e-5)
    assert np.abs(state[0, 2:]).max() < 1e-4
    assert torch.all(Level(NetConfig())(torch.zeros(1, 3, BINS)) == SILENCE)
