"""The filterbank reconstructs exactly, and a file gives the same spectra as a stream."""

import numpy as np
import pytest

from rtsep.dsp.stft import Stft
from rtsep.dsp.windows import asymmetric_pair
from rtsep.spec import StreamSpec


@pytest.mark.parametrize("hop", [16, 64, 128, 256, 512, 1024])
@pytest.mark.parametrize("channels", [1, 2])
def test_passes_sound_one_hop_later_to_100_db(hop: int, channels: int) -> None:
    stft = Stft(StreamSpec(48000, channels, hop))
    rng = np.random.default_rng(hop)
    sound = rng.standard_normal((channels, 16 * max(hop, 256))).astype(np.float32)
    spectrum = np.empty((channels, stft.spec.bins), np.complex64)
    out = np.empty_like(sound)
    for start in range(0, sound.shape[1], hop):
        stft.analyse(sound[:, start : start + hop].copy(), spectrum)
        block = np.empty((channels, hop), np.float32)
        stft.synthesise(spectrum, block)
        out[:, start : start + hop] = block
    error = out[:, hop:] - sound[:, :-hop]
    assert 10 * np.log10(np.mean(sound**2) / np.mean(error**2)) > 120


@pytest.mark.parametrize("hop", [128, 512])
def test_spectra_equal_numpys_offline_transform(hop: int) -> None:
    spec = StreamSpec(44100, 2, hop)
    stft = Stft(spec)
    sound = np.random.default_rng(1).standard_normal((2, 20 * hop)).astype(np.float32)
    padded = np.concatenate([np.zeros((2, spec.window)), sound], axis=1)
    window, _ = asymmetric_pair(spec.window, hop)
    spectrum = np.empty((2, spec.bins), np.complex64)
    for k in range(20):
        stft.analyse(sound[:, k * hop : (k + 1) * hop].copy(), spectrum)
        end = spec.window + (k + 1) * hop
        expected = np.fft.rfft(padded[:, end - spec.window : end] * window)
        assert np.abs(spectrum - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("window, hop", [(2048, 16), (2048, 256), (2048, 1024), (512, 256), (100, 7)])
def test_window_product_is_hann_and_adds_up_to_one(window: int, hop: int) -> None:
    analysis, synthesis = asymmetric_pair(window, hop)
    product = (analysis * synthesis)[-2 * hop :]
    assert np.allclose(product[:hop] + product[hop:], 1.0, atol=1e-12)
    assert np.allclose(product, np.sin(np.pi * np.arange(2 * hop) / (2 * hop)) ** 2, atol=1e-12)
    assert not synthesis[: -2 * hop].any()


def test_reset_forgets() -> None:
    stft = Stft(StreamSpec(44100, 1, 256))
    block, spectrum, first = (
        np.ones((1, 256), np.float32),
        np.empty((1, 1025), np.complex64),
        np.empty((1, 1025), np.complex64),
    )
    stft.analyse(block, first)
    stft.analyse(block, spectrum)
    stft.reset()
    stft.analyse(block, spectrum)
    assert np.array_equal(first, spectrum)


def test_impossible_windows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"window >= 2 \* hop"):
        asymmetric_pair(256, 256)
